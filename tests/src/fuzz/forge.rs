//! Messages and requests that nobody sent: well formed, and otherwise anything.

use bytes::Bytes;
use fastrand::Rng;
use raft::{
    AppendReply, Body, ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Entries, Entry,
    EntryKind, Index, LogId, Message, NodeId, RawNode, Run, Snapshot, SnapshotMeta, Term,
    Transition,
};

/// How many kinds of messages there are.
pub(super) const KINDS: usize = 12;

/// The name of a kind, for counts.
pub(super) fn kind(body: &Body) -> &'static str {
    match body {
        Body::RequestVote { .. } => "RequestVote",
        Body::RequestVoteReply { .. } => "RequestVoteReply",
        Body::AppendEntries { .. } => "AppendEntries",
        Body::AppendEntriesReply(_) => "AppendEntriesReply",
        Body::Heartbeat { .. } => "Heartbeat",
        Body::HeartbeatReply { .. } => "HeartbeatReply",
        Body::InstallSnapshot { .. } => "InstallSnapshot",
        Body::TimeoutNow => "TimeoutNow",
        Body::TransferLeader => "TransferLeader",
        Body::Propose { .. } => "Propose",
        Body::ReadIndex { .. } => "ReadIndex",
        Body::ReadIndexReply { .. } => "ReadIndexReply",
    }
}

/// Makes things up, near what a server has and knows.
pub(super) struct Forge<'a> {
    pub(super) random: &'a mut Rng,
    /// Numbers at the end of what can be counted are thrown in, too.
    pub(super) far: bool,
}

/// Where counting ends, and what is just before.
const FAR: [u64; 6] =
    [u64::MAX, u64::MAX - 1, u64::MAX >> 1, (u64::MAX >> 1) - 1, (u64::MAX >> 2) - 1, 1 << 40];

impl Forge<'_> {
    fn is_rare(&mut self) -> bool {
        self.random.u32(..64) == 0
    }

    /// A server's id: mostly a member's, never zero.
    pub(super) fn id(&mut self) -> NodeId {
        let number = if self.is_rare() { u64::MAX } else { self.random.u64(1..=7) };
        NodeId::new(number).expect("ids start at one")
    }

    /// A number near one of those.
    fn near(&mut self, numbers: &[u64]) -> u64 {
        if self.far && self.is_rare() {
            return FAR[self.random.usize(..FAR.len())];
        }
        let number = numbers[self.random.usize(..numbers.len())];
        number.saturating_add(self.random.u64(0..4)).saturating_sub(self.random.u64(0..4))
    }

    pub(super) fn index(&mut self, of: &RawNode) -> Index {
        self.near(&[0, of.commit(), of.last().index, of.applied_index(), of.compacted().index])
    }

    fn term(&mut self, of: &RawNode) -> Term {
        match self.random.u32(..8) {
            0 => self.near(&[of.term()]),
            1 => of.term().saturating_add(1),
            _ => of.term(),
        }
    }

    /// A position: often one that the server has.
    fn position(&mut self, of: &RawNode) -> LogId {
        let index = self.index(of);
        match of.term_at(index) {
            Some(term) if self.random.u32(..8) > 0 => LogId::new(term, index),
            _ => LogId::new(self.near(&[0, of.term(), of.last().term]), index),
        }
    }

    fn data(&mut self) -> Bytes {
        let len = if self.is_rare() { 300 } else { self.random.usize(..6) };
        Bytes::from_iter((0..len).map(|_| self.random.u8(..4)))
    }

    /// An entry, often a membership change, of any content.
    pub(super) fn entry(&mut self) -> Entry {
        let kind = match self.random.u32(..6) {
            0 => EntryKind::ConfChange,
            1 => EntryKind::ConfChangeV2,
            _ => EntryKind::Normal,
        };
        let sensible = kind != EntryKind::Normal && self.random.u32(..4) > 0;
        let data = if sensible { self.change().encode() } else { self.data() };
        Entry { kind, data }
    }

    /// A membership change: of anybody, any number of times.
    pub(super) fn change(&mut self) -> ConfChange {
        let single = |forge: &mut Self| ConfChangeSingle {
            kind: match forge.random.u32(..4) {
                0 => ConfChangeKind::AddNode,
                1 => ConfChangeKind::RemoveNode,
                2 => ConfChangeKind::UpdateNode,
                _ => ConfChangeKind::AddLearnerNode,
            },
            node: forge.id(),
        };
        let count = self.random.usize(..4);
        ConfChange {
            transition: match self.random.u32(..4) {
                0 => Transition::JointImplicit,
                1 => Transition::JointExplicit,
                _ => Transition::Auto,
            },
            changes: (0..count).map(|_| single(self)).collect(),
            context: self.data(),
        }
    }

    /// Entries after `prev`, of terms that mostly do not fall and are mostly not above `term`.
    fn entries(&mut self, prev: LogId, term: Term) -> Entries {
        let mut entries = Entries::new();
        let mut first = prev.index.saturating_add(u64::from(!self.is_rare()));
        let mut of = if self.is_rare() { self.random.u64(..4) } else { prev.term.max(1) };
        for _ in 0..self.random.usize(..4) {
            if self.random.bool() {
                of = of.max(term.saturating_sub(self.random.u64(..2)));
            }
            let some: Vec<Entry> = (0..self.random.usize(1..3)).map(|_| self.entry()).collect();
            let Some(run) = Run::new(of, first, some) else { break };
            first = run.last().index.saturating_add(1);
            if entries.push(run).is_err() {
                break;
            }
        }
        entries
    }

    fn ids(&mut self) -> Vec<NodeId> {
        (0..self.random.usize(..4)).map(|_| self.id()).collect()
    }

    fn conf_state(&mut self, of: &RawNode) -> ConfState {
        if self.random.bool() {
            return of.membership().conf_state();
        }
        let mut state = ConfState { voters: self.ids(), ..ConfState::default() };
        if self.random.bool() {
            state.voters.push(of.id());
        }
        match self.random.u32(..4) {
            0 => state.voters_outgoing = self.ids(),
            1 => state.learners = self.ids(),
            2 => {
                (state.voters_outgoing, state.learners) = (self.ids(), self.ids());
                state.learners_next = self.ids();
            }
            _ => {}
        }
        state.auto_leave = self.random.bool();
        state
    }

    fn snapshot(&mut self, of: &RawNode, term: Term) -> Snapshot {
        let ahead = of.last().index.saturating_add(self.random.u64(..8));
        let index = if self.random.bool() { ahead } else { self.index(of) };
        let last = LogId::new(self.near(&[term, of.last().term]).min(term), index);
        let meta = SnapshotMeta { last, conf_state: self.conf_state(of) };
        Snapshot { meta, data: self.data() }
    }

    /// A message to that server, from anybody.
    pub(super) fn message(&mut self, to: &RawNode) -> Message {
        let term = self.term(to);
        let body = match self.random.usize(..KINDS) {
            0 => Body::RequestVote {
                pre: self.random.bool(),
                last: self.position(to),
                transfer: self.random.bool(),
                commit: self.position(to),
            },
            1 => Body::RequestVoteReply {
                pre: self.random.bool(),
                granted: self.random.bool(),
                commit: self.position(to),
            },
            2 => {
                let prev = self.position(to);
                let (entries, commit) = (self.entries(prev, term), self.index(to));
                Body::AppendEntries { prev, entries, commit }
            }
            3 => Body::AppendEntriesReply(if self.random.bool() {
                AppendReply::Accepted { index: self.index(to), commit: self.index(to) }
            } else {
                AppendReply::Rejected { prev: self.index(to), hint: self.position(to) }
            }),
            4 => Body::Heartbeat { commit: self.index(to), read: self.near(&[0]) },
            5 => Body::HeartbeatReply { read: self.near(&[0]), commit: self.index(to) },
            6 => Body::InstallSnapshot { snapshot: Box::new(self.snapshot(to, term)) },
            7 => Body::TimeoutNow,
            8 => Body::TransferLeader,
            9 => {
                let count = self.random.usize(..4);
                Body::Propose { entries: (0..count).map(|_| self.entry()).collect() }
            }
            10 => Body::ReadIndex { context: self.data() },
            _ => Body::ReadIndexReply { index: self.index(to), context: self.data() },
        };
        let of_no_term = matches!(body, Body::Propose { .. } | Body::ReadIndex { .. });
        let term = if of_no_term && self.random.bool() { 0 } else { term };
        Message { from: self.id(), to: to.id(), term, body }
    }

    /// A message that was sent, with something changed.
    pub(super) fn bend(&mut self, mut message: Message, to: &RawNode) -> Message {
        match self.random.u32(..4) {
            0 => message.term = self.term(to),
            1 => message.from = self.id(),
            2 => message.to = to.id(),
            _ => {
                if let Body::AppendEntries { commit, .. } | Body::Heartbeat { commit, .. } =
                    &mut message.body
                {
                    *commit = self.index(to);
                }
            }
        }
        message
    }
}
