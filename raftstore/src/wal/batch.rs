//! What a record's payload says: changes of groups, applied together or not at all.

use std::ops::Range;

use bytes::BufMut;
use raft::{Entries, HardState, Index, LogId, NodeId, Run, Term};

use crate::codec::entry::{
    RUN_HEADER_BYTES, decode_log_id, encode_log_id, encode_run, run_len, skip_run,
};
use crate::codec::{CodecError, Decoder, ENTRY_BYTES_MAX};
use crate::region::RegionId;

use super::error::WalError;
use super::format::{RECORD_HEADER_BYTES, record_bytes};

/// A change of one group's durable state. In this order: the reset, then the entries, then the
/// compaction; the hard state is independent of them.
#[derive(Clone, Copy, Debug)]
pub struct GroupRecord<'a> {
    /// Which group.
    pub region: RegionId,
    /// Its new hard state.
    pub hard_state: Option<HardState>,
    /// Entries to append: everything the log has from the first of them on is replaced.
    pub entries: &'a Entries,
    /// A snapshot was installed: the log is empty and starts after it.
    pub reset: Option<LogId>,
    /// The log starts after this now; the entries up to it may go. Below where it starts already,
    /// it changes nothing.
    pub compact: Option<LogId>,
    /// The group is gone, with all the log knows of it. Nothing else may be set.
    pub remove: bool,
}

impl<'a> GroupRecord<'a> {
    /// A record of that group that changes nothing yet.
    #[must_use]
    pub fn new(region: RegionId, entries: &'a Entries) -> GroupRecord<'a> {
        GroupRecord { region, hard_state: None, entries, reset: None, compact: None, remove: false }
    }
}

/// Where entries of one term lie: a window on a run in a segment. The index holds one for each run
/// written, not one for each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Index of the first entry in the window.
    pub(crate) first: Index,
    /// Their term.
    pub(crate) term: Term,
    /// How many there are.
    pub(crate) count: u32,
    /// Their share of the run's bytes.
    pub(crate) bytes: u32,
    /// Number of the segment.
    pub(crate) segment: u32,
    /// Where in it the run starts, which may begin before the window.
    pub(crate) offset: u32,
}

impl Piece {
    /// The index after the last one.
    pub(crate) fn end(&self) -> Index {
        self.first + u64::from(self.count)
    }

    /// The part within `range`; `None` if nothing is.
    pub(crate) fn cut(&self, range: Range<Index>) -> Option<Piece> {
        let (first, end) = (self.first.max(range.start), self.end().min(range.end));
        if first >= end {
            return None;
        }
        let count = (end - first) as u32;
        let share = u64::from(self.bytes) * u64::from(count) / u64::from(self.count);
        Some(Piece { first, count, bytes: share as u32, ..*self })
    }
}

/// One group's change, as it was read or written; its runs are in [`Changes::pieces`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) region: RegionId,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) reset: Option<LogId>,
    pub(crate) compact: Option<LogId>,
    pub(crate) remove: bool,
    /// The entries were moved here from an older segment: they replace nothing.
    pub(crate) carry: bool,
    pub(crate) pieces: Range<usize>,
}

/// The changes in a record. Offsets are relative to the record's start, segments 0, until
/// [`Changes::place`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) groups: Vec<Change>,
    pub(crate) pieces: Vec<Piece>,
}

const HARD_STATE: u8 = 1;
const RESET: u8 = 2;
const COMPACT: u8 = 4;
const REMOVE: u8 = 8;
const CARRY: u8 = 16;
const GROUP_BYTES: usize = 16;
const HARD_STATE_BYTES: usize = 24;
const LOG_ID_BYTES: usize = 16;
/// What a group takes at most, besides its runs.
const GROUP_BYTES_MAX: usize = GROUP_BYTES + HARD_STATE_BYTES + 2 * LOG_ID_BYTES;

impl Changes {
    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.pieces.clear();
    }

    /// Says where the record is.
    pub(crate) fn place(&mut self, segment: u64, offset: u64) {
        for piece in &mut self.pieces {
            piece.segment = segment as u32;
            piece.offset += offset as u32;
        }
    }
}

/// How many bytes the payload with these groups takes.
pub(crate) fn payload_bytes(groups: &[GroupRecord<'_>]) -> usize {
    4 + groups.iter().map(group_bytes).sum::<usize>()
}

fn group_bytes(group: &GroupRecord<'_>) -> usize {
    GROUP_BYTES
        + usize::from(group.hard_state.is_some()) * HARD_STATE_BYTES
        + usize::from(group.reset.is_some()) * LOG_ID_BYTES
        + usize::from(group.compact.is_some()) * LOG_ID_BYTES
        + group.entries.runs().iter().map(run_len).sum::<usize>()
}

/// Writes the payload after the room for the record's header, and what it changes to `changes`.
pub(crate) fn encode(
    groups: &[GroupRecord<'_>],
    carry: bool,
    out: &mut Vec<u8>,
    changes: &mut Changes,
) {
    out.clear();
    changes.clear();
    out.resize(RECORD_HEADER_BYTES, 0);
    out.put_u32_le(groups.len() as u32);
    for group in groups {
        encode_group(group, carry, out, changes);
    }
}

fn encode_group(group: &GroupRecord<'_>, carry: bool, out: &mut Vec<u8>, changes: &mut Changes) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(group.hard_state.is_some(), HARD_STATE)
        | flag(group.reset.is_some(), RESET)
        | flag(group.compact.is_some(), COMPACT)
        | flag(group.remove, REMOVE)
        | flag(carry, CARRY);
    out.put_u64_le(group.region.0);
    out.put_slice(&[flags, 0, 0, 0]);
    out.put_u32_le(group.entries.runs().len() as u32);
    if let Some(state) = group.hard_state {
        out.put_u64_le(state.term);
        out.put_u64_le(state.vote.map_or(0, NodeId::get));
        out.put_u64_le(state.commit);
    }
    for id in group.reset.iter().chain(&group.compact) {
        encode_log_id(*id, out);
    }
    let start = changes.pieces.len();
    for run in group.entries.runs() {
        let offset = out.len();
        encode_run(run, out);
        changes.pieces.push(Piece {
            first: run.first(),
            term: run.term(),
            count: run.len() as u32,
            bytes: (out.len() - offset) as u32,
            segment: 0,
            offset: offset as u32,
        });
    }
    changes.groups.push(Change {
        region: group.region,
        hard_state: group.hard_state,
        reset: group.reset,
        compact: group.compact,
        remove: group.remove,
        carry,
        pieces: start..changes.pieces.len(),
    });
}

/// Reads a record's payload.
///
/// # Errors
/// If it is not what [`encode`] writes.
pub(crate) fn decode(mut input: Decoder) -> Result<Changes, CodecError> {
    let bytes = input.remaining();
    let mut changes = Changes::default();
    let groups = input.u32("number of groups")?;
    for _ in 0..groups {
        decode_group(&mut input, bytes, &mut changes)?;
    }
    input.finish("batch")?;
    Ok(changes)
}

fn decode_group(input: &mut Decoder, of: usize, changes: &mut Changes) -> Result<(), CodecError> {
    let region = RegionId(input.u64("region")?);
    let flags = input.u32("flags of a group")?;
    let runs = input.u32("number of runs")?;
    if flags >= 2 * u32::from(CARRY) {
        return Err(CodecError::invalid("flags of a group", flags));
    }
    let has = |flag: u8| flags & u32::from(flag) != 0;
    let hard_state = has(HARD_STATE).then(|| decode_hard_state(input)).transpose()?;
    let reset = has(RESET).then(|| decode_log_id(input, "reset")).transpose()?;
    let compact = has(COMPACT).then(|| decode_log_id(input, "compaction")).transpose()?;
    let start = changes.pieces.len();
    for _ in 0..runs {
        let offset = of - input.remaining();
        let run = skip_run(input)?;
        let bytes = of - input.remaining() - offset;
        let follows = changes.pieces[start..].last();
        if follows.is_some_and(|last| last.end() != run.first || last.term > run.term) {
            return Err(CodecError::invalid("start of a run", run.first));
        }
        changes.pieces.push(Piece {
            first: run.first,
            term: run.term,
            count: run.len,
            bytes: bytes as u32,
            segment: 0,
            offset: (RECORD_HEADER_BYTES + offset) as u32,
        });
    }
    let pieces = start..changes.pieces.len();
    let (remove, carry) = (has(REMOVE), has(CARRY));
    changes.groups.push(Change { region, hard_state, reset, compact, remove, carry, pieces });
    Ok(())
}

fn decode_hard_state(input: &mut Decoder) -> Result<HardState, CodecError> {
    Ok(HardState {
        term: input.u64("term")?,
        vote: NodeId::new(input.u64("vote")?),
        commit: input.u64("commit")?,
    })
}

/// The part of a group's record that goes into one of several records.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    of: GroupRecord<'a>,
    entries: Entries,
}

impl Part<'_> {
    /// It, as a record.
    pub(crate) fn record(&self) -> GroupRecord<'_> {
        GroupRecord { entries: &self.entries, ..self.of }
    }
}

/// Checks that every entry can be written into an empty segment with `room` for records.
///
/// # Errors
/// [`WalError::TooLarge`] for the first that can't.
pub(crate) fn check_sizes(groups: &[GroupRecord<'_>], room: usize) -> Result<(), WalError> {
    let around = record_bytes(4 + GROUP_BYTES_MAX + RUN_HEADER_BYTES + 4) + 8;
    let max = room.saturating_sub(around).min(ENTRY_BYTES_MAX);
    for group in groups {
        let runs = group.entries.runs().iter();
        let large = runs.filter(|run| run.payload_bytes() > max as u64);
        for entry in large.flat_map(Run::entries) {
            if entry.data.len() > max {
                let (bytes, max) = (entry.data.len() as u64, max as u64);
                return Err(WalError::TooLarge { region: group.region, bytes, max });
            }
        }
    }
    Ok(())
}

/// Divides groups that don't fit one record over several, each of which fits `room` bytes. The
/// entries must have passed [`check_sizes`].
pub(crate) fn split<'a>(groups: &[GroupRecord<'a>], room: usize) -> Vec<Vec<Part<'a>>> {
    let payload_max = room - RECORD_HEADER_BYTES - 8;
    let mut records: Vec<Vec<Part<'a>>> = vec![Vec::new()];
    let mut left = payload_max - 4;
    for group in groups {
        for part in parts_of(group) {
            let mut part = part;
            loop {
                let (now, later) = cut(part, left);
                if let Some(now) = now {
                    left -= group_bytes(&now.record());
                    if let Some(record) = records.last_mut() {
                        record.push(now);
                    }
                }
                let Some(later) = later else { break };
                part = later;
                records.push(Vec::new());
                left = payload_max - 4;
            }
        }
    }
    records
}

/// One part for each run, or a single one: the first with what precedes the entries, the last
/// with what follows them.
fn parts_of<'a>(group: &GroupRecord<'a>) -> Vec<Part<'a>> {
    let runs = group.entries.runs();
    let bare = GroupRecord { hard_state: None, reset: None, compact: None, ..*group };
    let mut parts: Vec<_> =
        runs.iter().map(|run| Part { of: bare, entries: run.clone().into() }).collect();
    if parts.is_empty() {
        parts.push(Part { of: bare, entries: Entries::new() });
    }
    if let Some(first) = parts.first_mut() {
        first.of.hard_state = group.hard_state;
        first.of.reset = group.reset;
    }
    if let Some(last) = parts.last_mut() {
        last.of.compact = group.compact;
    }
    parts
}

/// Cuts a part of at most one run in two: what fits `left` bytes, and the rest.
fn cut(part: Part<'_>, left: usize) -> (Option<Part<'_>>, Option<Part<'_>>) {
    if group_bytes(&part.record()) <= left {
        return (Some(part), None);
    }
    let Some(run) = part.entries.runs().first() else { return (None, Some(part)) };
    let mut used = GROUP_BYTES_MAX + RUN_HEADER_BYTES;
    let fits = run.entries().iter().take_while(|entry| {
        used += 4 + entry.data.len();
        used <= left
    });
    let middle = run.first() + fits.count() as u64;
    if middle == run.first() {
        return (None, Some(part));
    }
    let (before, after) = (run.first()..middle, middle..run.last().index + 1);
    let now =
        Part { of: GroupRecord { compact: None, ..part.of }, entries: part.entries.slice(before) };
    let later = Part {
        of: GroupRecord { hard_state: None, reset: None, ..part.of },
        entries: part.entries.slice(after),
    };
    (Some(now), Some(later))
}
