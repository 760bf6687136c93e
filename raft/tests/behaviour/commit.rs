//! The commit rule (§5.3, §5.4.2; etcd: raft_test.go; museum C).

use raft::RoleKind;

use crate::common::build::{Kind, accepted, heartbeat_reply};
use crate::common::net::group_with;
use crate::common::{append, group, heartbeat, server};

/// etcd: TestCommit. By matches, terms and sizes; only an entry of the leader's term is counted.
#[test]
fn the_commit_index_by_matches_and_terms() {
    let cases: [(&[u64], &[u64], u64, u64); 14] = [
        // the others' matches, terms of the log, the leader's term → commit
        (&[], &[1], 1, 1),
        (&[], &[1], 2, 0),
        (&[], &[1, 2], 2, 2),
        (&[], &[2], 2, 1),
        (&[1, 1], &[1, 2], 1, 1),
        (&[1, 1], &[1, 1], 2, 0),
        (&[2, 1], &[1, 2], 2, 2),
        (&[2, 1], &[1, 1], 2, 0),
        (&[1, 1, 1], &[1, 2], 1, 1),
        (&[1, 1, 1], &[1, 1], 2, 0),
        (&[1, 1, 2], &[1, 2], 1, 1),
        (&[1, 1, 2], &[1, 1], 2, 0),
        (&[2, 1, 2], &[1, 2], 2, 2),
        (&[2, 1, 2], &[1, 1], 2, 0),
    ];
    for (matches, terms, term, commit) in cases {
        let all: Vec<u64> = (1..=matches.len() as u64 + 1).collect();
        // The leader of `term` whose log ends with its entries: it was elected before them.
        let older: Vec<u64> = terms.iter().copied().filter(|t| *t < term).collect();
        let mut node = server(1, &all).log(&older).term(term - 1).start();
        node.hold_writes = true;
        node.stand();
        for n in &all[1..] {
            node.take(crate::common::grant(*n, 1, term, true));
        }
        // Its vote is on disk.
        let _requests = node.persist();
        assert_eq!(node.raw.role(), RoleKind::Leader);
        let mut last = node.raw.last().index;
        while last < terms.len() as u64 {
            node.raw.propose("x".into()).expect("it leads");
            last += 1;
        }
        // Its own entries are written; where the table's log has none of its term, they are not.
        let own_term = terms.contains(&term);
        if own_term {
            node.persist_all();
        } else {
            node.settle();
        }
        for (n, matched) in all[1..].iter().zip(matches) {
            node.take(accepted(*n, 1, term, *matched));
        }
        node.settle();
        assert_eq!(node.raw.commit(), commit, "{matches:?} of {terms:?} in {term}");
    }
}

/// etcd: TestCannotCommitWithoutNewTermEntry. What former leaders left is not committed before an
/// entry of the new one is.
#[test]
fn nothing_old_commits_before_the_first_own_entry() {
    let mut net = group(5);
    net.campaign(1);
    for n in [3, 4, 5] {
        net.cut(1, n);
    }
    net.put(1, "a");
    net.put(1, "b");
    assert_eq!(net.commit(1), 1);
    net.heal();
    net.ignore(Kind::Append);
    net.campaign(2);
    assert_eq!((net.role(2), net.commit(2)), (RoleKind::Leader, 1), "its first entry is held back");
    net.heal();
    net.beat(2);
    net.put(2, "c");
    assert_eq!(net.commit(2), 5, "then everything commits");
    net.beat(2);
    net.assert_equal();
}

/// etcd: TestCommitWithoutNewTermEntry. The first own entry is enough.
#[test]
fn the_first_own_entry_commits_what_was_there() {
    let mut net = group(5);
    net.campaign(1);
    for n in [3, 4, 5] {
        net.cut(1, n);
    }
    net.put(1, "a");
    net.put(1, "b");
    net.heal();
    net.campaign(2);
    assert_eq!(net.commit(2), 4);
}

/// etcd: TestSingleNodeCommit; C7. A group of one commits what is on its disk, at once, and not
/// before.
#[test]
fn a_lone_leader_commits_what_is_on_its_disk() {
    let mut node = server(1, &[1]).lead();
    node.hold_writes = true;
    node.raw.propose("a".into()).expect("it leads");
    node.settle();
    assert_eq!(node.raw.commit(), 1);
    assert!(node.said().is_empty(), "nothing is applied that a crash could take back");
    node.persist_all();
    assert_eq!((node.raw.commit(), node.said()), (2, vec!["a".to_string()]));
}

/// C6: a leader counts itself only as far as its own disk. (etcd: TestProgressLeader.)
#[test]
fn a_leader_counts_what_is_on_its_own_disk() {
    let mut node = server(1, &[1, 2, 3]).lead();
    node.take(accepted(2, 1, 1, 1));
    node.take(accepted(3, 1, 1, 1));
    node.settle();
    node.hold_writes = true;
    node.raw.propose("a".into()).expect("it leads");
    node.settle();
    assert_eq!(node.progress(1).matched, 1);
    node.ask(accepted(2, 1, 1, 2));
    assert_eq!(node.raw.commit(), 1, "2 has it, the leader's own disk has not");
    node.ask(accepted(3, 1, 1, 2));
    assert_eq!(node.raw.commit(), 2, "2 and 3 are a majority without it");
    node.persist_all();
    assert_eq!(node.progress(1).matched, 2);
    // Several writes at once count as far as they are reported.
    for n in 0..3 {
        node.raw.propose(format!("{n}").into()).expect("it leads");
        node.settle();
    }
    let _ = node.persist();
    assert_eq!(node.progress(1).matched, 3);
}

/// etcd: TestHandleMsgApp, the commits: no further than this message proves. R6: also for an empty
/// append, and a follower with a tail of its own.
#[test]
fn a_follower_commits_what_the_message_proves() {
    type Case<'a> = ((u64, u64), &'a [u64], u64, u64);
    let cases: [Case<'_>; 9] = [
        // previous entry, new entries, the leader's commit → commit; the log is 1@1 2@2
        ((1, 1), &[], 1, 1),
        ((0, 0), &[2], 1, 1),
        ((2, 2), &[2, 2], 3, 3),
        ((2, 2), &[2], 4, 3),
        ((1, 1), &[2], 4, 2),
        ((1, 1), &[], 3, 1),
        ((1, 1), &[2], 3, 2),
        ((2, 2), &[], 3, 2),
        ((2, 2), &[], 4, 2),
    ];
    for (prev, terms, commit, expected) in cases {
        let mut node = server(1, &[1, 2, 3]).log(&[1, 2]).start();
        node.ask(append(2, 1, 2, prev, terms, commit));
        assert_eq!(node.raw.commit(), expected, "{terms:?} after {prev:?}, commit {commit}");
    }
    // R6: (10, t1) is of a former leader; the new one's commit of 11 says nothing about it.
    let mut node = server(1, &[1, 2, 3]).log(&[1; 10]).term(2).start();
    node.ask(append(2, 1, 2, (1, 9), &[], 11));
    assert_eq!(node.raw.commit(), 9);
}

/// etcd: TestHandleHeartbeat. The commit index moves up only.
#[test]
fn a_heartbeat_never_lowers_the_commit_index() {
    for (commit, expected) in [(3, 3), (2, 2), (1, 2), (0, 2)] {
        let mut node = server(1, &[1, 2]).log(&[1, 2, 3]).commit(2).start();
        node.settle();
        let answer = node.ask(heartbeat(2, 1, 3, commit));
        assert_eq!(node.raw.commit(), expected);
        assert_eq!(answer, [heartbeat_reply(1, 2, 3)]);
    }
}

/// TinyKV: TestHeartbeatUpdateCommit2AB. A heartbeat commits nothing on a server whose log is not
/// known to match.
#[test]
fn a_heartbeat_commits_nothing_that_is_not_known_to_match() {
    for (tail, more) in [(1, 1), (5, 3), (5, 10)] {
        let mut net = group(3);
        net.campaign(1);
        net.put(1, "shared");
        net.isolate(1);
        for n in 0..tail {
            net.put(1, &format!("lost {n}"));
        }
        net.campaign(2);
        for n in 0..more {
            net.put(2, &format!("kept {n}"));
        }
        net.heal();
        net.ignore(Kind::Append);
        net.beat(2);
        net.beat(2);
        assert_eq!(net.commit(1), 2, "{tail} {more}");
        net.heal();
        net.beat(2);
        net.beat(2);
        net.assert_equal();
    }
}

/// raft-rs: test_skip_bcast_commit. The commit index may be left to the next entries.
#[test]
fn the_commit_index_may_travel_with_the_next_entries() {
    let mut net = group_with(3, |c| c.skip_commit_broadcast = true);
    net.campaign(1);
    net.put(1, "a");
    assert_eq!(net.commit(1), 2);
    assert!(net.commit(2) < 2);
    net.put(1, "b");
    assert_eq!((net.commit(1), net.commit(2)), (3, 2));
    net.beat(1);
    assert_eq!(net.commit(2), 3, "or with the next heartbeat");
}
