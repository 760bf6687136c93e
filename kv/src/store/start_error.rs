//! Why a store does not start, and whether another start could help.

use std::io;
use std::path::PathBuf;

use raftstore::StoreId;
use raftstore::disk::{AcquaintanceError, IdentityError};
use raftstore::node::NodeStartError;
use raftstore::wal::WalError;

use crate::machine::OpenError;
use crate::members::MembersError;

/// Why a store did not start. Nothing it had was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory can't be had.
    #[error("{}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not this store's, or in use.
    #[error("{}: {source}", path.display())]
    Identity {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        source: IdentityError,
    },
    /// It began with other stores.
    #[error("{}: {source}", path.display())]
    Members {
        /// Which directory.
        path: PathBuf,
        /// With which.
        source: MembersError,
    },
    /// It, or another store, has lost its data; or who knows that can't be found out.
    #[error("{}: {source}", path.display())]
    Acquaintances {
        /// Which directory.
        path: PathBuf,
        /// Which store, or why not.
        source: AcquaintanceError,
    },
    /// The log can't be used.
    #[error("{}: {source}", path.display())]
    Log {
        /// In which directory.
        path: PathBuf,
        /// Why.
        source: WalError,
    },
    /// The state machine's checkpoints can't be used.
    #[error("{}: {source}", path.display())]
    Checkpoint {
        /// In which directory.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The node does not start.
    #[error("store {store}: {source}")]
    Node {
        /// Which.
        store: StoreId,
        /// Why.
        source: NodeStartError,
    },
    /// The server does not start.
    #[error("store {store}: {source}")]
    Server {
        /// Of which store.
        store: StoreId,
        /// Why.
        source: io::Error,
    },
}

impl StartError {
    /// Whether something that was durable is missing or changed. Starting again does not help, and
    /// no other program should be let at it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            StartError::Directory { .. } | StartError::Server { .. } => false,
            StartError::Identity { source, .. } => matches!(source, IdentityError::Damaged { .. }),
            StartError::Members { source, .. } => matches!(source, MembersError::Damaged(_)),
            StartError::Acquaintances { source, .. } => !matches!(source, AcquaintanceError::Io(_)),
            StartError::Log { source, .. } => {
                matches!(source, WalError::Corrupt { .. } | WalError::Gap { .. })
            }
            StartError::Checkpoint { source, .. } => !matches!(source, OpenError::Io { .. }),
            StartError::Node { source, .. } => matches!(source, NodeStartError::Store(_)),
        }
    }
}
