//! What the application reports: writes that are on disk, and entries that are applied (T§10.2).
//!
//! Only here do votes and acknowledgements come out, and only here do membership changes take
//! effect.

use crate::error::ConfChangeError;
use crate::message::Message;
use crate::raft::Raft;
use crate::raw_node::RawNode;
use crate::ready::{Applied, Apply, Part, Report, Stable, Written};
use crate::replication;
use crate::role::Role;
use crate::types::ConfState;

impl RawNode {
    /// A write is on disk. Gives the votes and acknowledgements that may leave now. A report that
    /// comes before that of an earlier write waits for it: promises rest on all that came before.
    #[must_use = "votes and acknowledgements come out only here"]
    pub fn persisted(&mut self, written: Written) -> Vec<Message> {
        if written.number != self.reported + 1 {
            self.early.get_or_insert_default().push(written);
            return Vec::new();
        }
        let mut messages = self.unseal(written);
        if let Some(early) = self.early.take() {
            self.unseal_early(*early, &mut messages);
        }
        if let Some(tracing) = &mut self.tracing {
            tracing.sent(&messages);
        }
        messages
    }

    /// What was reported early and has waited for the report just made.
    fn unseal_early(&mut self, mut early: Vec<Written>, messages: &mut Vec<Message>) {
        while let Some(at) = early.iter().position(|w| w.number == self.reported + 1) {
            let next = early.swap_remove(at);
            messages.append(&mut self.unseal(next));
        }
        self.early = (!early.is_empty()).then(|| Box::new(early));
    }

    /// The next write is on disk. Gives its promises to others, in the buffer they waited in.
    #[inline]
    fn unseal(&mut self, written: Written) -> Vec<Message> {
        self.reported = written.number;
        let (mut promises, stable) = written.into_parts();
        let id = self.id();
        if promises.iter().any(|promise| promise.to == id) {
            for own in promises.extract_if(.., |promise| promise.to == id) {
                self.believe(own);
            }
        }
        if let Some(stable) = stable {
            self.on_stable(&stable);
        }
        self.observe();
        if promises.is_empty() {
            self.recycle(promises);
            return Vec::new();
        }
        promises
    }

    /// Its own vote or acknowledgement counts like anybody else's.
    fn believe(&mut self, own: Message) {
        let stepped = self.raft.step(own);
        debug_assert_eq!(stepped, Ok(()), "a server believes itself");
        self.observe();
    }

    /// Gives back a buffer in which messages came, for the next ones: whoever sends
    /// [`Ready::messages`](crate::Ready::messages) and what [`RawNode::persisted`] gives by draining them, and then gives
    /// the vector back, saves an allocation each time. An idle server keeps none.
    pub fn recycle(&mut self, messages: Vec<Message>) {
        self.raft.server.out.recycle(messages);
    }

    /// One part of a [`Written`], in the order of [`Written::reports`]. Gives the message if it is
    /// for somebody else.
    #[must_use = "votes and acknowledgements come out only here"]
    pub fn report(&mut self, report: Report) -> Option<Message> {
        let message = match report.0 {
            Part::Promise(promise) if promise.to == self.id() => {
                self.believe(promise);
                None
            }
            Part::Promise(promise) => Some(promise),
            Part::Stable(stable) => {
                self.on_stable(&stable);
                None
            }
        };
        self.observe();
        message
    }

    fn on_stable(&mut self, stable: &Stable) {
        let Raft { server, role } = &mut self.raft;
        // Since a change of term the entries may have been replaced, perhaps by others with the
        // same index and term that are still being written; a later report covers them (P7).
        if stable.term == server.term
            && let Some(last) = stable.last
        {
            server.log.stable_to(last);
            let index = server.log.stable();
            if let Role::Leader(leader) = role {
                replication::on_stable(server, leader, index);
            }
        }
        if let Some(snapshot) = &stable.snapshot {
            let index = snapshot.last.index;
            server.log.stable_snapshot_to(index);
            server.log.applied_to(index, 0);
            self.raft.leave_joint_if_due(index);
        }
    }

    /// The state machine has applied what an [`Apply`] held. Membership changes in it take effect
    /// now, unless they were refused; gives the new membership if there was one.
    ///
    /// # Errors
    /// If a change could not be made from the configuration there was, such as removing the last
    /// voter. It has had no effect, here and on all servers alike; everything else is applied.
    pub fn applied(&mut self, applied: Applied) -> Result<Option<ConfState>, ConfChangeError> {
        let Applied(mut apply) = applied;
        let switched =
            if apply.entries.has_changes() { self.switch_all(&mut apply) } else { Ok(None) };
        let server = &mut self.raft.server;
        if let Some(last) = apply.entries.last() {
            server.log.applied_to(last.index, apply.bytes);
            if let Role::Leader(leader) = &mut self.raft.role {
                let bytes = apply.entries.payload_bytes_of(server.term);
                leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(bytes);
                self.raft.leave_joint_if_due(last.index);
            }
        }
        self.observe();
        switched
    }

    /// Puts all membership changes in `apply` in force.
    fn switch_all(&mut self, apply: &mut Apply) -> Result<Option<ConfState>, ConfChangeError> {
        let mut result = Ok(None);
        while apply.next_conf_change().is_some() {
            let switched = self.apply_conf_change(apply);
            result = result.and_then(|before| Ok(switched?.or(before)));
        }
        result
    }

    /// Puts the next membership change in `apply` in force ahead of [`RawNode::applied`]; gives
    /// the new membership, or `None` if there is no further change.
    ///
    /// # Errors
    /// If the change cannot be made from the configuration there is; it has no effect.
    pub fn apply_conf_change(
        &mut self,
        apply: &mut Apply,
    ) -> Result<Option<ConfState>, ConfChangeError> {
        // A snapshot that came meanwhile has brought the membership as of its own end.
        apply.switched = apply.switched.max(self.raft.server.log.compacted().index);
        let Some(change) = apply.next_conf_change() else { return Ok(None) };
        let (index, entry) = (change.id.index, change.entry.clone());
        apply.switched = index;
        let switched = self.raft.apply_conf_change(&entry);
        self.observe();
        switched.map(Some)
    }
}
