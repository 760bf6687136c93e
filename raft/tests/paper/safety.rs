//! §5.4 and §5.5: the election restriction, committing entries of former terms, crashes.

use raft::{Body, LogId, RoleKind};

use crate::common::build::accepted;
use crate::common::{Net, append, grant, id, server, vote};

/// RequestVote says how far the candidate's log goes, to each of the others; also once it has
/// entries as a follower. (etcd: TestVoteRequest.)
#[test]
fn a_vote_request_names_the_candidates_last_entry() {
    for (terms, term) in [(&[1][..], 2), (&[1, 2], 3)] {
        let mut node = server(1, &[1, 2, 3]).start();
        node.ask(append(2, 1, term - 1, (0, 0), terms, 0));
        let sent = node.tick(20);
        let last = LogId::new(terms[terms.len() - 1], terms.len() as u64);
        let body = Body::RequestVote { pre: false, last, transfer: false, commit: LogId::ZERO };
        for n in [2, 3] {
            assert!(sent.iter().any(|m| m.to == id(n) && m.term == term && m.body == body));
        }
    }
}

/// The voter denies its vote if its own log is more up to date than the candidate's: if the logs
/// end with different terms, the later term is; if with the same, the longer log is.
/// (etcd: TestVoter, TestRecvMsgVote.)
#[test]
fn a_vote_goes_only_to_a_log_at_least_as_up_to_date() {
    let cases: [(&[u64], (u64, u64), bool); 9] = [
        // own log, candidate's last (term, index)
        (&[1], (1, 1), true),
        (&[1], (1, 2), true),
        (&[1, 1], (1, 1), false),
        (&[1], (2, 1), true),
        (&[1], (2, 2), true),
        (&[1, 1], (2, 1), true),
        (&[2], (1, 1), false),
        (&[2], (1, 2), false),
        (&[2, 1 + 1], (1, 1), false),
    ];
    for (log, last, granted) in cases {
        let mut node = server(1, &[1, 2]).log(log).start();
        let replies = node.ask(vote(2, 1, 3, last));
        assert_eq!(replies, [grant(1, 2, 3, granted)], "{log:?} asked by {last:?}");
        let expected = granted.then_some(id(2));
        assert_eq!(node.storage.hard_state().vote, expected, "only a grant is a vote");
        assert_eq!(node.raw.term(), 3, "the term rises either way");
    }
}

/// A candidate cannot win unless its log contains all committed entries.
#[test]
fn who_lacks_a_committed_entry_is_not_elected() {
    let mut net = crate::common::group(3);
    net.campaign(1);
    net.isolate(3);
    net.put(1, "x");
    net.heal();
    net.cut(1, 3);
    net.cut(1, 2);
    for _ in 0..20 {
        net.campaign(3);
        assert_ne!(net.role(3), RoleKind::Leader);
    }
    net.campaign(2);
    assert_eq!(net.role(2), RoleKind::Leader);
    assert_eq!(net.node(3).said(), ["x"]);
}

/// Raft never commits entries of previous terms by counting replicas; only an entry of the
/// leader's current term. (etcd: TestLeaderOnlyCommitsLogFromCurrentTerm.)
#[test]
fn only_entries_of_the_current_term_are_committed_by_counting() {
    for (acknowledged, commit) in [(1, 0), (2, 0), (3, 3)] {
        let mut node = server(1, &[1, 2]).log(&[1, 2]).lead();
        assert_eq!(node.raw.last(), LogId::new(3, 3));
        node.take(accepted(2, 1, 3, acknowledged));
        node.settle();
        assert_eq!(node.raw.commit(), commit, "{acknowledged} is acknowledged");
    }
}

/// Figure 8: S1 brings an entry of term 2 onto a majority in term 4; it is not committed by that,
/// and S5 may still overwrite it. With an entry of term 4 on a majority S5 cannot win. (C1.)
#[test]
fn figure_8() {
    let all = [1, 2, 3, 4, 5];
    // (c): S1 in term 4 has replicated 2@2 to S3, but nothing of its own.
    let logs: [&[u64]; 5] = [&[1, 2], &[1, 2], &[1], &[1], &[1, 3]];
    let net = || Net::of(all.iter().map(|n| server(*n, &all).log(logs[*n as usize - 1]).term(3)));
    let elected = || {
        let mut net = net();
        net.cut(1, 4);
        net.cut(1, 5);
        // Its own first entry, of term 4, is held back: followers get only what is older.
        net.hook(|m| match &m.body {
            Body::AppendEntries { entries, .. } => entries.last().is_none_or(|last| last.term < 4),
            _ => true,
        });
        net.node(1).raw.campaign();
        net.pump();
        assert_eq!((net.role(1), net.term(1)), (RoleKind::Leader, 4));
        let entry = crate::common::entries(2, &[2]);
        let prev = LogId::new(1, 1);
        let body = Body::AppendEntries { prev, entries: entry, commit: 0 };
        net.send(crate::common::message(1, 3, 4, body));
        assert_eq!(net.node(3).terms(), [1, 2]);
        assert!(net.commit(1) < 2, "on a majority, but not committed by counting");
        net
    };

    // (d): S1 crashes; S5 is elected by S2, S3 and S4 and overwrites 2@2 with its 2@3.
    let mut net = elected();
    net.heal();
    net.isolate(1);
    net.campaign(5);
    if net.role(5) != RoleKind::Leader {
        net.campaign(5);
    }
    assert_eq!(net.role(5), RoleKind::Leader);
    assert_eq!(&net.node(3).terms()[..2], [1, 3]);

    // (e): S1 brings an entry of its own term onto a majority first: all before it is committed,
    // and S5 cannot win any more.
    let mut net = elected();
    net.heal();
    net.cut(1, 4);
    net.cut(1, 5);
    net.beat(1);
    net.beat(1);
    assert!(net.commit(1) >= 2);
    net.heal();
    net.isolate(1);
    for _ in 0..5 {
        net.campaign(5);
        assert_ne!(net.role(5), RoleKind::Leader);
    }
}

/// §5.5: Raft RPCs are idempotent; a follower that already has the entries of a request ignores
/// them in the new one.
#[test]
fn the_same_append_twice_is_once() {
    let mut node = server(1, &[1, 2, 3]).start();
    let request = append(2, 1, 1, (0, 0), &[1, 1, 1], 0);
    let first = node.ask(request.clone());
    let state = (node.raw.last(), node.raw.hard_state(), node.digest);
    node.hold_writes = true;
    node.take(request);
    node.settle();
    assert!(node.writes.iter().all(|w| w.entries().is_empty()), "nothing is written again");
    assert_eq!(node.persist_all(), first, "the same answer");
    assert_eq!((node.raw.last(), node.raw.hard_state(), node.digest), state);
}

/// §5.5: a server that crashes after completing an RPC but before responding gets the same RPC
/// again after it restarts.
#[test]
fn an_append_after_a_crash_is_taken_again() {
    let request = append(2, 1, 1, (0, 0), &[1, 1, 1], 0);
    for synced in [false, true] {
        let mut node = server(1, &[1, 2, 3]).start();
        node.hold_writes = true;
        node.take(request.clone());
        assert!(node.settle().is_empty());
        if synced {
            let _lost = node.persist();
        }
        node.restart();
        node.hold_writes = false;
        assert_eq!(node.raw.last().index, if synced { 3 } else { 0 });
        assert_eq!(node.ask(request.clone()), [accepted(1, 2, 1, 3)]);
        assert_eq!(node.storage.last(), LogId::new(1, 3));
    }
}

/// The same for what is committed by now: it is answered without looking at the log.
#[test]
fn an_append_before_the_commit_index_is_answered_with_it() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.ask(append(2, 1, 1, (0, 0), &[1, 1, 1], 3));
    assert_eq!(node.ask(append(2, 1, 1, (1, 1), &[1], 3)), [accepted(1, 2, 1, 3)]);
}

/// Messages may be reordered: an older request that comes after a newer one takes nothing back.
#[test]
fn an_older_append_takes_nothing_back() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.ask(append(2, 1, 1, (0, 0), &[1, 1, 1, 1], 0));
    node.ask(append(2, 1, 1, (0, 0), &[1], 0));
    node.ask(append(2, 1, 1, (1, 1), &[], 0));
    assert_eq!(node.raw.last(), LogId::new(1, 4));
    assert_eq!(node.storage.last(), LogId::new(1, 4));
}
