//! A log that is written for as long as one likes and does not grow: what a group has written is
//! compacted away every so often, so that its segments die and their files are used again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raft::{Entries, Entry, Index, LogId, Run};
use raftstore::disk::{ClusterId, DirDisk, Identity, Route};
use raftstore::wal::{GroupRecord, Wal, WalOptions};
use raftstore::{RegionId, StoreId};

/// Smaller than by default: the disk is kept busy with zeros for less long before it is measured.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Groups forget what they wrote each time they have written so many bytes together: well below a
/// segment, so that one that is full is dead but for its end.
const FORGET_BYTES: usize = 4 << 20;

/// A log on disk, and what has been written to it.
pub struct SteadyLog {
    wal: Wal,
    payload: Bytes,
    /// The last entry of each group.
    last: Vec<LogId>,
    /// The group whose turn it is.
    turn: usize,
    /// Bytes since the groups last forgot.
    unforgotten: usize,
}

impl SteadyLog {
    /// An empty log in the empty directory `dir`, for so many groups whose entries are `payload`.
    ///
    /// # Panics
    /// If the disk does not let it be made.
    #[must_use]
    pub fn create(dir: &Path, route: Route, groups: usize, payload: &[u8]) -> SteadyLog {
        let disk = DirDisk::open(dir, route).expect("a directory can be made");
        let identity = Identity { store: StoreId(1), cluster: ClusterId(1), generation: 1 };
        let options = WalOptions { segment_bytes: SEGMENT_BYTES };
        let (wal, _) = Wal::open(Arc::new(disk), &identity, options).expect("an empty log opens");
        let last = vec![LogId { term: 1, index: 0 }; groups];
        let payload = Bytes::copy_from_slice(payload);
        SteadyLog { wal, payload, last, turn: 0, unforgotten: 0 }
    }

    /// The log itself.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The next batch, of so many entries, dealt out to the groups; if there are more groups than
    /// entries, to as many of them, in turn. To make it is the core's work and not the log's.
    #[must_use]
    pub fn batch(&mut self, entries: usize) -> Vec<(RegionId, Entries)> {
        let groups = self.last.len();
        let wanted = groups.min(entries);
        let batch = (0..wanted).map(|nth| {
            let group = (self.turn + nth) % groups;
            let count = entries / wanted + usize::from(nth < entries % wanted);
            (region(group), self.run(group, count))
        });
        let batch = batch.collect();
        self.turn = (self.turn + wanted) % groups;
        batch
    }

    fn run(&self, group: usize, count: usize) -> Entries {
        let LogId { term, index } = self.last[group];
        let run = vec![Entry::normal(self.payload.clone()); count];
        Run::new(term, index + 1, run).expect("a batch gives each group an entry").into()
    }

    /// Appends a batch, syncs if `sync` says so, and drops the segments that are dead by then.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn write(&mut self, batch: &[(RegionId, Entries)], sync: bool) {
        let records: Vec<_> =
            batch.iter().map(|(region, entries)| GroupRecord::new(*region, entries)).collect();
        self.wal.append(&records).expect("the log takes it");
        for (region, entries) in batch {
            self.last[(region.0 - 1) as usize] = entries.last().expect("it has one");
            self.unforgotten += entries.payload_bytes() as usize;
        }
        if sync {
            self.wal.sync().expect("the log is synced");
        }
        if self.unforgotten >= FORGET_BYTES {
            self.forget();
        }
    }

    /// Compacts all that was written away.
    fn forget(&mut self) {
        self.unforgotten = 0;
        let none = Entries::new();
        let written = self.last.iter().enumerate().filter(|(_, last)| last.index > 0);
        let records: Vec<_> = written
            .map(|(group, &last)| {
                let bare = GroupRecord::new(region(group), &none);
                GroupRecord { compact: Some(last), ..bare }
            })
            .collect();
        self.wal.append(&records).expect("the log takes it");
        while self.wal.collect().expect("dead segments can be dropped") {}
    }

    /// The index of the last entry of each group.
    pub fn last(&self) -> impl Iterator<Item = (RegionId, Index)> {
        self.last.iter().enumerate().map(|(group, last)| (region(group), last.index))
    }
}

fn region(group: usize) -> RegionId {
    RegionId(group as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_dealt_out_evenly_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SteadyLog::create(dir.path(), Route::Written, 3, &[7; 16]);
        for _ in 0..3 {
            let batch = log.batch(4);
            assert_eq!(batch.iter().map(|(_, entries)| entries.len()).sum::<usize>(), 4);
            log.write(&batch, false);
        }
        // Of twelve, the first group of each batch had one more.
        let written: Vec<_> = log.last().collect();
        assert_eq!(written.iter().map(|(_, last)| last).sum::<u64>(), 12, "{written:?}");
        for (region, last) in written {
            let entries = log.wal().reader().entries(region, 1..last + 1, u64::MAX).unwrap();
            assert!(entries.iter().all(|entry| entry.entry.data == [7; 16][..]));
            assert_eq!(entries.len() as u64, last);
        }
    }

    #[test]
    fn the_log_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SteadyLog::create(dir.path(), Route::Written, 2, &[7; 4096]);
        for _ in 0..64 {
            let batch = log.batch(256);
            log.write(&batch, false);
        }
        let stats = log.wal().stats();
        assert!(stats.segments_started >= 3 && stats.segments <= 2, "{stats:?}");
        assert!(stats.live_bytes <= 2 * FORGET_BYTES as u64, "{stats:?}");
    }
}
