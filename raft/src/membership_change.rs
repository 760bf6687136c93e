//! Membership changes as they are proposed and as they take effect (§6, T§4).

use crate::conf_change::ConfChange;
use crate::entry::Entry;
use crate::error::ConfChangeError;
use crate::membership::Changed;
use crate::raft::Raft;
use crate::read;
use crate::replication;
use crate::role::{Leader, Next, Role};
use crate::server::Server;
use crate::types::{ConfState, Index};

/// Whether the leader may append this change: at most one is pending at a time, and a joint
/// configuration is left before another change is made (T§4.1, T§4.3).
pub(crate) fn may_propose(server: &Server, leader: &Leader, entry: &Entry) -> bool {
    if server.config.disable_conf_change_validation {
        return true;
    }
    let Ok(change) = ConfChange::decode(&entry.data) else { return false };
    let is_pending = leader.pending_conf_index > server.log.applied();
    !is_pending && server.membership.is_joint() == change.changes.is_empty()
}

impl Raft {
    /// A committed change is applied: from here on the new configuration decides.
    pub(crate) fn apply_conf_change(
        &mut self,
        entry: &Entry,
    ) -> Result<ConfState, ConfChangeError> {
        let change = ConfChange::decode(&entry.data)?;
        let changed = self.server.membership.changed(&change)?;
        let next = self.switch(changed);
        self.become_next(next);
        Ok(self.server.membership.conf_state())
    }

    /// Puts a membership in force.
    pub(crate) fn switch(&mut self, changed: Changed) -> Next {
        let server = &mut self.server;
        let last = server.log.last();
        if let Role::Leader(leader) = &mut self.role {
            changed.reconcile(&mut leader.progress, last);
            if let Some(lease) = &mut leader.lease {
                lease.restart();
            }
        }
        server.membership = changed.membership;
        let Role::Leader(leader) = &mut self.role else { return Next::Stay };
        if !server.membership.is_voter(server.id()) {
            // Deposed by its own log. Without the option it goes on until somebody else is
            // elected, but replicates nothing of its own accord.
            return if server.config.step_down_on_removal {
                Next::Follow { term: server.term, leader: None }
            } else {
                Next::Stay
            };
        }
        // The quorum may have become smaller: more may be committed now, and more reads confirmed.
        if !replication::commit_and_tell(server, leader) {
            replication::probe_all(server, leader);
        }
        read::confirm(server, leader);
        if leader.transferee.is_some_and(|id| !server.membership.is_voter(id)) {
            leader.transferee = None;
        }
        Next::Stay
    }

    /// What a quorum is has changed, but not the members.
    pub(crate) fn recount(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            replication::commit_and_tell(&mut self.server, leader);
        }
    }

    /// Everything up to `index` is applied. A leader leaves a joint configuration that is to be
    /// left automatically, once: when the change that entered it is applied.
    pub(crate) fn leave_joint_if_due(&mut self, applied: Index) {
        let Role::Leader(leader) = &mut self.role else { return };
        let server = &mut self.server;
        if server.membership.auto_leave && applied >= leader.pending_conf_index {
            let mut leave = Entry {
                kind: crate::entry::EntryKind::ConfChangeV2,
                data: ConfChange::leave_joint().encode(),
            };
            // Refused during a transfer; a tick tries again.
            let _ = replication::propose(server, leader, std::slice::from_mut(&mut leave));
        }
    }
}
