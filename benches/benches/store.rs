//! Whole stores: three of them in this process, with their threads and a synced log each, below
//! the build's target directory.
//!
//! `store/commit` keeps so many writes in flight; an iteration is as many writes, from the client
//! that proposes them to the answer that they are applied. With one in flight it is a latency, with
//! many a throughput.

use std::time::Duration;

use benches::cells::noise;
use benches::e2e::Stores;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftstore::disk::Route;
use raftstore::node::SyncMode;

const PAYLOAD: usize = 256;

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/commit");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let payload = noise(PAYLOAD, 1);
    // Who syncs in the loop is there to be compared with at its best.
    let subjects: [(_, _, &[usize]); 2] =
        [("writer", SyncMode::Writer, &[1, 64, 512]), ("inline", SyncMode::Inline, &[512])];
    for (name, sync, windows) in subjects {
        let mut stores = Stores::start(Some((&dir.path().join(name), Route::DEFAULT)), sync);
        for &window in windows {
            group.throughput(Throughput::ElementsAndBytes {
                elements: window as u64,
                bytes: (window * PAYLOAD) as u64,
            });
            group.bench_function(BenchmarkId::new(name, format!("p{PAYLOAD}/w{window}")), |b| {
                b.iter_custom(|rounds| stores.commit(window, &payload, rounds * window as u64));
            });
        }
        stores.stop();
    }
    group.finish();
}

criterion_group! {
    name = store;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sample_size(10);
    targets = commit
}
criterion_main!(store);
