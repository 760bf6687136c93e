//! What the core reads of the persisted log, and a log in memory for tests and benchmarks.
//!
//! The core keeps the term of every index and all entries that are not yet applied, so a storage
//! is asked for entries only when a follower lags behind that, and after a restart.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::entry::{Entries, Run};
use crate::error::StorageError;
use crate::log::Terms;
use crate::ready::Write;
use crate::types::{ConfState, HardState, Index, LogId, Snapshot};

/// What a server finds on its disk when it starts.
#[derive(Clone, Debug, Default)]
pub struct InitialState {
    /// Term, vote and commit; the default for a new server.
    pub hard_state: HardState,
    /// The membership as of [`Config::applied`](crate::Config::applied).
    pub conf_state: ConfState,
    /// What precedes the log: the position of the last compacted entry.
    pub compacted: LogId,
    /// The first position of each run of entries of one term, ascending.
    pub terms: Vec<LogId>,
    /// The last index, that of `compacted` for an empty log.
    pub last: Index,
}

/// The persisted log, as the core reads it. All that was reported persisted must be readable.
pub trait Storage {
    /// What there is at the start.
    ///
    /// # Errors
    /// If it cannot be read.
    fn initial_state(&self) -> Result<InitialState, StorageError>;

    /// The longest beginning of `range` within `bytes_max` as [`Entry::size`](crate::Entry::size)
    /// counts, but at least one entry.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] or [`StorageError::Unavailable`] if the range is not all there,
    /// [`StorageError::Other`] if it cannot be read. The core then tries again later.
    /// [`StorageError::Later`] if it has to be read first: the core waits until
    /// [`RawNode::entries_fetched`](crate::RawNode::entries_fetched) is called.
    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError>;

    /// The latest snapshot, for a follower whose next entry is compacted.
    ///
    /// # Errors
    /// [`StorageError::SnapshotUnavailable`] if it is still being made; the core asks again.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;

    /// A snapshot that reaches `index` at least, for a follower that has asked for one
    /// ([`RawNode::request_snapshot`](crate::RawNode::request_snapshot)). A storage that hands out the
    /// same snapshot for as long as it will do must begin to make a newer one here, or the
    /// follower waits in vain.
    ///
    /// # Errors
    /// As [`Storage::snapshot`]; the core asks again.
    fn snapshot_reaching(&self, index: Index) -> Result<Snapshot, StorageError> {
        let snapshot = self.snapshot()?;
        if snapshot.meta.last.index < index {
            return Err(StorageError::SnapshotUnavailable);
        }
        Ok(snapshot)
    }
}

/// A log in memory. A clone is another handle on the same log.
#[derive(Clone, Debug, Default)]
pub struct MemStorage(Arc<Mutex<MemLog>>);

#[derive(Debug)]
struct MemLog {
    hard_state: HardState,
    /// The membership a server starts with.
    conf_state: ConfState,
    snapshot: Option<Box<Snapshot>>,
    terms: Terms,
    /// In order, without a gap.
    runs: Vec<Run>,
}

impl Default for MemLog {
    fn default() -> MemLog {
        MemLog {
            hard_state: HardState::default(),
            conf_state: ConfState::default(),
            snapshot: None,
            terms: Terms::new(LogId::ZERO),
            runs: Vec::new(),
        }
    }
}

impl MemLog {
    fn append(&mut self, entries: Entries) {
        match entries.first() {
            Some(first) if first <= self.terms.last() => self.replace(&entries),
            _ => self.extend(entries),
        }
    }

    /// Adds entries in the place of others, those that are not compacted.
    fn replace(&mut self, entries: &Entries) {
        let rest = entries.slice(self.terms.compacted().index + 1..Index::MAX);
        if let Some(first) = rest.first().filter(|first| *first <= self.terms.last()) {
            self.truncate(first);
        }
        self.extend(rest);
    }

    /// Adds entries at the end.
    fn extend(&mut self, entries: Entries) {
        entries.for_each_run(|run| {
            self.terms.append(run.term(), run.first(), run.end() - 1);
            self.runs.push(run);
        });
    }

    /// Drops the entries from `from` on.
    fn truncate(&mut self, from: Index) {
        self.terms.truncate(from);
        while let Some(last) = self.runs.pop_if(|run| run.end() > from) {
            self.runs.extend(last.slice(0..from));
        }
    }

    /// Replaces the log by a snapshot.
    fn install(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        let stored = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.last.index);
        if stored != 0 && stored >= snapshot.meta.last.index {
            return Err(StorageError::SnapshotOutOfDate);
        }
        self.terms = Terms::new(snapshot.meta.last);
        self.runs.clear();
        self.snapshot = Some(Box::new(snapshot));
        Ok(())
    }
}

impl MemStorage {
    /// An empty log of a group with that membership, for a server that starts with it.
    #[must_use]
    pub fn with_conf_state(conf_state: ConfState) -> MemStorage {
        let storage = MemStorage::default();
        storage.log().conf_state = conf_state;
        storage
    }

    fn log(&self) -> MutexGuard<'_, MemLog> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Replaces the hard state.
    pub fn set_hard_state(&self, hard_state: HardState) {
        self.log().hard_state = hard_state;
    }

    /// The hard state.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.log().hard_state
    }

    /// What precedes the log.
    #[must_use]
    pub fn compacted(&self) -> LogId {
        self.log().terms.compacted()
    }

    /// The last position.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.log().terms.last_id()
    }

    /// Stores all that is in `write`: the snapshot, then the entries, which are moved out of it, then
    /// the hard state.
    ///
    /// # Errors
    /// [`StorageError::SnapshotOutOfDate`] if there is as new a snapshot; nothing is stored then.
    ///
    /// # Panics
    /// If the entries would leave a gap.
    pub fn write(&self, write: &mut Write) -> Result<(), StorageError> {
        let mut log = self.log();
        if let Some(snapshot) = write.snapshot() {
            log.install(snapshot.clone())?;
        }
        log.append(write.take_entries());
        if let Some(hard_state) = write.hard_state() {
            log.hard_state = hard_state;
        }
        Ok(())
    }

    /// Appends `entries`; those from their first index on that were there are replaced, those at
    /// or below the compacted index are left out.
    ///
    /// # Panics
    /// If they would leave a gap.
    pub fn append(&self, entries: &Entries) {
        self.log().append(entries.clone());
    }

    /// Replaces the log by a snapshot.
    ///
    /// # Errors
    /// [`StorageError::SnapshotOutOfDate`] if the stored one is as new.
    pub fn apply_snapshot(&self, snapshot: Snapshot) -> Result<(), StorageError> {
        self.log().install(snapshot)
    }

    /// Records a snapshot of the state machine, to be handed to followers that lag.
    pub fn set_snapshot(&self, snapshot: Snapshot) {
        self.log().snapshot = Some(Box::new(snapshot));
    }

    /// Drops the entries up to `to`.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] if they are gone already, [`StorageError::Unavailable`] if
    /// there is no such entry.
    pub fn compact(&self, to: Index) -> Result<(), StorageError> {
        let mut log = self.log();
        if to <= log.terms.compacted().index {
            return Err(StorageError::Compacted);
        }
        let term = log.terms.get(to).ok_or(StorageError::Unavailable)?;
        log.terms.compact(LogId::new(term, to));
        let gone = log.runs.partition_point(|run| run.end() <= to + 1);
        log.runs.drain(..gone);
        if let Some(first) = log.runs.first_mut()
            && let Some(rest) = first.slice(to + 1..Index::MAX)
        {
            *first = rest;
        }
        Ok(())
    }
}

impl Storage for MemStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        let log = self.log();
        let conf_state =
            log.snapshot.as_ref().map_or(&log.conf_state, |snapshot| &snapshot.meta.conf_state);
        Ok(InitialState {
            hard_state: log.hard_state,
            conf_state: conf_state.clone(),
            compacted: log.terms.compacted(),
            terms: log.terms.runs().collect(),
            last: log.terms.last(),
        })
    }

    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError> {
        let log = self.log();
        if range.start <= log.terms.compacted().index {
            return Err(StorageError::Compacted);
        }
        if range.end > log.terms.last() + 1 {
            return Err(StorageError::Unavailable);
        }
        let start = log.runs.partition_point(|run| run.end() <= range.start);
        let mut found = Entries::new();
        for run in log.runs[start..].iter().map_while(|run| run.slice(range.clone())) {
            found.push(run).expect("a log has no gaps");
            if found.size() >= bytes_max {
                break;
            }
        }
        Ok(found.limit(bytes_max))
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let log = self.log();
        let snapshot = log.snapshot.as_ref().filter(|snapshot| snapshot.meta.last.index > 0);
        snapshot.map(|snapshot| Snapshot::clone(snapshot)).ok_or(StorageError::SnapshotUnavailable)
    }
}

#[cfg(test)]
mod tests;
