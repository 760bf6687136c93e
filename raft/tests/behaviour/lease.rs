//! Reads by lease (T§6.4.1): the leader's part, and what all others promise.

use raft::{AppendReply, Body, ConfChange, ConfChangeKind, Config, ReadMode, RoleKind};

use crate::common::build::{Kind, grant, heartbeat, message, vote};
use crate::common::net::group_with;
use crate::common::{Net, id, server};

/// Ticks of a lease with elections after ten.
const LEASE_TICKS: u32 = 6;

fn leased(c: &mut Config) {
    c.read_mode = ReadMode::Lease;
    c.check_quorum = true;
    c.election_ticks = 10;
}

/// Server 1 leads three and has a lease.
fn group() -> Net {
    let mut net = group_with(3, leased);
    net.campaign(1);
    net.beat(1);
    assert_eq!(net.role(1), RoleKind::Leader);
    net
}

/// Whether server 1 answers a read without asking anybody.
fn answers_alone(net: &mut Net) -> bool {
    net.node(1).reads.clear();
    net.node(1).raw.read_index("read".into()).expect("it leads");
    // What it sends gets lost.
    net.node(1).settle();
    !std::mem::take(&mut net.node(1).reads).is_empty()
}

/// A leader that nobody hears answers for as long as a lease lasts, though it leads for longer:
/// others may lead by then.
#[test]
fn a_lease_is_over_long_before_the_leader_steps_down() {
    let mut net = group();
    net.isolate(1);
    for tick in 0..LEASE_TICKS {
        assert!(answers_alone(&mut net), "{tick} ticks after the heartbeat");
        net.tick(1);
    }
    assert!(!answers_alone(&mut net));
    net.ticks(1, 2);
    assert_eq!(net.role(1), RoleKind::Leader);
    assert!(!answers_alone(&mut net));
}

/// An election does not give a lease, nor does one answer of two that are needed.
#[test]
fn a_quorum_has_to_answer() {
    let mut net = group_with(5, leased);
    net.campaign(1);
    assert!(!answers_alone(&mut net));
    [3, 4, 5].into_iter().for_each(|n| net.isolate(n));
    net.beat(1);
    assert!(!answers_alone(&mut net), "two of five");
    net.heal();
    net.beat(1);
    assert!(answers_alone(&mut net));
}

/// An answer proves that its sender followed when the heartbeat left, however late it comes.
#[test]
fn a_late_answer_gives_what_is_left() {
    let mut net = group();
    net.ignore(Kind::HeartbeatReply);
    net.ticks(1, 10);
    assert!(!answers_alone(&mut net));
    let reply = |read| message(2, 1, 1, Body::HeartbeatReply { read, commit: 0 });
    net.node(1).ask(reply(1));
    assert!(!answers_alone(&mut net), "to the first heartbeat");
}

/// I3: the request to stand may be late, so for the rest of the term nothing proves anything.
#[test]
fn who_has_handed_over_has_no_lease_any_more() {
    let mut net = group();
    net.ignore(Kind::TimeoutNow);
    net.transfer(1, 2);
    assert!(!answers_alone(&mut net));
    net.run(30);
    assert_eq!((net.role(1), net.term(1)), (RoleKind::Leader, 1), "nothing came of it");
    net.beat(1);
    assert!(!answers_alone(&mut net));
    assert!(net.read(1, "asked").is_some(), "it asks");
}

/// Members that are new have promised nothing.
#[test]
fn other_members_other_lease() {
    let mut net = group();
    assert!(answers_alone(&mut net));
    net.change(1, &ConfChange::single(ConfChangeKind::AddNode, id(4)));
    assert!(!answers_alone(&mut net));
    net.beat(1);
    assert!(answers_alone(&mut net));
}

/// Somebody stuck may bring a higher term; the promise stands.
#[test]
fn a_promise_outlives_a_higher_term() {
    let mut node = server(1, &[1, 2, 3]).tune(leased).start();
    node.ask(heartbeat(2, 1, 1, 0));
    let nudge = Body::AppendEntriesReply(AppendReply::Accepted { index: 0, commit: 0 });
    node.ask(message(3, 1, 5, nudge));
    assert_eq!((node.raw.term(), node.raw.leader()), (5, None));
    assert!(node.ask(vote(3, 1, 5, (9, 9))).is_empty(), "in this term");
    assert!(node.ask(vote(3, 1, 6, (9, 9))).is_empty(), "in the next");
    assert_eq!(node.raw.term(), 5);
    node.raw.set_election_timeout(30);
    node.tick(9);
    assert!(node.ask(vote(3, 1, 6, (9, 9))).is_empty());
    node.tick(1);
    assert_eq!(node.ask(vote(3, 1, 6, (9, 9))), [grant(1, 3, 6, true)]);
}

/// Not by being asked to: only the leader may ask for that.
#[test]
fn who_has_promised_does_not_stand() {
    let mut net = group();
    net.campaign(2);
    assert_eq!((net.role(2), net.term(2)), (RoleKind::Follower, 1));
    net.transfer(1, 2);
    assert_eq!((net.role(2), net.term(2)), (RoleKind::Leader, 2));
}

/// What was promised is forgotten with a restart, so it is taken for granted.
#[test]
fn who_starts_again_waits() {
    for (is_restarted, waits) in [(false, 0), (true, 10)] {
        let setup = server(1, &[1, 2, 3]).tune(leased);
        let mut node = setup.tune(|c| c.is_restarted = is_restarted).start();
        node.raw.set_election_timeout(30);
        for _ in 0..waits {
            assert!(node.ask(vote(3, 1, 2, (9, 9))).is_empty());
            node.raw.campaign();
            assert_eq!(node.raw.role(), RoleKind::Follower);
            node.tick(1);
        }
        assert_eq!(node.ask(vote(3, 1, 2, (9, 9))), [grant(1, 3, 2, true)]);
    }
}

/// I3: an election that the leader has asked for is stopped by nobody's promise, and may come after
/// the leader has given up waiting for it.
#[test]
fn who_has_handed_over_has_no_lease_in_this_term() {
    let mut net = group();
    net.ignore(Kind::TimeoutNow);
    net.transfer(1, 2);
    net.run(30);
    assert_eq!(net.leader(), Some(1), "nothing came of it");
    net.put(1, "it takes proposals again");
    assert!(!answers_alone(&mut net));
    net.heal();
    net.transfer(1, 2);
    net.transfer(2, 1);
    assert_eq!((net.leader(), net.term(1)), (Some(1), 3));
    net.beat(1);
    assert!(answers_alone(&mut net), "another term");
}

/// Check-quorum lets a leader that is cut off go on for up to two election timeouts, and the others
/// elect somebody after one: whatever the phase of the two, it answers nothing by then.
#[test]
fn a_leader_that_is_cut_off_knows_before_another_is_elected() {
    let mut overlaps = 0;
    for phase in 0..20 {
        let mut net = group();
        net.run(phase);
        assert_eq!(net.leader(), Some(1));
        net.isolate(1);
        for _ in 0..25 {
            net.run(1);
            let Some(newer) = net.leader().filter(|leader| *leader != 1) else { continue };
            net.put(newer, "new");
            if net.role(1) == RoleKind::Leader {
                overlaps += 1;
                assert!(!answers_alone(&mut net), "cut off after {phase} ticks");
            }
        }
        assert_ne!(net.leader(), Some(1), "somebody was elected");
    }
    assert!(overlaps > 0, "two never led at a time");
}
