//! A store with its threads: what runs [`Store`](crate::store::Store),
//! [`Applier`](crate::applier::Applier) and [`Wal`] for real.
//!
//! ```text
//!  handles ───┐                     ┌─► transport ─► other stores
//!  transport ─┼─► inbox ─► [ loop ] ┼─► batches ───► [ log ] ────┐ Written
//!             │               ▲     └─► tasks ─────► [ apply ] ──┤ Applied
//!             │               └──────────────────────────────────┘
//! ```
//!
//! The threads: the *loop* owns the store, the *log* writers own the log, *apply* owns the applier
//! and so the state machine. One more makes log segments ahead of use. Each sleeps on a
//! queue and takes all that has come meanwhile, which is how batches form: while the disk syncs
//! one, the next gathers. The loop keeps the time itself; ticks that were missed are not made up
//! for, so a process that was stopped for a while does not wake up to a burst of them. Where a
//! hand-over costs more than the work, there is none: what is hardly any work to apply the loop
//! applies itself, if nothing waits for that, see `apply`; and while the loop sleeps, whoever
//! brings something may do the loop's work, see `turn`.
//!
//! Snapshots have threads of their own, which come and go; see `snapshots`.
//!
//! **Never a blocked loop.** It only ever pushes into queues. Clients are refused with
//! [`Refusal::Busy`](crate::Refusal::Busy) when too much of theirs is waiting. Raft messages that
//! find a full inbox are dropped, and where the transport can tell, their sender is told. What
//! is handed to the applier is limited by the core.
//!
//! **Sync.** With [`SyncMode::Writer`] log threads append and sync while the loop goes on: one, or
//! several if the disk takes several writes at a time ([`Route::Direct`](crate::disk::Route::Direct)).
//! With [`SyncMode::Inline`] the loop does it itself: two hand-overs less, which a single client
//! notices, but nothing else happens meanwhile.
//!
//! **A full disk** is no failure: what cannot be written waits, and with it everything that rests
//! on it, until there is room.
//!
//! **Failure.** A failed append or sync, a machine that cannot go on, or a thread that panics ends
//! the store: nothing is acknowledged any more, everybody who waits is told that the fate of their
//! command is unknown, and the owner sees why in [`NodeHandle::wait`]. Nothing is tried again
//! (W10).
//!
//! **Stopping.** [`NodeHandle::shutdown`] hands leadership over and waits for the commands in the
//! log, for a bounded time; then it answers everybody else, writes what is left, and ends the
//! threads.

mod apply;
mod errands;
mod handle;
pub mod metrics;
mod node_log;
mod raft_loop;
mod shared;
mod snapshots;
mod threads;
mod turn;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::Disk;
use crate::machine::{Halt, Machine};
use crate::region::{Region, RegionId};
use crate::snapshot::{ReceiveError, incoming};
use crate::start::{StartError, start};
use crate::store::StoreConfig;
use crate::transport::Transport;
use crate::wal::{GroupLog, Wal, WalError};

pub use handle::{NodeHandle, Proposal};
pub use node_log::{MemoryLog, NodeLog};
pub use shared::Service;

/// Who writes and syncs the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Threads of their own: the highest throughput. A log in memory, which nobody has to wait
    /// for, is left to the loop.
    #[default]
    Writer,
    /// The loop: the fewest hand-overs, so the lowest latency of a single client.
    Inline,
}

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Those of its store.
    pub store: StoreConfig,
    /// Length of a tick. Elections, heartbeats and deadlines are counted in them.
    pub tick: Duration,
    /// Who writes and syncs the log.
    pub sync: SyncMode,
    /// Syncs of the log at a time, if the disk takes several. More raise throughput as long as the
    /// disk has room for them, and take a thread each.
    pub syncs_max: usize,
    /// Commands and reads of clients that wait for their answer; more are refused with
    /// [`Refusal::Busy`](crate::Refusal::Busy). May be overrun by what arrives within one round.
    pub requests_max: usize,
    /// Bytes of commands that wait for the loop.
    pub requests_bytes_max: usize,
    /// Bytes of Raft messages that wait for the loop; more are dropped.
    pub messages_bytes_max: usize,
    /// Bytes of commands and messages that go into one round. Larger rounds make larger batches,
    /// and everybody in one waits for all of it.
    pub round_bytes_max: usize,
    /// Bytes of snapshots sent a second, over all that are sent at a time. More catch a store up
    /// sooner and take it from whatever else uses network and disk.
    pub snapshot_bytes_per_second: u64,
    /// How long stopping waits for another store to take over.
    pub stop_timeout: Duration,
}

impl NodeConfig {
    /// Defaults around those of `store`: ticks of 50 ms, so elections after 500 to 1000 ms.
    #[must_use]
    pub fn new(store: StoreConfig) -> NodeConfig {
        NodeConfig {
            store,
            tick: Duration::from_millis(50),
            sync: SyncMode::default(),
            syncs_max: 4,
            requests_max: 64 << 10,
            requests_bytes_max: 256 << 20,
            messages_bytes_max: 256 << 20,
            round_bytes_max: 16 << 20,
            snapshot_bytes_per_second: 100 << 20,
            stop_timeout: Duration::from_millis(1000),
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeStartError {
    /// Log and state machine don't fit together.
    #[error(transparent)]
    Store(#[from] StartError),
    /// What is left of snapshots that were not received to the end cannot be removed.
    #[error("unfinished snapshots cannot be removed: {0}")]
    Snapshots(io::Error),
    /// The operating system gave no thread.
    #[error("no thread: {0}")]
    Thread(io::Error),
    /// The transport did not start.
    #[error("no transport: {0}")]
    Transport(io::Error),
}

/// Why a node stopped by itself. What it acknowledged is safe; what it did not may be lost.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The log could not be written or synced.
    #[error("the log failed: {0}")]
    Log(Arc<WalError>),
    /// A snapshot that was received could not be made durable.
    #[error("a snapshot was not received: {0}")]
    Snapshot(Arc<ReceiveError>),
    /// The state machine cannot go on.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// A thread of it panicked.
    #[error("its {0} thread panicked")]
    Panicked(&'static str),
}

impl From<WalError> for NodeError {
    fn from(error: WalError) -> NodeError {
        NodeError::Log(Arc::new(error))
    }
}

/// A log and what it held when it was opened.
#[derive(Debug)]
pub struct OpenLog {
    /// The log.
    pub log: NodeLog,
    /// Its groups.
    pub groups: BTreeMap<RegionId, GroupLog>,
    /// Where received snapshots are put; without it, they are refused.
    pub snapshots: Option<Arc<dyn Disk>>,
}

impl OpenLog {
    /// The log on disk, as [`Wal::open`] gave it. Snapshots are put beside it.
    #[must_use]
    pub fn wal(wal: Wal, groups: BTreeMap<RegionId, GroupLog>) -> OpenLog {
        let snapshots = Some(Arc::clone(wal.disk()));
        OpenLog { log: NodeLog::Wal(Box::new(wal)), groups, snapshots }
    }

    /// A log in memory, for measuring everything but the disk: nothing survives, whatever is
    /// acknowledged.
    #[must_use]
    pub fn in_memory() -> OpenLog {
        let log = NodeLog::Memory(MemoryLog::default());
        OpenLog { log, groups: BTreeMap::new(), snapshots: None }
    }
}

impl<M: Machine> NodeHandle<M> {
    /// Starts a store with what `log` and `machine` have; one that has nothing begins with the
    /// region `bootstrap`.
    ///
    /// # Errors
    /// If log and machine don't fit together, or threads or the transport cannot be had. Nothing
    /// runs then.
    pub fn start(
        config: NodeConfig,
        machine: M,
        bootstrap: Region,
        log: OpenLog,
        transport: Arc<dyn Transport>,
    ) -> Result<NodeHandle<M>, NodeStartError> {
        let OpenLog { log, groups, snapshots } = log;
        if let Some(disk) = &snapshots {
            incoming::remove_unfinished(&**disk).map_err(NodeStartError::Snapshots)?;
        }
        let (store, applier) =
            start(config.store.clone(), machine, bootstrap, &groups, log.storage())?;
        for status in store.statuses() {
            let (region, peer, applied) = (status.region.id, status.peer, status.applied);
            log::info!(
                "{region:?} {peer:?}@{} starts last={} applied={applied}",
                status.term,
                status.last
            );
        }
        let shared = shared::Shared::new(&config, transport, snapshots, &store);
        threads::spawn(config, &shared, store, applier, log).map_err(NodeStartError::Thread)?;
        let handle = NodeHandle::of(Arc::clone(&shared));
        if let Err(error) = shared.transport.start(Arc::clone(&shared) as Arc<_>) {
            // It leads nothing yet, so it stops at once; that it has no peers is the news.
            let _ = handle.shutdown();
            return Err(NodeStartError::Transport(error));
        }
        Ok(handle)
    }
}

#[cfg(test)]
mod tests;
