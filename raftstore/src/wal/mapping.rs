//! Log files in memory: the only unsafe code of the workspace.
//!
//! A file is written front to back by one [`Appender`], and read through one [`Mapping`]. `fixed`
//! divides it: the bytes before are never written again and may be lent out, the bytes behind are
//! the appender's alone. `fixed` only grows, and only after the bytes it passes are in place; that
//! is the whole argument for every block below. What the program cannot enforce, the directory
//! lock has to: no other process writes or shrinks the file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

use crate::disk::{LogFile, LogView, Route};

/// Reserves blocks for `len` bytes, so that writing them, by whatever route, can't lack space.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is passed.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// A file's bytes in memory, of which those before `fixed` never change.
#[derive(Debug)]
struct Mapping {
    map: MmapRaw,
    fixed: AtomicUsize,
}

/// Maps a file that nobody writes any more.
pub(crate) fn view(file: &File) -> io::Result<Arc<dyn LogView>> {
    let map = MmapOptions::new().map_raw_read_only(file)?;
    let fixed = AtomicUsize::new(map.len());
    Ok(Arc::new(View(Arc::new(Mapping { map, fixed }))))
}

/// Bytes of a mapping, lent out; they keep it alive.
struct Lent {
    mapping: Arc<Mapping>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `bytes` checked that the range is within the map.
        let start = unsafe { self.mapping.map.as_ptr().add(self.range.start) };
        // SAFETY: the range is before `fixed`, so the bytes were written and never will be again
        // (see the module); `mapping` keeps them mapped for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(start, self.range.len()) }
    }
}

#[derive(Debug)]
struct View(Arc<Mapping>);

impl LogView for View {
    fn len(&self) -> u64 {
        self.0.fixed.load(Ordering::Acquire) as u64
    }

    fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let range = range.start as usize..range.end as usize;
        Some(Bytes::from_owner(Lent { mapping: Arc::clone(&self.0), range }))
    }

    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The only writer of a log file.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    mapping: Arc<Mapping>,
    route: Route,
}

impl Appender {
    /// Writes `file` from its start; it must have its final length and all its blocks.
    pub(crate) fn new(file: File, route: Route) -> io::Result<Appender> {
        let map = match route {
            Route::Written => MmapOptions::new().map_raw_read_only(&file)?,
            Route::Mapped => MmapOptions::new().map_raw(&file)?,
        };
        let mapping = Arc::new(Mapping { map, fixed: AtomicUsize::new(0) });
        Ok(Appender { file, mapping, route })
    }
}

impl LogFile for Appender {
    fn len(&self) -> u64 {
        self.mapping.map.len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.mapping.fixed.load(Ordering::Relaxed);
        if bytes.len() > self.mapping.map.len() - at {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        match self.route {
            Route::Written => self.file.write_all_at(bytes, at as u64)?,
            Route::Mapped => {
                // SAFETY: `at` and `bytes.len()` were checked to be within the map.
                let to = unsafe { self.mapping.map.as_mut_ptr().add(at) };
                // SAFETY: the map is writable until `seal`, which moves `fixed` to its end; nobody
                // reads behind `fixed`, `&mut self` excludes another writer, and `bytes` is not in
                // there, since only bytes before `fixed` are ever lent.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
            }
        }
        self.mapping.fixed.store(at + bytes.len(), Ordering::Release);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn seal(&mut self) -> io::Result<()> {
        let map = &self.mapping.map;
        // SAFETY: the range is exactly one mapping of ours; reading it stays possible, and nobody
        // writes it any more: `append` is stopped below.
        match unsafe { libc::mprotect(map.as_mut_ptr().cast(), map.len(), libc::PROT_READ) } {
            0 => self.mapping.fixed.store(map.len(), Ordering::Release),
            _ => return Err(io::Error::last_os_error()),
        }
        Ok(())
    }

    fn view(&self) -> Arc<dyn LogView> {
        Arc::new(View(Arc::clone(&self.mapping)))
    }
}
