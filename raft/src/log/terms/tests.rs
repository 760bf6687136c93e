//! Runs of terms, compared with a vector that has the term of every index.

use proptest::prelude::*;

use super::Terms;
use crate::types::{Index, LogId, Term};

/// The twin: every entry's term, one by one.
#[derive(Clone, Debug)]
struct Model {
    compacted: LogId,
    terms: Vec<Term>,
}

impl Model {
    fn last(&self) -> Index {
        self.compacted.index + self.terms.len() as u64
    }

    fn get(&self, index: Index) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        let place = index.checked_sub(self.compacted.index + 1)?;
        self.terms.get(place as usize).copied()
    }

    fn last_term(&self) -> Term {
        self.terms.last().copied().unwrap_or(self.compacted.term)
    }

    /// One index at a time down from `index`, as etcd's findConflictByTerm.
    fn find_conflict(&self, index: Index, term: Term) -> LogId {
        for at in (1..=index).rev() {
            match self.get(at) {
                None => return LogId::new(0, at),
                Some(ours) if ours <= term => return LogId::new(ours, at),
                Some(_) => {}
            }
        }
        LogId::ZERO
    }

    fn runs(&self) -> Vec<LogId> {
        let mut runs: Vec<LogId> = Vec::new();
        for (term, index) in self.terms.iter().zip(self.compacted.index + 1..) {
            if runs.last().is_none_or(|run| run.term != *term) {
                runs.push(LogId::new(*term, index));
            }
        }
        runs
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// So many entries, of a term that is higher by so much.
    Append {
        rise: Term,
        count: u64,
    },
    /// From the entry that is so far, in parts of 16, into the log.
    Truncate {
        at: u64,
    },
    Compact {
        at: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0u64..3, 1u64..5).prop_map(|(rise, count)| Op::Append { rise, count }),
        1 => (0u64..16).prop_map(|at| Op::Truncate { at }),
        1 => (0u64..16).prop_map(|at| Op::Compact { at }),
    ]
}

fn run(ops: &[Op], compacted: LogId) -> (Terms, Model) {
    let mut terms = Terms::new(compacted);
    let mut model = Model { compacted, terms: Vec::new() };
    for op in ops {
        let within = |at: u64| model.compacted.index + 1 + at * model.terms.len() as u64 / 16;
        match *op {
            Op::Append { rise, count } => {
                let term = (model.last_term() + rise).max(1);
                terms.append(term, model.last() + 1, model.last() + count);
                model.terms.extend(std::iter::repeat_n(term, count as usize));
            }
            Op::Truncate { at } => {
                let from = within(at);
                terms.truncate(from);
                model.terms.truncate((from - model.compacted.index - 1) as usize);
            }
            Op::Compact { at } => {
                if model.terms.is_empty() {
                    continue;
                }
                let to = within(at);
                let id = LogId::new(model.get(to).expect("within the log"), to);
                terms.compact(id);
                model.terms.drain(..(to - model.compacted.index) as usize);
                model.compacted = id;
            }
        }
    }
    (terms, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn runs_say_what_a_vector_says(
        ops in proptest::collection::vec(op(), 0..24),
        before in 0u64..4,
    ) {
        let (terms, model) = run(&ops, LogId::new(before.min(2), before));
        prop_assert_eq!(terms.compacted(), model.compacted);
        prop_assert_eq!(terms.last(), model.last());
        prop_assert_eq!(terms.last_id(), LogId::new(model.last_term(), model.last()));
        for index in 0..=model.last() + 2 {
            prop_assert_eq!(terms.get(index), model.get(index), "at {}", index);
            for term in 0..=model.last_term() + 1 {
                let id = LogId::new(term, index);
                prop_assert_eq!(terms.matches(id), model.get(index) == Some(term));
                prop_assert_eq!(
                    terms.find_conflict(index, term),
                    model.find_conflict(index, term),
                    "at {:?}", id
                );
            }
        }
    }

    #[test]
    fn runs_can_be_stored_and_read_back(ops in proptest::collection::vec(op(), 0..24)) {
        let (terms, model) = run(&ops, LogId::ZERO);
        let runs: Vec<LogId> = terms.runs().collect();
        prop_assert_eq!(&runs, &model.runs(), "each term once");
        let again = Terms::from_runs(terms.compacted(), &runs, terms.last()).expect("consistent");
        for index in 0..=model.last() + 1 {
            prop_assert_eq!(again.get(index), model.get(index));
        }
    }

    /// What a disk claims is checked, never believed: any runs give a log or `None`.
    #[test]
    fn contradictory_runs_are_refused_not_believed(
        compacted in (0u64..4, 0u64..4),
        runs in proptest::collection::vec((0u64..5, 0u64..8), 0..4),
        last in 0u64..9,
    ) {
        let compacted = LogId::new(compacted.0, compacted.1);
        let runs: Vec<LogId> = runs.into_iter().map(|(t, i)| LogId::new(t, i)).collect();
        if let Some(terms) = Terms::from_runs(compacted, &runs, last) {
            prop_assert_eq!(terms.last(), last);
            let mut before = compacted;
            for index in compacted.index + 1..=last {
                let id = LogId::new(terms.get(index).expect("no gap"), index);
                prop_assert!(id.term >= before.term, "terms never fall");
                before = id;
            }
        }
    }
}

/// etcd: TestFindConflictByTerm. The log is 10@1 (compacted), 11@2 12@2 13@4 14@4 15@4.
#[test]
fn the_hint_skips_whole_terms() {
    let mut terms = Terms::new(LogId::new(1, 10));
    terms.append(2, 11, 12);
    terms.append(4, 13, 15);
    let cases = [
        // (index, term) asked → (index, term) found
        ((15, 5), (15, 4)),
        ((15, 4), (15, 4)),
        ((15, 3), (12, 2)),
        ((15, 2), (12, 2)),
        ((15, 1), (10, 1)),
        ((13, 4), (13, 4)),
        ((13, 3), (12, 2)),
        ((12, 9), (12, 2)),
        ((11, 2), (11, 2)),
        ((11, 1), (10, 1)),
        ((10, 1), (10, 1)),
        // Everything known is above that term: somewhere before the log.
        ((15, 0), (9, 0)),
        ((10, 0), (9, 0)),
        // Not known: compacted, or after the last.
        ((9, 3), (9, 0)),
        ((3, 3), (3, 0)),
        ((16, 4), (16, 0)),
        ((900, 4), (900, 0)),
    ];
    for ((index, term), (found, found_term)) in cases {
        let hint = terms.find_conflict(index, term);
        assert_eq!(hint, LogId::new(found_term, found), "asked {index}@{term}");
    }
}

/// etcd: TestFindConflictByTerm, a log that begins at the beginning.
#[test]
fn the_beginning_is_common_to_all_logs() {
    let mut terms = Terms::new(LogId::ZERO);
    assert_eq!(terms.find_conflict(0, 0), LogId::ZERO);
    terms.append(3, 1, 4);
    assert_eq!(terms.find_conflict(4, 2), LogId::ZERO);
    assert_eq!(terms.find_conflict(4, 3), LogId::new(3, 4));
}

#[test]
#[should_panic(expected = "terms never fall along the log")]
fn a_falling_term_is_a_broken_promise() {
    let mut terms = Terms::new(LogId::new(5, 9));
    terms.append(4, 10, 10);
}

#[test]
#[should_panic(expected = "the log has no gap")]
fn a_gap_is_a_broken_promise() {
    let mut terms = Terms::new(LogId::new(5, 9));
    terms.append(5, 11, 11);
}
