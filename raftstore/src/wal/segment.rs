//! Segment files: their names, and the ones prepared ahead of use.
//!
//! ```text
//! wal-prepare.tmp ──► wal-spare.log ──► wal-0000000007.log ──► wal-recycled.log ──► wal-…09.log
//!  zeros written      synced: ready      header synced: a       all of it dead        new salt
//!                                        segment of the log
//! ```
//!
//! A file gets each name only when what the name promises is durable, and names are changed by
//! renames alone, so a crash leaves each file in one of these states (museum W8, W9). Preparing
//! needs no access to the log and can run on another thread: that is where a full disk shows first,
//! and where the time to write the zeros goes.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, is_full};

use super::error::WalError;

pub(crate) const PREPARE: &str = "wal-prepare.tmp";
pub(crate) const SPARE: &str = "wal-spare.log";
pub(crate) const RECYCLED: &str = "wal-recycled.log";

/// The name of the segment with that number.
#[must_use]
pub fn segment_name(id: u64) -> String {
    format!("wal-{id:010}.log")
}

/// The number in a segment's name.
#[must_use]
pub fn segment_id(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    let id = digits.parse().ok()?;
    (segment_name(id) == name).then_some(id)
}

/// A file that can become a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    /// Whether it may contain anything but zeros: an earlier life, or one that a crash cut off
    /// before the file got its name.
    pub(crate) used: bool,
}

/// The files prepared ahead of use. Clones share them.
#[derive(Clone)]
pub struct Preparer {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    spares: Arc<Mutex<Vec<Spare>>>,
}

impl fmt::Debug for Preparer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preparer")
            .field("segment_bytes", &self.segment_bytes)
            .finish_non_exhaustive()
    }
}

impl Preparer {
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, spares: Vec<Spare>) -> Preparer {
        Preparer { disk, segment_bytes, spares: Arc::new(Mutex::new(spares)) }
    }

    /// Makes sure that the next segment is ready; whether there was anything to do. Meant for a
    /// background thread; a log that needs a segment while one is being made waits for it.
    ///
    /// # Errors
    /// [`WalError::Full`] if there is no room, which is harmless until the current segment is
    /// full; or [`WalError::Io`].
    pub fn prepare(&self) -> Result<bool, WalError> {
        let mut spares = self.spares.lock();
        if !spares.is_empty() {
            return Ok(false);
        }
        let spare = self.make(self.segment_bytes)?;
        spares.push(spare);
        Ok(true)
    }

    /// Runs `with` on a file of at least `bytes`, made now if none is ready. If it fails, the file
    /// is not ready any more.
    pub(crate) fn take<T>(
        &self,
        bytes: u64,
        with: impl FnOnce(Spare) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        // Held all the while, so that nobody makes another file of that name meanwhile.
        let mut spares = self.spares.lock();
        let ready = spares.iter().position(|spare| spare.bytes >= bytes);
        let spare = match ready {
            Some(ready) => spares.remove(ready),
            None => {
                spares.retain(|spare| spare.name != SPARE);
                self.make(bytes.max(self.segment_bytes).next_multiple_of(4096))?
            }
        };
        with(spare)
    }

    /// Takes over a dead segment as the next one; whether it did.
    pub(crate) fn recycle(&self, name: &str, bytes: u64) -> Result<bool, WalError> {
        let mut spares = self.spares.lock();
        if !spares.is_empty() || bytes != self.segment_bytes {
            return Ok(false);
        }
        self.disk.rename(name, RECYCLED).map_err(|error| WalError::io("rename", name, error))?;
        spares.push(Spare { name: RECYCLED, bytes, used: true });
        Ok(true)
    }

    /// Bytes of the files that are ready.
    #[must_use]
    pub fn ready_bytes(&self) -> u64 {
        self.spares.lock().iter().map(|spare| spare.bytes).sum()
    }

    fn make(&self, bytes: u64) -> Result<Spare, WalError> {
        self.disk.create_log(PREPARE, bytes).map_err(|error| {
            if is_full(&error) {
                WalError::Full { bytes }
            } else {
                WalError::io("allocate", PREPARE, error)
            }
        })?;
        self.disk.rename(PREPARE, SPARE).map_err(|error| WalError::io("rename", PREPARE, error))?;
        self.disk.sync_dir().map_err(|error| WalError::io("sync", "", error))?;
        Ok(Spare { name: SPARE, bytes, used: false })
    }
}
