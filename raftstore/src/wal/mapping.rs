//! Log files in memory: with `mapping/system.rs` the only unsafe code of the workspace.
//!
//! A file is written front to back by one owner of a [`Map`], and read through one [`Mapping`].
//! `fixed` divides it: the bytes before are never written again and may be lent out, the bytes
//! behind are the owner's alone. `fixed` only grows, and only after the bytes it passes are in
//! place; that is the whole argument for every block below. What the program cannot enforce, the
//! directory lock has to: no other process writes or shrinks the file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

use crate::disk::LogView;

mod system;
mod view;

pub(crate) use system::{allocate, file_system, tell_bus_errors};

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
    Ok(view::of(Arc::new(Mapping { map, fixed })))
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

fn lend(mapping: &Arc<Mapping>, range: Range<u64>) -> Option<Bytes> {
    let fixed = mapping.fixed.load(Ordering::Acquire) as u64;
    if range.start > range.end || range.end > fixed {
        return None;
    }
    let range = range.start as usize..range.end as usize;
    Some(Bytes::from_owner(Lent { mapping: Arc::clone(mapping), range }))
}

/// A file in memory, in the hands of its only writer.
#[derive(Debug)]
pub(crate) struct Map {
    mapping: Arc<Mapping>,
    is_writable: bool,
}

impl Map {
    /// Maps `file` with nothing of it fixed; it must have its final length and all its blocks.
    pub(crate) fn new(file: &File, is_writable: bool) -> io::Result<Map> {
        let options = MmapOptions::new();
        let map =
            if is_writable { options.map_raw(file) } else { options.map_raw_read_only(file) }?;
        let mapping = Arc::new(Mapping { map, fixed: AtomicUsize::new(0) });
        Ok(Map { mapping, is_writable })
    }

    pub(crate) fn len(&self) -> u64 {
        self.mapping.map.len() as u64
    }

    /// Up to where it is fixed.
    pub(crate) fn fixed(&self) -> u64 {
        self.mapping.fixed.load(Ordering::Acquire) as u64
    }

    /// Says that everything before `to` is in place, by whatever way it came, and never changes.
    pub(crate) fn fix(&self, to: u64) {
        let to = (to as usize).min(self.mapping.map.len());
        self.mapping.fixed.fetch_max(to, Ordering::Release);
    }

    /// Stores `bytes` behind what is fixed, and fixes them.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.mapping.fixed.load(Ordering::Relaxed);
        if !self.is_writable || bytes.len() > self.mapping.map.len() - at {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // SAFETY: `at` and `bytes.len()` were checked to be within the map.
        let to = unsafe { self.mapping.map.as_mut_ptr().add(at) };
        // SAFETY: the map is writable until `seal`, which clears `is_writable`; nobody reads
        // behind `fixed`, `&mut self` excludes another writer, and `bytes` is not in there, since
        // only bytes before `fixed` are ever lent.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
        self.fix((at + bytes.len()) as u64);
        Ok(())
    }

    /// Fixes all of it, and takes the right to write it away.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        let map = &self.mapping.map;
        // SAFETY: the range is exactly one mapping of ours; reading it stays possible, and nobody
        // writes it any more: `store` is stopped below.
        match unsafe { libc::mprotect(map.as_mut_ptr().cast(), map.len(), libc::PROT_READ) } {
            0 => self.is_writable = false,
            _ => return Err(io::Error::last_os_error()),
        }
        self.fix(self.len());
        Ok(())
    }

    pub(crate) fn view(&self) -> Arc<dyn LogView> {
        view::of(Arc::clone(&self.mapping))
    }

    pub(crate) fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        lend(&self.mapping, range)
    }

    pub(crate) fn is_lent(&self) -> bool {
        Arc::strong_count(&self.mapping) > 1
    }
}
