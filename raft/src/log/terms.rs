//! The term of any index, without I/O.
//!
//! Terms never fall along a log, and there are few: a log of a million entries written under
//! three leaders has three runs. So the first position of each run says the term of every index.
//!
//! ```text
//! index  5 | 6 7 8 9 | 10 11        kept: 5@1 (what precedes the log), 6@2, 10@4; last = 11
//! term   1 | 2 2 2 2 |  4  4
//! ```

use std::collections::VecDeque;

use crate::types::{Index, LogId, Term};

/// The runs of equal terms of a log, with the position before it.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What precedes the log: the last compacted position.
    compacted: LogId,
    /// First position of each run after `compacted`, ascending in index and in term.
    runs: VecDeque<LogId>,
    last: Index,
}

impl Terms {
    /// A log that is empty after `compacted`.
    #[must_use]
    pub fn new(compacted: LogId) -> Terms {
        Terms { compacted, runs: VecDeque::new(), last: compacted.index }
    }

    /// The log after `compacted` whose runs begin at `runs` and which ends at `last`; `None` if
    /// those contradict each other.
    #[must_use]
    pub fn from_runs(compacted: LogId, runs: &[LogId], last: Index) -> Option<Terms> {
        let mut terms = Terms::new(compacted);
        for (at, run) in runs.iter().enumerate() {
            let to = runs.get(at + 1).map_or(last, |next| next.index.saturating_sub(1));
            if run.index != terms.last + 1 || run.term < terms.last_id().term || to < run.index {
                return None;
            }
            terms.append(run.term, run.index, to);
        }
        (terms.last == last).then_some(terms)
    }

    /// What precedes the log.
    #[must_use]
    pub fn compacted(&self) -> LogId {
        self.compacted
    }

    /// The last index, that of `compacted` for an empty log.
    #[must_use]
    pub fn last(&self) -> Index {
        self.last
    }

    /// The last position.
    #[must_use]
    pub fn last_id(&self) -> LogId {
        LogId::new(self.runs.back().map_or(self.compacted.term, |run| run.term), self.last)
    }

    /// The first position of each run of equal terms, ascending.
    pub fn runs(&self) -> impl Iterator<Item = LogId> {
        self.runs.iter().copied()
    }

    /// The term at `index`; `None` before `compacted` and after `last`.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<Term> {
        if index > self.last || index < self.compacted.index {
            return None;
        }
        // Nearly every question is about the last run.
        if let Some(run) = self.runs.back().filter(|run| run.index <= index) {
            return Some(run.term);
        }
        let run = self.runs.iter().rev().find(|run| run.index <= index);
        Some(run.map_or(self.compacted.term, |run| run.term))
    }

    /// Whether the log has that entry, or begins right after it.
    #[must_use]
    pub fn matches(&self, id: LogId) -> bool {
        self.get(id.index) == Some(id.term)
    }

    /// Adds entries `first..=last` of `term` at the end.
    pub(crate) fn append(&mut self, term: Term, first: Index, last: Index) {
        assert!(first == self.last + 1, "the log has no gap");
        if self.runs.back().is_none_or(|run| run.term != term) {
            assert!(term >= self.last_id().term, "terms never fall along the log");
            self.runs.push_back(LogId::new(term, first));
        }
        self.last = last;
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.compacted.index, "what is compacted is committed");
        while self.runs.back().is_some_and(|run| run.index >= from) {
            self.runs.pop_back();
        }
        self.last = self.last.min(from - 1);
    }

    /// Drops the entries up to `to`, which becomes what precedes the log.
    pub(crate) fn compact(&mut self, to: LogId) {
        debug_assert!(self.matches(to));
        while self.runs.get(1).is_some_and(|next| next.index <= to.index + 1) {
            self.runs.pop_front();
        }
        self.compacted = to;
        if to.index == self.last {
            self.runs.clear();
        } else if let Some(run) = self.runs.front_mut() {
            run.index = run.index.max(to.index + 1);
        }
    }

    /// The largest index up to `index` whose term is at most `term`, with its term: where a log
    /// that ends at (`term`, `index`) may agree with this one at the latest. The term is 0 if it
    /// is not known, before or after this log.
    #[must_use]
    pub fn find_conflict(&self, index: Index, term: Term) -> LogId {
        if index > self.last || index < self.compacted.index {
            return LogId::new(0, index);
        }
        for (at, run) in self.runs.iter().enumerate().rev() {
            if run.index <= index && run.term <= term {
                let end = self.runs.get(at + 1).map_or(self.last, |next| next.index - 1);
                return LogId::new(run.term, end.min(index));
            }
        }
        if self.compacted.term <= term {
            return self.compacted;
        }
        // Below the log nothing is known; index 0 is common to all logs.
        LogId::new(0, self.compacted.index.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests;
