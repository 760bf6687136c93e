//! Writing the log: in threads of their own, or in the loop.
//!
//! ```text
//!  queue ─► [ desk: append, begin a sync ] ─► [ run it ] ─► [ reports: in order ] ─► loop
//!             one thread at a time            several         one thread at a time
//! ```
//!
//! Group commit: a thread takes all batches that have queued, appends them, and one sync makes
//! them durable. While it runs, the next thread does the same with what has come meanwhile, if the
//! log allows several syncs at a time; else there is one thread. Whoever's sync has landed reports
//! all batches that are durable by now, which are none as long as an earlier sync is on its way.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::NodeError;
use super::metrics::LogCounts;
use super::node_log::NodeLog;
use super::shared::{Input, Shared};
use crate::batch::{Batch, WrittenBatch};
use crate::machine::Machine;
use crate::transport::queue::{Consumer, Queue, Woken};
use crate::wal::{Lsn, PendingSync, Preparer, WalError};

/// How long a full disk is left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// Batches to be written, in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    batches: Vec<Batch>,
    /// How many of them are appended already.
    appended: usize,
}

impl Backlog {
    pub(super) fn push(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Appends all of them.
    ///
    /// # Errors
    /// If the disk is full, the batches stay, and everybody whose promise rests on them waits,
    /// until this is called again and there is room. Any other error is the end of the store.
    fn append(&mut self, log: &mut NodeLog, counts: &LogCounts) -> Result<(), WalError> {
        let before = log.written_bytes();
        while let Some(batch) = self.batches.get(self.appended) {
            if batch.has_record() {
                log.append(&batch.records()).inspect_err(|error| note(error, counts))?;
                counts.appends.fetch_add(1, Ordering::Relaxed);
            }
            self.appended += 1;
        }
        if log.written_bytes() != before {
            counts.batch_bytes.record(log.written_bytes() - before);
        }
        if counts.is_disk_full.swap(false, Ordering::Relaxed) {
            log::info!("there is room for the log again");
        }
        Ok(())
    }

    /// Takes the batches out, which are appended, and whether one of them needs a sync.
    fn take(&mut self) -> (Vec<Batch>, bool) {
        self.appended = 0;
        let must_sync = self.batches.iter().any(Batch::must_sync);
        (std::mem::take(&mut self.batches), must_sync)
    }

    /// Appends all of them, and syncs if one of them needs it; gives them as written.
    ///
    /// # Errors
    /// As [`Backlog::append`].
    pub(super) fn write(
        &mut self,
        log: &mut NodeLog,
        counts: &LogCounts,
    ) -> Result<Vec<WrittenBatch>, WalError> {
        self.append(log, counts)?;
        let (batches, must_sync) = self.take();
        if must_sync {
            log.sync(counts)?;
        }
        Ok(batches.into_iter().map(Batch::synced).collect())
    }
}

/// Counts a failure, and says once that the disk is full.
fn note(error: &WalError, counts: &LogCounts) {
    if !matches!(error, WalError::Full { .. }) {
        counts.write_failures.fetch_add(1, Ordering::Relaxed);
    } else if !counts.is_disk_full.swap(true, Ordering::Relaxed) {
        log::error!("{error}; nothing is acknowledged until there is room");
    }
}

/// Runs a sync, and counts how long it took.
fn run(pending: PendingSync, counts: &LogCounts) -> Result<Lsn, WalError> {
    let began = Instant::now();
    let landed = pending.run();
    match &landed {
        Ok(_) => counts.sync_times.record_time(began.elapsed()),
        // It was another one that failed.
        Err(WalError::Poisoned) => {}
        Err(_) => _ = counts.sync_failures.fetch_add(1, Ordering::Relaxed),
    }
    landed
}

/// What the log's threads share.
pub(super) struct Desk {
    /// In the hands of one thread at a time: so batches are appended in the order they came.
    writing: Mutex<Writing>,
    reports: Mutex<Reports>,
}

struct Writing {
    log: NodeLog,
    backlog: Backlog,
}

/// Batches that are appended and not yet reported, in order.
#[derive(Default)]
struct Reports {
    /// With the number of the record that has to be durable first; 0 if they need no sync.
    waiting: VecDeque<(Lsn, Vec<Batch>)>,
    durable: Lsn,
}

impl Desk {
    pub(super) fn new(log: NodeLog) -> Desk {
        let writing = Writing { log, backlog: Backlog::default() };
        Desk { writing: Mutex::new(writing), reports: Mutex::default() }
    }

    /// Writes batches until the queue is closed. One of the log's threads.
    pub(super) fn run<M: Machine>(
        &self,
        queue: &Queue<Batch>,
        shared: &Shared<M>,
    ) -> Result<(), NodeError> {
        let counts = &shared.counts.log;
        while queue.wait(None) == Woken::Items {
            let pending = match self.append(queue, counts) {
                // Some other thread has seen why, and tells it.
                Err(WalError::Poisoned) => return Ok(()),
                pending => pending?,
            };
            let landed = match pending.map(|pending| run(pending, counts)) {
                Some(Err(WalError::Poisoned)) => return Ok(()),
                Some(landed) => landed?,
                None => Lsn(0),
            };
            if self.report(landed, shared) == Consumer::Asleep {
                shared.see_to(true);
            }
            // After the batches are reported, so that nobody waits for it.
            if let Some(mut writing) = self.writing.try_lock() {
                writing.log.collect(counts)?;
            }
        }
        Ok(())
    }

    /// Appends what is queued, and begins to make it durable.
    fn append(
        &self,
        queue: &Queue<Batch>,
        counts: &LogCounts,
    ) -> Result<Option<PendingSync>, WalError> {
        let mut writing = self.writing.lock();
        let Writing { log, backlog } = &mut *writing;
        queue.take_more(&mut backlog.batches);
        loop {
            match backlog.append(log, counts) {
                Ok(()) => break,
                Err(WalError::Full { .. }) if !queue.sleep(Instant::now() + PAUSE) => {}
                Err(error) => return Err(error),
            }
        }
        let (batches, must_sync) = backlog.take();
        if batches.is_empty() {
            return Ok(None);
        }
        let pending = if must_sync { log.begin_sync(counts)? } else { None };
        let needs = if must_sync { log.appended() } else { Lsn(0) };
        self.reports.lock().waiting.push_back((needs, batches));
        Ok(pending)
    }

    /// Reports what is durable now. A batch that needs no sync waits for those before it only.
    fn report<M: Machine>(&self, landed: Lsn, shared: &Shared<M>) -> Consumer {
        let mut reports = self.reports.lock();
        let durable = reports.durable.max(landed);
        reports.durable = durable;
        let mut written = Vec::new();
        while let Some((_, batches)) = reports.waiting.pop_front_if(|(needs, _)| *needs <= durable)
        {
            written.extend(batches.into_iter().map(Batch::synced));
        }
        if written.is_empty() {
            return Consumer::Awake;
        }
        // Under the lock: what lands next is told next.
        shared.tell_quietly(Input::Written(written))
    }

    /// Makes everything durable for a restart, when the threads have ended.
    pub(super) fn close(self) -> Result<(), WalError> {
        self.writing.into_inner().log.close()
    }
}

/// The thread that makes segments ahead of use, each time it is nudged.
pub(super) fn prepare(preparer: &Preparer, nudges: &Queue<()>) {
    let (mut queued, mut complained) = (Vec::new(), false);
    while nudges.take(&mut queued, None) == Woken::Items {
        queued.clear();
        match preparer.prepare_in_step(&|deadline| nudges.sleep(deadline)) {
            Ok(_) => complained = false,
            // Harmless until the current segment is full; then appending says the same.
            Err(error) if !complained => {
                log::warn!("no log segment ahead of use: {error}");
                complained = true;
            }
            Err(_) => {}
        }
    }
}
