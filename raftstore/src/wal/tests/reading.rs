//! Reading while writing, without copies, on real files.

use std::sync::atomic::{AtomicU64, Ordering};

use raft::{Entries, LogId};

use super::support::{Place, Step, append, filled, small};
use crate::disk::Route;
use crate::region::RegionId;
use crate::wal::{ReadError, Wal};

const ONE: RegionId = RegionId(1);

fn put(wal: &mut Wal, step: Step) {
    append(wal, &[step]).expect("appends");
}

fn each_disk(test: impl Fn(Place)) {
    [Place::dir(Route::Written), Place::dir(Route::Mapped), Place::sim(1)]
        .into_iter()
        .for_each(test);
}

#[test]
fn entries_come_as_runs_of_a_term_within_limits() {
    each_disk(|place| {
        let mut wal = place.open(small(16 << 10)).0;
        for first in [1, 3, 5] {
            put(&mut wal, Step::append(1, filled(1, first, 2, 50)));
        }
        put(&mut wal, Step::append(1, filled(2, 6, 4, 50)));
        put(&mut wal, Step { region: 1, compact: Some(LogId::new(1, 1)), ..Step::default() });
        let reader = wal.reader();
        let whole = reader.entries(ONE, 2..10, u64::MAX).expect("readable");
        let mut expected = Entries::from(filled(1, 2, 4, 50).runs()[0].clone());
        expected.push(filled(2, 6, 4, 50).runs()[0].clone()).expect("follows");
        assert_eq!(whole, expected);
        assert_eq!(whole.runs().len(), 2, "one run for each term");
        for (start, end) in (2..10).flat_map(|start| (start..=10).map(move |end| (start, end))) {
            let part = reader.entries(ONE, start..end, u64::MAX).expect("readable");
            assert_eq!(part, whole.slice(start..end));
        }
        for max in 0..600 {
            let part = reader.entries(ONE, 3..10, max).expect("readable");
            let count = (max / 62).clamp(1, 7);
            assert_eq!(part, whole.slice(3..3 + count), "{max}");
        }
        let compacted = LogId::new(1, 1);
        assert_eq!(reader.entries(ONE, 1..3, 0), Err(ReadError::Compacted { compacted }));
        assert_eq!(reader.entries(ONE, 9..11, 0), Err(ReadError::Unavailable { last: 9 }));
        let other = RegionId(2);
        assert_eq!(reader.entries(other, 1..2, 0), Err(ReadError::Unknown(other)));
    });
}

/// A payload read out of the map is the map, and stays what it was when its segment is gone.
#[test]
fn lent_bytes_outlive_their_segment() {
    each_disk(|place| {
        let mut wal = place.open(small(8 << 10)).0;
        let mut lent = Vec::new();
        for n in 1..60 {
            let mut step = Step::append(1, filled(1, n, 1, 1500));
            step.compact = (n > 1).then(|| LogId::new(1, n - 1));
            put(&mut wal, step);
            if n % 3 == 0 {
                let entries = wal.reader().entries(ONE, n..n + 1, u64::MAX).expect("readable");
                let twice = wal.reader().entries(ONE, n..n + 1, u64::MAX).expect("readable");
                let at = |e: &Entries| e.get(n).expect("the entry").entry.data.as_ptr();
                if matches!(place, Place::Dir(..)) {
                    assert_eq!(at(&entries), at(&twice), "not copied");
                }
                lent.push((n, entries));
            }
            while wal.collect().expect("collects") {}
        }
        assert!(wal.stats().segments_dropped > 5, "{:?}", wal.stats());
        for (n, entries) in &lent {
            assert_eq!(*entries, filled(1, *n, 1, 1500), "{n}");
        }
    });
}

/// A reader on another thread sees every entry that was appended, whole, while the log rolls.
#[test]
fn readers_follow_a_writer_on_another_thread() {
    const LAST: u64 = 2_000;
    each_disk(|place| {
        let mut wal = place.open(small(64 << 10)).0;
        let reader = wal.reader();
        let written = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = 1;
                while next <= LAST {
                    let last = written.load(Ordering::Acquire);
                    if last < next {
                        std::thread::yield_now();
                        continue;
                    }
                    let entries = reader.entries(ONE, next..last + 1, 4096).expect("readable");
                    let count = entries.len() as u64;
                    assert_eq!(entries, filled(1, next, count, 120));
                    next += count;
                }
            });
            for first in (1..=LAST).step_by(4) {
                put(&mut wal, Step::append(1, filled(1, first, 4, 120)));
                written.store(first + 3, Ordering::Release);
            }
        });
    });
}

/// One entry of the largest size a codec allows, in a segment of the default size.
#[test]
fn the_largest_entry_fits_the_default_segment() {
    let place = Place::dir(Route::Written);
    let mut wal = place.open(Default::default()).0;
    let largest = filled(1, 1, 1, crate::codec::ENTRY_BYTES_MAX);
    put(&mut wal, Step::append(1, largest.clone()));
    put(&mut wal, Step::append(1, filled(1, 2, 1, 3)));
    drop(wal);
    let (wal, recovered) = place.open(Default::default());
    assert_eq!((recovered.torn, recovered.groups[&ONE].last), (None, 2));
    assert_eq!(wal.reader().entries(ONE, 1..2, 0), Ok(largest));
}
