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
}

/// Where a transport puts what arrives. Called from its threads; must not block.
pub trait Receiver: Send + Sync {
    /// A packet from store `from`.
    ///
    /// # Errors
    /// If too much is waiting already; the packet is dropped.
    fn receive(&self, from: StoreId, packet: Packet) -> Result<(), SendError>;

    /// A connection to or from `store` was lost or could not be made: what was on its way, in
    /// either direction, may be gone.
    fn lost(&self, store: StoreId);
}

/// Sends packets to other stores.
pub trait Transport: Send + Sync {
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

    /// Ends all threads and connections, and forgets the receiver. What was taken on and not yet
    /// sent is sent if that takes no time.
    fn stop(&self);
}
