//! What can be wrong with the log.

use std::io;

use raft::{Index, LogId};

use crate::codec::CodecError;
use crate::disk::ClusterId;
use crate::region::{RegionId, StoreId};

/// Why the log could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Bytes that were durable are not what was written: the store must not start, vote or
    /// acknowledge anything on the strength of what is left (museum W4).
    #[error("{file}: damaged at offset {offset}: {reason}")]
    Corrupt {
        /// Which file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        reason: Damage,
    },
    /// The log lacks entries of a group that it must have: a file is missing.
    #[error("the log of region {region} lacks entries from {from} on")]
    Gap {
        /// Which group.
        region: RegionId,
        /// The first index that is missing.
        from: Index,
    },
    /// A file of a version this program does not know.
    #[error("{file}: format version {found}, where this program knows {known}")]
    Version {
        /// Which file.
        file: String,
        /// Its version.
        found: u32,
        /// The version this program writes.
        known: u32,
    },
    /// A file of another store or cluster.
    #[error("{file}: belongs to store {store} of cluster {cluster}")]
    Foreign {
        /// Which file.
        file: String,
        /// Whose it is.
        store: StoreId,
        /// Of which cluster.
        cluster: ClusterId,
    },
    /// The disk failed. If this came from [`Wal::append`](super::Wal::append) or
    /// [`Wal::sync`](super::Wal::sync), nothing will be written any more.
    #[error("{file}: {doing}: {source}")]
    Io {
        /// At which file; empty for the directory.
        file: String,
        /// What was being done.
        doing: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// There is no room for another segment. Nothing was written, and the same append may be
    /// tried again when there is.
    #[error("the disk is full: no room for a log segment of {bytes} bytes")]
    Full {
        /// How much is needed.
        bytes: u64,
    },
    /// An earlier write or sync failed; what is durable is unknown, and only a restart can tell.
    #[error("the log failed earlier and takes no more writes")]
    Poisoned,
    /// An entry can't be written whole into a segment. Nothing was written.
    #[error("an entry of region {region} has {bytes} bytes, more than the {max} of a segment")]
    TooLarge {
        /// Whose entry.
        region: RegionId,
        /// Its size, with what surrounds it.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// What was to be written again could not be read.
    #[error("reading entries to move: {0}")]
    Read(#[from] ReadError),
    /// What the caller wants to write would make a log with a hole, or none at all. Nothing was
    /// written.
    #[error("region {region}: {problem} (at {at}, log is {log:?})")]
    Refused {
        /// Whose log.
        region: RegionId,
        /// What is wrong with it.
        problem: &'static str,
        /// Where the change is.
        at: LogId,
        /// What precedes the log, and its last index.
        log: (LogId, Index),
    },
}

/// What makes bytes invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file ends within something.
    #[error("the file is cut short")]
    Short,
    /// The segment's header is not one, or has a wrong checksum.
    #[error("not a segment header")]
    Header,
    /// The segment's header is another segment's.
    #[error("the header of segment {found}")]
    Misplaced {
        /// Which one's.
        found: u64,
    },
    /// The segment does not continue the one before.
    #[error("does not continue the segment before")]
    Chain,
    /// The segment between is missing.
    #[error("segment {missing} is missing")]
    Missing {
        /// Which.
        missing: u64,
    },
    /// No record starts here.
    #[error("no record")]
    NoRecord,
    /// A record's header has a wrong checksum.
    #[error("wrong checksum of a record's header")]
    RecordHeader,
    /// A record has a number it can't have here.
    #[error("record out of order")]
    Order,
    /// A record has a wrong checksum.
    #[error("wrong checksum of a record")]
    Checksum,
    /// A record with right checksums makes no sense.
    #[error("undecodable record: {0}")]
    Undecodable(CodecError),
    /// A part of a batch where none can be.
    #[error("a batch is incomplete")]
    Batch,
}

impl WalError {
    pub(crate) fn io(doing: &'static str, file: &str, source: io::Error) -> WalError {
        WalError::Io { file: file.to_owned(), doing, source }
    }

    pub(crate) fn corrupt(file: &str, offset: u64, reason: Damage) -> WalError {
        WalError::Corrupt { file: file.to_owned(), offset, reason }
    }
}

/// Why entries could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The first one is not in the log any more.
    #[error("the log starts after {compacted}")]
    Compacted {
        /// What precedes the log.
        compacted: LogId,
    },
    /// One of them is not in the log yet.
    #[error("the log ends at {last}")]
    Unavailable {
        /// The last index.
        last: Index,
    },
    /// The log has no such group.
    #[error("no log of region {0}")]
    Unknown(RegionId),
    /// A file was changed under us.
    #[error("segment {segment}, offset {offset}: {reason}")]
    Damaged {
        /// In which segment.
        segment: u64,
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: CodecError,
    },
}
