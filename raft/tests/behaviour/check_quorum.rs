//! Check-quorum and the lease that follows from it (T§6.2, T§4.2.3).

use raft::{ConfChange, ConfChangeKind, RoleKind};

use crate::common::build::{Kind, grant, heartbeat_reply, vote};
use crate::common::net::group_with;
use crate::common::{Net, group, heartbeat, id, server};

use RoleKind::{Candidate, Follower, Leader};

fn checked(n: u64) -> Net {
    group_with(n, |c| c.check_quorum = true)
}

/// etcd: TestLeaderStepdownWhenQuorumActive, TestLeaderStepdownWhenQuorumLost.
#[test]
fn a_leader_steps_down_when_its_quorum_is_silent() {
    let setup = || server(1, &[1, 2, 3]).tune(|c| c.check_quorum = true);
    let mut node = setup().lead();
    for _ in 0..21 {
        node.ask(heartbeat_reply(2, 1, 1));
        node.tick(1);
    }
    assert_eq!(node.raw.role(), Leader, "one of the two others is enough");
    let mut node = setup().lead();
    node.tick(21);
    assert_eq!(node.raw.role(), Follower);
    assert_eq!((node.raw.leader(), node.raw.term()), (None, 1), "its term stays");
    let mut node = server(1, &[1, 2, 3]).lead();
    node.tick(100);
    assert_eq!(node.raw.role(), Leader, "only if it is switched on");
}

/// A quorum is a majority of the voters: learners, and others than voters, do not hold it up.
#[test]
fn learners_do_not_hold_a_leader_up() {
    let mut node = server(1, &[1, 2, 3]).learners(&[4, 5]).tune(|c| c.check_quorum = true).lead();
    for _ in 0..21 {
        for n in [4, 5] {
            node.ask(heartbeat_reply(n, 1, 1));
        }
        node.tick(1);
    }
    assert_eq!(node.raw.role(), Follower);
}

/// etcd: TestLeaderSupersedingWithCheckQuorum. Within its lease a leader is not superseded.
#[test]
fn votes_are_refused_within_the_lease_and_granted_after_it() {
    let mut net = checked(3);
    net.node(2).raw.set_election_timeout(11);
    net.campaign(1);
    net.campaign(3);
    assert_eq!(net.role(3), Candidate, "1 and 2 follow the lease");
    assert_eq!((net.term(1), net.term(2)), (1, 1));
    net.node(2).raw.set_election_timeout(30);
    for _ in 0..10 {
        net.node(2).raw.tick();
    }
    net.campaign(3);
    assert_eq!(net.role(3), Leader, "2's lease is over, and its vote makes two");
}

/// etcd: TestLeaderElectionWithCheckQuorum. A server that has heard of no leader votes at once; so
/// it does after the lease.
#[test]
fn a_fresh_server_votes_at_once() {
    let mut net = checked(3);
    net.campaign(1);
    assert_eq!(net.role(1), Leader);
    net.ignore(Kind::Heartbeat);
    for n in [1, 2] {
        net.node(n).raw.set_election_timeout(30);
        for _ in 0..10 {
            net.node(n).raw.tick();
        }
    }
    net.campaign(3);
    assert_eq!((net.role(1), net.role(3)), (Follower, Leader));
}

/// etcd: TestFreeStuckCandidateWithCheckQuorum. A candidate of a higher term answers the leader's
/// heartbeat; the leader steps down, and the candidate can win.
#[test]
fn a_stuck_candidate_makes_the_leader_step_down() {
    let mut net = checked(3);
    net.campaign(1);
    net.isolate(1);
    net.campaign(3);
    net.campaign(3);
    assert_eq!((net.role(3), net.term(3)), (Candidate, 3));
    assert_eq!((net.role(2), net.term(2)), (Follower, 1), "within the lease");
    net.heal();
    net.send(heartbeat(1, 3, 1, 0));
    assert_eq!((net.role(1), net.term(1)), (Follower, 3));
    net.node(2).raw.set_election_timeout(30);
    for _ in 0..10 {
        net.node(2).raw.tick();
    }
    net.campaign(3);
    assert_eq!(net.role(3), Leader);
}

/// etcd: TestNonPromotableVoterWithCheckQuorum. A server that is not in its own membership still
/// follows and votes.
#[test]
fn who_may_not_stand_may_vote() {
    let mut net = Net::of([
        server(1, &[1, 2]).tune(|c| c.check_quorum = true),
        server(2, &[1]).tune(|c| c.check_quorum = true),
    ]);
    net.node(2).tick(40);
    assert_eq!(net.role(2), Follower);
    net.campaign(1);
    assert_eq!((net.role(1), net.role(2)), (Leader, Follower));
    assert_eq!(net.leader_of(2), Some(id(1)));
}

/// etcd: TestDisruptiveFollower. A heartbeat of a lower term, to a follower that has become a
/// candidate, deposes the leader.
#[test]
fn a_late_heartbeat_deposes_the_leader() {
    let mut net = checked(3);
    net.campaign(1);
    net.isolate(3);
    net.campaign(3);
    assert_eq!((net.role(3), net.term(3)), (Candidate, 2));
    net.heal();
    net.send(heartbeat(1, 3, 1, 0));
    assert_eq!((net.role(1), net.term(1)), (Follower, 2));
}

/// etcd: TestDisruptiveFollowerPreVote. With pre-vote it does not come to that.
#[test]
fn with_pre_vote_a_late_heartbeat_deposes_nobody() {
    let mut net = group_with(3, |c| {
        c.check_quorum = true;
        c.pre_vote = true;
    });
    net.campaign(1);
    net.isolate(3);
    net.put(1, "a");
    net.put(1, "b");
    net.heal();
    net.campaign(3);
    assert_eq!((net.role(1), net.role(3)), (Leader, RoleKind::PreCandidate));
    net.send(heartbeat(1, 3, 1, 0));
    assert_eq!((net.role(1), net.role(3)), (Leader, Follower));
    assert_eq!(net.terms(), [1, 1, 1]);
}

/// etcd: TestAddNodeCheckQuorum. Who was just added counts as active until the next check.
#[test]
fn a_new_member_has_time_to_answer() {
    let mut net = group_with(1, |c| c.check_quorum = true);
    net.campaign(1);
    net.ticks(1, 9);
    net.change(1, &ConfChange::single(ConfChangeKind::AddNode, id(2)));
    net.tick(1);
    assert_eq!(net.role(1), Leader, "2 had no time to answer yet");
    net.ticks(1, 10);
    assert_eq!(net.role(1), Follower, "it had now");
}

/// raft-rs: test_switching_check_quorum.
#[test]
fn it_can_be_switched_while_running() {
    let mut node = server(1, &[1, 2, 3]).lead();
    node.tick(50);
    assert_eq!(node.raw.role(), Leader);
    node.raw.set_check_quorum(true).expect("nothing is against it");
    node.tick(21);
    assert_eq!(node.raw.role(), Follower);
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.check_quorum = true).lead();
    node.raw.set_check_quorum(false).expect("no lease reads");
    node.tick(50);
    assert_eq!(node.raw.role(), Leader);
}

/// E5: leader 4 is heard by 3 only; 1, 2 and 3 are well connected, 5 is off. The leader steps down
/// for lack of a quorum, and one of the three commits.
#[test]
fn a_powerless_leader_does_not_block_a_live_quorum() {
    let mut net = group_with(5, |c| {
        c.check_quorum = true;
        c.pre_vote = true;
    });
    net.campaign(4);
    net.cut(4, 1);
    net.cut(4, 2);
    net.isolate(5);
    for _ in 0..20 {
        net.run(1);
    }
    assert_eq!(net.role(4), Follower, "within two timeouts");
    let leader = (0..400).find_map(|_| {
        net.run(1);
        net.leader()
    });
    let leader = leader.expect("a leader with a quorum");
    let before = net.commit(leader);
    net.put(leader, "x");
    assert!(net.commit(leader) > before);
}

/// forget-leader: a follower that knows the leader to be gone votes before the lease is over; with
/// lease reads it does not.
#[test]
fn a_forgotten_leader_has_no_lease() {
    let setup = || server(1, &[1, 2, 3]).tune(|c| c.check_quorum = true);
    let mut node = setup().start();
    node.ask(heartbeat(2, 1, 1, 0));
    assert!(node.ask(vote(3, 1, 2, (9, 9))).is_empty());
    node.raw.forget_leader();
    assert_eq!((node.raw.leader(), node.raw.role(), node.raw.term()), (None, Follower, 1));
    assert_eq!(node.ask(vote(3, 1, 2, (9, 9))), [grant(1, 3, 2, true)]);

    let mut node = setup().tune(|c| c.read_mode = raft::ReadMode::Lease).start();
    node.ask(heartbeat(2, 1, 1, 0));
    node.raw.forget_leader();
    assert_eq!(node.raw.leader(), Some(id(2)), "the leader counts on being remembered");
    let mut net = group(1);
    net.campaign(1);
    net.node(1).raw.forget_leader();
    assert_eq!(net.role(1), Leader, "a leader does not forget itself");
    assert!(!net.arrived.contains_key(&Kind::Heartbeat));
}
