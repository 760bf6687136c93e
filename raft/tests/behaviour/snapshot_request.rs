//! A follower that asks for a snapshot (raft-rs: test_raft.rs, test_raft_snap.rs).

use raft::{AppendReply, Body, Flow, Index, LogId, Message, RoleKind, SnapshotRequestError};

use crate::common::build::{Kind, Setup, accepted, append, install, snapshot, vote, voters};
use crate::common::node::{bodies_to, of_kind};
use crate::common::{Node, grant, group, heartbeat, id, message, server};

use SnapshotRequestError::{Leader, NoLeader, OldTerm, Pending};

fn wanted(reaching: Index) -> Body {
    Body::AppendEntriesReply(AppendReply::SnapshotWanted { reaching })
}

/// A follower of three at term 1 with three entries, the first two committed, led by 2.
fn follower() -> Node {
    let mut node = server(1, &[1, 2, 3]).start();
    node.ask(append(2, 1, 1, (0, 0), &[1, 1, 1], 2));
    node
}

fn request(node: &mut Node) -> Vec<Message> {
    node.raw.request_snapshot().expect("it follows");
    node.settle()
}

// ---- The follower ----

/// raft-rs: test_follower_request_snapshot. It asks its leader, for as much as it has, and again
/// with each message of the leader; entries it does not take, heartbeats it answers.
#[test]
fn a_follower_asks_and_takes_no_entries() {
    let mut node = follower();
    assert_eq!(bodies_to(&request(&mut node), 2), [wanted(3)]);
    assert_eq!(node.raw.request_snapshot(), Err(Pending), "once is enough");
    assert_eq!(bodies_to(&node.ask(append(2, 1, 1, (1, 3), &[1], 4)), 2), [wanted(3)]);
    assert_eq!((node.raw.last().index, node.raw.commit()), (3, 2));
    let answers = bodies_to(&node.ask(heartbeat(2, 1, 1, 3)), 2);
    assert_eq!(answers, [Body::HeartbeatReply { read: 0, commit: 0 }, wanted(3)]);
    assert_eq!(node.raw.commit(), 3, "what it has may be committed meanwhile");

    // One that does not reach far enough is not the one; the log has its last entry.
    node.ask(install(2, 1, 1, snapshot((1, 2), voters(&[1, 2, 3]))));
    assert_eq!(node.raw.last(), LogId::new(1, 3));
    assert_eq!(bodies_to(&node.ask(append(2, 1, 1, (1, 3), &[1], 4)), 2), [wanted(3)]);
    // This one is, though the log has all of it, and all of it is committed and applied.
    assert_eq!(node.raw.applied_index(), 3);
    let answers = node.ask(install(2, 1, 1, snapshot((1, 3), voters(&[1, 2, 3]))));
    assert_eq!(answers, [accepted(1, 2, 1, 3)]);
    assert_eq!((node.raw.compacted(), node.raw.last()), (LogId::new(1, 3), LogId::new(1, 3)));
    assert_eq!(node.applied.len(), 0, "the state machine is the snapshot's");
    // Then entries again.
    assert_eq!(node.ask(append(2, 1, 1, (1, 3), &[1], 4)), [accepted(1, 2, 1, 4)]);
    assert_eq!(node.raw.applied_index(), 4);
}

/// The log is replaced with all that is not committed of it, too.
#[test]
fn a_snapshot_that_goes_further_replaces_everything() {
    let mut node = follower();
    request(&mut node);
    let answers = node.ask(install(2, 1, 1, snapshot((1, 5), voters(&[1, 2, 3]))));
    assert_eq!(answers, [accepted(1, 2, 1, 5)]);
    assert_eq!((node.raw.compacted().index, node.raw.last().index), (5, 5));
}

/// raft-rs: test_request_snapshot. Impossible on a leader, without a leader,
/// and with a log that does not end in the current term.
#[test]
fn who_cannot_ask_is_told_why() {
    let mut leader = server(1, &[1, 2, 3]).lead();
    assert_eq!(leader.raw.request_snapshot(), Err(Leader));
    let mut alone = server(1, &[1, 2, 3]).log(&[1]).start();
    assert_eq!(alone.raw.request_snapshot(), Err(NoLeader));
    alone.ask(heartbeat(2, 1, 2, 0));
    assert_eq!(alone.raw.request_snapshot(), Err(OldTerm));
    alone.ask(append(2, 1, 2, (1, 1), &[2], 0));
    assert_eq!(alone.raw.request_snapshot(), Ok(()));
    alone.stand();
    assert_eq!(alone.raw.request_snapshot(), Err(NoLeader), "a candidate follows nobody");

    let mut node = follower();
    node.hold_writes = true;
    node.ask(install(2, 1, 1, snapshot((1, 9), voters(&[1, 2, 3]))));
    assert_eq!(node.raw.request_snapshot(), Err(Pending), "one is being installed");
    node.persist_all();
    assert_eq!(node.raw.request_snapshot(), Ok(()));
}

/// raft-rs: test_request_snapshot_on_role_change, test_request_snapshot_after_term_change. The wish
/// is forgotten with the role and with the term; then entries are taken as ever.
#[test]
fn the_wish_is_forgotten_with_the_role_and_the_term() {
    type Change = fn(&mut Node);
    let changes: [(&str, Change); 3] = [
        ("candidate", |node| {
            node.stand();
        }),
        ("a later term", |node| {
            node.ask(vote(3, 1, 2, (1, 9)));
        }),
        ("another leader", |node| {
            node.ask(heartbeat(3, 1, 2, 2));
        }),
    ];
    for (what, change) in changes {
        let mut node = follower();
        request(&mut node);
        change(&mut node);
        assert_eq!(node.raw.term(), 2);
        let answer = node.ask(append(3, 1, 2, (1, 3), &[2], 4));
        assert_eq!(answer, [accepted(1, 3, 2, 4)], "{what}");
        // A snapshot that is not wanted any more is one like any other: nothing is replaced.
        node.ask(install(3, 1, 2, snapshot((2, 4), voters(&[1, 2, 3]))));
        assert_eq!(node.raw.compacted(), LogId::ZERO, "{what}");
    }
}

// ---- The leader ----

/// A leader of three at term 2, with five entries that 2 has and 4 of which are committed, and a
/// snapshot up to `to`; so `to` entries are compacted unless that is 0.
fn leader(taken: Index) -> Node {
    let setup: Setup = server(1, &[1, 2, 3]).log(&[1, 1, 1, 1]).commit(4);
    let mut node = setup.lead();
    node.ask(accepted(2, 1, 2, 4));
    if taken > 0 {
        set_snapshot(&node, taken);
    }
    node
}

fn set_snapshot(node: &Node, to: Index) {
    let term = node.raw.term_at(to).expect("in the log");
    node.storage.set_snapshot(snapshot((term, to), voters(&[1, 2, 3])));
}

fn ask(node: &mut Node, reaching: Index) -> Vec<Message> {
    of_kind(&node.ask(message(2, 1, 2, wanted(reaching))), Kind::Snapshot)
}

/// raft-rs: test_follower_request_snapshot, test_request_snapshot_unavailable. It gets one that
/// reaches far enough, at once or as soon as there is one; no appends meanwhile.
#[test]
fn a_snapshot_is_sent_as_soon_as_one_reaches_far_enough() {
    let mut node = leader(4);
    let sent = ask(&mut node, 4);
    let Body::InstallSnapshot { snapshot } = &sent[0].body else { panic!("{sent:?}") };
    assert_eq!(snapshot.meta.last.index, 4);
    assert!(matches!(node.progress(2).flow, Flow::Snapshot { pending: 4 }));

    let mut node = leader(3);
    assert_eq!(ask(&mut node, 4), [], "too old");
    assert!(matches!(node.progress(2).flow, Flow::Requested { reaching: 4 }));
    node.raw.propose("x".into()).expect("it leads");
    assert_eq!(bodies_to(&node.settle(), 2), [], "and no entries");
    assert_eq!(ask(&mut node, 4), [], "asked again");
    assert!(of_kind(&node.tick(1), Kind::Heartbeat).iter().any(|m| m.to == id(2)));
    set_snapshot(&node, 4);
    let sent = node.ask(message(2, 1, 2, Body::HeartbeatReply { read: 0, commit: 0 }));
    assert_eq!(of_kind(&sent, Kind::Snapshot).len(), 1, "now there is one");
    assert_eq!(ask(&mut node, 4), [], "it is on its way");
    let sent = node.ask(accepted(2, 1, 2, 4));
    let [Body::AppendEntries { prev, .. }] = &bodies_to(&sent, 2)[..] else { panic!("{sent:?}") };
    assert_eq!(prev.index, 4, "after it the entries go on");
}

/// raft-rs: test_request_snapshot_matched_change. A request that comes late, from before the
/// follower acknowledged more, is ignored; so are late answers to appends of before the request.
#[test]
fn what_comes_late_changes_nothing() {
    let mut node = leader(4);
    node.ask(accepted(2, 1, 2, 5));
    assert_eq!(ask(&mut node, 4), []);
    assert!(matches!(node.progress(2).flow, Flow::Replicate { .. }));

    let mut node = leader(3);
    ask(&mut node, 5);
    node.ask(accepted(2, 1, 2, 5));
    let rejected = AppendReply::Rejected { prev: 5, hint: LogId::new(1, 2) };
    node.ask(message(2, 1, 2, Body::AppendEntriesReply(rejected)));
    assert!(matches!(node.progress(2).flow, Flow::Requested { reaching: 5 }));
    assert_eq!(node.progress(2).matched, 5);
    // It has gone on, so it has what it wanted, or wants it no more.
    node.raw.propose("x".into()).expect("it leads");
    node.settle();
    node.ask(accepted(2, 1, 2, 6));
    assert!(matches!(node.progress(2).flow, Flow::Replicate { .. }));

    let too_far = node.step(message(2, 1, 2, wanted(7)));
    assert_eq!(too_far, Err(raft::StepError::BeyondLog { index: 7, last: 6 }));
    node.take(message(3, 1, 2, wanted(0)));
}

/// raft-rs: test_request_snapshot_none_replicate. Also somebody who is being probed, or waits for
/// a snapshot that does not reach so far.
#[test]
fn in_whatever_flow_it_is() {
    let mut node = leader(4);
    node.raw.report_unreachable(id(2));
    assert!(node.progress(2).is_probing());
    assert_eq!(ask(&mut node, 4).len(), 1);
    node.ask(accepted(2, 1, 2, 4));
    node.ask(accepted(2, 1, 2, 5));
    set_snapshot(&node, 5);
    assert!(matches!(node.progress(2).flow, Flow::Replicate { .. }));

    let mut node = leader(4);
    assert_eq!(ask(&mut node, 4).len(), 1);
    set_snapshot(&node, 5);
    assert_eq!(ask(&mut node, 5).len(), 1);
    assert!(matches!(node.progress(2).flow, Flow::Snapshot { pending: 5 }));
    // One that has failed is asked for again.
    node.raw.report_snapshot(id(2), false);
    assert!(node.progress(2).is_probing());
    assert_eq!(ask(&mut node, 5).len(), 1);
}

/// raft-rs: test_request_snapshot_step_down. A leader that steps down forgets who asked.
#[test]
fn a_leader_that_steps_down_forgets_who_asked() {
    let mut node = leader(3);
    ask(&mut node, 4);
    node.ask(heartbeat(3, 1, 3, 0));
    set_snapshot(&node, 4);
    node.stand();
    node.ask(grant(2, 1, 4, true));
    assert_eq!(node.raw.role(), RoleKind::Leader);
    assert!(node.progress(2).is_probing());
}

// ---- Both ----

/// raft-rs: test_request_snapshot_step_down, test_follower_request_snapshot. End to end: the state
/// machine is installed anew, while the leader goes on, and also across a change of leader.
#[test]
fn a_damaged_state_machine_is_replaced() {
    let mut net = group(3);
    net.campaign(1);
    for n in 0..5 {
        net.put(1, &format!("{n}"));
    }
    net.node(2).raw.request_snapshot().expect("it follows");
    net.pump();
    net.put(1, "meanwhile");
    assert_eq!([1, 2, 3].map(|n| net.commit(n)), [7, 6, 7], "there is no snapshot yet");
    // The leader is replaced before there is one: who wants it still has to ask again.
    net.campaign(3);
    assert_eq!(net.commit(2), 8, "forgotten");
    net.node(2).raw.request_snapshot().expect("it follows the new one");
    net.pump();
    net.put(3, "more");
    assert_eq!([1, 2, 3].map(|n| net.commit(n)), [9, 8, 9]);
    net.node(3).compact(9);
    net.beat(3);
    net.beat(3);
    assert_eq!(net.nodes[&2].raw.compacted().index, 9);
    assert_eq!(net.node(2).said(), [""; 0], "nothing applied since");
    net.put(3, "last");
    net.assert_equal();
}
