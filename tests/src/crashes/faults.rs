//! System calls that fail: the k-th of a workload, for all k, on real files by each route and on the
//! simulated disk, where a failed sync also loses pages.
//!
//! What must hold: the failure is an error that names the file, never a panic. Then either the log
//! takes no more writes (it is *poisoned*), or nothing had happened and the workload goes on to its
//! end. Whatever becomes of it, everything synced is recovered.

use std::io;
use std::sync::Arc;

use raftstore::disk::sim::{Crash, Fate, Fault};
use raftstore::disk::{DirDisk, Disk, Route, SimDisk};
use raftstore::wal::WalError;

use super::counts::Counts;
use super::model::{Model, filled, open};
use super::seam::{Call, Failing, Seam, scratch};
use super::workload::{Deed, Player, deeds, is_direct, rolling};

const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// How each kind of call fails, and its class.
fn failures(call: Call) -> (&'static [i32], &'static str) {
    match call {
        Call::Open => (&[EMFILE, EIO], "failed: open"),
        Call::Mmap => (&[ENOMEM], "failed: mmap"),
        Call::Fallocate => (&[ENOSPC, EIO], "failed: fallocate"),
        Call::Write => (&[EIO, ENOSPC], "failed: write"),
        Call::Fdatasync => (&[EIO, ENOSPC], "failed: fdatasync"),
        Call::Rename => (&[EIO, ENOSPC], "failed: rename"),
        Call::Unlink => (&[EIO], "failed: unlink"),
        Call::FsyncDir => (&[EIO], "failed: fsync of the directory"),
        Call::ReadDir => (&[EIO], "failed: readdir"),
        Call::Mprotect => (&[ENOMEM], "failed: mprotect"),
    }
}

/// Over how many rounds the calls of the direct route are divided.
const DIRECT_ROUNDS: u64 = 4;
/// How many times as many where they reach a device, whose syncs take long.
const ON_DEVICE: u64 = 8;
const DIRECT_CLASS: &str = "failed: calls of the direct route";

/// Fails each call of a workload, one at a time.
///
/// # Errors
/// With the first failure that was not dealt with as it must be.
pub(super) fn attack(seed: u64, counts: &mut Counts) -> Result<(), String> {
    let route = if seed.is_multiple_of(2) { Route::Written } else { Route::Mapped };
    attack_by(route, seed, &|_| true, counts)?;
    match direct_rounds()? {
        None => counts.excuse(DIRECT_CLASS, "no temporary directory has direct writes".to_owned()),
        // The rounds that share a workload follow each other.
        Some(rounds) => {
            let is_ours = |number| number % rounds == seed % rounds;
            attack_by(Route::Direct, seed / rounds, &is_ours, counts)?;
        }
    }
    simulated(seed, counts)
}

/// Over how many rounds the direct route is divided here; `None` if there is none.
fn direct_rounds() -> Result<Option<u64>, String> {
    let has_direct = |dir: io::Result<tempfile::TempDir>| {
        dir.and_then(|dir| Ok(DirDisk::open(dir.path(), Route::Direct)?.route() == Route::Direct))
            .map_err(|error| format!("the temporary directory: {error}"))
    };
    if has_direct(scratch())? {
        return Ok(Some(DIRECT_ROUNDS));
    }
    Ok(has_direct(tempfile::tempdir())?.then_some(DIRECT_ROUNDS * ON_DEVICE))
}

fn attack_by(
    route: Route,
    seed: u64,
    is_ours: &dyn Fn(u64) -> bool,
    counts: &mut Counts,
) -> Result<(), String> {
    let (_, calls) = real(seed, route, None)?;
    for (number, call) in (0u64..).zip(calls).filter(|(number, _)| is_ours(*number)) {
        let (codes, class) = failures(call);
        for &code in codes {
            counts.add(class, 1);
            counts.add(DIRECT_CLASS, u64::from(route == Route::Direct));
            let failing = Failing { number, code };
            let at =
                |what| format!("{route:?}, call {number} ({call:?}) fails with {code}: {what}");
            let (has_failed, _) = real(seed, route, Some(failing)).map_err(at)?;
            // A start that finds the disk full has a reserve for that (museum W17).
            let has_reserve = call == Call::Fallocate && code == ENOSPC;
            if !has_failed && !has_reserve {
                return Err(at("nobody noticed".to_owned()));
            }
        }
    }
    Ok(())
}

/// Plays a workload on real files, of which a call may fail. Whether one did, and all calls.
fn real(seed: u64, route: Route, failing: Option<Failing>) -> Result<(bool, Vec<Call>), String> {
    let disk = |error: io::Error| format!("the temporary directory: {error}");
    let mut dir = scratch().map_err(disk)?;
    let mut seam = Seam::new(dir.path(), route, seed).map_err(disk)?;
    if seam.route() != route {
        // Some file systems in memory have no writes past the cache.
        dir = tempfile::tempdir().map_err(disk)?;
        seam = Seam::new(dir.path(), route, seed).map_err(disk)?;
    }
    seam.fail(failing);
    let reopen = || Arc::new(seam.clone()) as Arc<dyn Disk>;
    let played = play(&workload(seed), &reopen)?;
    let calls = seam.calls();
    recovered(&reopen, &played)?;
    Ok((played.failed, calls))
}

/// The same on the simulated disk, where pages are lost with a failed sync.
fn simulated(seed: u64, counts: &mut Counts) -> Result<(), String> {
    let deeds = workload(seed);
    let run = |fault: Option<(u64, Fault)>| {
        let drive = SimDisk::new(seed);
        drive.set_direct(is_direct(seed));
        if let Some((number, fault)) = fault {
            drive.fail(number, fault);
        }
        let reopen = || {
            drive.crash(Crash::Process);
            drive.mount()
        };
        let played = play(&deeds, &reopen)?;
        let operations = drive.operations();
        drive.heal();
        let killed = recovered(&reopen, &played)?;
        drive.lose_power(&mut |_| Fate::Lost);
        if recovered(&reopen, &played)? != killed {
            return Err("what was recovered is lost with the power".to_owned());
        }
        Ok(operations)
    };
    let operations = run(None)?;
    for number in 0..operations {
        for (fault, class) in [
            (Fault::Error, "failed: simulated operations"),
            (Fault::Full, "full: simulated operations"),
        ] {
            counts.add(class, 1);
            run(Some((number, fault)))
                .map_err(|what| format!("simulated, operation {number}, {fault:?}: {what}"))?;
        }
    }
    Ok(())
}

fn workload(seed: u64) -> Vec<Deed> {
    deeds(seed).into_iter().chain(rolling()).collect()
}

/// How a workload went.
struct Played {
    models: Vec<Model>,
    synced: usize,
    failed: bool,
}

/// Plays to the end, or to where the log takes no more.
fn play(deeds: &[Deed], reopen: &dyn Fn() -> Arc<dyn Disk>) -> Result<Played, String> {
    let mut player = match Player::new(reopen()) {
        Ok(player) => player,
        // Nothing was promised yet; the next start must do.
        Err(first) => {
            said(&first)?;
            let again = Player::new(reopen()).map_err(|e| format!("the next start: {e}"))?;
            let failed = true;
            return Ok(Played { models: again.models, synced: 0, failed });
        }
    };
    let mut failed = false;
    for deed in deeds {
        let Err(error) = player.play(deed, reopen) else { continue };
        said(&error)?;
        if std::mem::replace(&mut failed, true) {
            return Err(format!("fails again: {error}"));
        }
        let Ok(wal) = player.wal() else { break };
        if wal.is_poisoned() {
            refuses(wal)?;
            break;
        }
        // Nothing had happened: the same again, and then the rest.
        player.play(deed, reopen).map_err(|error| format!("tried again: {error}"))?;
    }
    Ok(Played { models: player.models, synced: player.synced, failed })
}

/// Only an error of the disk, with the file, or the lack of space may come of a failing call.
fn said(error: &WalError) -> Result<(), String> {
    match error {
        WalError::Io { .. } | WalError::Full { .. } => Ok(()),
        other => Err(format!("an error of another kind: {other}")),
    }
}

/// A poisoned log does nothing any more (museum W10, W11).
fn refuses(wal: &mut raftstore::wal::Wal) -> Result<(), String> {
    let entries = filled(1, 1, 1, 1);
    let record = raftstore::wal::GroupRecord::new(raftstore::RegionId(99), &entries);
    let answers = [wal.append(&[record]).map(drop), wal.sync().map(drop), wal.collect().map(drop)];
    if answers.iter().all(|answer| matches!(answer, Err(WalError::Poisoned))) {
        return Ok(());
    }
    Err(format!("goes on after it was poisoned: {answers:?}"))
}

/// What a next start finds: a state of the run, and not before what was synced.
fn recovered(reopen: &dyn Fn() -> Arc<dyn Disk>, played: &Played) -> Result<Model, String> {
    let (wal, recovered) = open(reopen()).map_err(|error| format!("the next start: {error}"))?;
    let read = Model::read(&wal, &recovered.groups)?;
    if played.models[played.synced..].contains(&read) {
        return Ok(read);
    }
    Err(format!(
        "recovered {}, where batch {} of {} was synced",
        read.line(),
        played.synced,
        played.models.len() - 1
    ))
}
