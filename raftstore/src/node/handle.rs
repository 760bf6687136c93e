//! What the rest of the program holds of a node.

use std::sync::Arc;

use bytes::Bytes;

use super::metrics::{NodeCounters, NodeMetrics};
use super::shared::{Input, Shared};
use super::{NodeError, Service};
use crate::command::{self, BODY_BYTES_MAX, CommandKind};
use crate::machine::{Callback, Machine, Refusal};
use crate::region::{Epoch, RegionId, StoreId};
use crate::store::RegionStatus;
use crate::transport::{Packet, SendError};

/// A running store. Clones are the same one; dropping them all does not stop it,
/// [`NodeHandle::shutdown`] does. Nothing but `wait` and `shutdown` blocks.
pub struct NodeHandle<M: Machine>(pub(super) Arc<Shared<M>>);

impl<M: Machine> Clone for NodeHandle<M> {
    fn clone(&self) -> NodeHandle<M> {
        NodeHandle(Arc::clone(&self.0))
    }
}

/// A command to propose. Its body need not be owned: it is copied once, into the log entry.
pub struct Proposal<C, B = Bytes> {
    /// The region it is for.
    pub region: RegionId,
    /// The region's epoch, as the client knows it.
    pub epoch: Epoch,
    /// What it says.
    pub body: B,
    /// Who waits for what becomes of it.
    pub callback: C,
}

impl<M: Machine> NodeHandle<M> {
    pub(super) fn of(shared: Arc<Shared<M>>) -> NodeHandle<M> {
        NodeHandle(shared)
    }

    /// Who it is.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.0.store
    }

    /// Offers a command to the region's log. The callback is answered exactly once, perhaps
    /// before this returns; so may be those of others, on this thread.
    pub fn propose(&self, proposal: Proposal<M::Callback, impl AsRef<[u8]>>) {
        let Proposal { region, epoch, body, callback } = proposal;
        let body = body.as_ref();
        let bytes = body.len();
        if bytes > BODY_BYTES_MAX {
            return callback.refuse(Refusal::TooLarge { bytes, max: BODY_BYTES_MAX });
        }
        // Here and not in the loop: there may be more threads that propose.
        let data = command::encode(region, epoch, CommandKind::Application, body);
        self.0.offer(Input::Propose { region, epoch, data, callback }, bytes);
    }

    /// Runs a read on this store once it has applied all that was committed when this was called.
    /// The query is answered exactly once, perhaps before this returns.
    pub fn read(&self, region: RegionId, query: M::Query) {
        self.0.offer(Input::Read { region, query }, 0);
    }

    /// Asks that `to` lead the region, or, for `None`, the member that lags least. Nothing comes
    /// of it if this store does not lead, or `to` cannot.
    pub fn transfer_leader(&self, region: RegionId, to: Option<StoreId>) {
        self.0.tell(Input::Transfer { region, to });
    }

    /// Lets this store stand for election in the region now.
    pub fn campaign(&self, region: RegionId) {
        self.0.tell(Input::Campaign(region));
    }

    /// The state of a region: its role and leader as of the last round, everything else at most a
    /// tick old.
    #[must_use]
    pub fn status(&self, region: RegionId) -> Option<RegionStatus> {
        self.0.published.lock().regions.get(&region).cloned()
    }

    /// The regions on this store, by ascending id, as [`NodeHandle::status`] says.
    #[must_use]
    pub fn statuses(&self) -> Vec<RegionStatus> {
        self.0.published.lock().regions.values().cloned().collect()
    }

    /// What was counted, at most a tick ago.
    #[must_use]
    pub fn counters(&self) -> NodeCounters {
        self.0.counters()
    }

    /// All there is to see of it; what the step function counts is at most a tick old.
    #[must_use]
    pub fn metrics(&self) -> NodeMetrics {
        self.0.metrics()
    }

    /// Gives requests and replies of other stores to `service` from now on; until then they are
    /// lost. There is one service for a node's life: a second one is not taken.
    pub fn set_service(&self, service: Arc<dyn Service>) {
        // The first one stays.
        let _ = self.0.service.set(service);
    }

    /// Sends a request to another store; the answer comes to the service. It is sent at most
    /// once.
    ///
    /// # Errors
    /// If it will certainly not arrive.
    pub fn request(&self, to: StoreId, id: u64, body: Bytes) -> Result<(), SendError> {
        self.0.transport.send(to, Packet::Request { id, body })
    }

    /// Answers a request of another store.
    ///
    /// # Errors
    /// If it will certainly not arrive.
    pub fn reply(&self, to: StoreId, id: u64, body: Bytes) -> Result<(), SendError> {
        self.0.transport.send(to, Packet::Reply { id, body })
    }

    /// Whether the store has failed: it acknowledges nothing any more.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.0.is_failed()
    }

    /// Whether all its threads have ended, and its log is closed.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.0.is_ended()
    }

    /// Waits until all its threads have ended and its log is closed.
    ///
    /// # Errors
    /// With the reason, if it was not asked to stop.
    pub fn wait(&self) -> Result<(), NodeError> {
        self.0.wait()
    }

    /// Stops it: hands leadership over, answers everybody, syncs the log, ends the threads. Takes
    /// little more than the configured time to stop, unless the disk stands still.
    ///
    /// # Errors
    /// If it had failed, or failed while stopping.
    pub fn shutdown(&self) -> Result<(), NodeError> {
        self.0.turn.close();
        self.0.tell(Input::Stop);
        self.0.wait()
    }
}
