//! The log: tables of single steps, in the order in which etcd's log_test.go and
//! log_unstable_test.go have them. `model` compares long runs with a vector.

mod model;

use bytes::Bytes;

use super::{Appended, Log, Terms};
use crate::entry::{Entries, Entry, Run};
use crate::error::{CompactError, StepError, StorageError};
use crate::storage::{MemStorage, Storage};
use crate::types::{Index, LogId, Snapshot, SnapshotMeta, Term};

/// What an entry says follows from its position, as Log Matching has it.
fn payload(id: LogId) -> Bytes {
    Bytes::from(format!("{id}"))
}

fn entries(first: Index, terms: &[Term]) -> Entries {
    let mut out = Entries::new();
    for (term, index) in terms.iter().zip(first..) {
        let entry = Entry::normal(payload(LogId::new(*term, index)));
        out.push(Run::new(*term, index, vec![entry]).expect("not empty")).expect("consecutive");
    }
    out
}

fn ids(entries: &Entries) -> Vec<(Index, Term)> {
    entries.iter().map(|e| (e.id.index, e.id.term)).collect()
}

/// A log without limits over an empty storage that begins after `compacted`.
fn log_after(compacted: LogId) -> Log {
    Log::new(Terms::new(compacted), Box::new(MemStorage::default()), u64::MAX)
}

/// A log of entries of those terms from index 1 on, none of them written.
fn log(terms: &[Term]) -> Log {
    let mut log = log_after(LogId::ZERO);
    let appended = log.append(LogId::ZERO, entries(1, terms), 0).expect("an empty log");
    assert_eq!(appended, Appended::Matches(terms.len() as u64));
    log
}

/// The same, all of it stored and stable.
fn stored(terms: &[Term]) -> Log {
    let storage = MemStorage::default();
    storage.append(&entries(1, terms));
    let state = storage.initial_state().expect("in memory");
    let terms = Terms::from_runs(state.compacted, &state.terms, state.last).expect("consistent");
    Log::new(terms, Box::new(storage), u64::MAX)
}

fn all_terms(log: &Log) -> Vec<Term> {
    (log.first()..=log.last()).map(|i| log.term(i).expect("no gap")).collect()
}

fn snapshot(term: Term, index: Index) -> Snapshot {
    let meta = SnapshotMeta { last: LogId::new(term, index), ..SnapshotMeta::default() };
    Snapshot { meta, data: Bytes::new() }
}

// ---- log_test.go ----

/// etcd: TestFindConflict.
#[test]
fn the_first_difference_is_the_first_entry_not_held() {
    let log = log(&[1, 2, 3]);
    type Case = (Index, &'static [Term], Option<(Index, Term)>);
    let cases: [Case; 9] = [
        (1, &[1, 2, 3], None),
        (2, &[2, 3], None),
        (3, &[3], None),
        (1, &[1, 2, 3, 4, 4], Some((4, 4))),
        (2, &[2, 3, 4, 4], Some((4, 4))),
        (4, &[4, 4], Some((4, 4))),
        (1, &[4, 4], Some((1, 4))),
        (2, &[1, 4, 4], Some((2, 1))),
        (3, &[1, 2, 4, 4], Some((3, 1))),
    ];
    for (first, terms, expected) in cases {
        let found = log.first_difference(&entries(first, terms));
        assert_eq!(found.map(|id| (id.index, id.term)), expected, "{terms:?} at {first}");
    }
}

/// etcd: TestAppend, TestUnstableTruncateAndAppend: the log afterwards, and the first entry to be
/// written.
#[test]
fn appending_replaces_from_the_first_difference() {
    let cases: [(Index, &[Term], &[Term], Index); 4] = [
        (3, &[2], &[1, 2, 2], 3),
        (1, &[2], &[2], 1),
        (2, &[3, 3], &[1, 3, 3], 2),
        (3, &[2, 2, 3], &[1, 2, 2, 2, 3], 3),
    ];
    for (first, terms, expected, unwritten) in cases {
        let mut log = stored(&[1, 2]);
        let prev = LogId::new(log.term(first - 1).expect("held"), first - 1);
        let appended = log.append(prev, entries(first, terms), 0).expect("nothing is committed");
        assert_eq!(appended, Appended::Matches(first + terms.len() as u64 - 1));
        assert_eq!(all_terms(&log), expected);
        assert_eq!(log.take_unhanded().first(), Some(unwritten));
    }
}

/// etcd: TestLogMaybeAppend; Figure 2, AppendEntries receiver 2 to 5. The log is 1@1 2@2 3@3,
/// committed up to 1.
#[test]
fn an_append_is_checked_then_taken_then_commits() {
    struct Case {
        prev: (Term, Index),
        terms: &'static [Term],
        commit: Index,
        result: Option<Index>,
        committed: Index,
    }
    let case =
        |prev, terms, commit, result, committed| Case { prev, terms, commit, result, committed };
    let cases = [
        // The entry before is of another term, or not there.
        case((2, 3), &[4], 3, None, 1),
        case((3, 4), &[4], 3, None, 1),
        // Nothing new; the commit index is capped by what the message proves.
        case((3, 3), &[], 3, Some(3), 3),
        case((3, 3), &[], 4, Some(3), 3),
        case((3, 3), &[], 2, Some(3), 2),
        case((3, 3), &[], 0, Some(3), 1),
        case((0, 0), &[], 3, Some(0), 1),
        // New entries at the end.
        case((3, 3), &[4], 3, Some(4), 3),
        case((3, 3), &[4], 4, Some(4), 4),
        case((3, 3), &[4], 5, Some(4), 4),
        case((3, 3), &[4, 4], 5, Some(5), 5),
        // New entries in the middle.
        case((2, 2), &[4], 3, Some(3), 3),
        case((1, 1), &[4], 3, Some(2), 2),
        case((1, 1), &[4, 4], 3, Some(3), 3),
    ];
    for Case { prev, terms, commit, result, committed } in cases {
        let mut log = log(&[1, 2, 3]);
        log.commit_to(1);
        let prev = LogId::new(prev.0, prev.1);
        let new = entries(prev.index + 1, terms);
        let appended = log.append(prev, new.clone(), commit).expect("no committed entry differs");
        assert_eq!(appended, result.map_or(Appended::Mismatch, Appended::Matches));
        assert_eq!(log.committed(), committed, "{terms:?} after {prev}, commit {commit}");
        for e in new.iter().filter(|_| result.is_some()) {
            assert!(log.matches(e.id));
        }
    }
}

/// etcd: TestLogMaybeAppend, its last row, a panic there.
#[test]
fn an_append_never_replaces_a_committed_entry() {
    let mut log = log(&[1, 2, 3]);
    log.commit_to(1);
    let refused = log.append(LogId::ZERO, entries(1, &[4]), 3);
    assert_eq!(refused, Err(StepError::ConflictsWithCommitted { at: LogId::new(4, 1) }));
    assert_eq!(all_terms(&log), [1, 2, 3]);
}

/// R5: an old append whose entries are all there changes nothing, however much follows them.
#[test]
fn a_delayed_append_truncates_nothing() {
    let mut log = log(&[1; 10]);
    log.take_unhanded();
    let appended = log.append(LogId::new(1, 3), entries(4, &[1, 1, 1]), 6).expect("held");
    assert_eq!(appended, Appended::Matches(6));
    assert_eq!(log.last(), 10);
    assert!(!log.has_unhanded(), "nothing is written again");
}

/// etcd: TestCompactionSideEffects.
#[test]
fn compaction_forgets_only_what_it_names() {
    let mut log = stored(&[1, 1, 2, 2, 3, 3]);
    log.commit_to(6);
    log.applied_to(4, 0);
    assert_eq!(log.compact(4), Ok(LogId::new(2, 4)));
    assert_eq!((log.first(), log.last()), (5, 6));
    assert_eq!((log.term(3), log.term(4), log.term(6)), (None, Some(2), Some(3)));
    assert!(log.matches(LogId::new(2, 4)) && log.matches(LogId::new(3, 5)));
    log.append(LogId::new(3, 6), entries(7, &[3]), 0).expect("at the end");
    assert_eq!(log.last(), 7);
    assert_eq!(ids(&log.take_unhanded()), [(7, 3)]);
}

/// etcd: TestCompaction.
#[test]
fn compaction_is_refused_outside_of_what_is_settled() {
    let mut log = stored(&[1; 10]);
    log.commit_to(10);
    log.applied_to(8, 0);
    assert_eq!(log.compact(9), Err(CompactError::NotApplied));
    assert_eq!(log.compact(11), Err(CompactError::NotApplied));
    assert_eq!(log.compact(Index::MAX), Err(CompactError::NotApplied));
    assert_eq!(log.compact(0), Err(CompactError::Compacted));
    assert_eq!(log.compact(3), Ok(LogId::new(1, 3)));
    assert_eq!(log.compact(3), Err(CompactError::Compacted));
    assert_eq!(log.compact(2), Err(CompactError::Compacted));
}

/// etcd: TestHasNextCommittedEnts, TestNextCommittedEnts: what may be handed out, by what is
/// committed, stable and pending.
#[test]
fn only_committed_and_stable_entries_are_handed_out() {
    let cases = [
        // committed, stable → with unpersisted entries, without
        (3, 3, 0, 0),
        (5, 4, 5, 4),
        (5, 5, 5, 5),
        (4, 6, 4, 4),
    ];
    for (committed, stable, unpersisted, persisted) in cases {
        for (too, last) in [(true, unpersisted), (false, persisted)] {
            let mut log = log(&[1; 6]);
            log.take_unhanded();
            log.stable_to(LogId::new(1, stable));
            log.commit_to(committed);
            log.applied_to(3, 0);
            assert_eq!(log.has_next_apply(too), last > 0, "{committed} {stable}");
            let page = log.take_next_apply(too).expect("in memory");
            assert_eq!(page.last().map_or(0, |id| id.index), last);
            assert_eq!(page.first(), (last > 0).then_some(4));
            assert!(!log.has_next_apply(too), "each entry is handed out once");
        }
    }
}

/// The same, while a snapshot is to replace the log: nothing is handed out (raft-rs: nothing
/// committed comes with a snapshot).
#[test]
fn nothing_is_applied_while_a_snapshot_is_pending() {
    let mut log = log(&[1; 3]);
    log.restore(snapshot(1, 5));
    log.append(LogId::new(1, 5), entries(6, &[1]), 6).expect("after the snapshot");
    assert_eq!(log.committed(), 6);
    assert!(!log.has_next_apply(true));
    assert!(log.take_next_apply(true).expect("nothing").is_empty());
    log.stable_snapshot_to(5);
    log.applied_to(5, 0);
    assert_eq!(ids(&log.take_next_apply(true).expect("in memory")), [(6, 1)]);
}

/// etcd: TestAcceptApplying, TestAppliedTo: the quota of what is handed out and not yet applied.
#[test]
fn what_is_outstanding_is_bounded() {
    let one = entries(1, &[1]).size();
    let quota = |bytes_max| {
        let mut log = Log::new(Terms::new(LogId::ZERO), Box::new(MemStorage::default()), bytes_max);
        log.append(LogId::ZERO, entries(1, &[1; 9]), 9).expect("an empty log");
        log
    };
    let take = |log: &mut Log| ids(&log.take_next_apply(true).expect("in memory")).len();

    let mut log = quota(3 * one);
    assert_eq!(take(&mut log), 3, "as many as fit");
    assert!(!log.has_next_apply(true), "the quota is used up");
    log.applied_to(1, one);
    assert!(log.has_next_apply(true), "there is room again");
    assert_eq!(take(&mut log), 1, "for one");
    log.applied_to(4, 3 * one);
    assert_eq!(take(&mut log), 3);
    // More is reported than was handed out: the quota does not run below zero.
    log.applied_to(7, 100 * one);
    assert_eq!(take(&mut log), 2);

    let mut log = quota(1);
    assert_eq!(take(&mut log), 1, "at least one, however large");
    assert!(!log.has_next_apply(true));

    // A page that ends short of the quota because the next entry is too large waits, too.
    let mut log = quota(3 * one - 1);
    assert_eq!(take(&mut log), 2);
    assert!(!log.has_next_apply(true));
    log.applied_to(2, 2 * one);
    assert_eq!(take(&mut log), 2);
}

/// etcd: TestNextUnstableEnts, TestUnstableNextEntries, TestUnstableAcceptInProgress,
/// TestUnstableNextSnapshot: what is being written is not handed out again.
#[test]
fn each_entry_is_handed_out_to_be_written_once() {
    let mut log = stored(&[1, 2]);
    assert!(!log.has_unhanded() && log.take_unhanded().is_empty());
    log.append(LogId::new(2, 2), entries(3, &[2, 2]), 0).expect("at the end");
    assert_eq!(ids(&log.take_unhanded()), [(3, 2), (4, 2)]);
    assert!(!log.has_unhanded() && log.has_unstable());
    log.append(LogId::new(2, 4), entries(5, &[3]), 0).expect("at the end");
    assert_eq!(ids(&log.take_unhanded()), [(5, 3)], "only what is new");

    log.restore(snapshot(4, 9));
    assert!(log.has_unhanded_snapshot());
    assert_eq!(log.take_unhanded_snapshot(), Some(Box::new(snapshot(4, 9))));
    assert_eq!(log.take_unhanded_snapshot(), None, "once");
    assert!(log.has_pending_snapshot(), "until it is on disk");
}

/// etcd: TestUnstableTruncateAndAppend with entries in progress: what a write under way covers is
/// handed out again once it is replaced.
#[test]
fn what_is_replaced_is_written_again() {
    for (prev, terms, handed_again) in [
        (LogId::new(1, 4), vec![2], vec![(5, 2)]),
        (LogId::new(1, 2), vec![2, 2], vec![(3, 2), (4, 2)]),
        (LogId::new(1, 1), vec![2], vec![(2, 2)]),
        (LogId::new(1, 5), vec![2, 2], vec![(6, 2), (7, 2)]),
    ] {
        let mut log = log(&[1; 5]);
        log.take_unhanded();
        log.stable_to(LogId::new(1, 3));
        log.append(prev, entries(prev.index + 1, &terms), 0).expect("nothing is committed");
        assert_eq!(ids(&log.take_unhanded()), handed_again);
        assert!(log.stable() <= prev.index, "what replaced it is not on disk");
        assert_eq!(log.stable(), prev.index.min(3));
    }
}

/// etcd: TestCommitTo. It never goes back; beyond the last index it is a broken promise.
#[test]
fn the_commit_index_moves_forward_only() {
    let mut log = log(&[1, 2, 3]);
    assert!(log.commit_to(2));
    assert!(log.commit_to(3));
    assert!(!log.commit_to(1));
    assert!(!log.commit_to(3));
    assert_eq!(log.committed(), 3);
}

#[test]
#[should_panic(expected = "only what is in the log is committed")]
fn what_is_not_there_cannot_be_committed() {
    log(&[1, 2, 3]).commit_to(4);
}

/// etcd: TestStableTo, TestUnstableStableTo: only what is held, was handed out and is news.
#[test]
fn reports_of_what_is_not_held_are_ignored() {
    let cases = [((1, 1), 1), ((2, 2), 2), ((1, 2), 0), ((1, 3), 0), ((3, 3), 0)];
    for ((term, index), stable) in cases {
        let mut log = log(&[1, 2]);
        log.take_unhanded();
        log.stable_to(LogId::new(term, index));
        assert_eq!(log.stable(), stable, "{index}@{term}");
    }
    let mut log = log(&[1, 2]);
    log.stable_to(LogId::new(2, 2));
    assert_eq!(log.stable(), 0, "not handed out yet");
    log.take_unhanded();
    log.stable_to(LogId::new(2, 2));
    log.stable_to(LogId::new(1, 1));
    assert_eq!(log.stable(), 2, "an old report takes nothing back");
}

/// etcd: TestStableToWithSnap.
#[test]
fn reports_from_before_a_snapshot_are_ignored() {
    for (terms, id, stable) in [
        (vec![], (2, 6), 5),
        (vec![], (2, 5), 5),
        (vec![], (3, 4), 5),
        (vec![2], (2, 6), 6),
        (vec![2], (3, 6), 5),
        (vec![2], (2, 4), 5),
    ] {
        let mut log = log(&[1; 7]);
        log.restore(snapshot(2, 5));
        log.append(LogId::new(2, 5), entries(6, &terms), 0).expect("after the snapshot");
        log.take_unhanded();
        log.stable_to(LogId::new(id.0, id.1));
        assert_eq!(log.stable(), stable, "{terms:?} {id:?}");
    }
}

/// etcd: TestLogRestore, TestUnstableRestore.
#[test]
fn a_snapshot_becomes_the_log() {
    let mut log = log(&[1, 1, 2]);
    log.append_own(3, Entry::default());
    log.restore(snapshot(4, 100));
    assert_eq!((log.first(), log.last_id()), (101, LogId::new(4, 100)));
    assert_eq!((log.committed(), log.stable(), log.handed()), (100, 100, 100));
    assert_eq!((log.term(100), log.term(99), log.term(101)), (Some(4), None, None));
    assert!(log.take_unhanded().is_empty(), "nothing of the old log is written any more");
}

#[test]
#[should_panic(expected = "a snapshot never takes back what is committed")]
fn a_snapshot_behind_the_commit_index_is_a_broken_promise() {
    let mut log = log(&[1, 1, 2]);
    log.commit_to(2);
    log.restore(snapshot(1, 1));
}

/// One at the commit index takes nothing back: a follower may ask for it. What is committed stays
/// so, and what is to be written of the old log goes.
#[test]
fn a_snapshot_at_the_commit_index_replaces_the_log() {
    let mut log = log(&[1, 1, 2]);
    log.commit_to(2);
    log.restore(snapshot(1, 2));
    assert_eq!((log.committed(), log.last(), log.compacted()), (2, 2, LogId::new(1, 2)));
    assert!(log.has_pending_snapshot() && !log.has_unhanded());
    log.stable_snapshot_to(2);
    log.applied_to(2, 0);
    assert_eq!((log.applied(), log.has_next_apply(true)), (2, false));
}

/// etcd: TestIsOutOfBounds.
#[test]
fn ranges_that_begin_before_the_log_are_errors() {
    let mut log = stored(&[1; 10]);
    log.commit_to(10);
    log.applied_to(10, 0);
    log.compact(4).expect("applied");
    assert!(matches!(log.entries(4..6, 0), Err(StorageError::Compacted)));
    assert!(matches!(log.entries(1..2, 0), Err(StorageError::Compacted)));
    assert!(log.entries(5..5, 0).expect("no range").is_empty());
    assert_eq!(ids(&log.entries(5..11, u64::MAX).expect("all of it")).len(), 6);
}

/// etcd: TestTerm, TestTermWithUnstableSnapshot, TestUnstableMaybeTerm, TestMaybeLastIndex,
/// TestUnstableMaybeFirstIndex.
#[test]
fn terms_are_known_from_the_position_before_the_log_on() {
    let mut log = log_after(LogId::new(1, 100));
    log.append(LogId::new(1, 100), entries(101, &[1, 2, 3]), 0).expect("at the end");
    let cases = [(99, None), (100, Some(1)), (101, Some(1)), (103, Some(3)), (104, None)];
    for (index, term) in cases {
        assert_eq!(log.term(index), term, "{index}");
    }
    // A snapshot that is not on disk yet: what the storage knows no longer counts.
    log.restore(snapshot(5, 105));
    for (index, term) in [(100, None), (104, None), (105, Some(5)), (106, None)] {
        assert_eq!(log.term(index), term, "{index}");
    }
    assert_eq!((log.first(), log.last()), (106, 105));
}

/// etcd: TestSlice: across what is stored and what is not, with limits.
#[test]
fn a_range_may_span_the_disk_and_the_tail() {
    let mut log = stored(&[1, 1, 1, 1, 1]);
    log.commit_to(5);
    log.applied_to(5, 0);
    log.append(LogId::new(1, 5), entries(6, &[2, 2, 2]), 0).expect("at the end");
    let one = entries(1, &[1]).size();
    let cases = [
        // range, limit in entries → last
        (1..9, u64::MAX, 8),
        (1..6, u64::MAX, 5),
        (6..9, u64::MAX, 8),
        (4..8, 0, 4),
        (4..8, one, 4),
        (4..8, 2 * one, 5),
        (4..8, 3 * one - 1, 5),
        (4..8, 3 * one, 6),
        (4..8, 4 * one, 7),
        (6..9, one, 6),
        (6..9, 2 * one, 7),
        (5..7, one + 1, 5),
    ];
    for (range, bytes_max, last) in cases {
        let found = log.entries(range.clone(), bytes_max).expect("all there");
        let expected: Vec<Index> = (range.start..=last).collect();
        let found: Vec<Index> = found.iter().map(|e| e.id.index).collect();
        assert_eq!(found, expected, "{range:?} within {bytes_max}");
    }
}

/// A leader's proposals stay open until somebody looks at them, then they are one run.
#[test]
fn proposals_between_two_looks_are_one_run() {
    let mut log = log(&[1]);
    log.take_unhanded();
    for n in 0..10 {
        log.append_own(2, Entry::normal(Bytes::from(vec![n])));
    }
    assert_eq!(log.last_id(), LogId::new(2, 11), "they count at once");
    let taken = log.take_unhanded();
    assert_eq!(taken.runs().len(), 1);
    assert_eq!((taken.first(), taken.len()), (Some(2), 10));
    log.append_own(2, Entry::default());
    log.append_own(3, Entry::default());
    assert_eq!(ids(&log.take_unhanded()), [(12, 2), (13, 3)]);
}
