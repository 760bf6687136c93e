//! Allocations per round of propose, replicate, commit and apply on three nodes. They are exact
//! where times are noisy, so what the core promises about them is kept here.

use std::alloc::System;

use benches::cells::{noise, print};
use benches::cluster::{Cluster, Propose, fast_config};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds that are averaged: over several compactions.
const ROUNDS: usize = 4096;

/// Allocator calls a round beyond the payloads, which are the client's.
fn per_round(propose: Propose, batch: usize) -> f64 {
    let mut cluster = Cluster::new(3, propose, fast_config);
    let payload = noise(256, 1);
    for _ in 0..ROUNDS {
        cluster.round(&payload, batch);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        cluster.round(&payload, batch);
    }
    let change = region.change();
    let calls = (change.allocations + change.reallocations) as f64 / ROUNDS as f64 - batch as f64;
    print(&format!("core/raftkv/n3/p256/b{batch}"), "allocs_per_round", calls, "calls");
    calls
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn a_round_allocates_a_constant_number_of_times_beyond_its_payloads() {
    let one = per_round(Propose::Each, 1);
    assert!(one <= 1.1, "{one} allocations for one entry");
    for batch in [64, 1024] {
        let many = per_round(Propose::Each, batch);
        assert!(many <= 2.1, "{many} allocations for {batch} entries");
    }
}
