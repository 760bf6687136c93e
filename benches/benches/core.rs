//! The core alone: three nodes in one thread, no disk, nothing encoded.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::cells::noise;
use benches::cluster::{Cluster, Propose, fast_config};
use benches::idle::quiet_config;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// From proposals to their being applied on all nodes.
fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/commit");
    for payload in [16, 256, 4096] {
        for batch in [1, 64, 1024] {
            let mut cluster = Cluster::new(3, Propose::Each, fast_config);
            let bytes = noise(payload, 1);
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new("n3", format!("p{payload}/b{batch}")), |b| {
                b.iter(|| black_box(cluster.round(&bytes, batch)));
            });
        }
    }
    group.finish();
}

/// The leader's part alone, up to the proposal's place in the log; the rest of each round is not
/// timed.
fn propose(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/propose");
    for batch in [1, 64, 1024] {
        let mut cluster = Cluster::new(3, Propose::Each, fast_config);
        let bytes = noise(256, 1);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("p256", format!("b{batch}")), |b| {
            b.iter_custom(|rounds| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..rounds {
                    let start = Instant::now();
                    cluster.offer(&bytes, batch);
                    elapsed += start.elapsed();
                    cluster.settle();
                }
                elapsed
            });
        });
    }
    group.finish();
}

/// A tick with nothing due.
fn tick(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/tick");
    for count in [1, 1000] {
        let make = |_| Cluster::new(3, Propose::Each, quiet_config);
        let mut clusters: Vec<Cluster> = (0..count).map(make).collect();
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("leader", count), |b| {
            b.iter(|| clusters.iter_mut().for_each(|cluster| cluster.leader().tick()));
        });
        group.bench_function(BenchmarkId::new("follower", count), |b| {
            b.iter(|| clusters.iter_mut().for_each(|cluster| cluster.follower().tick()));
        });
    }
    group.finish();
}

criterion_group! {
    name = core;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = commit, propose, tick
}
criterion_main!(core);
