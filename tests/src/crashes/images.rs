//! What a power failure may leave: the choices, and the disk after one of them.

use raftstore::disk::SimDisk;
use raftstore::disk::sim::{Fate, Unsynced};

use super::counts::Counts;

/// Subsets up to so many unsynced things are all tried.
const ALL_UP_TO: usize = 8;
/// Of more things, so many subsets at random, and so many with any content of each.
const SUBSETS: usize = 48;
const MIXTURES: usize = 16;
/// Beyond so many things, each alone and each left out are sampled.
const SINGLES: usize = 64;

/// Something unsynced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    /// A sector that had so many contents since the last sync.
    Sector(usize),
    /// The length of a file.
    Length,
    /// A change of the directory.
    Name,
}

/// Everything unsynced, in the order in which a power failure asks about it.
pub(super) fn unsynced(disk: &SimDisk) -> Vec<Thing> {
    let mut found = Vec::new();
    disk.fork().lose_power(&mut |thing| {
        found.push(match thing {
            Unsynced::Sector { versions, .. } => Thing::Sector(*versions),
            Unsynced::Length { .. } => Thing::Length,
            Unsynced::Name { .. } => Thing::Name,
        });
        Fate::Lost
    });
    found
}

const LAST: Fate = Fate::Kept(usize::MAX);

/// Every choice, or if they are too many, those most likely to hurt and some at random
/// (simulation.md 3.6).
pub(super) fn choices(
    things: &[Thing],
    rng: &mut fastrand::Rng,
    counts: &mut Counts,
) -> Vec<Vec<Fate>> {
    let n = things.len();
    let pick = |is_kept: &mut dyn FnMut(usize) -> bool| -> Vec<Fate> {
        (0..n).map(|i| if is_kept(i) { LAST } else { Fate::Lost }).collect()
    };
    let mut chosen = Vec::new();
    if n <= ALL_UP_TO {
        chosen.extend((0..1usize << n).map(|set| pick(&mut |i| set >> i & 1 == 1)));
        counts.add("every subset of what is unsynced", chosen.len() as u64);
        if n > 0 {
            chosen.extend((0..2).map(|_| mixed(things, rng)));
        }
    } else {
        chosen.extend([pick(&mut |_| false), pick(&mut |_| true)]);
        let is_rare = |rng: &mut fastrand::Rng| n > SINGLES && rng.usize(..n) >= SINGLES;
        for i in 0..n {
            if is_rare(rng) {
                continue;
            }
            chosen.push(pick(&mut |j| j == i));
            chosen.push(pick(&mut |j| j != i));
            // What came first is there, as on a disk that keeps the order.
            chosen.push(pick(&mut |j| j < i));
        }
        chosen.extend((0..SUBSETS).map(|_| pick(&mut |_| rng.bool())));
        counts.add("some subsets of what is unsynced", chosen.len() as u64);
        chosen.extend((0..MIXTURES).map(|_| mixed(things, rng)));
    }
    chosen.iter().for_each(|fates| count(things, fates, counts));
    chosen
}

/// Any content of each sector, or garbage.
pub(super) fn mixed(things: &[Thing], rng: &mut fastrand::Rng) -> Vec<Fate> {
    let fate = |thing: &Thing| match thing {
        Thing::Sector(versions) => match rng.usize(..versions + 2) {
            0 => Fate::Lost,
            1 => Fate::Torn,
            n => Fate::Kept(n - 2),
        },
        Thing::Length | Thing::Name if rng.bool() => Fate::Kept(0),
        Thing::Length | Thing::Name => Fate::Lost,
    };
    things.iter().map(fate).collect()
}

/// Notes what kinds of loss a choice has.
fn count(things: &[Thing], fates: &[Fate], counts: &mut Counts) {
    let has = |wanted: &dyn Fn(&Thing, &Fate) -> bool| {
        u64::from(things.iter().zip(fates).any(|(thing, fate)| wanted(thing, fate)))
    };
    let sector = |thing: &Thing| matches!(thing, Thing::Sector(_));
    counts.add("sectors lost", has(&|thing, fate| sector(thing) && *fate == Fate::Lost));
    counts.add("sectors torn", has(&|_, fate| *fate == Fate::Torn));
    let between = |thing: &Thing, fate: &Fate| match (thing, fate) {
        (Thing::Sector(versions), Fate::Kept(n)) => *n < versions - 1,
        _ => false,
    };
    counts.add("sectors at a content between", has(&between));
    counts.add("directory entries lost", has(&|t, fate| *t == Thing::Name && *fate == Fate::Lost));
    counts.add("lengths lost", has(&|t, fate| *t == Thing::Length && *fate == Fate::Lost));
}
