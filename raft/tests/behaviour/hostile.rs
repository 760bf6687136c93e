//! What a peer or a disk claims is an error, never a panic, and changes nothing that counts.

use raft::{
    Body, ConfState, Config, ConfigError, Entry, HardState, Index, LogId, MemStorage, Message,
    NewError, RawNode, RoleKind, Run, StepError, Storage, StorageError,
};

use crate::common::build::{
    accepted, heartbeat_reply, install, pre_vote, rejected, snapshot, voters,
};
use crate::common::{Node, append, entries, grant, heartbeat, id, ids, message, server, vote};

/// A follower in term 5 with 1@1 2@2 3@5, committed up to 2.
fn follower() -> Node {
    let mut node = server(1, &[1, 2, 3]).log(&[1, 2, 5]).commit(2).start();
    node.settle();
    node
}

fn assert_refused(node: &mut Node, message: Message, why: StepError) {
    let before = (node.raw.hard_state(), node.raw.last(), node.raw.role(), node.raw.leader());
    assert_eq!(node.step(message.clone()), Err(why), "{message:?}");
    let after = (node.raw.hard_state(), node.raw.last(), node.raw.role(), node.raw.leader());
    assert_eq!(before, after, "{message:?} changes nothing");
}

/// etcd: TestLogSlice: entries follow the previous entry, terms do not fall, none is above the
/// leader's.
#[test]
fn an_append_that_cannot_be_is_refused() {
    let with =
        |prev: LogId, entries| message(2, 1, 6, Body::AppendEntries { prev, entries, commit: 0 });
    let prev = LogId::new(5, 3);
    let impossible = [
        with(prev, entries(5, &[6])),            // a gap
        with(prev, entries(3, &[6])),            // an overlap
        with(prev, entries(4, &[4])),            // a term below the one before
        with(prev, entries(4, &[6, 7])),         // a term above the leader's
        with(LogId::new(7, 3), entries(4, &[])), // the same for the one before
        with(LogId::ZERO, entries(1, &[0])),     // no term at all
        with(LogId::new(5, Index::MAX), entries(1, &[])),
    ];
    for message in impossible {
        assert_refused(&mut follower(), message, StepError::Malformed);
    }
    let last = Run::new(6, Index::MAX, vec![Entry::default()]);
    assert_eq!(last, None, "there is no index after the last");
    let last = Run::new(6, Index::MAX - 1, vec![Entry::default()]).expect("one entry fits");
    let message = with(LogId::new(5, Index::MAX - 2), last.into());
    assert_refused(&mut follower(), message, StepError::Malformed);
}

/// Nobody counts to 2^63: who names such a term is damaged, and must not make this server unable
/// to stand for election.
#[test]
fn a_term_out_of_reach_is_refused() {
    for term in [u64::MAX, u64::MAX >> 1] {
        for message in [
            heartbeat(2, 1, term, 0),
            append(2, 1, term, (5, 3), &[], 0),
            vote(2, 1, term, (9, 9)),
            pre_vote(2, 1, term, (9, 9)),
            grant(2, 1, term, false),
            accepted(2, 1, term, 0),
        ] {
            assert_refused(&mut follower(), message, StepError::Malformed);
        }
    }
}

/// What `fuzz` found: a server that was brought to the very end of what can be counted wrote a term
/// with which it refused to start. What it believes is far enough from there.
#[test]
fn a_server_counts_on_from_the_highest_number_that_is_believed() {
    let highest = (u64::MAX >> 2) - 1;
    for message in [heartbeat(2, 1, highest + 1, 0), vote(2, 1, highest + 1, (9, 9))] {
        assert_refused(&mut follower(), message, StepError::Malformed);
    }
    let mut node = follower();
    node.ask(install(2, 1, highest, snapshot((highest, highest), voters(&[1]))));
    node.win();
    node.raw.propose("on and on".into()).expect("a leader");
    node.settle();
    node.restart();
    assert_eq!(node.raw.term(), highest + 1);
    assert_eq!(node.raw.last(), LogId::new(highest + 1, highest + 2));
}

/// Only what clients ask is without a term. An append of no term must not pass for the leader's.
#[test]
fn a_message_without_a_term_is_refused() {
    for message in [
        append(2, 1, 0, (5, 3), &[], 3),
        heartbeat(2, 1, 0, 3),
        vote(2, 1, 0, (9, 9)),
        grant(2, 1, 0, true),
        accepted(2, 1, 0, 3),
        heartbeat_reply(2, 1, 0),
        message(2, 1, 0, Body::TimeoutNow),
        install(2, 1, 0, snapshot((5, 9), voters(&[1, 2]))),
    ] {
        assert_refused(&mut follower(), message.clone(), StepError::Malformed);
        let mut leader = server(1, &[1, 2, 3]).log(&[1]).lead();
        assert_refused(&mut leader, message, StepError::Malformed);
    }
}

/// A snapshot above its sender's term would make a log that its receiver cannot go on with.
#[test]
fn a_snapshot_that_cannot_be_is_refused() {
    let both = ConfState { learners: ids(&[1]), ..voters(&[1, 2]) };
    let no_incoming = ConfState { voters_outgoing: ids(&[1, 2]), ..ConfState::default() };
    for claimed in [
        snapshot((7, 9), voters(&[1, 2])),
        snapshot((6, Index::MAX), voters(&[1, 2])),
        snapshot((6, 9), both),
        snapshot((6, 9), no_incoming),
    ] {
        assert_refused(&mut follower(), install(2, 1, 6, claimed), StepError::Malformed);
    }
}

/// etcd panics: a committed entry never changes, whatever a leader sends.
#[test]
fn an_append_over_a_committed_entry_is_refused() {
    let mut node = follower();
    node.take(heartbeat(2, 1, 6, 0));
    let other = append(2, 1, 6, (2, 2), &[6], 0);
    node.ask(other);
    assert_eq!(node.terms(), [1, 2, 6], "what is not committed may change");
    let mut node = server(1, &[1, 2, 3]).log(&[1, 2, 5]).commit(3).start();
    node.settle();
    // It follows what is committed of it, but 3@5 would be 3@6.
    let answer = node.ask(append(2, 1, 6, (2, 2), &[6], 0));
    assert_eq!(answer, [accepted(1, 2, 6, 3)], "answered by what is committed");
    assert_eq!(node.terms(), [1, 2, 5]);
}

/// etcd panics: a heartbeat or an acknowledgement beyond the log shows that somebody lost data.
#[test]
fn what_names_more_than_the_log_has_is_refused() {
    let mut node = follower();
    node.take(heartbeat(2, 1, 6, 0));
    let beyond = StepError::BeyondLog { index: 4, last: 3 };
    assert_refused(&mut node, heartbeat(2, 1, 6, 4), beyond);

    let mut node = server(1, &[1, 2, 3]).log(&[1]).lead();
    for index in [3, Index::MAX] {
        let beyond = StepError::BeyondLog { index, last: 2 };
        assert_refused(&mut node, accepted(2, 1, 2, index), beyond);
    }
    assert_eq!(node.raw.commit(), 0);
}

/// Hints and rejections with any numbers move a probe somewhere between match and the end.
#[test]
fn any_hint_is_survived() {
    for prev in [0, 1, 2, 3, Index::MAX] {
        for hint in [(0, 0), (0, Index::MAX), (9, 1), (1, Index::MAX), (u64::MAX, u64::MAX)] {
            let mut node = server(1, &[1, 2, 3]).log(&[1, 1]).lead();
            node.ask(rejected(2, 1, 2, prev, hint));
            let pr = node.progress(2);
            assert!(pr.matched < pr.next && pr.next <= node.raw.last().index + 1);
        }
    }
}

/// etcd: TestRawNodeStep, TestIsLocalMsg, TestIsResponseMsg: what cannot come from outside, and
/// answers of strangers.
#[test]
fn messages_of_nobody_are_refused() {
    let mut node = follower();
    let to_other = heartbeat(2, 3, 5, 0);
    assert_refused(&mut node, to_other, StepError::NotForMe { to: id(3) });
    for own in [grant(1, 1, 6, true), accepted(1, 1, 6, 3), heartbeat(1, 1, 6, 0)] {
        assert_refused(&mut node, own, StepError::FromMyself);
    }
    for reply in [grant(9, 1, 6, true), accepted(9, 1, 6, 3), heartbeat_reply(9, 1, 6)] {
        assert_refused(&mut node, reply, StepError::PeerNotFound);
    }
    // Requests of strangers are answered: they may be members this server does not know of yet.
    assert_eq!(node.ask(vote(9, 1, 6, (9, 9))), [grant(1, 9, 6, true)]);
}

// ---- What a disk claims ----

/// A storage that says anything.
struct Claims(raft::InitialState);

impl Storage for Claims {
    fn initial_state(&self) -> Result<raft::InitialState, StorageError> {
        Ok(self.0.clone())
    }

    fn entries(&self, _: std::ops::Range<Index>, _: u64) -> Result<raft::Entries, StorageError> {
        Err(StorageError::Unavailable)
    }

    fn snapshot(&self) -> Result<raft::Snapshot, StorageError> {
        Err(StorageError::SnapshotUnavailable)
    }
}

/// raft-rs: test_snapshot_with_min_term (the first snapshot has a term, too), and every other way in
/// which a disk may contradict itself.
#[test]
fn a_disk_that_contradicts_itself_is_refused() {
    let good = || raft::InitialState {
        hard_state: HardState { term: 3, vote: None, commit: 4 },
        conf_state: voters(&[1, 2, 3]),
        compacted: LogId::new(1, 2),
        terms: vec![LogId::new(1, 3), LogId::new(3, 5)],
        last: 6,
    };
    let start =
        |state: raft::InitialState| RawNode::new(Config::new(id(1)), Box::new(Claims(state)));
    assert!(start(good()).is_ok());
    type Damage = fn(&mut raft::InitialState);
    let damages: [Damage; 11] = [
        |s| s.hard_state.commit = 7,
        |s| s.hard_state.term = 2,
        |s| s.hard_state = HardState::default(),
        |s| s.hard_state.term = u64::MAX,
        |s| s.last = 4,
        |s| s.last = Index::MAX,
        |s| s.terms.reverse(),
        |s| s.terms.clear(),
        |s| s.conf_state.learners = ids(&[1]),
        // Terms begin at 1, whether the first entries are in the log or compacted.
        |s| s.compacted.term = 0,
        |s| {
            s.compacted = LogId::ZERO;
            s.terms = vec![LogId::new(0, 1), LogId::new(3, 5)];
        },
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        let mut state = good();
        damage(&mut state);
        assert!(matches!(start(state), Err(NewError::Inconsistent(_))), "damage {n}");
    }
    for applied in [1, 7] {
        let mut config = Config::new(id(1));
        config.applied = applied;
        let started = RawNode::new(config, Box::new(Claims(good())));
        assert!(matches!(started, Err(NewError::Inconsistent(_))), "applied {applied}");
    }
}

/// A storage that cannot be read stops a start, and stops nothing else.
#[test]
fn a_storage_that_fails_later_is_waited_for() {
    let state = raft::InitialState {
        hard_state: HardState { term: 1, vote: None, commit: 3 },
        conf_state: voters(&[1, 2, 3]),
        compacted: LogId::ZERO,
        terms: vec![LogId::new(1, 1)],
        last: 3,
    };
    let mut raw = RawNode::new(Config::new(id(1)), Box::new(Claims(state))).expect("readable");
    assert!(raw.ready().apply.is_none(), "nothing can be read");
    assert_eq!(raw.applied_index(), 0);
    // Nor can it know whether a membership change waits to be applied.
    raw.campaign();
    assert_eq!(raw.role(), RoleKind::Follower);
}

/// What `fuzz` found: the storage's snapshot ends before what is compacted, so it is of no use: with
/// it a follower would be thought to have less than it has acknowledged, and lack what is compacted
/// all the same. It is waited for.
#[test]
fn a_snapshot_that_is_too_old_is_waited_for() {
    let mut leader = server(1, &[1, 2, 3]).log(&[1, 1, 1]).lead();
    for of in [2, 3] {
        leader.take(accepted(of, 1, 2, 4));
    }
    leader.settle();
    assert_eq!((leader.raw.commit(), leader.raw.applied_index()), (4, 4));
    leader.storage.set_snapshot(snapshot((1, 2), voters(&[1, 2, 3])));
    leader.take(message(3, 1, 2, Body::HeartbeatReply { read: 0, commit: 0 }));
    leader.raw.compact(4).expect("applied");
    leader.raw.propose("5".into()).expect("it leads");
    leader.settle();
    // 2 was lost sight of, and 4, which precedes what it lacks, is compacted further on.
    for of in [2, 3] {
        leader.take(accepted(of, 1, 2, 5));
    }
    leader.settle();
    leader.raw.report_unreachable(id(2));
    leader.raw.propose("6".into()).expect("it leads");
    leader.settle();
    leader.take(accepted(3, 1, 2, 6));
    leader.settle();
    leader.raw.compact(6).expect("applied");
    let sent = leader.ask(heartbeat_reply(2, 1, 2));
    assert_eq!(sent, [], "the snapshot ends before what 2 has");
    assert_eq!((leader.progress(2).matched, leader.progress(2).next), (5, 6));
    leader.storage.set_snapshot(snapshot((2, 6), voters(&[1, 2, 3])));
    let sent = leader.ask(heartbeat_reply(2, 1, 2));
    assert!(matches!(sent[..], [Message { body: Body::InstallSnapshot { .. }, .. }]), "{sent:?}");
}

/// raft-rs: test_new_raft_with_bad_config_errors.
#[test]
fn settings_that_contradict_each_other_are_refused() {
    type Tune = fn(&mut Config);
    let bad: [Tune; 10] = [
        |c| c.heartbeat_ticks = 0,
        |c| c.election_ticks = c.heartbeat_ticks,
        |c| c.election_ticks = u32::MAX,
        |c| c.inflight_max = 0,
        |c| c.inflight_bytes_max = c.append_bytes_max - 1,
        |c| c.apply_bytes_max = 0,
        |c| c.election_ticks_range = Some(10..10),
        |c| c.election_ticks_range = Some(9..20),
        |c| {
            c.read_mode = raft::ReadMode::Lease;
            c.check_quorum = false;
        },
        |c| c.election_ticks = 1,
    ];
    for (n, tune) in bad.into_iter().enumerate() {
        let mut config = Config::new(id(1));
        tune(&mut config);
        let refused: Result<(), ConfigError> = config.validate();
        assert!(refused.is_err(), "{n}");
        let started = RawNode::new(config, Box::new(MemStorage::default()));
        assert!(matches!(started, Err(NewError::Config(_))), "{n}");
    }
}
