//! Linearizable reads: a scenario for each rule that they rest on, in which breaking the rule is read.
//! (Which rule that is stands in `tests/rules.txt` and `tests/mutants`, with the text that would break it.)

use bytes::Bytes;
use harness::cluster::Cluster;
use harness::filter::{Delay, Drop, Kind, Which};
use harness::sim::{Options, ms};
use kv::{Error, Op, OpResult, Request};
use raft::ReadMode;
use raftstore::{RegionId, StoreId};

/// Both ways to confirm a read.
const MODES: [ReadMode; 2] = [ReadMode::Safe, ReadMode::Lease];

/// Three stores whose clocks are off by as much as a lease allows.
fn cluster(read_mode: ReadMode, seed: u64) -> Cluster {
    let mut cluster =
        Cluster::simulated(Options { read_mode, drift_percent: 20, ..Options::new(3, seed) });
    cluster.must_put("k", "old");
    cluster
}

fn others(cluster: &Cluster, than: StoreId) -> Vec<StoreId> {
    cluster.stores().into_iter().filter(|&id| id != than).collect()
}

/// Puts at one store that leads, at once.
fn put(cluster: &mut Cluster, leader: StoreId, value: &'static str) {
    let answer = cluster.call_within(leader, Op::put("k", value).into(), ms(1000));
    answer.expect("two of three");
}

/// What a store answers to a read, if it does so within that time.
fn read(cluster: &mut Cluster, store: StoreId, within: u64) -> Option<Bytes> {
    let answer = cluster.call_within(store, Op::get("k").into(), ms(within));
    let [OpResult::Value(value)] = &answer.ok()?.results[..] else { panic!("one value") };
    value.clone()
}

/// I4: a leader that is cut off, and does not know it yet, does not answer what its successor has
/// overwritten: neither by a round that nobody answers, nor by a lease that is over.
#[test]
fn i4_who_was_deposed_and_does_not_know_answers_nothing() {
    let mut still_led = 0;
    for (seed, mode) in (0..80).zip(MODES.into_iter().cycle()) {
        let mut cluster = cluster(mode, seed);
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        cluster.run_for(ms(seed * 7));
        cluster.isolate(old);
        let new = cluster.wait_leader_among(&rest);
        put(&mut cluster, new, "new");
        let leads = cluster.status(old).is_some_and(|status| status.leader == Some(old));
        still_led += u32::from(leads);
        assert_eq!(read(&mut cluster, old, 5), None, "seed {seed}, {mode:?}");
    }
    assert!(still_led > 20, "only {still_led} thought that they led");
}

/// Nor does a follower that is cut off with it, and asks it.
#[test]
fn i4_nor_do_those_who_ask_it() {
    for (seed, mode) in (0..40).zip(MODES.into_iter().cycle()) {
        let mut cluster = Cluster::simulated(Options { read_mode: mode, ..Options::new(5, seed) });
        cluster.must_put("k", "old");
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        cluster.barrier_on(rest[0]);
        cluster.run_for(ms(seed * 7));
        cluster.partition(&[old, rest[0]], &rest[1..]);
        let new = cluster.wait_leader_among(&rest[1..]);
        put(&mut cluster, new, "new");
        assert_eq!(read(&mut cluster, rest[0], 5), None, "seed {seed}, {mode:?}");
    }
}

/// A follower that hears its leader, and lacks what is committed, waits for that.
#[test]
fn a_follower_waits_for_what_the_leader_has_committed() {
    for (seed, mode) in (0..20).zip(MODES.into_iter().cycle()) {
        let mut cluster = cluster(mode, seed);
        let leader = cluster.wait_leader();
        let away = others(&cluster, leader)[0];
        cluster.barrier_on(away);
        cluster.add_filter(Drop(Which::kind(Kind::Append).to(away)));
        put(&mut cluster, leader, "new");
        assert_eq!(read(&mut cluster, away, 50), None, "seed {seed}, {mode:?}");
        cluster.clear_filters();
        assert_eq!(read(&mut cluster, away, 1000), Some("new".into()), "seed {seed}, {mode:?}");
    }
}

/// I1: a new leader does not know yet what its predecessor has told clients. Until an entry of its own is
/// committed nobody is told what it does know, whether they ask it or a follower.
#[test]
fn i1_a_new_leader_answers_after_its_first_commit() {
    for (seed, mode) in (0..40).zip(MODES.into_iter().cycle()) {
        let mut cluster = cluster(mode, seed);
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        rest.iter().for_each(|&id| cluster.barrier_on(id));
        // The others have the entry, and only the leader knows that it is committed.
        cluster.add_filter(Drop(Which::kind(Kind::Heartbeat)));
        put(&mut cluster, old, "new");
        cluster.crash_server(old);
        cluster.clear_filters();
        cluster.add_filter(Drop(Which::kind(Kind::AppendReply)));
        let new = cluster.wait_leader_among(&rest);
        for &asked in &rest {
            assert_eq!(read(&mut cluster, asked, 60), None, "seed {seed}, {mode:?}, {new:?} leads");
        }
        cluster.clear_filters();
        assert_eq!(cluster.get("k"), Some("new".into()), "seed {seed}, {mode:?}");
    }
}

/// I3: who was asked to take over may hear of it late, when the leader has given it up; and then the votes
/// for it do not wait for any lease.
#[test]
fn i3_a_leader_that_wanted_to_hand_over_has_no_lease() {
    let mut took_over = 0;
    for seed in 0..40 {
        let mut cluster = cluster(ReadMode::Lease, seed);
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        cluster.run_for(ms(200));
        cluster.add_filter(Delay::new(Which::kind(Kind::Transfer), ms(250)..ms(251), seed));
        let world = cluster.sim_mut().expect("simulated").world_mut();
        world.transfer(RegionId::FIRST, rest[0]).expect("all is well");
        cluster.run_for(ms(249));
        cluster.isolate(old);
        let new = cluster.wait_at_most(ms(30), |cluster| {
            cluster.leader_of(RegionId::FIRST).filter(|&leader| leader != old)
        });
        let Some(new) = new else { continue };
        took_over += 1;
        put(&mut cluster, new, "new");
        assert_eq!(read(&mut cluster, old, 5), None, "seed {seed}");
    }
    assert!(took_over > 20, "only {took_over} took over");
}

/// A follower that starts again has promised its leader not to vote, and does not know it any more.
#[test]
fn a_restart_breaks_no_promise() {
    for seed in 0..40 {
        let mut cluster = cluster(ReadMode::Lease, seed);
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        rest.iter().for_each(|&id| cluster.barrier_on(id));
        // The other one has not heard of the leader for so long that it may stand.
        cluster.isolate(rest[1]);
        cluster.run_for(ms(300 + seed));
        cluster.heal();
        cluster.isolate(old);
        cluster.crash_server(rest[0]);
        cluster.start_server(rest[0]);
        cluster.sim_mut().expect("simulated").campaign(rest[1]);
        let new = cluster.wait_at_most(ms(30), |cluster| {
            cluster.leader_of(RegionId::FIRST).filter(|&leader| leader != old)
        });
        if let Some(new) = new {
            put(&mut cluster, new, "new");
            assert_eq!(read(&mut cluster, old, 5), None, "seed {seed}");
        }
    }
}

/// A leader whose machine stood still has missed its own ticks. It finds that out before it answers.
#[test]
fn a_lease_does_not_outlast_a_pause() {
    for seed in 0..20 {
        let mut cluster = cluster(ReadMode::Lease, seed);
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        cluster.run_for(ms(200 + seed));
        let until = cluster.now() + ms(2000);
        cluster.sim_mut().expect("simulated").world_mut().pause(old, until);
        let new = cluster.wait_leader_among(&rest);
        put(&mut cluster, new, "new");
        let answer = cluster.call_within(old, Op::get("k").into(), ms(4000));
        let told = answer.map(|response| response.results);
        assert_ne!(told, Ok(vec![OpResult::Value(Some("old".into()))]), "seed {seed}");
    }
}

/// What is read through the log is read when its entry is applied, and not if another has its place.
#[test]
fn through_the_log_nothing_is_answered_that_was_not_applied() {
    for seed in 0..20 {
        let mut cluster = cluster(ReadMode::Safe, seed);
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        cluster.isolate(old);
        let request = Request::new(vec![Op::get("k"), Op::put("other", "v")]);
        let ticket = cluster.submit(old, request);
        let new = cluster.wait_leader_among(&rest);
        put(&mut cluster, new, "new");
        cluster.heal();
        let answer = cluster.wait_for("an answer", |cluster| {
            std::iter::from_fn(|| cluster.poll()).find(|(of, _)| *of == ticket)
        });
        assert_eq!(answer.1, Err(Error::StaleCommand), "seed {seed}");
    }
}
