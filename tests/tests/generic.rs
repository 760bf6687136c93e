//! TinyKV's 2B suite by name: in virtual time over several seeds, and once each with real threads and
//! files. OnePartition2B is in `basic`, the 2C suite in `snapshots`.

use harness::cluster::{Cluster, Stop};
use harness::generic::Generic;
use harness::generic::suite::test;

/// One of the tests over some seeds: six, or as many as `SUITE_SEEDS` says.
fn on_sim(name: &str) {
    let seeds = std::env::var("SUITE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    (0..seeds).for_each(|seed| _ = test(name).on_sim(seed));
}

#[test]
fn sim_basic_2b() {
    on_sim("Basic2B");
}

#[test]
fn threads_basic_2b() {
    test("Basic2B").on_threads(1);
}

#[test]
fn sim_concurrent_2b() {
    on_sim("Concurrent2B");
}

#[test]
fn threads_concurrent_2b() {
    test("Concurrent2B").on_threads(1);
}

#[test]
fn sim_unreliable_2b() {
    on_sim("Unreliable2B");
}

#[test]
fn threads_unreliable_2b() {
    test("Unreliable2B").on_threads(1);
}

#[test]
fn sim_many_partitions_one_client_2b() {
    on_sim("ManyPartitionsOneClient2B");
}

#[test]
fn threads_many_partitions_one_client_2b() {
    test("ManyPartitionsOneClient2B").on_threads(1);
}

#[test]
fn sim_many_partitions_many_clients_2b() {
    on_sim("ManyPartitionsManyClients2B");
}

#[test]
fn threads_many_partitions_many_clients_2b() {
    test("ManyPartitionsManyClients2B").on_threads(1);
}

#[test]
fn sim_persist_one_client_2b() {
    on_sim("PersistOneClient2B");
}

#[test]
fn threads_persist_one_client_2b() {
    test("PersistOneClient2B").on_threads(1);
}

#[test]
fn sim_persist_concurrent_2b() {
    on_sim("PersistConcurrent2B");
}

#[test]
fn threads_persist_concurrent_2b() {
    test("PersistConcurrent2B").on_threads(1);
}

#[test]
fn sim_persist_concurrent_unreliable_2b() {
    on_sim("PersistConcurrentUnreliable2B");
}

#[test]
fn threads_persist_concurrent_unreliable_2b() {
    test("PersistConcurrentUnreliable2B").on_threads(1);
}

#[test]
fn sim_persist_partition_2b() {
    on_sim("PersistPartition2B");
}

#[test]
fn threads_persist_partition_2b() {
    test("PersistPartition2B").on_threads(1);
}

#[test]
fn sim_persist_partition_unreliable_2b() {
    on_sim("PersistPartitionUnreliable2B");
}

#[test]
fn threads_persist_partition_unreliable_2b() {
    test("PersistPartitionUnreliable2B").on_threads(1);
}

/// A killed process leaves its page cache, synced or not.
#[test]
fn sim_killed_and_partitioned_and_unreliable() {
    for seed in 1000..1006 {
        let generic = test("PersistPartitionUnreliable2B").generic(seed);
        Generic { crash: Some(Stop::Kill), ..generic }.run(&mut Cluster::sim(5, seed));
    }
}

/// The same, by clients that ask again within sessions.
#[test]
fn sim_persist_partition_unreliable_exactly_once() {
    for seed in 2000..2006 {
        let generic = test("PersistPartitionUnreliable2B").generic(seed);
        Generic { exactly_once: true, ..generic }.run(&mut Cluster::sim(5, seed));
    }
}
