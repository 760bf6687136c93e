//! Snapshots, as the store sees them: how many are sent at a time, and what has arrived.

use raft::Snapshot;

use super::{Ready, Store};
use crate::applier::Task;
use crate::machine::Machine;
use crate::region::{RegionId, StoreId};
use crate::snapshot::{Received, SnapshotId};

impl<M: Machine> Store<M> {
    /// Begins what may be sent of a group's snapshots now. Whether it began any.
    pub(super) fn begin_snapshots(&mut self, region: RegionId, ready: &mut Ready<M>) -> bool {
        let before = self.sending;
        let Some(peer) = self.peers.get_mut(&region) else { return false };
        while self.sending < self.config.snapshot_sends_max
            && let Some(send) = peer.begin_snapshot(self.now)
        {
            self.sending += 1;
            ready.snapshots.push(send);
        }
        self.counters.snapshots_begun += (self.sending - before) as u64;
        self.sending != before
    }

    /// A snapshot that a round handed out is on the disk of the other store, or it has failed: to
    /// be said exactly once for each.
    pub fn snapshot_sent(&mut self, id: SnapshotId, arrived: bool) {
        self.sending = self.sending.saturating_sub(1);
        let count = &mut self.counters;
        *(if arrived { &mut count.snapshots_sent } else { &mut count.snapshots_failed }) += 1;
        if let Some(peer) = self.peers.get_mut(&id.region) {
            peer.snapshot_sent(self.now, id, arrived);
        }
        self.refresh(id.region);
    }

    /// A snapshot from a peer on store `from` is on this disk. Whether the core takes it as its
    /// log; otherwise the file is of no use to anybody and the shell has to remove it
    /// ([`discard`](crate::snapshot::incoming::discard)).
    pub fn snapshot_received(&mut self, from: StoreId, received: Received) -> bool {
        let (region, sender) = (received.message.region, received.message.message.from);
        let Some(peer) = self.peers.get_mut(&region) else {
            self.counters.messages_refused += 1;
            return false;
        };
        let taken = match peer.snapshot_received(from, received) {
            Ok(taken) => taken,
            Err(why) => {
                self.refused(region, sender, &why);
                false
            }
        };
        let count = &mut self.counters;
        *(if taken { &mut count.snapshots_taken } else { &mut count.snapshots_refused }) += 1;
        self.refresh(region);
        taken
    }
}

/// What the applier has to do once the log is durably reset to `snapshot`.
pub(super) fn install<M: Machine>(region: RegionId, snapshot: &Snapshot) -> Task<M> {
    // The name that was put there when the file was received. A machine that does not find such a
    // file ends the store, which must not go on without the state.
    let file = String::from_utf8_lossy(&snapshot.data).into_owned();
    Task::Install { region, last: snapshot.meta.last, file }
}
