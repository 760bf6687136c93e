//! Which state a store starts from: a checkpoint, and the snapshots where logs begin after it.

use std::collections::BTreeMap;

use raft::Index;
use raftstore::RegionId;
use raftstore::disk::Disk;
use raftstore::snapshot::FileName;

use super::{OpenError, name};
use crate::blocks::ReadError;
use crate::engine::MemEngine;
use crate::snapshot_file;

/// Loads the newest of the checkpoints `found`, in ascending order, that will do, and the
/// `snapshots` where the log begins after it. Returns its number with it, or an empty engine if
/// there is none and need not be.
pub(super) fn load(
    disk: &dyn Disk,
    found: &[u64],
    snapshots: &[FileName],
    log: &BTreeMap<RegionId, Index>,
) -> Result<(MemEngine, Option<u64>), OpenError> {
    let mut damage = None;
    for &seq in found.iter().rev() {
        let mut engine = match super::read(disk, seq) {
            Ok(engine) => engine,
            Err(error) => {
                let it = damaged(error)?;
                log::warn!("{} is damaged at offset {}: {}", it.0, it.1, it.2);
                damage.get_or_insert(it);
                continue;
            }
        };
        fill(disk, &mut engine, snapshots, log)?;
        return match (gap(&engine, log), damage) {
            (None, damage) => {
                if damage.is_some() {
                    log::warn!("starting from {} and the log after it", name(seq));
                }
                Ok((engine, Some(seq)))
            }
            (Some(_), Some((file, offset, what))) => {
                Err(OpenError::Damaged { file, offset, what, fallback: true })
            }
            (Some(gap), None) => Err(gap),
        };
    }
    let mut engine = MemEngine::new();
    if damage.is_none() {
        fill(disk, &mut engine, snapshots, log)?;
    }
    match (damage, gap(&engine, log)) {
        (Some((file, offset, what)), _) => {
            Err(OpenError::Damaged { file, offset, what, fallback: false })
        }
        (None, Some(gap)) => Err(gap),
        (None, None) => Ok((engine, None)),
    }
}

/// Which file is damaged, where, and how.
///
/// # Errors
/// If it could not even be read.
fn damaged(error: ReadError) -> Result<(String, u64, &'static str), OpenError> {
    match error {
        ReadError::Io { file, source } => {
            Err(OpenError::Io { what: format!("cannot read {file}"), source })
        }
        ReadError::Damaged { file, offset, what } => Ok((file, offset, what)),
    }
}

/// Takes the state of each region from a snapshot if its log begins there, and the checkpoint does
/// not reach as far.
fn fill(
    disk: &dyn Disk,
    engine: &mut MemEngine,
    snapshots: &[FileName],
    log: &BTreeMap<RegionId, Index>,
) -> Result<(), OpenError> {
    for name in snapshots {
        // Several files may have the same state; one is enough.
        if gap(engine, log).is_none() {
            return Ok(());
        }
        let applied = engine.read(|state| state.region(name.region)).map(|state| state.applied);
        if applied.is_some_and(|applied| applied.index >= name.last.index) {
            continue;
        }
        let file = name.to_string();
        let loaded = engine
            .replace_region(|load| snapshot_file::read(disk, &file, name.region, name.last, load));
        if let Err(error) = loaded {
            let (file, offset, what) = damaged(error)?;
            return Err(OpenError::Damaged { file, offset, what, fallback: false });
        }
        log::info!("the state of {:?} is that of {file}", name.region);
    }
    Ok(())
}

/// The first region whose entries after the checkpoint are not all in the log.
fn gap(engine: &MemEngine, log: &BTreeMap<RegionId, Index>) -> Option<OpenError> {
    engine.read(|state| {
        log.iter().find_map(|(&region, &forgotten)| {
            let applied = state.region(region).map_or(0, |state| state.applied.index);
            let gap = OpenError::Gap { region, applied, log: forgotten };
            (applied < forgotten).then_some(gap)
        })
    })
}
