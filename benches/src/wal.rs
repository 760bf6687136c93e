//! `wal`: appends to the log, one sync a call or none, by each route.
//!
//! One log serves all rounds of a variant, compacted after each cell, so that what it wrote before
//! is there to be used again, as in a store that has run for a while. Segments are made ahead of
//! use by another thread, as a node does. One cell restarts the log first.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use raft::{Entries, Entry, Index, LogId, Run, Term};
use raftstore::disk::{ClusterId, DirDisk, Identity, Route};
use raftstore::wal::{GroupRecord, PendingSync, Preparer, Wal, WalOptions};
use raftstore::{RegionId, StoreId};

use crate::cells::{self, Cell, Figure, Latencies, during, figure, noise};
use crate::device;
use crate::options::Options;

const PAYLOAD: usize = 256;
const TERM: Term = 7;
/// Groups and entries of each: the workloads.
const SHAPES: [(u64, usize); 5] = [(1, 1), (1, 16), (1, 256), (100, 1), (100, 16)];
/// Threads of the cells with several syncs on their way.
const DEPTH: usize = 4;
/// The log is compacted during a cell when it has so many bytes: more than the groups of a store
/// keep, and little enough for any disk.
const KEPT_BYTES: u64 = 256 << 20;

/// The routes, as they are called in figures. The first is what a store does unless told otherwise.
const ROUTES: [(&str, Option<Route>); 4] = [
    ("raftkv", None),
    ("raftkv-written", Some(Route::Written)),
    ("raftkv-mapped", Some(Route::Mapped)),
    ("raftkv-direct", Some(Route::Direct)),
];

/// Payloads that do not compress, and do not repeat soon.
pub(crate) struct Payloads {
    bytes: Vec<u8>,
    at: usize,
}

impl Payloads {
    const REPEAT: usize = 1 << 20;

    pub(crate) fn new() -> Payloads {
        Payloads { bytes: noise(Payloads::REPEAT + PAYLOAD, 11), at: 0 }
    }

    /// `count` entries from `first` on, each with a payload of its own.
    pub(crate) fn entries(&mut self, first: Index, count: usize) -> Entries {
        let entries: Vec<Entry> = (0..count)
            .map(|_| {
                self.at = (self.at + PAYLOAD) % Payloads::REPEAT;
                Entry::normal(Bytes::copy_from_slice(&self.bytes[self.at..self.at + PAYLOAD]))
            })
            .collect();
        Run::new(TERM, first, entries).map(Entries::from).unwrap_or_default()
    }
}

/// The thread that makes segments ahead of use. Whoever drops it has waited for its end, and may
/// open the directory again.
struct Ahead {
    /// Taken away, the thread ends.
    nudge: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    fn start(preparer: Preparer) -> Ahead {
        let (nudge, nudged) = bounded(1);
        let thread = thread::spawn(move || {
            while nudged.recv().is_ok() {
                preparer.prepare().expect("there is room for a segment");
            }
        });
        Ahead { nudge: Some(nudge), thread: Some(thread) }
    }

    fn nudge(&self) {
        // If it has been told already, once is enough.
        let _ = self.nudge.as_ref().map(|nudge| nudge.try_send(()));
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.nudge = None;
        // If it panicked, that was printed; the log makes its segments itself then.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A log of some groups that grow at the same pace.
pub struct Log {
    pub(crate) wal: Wal,
    payloads: Payloads,
    /// The last index of each group that was ever written.
    last: Vec<Index>,
    ahead: Ahead,
    /// Bytes of entries that are not compacted, and when that is to be done.
    kept: u64,
    kept_max: u64,
}

impl Log {
    /// An empty log below `dir`, compacted now and then.
    #[must_use]
    pub fn create(dir: &Path, route: Route) -> Log {
        Log::create_small(dir, route, KEPT_BYTES)
    }

    /// An empty log below `dir`, compacted whenever it has so many bytes of payloads.
    ///
    /// # Panics
    /// If the directory cannot be written.
    #[must_use]
    pub fn create_small(dir: &Path, route: Route, kept_max: u64) -> Log {
        Log { kept_max, ..Log::create_kept(dir, route) }
    }

    /// An empty log below `dir` that keeps everything.
    ///
    /// # Panics
    /// If the directory cannot be written.
    #[must_use]
    pub fn create_kept(dir: &Path, route: Route) -> Log {
        let _ = std::fs::remove_dir_all(dir);
        let (wal, _) = open(dir, route);
        let ahead = Ahead::start(wal.preparer());
        let (payloads, last) = (Payloads::new(), Vec::new());
        Log { wal, payloads, last, ahead, kept: 0, kept_max: u64::MAX }
    }

    /// Ends as a process does, and opens it again.
    fn restart(self, dir: &Path, route: Route) -> Log {
        let Log { wal, payloads, last, ahead, kept, kept_max } = self;
        drop(ahead);
        wal.close().expect("closes");
        let (wal, _) = open(dir, route);
        let ahead = Ahead::start(wal.preparer());
        Log { wal, payloads, last, ahead, kept, kept_max }
    }

    /// Appends `count` entries to each of the first `groups` groups, as one batch.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn append(&mut self, groups: u64, count: usize) {
        self.last.resize(self.last.len().max(groups as usize), 0);
        let mut entries = Vec::with_capacity(groups as usize);
        for last in &mut self.last[..groups as usize] {
            entries.push(self.payloads.entries(*last + 1, count));
            *last += count as Index;
        }
        let numbered = (1..).map(RegionId).zip(&entries);
        let records: Vec<_> = numbered.map(|(id, entries)| GroupRecord::new(id, entries)).collect();
        self.wal.append(&records).expect("appends");
        if self.wal.wants_segment() {
            self.ahead.nudge();
        }
        self.kept += groups * (count * PAYLOAD) as u64;
        if self.kept >= self.kept_max {
            self.compact();
        }
    }

    /// Makes what was appended durable.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn sync(&mut self) {
        self.wal.sync().expect("syncs");
    }

    /// Drops all entries, and the segments they are in.
    fn compact(&mut self) {
        let none = Entries::new();
        let numbered = (1..).map(RegionId).zip(&self.last).filter(|(_, last)| **last > 0);
        let record = |(id, last): (RegionId, &Index)| GroupRecord {
            compact: Some(LogId::new(TERM, *last)),
            ..GroupRecord::new(id, &none)
        };
        let records: Vec<_> = numbered.map(record).collect();
        self.wal.append(&records).expect("appends");
        self.sync();
        while self.wal.collect().expect("collects") {}
        self.kept = 0;
    }
}

/// The log below `dir`, and how many entries it has.
///
/// # Panics
/// If it does not open.
#[must_use]
pub fn open(dir: &Path, route: Route) -> (Wal, u64) {
    let disk = DirDisk::open(dir, route).expect("a directory can be made");
    let identity = Identity { store: StoreId(1), cluster: ClusterId(1), generation: 1 };
    let opened = Wal::open(Arc::new(disk), &identity, WalOptions::default());
    let (wal, recovered) = opened.expect("the log opens");
    let entries = recovered.groups.values().map(|group| group.last - group.compacted.index);
    (wal, entries.sum())
}

type Slot = Rc<RefCell<Option<Log>>>;

/// Cells for all routes and shapes.
pub fn run(options: &Options) {
    let time = options.time(0.5);
    let mut cells = Vec::new();
    let mut dirs = Vec::new();
    for (name, route) in ROUTES {
        let log = Slot::default();
        let dir = options.dir.join(format!("wal-{name}"));
        dirs.push(dir.clone());
        for sync in [true, false] {
            for (groups, count) in SHAPES {
                let (log, dir) = (Rc::clone(&log), dir.clone());
                let nosync = if sync { "" } else { "nosync/" };
                let cell = format!("wal/{name}/{nosync}g{groups}/e{count}/p{PAYLOAD}");
                cells.push(Cell::new(cell, move || {
                    let mut log = log.borrow_mut();
                    let log =
                        log.get_or_insert_with(|| Log::create(&dir, route.unwrap_or_default()));
                    measure(log, (groups, count), sync, time)
                }));
            }
        }
        // What the disk writes for it after a restart.
        let (again, at) = (Rc::clone(&log), dir.clone());
        let cell = format!("wal/{name}/restarted/g1/e256/p{PAYLOAD}");
        cells.push(Cell::new(cell, move || {
            let mut slot = again.borrow_mut();
            let route = route.unwrap_or_default();
            let log = slot.take().unwrap_or_else(|| Log::create(&at, route));
            measure(slot.insert(log.restart(&at, route)), (1, 256), true, time)
        }));
        // Several syncs on their way, each of what one thread has appended.
        for (groups, count) in [(1, 1), (1, 16)] {
            let (log, dir) = (Rc::clone(&log), dir.clone());
            let cell = format!("wal/{name}/depth{DEPTH}/g{groups}/e{count}/p{PAYLOAD}");
            cells.push(Cell::new(cell, move || {
                let mut slot = log.borrow_mut();
                let create = || Log::create(&dir, route.unwrap_or_default());
                let (log, figures) =
                    measure_depth(slot.take().unwrap_or_else(create), (groups, count), time);
                *slot = Some(log);
                figures
            }));
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
    log: &mut Log,
    (groups, count): (u64, usize),
    sync: bool,
    time: Duration,
) -> Vec<Figure> {
    log.append(groups, count);
    log.sync();
    let mut latencies = Latencies::default();
    let before = device::bytes_written();
    let (entries, elapsed) = during(time, || {
        let start = Instant::now();
        log.append(groups, count);
        if sync {
            log.sync();
        }
        latencies.push(start.elapsed());
        groups * count as u64
    });
    let device = device::bytes_written() - before;
    log.sync();
    log.compact();
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
    figures
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
                    own.push(begun.elapsed());
                }
                latencies.lock().expect("no panic").extend(own);
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let device = device::bytes_written() - before;
    let (mut log, latencies) =
        (log.into_inner().expect("no panic"), latencies.into_inner().expect("no panic"));
    log.compact();
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
        let mut log = Log::create(&dir.path().join("log"), Route::default());
        let metrics = |figures: Vec<Figure>| figures.iter().map(|f| f.metric).collect::<Vec<_>>();
        let time = Duration::from_millis(5);
        let synced = metrics(measure(&mut log, (3, 2), true, time));
        assert_eq!(synced, ["entries_per_s", "bandwidth", "p50", "p99", "device_bytes_per_byte"]);
        let unsynced = metrics(measure(&mut log, (1, 16), false, time));
        assert_eq!(unsynced, ["entries_per_s", "ns_per_entry"]);
        let mut log = log.restart(&dir.path().join("log"), Route::default());
        assert_eq!(metrics(measure(&mut log, (1, 16), true, time)), synced);
        let (log, figures) = measure_depth(log, (1, 1), time);
        assert!(metrics(figures).contains(&"syncs_per_s"));
        assert!(log.last[0] > log.last[1] && log.last[1] == log.last[2]);
        assert_eq!(log.wal.durable(), log.wal.appended());
    }
}
