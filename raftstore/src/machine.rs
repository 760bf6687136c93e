//! What a store replicates: the seam between `raftstore`, which decides order and durability, and
//! the state machine above it, which gives the commands meaning and answers clients.
//!
//! ```text
//! client ── propose(callback) ─► loop ── Proposed, Apply, Read ─► applier: Machine ── answers
//! ```
//!
//! Everything reaches the machine in one order, on one thread: first that a command was proposed
//! at a position, later the entry at that position, which may be another one. So the machine can
//! decide by (index, term) alone what became of each command.

use std::sync::Arc;

use raft::{Entries, Index, LogId, SnapshotMeta};

use crate::disk::Disk;
use crate::region::{Epoch, Region, RegionId, StoreId};
use crate::snapshot::SnapshotSource;

/// Somebody who waits for an answer. It is answered exactly once: by the machine, or by one of
/// these two when the command never gets that far.
pub trait Callback: Send + 'static {
    /// Certainly without effect, now or later: the command was not proposed.
    fn refuse(self, why: Refusal);
    /// It may or may not take effect.
    fn unknown(self, why: Unknown);
}

/// Why a command was not proposed, or a read not run. It has had no effect and never will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// This peer does not lead; `leader` does, if known.
    #[error("not the leader (leader: {leader:?})")]
    NotLeader {
        /// The store of the group's leader.
        leader: Option<StoreId>,
    },
    /// The store has no such region.
    #[error("no region {0} on this store")]
    RegionNotFound(RegionId),
    /// The request was made for another shape of the region.
    #[error("the region's epoch is {:?}, not {asked:?}", current.epoch)]
    EpochNotMatch {
        /// The epoch in the request.
        asked: Epoch,
        /// The region as it is.
        current: Box<Region>,
    },
    /// The command is larger than an entry may be.
    #[error("the command has {bytes} bytes, more than {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too much is waiting already; try again later.
    #[error("too many requests are waiting")]
    Busy,
    /// No leader could be asked within the time allowed.
    #[error("no leader answered in time")]
    Timeout,
    /// The store is stopping and took nothing on.
    #[error("the store is shutting down")]
    ShuttingDown,
}

/// Why nobody can say whether a command took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// The store stops before the command's fate is decided.
    #[error("the store is shutting down")]
    ShuttingDown,
    /// A snapshot overtook the command's position.
    #[error("a snapshot overtook the command")]
    Overtaken,
    /// The deadline came first.
    #[error("the deadline passed")]
    Deadline,
    /// The store that was asked went away.
    #[error("the leader went away")]
    LeaderLost,
}

/// A region as the machine has it after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredRegion {
    /// The region.
    pub region: Region,
    /// The last entry its durable state includes; [`LogId::ZERO`] for none.
    pub applied: LogId,
}

/// What applying entries changed that the store has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The region, if its range, epoch or members changed.
    pub region: Option<Region>,
    /// The log is no longer needed up to here: a replicated decision (CompactLog).
    pub compact: Option<Index>,
    /// The machine cannot go on, and applied nothing from here on. The store has to stop: to skip
    /// the entry would make this replica differ from the others for ever.
    pub halt: Option<Halt>,
}

/// Why a machine cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("region {region}: cannot apply {at}: {why}")]
pub struct Halt {
    /// The region whose turn it was.
    pub region: RegionId,
    /// The entry that was not applied.
    pub at: LogId,
    /// What is wrong, such as an entry whose checksum does not match.
    pub why: String,
}

/// The replicated state machine of one store, for all its regions.
///
/// Deterministic: what it holds after an entry depends only on the entries up to it.
pub trait Machine: Send + 'static {
    /// Who waits for a command.
    type Callback: Callback;
    /// A read, with who waits for it.
    type Query: Callback;

    /// The regions its durable state has. Empty for a new store.
    fn recovered(&self) -> Vec<RecoveredRegion>;

    /// A region starts on this store, empty (bootstrap).
    fn create(&mut self, region: Region);

    /// A command of `callback` was appended at `at`. The entry with that index comes by
    /// [`Machine::apply`] later, perhaps with another term.
    fn proposed(&mut self, region: RegionId, at: LogId, callback: Self::Callback);

    /// Applies committed entries, which follow directly on those before.
    fn apply(&mut self, region: RegionId, entries: &Entries) -> Effects;

    /// A view of `region` as it is now, to be written and sent while more is applied: O(1).
    /// `None` if there is nothing worth sending, as after a halt.
    fn snapshot(&mut self, region: RegionId) -> Option<Arc<dyn SnapshotSource>> {
        let _ = region;
        None
    }

    /// Looks whether `file` on `disk` is whole and holds what [`Machine::install`] will want: the
    /// state of `region` at `meta`, membership included. Called on any thread, before anything
    /// rests on the file.
    ///
    /// # Errors
    /// With what is wrong with it. A machine that cannot install snapshots refuses them all.
    fn verify(
        disk: &dyn Disk,
        file: &str,
        region: RegionId,
        meta: &SnapshotMeta,
    ) -> Result<(), String> {
        let _ = (disk, file, region, meta);
        Err("this state machine takes no snapshots".to_owned())
    }

    /// The log of `region` begins after `last` now, and `file`, which was verified, has the state
    /// there: replaces what the machine holds for the region, applied position and description
    /// included, as one. Whoever waits for an entry up to there is told [`Unknown::Overtaken`].
    ///
    /// After a restart the machine may find its last durable state behind the start of the log;
    /// then it has to do the same with the same file, which it must keep until then.
    fn install(&mut self, region: RegionId, last: LogId, file: &str) -> Effects {
        let why = format!("cannot install {file}: this state machine takes no snapshots");
        Effects { halt: Some(Halt { region, at: last, why }), ..Effects::default() }
    }

    /// Whether to run `query` takes hardly longer than to apply an entry. Such reads may be run by
    /// the store's loop, which saves handing them to another thread; any other would hold it up.
    fn is_light(query: &Self::Query) -> bool {
        let _ = query;
        false
    }

    /// Runs reads: everything they must see has been applied.
    fn read(&mut self, region: RegionId, queries: Vec<Self::Query>);

    /// Called now and then between applies with how many bytes the log has grown by since the last
    /// checkpoint; may start making the state durable.
    fn maintain(&mut self, log_bytes: u64);

    /// The last index of `region` that a durable checkpoint includes; the log below may go.
    fn durable(&self, region: RegionId) -> Index;

    /// The store stops: answers everybody who still waits with [`Unknown`].
    fn shut_down(&mut self);
}
