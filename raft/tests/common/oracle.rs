//! Figure 3 across all servers: what no scenario may ever break.

use std::collections::BTreeMap;

use raft::{Index, LogId, RoleKind, Term};

use super::Node;

#[derive(Default)]
pub struct Oracle {
    /// Who led each term.
    leaders: BTreeMap<Term, u64>,
    /// The term of each committed entry, and the term in which it was committed at the latest.
    committed: BTreeMap<Index, (Term, Term)>,
    /// What the state machines had come to after each entry.
    applied: BTreeMap<Index, u64>,
}

impl Oracle {
    /// After each step: who leads, and that a new leader has all that is committed.
    pub fn observe(&mut self, nodes: &BTreeMap<u64, Node>) {
        for (n, node) in nodes {
            if node.raw.role() != RoleKind::Leader {
                continue;
            }
            let term = node.raw.term();
            let before = self.leaders.insert(term, *n);
            assert!(before.is_none_or(|before| before == *n), "Election Safety: term {term}");
            if before.is_none() {
                self.leader_completeness(*n, node);
            }
        }
    }

    fn leader_completeness(&self, n: u64, node: &Node) {
        let in_earlier_terms = |(_, by): &(Term, Term)| *by < node.raw.term();
        for (index, (term, _)) in self.committed.iter().filter(|(_, c)| in_earlier_terms(c)) {
            let has =
                *index <= node.raw.compacted().index || node.raw.term_at(*index) == Some(*term);
            assert!(has, "Leader Completeness: {n} leads without {index}@{term}");
        }
    }

    /// At rest: logs, what is committed, what is applied.
    pub fn check(&mut self, nodes: &BTreeMap<u64, Node>) {
        self.observe(nodes);
        for (n, node) in nodes {
            for index in node.raw.compacted().index.max(1)..=node.raw.commit() {
                let Some(term) = node.raw.term_at(index) else { continue };
                let by = node.raw.term();
                let (before, _) = *self.committed.entry(index).or_insert((term, by));
                assert_eq!(before, term, "two entries are committed at {index}, one by {n}");
            }
            let LogId { index, .. } = node.last_applied;
            let before = *self.applied.entry(index).or_insert(node.digest);
            assert_eq!(before, node.digest, "State Machine Safety: {n} at {index}");
        }
        let all: Vec<&Node> = nodes.values().collect();
        for (at, a) in all.iter().enumerate() {
            for b in &all[at + 1..] {
                log_matching(a, b);
            }
        }
    }
}

/// From the last entry that two logs share downwards they are equal.
fn log_matching(a: &Node, b: &Node) {
    let first = a.raw.compacted().index.max(b.raw.compacted().index) + 1;
    let last = a.raw.last().index.min(b.raw.last().index);
    let mut shared = false;
    for index in (first..=last).rev() {
        let same = a.raw.term_at(index) == b.raw.term_at(index);
        shared |= same;
        assert!(same || !shared, "Log Matching at {index}");
    }
}
