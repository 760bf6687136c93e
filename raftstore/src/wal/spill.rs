//! Writing what nobody asks to be durable.
//!
//! On a disk that is written past the page cache, appended bytes stay in memory until a sync is
//! asked for. Where none is, they would pile up: so when a few megabytes have gathered, a thread
//! writes them while more gather. It is a sync like any other ([`super::flight`]), with its failure
//! noticed by whoever comes next. Memory holds three times [`SPILL_BYTES`] and the record appended
//! last.

use std::collections::VecDeque;
use std::thread::{Builder, JoinHandle};

use super::error::WalError;
use super::{PendingSync, Wal};

/// What gathers before it is written: large enough that starting a thread costs nothing, and that a
/// log with syncs, which gathers less between two of them, never gets here.
const SPILL_BYTES: u64 = 2 << 20;

/// How many write at a time: while one gets its bytes together, the disk has those of the other.
const THREADS_MAX: usize = 2;

/// Threads that write; dropped, they have ended, and nothing of the log is written any more.
#[derive(Debug, Default)]
pub(super) struct Spill {
    threads: VecDeque<JoinHandle<()>>,
    /// Bytes that had ever been appended when the last sync or spill began.
    pub(super) begun_bytes: u64,
}

impl Spill {
    /// Writes what `pending` covers. If there is no thread to be had, the next sync does.
    fn start(&mut self, pending: PendingSync) {
        // What comes of it, the syncs on their way know.
        let run = move || drop(pending.run());
        self.threads.extend(Builder::new().name("log-spill".into()).spawn(run));
    }

    /// Waits until at most `left` write.
    fn end(&mut self, left: usize) {
        while self.threads.len() > left {
            // If it panicked, that was printed, and its sync never landed.
            let _ = self.threads.pop_front().map(JoinHandle::join);
        }
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.end(0);
    }
}

impl Wal {
    /// Begins to write what has gathered, if that is much. Before the next record is appended: so
    /// the last one is never covered, and a sync after it always has something to do.
    pub(super) fn spill(&mut self) -> Result<(), WalError> {
        let gathered = self.stats.bytes - self.spill.begun_bytes;
        if gathered < SPILL_BYTES || self.disk.flushes_max() == 1 {
            return Ok(());
        }
        self.spill.end(THREADS_MAX - 1);
        if let Some(pending) = self.begin()? {
            self.spill.start(pending);
        }
        Ok(())
    }

    /// Waits for the threads: a sync that landed before them would cover nothing, and nobody would
    /// hear when they do.
    pub(super) fn end_spill(&mut self) {
        self.spill.end(0);
    }
}
