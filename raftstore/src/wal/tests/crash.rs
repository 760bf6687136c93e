//! Crashes at every operation, with every image they may leave.

use raft::LogId;

use super::images::{Counts, Deed, attack, record};
use super::support::{Step, filled, hard_state};

fn append(region: u64, term: u64, first: u64, count: u64, bytes: usize) -> Deed {
    Deed::Append(vec![Step::append(region, filled(term, first, count, bytes))])
}

/// One batch for several groups.
fn batch(steps: &[Step]) -> Deed {
    Deed::Append(steps.to_vec())
}

fn vote(region: u64, term: u64) -> Step {
    Step { region, hard_state: Some(hard_state(term, 2, 0)), ..Step::default() }
}

/// A workload drawn from a seed: everything a log does, small.
fn random_deeds(seed: u64) -> Vec<Deed> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut model = super::support::Model::default();
    let mut deeds = Vec::new();
    for _ in 0..rng.usize(4..14) {
        let regions = 1..=rng.u64(1..=3);
        let steps: Vec<Step> =
            regions.map(|region| random_step(region, &model, &mut rng)).collect();
        model.apply(&steps);
        deeds.push(Deed::Append(steps));
        match rng.u8(..12) {
            0..2 => deeds.push(Deed::Sync),
            2 => deeds.push(Deed::Collect),
            3 => deeds.push(Deed::Prepare),
            4..8 => deeds.push(Deed::Begin),
            8..10 => deeds.push(Deed::Land(rng.usize(..8))),
            _ => {}
        }
    }
    deeds
}

fn random_step(region: u64, model: &super::support::Model, rng: &mut fastrand::Rng) -> Step {
    let last = model.last(region);
    let back = rng.u64(..4).min(last.index);
    let first = last.index + 1 - back;
    let term = last.term + rng.u64(..2) + u64::from(last.term == 0);
    let bytes = if rng.u8(..6) == 0 { rng.usize(..6000) } else { rng.usize(..300) };
    let mut step = Step::append(region, filled(term, first.max(1), rng.u64(1..4), bytes));
    match rng.u8(..8) {
        0 => step.hard_state = Some(hard_state(term, 1, first)),
        1 => {
            let compacted = model.groups.get(&region).map_or(0, |group| group.compacted.index);
            step.compact = step.entries.last().filter(|at| at.index > compacted);
        }
        2 => step = Step { region, remove: true, ..Step::default() },
        3 => {
            let at = LogId::new(term, last.index + 5);
            let entries = filled(term, at.index + 1, 1, bytes);
            step = Step { region, reset: Some(at), entries, ..Step::default() };
        }
        _ => {}
    }
    step
}

fn check(name: &str, deeds: &[Deed], samples: usize) -> Counts {
    let direct = attack(&record(1, deeds, true), 2, samples);
    let counts = attack(&record(1, deeds, false), 2, samples);
    println!("{name}: {counts:?}, direct {direct:?}");
    counts
}

#[test]
fn crashes_of_random_workloads() {
    for is_direct in [false, true] {
        let mut all = Counts::default();
        for seed in 0..60 {
            let counts = attack(&record(seed, &random_deeds(seed), is_direct), seed, 12);
            all.images += counts.images;
            all.torn += counts.torn;
            all.second_crashes += counts.second_crashes;
            all.overwrites += counts.overwrites;
        }
        println!("direct {is_direct}: {all:?}");
        // A harness that tries nothing finds nothing.
        assert!(all.images > 10_000 && all.torn > 1_000, "{all:?}");
        assert!(all.second_crashes > 5_000 && all.overwrites > 1_000, "{all:?}");
    }
}

/// Four batches on their way at a time, landing in every order, each order cut off anywhere: a
/// batch counts only with all before it, and a gap is a torn tail, never damage (museum W3).
#[test]
fn w3_batches_on_their_way_land_in_any_order() {
    let mut all = Counts::default();
    for order in 0..24 {
        let mut deeds = vec![append(1, 1, 1, 1, 100), Deed::Sync];
        for n in 0..4 {
            deeds.extend([append(1 + n % 2, 1, 2 - n % 2 + n / 2, 1, 200), Deed::Begin]);
        }
        // The factorial number system: each number below 24 is one order.
        deeds.extend([order % 4, order / 4 % 3, order / 12].map(Deed::Land));
        deeds.extend([append(3, 1, 1, 2, 600), Deed::Begin, Deed::Land(0), Deed::Land(0)]);
        let counts = attack(&record(order as u64, &deeds, true), order as u64, 24);
        all.images += counts.images;
        all.torn += counts.torn;
    }
    println!("{all:?}");
    assert!(all.images > 5_000 && all.torn > 1_000, "{all:?}");
}

/// Every subset of the sectors of the last batch, and of four batches without a sync between
/// (museum W3, W22).
#[test]
fn w3_w22_a_torn_tail_is_cut_and_nothing_else() {
    let one = [append(1, 1, 1, 3, 100), Deed::Sync, append(1, 1, 4, 3, 700)];
    let counts = check("one", &one, 48);
    assert!(counts.torn > 20, "{counts:?}");
    let four = [
        append(1, 1, 1, 3, 100),
        Deed::Sync,
        append(1, 1, 4, 2, 200),
        append(2, 1, 1, 2, 300),
        append(1, 2, 5, 2, 200),
        append(3, 1, 1, 1, 500),
    ];
    check("four", &four, 48);
}

/// A batch of three groups, with a group's end and another's beginning in it (museum W12, P3).
#[test]
fn w12_a_batch_is_recovered_whole_or_not_at_all() {
    let mut split = vec![vote(1, 2), Step::append(2, filled(1, 1, 4, 300)), vote(3, 1)];
    split[1].hard_state = Some(hard_state(1, 1, 4));
    let deeds = [
        append(1, 1, 1, 2, 200),
        Deed::Sync,
        batch(&split),
        Deed::Collect,
        batch(&[Step { region: 1, remove: true, ..Step::default() }, vote(2, 3)]),
    ];
    check("three groups", &deeds, 48);
    // Larger than a segment: three records, in three segments.
    let large = |region| Step::append(region, filled(1, 1, 2, 3500));
    let deeds = [append(9, 1, 1, 1, 10), Deed::Sync, batch(&[large(1), large(2), large(3)])];
    let counts = check("three segments", &deeds, 48);
    assert!(counts.images > 100, "{counts:?}");
}

/// Starting segments, made ahead or not (museum W8, W9).
#[test]
fn w8_w9_crashes_while_a_segment_is_started() {
    let mut deeds = Vec::new();
    for n in 0..6 {
        deeds.push(append(1, 1, 1 + 2 * n, 2, 2500));
        deeds.push(Deed::Sync);
        if n % 2 == 0 {
            deeds.push(Deed::Prepare);
        }
    }
    check("rolls", &deeds, 24);
}

/// An idle group in the oldest segment, while others roll and are compacted (museum W13).
#[test]
fn w13_crashes_while_segments_are_dropped() {
    let idle = [vote(7, 3), Step::append(8, filled(1, 1, 2, 50)), vote(8, 1)];
    let idle: Vec<Step> =
        vec![idle[0].clone(), Step { hard_state: idle[2].hard_state, ..idle[1].clone() }];
    let mut deeds = vec![batch(&idle)];
    for n in 0..8 {
        let mut step = Step::append(1, filled(1, 1 + 2 * n, 2, 1800));
        step.compact = step.entries.last();
        deeds.extend([batch(&[step]), Deed::Sync, Deed::Collect]);
    }
    check("drops", &deeds, 16);
}

/// A conflict that replaces entries of three segments (museum W14, R5).
#[test]
fn w14_truncation_over_segments_leaves_no_gap() {
    let mut deeds: Vec<Deed> = (0..3).map(|n| append(1, 1, 1 + 3 * n, 3, 2000)).collect();
    deeds.extend([Deed::Sync, append(1, 2, 2, 2, 100), Deed::Sync, append(1, 3, 4, 1, 100)]);
    check("truncation", &deeds, 24);
}
