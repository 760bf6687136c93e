//! The log of a node, and the thread that writes it.
//!
//! Group commit: all batches that queued while the last sync ran are appended, and one sync makes
//! them durable. They are reported together, in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raft::{Entries, Index, InitialState, MemStorage, Snapshot, Storage, StorageError};

use super::NodeError;
use super::shared::{Counts, Input, Shared};
use crate::batch::{Batch, WrittenBatch};
use crate::machine::Machine;
use crate::region::RegionId;
use crate::start::storage_of;
use crate::transport::queue::{Queue, Woken};
use crate::wal::{GroupRecord, Preparer, Wal, WalError};

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

    fn append(&mut self, groups: &[GroupRecord<'_>]) -> Result<(), WalError> {
        match self {
            NodeLog::Wal(wal) => wal.append(groups).map(|_| ()),
            NodeLog::Memory(log) => {
                groups.iter().for_each(|record| log.append(record));
                Ok(())
            }
        }
    }

    /// Makes what was appended durable.
    fn sync(&mut self, counts: &Counts) -> Result<(), WalError> {
        if let NodeLog::Wal(wal) = self {
            wal.sync()?;
            counts.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Drops what nobody needs. After the batches are reported, so that nobody waits for it.
    pub(super) fn collect(&mut self, counts: &Counts) -> Result<(), WalError> {
        let NodeLog::Wal(wal) = self else { return Ok(()) };
        counts.log_bytes.store(wal.written_bytes(), Ordering::Relaxed);
        counts.wants_segment.store(wal.is_half_used(), Ordering::Relaxed);
        loop {
            match wal.collect() {
                Ok(true) => {}
                // What would have to be moved finds no room: for another time.
                Ok(false) | Err(WalError::Full { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
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
            let meta = raft::SnapshotMeta { last, ..raft::SnapshotMeta::default() };
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

/// Batches to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    batches: Vec<Batch>,
    /// How many of them are appended already.
    appended: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Appends all of them, and syncs if one of them needs it; gives them as written.
    ///
    /// # Errors
    /// If the disk is full, the batches stay, and everybody whose promise rests on them waits,
    /// until this is called again and there is room. Any other error is the end of the store.
    pub(super) fn write(
        &mut self,
        log: &mut NodeLog,
        counts: &Counts,
    ) -> Result<Vec<WrittenBatch>, WalError> {
        while let Some(batch) = self.batches.get(self.appended) {
            if batch.has_record() {
                log.append(&batch.records()).inspect_err(|error| note(error, counts))?;
                counts.appends.fetch_add(1, Ordering::Relaxed);
            }
            self.appended += 1;
        }
        if counts.is_disk_full.swap(false, Ordering::Relaxed) {
            log::info!("there is room for the log again");
        }
        if self.batches.iter().any(Batch::must_sync) {
            log.sync(counts)?;
        }
        self.appended = 0;
        Ok(self.batches.drain(..).map(Batch::synced).collect())
    }
}

/// Says once that the disk is full.
fn note(error: &WalError, counts: &Counts) {
    if matches!(error, WalError::Full { .. }) && !counts.is_disk_full.swap(true, Ordering::Relaxed)
    {
        log::error!("{error}; nothing is acknowledged until there is room");
    }
}

/// The log thread: writes batches until the queue is closed, then closes the log.
pub(super) fn run<M: Machine>(
    mut log: NodeLog,
    queue: &Queue<Batch>,
    shared: &Shared<M>,
) -> Result<(), NodeError> {
    const PAUSE: Duration = Duration::from_millis(100);
    let (mut backlog, counts) = (Backlog::default(), &shared.counts);
    while queue.take(&mut backlog.batches, None) == Woken::Items {
        let written = loop {
            match backlog.write(&mut log, counts) {
                Ok(written) => break written,
                Err(WalError::Full { .. }) if !queue.sleep(Instant::now() + PAUSE) => {}
                Err(error) => return Err(error.into()),
            }
        };
        shared.tell(Input::Written(written));
        log.collect(counts)?;
    }
    Ok(log.close()?)
}

/// The thread that makes segments ahead of use, each time it is nudged.
pub(super) fn prepare(preparer: &Preparer, nudges: &Queue<()>) {
    let (mut queued, mut complained) = (Vec::new(), false);
    while nudges.take(&mut queued, None) == Woken::Items {
        queued.clear();
        match preparer.prepare() {
            Ok(_) => complained = false,
            // Harmless until the current segment is full; then appending says the same.
            Err(error) if !complained => {
                log::warn!("no log segment ahead of use: {error}");
                complained = true;
            }
            Err(_) => {}
        }
    }
}
