//! The log on a real disk, below the build's target directory.
//!
//! `wal/append` writes one batch an iteration, so many entries to each of so many groups: `sync`
//! makes each batch durable before the next, `nosync` only puts it where readers see it, and so has
//! a sync only at the end of each segment. How long a sync takes says more about a Raft's speed than
//! anything else.
//!
//! `wal/recover` opens a log, every byte of which is verified.

use std::time::Duration;

use benches::wal::{Log, open};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftstore::disk::Route;

const PAYLOAD: u64 = 256;
/// The log is compacted whenever it has so many bytes: no sample finds more than the one before.
const KEPT_BYTES: u64 = 16 << 20;
/// Groups, and entries of each in a batch.
const SHAPES: [(u64, usize); 5] = [(1, 1), (1, 16), (1, 256), (100, 1), (100, 16)];
/// Payloads of the log that is recovered.
const RECOVERED_BYTES: u64 = 32 << 20;

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let routes =
        [("written", Route::Written), ("mapped", Route::Mapped), ("direct", Route::Direct)];
    let mut logs =
        routes.map(|(name, route)| (name, Log::create(&dir.path().join(name), route, KEPT_BYTES)));
    let mut group = c.benchmark_group("wal/append");
    // Without syncs far more is written: the disk would still be at it when the next one is asked
    // to sync a few bytes.
    for (sync, is_synced) in [("sync", true), ("nosync", false)] {
        for (name, log) in &mut logs {
            for (groups, count) in SHAPES {
                let elements = groups * count as u64;
                let bytes = elements * PAYLOAD;
                group.throughput(Throughput::ElementsAndBytes { elements, bytes });
                let id = BenchmarkId::new(sync, format!("{name}/g{groups}/e{count}"));
                group.bench_function(id, |b| {
                    b.iter(|| {
                        log.append(groups, count);
                        if is_synced {
                            log.sync();
                        } else {
                            log.collect();
                        }
                    });
                });
            }
            log.sync();
        }
    }
    group.finish();
}

fn recover(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut group = c.benchmark_group("wal/recover");
    for (groups, count) in [(1, 256), (100, 16), (10_000, 1)] {
        let dir = dir.path().join(groups.to_string());
        let mut log = Log::create(&dir, Route::default(), u64::MAX);
        let mut entries = 0;
        while entries * PAYLOAD < RECOVERED_BYTES {
            log.append(groups, count);
            entries += groups * count as u64;
        }
        log.sync();
        drop(log);
        let bytes = entries * PAYLOAD;
        group.throughput(Throughput::ElementsAndBytes { elements: entries, bytes });
        group.bench_function(format!("g{groups}"), |b| {
            b.iter(|| {
                let (wal, found) = open(&dir, Route::default());
                assert_eq!(found, entries, "all that was synced is there");
                wal
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = wal;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(10);
    targets = append, recover
}
criterion_main!(wal);
