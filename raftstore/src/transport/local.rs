//! Stores of one process: a packet goes straight into the other's inbox, without being encoded.
//!
//! Tests cut and filter here, as TinyKV's harness does: every packet between two stores, in either
//! direction, must pass all filters.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Packet, Receiver, SendError, Transport};
use crate::region::StoreId;

/// Decides which packets arrive, and may change them: from, to, packet.
pub type Filter = Arc<dyn Fn(StoreId, StoreId, &mut Packet) -> bool + Send + Sync>;

#[derive(Default)]
struct Shared {
    receivers: BTreeMap<StoreId, Arc<dyn Receiver>>,
    filters: Vec<Filter>,
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

struct LocalTransport {
    network: Network,
    store: StoreId,
}

impl Transport for LocalTransport {
    fn start(&self, receiver: Arc<dyn Receiver>) -> io::Result<()> {
        self.network.0.write().receivers.insert(self.store, receiver);
        Ok(())
    }

    fn send(&self, to: StoreId, mut packet: Packet) -> Result<(), SendError> {
        let receiver = {
            let shared = self.network.0.read();
            if shared.filters.iter().any(|filter| !filter(self.store, to, &mut packet)) {
                // Lost on the way, which the sender does not notice.
                return Ok(());
            }
            shared.receivers.get(&to).cloned().ok_or(SendError::Unreachable)?
        };
        receiver.receive(self.store, packet)
    }

    fn stop(&self) {
        self.network.0.write().receivers.remove(&self.store);
    }
}
