//! How stores talk: packets from one to another, without a promise that they arrive.
//!
//! ```text
//!  node ── send ─► Transport ~~~~~~~~~► Transport ── Receiver ─► node of the other store
//! ```
//!
//! Nothing here blocks the sender. A packet that cannot be taken on is refused at once, and the
//! Raft core is told that the store is unreachable; one that is taken on may still get lost, be
//! delivered late or, over a new connection, out of order. Raft expects no more, and whoever sends
//! requests has deadlines.
//!
//! Snapshots go another way, beside all that: piece by piece over a connection of their own, by a
//! thread that may block, to an answer whether the receiver has it ([`SnapshotStream`]).
//!
//! | file | what |
//! |---|---|
//! | [`local`] | stores of one process, with filters for tests |
//! | [`tcp`] | stores anywhere |
//! | `queue` | what every thread here and in the node sleeps on |

pub mod local;
pub mod tcp;

pub(crate) mod queue;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::message::PeerMessage;
use crate::disk::{AcquaintanceError, Acquaintances};
use crate::region::StoreId;

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Raft messages, in order.
    Raft(Vec<PeerMessage>),
    /// A request of the layer above.
    Request {
        /// The sender's number for it, unique among its requests to that store.
        id: u64,
        /// What it asks.
        body: Bytes,
    },
    /// The answer to a request.
    Reply {
        /// The number of the request.
        id: u64,
        /// The answer.
        body: Bytes,
    },
}

impl Packet {
    /// About how many bytes it takes, on a wire or in memory.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        match self {
            Packet::Raft(messages) => messages.iter().map(PeerMessage::size_hint).sum(),
            Packet::Request { body, .. } | Packet::Reply { body, .. } => 32 + body.len(),
        }
    }
}

/// Why a packet was not taken on. The receiver will certainly never see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such store.
    #[error("the store is not known")]
    Unknown,
    /// There is no connection right now.
    #[error("the store cannot be reached")]
    Unreachable,
    /// The receiver is too slow: too much is on its way already.
    #[error("too much is on its way to the store")]
    Full,
    /// It would never fit into a frame.
    #[error("the packet is too large")]
    TooLarge,
    /// The receiver does not want it, or what came is not what it should be.
    #[error("the store does not take it")]
    Refused,
}

/// Where a transport puts what arrives. Called from its threads; must not block.
pub trait Receiver: Send + Sync {
    /// A packet from store `from`.
    ///
    /// # Errors
    /// If too much is waiting already; the packet is dropped.
    fn receive(&self, from: StoreId, packet: Packet) -> Result<(), SendError>;

    /// A snapshot begins to arrive from store `from`. Unlike the others this one, and what it
    /// returns, may take the time that a disk takes.
    ///
    /// # Errors
    /// If it is not wanted.
    fn snapshot(
        &self,
        from: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotSink>, SendError> {
        let _ = (from, message);
        Err(SendError::Refused)
    }

    /// A connection to or from `store` was lost or could not be made: what was on its way, in
    /// either direction, may be gone.
    fn lost(&self, store: StoreId);
}

/// Takes the pieces of one snapshot. Dropped before its end, it leaves nothing behind.
pub trait SnapshotSink: Send {
    /// The next piece.
    ///
    /// # Errors
    /// If it cannot be kept; the rest is not wanted then.
    fn piece(&mut self, bytes: &[u8]) -> Result<(), SendError>;

    /// There are no more; all together have so many bytes and that CRC-32.
    ///
    /// # Errors
    /// If that is not so, or the snapshot is not what it should be.
    fn finish(self: Box<Self>, bytes: u64, crc: u32) -> Result<(), SendError>;
}

/// The way of one snapshot to another store. To be used by a thread that may block.
pub trait SnapshotStream: Send {
    /// Sends the next piece.
    ///
    /// # Errors
    /// If it will certainly not arrive; there is no point in going on.
    fn piece(&mut self, bytes: &[u8]) -> Result<(), SendError>;

    /// Says that there are no more, and waits for the answer.
    ///
    /// # Errors
    /// If the receiver does not say that it has the snapshot.
    fn finish(self: Box<Self>, bytes: u64, crc: u32) -> Result<(), SendError>;
}

/// Sends packets to other stores.
pub trait Transport: Send + Sync {
    /// Says which data this store has, and who remembers that of the others: stores that have lost
    /// theirs are not talked to. Without it everybody is. Before [`Transport::start`].
    ///
    /// # Errors
    /// If it is known already that it, or another one, has lost its data.
    fn introduce(&self, acquaintances: Arc<Acquaintances>) -> Result<(), AcquaintanceError> {
        let _ = acquaintances;
        Ok(())
    }

    /// Begins to receive.
    ///
    /// # Errors
    /// If the operating system gives no threads.
    fn start(&self, receiver: Arc<dyn Receiver>) -> io::Result<()>;

    /// Takes a packet on for store `to`. Never blocks.
    ///
    /// # Errors
    /// If it will certainly not arrive.
    fn send(&self, to: StoreId, packet: Packet) -> Result<(), SendError>;

    /// Opens a way for the snapshot that `message` announces. May block for the time that a
    /// connection takes.
    ///
    /// # Errors
    /// If there is none.
    fn snapshot(
        &self,
        to: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotStream>, SendError> {
        let _ = (to, message);
        Err(SendError::Unknown)
    }

    /// Ends all threads and connections, and forgets the receiver. What was taken on and not yet
    /// sent is sent if that takes no time.
    fn stop(&self);
}
