//! From what is on disk to a running store: which regions there are, and whether the log and the
//! state machine fit together.
//!
//! The log and the machine's checkpoint are made durable independently. What a crash can leave:
//!
//! ```text
//!   log           compacted ·········· last          commit: any, a hint
//!   checkpoint           ▲ applied
//!   must hold     compacted ≤ applied ≤ last, and the same term at `applied`
//! ```
//!
//! The checkpoint never runs ahead of the log, because entries are applied only when this store's
//! own log has them on disk, and the log is never compacted past the checkpoint. A log that a
//! snapshot has reset begins where the snapshot ends, and the machine has taken the snapshot's file
//! for its state before it comes here ([`crate::snapshot`]). So anything else means that data was
//! lost or mixed up, and the store must not vote or acknowledge on the strength of it (W4, K11). A
//! commit index below `applied` is raised to it (P4).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use raft::{Entries, Index, InitialState, LogId, NewError, RawNode, Snapshot};
use raft::{Storage, StorageError};

use crate::applier::Applier;
use crate::machine::{Machine, RecoveredRegion};
use crate::region::{Region, RegionId};
use crate::snapshot::Slot;
use crate::store::{Store, StoreConfig};
use crate::wal::{GroupLog, LogReader, ReadError};

/// Why a store does not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log begins after the state machine's checkpoint ends: what is between is lost.
    #[error("region {region}: the log begins after {compacted}, the state ends at {applied}")]
    StateBehindLog {
        /// Which region.
        region: RegionId,
        /// What precedes the log.
        compacted: LogId,
        /// The last entry in the checkpoint.
        applied: LogId,
    },
    /// The checkpoint holds entries that the log has lost, or never had.
    #[error(
        "region {region}: the state ends at {applied}, the log at index {last}, and it differs"
    )]
    LogBehindState {
        /// Which region.
        region: RegionId,
        /// The last entry in the checkpoint.
        applied: LogId,
        /// The last index in the log.
        last: u64,
    },
    /// The log has a group that the state machine knows nothing of.
    #[error("the log has a region {0} that the state does not have")]
    UnknownGroup(RegionId),
    /// The region has no peer on this store.
    #[error("region {0} has no peer on this store")]
    NotAMember(RegionId),
    /// The Raft core refuses the state.
    #[error("region {region}: {source}")]
    Raft {
        /// Which region.
        region: RegionId,
        /// Why.
        source: NewError,
    },
}

/// Opens all regions that the log and the state machine have; a store that has none starts with
/// `bootstrap`. `storage` gives each group its view of the log, to begin with that state.
///
/// # Errors
/// If log and state machine don't fit together.
pub fn start<M: Machine>(
    config: StoreConfig,
    machine: M,
    bootstrap: Region,
    groups: &BTreeMap<RegionId, GroupLog>,
    mut storage: impl FnMut(RegionId, InitialState) -> Box<dyn Storage + Send>,
) -> Result<(Store<M>, Applier<M>), StartError> {
    let mut known: BTreeMap<RegionId, RecoveredRegion> =
        machine.recovered().into_iter().map(|r| (r.region.id, r)).collect();
    let mut applier = Applier::new(machine, u64::from(config.read_deadline_ticks));
    // A crash before the first checkpoint leaves a log of the first region and no state.
    if known.is_empty() {
        applier.create(bootstrap.clone());
        let region = RecoveredRegion { region: bootstrap, applied: LogId::ZERO };
        known.insert(region.region.id, region);
    }
    if let Some(&unknown) = groups.keys().find(|region| !known.contains_key(region)) {
        return Err(StartError::UnknownGroup(unknown));
    }
    let mut store = Store::new(config);
    for (id, RecoveredRegion { region, applied }) in known {
        let log = groups.get(&id).cloned().unwrap_or_default();
        check_fit(id, &log, applied)?;
        let Some(peer) = region.peer_on(store.config().store).map(|peer| peer.id) else {
            return Err(StartError::NotAMember(id));
        };
        let initial = InitialState {
            hard_state: log.hard_state,
            conf_state: region.conf_state(),
            compacted: log.compacted,
            terms: log.terms,
            last: log.last,
        };
        let raft_config = store.config().raft(peer, id, applied.index);
        let slot = Slot::default();
        let raw = RawNode::new(raft_config, slot.beside(storage(id, initial)))
            .map_err(|source| StartError::Raft { region: id, source })?;
        applier.open(id, applied.index);
        let durable = applier.durable(id);
        store.open(region, raw, slot, durable);
    }
    Ok((store, applier))
}

/// One group's part of the log, as its core reads it.
struct GroupStorage {
    region: RegionId,
    initial: InitialState,
    reader: LogReader,
    /// Damage was found and said.
    is_damaged: AtomicBool,
}

/// The views of the log behind `reader`, for [`start`].
pub fn storage_of(
    reader: LogReader,
) -> impl FnMut(RegionId, InitialState) -> Box<dyn Storage + Send> {
    move |region, initial| {
        let (reader, is_damaged) = (reader.clone(), AtomicBool::new(false));
        Box::new(GroupStorage { region, initial, reader, is_damaged })
    }
}

impl Storage for GroupStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        Ok(self.initial.clone())
    }

    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError> {
        self.reader.entries(self.region, range, bytes_max).map_err(|error| match error {
            ReadError::Compacted { .. } => StorageError::Compacted,
            ReadError::Unavailable { .. } | ReadError::Unknown(_) => StorageError::Unavailable,
            damage => {
                // The core asks again and again; once is enough to be told.
                if !self.is_damaged.swap(true, Ordering::Relaxed) {
                    log::error!("{:?} the log cannot be read: {damage}", self.region);
                }
                StorageError::Other(Box::new(damage))
            }
        })
    }

    /// The store answers this for all logs; see [`Slot`].
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Err(StorageError::SnapshotUnavailable)
    }
}

/// The rule of the module's drawing.
fn check_fit(region: RegionId, log: &GroupLog, applied: LogId) -> Result<(), StartError> {
    let compacted = log.compacted;
    if applied.index < compacted.index {
        return Err(StartError::StateBehindLog { region, compacted, applied });
    }
    let runs = std::iter::once(&compacted).chain(&log.terms);
    let term = runs.take_while(|run| run.index <= applied.index).last().map_or(0, |run| run.term);
    if applied.index > log.last || applied.term != term {
        return Err(StartError::LogBehindState { region, applied, last: log.last });
    }
    Ok(())
}
