//! Reading entries back, without copying, while more are written.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;
use raft::{Entries, Entry, Index, Run, Term};

use crate::codec::entry::decode_run_part;
use crate::codec::{CodecError, Decoder};
use crate::disk::LogView;
use crate::region::RegionId;

use super::batch::Piece;
use super::error::ReadError;
use super::index::LogIndex;

/// Reads entries of any group; clones share the log, on any thread.
///
/// What was appended can be read at once, synced or not: a leader may send entries while its own
/// disk still works. Payloads are slices of the mapped segments, and keep them mapped.
#[derive(Clone)]
pub struct LogReader {
    index: Arc<RwLock<LogIndex>>,
}

/// A window on a run, and the segment it is in.
type Located = (Piece, Arc<dyn LogView>);

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogReader")
    }
}

impl LogReader {
    pub(crate) fn new(index: Arc<RwLock<LogIndex>>) -> LogReader {
        LogReader { index }
    }

    /// The entries of `region` in `range`, as many from its start as have at most `bytes_max` by
    /// [`Entries::size`], but at least one. An empty range gives none.
    ///
    /// # Errors
    /// If the range starts before the log or ends after it, there is no such group, or a segment
    /// was damaged since it was opened.
    pub fn entries(
        &self,
        region: RegionId,
        range: Range<Index>,
        bytes_max: u64,
    ) -> Result<Entries, ReadError> {
        if range.is_empty() {
            return Ok(Entries::new());
        }
        let mut collected = Collected::default();
        // The lock is held only to find out where things lie; what lies there stays as it is.
        for (piece, view) in self.find(region, &range, bytes_max)? {
            let window = piece.first.max(range.start)..piece.end().min(range.end);
            if !collected.add(&piece, view.as_ref(), window, bytes_max)? {
                break;
            }
        }
        collected.finish()
    }

    fn find(
        &self,
        region: RegionId,
        range: &Range<Index>,
        bytes_max: u64,
    ) -> Result<Vec<Located>, ReadError> {
        let index = self.index.read();
        let group = index.groups.get(&region).ok_or(ReadError::Unknown(region))?;
        if range.start <= group.compacted.index {
            return Err(ReadError::Compacted { compacted: group.compacted });
        }
        if range.end - 1 > group.last() {
            return Err(ReadError::Unavailable { last: group.last() });
        }
        let mut found: Vec<Located> = Vec::new();
        let mut bytes = 0;
        for piece in group.within(range.clone()) {
            let segment = index.segments.get(&u64::from(piece.segment));
            let view = &segment.ok_or(damaged(piece, CodecError::Truncated { what: "log" }))?.view;
            found.push((*piece, Arc::clone(view)));
            // What the entries count at least; how much they really do is seen when they are read.
            let end = piece.end().min(range.end);
            bytes += (end - piece.first.max(range.start)) * Entry::OVERHEAD_BYTES;
            if bytes > bytes_max {
                break;
            }
        }
        Ok(found)
    }
}

fn damaged(piece: &Piece, reason: CodecError) -> ReadError {
    let (segment, offset) = (u64::from(piece.segment), u64::from(piece.offset));
    ReadError::Damaged { segment, offset, reason }
}

/// Entries read so far, those of one term in one run.
#[derive(Default)]
struct Collected {
    entries: Entries,
    term: Term,
    first: Index,
    run: Vec<Entry>,
    bytes: u64,
}

impl Collected {
    /// Adds the entries of `window` that `piece` has, as far as the limit allows. Whether all of
    /// them went in.
    fn add(
        &mut self,
        piece: &Piece,
        view: &dyn LogView,
        window: Range<Index>,
        bytes_max: u64,
    ) -> Result<bool, ReadError> {
        if piece.term != self.term {
            self.flush();
            (self.term, self.first) = (piece.term, window.start);
        }
        let rest = view.after(u64::from(piece.offset));
        let rest = rest.ok_or(damaged(piece, CodecError::Truncated { what: "log" }))?;
        let limit = &mut |entry: &Entry| {
            let first = self.bytes == 0;
            self.bytes += entry.size();
            first || self.bytes <= bytes_max
        };
        decode_run_part(&mut Decoder::new(rest), window, &mut self.run, limit)
            .map_err(|reason| damaged(piece, reason))
    }

    fn flush(&mut self) {
        let run = std::mem::take(&mut self.run);
        if let Some(run) = Run::new(self.term, self.first, run) {
            self.entries.push(run).expect("the pieces of a group follow each other");
        }
    }

    fn finish(mut self) -> Result<Entries, ReadError> {
        self.flush();
        Ok(self.entries)
    }
}
