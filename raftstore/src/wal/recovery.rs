//! Opening a log: what is there, what of it holds, and a fresh segment to go on in.
//!
//! 1. Read all headers: right store, no segment missing.
//! 2. Find the tail of the last segment: torn or damaged ([`super`] says how they are told apart).
//! 3. Start a new segment with the tail's records that nothing proves durable.
//! 4. Replay: every segment up to where the next one's header says it ends.
//!
//! Nothing is changed before step 3, and step 3 is one rename. So a crash at any point is followed
//! by the same recovery, or by one that finds its work done.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::codec::Decoder;
use crate::disk::{Disk, Identity, LogView};
use crate::region::RegionId;

use super::ahead::ReadAhead;
use super::batch::{self, Changes};
use super::error::{Damage, WalError};
use super::flight::Flights;
use super::format::{
    FORMAT, HeaderError, RECORD_HEADER_BYTES, Record, RecordKind, Records, SegmentHeader,
    record_bytes,
};
use super::index::{GroupLog, LogIndex};
use super::segment::{
    PREPARE, Preparer, RECYCLED, RESERVE, Ready, SPARE, Spare, segment_id, segment_name,
};
use super::spill::Spill;
use super::writer::{Active, Scratch};
use super::{Lsn, Wal, WalOptions, WalStats};

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every group the log knows.
    pub groups: BTreeMap<RegionId, GroupLog>,
    /// The tail that was cut off, if a crash left one.
    pub torn: Option<Torn>,
    /// Records replayed.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The end of a log that a crash left half written. None of it was ever promised to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// In which file.
    pub file: String,
    /// From where on.
    pub offset: u64,
    /// How many bytes had been written behind, as far as can be told.
    pub bytes: u64,
}

impl Wal {
    /// Opens the log on `disk`, or makes one. When this returns, all that was recovered is
    /// durable.
    ///
    /// # Errors
    /// - [`WalError::Corrupt`], [`WalError::Gap`]: something durable is missing or changed. The
    ///   store must not start from what is left.
    /// - [`WalError::Foreign`], [`WalError::Version`]: it is not a log for this store or program.
    /// - [`WalError::Full`], [`WalError::Io`]: the disk; nothing was changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        identity: &Identity,
        options: WalOptions,
    ) -> Result<(Wal, Recovered), WalError> {
        let names = disk.list().map_err(|error| WalError::io("list", "", error))?;
        let mut segments = load(disk.as_ref(), identity, &names)?;
        // The last one is needed first.
        let in_order = segments.last().into_iter().chain(&segments);
        let ahead = ReadAhead::start(in_order.map(|found| Arc::clone(&found.view)).collect());
        let plan = Plan::of(disk.as_ref(), identity, &segments, &options)?;
        let ready = ready(disk.as_ref(), &names)?;
        let preparer = Preparer::new(Arc::clone(&disk), &options, ready);
        let active = preparer.take_to_recover(plan.bytes(), |spare| {
            Active::start(disk.as_ref(), spare, plan.header, &mut |active| plan.fill(active))
        })?;
        if plan.replaces_last {
            segments.pop();
        }
        let (index, mut recovered) = replay(&segments, &active)?;
        drop(ahead);
        recovered.torn = plan.torn.clone();
        recovered.groups = index.logs()?;
        preparer.demand().note(0, active.room());
        let appended = plan.header.watermark;
        let flights = Flights::new(appended, disk.flushes_max());
        let torn_bytes = plan.torn.map_or(0, |torn| torn.bytes);
        let wal = Wal {
            disk,
            identity: *identity,
            options,
            preparer,
            index: Arc::new(RwLock::new(index)),
            active,
            appended,
            begun: appended,
            flights,
            poisoned: false,
            stats: WalStats { torn_bytes, segments_started: 1, syncs: 1, ..WalStats::default() },
            scratch: Scratch::default(),
            spill: Spill::default(),
            // All that is there was appended once.
            credit: u64::MAX / 2,
        };
        Ok((wal, recovered))
    }
}

/// A segment as it was found.
pub(super) struct Found {
    pub(super) header: SegmentHeader,
    pub(super) name: String,
    pub(super) view: Arc<dyn LogView>,
    pub(super) content: Bytes,
}

/// Reads the headers of all segments.
pub(super) fn load(
    disk: &dyn Disk,
    identity: &Identity,
    names: &[String],
) -> Result<Vec<Found>, WalError> {
    let mut segments: Vec<Found> = Vec::new();
    for name in names {
        let Some(id) = segment_id(name) else { continue };
        let found = load_one(disk, identity, name)?;
        let corrupt = |reason| Err(WalError::corrupt(name, 0, reason));
        if found.header.segment != id {
            return corrupt(Damage::Misplaced { found: found.header.segment });
        }
        let expected = segments.last().map_or(id, |last| last.header.segment + 1);
        if id != expected {
            return corrupt(Damage::Missing { missing: expected });
        }
        segments.push(found);
    }
    Ok(segments)
}

fn load_one(disk: &dyn Disk, identity: &Identity, name: &str) -> Result<Found, WalError> {
    let view = disk.view_log(name).map_err(|error| WalError::io("open", name, error))?;
    let content = view.bytes(0..view.len()).unwrap_or_default();
    let header = SegmentHeader::decode(&content).map_err(|error| match error {
        HeaderError::Version(found) => {
            WalError::Version { file: name.to_owned(), found, known: FORMAT }
        }
        HeaderError::Damaged(reason) => WalError::corrupt(name, 0, reason),
    })?;
    if !header.is_of(identity) {
        let SegmentHeader { store, cluster, .. } = header;
        return Err(WalError::Foreign { file: name.to_owned(), store, cluster });
    }
    Ok(Found { header, name: name.to_owned(), view, content })
}

/// The prepared files; what was being prepared when the store ended is removed.
fn ready(disk: &dyn Disk, names: &[String]) -> Result<Ready, WalError> {
    let mut ready = Ready::default();
    for name in names {
        let bytes = || {
            let view = disk.view_log(name).map_err(|error| WalError::io("open", name, error))?;
            Ok::<u64, WalError>(view.len())
        };
        match name.as_str() {
            PREPARE => disk.remove(name).map_err(|error| WalError::io("remove", name, error))?,
            RESERVE => ready.reserve = Some(bytes()?),
            name => {
                if let Some(&name) = RECYCLED.iter().chain([&SPARE]).find(|spare| **spare == name) {
                    ready.spares.push(Spare { name, bytes: bytes()?, used: true });
                }
            }
        }
    }
    Ok(ready)
}

/// How the log goes on: the new segment, and what it starts with.
struct Plan {
    header: SegmentHeader,
    /// What its records are multiples of.
    block: u64,
    /// Records of the last segment that are written again, with their payloads.
    moved: Vec<(Record, Bytes)>,
    /// Whether the new segment takes the last one's place.
    replaces_last: bool,
    torn: Option<Torn>,
}

impl Plan {
    fn of(
        disk: &dyn Disk,
        identity: &Identity,
        segments: &[Found],
        options: &WalOptions,
    ) -> Result<Plan, WalError> {
        let (salt, block) = (disk.random(), disk.block_bytes());
        let whole_blocks = block > 1;
        let Some(last) = segments.last() else {
            let header = SegmentHeader {
                store: identity.store,
                cluster: identity.cluster,
                segment: 1,
                salt,
                first: Lsn(1),
                watermark: Lsn(0),
                previous_end: 0,
                previous_chain: 0,
                recycled: false,
                whole_blocks,
            };
            let moved = Vec::new();
            return Ok(Plan { header, block, moved, replaces_last: false, torn: None });
        };
        let tail = Tail::of(last)?;
        let start = last.header.first_offset();
        let used = tail.records.last().map_or(start, Record::end) - start;
        let replaces_last = used as u64 <= options.segment_bytes() / 4;
        let kept = if replaces_last { 0 } else { tail.proven };
        let moved = &tail.records[kept..];
        let end = tail.records[..kept].last();
        let before = end.map_or(last.header.first.previous(), |record| record.lsn);
        let mut header = SegmentHeader {
            salt,
            watermark: moved.last().map_or(before, |record| record.lsn),
            recycled: false,
            whole_blocks,
            ..last.header
        };
        if !replaces_last {
            header.segment += 1;
            header.first = before.next();
            header.previous_end = end.map_or(start, Record::end) as u64;
            header.previous_chain = end.map_or(last.header.chain(), |record| record.chain);
        }
        let with_payload = |record: &Record| {
            let payload = record.payload()..record.payload() + record.payload_bytes;
            (*record, last.content.slice(payload))
        };
        let moved = moved.iter().map(with_payload).collect();
        Ok(Plan { header, block, moved, replaces_last, torn: tail.torn })
    }

    /// How long the new segment must be at least.
    fn bytes(&self) -> u64 {
        let bytes = |(record, _): &(Record, Bytes)| record_bytes(record.payload_bytes) as u64;
        let moved = self.moved.iter().map(|moved| bytes(moved).next_multiple_of(self.block));
        self.header.first_offset() as u64 + moved.sum::<u64>()
    }

    fn fill(&self, active: &mut Active) -> std::io::Result<()> {
        let watermark = self.header.first.previous();
        let mut buffer = Vec::new();
        for (record, payload) in &self.moved {
            buffer.clear();
            buffer.resize(RECORD_HEADER_BYTES, 0);
            buffer.extend_from_slice(payload);
            active.append(&mut buffer, record.kind, (record.lsn, watermark))?;
        }
        Ok(())
    }
}

/// The records of the last segment that count.
pub(super) struct Tail {
    pub(super) records: Vec<Record>,
    /// How many of them, from the first on, a watermark covers.
    proven: usize,
    pub(super) torn: Option<Torn>,
}

impl Tail {
    pub(super) fn of(last: &Found) -> Result<Tail, WalError> {
        let mut reader = Records::new(&last.content, &last.header);
        let mut records = Vec::new();
        let reason = loop {
            match reader.next_record() {
                Ok(record) => records.push(record),
                Err(reason) => break reason,
            }
        };
        let (end, watermark) = (reader.offset(), reader.watermark());
        let rest = reader.rest(last.header.recycled);
        if rest.damaged {
            return Err(WalError::corrupt(&last.name, end as u64, reason));
        }
        let complete = complete_len(&records);
        let cut = records.get(complete).map_or(end, |record| record.offset);
        records.truncate(complete);
        let torn = (rest.end > cut).then(|| Torn {
            file: last.name.clone(),
            offset: cut as u64,
            bytes: (rest.end - cut) as u64,
        });
        let proven = records.partition_point(|record| record.lsn <= watermark);
        Ok(Tail { records, proven, torn })
    }
}

/// How many records there are before a batch whose end is missing.
fn complete_len(records: &[Record]) -> usize {
    let mut complete = 0;
    let mut open = records.first().is_some_and(|first| first.kind == RecordKind::Continue);
    for (n, record) in records.iter().enumerate() {
        match record.kind {
            RecordKind::Begin => open = true,
            RecordKind::Continue => {}
            RecordKind::Whole | RecordKind::End | RecordKind::Mark => open = false,
        }
        if !open {
            complete = n + 1;
        }
    }
    complete
}

/// Applies all records in their physical order.
fn replay(segments: &[Found], active: &Active) -> Result<(LogIndex, Recovered), WalError> {
    let oldest = segments.first().map_or(&active.header, |first| &first.header);
    let mut replay = Replay::from(oldest);
    let nexts = segments.iter().skip(1).map(|next| &next.header).chain([&active.header]);
    for (segment, next) in segments.iter().zip(nexts) {
        replay.found(segment, next.previous_end, Some(next))?;
    }
    let (header, view) = (&active.header, active.file.view());
    let content = view.bytes(0..active.at).unwrap_or_default();
    replay.index.add_segment(header.segment, Arc::clone(&view), active.file.len());
    replay.segment(header, &segment_name(header.segment), &content, active.at)?;
    Ok((replay.index, replay.recovered))
}

#[derive(Default)]
pub(super) struct Replay {
    pub(super) index: LogIndex,
    pub(super) recovered: Recovered,
    /// The records of a batch whose end has not come yet.
    open: Option<Vec<(u64, Changes)>>,
}

impl Replay {
    /// Nothing yet, of a log whose oldest segment has that header.
    pub(super) fn from(oldest: &SegmentHeader) -> Replay {
        // A batch may have begun in a segment that was dropped after all of it had been written;
        // what of it was still needed there was carried on.
        Replay { open: (oldest.segment > 1).then(Vec::new), ..Replay::default() }
    }

    /// Applies the records of a segment up to `end`, where `next` follows.
    pub(super) fn found(
        &mut self,
        segment: &Found,
        end: u64,
        next: Option<&SegmentHeader>,
    ) -> Result<(), WalError> {
        let Found { header, name, view, content } = segment;
        self.index.add_segment(header.segment, Arc::clone(view), view.len());
        let records = self.segment(header, name, content, end)?;
        let (chain, lsn) = (records.chain(), records.next_lsn());
        match next {
            Some(next) if (chain, lsn) != (next.previous_chain, next.first) => {
                Err(WalError::corrupt(name, end, Damage::Chain))
            }
            _ => Ok(()),
        }
    }

    fn segment<'a>(
        &mut self,
        header: &SegmentHeader,
        name: &str,
        content: &'a Bytes,
        end: u64,
    ) -> Result<Records<'a>, WalError> {
        let mut records = Records::new(content, header);
        while (records.offset() as u64) < end {
            let at = records.offset() as u64;
            let corrupt = |reason| WalError::corrupt(name, at, reason);
            let record = records.next_record().map_err(corrupt)?;
            let payload = content.slice(record.payload()..record.payload() + record.payload_bytes);
            self.record(header.segment, &record, payload).map_err(corrupt)?;
        }
        if records.offset() as u64 != end {
            return Err(WalError::corrupt(name, end, Damage::Chain));
        }
        Ok(records)
    }

    fn record(&mut self, segment: u64, record: &Record, payload: Bytes) -> Result<(), Damage> {
        self.recovered.records += 1;
        self.recovered.bytes += record.bytes as u64;
        if record.kind == RecordKind::Mark {
            self.open = None;
            return Ok(());
        }
        let mut changes = batch::decode(Decoder::new(payload)).map_err(Damage::Undecodable)?;
        changes.place(segment, record.offset as u64);
        match (record.kind, &mut self.open) {
            (RecordKind::Begin, open) => *open = Some(vec![(segment, changes)]),
            (RecordKind::Continue, Some(open)) => open.push((segment, changes)),
            (RecordKind::End, open) => {
                let begun = open.take().ok_or(Damage::Batch)?;
                for (segment, changes) in begun.into_iter().chain([(segment, changes)]) {
                    self.index.apply(&changes, segment);
                }
            }
            (RecordKind::Whole | RecordKind::Mark, open) => {
                *open = None;
                self.index.apply(&changes, segment);
            }
            (RecordKind::Continue, None) => return Err(Damage::Batch),
        }
        Ok(())
    }
}
