//! What a healthy cluster does, and what it does when somebody is missing: on simulated stores over
//! many seeds, and once on real threads and files.

use harness::cluster::Cluster;
use raftstore::StoreId;

/// Runs a test on simulated clusters of 3 and 5 stores with different seeds.
fn sim(seeds: u64, test: impl Fn(&mut Cluster)) {
    for seed in 0..seeds {
        let mut cluster = Cluster::sim(if seed % 2 == 0 { 3 } else { 5 }, seed);
        test(&mut cluster);
        cluster.heal();
        for store in cluster.stores() {
            if cluster.status(store).is_none() {
                cluster.start_server(store);
            }
        }
        cluster.must_agree();
    }
}

/// Runs a test on nodes with threads.
fn threads(test: impl Fn(&mut Cluster)) {
    let mut cluster = Cluster::threads(3);
    test(&mut cluster);
    cluster.heal();
    for store in cluster.stores() {
        if cluster.status(store).is_none() {
            cluster.start_server(store);
        }
    }
    cluster.must_agree();
}

fn put_get_delete_scan(cluster: &mut Cluster) {
    cluster.must_get_none("k1");
    for i in 0..20 {
        cluster.must_put(format!("k{i:02}"), format!("v{i}"));
    }
    cluster.must_get("k07", "v7");
    cluster.must_put("k07", "other");
    cluster.must_get("k07", "other");
    cluster.must_delete("k03");
    cluster.must_get_none("k03");
    let keys: Vec<_> = cluster.scan("k02", "k06").into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["k02", "k04", "k05"]);
    assert_eq!(cluster.scan("", "").len(), 19);
}

#[test]
fn sim_put_get_delete_scan() {
    sim(20, put_get_delete_scan);
}

/// TinyKV's OnePartition2B, first half: the leader is with the majority.
fn leader_with_the_majority(cluster: &mut Cluster) {
    cluster.must_put("k1", "v1");
    let leader = cluster.wait_leader();
    let others: Vec<StoreId> = cluster.stores().into_iter().filter(|&id| id != leader).collect();
    let (with, without) = others.split_at(others.len() / 2);
    without.iter().for_each(|&id| cluster.barrier_on(id));
    let majority: Vec<_> = with.iter().copied().chain([leader]).collect();
    cluster.partition(&majority, without);
    cluster.must_put("k1", "v2");
    cluster.must_put("k2", "v2");
    for &id in without {
        cluster.must_get_on(id, "k1", "v1");
        cluster.must_get_none_on(id, "k2");
    }
    cluster.heal();
    for &id in without {
        cluster.must_get_on(id, "k1", "v2");
    }
}

#[test]
fn sim_leader_with_the_majority() {
    sim(20, leader_with_the_majority);
}

/// TinyKV's OnePartition2B, second half: the leader is with the minority.
fn leader_with_the_minority(cluster: &mut Cluster) {
    cluster.must_put("k1", "v1");
    let leader = cluster.wait_leader();
    let others: Vec<StoreId> = cluster.stores().into_iter().filter(|&id| id != leader).collect();
    let (with, without) = others.split_at(others.len() / 2 - 1);
    let minority: Vec<_> = with.iter().copied().chain([leader]).collect();
    minority.iter().for_each(|&id| cluster.barrier_on(id));
    cluster.partition(&minority, without);
    cluster.wait_leader_among(without);
    cluster.must_get("k1", "v1");
    cluster.must_put("k1", "changed");
    cluster.must_put("k2", "new");
    for &id in &minority {
        cluster.must_get_on(id, "k1", "v1");
        cluster.must_get_none_on(id, "k2");
    }
    cluster.heal();
    for &id in &minority {
        cluster.must_get_on(id, "k1", "changed");
        cluster.must_get_on(id, "k2", "new");
    }
}

#[test]
fn sim_leader_with_the_minority() {
    sim(20, leader_with_the_minority);
}

#[test]
fn threads_put_get_delete_scan() {
    threads(put_get_delete_scan);
}

#[test]
fn threads_leader_with_the_majority() {
    threads(leader_with_the_majority);
}

#[test]
fn threads_leader_with_the_minority() {
    threads(leader_with_the_minority);
}
