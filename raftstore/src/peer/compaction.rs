//! How far the log may go (§7), decided by the leader for the whole group.
//!
//! ```text
//!  agreed         floor     slowest                         durable   applied
//!  ──┼───────────────┼─────────┼───────────────────────────────┼─────────┤
//!    └── compacted ─────────►  │  nobody is left behind while the log stays within its limits;
//!                    └── ... and no further back than this for somebody who is away
//! ```
//!
//! The leader proposes an index (CompactLog); every member drops its log up to there once it has
//! applied that much and has it in a durable checkpoint of its own. The index is the slowest
//! member's, so that a short absence costs no snapshot, but a member that is away holds the log up
//! only until it has [`Limits::count_max`] entries or [`Limits::bytes_max`] bytes: then it goes on
//! without that member, which will need a snapshot. A member that is there, only slow, holds it up
//! [`SLOW_FACTOR`] times longer: whoever has just been sent a snapshot while much is written would
//! otherwise find the log gone again, for ever.
//!
//! A snapshot on its way holds the log up, too; see [`crate::snapshot`].

use std::collections::VecDeque;

use raft::{Index, LogId, NodeId, RawNode};

/// How much longer a member may hold the log up that is there, only slow.
const SLOW_FACTOR: u64 = 4;

/// When the log is compacted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Entries that must be gained by it; half of `count_max` will do.
    pub(crate) step: u64,
    /// Entries that a member which is away may hold up.
    pub(crate) count_max: u64,
    /// The same in bytes.
    pub(crate) bytes_max: u64,
    /// Ticks without a sign after which a member is taken to be away.
    pub(crate) away_ticks: u32,
}

/// How far the log may go, and how far it went.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    /// The group has agreed that the log is not needed up to here.
    pub(crate) agreed: Index,
    /// This store's durable state includes everything up to here.
    pub(crate) durable: Index,
    /// Where the leader's own CompactLog is, while it is not yet applied.
    pub(crate) proposed: Option<Index>,
    /// Dropped by the core, not yet said in the log.
    pub(crate) unwritten: Option<LogId>,
    sizes: Sizes,
    /// Members that gave no sign at so many looks in a row.
    silent: Vec<(NodeId, u32)>,
}

impl Compaction {
    pub(crate) fn new(compacted: Index, durable: Index) -> Compaction {
        Compaction { agreed: compacted, durable, ..Compaction::default() }
    }

    /// Entries up to `last`, of so many bytes, are handed out to be applied.
    pub(crate) fn grew(&mut self, last: Index, bytes: u64, limits: Limits) {
        self.sizes.grew(last, bytes, limits.bytes_max);
    }

    /// The log was reset to a snapshot.
    pub(crate) fn reset(&mut self, to: Index) {
        self.agreed = self.agreed.max(to);
        self.durable = self.durable.max(to);
        self.unwritten = None;
    }

    /// How far the leader's own log could go, and nothing else considered.
    fn bound(&self, raw: &RawNode, pin: Option<Index>) -> Index {
        raw.applied_index().min(self.durable).min(pin.unwrap_or(Index::MAX))
    }

    /// What this store may drop of what the group has agreed on: nothing that a restart would have
    /// to replay, nor what follows a snapshot on its way.
    pub(crate) fn due(&self, raw: &RawNode, pin: Option<Index>) -> Option<Index> {
        let to = self.agreed.min(self.bound(raw, pin));
        (to > raw.compacted().index).then_some(to)
    }

    /// What the leader should propose, once a tick.
    pub(crate) fn target(
        &mut self,
        raw: &RawNode,
        pin: Option<Index>,
        limits: Limits,
    ) -> Option<Index> {
        let step = limits.step.min(limits.count_max / 2).max(1);
        let bound = self.bound(raw, pin);
        if self.proposed.is_some() || bound < self.agreed + step {
            return None;
        }
        let mut to = bound;
        for (id, progress) in raw.status().progress.iter().filter(|(id, _)| *id != raw.id()) {
            let silent = self.note(*id, progress.recent_active);
            let factor = if silent >= limits.away_ticks { 1 } else { SLOW_FACTOR };
            let floor = self.floor(raw.applied_index(), limits, factor);
            to = to.min(progress.matched.max(floor));
        }
        (to >= self.agreed + step).then_some(to)
    }

    /// How far back somebody may hold the log up.
    fn floor(&self, applied: Index, limits: Limits, factor: u64) -> Index {
        let by_count = applied.saturating_sub(limits.count_max.saturating_mul(factor));
        by_count.max(self.sizes.floor(limits.bytes_max.saturating_mul(factor)))
    }

    /// Looks at a member. The core forgets who is active once in an election timeout, so one look
    /// says nothing.
    fn note(&mut self, id: NodeId, is_active: bool) -> u32 {
        if !self.silent.iter().any(|(known, _)| *known == id) {
            self.silent.push((id, 0));
        }
        let Some((_, looks)) = self.silent.iter_mut().find(|(known, _)| *known == id) else {
            return 0;
        };
        *looks = if is_active { 0 } else { looks.saturating_add(1) };
        *looks
    }

    /// It does not lead, or not any more.
    pub(crate) fn follow(&mut self) {
        self.proposed = None;
        self.silent.clear();
    }
}

/// How many bytes lie behind each of some indexes: enough to know where the last so many begin.
/// Those of a restart are not known and count for nothing.
#[derive(Debug, Default)]
struct Sizes {
    /// Indexes, with the bytes of all entries up to there, both ascending.
    marks: VecDeque<(Index, u64)>,
    bytes: u64,
}

/// So many marks are made within the limit.
const MARKS: u64 = 32;

impl Sizes {
    fn grew(&mut self, last: Index, bytes: u64, bytes_max: u64) {
        self.bytes += bytes;
        let is_apart = |mark: &(Index, u64)| self.bytes - mark.1 >= bytes_max / MARKS;
        if self.marks.back().is_none_or(is_apart) {
            self.marks.push_back((last, self.bytes));
        }
        // Further back than anybody may hold the log up nobody looks.
        let kept = bytes_max.saturating_mul(2 * SLOW_FACTOR);
        while self.marks.front().is_some_and(|mark| mark.1 + kept < self.bytes) {
            self.marks.pop_front();
        }
    }

    /// The first mark with at most `bytes` after it; 0 if all together are no more.
    fn floor(&self, bytes: u64) -> Index {
        if self.bytes <= bytes {
            return 0;
        }
        let at = self.marks.partition_point(|mark| self.bytes - mark.1 > bytes);
        self.marks.get(at).or(self.marks.back()).map_or(0, |mark| mark.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_know_where_the_last_bytes_begin() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.floor(0), 0, "nothing is there");
        for last in 1..=10_000 {
            sizes.grew(last, 10, 6400);
        }
        assert!(sizes.marks.len() <= 2 * SLOW_FACTOR as usize * MARKS as usize + 2);
        for wanted in [6400, 6400 * SLOW_FACTOR] {
            let floor = sizes.floor(wanted);
            let after = (10_000 - floor) * 10;
            assert!(after <= wanted && after + 6400 / MARKS >= wanted, "{after} of {wanted}");
        }
        assert_eq!(sizes.floor(1 << 20), 0, "all of them");
    }

    /// One entry larger than the limit is a mark of its own: the log may go up to it.
    #[test]
    fn a_large_entry_is_no_reason_to_keep_everything() {
        let mut sizes = Sizes::default();
        sizes.grew(1, 1 << 20, 1 << 10);
        sizes.grew(2, 1 << 20, 1 << 10);
        assert_eq!(sizes.floor(1 << 10), 2);
    }
}
