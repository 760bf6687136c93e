//! What a seed does to a log, and every moment of it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use raft::LogId;
use raftstore::disk::sim::{Crash, Operation};
use raftstore::disk::{Disk, SimDisk};
use raftstore::wal::{Wal, WalError};

use super::model::{Model, Step, append, filled, hard_state, open};

/// What a workload does, one thing after the other.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Appends a batch.
    Append(Vec<Step>),
    /// Makes all of it durable.
    Sync,
    /// Begins to, and goes on before that is done.
    BeginSync,
    /// Drops segments that nobody needs.
    Collect,
    /// Makes the next segment ahead of its use.
    Prepare,
    /// Syncs, ends the process, cleanly or not, and opens the log again.
    Reopen(bool),
}

/// How long the entries of a workload are.
#[derive(Clone, Copy)]
enum Sizes {
    /// All alike, so that one record fits exactly where another was (museum W2, W7).
    Equal(usize),
    /// Some fill most of a segment.
    Any,
}

/// The workload of that seed: everything a log does, small.
pub(super) fn deeds(seed: u64) -> Vec<Deed> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut model = Model::default();
    let mut deeds = Vec::new();
    let sizes = if rng.bool() { Sizes::Equal(rng.usize(20..1200)) } else { Sizes::Any };
    // How often a log is compacted, out of eight: where often, segments die and are used again.
    let compacted = if rng.bool() { 5 } else { 1 };
    for _ in 0..rng.usize(8..20) {
        let first = rng.u64(1..=3);
        let steps = (first..=3).map(|region| step(region, &model, (sizes, compacted), &mut rng));
        let steps: Vec<Step> = steps.collect();
        model.apply(&steps);
        deeds.push(Deed::Append(steps));
        match rng.u8(..16) {
            0..6 => deeds.push(Deed::Sync),
            6..9 => deeds.extend([Deed::Sync, Deed::Collect]),
            9..11 => deeds.push(Deed::Prepare),
            11 => deeds.push(Deed::BeginSync),
            12 => deeds.push(Deed::Reopen(rng.bool())),
            _ => {}
        }
    }
    deeds
}

/// Fills segments that die at once, with the next one ready: what it takes to have every kind of
/// call in a workload.
pub(super) fn rolling() -> impl Iterator<Item = Deed> {
    let append = |n| {
        let mut step = Step::append(9, filled(1, n, 1, 3000));
        step.compact = step.entries.last();
        Deed::Append(vec![step])
    };
    (1..=12).flat_map(move |n| [append(n), Deed::Sync, Deed::Prepare, Deed::Collect])
}

fn step(region: u64, model: &Model, how: (Sizes, u8), rng: &mut fastrand::Rng) -> Step {
    let last = model.last(region);
    let back = if rng.u8(..3) == 0 { rng.u64(..4).min(last.index) } else { 0 };
    let first = (last.index + 1 - back).max(1);
    let term = last.term + rng.u64(..2) + u64::from(last.term == 0);
    let (count, bytes) = match how.0 {
        Sizes::Equal(bytes) => (1, bytes),
        Sizes::Any if rng.u8(..8) == 0 => (rng.u64(1..4), rng.usize(..6000)),
        Sizes::Any => (rng.u64(1..4), rng.usize(..300)),
    };
    let mut step = Step::append(region, filled(term, first, count, bytes));
    if rng.u8(..4) == 0 {
        step.hard_state = Some(hard_state(term, 1 + rng.u64(..3), first));
    }
    let compacted = model.groups.get(&region).map_or(0, |group| group.compacted.index);
    match rng.u8(..24) {
        0 => step = Step { region, remove: true, ..Step::default() },
        1 => {
            // A snapshot that ends within the log, or beyond it.
            let at = LogId::new(term, rng.u64(compacted + 1..=last.index.max(compacted) + 5));
            let entries = filled(term, at.index + 1, 1, bytes);
            step = Step { region, reset: Some(at), entries, ..Step::default() };
        }
        _ if rng.u8(..8) < how.1 => {
            step.compact = step.entries.last().filter(|at| at.index > compacted);
        }
        _ => {}
    }
    step
}

/// The disk just before an operation, and which states of the log may be recovered from there.
pub(super) struct Point {
    pub(super) operation: Operation,
    pub(super) file: String,
    pub(super) disk: SimDisk,
    /// Numbers of batches: the last one synced for certain, and the last one begun.
    pub(super) states: RangeInclusive<usize>,
}

/// A recorded run.
pub(super) struct Run {
    pub(super) deeds: Vec<Deed>,
    /// The log after each number of batches.
    pub(super) models: Vec<Model>,
    pub(super) points: Vec<Point>,
}

/// A workload as it is played, and what the log should hold after each of its batches.
pub(super) struct Player {
    wal: Option<Wal>,
    /// The log after each number of batches.
    pub(super) models: Vec<Model>,
    /// Number of the last batch that was synced for certain.
    pub(super) synced: usize,
}

impl Player {
    /// Opens a new log.
    pub(super) fn new(disk: Arc<dyn Disk>) -> Result<Player, WalError> {
        let wal = Some(open(disk)?.0);
        Ok(Player { wal, models: vec![Model::default()], synced: 0 })
    }

    /// The number of the last batch that was begun.
    pub(super) fn begun(&self) -> usize {
        self.models.len() - 1
    }

    /// The log, unless it could not be opened again.
    pub(super) fn wal(&mut self) -> Result<&mut Wal, WalError> {
        self.wal.as_mut().ok_or(WalError::Poisoned)
    }

    /// Does one thing; `reopen` ends the process and gives the disk to the next one.
    pub(super) fn play(
        &mut self,
        deed: &Deed,
        reopen: &dyn Fn() -> Arc<dyn Disk>,
    ) -> Result<(), WalError> {
        match deed {
            Deed::Append(steps) => {
                let mut next = self.models[self.begun()].clone();
                next.apply(steps);
                let appended = append(self.wal()?, steps);
                // What failed may be there all the same, unless nothing was written.
                if !matches!(appended, Err(WalError::Full { .. } | WalError::Poisoned)) {
                    self.models.push(next);
                }
                appended?;
            }
            Deed::Sync => {
                self.wal()?.sync()?;
                self.synced = self.begun();
            }
            // The next sync, or the next segment, ends it.
            Deed::BeginSync => drop(self.wal()?.begin_sync()?),
            Deed::Collect => while self.wal()?.collect()? {},
            Deed::Prepare => drop(self.wal()?.preparer().prepare()?),
            Deed::Reopen(cleanly) => {
                // Without a sync, what a log written past the cache has only in memory is gone with
                // its process, and the workload would not fit what is left.
                self.wal()?.sync()?;
                self.synced = self.begun();
                match self.wal.take() {
                    Some(wal) if *cleanly => wal.close()?,
                    wal => drop(wal),
                }
                self.wal = Some(open(reopen())?.0);
                self.synced = self.begun();
            }
        }
        Ok(())
    }
}

/// Whether a seed's simulated disk is written past its cache, several writes at a time.
pub(super) fn is_direct(seed: u64) -> bool {
    !seed.is_multiple_of(2)
}

/// Runs the seed's workload on a new disk, and keeps the disk as it was before each operation.
///
/// # Errors
/// If the log refuses something, though nothing failed.
pub(super) fn record(seed: u64) -> Result<Run, String> {
    let disk = SimDisk::new(seed);
    disk.set_direct(is_direct(seed));
    let deeds = deeds(seed);
    let refused = |error: WalError| format!("a working disk, and yet: {error}");
    let mut points = Vec::new();
    disk.record();
    let mut player = Player::new(disk.mount()).map_err(refused)?;
    points.extend(recorded(&disk, 0..=0));
    let reopen = || {
        disk.crash(Crash::Process);
        disk.mount()
    };
    let end = Deed::Reopen(true);
    for deed in deeds.iter().chain([&end]) {
        disk.record();
        let before = player.synced;
        player.play(deed, &reopen).map_err(refused)?;
        points.extend(recorded(&disk, before..=player.begun()));
    }
    let (operation, file, states) =
        (Operation::SyncDir, String::new(), player.synced..=player.begun());
    points.push(Point { operation, file, disk: disk.fork(), states });
    Ok(Run { deeds, models: player.models, points })
}

fn recorded(disk: &SimDisk, states: RangeInclusive<usize>) -> impl Iterator<Item = Point> {
    disk.recorded().into_iter().map(move |moment| Point {
        operation: moment.operation,
        file: moment.file,
        disk: moment.disk,
        states: states.clone(),
    })
}

impl Run {
    /// The batches after that many.
    pub(super) fn batches_after(&self, state: usize) -> impl Iterator<Item = &[Step]> {
        let batches = self.deeds.iter().filter_map(|deed| match deed {
            Deed::Append(steps) => Some(steps.as_slice()),
            _ => None,
        });
        batches.skip(state)
    }
}
