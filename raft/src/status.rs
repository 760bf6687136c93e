//! What a server says of itself, for applications, operators and tests.

use crate::commit_hints;
use crate::membership::Membership;
use crate::progress::Progress;
use crate::raft::Raft;
use crate::raw_node::RawNode;
use crate::role::Role;
use crate::types::{HardState, Index, LogId, NodeId, RoleKind, SoftState, Term};

/// A copy of a server's state.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub id: NodeId,
    /// Term, vote, commit.
    pub hard_state: HardState,
    /// Role and leader.
    pub soft_state: SoftState,
    /// The last index applied.
    pub applied: Index,
    /// The last index on disk.
    pub stable: Index,
    /// The last position.
    pub last: LogId,
    /// The last compacted position.
    pub compacted: LogId,
    /// The members.
    pub membership: Membership,
    /// What it knows of each member, by ascending id; empty unless it leads.
    pub progress: Vec<(NodeId, Progress)>,
    /// Ticks on the election timer; on a leader, since it last made sure of its quorum.
    pub election_elapsed: u64,
    /// The answers it has got, while it stands for election: who, and whether granted.
    pub votes: Vec<(NodeId, bool)>,
    /// On a leader: no membership change is taken until everything up to here is applied.
    pub pending_conf_index: Option<Index>,
    /// Whom it is handing over to.
    pub transferee: Option<NodeId>,
    /// Reads that wait for confirmation.
    pub pending_reads: usize,
    /// Payload bytes proposed and not yet applied.
    pub uncommitted_bytes: u64,
}

impl Status {
    pub(crate) fn of(raft: &Raft) -> Status {
        let server = &raft.server;
        let leader = raft.as_leader();
        let known = |id, pr: &Progress| {
            let own = if id == server.id() { commit_hints::index(server) } else { 0 };
            Progress { committed: pr.committed.max(own), ..pr.clone() }
        };
        let progress =
            leader.map(|l| l.progress.iter().map(|(id, pr)| (id, known(id, pr))).collect());
        Status {
            id: server.id(),
            hard_state: server.hard_state(),
            soft_state: raft.soft_state(),
            applied: server.log.applied(),
            stable: server.log.stable(),
            last: server.last_id(),
            compacted: server.log.compacted(),
            membership: server.membership.clone(),
            progress: progress.unwrap_or_default(),
            election_elapsed: server.election_elapsed(),
            votes: match &raft.role {
                Role::PreCandidate(candidate) | Role::Candidate(candidate) => {
                    candidate.votes.clone()
                }
                Role::Follower(_) | Role::Leader(_) => Vec::new(),
            },
            pending_conf_index: leader.map(|l| l.pending_conf_index),
            transferee: leader.and_then(|l| l.transferee),
            pending_reads: leader.map_or(0, |l| l.reads.len()),
            uncommitted_bytes: leader.map_or(0, |l| l.uncommitted_bytes),
        }
    }
}

impl RawNode {
    /// Who this server is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.raft.server.id()
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.raft.server.term
    }

    /// The current role.
    #[must_use]
    pub fn role(&self) -> RoleKind {
        self.raft.role.kind()
    }

    /// Who leads, where known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.leader()
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.raft.server.log.committed()
    }

    /// The last index reported applied.
    #[must_use]
    pub fn applied_index(&self) -> Index {
        self.raft.server.log.applied()
    }

    /// The position of the last entry.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.raft.server.last_id()
    }

    /// The position of the last compacted entry.
    #[must_use]
    pub fn compacted(&self) -> LogId {
        self.raft.server.log.compacted()
    }

    /// The term of the entry at `index`, unless that is compacted or not there.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.raft.server.log.term(index)
    }

    /// The members, as of the last applied change.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.raft.server.membership
    }

    /// A view of everything, for operators and tests.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.raft)
    }

    /// Term, vote and commit as they are now, handed out or not.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.raft.server.hard_state()
    }
}
