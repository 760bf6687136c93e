//! Membership changes (§6, T§4; etcd: raft_test.go, rawnode_test.go; museum M).

use raft::{
    ConfChange, ConfChangeError, ConfChangeKind, Entry, EntryKind, Index, RoleKind, Transition,
};

use crate::common::build::{Kind, accepted, changes, grant, vote};
use crate::common::net::group_with;
use crate::common::{Net, Node, group, heartbeat, id, ids, message, server};

use ConfChangeKind::{AddLearnerNode, AddNode, RemoveNode};
use RoleKind::{Candidate, Follower, Leader};

fn add(n: u64) -> ConfChange {
    ConfChange::single(AddNode, id(n))
}

fn learner(n: u64) -> ConfChange {
    ConfChange::single(AddLearnerNode, id(n))
}

fn remove(n: u64) -> ConfChange {
    ConfChange::single(RemoveNode, id(n))
}

/// The kinds of the entries from `first` on.
fn kinds(node: &Node, first: Index) -> Vec<EntryKind> {
    node.applied.range(first..).map(|(_, (_, entry))| entry.kind).collect()
}

// ---- Proposing ----

/// etcd: TestStepConfig, TestStepIgnoreConfig. At most one change is pending; a second one becomes
/// an empty entry in its place.
#[test]
fn a_second_change_becomes_an_empty_entry() {
    let mut net = group(2);
    net.campaign(1);
    net.node(1).hold_applies = true;
    net.change(1, &learner(3));
    net.change(1, &learner(4));
    let node = net.node(1);
    node.apply_all();
    node.hold_applies = false;
    net.pump();
    assert_eq!(kinds(net.node(1), 2), [EntryKind::ConfChangeV2, EntryKind::Normal]);
    assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1 2) learners=(3)");
    assert!(net.node(1).applied[&3].1.data.is_empty());
    net.change(1, &learner(4));
    assert_eq!(net.node(1).raw.membership().learners, ids(&[3, 4]), "once it is applied");
}

/// In one proposal, too.
#[test]
fn of_two_changes_in_one_proposal_one_is_made() {
    let mut net = group(1);
    net.campaign(1);
    let entry =
        |change: &ConfChange| Entry { kind: EntryKind::ConfChangeV2, data: change.encode() };
    let both = vec![entry(&learner(3)), entry(&learner(4))];
    net.node(1).raw.propose_entries(both).expect("it leads");
    net.pump();
    assert_eq!(net.node(1).raw.membership().learners, ids(&[3]));
}

/// With validation off, what the application proposes is what is made.
#[test]
fn without_validation_everything_is_let_through() {
    let mut net = group_with(1, |c| c.disable_conf_change_validation = true);
    net.campaign(1);
    net.node(1).hold_applies = true;
    net.change(1, &learner(3));
    net.change(1, &learner(4));
    net.node(1).apply_all();
    net.pump();
    net.node(1).apply_all();
    assert_eq!(net.node(1).raw.membership().learners, ids(&[3, 4]));
}

/// etcd: TestNewLeaderPendingConfig; M3. A new leader does not know whether there is a change in
/// what it took over: it makes none before that is applied.
#[test]
fn a_new_leader_makes_no_change_before_all_it_took_over_is_applied() {
    for pending in [false, true] {
        let mut net = group(3);
        net.campaign(1);
        net.cut(1, 3);
        net.node(1).hold_applies = true;
        if pending {
            net.ignore(Kind::AppendReply);
            net.change(1, &add(4));
        }
        net.heal();
        net.isolate(1);
        net.node(2).hold_applies = true;
        net.campaign(2);
        assert_eq!(net.role(2), Leader);
        net.change(2, &add(5));
        net.node(2).hold_applies = false;
        net.node(2).apply_all();
        net.pump();
        let made = net.node(2).applied.values().filter(|(_, e)| e.kind != EntryKind::Normal);
        assert_eq!(made.count(), 1, "of two changes one is made");
        let members = net.node(2).raw.membership().to_string();
        assert_eq!(members, if pending { "voters=(1 2 3 4)" } else { "voters=(1 2 3 5)" });
    }
}

/// M1: two leaders of different terms each change the membership they know, by one server. Each
/// change needs a majority of what was there before, since it counts only once it is applied: at
/// most one of the two is ever committed.
#[test]
fn of_two_leaders_changes_one_is_committed() {
    let all = [1, 2, 3, 4];
    let mut net = Net::of(all.map(|n| server(n, &all)));
    net.campaign(1);
    net.isolate(1);
    net.change(1, &add(5));
    // 2 leads, and proposes at once; its change reaches 3, but not 4.
    net.cut(2, 4);
    net.cut(3, 4);
    net.node(2).raw.campaign();
    net.gather();
    net.wire.push_back(grant(4, 2, 2, true));
    net.pump();
    assert_eq!(net.role(2), Leader);
    net.change(2, &remove(1));
    assert!(net.node(2).raw.membership().is_voter(id(1)), "on two of four");
    // 1 comes back, as a follower, with a server that is in nobody's applied membership.
    net.restart(1);
    net.heal();
    for n in [2, 3] {
        net.cut(1, n);
        net.cut(4, n);
    }
    net.nodes.insert(5, server(5, &[]).start());
    for _ in 0..4 {
        net.campaign(1);
        assert_ne!(net.role(1), Leader, "two of four, and 5 does not count");
    }
    net.heal();
    net.run(100);
    let members = net.node(2).raw.membership().to_string();
    for n in [3, 4] {
        assert_eq!(net.node(n).raw.membership().to_string(), members);
    }
    assert!(["voters=(2 3 4)", "voters=(1 2 3 4)"].contains(&&*members), "{members}");
}

// ---- Applying ----

/// etcd: TestAddNode, TestAddLearner, TestRemoveNode, TestRemoveLearner, TestRaftNodes (TinyKV:
/// TestAddNode3A, TestRemoveNode3A).
#[test]
fn members_come_change_and_go() {
    let mut net = group(1);
    net.campaign(1);
    for (change, members) in [
        (add(2), "voters=(1 2)"),
        (learner(3), "voters=(1 2) learners=(3)"),
        (add(3), "voters=(1 2 3)"),
        (remove(2), "voters=(1 3)"),
        (learner(3), "voters=(1) learners=(3)"),
        (remove(3), "voters=(1)"),
    ] {
        for n in 2..=3 {
            net.nodes.entry(n).or_insert_with(|| server(n, &[]).start());
        }
        net.change(1, &change);
        assert_eq!(net.node(1).raw.membership().to_string(), members);
        net.beat(1);
        net.beat(1);
    }
}

/// etcd panics; raft-rs: test_remove_node_itself. The last voter is not removed, and everything
/// goes on.
#[test]
fn the_last_voter_stays() {
    for last in [remove(1), learner(1)] {
        let mut net = group(1);
        net.campaign(1);
        net.change(1, &last);
        assert_eq!(net.node(1).refusals, [ConfChangeError::RemovedAllVoters]);
        assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1)");
        net.put(1, "x");
        assert_eq!(net.node(1).said(), ["x"]);
        net.change(1, &add(2));
        assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1 2)");
    }
}

/// etcd: TestCommitAfterRemoveNode (TinyKV: TestCommitAfterRemoveNode3A). What waited for the
/// removed server commits when its removal is applied.
#[test]
fn a_smaller_quorum_commits_what_waited() {
    let mut node = server(1, &[1, 2]).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.raw.propose_conf_change(&remove(2)).expect("it leads");
    node.settle();
    node.raw.propose("x".into()).expect("it leads");
    node.settle();
    assert_eq!(node.raw.commit(), 1);
    node.hold_applies = true;
    node.ask(accepted(2, 1, 1, 2));
    assert_eq!((node.raw.commit(), node.raw.last().index), (2, 3));
    node.apply();
    assert_eq!(node.raw.commit(), 3, "by itself");
    node.hold_applies = false;
    node.settle();
    node.apply_all();
    assert_eq!(node.said(), ["x"]);
}

/// etcd: TestRawNodeProposeAddDuplicateNode, TestNodeProposeAddDuplicateNode (TinyKV:
/// TestRawNodeProposeAddDuplicateNode3A), TestNodeProposeAddLearnerNode. Adding a member again is harmless.
#[test]
fn adding_a_member_again_is_harmless() {
    let mut net = group(1);
    net.campaign(1);
    for _ in 0..3 {
        net.change(1, &add(1));
        assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1)");
    }
    net.change(1, &learner(2));
    net.change(1, &learner(2));
    assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1) learners=(2)");
    assert_eq!(kinds(net.node(1), 2), [EntryKind::ConfChangeV2; 5]);
}

/// The application may refuse a change when it applies it: then it has no effect.
#[test]
fn an_application_may_refuse_a_change() {
    let mut node = server(1, &[1]).lead();
    node.hold_applies = true;
    node.raw.propose_conf_change(&learner(2)).expect("it leads");
    node.settle();
    let mut apply = node.applies.pop_front().expect("the change");
    let index = apply.entries().first().expect("one entry");
    apply.refuse(index);
    assert_eq!(node.raw.applied(apply.done()), Ok(None));
    assert_eq!(node.raw.membership().to_string(), "voters=(1)");
    assert_eq!(node.raw.applied_index(), index);
}

// ---- Joint configurations ----

/// etcd: TestRawNodeProposeAndConfChange (TinyKV: TestRawNodeProposeAndConfChange3A): an explicit joint
/// configuration is left by an empty change, an implicit one by itself.
#[test]
fn a_joint_configuration_is_left_as_it_was_entered() {
    for (transition, left_by_itself) in [
        (Transition::Auto, true),
        (Transition::JointImplicit, true),
        (Transition::JointExplicit, false),
    ] {
        let mut net = group(1);
        net.campaign(1);
        net.change(1, &changes(transition, &[(AddLearnerNode, 2), (AddLearnerNode, 3)]));
        assert_eq!(net.node(1).raw.membership().is_joint(), !left_by_itself, "{transition:?}");
        if !left_by_itself {
            // Another change is refused before it is left.
            net.change(1, &learner(4));
            assert_eq!(net.node(1).raw.membership().learners, ids(&[2, 3]));
            let leave = ConfChange { context: "manual".into(), ..ConfChange::leave_joint() };
            net.change(1, &leave);
            let (_, last) = net.node(1).applied.values().last().expect("applied").clone();
            assert_eq!(last.data, leave.encode(), "with its context");
        }
        assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1) learners=(2 3)");
        // Leaving what is not joint is refused.
        net.change(1, &ConfChange::leave_joint());
        assert!(net.node(1).applied.values().last().expect("applied").1.kind == EntryKind::Normal);
    }
}

/// M6: one entry to leave, also with much else in the same batch.
#[test]
fn leaving_is_proposed_once() {
    let mut net = group(3);
    net.campaign(1);
    let entry = changes(Transition::JointImplicit, &[(AddLearnerNode, 4)]);
    net.node(1).raw.propose_conf_change(&entry).expect("it leads");
    for n in 0..50 {
        net.node(1).raw.propose(format!("{n}").into()).expect("it leads");
    }
    net.pump();
    net.run(5);
    let made = kinds(net.node(1), 1).iter().filter(|k| **k != EntryKind::Normal).count();
    assert_eq!(made, 2, "in and out");
    assert!(!net.node(1).raw.membership().is_joint());
}

/// M6: leaving a joint configuration is refused while leadership is being handed over; it is tried
/// again afterwards, without waiting for another entry to be applied.
#[test]
fn leaving_is_tried_again_after_a_transfer() {
    let mut net = group(3);
    net.campaign(1);
    let demote = changes(Transition::JointImplicit, &[(AddLearnerNode, 3)]);
    net.node(1).hold_applies = true;
    net.change(1, &demote);
    // 2 does not answer the call to take over.
    net.isolate(2);
    net.transfer(1, 2);
    net.node(1).apply_all();
    net.node(1).hold_applies = false;
    net.pump();
    assert!(net.node(1).raw.membership().is_joint());
    net.heal();
    net.run(30);
    assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1 2) learners=(3)");
    net.assert_equal();
}

/// etcd: TestRawNodeJointAutoLeave. A leader that lost its leadership in between, and has it again,
/// still leaves.
#[test]
fn a_leader_that_came_back_still_leaves() {
    let mut net = group(3);
    net.campaign(1);
    net.node(1).hold_applies = true;
    net.change(1, &changes(Transition::JointImplicit, &[(AddLearnerNode, 4)]));
    net.isolate(1);
    net.send(heartbeat(2, 1, 9, 0));
    assert_eq!(net.role(1), Follower);
    net.node(1).apply_all();
    assert!(net.node(1).raw.membership().is_joint(), "a follower proposes nothing");
    net.node(1).hold_applies = false;
    net.heal();
    for _ in 0..3 {
        if net.role(1) != Leader {
            net.campaign(1);
        }
    }
    net.beat(1);
    assert!(!net.node(1).raw.membership().is_joint());
    net.beat(1);
    net.assert_equal();
}

/// M5: restarted while joint, everybody knows both halves.
#[test]
fn both_halves_survive_a_restart() {
    let mut net = group(3);
    net.campaign(1);
    net.change(1, &changes(Transition::JointExplicit, &[(RemoveNode, 3), (AddLearnerNode, 2)]));
    let at = net.commit(1);
    let before = net.node(1).raw.membership().conf_state();
    for n in 1..=3 {
        net.node(n).compact(at);
        net.restart(n);
        assert_eq!(net.node(n).raw.membership().conf_state(), before);
    }
    net.isolate(1);
    net.campaign(2);
    assert_eq!(net.role(2), Candidate, "{} needs 1", net.node(2).raw.membership());
}

/// M4: a leader that removes itself from a group of two leaves a group that works.
#[test]
fn a_leader_may_remove_itself_from_two() {
    let mut net = group(2);
    net.campaign(1);
    net.change(1, &remove(1));
    net.run(40);
    assert_eq!(net.leader(), Some(2));
    net.put(2, "x");
    assert_eq!(net.node(2).said(), ["x"]);
}

/// Without the option a removed leader stays until somebody else is elected, and takes nothing new.
#[test]
fn a_removed_leader_may_stay_for_a_while() {
    let mut net = group_with(3, |c| c.step_down_on_removal = false);
    net.campaign(1);
    net.change(1, &remove(1));
    assert_eq!(net.role(1), Leader);
    assert_eq!(net.propose(1, "x"), Err(raft::ProposeError::Removed));
    net.campaign(2);
    net.put(2, "x");
    assert_eq!(net.propose(1, "x"), Err(raft::ProposeError::Removed), "nobody tells it");
    net.send(heartbeat(2, 1, 2, 0));
    assert_eq!(net.role(1), Follower);
}

// ---- Learners ----

/// etcd: TestLearnerElectionTimeout, TestLearnerCampaign; M9.
#[test]
fn a_learner_never_stands() {
    let mut node = server(2, &[1]).learners(&[2]).start();
    node.tick(40);
    node.stand();
    node.ask(message(1, 2, 1, raft::Body::TimeoutNow));
    assert_eq!(node.raw.role(), Follower);
    node.restart();
    node.tick(40);
    assert_eq!(node.raw.role(), Follower, "not after a restart, either");
}

/// etcd: TestLearnerPromotion.
#[test]
fn a_promoted_learner_can_win() {
    let mut net = Net::of([1, 2].map(|n| server(n, &[1]).learners(&[2])));
    net.campaign(1);
    net.put(1, "x");
    net.change(1, &add(2));
    net.beat(1);
    net.campaign(2);
    assert_eq!((net.role(1), net.role(2)), (Follower, Leader));
}

/// etcd: TestLearnerCanVote; E7. It may have been promoted by an entry that it has not seen.
#[test]
fn a_learner_grants_votes() {
    let mut node = server(2, &[1]).learners(&[2]).start();
    assert_eq!(node.ask(vote(1, 2, 2, (11, 11))), [grant(2, 1, 2, true)]);

    // E7: 1's promotion is committed by 2 and 3, and 1 has not heard of it when leader 2 dies.
    let mut net = Net::of([1, 2, 3].map(|n| server(n, &[2, 3]).learners(&[1])));
    net.campaign(2);
    net.isolate(1);
    net.change(2, &add(1));
    net.heal();
    net.isolate(2);
    assert!(net.node(1).raw.membership().is_learner(id(1)));
    net.campaign(3);
    assert_eq!(net.role(3), Leader);
}

/// etcd: TestLearnerLogReplication. It gets everything, and does not count.
#[test]
fn a_learner_gets_entries_and_does_not_count() {
    let mut net = Net::of([1, 2, 3].map(|n| server(n, &[1, 3]).learners(&[2])));
    net.campaign(1);
    net.put(1, "x");
    assert_eq!(net.node(2).said(), ["x"]);
    assert_eq!(net.node(1).progress(2).matched, 2);
    net.isolate(3);
    net.put(1, "y");
    assert_eq!((net.commit(1), net.node(1).progress(2).matched), (2, 3));
}

/// M10: promoting a learner that has caught up forgets nothing about it.
#[test]
fn a_promotion_forgets_nothing() {
    let mut net = Net::of([1, 2].map(|n| server(n, &[1]).learners(&[2])));
    net.campaign(1);
    for n in 0..20 {
        net.put(1, &format!("{n}"));
    }
    let before = net.node(1).progress(2).matched;
    net.change(1, &add(2));
    assert!(net.node(1).progress(2).matched >= before);
    assert!(!net.node(1).progress(2).is_learner);
    net.assert_equal();
}
