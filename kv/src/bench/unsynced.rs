//! A disk whose log is never synced: for measuring everything else. The end of the process loses
//! nothing of it, a power failure anything.

use std::io;
use std::path::Path;
use std::sync::Arc;

use raftstore::disk::{DirDisk, Disk, File, Flush, Lock, LockError, LogFile, LogView, Route};

/// A directory, but for the syncs of its log.
#[derive(Debug)]
struct Unsynced(DirDisk);

/// Opens a directory whose log is not synced.
///
/// # Errors
/// If it can't be made.
pub(super) fn open_unsynced(path: &Path) -> io::Result<Arc<dyn Disk>> {
    // The route on which a flush is nothing but a sync: what is appended is in the page cache.
    Ok(Arc::new(Unsynced(DirDisk::open(path, Route::Written)?)))
}

impl Disk for Unsynced {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.0.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.0.open(name)
    }

    fn create_log(
        &self,
        name: &str,
        len: u64,
        is_wanted: &dyn Fn(u64) -> bool,
    ) -> io::Result<bool> {
        self.0.create_log(name, len, is_wanted)
    }

    fn append_log(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(UnsyncedLog(self.0.append_log(name)?)))
    }

    fn view_log(&self, name: &str) -> io::Result<Arc<dyn LogView>> {
        self.0.view_log(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }

    fn random(&self) -> u64 {
        self.0.random()
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        self.0.lock(owner)
    }
}

#[derive(Debug)]
struct UnsyncedLog(Box<dyn LogFile>);

impl LogFile for UnsyncedLog {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        Box::new(NoFlush)
    }

    fn seal(&mut self) -> io::Result<()> {
        self.0.seal()
    }

    fn view(&self) -> Arc<dyn LogView> {
        self.0.view()
    }
}

#[derive(Debug)]
struct NoFlush;

impl Flush for NoFlush {
    fn run(&self) -> io::Result<()> {
        Ok(())
    }
}
