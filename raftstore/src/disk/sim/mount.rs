//! A simulated drive as a store uses it, until the next crash.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::direct::DirectLog;
use super::drive::{ALL, Inode, NameChange, is_readable};
use super::{Operation, SimDisk};
use crate::disk::{Disk, File, Flush, Lock, LockError, LogFile, LogView, SECTOR_BYTES};

/// A store's use of the drive between two crashes.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub(super) disk: SimDisk,
    pub(super) epoch: u64,
}

impl Mounted {
    pub(super) fn new(disk: SimDisk) -> Mounted {
        let epoch = disk.state.lock().epoch;
        Mounted { disk, epoch }
    }

    fn is_direct(&self) -> bool {
        self.disk.state.lock().is_direct
    }

    fn handle(&self, inode: u64) -> Handle {
        Handle { mounted: self.clone(), inode }
    }
}

impl Disk for Mounted {
    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.disk.state.lock();
        state.check(self.epoch)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.disk.state.lock();
        state.begin_whole(self.epoch, Operation::Create, name)?;
        let inode = state.create(name, 0)?;
        drop(state);
        Ok(Box::new(self.handle(inode)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let state = self.disk.state.lock();
        state.check(self.epoch)?;
        let inode = state.find(name)?;
        drop(state);
        Ok(Box::new(self.handle(inode)))
    }

    fn create_log(
        &self,
        name: &str,
        len: u64,
        is_wanted: &dyn Fn(u64) -> bool,
    ) -> io::Result<bool> {
        // Asked once, as if halfway; what follows happens at one moment.
        if !is_wanted(len / 2) {
            return Ok(false);
        }
        let mut state = self.disk.state.lock();
        state.begin_whole(self.epoch, Operation::Create, name)?;
        let inode = state.create(name, len)?;
        let synced = state.sync(self.epoch, inode, ALL);
        if synced.is_err() && !state.powerless {
            state.names.remove(name);
            state.pending.push(NameChange::Remove { name: name.to_owned() });
        }
        synced.map(|()| true)
    }

    fn append_log(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let state = self.disk.state.lock();
        state.check(self.epoch)?;
        let inode = state.find(name)?;
        drop(state);
        let handle = self.handle(inode);
        if self.is_direct() {
            return Ok(Box::new(DirectLog::new(handle)));
        }
        Ok(Box::new(SimLog { handle, at: Arc::default() }))
    }

    fn view_log(&self, name: &str) -> io::Result<Arc<dyn LogView>> {
        let state = self.disk.state.lock();
        state.check(self.epoch)?;
        let inode = Arc::clone(&state.inodes[&state.find(name)?]);
        Ok(Arc::new(View(Arc::new(Seen(inode)))))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.begin_whole(self.epoch, Operation::Rename, from)?;
        let inode = state.find(from)?;
        let change = NameChange::Move { from: from.to_owned(), to: to.to_owned(), inode };
        change.clone().apply(&mut state.names);
        state.pending.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.begin_whole(self.epoch, Operation::Remove, name)?;
        state.find(name)?;
        state.names.remove(name);
        state.pending.push(NameChange::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.begin_whole(self.epoch, Operation::SyncDir, "")?;
        state.pending.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn block_bytes(&self) -> u64 {
        if self.is_direct() { SECTOR_BYTES as u64 } else { 1 }
    }

    fn flushes_max(&self) -> usize {
        if self.is_direct() { 4 } else { 1 }
    }

    fn random(&self) -> u64 {
        self.disk.state.lock().rng.u64(..)
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        let mut state = self.disk.state.lock();
        state.check(self.epoch)?;
        if let Some(owner) = state.owner.clone() {
            return Err(LockError::Held { owner });
        }
        state.owner = Some(owner.to_owned());
        Ok(Box::new(SimLock(self.clone())))
    }
}

#[derive(Debug)]
struct SimLock(Mounted);

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.0.disk.state.lock();
        if state.epoch == self.0.epoch {
            state.owner = None;
        }
    }
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) mounted: Mounted,
    pub(super) inode: u64,
}

impl Handle {
    /// Those bytes of the file as they are now; `None` if there are fewer.
    pub(super) fn seen(&self, range: &Range<u64>) -> Option<Bytes> {
        let state = self.mounted.disk.state.lock();
        let inode = state.inodes.get(&self.inode)?;
        seen(&Arc::new(Seen(Arc::clone(inode))), range)
    }
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        let state = self.mounted.disk.state.lock();
        state.check(self.mounted.epoch)?;
        Ok(state.inodes[&self.inode].cache.len() as u64)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let state = self.mounted.disk.state.lock();
        state.check(self.mounted.epoch)?;
        let inode = &state.inodes[&self.inode];
        let start = offset as usize;
        let part = start.checked_add(buf.len()).and_then(|end| inode.cache.get(start..end));
        if !is_readable(&inode.unreadable, &(offset..offset + buf.len() as u64)) {
            return Err(io::Error::other("unreadable sector"));
        }
        buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.mounted.disk.state.lock();
        state.write(self.mounted.epoch, self.inode, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.mounted.disk.state.lock().sync(self.mounted.epoch, self.inode, ALL)
    }
}

/// A log file that is being written, or a view of it.
#[derive(Clone, Debug)]
struct SimLog {
    handle: Handle,
    /// How much was appended, or may be read.
    at: Arc<AtomicU64>,
}

impl LogFile for SimLog {
    fn len(&self) -> u64 {
        let state = self.handle.mounted.disk.state.lock();
        state.inodes.get(&self.handle.inode).map_or(0, |inode| inode.cache.len() as u64)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.at.load(Ordering::Acquire);
        if bytes.len() as u64 > LogFile::len(self).saturating_sub(at) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.handle.write_at(at, bytes)?;
        self.at.store(at + bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        Box::new(SyncFile(self.handle.clone()))
    }

    fn seal(&mut self) -> io::Result<()> {
        self.at.store(LogFile::len(self), Ordering::Release);
        Ok(())
    }

    fn view(&self) -> Arc<dyn LogView> {
        Arc::new(self.clone())
    }
}

/// A sync of the whole file.
#[derive(Debug)]
struct SyncFile(Handle);

impl Flush for SyncFile {
    fn run(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl LogView for SimLog {
    fn len(&self) -> u64 {
        self.at.load(Ordering::Acquire)
    }

    fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        if range.end > LogView::len(self) {
            return None;
        }
        self.handle.seen(&range)
    }

    fn is_lent(&self) -> bool {
        false
    }
}

/// A file as it was when somebody looked: later writes are made to a copy of it.
struct Seen(Arc<Inode>);

/// Bytes of it that are lent out.
struct Lent(Arc<Seen>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0.0.cache
    }
}

/// Those bytes of the file; `None` if there are fewer, or some cannot be read.
fn seen(of: &Arc<Seen>, range: &Range<u64>) -> Option<Bytes> {
    let (start, end) = (range.start as usize, range.end as usize);
    let is_there = start <= end && end <= of.0.cache.len() && is_readable(&of.0.unreadable, range);
    is_there.then(|| Bytes::from_owner(Lent(Arc::clone(of))).slice(start..end))
}

/// A file's content as it was when it was opened.
struct View(Arc<Seen>);

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.len()).finish()
    }
}

impl LogView for View {
    fn len(&self) -> u64 {
        self.0.0.cache.len() as u64
    }

    fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        seen(&self.0, &range)
    }

    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}
