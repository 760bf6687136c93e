//! A real directory, with three routes for appending to a log file.
//!
//! Reads of a log always go through its map. How bytes get in is a [`Route`], which makes no
//! difference to a reader. A log file is filled with zeros before it is used: blocks that were only
//! allocated make every sync of them a metadata commit. Where its pages are to be written in the
//! cache, it is filled by small writes, because large ones leave large folios, of which a mapped
//! store dirties all (`reliability/wal.md` rule 18). It is synced as it is filled: zeros that pile
//! up would all go to the disk at once, and the log's own syncs would wait behind them.

use std::fs;
use std::io;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::append::Appender;
use super::direct::{self, DirectLog};
use super::{Disk, File, Lock, LockError, LogFile, LogView};
use crate::wal::mapping;

pub(super) const LOCK_FILE: &str = "LOCK";
const ZEROS: [u8; 4096] = [0; 4096];
/// What is written of a new log file between two syncs.
const FILLED_BYTES: u64 = 1 << 20;
/// Direct writes at a time: with more, syncs a second grow less than the latency of each.
const DIRECT_WRITES_MAX: usize = 4;
const PROBE_FILE: &str = "direct-probe.tmp";

/// How appended bytes get into a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Positioned writes; the map is read-only. An error is an error return.
    Written,
    /// Stores through a writable map: no system call, but a page fault for each page that a sync
    /// has cleaned, and an I/O error shows only at the sync.
    Mapped,
    /// Writes past the page cache, durable when they return, several at a time. Records fill whole
    /// blocks, so no block is ever written twice. Where the file system does not offer it, the log
    /// says so and [`Route::Written`] is taken.
    Direct,
}

impl Route {
    /// The one that benches have decided for: with one sync at a time as fast as any, and with
    /// several far ahead.
    pub const DEFAULT: Route = Route::Direct;

    /// The route to take where this one is asked for on a file system of that kind, and what is weak
    /// there.
    ///
    /// Where writing a block again takes a new one, neither `fallocate` nor writing zeros ahead
    /// keeps a full disk from showing in the middle of a segment. By a write that is an error, which
    /// stops the store; by a store through the map it would be a bus error.
    fn on(self, file_system: u32) -> (Route, Option<&'static str>) {
        let is_in = |kinds: &[u32]| kinds.contains(&file_system);
        let weakness = if is_in(&COPY_ON_WRITE) {
            "a copy-on-write file system takes new blocks for segments made ahead of use, \
             so a full disk stops the store instead of refusing writes for a while"
        } else if is_in(&REMOTE) {
            "what a sync on a network file system promises, its server decides"
        } else {
            return (self, None);
        };
        (if self == Route::Mapped { Route::Written } else { self }, Some(weakness))
    }
}

/// Btrfs, ZFS, Bcachefs, NILFS; by the numbers of `statfs(2)`.
const COPY_ON_WRITE: [u32; 4] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0x3434];
/// NFS, SMB (three versions), Ceph, 9P, AFS.
const REMOTE: [u32; 7] =
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x0102_1997, 0x5346_414f];

impl Default for Route {
    fn default() -> Route {
        Route::DEFAULT
    }
}

/// A directory of the file system.
#[derive(Debug)]
pub struct DirDisk {
    path: PathBuf,
    route: Route,
    block_bytes: u64,
}

impl DirDisk {
    /// Uses the directory at `path`, which is made if it is missing. Warns of file systems on which
    /// a log is weaker, and takes [`Route::Written`] for [`Route::Mapped`] there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(path: impl Into<PathBuf>, route: Route) -> io::Result<DirDisk> {
        let path = path.into();
        if !path.is_dir() {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                fs::File::open(parent)?.sync_all()?;
            }
        }
        let kind = mapping::file_system(&fs::File::open(&path)?)?;
        let (route, weakness) = route.on(kind);
        if let Some(weakness) = weakness {
            log::warn!("{}: {weakness}", path.display());
        }
        let mut disk = DirDisk { path, route, block_bytes: 1 };
        if route == Route::Direct {
            match direct::probe(&disk.at(PROBE_FILE)) {
                Ok(block_bytes) => disk.block_bytes = block_bytes,
                Err(error) => {
                    log::warn!("{}: no direct writes here: {error}", disk.path.display());
                    disk.route = Route::Written;
                }
            }
        }
        Ok(disk)
    }

    /// By which route log files are written: the one asked for, if the file system offers it.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps every store away from the directory until the lock is dropped, and changes nothing.
    /// Several may look at a time.
    ///
    /// # Errors
    /// [`LockError::Held`] if a store uses it.
    pub fn lock_to_read(&self) -> Result<Box<dyn Lock>, LockError> {
        let mut file = match fs::File::open(self.at(LOCK_FILE)) {
            Ok(file) => file,
            // No store has ever been here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(NoLock)),
            Err(error) => return Err(error.into()),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Box::new(DirLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => held(&mut file),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        debug_assert!(!name.contains('/'), "names are plain file names");
        self.path.join(name)
    }

    fn create_new(&self, name: &str) -> io::Result<fs::File> {
        let path = self.at(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::OpenOptions::new().read(true).write(true).create_new(true).open(path),
        }
    }
}

impl Disk for DirDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(Box::new(self.create_new(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::OpenOptions::new().read(true).write(true).open(self.at(name))?))
    }

    fn create_log(
        &self,
        name: &str,
        len: u64,
        is_wanted: &dyn Fn(u64) -> bool,
    ) -> io::Result<bool> {
        let mut file = self.create_new(name)?;
        let filled = mapping::allocate(&file, len).and_then(|()| match self.route {
            Route::Direct => direct::fill(&self.at(name), len, is_wanted),
            Route::Written | Route::Mapped => fill(&mut file, len, is_wanted),
        });
        if !matches!(filled, Ok(true)) {
            // Half a file would keep the space that somebody may need to recover.
            let _ = fs::remove_file(self.at(name));
        }
        filled
    }

    fn append_log(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let path = self.at(name);
        if self.route == Route::Direct {
            return Ok(Box::new(DirectLog::new(direct::open(&path)?, self.block_bytes)?));
        }
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(Appender::new(file, self.route)?))
    }

    fn view_log(&self, name: &str) -> io::Result<Arc<dyn LogView>> {
        mapping::view(&fs::File::open(self.at(name))?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    fn flushes_max(&self) -> usize {
        if self.route == Route::Direct { DIRECT_WRITES_MAX } else { 1 }
    }

    fn random(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        // The standard library seeds these from the operating system.
        std::hash::RandomState::new().build_hasher().finish()
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        let path = self.at(LOCK_FILE);
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return held(&mut file),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{owner}")?;
        Ok(Box::new(DirLock { _file: file }))
    }
}

/// Writes zeros over all of a new file and makes them durable.
fn fill(file: &mut fs::File, len: u64, is_wanted: &dyn Fn(u64) -> bool) -> io::Result<bool> {
    let mut at = 0;
    while at < len {
        let part = (len - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..part as usize], at)?;
        at += part;
        if at.is_multiple_of(FILLED_BYTES) {
            file.sync_data()?;
            if !is_wanted(at) {
                return Ok(false);
            }
        }
    }
    file.sync_all().map(|()| true)
}

/// Says who has the lock file locked.
fn held(file: &mut fs::File) -> Result<Box<dyn Lock>, LockError> {
    let mut owner = String::new();
    file.read_to_string(&mut owner)?;
    Err(LockError::Held { owner: owner.trim_end().to_owned() })
}

/// Where there is nothing to lock.
#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

/// The lock file, open: the kernel drops the lock with it.
#[derive(Debug)]
struct DirLock {
    _file: fs::File,
}

impl Lock for DirLock {}

impl File for fs::File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores through a map are never made where a full disk could only answer with a signal
    /// (museum W16).
    #[test]
    fn w16_no_stores_through_maps_of_copy_on_write_files() {
        let (ext4, btrfs, nfs) = (0xef53, 0x9123_683e, 0x6969);
        for route in [Route::Written, Route::Mapped, Route::Direct] {
            assert_eq!(route.on(ext4), (route, None));
            let instead = if route == Route::Mapped { Route::Written } else { route };
            for kind in [btrfs, nfs] {
                let (taken, weakness) = route.on(kind);
                assert!(taken == instead && weakness.is_some(), "{route:?} on {kind:#x}");
            }
        }
    }

    /// The number is really that of the file system.
    #[test]
    fn a_memory_file_system_is_told_by_its_number() {
        let Ok(dir) = fs::File::open("/dev/shm") else { return };
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if mounts.lines().any(|line| line.contains(" /dev/shm tmpfs ")) {
            assert_eq!(mapping::file_system(&dir).expect("it is open"), 0x0102_1994);
        }
    }
}
