//! What every role shares: the persistent state of Figure 2, the log, the members, the clock.

use crate::config::Config;
use crate::group_commit::Groups;
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{Body, Message};
use crate::ready::ReadState;
use crate::types::{HardState, LogId, NodeId, Term};

/// What leaves this server with the next `Ready`.
#[derive(Default)]
pub(crate) struct Outbox {
    /// May leave at once.
    pub(crate) messages: Vec<Message>,
    /// Votes and acknowledgements, this server's own included: they rest on what is being written
    /// and leave only when that is on disk.
    pub(crate) promises: Vec<Message>,
    /// Reads that may run once enough is applied.
    pub(crate) reads: Vec<ReadState>,
}

/// One server, whatever its role.
pub(crate) struct Server {
    pub(crate) config: Config,
    /// `currentTerm` (Figure 2): never falls.
    pub(crate) term: Term,
    /// `votedFor` (Figure 2): set once a term, by granting; cleared by a new term.
    pub(crate) vote: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) membership: Membership,
    /// Empty unless group commit is on.
    pub(crate) commit_groups: Groups,
    /// Who should rather lead, where that was said; 0 for the others.
    pub(crate) priorities: Vec<(NodeId, u32)>,
    /// Ticks since a leader or a candidate we voted for was heard from; on a leader, since it last
    /// made sure of its quorum.
    pub(crate) election_elapsed: u32,
    /// When the election timer runs out; drawn anew with every change of role (§5.2).
    pub(crate) election_timeout: u32,
    pub(crate) random: fastrand::Rng,
    pub(crate) out: Outbox,
    /// Something was handed out since the last tick, so buffers are kept.
    pub(crate) is_warm: bool,
}

impl Outbox {
    /// What may leave now. The buffer stays if it is empty.
    pub(crate) fn take_messages(&mut self) -> Vec<Message> {
        if self.messages.is_empty() { Vec::new() } else { std::mem::take(&mut self.messages) }
    }

    /// What rests on the next write. The buffer stays if it is empty.
    pub(crate) fn take_promises(&mut self) -> Vec<Message> {
        if self.promises.is_empty() { Vec::new() } else { std::mem::take(&mut self.promises) }
    }

    /// Takes back a buffer that was handed out, where one is wanted.
    pub(crate) fn recycle(&mut self, mut messages: Vec<Message>) {
        messages.clear();
        if self.promises.capacity() == 0 {
            self.promises = messages;
        } else if self.messages.capacity() == 0 {
            self.messages = messages;
        }
    }
}

impl Server {
    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed() }
    }

    pub(crate) fn last_id(&self) -> LogId {
        self.log.last_id()
    }

    /// Queues a message of this term.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { from: self.id(), to, term: self.term, body };
        self.out.messages.push(message);
    }

    /// Queues a message that belongs to no term: a client's request on its way to the leader, in
    /// the name of the server that was asked first, so that it is that one which is answered.
    pub(crate) fn forward(&mut self, asked: NodeId, to: NodeId, body: Body) {
        let message = Message { from: asked, to, term: 0, body };
        self.out.messages.push(message);
    }

    /// Queues a vote or an acknowledgement, which may leave only after the write it rests on.
    pub(crate) fn promise(&mut self, to: NodeId, term: Term, body: Body) {
        let message = Message { from: self.id(), to, term, body };
        self.out.promises.push(message);
    }

    /// What every change of role does: a new term forgets the vote, and the election timer starts
    /// over with a new timeout.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term >= self.term, "the term never falls");
        self.log.seal();
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.election_elapsed = 0;
        self.draw_election_timeout();
    }

    pub(crate) fn draw_election_timeout(&mut self) {
        let from = self.config.election_ticks;
        let range = self.config.election_ticks_range.clone().unwrap_or(from..2 * from);
        self.election_timeout = self.random.u32(range);
    }

    /// How much `id` is wanted as a leader.
    pub(crate) fn priority(&self, id: NodeId) -> u32 {
        self.priorities.iter().find(|(of, _)| *of == id).map_or(0, |(_, priority)| *priority)
    }

    /// Frees the buffers that are empty: there are many servers, and most of them are idle.
    pub(crate) fn cool(&mut self) {
        self.is_warm = false;
        if self.out.messages.is_empty() {
            self.out.messages = Vec::new();
        }
        if self.out.promises.is_empty() {
            self.out.promises = Vec::new();
        }
        self.log.cool();
    }

    /// Whether this server may stand for election: it votes, and no snapshot is about to replace
    /// its log and its membership.
    pub(crate) fn is_promotable(&self) -> bool {
        self.membership.is_voter(self.id()) && !self.log.has_pending_snapshot()
    }
}
