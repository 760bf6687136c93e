//! Linearizable reads (§8, T§6.4; etcd: the TestReadOnly… of raft_test.go; museum I).

use raft::{Body, ConfChange, ConfChangeKind, ReadMode, ReadState, RoleKind};

use crate::common::build::{Kind, accepted, message};
use crate::common::net::group_with;
use crate::common::node::of_kind;
use crate::common::{Net, Node, group, id, server};

fn beat_reply(from: u64, term: u64, read: u64) -> raft::Message {
    message(from, 1, term, Body::HeartbeatReply { read, commit: 0 })
}

/// A leader of three at term 1 that has committed its first entry.
fn leader() -> Node {
    let mut node = server(1, &[1, 2, 3]).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.ask(accepted(3, 1, 1, 1));
    node
}

/// The number that the heartbeats carry.
fn number(messages: &[raft::Message]) -> u64 {
    let beats = of_kind(messages, Kind::Heartbeat);
    let Body::Heartbeat { read, .. } = beats[0].body else { panic!("a heartbeat") };
    read
}

/// etcd: TestReadOnlyOptionSafe, TestReadOnlyWithLearner, TestRawNodeReadIndex. The commit index
/// when it was asked for, with its context, on the server that asked.
#[test]
fn everybody_can_ask() {
    let all = [1, 2, 3, 4];
    let mut net = Net::of(all.map(|n| server(n, &[1, 2, 3]).learners(&[4])));
    net.campaign(1);
    for (n, proposals) in [(1, 10), (2, 10), (3, 10), (4, 10), (1, 10), (4, 0)] {
        for p in 0..proposals {
            net.put(1, &format!("{p}"));
        }
        let read = net.read(n, "ctx").expect("a majority answers");
        assert_eq!((read.index, &read.context[..]), (net.commit(1), &b"ctx"[..]), "at {n}");
        assert!(net.node(n).reads.is_empty(), "once");
    }
    assert_eq!(net.node(1).raw.status().pending_reads, 0);
}

/// etcd: TestReadOnlyOptionLease, TestReadOnlyOptionLeaseWithoutCheckQuorum and raft-rs:
/// test_read_only_option_lease_without_check_quorum (refused: see hostile.rs and `ReadMode::Lease`). Within the lease nobody is asked.
#[test]
fn a_lease_asks_nobody() {
    let mut net = group_with(3, |c| {
        c.check_quorum = true;
        c.read_mode = ReadMode::Lease;
    });
    net.campaign(1);
    net.put(1, "x");
    net.beat(1);
    let before = net.arrived.get(&Kind::Heartbeat).copied();
    for n in [1, 2, 3] {
        assert_eq!(net.read(n, "ctx").expect("at once").index, 2, "{n}");
    }
    assert_eq!(net.arrived.get(&Kind::Heartbeat).copied(), before);
}

/// I3: while leadership is handed over the lease proves nothing, since the target skips it.
#[test]
fn a_lease_ends_with_a_transfer() {
    let mut net = group_with(3, |c| {
        c.check_quorum = true;
        c.read_mode = ReadMode::Lease;
    });
    net.campaign(1);
    net.beat(1);
    // 2 wins, and the former leader does not hear of it.
    net.hook(|m| m.to != id(1) && (m.from != id(1) || Kind::of(&m.body) == Kind::TimeoutNow));
    net.transfer(1, 2);
    assert_eq!((net.role(1), net.role(2)), (RoleKind::Leader, RoleKind::Leader));
    net.put(2, "newer");
    assert_eq!(net.read(1, "stale"), None);
}

/// etcd: TestReadOnlyForNewLeader (see the paper's tests); I6. What was asked before the first
/// commit is answered after it, each once.
#[test]
fn early_reads_are_answered_later() {
    let mut net = group(3);
    net.ignore(Kind::AppendReply);
    net.campaign(1);
    for n in 0..5 {
        assert_eq!(net.read(1 + n % 3, &format!("{n}")), None);
    }
    assert_eq!(net.node(1).raw.status().pending_reads, 5);
    net.heal();
    net.beat(1);
    net.beat(1);
    let mut answered: Vec<_> = (1..=3).flat_map(|n| net.node(n).reads.clone()).collect();
    answered.sort_by(|a, b| a.context.cmp(&b.context));
    let contexts: Vec<_> = answered.iter().map(|r| r.context[0]).collect();
    assert_eq!(contexts, b"01234");
    assert!(answered.iter().all(|read| read.index >= 1));
}

/// etcd: TestRaftFreesReadOnlyMem. What is answered is forgotten.
#[test]
fn answered_reads_are_forgotten() {
    let mut node = leader();
    node.raw.read_index("a".into()).expect("it leads");
    let read = number(&node.settle());
    assert_eq!(node.raw.status().pending_reads, 1);
    node.ask(beat_reply(2, 1, read));
    assert_eq!(node.raw.status().pending_reads, 0);
    assert_eq!(node.reads, [ReadState { index: 1, context: "a".into() }]);
}

/// Confirming a read confirms all before it, and none after it.
#[test]
fn a_confirmation_covers_what_was_asked_before() {
    let mut node = leader();
    let mut numbers = Vec::new();
    for context in ["a", "b", "c"] {
        node.raw.read_index(context.into()).expect("it leads");
        numbers.push(number(&node.settle()));
    }
    node.ask(beat_reply(2, 1, numbers[1]));
    let contexts: Vec<_> = node.reads.iter().map(|r| r.context.clone()).collect();
    assert_eq!(contexts, ["a", "b"]);
    node.ask(beat_reply(3, 1, numbers[2]));
    assert_eq!(node.reads.len(), 3);
}

/// Reads that are asked together share a round of heartbeats.
#[test]
fn reads_between_two_looks_share_a_heartbeat() {
    let mut node = leader();
    for n in 0..10 {
        node.raw.read_index(format!("{n}").into()).expect("it leads");
    }
    let sent = node.settle();
    assert_eq!(of_kind(&sent, Kind::Heartbeat).len(), 2, "one for each follower");
    node.ask(beat_reply(2, 1, number(&sent)));
    assert_eq!(node.reads.len(), 10);
}

/// etcd: TestReadOnlyDuplicateRequest; I2. Contexts that are used again, and answers that come
/// late, confirm nothing that was asked after them.
#[test]
fn late_answers_do_not_confirm_later_reads() {
    let mut node = leader();
    node.raw.read_index("A".into()).expect("it leads");
    let first = number(&node.settle());
    node.ask(beat_reply(2, 1, first));
    assert_eq!(node.reads.len(), 1);
    // Somebody else may lead by now. The same context is asked again.
    node.raw.read_index("A".into()).expect("it believes to lead");
    let second = number(&node.settle());
    assert!(second > first, "numbers are the leader's, and never used twice");
    for _ in 0..3 {
        node.ask(beat_reply(2, 1, first));
        node.ask(beat_reply(3, 1, first));
        node.ask(beat_reply(3, 1, 0));
    }
    assert_eq!(node.reads.len(), 1, "late answers prove nothing");
    node.ask(beat_reply(3, 1, second));
    assert_eq!(node.reads.len(), 2);
    // Also if it is the other server's request, sent twice.
    node.ask(message(2, 1, 0, Body::ReadIndex { context: "A".into() }));
    let before = node.ask(message(2, 1, 0, Body::ReadIndex { context: "A".into() }));
    node.ask(beat_reply(3, 1, second));
    assert_eq!(node.raw.status().pending_reads, 2);
    let answered = node.ask(beat_reply(3, 1, number(&before)));
    assert_eq!(of_kind(&answered, Kind::ReadReply).len(), 2, "each gets its answer");
}

/// A heartbeat without a read in it, which was on its way before, confirms nothing.
#[test]
fn a_heartbeat_from_before_confirms_nothing() {
    let mut node = leader();
    let beats = node.tick(1);
    assert_eq!(number(&beats), 0);
    node.raw.read_index("a".into()).expect("it leads");
    node.settle();
    node.ask(beat_reply(2, 1, 0));
    node.ask(beat_reply(3, 1, 0));
    assert!(node.reads.is_empty());
}

/// I8, M13: a majority of the voters there are, and nobody else.
#[test]
fn learners_and_strangers_confirm_nothing() {
    let mut node = server(1, &[1, 2, 3]).learners(&[4, 5]).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.raw.read_index("a".into()).expect("it leads");
    let read = number(&node.settle());
    node.ask(beat_reply(4, 1, read));
    node.ask(beat_reply(5, 1, read));
    assert!(node.step(beat_reply(9, 1, read)).is_err());
    assert!(node.reads.is_empty());
    node.ask(beat_reply(2, 1, read));
    assert_eq!(node.reads.len(), 1);

    // M13: 2 acknowledges, is removed, and counts no more.
    let mut net = group(5);
    net.campaign(1);
    net.hook(|m| Kind::of(&m.body) != Kind::HeartbeatReply || m.from == id(2));
    assert_eq!(net.read(1, "a"), None, "1 and 2 of five");
    net.change(1, &ConfChange::single(ConfChangeKind::RemoveNode, id(2)));
    net.beat(1);
    assert!(net.node(1).reads.is_empty(), "1 of four");
}

/// raft-rs: test_read_when_quorum_becomes_less. Waiting reads are looked at again when a change
/// makes the quorum smaller.
#[test]
fn a_smaller_quorum_confirms_what_waited() {
    let mut net = group(2);
    net.campaign(1);
    net.ignore(Kind::HeartbeatReply);
    assert_eq!(net.read(1, "a"), None);
    net.change(1, &ConfChange::single(ConfChangeKind::RemoveNode, id(2)));
    assert_eq!(net.node(1).reads.len(), 1, "nobody else can lead now");
}

/// etcd: TestNodeReadIndexToOldLeader. A request that reaches a former leader is passed on, without
/// a term, in the name of who asked.
#[test]
fn a_former_leader_passes_a_read_on() {
    let mut net = group(3);
    net.campaign(1);
    net.campaign(2);
    net.send(message(3, 1, 0, Body::ReadIndex { context: "a".into() }));
    let commit = net.commit(2);
    assert_eq!(net.node(3).reads, [ReadState { index: commit, context: "a".into() }]);
    assert!(net.node(1).reads.is_empty());
}

/// Reads of a leader that is one no more are gone; their askers ask again.
#[test]
fn a_deposed_leader_forgets_its_reads() {
    let mut net = group(3);
    net.campaign(1);
    net.isolate(1);
    assert_eq!(net.read(1, "a"), None);
    net.campaign(2);
    net.heal();
    net.beat(2);
    net.campaign(1);
    net.beat(1);
    assert!(net.node(1).reads.is_empty());
    assert!(net.read(1, "b").is_some());
}

/// I9: the commit index of a group of one, after a restart, may be older than what was
/// acknowledged; its reads wait for an entry of the new term like everybody's.
#[test]
fn a_lone_leader_waits_for_its_first_commit() {
    let mut node = server(1, &[1]).log(&[1, 1, 1]).commit(1).start();
    node.settle();
    node.stand();
    assert_eq!(node.raw.commit(), 4, "as soon as its own disk has it");

    let mut node = server(1, &[1]).log(&[1, 1, 1]).commit(1).start();
    node.settle();
    node.raw.campaign();
    let ready = node.raw.ready();
    node.work(ready);
    assert!(node.raw.commit() < 4, "it leads, and its first entry is not written");
    node.raw.read_index("early".into()).expect("it leads");
    assert!(node.reads.is_empty());
    node.settle();
    assert_eq!(node.reads[0].index, 4, "with everything that was there before");
    node.raw.read_index("later".into()).expect("it leads");
    node.settle();
    assert_eq!(node.reads[1].index, 4);
}
