//! Every disk a crash may leave: the driver of the enumeration (simulation.md 3.6).
//!
//! A workload runs once on a recorded disk. For each moment before an operation of the disk, the
//! driver builds the images a power failure could leave there, opens each and asks: is what was
//! recovered exactly the log after some batch that was appended by then, and not before the last
//! one that was synced?

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::support::{IDENTITY, Model, Step, append, append_one, filled, small};
use crate::disk::sim::{Crash, Fate, Moment, Operation, Unsynced};
use crate::disk::{Disk, SimDisk};
use crate::wal::{Lsn, Recovered, Wal, WalError};

pub(super) const SEGMENT_BYTES: u64 = 8 << 10;

/// What a workload does.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Append(Vec<Step>),
    Sync,
    /// Begins a sync and leaves it on its way.
    Begin,
    /// Ends the one with this number among those on their way, modulo how many there are.
    Land(usize),
    Collect,
    Prepare,
}

/// A moment of a run, and which of its states may be recovered from there.
pub(super) struct Point {
    pub(super) moment: Moment,
    /// Numbers of batches: the last one synced for certain, and the last one begun.
    pub(super) states: RangeInclusive<usize>,
}

/// A recorded run.
pub(super) struct Run {
    /// The log after each number of batches.
    pub(super) models: Vec<Model>,
    pub(super) points: Vec<Point>,
}

/// Runs `deeds` on a new log, on a drive whose log files are written directly or not.
pub(super) fn record(seed: u64, deeds: &[Deed], is_direct: bool) -> Run {
    let disk = SimDisk::new(seed);
    disk.set_direct(is_direct);
    let mut run = Run { models: vec![Model::default()], points: Vec::new() };
    let mut synced = 0;
    // The log's last record after each number of batches.
    let mut ends = vec![Lsn(0)];
    let mut on_their_way = Vec::new();
    disk.record();
    let mut wal = open(disk.mount()).expect("opens").0;
    run.keep(disk.recorded(), 0..=0);
    for deed in deeds {
        disk.record();
        let before = synced;
        match deed {
            Deed::Append(steps) => {
                append(&mut wal, steps).expect("appends");
                let mut next = run.models[run.models.len() - 1].clone();
                next.apply(steps);
                run.models.push(next);
                ends.push(wal.appended());
            }
            Deed::Sync => drop(wal.sync().expect("syncs")),
            Deed::Begin => on_their_way.extend(wal.begin_sync().expect("begins")),
            Deed::Land(n) if !on_their_way.is_empty() => {
                let n = n % on_their_way.len();
                on_their_way.remove(n).run().expect("lands");
            }
            Deed::Land(_) => {}
            Deed::Collect => while wal.collect().expect("collects") {},
            Deed::Prepare => drop(wal.preparer().prepare().expect("prepares")),
        }
        synced = ends.partition_point(|end| *end <= wal.durable()) - 1;
        let begun = run.models.len() - 1;
        run.keep(disk.recorded(), before..=begun);
    }
    let end = Moment { operation: Operation::SyncDir, file: String::new(), disk: disk.fork() };
    let states = synced..=run.models.len() - 1;
    run.points.push(Point { moment: end, states });
    run
}

impl Run {
    fn keep(&mut self, moments: Vec<Moment>, states: RangeInclusive<usize>) {
        let points = moments.into_iter().map(|moment| Point { moment, states: states.clone() });
        self.points.extend(points);
    }
}

pub(super) fn open(disk: Arc<dyn Disk>) -> Result<(Wal, Recovered), WalError> {
    // As much room for records on either kind of drive.
    let start = if disk.block_bytes() > 1 { 4096 } else { 0 };
    Wal::open(disk, &IDENTITY, small(SEGMENT_BYTES + start))
}

/// How many contents each unsynced thing of the disk had.
pub(super) fn unsynced(disk: &SimDisk) -> Vec<usize> {
    let mut found = Vec::new();
    disk.fork().lose_power(&mut |thing| {
        found.push(match thing {
            Unsynced::Sector { versions, .. } => *versions,
            Unsynced::Length { .. } | Unsynced::Name { .. } => 1,
        });
        Fate::Lost
    });
    found
}

/// All choices, or if they are too many, those that are most likely to hurt and some at random.
pub(super) fn choices(things: &[usize], rng: &mut fastrand::Rng, samples: usize) -> Vec<Vec<Fate>> {
    const LAST: Fate = Fate::Kept(usize::MAX);
    let n = things.len();
    let pick = |bits: &mut dyn FnMut(usize) -> bool| -> Vec<Fate> {
        (0..n).map(|i| if bits(i) { LAST } else { Fate::Lost }).collect()
    };
    if n <= 8 {
        let mut all: Vec<_> =
            (0..1usize << n).map(|set| pick(&mut |i| set >> i & 1 == 1)).collect();
        all.push(mixed(things, rng));
        return all;
    }
    let mut some = vec![pick(&mut |_| false), pick(&mut |_| true)];
    for i in (0..n).filter(|_| n <= 2 * samples || rng.usize(..n) < samples) {
        some.push(pick(&mut |j| j == i));
        some.push(pick(&mut |j| j != i));
    }
    some.extend((0..samples).map(|_| pick(&mut |_| rng.bool())));
    some.extend((0..samples / 3).map(|_| mixed(things, rng)));
    some
}

/// Any content of each sector, or garbage.
fn mixed(things: &[usize], rng: &mut fastrand::Rng) -> Vec<Fate> {
    let fate = |versions: &usize| match rng.usize(..versions + 2) {
        0 => Fate::Lost,
        1 => Fate::Torn,
        n => Fate::Kept(n - 2),
    };
    things.iter().map(fate).collect()
}

/// What a pass over a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) images: u64,
    pub(super) torn: u64,
    pub(super) second_crashes: u64,
    pub(super) overwrites: u64,
}

/// Opens every image of every point, and some of them twice.
pub(super) fn attack(run: &Run, seed: u64, samples: usize) -> Counts {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut counts = Counts::default();
    for point in &run.points {
        let things = unsynced(&point.moment.disk);
        for fates in choices(&things, &mut rng, samples) {
            let seed = rng.u64(..);
            let image = point.moment.disk.image(&fates, seed);
            let context = || {
                format!("before {:?} of {:?}: {fates:?}", point.moment.operation, point.moment.file)
            };
            counts.images += 1;
            let again = image.fork();
            let (state, torn) = recover(run, point, &image, &context);
            counts.torn += u64::from(torn);
            if rng.u8(..8) == 0 {
                counts.second_crashes += crash_again(run, point, &again, state, &mut rng);
            }
            if rng.u8(..8) == 0 {
                counts.overwrites += 1;
                overwrite(run, &image, state, &mut rng);
            }
        }
    }
    counts
}

/// Opens an image: which of the allowed states it holds, and whether something was torn.
fn recover(
    run: &Run,
    point: &Point,
    image: &SimDisk,
    context: &dyn Fn() -> String,
) -> (usize, bool) {
    let (wal, recovered) = match open(image.mount()) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}; {}", context()),
    };
    let read = Model::read(&wal, &recovered.groups);
    let state = point.states.clone().rev().find(|state| run.models[*state] == read);
    let Some(state) = state else {
        let allowed = &run.models[point.states.clone()];
        panic!("recovered {read:?}, none of {:?}: {allowed:?}; {}", point.states, context());
    };
    image.crash(Crash::Process);
    (state, recovered.torn.is_some())
}

/// Crashes at every operation of a recovery, and in the recovery from that (museum W20). What is
/// recovered must not change: the first recovery may have promised it.
fn crash_again(
    run: &Run,
    point: &Point,
    image: &SimDisk,
    state: usize,
    rng: &mut fastrand::Rng,
) -> u64 {
    let mut count = 0;
    image.record();
    drop(open(image.mount()).expect("opened before"));
    let end = Moment { operation: Operation::SyncDir, file: String::new(), disk: image.fork() };
    let moments = image.recorded();
    for moment in moments.iter().chain([&end]) {
        let things = unsynced(&moment.disk);
        let fates = mixed(&things, rng);
        for fates in [vec![Fate::Lost; things.len()], fates] {
            count += 1;
            let second = moment.disk.image(&fates, rng.u64(..));
            let states = state..=state;
            let same = Point { moment: moment.clone(), states };
            let context =
                || format!("again at {:?}, first at {:?}", moment.operation, point.states);
            recover(run, &same, &second, &context);
        }
    }
    count
}

/// Appends something else of equal sizes after a recovery, and crashes (museum W2): what was cut
/// off must never come back behind it.
fn overwrite(run: &Run, image: &SimDisk, state: usize, rng: &mut fastrand::Rng) {
    let (mut wal, _) = open(image.mount()).expect("opened before");
    let mut model = run.models[state].clone();
    let mut models = vec![model.clone()];
    for region in [1, 2, 1] {
        let last = model.last(region);
        let bytes = rng.usize(1..600);
        let step = Step::append(region, filled(last.term + 1, last.index + 1, 2, bytes));
        append_one(&mut wal, &step).expect("appends");
        model.apply(&[step]);
        models.push(model.clone());
    }
    if rng.bool() {
        wal.sync().expect("syncs");
        models.drain(..models.len() - 1);
    }
    image.reseed(rng.u64(..));
    image.crash(Crash::Power);
    let (wal, recovered) = open(image.mount()).expect("opens after overwriting");
    let read = Model::read(&wal, &recovered.groups);
    assert!(models.contains(&read), "after overwriting: {read:?}");
}
