//! What may happen to a snapshot between two stores.

use harness::cluster::Cluster;
use harness::filter::{Drop, Kind, Which};
use harness::sim::{NetOptions, Options, ms};
use raftstore::StoreId;

use super::{LIMIT, S1, installed, leave_behind, put_and_count, small};

/// A cluster in which S1 is far behind and still cut off, and snapshots take a while.
fn behind(seed: u64, bytes_per_ms: u64) -> Cluster {
    let options = Options { snapshot_bytes_per_ms: bytes_per_ms, ..small(seed, LIMIT) };
    let mut cluster = Cluster::simulated(options);
    (0..5).for_each(|number| put_and_count(&mut cluster, number));
    cluster.barrier_on(S1);
    leave_behind(&mut cluster, S1, 5..60);
    cluster
}

/// S1 has everything, by a snapshot, and soon there is nothing left of others.
fn catches_up(cluster: &mut Cluster) {
    cluster.barrier_on(S1);
    assert!(installed(cluster, S1) > 0, "not by a snapshot");
    cluster.must_agree();
    cluster.wait_for("streams and files to go", |cluster| {
        let world = cluster.sim_mut()?.world();
        let is_clean = |&id: &StoreId| {
            let host = world.host(id);
            let files = host.disk.mount().list().expect("the disk is fine");
            let received = files.iter().filter(|file| file.starts_with("snapshot-")).count();
            let streams = host.process.as_ref().map(|p| p.sending() + p.receiving());
            received <= 1 && streams == Some(0) && !files.iter().any(|f| f.ends_with(".tmp"))
        };
        world.stores().iter().all(is_clean).then_some(())
    });
}

fn sum(cluster: &Cluster, of: impl Fn(&raftstore::store::Counters) -> u64) -> u64 {
    cluster.stores().iter().filter_map(|&id| cluster.counters(id)).map(|c| of(&c)).sum()
}

/// Waits until pieces of a snapshot are on their way to S1; by whom they are sent.
fn wait_for_pieces(cluster: &mut Cluster) -> StoreId {
    cluster.wait_for("pieces of a snapshot", |cluster| {
        let world = cluster.sim_mut()?.world();
        let receiving = world.host(S1).process.as_ref()?.receiving() > 0;
        let sends = |id: &StoreId| {
            world.host(*id).process.as_ref().is_some_and(|process| process.sending() > 0)
        };
        world.stores().into_iter().find(sends).filter(|_| receiving)
    })
}

/// Damaged pieces are never taken for the state. The snapshot is asked for again, and again.
#[test]
fn a_damaged_snapshot_is_refused_and_sent_again() {
    for seed in 0..5 {
        let mut cluster = behind(seed, 64 << 10);
        let world = cluster.sim_mut().expect("simulated").world_mut();
        world.set_net(NetOptions { corrupt_permille: 1000, ..NetOptions::default() });
        cluster.heal();
        cluster.wait_for("three attempts", |cluster| {
            (sum(cluster, |c| c.snapshots_failed) >= 3).then_some(())
        });
        assert_eq!(installed(&cluster, S1), 0);
        cluster.sim_mut().expect("simulated").world_mut().set_net(NetOptions::default());
        catches_up(&mut cluster);
    }
}

/// A follower to which nothing gets through does not keep the leader busy: attempts get rare, and the
/// log does not grow meanwhile. When the way is free it catches up.
#[test]
fn a_follower_that_keeps_failing_costs_little() {
    let mut cluster = behind(7, 64 << 10);
    cluster.heal();
    cluster.add_filter(Drop(Which::kind(Kind::Snapshot).to(S1)));
    for number in 60..160 {
        put_and_count(&mut cluster, number);
        cluster.run_for(ms(100));
    }
    let begun = sum(&cluster, |c| c.snapshots_begun);
    // Ten seconds are a thousand ticks: eight doublings, and then one attempt in 256 ticks.
    assert!((3..=16).contains(&begun), "{begun} attempts in {} ms", cluster.now() / 1000);
    let leader = cluster.wait_leader();
    let status = cluster.status(leader).expect("it runs");
    assert!(status.applied - status.compacted <= 4 * LIMIT + LIMIT, "{status:?}");
    assert_eq!(installed(&cluster, S1), 0);
    cluster.clear_filters();
    catches_up(&mut cluster);
}

/// The sender dies in the middle of a snapshot, or only loses the connection, or its lead.
#[test]
fn the_sender_goes_in_the_middle() {
    for seed in 0..12 {
        // A byte a millisecond: some seconds for all of it.
        let mut cluster = behind(seed, 1);
        cluster.heal();
        let sender = wait_for_pieces(&mut cluster);
        let other = cluster.stores().into_iter().find(|&id| id != S1 && id != sender);
        match seed % 4 {
            0 => cluster.crash_server(sender),
            1 => cluster.isolate(sender),
            2 => cluster.transfer_leader(other.expect("there are three")),
            _ => {
                // The receiver goes instead, and comes again.
                cluster.crash_server(S1);
                cluster.start_server(S1);
            }
        }
        // (Not counted: what was cut off half-way is done again.)
        (60..70).for_each(|number| cluster.must_put(format!("later {number}"), "value"));
        if seed % 4 == 0 {
            cluster.start_server(sender);
        }
        cluster.heal();
        let patience = harness::cluster::Patience {
            must: ms(120_000),
            ..harness::cluster::Patience::default()
        };
        cluster.set_patience(patience);
        catches_up(&mut cluster);
        cluster.must_get("count", "60");
        assert_eq!(cluster.scan("later", "later~").len(), 10);
    }
}
