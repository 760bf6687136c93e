//! Stores of one process as the program runs them, each with its port for clients, on a network
//! that can lose packets and break connections.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv::store::{RunningStore, StoreOptions};
use parking_lot::Mutex;
use raft::RoleKind;
use raftstore::codec::message::PeerMessage;
use raftstore::disk::{AcquaintanceError, Acquaintances, ClusterId};
use raftstore::store::RegionStatus;
use raftstore::transport::local::Network;
use raftstore::transport::{Packet, Receiver, SendError, SnapshotStream, Transport};
use raftstore::{RegionId, StoreId};
use tempfile::TempDir;

use crate::client::Client;

/// Far more than anything takes that does not hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition; looking again is all that the time in between is for.
pub(crate) fn until<T>(what: &str, mut is_there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = is_there() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where what is sent to each store goes.
type Receivers = Arc<Mutex<BTreeMap<StoreId, Arc<dyn Receiver>>>>;

/// A store's connections. Those within a process never break, so the test says when one does.
struct Wire {
    store: StoreId,
    inner: Arc<dyn Transport>,
    receivers: Receivers,
}

impl Transport for Wire {
    fn introduce(&self, acquaintances: Arc<Acquaintances>) -> Result<(), AcquaintanceError> {
        self.inner.introduce(acquaintances)
    }

    fn start(&self, receiver: Arc<dyn Receiver>) -> io::Result<()> {
        self.receivers.lock().insert(self.store, Arc::clone(&receiver));
        self.inner.start(receiver)
    }

    fn send(&self, to: StoreId, packet: Packet) -> Result<(), SendError> {
        self.inner.send(to, packet)
    }

    fn snapshot(
        &self,
        to: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotStream>, SendError> {
        self.inner.snapshot(to, message)
    }

    fn stop(&self) {
        self.receivers.lock().remove(&self.store);
        self.inner.stop();
    }
}

pub(crate) struct Cluster {
    network: Network,
    receivers: Receivers,
    stores: BTreeMap<StoreId, RunningStore>,
    _dir: TempDir,
}

impl Cluster {
    /// So many stores, with short ticks and what `set` makes of their options.
    pub(crate) fn start(count: u64, set: impl Fn(&mut StoreOptions)) -> Cluster {
        let dir = TempDir::new().expect("a directory");
        let mut cluster = Cluster {
            network: Network::new(),
            receivers: Receivers::default(),
            stores: BTreeMap::new(),
            _dir: dir,
        };
        let members: Vec<StoreId> = (1..=count).map(StoreId).collect();
        for &store in &members {
            let data = cluster._dir.path().join(format!("store{store}"));
            let mut options = StoreOptions::new(store, ClusterId(7), members.clone(), data);
            options.node.tick = Duration::from_millis(20);
            options.node.stop_timeout = Duration::from_millis(100);
            options.server.stop_grace = Duration::from_millis(100);
            set(&mut options);
            let inner = cluster.network.transport(store);
            let wire = Wire { store, inner, receivers: Arc::clone(&cluster.receivers) };
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let running = RunningStore::start(options, Arc::new(wire), listener).expect("starts");
            cluster.stores.insert(store, running);
        }
        cluster
    }

    pub(crate) fn client(&self, of: StoreId) -> Client {
        Client::connect(self.stores[&of].address())
    }

    pub(crate) fn status(&self, of: StoreId) -> RegionStatus {
        self.stores[&of].node().status(RegionId::FIRST).expect("there is one region")
    }

    /// Waits until somebody leads and everybody knows.
    pub(crate) fn leader(&self) -> StoreId {
        self.leader_of(&self.stores())
    }

    /// Waits until one of these leads, and they know.
    pub(crate) fn leader_of(&self, stores: &[StoreId]) -> StoreId {
        until("a leader that everybody knows", || {
            let mut statuses = stores.iter().map(|&store| (store, self.status(store)));
            let (leader, _) = statuses.clone().find(|(_, s)| s.role == RoleKind::Leader)?;
            statuses.all(|(_, s)| s.leader == Some(leader)).then_some(leader)
        })
    }

    pub(crate) fn stores(&self) -> Vec<StoreId> {
        self.stores.keys().copied().collect()
    }

    /// All stores but one.
    pub(crate) fn others(&self, than: StoreId) -> Vec<StoreId> {
        self.stores().into_iter().filter(|&store| store != than).collect()
    }

    /// A leader and a store that follows it.
    pub(crate) fn leader_and_follower(&self) -> (StoreId, StoreId) {
        let leader = self.leader();
        (leader, self.others(leader)[0])
    }

    /// From now on packets to and from that store are lost.
    pub(crate) fn cut_off(&self, store: StoreId) {
        self.network.add_filter(Arc::new(move |from, to, _| from != store && to != store));
    }

    /// From now on answers of one store to another's requests are lost.
    pub(crate) fn lose_replies(&self) {
        self.network.add_filter(Arc::new(|_, _, packet| !matches!(packet, Packet::Reply { .. })));
    }

    pub(crate) fn heal(&self) {
        self.network.clear_filters();
    }

    /// The connection between two stores breaks, which both are told.
    pub(crate) fn break_connection(&self, one: StoreId, other: StoreId) {
        let receiver = |of: StoreId| self.receivers.lock().get(&of).cloned().expect("it runs");
        receiver(one).lost(other);
        receiver(other).lost(one);
    }

    /// Stops a store, which may have failed.
    pub(crate) fn stop(&mut self, store: StoreId) {
        let running = self.stores.remove(&store).expect("it runs");
        // Whoever lets one fail has looked at what it says.
        let _ = running.stop();
    }

    /// Three stores whose leader is cut off with a command in its log that it can't commit any more,
    /// that leader, and the client who waits for the answer.
    pub(crate) fn stranded(
        set: impl Fn(&mut StoreOptions),
        command: &str,
    ) -> (Cluster, StoreId, Client) {
        until("a command in the log of a leader that is cut off", || {
            // A new one each time: what its stores publish may be old, but is of no other command.
            let cluster = Cluster::start(3, &set);
            let leader = cluster.leader();
            cluster.cut_off(leader);
            let mut client = cluster.client(leader);
            client.send(command);
            // It leads for a while yet, as long as all is quick.
            let is_in_its_log = until("the command to be proposed, or not", || {
                let status = cluster.status(leader);
                let is_there = status.pending_proposals == 1;
                (is_there || status.role != RoleKind::Leader).then_some(is_there)
            });
            is_in_its_log.then_some((cluster, leader, client))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for running in self.stores.values() {
            let _ = running.stop();
        }
    }
}
