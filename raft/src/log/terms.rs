//! The term of any index, without I/O.
//!
//! Terms never fall along a log, and there are few: a log of a million entries written under
//! three leaders has three runs. So the first position of each run says the term of every index.
//!
//! ```text
//! index  5 | 6 7 8 9 | 10 11        kept: 5@1 (what precedes the log), 6@2; newest = 10@4; last = 11
//! term   1 | 2 2 2 2 |  4  4
//! ```

use crate::types::{Index, LogId, Term};

/// The runs of equal terms of a log, with the position before it.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What precedes the log: the last compacted position.
    compacted: LogId,
    /// First position of each run but the newest, ascending in index and in term. That of the first
    /// run may be compacted.
    older: Vec<LogId>,
    /// First position of the newest run, apart from the others: nearly every question is about it,
    /// and nearly every log has no other. That of an empty log is `compacted` or before.
    newest: LogId,
    last: Index,
}

impl Terms {
    /// A log that is empty after `compacted`.
    #[must_use]
    pub fn new(compacted: LogId) -> Terms {
        Terms { compacted, older: Vec::new(), newest: compacted, last: compacted.index }
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
        LogId::new(self.newest.term, self.last)
    }

    /// The first position of each run of equal terms, ascending.
    pub fn runs(&self) -> impl Iterator<Item = LogId> {
        let first = self.compacted.index + 1;
        let newest = (first <= self.last).then_some(self.newest);
        let runs = self.older.iter().copied().chain(newest);
        runs.map(move |run| LogId::new(run.term, run.index.max(first)))
    }

    /// The term at `index`; `None` before `compacted` and after `last`.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<Term> {
        if index > self.last || index < self.compacted.index {
            return None;
        }
        if index >= self.newest.index {
            return Some(self.newest.term);
        }
        let run = self.older.iter().rev().find(|run| run.index <= index);
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
        if term != self.newest.term {
            self.begin_run(LogId::new(term, first));
        }
        self.last = last;
    }

    fn begin_run(&mut self, at: LogId) {
        assert!(at.term >= self.newest.term, "terms never fall along the log");
        if self.last > self.compacted.index {
            self.older.push(self.newest);
        }
        self.newest = at;
    }

    /// Drops the entries from `from` on.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.compacted.index, "what is compacted is committed");
        while self.newest.index >= from {
            self.newest = self.older.pop().unwrap_or(self.compacted);
        }
        self.last = self.last.min(from - 1);
    }

    /// Drops the entries up to `to`, which becomes what precedes the log.
    pub(crate) fn compact(&mut self, to: LogId) {
        debug_assert!(self.matches(to));
        let begins = |at: usize| self.older.get(at).unwrap_or(&self.newest).index;
        let gone = (0..self.older.len()).take_while(|at| begins(at + 1) <= to.index + 1).count();
        self.older.drain(..gone);
        self.compacted = to;
    }

    /// The largest index up to `index` whose term is at most `term`, with its term: where a log
    /// that ends at (`term`, `index`) may agree with this one at the latest. The term is 0 if it
    /// is not known, before or after this log.
    #[must_use]
    pub fn find_conflict(&self, index: Index, term: Term) -> LogId {
        if index > self.last || index < self.compacted.index {
            return LogId::new(0, index);
        }
        let mut end = self.last;
        for run in std::iter::once(&self.newest).chain(self.older.iter().rev()) {
            if run.index <= index && run.term <= term {
                return LogId::new(run.term, end.min(index));
            }
            end = run.index.saturating_sub(1);
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
