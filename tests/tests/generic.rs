//! TinyKV's 2B suite by name, in virtual time: every test over many seeds; and two of it with real
//! threads and files.

use harness::cluster::{Cluster, Stop};
use harness::generic::Generic;

/// Seeds of each test.
const SEEDS: u64 = 6;

fn sim(options: impl Fn(u64) -> Generic) {
    for seed in 0..SEEDS {
        options(seed).run(&mut Cluster::sim(5, seed));
    }
}

#[test]
fn sim_basic_2b() {
    sim(Generic::new);
}

#[test]
fn sim_concurrent_2b() {
    sim(|seed| Generic { clients: 5, ..Generic::new(seed) });
}

#[test]
fn sim_unreliable_2b() {
    sim(|seed| Generic { clients: 5, unreliable: true, ..Generic::new(seed) });
}

#[test]
fn sim_many_partitions_one_client_2b() {
    sim(|seed| Generic { partitions: true, ..Generic::new(seed) });
}

#[test]
fn sim_many_partitions_many_clients_2b() {
    sim(|seed| Generic { clients: 5, partitions: true, ..Generic::new(seed) });
}

#[test]
fn sim_persist_one_client_2b() {
    sim(|seed| Generic { crash: Some(Stop::PowerLoss), ..Generic::new(seed) });
}

#[test]
fn sim_persist_concurrent_2b() {
    sim(|seed| Generic { clients: 5, crash: Some(Stop::PowerLoss), ..Generic::new(seed) });
}

#[test]
fn sim_persist_concurrent_unreliable_2b() {
    let crash = Some(Stop::PowerLoss);
    sim(|seed| Generic { clients: 5, unreliable: true, crash, ..Generic::new(seed) });
}

#[test]
fn sim_persist_partition_2b() {
    let crash = Some(Stop::PowerLoss);
    sim(|seed| Generic { clients: 5, partitions: true, crash, ..Generic::new(seed) });
}

#[test]
fn sim_persist_partition_unreliable_2b() {
    let base = |seed| Generic { clients: 5, crash: Some(Stop::PowerLoss), ..Generic::new(seed) };
    sim(|seed| Generic { unreliable: true, partitions: true, ..base(seed) });
    // A killed process leaves its page cache, synced or not.
    let crash = Some(Stop::Kill);
    sim(|seed| Generic { unreliable: true, partitions: true, crash, ..base(seed + 1000) });
}

/// The same, by clients that ask again within sessions.
#[test]
fn sim_persist_partition_unreliable_exactly_once_2b() {
    let crash = Some(Stop::PowerLoss);
    let base = |seed| Generic { clients: 5, crash, exactly_once: true, ..Generic::new(seed) };
    sim(|seed| Generic { unreliable: true, partitions: true, ..base(seed + 2000) });
}

#[test]
fn threads_basic_2b() {
    Generic::new(1).run(&mut Cluster::threads(5));
}

#[test]
fn threads_persist_partition_unreliable_2b() {
    let crash = Some(Stop::Kill);
    let generic =
        Generic { clients: 5, unreliable: true, partitions: true, crash, ..Generic::new(2) };
    generic.run(&mut Cluster::threads(5));
}
