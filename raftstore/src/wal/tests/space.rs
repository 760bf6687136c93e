//! How much room the log takes, and what it does with dead segments.

use std::cell::{Cell, RefCell};

use raft::{Index, LogId};

use super::support::{IDENTITY, Step, append_one, filled, small};
use crate::disk::SimDisk;
use crate::disk::sim::Crash;
use crate::wal::{Wal, WalStats};

/// So long that the reserve is a small part of one.
const SEGMENT_BYTES: u64 = 4 << 20;
const ENTRY_BYTES: usize = 64 << 10;

/// A log that is looked at after each append.
struct Watched {
    disk: SimDisk,
    wal: Wal,
    /// Last index of the two groups.
    last: [Index; 2],
    /// How many segments were made, because none was there to be used again.
    made: u64,
}

impl Watched {
    fn new() -> Watched {
        let disk = SimDisk::new(1);
        let wal = Wal::open(disk.mount(), &IDENTITY, small(SEGMENT_BYTES)).expect("opens").0;
        Watched { disk, wal, last: [0; 2], made: 0 }
    }

    /// As a node does it: append, sync, collect, and then see to the next segment.
    fn put(&mut self, step: &Step) {
        append_one(&mut self.wal, step).expect("appends");
        self.wal.sync().expect("syncs");
        self.collect();
        if self.wal.wants_segment() {
            self.made += u64::from(self.wal.preparer().prepare().expect("prepares"));
            self.within_the_bound();
        }
    }

    fn collect(&mut self) {
        while self.wal.collect().expect("collects") {}
        self.within_the_bound();
    }

    fn within_the_bound(&self) -> WalStats {
        let stats = self.wal.stats();
        assert!(stats.file_bytes <= 2 * stats.live_bytes + 3 * SEGMENT_BYTES, "{stats:?}");
        stats
    }

    /// Appends an entry to group 1 or 2.
    fn grow(&mut self, group: usize) {
        self.last[group - 1] += 1;
        let entry = filled(1, self.last[group - 1], 1, ENTRY_BYTES);
        self.put(&Step::append(group as u64, entry));
    }

    /// Compacts a group, but for the last `keep` entries.
    fn compact(&mut self, group: usize, keep: Index) {
        let at = Some(LogId::new(1, self.last[group - 1] - keep));
        self.put(&Step { region: group as u64, compact: at, ..Step::default() });
    }

    /// Fills `count` segments with entries of a group, and hands each to `also`.
    fn fill(&mut self, group: usize, count: u64, also: impl Fn(&mut Watched)) {
        let end = self.wal.stats().segments_started + count;
        while self.wal.stats().segments_started < end {
            self.grow(group);
            also(self);
        }
    }

    /// As many segments as were made since the last time it was asked.
    fn made(&mut self) -> u64 {
        std::mem::take(&mut self.made)
    }
}

/// Of a busy group little is live, and most of that in the segment just filled. It is neither carried,
/// as it will soon be dead, nor are its segments made anew; after a restart as well.
#[test]
fn a_busy_group_uses_its_segments_again_and_is_not_carried() {
    let mut log = Watched::new();
    let busy = |log: &mut Watched| {
        if log.last[0] > 8 && log.last[0].is_multiple_of(4) {
            log.compact(1, 8);
        }
    };
    log.fill(1, 6, busy);
    assert!(log.made() <= 4);
    log.fill(1, 20, busy);
    assert_eq!(log.made(), 0);
    let stats = log.within_the_bound();
    assert!(stats.segments_dropped >= 20, "{stats:?}");
    assert_eq!(stats.carried_bytes, 0, "{stats:?}");
    log.disk.crash(Crash::Process);
    log.wal = Wal::open(log.disk.mount(), &IDENTITY, small(SEGMENT_BYTES)).expect("opens").0;
    // The one that takes the place of the last one may be missing.
    log.fill(1, 20, busy);
    assert!(log.made() <= 1);
}

/// Where much is live, as many segments are kept as die at a time; where it is no more, they go.
#[test]
fn dead_segments_are_kept_as_the_bound_has_room_for_them() {
    let mut log = Watched::new();
    log.fill(1, 6, |_| ());
    let keep = log.last[0];
    for lap in 0..6 {
        log.fill(1, 3, |_| ());
        let made = log.made();
        assert!(lap == 0 || made == 0, "{made} in lap {lap}");
        log.compact(1, keep);
    }
    let stats = log.within_the_bound();
    assert!(stats.file_bytes >= (stats.segments + 3) * SEGMENT_BYTES, "{stats:?}");
    log.compact(1, 0);
    log.within_the_bound();
}

/// The zeros of a next segment end when one dies that can be used instead, at once: not when the log,
/// which goes on growing, would have come to need more of them.
#[test]
fn a_segment_being_made_is_given_up_for_a_dead_one() {
    let mut log = Watched::new();
    log.fill(1, 1, |_| ());
    let at = LogId::new(1, log.last[0]);
    let step = Step { region: 1, compact: Some(at), ..Step::default() };
    append_one(&mut log.wal, &step).expect("appends");
    while !log.wal.wants_segment() {
        append_one(&mut log.wal, &Step::append(2, filled(1, log.last[1] + 1, 1, ENTRY_BYTES)))
            .expect("appends");
        log.last[1] += 1;
    }
    log.wal.sync().expect("syncs");
    let preparer = log.wal.preparer();
    let (log, slept) = (RefCell::new(log), Cell::new(0));
    let prepared = preparer.prepare_in_step(&|_| {
        slept.set(slept.get() + 1);
        assert!(slept.get() < 3, "it goes on making one");
        let mut log = log.borrow_mut();
        log.collect();
        log.last[1] += 1;
        let entry = filled(1, log.last[1], 1, 1);
        append_one(&mut log.wal, &Step::append(2, entry)).expect("appends");
        false
    });
    assert!(prepared.expect("prepares"));
    let log = log.into_inner();
    let mut names = log.disk.mount().list().expect("lists");
    names.sort();
    assert_eq!(names, ["wal-0000000002.log", "wal-recycled.log", "wal-reserve.log"]);
    assert_eq!(log.within_the_bound().file_bytes, 2 * SEGMENT_BYTES + (1 << 20));
}

/// The reserve that a start on a full disk used is made again, also where dead segments are at hand
/// (museum W17).
#[test]
fn a_missing_reserve_is_made_again_beside_a_segment_that_is_ready() {
    let mut log = Watched::new();
    log.fill(1, 6, |log| {
        if log.last[0] > 8 {
            log.compact(1, 8);
        }
    });
    log.disk.crash(Crash::Process);
    log.disk.mount().remove("wal-reserve.log").expect("there");
    log.wal = Wal::open(log.disk.mount(), &IDENTITY, small(SEGMENT_BYTES)).expect("opens").0;
    let disk = log.disk.clone();
    let has = |name: &str| disk.mount().list().expect("lists").contains(&name.to_owned());
    // Opening took the dead segment that was there; by and by there is another.
    while !(has("wal-recycled.log") && log.wal.wants_segment()) {
        log.last[0] += 1;
        let entry = filled(1, log.last[0], 1, ENTRY_BYTES);
        let at = Some(LogId::new(1, log.last[0] - 8));
        append_one(&mut log.wal, &Step { compact: at, ..Step::append(1, entry) }).expect("appends");
        log.wal.sync().expect("syncs");
        log.collect();
        assert!(log.last[0] < 1000, "it is never wanted");
    }
    assert!(log.wal.preparer().prepare_in_step(&|_| true).expect("makes it"));
    assert!(has("wal-reserve.log") && !log.wal.wants_segment());
}

/// Whoever makes segments may be told late that one was wanted: then it is not time for the next.
#[test]
fn no_segment_is_made_before_it_is_time() {
    let mut log = Watched::new();
    log.fill(1, 1, |_| ());
    assert!(!log.wal.wants_segment());
    let preparer = log.wal.preparer();
    assert!(!preparer.prepare_in_step(&|_| panic!("makes one")).expect("looks"));
    while !log.wal.wants_segment() {
        log.last[0] += 1;
        let entry = filled(1, log.last[0], 1, ENTRY_BYTES);
        append_one(&mut log.wal, &Step::append(1, entry)).expect("appends");
    }
    assert!(preparer.prepare_in_step(&|_| true).expect("makes one"));
    assert!(!log.wal.wants_segment());
}
