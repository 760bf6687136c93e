//! Whose data directory this is, and that only one process uses it.
//!
//! A directory belongs to one store of one cluster for ever: opening another store's log would
//! replay its votes as ours. The first claim writes the file `store`; every later one must agree.
//!
//! | offset | bytes | `store` |
//! |---|---|---|
//! | 0 | 8 | `rkvstore` |
//! | 8 | 4 | version of the format, 1 |
//! | 12 | 4 | zero |
//! | 16 | 8 | store id |
//! | 24 | 8 | cluster id |
//! | 32 | 8 | generation |
//! | 40 | 4 | CRC-32 of the bytes before |
//!
//! The file is replaced by a rename, so a crash while it is made leaves none, and the next start
//! makes it again (museum W25).

use std::fmt;
use std::io;

use super::{Disk, Lock, LockError, read, replace};
use crate::region::StoreId;

/// Names a cluster: stores of different ones must never talk or share a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// Who a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub store: StoreId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Drawn when the directory was made: a store that was wiped and made again under its old id
    /// is not the one that voted.
    pub generation: u64,
}

/// A data directory in the hands of this process, until dropped.
#[derive(Debug)]
pub struct Claim {
    identity: Identity,
    _lock: Box<dyn Lock>,
}

/// Why a directory cannot be used. Every case names who it belongs to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// It belongs to another store of the cluster.
    #[error("the data directory belongs to store {owner}, not to store {asked}")]
    OtherStore {
        /// Whose it is.
        owner: StoreId,
        /// Who asked.
        asked: StoreId,
    },
    /// It belongs to another cluster.
    #[error(
        "the data directory belongs to cluster {owner} (its store {store}), not to cluster {asked}"
    )]
    OtherCluster {
        /// Whose it is.
        owner: ClusterId,
        /// The store within that cluster.
        store: StoreId,
        /// Who asked.
        asked: ClusterId,
    },
    /// A running process has it.
    #[error("the data directory is in use by {owner}")]
    InUse {
        /// Process and store.
        owner: String,
    },
    /// The file that says whose it is, is damaged or of an unknown version.
    #[error("{file}: {reason}")]
    Damaged {
        /// Which file.
        file: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The disk failed.
    #[error("{file}: {source}")]
    Io {
        /// At which file.
        file: &'static str,
        /// How.
        source: io::Error,
    },
}

/// The file that says whose directory it is.
pub const IDENTITY_FILE: &str = "store";
const LOCK_FILE: &str = super::dir::LOCK_FILE;
const MAGIC: &[u8; 8] = b"rkvstore";
const VERSION: u32 = 1;
const BYTES: usize = 44;

impl Claim {
    /// Takes the directory for `store` of `cluster`: locks it, and writes who owns it if nobody
    /// does yet.
    ///
    /// # Errors
    /// If it is somebody else's or in use; see [`IdentityError`].
    pub fn new(
        disk: &dyn Disk,
        store: StoreId,
        cluster: ClusterId,
    ) -> Result<Claim, IdentityError> {
        let owner = format!("process {} (store {store})", std::process::id());
        let lock = disk.lock(&owner).map_err(|error| match error {
            LockError::Held { owner } => IdentityError::InUse { owner },
            LockError::Io(source) => IdentityError::Io { file: LOCK_FILE, source },
        })?;
        let io = |source| IdentityError::Io { file: IDENTITY_FILE, source };
        let identity = match read(disk, IDENTITY_FILE).map_err(io)? {
            Some(content) => Identity::decode(&content)?,
            None => {
                let identity = Identity { store, cluster, generation: disk.random() };
                replace(disk, IDENTITY_FILE, &identity.encode()).map_err(io)?;
                identity
            }
        };
        identity.check(store, cluster)?;
        // A crash may have come between the rename and the sync of the directory.
        disk.sync_dir().map_err(io)?;
        Ok(Claim { identity, _lock: lock })
    }

    /// Who the directory belongs to.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Identity {
    /// Whose directory it is, if it is anybody's yet. Takes nothing and changes nothing.
    ///
    /// # Errors
    /// If the file that says so is damaged or can't be read.
    pub fn read(disk: &dyn Disk) -> Result<Option<Identity>, IdentityError> {
        let io = |source| IdentityError::Io { file: IDENTITY_FILE, source };
        read(disk, IDENTITY_FILE).map_err(io)?.map(|content| Identity::decode(&content)).transpose()
    }

    fn check(&self, store: StoreId, cluster: ClusterId) -> Result<(), IdentityError> {
        if self.cluster != cluster {
            let (owner, store) = (self.cluster, self.store);
            return Err(IdentityError::OtherCluster { owner, store, asked: cluster });
        }
        if self.store != store {
            return Err(IdentityError::OtherStore { owner: self.store, asked: store });
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.store.0.to_le_bytes());
        out.extend(self.cluster.0.to_le_bytes());
        out.extend(self.generation.to_le_bytes());
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// Reads the content of the file `store`.
    ///
    /// # Errors
    /// [`IdentityError::Damaged`] if it cannot be one.
    pub fn decode(content: &[u8]) -> Result<Identity, IdentityError> {
        let damaged = |reason| Err(IdentityError::Damaged { file: IDENTITY_FILE, reason });
        let Some((body, crc)) = content.split_last_chunk::<4>() else {
            return damaged("cut short");
        };
        if content.len() != BYTES || &content[..8] != MAGIC {
            return damaged("not a store's identity");
        }
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return damaged("wrong checksum");
        }
        let number = |at: usize, len: usize| {
            body[at..at + len].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
        };
        if number(8, 4) != u64::from(VERSION) {
            return damaged("unknown version of the format");
        }
        Ok(Identity {
            store: StoreId(number(16, 8)),
            cluster: ClusterId(number(24, 8)),
            generation: number(32, 8),
        })
    }
}
