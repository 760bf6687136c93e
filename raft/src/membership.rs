//! Who is in the group, and how that changes (§6, T§4).
//!
//! A change of one voter keeps any two majorities overlapping, so it is made at once. Any other
//! goes through a *joint* configuration, in which every decision needs a majority of the old and
//! of the new voters:
//!
//! ```text
//!  voters={1 2 3} ─ enter ─► voters={2 3 4}&&{1 2 3} ─ leave ─► voters={2 3 4}
//! ```
//!
//! Deviation: as in etcd, a configuration takes effect when its entry is *applied*, not when it is
//! appended. It is safe because at most one change is pending at a time, a server with a committed
//! but unapplied change does not campaign, and a quorum of the old configuration has committed it.
//!
//! Learners get the log but decide nothing. A voter that is demoted while it still votes in the
//! outgoing half waits in *learners next* until the joint configuration is left.

use std::fmt;

use crate::conf_change::{ConfChange, ConfChangeKind, ConfChangeSingle};
use crate::error::ConfChangeError;
use crate::progress::{Progress, ProgressMap};
use crate::quorum::Joint;
use crate::types::{ConfState, Index, NodeId};

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those who decide.
    pub voters: Joint,
    /// Those who only learn, ascending.
    pub learners: Vec<NodeId>,
    /// Voters of the outgoing half who are to become learners, ascending.
    pub learners_next: Vec<NodeId>,
    /// Leave the joint configuration as soon as it is applied.
    pub auto_leave: bool,
}

/// A changed membership, not yet in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The members.
    pub membership: Membership,
    /// Members who were not there before, or left and came back by the same change: nothing is
    /// known of their logs.
    pub fresh: Vec<NodeId>,
}

fn insert(ids: &mut Vec<NodeId>, id: NodeId) {
    if let Err(at) = ids.binary_search(&id) {
        ids.insert(at, id);
    }
}

fn remove(ids: &mut Vec<NodeId>, id: NodeId) {
    if let Ok(at) = ids.binary_search(&id) {
        ids.remove(at);
    }
}

impl Membership {
    /// The membership that a [`ConfState`] describes; `None` if no group can have come to it: a
    /// server both voter and learner, or an outgoing half without an incoming one.
    #[must_use]
    pub fn from_conf_state(state: &ConfState) -> Option<Membership> {
        let sorted = |ids: &[NodeId]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let membership = Membership {
            voters: Joint {
                incoming: state.voters.iter().copied().collect(),
                outgoing: state.voters_outgoing.iter().copied().collect(),
            },
            learners: sorted(&state.learners),
            learners_next: sorted(&state.learners_next),
            auto_leave: state.auto_leave,
        };
        let voters = &membership.voters;
        let separate = !membership.learners.iter().any(|id| voters.contains(*id));
        let next = membership
            .learners_next
            .iter()
            .all(|id| voters.outgoing.contains(*id) && !voters.incoming.contains(*id));
        let joint = !membership.is_joint() || !voters.incoming.is_empty();
        (separate && next && joint).then_some(membership)
    }

    /// As it is stored in snapshots.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.incoming.voters().to_vec(),
            voters_outgoing: self.voters.outgoing.voters().to_vec(),
            learners: self.learners.clone(),
            learners_next: self.learners_next.clone(),
            auto_leave: self.auto_leave,
        }
    }

    /// Whether two configurations decide together.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.voters.outgoing.is_empty()
    }

    /// Whether `id` only learns.
    #[must_use]
    pub fn is_learner(&self, id: NodeId) -> bool {
        self.learners.binary_search(&id).is_ok()
    }

    /// Whether `id` votes, in either half.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(id)
    }

    /// Whether `id` is a member of any kind.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.is_learner(id)
    }

    /// Whether `id` is the only one who votes.
    #[must_use]
    pub fn is_singleton(&self, id: NodeId) -> bool {
        self.voters.incoming.voters() == [id] && !self.is_joint()
    }

    /// All members, voters first.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.voters.voters().chain(self.learners.iter().copied())
    }

    /// The membership after `change`, by whichever way it takes.
    ///
    /// # Errors
    /// If the change cannot be made from here; nothing has changed then.
    pub fn changed(&self, change: &ConfChange) -> Result<Changed, ConfChangeError> {
        if change.is_leave_joint() {
            self.leave_joint()
        } else if let Some(auto_leave) = change.enters_joint() {
            self.enter_joint(auto_leave, &change.changes)
        } else {
            self.simple(&change.changes)
        }
    }

    /// Changes at most one voter, at once.
    ///
    /// # Errors
    /// While joint, with more than one voter changed, or with none left.
    pub fn simple(&self, changes: &[ConfChangeSingle]) -> Result<Changed, ConfChangeError> {
        if self.is_joint() {
            return Err(ConfChangeError::SimpleWhileJoint);
        }
        let changed = self.with(self.clone(), changes)?;
        let (before, after) = (&self.voters.incoming, &changed.membership.voters.incoming);
        let gone = before.voters().iter().filter(|id| !after.contains(**id)).count();
        let come = after.voters().iter().filter(|id| !before.contains(**id)).count();
        if gone + come > 1 {
            return Err(ConfChangeError::TooManyChanges);
        }
        Ok(changed)
    }

    /// Enters the joint configuration of these voters and those after `changes`.
    ///
    /// # Errors
    /// If there is one already, or there would be no voters in one half.
    pub fn enter_joint(
        &self,
        auto_leave: bool,
        changes: &[ConfChangeSingle],
    ) -> Result<Changed, ConfChangeError> {
        if self.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if self.voters.incoming.is_empty() {
            return Err(ConfChangeError::ZeroVoters);
        }
        let mut joint = self.clone();
        joint.voters.outgoing = joint.voters.incoming.clone();
        joint.auto_leave = auto_leave;
        self.with(joint, changes)
    }

    /// Leaves the joint configuration: only the incoming half remains.
    ///
    /// # Errors
    /// If there is none.
    pub fn leave_joint(&self) -> Result<Changed, ConfChangeError> {
        if !self.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        let mut membership = self.clone();
        for id in std::mem::take(&mut membership.learners_next) {
            insert(&mut membership.learners, id);
        }
        membership.voters.outgoing = crate::quorum::Majority::default();
        membership.auto_leave = false;
        Ok(Changed { membership, fresh: Vec::new() })
    }

    /// `base` with `changes` made to the incoming half; who was a member before is known.
    fn with(
        &self,
        base: Membership,
        changes: &[ConfChangeSingle],
    ) -> Result<Changed, ConfChangeError> {
        let mut changed = Changed { membership: base, fresh: Vec::new() };
        for change in changes {
            match change.kind {
                ConfChangeKind::AddNode => changed.make_voter(change.node),
                ConfChangeKind::AddLearnerNode => changed.make_learner(change.node),
                ConfChangeKind::RemoveNode => changed.membership.remove(change.node),
                ConfChangeKind::UpdateNode => {}
            }
        }
        if changed.membership.voters.incoming.is_empty() {
            return Err(ConfChangeError::RemovedAllVoters);
        }
        changed.fresh.retain(|id| changed.membership.contains(*id));
        Ok(changed)
    }

    fn remove(&mut self, id: NodeId) {
        self.voters.incoming.remove(id);
        remove(&mut self.learners, id);
        remove(&mut self.learners_next, id);
    }
}

impl Changed {
    fn make_voter(&mut self, id: NodeId) {
        self.note(id);
        remove(&mut self.membership.learners, id);
        remove(&mut self.membership.learners_next, id);
        self.membership.voters.incoming.insert(id);
    }

    fn make_learner(&mut self, id: NodeId) {
        if self.membership.is_learner(id) {
            return;
        }
        self.note(id);
        self.membership.remove(id);
        // A server is never voter and learner at once: while it votes in the outgoing half it
        // waits.
        if self.membership.voters.outgoing.contains(id) {
            insert(&mut self.membership.learners_next, id);
        } else {
            insert(&mut self.membership.learners, id);
        }
    }

    /// Notes that `id` comes in, if it is not a member right now.
    fn note(&mut self, id: NodeId) {
        if !self.membership.contains(id) {
            insert(&mut self.fresh, id);
        }
    }
}

impl Changed {
    /// Brings the progress of a leader (whose last index is `last`) in line with the membership.
    /// New members count as active, so that check-quorum does not depose the leader before they
    /// had a chance to answer.
    pub fn reconcile(&self, progress: &mut ProgressMap, last: Index) {
        let membership = &self.membership;
        progress.retain(|id| membership.contains(id) && self.fresh.binary_search(&id).is_err());
        for id in &self.fresh {
            let mut new = Progress::new(last.max(1), false);
            new.recent_active = true;
            progress.insert(*id, new);
        }
        for (id, pr) in progress.iter_mut() {
            pr.is_learner = membership.is_learner(id);
        }
    }
}

impl fmt::Display for Membership {
    /// `voters=(1 2 3)&&(1 2) learners=(4) learners_next=(5) autoleave`, ids in hexadecimal as in
    /// etcd.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[NodeId]| {
            let ids: Vec<String> = ids.iter().map(|id| format!("{:x}", id.get())).collect();
            format!("({})", ids.join(" "))
        };
        write!(f, "voters={}", list(self.voters.incoming.voters()))?;
        if self.is_joint() {
            write!(f, "&&{}", list(self.voters.outgoing.voters()))?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners={}", list(&self.learners))?;
        }
        if !self.learners_next.is_empty() {
            write!(f, " learners_next={}", list(&self.learners_next))?;
        }
        if self.auto_leave {
            f.write_str(" autoleave")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
