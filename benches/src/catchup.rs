//! `catchup`: what it costs everybody else that a store which was away for long catches up.
//!
//! Three stores in one process, with their threads, a log each on disk and the real state machine.
//! One client thread keeps so many writes in flight all the time, and times each of them:
//!
//! ```text
//!  all there │ one is cut off … │ away │ it is back: snapshot, installing, the rest of the log │ after
//!   figures  │  the log goes on │ fig. │ figures, until it has what the leader has             │ fig.
//! ```
//!
//! The store that is away goes on running and hears nothing: so what is measured is the catching
//! up, and not the start of a process. At the end all must hold the same, or there are no figures.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use kv::engine::{MemReader, Read as _};
use kv::{Callback, Cf, CheckpointOptions, KvMachine, Op, Request};
use raft::RoleKind;
use raftstore::disk::{ClusterId, DirDisk, Disk, Identity, Route};
use raftstore::node::{NodeConfig, NodeHandle, OpenLog, Proposal};
use raftstore::store::StoreConfig;
use raftstore::transport::local::Network;
use raftstore::wal::{Wal, WalOptions};
use raftstore::{Epoch, Region, RegionId, StoreId};

use crate::cells::{self, Cell, Figure, Latencies, figure};
use crate::options::Options;

const STORES: [StoreId; 3] = [StoreId(1), StoreId(2), StoreId(3)];

/// Leads.
const LEADER: usize = 0;
/// Is away.
const AWAY: usize = 2;

/// Entries that a store may lack which is level: what is under way at any moment.
const LEVEL: u64 = 2000;

/// Far beyond what anything here takes.
const LONG: Duration = Duration::from_secs(100);

/// How often it is looked whether a phase is over.
const LOOK: Duration = Duration::from_millis(2);

/// Which write in flight it is of, and whether it took effect.
type Answer = (u64, bool);

struct Stores {
    nodes: Vec<NodeHandle<KvMachine>>,
    readers: Vec<MemReader>,
    network: Network,
    answers: (Sender<Answer>, Receiver<Answer>),
    /// When each write was sent, by its number modulo the window.
    sent: Vec<Instant>,
    rng: fastrand::Rng,
    keys: u64,
    value: Vec<u8>,
}

impl Stores {
    /// Starts them with empty directories below `dir`.
    fn start(dir: &Path, options: &Options, window: usize, payload: usize) -> Stores {
        let network = Network::new();
        let (mut nodes, mut readers) = (Vec::new(), Vec::new());
        for store in STORES {
            let path = dir.join(format!("store{}", store.0));
            let disk = DirDisk::open(path, Route::DEFAULT).expect("a directory can be made");
            let disk: Arc<dyn Disk> = Arc::new(disk);
            let identity = Identity { store, cluster: ClusterId(1), generation: store.0 };
            let opened = Wal::open(Arc::clone(&disk), &identity, WalOptions::default());
            let (wal, recovered) = opened.expect("an empty log opens");
            let machine = KvMachine::open(disk, CheckpointOptions::default(), []);
            let machine = machine.expect("there is nothing to open");
            readers.push(machine.reader());
            let mut config = NodeConfig::new(StoreConfig::new(store));
            config.snapshot_bytes_per_second = options.limit_mib << 20;
            let (log, transport) = (OpenLog::wal(wal, recovered.groups), network.transport(store));
            let bootstrap = Region::first(&STORES);
            let node = NodeHandle::start(config, machine, bootstrap, log, transport);
            nodes.push(node.expect("an empty store starts"));
        }
        let sent = vec![Instant::now(); window];
        let (rng, keys) = (fastrand::Rng::with_seed(17), options.keys.max(1));
        let value = cells::noise(payload, 17);
        let mut stores =
            Stores { nodes, readers, network, answers: unbounded(), sent, rng, keys, value };
        stores.elect();
        stores
    }

    fn elect(&mut self) {
        let deadline = Instant::now() + LONG;
        let leads = |node: &NodeHandle<KvMachine>| {
            node.status(RegionId::FIRST).is_some_and(|status| status.role == RoleKind::Leader)
        };
        while !leads(&self.nodes[LEADER]) {
            assert!(Instant::now() < deadline, "the first store is elected");
            self.nodes[LEADER].campaign(RegionId::FIRST);
            for other in &self.nodes[1..] {
                other.transfer_leader(RegionId::FIRST, Some(STORES[LEADER]));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn submit(&mut self, slot: u64) {
        let key = format!("key {:09}", self.rng.u64(..self.keys));
        let request = Request::from(Op::put(key, self.value.clone()));
        let answers = self.answers.0.clone();
        let callback = Callback::new(move |answer| _ = answers.send((slot, answer.is_ok())));
        self.sent[slot as usize] = Instant::now();
        self.nodes[LEADER].propose(Proposal {
            region: RegionId::FIRST,
            epoch: Epoch { version: 1, conf_ver: 1 },
            body: request.encode().expect("it is small"),
            callback,
        });
    }

    /// Keeps writes in flight until `is_over` says so, which is asked now and then, and waits for
    /// the last of them. Gives how long it took, and how long each write.
    ///
    /// # Panics
    /// If one of them fails, or it is not over for long.
    fn write(&mut self, mut is_over: impl FnMut(&Stores, u64) -> bool) -> (Duration, Latencies) {
        let (start, mut look, mut over) = (Instant::now(), Instant::now(), false);
        let (mut latencies, mut flying) = (Latencies::default(), self.sent.len());
        (0..self.sent.len() as u64).for_each(|slot| self.submit(slot));
        let mut took = Duration::ZERO;
        while flying > 0 {
            let (slot, done) = self.answers.1.recv().expect("the client keeps a sender itself");
            assert!(done, "a write failed: nothing here gives it a reason to");
            let now = Instant::now();
            if !over && now >= look {
                assert!(now - start < LONG, "it takes too long");
                look = now + LOOK;
                over = is_over(self, latencies.count());
                took = now - start;
            }
            if over {
                flying -= 1;
            } else {
                latencies.push(now - self.sent[slot as usize]);
                self.submit(slot);
            }
        }
        (took, latencies)
    }

    fn write_for(&mut self, time: Duration) -> (Duration, Latencies) {
        let end = Instant::now() + time;
        self.write(|_, _| Instant::now() >= end)
    }

    /// How many entries the store that is away lacks.
    fn behind(&self) -> u64 {
        let status = |at: usize| self.nodes[at].status(RegionId::FIRST);
        let commit = status(LEADER).map_or(0, |status| status.commit);
        commit.saturating_sub(status(AWAY).map_or(0, |status| status.applied))
    }

    /// Whether the log that the store needs is gone.
    fn is_left_behind(&self) -> bool {
        let status = |at: usize| self.nodes[at].status(RegionId::FIRST);
        let needs = status(AWAY).map(|status| status.last);
        status(LEADER).zip(needs).is_some_and(|(leader, needs)| leader.compacted > needs)
    }

    /// Nothing reaches the store that is away, and it reaches nobody.
    fn cut(&self) {
        let away = STORES[AWAY];
        self.network.add_filter(Arc::new(move |from, to, _| from != away && to != away));
    }

    /// Whether all hold the same, once nothing is under way any more.
    fn are_equal(&self) -> bool {
        let deadline = Instant::now() + LONG;
        let applied = |node: &NodeHandle<KvMachine>| {
            node.status(RegionId::FIRST).map(|status| (status.last, status.applied))
        };
        let is_level = || {
            let first = applied(&self.nodes[LEADER]);
            let is_done = first.is_some_and(|(last, applied)| last == applied);
            is_done && self.nodes.iter().all(|node| applied(node) == first)
        };
        while !is_level() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let hashes: Vec<u64> = self.readers.iter().map(hash).collect();
        hashes.iter().all(|hash| *hash == hashes[LEADER])
    }

    fn stop(self) {
        for node in &self.nodes {
            if let Err(error) = node.shutdown() {
                eprintln!("store {}: {error}", node.store().0);
            }
        }
    }
}

/// Of everything that a store holds.
fn hash(reader: &MemReader) -> u64 {
    let (snapshot, mut hasher) = (reader.snapshot(), DefaultHasher::new());
    for cf in Cf::ALL {
        snapshot.scan(cf, b"", b"", false, &mut |key, value| {
            (key, value).hash(&mut hasher);
            true
        });
    }
    hasher.finish()
}

/// How fast the leader sends a snapshot, as it is seen from beside.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    bytes: u64,
    /// From the first byte to the last.
    time: Duration,
    /// The most within [`WINDOW`].
    burst: u64,
}

/// A limit is kept if it is kept over so long, but for a piece that had already begun.
const WINDOW: Duration = Duration::from_millis(100);
const PIECE_BYTES: f64 = (96 << 10) as f64;

/// Looks at what the leader has sent, until `stop` is raised.
fn watch(node: &NodeHandle<KvMachine>, stop: &AtomicBool) -> Sent {
    let (mut seen, mut sent) = (Vec::new(), Sent::default());
    while !stop.load(Ordering::Relaxed) {
        let (now, bytes) = (Instant::now(), node.counters().snapshot_bytes_sent);
        if seen.last().is_none_or(|&(_, last)| last != bytes) {
            seen.push((now, bytes));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut from = 0;
    for &(now, bytes) in &seen {
        while now - seen[from].0 > WINDOW {
            from += 1;
        }
        sent.burst = sent.burst.max(bytes - seen[from].1);
    }
    // The first is from before it began.
    if let [_, (first, _), .., (last, bytes)] = seen[..] {
        (sent.bytes, sent.time) = (bytes, last - first);
    }
    sent
}

/// The phases, by the names of their figures.
const PHASES: [[&str; 3]; 4] = [
    ["before_p50", "before_p99", "before_writes_per_s"],
    ["away_p50", "away_p99", "away_writes_per_s"],
    ["during_p50", "during_p99", "during_writes_per_s"],
    ["after_p50", "after_p99", "after_writes_per_s"],
];

fn figures_of(phase: usize, (took, latencies): (Duration, Latencies), all: &mut Vec<Figure>) {
    let rate = latencies.count() as f64 / took.as_secs_f64();
    for (name, figure) in PHASES[phase].into_iter().zip(latencies.figures()) {
        all.push(Figure { metric: name, ..figure });
    }
    all.push(figure(PHASES[phase][2], rate, "1/s"));
}

/// One absence.
///
/// # Panics
/// If there was no snapshot, or not all hold the same at the end.
fn measure(dir: &Path, options: &Options, window: usize, payload: usize) -> Vec<Figure> {
    let time = options.time(3.0);
    let _ = std::fs::remove_dir_all(dir);
    let mut stores = Stores::start(dir, options, window, payload);
    let mut all = Vec::new();
    let keys = stores.keys;
    stores.write(|_, writes| writes >= keys);
    let before = stores.write_for(time);
    stores.cut();
    let behind = options.behind;
    stores.write(|stores, _| stores.behind() >= behind && stores.is_left_behind());
    let away = stores.write_for(time);
    let lacked = stores.behind();
    let stop = AtomicBool::new(false);
    let leader = stores.nodes[LEADER].clone();
    let (during, sent) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&leader, &stop));
        stores.network.clear_filters();
        let during = stores.write(|stores, _| stores.behind() <= LEVEL);
        stop.store(true, Ordering::Relaxed);
        (during, watcher.join().expect("it only looks"))
    });
    let took = during.0;
    let after = stores.write_for(time);
    assert!(stores.are_equal(), "all hold the same");
    let installed = stores.nodes[AWAY].counters().store.snapshots_installed;
    assert!(installed > 0, "it took a snapshot to catch up");
    for (phase, measured) in [before, away, during, after].into_iter().enumerate() {
        figures_of(phase, measured, &mut all);
    }
    let p99 = |phase: usize| all.iter().find(|f| f.metric == PHASES[phase][1]).map(|f| f.value);
    let ratio = p99(2).zip(p99(0)).map_or(f64::NAN, |(during, before)| during / before);
    let limit = (options.limit_mib << 20) as f64;
    let rate = sent.bytes as f64 / sent.time.as_secs_f64();
    let burst = sent.burst as f64 / WINDOW.as_secs_f64();
    let kept = burst.max(rate) <= limit + PIECE_BYTES / WINDOW.as_secs_f64();
    all.extend([
        figure("during_to_before_p99", ratio, "ratio"),
        figure("entries_behind", lacked as f64, "entries"),
        figure("caught_up_after", took.as_secs_f64(), "s"),
        figure("snapshots", installed as f64, "snapshots"),
        figure("snapshot_bytes", sent.bytes as f64, "B"),
        figure("snapshot_time", sent.time.as_secs_f64(), "s"),
        figure("snapshot_rate", rate, "B/s"),
        figure("snapshot_rate_100ms_max", burst, "B/s"),
        figure("snapshot_limit", limit, "B/s"),
        figure("snapshot_to_limit", burst.max(rate) / limit, "ratio"),
        figure("limit_kept", f64::from(kept), "yes"),
    ]);
    stores.stop();
    let _ = std::fs::remove_dir_all(dir);
    all
}

/// Cells for all numbers of writes in flight.
pub fn run(options: &Options) {
    let mut cells = Vec::new();
    for payload in options.payloads(&[256]) {
        for window in options.clients(&[64]) {
            let (options, dir) = (options.clone(), options.dir.join("catchup"));
            let name = format!("catchup/raftkv/n3/p{payload}/c{window}");
            cells.push(Cell::new(name, move || measure(&dir, &options, window, payload)));
        }
    }
    cells::run(cells, options.rounds(1), options);
}
