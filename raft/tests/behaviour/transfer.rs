//! Leadership transfer (T§3.10; etcd and TinyKV: the TestLeaderTransfer… of raft_test.go; museum T).

use raft::{Body, ConfChange, ConfChangeKind, ProposeError, RoleKind};

use crate::common::build::{Kind, accepted, heartbeat_reply, vote};
use crate::common::net::group_with;
use crate::common::node::of_kind;
use crate::common::{Net, group, heartbeat, id, message, server};

use RoleKind::{Candidate, Follower, Leader};

fn led(n: u64) -> Net {
    let mut net = group(n);
    net.campaign(1);
    net
}

fn transferee(net: &mut Net) -> Option<u64> {
    net.node(1).raw.status().transferee.map(raft::NodeId::get)
}

/// etcd: TestLeaderTransferToUpToDateNode, TestLeaderTransferToUpToDateNodeFromFollower (TinyKV:
/// TestLeaderTransferToUpToDateNode3A, TestLeaderTransferToUpToDateNodeFromFollower3A). To and fro,
/// asked of the leader or of a follower.
#[test]
fn to_who_is_up_to_date_and_back() {
    for via_follower in [false, true] {
        let mut net = led(3);
        let (there, back) = if via_follower { (2, 1) } else { (1, 2) };
        net.transfer(there, 2);
        assert_eq!((net.role(1), net.role(2)), (Follower, Leader));
        net.put(1, "x");
        net.transfer(back, 1);
        assert_eq!((net.role(1), net.role(2)), (Leader, Follower));
        net.assert_equal();
    }
}

/// etcd: TestLeaderTransferWithCheckQuorum; T5. In spite of leases, and of pre-vote.
#[test]
fn through_leases_and_pre_votes() {
    for pre in [false, true] {
        let mut net = group_with(3, |c| {
            c.check_quorum = true;
            c.pre_vote = pre;
        });
        net.campaign(1);
        net.run(5);
        assert_eq!(net.leader(), Some(1));
        net.transfer(1, 2);
        assert_eq!((net.role(1), net.role(2)), (Follower, Leader));
        assert_eq!(net.term(2), 2);
        net.put(2, "x");
        net.transfer(2, 1);
        assert_eq!(net.role(1), Leader);
        assert!(!net.arrived.contains_key(&Kind::RequestPreVote) || pre);
    }
    // T5: a late heartbeat between the call and the votes.
    let mut node = server(2, &[1, 2, 3])
        .tune(|c| {
            c.pre_vote = true;
            c.check_quorum = true;
        })
        .start();
    node.ask(heartbeat(1, 2, 1, 0));
    let sent = node.ask(message(1, 2, 1, Body::TimeoutNow));
    assert_eq!(node.raw.role(), Candidate, "without asking first");
    assert!(
        of_kind(&sent, Kind::RequestVote)
            .iter()
            .all(|m| matches!(m.body, Body::RequestVote { transfer: true, .. }))
    );
    node.ask(heartbeat(1, 2, 1, 0));
    assert_eq!((node.raw.role(), node.raw.term()), (Candidate, 2));
}

/// etcd: TestLeaderTransferToSlowFollower (TinyKV: TestLeaderTransferToSlowFollower3A); T2. Only once
/// it has everything.
#[test]
fn to_who_has_to_catch_up_first() {
    let mut net = led(3);
    net.isolate(3);
    net.put(1, "x");
    net.heal();
    net.transfer(1, 3);
    net.beat(1);
    assert_eq!(net.role(3), Leader);

    let mut node = server(1, &[1, 2]).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.raw.propose("x".into()).expect("it leads");
    node.settle();
    node.raw.transfer_leader(id(2));
    assert!(of_kind(&node.settle(), Kind::TimeoutNow).is_empty(), "2 lacks an entry");
    assert!(of_kind(&node.ask(heartbeat_reply(2, 1, 1)), Kind::TimeoutNow).is_empty());
    let sent = node.ask(accepted(2, 1, 1, 2));
    assert_eq!(of_kind(&sent, Kind::TimeoutNow).len(), 1);
}

/// T§3.10: the target's log has to be the leader's to its end; an acknowledgement of less is no news.
#[test]
fn to_who_has_acknowledged_everything() {
    let mut leader = server(1, &[1, 2, 3]).log(&[1]).lead();
    leader.raw.propose("3".into()).expect("it leads");
    leader.raw.transfer_leader(id(2));
    leader.settle();
    for (index, told) in [(2, false), (3, true)] {
        let sent = leader.ask(accepted(2, 1, 2, index));
        assert_eq!(!of_kind(&sent, Kind::TimeoutNow).is_empty(), told, "{index}");
    }
}

/// etcd: TestLeaderTransferAfterSnapshot (TinyKV: TestLeaderTransferAfterSnapshot3A).
#[test]
fn to_who_needs_a_snapshot_first() {
    let mut net = led(3);
    net.isolate(3);
    net.put(1, "x");
    let last = net.commit(1);
    net.node(1).compact(last);
    net.heal();
    net.node(1).raw.transfer_leader(id(3));
    net.node(1).raw.tick();
    net.gather();
    while net.wire.front().is_some_and(|m| Kind::of(&m.body) != Kind::Snapshot) {
        net.deliver();
    }
    net.node(3).hold_writes = true;
    net.pump();
    assert_eq!(net.arrived[&Kind::Snapshot], 1);
    assert_eq!((net.role(1), net.role(3)), (Leader, Follower), "it is not on disk yet");
    net.node(3).hold_writes = false;
    let done = net.node(3).persist_all();
    net.post(done);
    net.pump();
    assert_eq!((net.role(1), net.role(3)), (Follower, Leader));
}

/// etcd: TestLeaderTransferToSelf, TestLeaderTransferToNonExistingNode,
/// TestLeaderTransferToNonExistingNodeFromFollower, TestLeaderTransferToLearner (TinyKV:
/// TestLeaderTransferToSelf3A, TestLeaderTransferToNonExistingNode3A; raft-rs:
/// test_leader_transfer_to_learner).
#[test]
fn to_nobody_who_could() {
    for via in [1, 2] {
        let mut net = led(3);
        net.change(1, &ConfChange::single(ConfChangeKind::AddLearnerNode, id(4)));
        for to in [1, 4, 9] {
            net.transfer(via, to);
            assert_eq!((net.role(1), net.term(1)), (Leader, 1), "{to}");
            assert_eq!(transferee(&mut net), None);
        }
        net.put(1, "x");
    }
}

/// etcd: TestLeaderTransferTimeout; T4. It is given up after an election timeout.
#[test]
fn it_is_given_up_after_an_election_timeout() {
    let mut net = led(3);
    net.isolate(3);
    net.transfer(1, 3);
    assert_eq!(transferee(&mut net), Some(3));
    net.ticks(1, 9);
    assert_eq!(transferee(&mut net), Some(3));
    assert_eq!(net.propose(1, "x"), Err(ProposeError::Transferring));
    net.tick(1);
    assert_eq!((net.role(1), transferee(&mut net)), (Leader, None));
    net.put(1, "x");
}

/// etcd: TestLeaderTransferIgnoreProposal; T3. Proposals are refused meanwhile, from anywhere.
#[test]
fn proposals_are_refused_meanwhile() {
    let mut net = led(3);
    net.isolate(3);
    net.transfer(1, 3);
    let before = net.node(1).raw.last();
    assert_eq!(net.propose(1, "x"), Err(ProposeError::Transferring));
    assert!(ProposeError::Transferring.to_string().starts_with("raft proposal dropped"));
    net.propose(2, "x").expect("passed on");
    assert_eq!(net.refused.len(), 1, "and refused there");
    assert_eq!(net.node(1).raw.last(), before);
}

/// etcd: TestLeaderTransferReceiveHigherTermVote (TinyKV: TestLeaderTransferReceiveHigherTermVote3A).
#[test]
fn a_higher_term_ends_it() {
    let mut net = led(3);
    net.isolate(3);
    net.transfer(1, 3);
    net.send(vote(2, 1, 2, (9, 9)));
    assert_eq!((net.role(1), transferee(&mut net)), (Follower, None));
}

/// etcd: TestLeaderTransferRemoveNode, TestLeaderTransferDemoteNode (TinyKV:
/// TestLeaderTransferRemoveNode3A).
#[test]
fn removing_or_demoting_the_target_ends_it() {
    for kind in [ConfChangeKind::RemoveNode, ConfChangeKind::AddLearnerNode] {
        let mut net = led(3);
        net.node(1).hold_applies = true;
        net.change(1, &ConfChange::single(kind, id(3)));
        net.ignore(Kind::TimeoutNow);
        net.transfer(1, 3);
        assert_eq!(transferee(&mut net), Some(3));
        net.node(1).apply_all();
        assert_eq!(transferee(&mut net), None, "{kind:?}");
        net.node(1).hold_applies = false;
        net.put(1, "x");
    }
}

/// etcd: TestLeaderTransferBack (TinyKV: TestLeaderTransferBack3A). A transfer to the leader itself takes it back.
#[test]
fn it_can_be_taken_back() {
    let mut net = led(3);
    net.isolate(3);
    net.transfer(1, 3);
    net.transfer(1, 1);
    assert_eq!((net.role(1), transferee(&mut net)), (Leader, None));
    net.put(1, "x");
}

/// etcd: TestLeaderTransferSecondTransferToAnotherNode (TinyKV:
/// TestLeaderTransferSecondTransferToAnotherNode3A).
#[test]
fn a_second_target_replaces_the_first() {
    let mut net = led(3);
    net.isolate(3);
    net.transfer(1, 3);
    net.transfer(1, 2);
    assert_eq!((net.role(1), net.role(2)), (Follower, Leader));
}

/// etcd: TestLeaderTransferSecondTransferToSameNode. Asking again does not give more time.
#[test]
fn asking_again_gives_no_more_time() {
    let mut net = led(3);
    net.isolate(3);
    net.transfer(1, 3);
    net.ticks(1, 5);
    net.transfer(1, 3);
    net.ticks(1, 5);
    assert_eq!((net.role(1), transferee(&mut net)), (Leader, None));
}

/// T1: a target that does not know of its promotion does not stand; the leader serves again within
/// a timeout.
#[test]
fn a_target_that_does_not_know_it_votes_costs_a_timeout() {
    let mut net = Net::of([1, 2, 3].map(|n| server(n, &[1, 2]).learners(&[3])));
    net.campaign(1);
    net.node(3).hold_applies = true;
    net.change(1, &ConfChange::single(ConfChangeKind::AddNode, id(3)));
    net.transfer(1, 3);
    assert_eq!((net.role(1), net.role(3)), (Leader, Follower));
    net.ticks(1, 10);
    net.put(1, "x");
    assert_eq!(net.node(2).said(), ["x"]);
}
