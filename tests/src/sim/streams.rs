//! Snapshots on their way between simulated stores: what a connection of their own is, as events.
//!
//! ```text
//!  sender                                  receiver
//!  Next ─► begin ──────────────────────►  Part    a file
//!  Next ─► piece ── perhaps damaged ───►  Part    …
//!  Next ─► end ────────────────────────►  Part    whole? right? ─► its store
//!  Verdict ◄───────────────────────────────┘
//! ```
//!
//! Nothing gets lost in a connection, but the connection breaks when nothing gets through at the
//! moment: by a cut, by a filter, or because one of the two ends. Each side learns that later, or
//! never, and then gives up after a while.

use std::collections::VecDeque;

use bytes::Bytes;
use raftstore::StoreId;
use raftstore::codec::message::PeerMessage;
use raftstore::snapshot::SnapshotId;

use crate::sim::Time;

/// What is due about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// The sender sends the next part.
    Next(u64),
    /// A part arrives.
    Part {
        /// Of which stream.
        stream: u64,
        /// From whom.
        from: StoreId,
        /// What.
        part: Part,
    },
    /// The receiver notices that no more will come.
    Lost(u64),
    /// The sender hears whether the receiver has the snapshot.
    Verdict(u64, bool),
    /// The sender has waited long enough for that.
    GiveUp(u64),
}

impl Stream {
    /// Whether it comes over the network, so that any life of the store gets it.
    #[must_use]
    pub(super) fn comes_from_outside(&self) -> bool {
        match self {
            Stream::Part { .. } | Stream::Lost(_) | Stream::Verdict(..) => true,
            Stream::Next(_) | Stream::GiveUp(_) => false,
        }
    }
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The message that announces the snapshot, encoded.
    Begin(Bytes),
    /// Bytes of the file.
    Piece(Bytes),
    /// How many they were, and their checksum.
    End(u64, u32),
}

/// A snapshot that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// Its name for the store that sends it.
    pub(super) id: SnapshotId,
    /// To whom.
    pub(super) to: StoreId,
    /// The message that announces it.
    pub(super) message: PeerMessage,
    /// What is left to be sent.
    pub(super) parts: VecDeque<Part>,
    /// When the last part arrives.
    pub(super) last: Time,
}
