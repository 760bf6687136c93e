//! Snapshots, on both sides (§7; etcd: raft_snap_test.go and the snapshot tests of raft_test.go).

use bytes::Bytes;
use raft::{CompactError, ConfChange, ConfChangeKind, Entries, Entry, EntryKind, LogId, Run};

use crate::common::build::{install, voters};
use crate::common::{append, id, message, server, snapshot};

/// What is committed but not applied is still to be handed out, so it cannot be dropped.
#[test]
fn what_is_not_applied_is_not_compacted() {
    let mut node = server(1, &[1, 2, 3]).log(&[1, 1, 1]).commit(3).start();
    node.hold_applies = true;
    node.settle();
    assert_eq!(node.raw.commit(), 3);
    assert_eq!(node.raw.compact(1), Err(CompactError::NotApplied));
    node.apply_all();
    assert_eq!(node.raw.compact(3), Ok(LogId::new(1, 3)));
}

/// A membership change that is still being applied when a snapshot overtakes it must not be made on
/// top of the snapshot's membership, which has it, or has gone on from there, already.
#[test]
fn a_snapshot_overtakes_membership_changes_under_way() {
    let mut node = server(1, &[1, 2, 3]).start();
    let add = ConfChange::single(ConfChangeKind::AddNode, id(4));
    let entry = Entry { kind: EntryKind::ConfChangeV2, data: add.encode() };
    let mut change = Entries::from(Run::new(1, 1, vec![Entry::default()]).expect("not empty"));
    change.push(Run::new(1, 2, vec![entry]).expect("not empty")).expect("consecutive");
    let body = raft::Body::AppendEntries { prev: LogId::ZERO, entries: change, commit: 2 };
    node.hold_applies = true;
    node.ask(message(2, 1, 1, body));
    assert_eq!(node.applies.len(), 1, "under way");
    // Meanwhile 4 came and went again.
    node.ask(install(2, 1, 1, snapshot((1, 9), voters(&[1, 2, 3]))));
    node.apply_all();
    assert_eq!(node.raw.membership().to_string(), "voters=(1 2 3)");
    assert_eq!(node.raw.applied_index(), 9);
    node.ask(append(2, 1, 1, (1, 9), &[1], 10));
    node.apply_all();
    assert_eq!(node.raw.applied_index(), 10);
    assert_eq!(Bytes::new(), node.applied[&10].1.data.slice(..0));
}
