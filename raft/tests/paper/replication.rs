//! §5.3, log replication.

use raft::{AppendReply, Body, LogId, RoleKind};

use crate::common::build::{Kind, accepted, rejected};
use crate::common::node::{bodies_to, of_kind};
use crate::common::{Net, Node, append, grant, group, heartbeat, server};

/// A leader of three whose followers have acknowledged its first entry, at index 1 and term 1.
fn leader() -> Node {
    let mut node = server(1, &[1, 2, 3]).lead();
    node.take(accepted(2, 1, 1, 1));
    node.take(accepted(3, 1, 1, 1));
    node.settle();
    assert_eq!(node.raw.commit(), 1);
    node
}

/// The leader appends the command to its log as a new entry, then issues AppendEntries in parallel
/// to each of the others. (etcd: TestLeaderStartReplication.)
#[test]
fn a_leader_appends_then_sends_to_all() {
    let mut node = leader();
    node.raw.propose("x".into()).expect("it leads");
    assert_eq!(node.raw.last(), LogId::new(1, 2), "in its own log at once");
    let sent = node.settle();
    for n in [2, 3] {
        let [Body::AppendEntries { prev, entries, commit }] = &bodies_to(&sent, n)[..] else {
            panic!("one append to {n}: {sent:?}")
        };
        assert_eq!((*prev, *commit), (LogId::new(1, 1), 1));
        assert_eq!(entries.get(2).expect("the new one").entry.data, "x");
    }
    assert_eq!(node.raw.commit(), 1, "nobody has acknowledged it");
}

/// When the entry has been safely replicated, the leader applies it. (etcd: TestLeaderCommitEntry.)
#[test]
fn a_leader_applies_what_a_majority_has() {
    let mut node = leader();
    node.raw.propose("x".into()).expect("it leads");
    node.settle();
    assert!(node.said().is_empty());
    let sent = node.ask(accepted(2, 1, 1, 2));
    assert_eq!(node.raw.commit(), 2);
    assert_eq!(node.said(), ["x"]);
    let told = bodies_to(&sent, 2);
    assert!(matches!(told[..], [Body::AppendEntries { commit: 2, .. }]), "and tells: {told:?}");
}

/// A log entry is committed once it is replicated on a majority.
/// (etcd: TestLeaderAcknowledgeCommit.)
#[test]
fn a_majority_of_acknowledgements_commits() {
    let cases: [(u64, &[u64], bool); 11] = [
        (1, &[], true),
        (3, &[], false),
        (3, &[2], true),
        (3, &[2, 3], true),
        (5, &[], false),
        (5, &[2], false),
        (5, &[2, 3], true),
        (5, &[2, 3, 4], true),
        (5, &[2, 3, 4, 5], true),
        (4, &[2], false),
        (4, &[2, 3], true),
    ];
    for (size, who, committed) in cases {
        let all: Vec<u64> = (1..=size).collect();
        let mut node = server(1, &all).lead();
        for n in 2..=size {
            node.take(accepted(n, 1, 1, 1));
        }
        node.settle();
        node.raw.propose("x".into()).expect("it leads");
        node.settle();
        for n in who {
            node.take(accepted(*n, 1, 1, 2));
        }
        node.settle();
        assert_eq!(node.raw.commit() == 2, committed, "{who:?} of {size}");
    }
}

/// If followers crash or run slowly, or packets are lost, the leader retries indefinitely until
/// all followers have stored all entries.
#[test]
fn a_leader_retries_until_everybody_has_everything() {
    let mut net = group(3);
    net.campaign(1);
    net.lose(1, 3, 0.8);
    net.lose(3, 1, 0.8);
    for n in 0..20 {
        net.put(1, &format!("{n}"));
    }
    for _ in 0..200 {
        net.beat(1);
    }
    net.heal();
    net.beat(1);
    net.beat(1);
    net.assert_equal();
    assert_eq!(net.node(3).said().len(), 20);
}

/// The same, after the follower has crashed.
#[test]
fn a_follower_that_crashed_is_caught_up() {
    let mut net = group(3);
    net.campaign(1);
    net.put(1, "before");
    net.isolate(3);
    net.put(1, "while it is down");
    net.restart(3);
    net.heal();
    net.beat(1);
    net.beat(1);
    net.assert_equal();
    assert_eq!(net.node(3).said(), ["before", "while it is down"]);
}

/// Committing an entry also commits all preceding entries, including those of previous leaders.
/// (etcd: TestLeaderCommitPrecedingEntries.)
#[test]
fn committing_an_entry_commits_all_before_it() {
    for log in [&[][..], &[2], &[1, 2], &[1]] {
        let mut node = server(1, &[1, 2, 3]).log(log).term(2).lead();
        node.raw.propose("x".into()).expect("it leads");
        node.settle();
        let last = log.len() as u64 + 2;
        node.take(accepted(2, 1, 3, last));
        node.settle();
        assert_eq!(node.raw.commit(), last);
        let applied: Vec<u64> = node.applied.keys().copied().collect();
        assert_eq!(applied, (1..=last).collect::<Vec<_>>(), "in order");
    }
}

/// The leader includes the commit index in future AppendEntries, and in heartbeats, so that the
/// others find out; a follower applies committed entries in log order.
/// (etcd: TestFollowerCommitEntry.)
#[test]
fn a_follower_applies_what_it_is_told_is_committed() {
    let cases: [(&[u64], u64); 4] = [(&[1], 1), (&[1, 1], 2), (&[1, 1], 1), (&[1, 1, 1], 2)];
    for (terms, commit) in cases {
        let mut node = server(1, &[1, 2, 3]).start();
        node.ask(append(2, 1, 1, (0, 0), terms, commit));
        assert_eq!(node.raw.commit(), commit);
        let applied: Vec<u64> = node.applied.keys().copied().collect();
        assert_eq!(applied, (1..=commit).collect::<Vec<_>>());
    }
    let mut node = server(1, &[1, 2, 3]).start();
    node.ask(append(2, 1, 1, (0, 0), &[1, 1], 0));
    node.ask(heartbeat(2, 1, 1, 2));
    assert_eq!(node.applied.len(), 2, "by a heartbeat");
}

/// A leader creates at most one entry with a given index in a term.
#[test]
fn a_leader_gives_each_index_once() {
    let mut node = leader();
    let mut seen = std::collections::BTreeSet::from([1]);
    for n in 0..50 {
        let proposed = node.raw.propose(format!("{n}").into()).expect("it leads");
        let raft::Proposed::Appended(at) = proposed else { panic!("it leads: {proposed:?}") };
        assert_eq!(at.term, 1);
        assert!(seen.insert(at.index), "{at} was given twice");
        if n % 3 == 0 {
            node.settle();
        }
    }
}

/// If the follower does not find an entry with the previous index and term, it refuses the new
/// entries. (etcd: TestFollowerCheckMsgApp.)
#[test]
fn an_append_that_does_not_follow_is_refused() {
    struct Case {
        prev: (u64, u64),
        reply: AppendReply,
    }
    let accepted = |prev, index| Case { prev, reply: AppendReply::Accepted { index, commit: 0 } };
    let rejected = |prev: (u64, u64), hint: (u64, u64)| Case {
        prev,
        reply: AppendReply::Rejected { prev: prev.1, hint: LogId::new(hint.0, hint.1) },
    };
    let cases = [
        // What is committed matches without looking.
        accepted((0, 0), 1),
        accepted((1, 1), 1),
        accepted((2, 2), 2),
        // Of another term: the hint is the last entry that may agree.
        rejected((1, 2), (1, 1)),
        // Not there: the last entry that is.
        rejected((3, 3), (2, 2)),
        rejected((2, 9), (2, 2)),
    ];
    for Case { prev, reply } in cases {
        let mut node = server(1, &[1, 2, 3]).log(&[1, 2]).commit(1).start();
        node.settle();
        let sent = node.ask(append(2, 1, 3, prev, &[], 0));
        assert_eq!(bodies_to(&sent, 2), [Body::AppendEntriesReply(reply)], "after {prev:?}");
    }
}

/// If an existing entry conflicts with a new one, it and all that follow are deleted; new entries
/// that are not in the log are appended. (etcd: TestFollowerAppendEntries.)
#[test]
fn conflicting_entries_are_replaced_and_others_kept() {
    type Position = (u64, u64);
    type Case<'a> = (Position, &'a [u64], &'a [u64], &'a [Position]);
    let cases: [Case<'_>; 4] = [
        // previous entry, new entries → the log, what is written of it
        ((2, 2), &[3], &[1, 2, 3], &[(3, 3)]),
        ((1, 1), &[3, 4], &[1, 3, 4], &[(2, 3), (3, 4)]),
        ((0, 0), &[1], &[1, 2], &[]),
        ((0, 0), &[3], &[3], &[(1, 3)]),
    ];
    for (prev, terms, log, written) in cases {
        let mut node = server(1, &[1, 2, 3]).log(&[1, 2]).start();
        node.settle();
        node.hold_writes = true;
        node.take(append(2, 1, 4, prev, terms, 0));
        node.settle();
        assert_eq!(node.terms(), log, "{terms:?} after {prev:?}");
        let pieces = node.writes.iter().flat_map(|w| w.entries().iter());
        let pieces: Vec<_> = pieces.map(|e| (e.id.index, e.id.term)).collect();
        assert_eq!(pieces, written);
    }
}

/// When a leader first comes to power, it initialises all nextIndex values to just after its last
/// entry.
#[test]
fn a_new_leader_tries_after_its_last_entry_first() {
    let mut node = server(1, &[1, 2, 3]).log(&[1, 1, 2]).start();
    node.stand();
    let sent = node.ask(grant(2, 1, 3, true));
    for m in of_kind(&sent, Kind::Append) {
        let Body::AppendEntries { prev, entries, .. } = m.body else { continue };
        assert_eq!(prev, LogId::new(2, 3));
        assert_eq!(entries.len(), 1, "its own first entry");
    }
}

/// After a rejection the leader decrements nextIndex and retries, and finally they match.
#[test]
fn a_rejection_moves_next_back_until_the_logs_match() {
    let mut node = server(1, &[1, 2, 3]).log(&[1, 1, 2]).lead();
    let sent = node.ask(rejected(2, 1, 3, 3, (1, 1)));
    let [Body::AppendEntries { prev, entries, .. }] = &bodies_to(&sent, 2)[..] else {
        panic!("one append: {sent:?}")
    };
    assert_eq!((*prev, entries.len()), (LogId::new(1, 1), 3));
    node.take(accepted(2, 1, 3, 4));
    assert_eq!(node.progress(2).matched, 4);
}

/// What an old leader is told (index 0: only the term) says nothing of the log, so it does not undo
/// what a rejection has found: with compacted entries the follower would wait for a snapshot that
/// it does not need, for ever if none can be made. (Found by the simulator, seed 645.)
#[test]
fn an_answer_to_an_old_leader_does_not_end_a_probe() {
    let setup = server(1, &[1, 2, 3]).after((1, 5)).log(&[1, 1]).term(1).commit(5);
    let mut node = setup.lead();
    assert_eq!(node.raw.last(), LogId::new(2, 8));
    // Both arrive before the leader has time to do anything.
    node.take(rejected(2, 1, 2, 7, (1, 6)));
    node.take(accepted(2, 1, 2, 0));
    let sent = node.settle();
    let appends = bodies_to(&sent, 2);
    let [Body::AppendEntries { prev, entries, .. }] = &appends[..] else {
        panic!("one append, not {appends:?}");
    };
    assert_eq!((*prev, entries.len()), (LogId::new(1, 6), 2), "from where the logs agree");
}

/// The follower includes the term of the conflicting entry, so that one AppendEntries is needed
/// for each term with conflicts, rather than one for each entry. (R7.)
#[test]
fn conflicts_cost_a_round_trip_a_term_not_an_entry() {
    for conflicts in [1, 2, 50, 51, 100, 1_000, 5_000] {
        let mut longer = vec![1];
        longer.extend(std::iter::repeat_n(3, conflicts));
        let mut other = vec![1];
        other.extend(std::iter::repeat_n(2, conflicts));
        let mut net = Net::of([
            server(1, &[1, 2, 3]).log(&longer),
            server(2, &[1, 2, 3]).log(&other).term(3),
            server(3, &[1, 2, 3]).log(&longer),
        ]);
        net.campaign(1);
        net.assert_equal();
        let rounds = net.arrived[&Kind::Append];
        // For each of two followers: the probe, one a term that differs, the entries, the commit.
        assert!(rounds <= 2 * (2 + 3), "{rounds} appends for {conflicts} conflicts");
    }
}

/// Figure 7: the leader makes each follower's log a copy of its own, whatever is missing or extra
/// there. (etcd: TestLeaderSyncFollowerLog.)
#[test]
fn figure_7() {
    let lead: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for follower in followers {
        let mut net = Net::of([
            server(1, &[1, 2, 3]).log(lead).term(8).commit(lead.len() as u64),
            server(2, &[1, 2, 3]).log(follower).term(7),
        ]);
        // The third votes for the leader, and is not heard of again.
        net.node(1).raw.campaign();
        net.gather();
        net.post([grant(3, 1, 9, true)]);
        net.pump();
        assert_eq!(net.role(1), RoleKind::Leader);
        net.put(1, "x");
        let expected: Vec<u64> = lead.iter().copied().chain([9, 9]).collect();
        assert_eq!(net.node(2).terms(), expected, "from {follower:?}");
        net.assert_equal();
    }
}

/// A leader never overwrites or deletes entries in its log; it only appends.
#[test]
fn a_leader_ignores_appends_of_its_own_term() {
    let mut node = leader();
    let before = (node.raw.last(), node.raw.hard_state(), node.raw.role());
    node.take(append(2, 1, 1, (0, 0), &[1, 1, 1], 3));
    node.settle();
    assert_eq!((node.raw.last(), node.raw.hard_state(), node.raw.role()), before);
}

/// A single slow follower does not hold up the others.
#[test]
fn a_minority_of_slow_followers_costs_nothing() {
    let mut net = group(5);
    net.campaign(1);
    net.isolate(4);
    net.isolate(5);
    for n in 0..10 {
        net.put(1, &format!("{n}"));
        assert_eq!(net.commit(1), n + 2);
    }
}

/// The acknowledgement of a follower says that the entries are on its disk, not only in memory.
#[test]
fn a_follower_acknowledges_what_is_on_its_disk() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.hold_writes = true;
    assert!(node.ask(append(2, 1, 1, (0, 0), &[1, 1], 0)).is_empty());
    let sent = node.persist();
    assert_eq!(sent, [accepted(1, 2, 1, 2)]);
    assert_eq!(node.storage.last(), LogId::new(1, 2));
}
