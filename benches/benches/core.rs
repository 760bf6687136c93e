//! The core alone: three nodes in one thread, no disk, nothing encoded.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::cells::noise;
use benches::cluster::{Cluster, Propose, fast_config};
use benches::idle::quiet_config;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft::NodeId;
use raft::quorum::{Joint, Majority};

/// From proposals to their being applied on all nodes.
fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/commit");
    for nodes in [1, 3, 5] {
        for payload in [16, 256, 4096] {
            for batch in [1, 64, 1024] {
                let mut cluster = Cluster::new(nodes, Propose::Each, fast_config);
                let bytes = noise(payload, 1);
                group.throughput(work(payload, batch));
                let id = BenchmarkId::new(format!("n{nodes}"), format!("p{payload}/b{batch}"));
                group.bench_function(id, |b| {
                    b.iter(|| black_box(cluster.round(&bytes, batch)));
                });
            }
        }
    }
    group.finish();
}

/// The leader's part alone, up to the proposal's place in the log; the rest of each round is not
/// timed.
fn propose(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/propose");
    for payload in [16, 256, 4096] {
        for batch in [1, 64, 1024] {
            let mut cluster = Cluster::new(3, Propose::Each, fast_config);
            let bytes = noise(payload, 1);
            group.throughput(work(payload, batch));
            group.bench_function(
                BenchmarkId::new(format!("p{payload}"), format!("b{batch}")),
                |b| {
                    b.iter_custom(|rounds| offered(&mut cluster, &bytes, batch, rounds));
                },
            );
        }
    }
    group.finish();
}

/// What a round does.
fn work(payload: usize, batch: usize) -> Throughput {
    Throughput::ElementsAndBytes { elements: batch as u64, bytes: (batch * payload) as u64 }
}

/// The time that the proposals of so many rounds take.
fn offered(cluster: &mut Cluster, payload: &[u8], batch: usize, rounds: u64) -> Duration {
    let mut elapsed = Duration::ZERO;
    for _ in 0..rounds {
        let start = Instant::now();
        cluster.offer(payload, batch);
        elapsed += start.elapsed();
        cluster.settle();
    }
    elapsed
}

/// A linearizable read, from the question to its confirmation by a heartbeat round.
fn read_index(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/read_index");
    for nodes in [1, 3, 5] {
        let mut cluster = Cluster::new(nodes, Propose::Each, fast_config);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("n{nodes}"), |b| b.iter(|| cluster.read()));
    }
    group.finish();
}

/// The two questions that everything rests on: what has a majority reached, and who has won.
fn quorum(c: &mut Criterion) {
    let id = |n: u64| NodeId::new(n).expect("not zero");
    let voters = |ids: std::ops::Range<u64>| ids.map(id).collect::<Majority>();
    let mut group = c.benchmark_group("quorum");
    for (name, incoming, outgoing) in
        [("n3", 1..4, 0..0), ("n5", 1..6, 0..0), ("n9", 1..10, 0..0), ("joint-n3-n3", 1..4, 2..5)]
    {
        let joint = Joint { incoming: voters(incoming), outgoing: voters(outgoing) };
        group.bench_function(BenchmarkId::new("committed", name), |b| {
            b.iter(|| black_box(&joint).committed(|id| (id.get() * 7919) % 64));
        });
        group.bench_function(BenchmarkId::new("vote_result", name), |b| {
            b.iter(|| black_box(&joint).vote_result(|id| Some(id.get() % 2 == 0)));
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
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    targets = commit, propose, tick, read_index, quorum
}
criterion_main!(core);
