//! `recovery`: opening a log of so many bytes, every one of them verified, with the page cache
//! dropped and with it warm.

use std::path::Path;
use std::time::{Duration, Instant};

use raftstore::disk::Route;

use crate::cells::{self, Cell, Figure, figure};
use crate::device;
use crate::options::Options;
use crate::wal::{Log, open};

/// Groups, and entries of each in a batch.
const SHAPES: [(u64, usize); 3] = [(1, 256), (100, 16), (10_000, 1)];
const PAYLOAD: u64 = 256;

/// Cells for few and many groups.
pub fn run(options: &Options) {
    let bytes = options.mib << 20;
    let mut cells = Vec::new();
    for (groups, count) in SHAPES {
        let dir = options.dir.join(format!("recovery-raftkv{groups}"));
        let name = format!("recovery/raftkv/g{groups}/{}MiB", options.mib);
        cells.push(Cell::new(name, move || {
            let figures = measure(&dir, (groups, count), bytes);
            let _ = std::fs::remove_dir_all(&dir);
            figures
        }));
    }
    cells::run(cells, options.rounds(3), options);
}

fn measure(dir: &Path, (groups, count): (u64, usize), bytes: u64) -> Vec<Figure> {
    let mut log = Log::create(dir, Route::default(), u64::MAX);
    let mut entries = 0;
    while entries * PAYLOAD < bytes {
        log.append(groups, count);
        entries += groups * count as u64;
    }
    log.sync();
    drop(log);
    if !device::drop_caches() {
        eprintln!("not root: the page cache stays warm");
    }
    let cold = opened(dir, entries);
    let warm = opened(dir, entries);
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    vec![
        figure("cold", millis(cold), "ms"),
        figure("warm", millis(warm), "ms"),
        figure("entries", entries as f64, "count"),
    ]
}

/// How long opening takes.
fn opened(dir: &Path, entries: u64) -> Duration {
    let start = Instant::now();
    let (wal, found) = open(dir, Route::default());
    let elapsed = start.elapsed();
    assert_eq!(found, entries, "all that was synced is there");
    drop(wal);
    elapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_entries_are_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let figures = measure(&dir.path().join("log"), (3, 5), 100_000);
        let entries = figures.iter().find(|figure| figure.metric == "entries");
        assert_eq!(entries.map(|figure| figure.value), Some(405.0));
    }
}
