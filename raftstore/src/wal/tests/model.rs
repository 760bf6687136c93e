//! Random changes on every disk, against a map of maps (museum W13, W14, W15).

use proptest::prelude::*;
use raft::LogId;

use super::support::{Model, Place, Step, append, filled, hard_state, small};
use crate::disk::Route;
use crate::wal::{Wal, WalError};

/// What a test does next; numbers are taken modulo what is possible.
#[derive(Clone, Debug)]
enum Action {
    Append { region: u64, back: u64, count: u64, bytes: usize, term: u64 },
    HardState { region: u64, term: u64 },
    Compact { region: u64, keep: u64 },
    Reset { region: u64, ahead: u64 },
    Remove { region: u64 },
    Batch { region: u64 },
    Sync,
    Collect,
    Prepare,
    Reopen { close: bool },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let region = 1..5u64;
    let action = prop_oneof![
        8 => (region.clone(), 0..6u64, 1..5u64, 0..900usize, 0..2u64).prop_map(
            |(region, back, count, bytes, term)| Action::Append { region, back, count, bytes, term }
        ),
        1 => (region.clone(), 1..5u64, 2000..9000usize).prop_map(
            |(region, count, bytes)| Action::Append { region, back: 0, count, bytes, term: 0 }
        ),
        2 => (region.clone(), 1..9u64).prop_map(|(region, term)| Action::HardState { region, term }),
        3 => (region.clone(), 0..4u64).prop_map(|(region, keep)| Action::Compact { region, keep }),
        1 => (region.clone(), 0..9u64).prop_map(|(region, ahead)| Action::Reset { region, ahead }),
        1 => region.clone().prop_map(|region| Action::Remove { region }),
        1 => region.prop_map(|region| Action::Batch { region }),
        2 => Just(Action::Sync),
        3 => Just(Action::Collect),
        1 => Just(Action::Prepare),
        1 => any::<bool>().prop_map(|close| Action::Reopen { close }),
    ];
    prop::collection::vec(action, 1..60)
}

fn step(model: &Model, action: &Action) -> Option<Vec<Step>> {
    let last = |region: u64| model.last(region);
    let base = |region| model.groups.get(&region).map_or(LogId::ZERO, |group| group.compacted);
    Some(match *action {
        Action::Append { region, back, count, bytes, term } => {
            let last = last(region);
            let first = (last.index + 1 - back.min(last.index)).max(1);
            vec![Step::append(region, filled(last.term.max(1) + term, first, count, bytes))]
        }
        Action::HardState { region, term } => {
            let state = Some(hard_state(term, term % 3, last(region).index));
            vec![Step { region, hard_state: state, ..Step::default() }]
        }
        Action::Compact { region, keep } => {
            let index = last(region).index.saturating_sub(keep).max(base(region).index);
            let group = model.groups.get(&region)?;
            let at = group.entries.get(&index).map_or(group.compacted, |e| LogId::new(e.0, index));
            vec![Step { region, compact: Some(at), ..Step::default() }]
        }
        Action::Reset { region, ahead } => {
            let last = last(region);
            let at = LogId::new(last.term.max(1), last.index + 1 + ahead);
            let entries = if ahead % 2 == 0 {
                filled(at.term, at.index + 1, 2, 10)
            } else {
                Default::default()
            };
            vec![Step { region, reset: Some(at), entries, ..Step::default() }]
        }
        Action::Remove { region } => vec![Step { region, remove: true, ..Step::default() }],
        Action::Batch { region } => (region..region + 3)
            .map(|region| {
                let last = last(region);
                let entries = filled(last.term.max(1), last.index + 1, 3, 6000);
                let state = Some(hard_state(last.term.max(1), 1, last.index + 3));
                Step { region, hard_state: state, entries, ..Step::default() }
            })
            .collect(),
        _ => return None,
    })
}

fn run(place: &Place, actions: &[Action]) {
    let mut model = Model::default();
    let (mut wal, _) = place.open(place.options());
    for action in actions {
        if let Some(steps) = step(&model, action) {
            let before = wal.appended();
            let lsn = append(&mut wal, &steps).expect("appends");
            assert!(lsn > before);
            model.apply(&steps);
        }
        match action {
            Action::Sync => assert_eq!(wal.sync().expect("syncs"), wal.appended()),
            Action::Collect => while wal.collect().expect("collects") {},
            Action::Prepare => drop(wal.preparer().prepare().expect("prepares")),
            Action::Reopen { close } => wal = reopen(place, wal, *close, &model),
            _ => {}
        }
        model.check_entries(&wal);
    }
    while wal.collect().expect("collects") {}
    let stats = wal.stats();
    let bound = 2 * stats.live_bytes + 3 * place.options().segment_bytes;
    assert!(stats.file_bytes <= bound, "{stats:?} exceeds {bound}");
    reopen(place, wal, true, &model);
}

fn reopen(place: &Place, mut wal: Wal, close: bool, model: &Model) -> Wal {
    if close {
        wal.close().expect("closes");
    } else {
        // What is not written yet ends with the process, except in the page cache.
        if wal.syncs_max() > 1 {
            wal.sync().expect("syncs");
        }
        drop(wal);
    }
    let (wal, recovered) = place.open(place.options());
    assert_eq!(recovered.torn, None);
    model.check(&wal, &recovered);
    wal
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn w15_any_changes_on_a_simulated_disk(actions in actions()) {
        run(&Place::sim(1), &actions);
        run(&Place::direct_sim(1), &actions);
    }
}

proptest! {
    // Few, because every sync is a real one.
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn w15_any_changes_by_each_route(actions in actions()) {
        run(&Place::dir(Route::Written), &actions);
        run(&Place::dir(Route::Mapped), &actions);
        run(&Place::dir(Route::Direct), &actions);
    }
}

#[test]
fn refuses_what_would_make_a_hole() {
    let place = &Place::sim(1);
    let (mut wal, _) = place.open(small(16 << 10));
    append(&mut wal, &[Step::append(1, filled(2, 1, 3, 10))]).expect("appends");
    let refused = [
        Step::append(1, filled(2, 5, 1, 10)),
        Step::append(1, filled(1, 4, 1, 10)),
        Step::append(2, filled(1, 2, 1, 10)),
        Step { region: 1, compact: Some(LogId::new(2, 4)), ..Step::default() },
        Step { region: 1, compact: Some(LogId::new(1, 2)), ..Step::default() },
        Step { remove: true, ..Step::append(1, filled(2, 4, 1, 10)) },
    ];
    for step in refused {
        let error = append(&mut wal, std::slice::from_ref(&step)).expect_err("refused");
        assert!(matches!(error, WalError::Refused { .. }), "{step:?}: {error}");
    }
    let twice = [Step::append(1, filled(2, 4, 1, 1)), Step::append(1, filled(2, 5, 1, 1))];
    assert!(matches!(append(&mut wal, &twice), Err(WalError::Refused { .. })));
    let large = Step::append(1, filled(2, 4, 1, 16 << 10));
    assert!(matches!(append(&mut wal, &[large]), Err(WalError::TooLarge { .. })));
    append(&mut wal, &[Step::append(1, filled(2, 4, 1, 10))]).expect("still works");
}
