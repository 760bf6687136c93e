//! Dropping segments that no group needs.
//!
//! Only the oldest segment can go: an older one would bring back on replay what a newer one has
//! replaced. What groups still have in it (entries, the latest hard state, where the log starts)
//! is *carried*: appended once more at the head of the log, marked so that it replaces nothing.
//! Then, in this order: sync; take the name away; sync the directory (museum W13). A crash in
//! between leaves both copies, and replaying both gives the same state.
//!
//! An idle group can so never hold the log up: the space is bounded by the live bytes, not by the
//! slowest group. See [`Wal::collect`] for the bound.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use raft::{Entries, Index};

use crate::region::RegionId;

use super::Wal;
use super::batch::GroupRecord;
use super::error::WalError;
use super::index::{Group, LogIndex};
use super::segment::segment_name;

impl Wal {
    /// Drops the oldest segment if that is worthwhile, or a file kept for a next one; whether it did,
    /// and so may be worth calling again. Cheap when there is nothing to do. Meant to be called
    /// after a sync.
    ///
    /// Called until it says `false`, it keeps all files together within twice the live bytes and
    /// three segments: the one written, the next one, the reserve, and full segments for the rest.
    /// A segment goes when nothing in it is live, or when there would be more; then what is live in
    /// it is carried on. What the bound has room for besides are dead segments kept to be used again,
    /// eight at most.
    ///
    /// At most two bytes are carried for each byte that groups append, so that it comes to an end
    /// where carrying does not help: of entries larger than half a segment, each takes one.
    ///
    /// # Errors
    /// As [`Wal::append`] and [`Wal::sync`].
    pub fn collect(&mut self) -> Result<bool, WalError> {
        self.check_health()?;
        let space = self.space();
        if let Some(spare) = self.preparer.give_up(space.spares) {
            self.remove(spare)?;
            return Ok(true);
        }
        let Some(oldest) = self.oldest_to_drop(&space) else { return Ok(false) };
        self.carry(oldest)?;
        // Whatever made the segment dead has to be durable before it goes.
        self.sync()?;
        self.drop_segment(oldest)?;
        Ok(true)
    }

    fn space(&self) -> Space {
        let segment = self.options.segment_bytes();
        let index = self.index.read();
        let used: u64 = index.segments.values().map(|segment| segment.file_bytes).sum();
        let bound = 2 * index.live_bytes() + 3 * segment;
        let fixed = used + self.preparer.reserve_bytes();
        let has_next = self.preparer.is_due() || !self.preparer.has_none();
        let is_exceeded = fixed + if has_next { segment } else { 0 } > bound;
        let spares = bound.saturating_sub(fixed) / segment;
        Space { is_exceeded, spares: usize::try_from(spares).unwrap_or(usize::MAX).max(1) }
    }

    fn oldest_to_drop(&mut self, space: &Space) -> Option<u64> {
        let index = self.index.read();
        let (&oldest, segment) = index.segments.first_key_value()?;
        let active = self.active.header.segment;
        if oldest == active {
            return None;
        }
        let full: u64 = index.segments.range(..active).map(|(_, full)| full.file_bytes).sum();
        // Enough to move everything, which takes half of that at most.
        self.credit = self.credit.min(full);
        let excess = space.is_exceeded && segment.live_bytes <= self.credit;
        (segment.live_bytes == 0 || excess).then_some(oldest)
    }

    /// Appends what groups still have in `segment` once more.
    fn carry(&mut self, segment: u64) -> Result<(), WalError> {
        let needed = needed(&self.index.read(), segment);
        let reader = self.reader();
        let none = Entries::new();
        let mut entries: Vec<Vec<Entries>> = Vec::new();
        for (&region, group) in &needed {
            let ranges = ranges(group).into_iter();
            let read = ranges.map(|range| reader.entries(region, range, u64::MAX));
            entries.push(read.collect::<Result<_, _>>()?);
        }
        let mut groups = Vec::new();
        for ((&region, group), entries) in needed.iter().zip(&entries) {
            let mut record = GroupRecord::new(region, &none);
            record.hard_state = group.hard_state_in.map(|_| group.hard_state);
            record.compact = group.compacted_in.map(|_| group.compacted);
            groups.push(record);
            groups.extend(entries.iter().map(|entries| GroupRecord::new(region, entries)));
        }
        if groups.is_empty() {
            return Ok(());
        }
        let before = self.stats.bytes;
        self.write(&groups, true)?;
        let carried = self.stats.bytes - before;
        self.stats.carried_bytes += carried;
        self.credit = self.credit.saturating_sub(carried);
        Ok(())
    }

    /// Takes a segment out of the log for good, and keeps its file for a next one if nobody
    /// reads it and there is room.
    fn drop_segment(&mut self, id: u64) -> Result<(), WalError> {
        let name = segment_name(id);
        let segment = self.index.write().segments.remove(&id);
        // A file that somebody may still read must never be written again. Nobody can begin to:
        // it is in the index no more, and this is the only handle left.
        let unread = segment
            .filter(|segment| Arc::strong_count(&segment.view) == 1 && !segment.view.is_lent());
        let recycled = match unread {
            Some(segment) => self.preparer.recycle(&name, segment.file_bytes, self.space().spares),
            None => Ok(false),
        };
        let dropped = match recycled {
            Ok(true) => self.sync_dir(),
            Ok(false) => self.remove(&name),
            Err(error) => Err(error),
        };
        self.poisoned |= dropped.is_err();
        self.stats.segments_dropped += u64::from(dropped.is_ok());
        dropped
    }

    fn remove(&mut self, name: &str) -> Result<(), WalError> {
        let removed = self.disk.remove(name).map_err(|error| WalError::io("remove", name, error));
        let removed = removed.and_then(|()| self.sync_dir());
        self.poisoned |= removed.is_err();
        removed
    }

    fn sync_dir(&self) -> Result<(), WalError> {
        self.disk.sync_dir().map_err(|error| WalError::io("sync", "", error))
    }
}

/// What the bound has room for.
struct Space {
    /// Whether the segments, and the next one if it is time for it, take more.
    is_exceeded: bool,
    /// How many files may be kept for next segments; one at least.
    spares: usize,
}

/// The groups that have something in `segment`, with only that.
fn needed(index: &LogIndex, segment: u64) -> BTreeMap<RegionId, Group> {
    let mut needed = BTreeMap::new();
    for (&region, group) in &index.groups {
        let part = group.in_segment(segment);
        if part.hard_state_in.is_some() || part.compacted_in.is_some() || !part.live().is_empty() {
            needed.insert(region, part);
        }
    }
    needed
}

/// The indexes a group has pieces for, those without a hole between together.
fn ranges(group: &Group) -> Vec<Range<Index>> {
    let mut ranges: Vec<Range<Index>> = Vec::new();
    for piece in group.live() {
        match ranges.last_mut() {
            Some(last) if last.end == piece.first => last.end = piece.end(),
            _ => ranges.push(piece.first..piece.end()),
        }
    }
    ranges
}
