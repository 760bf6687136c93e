//! The log on a real disk, below the build's target directory.
//!
//! `wal/append` writes one batch an iteration: `sync` makes each durable before the next, `nosync`
//! only puts it where readers see it, and so has a sync only at the end of each segment. How long a
//! sync takes says more about a Raft's speed than anything else.

use std::time::{Duration, Instant};

use benches::cells::noise;
use benches::steady_log::SteadyLog;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftstore::disk::Route;

const PAYLOAD: usize = 256;

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut logs = Vec::new();
    let routes =
        [("written", Route::Written), ("mapped", Route::Mapped), ("direct", Route::Direct)];
    for (name, route) in routes {
        for groups in [1, 100] {
            let name = format!("{name}/g{groups}");
            let dir = dir.path().join(name.replace('/', "-"));
            logs.push((name, SteadyLog::create(&dir, route, groups, &noise(PAYLOAD, 1))));
        }
    }
    let mut group = c.benchmark_group("wal/append");
    // Without syncs far more is written: the disk would still be at it when the next one is asked
    // to sync a few bytes.
    for (sync, is_synced) in [("sync", true), ("nosync", false)] {
        for (name, log) in &mut logs {
            for entries in [1, 16, 256] {
                group.throughput(Throughput::ElementsAndBytes {
                    elements: entries as u64,
                    bytes: (entries * PAYLOAD) as u64,
                });
                let id = BenchmarkId::new(sync, format!("{name}/e{entries}"));
                group.bench_function(id, |b| {
                    b.iter_custom(|batches| timed(log, batches, entries, is_synced));
                });
            }
        }
    }
    group.finish();
}

/// What so many batches took, without the making of them.
fn timed(log: &mut SteadyLog, batches: u64, entries: usize, sync: bool) -> Duration {
    let mut elapsed = Duration::ZERO;
    for _ in 0..batches {
        let batch = log.batch(entries);
        let start = Instant::now();
        log.write(&batch, sync);
        elapsed += start.elapsed();
    }
    elapsed
}

criterion_group! {
    name = wal;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(10);
    targets = append
}
criterion_main!(wal);
