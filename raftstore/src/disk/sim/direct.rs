//! A log file whose writes are durable one by one, several of them on their way at a time.
//!
//! Appended bytes are in memory only, where readers find them. A write begins when its flush is
//! asked for: from then on a power failure may leave any part of it. It ends when the flush has
//! run, in whatever order flushes run, and makes durable its own sectors and nothing else.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::mount::Handle;
use crate::disk::{File, Flush, LogFile, LogView, SECTOR_BYTES};

/// The only writer of a log file, or a view of it.
#[derive(Clone, Debug)]
pub(super) struct DirectLog {
    handle: Handle,
    content: Arc<Mutex<Content>>,
}

/// What was appended.
#[derive(Debug, Default)]
struct Content {
    /// All of it, in the cache or not.
    bytes: Vec<u8>,
    /// How much of it was handed out to be written.
    begun: usize,
    is_sealed: bool,
}

impl DirectLog {
    pub(super) fn new(handle: Handle) -> DirectLog {
        DirectLog { handle, content: Arc::default() }
    }

    /// (Known to whoever has the file open, power or not.)
    fn file_bytes(&self) -> u64 {
        let Handle { mounted, inode } = &self.handle;
        let state = mounted.disk.state.lock();
        state.inodes.get(inode).map_or(0, |inode| inode.cache.len() as u64)
    }
}

impl LogFile for DirectLog {
    fn len(&self) -> u64 {
        self.file_bytes()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.content.lock();
        let end = (content.bytes.len() + bytes.len()) as u64;
        if content.is_sealed || end > self.file_bytes() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !bytes.len().is_multiple_of(SECTOR_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a whole block"));
        }
        content.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        let mut content = self.content.lock();
        let range = content.begun..content.bytes.len();
        content.begun = range.end;
        let begun = self.handle.write_at(range.start as u64, &content.bytes[range.clone()]);
        Box::new(DirectWrite { handle: self.handle.clone(), range, begun: Mutex::new(Some(begun)) })
    }

    fn seal(&mut self) -> io::Result<()> {
        self.content.lock().is_sealed = true;
        Ok(())
    }

    fn view(&self) -> Arc<dyn LogView> {
        Arc::new(self.clone())
    }
}

impl LogView for DirectLog {
    fn len(&self) -> u64 {
        let content = self.content.lock();
        if content.is_sealed { self.file_bytes() } else { content.bytes.len() as u64 }
    }

    fn bytes(&self, range: Range<u64>) -> Option<Bytes> {
        if range.start > range.end || range.end > LogView::len(self) {
            return None;
        }
        let content = self.content.lock();
        // What was begun is read from the file, so that a reader sees what really is there.
        let begun = content.begun as u64;
        let in_file = if content.is_sealed { range.end } else { range.end.min(begun) };
        if in_file == range.end {
            return self.handle.seen(&range);
        }
        let mut out = vec![0; (range.end - range.start) as usize];
        if range.start < in_file {
            let len = (in_file - range.start) as usize;
            self.handle.read_at(range.start, &mut out[..len]).ok()?;
        }
        let from = range.start.max(in_file);
        let part = &content.bytes[from as usize..range.end as usize];
        out[(from - range.start) as usize..].copy_from_slice(part);
        Some(Bytes::from(out))
    }

    fn is_lent(&self) -> bool {
        false
    }
}

/// A write on its way.
#[derive(Debug)]
struct DirectWrite {
    handle: Handle,
    range: Range<usize>,
    /// How its beginning went.
    begun: Mutex<Option<io::Result<()>>>,
}

impl Flush for DirectWrite {
    fn run(&self) -> io::Result<()> {
        self.begun.lock().take().unwrap_or(Ok(()))?;
        let Handle { mounted, inode } = &self.handle;
        let sectors = self.range.start / SECTOR_BYTES..self.range.end / SECTOR_BYTES;
        mounted.disk.state.lock().sync(mounted.epoch, *inode, sectors)
    }
}
