//! Replication and commit (§5.3, §5.4.2; etcd: raft_test.go; museum R, C).

use raft::{AppendReply, Body, Flow, LogId};

use crate::common::build::{Kind, accepted, heartbeat_reply, rejected, voters};
use crate::common::net::group_with;
use crate::common::node::{bodies_to, of_kind};
use crate::common::{Net, Node, append, group, heartbeat, id, server};

/// A leader of three at term 1 whose own first entry is everywhere.
fn leader() -> Node {
    let mut node = server(1, &[1, 2, 3]).lead();
    node.take(accepted(2, 1, 1, 1));
    node.take(accepted(3, 1, 1, 1));
    node.settle();
    node
}

/// etcd: TestBcastBeat, TestLeaderBcastBeat. Heartbeats say min(match, commit), and nothing else.
#[test]
fn a_heartbeat_says_no_more_than_the_follower_has() {
    let mut node = server(1, &[1, 2, 3]).after((1, 1000)).lead();
    for _ in 0..10 {
        node.raw.propose("x".into()).expect("it leads");
    }
    node.settle();
    node.take(accepted(2, 1, 2, 1006));
    node.take(accepted(3, 1, 2, 1011));
    node.settle();
    assert_eq!(node.raw.commit(), 1011);
    let beats = node.tick(1);
    let commits = [2, 3].map(|n| bodies_to(&of_kind(&beats, Kind::Heartbeat), n));
    assert_eq!(commits[0], [Body::Heartbeat { commit: 1006, read: 0 }]);
    assert_eq!(commits[1], [Body::Heartbeat { commit: 1011, read: 0 }]);
}

/// etcd: TestRecvMsgBeat. Only leaders send heartbeats when their time comes.
#[test]
fn only_a_leader_beats() {
    let mut follower = server(1, &[1, 2, 3]).start();
    assert!(follower.tick(9).is_empty());
    let mut candidate = server(1, &[1, 2, 3]).start();
    candidate.stand();
    candidate.raw.set_election_timeout(1_000);
    assert!(candidate.tick(50).is_empty());
    let mut leads = server(1, &[1, 2, 3]).lead();
    assert_eq!(of_kind(&leads.tick(1), Kind::Heartbeat).len(), 2);
}

/// etcd: TestLogReplication, TestProposal, TestProposalByProxy.
#[test]
fn proposals_reach_everybody_through_anybody() {
    for via in 1..=3 {
        let mut net = group(3);
        net.campaign(1);
        net.put(via, "a");
        net.put(via, "b");
        net.assert_equal();
        assert_eq!(net.node(3).said(), ["a", "b"]);
    }
    for (size, alive) in [(3, &[1][..]), (5, &[1, 2])] {
        let all: Vec<u64> = (1..=size).collect();
        let mut net = Net::of(alive.iter().map(|n| server(*n, &all)));
        net.campaign(1);
        assert!(net.propose(1, "a").is_err(), "nobody leads {alive:?} of {size}");
        assert_eq!(net.commit(1), 0);
    }
    // A group that has lost its majority: proposals are taken, and nothing commits.
    let mut net = group(3);
    net.campaign(1);
    net.isolate(1);
    net.put(1, "a");
    assert_eq!(net.commit(1), 1);
}

/// etcd: TestHandleHeartbeatResp; TinyKV: TestCommitWithHeartbeat2AB. A follower that is behind
/// gets an append for each heartbeat it answers, until it has acknowledged everything.
#[test]
fn each_answered_heartbeat_is_worth_an_append_to_who_is_behind() {
    let mut node = leader();
    node.raw.propose("a".into()).expect("it leads");
    node.settle();
    for _ in 0..3 {
        let sent = node.ask(heartbeat_reply(2, 1, 1));
        assert_eq!(of_kind(&sent, Kind::Append).len(), 1);
    }
    node.ask(accepted(2, 1, 1, 2));
    assert!(node.ask(heartbeat_reply(2, 1, 1)).is_empty(), "it has everything");

    let mut net = group(5);
    net.campaign(1);
    for n in [3, 4, 5] {
        net.isolate(n);
    }
    net.put(1, "a");
    net.put(1, "b");
    net.heal();
    net.beat(1);
    assert_eq!(net.commit(1), 3, "one round of heartbeats");
    net.beat(1);
    net.assert_equal();
}

/// etcd: TestMsgAppRespWaitReset. A follower that acknowledges gets what is new; who has not been
/// heard from waits.
#[test]
fn who_has_not_answered_waits() {
    let mut node = server(1, &[1, 2, 3]).lead();
    let sent = node.ask(accepted(2, 1, 1, 1));
    assert_eq!(node.raw.commit(), 1);
    let told = bodies_to(&sent, 2);
    assert!(
        matches!(&told[..], [Body::AppendEntries { entries, commit: 1, .. }] if entries.is_empty())
    );
    node.raw.propose("a".into()).expect("it leads");
    let sent = node.settle();
    assert!(bodies_to(&sent, 3).is_empty(), "one probe is out");
    let [Body::AppendEntries { entries, .. }] = &bodies_to(&sent, 2)[..] else { panic!("one") };
    assert_eq!((entries.len(), entries.first()), (1, Some(2)));
    let sent = node.ask(accepted(3, 1, 1, 1));
    let [Body::AppendEntries { entries, .. }] = &bodies_to(&sent, 3)[..] else { panic!("one") };
    assert_eq!((entries.len(), entries.first()), (1, Some(2)), "now it gets it, too");
}

/// etcd: TestLeaderAppResp. What an answer does to a probe.
#[test]
fn answers_move_a_probe() {
    // The log is 1@1 2@1 and the leader's own 3@2; 2 is probed from 3 on.
    let fresh = || server(1, &[1, 2, 3]).log(&[1, 1]).lead();
    let state = |node: &Node| {
        let pr = node.progress(2);
        (pr.matched, pr.next, pr.is_probing())
    };
    // A rejection of something else is old.
    let mut node = fresh();
    assert!(node.ask(rejected(2, 1, 2, 3, (0, 3))).is_empty());
    assert_eq!(state(&node), (0, 3, true));
    // A rejection lowers next, and there is one probe.
    let mut node = fresh();
    let sent = node.ask(rejected(2, 1, 2, 2, (1, 1)));
    assert_eq!(state(&node), (0, 2, true));
    let told = bodies_to(&sent, 2);
    assert!(matches!(&told[..], [Body::AppendEntries { prev: LogId { index: 1, .. }, .. }]));
    // An acknowledgement commits what it can, and streams.
    let mut node = fresh();
    let sent = node.ask(accepted(2, 1, 2, 3));
    assert_eq!((state(&node), node.raw.commit()), ((3, 4, false), 3));
    assert_eq!(of_kind(&sent, Kind::Append).len(), 1, "to 2; 3 has a probe out");
    // One that is no news changes nothing but ends the probing.
    let mut node = fresh();
    node.ask(accepted(2, 1, 2, 0));
    assert_eq!(state(&node), (0, 4, false), "streaming from where the logs agree");
}

/// etcd: TestFastLogRejection. For pairs of logs: what the follower hints at, and where the leader
/// probes next.
#[test]
fn a_hint_skips_what_cannot_agree() {
    struct Case {
        leader: &'static [u64],
        follower: &'static [u64],
        hint: (u64, u64),
        probe: (u64, u64),
    }
    let case = |leader, follower, hint, probe| Case { leader, follower, hint, probe };
    let cases = [
        case(&[1, 2, 2, 4, 4, 4, 4], &[1, 2, 2, 4, 4, 4], (4, 6), (4, 6)),
        case(&[1, 2, 2, 4, 4, 4, 4, 5], &[1, 2, 2, 4, 4, 4, 4, 4, 4], (4, 8), (4, 7)),
        case(&[1, 1, 1, 1], &[1, 1, 2, 2, 4], (1, 2), (1, 2)),
        case(&[1, 1, 1, 3], &[1, 1, 1, 2, 2], (2, 4), (1, 3)),
        case(&[1, 1, 1, 1, 1, 4], &[1, 1, 2, 2, 2, 2], (2, 6), (1, 5)),
        case(&[1, 1, 1, 1, 1, 4], &[1, 1, 2, 2, 2, 2, 4, 4, 4, 4], (2, 6), (1, 5)),
        case(&[1, 1, 1, 4, 5], &[1, 1, 1, 4, 4, 4, 4], (4, 5), (4, 4)),
        case(&[2, 5, 5, 5, 5], &[2, 4, 4, 4, 4, 4], (4, 5), (2, 1)),
        case(&[2, 2, 2, 2, 2], &[2, 4, 4, 4, 4, 4], (2, 1), (2, 1)),
    ];
    for Case { leader, follower, hint, probe } in cases {
        let last = (leader[leader.len() - 1], leader.len() as u64);
        let term = 9;
        let mut node = server(2, &[1, 2, 3]).log(follower).term(term).start();
        let answer = node.ask(append(1, 2, term + 1, last, &[], 0));
        let hint = LogId::new(hint.0, hint.1);
        let rejected = AppendReply::Rejected { prev: last.1, hint };
        assert_eq!(bodies_to(&answer, 1), [Body::AppendEntriesReply(rejected)], "{follower:?}");

        let mut lead = server(1, &[1, 2, 3]).log(leader).term(term).lead();
        let sent = lead.ask(answer[0].clone());
        let [Body::AppendEntries { prev, .. }] = bodies_to(&sent, 2)[..] else { panic!("a probe") };
        assert_eq!(prev, LogId::new(probe.0, probe.1), "{leader:?} {follower:?}");
    }
}

/// etcd: TestFastLogRejection, its last row; R15. An old append below what the follower has
/// compacted is answered, whatever its term; nothing is looked up that is not there.
#[test]
fn an_append_below_the_compacted_is_answered() {
    for prev in [(1, 3), (2, 3), (7, 3), (0, 0)] {
        let mut node = server(2, &[1, 2, 3]).after((2, 10)).log(&[2, 2]).term(8).start();
        let answer = node.ask(append(1, 2, 8, prev, &[], 3));
        assert_eq!(answer, [accepted(2, 1, 8, 10)], "{prev:?}");
        assert_eq!(node.raw.last(), LogId::new(2, 12), "nothing is deleted (R11)");
    }
}

/// etcd: TestLogReplicationWithReorderedMessage; R4, R12. An old rejection never takes back what
/// was acknowledged since.
#[test]
fn an_old_rejection_takes_nothing_back() {
    let mut net = group(3);
    net.campaign(1);
    net.isolate(2);
    for n in 0..5 {
        net.put(1, &format!("{n}"));
    }
    net.heal();
    // The rejection of the first append after healing is held back.
    let held = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let keep = held.clone();
    net.hook(move |m| {
        let reject = matches!(m.body, Body::AppendEntriesReply(AppendReply::Rejected { .. }));
        if reject && m.from == id(2) {
            keep.borrow_mut().push(m.clone());
        }
        true
    });
    for _ in 0..3 {
        net.beat(1);
    }
    net.assert_equal();
    let late = rejected(2, 1, 1, 3, (1, 1));
    for old in held.borrow().iter().chain([&late]) {
        net.wire.push_back(old.clone());
    }
    net.pump();
    let pr = net.node(1).progress(2);
    assert_eq!((pr.matched, pr.next), (6, 7));
    assert!(matches!(pr.flow, Flow::Replicate { .. }), "and it goes on streaming");
}

/// R13: acknowledgements from before a log was reverted do not count after it.
#[test]
fn acknowledgements_of_a_former_term_do_not_count() {
    let mut node = server(1, &[1, 2, 3]).log(&[1, 1, 1]).term(2).lead();
    node.ask(accepted(3, 1, 2, 4));
    node.ask(accepted(3, 1, 1, 4));
    assert_eq!((node.raw.commit(), node.progress(3).matched), (0, 0));
}

/// R14: what was proposed while a follower was sent a snapshot reaches it without another proposal.
#[test]
fn what_came_during_a_snapshot_is_sent_after_it() {
    for eager in [false, true] {
        let mut net = group_with(3, |c| c.eager_appends = eager);
        net.campaign(1);
        net.isolate(3);
        for n in 0..10 {
            net.put(1, &format!("{n}"));
        }
        net.node(1).compact(9);
        net.heal();
        net.hook(|m| {
            let reply = &m.body;
            m.from != id(3)
                || !matches!(reply, Body::AppendEntriesReply(AppendReply::Accepted { .. }))
        });
        net.beat(1);
        assert!(matches!(net.node(1).progress(3).flow, Flow::Snapshot { .. }));
        for n in 0..100 {
            net.put(1, &format!("late {n}"));
        }
        net.heal();
        // The acknowledgement of the snapshot got lost; the report that it arrived does not.
        net.node(1).raw.report_snapshot(id(3), true);
        net.beat(1);
        net.beat(1);
        net.assert_equal();
    }
}

/// R8: a leader whose whole log is compacted helps a server that has nothing, without a proposal.
#[test]
fn a_leader_without_a_log_helps_an_empty_server() {
    let mut net = group(3);
    net.campaign(1);
    for n in 0..5 {
        net.put(1, &format!("{n}"));
    }
    net.change(1, &raft::ConfChange::single(raft::ConfChangeKind::AddNode, id(4)));
    let last = net.commit(1);
    net.node(1).compact(last);
    net.nodes.insert(4, server(4, &[]).start());
    net.beat(1);
    net.beat(1);
    assert_eq!(net.node(4).raw.compacted().index, last);
    net.assert_equal();
    assert_eq!(voters(&[1, 2, 3, 4]), net.node(4).raw.membership().conf_state());
}

/// C5: changes of role truncate nothing.
#[test]
fn a_follower_keeps_what_it_acknowledged_through_all_roles() {
    let mut node = server(1, &[1, 2, 3]).log(&[1; 9]).term(2).start();
    node.ask(append(2, 1, 2, (1, 9), &[2], 0));
    for term in 3..8 {
        node.stand();
        node.ask(heartbeat(2, 1, term + 1, 0));
        node.ask(crate::common::vote(3, 1, term + 1, (9, 9)));
        assert_eq!(node.raw.last(), LogId::new(2, 10));
        node.restart();
    }
    assert_eq!(node.raw.last(), LogId::new(2, 10));
}
