//! The window, the three flows, and what keeps `matched < next` (R2, R4).

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{Flow, Inflights, Progress, ProgressMap, Window};
use crate::types::{Index, NodeId};

const WINDOW: Window = Window { appends_max: 4, bytes_max: 0 };

fn probe(matched: Index, next: Index) -> Progress {
    Progress { matched, ..Progress::new(next, false) }
}

fn replicate(matched: Index, next: Index) -> Progress {
    let mut pr = probe(matched, next);
    pr.become_replicate();
    pr.next = next;
    pr
}

fn snapshot(matched: Index, pending: Index) -> Progress {
    let mut pr = probe(matched, matched + 1);
    pr.become_snapshot(pending);
    pr
}

// ---- Inflights ----

#[derive(Clone, Debug)]
enum Op {
    Add { bytes: u64 },
    Free { to: u64 },
    Reset,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0u64..100).prop_map(|bytes| Op::Add { bytes }),
        3 => (0u64..120).prop_map(|to| Op::Free { to }),
        1 => Just(Op::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// etcd: TestInflightsAdd, TestInflightFreeTo, TestInflightsFull, TestInflightsReset; R2: the
    /// bytes are always the sum of what is on its way.
    #[test]
    fn a_window_is_a_queue_with_a_sum(
        ops in proptest::collection::vec(op(), 0..60),
        appends_max in 1usize..6,
        bytes_max in 0u64..300,
    ) {
        let window = Window { appends_max, bytes_max };
        let mut inflights = Inflights::default();
        let mut model: VecDeque<(Index, u64)> = VecDeque::new();
        let mut last = 0;
        for op in ops {
            match op {
                Op::Add { bytes } if !inflights.is_full(window) => {
                    last += 1 + bytes % 3;
                    inflights.add(window, last, bytes);
                    model.push_back((last, bytes));
                }
                Op::Add { .. } => {}
                Op::Free { to } => {
                    inflights.free_to(to);
                    model.retain(|(index, _)| *index > to);
                }
                Op::Reset => {
                    inflights = Inflights::default();
                    model.clear();
                }
            }
            let bytes: u64 = model.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(inflights.count(), model.len());
            prop_assert_eq!(inflights.bytes(), bytes);
            let full = model.len() >= appends_max || (bytes_max != 0 && bytes >= bytes_max);
            prop_assert_eq!(inflights.is_full(window), full);
        }
    }
}

#[test]
#[should_panic(expected = "nothing is sent into a full window")]
fn a_full_window_takes_nothing() {
    let mut inflights = Inflights::default();
    let window = Window { appends_max: 1, bytes_max: 0 };
    inflights.add(window, 1, 0);
    inflights.add(window, 2, 0);
}

/// R2: each new stream starts with an empty window.
#[test]
fn a_new_stream_forgets_what_was_on_its_way() {
    let window = Window { appends_max: 2, bytes_max: 100 };
    let mut pr = replicate(0, 1);
    for round in 1..=100 {
        pr.sent(window, Some(round), 100);
        assert!(pr.is_paused(), "the bytes are used up");
        pr.become_probe();
        pr.become_replicate();
        let inflights = pr.inflights().expect("streaming");
        assert_eq!((inflights.count(), inflights.bytes()), (0, 0));
        assert!(!pr.is_paused());
    }
}

// ---- Progress ----

/// etcd: TestProgressIsPaused, TestProgressPaused.
#[test]
fn each_flow_pauses_in_its_own_way() {
    let mut pr = probe(0, 1);
    assert!(!pr.is_paused());
    pr.sent(WINDOW, None, 0);
    assert!(!pr.is_paused(), "an empty probe is no reason to wait");
    pr.sent(WINDOW, Some(5), 9);
    assert!(pr.is_paused(), "one probe with entries at a time");
    assert_eq!(pr.next, 1, "a probe does not run ahead");

    let mut pr = replicate(0, 1);
    for last in 1..=3 {
        pr.sent(WINDOW, Some(last), 9);
        assert!(!pr.is_paused());
        assert_eq!(pr.next, last + 1, "a stream runs ahead");
    }
    pr.sent(WINDOW, Some(4), 9);
    assert!(pr.is_paused(), "the window is full");

    assert!(snapshot(0, 9).is_paused());
}

/// etcd: TestProgressResume, TestProgressResumeByHeartbeatResp.
#[test]
fn news_of_the_follower_resumes() {
    let mut pr = probe(0, 1);
    pr.pause();
    pr.resume();
    assert!(!pr.is_paused(), "heard from");
    pr.pause();
    assert!(pr.reject(0, 0));
    assert!(!pr.is_paused(), "an answer to the probe");
    pr.pause();
    assert!(pr.acknowledge(3));
    assert!(!pr.is_paused(), "an acknowledgement");
    let mut pr = snapshot(0, 9);
    pr.resume();
    assert!(pr.is_paused(), "a snapshot is waited for whatever is heard");
}

/// etcd: TestProgressBecomeProbe.
#[test]
fn probing_starts_after_what_is_known() {
    let mut pr = replicate(1, 5);
    pr.become_probe();
    assert_eq!((pr.matched, pr.next), (1, 2));

    let mut pr = snapshot(1, 10);
    pr.become_probe();
    assert_eq!((pr.matched, pr.next), (1, 11), "the snapshot has arrived");

    let mut pr = snapshot(1, 10);
    pr.become_probe_after_failure();
    assert_eq!((pr.matched, pr.next), (1, 2), "the snapshot has failed");
    assert!(pr.is_paused());
}

/// etcd: TestProgressBecomeReplicate, TestProgressBecomeSnapshot.
#[test]
fn streaming_starts_after_match_and_a_snapshot_covers_to_its_end() {
    let mut pr = probe(1, 5);
    pr.become_replicate();
    assert_eq!((pr.matched, pr.next), (1, 2));
    pr.become_snapshot(10);
    assert_eq!((pr.matched, pr.next), (1, 11));
    assert!(matches!(pr.flow, Flow::Snapshot { pending: 10 }));
}

/// etcd: TestProgressUpdate.
#[test]
fn an_acknowledgement_never_goes_back() {
    let cases = [
        // acknowledged → matched, next, news
        (2, 3, 5, false),
        (3, 3, 5, false),
        (4, 4, 5, true),
        (5, 5, 6, true),
    ];
    for (index, matched, next, news) in cases {
        let mut pr = replicate(3, 5);
        assert_eq!(pr.acknowledge(index), news, "{index}");
        assert_eq!((pr.matched, pr.next), (matched, next), "{index}");
    }
}

/// etcd: TestProgressMaybeDecr; R4: an old rejection moves nothing.
#[test]
fn a_rejection_counts_only_for_the_append_it_answers() {
    let replicate_cases = [
        // matched, next, rejected, hint → news, next
        (5, 10, 5, 5, false, 10),
        (5, 10, 4, 4, false, 10),
        (5, 10, 9, 9, true, 6),
        (5, 10, 9, 0, true, 6),
    ];
    for (matched, next, rejected, hint, news, expected) in replicate_cases {
        let mut pr = replicate(matched, next);
        assert_eq!(pr.reject(rejected, hint), news);
        assert_eq!(pr.next, expected, "replicate, rejected {rejected}, hint {hint}");
    }
    let probe_cases = [
        (0, 0, 0, 0, false, 0),
        (0, 10, 5, 5, false, 10),
        (0, 10, 9, 9, true, 9),
        (0, 10, 9, 2, true, 3),
        (0, 10, 9, 0, true, 1),
        (4, 10, 9, 1, true, 5),
        (0, 10, 9, Index::MAX, true, 9),
    ];
    for (matched, next, rejected, hint, news, expected) in probe_cases.into_iter().skip(1) {
        for mut pr in [probe(matched, next), snapshot(matched, next - 1)] {
            pr.pause();
            assert_eq!(pr.reject(rejected, hint), news);
            assert_eq!(pr.next, expected, "probe, rejected {rejected}, hint {hint}");
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Acknowledge(Index),
    Reject(Index, Index),
    Sent(Option<u64>),
    Probe,
    Replicate,
    Snapshot(Index),
    Failed,
    Resume,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u64..30).prop_map(Event::Acknowledge),
        4 => (0u64..30, 0u64..30).prop_map(|(at, hint)| Event::Reject(at, hint)),
        4 => proptest::option::of(1u64..4).prop_map(Event::Sent),
        1 => Just(Event::Probe),
        2 => Just(Event::Replicate),
        1 => (0u64..30).prop_map(Event::Snapshot),
        1 => Just(Event::Failed),
        1 => Just(Event::Resume),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// R4: whatever comes in whatever order, `matched < next`, `matched` never falls, and what was
    /// told of the commit index is within what was sent.
    #[test]
    fn matched_stays_below_next(events in proptest::collection::vec(event(), 0..60)) {
        let mut pr = probe(0, 1);
        for event in events {
            let matched = pr.matched;
            match event {
                Event::Acknowledge(index) => {
                    let news = pr.acknowledge(index);
                    prop_assert_eq!(news, index > matched);
                    prop_assert_eq!(pr.matched, matched.max(index));
                }
                Event::Reject(at, hint) => {
                    let next = pr.next;
                    let news = pr.reject(at, hint);
                    prop_assert!(pr.next <= next, "a rejection never moves ahead");
                    prop_assert!(news || pr.next == next);
                }
                Event::Sent(entries) if !pr.is_paused() => {
                    // Into a full window goes only an append without entries.
                    let is_full = pr.inflights().is_some_and(|i| i.is_full(WINDOW));
                    let last = entries.filter(|_| !is_full).map(|n| pr.next + n - 1);
                    pr.sent(WINDOW, last, 10);
                    pr.sent_commit(pr.matched);
                }
                Event::Probe => pr.become_probe(),
                Event::Replicate => pr.become_replicate(),
                Event::Snapshot(ahead) => pr.become_snapshot(pr.matched + 1 + ahead),
                Event::Failed => pr.become_probe_after_failure(),
                Event::Resume => pr.resume(),
                Event::Sent(_) => {}
            }
            prop_assert!(pr.matched < pr.next);
            prop_assert!(pr.matched >= matched, "what is on a disk stays there");
            if let Some(inflights) = pr.inflights() {
                prop_assert!(inflights.count() <= WINDOW.appends_max);
            }
        }
    }
}

/// raft-rs: test_msg_app_flow_control_with_freeing_resources. The buffer of what is on its way goes
/// when nothing is, and a peer that is idle has none; the window is as wide as before.
#[test]
fn an_idle_peer_has_no_buffer() {
    let window = Window { appends_max: 10, bytes_max: 0 };
    let mut all = ProgressMap::default();
    let id = NodeId::new(1).expect("not zero");
    let mut pr = Progress::new(1, false);
    pr.become_replicate();
    all.insert(id, pr);
    let capacity = |all: &mut ProgressMap| match &all.get(id).expect("inserted").flow {
        Flow::Replicate { inflights, .. } => {
            inflights.0.as_ref().map_or(0, |sent| sent.appends.capacity())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(capacity(&mut all), 0, "before anything is sent");
    for last in 1..=10 {
        all.get_mut(id).expect("inserted").sent(window, Some(last), 1);
    }
    all.cool();
    assert!(capacity(&mut all) >= 10, "something is on its way");
    let Flow::Replicate { inflights, .. } = &mut all.get_mut(id).expect("inserted").flow else {
        panic!("it streams")
    };
    assert!(inflights.is_full(window));
    inflights.free_to(10);
    all.cool();
    assert_eq!(capacity(&mut all), 0);
    for last in 11..=20 {
        all.get_mut(id).expect("inserted").resume();
        all.get_mut(id).expect("inserted").sent(window, Some(last), 1);
    }
    assert!(all.get(id).and_then(Progress::inflights).is_some_and(|i| i.is_full(window)));
}
