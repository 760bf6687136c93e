//! Figure 3, and that reads are linearizable, in every state.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{Index, LogId, Membership, NodeId, RoleKind, Storage, Term, Terms};

use crate::common::Node;

/// What has been seen on the way here.
#[derive(Default)]
pub(crate) struct Checks {
    pub(crate) leaders: BTreeMap<Term, u64>,
    /// The term of every entry that is committed, and the term in which it was: that of the leader
    /// who was the first to know.
    pub(crate) committed: BTreeMap<Index, (Term, Term)>,
    /// What was committed when each read was asked; they are named by their place.
    pub(crate) asked: Vec<Index>,
    /// What every entry says that was ever written or applied.
    said: BTreeMap<LogId, Bytes>,
    /// Term and vote on the disk of each server.
    terms: BTreeMap<u64, (Term, Option<NodeId>)>,
    /// Whom each server took for the members when it was last looked at.
    memberships: BTreeMap<u64, Membership>,
}

impl Checks {
    /// A read is asked; its name.
    pub(crate) fn ask(&mut self) -> Bytes {
        let committed = self.committed.last_key_value().map_or(0, |(index, _)| *index);
        self.asked.push(committed);
        Bytes::from(vec![self.asked.len() as u8 - 1])
    }

    /// After something has happened at `n`.
    pub(crate) fn look(&mut self, n: u64, nodes: &BTreeMap<u64, Node>) -> Result<(), String> {
        let node = &nodes[&n];
        self.votes(n, node)?;
        self.entries(n, node)?;
        // Before what is committed now: a leader has to have what was committed before it.
        self.leader(n, node)?;
        self.commits(n, nodes)?;
        self.reads(n, node)?;
        self.memberships.insert(n, node.raw.membership().clone());
        Ok(())
    }

    /// A term on disk never falls, and a vote on disk stays for the term.
    fn votes(&mut self, n: u64, node: &Node) -> Result<(), String> {
        let now = node.storage.hard_state();
        let (term, vote) = self.terms.insert(n, (now.term, now.vote)).unwrap_or_default();
        if now.term < term {
            return Err(format!("{n}'s term falls from {term} to {}", now.term));
        }
        if now.term == term && vote.is_some() && now.vote != vote {
            return Err(format!("{n} votes twice in term {term}"));
        }
        Ok(())
    }

    /// Log Matching, in its strongest form: a position says one thing, wherever it is.
    fn entries(&mut self, n: u64, node: &Node) -> Result<(), String> {
        let (first, last) = (node.storage.compacted().index + 1, node.storage.last().index + 1);
        let stored = node.storage.entries(first..last, u64::MAX).unwrap_or_default();
        let writing = node.writes.iter().flat_map(|write| write.entries().iter());
        for e in stored.iter().chain(writing) {
            let before = self.said.entry(e.id).or_insert_with(|| e.entry.data.clone());
            if *before != e.entry.data {
                return Err(format!("Log Matching: {} says two things, one on {n}", e.id));
            }
        }
        Ok(())
    }

    /// Election Safety and Leader Completeness: what was committed in a term is in the logs of the
    /// leaders of later terms. (A candidate of an older term may win that late, without harm.)
    fn leader(&mut self, n: u64, node: &Node) -> Result<(), String> {
        if node.raw.role() != RoleKind::Leader {
            return Ok(());
        }
        let term = node.raw.term();
        let before = *self.leaders.entry(term).or_insert(n);
        if before != n {
            return Err(format!("Election Safety: {before} and {n} lead term {term}"));
        }
        for (index, (of, _)) in self.committed.iter().filter(|(_, (_, by))| *by < term) {
            let compacted = *index <= node.raw.compacted().index;
            if !compacted && node.raw.term_at(*index) != Some(*of) {
                let lacks = LogId::new(*of, *index);
                return Err(format!("Leader Completeness: {n} leads term {term} without {lacks}"));
            }
        }
        Ok(())
    }

    /// State Machine Safety, and that what is committed is on the disks of a majority.
    fn commits(&mut self, n: u64, nodes: &BTreeMap<u64, Node>) -> Result<(), String> {
        let node = &nodes[&n];
        let known = node.raw.compacted().index.max(1);
        for index in known..=node.raw.commit() {
            let Some(term) = node.raw.term_at(index) else { continue };
            match self.committed.get(&index) {
                Some((before, _)) if *before != term => {
                    return Err(format!("{index} is committed with terms {before} and {term}"));
                }
                Some(_) => {}
                None => {
                    self.durable(LogId::new(term, index), n, nodes)?;
                    self.committed.insert(index, (term, node.raw.term()));
                }
            }
        }
        for (index, (term, entry)) in &node.applied {
            let id = LogId::new(*term, *index);
            if self.committed.get(index).is_none_or(|(of, _)| of != term) {
                return Err(format!("{n} has applied {id}, which is not committed"));
            }
            if self.said.get(&id).is_some_and(|said| *said != entry.data) {
                return Err(format!("State Machine Safety: {n} has applied another {id}"));
            }
        }
        Ok(())
    }

    /// Whether a quorum of those whom `n` takes for the members has it on disk. (When it was
    /// committed `n` may have had another view of them: a change takes effect by being applied.)
    fn durable(&self, id: LogId, n: u64, nodes: &BTreeMap<u64, Node>) -> Result<(), String> {
        let has = |member: NodeId| {
            let storage = &nodes.get(&member.get())?.storage;
            let state = storage.initial_state().ok()?;
            let terms = Terms::from_runs(state.compacted, &state.terms, state.last)?;
            Some(id.index < state.compacted.index || terms.matches(id))
        };
        let reached = |member| Index::from(has(member) == Some(true));
        let (before, now) = (self.memberships.get(&n), nodes[&n].raw.membership());
        if before.into_iter().chain([now]).any(|members| members.voters.committed(reached) > 0) {
            return Ok(());
        }
        let disks: Vec<_> =
            nodes.keys().filter(|n| has(crate::common::id(**n)) == Some(true)).collect();
        Err(format!("{id} is committed by {n} ({now}), and on the disks of {disks:?}"))
    }

    /// A read sees everything that was committed when it was asked (§8).
    fn reads(&self, n: u64, node: &Node) -> Result<(), String> {
        for read in &node.reads {
            let name = usize::from(read.context[0]);
            let floor = self.asked[name];
            if read.index < floor {
                return Err(format!(
                    "read {name} on {n} waits for {} only, when {floor} was committed as it was asked",
                    read.index
                ));
            }
        }
        Ok(())
    }
}
