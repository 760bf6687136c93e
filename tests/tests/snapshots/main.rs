//! A store that was away for longer than the log reaches back: TinyKV's 2C suite by name, what may go
//! wrong with a snapshot on its way, and what a crash leaves of it.
//!
//! | file | what |
//! |---|---|
//! | this | helpers; OneSnapshot2C and the tests that take a cluster apart |
//! | `on_the_way` | damaged, broken off, refused again and again, overtaken by an election |
//! | `crash` | power failures at every operation of the receiver's disk |
//! | `load` | 100,000 entries behind, under write load, on threads |
//!
//! Where the documented bugs of others (group S) are tested:
//!
//! | bug | where |
//! |---|---|
//! | S1 | does not apply: it takes a region that is split, and regions are not |
//! | S2 S3 | `raft/tests/paper/snapshots.rs`, `tests/scripts/snapshot` |
//! | S4 S7 S9 S12 | `crash` |
//! | S5 | `raft/tests/behaviour/snapshot.rs`; here, by what every simulation checks of applying |
//! | S6 | `raft/tests/behaviour/snapshot.rs`, `tests/scripts/snapshot/overtaken.txt` |
//! | S8 | `kv/src/snapshot_file/tests.rs`, `kv/src/checkpoint` |
//! | S10 | `tests/scripts/snapshot/compacted_again.txt` |
//! | S11 | `raft/tests/behaviour/snapshot.rs` |
//! | S13 | this |
//! | S14 | no test of its own: checkpoints and installs meet by chance, in simulations |

mod crash;
mod load;
mod on_the_way;

use harness::cluster::{Cluster, ThreadOptions};
use harness::generic::suite::test;
use harness::sim::Options;
use kv::{Cf, Op, Request};
use raftstore::StoreId;

/// TinyKV's limit for OneSnapshot2C.
const LIMIT: u64 = 10;

const S1: StoreId = StoreId(1);

/// Three simulated stores whose logs keep no more than `limit` entries for whoever is away.
fn small(seed: u64, limit: u64) -> Options {
    Options {
        log_gc_count_limit: limit,
        compact_entries: limit,
        checkpoint_bytes: 64,
        ..Options::new(3, seed)
    }
}

/// Puts a key and counts it, in one command.
fn put_and_count(cluster: &mut Cluster, number: u64) {
    let ops = vec![Op::put(format!("key {number:05}"), "value"), Op::add("count", 1)];
    cluster.request(Request { ops, session: None });
}

/// Has the log of everybody else go on without `away`, which is cut off.
fn leave_behind(cluster: &mut Cluster, away: StoreId, numbers: std::ops::Range<u64>) {
    cluster.isolate(away);
    let has = cluster.status(away).map_or(0, |status| status.commit);
    numbers.for_each(|number| put_and_count(cluster, number));
    wait_for_compaction(cluster, away, has);
}

/// Waits until whoever leads the others has no log any more from `index` on.
fn wait_for_compaction(cluster: &mut Cluster, away: StoreId, index: u64) {
    let others: Vec<_> = cluster.stores().into_iter().filter(|&id| id != away).collect();
    cluster.wait_for("the log to go on without a store that is away", |cluster| {
        let gone = |id: &StoreId| cluster.status(*id).is_some_and(|s| s.compacted > index);
        others.iter().all(gone).then_some(())
    });
}

fn installed(cluster: &Cluster, store: StoreId) -> u64 {
    cluster.counters(store).map_or(0, |counters| counters.snapshots_installed)
}

/// Waits until a store has just these values in its own state.
fn wait_for_values(cluster: &mut Cluster, store: StoreId, values: &[(&str, Option<&str>)]) {
    cluster.wait_for(&format!("{values:?} on {store:?}"), |cluster| {
        let is_there = |(key, value): &(&str, Option<&str>)| {
            let found = cluster.value_on(store, Cf::Lock, key);
            found.as_deref() == value.map(str::as_bytes)
        };
        values.iter().all(is_there).then_some(())
    });
}

/// TinyKV's OneSnapshot2C.
fn one_snapshot(cluster: &mut Cluster) {
    cluster.must_put_cf(Cf::Lock, "k1", "v1");
    cluster.must_put_cf(Cf::Lock, "k2", "v2");
    // (A barrier looks at what a node published, which is a tick old.)
    for store in cluster.stores() {
        wait_for_values(cluster, store, &[("k1", Some("v1")), ("k2", Some("v2"))]);
        assert!(cluster.status(store).is_some_and(|s| s.compacted < LIMIT), "{store:?}");
    }
    let has = cluster.status(S1).map_or(0, |status| status.commit);
    cluster.isolate(S1);
    for i in 100..115 {
        cluster.must_put_cf(Cf::Lock, format!("k{i}"), format!("v{i}"));
    }
    cluster.must_delete_cf(Cf::Lock, "k2");
    wait_for_compaction(cluster, S1, has);
    assert_eq!(cluster.value_on(S1, Cf::Lock, "k100"), None);
    assert_eq!(installed(cluster, S1), 0);

    cluster.heal();
    // With the deletion.
    let all = [("k1", Some("v1")), ("k2", None), ("k100", Some("v100")), ("k114", Some("v114"))];
    wait_for_values(cluster, S1, &all);
    cluster
        .wait_for("a snapshot to be counted", |cluster| (installed(cluster, S1) > 0).then_some(()));
    cluster.crash_server(S1);
    cluster.start_server(S1);
    wait_for_values(cluster, S1, &all);
    cluster.logs_are_bounded(LIMIT);
    cluster.must_agree();
}

#[test]
fn sim_one_snapshot_2c() {
    for seed in 0..10 {
        one_snapshot(&mut Cluster::simulated(small(seed, LIMIT)));
    }
}

#[test]
fn threads_one_snapshot_2c() {
    let options =
        ThreadOptions { log_gc_count_limit: LIMIT, checkpoint_bytes: 64, ..ThreadOptions::new(3) };
    one_snapshot(&mut Cluster::threaded(options));
}

/// One of TinyKV's 2C tests over some seeds: three, or as many as `SUITE_SEEDS` says. Returns how many
/// snapshots were installed.
fn on_sim(name: &str) -> u64 {
    let seeds = std::env::var("SUITE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let snapshots = (0..seeds).map(|seed| test(name).on_sim(seed)).sum();
    println!("{name}: {seeds} seeds, {snapshots} snapshots");
    snapshots
}

#[test]
fn sim_snapshot_recover_2c() {
    on_sim("SnapshotRecover2C");
}

#[test]
fn threads_snapshot_recover_2c() {
    test("SnapshotRecover2C").on_threads(1);
}

#[test]
fn sim_snapshot_recover_many_clients_2c() {
    on_sim("SnapshotRecoverManyClients2C");
}

#[test]
fn threads_snapshot_recover_many_clients_2c() {
    test("SnapshotRecoverManyClients2C").on_threads(1);
}

#[test]
fn sim_snapshot_unreliable_2c() {
    on_sim("SnapshotUnreliable2C");
}

#[test]
fn threads_snapshot_unreliable_2c() {
    test("SnapshotUnreliable2C").on_threads(1);
}

#[test]
fn sim_snapshot_unreliable_recover_2c() {
    on_sim("SnapshotUnreliableRecover2C");
}

#[test]
fn threads_snapshot_unreliable_recover_2c() {
    test("SnapshotUnreliableRecover2C").on_threads(1);
}

#[test]
fn sim_snapshot_unreliable_recover_concurrent_partition_2c() {
    let snapshots = on_sim("SnapshotUnreliableRecoverConcurrentPartition2C");
    assert!(snapshots > 0, "nobody was away for long enough");
}

#[test]
fn threads_snapshot_unreliable_recover_concurrent_partition_2c() {
    test("SnapshotUnreliableRecoverConcurrentPartition2C").on_threads(1);
}

/// S13: everything is still there after a snapshot, and after all stores have lost their power.
#[test]
fn s13_nothing_is_lost_when_all_restart_after_a_snapshot() {
    for seed in 0..5 {
        let mut cluster = Cluster::simulated(small(seed, LIMIT));
        (0..20).for_each(|number| put_and_count(&mut cluster, number));
        leave_behind(&mut cluster, S1, 20..60);
        cluster.heal();
        cluster.barrier_on(S1);
        for store in cluster.stores() {
            cluster.crash_server(store);
        }
        for store in cluster.stores() {
            cluster.start_server(store);
        }
        cluster.must_get("count", "60");
        assert_eq!(cluster.scan("key ", "key~").len(), 60);
        cluster.must_agree();
    }
}
