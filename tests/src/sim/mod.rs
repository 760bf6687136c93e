//! A whole cluster in one thread: the same store, applier and log as a real node, driven by one
//! seed in virtual time.
//!
//! ```text
//!             ┌────────────── events, ordered by (time, number) ──────────────┐
//!             ▼                                                               │
//!  Tick ─► store.tick ┐                                                       │
//!  Received ─► step   ├─► Round: ready ─┬─► messages ─► network ─► Received ──┤
//!  clients ─► propose ┘                 ├─► batch ─► append ····► Synced ─────┤
//!                                       └─► tasks ─► applier ··► Applied ─────┘
//! ```
//!
//! Each store is a [`host`] with a disk of its own that forgets what was not synced. How long a
//! round, a sync, an apply and a message take is drawn from the seed, so everything that threads
//! could interleave is interleaved here, and every run can be had again: equal seeds and equal
//! options give equal traces, to the byte.
//!
//! Judges look at every event ([`oracle`]): what holds in every run of a correct cluster is in one
//! list there. The first thing that does not hold ends the run as a [`Failure`].
//!
//! | file | what |
//! |---|---|
//! | [`world`] | the clock, the queue of events, the hosts |
//! | [`host`] | one store: its processes' lives, its disk, its log writer and applier |
//! | `streams` | snapshots on their way |
//! | [`net`] | who reaches whom, when, how often |
//! | `shadow` | what the disk of a store must still have after a crash |
//! | [`rot`] | damage at rest, and how far it goes |
//! | [`oracle`] | what must hold |
//! | [`trace`] | what happened |
//!
//! What there is in a world can be looked at, between any two events:
//!
//! ```
//! use harness::cluster::SimCluster;
//! use harness::cluster::sim::KvSubject;
//! use harness::sim::host::{Host, Process};
//! use harness::sim::net::{Net, NetCounters};
//! use harness::sim::oracle::Oracles;
//! use harness::sim::trace::{Event, Trace};
//! use harness::sim::{NetOptions, Options, Time, World, ms};
//! use kv::KvMachine;
//! use raftstore::{RegionId, StoreId};
//!
//! let net = NetOptions { loss_permille: 20, ..NetOptions::default() };
//! let until: Time = ms(2000);
//! let mut cluster = SimCluster::new(Options { net, ..Options::new(3, 7) })?;
//! let world: &mut World<KvSubject> = cluster.world_mut();
//! world.run_until(until)?;
//! assert!(world.leader(RegionId::FIRST).is_some());
//!
//! let host: &Host<KvMachine> = world.host(StoreId(1));
//! let Some(process): &Option<Process<KvMachine>> = &host.process else { unreachable!() };
//! println!("its log: {:?}", process.wal.stats());
//! let (net, oracles): (&Net, &Oracles) = (world.net(), world.oracles());
//! let NetCounters { lost, .. } = net.counters();
//! println!("{lost} messages lost, {} checks", oracles.checks());
//! let trace: &Trace = world.trace();
//! let last: Option<&Event> = trace.recent().last();
//! assert!(last.is_some() && trace.count() > 0);
//! # Ok::<(), harness::sim::Failure>(())
//! ```

pub mod host;
pub mod net;
pub mod oracle;
pub mod rot;
mod shadow;
mod streams;
pub mod trace;
pub mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use raft::ReadMode;
use raftstore::disk::Disk;
use raftstore::wal::GroupLog;
use raftstore::{Machine, RegionId, StoreId};

pub use net::NetOptions;
pub use world::World;

/// Virtual time in microseconds since the start of the run.
pub type Time = u64;

/// So many milliseconds.
#[must_use]
pub const fn ms(milliseconds: u64) -> Time {
    milliseconds * 1000
}

/// What is simulated: a state machine for each store.
pub trait Subject {
    /// The machine.
    type Machine: Machine;

    /// Opens the machine of a store with what its disk and its log have. Called at each start of
    /// the store. The machine must do all it does on this thread.
    ///
    /// # Errors
    /// If the disk does not allow it; the store then does not start.
    fn open(
        &mut self,
        store: StoreId,
        disk: Arc<dyn Disk>,
        log: &BTreeMap<RegionId, GroupLog>,
    ) -> Result<Self::Machine, StartFailure>;

    /// A hash of what the machine holds for a region: equal wherever the same entries are applied.
    fn state_hash(&self, machine: &Self::Machine, region: RegionId) -> Option<u64>;
}

/// Why a store did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// The disk failed, as it was told to.
    Disk(String),
    /// It found damage, and says where.
    Damaged(String),
    /// Something that must not be: the store refuses what a crash may leave, or the disk has lost
    /// or invented something.
    Violated(String),
}

/// What can be chosen about a simulated cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many stores, 1 to 7; each is a voter of all regions.
    pub stores: u64,
    /// How many regions ([`crate::regions`]), at least 1.
    pub regions: u64,
    /// Everything random follows from it.
    pub seed: u64,
    /// Time between two ticks of a store's clock.
    pub tick: Time,
    /// How many percent a clock may be fast or slow, 0 to 50. Drawn for each store.
    pub drift_percent: u8,
    /// Ticks without a leader before an election.
    pub election_ticks: u32,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// How reads are confirmed.
    pub read_mode: ReadMode,
    /// Bytes of entries in an append message.
    pub append_bytes_max: u64,
    /// Append messages on their way to one follower.
    pub inflight_max: usize,
    /// Entries that all have, after which a leader proposes to compact the log.
    pub compact_entries: u64,
    /// Entries that the log keeps for a store that is away.
    pub log_gc_count_limit: u64,
    /// The same in bytes.
    pub log_gc_bytes_limit: u64,
    /// Bytes of a snapshot that leave in a millisecond.
    pub snapshot_bytes_per_ms: u64,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Whether logs are written past the cache, in whole blocks: segments need 16 KiB then.
    pub direct_logs: bool,
    /// Bytes by which the log grows until the state machine makes its state durable.
    pub checkpoint_bytes: u64,
    /// From an input of the loop to the round that handles it: what comes meanwhile is batched.
    pub round: Range<Time>,
    /// How long a sync takes.
    pub sync: Range<Time>,
    /// How long applying a task takes.
    pub apply: Range<Time>,
    /// The network.
    pub net: NetOptions,
    /// Of so many promises that leave a store, one is checked against the whole image that a power
    /// failure would leave at that moment. All are checked against what was synced. At least 1.
    pub image_every: u64,
    /// The state is hashed and compared at every so manieth index that somebody has applied up to.
    /// At least 1.
    pub state_every: u64,
    /// How many of the last events are kept to be shown.
    pub trace_events: usize,
}

impl Options {
    /// A fast, healthy cluster of `stores`: ticks of 10 ms, elections after 10 of them.
    #[must_use]
    pub fn new(stores: u64, seed: u64) -> Options {
        Options {
            stores,
            regions: 1,
            seed,
            tick: ms(10),
            drift_percent: 2,
            election_ticks: 10,
            heartbeat_ticks: 2,
            read_mode: ReadMode::Safe,
            append_bytes_max: 64 << 10,
            inflight_max: 16,
            compact_entries: 200,
            log_gc_count_limit: 1000,
            log_gc_bytes_limit: 1 << 20,
            snapshot_bytes_per_ms: 64 << 10,
            segment_bytes: 64 << 10,
            direct_logs: false,
            checkpoint_bytes: 32 << 10,
            round: 1..50,
            sync: 100..2000,
            apply: 1..100,
            net: NetOptions::default(),
            image_every: 64,
            state_every: 8,
            trace_events: 400,
        }
    }
}

/// What went wrong, as a run reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Time,
    /// On which store, if it can be said.
    pub store: Option<StoreId>,
    /// What does not hold.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} us", self.at)?;
        if let Some(store) = self.store {
            write!(f, " on {store:?}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for Failure {}
