//! Looking at a log without changing it: what `raftkv wal` shows.
//!
//! The verdict is recovery's own: the same headers are read, the same tail is judged, the same
//! records are replayed by the same decoder ([`super::recovery`]), only that nothing is written
//! afterwards. A tool that were stricter or laxer would be wrong about what the next start does
//! (museum W5).
//!
//! Whoever looks has to keep stores away meanwhile ([`DirDisk::lock_to_read`]): a segment is read
//! through a map, and must not change under it.
//!
//! [`DirDisk::lock_to_read`]: crate::disk::DirDisk::lock_to_read

use std::fmt;

use raft::{HardState, Index, LogId, Term};

use crate::codec::Decoder;
use crate::disk::{Disk, Identity};
use crate::region::RegionId;

use super::batch::{self, Change, Changes};
use super::error::{Damage, WalError};
use super::format::{Record, Records, SegmentHeader};
use super::recovery::{Found, Recovered, Replay, Tail, load};

/// A log as it lies on a disk.
pub struct Inspection {
    segments: Vec<Found>,
}

/// A file of the log.
#[derive(Clone, Copy, Debug)]
pub struct InspectedSegment<'a> {
    /// Its name.
    pub name: &'a str,
    /// How long it is.
    pub file_bytes: u64,
    /// What its first sector says.
    pub header: &'a SegmentHeader,
    /// Where the next segment says that it ends; `None` for the last one.
    pub end: Option<u64>,
}

/// A record, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedRecord {
    /// Where it is, and what.
    pub record: Record,
    /// What it changes; or why a record that is as it was written makes no sense.
    pub groups: Result<Vec<InspectedGroup>, Damage>,
}

/// What a record changes in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedGroup {
    /// Which group.
    pub region: RegionId,
    /// Its new hard state.
    pub hard_state: Option<HardState>,
    /// The log restarts after this.
    pub reset: Option<LogId>,
    /// The log is compacted up to this.
    pub compact: Option<LogId>,
    /// The group is gone.
    pub remove: bool,
    /// The entries were moved here from an older segment.
    pub carried: bool,
    /// The entries: runs of one term.
    pub runs: Vec<InspectedRun>,
}

/// Entries of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedRun {
    /// Their term.
    pub term: Term,
    /// Index of the first.
    pub first: Index,
    /// How many.
    pub count: u32,
    /// Bytes they take.
    pub bytes: u32,
}

/// What a start would make of the log.
#[derive(Debug)]
pub struct Verdict {
    /// What it would recover, and where it would cut.
    pub recovered: Recovered,
    /// Bytes of what groups still have.
    pub live_bytes: u64,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.segments.iter().map(|found| &found.name)).finish()
    }
}

impl Inspection {
    /// Reads the headers of all segments.
    ///
    /// # Errors
    /// As [`Wal::open`](super::Wal::open), as far as headers go.
    pub fn open(disk: &dyn Disk, identity: &Identity) -> Result<Inspection, WalError> {
        let names = disk.list().map_err(|error| WalError::io("list", "", error))?;
        Ok(Inspection { segments: load(disk, identity, &names)? })
    }

    /// The files, in order.
    pub fn segments(&self) -> impl Iterator<Item = InspectedSegment<'_>> {
        self.segments.iter().zip(self.ends()).map(|(found, end)| InspectedSegment {
            name: &found.name,
            file_bytes: found.view.len(),
            header: &found.header,
            end,
        })
    }

    /// Shows `visit` every valid record of a segment, as far as they go.
    pub fn records(&self, of: &InspectedSegment<'_>, visit: &mut dyn FnMut(&InspectedRecord)) {
        let Some(found) = self.segments.iter().find(|found| found.name == of.name) else { return };
        let mut records = Records::new(&found.content, &found.header);
        let end = of.end.unwrap_or(u64::MAX);
        while (records.offset() as u64) < end
            && let Ok(record) = records.next_record()
        {
            let payload = record.payload()..record.payload() + record.payload_bytes;
            // A mark has none.
            let changes = match payload.is_empty() {
                true => Ok(Changes::default()),
                false => batch::decode(Decoder::new(found.content.slice(payload))),
            };
            let groups = changes.map_err(Damage::Undecodable).map(|changes| {
                changes.groups.iter().map(|change| group(change, &changes)).collect()
            });
            visit(&InspectedRecord { record, groups });
        }
    }

    /// What a start would say.
    ///
    /// # Errors
    /// Those with which [`Wal::open`](super::Wal::open) would refuse.
    pub fn verdict(&self) -> Result<Verdict, WalError> {
        let Some(last) = self.segments.last() else {
            return Ok(Verdict { recovered: Recovered::default(), live_bytes: 0 });
        };
        let tail = Tail::of(last)?;
        let end = tail.records.last().map_or(last.header.first_offset(), Record::end) as u64;
        let mut replay = Replay::from(&self.segments[0].header);
        for (n, found) in self.segments.iter().enumerate() {
            let next = self.segments.get(n + 1).map(|next| &next.header);
            replay.found(found, next.map_or(end, |next| next.previous_end), next)?;
        }
        let Replay { index, mut recovered, .. } = replay;
        recovered.groups = index.logs()?;
        recovered.torn = tail.torn;
        Ok(Verdict { recovered, live_bytes: index.live_bytes() })
    }

    fn ends(&self) -> impl Iterator<Item = Option<u64>> {
        let nexts = self.segments.iter().skip(1).map(|next| Some(next.header.previous_end));
        nexts.chain([None])
    }
}

fn group(change: &Change, of: &Changes) -> InspectedGroup {
    let run = |piece: &batch::Piece| InspectedRun {
        term: piece.term,
        first: piece.first,
        count: piece.count,
        bytes: piece.bytes,
    };
    InspectedGroup {
        region: change.region,
        hard_state: change.hard_state,
        reset: change.reset,
        compact: change.compact,
        remove: change.remove,
        carried: change.carry,
        runs: of.pieces[change.pieces.clone()].iter().map(run).collect(),
    }
}
