//! The log in memory, compared with a vector (etcd: the TestStorage… of storage_test.go).

use bytes::Bytes;
use proptest::prelude::*;

use super::{MemStorage, Storage};
use crate::entry::{Entries, Entry, Run};
use crate::error::StorageError;
use crate::types::{ConfState, HardState, Index, LogId, NodeId, Snapshot, SnapshotMeta, Term};

fn entries(first: Index, terms: &[Term]) -> Entries {
    let mut out = Entries::new();
    for (term, index) in terms.iter().zip(first..) {
        let entry = Entry::normal(Bytes::from(format!("{index}@{term}")));
        out.push(Run::new(*term, index, vec![entry]).expect("not empty")).expect("consecutive");
    }
    out
}

fn listed(entries: &Entries) -> Vec<LogId> {
    entries.iter().map(|e| e.id).collect()
}

/// 3@3 is compacted; 4@4, 5@5, 6@6 are there.
fn storage() -> MemStorage {
    let storage = MemStorage::default();
    storage.append(&entries(1, &[1, 2, 3, 4, 5, 6]));
    storage.compact(3).expect("in the log");
    storage
}

/// etcd: TestStorageEntries.
#[test]
fn entries_are_those_of_the_range_within_the_limit() {
    let storage = storage();
    let one = entries(4, &[4]).size();
    let get = |range, bytes_max| storage.entries(range, bytes_max);
    assert!(matches!(get(2..6, u64::MAX), Err(StorageError::Compacted)));
    assert!(matches!(get(3..4, u64::MAX), Err(StorageError::Compacted)));
    assert!(matches!(get(4..8, u64::MAX), Err(StorageError::Unavailable)));
    let ids = |range, bytes_max| {
        listed(&get(range, bytes_max).expect("there")).iter().map(|id| id.index).collect::<Vec<_>>()
    };
    assert_eq!(ids(4..5, u64::MAX), [4]);
    assert_eq!(ids(4..7, u64::MAX), [4, 5, 6]);
    assert_eq!(ids(4..7, 0), [4], "at least one");
    assert_eq!(ids(4..7, 2 * one), [4, 5]);
    assert_eq!(ids(4..7, 3 * one - 1), [4, 5]);
    assert_eq!(ids(4..7, 3 * one), [4, 5, 6]);
}

/// etcd: TestStorageTerm, TestStorageFirstIndex, TestStorageLastIndex.
#[test]
fn the_initial_state_says_every_term() {
    let state = storage().initial_state().expect("in memory");
    assert_eq!(state.compacted, LogId::new(3, 3));
    assert_eq!(state.terms, [LogId::new(4, 4), LogId::new(5, 5), LogId::new(6, 6)]);
    assert_eq!(state.last, 6);
}

/// etcd: TestStorageCompact.
#[test]
fn compaction_keeps_the_position_of_the_last_dropped() {
    let storage = storage();
    assert!(matches!(storage.compact(2), Err(StorageError::Compacted)));
    assert!(matches!(storage.compact(3), Err(StorageError::Compacted)));
    assert!(matches!(storage.compact(7), Err(StorageError::Unavailable)));
    storage.compact(5).expect("in the log");
    assert_eq!(storage.compacted(), LogId::new(5, 5));
    storage.compact(6).expect("the whole log");
    assert_eq!(storage.last(), LogId::new(6, 6), "an empty log still has a position");
}

/// etcd: TestStorageAppend: six ways to overlap.
#[test]
fn appended_entries_replace_what_was_there() {
    let cases: [(Index, &[Term], &[Term]); 6] = [
        (2, &[2, 3, 4], &[4, 4, 5, 6].as_slice()[..1]),
        (4, &[4, 5, 6], &[4, 5, 6]),
        (4, &[6, 7], &[6, 7]),
        (3, &[3, 6, 7, 8], &[6, 7, 8]),
        (5, &[5], &[4, 5]),
        (7, &[6], &[4, 5, 6, 6]),
    ];
    for (first, terms, expected) in cases {
        let storage = storage();
        storage.append(&entries(first, terms));
        let last = storage.last().index;
        let held = storage.entries(4..last + 1, u64::MAX).expect("all of it");
        let held: Vec<Term> = held.iter().map(|e| e.id.term).collect();
        assert_eq!(held, expected, "{terms:?} at {first}");
    }
    let storage = storage();
    storage.append(&entries(1, &[1, 2]));
    assert_eq!(storage.last().index, 6, "what is compacted already changes nothing");
}

/// etcd: TestStorageCreateSnapshot, TestStorageApplySnapshot.
#[test]
fn an_older_snapshot_is_refused() {
    let snapshot = |index| Snapshot {
        meta: SnapshotMeta {
            last: LogId::new(4, index),
            conf_state: ConfState::of_voters(NodeId::new(1)),
        },
        data: Bytes::from_static(b"state"),
    };
    let storage = MemStorage::default();
    assert!(matches!(storage.snapshot(), Err(StorageError::SnapshotUnavailable)));
    storage.apply_snapshot(snapshot(4)).expect("the first one");
    assert_eq!(storage.last(), LogId::new(4, 4));
    for index in [3, 4] {
        let refused = storage.apply_snapshot(snapshot(index));
        assert!(matches!(refused, Err(StorageError::SnapshotOutOfDate)));
    }
    storage.apply_snapshot(snapshot(9)).expect("a newer one");
    assert_eq!(storage.snapshot().expect("there"), snapshot(9));
    assert_eq!(storage.compacted(), LogId::new(4, 9));
}

#[test]
fn a_clone_is_the_same_log() {
    let storage = storage();
    let other = storage.clone();
    let hard_state = HardState { term: 7, vote: NodeId::new(2), commit: 5 };
    other.set_hard_state(hard_state);
    other.append(&entries(7, &[7]));
    assert_eq!(storage.hard_state(), hard_state);
    assert_eq!(storage.last(), LogId::new(7, 7));
}

#[derive(Clone, Debug)]
enum Op {
    Append { back: u64, rise: Term, count: usize },
    Compact { at: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..6, 0u64..3, 1usize..6)
            .prop_map(|(back, rise, count)| Op::Append { back, rise, count }),
        1 => (0u64..8).prop_map(|at| Op::Compact { at }),
    ]
}

proptest! {
    /// R10: whatever is appended over whatever, compacted and read with any limit.
    #[test]
    fn the_log_is_a_vector(
        ops in proptest::collection::vec(op(), 0..30),
        bytes_max in 0u64..120,
    ) {
        let storage = MemStorage::default();
        let (mut compacted, mut model) = (LogId::ZERO, Vec::<LogId>::new());
        for op in ops {
            match op {
                Op::Append { back, rise, count } => {
                    let keep = model.len().saturating_sub(back as usize);
                    model.truncate(keep);
                    let last = model.last().copied().unwrap_or(compacted);
                    let term = (last.term + rise).max(1);
                    storage.append(&entries(last.index + 1, &vec![term; count]));
                    model.extend((1..=count as u64).map(|n| LogId::new(term, last.index + n)));
                }
                Op::Compact { at } => {
                    let Some(id) = model.get(at as usize).copied() else { continue };
                    storage.compact(id.index).expect("in the log");
                    model.drain(..=at as usize);
                    compacted = id;
                }
            }
            let last = model.last().copied().unwrap_or(compacted);
            prop_assert_eq!(storage.last(), last);
            prop_assert_eq!(storage.compacted(), compacted);
            if model.is_empty() {
                continue;
            }
            let all = storage.entries(compacted.index + 1..last.index + 1, u64::MAX)?;
            prop_assert_eq!(listed(&all), model.clone());
            for e in all.iter() {
                let expected = format!("{}@{}", e.id.index, e.id.term);
                prop_assert_eq!(&e.entry.data[..], expected.as_bytes());
            }
            let page = storage.entries(compacted.index + 1..last.index + 1, bytes_max)?;
            prop_assert_eq!(page, all.limit(bytes_max));
        }
    }
}
