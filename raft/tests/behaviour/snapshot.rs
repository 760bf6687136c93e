//! Snapshots, on both sides (§7; etcd: raft_snap_test.go and the snapshot tests of raft_test.go;
//! museum S).

use raft::{
    CompactError, ConfChange, ConfChangeKind, ConfState, Entries, Entry, EntryKind, Flow, LogId,
    RoleKind, Run,
};

use crate::common::build::{Kind, accepted, heartbeat_reply, install, rejected, voters};
use crate::common::node::of_kind;
use crate::common::{Node, append, group, id, ids, message, server, snapshot};

// ---- The receiver ----

/// etcd: TestRestore, TestRestoreFromSnapMsg. Position, term and members are the snapshot's; nobody stands before it is on
/// disk; the second time it is old.
#[test]
fn a_snapshot_is_the_log_and_the_membership() {
    let taken = snapshot((11, 11), voters(&[1, 2, 3]));
    let mut node = server(1, &[1, 2]).start();
    node.hold_writes = true;
    node.ask(install(2, 1, 11, taken.clone()));
    assert_eq!(node.raw.last(), LogId::new(11, 11));
    assert_eq!(node.raw.term_at(11), Some(11));
    assert_eq!(node.raw.membership().to_string(), "voters=(1 2 3)");
    assert_eq!(node.raw.leader(), Some(id(2)), "who sent it leads");
    node.tick(40);
    node.ask(message(2, 1, 11, raft::Body::TimeoutNow));
    assert_eq!(node.raw.role(), RoleKind::Follower, "not before it is on disk");
    node.persist_all();
    assert_eq!(node.raw.applied_index(), 11);
    node.hold_writes = false;
    let again = node.ask(install(2, 1, 11, taken));
    assert_eq!(again, [accepted(1, 2, 11, 11)], "the second time it is old");
    node.tick(40);
    assert_eq!(node.raw.role(), RoleKind::Candidate);
}

/// etcd: TestRestoreWithLearner, TestRestoreWithVotersOutgoing; M5.
#[test]
fn learners_and_both_halves_are_restored() {
    let states = [
        ConfState { learners: ids(&[3]), ..voters(&[1, 2]) },
        ConfState { voters_outgoing: ids(&[1, 2, 3]), ..voters(&[2, 3, 4]) },
        ConfState {
            voters_outgoing: ids(&[1, 2]),
            learners: ids(&[5]),
            learners_next: ids(&[2]),
            auto_leave: true,
            ..voters(&[1, 3])
        },
    ];
    for state in states {
        for me in [1, 3] {
            let mut node = server(me, &[2]).start();
            node.ask(install(2, me, 11, snapshot((11, 11), state.clone())));
            assert_eq!(node.raw.membership().conf_state(), state);
            node.restart();
            assert_eq!(node.raw.membership().conf_state(), state, "on disk, too");
        }
    }
}

/// etcd: TestRestoreVoterToLearner, TestRestoreLearnerPromotion; raft-rs:
/// test_restore_depromote_voter, test_restore_learner.
#[test]
fn a_snapshot_may_demote_and_promote() {
    let mut node = server(3, &[1, 2, 3]).start();
    let demoted = ConfState { learners: ids(&[3]), ..voters(&[1, 2]) };
    node.ask(install(1, 3, 11, snapshot((11, 11), demoted)));
    assert!(node.raw.membership().is_learner(id(3)));
    node.ask(install(1, 3, 11, snapshot((11, 12), voters(&[1, 2, 3]))));
    assert!(node.raw.membership().is_voter(id(3)));
    assert!(!node.raw.membership().is_learner(id(3)));
}

/// TinyKV: TestRestoreFromSnapWithOverlapingPeersMsg2C. Who was a member before is no member after.
#[test]
fn the_members_are_exactly_the_snapshots() {
    let mut node = server(1, &[1, 2, 3, 4]).start();
    node.ask(install(2, 1, 11, snapshot((11, 11), voters(&[1, 2, 5]))));
    let members: Vec<_> = node.raw.membership().members().collect();
    assert_eq!(members, ids(&[1, 2, 5]));
}

/// A snapshot in which the receiver is no member is none for it.
#[test]
fn a_snapshot_without_the_receiver_is_ignored() {
    let mut node = server(1, &[1, 2]).start();
    let answer = node.ask(install(2, 1, 11, snapshot((11, 11), voters(&[2, 3]))));
    assert_eq!(answer, [accepted(1, 2, 11, 0)]);
    assert_eq!(node.raw.last(), LogId::ZERO);
}

/// etcd: TestRestoreIgnoreSnapshot (TinyKV: TestRestoreIgnoreSnapshot2C). One that is behind the
/// commit index is ignored; of one whose last entry is in the log, only the commit index is news.
#[test]
fn a_snapshot_of_what_is_known_is_ignored() {
    for behind in [1, 2] {
        let mut node = server(1, &[1, 2]).log(&[1, 1, 1]).commit(2).start();
        node.settle();
        node.ask(install(2, 1, 1, snapshot((1, behind), voters(&[1, 2]))));
        assert_eq!((node.raw.commit(), node.raw.last().index), (2, 3));
    }
    let mut node = server(1, &[1, 2]).log(&[1, 1, 1, 1]).commit(1).start();
    node.settle();
    node.ask(install(2, 1, 1, snapshot((1, 3), voters(&[1, 2]))));
    assert_eq!((node.raw.commit(), node.raw.last().index), (3, 4));
    assert_eq!(node.raw.compacted(), LogId::ZERO, "the log stays");
}

/// S6: a second snapshot overtakes the first on its way to the disk.
#[test]
fn a_second_snapshot_may_overtake_the_first() {
    let mut node = server(1, &[1, 2]).start();
    node.hold_writes = true;
    node.ask(install(2, 1, 3, snapshot((3, 10), voters(&[1, 2]))));
    node.ask(install(2, 1, 3, snapshot((3, 20), voters(&[1, 2]))));
    assert_eq!(node.writes.len(), 2);
    assert_eq!(node.persist(), [accepted(1, 2, 3, 10)]);
    assert_eq!(node.raw.applied_index(), 10);
    node.ask(append(2, 1, 3, (3, 20), &[3], 21));
    assert!(node.raw.applied_index() < 20, "nothing is applied before the second is there");
    node.persist_all();
    assert_eq!((node.raw.applied_index(), node.raw.status().stable), (21, 21));
}

/// S11: another entry at the index of a committed one.
#[test]
fn a_snapshot_never_replaces_what_is_committed() {
    let mut node = server(1, &[1, 2]).log(&[2; 60]).commit(60).start();
    node.settle();
    node.ask(install(2, 1, 3, snapshot((3, 60), voters(&[1, 2]))));
    assert_eq!(node.raw.last(), LogId::new(2, 60));
}

/// etcd: TestLearnerReceiveSnapshot.
#[test]
fn a_learner_catches_up_by_a_snapshot() {
    let mut net = group(2);
    net.campaign(1);
    net.change(1, &ConfChange::single(ConfChangeKind::AddLearnerNode, id(3)));
    for n in 0..10 {
        net.put(1, &format!("{n}"));
    }
    net.node(1).compact(11);
    net.nodes.insert(3, server(3, &[]).start());
    net.beat(1);
    net.beat(1);
    assert_eq!(net.node(3).raw.compacted().index, 11);
    net.assert_equal();
}

// ---- The sender ----

/// A leader of two whose log begins after (11, 11); the other is heard from.
fn leader() -> Node {
    let mut node = server(1, &[1, 2]).after((11, 11)).lead();
    node.take(heartbeat_reply(2, 1, 12));
    node.settle();
    node
}

/// The same, with the snapshot on its way.
fn sending() -> Node {
    let mut node = leader();
    let sent = node.ask(rejected(2, 1, 12, 11, (0, 0)));
    assert_eq!(of_kind(&sent, Kind::Snapshot).len(), 1);
    node
}

/// etcd: TestProvideSnap, TestSendingSnapshotSetPendingSnapshot (TinyKV: TestProvideSnap2C).
#[test]
fn who_needs_what_is_compacted_gets_a_snapshot() {
    let node = sending();
    let pr = node.progress(2);
    assert!(matches!(pr.flow, Flow::Snapshot { pending: 11 }));
    assert_eq!((pr.matched, pr.next), (0, 12));
}

/// etcd: TestIgnoreProvidingSnap. Not while it does not answer; as soon as it does.
#[test]
fn who_does_not_answer_gets_no_snapshot() {
    let mut node = server(1, &[1, 2, 3]).after((11, 11)).tune(|c| c.check_quorum = true).lead();
    for of in [2, 3] {
        node.take(accepted(of, 1, 12, 12));
    }
    node.settle();
    node.raw.propose("13".into()).expect("it leads");
    node.raw.propose("14".into()).expect("it leads");
    node.settle();
    node.take(accepted(3, 1, 12, 14));
    node.settle();
    node.compact(14);
    node.tick(10);
    node.raw.report_unreachable(id(2));
    let pr = node.progress(2);
    assert_eq!((pr.recent_active, pr.next, pr.is_paused()), (false, 13, false));
    node.raw.propose("15".into()).expect("it leads");
    assert!(of_kind(&node.settle(), Kind::Snapshot).is_empty());
    let sent = node.ask(heartbeat_reply(2, 1, 12));
    assert_eq!(of_kind(&sent, Kind::Snapshot).len(), 1);
}

/// etcd: TestSnapshotFailure. After a failure: from match again, and not before it is heard from.
#[test]
fn a_failed_snapshot_is_tried_again() {
    let mut node = sending();
    node.raw.report_snapshot(id(2), false);
    let pr = node.progress(2);
    assert!(matches!(pr.flow, Flow::Probe { paused: true }));
    assert_eq!((pr.matched, pr.next), (0, 1));
    assert!(node.settle().is_empty());
    let sent = node.ask(heartbeat_reply(2, 1, 12));
    assert_eq!(of_kind(&sent, Kind::Snapshot).len(), 1);
}

/// etcd: TestSnapshotSucceed. After a success: from the snapshot's end on.
#[test]
fn after_a_snapshot_it_goes_on_from_its_end() {
    let mut node = sending();
    node.raw.report_snapshot(id(2), true);
    let pr = node.progress(2);
    assert!(matches!(pr.flow, Flow::Probe { paused: true }));
    assert_eq!((pr.matched, pr.next), (0, 12));
    node.raw.report_snapshot(id(2), false);
    assert_eq!(node.progress(2).next, 12, "only the first report counts");
}

/// etcd: TestSnapshotAbort. An acknowledgement at or above the snapshot ends the waiting.
#[test]
fn an_acknowledgement_ends_the_waiting() {
    for index in [11, 12] {
        let mut node = sending();
        let sent = node.ask(accepted(2, 1, 12, index));
        let pr = node.progress(2);
        assert!(matches!(pr.flow, Flow::Replicate { .. }), "{index}");
        assert_eq!((pr.matched, pr.next), (index, 13), "what is missing is sent at once");
        assert_eq!(
            of_kind(&sent, Kind::Append).iter().filter(|_| index == 11).count() > 0,
            index == 11
        );
    }
    let mut node = sending();
    node.ask(accepted(2, 1, 12, 5));
    assert!(matches!(node.progress(2).flow, Flow::Snapshot { .. }), "5 does not help");
}

/// etcd: TestSlowNodeRestore (TinyKV: TestSlowNodeRestore2C).
#[test]
fn a_slow_server_is_restored() {
    let mut net = group(3);
    net.campaign(1);
    net.isolate(3);
    for n in 0..100 {
        net.put(1, &format!("{n}"));
    }
    net.node(1).compact(101);
    net.heal();
    net.beat(1);
    net.beat(1);
    net.put(1, "x");
    assert_eq!(net.commit(3), net.commit(1));
    net.assert_equal();
}

/// S3: with a conflicting entry at the snapshot's index, one snapshot is enough.
#[test]
fn one_snapshot_is_enough() {
    let mut net = group(3);
    net.campaign(3);
    net.isolate(3);
    for n in 0..40 {
        net.put(3, &format!("lost {n}"));
    }
    net.campaign(1);
    for n in 0..30 {
        net.put(1, &format!("{n}"));
    }
    let commit = net.commit(1);
    net.node(1).compact(commit - 5);
    net.heal();
    for _ in 0..5 {
        net.beat(1);
    }
    assert_eq!(net.arrived[&Kind::Snapshot], 1);
    net.assert_equal();
}

/// M8: the snapshot's membership is the one as of its index, whatever came after.
#[test]
fn a_snapshot_has_the_membership_of_its_index() {
    let mut net = group(3);
    net.campaign(1);
    net.change(1, &ConfChange::single(ConfChangeKind::AddLearnerNode, id(4)));
    let at = net.commit(1);
    net.change(1, &ConfChange::single(ConfChangeKind::AddLearnerNode, id(5)));
    net.node(1).compact(at);
    let kept = raft::Storage::snapshot(&net.node(1).storage).expect("just taken");
    assert_eq!(kept.meta.last.index, at);
    assert_eq!(kept.meta.conf_state.learners, ids(&[4]));
    net.restart(1);
    assert!(!net.node(1).raw.membership().contains(id(5)), "5 is not applied yet");
    net.pump();
    assert!(net.node(1).raw.membership().contains(id(5)) || net.commit(1) == at);
}

// ---- Compaction and applies ----

/// What is committed but not applied is still to be handed out, so it cannot be dropped.
#[test]
fn what_is_not_applied_is_not_compacted() {
    let mut node = server(1, &[1, 2, 3]).log(&[1, 1, 1]).commit(3).start();
    node.hold_applies = true;
    node.settle();
    assert_eq!(node.raw.commit(), 3);
    assert_eq!(node.raw.compact(1), Err(CompactError::NotApplied));
    node.apply_all();
    assert_eq!(node.raw.compact(3), Ok(LogId::new(1, 3)));
}

/// A membership change that is still being applied when a snapshot overtakes it must not be made on
/// top of the snapshot's membership, which has it, or has gone on from there, already.
#[test]
fn a_snapshot_overtakes_membership_changes_under_way() {
    let mut node = server(1, &[1, 2, 3]).start();
    let add = ConfChange::single(ConfChangeKind::AddNode, id(4));
    let entry = Entry { kind: EntryKind::ConfChangeV2, data: add.encode() };
    let mut change = Entries::from(Run::new(1, 1, vec![Entry::default()]).expect("not empty"));
    change.push(Run::new(1, 2, vec![entry]).expect("not empty")).expect("consecutive");
    let body = raft::Body::AppendEntries { prev: LogId::ZERO, entries: change, commit: 2 };
    node.hold_applies = true;
    node.ask(message(2, 1, 1, body));
    assert_eq!(node.applies.len(), 1, "under way");
    // Meanwhile 4 came and went again.
    node.ask(install(2, 1, 1, snapshot((1, 9), voters(&[1, 2, 3]))));
    node.apply_all();
    assert_eq!(node.raw.membership().to_string(), "voters=(1 2 3)");
    assert_eq!(node.raw.applied_index(), 9);
    node.ask(append(2, 1, 1, (1, 9), &[1], 10));
    node.apply_all();
    assert_eq!(node.raw.applied_index(), 10, "S5: it never goes back");
}
