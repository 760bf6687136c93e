//! `wal`: appends to the log, one sync a call or none, by each route.
//!
//! A log for one group and one for a hundred serve all rounds of a route. They have used all their
//! segments before anything is measured, and compact as a store's groups do, like the log of a store
//! that has run for a while (the peers' files are filled before as well). One cell has a log of its
//! own in its first lap, one restarts it first.

mod log;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use raftstore::StoreId;
use raftstore::disk::Route;
use raftstore::store::StoreConfig;
use raftstore::wal::PendingSync;

use crate::cells::{self, Cell, Figure, Latencies, during, figure};
use crate::device;
use crate::options::Options;

pub use log::{Log, open};

const PAYLOAD: usize = 256;
/// Groups and entries of each: the workloads.
const SHAPES: [(u64, usize); 5] = [(1, 1), (1, 16), (1, 256), (100, 1), (100, 16)];
/// Threads of the cells with several syncs on their way.
const DEPTH: usize = 4;
/// The routes, as they are called in figures. The first is what a store does unless told otherwise.
const ROUTES: [(&str, Option<Route>); 4] = [
    ("raftkv", None),
    ("raftkv-written", Some(Route::Written)),
    ("raftkv-mapped", Some(Route::Mapped)),
    ("raftkv-direct", Some(Route::Direct)),
];

/// A log that cells share, made when the first of them needs it.
#[derive(Clone)]
struct Shared {
    log: Rc<RefCell<Option<Log>>>,
    dir: PathBuf,
    route: Route,
    groups: u64,
}

impl Shared {
    fn new(dir: PathBuf, route: Option<Route>, groups: u64) -> Shared {
        Shared { log: Rc::default(), dir, route: route.unwrap_or_default(), groups }
    }

    fn take(&self) -> Log {
        self.log.take().unwrap_or_else(|| self.create().run_in(self.groups))
    }

    fn create(&self) -> Log {
        // What a busy group of a store keeps.
        let entries = StoreConfig::new(StoreId(1)).compact_entries;
        Log::create(&self.dir, self.route, self.groups * entries * PAYLOAD as u64)
    }

    /// A cell that measures with the log, and puts it back.
    fn cell(
        &self,
        name: String,
        measure: impl Fn(&Shared, Log) -> (Log, Vec<Figure>) + 'static,
    ) -> Cell {
        let shared = self.clone();
        Cell::new(name, move || {
            let (log, figures) = measure(&shared, shared.take());
            shared.log.replace(Some(log));
            figures
        })
    }
}

/// Cells for all routes and shapes.
pub fn run(options: &Options) {
    let time = options.time(0.5);
    let mut cells = Vec::new();
    let mut dirs = Vec::new();
    for (name, route) in ROUTES {
        let mut shared = |part: &str, groups| {
            dirs.push(options.dir.join(format!("wal-{name}-{part}")));
            Shared::new(dirs[dirs.len() - 1].clone(), route, groups)
        };
        let (one, hundred, first) = (shared("g1", 1), shared("g100", 100), shared("first", 1));
        let cell = |what: &str, (groups, count): (u64, usize)| {
            format!("wal/{name}/{what}g{groups}/e{count}/p{PAYLOAD}")
        };
        for sync in [true, false] {
            for shape in SHAPES {
                let log = if shape.0 == 1 { &one } else { &hundred };
                let name = cell(if sync { "" } else { "nosync/" }, shape);
                cells.push(log.cell(name, move |_, log| measure(log, shape, sync, time)));
            }
        }
        let shape = (1, 256);
        let name = cell("first/", shape);
        cells.push(Cell::new(name, move || measure(first.create(), shape, true, time).1));
        // What the disk writes for it after a restart.
        cells.push(one.cell(cell("restarted/", shape), move |at, log| {
            measure(log.restart(&at.dir, at.route), shape, true, time)
        }));
        // Several syncs on their way, each of what one thread has appended.
        for shape in [(1, 1), (1, 16)] {
            let name = cell(&format!("depth{DEPTH}/"), shape);
            cells.push(one.cell(name, move |_, log| measure_depth(log, shape, time)));
        }
    }
    cells::run(cells, options.rounds(5), options);
    remove(&dirs);
}

fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        let _ = std::fs::remove_dir_all(dir);
    }
}

fn measure(
    mut log: Log,
    (groups, count): (u64, usize),
    sync: bool,
    time: Duration,
) -> (Log, Vec<Figure>) {
    log.append(groups, count);
    log.sync();
    let mut latencies = Latencies::default();
    let before = device::bytes_written();
    let (entries, elapsed) = during(time, || {
        let start = Instant::now();
        log.append(groups, count);
        if sync {
            log.sync();
        } else {
            log.collect();
        }
        latencies.push(start.elapsed());
        groups * count as u64
    });
    let device = device::bytes_written() - before;
    log.sync();
    let seconds = elapsed.as_secs_f64();
    let bytes = entries as f64 * PAYLOAD as f64;
    let mut figures = vec![figure("entries_per_s", entries as f64 / seconds, "1/s")];
    if sync {
        figures.push(figure("bandwidth", bytes / seconds / 1e6, "MB/s"));
        figures.extend(latencies.figures());
        figures.push(figure("device_bytes_per_byte", device as f64 / bytes, "ratio"));
    } else {
        figures.push(figure("ns_per_entry", seconds * 1e9 / entries as f64, "ns"));
    }
    (log, figures)
}

/// So many threads that append in turn and sync at once.
fn measure_depth(log: Log, (groups, count): (u64, usize), time: Duration) -> (Log, Vec<Figure>) {
    let log = Mutex::new(log);
    let latencies = Mutex::new(Latencies::default());
    let before = device::bytes_written();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..DEPTH {
            scope.spawn(|| {
                let mut own = Latencies::default();
                while start.elapsed() < time {
                    let begun = Instant::now();
                    let mut turn = log.lock().expect("no panic");
                    turn.append(groups, count);
                    let pending = turn.wal.begin_sync().expect("begins");
                    drop(turn);
                    pending.map(PendingSync::run).transpose().expect("syncs");
                    if let Ok(mut log) = log.try_lock() {
                        log.collect();
                    }
                    own.push(begun.elapsed());
                }
                latencies.lock().expect("no panic").extend(own);
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let device = device::bytes_written() - before;
    let (log, latencies) =
        (log.into_inner().expect("no panic"), latencies.into_inner().expect("no panic"));
    let syncs = latencies.count() as f64;
    let entries = syncs * (groups * count as u64) as f64;
    let mut figures = vec![figure("entries_per_s", entries / seconds, "1/s")];
    figures.push(figure("syncs_per_s", syncs / seconds, "1/s"));
    figures.extend(latencies.figures());
    let bytes = entries * PAYLOAD as f64;
    figures.push(figure("device_bytes_per_byte", device as f64 / bytes, "ratio"));
    (log, figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_each_kind_has_its_figures() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dir = dir.path().join("log");
        let log = Log::create(&dir, Route::default(), 64 << 10);
        let metrics = |figures: Vec<Figure>| figures.iter().map(|f| f.metric).collect::<Vec<_>>();
        let time = Duration::from_millis(5);
        let (log, synced) = measure(log, (3, 2), true, time);
        let synced = metrics(synced);
        assert_eq!(synced, ["entries_per_s", "bandwidth", "p50", "p99", "device_bytes_per_byte"]);
        let (log, unsynced) = measure(log, (1, 16), false, time);
        assert_eq!(metrics(unsynced), ["entries_per_s", "ns_per_entry"]);
        let (log, again) = measure(log.restart(&dir, Route::default()), (1, 16), true, time);
        assert_eq!(metrics(again), synced);
        let (log, figures) = measure_depth(log, (1, 1), time);
        assert!(metrics(figures).contains(&"syncs_per_s"));
        assert_eq!(log.wal.durable(), log.wal.appended());
    }
}
