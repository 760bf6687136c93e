//! What a healthy cluster does, and what it does when somebody is missing: on simulated stores over
//! many seeds, and once on real threads and files.

use harness::cluster::Cluster;
use harness::filter::{Delay, Drop, Duplicate, Kind, Which};
use harness::sim::ms;
use kv::Op;
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

/// Appends that come late, twice and out of order, and acknowledgements that do not come.
fn messages_late_doubled_and_lost(cluster: &mut Cluster) {
    let leader = cluster.wait_leader();
    let (late, doubled) = (Which::kind(Kind::Append).from(leader), Which::all().to(leader));
    cluster.add_filter(Delay::new(late, ms(0)..ms(20), 1));
    cluster.add_filter(Duplicate::new(doubled, ms(1)..ms(20), 2));
    cluster.add_filter(Drop(Which::kind(Kind::AppendReply).to(leader).times(5)));
    for n in 0..20 {
        cluster.must_put(format!("k{n:02}"), format!("v{n}"));
    }
    assert_eq!(cluster.scan("k", "l").len(), 20);
}

#[test]
fn sim_messages_late_doubled_and_lost() {
    sim(20, messages_late_doubled_and_lost);
}

#[test]
fn threads_messages_late_doubled_and_lost() {
    threads(messages_late_doubled_and_lost);
}

/// Every acknowledgement of a follower is lost: it is not needed while the others are there, and
/// has everything all the same.
fn a_mute_follower(cluster: &mut Cluster) {
    let leader = cluster.wait_leader();
    let mute = cluster.stores().into_iter().find(|&id| id != leader).expect("another");
    cluster.add_filter(Drop(Which::kind(Kind::AppendReply).from(mute)));
    for n in 0..10 {
        cluster.must_put(format!("k{n}"), "v");
    }
    cluster.clear_filters();
    cluster.must_get_on(mute, "k9", "v");
}

#[test]
fn sim_a_mute_follower() {
    sim(20, a_mute_follower);
}

#[test]
fn threads_a_mute_follower() {
    threads(a_mute_follower);
}

/// A leader that reaches nobody acknowledges nothing, and takes nothing back when it returns.
fn an_isolated_leader(cluster: &mut Cluster) {
    cluster.must_put("k", "v1");
    let old = cluster.wait_leader();
    cluster.isolate(old);
    // It does not know yet that it cannot commit this.
    let lost = cluster.submit(old, Op::put("k", "lost").into());
    let others: Vec<StoreId> = cluster.stores().into_iter().filter(|&id| id != old).collect();
    cluster.wait_leader_among(&others);
    let answered = cluster.poll().filter(|(ticket, answer)| *ticket == lost && answer.is_ok());
    assert_eq!(answered, None, "acknowledged what nobody else has");
    cluster.must_put("k", "v2");
    cluster.heal();
    cluster.must_get_on(old, "k", "v2");
    cluster.must_get("k", "v2");
}

#[test]
fn sim_an_isolated_leader() {
    sim(20, an_isolated_leader);
}

#[test]
fn threads_an_isolated_leader() {
    threads(an_isolated_leader);
}

/// What was acknowledged is on disks, not in memories: nothing else is left when all have ended.
fn all_stores_end_at_once(cluster: &mut Cluster) {
    for round in 0..3 {
        for n in 0..10 {
            cluster.must_put(format!("{round} {n}"), format!("value {n}"));
        }
        cluster.must_delete(format!("{round} 4"));
        cluster.stores().into_iter().for_each(|store| cluster.crash_server(store));
        cluster.stores().into_iter().for_each(|store| cluster.start_server(store));
        assert_eq!(cluster.scan("", "").len(), 9 * (round + 1));
        cluster.must_get_none(format!("{round} 4"));
    }
}

#[test]
fn sim_all_stores_end_at_once() {
    sim(20, all_stores_end_at_once);
}

#[test]
fn threads_all_stores_end_at_once() {
    threads(all_stores_end_at_once);
}

/// TinyKV's TransferLeader3B.
fn transfer_leader_3b(cluster: &mut Cluster) {
    for store in cluster.stores() {
        cluster.transfer_leader(store);
        cluster.must_put("by", format!("{store}"));
    }
}

#[test]
fn sim_transfer_leader_3b() {
    sim(20, transfer_leader_3b);
}

#[test]
fn threads_transfer_leader_3b() {
    threads(transfer_leader_3b);
}

/// L1: acknowledgements get lost, leaders come and go, all stores end; every addition counts once.
fn l1_additions_count_once(cluster: &mut Cluster) {
    let mut client = cluster.client();
    for n in 1..=12 {
        let cluster = client.link_mut().cluster();
        match n % 4 {
            0 => {
                let leader = cluster.wait_leader();
                cluster.add_filter(Drop(Which::kind(Kind::AppendReply).to(leader).times(9)));
            }
            1 => {
                let leader = cluster.wait_leader();
                cluster.isolate(leader);
            }
            2 => cluster.heal(),
            _ => {
                cluster.stores().into_iter().for_each(|store| cluster.crash_server(store));
                cluster.stores().into_iter().for_each(|store| cluster.start_server(store));
            }
        }
        assert_eq!(client.add("n", 1), Ok(Some(n)));
    }
    cluster.heal();
    cluster.must_get("n", "12");
}

#[test]
fn sim_l1_additions_count_once() {
    sim(20, l1_additions_count_once);
}

#[test]
fn threads_l1_additions_count_once() {
    threads(l1_additions_count_once);
}
