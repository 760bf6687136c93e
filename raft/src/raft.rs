//! One server: what all roles share, and the role it has. Its inputs are ticks, messages and the
//! application's requests; each ends with the role it decides on.

use bytes::Bytes;

use crate::entry::Entry;
use crate::error::{ProposeError, ReadError};
use crate::message::Body;
use crate::role::{Follower, Leader, Next, Role};
use crate::server::Server;
use crate::types::{NodeId, SoftState};
use crate::{election, read, replication, transfer};

/// Where a proposal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// Into this leader's log; the last entry of the proposal is there.
    Appended(crate::types::LogId),
    /// To the leader, as a message; nobody will say what becomes of it.
    Forwarded(NodeId),
}

/// A server in a role.
pub(crate) struct Raft {
    pub(crate) server: Server,
    pub(crate) role: Role,
}

impl Raft {
    pub(crate) fn new(server: Server) -> Raft {
        let term = server.term;
        let mut raft = Raft { server, role: Role::Follower(Follower::default()) };
        raft.become_follower(term, None);
        raft
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader(), role: self.role.kind() }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.role.leader(self.server.id())
    }

    pub(crate) fn as_leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    /// Nothing has happened for a while, or may have not: empty buffers are not kept.
    pub(crate) fn cool(&mut self) {
        self.server.cool();
        if let Role::Leader(leader) = &mut self.role {
            leader.progress.cool();
            leader.reads.cool();
        }
    }

    /// Time passes.
    pub(crate) fn tick(&mut self) {
        let server = &mut self.server;
        let next = match &mut self.role {
            Role::Leader(leader) => election::tick_leader(server, leader),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                election::tick(server)
            }
        };
        self.become_next(next);
        // Refused while leadership was being handed over, perhaps.
        self.leave_joint_if_due(self.server.log.applied());
    }

    /// The tick with which something is due next, if nothing happens until then.
    pub(crate) fn next_due(&self) -> u64 {
        let server = &self.server;
        let config = &server.config;
        let next = server.clock.now() + 1;
        if config.write_ticks_max != 0 || server.membership.auto_leave {
            // A disk that stands still, and leaving a joint configuration, are looked after always.
            return next;
        }
        let election = |ticks: u32| server.election_since + u64::from(ticks);
        let due = match &self.role {
            Role::Leader(leader) => {
                let heartbeat = leader.heartbeat_since + u64::from(config.heartbeat_ticks);
                heartbeat.min(election(config.election_ticks))
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                election(server.election_timeout)
            }
        };
        due.max(next)
    }

    /// Starts an election, unless this server leads or may not stand.
    pub(crate) fn campaign(&mut self) {
        let next = match &self.role {
            Role::Leader(_) => Next::Stay,
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                election::campaign(&self.server, false)
            }
        };
        self.become_next(next);
    }

    /// Offers entries to the group.
    pub(crate) fn propose(&mut self, entries: Vec<Entry>) -> Result<Proposed, ProposeError> {
        self.propose_for(self.server.id(), entries)
    }

    /// Offers entries that the server `asked` was given.
    pub(crate) fn propose_for(
        &mut self,
        asked: NodeId,
        mut entries: Vec<Entry>,
    ) -> Result<Proposed, ProposeError> {
        if entries.is_empty() {
            return Err(ProposeError::Empty);
        }
        let server = &mut self.server;
        match &mut self.role {
            Role::Leader(leader) => {
                replication::propose(server, leader, &mut entries).map(Proposed::Appended)
            }
            Role::Follower(Follower { leader: Some(leader), .. })
                if !server.config.disable_proposal_forwarding =>
            {
                server.forward(asked, *leader, Body::Propose { entries });
                Ok(Proposed::Forwarded(*leader))
            }
            Role::Follower(Follower { leader, .. }) => {
                Err(ProposeError::NotLeader { leader: *leader })
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {
                Err(ProposeError::NotLeader { leader: None })
            }
        }
    }

    /// Offers one command; what [`Raft::propose`] does, without a vector.
    pub(crate) fn propose_one(&mut self, data: Bytes) -> Result<Proposed, ProposeError> {
        match &mut self.role {
            Role::Leader(leader) => {
                replication::propose_one(&mut self.server, leader, data).map(Proposed::Appended)
            }
            _ => self.propose(vec![Entry::normal(data)]),
        }
    }

    /// Asks for the index a linearizable read has to wait for.
    pub(crate) fn read_index(&mut self, context: Bytes) -> Result<(), ReadError> {
        self.read_index_for(self.server.id(), context)
    }

    /// Asks in the name of `asked`, who gets the answer.
    pub(crate) fn read_index_for(
        &mut self,
        asked: NodeId,
        context: Bytes,
    ) -> Result<(), ReadError> {
        let server = &mut self.server;
        match &mut self.role {
            Role::Leader(leader) => {
                read::ask(server, leader, asked, context);
                Ok(())
            }
            Role::Follower(Follower { leader: Some(leader), .. }) => {
                server.forward(asked, *leader, Body::ReadIndex { context });
                Ok(())
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Err(ReadError::NoLeader)
            }
        }
    }

    /// Asks that `to` become leader.
    pub(crate) fn transfer_leader(&mut self, to: NodeId) {
        let server = &mut self.server;
        match &mut self.role {
            Role::Leader(leader) => transfer::start(server, leader, to),
            Role::Follower(Follower { leader: Some(leader), .. }) => {
                transfer::forward(server, *leader, to);
            }
            // Nobody to ask.
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// Forgets who leads, so that votes are granted before the lease is over.
    pub(crate) fn forget_leader(&mut self) {
        if let Role::Follower(follower) = &mut self.role {
            // A leader that answers reads by its lease counts on being remembered.
            if self.server.config.read_mode != crate::config::ReadMode::Lease {
                follower.leader = None;
            }
        }
    }
}
