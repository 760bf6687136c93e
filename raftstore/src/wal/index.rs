//! What the log holds, group by group: rebuilt at recovery, kept up by every append.
//!
//! Recovery applies every change in physical order, also those at or below a snapshot: leaving out
//! an overwrite because its entries are not needed brings back the suffix it replaced (museum W1).
//! While that goes on a group may have holes, where the oldest segments are gone and what they
//! held was carried to the head of the log; at the end there must be none.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use raft::{HardState, Index, LogId, Term};

use crate::disk::LogView;
use crate::region::RegionId;

use super::batch::{Change, Changes, GroupRecord, Piece};
use super::error::WalError;

/// The durable state of one group, as the log knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// Its hard state.
    pub hard_state: HardState,
    /// What precedes its first entry.
    pub compacted: LogId,
    /// The first entry of each run of equal terms, ascending.
    pub terms: Vec<LogId>,
    /// Index of the last entry; that of `compacted` if there is none.
    pub last: Index,
}

/// One group in the index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) hard_state: HardState,
    pub(crate) compacted: LogId,
    /// Its last entry, that of the last piece; `compacted` if there is none. Kept here because each
    /// append asks for it, and where the pieces end is a cache miss.
    last: LogId,
    /// By index, ascending, without overlap; without holes except during recovery.
    pub(crate) pieces: Vec<Piece>,
    /// How many pieces at the front are compacted away; they go all at once when they are many.
    dead: usize,
    /// The segments with its hard state and with where its log starts.
    pub(crate) hard_state_in: Option<u64>,
    pub(crate) compacted_in: Option<u64>,
}

impl Group {
    pub(crate) fn live(&self) -> &[Piece] {
        &self.pieces[self.dead..]
    }

    pub(crate) fn last(&self) -> Index {
        self.last.index
    }

    fn last_of_pieces(&self) -> LogId {
        let last = self.live().last();
        last.map_or(self.compacted, |piece| LogId::new(piece.term, piece.end() - 1))
    }

    /// The pieces that reach into `range`.
    pub(crate) fn within(&self, range: Range<Index>) -> &[Piece] {
        let live = self.live();
        let from = live.partition_point(|piece| piece.end() <= range.start);
        let to = live.partition_point(|piece| piece.first < range.end);
        live.get(from..to).unwrap_or_default()
    }

    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        // Mostly it is what the next entry follows.
        if index == self.last.index {
            return Some(self.last.term);
        }
        self.within(index..index + 1).first().map(|piece| piece.term)
    }

    /// What of it is in `segment`.
    pub(crate) fn in_segment(&self, segment: u64) -> Group {
        let pieces = self.live().iter().filter(|piece| u64::from(piece.segment) == segment);
        Group {
            hard_state: self.hard_state,
            compacted: self.compacted,
            last: self.last,
            pieces: pieces.copied().collect(),
            dead: 0,
            hard_state_in: self.hard_state_in.filter(|at| *at == segment),
            compacted_in: self.compacted_in.filter(|at| *at == segment),
        }
    }

    fn log(&self) -> GroupLog {
        let mut terms: Vec<LogId> = Vec::new();
        for piece in self.live() {
            if terms.last().is_none_or(|last| last.term != piece.term) {
                terms.push(LogId::new(piece.term, piece.first));
            }
        }
        let (hard_state, compacted) = (self.hard_state, self.compacted);
        GroupLog { hard_state, compacted, terms, last: self.last() }
    }
}

/// A segment in the index.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) view: Arc<dyn LogView>,
    pub(crate) file_bytes: u64,
    /// Bytes it would take to write once more what groups still have in it: runs, hard states, and
    /// where their logs start.
    pub(crate) live_bytes: u64,
}

/// All groups, and the segments they are in.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    pub(crate) groups: BTreeMap<RegionId, Group>,
    pub(crate) segments: BTreeMap<u64, Segment>,
}

impl LogIndex {
    pub(crate) fn add_segment(&mut self, id: u64, view: Arc<dyn LogView>, file_bytes: u64) {
        self.segments.insert(id, Segment { view, file_bytes, live_bytes: 0 });
    }

    /// Applies what was read from or written to `segment`.
    pub(crate) fn apply(&mut self, changes: &Changes, segment: u64) {
        for change in &changes.groups {
            self.apply_one(change, &changes.pieces[change.pieces.clone()], segment);
        }
    }

    fn apply_one(&mut self, change: &Change, pieces: &[Piece], segment: u64) {
        let LogIndex { groups, segments } = self;
        if change.remove {
            if let Some(group) = groups.remove(&change.region) {
                release(segments, group.live());
                move_anchor(segments, group.hard_state_in, None);
                move_anchor(segments, group.compacted_in, None);
            }
            return;
        }
        let group = groups.entry(change.region).or_default();
        if let Some(state) = change.hard_state {
            group.hard_state = state;
            move_anchor(segments, group.hard_state_in.replace(segment), Some(segment));
        }
        if let Some(at) = change.reset {
            release(segments, group.live());
            group.pieces.clear();
            group.dead = 0;
            (group.compacted, group.last) = (at, at);
            move_anchor(segments, group.compacted_in.replace(segment), Some(segment));
        }
        for piece in pieces {
            if change.carry {
                group.overlay(piece, segments);
            } else {
                group.append(piece, segments);
            }
        }
        if let Some(at) = change.compact {
            if at.index > group.compacted.index {
                group.compact(at, segments);
            }
            if at == group.compacted {
                move_anchor(segments, group.compacted_in.replace(segment), Some(segment));
            }
        }
        debug_assert_eq!(group.last, group.last_of_pieces());
    }

    /// Checks that applying `record` would leave a log without holes whose terms don't fall.
    ///
    /// # Errors
    /// [`WalError::Refused`] if not.
    pub(crate) fn check(&self, record: &GroupRecord<'_>) -> Result<(), WalError> {
        let none = Group::default();
        let known = self.groups.get(&record.region).unwrap_or(&none);
        let fresh = record.reset.map(|at| Group { compacted: at, last: at, ..Group::default() });
        let group = fresh.as_ref().unwrap_or(known);
        let log = (group.compacted, group.last());
        let refuse =
            |problem, at| Err(WalError::Refused { region: record.region, problem, at, log });
        let mut last = group.last();
        if let Some(run) = record.entries.runs().first() {
            let at = LogId::new(run.term(), run.first());
            if run.first() > last + 1 {
                return refuse("entries don't follow the log", at);
            }
            // Where the new entries meet what is kept of the old ones.
            let meet = run.first().max(group.compacted.index + 1);
            let new = record.entries.get(meet).map(|entry| entry.id.term);
            if new.is_some_and(|new| group.term(meet - 1).is_some_and(|old| old > new)) {
                return refuse("terms fall", at);
            }
            last = record.entries.last().map_or(last, |id| id.index).max(group.compacted.index);
        }
        if let Some(at) = record.compact.filter(|at| at.index >= group.compacted.index) {
            let kept = record.entries.get(at.index).filter(|e| e.id.index > group.compacted.index);
            let term = kept.map(|entry| entry.id.term);
            if at.index > last || term.or_else(|| group.term(at.index)) != Some(at.term) {
                return refuse("compaction to an entry the log doesn't have", at);
            }
        }
        let changes = record.hard_state.is_some()
            || record.reset.is_some()
            || record.compact.is_some()
            || !record.entries.is_empty();
        if record.remove && changes {
            return refuse("a removed group changes", LogId::ZERO);
        }
        Ok(())
    }

    /// The groups as recovery found them.
    ///
    /// # Errors
    /// [`WalError::Gap`] if one of them has a hole.
    pub(crate) fn logs(&self) -> Result<BTreeMap<RegionId, GroupLog>, WalError> {
        let mut logs = BTreeMap::new();
        for (&region, group) in &self.groups {
            let mut before = group.compacted;
            for piece in group.live() {
                if piece.first != before.index + 1 || piece.term < before.term {
                    return Err(WalError::Gap { region, from: before.index + 1 });
                }
                before = LogId::new(piece.term, piece.end() - 1);
            }
            logs.insert(region, group.log());
        }
        Ok(logs)
    }

    /// Bytes of all that groups still have.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.live_bytes).sum()
    }
}

type Segments = BTreeMap<u64, Segment>;

/// What a run takes besides its own bytes, and what a hard state or a start takes, with the group
/// they are of.
const PIECE_BYTES: u64 = 16;
const ANCHOR_BYTES: u64 = 40;

fn release(segments: &mut Segments, pieces: &[Piece]) {
    for piece in pieces {
        if let Some(segment) = segments.get_mut(&u64::from(piece.segment)) {
            segment.live_bytes -= u64::from(piece.bytes) + PIECE_BYTES;
        }
    }
}

fn hold(segments: &mut Segments, piece: &Piece) {
    if let Some(segment) = segments.get_mut(&u64::from(piece.segment)) {
        segment.live_bytes += u64::from(piece.bytes) + PIECE_BYTES;
    }
}

fn move_anchor(segments: &mut Segments, from: Option<u64>, to: Option<u64>) {
    if let Some(segment) = from.and_then(|id| segments.get_mut(&id)) {
        segment.live_bytes -= ANCHOR_BYTES;
    }
    if let Some(segment) = to.and_then(|id| segments.get_mut(&id)) {
        segment.live_bytes += ANCHOR_BYTES;
    }
}

impl Group {
    /// Adds entries at the end, in place of what is there from their first index on.
    fn append(&mut self, piece: &Piece, segments: &mut Segments) {
        while piece.first <= self.last.index
            && let Some(last) = self.pieces.last().copied()
            && self.pieces.len() > self.dead
            && last.end() > piece.first
        {
            self.pieces.pop();
            release(segments, &[last]);
            if let Some(kept) = last.cut(0..piece.first) {
                hold(segments, &kept);
                self.pieces.push(kept);
            }
        }
        if let Some(piece) = piece.cut(self.compacted.index + 1..Index::MAX) {
            hold(segments, &piece);
            self.last = LogId::new(piece.term, piece.end() - 1);
            self.pieces.push(piece);
        } else {
            self.last = self.last_of_pieces();
        }
    }

    /// Notes that entries lie elsewhere now.
    fn overlay(&mut self, piece: &Piece, segments: &mut Segments) {
        let Some(piece) = piece.cut(self.compacted.index + 1..Index::MAX) else { return };
        let live = self.live();
        let from = live.partition_point(|old| old.end() <= piece.first) + self.dead;
        let to = live.partition_point(|old| old.first < piece.end()) + self.dead;
        let old: Vec<Piece> = self.pieces[from..to].to_vec();
        release(segments, &old);
        let before = old.first().and_then(|old| old.cut(0..piece.first));
        let after = old.last().and_then(|old| old.cut(piece.end()..Index::MAX));
        let new: Vec<Piece> = before.into_iter().chain([piece]).chain(after).collect();
        new.iter().for_each(|piece| hold(segments, piece));
        self.pieces.splice(from..to, new);
        self.last = self.last_of_pieces();
    }

    /// Drops the entries up to `at`.
    fn compact(&mut self, at: LogId, segments: &mut Segments) {
        self.compacted = at;
        while let Some(first) = self.pieces.get(self.dead).copied()
            && first.first <= at.index
        {
            release(segments, &[first]);
            match first.cut(at.index + 1..Index::MAX) {
                None => self.dead += 1,
                Some(kept) => {
                    hold(segments, &kept);
                    self.pieces[self.dead] = kept;
                }
            }
        }
        self.last = self.last_of_pieces();
        if self.dead > 32 && self.dead * 2 > self.pieces.len() {
            self.pieces.drain(..self.dead);
            self.dead = 0;
        }
    }
}
