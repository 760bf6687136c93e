//! What every role shares: the persistent state of Figure 2, the log, the members, the clock.

use crate::config::Config;
use crate::group_commit::Groups;
use crate::lease;
use crate::log::Log;
use crate::membership::Membership;
use crate::message::{Body, Message};
use crate::ready::ReadState;
use crate::types::{HardState, LogId, NodeId, Term};
use crate::window::Windows;

/// What leaves this server with the next `Ready`.
#[derive(Default)]
pub(crate) struct Outbox {
    /// May leave at once.
    pub(crate) messages: Vec<Message>,
    /// Votes and acknowledgements, this server's own included: they rest on what is being written
    /// and leave only when that is on disk.
    pub(crate) promises: Vec<Message>,
    /// Reads that may run once enough is applied. Boxed, as a server is small and most of many
    /// answer no reads.
    #[allow(clippy::box_collection, reason = "see above")]
    pub(crate) reads: Option<Box<Vec<ReadState>>>,
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
    /// What few servers are told; a pointer to nothing on all others.
    pub(crate) wishes: Option<Box<Wishes>>,
    pub(crate) clock: Clock,
    /// The tick at which a leader or a candidate we voted for was last heard from; on a leader, at
    /// which it last made sure of its quorum.
    pub(crate) election_since: u64,
    /// The tick before which it neither votes nor stands (see `lease`); 0 without lease reads.
    pub(crate) promised_until: u64,
    /// Ticks until the election timer runs out; drawn anew with every change of role (§5.2).
    pub(crate) election_timeout: u32,
    pub(crate) random: fastrand::Rng,
    pub(crate) out: Outbox,
}

/// What an operator may wish of some members.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Empty unless group commit is on.
    pub(crate) commit_groups: Groups,
    /// Who should rather lead, where that was said; 0 for the others.
    pub(crate) priorities: Vec<(NodeId, u32)>,
    /// Empty unless a follower has a window of its own.
    pub(crate) windows: Windows,
}

/// Counts ticks; timers are points in that count.
///
/// Groups are many and most of them idle, so a tick with which nothing can be due is one
/// comparison: a whole tick says when the next one is needed, and whatever else happens to the
/// server asks for a whole one.
#[derive(Default)]
pub(crate) struct Clock {
    now: u64,
    due: u64,
}

impl Clock {
    /// A tick. Says whether anything may be due with it.
    pub(crate) fn tick(&mut self) -> bool {
        self.now += 1;
        self.now >= self.due
    }

    /// Ticks so far.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Something has happened: what is due when has to be found out anew.
    pub(crate) fn wake(&mut self) {
        self.due = 0;
    }

    /// Nothing is due before the tick `due`, as long as nothing happens.
    pub(crate) fn sleep_until(&mut self, due: u64) {
        self.due = due;
    }
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

    /// The answer to a read that was asked here.
    pub(crate) fn read(&mut self, read: ReadState) {
        self.reads.get_or_insert_default().push(read);
    }

    /// The reads that may run.
    pub(crate) fn take_reads(&mut self) -> Vec<ReadState> {
        self.reads.take().map_or(Vec::new(), |reads| *reads)
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
        self.restart_election_timer();
        self.draw_election_timeout();
    }

    /// Ticks on the election timer.
    pub(crate) fn election_elapsed(&self) -> u64 {
        self.clock.now() - self.election_since
    }

    /// The leader was heard from.
    pub(crate) fn hear_leader(&mut self) {
        self.restart_election_timer();
        lease::promise(self);
    }

    pub(crate) fn restart_election_timer(&mut self) {
        self.election_since = self.clock.now();
    }

    pub(crate) fn draw_election_timeout(&mut self) {
        let from = self.config.election_ticks;
        let range = self.config.election_ticks_range.clone().unwrap_or(from..2 * from);
        self.election_timeout = self.random.u32(range);
    }

    /// How much `id` is wanted as a leader.
    pub(crate) fn priority(&self, id: NodeId) -> u32 {
        let mut priorities = self.wishes.iter().flat_map(|wishes| &wishes.priorities);
        priorities.find(|(of, _)| *of == id).map_or(0, |(_, priority)| *priority)
    }

    /// Frees the buffers that are empty: there are many servers, and most of them are idle.
    pub(crate) fn cool(&mut self) {
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
