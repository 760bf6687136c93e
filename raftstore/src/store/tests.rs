//! Three stores in one thread: the loop of the node, without threads.

mod random;
mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::{Entries, HardState};

use raft::{LogId, RoleKind};

use super::*;
use crate::applier::Applier;
use crate::codec::ENTRY_BYTES_MAX;
use crate::command::{self, CommandKind};
use crate::disk::sim::{Crash, Fate};
use crate::disk::{ClusterId, Identity, SimDisk};
use crate::start::{StartError, start, storage_of};
use crate::testing::{Answers, Outcome, Toy, ToyCheckpoint, ToyRegion};
use crate::wal::{GroupLog, GroupRecord, Recovered, Wal, WalOptions};
use support::*;

const R1: RegionId = RegionId::FIRST;
const EPOCH: Epoch = Epoch { version: 1, conf_ver: 1 };
const S1: StoreId = StoreId(1);
const S2: StoreId = StoreId(2);
const S3: StoreId = StoreId(3);
const STORES: [StoreId; 3] = [S1, S2, S3];

#[test]
fn commands_are_applied_everywhere_and_answered_once() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    let ids: Vec<_> = ["a", "b", "c"].map(|body| cluster.propose(S1, body)).into();
    cluster.settle();
    assert!(ids.iter().all(|&id| cluster.is_applied(id)));
    cluster.tick(2);
    for id in STORES {
        assert_eq!(cluster[id].commands(), ["a", "b", "c"], "{id:?}");
    }
    assert_eq!(cluster[S1].store.pending(), 0);
    cluster.finish();
}

#[test]
fn an_election_happens_by_itself() {
    let mut cluster = Cluster::new();
    cluster.tick(60);
    let leader = cluster.leader().expect("elected");
    let id = cluster.propose(leader, "x");
    cluster.settle();
    assert!(cluster.is_applied(id));
    let won = cluster[leader].roles.iter().find(|role| role.contains("leader")).cloned();
    let expected = format!("r1 n{}@1 leader last=1@1 commit=0", leader.0);
    assert_eq!(won, Some(expected));
    cluster.finish();
}

#[test]
fn what_cannot_be_proposed_is_refused_with_the_reason() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    let at_follower = cluster.propose(S2, "x");
    let asker = |cluster: &mut Cluster| {
        cluster.asked += 1;
        (cluster.asked, cluster.answers.asker(cluster.asked))
    };
    let (unknown, callback) = asker(&mut cluster);
    cluster[S1].store.propose(RegionId(9), EPOCH, Bytes::new(), callback);
    let (read_unknown, callback) = asker(&mut cluster);
    cluster[S1].store.read(RegionId(9), callback);
    let (epoch, callback) = asker(&mut cluster);
    let asked = Epoch { version: 2, conf_ver: 1 };
    cluster[S1].store.propose(R1, asked, Bytes::new(), callback);
    let (large, callback) = asker(&mut cluster);
    let bytes = ENTRY_BYTES_MAX + 1;
    cluster[S1].store.propose(R1, EPOCH, vec![0; bytes].into(), callback);
    let refused = |id| match cluster.answers.of(id) {
        Some(Outcome::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(at_follower), Refusal::NotLeader { leader: Some(S1) });
    assert_eq!(refused(unknown), Refusal::RegionNotFound(RegionId(9)));
    assert_eq!(refused(read_unknown), Refusal::RegionNotFound(RegionId(9)));
    let current = Box::new(Region::first(&STORES));
    assert_eq!(refused(epoch), Refusal::EpochNotMatch { asked, current });
    assert_eq!(refused(large), Refusal::TooLarge { bytes, max: ENTRY_BYTES_MAX });
    cluster.finish();
}

#[test]
fn a_read_on_any_store_sees_what_was_acknowledged() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    for count in 1..=5 {
        let id = cluster.propose(S1, "x");
        cluster.settle();
        assert!(cluster.is_applied(id));
        let reads = STORES.map(|store| cluster.read(store));
        cluster.settle();
        for read in reads {
            assert_eq!(cluster.answers.of(read), Some(Outcome::Read(count)));
        }
    }
    cluster.finish();
}

#[test]
fn a_thousand_reads_cost_one_heartbeat_round() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    let before = cluster.sent;
    let reads: Vec<_> = (0..1000).map(|_| cluster.read(S1)).collect();
    cluster.settle();
    assert!(reads.iter().all(|&id| cluster.answers.of(id) == Some(Outcome::Read(0))));
    assert_eq!(cluster.sent - before, 4, "a heartbeat to each follower, and two answers");
    cluster.finish();
}

#[test]
fn a_read_without_a_leader_waits_and_then_times_out() {
    let mut cluster = Cluster::new();
    let early = cluster.read(S2);
    cluster.tick(39);
    assert_eq!(cluster.answers.of(early), Some(Outcome::Read(0)), "a leader came in time");
    let leader = cluster.leader().expect("elected");
    cluster.cut.insert(leader);
    let stale = cluster.read(leader);
    cluster.tick(39);
    assert_eq!(cluster.answers.of(stale), None);
    cluster.tick(1);
    assert_eq!(cluster.answers.of(stale), Some(Outcome::Refused(Refusal::Timeout)));
    cluster.finish();
}

/// I: the question is lost with the old leader, and asked again of the new one.
#[test]
fn a_read_survives_a_change_of_leader() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    let write = cluster.propose(S1, "x");
    cluster.settle();
    assert!(cluster.is_applied(write));
    cluster.cut.insert(S1);
    let read = cluster.read(S2);
    cluster.tick(38);
    assert_eq!(cluster.answers.of(read), Some(Outcome::Read(1)));
    cluster.finish();
}

/// K1, K4: an answer is decided by (index, term), not by the index.
#[test]
fn proposals_of_a_deposed_leader_are_stale() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    cluster.cut.insert(S1);
    // More of them than the next leader's log will have entries.
    let propose = |cluster: &mut Cluster| {
        let lost = cluster.propose(S1, "lost");
        cluster.settle();
        lost
    };
    let lost: Vec<_> = (0..5).map(|_| propose(&mut cluster)).collect();
    cluster.tick(60);
    let leader = cluster.leader().expect("the others elected one");
    assert_ne!(leader, S1);
    let kept = cluster.propose(leader, "kept");
    cluster.settle();
    assert!(cluster.is_applied(kept));
    for &lost in &lost {
        assert_eq!(cluster.answers.of(lost), None, "nobody can know yet");
    }
    cluster.cut.clear();
    cluster.tick(10);
    for lost in lost {
        assert_eq!(cluster.answers.of(lost), Some(Outcome::Stale));
    }
    for id in STORES {
        assert_eq!(cluster[id].commands(), ["kept"], "{id:?}");
    }
    assert!(cluster[S1].store.is_resigned());
    cluster.finish();
}

/// P1: a vote or an acknowledgement leaves only when what it promises is on disk; the leader's
/// appends leave at once.
#[test]
fn promises_wait_for_the_disk_and_appends_do_not() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    for id in STORES {
        cluster[id].is_disk_slow = true;
    }
    let id = cluster.propose(S1, "x");
    let appends = cluster[S1].round();
    assert_eq!(appends.len(), 2, "before its own write is on disk");
    assert_eq!(cluster[S1].unsynced.len(), 1);
    assert_eq!(cluster[S1].store.pending(), 1);
    for (to, message) in appends {
        cluster[to].store.step(S1, message);
        assert_eq!(cluster[to].round(), [], "no acknowledgement yet");
        cluster[to].sync();
        let acks = cluster[to].round();
        assert!(matches!(acks[0].1.message.body, Body::AppendEntriesReply(_)), "{acks:?}");
        cluster[S1].store.step(to, acks.into_iter().next().expect("one").1);
    }
    // Committed by the followers alone; applied only once this store has it on disk, too.
    cluster[S1].round();
    assert_eq!(cluster.answers.of(id), None);
    cluster[S1].sync();
    cluster[S1].round();
    assert!(cluster.is_applied(id));
    cluster.finish();
}

/// P6: an end of a write that overtakes an earlier one can't be reported; the log itself holds it
/// back until the earlier one is there.
#[test]
#[should_panic(expected = "batches are reported in order")]
fn p6_batches_are_reported_in_order() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    cluster[S1].is_disk_slow = true;
    for body in ["a", "b"] {
        cluster.propose(S1, body);
        cluster[S1].round();
    }
    let second = cluster[S1].unsynced.pop_back().expect("two");
    cluster[S1].store.persisted(second.synced());
}

#[test]
fn several_batches_in_flight() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    cluster[S1].is_disk_slow = true;
    let ids: Vec<_> = (0..10)
        .map(|n| {
            let id = cluster.propose(S1, &n.to_string());
            cluster.settle();
            id
        })
        .collect();
    assert!(cluster[S1].store.batches_in_flight() >= 10);
    assert!(!cluster.is_applied(ids[0]));
    cluster[S1].sync();
    cluster.settle();
    assert!(ids.iter().all(|&id| cluster.is_applied(id)));
    cluster[S1].sync();
    assert_eq!(cluster[S1].store.batches_in_flight(), 0);
    cluster.finish();
}

#[test]
fn a_restart_keeps_what_was_promised() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    let ids: Vec<_> = (0..20).map(|n| cluster.propose(S1, &n.to_string())).collect();
    cluster.settle();
    assert!(ids.iter().all(|&id| cluster.is_applied(id)));
    let before = cluster[S1].commands();
    for id in STORES {
        cluster.restart(id);
    }
    cluster.tick(60);
    let leader = cluster.leader().expect("elected");
    let id = cluster.propose(leader, "after");
    cluster.settle();
    cluster.tick(2);
    assert!(cluster.is_applied(id));
    for id in STORES {
        let commands = cluster[id].commands();
        assert_eq!(commands[..20], before[..], "{id:?}");
        assert_eq!(commands[20], "after", "{id:?}");
    }
    cluster.finish();
}

#[test]
fn a_commit_index_alone_costs_no_record() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    cluster.propose(S1, "x");
    cluster.settle();
    cluster.tick(2);
    let commit = cluster[S2].store.status(R1).expect("there").commit;
    let written = |cluster: &Cluster| cluster[S2].disk.log().hard_state.commit;
    let records = |cluster: &Cluster| cluster[S2].wal.appended().0;
    assert!(written(&cluster) < commit, "it waits for a record");
    let before = records(&cluster);
    cluster.propose(S1, "y");
    cluster.settle();
    assert_eq!(records(&cluster), before + 1, "one append, one record");
    assert_eq!(written(&cluster), commit, "and it went along");
    // After a while it gets a record of its own.
    cluster.tick(UNWRITTEN_TICKS_MAX as u32 + 1);
    assert_eq!(records(&cluster), before + 2);
    assert_eq!(written(&cluster), commit + 1);
    cluster.tick(100);
    assert_eq!(records(&cluster), before + 2, "a group at rest writes nothing");
    cluster.finish();
}

#[test]
fn the_log_is_compacted_by_agreement_and_never_past_the_checkpoint() {
    let mut cluster = Cluster::led_by_s1(|config| config.compact_entries = 10);
    let fill = |cluster: &mut Cluster| {
        (0..30).for_each(|n| _ = cluster.propose(S1, &n.to_string()));
        cluster.settle();
    };
    let compacted =
        |cluster: &Cluster| STORES.map(|id| cluster[id].store.status(R1).expect("there").compacted);
    fill(&mut cluster);
    cluster.tick(4);
    let after = compacted(&cluster);
    assert!(after.iter().all(|&index| index >= 30), "{after:?}");
    // A member that stays away keeps everybody's log.
    cluster.cut.insert(S3);
    fill(&mut cluster);
    cluster.tick(5);
    assert_eq!(compacted(&cluster), after);
    cluster.cut.clear();
    cluster.tick(10);
    assert!(compacted(&cluster).iter().all(|&index| index >= 60));
    // What is compacted is gone from the log for good, and everything is there after a restart.
    cluster.tick(UNWRITTEN_TICKS_MAX as u32 + 1);
    for id in STORES {
        let index = cluster[id].store.status(R1).expect("there").compacted;
        assert_eq!(cluster[id].disk.log().compacted.index, index, "{id:?}");
        cluster.restart(id);
    }
    cluster.tick(60);
    for id in STORES {
        assert_eq!(cluster[id].commands().len(), 60, "{id:?}");
    }
    cluster.finish();
}

#[test]
fn a_resigning_store_hands_over() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    let id = cluster.propose(S1, "x");
    cluster[S1].round();
    assert!(!cluster[S1].store.is_resigned());
    cluster[S1].store.resign();
    let refused = cluster.propose(S1, "y");
    cluster.settle();
    let why = Refusal::NotLeader { leader: None };
    assert_eq!(cluster.answers.of(refused), Some(Outcome::Refused(why)));
    assert!(cluster[S1].store.is_resigned(), "in the time of a few messages");
    assert!(cluster.is_applied(id));
    assert_ne!(cluster.leader(), Some(S1));
    cluster.finish();
}

#[test]
fn groups_share_a_record() {
    let disk = || {
        let disk = Disk::new(S1);
        for id in [R1, RegionId(2)] {
            let region = Region { id, ..Region::first(&[S1]) };
            let toy = ToyRegion { region, applied: LogId::ZERO, commands: Vec::new() };
            disk.checkpoint.lock().insert(id, toy);
        }
        disk
    };
    let mut node = Node::open(S1, disk(), |_| {}).expect("starts");
    node.store.campaign(R1);
    node.store.campaign(RegionId(2));
    let mut records = Vec::new();
    while node.store.has_ready() {
        node.is_disk_slow = true;
        assert_eq!(node.round(), [], "single members talk to nobody");
        records.extend(node.unsynced.iter().map(|batch| batch.records().len()));
        node.sync();
    }
    // The pre-vote writes nothing; then the votes, the leaders' first entries, their commits.
    assert_eq!(records, [0, 2, 2, 0]);
    assert_eq!(node.store.statuses().count(), 2);
    assert!(node.store.statuses().all(|s| s.role == RoleKind::Leader && s.applied == 1));
    assert!(node.store.is_resigned(), "nobody to hand over to");
}

#[test]
fn a_store_that_lost_data_does_not_start() {
    let mut cluster = Cluster::led_by_s1(|config| config.compact_entries = 10);
    (0..30).for_each(|n| _ = cluster.propose(S1, &n.to_string()));
    cluster.settle();
    cluster.tick(30);
    let disk = cluster.nodes.remove(&S1).expect("running").stop();
    let open = |disk: Disk| Node::open(S1, disk, |_| {}).err().map(|e| e.to_string());
    assert_eq!(open(disk.fork()), None);
    let no_checkpoint = Disk { checkpoint: ToyCheckpoint::default(), ..disk.fork() };
    let error = open(no_checkpoint).expect("refused");
    assert!(error.contains("the state ends at 0@0"), "{error}");
    let no_log = Disk { drive: SimDisk::new(9), ..disk.fork() };
    let error = open(no_log).expect("refused");
    assert!(error.contains("the log at index 0"), "{error}");
    let (mut wal, _) = disk.open(S1);
    let entries = Entries::new();
    let hard_state = Some(HardState { term: 1, vote: None, commit: 0 });
    let unknown = GroupRecord { hard_state, ..GroupRecord::new(RegionId(7), &entries) };
    wal.append(&[unknown]).expect("the disk works");
    let error = open(disk).expect("refused");
    assert_eq!(error, "the log has a region 7 that the state does not have");
    cluster.finish();
}

#[test]
fn a_machine_that_cannot_go_on_stops_its_store() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    // Proposed for another region than its envelope says, which the machine does not take.
    let data = command::encode(RegionId(9), EPOCH, CommandKind::Application, b"x");
    cluster.asked += 1;
    let asker = cluster.answers.asker(cluster.asked);
    cluster[S1].store.propose(R1, EPOCH, data, asker);
    cluster.settle();
    let halted = cluster[S1].store.halted().expect("said so").to_string();
    assert_eq!(halted, "region 1: cannot apply 2@1: of another region");
    assert_eq!(cluster.answers.of(1), None);
    assert_eq!(cluster[S1].applier.applied(R1), Some(1));
    // Nothing after it is applied or read; everybody is answered at the end.
    let (later, read) = (cluster.propose(S1, "y"), cluster.read(S1));
    cluster.settle();
    assert_eq!(cluster.answers.of(later), None);
    assert_eq!(cluster.answers.of(read), Some(Outcome::Refused(Refusal::ShuttingDown)));
    cluster.finish();
}

/// P12: a store that has just started has its log, but has not applied it yet. It answers reads
/// only when it has, however early they are asked.
#[test]
fn p12_a_store_that_has_just_started_answers_from_all_of_its_log() {
    let mut cluster = Cluster::led_by_s1(|_| {});
    for n in 0..20 {
        cluster.propose(S1, &n.to_string());
    }
    cluster.settle();
    for id in STORES {
        cluster.restart(id);
    }
    let asked: Vec<u64> = STORES.iter().map(|&id| cluster.read(id)).collect();
    cluster.settle();
    assert!(asked.iter().all(|&id| cluster.answers.of(id).is_none()), "nobody leads yet");
    cluster.tick(60);
    let late: Vec<u64> = STORES.iter().map(|&id| cluster.read(id)).collect();
    cluster.settle();
    cluster.tick(3);
    for id in late {
        assert_eq!(cluster.answers.of(id), Some(Outcome::Read(20)));
    }
    for id in asked {
        let given = cluster.answers.of(id);
        let expected = [Outcome::Read(20), Outcome::Refused(Refusal::Timeout)];
        assert!(given.as_ref().is_some_and(|given| expected.contains(given)), "{given:?}");
    }
    cluster.finish();
}
