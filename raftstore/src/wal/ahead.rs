//! Reading a log into memory ahead of the thread that checks it.
//!
//! A log that is not in the page cache is read by page faults: the disk waits while bytes are
//! checked, and checking waits for the disk. So one more thread asks for them in the order they are
//! needed, and the disk never waits. It changes nothing, and nothing depends on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use crate::disk::LogView;

/// What is asked for at a time.
const CHUNK_BYTES: u64 = 4 << 20;
/// Below that, a thread takes longer than it saves.
const LOG_BYTES_MIN: u64 = 16 << 20;

/// The thread; dropped, it ends, and has no view any more.
#[derive(Debug)]
pub(super) struct ReadAhead {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Reads all of `views`, one after the other.
    pub(super) fn start(views: Vec<Arc<dyn LogView>>) -> ReadAhead {
        let is_over = Arc::new(AtomicBool::new(false));
        let bytes: u64 = views.iter().map(|view| view.len()).sum();
        let thread = (bytes >= LOG_BYTES_MIN).then(|| {
            let is_over = Arc::clone(&is_over);
            // Without a thread it is only slower.
            Builder::new().name("read-ahead".into()).spawn(move || read(&views, &is_over)).ok()
        });
        ReadAhead { is_over, thread: thread.flatten() }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // If it panicked, that was printed; whoever needs the bytes reads them.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read(views: &[Arc<dyn LogView>], is_over: &AtomicBool) {
    for view in views {
        let mut at = 0;
        while at < view.len() && !is_over.load(Ordering::Relaxed) {
            let end = view.len().min(at + CHUNK_BYTES);
            view.read_ahead(at..end);
            at = end;
        }
    }
}
