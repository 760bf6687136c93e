//! §7, log compaction.

use raft::{AppendReply, Body, LogId};

use crate::common::build::{Kind, install, voters};
use crate::common::node::{bodies_to, of_kind};
use crate::common::{Node, append, group, server, snapshot};

const INSTALLED: (u64, u64) = (2, 10);

fn from_leader() -> raft::Message {
    install(2, 1, 2, snapshot(INSTALLED, voters(&[1, 2, 3])))
}

fn reply(node: &mut Node, message: raft::Message) -> Vec<Body> {
    let sent = node.ask(message);
    bodies_to(&sent, 2)
}

/// Each server takes snapshots on its own, of committed entries; what it keeps of them is the last
/// index and term, so that the consistency check works for the first entry after them.
#[test]
fn a_compacted_log_still_knows_what_precedes_it() {
    let mut net = group(3);
    net.campaign(1);
    for n in 0..8 {
        net.put(1, &format!("{n}"));
    }
    net.node(2).compact(7);
    assert_eq!(net.node(2).raw.compacted(), LogId::new(1, 7));
    assert_eq!(net.node(1).raw.compacted(), LogId::ZERO, "the others do as they like");
    let replies = net.node(2).ask(append(1, 2, 1, (1, 9), &[1], 9));
    let accepted = AppendReply::Accepted { index: 10, commit: 0 };
    assert_eq!(bodies_to(&replies, 1), [Body::AppendEntriesReply(accepted)]);
}

/// Only what is committed and applied can be compacted.
#[test]
fn what_is_not_applied_is_not_compacted() {
    let mut net = group(3);
    net.campaign(1);
    net.isolate(1);
    net.put(1, "not committed");
    assert!(net.node(1).raw.compact(2).is_err());
    assert!(net.node(1).raw.compact(1).is_ok());
}

/// The snapshot includes the latest configuration as of its last index.
#[test]
fn a_snapshot_brings_the_configuration() {
    let mut node = server(1, &[1, 2]).start();
    node.ask(install(2, 1, 2, snapshot(INSTALLED, voters(&[1, 2, 3, 4]))));
    assert_eq!(node.raw.membership().to_string(), "voters=(1 2 3 4)");
    node.restart();
    assert_eq!(node.raw.membership().to_string(), "voters=(1 2 3 4)");
}

/// The leader sends a snapshot when it has discarded the next entry that the follower needs.
#[test]
fn a_follower_that_needs_a_compacted_entry_gets_a_snapshot() {
    let mut net = group(3);
    net.campaign(1);
    net.isolate(3);
    for n in 0..20 {
        net.put(1, &format!("{n}"));
    }
    net.node(1).compact(15);
    net.heal();
    net.beat(1);
    net.beat(1);
    assert_eq!(net.arrived[&Kind::Snapshot], 1);
    net.assert_equal();
    assert_eq!(net.node(3).raw.compacted(), LogId::new(1, 15));
}

/// If the snapshot contains new information, the follower discards its entire log. (S3: also when
/// it has another entry at the snapshot's last index.)
#[test]
fn a_snapshot_with_news_replaces_the_whole_log() {
    let logs: [&[u64]; 4] = [&[], &[1, 1], &[1; 10], &[1; 20]];
    for log in logs {
        let mut node = server(1, &[1, 2, 3]).log(log).start();
        let accepted = AppendReply::Accepted { index: 10, commit: 0 };
        assert_eq!(reply(&mut node, from_leader()), [Body::AppendEntriesReply(accepted)]);
        assert_eq!(node.raw.last(), LogId::new(2, 10), "{log:?}");
        assert_eq!(node.raw.compacted(), LogId::new(2, 10));
        assert_eq!((node.raw.commit(), node.raw.applied_index()), (10, 10));
        assert_eq!(node.storage.last(), LogId::new(2, 10), "on disk, too");
        let next = reply(&mut node, append(2, 1, 2, INSTALLED, &[2], 10));
        let accepted = AppendReply::Accepted { index: 11, commit: 0 };
        assert_eq!(next, [Body::AppendEntriesReply(accepted)], "and goes on from there");
    }
}

/// If the follower has the snapshot's last entry, what the snapshot covers is settled, but the
/// entries following it are retained. (S2.)
#[test]
fn entries_after_the_snapshot_are_kept() {
    let mut node = server(1, &[1, 2, 3]).log(&[2; 15]).start();
    let replies = reply(&mut node, from_leader());
    let accepted = AppendReply::Accepted { index: 10, commit: 0 };
    assert_eq!(replies, [Body::AppendEntriesReply(accepted)]);
    assert_eq!(node.raw.last(), LogId::new(2, 15));
    assert_eq!(node.raw.commit(), 10);
    assert_eq!(node.terms(), [2; 15]);
}

/// A snapshot with a prefix of what is committed, by retransmission or by mistake, changes nothing.
#[test]
fn an_old_snapshot_changes_nothing() {
    let mut node = server(1, &[1, 2, 3]).log(&[1; 15]).term(2).commit(12).start();
    node.settle();
    let before = (node.raw.last(), node.raw.hard_state(), node.digest);
    let accepted = AppendReply::Accepted { index: 12, commit: 0 };
    assert_eq!(reply(&mut node, from_leader()), [Body::AppendEntriesReply(accepted)]);
    assert_eq!((node.raw.last(), node.raw.hard_state(), node.digest), before);
    // The same one twice.
    let mut node = server(1, &[1, 2, 3]).start();
    let first = reply(&mut node, from_leader());
    assert_eq!(reply(&mut node, from_leader()), first);
}

/// A snapshot of an older term is refused like any other request.
#[test]
fn a_snapshot_of_an_older_term_is_refused() {
    let mut node = server(1, &[1, 2, 3]).term(3).start();
    node.ask(from_leader());
    assert_eq!(node.raw.last(), LogId::ZERO);
}

/// It is acknowledged once it is on disk, not before.
#[test]
fn a_snapshot_is_acknowledged_from_the_disk() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.hold_writes = true;
    assert!(node.ask(from_leader()).is_empty());
    assert_eq!(of_kind(&node.persist_all(), Kind::AppendReply).len(), 1);
}
