//! What no store can be faster than: one sync of the disk, and a message between two threads.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use raftstore::disk::Disk;

use crate::store::open_directory;

const NAME: &str = "floor.log";
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// Syncs that are timed, and for how long at most.
const SYNCS: usize = 256;
const FILE_BYTES: u64 = (SYNCS * BLOCK.len()) as u64;
const SYNC_TIME: Duration = Duration::from_secs(2);
const HAND_OVERS: usize = 2000;

/// The floor, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    /// To append 4 KiB to a preallocated file and sync it: the median.
    pub(super) sync: u64,
    /// The 99th percentile of that.
    pub(super) sync_p99: u64,
    /// To wake another thread by a message: the median.
    pub(super) hand_over: u64,
}

impl Floor {
    /// Measures it in the directory at `path`, which has to be empty.
    pub(super) fn measure(path: &Path) -> io::Result<Floor> {
        let disk = open_directory(path)?;
        let syncs = syncs(&*disk);
        disk.remove(NAME)?;
        let syncs = syncs?;
        Ok(Floor { sync: at(&syncs, 50), sync_p99: at(&syncs, 99), hand_over: hand_over()? })
    }
}

/// The time of each sync, sorted.
fn syncs(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    disk.create_log(NAME, FILE_BYTES, &|_| true)?;
    let mut file = disk.append_log(NAME)?;
    let (mut times, begin) = (Vec::new(), Instant::now());
    while times.len() < SYNCS && begin.elapsed() < SYNC_TIME {
        let start = Instant::now();
        file.append(&BLOCK)?;
        file.flush().run()?;
        times.push(nanos(start.elapsed()));
    }
    times.sort_unstable();
    Ok(times)
}

/// Half of the way to another thread and back.
fn hand_over() -> io::Result<u64> {
    let (there, asked) = bounded::<()>(1);
    let (back, answered) = bounded::<()>(1);
    let other = std::thread::Builder::new().name("bench-echo".into()).spawn(move || {
        // Ends with the other side.
        while asked.recv().is_ok() && back.send(()).is_ok() {}
    })?;
    let mut times = Vec::with_capacity(HAND_OVERS);
    for _ in 0..HAND_OVERS {
        let start = Instant::now();
        if there.send(()).is_err() || answered.recv().is_err() {
            break;
        }
        times.push(nanos(start.elapsed()) / 2);
    }
    drop(there);
    // It has nothing to panic about, and if it did the times are worth no less.
    let _ = other.join();
    times.sort_unstable();
    Ok(at(&times, 50))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The value that so many percent of the sorted ones don't exceed.
fn at(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_found_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let floor = Floor::measure(dir.path()).unwrap();
        assert!(floor.sync > 0 && floor.sync_p99 >= floor.sync && floor.hand_over > 0, "{floor:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
