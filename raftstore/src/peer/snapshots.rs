//! A peer's part in snapshots: those it sends as the leader, and the one it takes as a follower.

use raft::{Body, StepError};

use super::Peer;
use crate::applier::Task;
use crate::codec::message::PeerMessage;
use crate::machine::Machine;
use crate::region::StoreId;
use crate::snapshot::{Received, SendSnapshot, SnapshotId};

impl<M: Machine> Peer<M> {
    /// Whether a round has something to do about snapshots.
    pub(super) fn has_snapshot_work(&self, now: u64) -> bool {
        self.snapshots.is_due_view() || self.snapshots.is_due(now)
    }

    /// Asks for a view if the core wants one.
    pub(super) fn ask_for_view(&mut self, tasks: &mut Vec<Task<M>>) {
        if self.snapshots.wants_view() {
            tasks.push(Task::Snapshot { region: self.region.id });
        }
    }

    /// The core sends a snapshot.
    pub(super) fn send_snapshot(&mut self, now: u64, to: StoreId, message: PeerMessage) {
        let peer = message.message.to;
        if !self.snapshots.send(now, to, message) {
            self.raw.report_snapshot(peer, false);
        }
    }

    /// The next stream to begin, if one may.
    pub(crate) fn begin_snapshot(&mut self, now: u64) -> Option<SendSnapshot> {
        let (term, compacted) = (self.raw.term(), self.raw.compacted().index);
        loop {
            match self.snapshots.begin(now, term, compacted)? {
                Ok(send) => return Some(send),
                Err(peer) => self.raw.report_snapshot(peer, false),
            }
        }
    }

    /// A stream has ended.
    pub(crate) fn snapshot_sent(&mut self, now: u64, id: SnapshotId, arrived: bool) {
        if self.snapshots.sent(now, id, arrived) {
            self.raw.report_snapshot(id.peer, arrived);
        }
    }

    /// A snapshot has arrived. Whether the core takes it as its log.
    pub(crate) fn snapshot_received(
        &mut self,
        from: StoreId,
        received: Received,
    ) -> Result<bool, StepError> {
        let Body::InstallSnapshot { snapshot } = &received.message.message.body else {
            return Ok(false);
        };
        let (last, before) = (snapshot.meta.last, self.raw.compacted());
        self.step(from, received.message.message)?;
        // The log can begin at another place only because it was replaced.
        Ok(before != last && self.raw.compacted() == last)
    }
}
