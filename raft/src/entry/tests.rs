//! Runs and slices of runs, compared with a vector of entries.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Entries, Entry, EntryKind, NotConsecutive, Run};
use crate::types::{Index, LogId, Term};

/// The twin: each entry with its position.
type Model = Vec<(LogId, Entry)>;

/// Runs as they may be pushed: term, then the payload lengths.
fn parts() -> impl Strategy<Value = (Index, Vec<(Term, Vec<usize>)>)> {
    let payloads = proptest::collection::vec(0usize..40, 1..6);
    let runs = proptest::collection::vec((0u64..3, payloads), 0..5);
    (1u64..20, runs).prop_map(|(first, runs)| {
        let mut term = 1;
        let runs = runs.into_iter().map(|(rise, payloads)| {
            term += rise;
            (term, payloads)
        });
        (first, runs.collect())
    })
}

fn build(first: Index, parts: &[(Term, Vec<usize>)]) -> (Entries, Model) {
    let (mut entries, mut model) = (Entries::new(), Model::new());
    let mut next = first;
    for (term, payloads) in parts {
        let run: Vec<Entry> = payloads
            .iter()
            .zip(next..)
            .map(|(len, index)| Entry::normal(Bytes::from(vec![index as u8; *len])))
            .collect();
        model.extend(run.iter().cloned().zip(next..).map(|(e, i)| (LogId::new(*term, i), e)));
        next += run.len() as u64;
        let first = next - run.len() as u64;
        entries.push(Run::new(*term, first, run).expect("not empty")).expect("consecutive");
    }
    (entries, model)
}

fn listed(entries: &Entries) -> Model {
    entries.iter().map(|e| (e.id, e.entry.clone())).collect()
}

fn size(model: &[(LogId, Entry)]) -> u64 {
    model.iter().map(|(_, e)| e.data.len() as u64 + Entry::OVERHEAD_BYTES).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn entries_are_what_was_pushed((first, parts) in parts()) {
        let (entries, model) = build(first, &parts);
        prop_assert_eq!(listed(&entries), model.clone());
        prop_assert_eq!(entries.len(), model.len());
        prop_assert_eq!(entries.is_empty(), model.is_empty());
        prop_assert_eq!(entries.first(), model.first().map(|(id, _)| id.index));
        prop_assert_eq!(entries.last(), model.last().map(|(id, _)| *id));
        prop_assert_eq!(entries.size(), size(&model));
        let payload: usize = model.iter().map(|(_, e)| e.data.len()).sum();
        prop_assert_eq!(entries.payload_bytes(), payload as u64);
        for index in 0..first + model.len() as u64 + 2 {
            let held = model.iter().find(|(id, _)| id.index == index);
            let got = entries.get(index).map(|e| (e.id, e.entry.clone()));
            prop_assert_eq!(got, held.cloned());
        }
    }

    /// etcd: TestSlice.
    #[test]
    fn a_slice_is_a_slice(
        (first, parts) in parts(),
        from in 0u64..50,
        to in 0u64..50,
    ) {
        let (entries, model) = build(first, &parts);
        let slice = entries.slice(from..to);
        let expected: Model =
            model.into_iter().filter(|(id, _)| (from..to).contains(&id.index)).collect();
        prop_assert_eq!(slice.size(), size(&expected));
        prop_assert_eq!(listed(&slice), expected);
    }

    /// A slice of a slice keeps its accounting.
    #[test]
    fn slices_of_slices_count_their_own_bytes(
        (first, parts) in parts(),
        cuts in proptest::collection::vec((0u64..50, 0u64..50), 1..4),
    ) {
        let (mut entries, mut model) = build(first, &parts);
        for (from, to) in cuts {
            entries = entries.slice(from..to);
            model.retain(|(id, _)| (from..to).contains(&id.index));
            prop_assert_eq!(entries.size(), size(&model));
            prop_assert_eq!(entries.len(), model.len());
        }
        prop_assert_eq!(listed(&entries), model);
    }

    /// etcd: TestLimitSize. The longest beginning that fits, and at least one entry.
    #[test]
    fn a_limit_keeps_the_longest_beginning((first, parts) in parts(), bytes_max in 0u64..400) {
        let (entries, model) = build(first, &parts);
        let fits = (1..=model.len()).rev().find(|n| size(&model[..*n]) <= bytes_max);
        let expected = &model[..fits.unwrap_or(1).min(model.len())];
        prop_assert_eq!(listed(&entries.limit(bytes_max)), expected.to_vec());
    }

    /// Only what follows directly, in the same or a later term, can be pushed.
    #[test]
    fn only_the_next_entry_can_be_pushed(
        (first, parts) in parts(),
        term in 0u64..12,
        at in 0u64..50,
    ) {
        let (mut entries, model) = build(first, &parts);
        let run = Run::new(term, at, vec![Entry::default()]).expect("not empty");
        let follows = model.last().is_none_or(|(id, _)| at == id.index + 1 && term >= id.term);
        let expected = if follows { Ok(()) } else { Err(NotConsecutive) };
        prop_assert_eq!(entries.push(run), expected);
        prop_assert_eq!(entries.len(), model.len() + usize::from(follows));
    }
}

/// etcd: TestPayloadSizeOfEmptyEntry.
#[test]
fn an_empty_entry_has_no_payload() {
    let run = Run::new(1, 1, vec![Entry::default()]).expect("not empty");
    assert_eq!(run.payload_bytes(), 0);
    assert_eq!(run.size(), Entry::OVERHEAD_BYTES);
}

/// Sharing is the point of a run: a slice is the same allocation.
#[test]
fn a_slice_shares_its_entries() {
    let run = Run::new(2, 5, vec![Entry::normal(Bytes::from_static(b"x")); 8]).expect("not empty");
    let slice = run.slice(7..9).expect("within the run");
    assert_eq!(Arc::strong_count(&run.shared), 2);
    assert!(std::ptr::eq(&raw const slice.entries()[0], &raw const run.entries()[2]));
    assert_eq!((run.payload_bytes(), slice.payload_bytes()), (8, 2));
}

#[test]
fn an_empty_run_is_none() {
    assert!(Run::new(1, 1, Vec::new()).is_none());
    let run = Run::new(1, 5, vec![Entry::default(); 3]).expect("not empty");
    assert!(run.slice(0..5).is_none());
    assert!(run.slice(8..20).is_none());
    assert!(run.slice(6..6).is_none());
}

/// etcd: TestEntryID. `LogId`s order by term, then by index, and that is the up-to-date rule
/// (§5.4.1, E6; etcd: TestIsUpToDate).
#[test]
fn the_order_of_positions_is_by_term_then_index() {
    for (a_term, a_index, b_term, b_index) in
        (0..81).map(|n| (n / 27 % 3, n / 9 % 3, n / 3 % 3, n % 3))
    {
        let at_least = LogId::new(a_term, a_index) >= LogId::new(b_term, b_index);
        let rule = a_term > b_term || (a_term == b_term && a_index >= b_index);
        assert_eq!(at_least, rule);
    }
    assert!(LogId::new(2, 1) > LogId::new(1, 2), "the later term, however short");
}

#[test]
fn the_default_kind_is_a_command() {
    assert_eq!(Entry::default().kind, EntryKind::Normal);
}

/// etcd: TestProtoMemorySizes. What moves in numbers stays small: a field too many is noticed here.
#[test]
fn what_moves_in_numbers_is_small() {
    use crate::message::{AppendReply, Body, Message};
    use crate::types::HardState;
    let sizes = [
        ("LogId", size_of::<LogId>(), 16),
        ("HardState", size_of::<HardState>(), 24),
        ("Entry", size_of::<Entry>(), 40),
        ("Run", size_of::<Run>(), 48),
        ("Entries", size_of::<Entries>(), 56),
        ("AppendReply", size_of::<AppendReply>(), 32),
        ("Body", size_of::<Body>(), 80),
        ("Message", size_of::<Message>(), 104),
    ];
    for (what, bytes, bytes_max) in sizes {
        assert!(bytes <= bytes_max, "{what} has grown to {bytes} bytes");
    }
}
