//! §6, cluster membership changes.

use raft::{ConfChange, ConfChangeKind, RoleKind, Transition};

use crate::common::build::changes;
use crate::common::net::group_with;
use crate::common::{Net, group, heartbeat, server, vote};

use ConfChangeKind::{AddLearnerNode, AddNode, RemoveNode};

/// Voters {1, 2, 3}, to become {3, 4, 5}, with everybody running.
fn changing() -> Net {
    let mut net = Net::of(
        [1, 2, 3]
            .map(|n| server(n, &[1, 2, 3]))
            .into_iter()
            .chain([4, 5].map(|n| server(n, &[1, 2, 3]))),
    );
    net.campaign(1);
    net
}

fn enter() -> ConfChange {
    changes(
        Transition::JointExplicit,
        &[(AddNode, 4), (AddNode, 5), (RemoveNode, 1), (RemoveNode, 2)],
    )
}

/// Log entries are replicated to all servers in both configurations.
#[test]
fn entries_go_to_both_configurations() {
    let mut net = changing();
    net.change(1, &enter());
    net.put(1, "x");
    for n in 1..=5 {
        assert_eq!(net.node(n).said(), ["x"], "{n}");
        assert!(net.node(n).raw.membership().is_joint());
    }
}

/// Agreement, for elections and for entries, requires a majority of the old and one of the new
/// configuration. (C4.)
#[test]
fn agreement_needs_both_majorities() {
    for (down, commits) in [
        (&[4, 5][..], false), // no majority of the new
        (&[2, 3], false),     // no majority of the old
        (&[2, 4], true),
        (&[3], true),
        (&[2, 5], true),
    ] {
        let mut net = changing();
        net.change(1, &enter());
        let before = net.commit(1);
        for n in down {
            net.isolate(*n);
        }
        net.put(1, "x");
        assert_eq!(net.commit(1) > before, commits, "without {down:?}");

        let mut net = changing();
        net.change(1, &enter());
        for n in down {
            net.isolate(*n);
        }
        net.isolate(1);
        let stands = [2, 3, 4, 5].into_iter().find(|n| !down.contains(n)).expect("somebody");
        net.campaign(stands);
        // With 1 down besides, the old half needs 2 and 3.
        let wins = !down.contains(&2) && !down.contains(&3) && down.len() < 2;
        assert_eq!(net.role(stands) == RoleKind::Leader, wins, "{stands} without 1, {down:?}");
    }
}

/// Any server from either configuration may serve as leader.
#[test]
fn servers_of_both_configurations_may_lead() {
    for leader in [2, 3, 4, 5] {
        let mut net = changing();
        net.change(1, &enter());
        net.campaign(leader);
        assert_eq!(net.role(leader), RoleKind::Leader, "{leader}");
    }
}

/// Once the joint configuration is committed the leader may propose the new one; then the old
/// servers count no more.
#[test]
fn after_the_change_only_the_new_configuration_counts() {
    let mut net = changing();
    net.change(1, &enter());
    net.transfer(1, 4);
    assert_eq!(net.leader(), Some(4));
    net.change(4, &ConfChange::leave_joint());
    net.isolate(1);
    net.isolate(2);
    net.put(4, "x");
    for n in [3, 4, 5] {
        assert_eq!(net.node(n).raw.membership().to_string(), "voters=(3 4 5)");
        assert_eq!(net.node(n).said(), ["x"]);
    }
}

/// The leader may not be part of the new configuration: it manages the change, and steps down when
/// it is done. (M4.)
#[test]
fn a_leader_that_is_removed_steps_down() {
    for transition in [Transition::JointImplicit, Transition::Auto] {
        let mut net = group(3);
        net.campaign(1);
        net.change(1, &changes(transition, &[(RemoveNode, 1)]));
        assert_eq!(net.role(1), RoleKind::Follower);
        for n in [2, 3] {
            let members = net.node(n).raw.membership().to_string();
            assert_eq!(members, "voters=(2 3)", "the others know");
        }
        assert!(net.elect(60).is_some_and(|leader| leader != 1), "and elect somebody else");
        net.run(60);
        assert_eq!(net.role(1), RoleKind::Follower, "who is removed does not stand");
    }
}

/// New servers join as non-voting members: the leader replicates to them, but they do not count
/// towards majorities.
#[test]
fn non_voting_members_get_entries_and_do_not_count() {
    let mut net = Net::of([1, 2, 3, 4].map(|n| server(n, &[1, 2, 3])));
    net.campaign(1);
    net.put(1, "before");
    net.change(1, &changes(Transition::Auto, &[(AddLearnerNode, 4)]));
    assert_eq!(net.node(4).said(), ["before"]);
    net.isolate(2);
    net.isolate(3);
    let before = net.commit(1);
    net.put(1, "x");
    assert_eq!(net.commit(1), before, "two of three voters are gone, the learner is no substitute");
    assert_eq!(net.node(4).raw.last().index, before + 1, "it got the entry");
}

/// Removed servers can disrupt the cluster: so servers disregard RequestVote when they believe a
/// leader exists, within the minimum election timeout of hearing from it.
#[test]
fn vote_requests_are_disregarded_while_a_leader_is_heard_from() {
    let mut node = server(2, &[1, 2, 3]).tune(|c| c.check_quorum = true).start();
    node.ask(heartbeat(1, 2, 1, 0));
    node.tick(9);
    assert!(node.ask(vote(3, 2, 9, (9, 9))).is_empty());
    assert_eq!(node.raw.term(), 1, "not even the term is looked at");
    node.raw.set_election_timeout(20);
    node.tick(1);
    assert!(!node.ask(vote(3, 2, 9, (9, 9))).is_empty());
    assert_eq!(node.raw.term(), 9, "after the minimum election timeout they are heard");
}

/// The same, in a group: a removed server that does not know so does no harm.
#[test]
fn a_removed_server_that_does_not_know_does_no_harm() {
    let mut net = group_with(4, |c| c.check_quorum = true);
    net.campaign(1);
    net.isolate(4);
    net.change(1, &changes(Transition::Auto, &[(RemoveNode, 4)]));
    net.heal();
    let term = net.term(1);
    for _ in 0..100 {
        net.run(1);
        net.ticks(4, 2);
    }
    assert!(net.term(4) > term, "it stands again and again");
    assert_eq!((net.role(1), net.term(1)), (RoleKind::Leader, term));
}
