//! The contract with the application: what the first Readies hold, what is handed out once, what
//! waits for what (etcd: rawnode_test.go, node_test.go; raft-rs: test_raw_node.rs; museum P, C8).

use bytes::Bytes;
use raft::{
    Body, Config, Entries, HardState, Index, LogId, MemStorage, ProposeError, Proposed, RawNode,
    ReadState, Ready, RoleKind, Storage, StorageError, Write,
};

use crate::common::build::{Kind, accepted, install, voters};
use crate::common::net::group_with;
use crate::common::node::of_kind;
use crate::common::{Node, append, entries, grant, id, message, server, snapshot};

use RoleKind::{Candidate, Follower, Leader};

fn positions(entries: &Entries) -> Vec<LogId> {
    entries.iter().map(|e| e.id).collect()
}

fn write_positions(ready: &Ready) -> Vec<LogId> {
    ready.write.as_ref().map_or(Vec::new(), |write| positions(write.entries()))
}

fn apply_positions(ready: &Ready) -> Vec<LogId> {
    ready.apply.as_ref().map_or(Vec::new(), |apply| positions(apply.entries()))
}

fn hard_state(ready: &Ready) -> Option<HardState> {
    ready.write.as_ref().and_then(Write::hard_state)
}

// ---- The first Readies ----

/// etcd: TestRawNodeStart, TestNodeStart (TinyKV: TestRawNodeStart2AC). A new server has nothing to
/// say; a lone voter is elected, commits its first entry, and takes a proposal.
#[test]
fn the_first_readies_of_a_new_server() {
    let mut node = server(1, &[1]).start();
    assert!(!node.raw.has_ready());
    node.raw.campaign();

    let ready = node.raw.ready();
    let state = |vote, commit| HardState { term: 1, vote, commit };
    assert_eq!(hard_state(&ready), Some(state(Some(id(1)), 0)));
    assert_eq!(ready.soft_state.map(|s| (s.role, s.leader)), Some((Candidate, None)));
    assert!(ready.write.as_ref().is_some_and(Write::must_sync));
    assert!(ready.apply.is_none() && ready.messages.is_empty());
    node.work(ready);

    // Its own vote is on disk: it leads, and has its first entry to write.
    let ready = node.raw.ready();
    assert_eq!(ready.soft_state.map(|s| (s.role, s.leader)), Some((Leader, Some(id(1)))));
    assert_eq!(write_positions(&ready), [LogId::new(1, 1)]);
    assert!(ready.apply.is_none(), "it is not on disk");
    node.work(ready);

    let ready = node.raw.ready();
    assert_eq!(hard_state(&ready), Some(state(Some(id(1)), 1)));
    assert!(!ready.write.as_ref().is_some_and(Write::must_sync), "a commit index need not survive");
    assert_eq!(apply_positions(&ready), [LogId::new(1, 1)]);
    node.work(ready);
    assert!(!node.raw.has_ready());

    let proposed = node.raw.propose("foo".into());
    assert_eq!(proposed, Ok(Proposed::Appended(LogId::new(1, 2))));
    let ready = node.raw.ready();
    assert_eq!(write_positions(&ready), [LogId::new(1, 2)]);
    node.work(ready);
    let ready = node.raw.ready();
    assert_eq!(apply_positions(&ready), [LogId::new(1, 2)]);
    node.work(ready);
    assert!(!node.raw.has_ready());
}

/// etcd: TestRawNodeRestart, TestNodeRestart (TinyKV: TestRawNodeRestart2AC). What is known to be
/// committed is applied again; nothing is written.
#[test]
fn the_first_ready_after_a_restart() {
    let mut node = server(1, &[1, 2]).log(&[1, 1]).commit(1).start();
    let ready = node.raw.ready();
    assert!(ready.write.is_none() && ready.soft_state.is_none());
    assert_eq!(apply_positions(&ready), [LogId::new(1, 1)]);
    node.work(ready);
    assert!(!node.raw.has_ready());
}

/// etcd: TestRawNodeRestartFromSnapshot, TestNodeRestartFromSnapshot (TinyKV:
/// TestRawNodeRestartFromSnapshot2C).
#[test]
fn the_first_ready_after_a_restart_from_a_snapshot() {
    let mut node = server(1, &[1, 2]).after((1, 2)).log(&[1]).commit(3).start();
    let ready = node.raw.ready();
    assert!(ready.write.is_none());
    assert_eq!(apply_positions(&ready), [LogId::new(1, 3)], "what the snapshot covers is applied");
    node.work(ready);
    assert!(!node.raw.has_ready());
}

/// P4: what the application has applied is committed, and is not handed out again.
#[test]
fn what_was_applied_before_is_not_applied_again() {
    let mut node = server(1, &[1, 2]).log(&[1; 5]).commit(2).tune(|c| c.applied = 4).start();
    assert_eq!((node.raw.commit(), node.raw.applied_index()), (4, 4));
    assert!(node.raw.ready().apply.is_none());
    node.settle();
}

// ---- What is handed out ----

/// etcd: TestRawNodeConsumeReady, TestNodeAdvance, TestRawNodeReadIndex. Everything is handed out
/// once, and what comes while a Ready is worked on is in the next.
#[test]
fn everything_is_handed_out_once() {
    let mut node = server(1, &[1, 2]).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.raw.propose("a".into()).expect("it leads");
    node.raw.read_index("r".into()).expect("it leads");
    let first = node.raw.ready();
    assert_eq!(write_positions(&first), [LogId::new(1, 2)]);
    assert_eq!(of_kind(&first.messages, Kind::Append).len(), 1);
    node.raw.propose("b".into()).expect("it leads");
    let second = node.raw.ready();
    assert_eq!(write_positions(&second), [LogId::new(1, 3)], "beside the first, not after it");
    assert_eq!(of_kind(&second.messages, Kind::Append).len(), 1);
    assert!(of_kind(&second.messages, Kind::Heartbeat).is_empty());
    assert!(!node.raw.has_ready());
    node.work(first);
    node.work(second);
    node.ask(message(2, 1, 1, Body::HeartbeatReply { read: 1, commit: 0 }));
    assert_eq!(node.reads, [ReadState { index: 1, context: "r".into() }]);
    node.settle();
    assert_eq!(node.reads.len(), 1);
}

/// etcd: TestSoftStateEqual, TestIsHardStateEqual, in effect: only changes are told.
#[test]
fn only_changes_are_told() {
    let mut node = server(1, &[1, 2]).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.raw.propose("a".into()).expect("it leads");
    let ready = node.raw.ready();
    assert!(ready.soft_state.is_none() && hard_state(&ready).is_none());
    node.work(ready);
    node.take(append(2, 1, 2, (1, 2), &[], 0));
    let ready = node.raw.ready();
    let soft_state = ready.soft_state.expect("it follows now");
    assert_eq!((soft_state.role, soft_state.leader), (Follower, Some(id(2))));
    assert_eq!(hard_state(&ready).map(|h| (h.term, h.vote)), Some((2, None)));
    node.work(ready);
}

/// etcd: TestRawNodeStatus. Progress is known to leaders only.
#[test]
fn only_leaders_know_the_progress_of_others() {
    let mut node = server(1, &[1, 2]).start();
    assert!(node.raw.status().progress.is_empty());
    node.win();
    assert_eq!(node.raw.status().progress.len(), 2);
    assert_eq!(node.raw.status().soft_state.role, Leader);
    node.take(append(2, 1, 9, (0, 0), &[], 0));
    assert!(node.raw.status().progress.is_empty());
}

/// etcd: TestNodePropose, TestNodeProposeWaitDropped, TestDisableProposalForwarding,
/// TestNodeProposeConfig. A refused proposal is reported, wherever it is refused.
#[test]
fn a_refused_proposal_is_reported() {
    let mut net = group_with(3, |c| c.disable_proposal_forwarding = c.id == id(3));
    assert_eq!(net.propose(1, "x"), Err(ProposeError::NotLeader { leader: None }));
    net.campaign(1);
    assert_eq!(net.propose(2, "x"), Ok(Proposed::Forwarded(id(1))));
    let refused = ProposeError::NotLeader { leader: Some(id(1)) };
    assert_eq!(net.propose(3, "x"), Err(refused));
    let none = net.node(1).raw.propose_entries(Vec::new());
    assert_eq!(none, Err(ProposeError::Empty));
    assert_eq!(net.node(3).said(), ["x"]);
}

// ---- Pages ----

/// etcd: TestCommitPagination, TestNodeCommitPaginationAfterRestart,
/// TestRawNodeCommitPaginationAfterRestart; raft-rs: test_committed_entries_pagination; C8. Applies
/// come in pages, in order, without a gap, whatever the storage makes of the limit.
#[test]
fn applies_come_in_pages_without_a_gap() {
    let one = entries(1, &[1]).size();
    for limit in [1, one, 2 * one, 3 * one - 1, 100 * one] {
        for slack in [0, 1, 3] {
            let setup =
                server(1, &[1]).log(&[1; 10]).commit(10).tune(|c| c.apply_bytes_max = limit);
            let storage = Generous { inner: setup.storage(), slack: slack * one };
            let mut raw = RawNode::new(setup.config, Box::new(storage)).expect("a good start");
            let mut next = 1;
            while next <= 10 {
                let apply = raw.ready().apply.expect("there is more to apply");
                assert_eq!(apply.entries().first(), Some(next), "limit {limit}, slack {slack}");
                next = apply.entries().last().expect("not empty").index + 1;
                assert!(raw.ready().apply.is_none() || limit > one, "one page at a time");
                assert_eq!(raw.applied(apply.done()), Ok(None));
            }
            assert_eq!(raw.applied_index(), 10);
        }
    }
}

/// A storage that gives more than the limit allows.
struct Generous {
    inner: MemStorage,
    slack: u64,
}

impl Storage for Generous {
    fn initial_state(&self) -> Result<raft::InitialState, StorageError> {
        self.inner.initial_state()
    }

    fn entries(
        &self,
        range: std::ops::Range<Index>,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        self.inner.entries(range, bytes_max.saturating_add(self.slack))
    }

    fn snapshot(&self) -> Result<raft::Snapshot, StorageError> {
        self.inner.snapshot()
    }
}

/// etcd: TestCommitPaginationWithAsyncStorageWrites; raft-rs: test_raw_node_with_async_apply. The
/// quota is shared by all applies that are under way.
#[test]
fn pages_under_way_share_a_quota() {
    let one = 1000 + raft::Entry::OVERHEAD_BYTES;
    let mut node = server(1, &[1]).tune(|c| c.apply_bytes_max = 3 * one).lead();
    node.hold_applies = true;
    for _ in 0..10 {
        node.raw.propose(Bytes::from(vec![b'a'; 1000])).expect("it leads");
        node.settle();
    }
    let under_way = |node: &Node| node.applies.iter().map(|a| a.entries().len()).sum::<usize>();
    assert_eq!(under_way(&node), 3);
    for applied in 2..=8 {
        node.apply();
        node.settle();
        assert_eq!(node.raw.applied_index(), applied);
        assert_eq!(under_way(&node), 3, "one done, one more");
    }
    node.hold_applies = false;
    node.apply_all();
    node.settle();
    node.apply_all();
    assert_eq!(node.raw.applied_index(), 11);
}

// ---- Writes under way ----

/// raft-rs: test_async_ready_leader. A leader's messages leave before its own disk is done; what it
/// commits counts its disk only as far as it has reported.
#[test]
fn a_leader_sends_before_its_disk_is_done() {
    let mut node = server(1, &[1, 2, 3]).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.ask(accepted(3, 1, 1, 1));
    node.hold_writes = true;
    for n in 0..10 {
        node.raw.propose(format!("{n}").into()).expect("it leads");
        let sent = node.settle();
        assert_eq!(of_kind(&sent, Kind::Append).len(), 2);
        assert!(of_kind(&sent, Kind::AppendReply).is_empty());
    }
    assert_eq!(node.writes.len(), 10, "all under way at once");
    node.ask(accepted(2, 1, 1, 11));
    assert_eq!(node.raw.commit(), 1);
    for written in 2..=11 {
        let _ = node.persist();
        assert_eq!(node.raw.commit(), written, "2 has all of it");
    }
}

/// raft-rs: test_async_ready_follower. A follower's answers come out of the disk, in order.
#[test]
fn a_follower_answers_when_its_disk_is_done() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.hold_writes = true;
    for n in 0..5 {
        let prev = (u64::from(n > 0), n);
        assert!(node.ask(append(2, 1, 1, prev, &[1], n)).is_empty());
    }
    for n in 1..=5 {
        assert_eq!(node.persist(), [accepted(1, 2, 1, n)]);
        assert_eq!(node.raw.status().stable, n);
    }
    node.settle();
    assert_eq!(node.raw.applied_index(), 4);
}

/// A report that overtakes an earlier one waits for it: what it promises rests on both.
#[test]
fn reports_out_of_order_wait() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.hold_writes = true;
    node.ask(append(2, 1, 1, (0, 0), &[1], 0));
    node.ask(append(2, 1, 1, (1, 1), &[1], 0));
    let first = node.writes.pop_front().expect("under way");
    let second = node.writes.pop_front().expect("under way");
    assert!(node.raw.persisted(second.synced()).is_empty(), "the first is not on disk");
    assert_eq!(node.raw.status().stable, 0);
    let out = node.raw.persisted(first.synced());
    assert_eq!(out, [accepted(1, 2, 1, 1), accepted(1, 2, 1, 2)]);
    assert_eq!(node.raw.status().stable, 2);
}

/// raft-rs: test_async_ready_become_leader. A new leader's first entry goes out at once, and counts
/// when it is written.
#[test]
fn a_new_leader_releases_its_first_entry() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.hold_writes = true;
    node.stand();
    let _ = node.persist();
    let sent = node.ask(grant(2, 1, 1, true));
    assert_eq!(node.raw.role(), Leader);
    assert_eq!(of_kind(&sent, Kind::Append).len(), 2);
    node.ask(accepted(2, 1, 1, 1));
    assert_eq!(node.raw.commit(), 0);
    let _ = node.persist();
    assert_eq!(node.raw.commit(), 1);
}

/// raft-rs: test_raw_node_overwrite_entries; P7. A late report of entries that were replaced does
/// not make their successors stable, not even if the very same entries came back.
#[test]
fn a_late_report_of_replaced_entries_is_nothing() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.hold_writes = true;
    // Written: 1@1 2@1. Replaced by a leader of term 2, brought back by one of term 3.
    node.ask(append(2, 1, 1, (0, 0), &[1, 1], 0));
    node.ask(append(3, 1, 2, (1, 1), &[2], 0));
    node.ask(append(2, 1, 3, (0, 0), &[1, 1], 0));
    assert_eq!(node.writes.len(), 3);
    let _ = node.persist();
    assert_eq!(node.raw.status().stable, 0, "2@1 is about to be overwritten by 2@2");
    let _ = node.persist();
    assert_eq!(node.raw.status().stable, 0);
    let acknowledged = node.persist();
    assert_eq!(acknowledged, [accepted(1, 2, 3, 2)]);
    assert_eq!(node.raw.status().stable, 2, "now it is there to stay");
    assert_eq!(node.storage.last(), LogId::new(1, 2));
}

/// Replaced within one term by the same leader, a write under way counts for what is left of it.
#[test]
fn a_report_counts_for_what_is_left() {
    let mut node = server(1, &[1, 2, 3]).log(&[1]).term(3).start();
    node.hold_writes = true;
    node.ask(append(2, 1, 3, (1, 1), &[1, 1], 0));
    // A leader's own entries in term 3 replace what it inherited elsewhere.
    node.ask(append(2, 1, 3, (1, 2), &[3], 0));
    assert_eq!(node.terms(), [1, 1, 3]);
    let _ = node.persist();
    assert!(node.raw.status().stable <= 2, "3@1 is not in the log any more");
    node.persist_all();
    assert_eq!(node.raw.status().stable, 3);
}

/// raft-rs: test_raw_node_entries_after_snapshot, test_async_ready_multiple_snapshot. A write may
/// hold a snapshot and the entries after it; nothing is applied before it is on disk.
#[test]
fn a_write_may_hold_a_snapshot_and_what_follows() {
    let mut node = server(1, &[1, 2]).start();
    node.hold_writes = true;
    node.take(install(2, 1, 2, snapshot((2, 10), voters(&[1, 2]))));
    node.take(append(2, 1, 2, (2, 10), &[2, 2], 12));
    let ready = node.raw.ready();
    let write = ready.write.as_ref().expect("both");
    assert!(write.snapshot().is_some() && write.must_sync());
    assert_eq!(positions(write.entries()), [LogId::new(2, 11), LogId::new(2, 12)]);
    assert!(ready.apply.is_none(), "nothing committed comes with a snapshot");
    node.work(ready);
    let out = node.persist();
    assert_eq!(out, [accepted(1, 2, 2, 10), accepted(1, 2, 2, 12)]);
    assert_eq!(apply_positions(&node.raw.ready()), [LogId::new(2, 11), LogId::new(2, 12)]);
}

/// A write without anything to store carries promises that rest on writes before it; it needs no
/// sync of its own.
#[test]
fn a_write_may_be_empty_but_for_its_promises() {
    let mut node = server(1, &[1, 2]).start();
    node.hold_writes = true;
    node.ask(append(2, 1, 1, (0, 0), &[1], 0));
    assert!(node.ask(append(2, 1, 1, (0, 0), &[1], 0)).is_empty());
    let empty = node.writes.back().expect("under way");
    assert!(empty.entries().is_empty() && empty.hard_state().is_none() && !empty.must_sync());
    assert_eq!(empty.promise_count(), 1);
    assert_eq!(node.persist_all(), [accepted(1, 2, 1, 1), accepted(1, 2, 1, 1)]);
}

/// With `lazy_commit` a new commit index asks for no write, here of a leader that commits and
/// applies one entry after the other, and is recorded with the next entries: a restart may know of
/// one round less.
#[test]
fn a_lazy_commit_is_recorded_with_the_next_entries() {
    let mut net = group_with(3, |c| c.lazy_commit = true);
    net.campaign(1);
    for (data, recorded) in [("a", 1), ("b", 2)] {
        net.put(1, data);
        let leader = net.node(1);
        assert!(!leader.raw.has_ready(), "nothing is left to be written");
        assert_eq!(leader.raw.commit(), recorded + 1);
        assert_eq!(leader.storage.hard_state().commit, recorded);
    }
    net.node(1).restart();
    assert_eq!(net.node(1).raw.commit(), 2);
    net.campaign(2);
    net.assert_equal();
    assert_eq!(net.commit(1), 4, "the new leader knows, and has added its own first entry");
}

// ---- A storage that answers later ----

/// A storage that is busy for a while.
#[derive(Clone)]
struct Busy {
    inner: MemStorage,
    busy: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Storage for Busy {
    fn initial_state(&self) -> Result<raft::InitialState, StorageError> {
        self.inner.initial_state()
    }

    fn entries(
        &self,
        range: std::ops::Range<Index>,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        if self.busy.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(StorageError::Other("busy".into()));
        }
        self.inner.entries(range, bytes_max)
    }

    fn snapshot(&self) -> Result<raft::Snapshot, StorageError> {
        if self.busy.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(StorageError::SnapshotUnavailable);
        }
        self.inner.snapshot()
    }
}

/// raft-rs: test_raw_node_with_async_entries, …_to_removed_node, …_on_follower,
/// …_with_leader_change; etcd: a snapshot that is not ready. What cannot be read now is sent when
/// the follower is heard from again; a change of role forgets it.
#[test]
fn what_cannot_be_read_now_is_sent_later() {
    for compacted in [false, true] {
        let setup = server(1, &[1, 2, 3]).log(&[1; 6]).commit(6);
        let setup = if compacted { setup.after((1, 3)).commit(9) } else { setup };
        let storage = setup.storage();
        let busy = std::sync::Arc::new(true.into());
        let disk = Busy { inner: storage.clone(), busy: std::sync::Arc::clone(&busy) };
        let mut node = setup.start();
        let mut config = Config::new(id(1));
        (config.pre_vote, config.check_quorum, config.heartbeat_ticks) = (false, false, 1);
        config.applied = if compacted { 9 } else { 6 };
        node.raw = RawNode::new(config, Box::new(disk)).expect("a good start");
        node.win();
        let reject = || {
            let hint = LogId::ZERO;
            let prev = if compacted { 9 } else { 6 };
            let reply = raft::AppendReply::Rejected { prev, hint };
            message(2, 1, 2, Body::AppendEntriesReply(reply))
        };
        let sent = node.ask(reject());
        assert!(sent.is_empty(), "the disk is busy: {sent:?}");
        assert!(node.tick(5).iter().all(|m| Kind::of(&m.body) == Kind::Heartbeat));
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        let sent = node.ask(message(2, 1, 2, Body::HeartbeatReply { read: 0, commit: 0 }));
        let expected = if compacted { Kind::Snapshot } else { Kind::Append };
        assert_eq!(of_kind(&sent, expected).len(), 1);
        node.take(append(3, 1, 9, (0, 0), &[], 0));
        assert_eq!(node.raw.role(), Follower);
        assert!(of_kind(&node.settle(), Kind::Append).is_empty());
    }
}
