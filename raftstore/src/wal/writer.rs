//! Appending and syncing: one writer, one segment at a time.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::disk::{Disk, Identity, LogFile};

use super::batch::{self, Changes, GroupRecord};
use super::error::WalError;
use super::flight::{Flights, PendingSync};
use super::format::{
    Before, RECORD_HEADER_BYTES, RecordKind, SegmentHeader, record_bytes, seal_record,
};
use super::index::LogIndex;
use super::reader::LogReader;
use super::segment::{Preparer, Spare, segment_name};
use super::spill::Spill;
use super::{Lsn, WalOptions};

/// The log, in the hands of its only writer. See [`super`] for what it promises.
pub struct Wal {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) identity: Identity,
    pub(super) options: WalOptions,
    pub(super) preparer: Preparer,
    pub(super) index: Arc<RwLock<LogIndex>>,
    pub(super) active: Active,
    /// Number of the last record appended.
    pub(super) appended: Lsn,
    /// Number of the last record that a sync was begun for.
    pub(super) begun: Lsn,
    /// Syncs on their way, and what is durable.
    pub(super) flights: Arc<Flights>,
    /// Set by the first failure of a write, and never cleared; the flights know of failed syncs.
    pub(super) poisoned: bool,
    pub(super) stats: WalStats,
    pub(super) scratch: Scratch,
    pub(super) spill: Spill,
    /// How many bytes may be carried from old segments.
    pub(super) credit: u64,
}

/// What the log has done since it was opened, and how large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Batches appended.
    pub batches: u64,
    /// Bytes of records appended.
    pub bytes: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Segments started.
    pub segments_started: u64,
    /// Segments dropped because nothing in them was needed any more.
    pub segments_dropped: u64,
    /// Bytes of records that were written again so that a segment could be dropped.
    pub carried_bytes: u64,
    /// Bytes of the torn tail that opening cut off.
    pub torn_bytes: u64,
    /// Segments there are, the one written included.
    pub segments: u64,
    /// Bytes of their files, and of those made ahead of use.
    pub file_bytes: u64,
    /// Bytes of what groups still have: entries, hard states, and where their logs start.
    pub live_bytes: u64,
}

/// Buffers used again for each batch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    record: Vec<u8>,
    changes: Changes,
    regions: Vec<u64>,
}

/// The segment that is written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) header: SegmentHeader,
    pub(super) name: String,
    pub(super) file: Box<dyn LogFile>,
    pub(super) before: Before,
    /// Where the next record goes.
    pub(super) at: u64,
    /// Every record ends at a multiple of this.
    pub(super) block: u64,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("segment", &self.active.header.segment)
            .field("appended", &self.appended)
            .field("durable", &self.durable())
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl Wal {
    /// Appends a batch: what changes in several groups, each occurring at most once, recovered
    /// together or not at all. Readers see it at once; it is durable when a [`Wal::sync`] after it
    /// has returned at least its number. An empty batch does nothing.
    ///
    /// # Errors
    /// - [`WalError::Refused`], [`WalError::TooLarge`]: the batch is wrong; nothing was written.
    /// - [`WalError::Full`]: there is no room; the same batch may be tried again.
    /// - [`WalError::Io`], [`WalError::Poisoned`]: the log takes no more writes.
    pub fn append(&mut self, groups: &[GroupRecord<'_>]) -> Result<Lsn, WalError> {
        self.check(groups)?;
        if groups.is_empty() {
            return Ok(self.appended);
        }
        self.spill()?;
        let before = self.stats.bytes;
        self.write(groups, false)?;
        self.stats.batches += 1;
        self.credit += 2 * (self.stats.bytes - before);
        Ok(self.appended)
    }

    /// Makes everything appended durable, with one sync more; none if it is already. Returns the
    /// number up to which all is durable.
    ///
    /// # Errors
    /// [`WalError::Io`] the first time, then [`WalError::Poisoned`]: what was appended since the
    /// last successful sync may or may not survive, so nothing that rests on it may be promised.
    /// It must not be tried again (museum W10).
    pub fn sync(&mut self) -> Result<Lsn, WalError> {
        // Whoever runs it, it is run below at the latest.
        drop(self.begin_sync()?);
        self.flights.land_all()
    }

    /// Begins to make everything appended durable, to be ended by [`PendingSync::run`] on any
    /// thread while more is appended; `None` if a sync was begun for all of it already. As many
    /// as [`Wal::syncs_max`] run at a time, and what is durable grows in order.
    ///
    /// # Errors
    /// [`WalError::Poisoned`] after a failure.
    pub fn begin_sync(&mut self) -> Result<Option<PendingSync>, WalError> {
        self.end_spill();
        self.begin()
    }

    /// As [`Wal::begin_sync`], beside what the spill still writes.
    pub(super) fn begin(&mut self) -> Result<Option<PendingSync>, WalError> {
        self.spill.begun_bytes = self.stats.bytes;
        self.check_health()?;
        if self.begun == self.appended {
            return Ok(None);
        }
        self.stats.syncs += 1;
        self.begun = self.appended;
        let flush = self.active.file.flush();
        Ok(Some(self.flights.begin(self.begun, self.active.header.segment, flush)))
    }

    /// How many syncs run at a time: more threads than that only wait for each other.
    #[must_use]
    pub fn syncs_max(&self) -> usize {
        self.disk.flushes_max()
    }

    /// Syncs, and notes in the log that everything is durable, so that damage to the last records
    /// can be told from a torn tail.
    ///
    /// # Errors
    /// As [`Wal::sync`].
    pub fn close(mut self) -> Result<(), WalError> {
        self.sync()?;
        if self.active.room() >= self.active.padded(RECORD_HEADER_BYTES as u64) {
            self.scratch.record.clear();
            self.scratch.record.resize(RECORD_HEADER_BYTES, 0);
            self.scratch.changes.clear();
            self.write_record(RecordKind::Mark)?;
            self.sync()?;
        }
        Ok(())
    }

    /// Reads what was appended, on any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.index))
    }

    /// Where its files are.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Makes the next segment ahead of its use, on any thread.
    #[must_use]
    pub fn preparer(&self) -> Preparer {
        self.preparer.clone()
    }

    /// Number of the last record.
    #[must_use]
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Number of the last record that is durable.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.flights.durable()
    }

    /// Whether an earlier failure stopped the log.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned || self.flights.is_failed()
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let index = self.index.read();
        let files: u64 = index.segments.values().map(|segment| segment.file_bytes).sum();
        WalStats {
            segments: index.segments.len() as u64,
            file_bytes: files + self.preparer.ready_bytes(),
            live_bytes: index.live_bytes(),
            ..self.stats
        }
    }

    /// Bytes of records appended since the log was opened.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.stats.bytes
    }

    /// Whether so much of the segment is used that it is time to prepare the next one, and none is
    /// ready or being made, or the reserve is missing: an eighth, so that a log that grows as fast as
    /// the disk takes it does not wait for the zeros, and what has just died can be used instead. A
    /// shorter one, made for the start, is soon full. Best asked after [`Wal::collect`], which makes
    /// room for it.
    #[must_use]
    pub fn wants_segment(&self) -> bool {
        self.preparer.is_due() && self.preparer.lacks_any()
    }

    fn check(&mut self, groups: &[GroupRecord<'_>]) -> Result<(), WalError> {
        self.check_health()?;
        batch::check_sizes(groups, self.room_max())?;
        let regions = &mut self.scratch.regions;
        regions.clear();
        regions.extend(groups.iter().map(|group| group.region.0));
        regions.sort_unstable();
        if let Some(twice) = regions.windows(2).find(|pair| pair[0] == pair[1]) {
            let region = crate::region::RegionId(twice[0]);
            let problem = "occurs twice in a batch";
            let (at, log) = (raft::LogId::ZERO, (raft::LogId::ZERO, 0));
            return Err(WalError::Refused { region, problem, at, log });
        }
        let index = self.index.read();
        groups.iter().try_for_each(|group| index.check(group))
    }

    pub(super) fn check_health(&self) -> Result<(), WalError> {
        if self.is_poisoned() { Err(WalError::Poisoned) } else { Ok(()) }
    }

    /// Passes a result on; a failure ends all writing.
    pub(super) fn guard<T>(
        &mut self,
        doing: &'static str,
        result: std::io::Result<T>,
    ) -> Result<T, WalError> {
        result.map_err(|error| {
            self.poisoned = true;
            WalError::io(doing, &self.active.name, error)
        })
    }

    /// What an empty segment has room for.
    fn room_max(&self) -> usize {
        self.options.segment_bytes() as usize - self.active.header.first_offset()
    }

    /// Writes a batch that was checked, as one record if any segment can hold it.
    pub(super) fn write(
        &mut self,
        groups: &[GroupRecord<'_>],
        carry: bool,
    ) -> Result<(), WalError> {
        let bytes = record_bytes(batch::payload_bytes(groups));
        if bytes <= self.room_max() {
            self.make_room(bytes)?;
            self.encode(groups, carry);
            return self.write_record(RecordKind::Whole);
        }
        let records = batch::split(groups, self.room_max());
        let last = records.len() - 1;
        for (n, parts) in records.iter().enumerate() {
            let groups: Vec<_> = parts.iter().map(batch::Part::record).collect();
            self.make_room(record_bytes(batch::payload_bytes(&groups)))?;
            self.encode(&groups, carry);
            self.write_record(match n {
                0 => RecordKind::Begin,
                n if n < last => RecordKind::Continue,
                _ => RecordKind::End,
            })?;
        }
        Ok(())
    }

    fn encode(&mut self, groups: &[GroupRecord<'_>], carry: bool) {
        let Scratch { record, changes, .. } = &mut self.scratch;
        batch::encode(groups, carry, record, changes);
    }

    fn make_room(&mut self, bytes: usize) -> Result<(), WalError> {
        let bytes = self.active.padded(bytes as u64);
        if bytes > self.active.room() { self.roll(bytes) } else { Ok(()) }
    }

    /// Writes the encoded record, and only then shows its changes to readers.
    fn write_record(&mut self, kind: RecordKind) -> Result<(), WalError> {
        let numbers = (self.appended.next(), self.flights.durable());
        let offset = self.active.at;
        let appended = self.active.append(&mut self.scratch.record, kind, numbers);
        self.guard("append", appended)?;
        self.appended = numbers.0;
        self.stats.bytes += self.scratch.record.len() as u64;
        self.preparer.demand().note(self.active.at - offset, self.active.room());
        let segment = self.active.header.segment;
        self.scratch.changes.place(segment, offset);
        self.index.write().apply(&self.scratch.changes, segment);
        Ok(())
    }

    /// Goes on in the next segment.
    ///
    /// The old one is synced first: whatever precedes a segment is durable, so an invalid record in
    /// any but the last is damage, never a torn tail.
    fn roll(&mut self, bytes: u64) -> Result<(), WalError> {
        self.sync()?;
        let next = SegmentHeader {
            store: self.identity.store,
            cluster: self.identity.cluster,
            segment: self.active.header.segment + 1,
            salt: self.disk.random(),
            first: self.appended.next(),
            watermark: self.appended,
            previous_end: self.active.at,
            previous_chain: self.active.before.chain,
            recycled: false,
            whole_blocks: self.active.header.whole_blocks,
        };
        // The one after it is not due yet.
        self.preparer.demand().note(0, self.options.segment_bytes());
        let disk = &self.disk;
        let started = self.preparer.take(next.first_offset() as u64 + bytes, |spare| {
            Active::start(disk.as_ref(), spare, next, &mut |_| Ok(()))
        });
        let active = match started {
            Err(full @ WalError::Full { .. }) => {
                self.preparer.demand().note(0, self.active.room());
                return Err(full);
            }
            Err(error) => {
                self.poisoned = true;
                return Err(error);
            }
            Ok(active) => active,
        };
        let mut old = std::mem::replace(&mut self.active, active);
        let sealed = old.file.seal();
        self.guard("seal", sealed)?;
        let Active { header, file, .. } = &self.active;
        self.index.write().add_segment(header.segment, file.view(), file.len());
        self.stats.segments_started += 1;
        self.stats.syncs += 1;
        Ok(())
    }
}

impl Active {
    /// Makes a spare file the segment with that header, durable under its name, with the records
    /// that `fill` appends.
    pub(super) fn start(
        disk: &dyn Disk,
        spare: Spare,
        header: SegmentHeader,
        fill: &mut dyn FnMut(&mut Active) -> std::io::Result<()>,
    ) -> Result<Active, WalError> {
        let header = SegmentHeader { recycled: spare.used, ..header };
        let name = segment_name(header.segment);
        let io = |doing| move |error| WalError::io(doing, spare.name, error);
        let file = disk.append_log(spare.name).map_err(io("open"))?;
        let seed = header.chain();
        let at = header.first_offset() as u64;
        let (before, block) = (Before { seed, chain: seed }, disk.block_bytes());
        let mut active = Active { header, name, file, before, at, block };
        let mut start = header.encode().to_vec();
        start.resize(header.first_offset(), 0);
        active.file.append(&start).map_err(io("write header"))?;
        fill(&mut active).map_err(io("move records"))?;
        active.file.flush().run().map_err(io("sync"))?;
        disk.rename(spare.name, &active.name).map_err(io("rename"))?;
        disk.sync_dir().map_err(|error| WalError::io("sync", "", error))?;
        Ok(active)
    }

    /// Completes the record and appends it.
    pub(super) fn append(
        &mut self,
        record: &mut Vec<u8>,
        kind: RecordKind,
        numbers: (Lsn, Lsn),
    ) -> std::io::Result<()> {
        let place = (self.at as usize, self.block as usize);
        let chain = seal_record(record, kind, numbers, place, self.before);
        self.file.append(record)?;
        self.before.chain = chain;
        self.at += record.len() as u64;
        Ok(())
    }

    pub(super) fn room(&self) -> u64 {
        self.file.len() - self.at
    }

    /// What a record of `bytes` bytes takes.
    fn padded(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.block)
    }
}
