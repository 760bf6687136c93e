//! The store as a client of this process sees it: three whole stores with synced logs, below the
//! build's target directory, and the state machine.
//!
//! `kv/put` and `kv/get` keep so many requests in flight at the leader's node; an iteration is as
//! many requests. `kv/snapshot` is the state machine alone.

use std::path::Path;
use std::time::{Duration, Instant};

use benches::cells::noise;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::unbounded;
use kv::bench::{LocalCluster, Sync};
use kv::store::Reads;
use kv::{Callback, Cf, KvMachine, Op, Query, Request};
use raft::{Entries, Entry, LogId, Run};
use raftstore::command::{CommandKind, encode};
use raftstore::node::Proposal;
use raftstore::{Epoch, Machine, Region, RegionId, StoreId};

const PAYLOAD: usize = 256;
/// Few, so that the state does not grow.
const KEYS: u64 = 1024;
const WINDOWS: [usize; 3] = [1, 64, 512];
const EPOCH: Epoch = Epoch { version: 1, conf_ver: 1 };

/// How a request gets to the state machine.
#[derive(Clone, Copy)]
enum Way {
    Log,
    Read,
}

fn cluster(dir: &Path, reads: Reads) -> LocalCluster {
    let start = LocalCluster::start(dir, 3, Sync::Always, |options| {
        options.reads = reads;
    });
    start.expect("an empty cluster starts")
}

fn key(n: u64) -> String {
    format!("key{:08}", n % KEYS)
}

fn put(n: u64, value: &Bytes) -> Request {
    Op::put(key(n), value.clone()).into()
}

/// The time of so many requests, at most `window` of them in flight.
fn requests(
    cluster: &LocalCluster,
    way: Way,
    window: usize,
    count: u64,
    make: impl Fn(u64) -> Request,
) -> Duration {
    let (sender, answers) = unbounded();
    let node = cluster.leader();
    let submit = |n: u64| {
        let sender = sender.clone();
        let callback = Callback::new(move |answer: kv::Answer| {
            // The receiver lives for longer than any request.
            let _ = sender.send(answer.is_ok());
        });
        match way {
            Way::Log => {
                let body = make(n).encode().expect("within the limits");
                node.propose(Proposal { region: RegionId::FIRST, epoch: EPOCH, body, callback });
            }
            Way::Read => node.read(RegionId::FIRST, Query::new(EPOCH, make(n), callback)),
        }
    };
    let start = Instant::now();
    let first = count.min(window as u64);
    (0..first).for_each(&submit);
    for n in first..first + count {
        assert!(answers.recv().expect("a sender is kept"), "the leader carries it out");
        if n < count {
            submit(n);
        }
    }
    start.elapsed()
}

fn puts_and_gets(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let value = Bytes::from(noise(PAYLOAD, 1));
    let safe = cluster(&dir.path().join("safe"), Reads::Index);
    measure(c, "kv/put", "log", |window, rounds| {
        requests(&safe, Way::Log, window, rounds * window as u64, |n| put(n, &value))
    });
    let get = |n| Request::from(Op::get(key(n)));
    let gets = |cluster: &LocalCluster, path, window: usize, rounds| {
        requests(cluster, path, window, rounds * window as u64, get)
    };
    measure(c, "kv/get", "log", |window, rounds| gets(&safe, Way::Log, window, rounds));
    measure(c, "kv/get", "read_index", |window, rounds| gets(&safe, Way::Read, window, rounds));
    safe.stop().expect("a healthy cluster stops");

    let lease = cluster(&dir.path().join("lease"), Reads::Lease);
    requests(&lease, Way::Log, 64, KEYS, |n| put(n, &value));
    measure(c, "kv/get", "lease", |window, rounds| gets(&lease, Way::Read, window, rounds));
    lease.stop().expect("a healthy cluster stops");
}

fn measure(c: &mut Criterion, group: &str, name: &str, run: impl Fn(usize, u64) -> Duration) {
    let mut group = c.benchmark_group(group);
    for window in WINDOWS {
        group.throughput(Throughput::Elements(window as u64));
        group.bench_function(BenchmarkId::new(name, format!("w{window}")), |b| {
            b.iter_custom(|rounds| run(window, rounds));
        });
    }
    group.finish();
}

/// A state machine with so many keys.
fn machine(keys: u64) -> KvMachine {
    let region = Region::first(&[StoreId(1)]);
    let mut machine = KvMachine::in_memory();
    machine.create(region.clone());
    let entry = |n: u64| {
        let request = Request::from(Op::put(format!("key{n:08}"), noise(PAYLOAD, n)));
        let body = request.encode().expect("within the limits");
        Entry::normal(encode(region.id, region.epoch, CommandKind::Application, &body))
    };
    let run = Run::new(1, 1, (0..keys).map(entry).collect::<Vec<_>>());
    machine.apply(region.id, &run.map(Entries::from).unwrap_or_default());
    assert_eq!(machine.applied(region.id), Some(LogId { term: 1, index: keys }));
    machine
}

fn snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("kv/snapshot");
    for keys in [1_000, 100_000] {
        let mut machine = machine(keys);
        let mut take = || {
            let (callback, answer) = Callback::pair();
            machine.read(RegionId::FIRST, vec![Query::snapshot(EPOCH, callback)]);
            answer.recv().expect("answered at once").expect("the region is here")
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("take", keys), |b| b.iter(&mut take));
        let snapshot = take();
        group.throughput(Throughput::ElementsAndBytes {
            elements: keys,
            bytes: keys * (PAYLOAD + key(0).len()) as u64,
        });
        group.bench_function(BenchmarkId::new("scan", keys), |b| {
            b.iter(|| {
                let mut seen = 0;
                snapshot.scan(Cf::Default, b"", b"", false, &mut |key, value| {
                    seen += key.len() + value.len();
                    true
                });
                seen
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = kvs;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10);
    targets = puts_and_gets, snapshot
}
criterion_main!(kvs);
