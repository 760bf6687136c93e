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
//!
//! Dead segments are used again: as many are kept as the log's bound has room for (`gc`). In the long
//! run every segment is one that was used before, and no zeros are written at all; those of a file
//! that is being made when a segment dies are given up, if there is room for one of the two.
//!
//! One more file, the reserve, is small and used by nobody but a start that finds the disk full.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::disk::{Disk, is_full};

use super::WalOptions;
use super::error::WalError;
use super::pace::{Demand, Pace};

pub(crate) const PREPARE: &str = "wal-prepare.tmp";
pub(crate) const SPARE: &str = "wal-spare.log";
/// As many as there may be at a time.
pub(crate) const RECYCLED: [&str; 8] = [
    "wal-recycled.log",
    "wal-recycled-2.log",
    "wal-recycled-3.log",
    "wal-recycled-4.log",
    "wal-recycled-5.log",
    "wal-recycled-6.log",
    "wal-recycled-7.log",
    "wal-recycled-8.log",
];
pub(crate) const RESERVE: &str = "wal-reserve.log";
/// How long the reserve is at most: it has to take the records no watermark covers, and some.
const RESERVE_BYTES_MAX: u64 = 1 << 20;
/// How long a segment is at most that a start has to make because none is ready: little to wait
/// for, and enough until the next one is there.
const START_BYTES_MAX: u64 = 8 << 20;

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
    /// Whoever makes a file, or takes one that was made, has this: so nobody makes another of that
    /// name meanwhile. Taken before `ready`.
    making: Arc<Mutex<()>>,
    /// Never held for longer than it takes to look.
    ready: Arc<Mutex<Ready>>,
    demand: Arc<Demand>,
}

impl fmt::Debug for Preparer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preparer")
            .field("segment_bytes", &self.segment_bytes)
            .finish_non_exhaustive()
    }
}

/// What is prepared.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    pub(crate) spares: Vec<Spare>,
    /// Length of the reserve, if there is one.
    pub(crate) reserve: Option<u64>,
    /// The segment that is being made ahead of use.
    pub(crate) making: Making,
}

/// Whether a segment is being made, and still wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Making {
    #[default]
    Nothing,
    Next,
    /// One that was used before came in its place.
    GivenUp,
}

impl Ready {
    /// How many there are, or soon will be.
    fn count(&self) -> usize {
        self.spares.len() + usize::from(self.making == Making::Next)
    }

    /// Gives up the one being made, if there are more than `room`.
    fn give_up_beyond(&mut self, room: usize) {
        if self.count() > room && self.making == Making::Next {
            self.making = Making::GivenUp;
        }
    }

    fn take(&mut self, is_wanted: impl Fn(&Spare) -> bool) -> Option<Spare> {
        let place = self.spares.iter().position(is_wanted)?;
        Some(self.spares.remove(place))
    }
}

impl Preparer {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: &WalOptions, ready: Ready) -> Preparer {
        Preparer {
            disk,
            segment_bytes: options.segment_bytes(),
            making: Arc::default(),
            ready: Arc::new(Mutex::new(ready)),
            demand: Arc::default(),
        }
    }

    /// What the log needs, for its writer to tell.
    pub(super) fn demand(&self) -> &Demand {
        &self.demand
    }

    /// Makes sure that the next segment and the reserve are ready; whether there was anything to
    /// do. It is made as fast as the disk allows.
    ///
    /// # Errors
    /// [`WalError::Full`] if there is no room, which is harmless until the current segment is
    /// full; or [`WalError::Io`].
    pub fn prepare(&self) -> Result<bool, WalError> {
        self.prepare_with(true, &|_| ())
    }

    /// As [`Preparer::prepare`], if it is still time for it
    /// ([`Wal::wants_segment`](super::Wal::wants_segment)), and in step with the log, so that its
    /// syncs don't wait for zeros. Meant for a background thread, which sleeps by `sleep`: until so
    /// late, or the end of everything, and whether that has come. From then on, and if a log waits
    /// for the segment, it is made as fast as the disk allows.
    ///
    /// # Errors
    /// As [`Preparer::prepare`].
    pub fn prepare_in_step(&self, sleep: &dyn Fn(Instant) -> bool) -> Result<bool, WalError> {
        let pace = Pace::new(&self.demand, self.segment_bytes);
        let sleep = |until| sleep(until) || !self.is_making();
        self.prepare_with(self.is_due(), &|written| pace.keep(written, &sleep))
    }

    /// Whether a segment is being made and still wanted.
    fn is_making(&self) -> bool {
        self.ready.lock().making == Making::Next
    }

    /// Whether so little is left of the segment being written that it is time for the next one.
    pub(super) fn is_due(&self) -> bool {
        self.demand.room() <= self.segment_bytes / 8 * 7
    }

    fn prepare_with(&self, is_due: bool, pause: &dyn Fn(u64)) -> Result<bool, WalError> {
        let _making = self.making.lock();
        let mut did = false;
        if self.ready.lock().reserve.is_none() {
            let bytes = self.reserve_usual();
            self.make(RESERVE, bytes, &|_| true)?;
            self.ready.lock().reserve = Some(bytes);
            did = true;
        }
        {
            let mut ready = self.ready.lock();
            if !is_due || !ready.spares.is_empty() {
                return Ok(did);
            }
            ready.making = Making::Next;
        }
        let bytes = self.segment_bytes;
        let made = self.make(SPARE, bytes, &|written| {
            pause(written);
            self.is_making()
        });
        let is_there = made.inspect_err(|_| self.ready.lock().making = Making::Nothing)?;
        let is_late = {
            let mut ready = self.ready.lock();
            let is_wanted = mem::take(&mut ready.making) == Making::Next;
            if is_there && is_wanted {
                ready.spares.push(Spare { name: SPARE, bytes, used: false });
            }
            is_there && !is_wanted
        };
        if is_late {
            // Given up when all of it was written.
            self.remove(SPARE)?;
        }
        Ok(true)
    }

    /// Runs `with` on a file of at least `bytes`, made now if none is ready. If it fails, the file
    /// is not ready any more.
    pub(crate) fn take<T>(
        &self,
        bytes: u64,
        with: impl FnOnce(Spare) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        // A recycled one gets its name from the log's writer alone, so there is nobody to wait for.
        let fits = |spare: &Spare| spare.bytes >= bytes && spare.name != SPARE;
        let recycled = self.ready.lock().take(fits);
        if let Some(spare) = recycled {
            return with(spare);
        }
        let _making = self.demand.wait(|| self.making.lock());
        with(self.spare(bytes, self.segment_bytes)?)
    }

    /// As [`Preparer::take`], but if the disk is full, falls back on the reserve: opening a log
    /// needs no space (museum W17).
    pub(crate) fn take_to_recover<T>(
        &self,
        bytes: u64,
        with: impl FnOnce(Spare) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        let _making = self.making.lock();
        let usual = self.segment_bytes.min(START_BYTES_MAX);
        let reserve = self.ready.lock().reserve;
        let spare = match (self.spare(bytes, usual), reserve) {
            (Err(WalError::Full { .. }), Some(reserved)) if reserved >= bytes => {
                self.ready.lock().reserve = None;
                Spare { name: RESERVE, bytes: reserved, used: true }
            }
            (spare, _) => spare?,
        };
        with(spare)
    }

    /// A file of at least `bytes`; one that has to be made gets the `usual` length if that is more.
    fn spare(&self, bytes: u64, usual: u64) -> Result<Spare, WalError> {
        {
            let mut ready = self.ready.lock();
            if let Some(spare) = ready.take(|spare| spare.bytes >= bytes) {
                return Ok(spare);
            }
            ready.spares.retain(|spare| spare.name != SPARE);
        }
        let bytes = bytes.max(usual).next_multiple_of(4096);
        self.make(SPARE, bytes, &|_| true)?;
        Ok(Spare { name: SPARE, bytes, used: false })
    }

    /// Takes over a dead segment as one of the next ones, if it is one of at most `room`; whether it
    /// did.
    pub(crate) fn recycle(&self, name: &str, bytes: u64, room: usize) -> Result<bool, WalError> {
        let mut ready = self.ready.lock();
        if ready.spares.len() >= room || bytes != self.segment_bytes {
            return Ok(false);
        }
        let is_free = |slot: &&&str| ready.spares.iter().all(|spare| spare.name != **slot);
        let Some(&slot) = RECYCLED.iter().find(is_free) else { return Ok(false) };
        self.disk.rename(name, slot).map_err(|error| WalError::io("rename", name, error))?;
        ready.spares.push(Spare { name: slot, bytes, used: true });
        ready.give_up_beyond(room);
        Ok(true)
    }

    /// Gives one up, if there are more than `room`; its name, if that was a file, which is to be
    /// removed now.
    pub(crate) fn give_up(&self, room: usize) -> Option<&'static str> {
        let mut ready = self.ready.lock();
        ready.give_up_beyond(room);
        if ready.spares.len() > room { ready.spares.pop().map(|spare| spare.name) } else { None }
    }

    /// Whether there is none, nor soon will be.
    pub(crate) fn has_none(&self) -> bool {
        self.ready.lock().count() == 0
    }

    /// Whether [`Preparer::prepare`] has anything to make: a segment, or the reserve that a start on a
    /// full disk has used up.
    pub(crate) fn lacks_any(&self) -> bool {
        let ready = self.ready.lock();
        ready.count() == 0 || ready.reserve.is_none()
    }

    /// Length of the reserve, whether it is there or is still to be made.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.ready.lock().reserve.unwrap_or(self.reserve_usual())
    }

    fn reserve_usual(&self) -> u64 {
        self.segment_bytes.min(RESERVE_BYTES_MAX)
    }

    /// Bytes of the files that are ready or being made, the reserve among them.
    #[must_use]
    pub fn ready_bytes(&self) -> u64 {
        let ready = self.ready.lock();
        let making = if ready.making == Making::Next { self.segment_bytes } else { 0 };
        let spares: u64 = ready.spares.iter().map(|spare| spare.bytes).sum();
        spares + making + ready.reserve.unwrap_or_default()
    }

    fn remove(&self, name: &str) -> Result<(), WalError> {
        self.disk.remove(name).map_err(|error| WalError::io("remove", name, error))?;
        self.disk.sync_dir().map_err(|error| WalError::io("sync", "", error))
    }

    /// Makes a file, as long as `is_wanted` says so; whether it is there.
    fn make(
        &self,
        name: &str,
        bytes: u64,
        is_wanted: &dyn Fn(u64) -> bool,
    ) -> Result<bool, WalError> {
        match self.disk.create_log(PREPARE, bytes, is_wanted) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if is_full(&error) => return Err(WalError::Full { bytes }),
            Err(error) => return Err(WalError::io("allocate", PREPARE, error)),
        }
        self.disk.rename(PREPARE, name).map_err(|error| WalError::io("rename", PREPARE, error))?;
        self.disk.sync_dir().map_err(|error| WalError::io("sync", "", error))?;
        Ok(true)
    }
}
