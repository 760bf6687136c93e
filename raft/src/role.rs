//! The roles and the only place where they change (Figure 4).
//!
//! ```text
//!             timeout: campaign                 quorum of votes
//!  Follower ──────────────────► (Pre)Candidate ────────────────► Leader
//!     ▲  ▲                           │                             │
//!     │  └── higher term, or a leader, or a lost vote              │
//!     └───────────────────────────── higher term, or no quorum ────┘
//! ```
//!
//! Handlers say what comes next by a [`Next`]; here it happens. A role's own state lives in its
//! struct, so leaving the role drops it: votes, progress, pending reads, a transfer under way.

use crate::config::ReadMode;
use crate::election;
use crate::entry::Entry;
use crate::lease::Lease;
use crate::progress::{Flow, Progress, ProgressMap};
use crate::raft::Raft;
use crate::read::Reads;
use crate::replication;
use crate::server::Server;
use crate::types::{Index, NodeId, RoleKind, Term};

/// A role with what only it knows.
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// Answers leaders and candidates.
#[derive(Default)]
pub(crate) struct Follower {
    /// Who leads this term, once known.
    pub(crate) leader: Option<NodeId>,
    /// It wants a snapshot that reaches so far, and no entries.
    pub(crate) wants_snapshot: Option<Index>,
}

/// Stands for election, or asks whether it could win one.
#[derive(Default)]
pub(crate) struct Candidate {
    /// The first answer of each voter.
    pub(crate) votes: Vec<(NodeId, bool)>,
}

/// Replicates its log to all others.
pub(crate) struct Leader {
    /// What it knows of each member, itself included.
    pub(crate) progress: ProgressMap,
    /// The tick of its last heartbeats.
    pub(crate) heartbeat_since: u64,
    /// Whom it is handing over to (T§3.10).
    pub(crate) transferee: Option<NodeId>,
    /// No membership change is accepted until everything up to here is applied: there may be one.
    pub(crate) pending_conf_index: Index,
    /// Payload bytes of its own entries that are not yet applied.
    pub(crate) uncommitted_bytes: u64,
    pub(crate) reads: Reads,
    /// With lease reads only.
    pub(crate) lease: Option<Box<Lease>>,
    /// An append or a heartbeat is wanted at the next `ready()`.
    pub(crate) wants_flush: bool,
    /// That append is for everybody.
    pub(crate) wants_broadcast: bool,
    /// The heartbeat is to carry the number of the latest read.
    pub(crate) wants_heartbeat: bool,
}

/// What a handler decides about the role.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It stays.
    Stay,
    /// Follow, in `term`.
    Follow { term: Term, leader: Option<NodeId> },
    /// Ask whether an election could be won (T§9.6).
    PreCampaign,
    /// Stand for election; `transfer` if the leader asked for it (T§3.10).
    Campaign { transfer: bool },
    /// Lead.
    Lead,
}

impl Role {
    pub(crate) fn kind(&self) -> RoleKind {
        match self {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// Who leads, as far as this server (`id`) knows.
    pub(crate) fn leader(&self, id: NodeId) -> Option<NodeId> {
        match self {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(id),
        }
    }
}

impl Raft {
    /// Makes the change of role that a handler has decided on.
    #[inline]
    pub(crate) fn become_next(&mut self, next: Next) {
        if next != Next::Stay {
            self.change_role(next);
        }
    }

    fn change_role(&mut self, next: Next) {
        match next {
            Next::Stay => {}
            Next::Follow { term, leader } => self.become_follower(term, leader),
            Next::PreCampaign => self.become_pre_candidate(),
            Next::Campaign { transfer } => self.become_candidate(transfer),
            Next::Lead => self.become_leader(),
        }
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        self.server.enter_term(term);
        self.role = Role::Follower(Follower { leader, wants_snapshot: None });
    }

    /// Neither the term, nor the vote, nor the timer changes: asking has no effect (T§9.6).
    fn become_pre_candidate(&mut self) {
        assert!(self.role.kind() != RoleKind::Leader, "a leader does not campaign");
        self.role = Role::PreCandidate(Candidate::default());
        election::request_votes(&mut self.server, election::Kind::Pre);
    }

    /// §5.2: a candidate increments its term and votes for itself.
    fn become_candidate(&mut self, transfer: bool) {
        assert!(self.role.kind() != RoleKind::Leader, "a leader does not campaign");
        self.server.enter_term(self.server.term + 1);
        self.server.vote = Some(self.server.id());
        self.role = Role::Candidate(Candidate::default());
        election::request_votes(&mut self.server, election::Kind::Real { transfer });
    }

    /// §5.2, §8: a new leader appends an entry of its term, whose commitment settles what its
    /// predecessors left.
    fn become_leader(&mut self) {
        assert!(self.role.kind() == RoleKind::Candidate, "only a candidate wins an election");
        let server = &mut self.server;
        server.enter_term(server.term);
        let mut leader = Leader::new(server);
        let noop = replication::append(server, &mut leader, 0, [Entry::default()]);
        noop.expect("an empty entry is never too large");
        replication::broadcast(server, &mut leader);
        self.role = Role::Leader(Box::new(leader));
    }
}

impl Leader {
    /// A leader that knows nothing of anybody's log but its own.
    fn new(server: &Server) -> Leader {
        let last = server.log.last();
        let mut progress = ProgressMap::default();
        for id in server.membership.members() {
            let mut pr = Progress::new(last + 1, server.membership.is_learner(id));
            if id == server.id() {
                // Its own log is replicated by its own disk: what is written counts when it is
                // acknowledged, like anybody else's.
                pr.matched = last;
                pr.flow = Flow::Replicate { inflights: Default::default(), paused: false };
                pr.recent_active = true;
            }
            progress.insert(id, pr);
        }
        Leader {
            progress,
            heartbeat_since: server.clock.now(),
            transferee: None,
            // There may be an unapplied change among what was taken over; up to here nobody looks.
            pending_conf_index: last,
            uncommitted_bytes: 0,
            reads: Reads::default(),
            lease: (server.config.read_mode == ReadMode::Lease).then(Box::default),
            wants_flush: false,
            wants_broadcast: false,
            wants_heartbeat: false,
        }
    }
}

#[cfg(test)]
mod tests;
