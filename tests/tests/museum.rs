//! Documented failures of other stores that need a cluster to show, each a test with its id in its name.
//! The index is in `README.md`; the last test here sees to it that none is missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use harness::cluster::Cluster;
use harness::filter::{Drop, Which};
use harness::generic::Generic;
use harness::sim::{Options, ms};
use kv::{Op, OpResult};
use raftstore::{StoreId, Unknown};

/// Three stores whose logs keep next to nothing for whoever is away.
fn forgetful(seed: u64) -> Cluster {
    Cluster::simulated(Options {
        log_gc_count_limit: 10,
        compact_entries: 10,
        checkpoint_bytes: 64,
        ..Options::new(3, seed)
    })
}

fn others(cluster: &Cluster, than: StoreId) -> Vec<StoreId> {
    cluster.stores().into_iter().filter(|&id| id != than).collect()
}

/// The logs of all but `away` go on without it.
fn leave_behind(cluster: &mut Cluster, away: StoreId) {
    let has = cluster.status(away).map_or(0, |status| status.last);
    for n in 0..60 {
        cluster.must_put(format!("more {n}"), "value");
    }
    let rest = others(cluster, away);
    cluster.wait_for("the log to go on", |cluster| {
        let gone = |&id: &StoreId| cluster.status(id).is_some_and(|s| s.compacted > has);
        rest.iter().all(gone).then_some(())
    });
}

/// K2: what a deposed leader had proposed is committed by its successor, and a snapshot overtakes it: its
/// client is told, once, that nobody here knows. (It took effect.)
#[test]
fn k2_a_command_that_a_snapshot_overtakes_is_answered_unknown() {
    for seed in 0..5 {
        let mut cluster = forgetful(seed);
        cluster.must_put("n", "0");
        let old = cluster.wait_leader();
        let rest = others(&cluster, old);
        cluster.add_filter(Drop(Which::all().to(old)));
        let ticket = cluster.submit(old, Op::add("n", 1).into());
        cluster.run_for(ms(20));
        cluster.wait_leader_among(&rest);
        cluster.isolate(old);
        leave_behind(&mut cluster, old);
        cluster.heal();
        let answer = cluster.wait_for("an answer", |cluster| {
            std::iter::from_fn(|| cluster.poll()).find(|(of, _)| *of == ticket)
        });
        assert_eq!(answer.1, Err(Unknown::Overtaken.into()), "seed {seed}");
        cluster.must_get("n", "1");
        cluster.must_agree();
    }
}

/// K6: a read that waits for an index is woken by the snapshot that has it, without any other entry.
#[test]
fn k6_a_read_that_waits_is_woken_by_a_snapshot() {
    for seed in 0..5 {
        let mut cluster = forgetful(seed);
        cluster.must_put("k", "old");
        let leader = cluster.wait_leader();
        let away = others(&cluster, leader)[0];
        cluster.barrier_on(away);
        cluster.isolate(away);
        cluster.must_put("k", "new");
        leave_behind(&mut cluster, away);
        cluster.heal();
        let installed = |cluster: &Cluster| {
            cluster.counters(away).map_or(0, |counters| counters.snapshots_installed)
        };
        // Whoever it asks it has to hear from first.
        cluster.wait_for("news of the leader", |cluster| cluster.status(away)?.leader.map(drop));
        assert_eq!(installed(&cluster), 0, "too late to ask");
        let answer = cluster.call_within(away, Op::get("k").into(), ms(5000));
        let value = OpResult::Value(Some(Bytes::from("new")));
        assert_eq!(answer.map(|response| response.results), Ok(vec![value]), "seed {seed}");
        assert!(installed(&cluster) > 0, "it was not by a snapshot");
    }
}

/// I7: leases and timeouts are counted in ticks, so clocks may run half as fast again or half as slow as
/// they should; what is read stays linearizable.
#[test]
fn i7_clocks_that_drift_make_no_read_stale() {
    for seed in 0..4 {
        let options = Options { drift_percent: 50, ..Options::new(5, seed) };
        let mut cluster = Cluster::simulated(options);
        let generic = Generic { clients: 3, partitions: true, rounds: 2, ..Generic::new(seed) };
        generic.run(&mut cluster);
    }
}

/// I10: what a follower has answered, nobody answers older than that afterwards.
#[test]
fn i10_reads_never_go_back_from_one_store_to_another() {
    for seed in 0..5 {
        let options = Options { apply: 1..5000, ..Options::new(3, seed) };
        let mut cluster = Cluster::simulated(options);
        cluster.must_put("n", "0");
        let mut seen = 0;
        for round in 0..60 {
            let leader = cluster.wait_leader();
            // Nobody waits for it: it is under way while others read.
            cluster.submit(leader, Op::add("n", 1).into());
            cluster.run_for(round * 37 % 1500);
            let asked = cluster.stores()[round as usize % 3];
            let Ok(response) = cluster.call_command(asked, Op::get("n").into()) else { continue };
            let [OpResult::Value(Some(text))] = &response.results[..] else {
                panic!("{response:?}");
            };
            let n: u64 = std::str::from_utf8(text).expect("text").parse().expect("a number");
            assert!(n >= seen, "seed {seed}: {asked:?} answers {n} after {seen}");
            seen = n;
        }
        assert!(seen > 20, "seed {seed}: only {seen} were seen");
    }
}

/// L4: a leader that dies after it has accepted a command has not said that it failed.
#[test]
fn l4_a_leader_that_dies_has_not_refused_what_it_accepted() {
    let mut took_effect = BTreeSet::new();
    for seed in 0..40 {
        let mut cluster = Cluster::sim(3, seed);
        cluster.must_put("n", "0");
        let leader = cluster.wait_leader();
        let ticket = cluster.submit(leader, Op::add("n", 1).into());
        cluster.run_for(seed * 20);
        cluster.crash_server(leader);
        let answer = cluster.wait_for("an answer", |cluster| {
            std::iter::from_fn(|| cluster.poll()).find(|(of, _)| *of == ticket)
        });
        let n = cluster.get("n").expect("it was put");
        match answer.1 {
            Ok(_) => assert_eq!(n, "1", "seed {seed}"),
            Err(why) => {
                let is_true = why.is_unknown() || n == "0";
                assert!(is_true, "seed {seed}: {why}, and it is {n:?}");
            }
        }
        took_effect.insert(n);
        cluster.start_server(leader);
        cluster.must_agree();
    }
    assert_eq!(took_effect.len(), 2, "it always ends the same way: {took_effect:?}");
}

/// All text of the project in which an entry of the museum may be named.
fn texts(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            texts(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs" || ext == "txt" || ext == "md") {
            found.push(fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn every_entry_of_the_museum_is_a_test_or_says_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    let folders = ["raft/src", "raft/tests", "raftstore/src", "kv/src", "kv/tests", "tests"];
    let folders = folders.map(|folder| root.join(folder)).into_iter().filter(|f| f.exists());
    folders.collect::<Vec<PathBuf>>().iter().for_each(|folder| texts(folder, &mut found));
    // Named as it is written, or by a function whose name begins with it. (Stores and regions of tests have
    // such names, too, so of S1 to S5 and R1 this says little.)
    let mut words = BTreeSet::new();
    for text in &found {
        words.extend(text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned));
        let names = text.split("fn ").skip(1).filter_map(|name| name.split('_').next());
        words.extend(names.map(str::to_uppercase));
    }
    let groups = [("E", 13), ("R", 15), ("C", 8), ("M", 14), ("S", 14), ("I", 10), ("T", 5)];
    let groups = groups.into_iter().chain([("P", 13), ("W", 26), ("K", 12), ("L", 4)]);
    let all = groups.flat_map(|(group, count)| (1..=count).map(move |n| format!("{group}{n}")));
    let missing: Vec<String> = all.filter(|id| !words.contains(id)).collect();
    assert!(missing.is_empty(), "nothing names {missing:?}");
}
