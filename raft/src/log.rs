//! The log (§5.3): its tail in memory, and the cursors that say how far everything has come.
//!
//! ```text
//!  compacted    applied  applying     committed        handed        last
//! ─────┼───────────┼────────┼─────────────┼──────────────┼────────────┤
//!      └ storage ┄┄┄┄┄┄┄┄┄┄┄┄┄┄ stable ┄┄┄┄┄┄┄┄┄┄┄┄┘     └ open: not a run yet
//!                  └──────────── tail, in memory ───────────────────────┘
//! ```
//!
//! * *applied*: what the state machine has done; *applying*: what it was given.
//! * *committed*: what can never change any more (State Machine Safety, Figure 3).
//! * *handed*: what was given to be written; *stable*: what is known to be on this server's disk.
//! * the *tail* holds every entry that is not both stable and given to the state machine, so that
//!   replication and apply read no storage in the steady state.
//!
//! Invariants: `applied ≤ applying ≤ committed ≤ last`, `stable ≤ handed ≤ last`,
//! `compacted ≤ committed`, and an entry at or below `committed` is never replaced.
//!
//! A snapshot that replaces the log is *pending* until it is on disk; meanwhile nothing is applied.

mod apply;
mod terms;

use std::collections::VecDeque;
use std::ops::Range;

use apply::Paging;
pub use terms::Terms;

use crate::entry::{Entries, Entry, Run};
use crate::error::{CompactError, StepError, StorageError};
use crate::storage::Storage;
use crate::types::{Index, LogId, Snapshot, Term};

/// The log of one server.
pub(crate) struct Log {
    terms: Terms,
    /// Runs in order, the last one ending at `last` or where `open` begins.
    tail: VecDeque<Run>,
    /// Entries proposed since the last run was made, all of the last entry's term.
    open: Vec<Entry>,
    handed: Index,
    stable: Index,
    committed: Index,
    applying: Index,
    applied: Index,
    apply: Paging,
    pending_snapshot: Option<Box<Pending>>,
    storage: Box<dyn Storage + Send>,
}

/// A snapshot that is to replace the log.
struct Pending {
    snapshot: Snapshot,
    handed: bool,
}

/// What became of a follower's append.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// The logs agree up to here.
    Matches(Index),
    /// The entry before is not there.
    Mismatch,
}

impl Log {
    /// The log that a server starts with: applied up to what is compacted, all of it stable.
    pub(crate) fn new(terms: Terms, storage: Box<dyn Storage + Send>, apply_bytes_max: u64) -> Log {
        let (compacted, last) = (terms.compacted().index, terms.last());
        Log {
            terms,
            tail: VecDeque::new(),
            open: Vec::new(),
            handed: last,
            stable: last,
            committed: compacted,
            applying: compacted,
            applied: compacted,
            apply: Paging::new(apply_bytes_max),
            pending_snapshot: None,
            storage,
        }
    }

    pub(crate) fn committed(&self) -> Index {
        self.committed
    }

    /// The last index handed out to be applied. Only the invariants ask.
    #[cfg(debug_assertions)]
    pub(crate) fn applying(&self) -> Index {
        self.applying
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn stable(&self) -> Index {
        self.stable
    }

    #[cfg(any(debug_assertions, test))]
    pub(crate) fn handed(&self) -> Index {
        self.handed
    }

    pub(crate) fn compacted(&self) -> LogId {
        self.terms.compacted()
    }

    pub(crate) fn first(&self) -> Index {
        self.terms.compacted().index + 1
    }

    pub(crate) fn last(&self) -> Index {
        self.terms.last()
    }

    pub(crate) fn last_id(&self) -> LogId {
        self.terms.last_id()
    }

    /// The term at `index`; `None` if it is compacted or after the last.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        self.terms.get(index)
    }

    pub(crate) fn matches(&self, id: LogId) -> bool {
        self.terms.matches(id)
    }

    pub(crate) fn find_conflict(&self, index: Index, term: Term) -> LogId {
        self.terms.find_conflict(index, term)
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    // ---- Growing ----

    /// A leader's own entry, at the end (Leader Append-Only, Figure 3). It stays *open* until
    /// [`Log::seal`] makes one run of all that came.
    pub(crate) fn append_own(&mut self, term: Term, entry: Entry) {
        if term != self.last_id().term {
            self.seal();
        }
        self.open.push(entry);
        let index = self.last() + 1;
        self.terms.append(term, index, index);
    }

    /// Makes a run of the open entries, if there are any.
    #[inline]
    pub(crate) fn seal(&mut self) {
        if !self.open.is_empty() {
            self.make_run();
        }
    }

    fn make_run(&mut self) {
        let (count, term) = (self.open.len(), self.last_id().term);
        let first = self.last() + 1 - count as u64;
        let run = match self.open.pop_if(|_| count == 1) {
            Some(one) => Run::of_one(term, first, one),
            None => {
                // The buffer stays; the run has one that is just as large as it takes.
                let mut entries = Vec::with_capacity(count);
                entries.append(&mut self.open);
                Run::new(term, first, entries)
            }
        };
        self.tail.extend(run);
    }

    /// A follower's side of AppendEntries (Figure 2, receiver rules 2 to 5): the entries after
    /// `prev`, of which those that are there already are left alone, and the first that differs
    /// replaces the rest.
    pub(crate) fn append(
        &mut self,
        prev: LogId,
        entries: Entries,
        commit: Index,
    ) -> Result<Appended, StepError> {
        if !self.matches(prev) {
            return Ok(Appended::Mismatch);
        }
        let last_new = entries.last().map_or(prev.index, |id| id.index);
        if entries.first().is_some_and(|first| first > self.last()) {
            // All of it is new, as it nearly always is.
            self.extend(entries);
        } else if let Some(conflict) = self.first_difference(&entries) {
            if conflict.index <= self.committed {
                return Err(StepError::ConflictsWithCommitted { at: conflict });
            }
            self.replace_from(conflict.index, &entries);
        }
        // Rule 5: only what this very message proves to be the leader's may be committed.
        self.commit_to(commit.min(last_new));
        Ok(Appended::Matches(last_new))
    }

    /// The first of `entries` that this log does not have.
    fn first_difference(&self, entries: &Entries) -> Option<LogId> {
        entries.runs().iter().find_map(|run| {
            let here = run.first()..run.end().min(self.last() + 1);
            let differs = |index: &Index| !self.matches(LogId::new(run.term(), *index));
            let index = here.clone().find(differs).unwrap_or(here.end.max(run.first()));
            (index < run.end()).then(|| LogId::new(run.term(), index))
        })
    }

    /// Replaces everything from `from` on by those of `entries`. What was being written of it no
    /// longer counts as handed, nor as stable.
    fn replace_from(&mut self, from: Index, entries: &Entries) {
        assert!(from > self.committed, "a committed entry never changes");
        if from <= self.last() {
            self.truncate(from);
        }
        self.extend(entries.slice(from..Index::MAX));
    }

    /// Adds entries at the end.
    fn extend(&mut self, entries: Entries) {
        entries.for_each_run(|run| {
            self.terms.append(run.term(), run.first(), run.end() - 1);
            self.tail.push_back(run);
        });
    }

    fn truncate(&mut self, from: Index) {
        self.seal();
        while let Some(run) = self.tail.back_mut()
            && run.last().index >= from
        {
            match run.slice(0..from) {
                Some(kept) => *run = kept,
                None => {
                    self.tail.pop_back();
                }
            }
        }
        self.terms.truncate(from);
        self.handed = self.handed.min(from - 1);
        self.stable = self.stable.min(from - 1);
    }

    /// Replaces the whole log by a snapshot (§7).
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        let last = snapshot.meta.last;
        assert!(last.index >= self.committed, "a snapshot never takes back what is committed");
        self.open.clear();
        self.tail.clear();
        self.terms = Terms::new(last);
        (self.handed, self.stable, self.committed) = (last.index, last.index, last.index);
        self.pending_snapshot = Some(Box::new(Pending { snapshot, handed: false }));
        self.apply.awaits_entries = false;
    }

    /// Forgets the terms up to `to`: the storage need not keep those entries any more.
    pub(crate) fn compact(&mut self, to: Index) -> Result<LogId, CompactError> {
        if to <= self.compacted().index {
            return Err(CompactError::Compacted);
        }
        match self.term(to) {
            // What is not applied is still to be handed out.
            Some(term) if to <= self.applied => {
                self.terms.compact(LogId::new(term, to));
                Ok(LogId::new(term, to))
            }
            _ => Err(CompactError::NotApplied),
        }
    }

    // ---- Committing ----

    /// Raises the commit index; says whether it moved. Never lowers it.
    pub(crate) fn commit_to(&mut self, index: Index) -> bool {
        if index <= self.committed {
            return false;
        }
        assert!(index <= self.last(), "only what is in the log is committed");
        self.committed = index;
        true
    }

    // ---- Reading ----

    /// The entries of `range` that the tail has, which must be sealed.
    fn tail_entries(&self, range: Range<Index>, bytes_max: u64) -> Entries {
        debug_assert!(self.open.is_empty(), "open entries are in no run");
        let mut found = Entries::new();
        let mut bytes = 0;
        let start = self.tail.partition_point(|run| run.last().index < range.start);
        for run in self.tail.iter().skip(start) {
            let Some(run) = run.slice(range.clone()) else { break };
            let size = run.size();
            found.push(run).expect("the tail has no gap");
            if bytes + size > bytes_max {
                return found.limit(bytes_max);
            }
            bytes += size;
        }
        found
    }

    /// The run of the tail that is just `range`: in the steady state the newest is what is to be
    /// sent and written, and the newest or the oldest what is to be applied.
    fn whole_run(&self, range: &Range<Index>) -> Option<&Run> {
        let is_it = |run: &&Run| run.first() == range.start && run.end() == range.end;
        self.tail.back().filter(is_it).or_else(|| self.tail.front().filter(is_it))
    }

    /// The longest beginning of `range` within `bytes_max`, at least one entry: from the storage
    /// as far as the tail does not reach back.
    pub(crate) fn entries(
        &self,
        range: Range<Index>,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        if range.is_empty() {
            return Ok(Entries::new());
        }
        if let Some(run) = self.whole_run(&range).filter(|run| run.size() <= bytes_max) {
            return Ok(Entries::from(run.clone()));
        }
        if range.start < self.first() {
            return Err(StorageError::Compacted);
        }
        let tail_first = self.tail.front().map_or(self.last() + 1, Run::first);
        if range.start >= tail_first {
            return Ok(self.tail_entries(range, bytes_max));
        }
        let stored_end = range.end.min(tail_first);
        let mut entries = self.storage.entries(range.start..stored_end, bytes_max)?;
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(StorageError::Unavailable);
        };
        if first != range.start || last.index >= stored_end {
            return Err(StorageError::Other(
                "the storage gave other entries than asked for".into(),
            ));
        }
        let bytes = entries.size();
        if last.index + 1 < stored_end || bytes >= bytes_max || stored_end == range.end {
            return Ok(entries);
        }
        for run in self.tail_entries(tail_first..range.end, bytes_max - bytes).runs() {
            let fits = entries.size() + run.size() <= bytes_max;
            if !fits || entries.push(run.clone()).is_err() {
                break;
            }
        }
        Ok(entries)
    }

    // ---- Writing ----

    /// Whether there is anything to write that was not handed out.
    pub(crate) fn has_unhanded(&self) -> bool {
        self.handed < self.last()
    }

    /// Whether anything is not known to be on disk.
    pub(crate) fn has_unstable(&self) -> bool {
        self.stable < self.last()
    }

    /// The entries to be written next; they count as handed.
    pub(crate) fn take_unhanded(&mut self) -> Entries {
        let range = self.handed + 1..self.last() + 1;
        if range.is_empty() {
            return Entries::new();
        }
        self.seal();
        self.handed = self.last();
        match self.whole_run(&range) {
            Some(run) => Entries::from(run.clone()),
            None => self.tail_entries(range, u64::MAX),
        }
    }

    /// The pending snapshot, once.
    pub(crate) fn take_unhanded_snapshot(&mut self) -> Option<Box<Snapshot>> {
        let pending = self.pending_snapshot.as_mut().filter(|p| !p.handed)?;
        pending.handed = true;
        Some(Box::new(pending.snapshot.clone()))
    }

    /// Whether a snapshot is to be written.
    pub(crate) fn has_unhanded_snapshot(&self) -> bool {
        self.pending_snapshot.as_ref().is_some_and(|p| !p.handed)
    }

    /// Whether a snapshot is not on disk yet.
    pub(crate) fn has_pending_snapshot(&self) -> bool {
        self.pending_snapshot.is_some()
    }

    /// Everything up to `id` is on disk, if the log still has that entry and does not know so.
    /// The caller makes sure that nothing was replaced since it was handed out.
    pub(crate) fn stable_to(&mut self, id: LogId) {
        if (self.stable + 1..=self.handed).contains(&id.index) && self.matches(id) {
            self.stable = id.index;
            self.trim();
        }
    }

    /// The snapshot up to `index` is on disk: with it, everything before is applied.
    pub(crate) fn stable_snapshot_to(&mut self, index: Index) {
        if self.pending_snapshot.as_ref().is_some_and(|p| p.snapshot.meta.last.index == index) {
            self.pending_snapshot = None;
        }
    }

    /// Drops from the tail what is both stable and given to the state machine.
    fn trim(&mut self) {
        let settled = self.stable.min(self.applying);
        while self.tail.front().is_some_and(|run| run.end() <= settled + 1) {
            self.tail.pop_front();
        }
    }

    /// Frees the buffers that are empty.
    pub(crate) fn cool(&mut self) {
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        if self.tail.is_empty() {
            self.tail = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests;
