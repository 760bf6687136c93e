//! Stores of one process: a packet goes straight into the other's inbox, without being encoded.
//!
//! Tests cut and filter here, as TinyKV's harness does: every packet between two stores, in either
//! direction, must pass all filters. A snapshot must pass with each of its pieces, as the message
//! that announces it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Packet, Receiver, SendError, SnapshotSink, SnapshotStream, Transport};
use crate::codec::message::PeerMessage;
use crate::disk::{AcquaintanceError, Acquaintances};
use crate::region::StoreId;

/// Decides which packets arrive, and may change them: from, to, packet.
pub type Filter = Arc<dyn Fn(StoreId, StoreId, &mut Packet) -> bool + Send + Sync>;

#[derive(Default)]
struct Shared {
    receivers: BTreeMap<StoreId, Arc<dyn Receiver>>,
    filters: Vec<Filter>,
    introduced: BTreeMap<StoreId, Arc<Acquaintances>>,
}

/// The stores of one process. A clone is the same network.
#[derive(Clone, Default)]
pub struct Network(Arc<RwLock<Shared>>);

impl Network {
    /// A network without stores.
    #[must_use]
    pub fn new() -> Network {
        Network::default()
    }

    /// The connection of `store` to the network.
    #[must_use]
    pub fn transport(&self, store: StoreId) -> Arc<dyn Transport> {
        Arc::new(LocalTransport { network: self.clone(), store })
    }

    /// Adds a filter: packets for which it returns false are lost.
    pub fn add_filter(&self, filter: Filter) {
        self.0.write().filters.push(filter);
    }

    /// Takes all filters away.
    pub fn clear_filters(&self) {
        self.0.write().filters.clear();
    }
}

impl Network {
    /// Whether a packet arrives.
    fn passes(&self, from: StoreId, to: StoreId, packet: &mut Packet) -> bool {
        self.0.read().filters.iter().all(|filter| filter(from, to, packet))
    }

    fn receiver(&self, of: StoreId) -> Result<Arc<dyn Receiver>, SendError> {
        self.0.read().receivers.get(&of).cloned().ok_or(SendError::Unreachable)
    }
}

struct LocalTransport {
    network: Network,
    store: StoreId,
}

impl Transport for LocalTransport {
    fn introduce(&self, acquaintances: Arc<Acquaintances>) -> Result<(), AcquaintanceError> {
        let mut shared = self.network.0.write();
        let own = *acquaintances.own();
        for (&id, other) in shared.introduced.iter().filter(|(id, _)| **id != own.store) {
            other.meet(own.store, own.generation)?;
            acquaintances.meet(id, other.own().generation)?;
        }
        shared.introduced.insert(own.store, acquaintances);
        Ok(())
    }

    fn start(&self, receiver: Arc<dyn Receiver>) -> io::Result<()> {
        self.network.0.write().receivers.insert(self.store, receiver);
        Ok(())
    }

    fn send(&self, to: StoreId, mut packet: Packet) -> Result<(), SendError> {
        if !self.network.passes(self.store, to, &mut packet) {
            // Lost on the way, which the sender does not notice.
            return Ok(());
        }
        self.network.receiver(to)?.receive(self.store, packet)
    }

    fn snapshot(
        &self,
        to: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotStream>, SendError> {
        let stream = LocalStream { network: self.network.clone(), from: self.store, to, message };
        stream.check()?;
        let sink = self.network.receiver(to)?.snapshot(self.store, stream.message.clone())?;
        Ok(Box::new((stream, sink)))
    }

    fn stop(&self) {
        let mut shared = self.network.0.write();
        shared.receivers.remove(&self.store);
        // Its directory may be somebody else's from now on.
        shared.introduced.remove(&self.store);
    }
}

/// A snapshot on its way.
struct LocalStream {
    network: Network,
    from: StoreId,
    to: StoreId,
    message: PeerMessage,
}

impl LocalStream {
    /// Whether what is sent now arrives. A connection that loses something is broken.
    fn check(&self) -> Result<(), SendError> {
        let mut packet = Packet::Raft(vec![self.message.clone()]);
        let passes = self.network.passes(self.from, self.to, &mut packet);
        if passes { Ok(()) } else { Err(SendError::Unreachable) }
    }
}

impl SnapshotStream for (LocalStream, Box<dyn SnapshotSink>) {
    fn piece(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.0.check()?;
        self.1.piece(bytes)
    }

    fn finish(self: Box<Self>, bytes: u64, crc: u32) -> Result<(), SendError> {
        let (stream, sink) = *self;
        stream.check()?;
        sink.finish(bytes, crc)?;
        stream.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Museum M12, in one process. Who has stopped is asked nothing, and has nothing noted for it.
    #[test]
    fn m12_stores_that_run_remember_each_other() {
        use crate::disk::{ClusterId, Identity, SimDisk};
        let network = Network::new();
        let disks = [SimDisk::new(1), SimDisk::new(2), SimDisk::new(3)];
        let introduce = |store: u64, generation| {
            let own = Identity { store: StoreId(store), cluster: ClusterId(7), generation };
            let disk = disks[store as usize - 1].mount();
            let known = Acquaintances::open(disk, own, [].into()).expect("opens");
            network.transport(own.store).introduce(Arc::new(known))
        };
        introduce(1, 11).expect("nobody is there");
        introduce(2, 22).expect("new");
        network.transport(StoreId(1)).stop();
        let before = disks[0].content("peers").expect("store 2 was noted");
        introduce(3, 33).expect("new");
        assert_eq!(disks[0].content("peers"), Some(before));
        introduce(3, 34).expect_err("store 2 remembers");
        introduce(1, 12).expect_err("store 2 remembers");
        introduce(1, 11).expect("it is back");
    }
}
