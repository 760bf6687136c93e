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
    /// Drops the oldest segment if that is worthwhile; whether it did, and so may be worth calling
    /// again. Cheap when there is nothing to do. Meant to be called after a sync.
    ///
    /// A segment goes when nothing in it is live, or when the full segments, if there are several,
    /// have more than twice as many bytes as all that is live; then what is live in it is carried
    /// on. Called until it says `false`, it keeps the files within twice the live bytes, two segments (the one written, and
    /// one that does not pack well), those kept to be used again
    /// (`spares_max` of [`WalOptions`](super::WalOptions)), and the reserve.
    ///
    /// At most two bytes are carried for each byte that groups append, so that it comes to an end
    /// where carrying does not help: of entries larger than half a segment, each takes one.
    ///
    /// # Errors
    /// As [`Wal::append`] and [`Wal::sync`].
    pub fn collect(&mut self) -> Result<bool, WalError> {
        self.check_health()?;
        let Some(oldest) = self.oldest_to_drop() else { return Ok(false) };
        self.carry(oldest)?;
        // Whatever made the segment dead has to be durable before it goes.
        self.sync()?;
        self.drop_segment(oldest)?;
        Ok(true)
    }

    fn oldest_to_drop(&mut self) -> Option<u64> {
        let index = self.index.read();
        let (&oldest, segment) = index.segments.first_key_value()?;
        let active = self.active.header.segment;
        if oldest == active {
            return None;
        }
        let full: u64 = index.segments.range(..active).map(|(_, full)| full.file_bytes).sum();
        // Enough to move everything, which takes half of that at most.
        self.credit = self.credit.min(full);
        // One full segment is within the bound whatever is live in it, and what that is will mostly
        // die before the next one is full: a busy group has just written it.
        let several = index.segments.range(..active).nth(1).is_some();
        let excess = several && full > 2 * index.live_bytes() && segment.live_bytes <= self.credit;
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
    /// reads it and not enough are kept.
    fn drop_segment(&mut self, id: u64) -> Result<(), WalError> {
        let name = segment_name(id);
        let segment = self.index.write().segments.remove(&id);
        // A file that somebody may still read must never be written again. Nobody can begin to:
        // it is in the index no more, and this is the only handle left.
        let unread = segment
            .filter(|segment| Arc::strong_count(&segment.view) == 1 && !segment.view.is_lent());
        let recycled = match unread {
            Some(segment) => self.preparer.recycle(&name, segment.file_bytes),
            None => Ok(false),
        };
        let removed = match recycled {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.disk.remove(&name).map_err(|error| WalError::io("remove", &name, error))
            }
            Err(error) => Err(error),
        };
        let synced = removed
            .and_then(|()| self.disk.sync_dir().map_err(|error| WalError::io("sync", "", error)));
        self.poisoned |= synced.is_err();
        self.stats.segments_dropped += u64::from(synced.is_ok());
        synced
    }
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
