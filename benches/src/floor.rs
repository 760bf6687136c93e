//! `floor`: what three stores of one process cannot be faster than with one client, measured
//! without a store.
//!
//! ```text
//!  client ─┬─► writer: append 4 KiB, sync ─┐
//!          ├─► writer: append 4 KiB, sync ─┼─► client, when two of them are done
//!          └─► writer: append 4 KiB, sync ─┘   (the third goes on, and takes its part of the disk)
//! ```
//!
//! An entry is committed when two of three stores have it on disk. If all three keep their logs on
//! one disk, the second of three syncs may take longer than one alone, however the stores work; a
//! store's commit latency is to be held against `second-of-three`.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use raftstore::disk::{DirDisk, Disk, LogFile, Route};

use crate::cells::{self, Cell, Figure, Latencies};
use crate::options::Options;

const BLOCK: [u8; 4096] = [0x5a; 4096];

/// A cell ends when its files are full.
const SYNCS_MAX: usize = 8192;

/// A log file to write from the start, as a store's log is written.
struct Log {
    file: Box<dyn LogFile>,
    left: usize,
}

impl Log {
    fn create(dir: &Path) -> Log {
        let _ = std::fs::remove_dir_all(dir);
        let disk = DirDisk::open(dir, Route::DEFAULT).expect("a directory can be made");
        disk.create_log("log", (SYNCS_MAX * BLOCK.len()) as u64, &|_| true).expect("there is room");
        let file = disk.append_log("log").expect("it was just made");
        Log { file, left: SYNCS_MAX }
    }

    /// Appends and syncs. False if the file is full.
    fn write(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.file.append(&BLOCK).expect("there is room");
        self.file.flush().run().expect("a healthy disk syncs");
        true
    }
}

/// A thread that syncs whenever it is told to, once for all it was told meanwhile.
struct Writer {
    numbers: Sender<u64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(mut log: Log, done: Sender<u64>) -> Writer {
        let (numbers, told) = unbounded::<u64>();
        let thread = thread::spawn(move || {
            while let Ok(first) = told.recv() {
                let number = told.try_iter().last().unwrap_or(first);
                if !log.write() || done.send(number).is_err() {
                    return;
                }
            }
        });
        Writer { numbers, thread }
    }
}

/// One sync after the other, by one thread.
fn one(dir: &Path, time: Duration) -> Vec<Figure> {
    let (mut log, begin, mut latencies) = (Log::create(dir), Instant::now(), Latencies::default());
    // Once at least: a sync may take longer than there is time.
    loop {
        let start = Instant::now();
        if !log.write() {
            break;
        }
        latencies.push(start.elapsed());
        if begin.elapsed() >= time {
            break;
        }
    }
    latencies.figures()
}

/// Three threads are told to sync; when the second is done, the next round begins.
fn second_of_three(dir: &Path, time: Duration) -> Vec<Figure> {
    let (done, reports) = unbounded();
    let writer = |n: usize| Writer::start(Log::create(&dir.join(n.to_string())), done.clone());
    let writers: Vec<Writer> = (0..3).map(writer).collect();
    // When none of them is left, waiting for them ends.
    drop(done);
    let (begin, mut latencies) = (Instant::now(), Latencies::default());
    // A writer writes at most once a round, so no file gets full.
    for number in 0..SYNCS_MAX as u64 {
        let start = Instant::now();
        let told = writers.iter().all(|writer| writer.numbers.send(number).is_ok());
        if !told || !two_reach(number, &reports) {
            break;
        }
        latencies.push(start.elapsed());
        if begin.elapsed() >= time {
            break;
        }
    }
    for Writer { numbers, thread } in writers {
        drop(numbers);
        thread.join().expect("no panic");
    }
    latencies.figures()
}

/// Waits until two have reported `number`. One that lags reports older ones meanwhile.
fn two_reach(number: u64, reports: &Receiver<u64>) -> bool {
    let is_it = |reported: &u64| *reported == number;
    reports.iter().filter(is_it).take(2).count() == 2
}

/// Half of the way to another thread and back.
fn hand_over(time: Duration) -> Vec<Figure> {
    let ((there, asked), (back, answered)) = (bounded::<()>(1), bounded::<()>(1));
    let other = thread::spawn(move || while asked.recv().is_ok() && back.send(()).is_ok() {});
    let (begin, mut latencies) = (Instant::now(), Latencies::default());
    loop {
        let start = Instant::now();
        if there.send(()).is_err() || answered.recv().is_err() {
            break;
        }
        latencies.push(start.elapsed() / 2);
        if begin.elapsed() >= time {
            break;
        }
    }
    drop(there);
    other.join().expect("no panic");
    latencies.figures()
}

/// All cells.
pub fn run(options: &Options) {
    let time = options.time(0.7);
    let dir = options.dir.join("floor");
    let (one_dir, three_dir) = (dir.clone(), dir.clone());
    let cells = vec![
        Cell::new("floor/raftkv/sync", move || one(&one_dir, time)),
        Cell::new("floor/raftkv/second-of-three", move || second_of_three(&three_dir, time)),
        Cell::new("floor/raftkv/hand-over", move || hand_over(time)),
    ];
    cells::run(cells, options.rounds(5), options);
    let _ = std::fs::remove_dir_all(&dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_three_is_waited_for_though_one_lags() {
        let (done, reports) = unbounded();
        [7, 6, 6, 7].into_iter().for_each(|number| done.send(number).unwrap());
        assert!(two_reach(7, &reports));
        drop(done);
        assert!(!two_reach(8, &reports), "there is nobody left");
    }

    #[test]
    fn every_cell_measures_something() {
        let dir = tempfile::tempdir().unwrap();
        let time = Duration::from_millis(20);
        for figures in [one(dir.path(), time), second_of_three(dir.path(), time), hand_over(time)] {
            assert!(figures.iter().all(|figure| figure.value > 0.0) && figures.len() == 2);
        }
    }
}
