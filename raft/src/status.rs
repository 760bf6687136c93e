//! What a server says of itself, for operators, tests and traces.

use crate::membership::Membership;
use crate::progress::Progress;
use crate::raft::Raft;
use crate::types::{HardState, Index, LogId, NodeId, SoftState};

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
        let progress = leader.map(|l| l.progress.iter().map(|(id, pr)| (id, pr.clone())).collect());
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
            transferee: leader.and_then(|l| l.transferee),
            pending_reads: leader.map_or(0, |l| l.reads.len()),
            uncommitted_bytes: leader.map_or(0, |l| l.uncommitted_bytes),
        }
    }
}
