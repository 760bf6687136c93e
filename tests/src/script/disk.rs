//! What a server of a script has on its disk.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use raft::{
    ConfState, Entries, Index, InitialState, LogId, MemStorage, Snapshot, SnapshotMeta, Storage,
    StorageError, Write, Written,
};

/// A log in memory, and the snapshots of the state machine after each applied entry. The latest
/// of those is what the core gets when it asks for one. A clone is another handle on the same.
///
/// The state machine is the concatenation of what it was given. A snapshot that was received is
/// not put into the history, as in etcd's tests, so the history may lag behind the log.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) log: MemStorage,
    history: Arc<Mutex<Vec<Snapshot>>>,
    /// Entries have to be read first.
    is_slow: Arc<AtomicBool>,
}

impl Disk {
    /// A disk with that snapshot on it; an empty one, if it is the default.
    pub(super) fn new(snapshot: &Snapshot) -> Result<Disk, StorageError> {
        let log = MemStorage::default();
        if *snapshot != Snapshot::default() {
            log.apply_snapshot(snapshot.clone())?;
        }
        Ok(Disk {
            log,
            history: Arc::new(Mutex::new(vec![snapshot.clone()])),
            is_slow: Arc::default(),
        })
    }

    /// From now on entries can only be had later, or at once again.
    pub(super) fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// The last snapshot in the history.
    pub(super) fn latest(&self) -> Snapshot {
        self.history.lock().last().cloned().unwrap_or_default()
    }

    /// The last position applied, with the membership as of then: that of the history, or of a
    /// snapshot that was received since.
    pub(super) fn last_applied(&self) -> SnapshotMeta {
        let latest = self.latest().meta;
        let received = self.log.snapshot().map(|snapshot| snapshot.meta).unwrap_or_default();
        if latest.last.index < received.last.index { received } else { latest }
    }

    /// Stores all of a write.
    ///
    /// # Errors
    /// If a snapshot is not newer than the stored one, or comes with entries, which etcd's tests
    /// do not expect.
    pub(super) fn store(&self, write: Write) -> Result<Written, String> {
        if let Some(state) = write.hard_state().filter(|state| !state.is_empty()) {
            self.log.set_hard_state(state);
        }
        match write.snapshot() {
            Some(_) if !write.entries().is_empty() => {
                return Err("can't apply snapshot and entries at the same time".to_owned());
            }
            Some(snapshot) => {
                self.log.apply_snapshot(snapshot.clone()).map_err(|e| e.to_string())?;
            }
            None => self.log.append(write.entries()),
        }
        Ok(write.synced())
    }

    /// Notes that the entry at `last` was applied, with what it added to the state machine and
    /// the membership that it led to, if it changed that.
    pub(super) fn applied(&self, last: LogId, update: &[u8], conf_state: Option<ConfState>) {
        let before = self.latest();
        let conf_state = conf_state.unwrap_or(before.meta.conf_state);
        self.history.lock().push(Snapshot {
            meta: SnapshotMeta { last, conf_state },
            data: [&before.data, update].concat().into(),
        });
    }
}

impl Storage for Disk {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let state = self.log.initial_state()?;
        Ok(InitialState { conf_state: self.last_applied().conf_state, ..state })
    }

    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError> {
        if self.is_slow.load(Ordering::Relaxed) {
            return Err(StorageError::Later);
        }
        self.log.entries(range, bytes_max)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.latest())
    }
}
