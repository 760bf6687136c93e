//! Real threads, real time, real files; waiting is for answers, never for a while.

mod pauses;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::RoleKind;
use tempfile::TempDir;

use super::*;
use crate::codec::message::PeerMessage;
use crate::disk::sim::Fault;
use crate::disk::{ClusterId, DirDisk, Disk, Identity, Route, SimDisk};
use crate::machine::{Refusal, Unknown};
use crate::region::{Epoch, StoreId};
use crate::store::RegionStatus;
use crate::testing::{Answers, Asker, Outcome, Toy, ToyCheckpoint};
use crate::transport::local::Network;
use crate::transport::tcp::{TcpConfig, TcpTransport};
use crate::transport::{Packet, SendError};
use crate::wal::WalOptions;

const R1: RegionId = RegionId::FIRST;
const EPOCH: Epoch = Epoch { version: 1, conf_ver: 1 };
const STORES: [StoreId; 3] = [StoreId(1), StoreId(2), StoreId(3)];
const LONG: Duration = Duration::from_secs(60);

/// Where a store's log is, and its checkpoint.
struct Place {
    disk: Arc<dyn Disk>,
    checkpoint: ToyCheckpoint,
    /// Kept for its files.
    _dir: Option<TempDir>,
}

impl Place {
    fn in_dir(route: Route) -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = dir_disk(dir.path(), route);
        Place { disk, checkpoint: ToyCheckpoint::default(), _dir: Some(dir) }
    }

    fn simulated(drive: &SimDisk) -> Place {
        Place { disk: drive.mount(), checkpoint: ToyCheckpoint::default(), _dir: None }
    }
}

fn dir_disk(path: &Path, route: Route) -> Arc<dyn Disk> {
    Arc::new(DirDisk::open(path, route).expect("a directory"))
}

struct Cluster {
    network: Network,
    places: BTreeMap<StoreId, Place>,
    nodes: BTreeMap<StoreId, NodeHandle<Toy>>,
    answers: Answers,
    asked: AtomicU64,
    set: Box<dyn Fn(&mut NodeConfig)>,
}

impl Cluster {
    fn new(places: [Place; 3], set: impl Fn(&mut NodeConfig) + 'static) -> Cluster {
        let mut cluster = Cluster {
            network: Network::new(),
            places: STORES.into_iter().zip(places).collect(),
            nodes: BTreeMap::new(),
            answers: Answers::default(),
            asked: AtomicU64::new(0),
            set: Box::new(set),
        };
        STORES.iter().for_each(|&store| cluster.start(store));
        cluster
    }

    fn in_dirs(set: impl Fn(&mut NodeConfig) + 'static) -> Cluster {
        // Nobody can tell from outside by which route a store writes.
        let routes = [Route::Direct, Route::Written, Route::Mapped];
        Cluster::new(routes.map(Place::in_dir), set)
    }

    fn start(&mut self, id: StoreId) {
        let transport = self.network.transport(id);
        self.start_with(id, transport);
    }

    fn start_with(&mut self, id: StoreId, transport: Arc<dyn Transport>) {
        let place = &self.places[&id];
        let identity = Identity { store: id, cluster: ClusterId(1), generation: id.0 };
        let options = WalOptions { segment_bytes: 1 << 20 };
        let (wal, recovered) =
            Wal::open(Arc::clone(&place.disk), &identity, options).expect("opens");
        let mut config = NodeConfig::new(StoreConfig::new(id));
        config.tick = Duration::from_millis(10);
        (self.set)(&mut config);
        let machine = Toy::open(&place.checkpoint, 0);
        let log = OpenLog::wal(wal, recovered.groups);
        let node = NodeHandle::start(config, machine, Region::first(&STORES), log, transport);
        self.nodes.insert(id, node.expect("starts"));
    }

    fn asker(&self) -> (u64, Asker) {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        (id, self.answers.asker(id))
    }

    fn propose(&self, to: StoreId, body: &str) -> u64 {
        let (id, callback) = self.asker();
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.nodes[&to].propose(Proposal { region: R1, epoch: EPOCH, body, callback });
        id
    }

    fn read(&self, from: StoreId) -> u64 {
        let (id, query) = self.asker();
        self.nodes[&from].read(R1, query);
        id
    }

    fn status(&self, id: StoreId) -> RegionStatus {
        self.nodes[&id].status(R1).expect("the region is there")
    }

    /// Waits until somebody among `of` leads.
    fn leader(&self, of: &[StoreId]) -> StoreId {
        let leads = |id: &&StoreId| self.status(**id).role == RoleKind::Leader;
        wait("a leader", || of.iter().find(leads).copied())
    }

    /// Has a command applied, by whoever leads.
    fn must_apply(&self, of: &[StoreId], body: &str) -> StoreId {
        wait("a command to be applied", || {
            let leader = self.leader(of);
            let id = self.propose(leader, body);
            match self.answers.wait(id) {
                Outcome::Applied(_) => Some(leader),
                Outcome::Refused(Refusal::NotLeader { .. }) | Outcome::Stale => None,
                other => panic!("{other:?}"),
            }
        })
    }

    fn finish(mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        nodes.values().for_each(|node| node.0.tell(shared::Input::Stop));
        for node in nodes.values() {
            // Those that failed have been looked at.
            let _ = node.wait();
        }
        let asked = self.asked.load(Ordering::Relaxed);
        assert_eq!(self.answers.len() as u64, asked, "each asker is answered exactly once");
    }
}

fn wait<T>(what: &str, mut is_there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = is_there() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn many_clients_are_answered_and_seen_by_reads() {
    for sync in [SyncMode::Writer, SyncMode::Inline] {
        let cluster = Cluster::in_dirs(move |config| config.sync = sync);
        let leader = cluster.must_apply(&STORES, "first");
        let mut ids: Vec<_> = (0..2000).map(|n| cluster.propose(leader, &n.to_string())).collect();
        for id in ids.drain(..) {
            assert!(matches!(cluster.answers.wait(id), Outcome::Applied(_)), "{sync:?}");
        }
        for store in STORES {
            assert_eq!(cluster.answers.wait(cluster.read(store)), Outcome::Read(2001), "{sync:?}");
        }
        let counters = wait("a tick", || {
            Some(cluster.nodes[&leader].counters()).filter(|c| c.store.proposals >= 2001)
        });
        assert!(counters.syncs < 2001, "{sync:?}: {} syncs, so batches form", counters.syncs);
        assert!(counters.syncs > 0 && counters.log_bytes > 0, "{sync:?}: {counters:?}");
        cluster.finish();
    }
}

#[test]
fn everything_acknowledged_is_there_after_a_restart() {
    let mut cluster = Cluster::in_dirs(|config| config.store.compact_entries = 100);
    let leader = cluster.must_apply(&STORES, "first");
    let ids: Vec<_> = (0..1000).map(|n| cluster.propose(leader, &n.to_string())).collect();
    ids.iter().for_each(|&id| assert!(matches!(cluster.answers.wait(id), Outcome::Applied(_))));
    wait("the log to be compacted", || (cluster.status(leader).compacted > 500).then_some(()));
    for store in STORES {
        assert!(cluster.nodes[&store].shutdown().is_ok());
        assert!(cluster.nodes[&store].is_ended());
    }
    STORES.iter().for_each(|&store| cluster.start(store));
    cluster.must_apply(&STORES, "last");
    for store in STORES {
        assert_eq!(cluster.answers.wait(cluster.read(store)), Outcome::Read(1002));
    }
    cluster.finish();
}

#[test]
fn stopping_the_leader_hands_over_at_once() {
    // Elections by timeout take a minute here, so the new leader was made by the old one.
    let cluster = Cluster::in_dirs(|config| config.store.election_ticks = 6000);
    cluster.nodes[&STORES[0]].campaign(R1);
    let leader = cluster.must_apply(&STORES, "first");
    let pending: Vec<_> = (0..100).map(|n| cluster.propose(leader, &n.to_string())).collect();
    let started = Instant::now();
    assert!(cluster.nodes[&leader].shutdown().is_ok());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    for id in pending {
        assert!(matches!(cluster.answers.wait(id), Outcome::Applied(_)), "there was time");
    }
    let late = cluster.propose(leader, "late");
    assert_eq!(cluster.answers.wait(late), Outcome::Refused(Refusal::ShuttingDown));
    let rest: Vec<_> = STORES.into_iter().filter(|&id| id != leader).collect();
    let next = cluster.must_apply(&rest, "last");
    assert_ne!(next, leader);
    assert_eq!(cluster.answers.wait(cluster.read(next)), Outcome::Read(102));
    cluster.finish();
}

/// K5: what may still commit is not said to have failed.
#[test]
fn a_leader_without_followers_stops_in_bounded_time() {
    let cluster = Cluster::in_dirs(|config| config.stop_timeout = Duration::from_millis(200));
    let leader = cluster.must_apply(&STORES, "first");
    cluster.network.add_filter(Arc::new(|_, _, _| false));
    let pending = cluster.propose(leader, "x");
    wait("the proposal to be appended", || {
        (cluster.status(leader).pending_proposals == 1).then_some(())
    });
    let started = Instant::now();
    assert!(cluster.nodes[&leader].shutdown().is_ok());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(cluster.answers.wait(pending), Outcome::Unknown(Unknown::ShuttingDown));
    cluster.finish();
}

#[test]
fn clients_are_refused_when_too_many_wait() {
    let cluster = Cluster::in_dirs(|config| config.requests_max = 10);
    let leader = cluster.must_apply(&STORES, "first");
    cluster.network.add_filter(Arc::new(|_, _, _| false));
    wait("a refusal", || {
        let id = cluster.propose(leader, "x");
        (cluster.answers.of(id) == Some(Outcome::Refused(Refusal::Busy))).then_some(())
    });
    let read = cluster.read(leader);
    assert_eq!(cluster.answers.wait(read), Outcome::Refused(Refusal::Busy));
    assert!(cluster.nodes[&leader].counters().busy >= 2);
    let asked = cluster.asked.load(Ordering::Relaxed);
    assert!(asked < 10_000, "{asked} were taken on");
    cluster.network.clear_filters();
    // They are decided, or stale under the next leader; then there is room again.
    let next = wait("room", || {
        let leader = cluster.leader(&STORES);
        let id = cluster.propose(leader, "y");
        matches!(cluster.answers.wait(id), Outcome::Applied(_)).then_some(leader)
    });
    assert!(matches!(cluster.answers.wait(cluster.read(next)), Outcome::Read(_)));
    cluster.finish();
}

/// W10: after a failed sync nothing is acknowledged, and nothing tried again.
#[test]
fn a_failed_sync_ends_the_store_and_nobody_else() {
    for sync in [SyncMode::Writer, SyncMode::Inline] {
        let drives: [SimDisk; 3] = std::array::from_fn(|n| SimDisk::new(n as u64));
        let places = [0, 1, 2].map(|n| Place::simulated(&drives[n]));
        let cluster = Cluster::new(places, move |config| config.sync = sync);
        let leader = cluster.must_apply(&STORES, "first");
        drives[leader.0 as usize - 1].fail(1, Fault::Error);
        let lost = cluster.propose(leader, "x");
        let error = cluster.nodes[&leader].wait().expect_err("it failed");
        assert!(matches!(error, NodeError::Log(_)), "{error}");
        assert!(cluster.nodes[&leader].is_failed());
        assert_eq!(cluster.answers.wait(lost), Outcome::Unknown(Unknown::ShuttingDown));
        let rest: Vec<_> = STORES.into_iter().filter(|&id| id != leader).collect();
        cluster.must_apply(&rest, "last");
        cluster.finish();
    }
}

/// W16, W17: a full disk costs no acknowledgement and no store; it goes on when there is room.
#[test]
fn a_full_disk_is_waited_for() {
    for sync in [SyncMode::Writer, SyncMode::Inline] {
        let drives: [SimDisk; 3] = std::array::from_fn(|n| SimDisk::new(n as u64));
        let places = [0, 1, 2].map(|n| Place::simulated(&drives[n]));
        let cluster = Cluster::new(places, move |config| config.sync = sync);
        let leader = cluster.must_apply(&STORES, "first");
        drives.iter().for_each(|drive| drive.set_capacity(Some(drive.used())));
        // More than the segments there are can take.
        let body = "x".repeat(100 << 10);
        let ids: Vec<_> = (0..100).map(|_| cluster.propose(leader, &body)).collect();
        wait("the disks to be full", || {
            cluster.nodes[&leader].counters().is_disk_full.then_some(())
        });
        assert_eq!(cluster.answers.of(*ids.last().expect("some")), None, "{sync:?}");
        drives.iter().for_each(|drive| drive.set_capacity(None));
        for id in ids {
            assert!(matches!(cluster.answers.wait(id), Outcome::Applied(_)), "{sync:?}");
        }
        cluster.finish();
    }
}

/// The same over sockets: the store does not know how its packets travel.
#[test]
fn stores_talk_over_tcp() {
    let mut cluster = Cluster::in_dirs(|_| {});
    cluster.must_apply(&STORES, "first");
    STORES.iter().for_each(|id| assert!(cluster.nodes[id].shutdown().is_ok()));
    let listeners: Vec<_> = STORES
        .iter()
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let addresses = listeners.iter().map(|l| l.local_addr().expect("bound").to_string());
    let addresses: BTreeMap<_, _> = STORES.into_iter().zip(addresses).collect();
    for (id, listener) in STORES.into_iter().zip(listeners) {
        let config = TcpConfig::new(id, 1, addresses.clone());
        cluster.start_with(id, Arc::new(TcpTransport::new(config, listener).expect("bound")));
    }
    let leader = cluster.must_apply(&STORES, "second");
    let ids: Vec<_> = (0..500).map(|n| cluster.propose(leader, &n.to_string())).collect();
    ids.iter().for_each(|&id| assert!(matches!(cluster.answers.wait(id), Outcome::Applied(_))));
    for store in STORES {
        assert_eq!(cluster.answers.wait(cluster.read(store)), Outcome::Read(502));
    }
    let started = Instant::now();
    assert!(cluster.nodes[&leader].shutdown().is_ok());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let rest: Vec<_> = STORES.into_iter().filter(|&id| id != leader).collect();
    cluster.must_apply(&rest, "last");
    cluster.finish();
}

#[test]
fn a_machine_that_panics_or_halts_ends_its_store() {
    let cluster = Cluster::in_dirs(|_| {});
    let leader = cluster.must_apply(&STORES, "first");
    let (id, callback) = cluster.asker();
    // The machine's region is not the envelope's only if somebody mixes them up; here the test.
    let data =
        crate::command::encode(RegionId(9), EPOCH, crate::command::CommandKind::Application, b"x");
    let input = shared::Input::Propose { region: R1, epoch: EPOCH, data, callback };
    cluster.nodes[&leader].0.tell(input);
    // The others would halt alike, but may never hear that the entry is committed.
    let error = cluster.nodes[&leader].wait().expect_err("its machine halts");
    assert!(matches!(error, NodeError::Halted(_)), "{error}");
    assert_eq!(cluster.answers.wait(id), Outcome::Unknown(Unknown::ShuttingDown));
    cluster.finish();

    let cluster = Cluster::in_dirs(|_| {});
    let leader = cluster.must_apply(&STORES, "first");
    cluster.propose(leader, "panic");
    let error = cluster.nodes[&leader].wait().expect_err("its machine panics");
    assert_eq!(error.to_string(), "its apply thread panicked");
    // What the machine held fell with it; nobody can be answered from there.
}

/// A client who is alone finds the loop asleep, and does its work.
#[test]
fn a_client_alone_is_answered_by_its_own_thread() {
    let [one, ..] = STORES;
    let toy = Toy::open(&ToyCheckpoint::default(), 0);
    let transport = Network::new().transport(one);
    let config = NodeConfig::new(StoreConfig::new(one));
    let node =
        NodeHandle::start(config, toy, Region::first(&[one]), OpenLog::in_memory(), transport)
            .expect("starts");
    let (answers, mut id) = (Answers::default(), 0);
    let mut propose = |body| {
        id += 1;
        let (body, callback) = (Bytes::from_static(body), answers.asker(id));
        node.propose(Proposal { region: R1, epoch: EPOCH, body, callback });
        (answers.wait(id), answers.is_from_here(id))
    };
    node.campaign(R1);
    wait("a leader", || matches!(propose(b"x"), (Outcome::Applied(_), _)).then_some(()));
    // Now and then the loop is awake anyway, or left alone to see.
    wait("help", || matches!(propose(b"x"), (Outcome::Applied(_), true)).then_some(()));
    let read = |id| {
        node.read(R1, answers.asker(id));
        assert!(matches!(answers.wait(id), Outcome::Read(_)));
        answers.is_from_here(id)
    };
    let (mut light, mut heavy) = (1 << 32, (1 << 48) + 1);
    wait("a light read", || {
        (light, heavy) = (light + 2, heavy + 2);
        assert!(!read(heavy), "it may take long, and the loop does not wait");
        read(light).then_some(())
    });
    assert!(node.shutdown().is_ok());
    assert_eq!(propose(b"x"), (Outcome::Refused(Refusal::ShuttingDown), true));
}

/// What a store's service got.
#[derive(Default)]
struct Echo {
    node: Mutex<Option<NodeHandle<Toy>>>,
    replies: Mutex<Vec<(StoreId, u64, Bytes)>>,
}

impl Service for Echo {
    fn on_request(&self, from: StoreId, id: u64, body: Bytes) {
        let node = self.node.lock().clone().expect("a node");
        node.reply(from, id, body).expect("the way back is open");
    }

    fn on_reply(&self, from: StoreId, id: u64, body: Bytes) {
        self.replies.lock().push((from, id, body));
    }

    fn on_lost(&self, _store: StoreId) {}
}

#[test]
fn requests_between_stores_are_answered() {
    let cluster = Cluster::in_dirs(|_| {});
    let [one, two, _] = STORES.map(|id| cluster.nodes[&id].clone());
    let body = Bytes::from_static(b"hello");
    let early = one.request(STORES[1], 7, body.clone());
    assert_eq!(early, Err(SendError::Unreachable), "nobody takes requests there yet");
    let services = [&one, &two].map(|node| {
        let service = Arc::new(Echo::default());
        *service.node.lock() = Some(node.clone());
        node.set_service(Arc::clone(&service) as Arc<dyn Service>);
        service
    });
    assert_eq!(one.request(STORES[1], 7, body.clone()), Ok(()));
    let reply = wait("a reply", || services[0].replies.lock().pop());
    assert_eq!(reply, (STORES[1], 7, body));
    services.iter().for_each(|service| *service.node.lock() = None);
    cluster.finish();
}

#[test]
fn a_full_inbox_drops_messages_and_says_so() {
    let config =
        NodeConfig { messages_bytes_max: 1000, ..NodeConfig::new(StoreConfig::new(STORES[0])) };
    let region = Region::first(&STORES);
    let toy = Toy::open(&ToyCheckpoint::default(), 0);
    let (store, mut applier) = start(
        config.store.clone(),
        toy,
        region,
        &BTreeMap::new(),
        OpenLog::in_memory().log.storage(),
    )
    .expect("starts");
    let shared = shared::Shared::new(&config, Network::new().transport(STORES[0]), None, &store);
    let node = |id| raft::NodeId::new(id).expect("not zero");
    let body = raft::Body::HeartbeatReply { read: 0, commit: 0 };
    let message = raft::Message { from: node(2), to: node(1), term: 1, body };
    let message = PeerMessage { region: R1, epoch: EPOCH, message };
    use crate::transport::Receiver;
    let receive =
        |count: usize| shared.receive(STORES[1], Packet::Raft(vec![message.clone(); count]));
    assert_eq!(receive(20), Ok(()), "one packet may overrun");
    assert_eq!(receive(3), Err(SendError::Full));
    assert_eq!(shared.counters().messages_dropped, 3);
    shared.inbox.close();
    assert_eq!(receive(1), Err(SendError::Unreachable));
    applier.shut_down();
}
