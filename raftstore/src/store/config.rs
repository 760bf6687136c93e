//! What may be chosen about a store, with what each choice costs.

use raft::{Index, NodeId};

use crate::peer::Limits;
use crate::reads::ReadLimits;
use crate::region::{RegionId, StoreId};

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Who this store is.
    pub store: StoreId,
    /// Different at every start of this store, so that answers to an earlier life's reads are
    /// told apart; a counter or a random number.
    pub incarnation: u64,
    /// Ticks without a leader before an election; see [`raft::Config::election_ticks`].
    pub election_ticks: u32,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Bytes of entries in one append message.
    pub append_bytes_max: u64,
    /// Append messages on their way to one follower.
    pub inflight_max: usize,
    /// Bytes of entries handed to the applier of one group and not yet applied.
    pub apply_bytes_max: u64,
    /// Bytes of one group's uncommitted proposals; more are refused with [`Refusal::Busy`](crate::Refusal::Busy).
    pub uncommitted_bytes_max: u64,
    /// How reads are confirmed; the same on all stores.
    pub read_mode: raft::ReadMode,
    /// Ticks until an unanswered read is asked for again. Below a round trip it only adds load.
    pub read_retry_ticks: u32,
    /// Ticks until an unanswered read is refused with [`Refusal::Timeout`](crate::Refusal::Timeout); longer than an
    /// election, or reads fail whenever a leader does.
    pub read_deadline_ticks: u32,
    /// Read rounds of one group on their way at a time. With one, all reads that come while it is
    /// on its way share the next; more save them the wait, and cost a heartbeat round each.
    pub read_rounds_max: usize,
    /// Entries that every member has applied or at least stored, after which a leader proposes to
    /// compact the log. Fewer take less disk, and a command each time.
    pub compact_entries: u64,
    /// Entries that the log keeps for a member that is away, at least; a
    /// member that is there, only slow, may keep four times as many. Fewer take less disk; more let a
    /// member be away for longer before it needs a snapshot.
    pub log_gc_count_limit: u64,
    /// The same in bytes. Whichever is reached first counts.
    pub log_gc_bytes_limit: u64,
    /// Snapshots of all groups sent at a time; more wait.
    pub snapshot_sends_max: usize,
    /// Seed of the election timeouts.
    pub seed: u64,
}

impl StoreConfig {
    /// Defaults, made for ticks of 50 ms.
    #[must_use]
    pub fn new(store: StoreId) -> StoreConfig {
        StoreConfig {
            store,
            incarnation: 0,
            election_ticks: 10,
            heartbeat_ticks: 2,
            append_bytes_max: 1 << 20,
            inflight_max: 256,
            apply_bytes_max: 16 << 20,
            uncommitted_bytes_max: 256 << 20,
            read_mode: raft::ReadMode::Safe,
            read_retry_ticks: 4,
            read_deadline_ticks: 40,
            read_rounds_max: 1,
            compact_entries: 16_384,
            log_gc_count_limit: 128_000,
            log_gc_bytes_limit: 256 << 20,
            snapshot_sends_max: 4,
            seed: store.0,
        }
    }

    pub(crate) fn raft(&self, peer: NodeId, region: RegionId, applied: Index) -> raft::Config {
        raft::Config {
            election_ticks: self.election_ticks,
            heartbeat_ticks: self.heartbeat_ticks,
            append_bytes_max: self.append_bytes_max,
            inflight_max: self.inflight_max,
            apply_bytes_max: self.apply_bytes_max,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            read_mode: self.read_mode,
            // It may have: what a store promised by hearing from a leader is not on its disk.
            is_restarted: true,
            applied,
            // A forwarded proposal would have nobody who learns what became of it.
            disable_proposal_forwarding: true,
            seed: self.seed ^ region.0.rotate_left(32) ^ self.incarnation.rotate_left(16),
            ..raft::Config::new(peer)
        }
    }

    pub(crate) fn compaction(&self) -> Limits {
        Limits {
            step: self.compact_entries,
            count_max: self.log_gc_count_limit,
            bytes_max: self.log_gc_bytes_limit,
            away_ticks: 2 * self.election_ticks,
        }
    }

    pub(crate) fn read_limits(&self) -> ReadLimits {
        ReadLimits {
            retry_ticks: u64::from(self.read_retry_ticks),
            deadline_ticks: u64::from(self.read_deadline_ticks),
            rounds_max: self.read_rounds_max,
        }
    }
}
