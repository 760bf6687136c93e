//! R10: long random runs of everything that happens to a log, compared with a vector.
//!
//! Each term is one leader's: this server's own, or another's whose log shares what is committed
//! here and then goes its own way. Writes are reported late, applies too; logs are compacted and
//! replaced by snapshots. After each step every question about the log must be answered as the
//! vector answers it, and what counts as stable must be on the disk.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{entries, payload, snapshot};
use crate::entry::{Entries, Entry};
use crate::log::{Appended, Log, Terms};
use crate::storage::{MemStorage, Storage};
use crate::types::{Index, LogId, Snapshot, Term};

#[derive(Clone, Debug)]
enum Op {
    /// A new term, led by this server or by another, whose log is the beginning of one that was
    /// there before, and goes on with entries whose terms rise by these.
    Term {
        own: bool,
        base: usize,
        shared: u64,
        rises: Vec<Term>,
    },
    /// In an own term, proposals; in another's, an append of so many entries from that place on.
    Append {
        at: u64,
        count: u64,
        commit: u64,
    },
    Commit {
        at: u64,
    },
    Write,
    Persist,
    Apply {
        unpersisted: bool,
    },
    Applied,
    Compact {
        at: u64,
    },
    Restore {
        at: u64,
    },
    Read {
        from: u64,
        to: u64,
        bytes_max: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let rises = proptest::collection::vec(0u64..2, 0..5);
    prop_oneof![
        2 => (any::<bool>(), 0usize..8, 0u64..17, rises)
            .prop_map(|(own, base, shared, rises)| Op::Term { own, base, shared, rises }),
        8 => (0u64..16, 0u64..5, 0u64..16)
            .prop_map(|(at, count, commit)| Op::Append { at, count, commit }),
        2 => (0u64..16).prop_map(|at| Op::Commit { at }),
        4 => Just(Op::Write),
        4 => Just(Op::Persist),
        4 => any::<bool>().prop_map(|unpersisted| Op::Apply { unpersisted }),
        3 => Just(Op::Applied),
        1 => (0u64..16).prop_map(|at| Op::Compact { at }),
        1 => (0u64..16).prop_map(|at| Op::Restore { at }),
        3 => (0u64..16, 0u64..17, 0u64..150)
            .prop_map(|(from, to, bytes_max)| Op::Read { from, to, bytes_max }),
    ]
}

/// A write on its way to the disk.
struct Writing {
    term: Term,
    entries: Entries,
    snapshot: Option<Box<Snapshot>>,
    last: LogId,
}

/// Entry by entry, however they are cut into runs.
fn listed(entries: &Entries) -> Vec<(LogId, Entry)> {
    entries.iter().map(|e| (e.id, e.entry.clone())).collect()
}

struct Twins {
    log: Log,
    disk: MemStorage,
    /// The whole history, from index 1 on, compacted or not.
    terms: Vec<Term>,
    compacted: Index,
    committed: Index,
    applying: Index,
    term: Term,
    /// The log of the other server that leads this term.
    leader: Option<Vec<Term>>,
    /// Logs that somebody had at some time. An entry that was replaced may come back from there,
    /// with the same index and term.
    logs: Vec<Vec<Term>>,
    writing: VecDeque<Writing>,
    applies: VecDeque<(Index, u64)>,
    bytes_max: u64,
}

/// Where `at` sixteenths of the way from `from` to `to` is.
fn between(from: Index, to: Index, at: u64) -> Index {
    from + (to - from) * at / 16
}

impl Twins {
    fn new(bytes_max: u64) -> Twins {
        let disk = MemStorage::default();
        Twins {
            log: Log::new(Terms::new(LogId::ZERO), Box::new(disk.clone()), bytes_max),
            disk,
            terms: Vec::new(),
            compacted: 0,
            committed: 0,
            applying: 0,
            term: 1,
            leader: None,
            logs: Vec::new(),
            writing: VecDeque::new(),
            applies: VecDeque::new(),
            bytes_max,
        }
    }

    fn last(&self) -> Index {
        self.terms.len() as u64
    }

    fn id(&self, index: Index) -> LogId {
        let term = if index == 0 { 0 } else { self.terms[index as usize - 1] };
        LogId::new(term, index)
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Term { own, base, shared, rises } => self.new_term(*own, *base, *shared, rises),
            Op::Append { at, count, commit } => self.append(*at, *count, *commit)?,
            Op::Commit { at } if self.leader.is_none() => {
                let to = between(0, self.last(), *at);
                prop_assert_eq!(self.log.commit_to(to), to > self.committed);
                self.committed = self.committed.max(to);
            }
            Op::Commit { .. } => {}
            Op::Write => self.write()?,
            Op::Persist => self.persist()?,
            Op::Apply { unpersisted } => self.apply(*unpersisted)?,
            Op::Applied => {
                if let Some((index, bytes)) = self.applies.pop_front() {
                    self.log.applied_to(index, bytes);
                }
            }
            Op::Compact { at } => {
                let settled = self.log.applied().min(self.log.stable());
                if !self.log.has_pending_snapshot() && settled > self.compacted {
                    let to = between(self.compacted + 1, settled, *at);
                    prop_assert_eq!(self.log.compact(to), Ok(self.id(to)));
                    self.disk.compact(to).expect("on disk");
                    self.compacted = to;
                }
            }
            Op::Restore { at } => self.restore(*at),
            Op::Read { from, to, bytes_max } => self.read(*from, *to, *bytes_max)?,
        }
        self.check()
    }

    fn new_term(&mut self, own: bool, base: usize, shared: u64, rises: &[Term]) {
        self.log.seal();
        self.logs.push(self.terms.clone());
        self.logs.extend(self.leader.take());
        // Terms in between were others', who wrote what nobody here has seen: each entry of a term
        // is one leader's, so that no two logs differ below an entry they share.
        let unseen = self.term + 1;
        self.term += 8;
        if own {
            return;
        }
        let committed = &self.terms[..self.committed as usize];
        let complete: Vec<_> = self.logs.iter().filter(|log| log.starts_with(committed)).collect();
        let base = complete[base % complete.len()];
        let keep = between(self.committed, base.len() as u64, shared);
        let mut log = base[..keep as usize].to_vec();
        let mut term = unseen;
        for rise in rises {
            term = (term + rise).min(self.term);
            log.push(term);
        }
        self.leader = Some(log);
    }

    fn append(&mut self, at: u64, count: u64, commit: u64) -> Result<(), TestCaseError> {
        let Some(leader) = &mut self.leader else {
            let first = self.last() + 1;
            for index in first..first + count {
                let entry = Entry::normal(payload(LogId::new(self.term, index)));
                self.log.append_own(self.term, entry);
            }
            self.terms.extend(std::iter::repeat_n(self.term, count as usize));
            return Ok(());
        };
        if at == 15 {
            leader.push(self.term);
        }
        let prev = between(0, leader.len() as u64, at);
        let to = (prev + count).min(leader.len() as u64);
        let commit = between(0, leader.len() as u64, commit);
        let new = entries(prev + 1, &leader[prev as usize..to as usize]);
        let prev_term = if prev == 0 { 0 } else { leader[prev as usize - 1] };
        let prev = LogId::new(prev_term, prev);
        if prev.index < self.committed {
            return Ok(()); // Answered without looking at the log.
        }
        let held = prev.index <= self.last() && self.id(prev.index) == prev;
        let appended =
            self.log.append(prev, new.clone(), commit).expect("what is committed is shared");
        if !held {
            prop_assert_eq!(appended, Appended::Mismatch);
            return Ok(());
        }
        prop_assert_eq!(appended, Appended::Matches(to));
        for e in new.iter() {
            if e.id.index > self.last() || self.id(e.id.index) != e.id {
                self.terms.truncate(e.id.index as usize - 1);
                self.terms.push(e.id.term);
            }
        }
        self.committed = self.committed.max(commit.min(to));
        Ok(())
    }

    fn write(&mut self) -> Result<(), TestCaseError> {
        let handed = self.log.handed();
        let entries = self.log.take_unhanded();
        let snapshot = self.log.take_unhanded_snapshot();
        let ids: Vec<LogId> = entries.iter().map(|e| e.id).collect();
        let expected: Vec<LogId> = (handed + 1..=self.last()).map(|i| self.id(i)).collect();
        prop_assert_eq!(ids, expected);
        let last = self.id(self.last());
        self.writing.push_back(Writing { term: self.term, entries, snapshot, last });
        Ok(())
    }

    fn persist(&mut self) -> Result<(), TestCaseError> {
        let Some(write) = self.writing.pop_front() else { return Ok(()) };
        if let Some(snapshot) = &write.snapshot {
            self.disk.apply_snapshot((**snapshot).clone())?;
        }
        self.disk.append(&write.entries);
        // As `RawNode::on_stable`: in another term the report says nothing about entries.
        if write.term == self.term {
            self.log.stable_to(write.last);
        }
        if let Some(snapshot) = write.snapshot {
            let index = snapshot.meta.last.index;
            self.log.stable_snapshot_to(index);
            self.log.applied_to(index, 0);
            self.applying = self.applying.max(index);
        }
        Ok(())
    }

    fn apply(&mut self, unpersisted: bool) -> Result<(), TestCaseError> {
        let to = if unpersisted { self.committed } else { self.committed.min(self.log.stable()) };
        let outstanding: u64 = self.applies.iter().map(|(_, bytes)| bytes).sum();
        self.log.seal();
        let page = self.log.take_next_apply(unpersisted)?;
        let Some(last) = page.last() else {
            let must_wait = self.log.has_pending_snapshot() || !self.applies.is_empty();
            prop_assert!(must_wait || self.applying >= to, "nothing keeps it from being applied");
            return Ok(());
        };
        prop_assert!(last.index <= to);
        prop_assert!(!self.log.has_pending_snapshot());
        let all = self.range(self.applying + 1, to + 1);
        let expected = listed(&all.limit(self.bytes_max - outstanding));
        prop_assert_eq!(listed(&page), expected);
        self.applying = last.index;
        self.applies.push_back((last.index, page.size()));
        Ok(())
    }

    fn restore(&mut self, at: u64) {
        let Some(leader) = &self.leader else { return };
        if leader.len() as u64 <= self.committed {
            return;
        }
        let index = between(self.committed + 1, leader.len() as u64, at);
        let term = leader[index as usize - 1];
        // A log that has the entry keeps what follows it, and needs no snapshot.
        if index <= self.last() && self.id(index).term == term {
            return;
        }
        self.terms = leader[..index as usize].to_vec();
        (self.compacted, self.committed) = (index, index);
        self.log.restore(snapshot(term, index));
    }

    /// The entries from..to as the vector has them.
    fn range(&self, from: Index, to: Index) -> Entries {
        if from >= to {
            return Entries::new();
        }
        entries(from, &self.terms[from as usize - 1..to as usize - 1])
    }

    fn read(&mut self, from: u64, to: u64, bytes_max: u64) -> Result<(), TestCaseError> {
        // What was restored is on disk only later; nobody reads before it.
        if self.log.has_pending_snapshot() {
            return Ok(());
        }
        self.log.seal();
        let from = between(self.compacted + 1, self.last() + 1, from);
        let to = between(self.compacted + 1, self.last() + 1, to.min(16));
        if from >= to {
            return Ok(());
        }
        let found = self.log.entries(from..to, bytes_max)?;
        let all = self.range(from, to);
        prop_assert_eq!(found.first(), all.first());
        prop_assert_eq!(listed(&found), listed(&all.limit(bytes_max)));
        Ok(())
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.log.last_id(), self.id(self.last()));
        prop_assert_eq!(self.log.compacted(), self.id(self.compacted));
        prop_assert_eq!(self.log.committed(), self.committed);
        for index in self.compacted..=self.last() {
            prop_assert_eq!(self.log.term(index), Some(self.id(index).term));
        }
        // The one promise that everything rests on: stable means on disk.
        let stable = self.log.stable();
        prop_assert!(stable <= self.last());
        if !self.log.has_pending_snapshot() && stable > self.compacted {
            let on_disk = self.disk.entries(self.compacted + 1..stable + 1, u64::MAX)?;
            let expected = self.range(self.compacted + 1, stable + 1);
            prop_assert_eq!(listed(&on_disk), listed(&expected));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_log_is_a_vector(
        ops in proptest::collection::vec(op(), 0..80),
        bytes_max in 1u64..200,
    ) {
        let mut twins = Twins::new(bytes_max);
        for op in &ops {
            twins.step(op)?;
        }
        // Once everything is reported, everything is stable and applied.
        twins.log.seal();
        twins.write()?;
        while !twins.writing.is_empty() {
            twins.persist()?;
        }
        twins.check()?;
        prop_assert_eq!(twins.log.stable(), twins.last());
        loop {
            twins.apply(false)?;
            let Some((index, bytes)) = twins.applies.pop_front() else { break };
            twins.log.applied_to(index, bytes);
        }
        prop_assert_eq!(twins.log.applied(), twins.committed);
    }
}
