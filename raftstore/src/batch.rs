//! What one round of the loop makes durable: the writes of all dirty groups as one log record.
//!
//! ```text
//! Store::ready ─► Batch ─► records() ─► Wal::append, Wal::sync ─► synced() ─► WrittenBatch ─► Store::persisted
//! ```
//!
//! A batch without a record carries promises that rest on earlier batches, or commit indexes,
//! which need no disk of their own: it is passed on in its turn without appending or syncing.
//! Batches are reported in the order they were made; the store insists on it.

use raft::{Entries, HardState, LogId, Snapshot, Write, Written};

use crate::region::RegionId;
use crate::wal::GroupRecord;

/// One group's part of a batch.
#[derive(Debug)]
pub(crate) struct GroupWrite {
    pub(crate) region: RegionId,
    /// Term, vote and commit, if they go into this record.
    pub(crate) hard_state: Option<HardState>,
    /// The log may go up to here.
    pub(crate) compact: Option<LogId>,
    /// The core's write, sealed; `None` if only the log is compacted.
    pub(crate) write: Option<Write>,
}

impl GroupWrite {
    fn entries(&self) -> Option<&Entries> {
        self.write.as_ref().map(Write::entries).filter(|e| !e.is_empty())
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        self.write.as_ref().and_then(Write::snapshot)
    }

    fn has_record(&self) -> bool {
        self.hard_state.is_some()
            || self.compact.is_some()
            || self.entries().is_some()
            || self.snapshot().is_some()
    }
}

/// The writes of one round, over all groups.
#[derive(Debug)]
#[must_use = "what is written must be reported, or the groups stall"]
pub struct Batch {
    pub(crate) number: u64,
    pub(crate) groups: Vec<GroupWrite>,
}

impl Batch {
    /// Adds what waited for a record to travel with.
    pub(crate) fn add(
        &mut self,
        region: RegionId,
        hard_state: Option<HardState>,
        compact: Option<LogId>,
    ) {
        match self.groups.iter_mut().find(|g| g.region == region) {
            Some(group) => {
                // What the round itself writes is newer.
                group.hard_state = group.hard_state.or(hard_state);
                group.compact = group.compact.or(compact);
            }
            None => self.groups.push(GroupWrite { region, hard_state, compact, write: None }),
        }
    }

    /// Whether there is anything to append to the log.
    #[must_use]
    pub fn has_record(&self) -> bool {
        self.groups.iter().any(GroupWrite::has_record)
    }

    /// Whether the record must be on disk before the batch is reported. One without votes, terms
    /// or entries (a compaction, a commit index) need not: losing it loses nothing.
    #[must_use]
    pub fn must_sync(&self) -> bool {
        self.groups.iter().filter_map(|g| g.write.as_ref()).any(Write::must_sync)
    }

    /// What to append: one group record for each group that has something to write.
    #[must_use]
    pub fn records(&self) -> Vec<GroupRecord<'_>> {
        const NONE: &Entries = &Entries::new();
        let record = |group: &GroupWrite| GroupRecord {
            region: group.region,
            hard_state: group.hard_state,
            entries: NONE,
            reset: group.snapshot().map(|snapshot| snapshot.meta.last),
            compact: group.compact,
            remove: false,
        };
        self.groups
            .iter()
            .filter(|g| g.has_record())
            .map(|g| GroupRecord { entries: g.entries().unwrap_or(NONE), ..record(g) })
            .collect()
    }

    /// Says that this batch, and every one before it, survives power loss.
    ///
    /// To be called after the log's sync has returned successfully, or at once for a batch that
    /// needs none ([`Batch::must_sync`]) when all before it are done. Nothing else turns a
    /// [`Write`] into a [`Written`].
    #[must_use = "the groups wait for the report"]
    pub fn synced(self) -> WrittenBatch {
        let seal = |GroupWrite { region, write, .. }: GroupWrite| {
            let write = write?;
            let snapshot = write.snapshot().cloned();
            Some(GroupWritten { region, snapshot, written: write.synced() })
        };
        WrittenBatch {
            number: self.number,
            written: self.groups.into_iter().filter_map(seal).collect(),
        }
    }
}

/// A batch that is on disk; goes back to the store, which lets the promises out.
#[derive(Debug)]
#[must_use = "the groups wait for the report"]
pub struct WrittenBatch {
    pub(crate) number: u64,
    pub(crate) written: Vec<GroupWritten>,
}

/// One group's part of it.
#[derive(Debug)]
pub(crate) struct GroupWritten {
    pub(crate) region: RegionId,
    pub(crate) written: Written,
    /// The log was reset to this.
    pub(crate) snapshot: Option<Snapshot>,
}
