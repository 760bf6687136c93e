//! Handing committed entries out to be applied, page by page (§5.3, T§10.2).
//!
//! Figure 2, All Servers: "if commitIndex > lastApplied: increment lastApplied, apply
//! log[lastApplied] to state machine". The state machine works beside the server, so what it was
//! *given* and what it has *done* are two cursors, and how much lies between them is bounded.
//!
//! Invariants: each entry is given once, in order; at most `bytes_max` of them are outstanding, or
//! one entry; nothing is given while a snapshot waits to be installed.

use super::Log;
use crate::entry::{Entries, Run};
use crate::error::StorageError;
use crate::fetch;
use crate::types::Index;

/// How much may be handed out to be applied.
#[derive(Default)]
pub(super) struct Paging {
    bytes_max: u64,
    outstanding_bytes: u64,
    paused: bool,
    /// What is next is being read from the storage.
    pub(super) awaits_entries: bool,
}

impl Paging {
    pub(super) fn new(bytes_max: u64) -> Paging {
        Paging { bytes_max, ..Paging::default() }
    }
}

impl Log {
    /// How far entries may be handed out to be applied.
    fn appliable(&self, unpersisted_too: bool) -> Index {
        if unpersisted_too { self.committed } else { self.committed.min(self.stable) }
    }

    /// Whether there is anything to hand out to be applied.
    pub(crate) fn has_next_apply(&self, unpersisted_too: bool) -> bool {
        !self.apply.paused
            && !self.apply.awaits_entries
            && self.pending_snapshot.is_none()
            && self.applying < self.appliable(unpersisted_too)
    }

    /// The next committed entries, within what may be outstanding; they count as being applied.
    pub(crate) fn take_next_apply(
        &mut self,
        unpersisted_too: bool,
    ) -> Result<Entries, StorageError> {
        if !self.has_next_apply(unpersisted_too) {
            return Ok(Entries::new());
        }
        let to = self.appliable(unpersisted_too);
        let bytes_max = self.apply.bytes_max - self.apply.outstanding_bytes;
        let entries = match self.take_settled(to, bytes_max) {
            Some(run) => Entries::from(run),
            None => self
                .entries(self.applying + 1..to + 1, bytes_max)
                .inspect_err(|error| self.apply.awaits_entries = fetch::is_later(error))?,
        };
        let last = entries.last().ok_or(StorageError::Unavailable)?;
        self.applying = last.index;
        self.apply.outstanding_bytes += entries.size();
        self.apply.paused =
            self.apply.outstanding_bytes >= self.apply.bytes_max || self.applying < to;
        self.trim();
        Ok(entries)
    }

    /// Moves the oldest run out of the tail if it is just what comes up to `to`, within `bytes_max`,
    /// and stable: in the steady state nobody asks for it again.
    fn take_settled(&mut self, to: Index, bytes_max: u64) -> Option<Run> {
        let (first, stable) = (self.applying + 1, self.stable);
        let run = self.tail.front()?;
        let is_it = run.first() == first && run.end() == to + 1 && to <= stable;
        if is_it && run.size() <= bytes_max { self.tail.pop_front() } else { None }
    }

    /// The storage can answer now what it put off.
    pub(crate) fn resume_apply(&mut self) {
        self.apply.awaits_entries = false;
    }

    /// Entries of `bytes` in all, up to `index`, have been applied.
    #[inline]
    pub(crate) fn applied_to(&mut self, index: Index, bytes: u64) {
        assert!(index <= self.committed, "only committed entries are applied");
        self.applied = self.applied.max(index);
        self.apply.outstanding_bytes = self.apply.outstanding_bytes.saturating_sub(bytes);
        self.apply.paused = self.apply.outstanding_bytes >= self.apply.bytes_max;
        if index > self.applying {
            // By a snapshot, which nobody was given.
            self.applying = index;
            self.trim();
        }
    }
}
