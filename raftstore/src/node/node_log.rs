//! Where a node keeps its log: on disk, or, for measuring everything else, in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use raft::{
    Entries, Index, InitialState, MemStorage, Snapshot, SnapshotMeta, Storage, StorageError,
};

use super::metrics::LogCounts;
use crate::region::RegionId;
use crate::start::storage_of;
use crate::wal::{GroupRecord, Lsn, PendingSync, Preparer, Wal, WalError};

/// Where a node keeps its log.
#[derive(Debug)]
pub enum NodeLog {
    /// On disk.
    Wal(Box<Wal>),
    /// In memory, for measuring everything but the disk.
    Memory(MemoryLog),
}

/// A log of which nothing survives.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Arc<Mutex<BTreeMap<RegionId, MemStorage>>>);

/// Gives each core its view of the log.
pub(super) type StorageOf = Box<dyn FnMut(RegionId, InitialState) -> Box<dyn Storage + Send>>;

impl NodeLog {
    pub(super) fn storage(&self) -> StorageOf {
        match self {
            NodeLog::Wal(wal) => Box::new(storage_of(wal.reader())),
            NodeLog::Memory(log) => {
                let log = log.clone();
                Box::new(move |region, initial| Box::new(MemoryView(log.group(region), initial)))
            }
        }
    }

    /// Makes segments ahead of use; `None` if there are none.
    pub(super) fn preparer(&self) -> Option<Preparer> {
        match self {
            NodeLog::Wal(wal) => Some(wal.preparer()),
            NodeLog::Memory(_) => None,
        }
    }

    /// Number of the last record; one that is durable at once has none.
    pub(super) fn appended(&self) -> Lsn {
        match self {
            NodeLog::Wal(wal) => wal.appended(),
            NodeLog::Memory(_) => Lsn(0),
        }
    }

    /// Bytes ever appended to it; none if there is nothing to sync.
    pub(super) fn written_bytes(&self) -> u64 {
        match self {
            NodeLog::Wal(wal) => wal.written_bytes(),
            NodeLog::Memory(_) => 0,
        }
    }

    /// How many threads can sync it at a time; none if there is nothing to sync.
    pub(super) fn syncs_max(&self) -> usize {
        match self {
            NodeLog::Wal(wal) => wal.syncs_max(),
            NodeLog::Memory(_) => 0,
        }
    }

    pub(super) fn append(&mut self, groups: &[GroupRecord<'_>]) -> Result<(), WalError> {
        match self {
            NodeLog::Wal(wal) => wal.append(groups).map(|_| ()),
            NodeLog::Memory(log) => {
                groups.iter().for_each(|record| log.append(record));
                Ok(())
            }
        }
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&mut self, counts: &LogCounts) -> Result<(), WalError> {
        if let NodeLog::Wal(wal) = self {
            counts.syncs.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            wal.sync().inspect_err(|_| _ = counts.sync_failures.fetch_add(1, Ordering::Relaxed))?;
            counts.sync_times.record_time(began.elapsed());
        }
        Ok(())
    }

    /// Begins to make what was appended durable.
    pub(super) fn begin_sync(
        &mut self,
        counts: &LogCounts,
    ) -> Result<Option<PendingSync>, WalError> {
        let NodeLog::Wal(wal) = self else { return Ok(None) };
        let pending = wal.begin_sync()?;
        counts.syncs.fetch_add(u64::from(pending.is_some()), Ordering::Relaxed);
        Ok(pending)
    }

    /// Drops what nobody needs. After the batches are reported, so that nobody waits for it.
    pub(super) fn collect(&mut self, counts: &LogCounts) -> Result<(), WalError> {
        let NodeLog::Wal(wal) = self else { return Ok(()) };
        let collected = loop {
            match wal.collect() {
                Ok(true) => {}
                // What would have to be moved finds no room: for another time.
                Ok(false) | Err(WalError::Full { .. }) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        counts.wants_segment.store(wal.wants_segment(), Ordering::Relaxed);
        counts.show(&wal.stats());
        collected
    }

    /// Makes everything durable for a restart.
    pub(super) fn close(self) -> Result<(), WalError> {
        match self {
            NodeLog::Wal(wal) => wal.close(),
            NodeLog::Memory(_) => Ok(()),
        }
    }
}

impl MemoryLog {
    fn group(&self, region: RegionId) -> MemStorage {
        self.0.lock().entry(region).or_default().clone()
    }

    fn append(&self, record: &GroupRecord<'_>) {
        let group = self.group(record.region);
        if let Some(hard_state) = record.hard_state {
            group.set_hard_state(hard_state);
        }
        if let Some(last) = record.reset {
            let meta = SnapshotMeta { last, ..SnapshotMeta::default() };
            // One that is older than the log's start changes nothing.
            let _ = group.apply_snapshot(Snapshot { meta, ..Snapshot::default() });
        }
        group.append(record.entries);
        if let Some(to) = record.compact {
            // One that is done already is as good.
            let _ = group.compact(to.index);
        }
    }
}

/// A group in memory, with the membership that the store knows.
struct MemoryView(MemStorage, InitialState);

impl Storage for MemoryView {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        Ok(self.1.clone())
    }

    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError> {
        self.0.entries(range, bytes_max)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Err(StorageError::SnapshotUnavailable)
    }
}
