//! The log that is measured: some groups that grow at the same pace, compacted and collected, with
//! segments made ahead of use, as a store does it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use raft::{Entries, Entry, Index, LogId, Run, Term};
use raftstore::disk::{ClusterId, DirDisk, Identity, Route};
use raftstore::wal::{GroupRecord, Preparer, Wal, WalOptions};
use raftstore::{RegionId, StoreId};

use super::PAYLOAD;
use crate::cells::noise;

const TERM: Term = 7;
/// What is written at least before all segments that the log's bound has room for are there.
const LAP_BYTES_MIN: u64 = 320 << 20;

/// Payloads that do not compress, and do not repeat soon.
struct Payloads {
    bytes: Vec<u8>,
    at: usize,
}

impl Payloads {
    const REPEAT: usize = 1 << 20;

    fn new() -> Payloads {
        Payloads { bytes: noise(Payloads::REPEAT + PAYLOAD, 11), at: 0 }
    }

    /// `count` entries from `first` on, each with a payload of its own.
    fn entries(&mut self, first: Index, count: usize) -> Entries {
        let entries: Vec<Entry> = (0..count)
            .map(|_| {
                self.at = (self.at + PAYLOAD) % Payloads::REPEAT;
                Entry::normal(Bytes::copy_from_slice(&self.bytes[self.at..self.at + PAYLOAD]))
            })
            .collect();
        Run::new(TERM, first, entries).map(Entries::from).unwrap_or_default()
    }
}

/// The thread that makes segments ahead of use. Whoever drops it has waited for its end, and may
/// open the directory again.
struct Ahead {
    /// Taken away, the thread ends, at once if `is_over`.
    nudge: Option<Sender<()>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    fn start(preparer: Preparer) -> Ahead {
        let (nudge, nudged) = bounded(1);
        let is_over = Arc::new(AtomicBool::new(false));
        let sleeper = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let sleep = |deadline: Instant| {
                thread::sleep(deadline.saturating_duration_since(Instant::now()));
                sleeper.load(Ordering::Relaxed)
            };
            while nudged.recv().is_ok() {
                preparer.prepare_in_step(&sleep).expect("there is room for a segment");
            }
        });
        Ahead { nudge: Some(nudge), is_over, thread: Some(thread) }
    }

    fn nudge(&self) {
        // If it has been told already, once is enough.
        let _ = self.nudge.as_ref().map(|nudge| nudge.try_send(()));
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.nudge = None;
        // If it panicked, that was printed; the log makes its segments itself then.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A log of some groups that grow at the same pace.
pub struct Log {
    pub(crate) wal: Wal,
    payloads: Payloads,
    groups: Vec<Group>,
    /// Bytes of payloads that all groups together keep at most.
    kept_max: u64,
    ahead: Ahead,
}

/// What is known of a group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// The last index that was ever written.
    last: Index,
    /// Entries since the last compaction.
    kept: u64,
}

impl Log {
    /// An empty log below `dir`, whose groups keep so many bytes of payloads together: whenever a group
    /// has its part of them, all of its entries are compacted. Groups do so in turns.
    ///
    /// # Panics
    /// If the directory cannot be written.
    #[must_use]
    pub fn create(dir: &Path, route: Route, kept_max: u64) -> Log {
        let _ = std::fs::remove_dir_all(dir);
        let (wal, _) = open(dir, route);
        let ahead = Ahead::start(wal.preparer());
        Log { wal, payloads: Payloads::new(), groups: Vec::new(), kept_max, ahead }
    }

    /// Appends for so long that from now on all segments were used before.
    ///
    /// # Panics
    /// If the disk fails.
    #[must_use]
    pub fn run_in(mut self, groups: u64) -> Log {
        let bytes = 3 * self.kept_max + LAP_BYTES_MIN;
        for _ in 0..bytes / (groups * 256 * PAYLOAD as u64) {
            self.append(groups, 256);
            self.sync();
        }
        self
    }

    /// Ends as a process does, and opens it again.
    pub(super) fn restart(self, dir: &Path, route: Route) -> Log {
        let Log { wal, payloads, groups, kept_max, ahead } = self;
        drop(ahead);
        wal.close().expect("closes");
        let (wal, _) = open(dir, route);
        let ahead = Ahead::start(wal.preparer());
        Log { wal, payloads, groups, kept_max, ahead }
    }

    /// Appends `count` entries to each of the first `groups` groups, as one batch.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn append(&mut self, groups: u64, count: usize) {
        let kept_max = (self.kept_max / (groups * PAYLOAD as u64)).max(1);
        // In turns: each begins with another part of what it keeps.
        for n in self.groups.len() as u64..groups {
            self.groups.push(Group { last: 0, kept: n * kept_max / groups });
        }
        let mut batch = Vec::with_capacity(groups as usize);
        for group in &mut self.groups[..groups as usize] {
            let is_due = group.kept >= kept_max && group.last > 0;
            let compact = is_due.then(|| LogId::new(TERM, group.last));
            batch.push((self.payloads.entries(group.last + 1, count), compact));
            group.last += count as Index;
            group.kept = count as u64 + if is_due { 0 } else { group.kept };
        }
        let records: Vec<_> = (1..)
            .map(RegionId)
            .zip(&batch)
            .map(|(id, (entries, compact))| GroupRecord {
                compact: *compact,
                ..GroupRecord::new(id, entries)
            })
            .collect();
        self.wal.append(&records).expect("appends");
        self.see_to_the_next();
    }

    /// Makes what was appended durable.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn sync(&mut self) {
        self.wal.sync().expect("syncs");
        self.collect();
    }

    /// Drops what is not needed. Whatever was compacted has been synced.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn collect(&mut self) {
        while self.wal.collect().expect("collects") {}
        self.see_to_the_next();
    }

    fn see_to_the_next(&self) {
        if self.wal.wants_segment() {
            self.ahead.nudge();
        }
    }
}

/// The log below `dir`, and how many entries it has.
///
/// # Panics
/// If it does not open.
#[must_use]
pub fn open(dir: &Path, route: Route) -> (Wal, u64) {
    let disk = DirDisk::open(dir, route).expect("a directory can be made");
    let identity = Identity { store: StoreId(1), cluster: ClusterId(1), generation: 1 };
    let opened = Wal::open(Arc::new(disk), &identity, WalOptions::default());
    let (wal, recovered) = opened.expect("the log opens");
    let entries = recovered.groups.values().map(|group| group.last - group.compacted.index);
    (wal, entries.sum())
}
