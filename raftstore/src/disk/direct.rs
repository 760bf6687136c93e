//! A log file that is written past the page cache, several writes at a time.
//!
//! ```text
//!  file  [ in place: read through the map    | on its way | on its way | not begun |·········]
//!                                            ▲ fixed      └──── read from memory ──┘
//! ```
//!
//! Every write is made of whole blocks, and no block is written twice: what was durable is never
//! touched again, so no crash can tear it, and writes that are on their way at the same time never
//! meet. Each has an answer of its own (`O_DSYNC`): an error is that write's, which a sync of the
//! whole file could not tell when several of them run.
//!
//! # Why the map stays true
//!
//! What is not durable yet is read from the buffers it is written from, and only what has landed,
//! without a gap before it, is read through the map. Before such a write, and again after it, the
//! kernel drops the cached pages of its range; they are clean, since nobody stores through this
//! map or writes by another route, so dropping them cannot fail for good: before the write it
//! falls back to a cached, synced one, after it the file's next sync fails. A page that read-ahead
//! brought in meanwhile is therefore gone when the write returns, and only then `fixed` passes it.
//! A page that is in part before `fixed` and in part on its way may be read at any moment: its
//! earlier blocks are the same before and after.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Flush, LogFile, LogView};
use crate::wal::mapping::Map;

/// What is gathered before it is written without being asked to be.
const GATHERED_BYTES_MAX: usize = 4 << 20;

/// What is written at a time of a new file: a sync that comes meanwhile waits two or three times as
/// long.
const FILLED_BYTES: usize = 256 << 10;

/// Opens a file for writes that are durable when they return.
pub(super) fn open(path: &Path) -> io::Result<fs::File> {
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Writes zeros over all of a new file and makes them durable; no page of them stays in the cache.
/// One piece at a time, so that others get their turn at the disk.
pub(super) fn fill(path: &Path, len: u64, is_wanted: &dyn Fn(u64) -> bool) -> io::Result<bool> {
    let zeros = aligned([&[0; FILLED_BYTES][..]], FILLED_BYTES, 4096);
    let file = fs::OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut at = 0;
    while at < len {
        let part = (len - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..part as usize], at)?;
        at += part;
        if !is_wanted(at) {
            return Ok(false);
        }
    }
    file.sync_all().map(|()| true)
}

/// The size of block that the file system can write directly; an error if it can't.
pub(super) fn probe(path: &Path) -> io::Result<u64> {
    fs::write(path, [0; 4096])?;
    let probed = open(path).and_then(|file| {
        let write =
            |block: usize| file.write_all_at(&aligned([&vec![0; block][..]], block, block), 0);
        write(512).map(|()| 512).or_else(|_| write(4096).map(|()| 4096))
    });
    fs::remove_file(path)?;
    probed
}

/// A copy of `parts`, of `len` bytes together, in memory that starts at a multiple of `block`, as a
/// direct write wants it.
fn aligned<'a>(parts: impl IntoIterator<Item = &'a [u8]>, len: usize, block: usize) -> Bytes {
    let mut buffer: Vec<u8> = Vec::with_capacity(len + block);
    let skip = buffer.as_ptr().align_offset(block).min(block);
    buffer.resize(skip, 0);
    parts.into_iter().for_each(|part| buffer.extend_from_slice(part));
    Bytes::from(buffer).slice(skip..)
}

/// The only writer of a log file.
#[derive(Debug)]
pub(super) struct DirectLog {
    file: Arc<fs::File>,
    content: Arc<Content>,
    block: usize,
    /// Appended, and not handed out to be written.
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
}

/// What readers see.
#[derive(Debug)]
struct Content {
    map: Map,
    tail: RwLock<Tail>,
}

/// What is not in place yet.
#[derive(Debug, Default)]
struct Tail {
    /// Back to back, from where the map is fixed.
    pieces: VecDeque<Bytes>,
    /// Up to where something was appended.
    end: u64,
    /// What has landed with a gap before it.
    landed: Vec<Range<u64>>,
}

impl DirectLog {
    /// Writes `file` from its start; it must have its final length and all its blocks.
    pub(super) fn new(file: fs::File, block: u64) -> io::Result<DirectLog> {
        let content = Content { map: Map::new(&file, false)?, tail: RwLock::default() };
        Ok(DirectLog {
            file: Arc::new(file),
            content: Arc::new(content),
            block: block as usize,
            gathered: Vec::new(),
            gathered_bytes: 0,
        })
    }
}

impl LogFile for DirectLog {
    fn len(&self) -> u64 {
        self.content.map.len()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut tail = self.content.tail.write();
        if bytes.len() as u64 > self.content.map.len() - tail.end {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !bytes.len().is_multiple_of(self.block) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a whole block"));
        }
        let piece = aligned([bytes], bytes.len(), self.block);
        tail.end += bytes.len() as u64;
        tail.pieces.push_back(piece.clone());
        drop(tail);
        self.gathered.push(piece);
        self.gathered_bytes += bytes.len();
        // Memory is bounded, whoever forgets to ask for durability.
        if self.gathered_bytes > GATHERED_BYTES_MAX { self.flush().run() } else { Ok(()) }
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        let end = self.content.tail.read().end;
        let at = end - self.gathered_bytes as u64;
        let pieces = std::mem::take(&mut self.gathered);
        let len = std::mem::take(&mut self.gathered_bytes);
        let (file, content) = (Arc::clone(&self.file), Arc::clone(&self.content));
        Box::new(DirectWrite { file, content, at, pieces, len, block: self.block })
    }

    fn seal(&mut self) -> io::Result<()> {
        // Nothing is written any more; what was not used is as it was made.
        let mut tail = self.content.tail.write();
        if !tail.pieces.is_empty() {
            return Err(io::Error::other("sealed before all of it was written"));
        }
        tail.end = self.content.map.len();
        self.content.map.fix(tail.end);
        Ok(())
    }

    fn view(&self) -> Arc<dyn LogView> {
        Arc::new(DirectView(Arc::clone(&self.content)))
    }
}

/// A write on its way.
#[derive(Debug)]
struct DirectWrite {
    file: Arc<fs::File>,
    content: Arc<Content>,
    at: u64,
    /// Back to back, of `len` bytes together.
    pieces: Vec<Bytes>,
    len: usize,
    block: usize,
}

impl Flush for DirectWrite {
    fn run(&self) -> io::Result<()> {
        let bytes = match &self.pieces[..] {
            [] => return Ok(()),
            [one] => one.clone(),
            // Here and not by whoever appends, who has others waiting.
            many => aligned(many.iter().map(|piece| &piece[..]), self.len, self.block),
        };
        self.file.write_all_at(&bytes, self.at)?;
        self.content.land(self.at..self.at + self.len as u64);
        Ok(())
    }
}

impl Content {
    /// Notes that a range is in place, and fixes what has no gap before it any more.
    fn land(&self, range: Range<u64>) {
        let mut tail = self.tail.write();
        tail.landed.push(range);
        let mut fixed = self.map.fixed();
        while let Some(next) = tail.landed.iter().position(|range| range.start == fixed) {
            fixed = tail.landed.swap_remove(next).end;
        }
        // Under the lock, so that a reader finds each byte either there or here.
        let mut left = fixed - self.map.fixed();
        self.map.fix(fixed);
        while let Some(piece) = tail.pieces.pop_front_if(|piece| piece.len() as u64 <= left) {
            left -= piece.len() as u64;
        }
    }
}

/// Reads what is in place through the map, and the rest from memory.
#[derive(Debug)]
struct DirectView(Arc<Content>);

impl LogView for DirectView {
    fn len(&self) -> u64 {
        self.0.tail.read().end
    }

    fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        let Content { map, tail } = &*self.0;
        let tail = tail.read();
        if range.end <= map.fixed() {
            return map.bytes(range);
        }
        if range.start > range.end || range.end > tail.end {
            return None;
        }
        // Across pieces, or from the map into them: rare enough to be copied.
        let fixed = map.fixed();
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        if range.start < fixed {
            out.extend_from_slice(&map.bytes(range.start..fixed)?);
        }
        let mut at = fixed;
        for piece in &tail.pieces {
            let end = at + piece.len() as u64;
            let (from, to) = (range.start.max(at), range.end.min(end));
            if from < to {
                out.extend_from_slice(&piece[(from - at) as usize..(to - at) as usize]);
            }
            at = end;
        }
        Some(Bytes::from(out))
    }

    fn after(&self, offset: u64) -> Option<Bytes> {
        let Content { map, tail } = &*self.0;
        let tail = tail.read();
        let mut at = map.fixed();
        if offset < at {
            return map.bytes(offset..at);
        }
        for piece in &tail.pieces {
            let end = at + piece.len() as u64;
            if offset < end {
                return Some(piece.slice((offset - at) as usize..));
            }
            at = end;
        }
        None
    }

    fn is_lent(&self) -> bool {
        // The writer keeps the content for as long as it may write. What was lent from memory does
        // not need the file.
        Arc::strong_count(&self.0) > 1 || self.0.map.is_lent()
    }
}
