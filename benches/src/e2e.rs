//! `e2e`: three stores in one process, a log each, and one client thread that keeps so many writes
//! in flight and times each of them. A write counts when its callback says that it is applied.
//!
//! The stores are the real ones, with their threads; messages go through channels, and the state
//! machine only checks each command and answers, so what is measured is everything below the
//! engine.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use raft::{Entries, Index, LogId, RoleKind};
use raftstore::command::{Command, CommandKind};
use raftstore::disk::{ClusterId, DirDisk, Identity, Route};
use raftstore::machine::Halt;
use raftstore::node::{NodeConfig, NodeHandle, OpenLog, Proposal, SyncMode};
use raftstore::store::StoreConfig;
use raftstore::transport::local::Network;
use raftstore::wal::{Wal, WalOptions};
use raftstore::{
    Callback, Effects, Epoch, Machine, RecoveredRegion, Refusal, Region, RegionId, StoreId, Unknown,
};

use crate::cells::{self, Cell, Figure, Latencies, figure, noise};
use crate::device;
use crate::options::Options;

const STORES: [StoreId; 3] = [StoreId(1), StoreId(2), StoreId(3)];

/// A variant.
#[derive(Clone, Copy)]
struct Subject {
    /// As it is called in figures.
    name: &'static str,
    sync: SyncMode,
    /// By which route the log is written; none if it is in memory.
    route: Option<Route>,
}

const SUBJECTS: [Subject; 4] = [
    Subject { name: "raftkv", sync: SyncMode::Writer, route: Some(Route::DEFAULT) },
    Subject { name: "raftkv-written", sync: SyncMode::Writer, route: Some(Route::Written) },
    Subject { name: "raftkv-inline", sync: SyncMode::Inline, route: Some(Route::DEFAULT) },
    Subject { name: "raftkv-nodisk", sync: SyncMode::Writer, route: None },
];

/// What a client hears of its writes.
enum Answer {
    Applied(Vec<u64>),
    Failed(String),
}

/// A write that waits for its answer.
pub struct Waiter {
    id: u64,
    answers: &'static Sender<Answer>,
}

impl Callback for Waiter {
    fn refuse(self, why: Refusal) {
        let _ = self.answers.send(Answer::Failed(why.to_string()));
    }

    fn unknown(self, why: Unknown) {
        let _ = self.answers.send(Answer::Failed(why.to_string()));
    }
}

/// Checks each command, as any machine must, and answers; it keeps nothing.
pub struct Sink {
    applied: Index,
    waiting: VecDeque<(LogId, Waiter)>,
}

impl Sink {
    /// Answers what was proposed up to `at`, together.
    fn answer(&mut self, at: LogId) {
        let mut ids = Vec::new();
        let mut answers = None;
        while let Some((_, waiter)) = self.waiting.pop_front_if(|(proposed, _)| *proposed <= at) {
            ids.push(waiter.id);
            answers = Some(waiter.answers);
        }
        if let Some(answers) = answers {
            let _ = answers.send(Answer::Applied(ids));
        }
    }
}

impl Machine for Sink {
    type Callback = Waiter;
    type Query = Waiter;

    fn recovered(&self) -> Vec<RecoveredRegion> {
        Vec::new()
    }

    fn create(&mut self, _: Region) {}

    fn proposed(&mut self, _: RegionId, at: LogId, waiter: Waiter) {
        self.waiting.push_back((at, waiter));
    }

    fn apply(&mut self, region: RegionId, entries: &Entries) -> Effects {
        let mut effects = Effects::default();
        for entry in entries.iter().filter(|entry| !entry.entry.data.is_empty()) {
            let compact = Command::decode(&entry.entry.data).and_then(|command| {
                let compacts = command.kind == CommandKind::CompactLog;
                compacts.then(|| command.compact_index()).transpose()
            });
            match compact {
                Ok(to) => effects.compact = to.or(effects.compact),
                Err(error) => {
                    effects.halt = Some(Halt { region, at: entry.id, why: error.to_string() });
                    return effects;
                }
            }
        }
        if let Some(last) = entries.last() {
            self.applied = last.index;
            self.answer(last);
        }
        effects
    }

    fn read(&mut self, _: RegionId, _: Vec<Waiter>) {}

    fn maintain(&mut self, _: u64) {}

    fn durable(&self, _: RegionId) -> Index {
        self.applied
    }

    fn shut_down(&mut self) {
        self.waiting.drain(..).for_each(|(_, waiter)| waiter.unknown(Unknown::ShuttingDown));
    }
}

/// Three running stores, the first of which leads, and a client.
pub struct Stores {
    nodes: Vec<NodeHandle<Sink>>,
    next: u64,
    sent: HashMap<u64, Instant>,
    answers: Receiver<Answer>,
    /// Lent to every write for good, so that none of them counts who else has it.
    answer_to: &'static Sender<Answer>,
}

impl Stores {
    /// Starts them with empty logs below `dir`, or in memory.
    ///
    /// # Panics
    /// If they don't start, or the first is not elected.
    #[must_use]
    pub fn start(dir: Option<(&Path, Route)>, sync: SyncMode) -> Stores {
        let network = Network::new();
        let start = |store: StoreId| {
            let log = dir.map_or_else(OpenLog::in_memory, |dir| open_log(dir, store));
            let config = NodeConfig { sync, ..NodeConfig::new(StoreConfig::new(store)) };
            let machine = Sink { applied: 0, waiting: VecDeque::new() };
            let transport = network.transport(store);
            NodeHandle::start(config, machine, Region::first(&STORES), log, transport)
                .expect("an empty store starts")
        };
        let nodes: Vec<_> = STORES.into_iter().map(start).collect();
        let leads = |node: &NodeHandle<Sink>| {
            node.status(RegionId::FIRST).is_some_and(|status| status.role == RoleKind::Leader)
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !leads(&nodes[0]) {
            assert!(Instant::now() < deadline, "the first store is elected");
            nodes[0].campaign(RegionId::FIRST);
            for other in &nodes[1..] {
                other.transfer_leader(RegionId::FIRST, Some(STORES[0]));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let (answer_to, answers) = unbounded();
        let answer_to = Box::leak(Box::new(answer_to));
        Stores { nodes, next: 1, sent: HashMap::new(), answers, answer_to }
    }

    fn submit(&mut self, payload: &[u8], now: Instant) {
        let id = self.next;
        self.next += 1;
        self.sent.insert(id, now);
        self.nodes[0].propose(Proposal {
            region: RegionId::FIRST,
            epoch: Epoch { version: 1, conf_ver: 1 },
            body: payload,
            callback: Waiter { id, answers: self.answer_to },
        });
    }

    /// Keeps `window` writes in flight for `time`, then waits for the last of them; gives how many
    /// there were and how long each took.
    ///
    /// # Panics
    /// If one of them fails: nothing here gives it a reason to.
    pub fn drive(
        &mut self,
        window: usize,
        payload: &[u8],
        time: Duration,
    ) -> (u64, Duration, Latencies) {
        let (mut latencies, start) = (Latencies::default(), Instant::now());
        (0..window).for_each(|_| self.submit(payload, Instant::now()));
        self.take_answers(|stores, sent, now| {
            latencies.push(now - sent);
            if now - start < time {
                stores.submit(payload, now);
            }
        });
        (latencies.count(), start.elapsed(), latencies)
    }

    /// Makes so many writes, at most `window` of them in flight at a time, and waits for the last
    /// of them; gives how long all of it took.
    ///
    /// # Panics
    /// As [`Stores::drive`].
    pub fn commit(&mut self, window: usize, payload: &[u8], writes: u64) -> Duration {
        let start = Instant::now();
        let end = self.next + writes;
        let first = writes.min(window as u64);
        (0..first).for_each(|_| self.submit(payload, start));
        self.take_answers(|stores, _, now| {
            if stores.next < end {
                stores.submit(payload, now);
            }
        });
        start.elapsed()
    }

    /// Takes answers until no write is in flight. For each, `on` hears when it was sent, and that
    /// it was answered now; it may send more.
    fn take_answers(&mut self, mut on: impl FnMut(&mut Stores, Instant, Instant)) {
        while !self.sent.is_empty() {
            let answer = self.answers.recv().expect("the client keeps a sender itself");
            let now = Instant::now();
            let ids = match answer {
                Answer::Applied(ids) => ids,
                Answer::Failed(why) => panic!("a write failed: {why}"),
            };
            for id in ids {
                let sent = self.sent.remove(&id).expect("an answer to a write in flight");
                on(self, sent, now);
            }
        }
    }

    /// Stops them.
    pub fn stop(self) {
        for node in &self.nodes {
            if let Err(error) = node.shutdown() {
                eprintln!("store {}: {error}", node.store().0);
            }
        }
    }
}

/// The log of a new store below `dir`.
fn open_log((dir, route): (&Path, Route), store: StoreId) -> OpenLog {
    let path = dir.join(format!("store{}", store.0));
    let disk = DirDisk::open(path, route).expect("a directory can be made");
    let identity = Identity { store, cluster: ClusterId(1), generation: store.0 };
    let (wal, recovered) =
        Wal::open(Arc::new(disk), &identity, WalOptions::default()).expect("an empty log opens");
    OpenLog::wal(wal, recovered.groups)
}

/// An empty folder of that name below `base`.
fn fresh(base: &Path, name: &str) -> PathBuf {
    let path = base.join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// Cells for all numbers of writes in flight.
pub fn run(options: &Options) {
    let time = options.time(0.7);
    let mut cells = Vec::new();
    let mut running = Vec::new();
    for Subject { name, sync, route } in SUBJECTS {
        // One cluster for all rounds of a variant, started at its first use.
        let stores: Rc<RefCell<Option<Stores>>> = Rc::default();
        running.push(Rc::clone(&stores));
        let dir = fresh(&options.dir, &format!("e2e-{name}"));
        for payload in options.payloads(&[256]) {
            for window in options.clients(&[1, 64, 512, 4096]) {
                let (stores, dir) = (Rc::clone(&stores), dir.clone());
                let bytes = noise(payload, 17);
                cells.push(Cell::new(format!("e2e/{name}/n3/p{payload}/c{window}"), move || {
                    let mut stores = stores.borrow_mut();
                    let dir = route.map(|route| (dir.as_path(), route));
                    let start = || Stores::start(dir, sync);
                    let stores = stores.get_or_insert_with(start);
                    stores.drive(window, &bytes, time / 10);
                    let before = device::bytes_written();
                    let (writes, elapsed, latencies) = stores.drive(window, &bytes, time);
                    let device = device::bytes_written() - before;
                    let mut figures = figures(writes, elapsed, latencies);
                    let per_byte = device as f64 / (writes * payload as u64) as f64;
                    figures.push(figure("device_bytes_per_byte", per_byte, "ratio"));
                    figures
                }));
            }
        }
    }
    cells::run(cells, options.rounds(5), options);
    for stores in running {
        if let Some(stores) = stores.borrow_mut().take() {
            stores.stop();
        }
    }
    for Subject { name, .. } in SUBJECTS {
        fresh(&options.dir, &format!("e2e-{name}"));
    }
}

fn figures(writes: u64, elapsed: Duration, latencies: Latencies) -> Vec<Figure> {
    let mut figures = vec![figure("writes_per_s", writes as f64 / elapsed.as_secs_f64(), "1/s")];
    figures.extend(latencies.figures());
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_answered_once() {
        let dir = tempfile::tempdir().unwrap();
        for dir in [None, Some((dir.path(), Route::DEFAULT))] {
            let mut stores = Stores::start(dir, SyncMode::Writer);
            let (writes, _, latencies) = stores.drive(64, &[7; 256], Duration::from_millis(50));
            assert!(writes >= 64 && latencies.count() == writes);
            stores.commit(64, &[7; 256], 100);
            stores.commit(64, &[7; 256], 10);
            assert_eq!(stores.next - 1, writes + 110);
            stores.stop();
        }
    }
}
