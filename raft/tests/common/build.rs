//! What scenarios are made of: ids, messages, and servers with any log to begin with.

use bytes::Bytes;
use raft::{
    AppendReply, Body, ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, Config, Entries,
    Entry, HardState, Index, LogId, MemStorage, Message, NodeId, Run, Snapshot, SnapshotMeta, Term,
    Transition,
};

use super::Node;

pub fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("node ids are not zero")
}

pub fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|n| id(*n)).collect()
}

/// The name of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    RequestVote,
    RequestPreVote,
    VoteReply,
    PreVoteReply,
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Snapshot,
    TimeoutNow,
    Transfer,
    Propose,
    Read,
    ReadReply,
}

impl Kind {
    pub fn of(body: &Body) -> Kind {
        match body {
            Body::RequestVote { pre: true, .. } => Kind::RequestPreVote,
            Body::RequestVote { .. } => Kind::RequestVote,
            Body::RequestVoteReply { pre: true, .. } => Kind::PreVoteReply,
            Body::RequestVoteReply { .. } => Kind::VoteReply,
            Body::AppendEntries { .. } => Kind::Append,
            Body::AppendEntriesReply(_) => Kind::AppendReply,
            Body::Heartbeat { .. } => Kind::Heartbeat,
            Body::HeartbeatReply { .. } => Kind::HeartbeatReply,
            Body::InstallSnapshot { .. } => Kind::Snapshot,
            Body::TimeoutNow => Kind::TimeoutNow,
            Body::TransferLeader => Kind::Transfer,
            Body::Propose { .. } => Kind::Propose,
            Body::ReadIndex { .. } => Kind::Read,
            Body::ReadIndexReply { .. } => Kind::ReadReply,
        }
    }
}

// ---- Messages ----

pub fn message(from: u64, to: u64, term: Term, body: Body) -> Message {
    Message { from: id(from), to: id(to), term, body }
}

pub fn vote(from: u64, to: u64, term: Term, last: (Term, Index)) -> Message {
    let last = LogId::new(last.0, last.1);
    message(
        from,
        to,
        term,
        Body::RequestVote { pre: false, last, transfer: false, commit: LogId::ZERO },
    )
}

pub fn pre_vote(from: u64, to: u64, term: Term, last: (Term, Index)) -> Message {
    let last = LogId::new(last.0, last.1);
    message(
        from,
        to,
        term,
        Body::RequestVote { pre: true, last, transfer: false, commit: LogId::ZERO },
    )
}

pub fn grant(from: u64, to: u64, term: Term, granted: bool) -> Message {
    message(from, to, term, Body::RequestVoteReply { pre: false, granted, commit: LogId::ZERO })
}

pub fn heartbeat(from: u64, to: u64, term: Term, commit: Index) -> Message {
    message(from, to, term, Body::Heartbeat { commit, read: 0 })
}

/// Entries of `terms` that follow `prev`; what they say follows from their position.
pub fn append(
    from: u64,
    to: u64,
    term: Term,
    prev: (Term, Index),
    terms: &[Term],
    commit: Index,
) -> Message {
    let prev = LogId::new(prev.0, prev.1);
    let entries = entries(prev.index + 1, terms);
    message(from, to, term, Body::AppendEntries { prev, entries, commit })
}

pub fn accepted(from: u64, to: u64, term: Term, index: Index) -> Message {
    message(from, to, term, Body::AppendEntriesReply(AppendReply::Accepted { index, commit: 0 }))
}

pub fn rejected(from: u64, to: u64, term: Term, prev: Index, hint: (Term, Index)) -> Message {
    let hint = LogId::new(hint.0, hint.1);
    message(from, to, term, Body::AppendEntriesReply(AppendReply::Rejected { prev, hint }))
}

pub fn heartbeat_reply(from: u64, to: u64, term: Term) -> Message {
    message(from, to, term, Body::HeartbeatReply { read: 0, commit: 0 })
}

pub fn install(from: u64, to: u64, term: Term, snapshot: Snapshot) -> Message {
    message(from, to, term, Body::InstallSnapshot { snapshot: Box::new(snapshot) })
}

/// A membership change of several members.
pub fn changes(transition: Transition, changes: &[(ConfChangeKind, u64)]) -> ConfChange {
    let single = |(kind, n): &(ConfChangeKind, u64)| ConfChangeSingle { kind: *kind, node: id(*n) };
    ConfChange {
        transition,
        changes: changes.iter().map(single).collect(),
        ..ConfChange::default()
    }
}

// ---- Logs ----

/// What an entry says follows from its position, as Log Matching has it.
pub fn entries(first: Index, terms: &[Term]) -> Entries {
    let mut out = Entries::new();
    for (term, index) in terms.iter().zip(first..) {
        let entry = Entry::normal(Bytes::from(format!("{index}@{term}")));
        out.push(Run::new(*term, index, vec![entry]).expect("not empty")).expect("consecutive");
    }
    out
}

pub fn snapshot(last: (Term, Index), conf_state: ConfState) -> Snapshot {
    let meta = SnapshotMeta { last: LogId::new(last.0, last.1), conf_state };
    Snapshot { meta, data: Bytes::new() }
}

pub fn voters(numbers: &[u64]) -> ConfState {
    ConfState::of_voters(ids(numbers))
}

/// A server before it starts.
pub struct Setup {
    pub config: Config,
    pub conf_state: ConfState,
    pub hard_state: HardState,
    pub compacted: LogId,
    pub terms: Vec<Term>,
}

/// The server `n` of a group of those voters. Pre-vote and check-quorum are off, heartbeats go out
/// every tick, elections take 10 to 19.
pub fn server(n: u64, group: &[u64]) -> Setup {
    let mut config = Config::new(id(n));
    config.pre_vote = false;
    config.check_quorum = false;
    config.heartbeat_ticks = 1;
    Setup {
        config,
        conf_state: voters(group),
        hard_state: HardState::default(),
        compacted: LogId::ZERO,
        terms: Vec::new(),
    }
}

impl Setup {
    pub fn tune(mut self, tune: impl FnOnce(&mut Config)) -> Setup {
        tune(&mut self.config);
        self
    }

    pub fn members(mut self, conf_state: ConfState) -> Setup {
        self.conf_state = conf_state;
        self
    }

    pub fn learners(mut self, numbers: &[u64]) -> Setup {
        self.conf_state.learners = ids(numbers);
        self
    }

    /// Entries of those terms, and the latest of them as the current term.
    pub fn log(mut self, terms: &[Term]) -> Setup {
        self.terms = terms.to_vec();
        let last = terms.last().copied().unwrap_or(0);
        self.hard_state.term = self.hard_state.term.max(last);
        self
    }

    /// The log begins after that position, with a snapshot that ends there.
    pub fn after(mut self, compacted: (Term, Index)) -> Setup {
        self.compacted = LogId::new(compacted.0, compacted.1);
        self.hard_state.term = self.hard_state.term.max(compacted.0);
        self
    }

    pub fn term(mut self, term: Term) -> Setup {
        self.hard_state.term = term;
        self
    }

    pub fn voted(mut self, n: u64) -> Setup {
        self.hard_state.vote = NodeId::new(n);
        self
    }

    pub fn commit(mut self, index: Index) -> Setup {
        self.hard_state.commit = index;
        self
    }

    pub fn storage(&self) -> MemStorage {
        let storage = MemStorage::with_conf_state(self.conf_state.clone());
        if self.compacted.index > 0 {
            let last = (self.compacted.term, self.compacted.index);
            let taken = snapshot(last, self.conf_state.clone());
            storage.apply_snapshot(taken).expect("the first snapshot");
        }
        storage.append(&entries(self.compacted.index + 1, &self.terms));
        storage.set_hard_state(self.hard_state);
        storage
    }

    pub fn start(self) -> Node {
        Node::start(self.config.clone(), self.storage())
    }

    /// Starts it and has everybody vote for it: a leader in the term after the one it had, whose
    /// first messages are gone.
    pub fn lead(self) -> Node {
        let mut node = self.start();
        node.win();
        node
    }

    /// The same, but in the term after that one, which its log need not have.
    pub fn lead_after(self, term: Term) -> Node {
        self.term(term).lead()
    }
}
