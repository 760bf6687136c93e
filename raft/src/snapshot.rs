//! InstallSnapshot (§7): both ends.
//!
//! A follower whose next entry is compacted gets a snapshot instead of entries. The follower takes
//! it as its whole log and its membership, unless it already has everything in it; the application
//! installs it as part of the write, and only then does the acknowledgement leave.

use crate::commit_hints;
use crate::error::StorageError;
use crate::membership::{Changed, Membership};
use crate::message::{AppendReply, Body};
use crate::progress::{Flow, Progress};
use crate::raft::Raft;
use crate::role::{Follower, Leader, Role};
use crate::server::Server;
use crate::types::{NodeId, Snapshot};

// ---- Leader ----

/// Sends the storage's snapshot to `to`. Says whether it did: not to somebody who does not answer,
/// and not while the storage is still making one that reaches as far as what is compacted, and as
/// what `to` has asked for.
pub(crate) fn send(server: &mut Server, pr: &mut Progress, to: NodeId) -> bool {
    let asked = match pr.flow {
        Flow::Requested { reaching } => reaching,
        _ => 0,
    };
    let reaching = asked.max(server.log.compacted().index);
    if !pr.recent_active {
        return false;
    }
    let snapshot = match server.log.storage().snapshot_reaching(reaching) {
        Ok(snapshot) if snapshot.meta.last.index >= reaching => Box::new(snapshot),
        Ok(_) | Err(StorageError::SnapshotUnavailable) => return false,
        // As with entries that cannot be read: the next heartbeat's answer tries again.
        Err(_) => return false,
    };
    pr.become_snapshot(snapshot.meta.last.index);
    server.send(to, Body::InstallSnapshot { snapshot });
    true
}

/// The application says what became of the snapshot on its way to `id`. Nothing is sent before the
/// follower is heard from, so that a follower that fails over and over does not keep the leader
/// busy.
pub(crate) fn on_report(leader: &mut Leader, id: NodeId, arrived: bool) {
    let Some(pr) = leader.progress.get_mut(id) else { return };
    if !matches!(pr.flow, Flow::Snapshot { .. }) {
        return;
    }
    if arrived {
        pr.become_probe();
    } else {
        pr.become_probe_after_failure();
    }
    pr.pause();
}

// ---- Follower ----

impl Raft {
    /// InstallSnapshot, receiver (Figure 13).
    pub(crate) fn on_install_snapshot(&mut self, from: NodeId, snapshot: Snapshot) {
        let restored = self.restore(snapshot);
        let log = &self.server.log;
        let index = if restored { log.last() } else { log.committed() };
        let commit = commit_hints::index(&self.server);
        let reply = Body::AppendEntriesReply(AppendReply::Accepted { index, commit });
        self.server.promise(from, self.server.term, reply);
    }

    /// Takes the snapshot as the log. Says whether it did: not if everything in it is committed
    /// here, not if this server is not in its membership, and not if the log has its last entry
    /// (rule 6: the entries after it are kept). If it was asked for, none but the second holds.
    fn restore(&mut self, snapshot: Snapshot) -> bool {
        let server = &mut self.server;
        let meta = &snapshot.meta;
        let wanted = match &self.role {
            Role::Follower(Follower { wants_snapshot: Some(reaching), .. }) => Some(*reaching),
            _ => None,
        };
        let is_wanted = wanted.is_some_and(|reaching| reaching <= meta.last.index);
        if meta.last.index <= server.log.committed() && !is_wanted {
            return false;
        }
        let Some(membership) = Membership::from_conf_state(&meta.conf_state) else { return false };
        if !membership.contains(server.id()) {
            return false;
        }
        if server.log.matches(meta.last) && !is_wanted {
            server.log.commit_to(meta.last.index);
            return false;
        }
        server.log.restore(snapshot);
        if let Role::Follower(follower) = &mut self.role {
            follower.wants_snapshot = None;
        }
        let next = self.switch(Changed { membership, fresh: Vec::new() });
        debug_assert_eq!(next, crate::role::Next::Stay, "a follower has nothing to step down from");
        true
    }
}
