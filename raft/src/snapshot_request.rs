//! A follower asks for a snapshot (beyond etcd; as in TiKV).
//!
//! §7 leaves it to the leader who gets a snapshot: whoever needs entries that are compacted. But a
//! follower may find that its *state machine* is damaged, while its log is fine; then entries are
//! of no use to it. With [`RawNode::request_snapshot`] it asks for everything anew:
//!
//! ```text
//!  follower: request_snapshot() ─ SnapshotWanted{reaching: last} ─► leader: Flow::Requested
//!            takes no entries meanwhile,                             sends no entries meanwhile,
//!            asks again with each of the leader's messages           asks its storage again and again
//!            on_install_snapshot ◄──── InstallSnapshot (≥ reaching) ──┘
//! ```
//!
//! The snapshot has to reach the end of the follower's log, so that nothing is left of that. This
//! is possible only if the leader has the same entry there: so the follower's last entry must be of
//! the current term, of which there is one leader. Nothing is taken back, for the follower's log
//! stays until the snapshot is there, and counts until then.
//!
//! The wish is part of the role, so that it is forgotten with any change of role or term: the next
//! leader may have another log, and knows nothing of it.

use crate::error::{SnapshotRequestError, StepError};
use crate::message::{AppendReply, Body};
use crate::raw_node::RawNode;
use crate::replication;
use crate::role::{Leader, Role};
use crate::server::Server;
use crate::types::{Index, NodeId};

impl RawNode {
    /// A follower asks its leader for a snapshot, which will be handed out by some
    /// [`write`](crate::Ready::write) and replaces log and state machine whatever they are. Until
    /// then it takes no entries, and its application should make no use of its state. Forgotten
    /// with the role or the term: watch both, and ask again.
    ///
    /// # Errors
    /// If there is nobody to ask, or the follower's log does not end in an entry of the current
    /// term, or a snapshot is being installed or asked for already. It has had no effect then.
    pub fn request_snapshot(&mut self) -> Result<(), SnapshotRequestError> {
        let server = &mut self.raft.server;
        let follower = match &mut self.raft.role {
            Role::Follower(follower) => follower,
            Role::Leader(_) => return Err(SnapshotRequestError::Leader),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                return Err(SnapshotRequestError::NoLeader);
            }
        };
        let Some(leader) = follower.leader else { return Err(SnapshotRequestError::NoLeader) };
        if follower.wants_snapshot.is_some() || server.log.has_pending_snapshot() {
            return Err(SnapshotRequestError::Pending);
        }
        if server.last_id().term != server.term {
            return Err(SnapshotRequestError::OldTerm);
        }
        let reaching = server.log.last();
        follower.wants_snapshot = Some(reaching);
        ask(server, leader, reaching);
        self.observe();
        Ok(())
    }
}

// ---- Follower ----

/// Asks `leader`, or asks it again.
#[cold]
pub(crate) fn ask(server: &mut Server, leader: NodeId, reaching: Index) {
    let reply = Body::AppendEntriesReply(AppendReply::SnapshotWanted { reaching });
    server.promise(leader, server.term, reply);
}

// ---- Leader ----

/// `from` wants a snapshot that reaches `reaching`: it gets one as soon as there is one, unless it
/// has moved on since, or such a one is on its way.
#[cold]
pub(crate) fn on_request(
    server: &mut Server,
    leader: &mut Leader,
    from: NodeId,
    reaching: Index,
) -> Result<(), StepError> {
    let last = server.log.last();
    if reaching > last {
        return Err(StepError::BeyondLog { index: reaching, last });
    }
    let Some(at) = leader.progress.place(from) else { return Ok(()) };
    let (_, pr) = leader.progress.at_mut(at);
    pr.recent_active = true;
    if pr.request_snapshot(reaching) {
        replication::request_append(server, leader, at, true);
    }
    Ok(())
}
