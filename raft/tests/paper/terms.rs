//! §5.1, the basics: roles, terms, and what a message's term does.

use raft::{Body, RoleKind};

use crate::common::build::{self, Kind};
use crate::common::node::of_kind;
use crate::common::{Node, append, grant, group, heartbeat, id, server, vote};

/// A server of three in that role and term 2, with one entry of term 1.
fn in_role(role: RoleKind) -> Node {
    let setup = server(1, &[1, 2, 3]).log(&[1]);
    match role {
        RoleKind::Leader => setup.lead(),
        RoleKind::Candidate => {
            let mut node = setup.start();
            node.stand();
            node
        }
        _ => setup.term(2).start(),
    }
}

const ROLES: [RoleKind; 3] = [RoleKind::Follower, RoleKind::Candidate, RoleKind::Leader];

/// "In normal operation there is exactly one leader and all of the other servers are followers."
#[test]
fn one_leads_and_the_others_follow() {
    let mut net = group(5);
    net.elect(100).expect("a leader within some election timeouts");
    net.run(50);
    let leaders = net.roles().iter().filter(|role| **role == RoleKind::Leader).count();
    let followers = net.roles().iter().filter(|role| **role == RoleKind::Follower).count();
    assert_eq!((leaders, followers), (1, 4));
}

/// Followers issue no requests of their own, they only answer.
#[test]
fn a_follower_sends_nothing_on_its_own() {
    let mut node = in_role(RoleKind::Follower);
    node.take(heartbeat(2, 1, 2, 0));
    node.settle();
    assert!(node.tick(9).is_empty(), "before its election timeout");
}

/// A client that contacts a follower is redirected to the leader.
#[test]
fn a_follower_passes_requests_to_the_leader() {
    let mut node = in_role(RoleKind::Follower);
    node.take(heartbeat(2, 1, 2, 0));
    node.settle();
    node.raw.propose("x".into()).expect("the leader is known");
    let sent = node.settle();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].to, Kind::of(&sent[0].body)), (id(2), Kind::Propose));
}

/// If one server's current term is smaller than the other's, it updates to the larger value; and
/// a candidate or leader whose term is out of date becomes a follower at once.
/// (etcd: TestFollowerUpdateTermFromMessage, TestCandidateUpdateTermFromMessage,
/// TestLeaderUpdateTermFromMessage.)
#[test]
fn a_higher_term_makes_everybody_a_follower_of_it() {
    let messages = [
        append(2, 1, 9, (0, 0), &[], 0),
        heartbeat(2, 1, 9, 0),
        vote(2, 1, 9, (0, 0)),
        grant(2, 1, 9, false),
        build::accepted(2, 1, 9, 0),
        build::heartbeat_reply(2, 1, 9),
    ];
    for role in ROLES {
        for message in &messages {
            let mut node = in_role(role);
            assert_eq!(node.raw.role(), role);
            node.take(message.clone());
            assert_eq!(node.raw.term(), 9, "{role} got {message:?}");
            assert_eq!(node.raw.role(), RoleKind::Follower, "{role} got {message:?}");
        }
    }
}

/// A new term is on disk before anything of that term is promised to anybody.
#[test]
fn the_term_is_stored() {
    let mut node = in_role(RoleKind::Follower);
    node.take(heartbeat(2, 1, 9, 0));
    node.settle();
    assert_eq!(node.storage.hard_state().term, 9);
    node.restart();
    assert_eq!(node.raw.term(), 9);
}

/// A request with a stale term number is rejected.
/// (etcd: TestRejectStaleTermMessage, TestStepIgnoreOldTermMsg.)
#[test]
fn a_message_of_an_older_term_changes_nothing() {
    let messages = [
        append(2, 1, 1, (1, 1), &[1], 2),
        heartbeat(2, 1, 1, 1),
        vote(2, 1, 1, (9, 9)),
        grant(2, 1, 1, true),
        build::accepted(2, 1, 1, 1),
    ];
    for role in ROLES {
        for message in &messages {
            let mut node = in_role(role);
            let before = (node.raw.hard_state(), node.raw.role(), node.raw.last());
            node.take(message.clone());
            let replies = node.settle();
            let after = (node.raw.hard_state(), node.raw.role(), node.raw.last());
            assert_eq!(before, after, "{role} got {message:?}");
            assert!(
                of_kind(&replies, Kind::VoteReply)
                    .iter()
                    .all(|m| matches!(m.body, Body::RequestVoteReply { granted, .. } if !granted))
            );
        }
    }
}

/// There is at most one leader in a given term; a term may end without one.
#[test]
fn a_split_vote_leaves_a_term_without_a_leader() {
    let mut net = group(4);
    for n in 1..=4 {
        net.node(n).raw.campaign();
    }
    net.pump();
    assert_eq!(net.leader(), None, "one vote each");
    assert_eq!(net.terms(), [1, 1, 1, 1]);
    // Two and two, then.
    net.elect(100).expect("a later term has a leader");
    assert!(net.term(1) > 1);
}
