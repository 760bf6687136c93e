//! §8, client interaction.

use raft::{Body, ProposeError, Proposed, ReadError, RoleKind};

use crate::common::build::Kind;
use crate::common::net::group_with;
use crate::common::{Net, group, heartbeat, id, server};

/// If the client's first choice is not the leader, it is told of the most recent leader that the
/// server has heard from.
#[test]
fn a_follower_names_the_leader() {
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.disable_proposal_forwarding = true).start();
    let unknown = ProposeError::NotLeader { leader: None };
    assert_eq!(node.raw.propose("x".into()), Err(unknown));
    node.ask(heartbeat(2, 1, 1, 0));
    let known = ProposeError::NotLeader { leader: Some(id(2)) };
    assert_eq!(node.raw.propose("x".into()), Err(known));
    node.stand();
    assert_eq!(node.raw.propose("x".into()), Err(unknown), "a candidate knows of none");
}

/// Or the server passes the request on.
#[test]
fn a_follower_passes_a_command_on() {
    let mut net = group(3);
    net.campaign(1);
    let proposed = net.propose(2, "x");
    assert_eq!(proposed, Ok(Proposed::Forwarded(id(1))));
    assert_eq!(net.node(3).said(), ["x"]);
}

/// A leader commits a blank entry at the start of its term, to find out which entries are
/// committed.
#[test]
fn a_new_leader_appends_a_blank_entry() {
    let node = server(1, &[1]).log(&[1, 1]).lead();
    let (term, entry) = &node.applied[&3];
    assert_eq!((*term, entry.data.len()), (2, 0));
    assert_eq!(node.applied.len(), 3, "with it, what came before");
}

/// A leader exchanges heartbeats with a majority before it answers a read-only request.
#[test]
fn a_read_waits_for_a_majority() {
    let mut net = group(5);
    net.campaign(1);
    net.put(1, "x");
    net.isolate(4);
    net.isolate(5);
    let read = net.read(1, "a").expect("three of five answer");
    assert_eq!(read.index, net.commit(1));
    net.isolate(3);
    assert_eq!(net.read(1, "b"), None, "two of five do not make it the leader");
    net.heal();
    net.beat(1);
    let read = &net.node(1).reads[0];
    assert_eq!((read.index, &read.context[..]), (2, &b"b"[..]), "once they answer it is");
}

/// A leader that has been replaced without knowing it answers no reads.
#[test]
fn a_replaced_leader_answers_no_reads() {
    let mut net = group(3);
    net.campaign(1);
    net.isolate(1);
    net.campaign(2);
    net.put(2, "newer");
    assert_eq!(net.read(1, "stale"), None);
    net.heal();
    net.beat(1);
    net.beat(2);
    assert!(net.node(1).reads.is_empty(), "not afterwards either");
}

/// A leader has to have the latest information on what is committed: it waits for its blank entry
/// before it answers reads. (I1; etcd: TestReadOnlyForNewLeader.)
#[test]
fn a_new_leader_answers_reads_after_its_first_commit() {
    let mut net = Net::of([1, 2, 3].map(|n| server(n, &[1, 2, 3]).log(&[1]).commit(1)));
    net.hook(|m| match &m.body {
        Body::AppendEntries { entries, .. } => entries.is_empty(),
        _ => true,
    });
    net.campaign(1);
    assert_eq!(net.read(1, "early"), None);
    net.beat(1);
    assert!(net.node(1).reads.is_empty());
    net.heal();
    net.beat(1);
    net.beat(1);
    let read = &net.node(1).reads[0];
    assert_eq!(read.index, 2, "the blank entry is at 2");
}

/// The only voter of a group is no exception: after a restart its commit index may be behind what
/// it acknowledged before, because that is a hint which need not have been synced. (Here etcd
/// answers at once.)
#[test]
fn the_only_voter_answers_reads_after_its_first_commit() {
    let mut node = server(1, &[1]).log(&[1, 1, 1]).commit(1).start();
    node.hold_writes = true;
    node.raw.campaign();
    node.settle();
    // Its vote reaches the disk, and it leads; its blank entry does not yet.
    node.persist();
    node.settle();
    assert_eq!(node.raw.role(), RoleKind::Leader);
    node.raw.read_index("early".into()).expect("it leads");
    node.settle();
    assert!(node.reads.is_empty(), "entries 2 and 3 may have been acknowledged");
    node.persist_all();
    assert_eq!(node.reads[0].index, 4, "the blank entry is at 4");
}

/// Reads that nobody can place are refused, not kept.
#[test]
fn a_read_without_a_leader_is_refused() {
    let mut node = server(1, &[1, 2, 3]).start();
    assert_eq!(node.raw.read_index("a".into()), Err(ReadError::NoLeader));
}

/// A read costs no entry in the log.
#[test]
fn a_read_writes_nothing() {
    let mut net = group_with(3, |c| c.check_quorum = true);
    net.campaign(1);
    let last = net.node(1).raw.last();
    for n in 1..=3 {
        assert!(net.read(n, "a").is_some(), "at {n}");
    }
    assert_eq!(net.node(1).raw.last(), last);
    assert!(net.arrived[&Kind::Heartbeat] > 0);
}
