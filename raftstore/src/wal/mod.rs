//! The write-ahead log: one for all groups of a store, append-only, in memory-mapped segments.
//!
//! ```text
//!  ready batch ─► append ─► one record ─► sync ─► durable: promises may leave
//!                              │
//!     segment 6   segment 7    ▼ segment 8 (the one written)     spare (made ahead of use)
//!   [h|r|r|r|r|] [h|r|r|r|r|] [h|r|r|r|······················]  [························]
//!     ▲            ▲   ▲   ▲        ▲
//!     └── readers: slices of the map, found by an index of runs per group
//! ```
//!
//! # What it promises
//!
//! - A batch is one record, and is recovered whole or not at all, for all its groups (museum W12).
//! - What [`Wal::sync`] has covered is recovered, or opening fails naming file and offset: damage
//!   never makes the log silently shorter (W4). What it has not covered may be recovered too; it
//!   is made durable before [`Wal::open`] returns, so that whatever is recovered may be promised
//!   (P13).
//! - After a failed write or sync nothing is written or acknowledged any more (W10).
//! - Truncating is logical: entries that overwrite older ones say so by their index, and replay
//!   follows the physical order (W1).
//!
//! # Several syncs at a time
//!
//! On a disk that allows it ([`crate::disk::Route::Direct`]) further batches are appended and
//! written while earlier ones are on their way ([`Wal::begin_sync`]). They land in any order and
//! count in theirs. A crash may leave a later one without an earlier one: the log then ends before
//! the gap, and as no watermark covers what was behind it, that was torn, not damaged.
//!
//! # How a torn tail is told from damage
//!
//! A crash can only take what no sync had covered. Every record says up to where the log was
//! durable when it was written (its *watermark*), and its header proves by itself, by a checksum
//! seeded with the segment's salt and its own offset, that this segment's writer put it there. So
//! if bytes that should be record *n* are not, and anywhere behind them such a header says that
//! *n* was durable, then *n* was damaged; otherwise it was torn. In all but the last segment every
//! invalid byte before the segment's end is damage, because the next segment is started only after
//! a sync.
//!
//! # How recovery continues
//!
//! A torn tail is never overwritten, and never trusted to be on the disk: after a crash of the
//! process alone the page cache shows bytes that were never written, and after a failed sync the
//! kernel may even take them for clean. So recovery starts a new segment and *moves* there all
//! valid records of the tail that no watermark covers. The new segment's header says at which
//! offset, with which chain, the segment before ends; all behind that is void for ever (W2). The
//! new file is complete and synced before it gets its name, so each crash in between leaves the old
//! state or the new one (W20). If the last segment is mostly empty, all of it is moved, and the new
//! file takes its place and its name, so that restarts don't pile up files.
//!
//! # Format
//!
//! All numbers are little-endian. A segment is a header sector and records, each 8-byte aligned.
//! On a disk that is written directly, records fill whole blocks, from offset 4096 on.
//!
//! | offset | bytes | segment header (512 bytes, written once) |
//! |---|---|---|
//! | 0 | 8 | `rkvwal\r\n` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | flags: 1 the file had another life before, 2 records fill whole blocks |
//! | 16 | 8 | store id |
//! | 24 | 8 | cluster id |
//! | 32 | 8 | segment number |
//! | 40 | 8 | salt, random |
//! | 48 | 8 | number of the first record |
//! | 56 | 8 | watermark: everything up to it was durable before the segment got its name |
//! | 64 | 8 | where the segment before ends, 0 if there was none |
//! | 72 | 4 | the chain at that point |
//! | 76 | 432 | zero |
//! | 508 | 4 | CRC-32 of the 508 bytes before; also the *seed* of the segment |
//!
//! | offset | bytes | record |
//! |---|---|---|
//! | 0 | 4 | `0xb5c72a6d` |
//! | 4 | 4 | CRC-32 from the seed over the record's offset (8 bytes) and bytes 8 to 32 |
//! | 8 | 4 | payload length |
//! | 12 | 1 | kind: 1 a whole batch, 2 begin, 3 continue, 4 end of one, 5 mark |
//! | 13 | 1 | zero |
//! | 14 | 2 | padding up to a whole block, in units of 8 bytes |
//! | 16 | 8 | number of the record, consecutive over all segments |
//! | 24 | 8 | watermark: everything up to this number was durable |
//! | 32 | 4 | chain: CRC-32 from the chain before (the seed, for the first) over bytes 0 to 32 and 40 to the end |
//! | 36 | 4 | zero |
//! | 40 | … | payload, then zeros to a multiple of 8, then the padding, zeros too |
//!
//! | bytes | payload (of all kinds but mark, which has none) |
//! |---|---|
//! | 4 | number of groups |
//! | … | the groups |
//!
//! | bytes | group |
//! |---|---|
//! | 8 | region |
//! | 4 | flags: 1 hard state, 2 reset, 4 compaction, 8 removal, 16 entries are only moved |
//! | 4 | number of runs |
//! | 24 | if flagged: hard state (term, vote or 0, commit) |
//! | 16 | if flagged: the log restarts after this (term, index) |
//! | 16 | if flagged: the log is compacted up to this (term, index) |
//! | … | the runs, as in [`crate::codec::entry`], each following the one before |
//!
//! A batch that no segment could hold is divided between entries over several records: begin,
//! continue…, end. It counts only with its end; whatever else follows a begin makes it void.
//!
//! # Limits
//!
//! | limit | value |
//! |---|---|
//! | segment | 4 KiB to 1 GiB, a multiple of 4 KiB (field of [`WalOptions`]) |
//! | entry | [`ENTRY_BYTES_MAX`](crate::codec::ENTRY_BYTES_MAX), and a segment less 700 bytes |
//! | batch | memory |
//!
//! | file | what |
//! |---|---|
//! | `format` | segment headers and records: the one decoder |
//! | `batch` | what a record's payload says |
//! | `segment` | file names, and segments made ahead of use |
//! | `mapping` | log files in memory, all unsafe code |
//! | `writer` | append and sync |
//! | `flight` | syncs on their way |
//! | `spill` | writing what nobody asks to be durable |
//! | `recovery` | open |
//! | `ahead` | what is opened, read ahead of being checked |
//! | `inspect` | look without changing anything |
//! | `index` | where each group's entries lie |
//! | `reader` | reading them back |
//! | `gc` | dropping segments |
//! | `error` | what can go wrong |

mod ahead;
mod batch;
mod error;
mod flight;
mod format;
mod gc;
mod index;
mod inspect;
pub(crate) mod mapping;
mod pace;
mod reader;
mod recovery;
mod segment;
mod spill;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;

pub use batch::GroupRecord;
pub use error::{Damage, ReadError, WalError};
pub use flight::PendingSync;
pub use format::{
    FORMAT, HEADER_BYTES, HeaderError, RECORD_HEADER_BYTES, Record, RecordKind, Records, Rest,
    SegmentHeader,
};
pub use index::GroupLog;
pub use inspect::{
    InspectedGroup, InspectedRecord, InspectedRun, InspectedSegment, Inspection, Verdict,
};
pub use reader::LogReader;
pub use recovery::{Recovered, Torn};
pub use segment::{Preparer, segment_id, segment_name};
pub use writer::{Wal, WalStats};

/// Number of a record: 1 for a log's first, one more for each next. 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }

    /// The one before; 0 before 1 and before 0.
    #[must_use]
    pub fn previous(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Length of new segments in bytes, from 4 KiB to 1 GiB; rounded up to a multiple of 4 KiB and
    /// into that range. Small ones are started often, each for two syncs; large ones take long to
    /// fill with zeros and keep more dead bytes: the files take twice the live bytes and three
    /// segments at most ([`Wal::collect`]). Must exceed the largest entry by 700 bytes.
    pub segment_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_bytes: 64 << 20 }
    }
}

impl WalOptions {
    fn segment_bytes(&self) -> u64 {
        self.segment_bytes.clamp(4 << 10, 1 << 30).next_multiple_of(4 << 10)
    }
}
