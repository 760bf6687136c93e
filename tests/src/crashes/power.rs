//! Crashes at every operation of a workload, with every image they may leave, and what comes after:
//! crashes during the recovery, other batches over what was cut off, bits that rot.

use raftstore::disk::SimDisk;
use raftstore::disk::sim::{Crash, Fate, Operation};
use raftstore::wal::{Inspection, RecordKind};

use super::counts::Counts;
use super::damage::rot;
use super::images::{choices, mixed, unsynced};
use super::model::{IDENTITY, Model, SEGMENT_BYTES, Step, append, filled, open};
use super::workload::{Run, record};

/// How many workloads a round has.
const WORKLOADS: u64 = 4;
/// How often recoveries are crashed, in a chain of crashes each in the recovery from the one before.
const DEPTH_MAX: u32 = 3;

/// Tries every image of every moment of the round's workloads.
///
/// # Errors
/// With the first that was not recovered as it must be.
pub(super) fn attack(seed: u64, counts: &mut Counts) -> Result<(), String> {
    let seeds = seed * WORKLOADS..(seed + 1) * WORKLOADS;
    seeds.into_iter().try_for_each(|workload| {
        attack_one(workload, counts).map_err(|what| format!("workload {workload}, {what}"))
    })
}

fn attack_one(seed: u64, counts: &mut Counts) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15);
    let run = record(seed)?;
    for (n, point) in run.points.iter().enumerate() {
        let at = |what: String| {
            format!("crash {n}, before {:?} of {:?}: {what}", point.operation, point.file)
        };
        counts.add("moments of a crash", 1);
        let is_sync = matches!(point.operation, Operation::Sync | Operation::SyncDir);
        counts.add("crashes inside a sync", u64::from(is_sync));
        let allowed = &run.models[point.states.clone()];
        kill(&point.disk, allowed, counts).map_err(at)?;
        let things = unsynced(&point.disk);
        for fates in choices(&things, &mut rng, counts) {
            let at = |what: String| at(format!("{fates:?}: {what}"));
            counts.add("crash images", 1);
            let image = point.disk.image(&fates, rng.u64(..));
            let before = image.fork();
            let state = recover(&image, allowed, counts).map_err(at)?;
            if rng.u8(..8) == 0 {
                ends_whole(&image).map_err(at)?;
            }
            if rng.u8(..8) == 0 {
                let model = &allowed[state];
                crash_again(&before, model, 1, &mut rng, counts).map_err(at)?;
            }
            if rng.u8(..8) == 0 {
                let state = state + point.states.start();
                overwrite(&image, &run, state, &mut rng, counts).map_err(at)?;
            }
            if rng.u8(..16) == 0 {
                rot(&before, &mut rng, counts).map_err(at)?;
            }
        }
    }
    Ok(())
}

/// Opens an image: which of the allowed states it holds, the newest if several.
fn recover(image: &SimDisk, allowed: &[Model], counts: &mut Counts) -> Result<usize, String> {
    let used = image.used();
    let (wal, recovered) = open(image.mount()).map_err(|error| format!("refused: {error}"))?;
    let read = Model::read(&wal, &recovered.groups)?;
    let state = allowed.iter().rposition(|model| *model == read);
    let state = state.ok_or_else(|| {
        let allowed: Vec<String> = allowed.iter().map(Model::line).collect();
        format!("recovered {}, none of {}", read.line(), allowed.join(" "))
    })?;
    counts.add("torn tails cut", u64::from(recovered.torn.is_some()));
    image.crash(Crash::Process);
    if image.used() > used + SEGMENT_BYTES {
        return Err(format!("recovery grew the disk from {used} to {} bytes", image.used()));
    }
    Ok(state)
}

/// After a recovery the last segment has nothing of a batch without its end (museum W12). What an
/// older one has of it is void: the next record says so.
fn ends_whole(image: &SimDisk) -> Result<(), String> {
    let log = Inspection::open(image.mount().as_ref(), &IDENTITY);
    let log = log.map_err(|error| format!("recovered, and now: {error}"))?;
    let mut last = None;
    if let Some(segment) = log.segments().last() {
        log.records(&segment, &mut |shown| last = Some(shown.record.kind));
    }
    match last {
        Some(RecordKind::Begin | RecordKind::Continue) => {
            Err("recovered, and a batch without its end is still there".to_owned())
        }
        _ => Ok(()),
    }
}

/// The process is killed and finds all that was in the cache; what it recovers it may promise, so
/// it must be there when the power fails right afterwards (museum P13).
fn kill(disk: &SimDisk, allowed: &[Model], counts: &mut Counts) -> Result<(), String> {
    counts.add("processes killed, then power lost", 1);
    let image = disk.fork();
    image.crash(Crash::Process);
    let state = recover(&image, allowed, counts)?;
    image.lose_power(&mut |_| Fate::Lost);
    recover(&image, &allowed[state..=state], counts).map_err(|what| {
        format!("killed, recovered {}, lost power: {what}", allowed[state].line())
    })?;
    Ok(())
}

/// Crashes at every operation of a recovery, and in the recovery from that (museum W20). What is
/// recovered must not change: the first recovery may have promised it.
fn crash_again(
    image: &SimDisk,
    model: &Model,
    depth: u32,
    rng: &mut fastrand::Rng,
    counts: &mut Counts,
) -> Result<(), String> {
    let disk = image.fork();
    disk.record();
    drop(open(disk.mount()).map_err(|error| format!("opened before, and now: {error}"))?);
    let moments = disk.recorded();
    let class =
        if depth == 1 { "crashes during recovery" } else { "crashes during recovery from one" };
    for (k, disk) in moments.iter().map(|moment| &moment.disk).chain([&disk]).enumerate() {
        let things = unsynced(disk);
        let drawn = mixed(&things, rng);
        for fates in [vec![Fate::Lost; things.len()], drawn] {
            counts.add(class, 1);
            let again = disk.image(&fates, rng.u64(..));
            let before = again.fork();
            let at = |what| format!("and before operation {k} of the recovery, {fates:?}: {what}");
            recover(&again, std::slice::from_ref(model), counts).map_err(at)?;
            if depth < DEPTH_MAX && rng.u8(..32) == 0 {
                crash_again(&before, model, depth + 1, rng, counts).map_err(at)?;
            }
        }
    }
    Ok(())
}

/// After a recovery, appends other batches as long as those that were cut off, and crashes (museum
/// W2), several times in a row: what was cut off must never come back behind them.
fn overwrite(
    image: &SimDisk,
    run: &Run,
    state: usize,
    rng: &mut fastrand::Rng,
    counts: &mut Counts,
) -> Result<(), String> {
    let mut model = run.models[state].clone();
    for _ in 0..rng.u32(1..=3) {
        counts.add("overwrites after recovery, then a crash", 1);
        let refused = |error| format!("after recovery: {error}");
        let (mut wal, _) = open(image.mount()).map_err(refused)?;
        let mut models = vec![model.clone()];
        for batch in run.batches_after(state).take(rng.usize(1..4)) {
            let steps: Vec<Step> = batch.iter().map(|step| other(step, &model)).collect();
            append(&mut wal, &steps).map_err(refused)?;
            model.apply(&steps);
            models.push(model.clone());
        }
        if rng.bool() {
            wal.sync().map_err(refused)?;
            models.drain(..models.len() - 1);
        }
        drop(wal);
        image.reseed(rng.u64(..));
        image.crash(Crash::Power);
        let state = recover(image, &models, counts)
            .map_err(|what| format!("overwritten and crashed: {what}"))?;
        model = models.swap_remove(state);
    }
    Ok(())
}

/// A step of another leader, as long as this one.
fn other(step: &Step, model: &Model) -> Step {
    let last = model.last(step.region);
    let (count, bytes) = (step.entries.len() as u64, step.entries.iter().next());
    let bytes = bytes.map_or(10, |entry| entry.entry.data.len());
    let entries = filled(last.term + 1, last.index + 1, count.max(1), bytes);
    Step { hard_state: step.hard_state, ..Step::append(step.region, entries) }
}
