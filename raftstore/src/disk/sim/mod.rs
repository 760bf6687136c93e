//! A disk in memory that loses whatever a real one may lose.
//!
//! [`SimDisk`] is the drive, in the hands of the test: it survives crashes and decides what they
//! leave. [`SimDisk::mount`] gives the [`Disk`] that a store uses until the next crash; after that
//! every operation through the old mount, its files and its lock fails.
//!
//! # What it models
//!
//! - A file has sectors of 512 bytes. Each remembers every content it had since the last
//!   successful sync, because the kernel may write a dirty page at any moment and in any order: a
//!   power failure leaves each sector at *any* of them, or as garbage from the first unsynced byte
//!   on ([`Fate`]).
//! - The directory's operations (a name made, changed, removed) and the lengths of files are
//!   pending until synced, and are lost one by one, independently of each other. Real file systems
//!   order more than that; a log must not need it.
//! - A process crash loses nothing but the mount: the next one reads what the page cache holds,
//!   synced or not (museum P13).
//! - A failed sync leaves the pages *clean*: some written, some not, all still in the cache, and no
//!   later sync will write them (ATC'20; museum W10).
//! - Log files are written through the cache and synced as a whole, or, if the drive is made so
//!   ([`SimDisk::set_direct`]), by writes past the cache: several may be on their way, each ends by
//!   itself and makes its own sectors durable, in any order.
//! - A failed write leaves a part. A full disk fails before it changes anything.
//! - At rest, anything may rot, if a test says so: bytes change ([`SimDisk::damage`]), a sector has
//!   what it had before its last sync ([`SimDisk::before`]), or cannot be read until it is written
//!   again ([`SimDisk::make_unreadable`]).
//!
//! Everything random comes from the seed, so one seed and one sequence of operations give one
//! result.

mod direct;
mod drive;
mod mount;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, SECTOR_BYTES};
use drive::State;
use mount::Mounted;

/// The drive. Clones are handles on the same one.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// How a store ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: the page cache stays.
    Process,
    /// The power fails: of everything unsynced, anything may be left.
    Power,
}

/// What a power failure has to decide about, one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced<'a> {
    /// A sector with so many contents since the last sync.
    Sector {
        /// Of this file, by one of its names, empty if it has none any more.
        file: &'a str,
        /// Which sector of it.
        sector: usize,
        /// How many contents it had after the synced one, at least 1.
        versions: usize,
    },
    /// A length that is not the synced one.
    Length {
        /// Of this file.
        file: &'a str,
    },
    /// An operation on the directory.
    Name {
        /// The name that appears, changes or disappears.
        name: &'a str,
    },
}

/// What becomes of something unsynced in a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is as it was at the last sync.
    Lost,
    /// It got to the disk; for a sector, the content with this number (0 is the first after the
    /// sync; numbers beyond the last mean the last).
    Kept(usize),
    /// A sector whose write was interrupted: from a random point on, not before the first byte that
    /// changed, its bytes are old or random. For a length or a name the same as [`Fate::Lost`].
    Torn,
}

/// What one operation does instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an I/O error. A write leaves a part; a sync leaves clean pages.
    Error,
    /// It fails for lack of space and changes nothing.
    Full,
    /// The power fails at this point: it and everything later fails until [`SimDisk::crash`].
    PowerCut,
}

/// A kind of operation that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file is made, with its length.
    Create,
    /// Bytes are written.
    Write,
    /// A file is synced.
    Sync,
    /// A name changes.
    Rename,
    /// A name is removed.
    Remove,
    /// The directory is synced.
    SyncDir,
}

/// A moment of a recorded run: the drive just before an operation.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The operation that came next.
    pub operation: Operation,
    /// The file it was for; empty for the directory.
    pub file: String,
    /// The drive before it.
    pub disk: SimDisk,
}

impl SimDisk {
    /// An empty drive whose accidents follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// The disk as a store uses it, until the next crash.
    #[must_use]
    pub fn mount(&self) -> Arc<dyn Disk> {
        Arc::new(Mounted::new(self.clone()))
    }

    /// Ends the current mount. What a power failure leaves is drawn: with equal chances each
    /// unsynced thing is lost or kept at any of its contents, and one sector in eight is torn.
    pub fn crash(&self, how: Crash) {
        match how {
            Crash::Process => self.state.lock().unmount(),
            Crash::Power => {
                let mut rng = self.state.lock().rng.fork();
                self.lose_power(&mut |unsynced| match unsynced {
                    Unsynced::Sector { .. } if rng.u8(..8) == 0 => Fate::Torn,
                    Unsynced::Sector { versions, .. } => match rng.usize(..=versions) {
                        0 => Fate::Lost,
                        n => Fate::Kept(n - 1),
                    },
                    _ if rng.bool() => Fate::Kept(0),
                    _ => Fate::Lost,
                });
            }
        }
    }

    /// A power failure that leaves what `decide` says. It is asked about every unsynced thing:
    /// lengths and sectors file by file in order of creation, then the directory's operations in
    /// their order.
    pub fn lose_power(&self, decide: &mut dyn FnMut(&Unsynced<'_>) -> Fate) {
        let mut state = self.state.lock();
        state.lose_power(decide);
        state.unmount();
    }

    /// A copy of the drive after a power failure that decided so about each unsynced thing, in the
    /// order of [`SimDisk::lose_power`]; what `fates` is too short for is lost.
    #[must_use]
    pub fn image(&self, fates: &[Fate], seed: u64) -> SimDisk {
        let image = self.fork();
        image.reseed(seed);
        let mut fates = fates.iter();
        image.lose_power(&mut |_| *fates.next().unwrap_or(&Fate::Lost));
        image
    }

    /// An independent copy of the drive as it is now, without the recording.
    #[must_use]
    pub fn fork(&self) -> SimDisk {
        self.state.lock().fork()
    }

    /// Makes the `n`-th operation from now, 0 being the next, do `fault`.
    pub fn fail(&self, n: u64, fault: Fault) {
        let mut state = self.state.lock();
        let at = state.operations + n;
        state.faults.insert(at, fault);
    }

    /// Forgets faults that have not happened yet.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Whether a sync has failed, and no crash has followed yet.
    #[must_use]
    pub fn has_failed_sync(&self) -> bool {
        self.state.lock().sync_failed
    }

    /// Whether a planned power cut has struck, and no crash has followed yet: nothing works.
    #[must_use]
    pub fn is_powerless(&self) -> bool {
        self.state.lock().powerless
    }

    /// Makes what follows depend on `seed`: forks of one drive have the same accidents otherwise.
    pub fn reseed(&self, seed: u64) {
        self.state.lock().rng = fastrand::Rng::with_seed(seed);
    }

    /// Has log files opened from now on written past the cache, or not.
    pub fn set_direct(&self, is_direct: bool) {
        self.state.lock().is_direct = is_direct;
    }

    /// How many operations there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Limits the sum of the lengths of all files; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The sum of the lengths of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// From now on keeps the drive as it was before each operation.
    pub fn record(&self) {
        self.state.lock().moments = Some(Vec::new());
    }

    /// What was recorded; stops recording.
    #[must_use]
    pub fn recorded(&self) -> Vec<Moment> {
        self.state.lock().moments.take().unwrap_or_default()
    }

    /// A file's content as a reader would see it now; `None` if there is no such file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let inode = state.names.get(name)?;
        Some(state.inodes[inode].cache.clone())
    }

    /// Changes a file at rest, synced or not, as a failing drive would. Does nothing if there is
    /// no such file.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let Some(&inode) = state.names.get(name) else { return };
        let inode = state.inode(inode);
        change(&mut inode.cache);
        inode.disk = inode.cache.clone();
        inode.dirty.clear();
    }

    /// What a sector of a file had on the disk before it was last synced: what a drive shows that
    /// lost that write. `None` if there was none.
    #[must_use]
    pub fn before(&self, name: &str, sector: usize) -> Option<[u8; SECTOR_BYTES]> {
        let state = self.state.lock();
        let inode = state.names.get(name)?;
        state.inodes[inode].before.get(&sector).copied()
    }

    /// A sector of a file cannot be read from now on, until it is written.
    pub fn make_unreadable(&self, name: &str, sector: usize) {
        let mut state = self.state.lock();
        let Some(&inode) = state.names.get(name) else { return };
        state.inode(inode).unreadable.insert(sector);
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDisk")
            .field("names", &state.names)
            .field("operations", &state.operations)
            .finish_non_exhaustive()
    }
}
