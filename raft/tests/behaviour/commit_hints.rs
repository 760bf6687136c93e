//! What servers tell each other of what is committed (raft-rs: test_raft.rs).

use raft::{Body, ConfChange, ConfChangeKind, Config, Index, LogId, Message, RoleKind, Transition};

use crate::common::build::{Kind, accepted, changes, message, rejected};
use crate::common::net::group_with;
use crate::common::node::of_kind;
use crate::common::{Net, Node, append, id, server};

use ConfChangeKind::{AddNode, RemoveNode};
use RoleKind::{Candidate, Follower, Leader};

/// One entry an append, so that a network can lose the second of two.
fn setting(hints: bool, pre_vote: bool) -> impl Fn(&mut Config) {
    move |c| {
        c.commit_hints = hints;
        c.pre_vote = pre_vote;
        c.append_bytes_max = 1;
    }
}

// ---- Groups that are stuck without ----

/// The leader commits `change`, which is news to all but who gets it with that news. Another entry
/// follows it. `late` gets both, and neither news; `knows` gets the change with the news. Gives the
/// index of the change.
fn commit_unnoticed(
    net: &mut Net,
    leader: u64,
    change: &ConfChange,
    late: u64,
    knows: u64,
) -> Index {
    let at = net.nodes[&leader].raw.last().index + 1;
    net.hook(move |m| match (&m.body, m.to.get()) {
        (Body::AppendEntries { commit, .. } | Body::Heartbeat { commit, .. }, to) if to == late => {
            *commit < at
        }
        (Body::AppendEntries { prev, .. }, to) if to == knows => prev.index < at,
        _ => true,
    });
    net.node(leader).raw.propose_conf_change(change).expect("it leads");
    net.put(leader, "after");
    net.beat(leader);
    assert_eq!([late, knows].map(|n| net.commit(n)), [at - 1, at]);
    assert_eq!([late, knows].map(|n| net.nodes[&n].raw.last().index), [at + 1, at]);
    net.heal();
    net.isolate(leader);
    at
}

/// Who leads in the end without `lost`, and how far it has committed.
fn outcome(net: &mut Net, lost: u64) -> Option<(u64, Index)> {
    net.run(400);
    let leader = net.nodes.keys().copied().find(|n| *n != lost && net.role(*n) == Leader)?;
    Some((leader, net.commit(leader)))
}

/// raft-rs: test_advance_commit_index_by_direct_vote_request,
/// test_advance_commit_index_by_prevote_vote_request. A learner is promoted, and only the learner
/// has heard so; a majority of the new voters is there. The other asks a lost server for its vote,
/// and refuses the new voter, whose log is shorter; but from its request it learns of the change.
#[test]
fn a_promotion_is_learnt_from_a_vote_request() {
    for (pre_vote, hints) in [(false, false), (true, false), (false, true), (true, true)] {
        let all =
            [1, 2, 3].map(|n| server(n, &[1, 2]).learners(&[3]).tune(setting(hints, pre_vote)));
        let mut net = Net::of(all);
        net.campaign(1);
        let promote = ConfChange::single(AddNode, id(3));
        commit_unnoticed(&mut net, 1, &promote, 2, 3);
        let expected = hints.then_some((2, 4));
        assert_eq!(outcome(&mut net, 1), expected, "pre-vote {pre_vote}, hints {hints}");
    }
}

/// raft-rs: the same tests, their second case. A joint configuration is left, and only one of those
/// who stay has heard so; who goes is gone.
#[test]
fn leaving_a_joint_configuration_is_learnt_from_a_vote_request() {
    for (pre_vote, hints) in [(false, false), (true, false), (false, true), (true, true)] {
        let all = [1, 2, 3, 4]
            .map(|n| server(n, &[1, 2, 3]).learners(&[4]).tune(setting(hints, pre_vote)));
        let mut net = Net::of(all);
        net.campaign(2);
        net.change(2, &changes(Transition::JointExplicit, &[(RemoveNode, 1), (AddNode, 4)]));
        commit_unnoticed(&mut net, 2, &ConfChange::leave_joint(), 4, 3);
        net.isolate(1);
        let expected = hints.then_some((4, 5));
        assert_eq!(outcome(&mut net, 2), expected, "pre-vote {pre_vote}, hints {hints}");
    }
}

/// raft-rs: test_advance_commit_index_by_direct_vote_response,
/// test_advance_commit_index_by_prevote_vote_response. A leader has removed itself, and the only
/// voter left has not heard so: its log is the shorter one, so it is refused, for ever. But the
/// refusal says what is committed.
#[test]
fn a_removal_is_learnt_from_a_refusal() {
    for (pre_vote, hints) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut net = group_with(2, setting(hints, pre_vote));
        net.campaign(1);
        net.hook(|m| match &m.body {
            Body::AppendEntries { prev, commit, .. } => prev.index < 2 && *commit < 2,
            Body::Heartbeat { commit, .. } => *commit < 2,
            _ => true,
        });
        net.node(1).raw.propose_conf_change(&ConfChange::single(RemoveNode, id(1))).expect("taken");
        net.put(1, "after");
        assert_eq!((net.role(1), net.commit(1), net.commit(2)), (Follower, 2, 1));
        assert_eq!((net.nodes[&1].raw.last().index, net.nodes[&2].raw.last().index), (3, 2));
        net.heal();
        let expected = hints.then_some((2, 3));
        assert_eq!(outcome(&mut net, 1), expected, "pre-vote {pre_vote}, hints {hints}");
    }
}

// ---- Believing ----

/// A follower of three with entries of terms 1, 1, 2, the first committed.
fn follower(hints: bool) -> Node {
    let setup = server(1, &[1, 2, 3]).log(&[1, 1, 2]).commit(1);
    setup.tune(|c| c.commit_hints = hints).start()
}

fn request(pre: bool, term: u64, commit: (u64, Index)) -> Message {
    let last = LogId::new(1, 1);
    let commit = LogId::new(commit.0, commit.1);
    message(2, 1, term, Body::RequestVote { pre, last, transfer: false, commit })
}

/// Only an entry that is in the log is committed by a hint, and nothing is taken back. Whoever has
/// the option off neither believes nor says anything.
#[test]
fn a_hint_is_believed_of_an_entry_that_is_there() {
    for (commit, expected) in [
        ((2, 3), 3),
        ((1, 2), 2),
        ((1, 3), 1),
        ((3, 3), 1),
        ((2, 4), 1),
        ((0, 0), 1),
        ((1, 1), 1),
        ((u64::MAX, u64::MAX), 1),
    ] {
        for pre in [false, true] {
            let mut node = follower(true);
            let sent = node.ask(request(pre, 3, commit));
            assert_eq!(node.raw.commit(), expected, "{commit:?}");
            // The answer says what it knew before; the next one what it knows now.
            let Body::RequestVoteReply { commit, .. } = sent[0].body else { panic!("{sent:?}") };
            assert_eq!(commit, LogId::new(1, 1));
            let sent = node.ask(request(pre, 4, (0, 0)));
            let Body::RequestVoteReply { commit, .. } = sent[0].body else { panic!("{sent:?}") };
            assert_eq!(commit.index, expected);
        }
    }
    let mut node = follower(false);
    let sent = node.ask(request(false, 3, (2, 3)));
    let Body::RequestVoteReply { commit, .. } = sent[0].body else { panic!("{sent:?}") };
    assert_eq!((node.raw.commit(), commit), (1, LogId::ZERO));
    let asked = of_kind(&node.stand(), Kind::RequestVote);
    let says = |m: &Message| matches!(m.body, Body::RequestVote { commit: LogId::ZERO, .. });
    assert!(asked.iter().all(says), "{asked:?}");
}

/// A candidate that learns of a membership change stands back until it has applied it; what else
/// it learns is no reason to.
#[test]
fn a_candidate_stands_back_from_a_change() {
    for (kind_of_second, expected) in [(false, Candidate), (true, Follower)] {
        let mut net = group_with(3, |c| c.commit_hints = true);
        net.campaign(1);
        net.hook(|m| match &m.body {
            Body::AppendEntries { commit, .. } | Body::Heartbeat { commit, .. } => *commit < 2,
            _ => true,
        });
        if kind_of_second {
            net.change(1, &ConfChange::single(AddNode, id(4)));
        } else {
            net.put(1, "x");
        }
        let node = net.node(2);
        node.hold_applies = true;
        node.stand();
        let term = node.raw.term();
        let body = Body::RequestVoteReply { pre: false, granted: false, commit: LogId::new(1, 2) };
        node.take(message(1, 2, term, body));
        node.settle();
        assert_eq!((node.raw.role(), node.raw.commit(), node.raw.term()), (expected, 2, term));
    }
}

/// A leader counts for itself: a hint within its own term would be somebody else's count.
#[test]
fn a_leader_learns_nothing_by_hints() {
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.commit_hints = true).lead();
    let term = node.raw.term();
    node.take(request(true, term + 1, (term, 1)));
    assert_eq!((node.raw.role(), node.raw.commit()), (Leader, 0));
}

// ---- Reads ----

/// raft-rs: test_advance_commit_index_by_read_index_response. The answer to a read names an index
/// that is committed: who has that entry need not wait for the leader's next append.
#[test]
fn the_answer_to_a_read_tells_what_is_committed() {
    for hints in [false, true] {
        let mut net = group_with(3, setting(hints, false));
        net.campaign(1);
        net.put(1, "x");
        net.hook(|m| match &m.body {
            Body::AppendEntries { commit, .. } | Body::Heartbeat { commit, .. } => {
                m.to != id(2) || *commit < 3
            }
            _ => true,
        });
        net.put(1, "y");
        assert_eq!((net.commit(1), net.commit(2), net.nodes[&2].raw.last().index), (3, 2, 3));
        assert_eq!(net.read(2, "ctx").expect("confirmed by the third").index, 3);
        assert_eq!(net.commit(2), if hints { 3 } else { 2 });
        // Of an entry that is not there it says nothing.
        let mut empty = server(4, &[1, 2, 3]).tune(setting(hints, false)).start();
        empty.take(append(1, 4, 1, (0, 0), &[1], 1));
        let body = Body::ReadIndexReply { index: 3, context: "ctx".into() };
        empty.ask(message(1, 4, 1, body));
        assert_eq!(empty.raw.commit(), 1);
    }
}

// ---- What the leader sees ----

/// What the leader knows that each of three knows.
fn committed(net: &Net, leader: u64) -> Vec<Index> {
    let status = net.nodes[&leader].raw.status();
    status.progress.iter().map(|(_, pr)| pr.committed).collect()
}

/// raft-rs: test_progress_committed_index. Each peer's own commit index, by its answers to appends
/// and to heartbeats; a new leader finds out anew.
#[test]
fn the_leader_sees_what_each_peer_knows() {
    let mut net = group_with(3, |c| c.commit_hints = true);
    net.campaign(1);
    assert_eq!(committed(&net, 1), [1, 1, 1], "by the answers to appends");
    net.cut(1, 3);
    net.put(1, "x");
    assert_eq!(committed(&net, 1), [2, 2, 1]);
    net.heal();
    net.ignore(Kind::Append);
    net.beat(1);
    assert_eq!(committed(&net, 1), [2, 2, 1], "a heartbeat tells no more than is known to match");
    net.heal();
    net.beat(1);
    net.beat(1);
    assert_eq!(committed(&net, 1), [2, 2, 2]);
    net.ignore(Kind::AppendReply);
    net.ignore(Kind::HeartbeatReply);
    net.campaign(2);
    assert_eq!(net.role(2), Leader);
    assert_eq!(committed(&net, 2), [0, 2, 0], "of others a new leader knows nothing");
    net.heal();
    net.beat(2);
    net.beat(2);
    assert_eq!(committed(&net, 2), [3, 3, 3]);

    let mut net = group_with(3, |_| {});
    net.campaign(1);
    net.put(1, "x");
    assert_eq!(committed(&net, 1), [0, 0, 0], "nothing is said without the option");
}

/// raft-rs: the same. A rejection says nothing; an old answer takes nothing back; what is beyond
/// the leader's log is not believed.
#[test]
fn what_a_peer_knows_never_goes_back() {
    let setup = server(1, &[1, 2, 3]).log(&[1, 1, 1]).tune(|c| c.commit_hints = true);
    let mut node = setup.lead();
    let seen = |node: &Node| node.progress(2).committed;
    let says = |commit| {
        let reply = raft::AppendReply::Accepted { index: 3, commit };
        message(2, 1, 2, Body::AppendEntriesReply(reply))
    };
    node.ask(says(2));
    assert_eq!(seen(&node), 2);
    node.ask(says(1));
    node.ask(says(100));
    assert_eq!(seen(&node), 2);
    node.ask(message(2, 1, 2, Body::HeartbeatReply { read: 0, commit: 3 }));
    assert_eq!(seen(&node), 3);
    node.ask(message(2, 1, 2, Body::HeartbeatReply { read: 0, commit: 100 }));
    node.ask(rejected(2, 1, 2, 4, (1, 3)));
    node.ask(accepted(2, 1, 2, 3));
    assert_eq!(seen(&node), 3);
}
