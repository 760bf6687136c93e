//! What a server does, as it does it, for whoever wants to watch: the simulator, the lab, a page
//! that replays a run.
//!
//! A [`Tracer`] is told of each message that comes and goes and of each change of what Figure 2
//! lists, in the order in which they happen, once for each call of [`RawNode`](crate::RawNode).
//! Without a tracer, which is the rule, this costs one comparison a call.

use std::fmt;

use crate::membership::Membership;
use crate::message::Message;
use crate::raft::Raft;
use crate::types::{Index, LogId, NodeId, RoleKind, SoftState, Term};

/// Watches a server.
pub trait Tracer: Send {
    /// `event` has happened; `at` is the server after it.
    fn event(&mut self, at: &At, event: Event<'_>);
}

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Who.
    pub node: NodeId,
    /// In which term.
    pub term: Term,
    /// As what.
    pub role: RoleKind,
    /// The last position in its log.
    pub last: LogId,
    /// Its commit index.
    pub commit: Index,
    /// The last index applied.
    pub applied: Index,
}

impl fmt::Display for At {
    /// `n1@3 leader last=7@3 commit=6 applied=5`, as in the logs of a store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { node, term, role, last, commit, applied } = self;
        write!(f, "{node:?}@{term} {role} last={last} commit={commit} applied={applied}")
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A message came, and was looked at or not.
    Received(&'a Message),
    /// A message was handed out to be sent.
    Sent(&'a Message),
    /// The term rose.
    Term,
    /// It voted, perhaps for itself.
    Voted {
        /// For whom.
        candidate: NodeId,
    },
    /// The role changed, or who leads.
    Became {
        /// Who leads now, where known.
        leader: Option<NodeId>,
    },
    /// Entries were appended, in the place of others or not.
    Appended {
        /// The last position before.
        before: LogId,
    },
    /// The log got shorter: its end gave way to a shorter one of a newer leader.
    Truncated {
        /// The last position before.
        before: LogId,
    },
    /// More is committed.
    Committed {
        /// The commit index before.
        before: Index,
    },
    /// More is applied, by entries or by a snapshot.
    Applied {
        /// The applied index before.
        before: Index,
    },
    /// A membership took effect.
    Configured(&'a Membership),
}

/// A tracer, and what it was last told.
pub(crate) struct Tracing {
    tracer: Box<dyn Tracer>,
    at: At,
    vote: Option<NodeId>,
    leader: Option<NodeId>,
    membership: Membership,
}

impl At {
    pub(crate) fn of(raft: &Raft) -> At {
        let server = &raft.server;
        At {
            node: server.id(),
            term: server.term,
            role: raft.role.kind(),
            last: server.last_id(),
            commit: server.log.committed(),
            applied: server.log.applied(),
        }
    }
}

impl Tracing {
    pub(crate) fn new(tracer: Box<dyn Tracer>, raft: &Raft) -> Tracing {
        Tracing {
            tracer,
            at: At::of(raft),
            vote: raft.server.vote,
            leader: raft.leader(),
            membership: raft.server.membership.clone(),
        }
    }

    pub(crate) fn received(&mut self, message: &Message) {
        self.tracer.event(&self.at, Event::Received(message));
    }

    pub(crate) fn sent(&mut self, messages: &[Message]) {
        for message in messages {
            self.tracer.event(&self.at, Event::Sent(message));
        }
    }

    /// Tells what has changed since the last time, in the order of Figure 2.
    pub(crate) fn changes(&mut self, raft: &Raft) {
        let (before, at) = (self.at, At::of(raft));
        let vote_before = if at.term == before.term { self.vote } else { None };
        self.at = at;
        self.vote = raft.server.vote;
        if at.term != before.term {
            self.tracer.event(&at, Event::Term);
        }
        if let Some(candidate) = self.vote.filter(|_| self.vote != vote_before) {
            self.tracer.event(&at, Event::Voted { candidate });
        }
        let SoftState { leader, .. } = raft.soft_state();
        if at.role != before.role || leader != self.leader {
            self.leader = leader;
            self.tracer.event(&at, Event::Became { leader });
        }
        if at.last != before.last {
            let event = if at.last.index < before.last.index {
                Event::Truncated { before: before.last }
            } else {
                Event::Appended { before: before.last }
            };
            self.tracer.event(&at, event);
        }
        if at.commit != before.commit {
            self.tracer.event(&at, Event::Committed { before: before.commit });
        }
        if at.applied != before.applied {
            self.tracer.event(&at, Event::Applied { before: before.applied });
        }
        if self.membership != raft.server.membership {
            self.membership = raft.server.membership.clone();
            self.tracer.event(&at, Event::Configured(&self.membership));
        }
    }
}
