//! How fast the next segment is written with zeros: as fast as the log comes to need it.
//!
//! A segment is tens of megabytes. Written at once they are ahead of everything else on the disk, and
//! for as long as that takes each sync takes several times as long; but a log that grows as fast as
//! the disk takes it must not wait for them either. So the zeros go in step with the log:
//!
//! ```text
//!  segment being written   ├───── used ─────┼──── room when the zeros began ────┤
//!                                           ├── appended ──►
//!  the next one            ├─────── zeros ────────►                             ┤
//!                          done when 4/5 of that room is used, or the log waits
//! ```
//!
//! A log that stands still for a moment leaves the disk to the zeros: before the first client comes
//! they are mostly done.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a pause is, until it is looked again; a log that did not grow meanwhile stands still.
const PAUSE: Duration = Duration::from_millis(2);

/// What the log needs, told by its writer to whoever makes its next segment.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Bytes of segments used, since the log was opened.
    used: AtomicU64,
    /// Bytes that the segment being written has left.
    room: AtomicU64,
    /// How many wait for a segment that is being made.
    waiting: AtomicUsize,
}

impl Demand {
    /// Notes that `bytes` were used, and how many are left. By the log's writer alone.
    pub(super) fn note(&self, bytes: u64, room: u64) {
        self.used.store(self.used() + bytes, Ordering::Relaxed);
        self.room.store(room, Ordering::Relaxed);
    }

    /// Bytes that the segment being written has left.
    pub(super) fn room(&self) -> u64 {
        self.room.load(Ordering::Relaxed)
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Runs what needs a segment that another thread may be making, which hurries meanwhile.
    pub(super) fn wait<T>(&self, with: impl FnOnce() -> T) -> T {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let done = with();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        done
    }
}

/// The making of one segment.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    demand: &'a Demand,
    /// What it has to keep up with.
    room: u64,
    used: u64,
    bytes: u64,
}

impl<'a> Pace<'a> {
    /// Begins to make a segment of `bytes`.
    pub(super) fn new(demand: &'a Demand, bytes: u64) -> Pace<'a> {
        Pace { demand, room: demand.room(), used: demand.used(), bytes }
    }

    /// Sleeps until more than `written` bytes are wanted, or the log stands still, or it is the end.
    pub(super) fn keep(&self, written: u64, sleep: &dyn Fn(Instant) -> bool) {
        while written < self.bytes && !self.is_due(written) {
            let before = self.demand.used();
            if sleep(Instant::now() + PAUSE) || self.demand.used() == before {
                return;
            }
        }
    }

    /// Whether a log that grows wants more than `written` bytes by now.
    fn is_due(&self, written: u64) -> bool {
        let appended = self.demand.used() - self.used;
        // u128: bytes times bytes.
        let wanted = u128::from(self.bytes) * u128::from(appended) * 5 / 4;
        let is_urgent = self.demand.waiting.load(Ordering::Relaxed) > 0;
        is_urgent || wanted / u128::from(self.room.max(1)) > u128::from(written)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_zeros_are_written_before_the_room_is_used() {
        let demand = Demand::default();
        demand.note(10 * MIB, 40 * MIB);
        let pace = Pace::new(&demand, 64 * MIB);
        assert!(!pace.is_due(0));
        demand.note(16 * MIB, 24 * MIB);
        // Two fifths of the room are used: half of the zeros are wanted.
        assert!(pace.is_due(32 * MIB - 1));
        assert!(!pace.is_due(32 * MIB));
        demand.note(16 * MIB, 8 * MIB);
        assert!(pace.is_due(64 * MIB - 1));
        // The next segment is begun, and counts on.
        demand.note(16 * MIB, 56 * MIB);
        assert!(pace.is_due(64 * MIB - 1));
    }

    /// How often who has written a MiB of zeros sleeps beside a log that grows a little while the first
    /// `growing` sleeps last, until `is_over` at that sleep.
    fn sleeps(growing: u64, is_over: impl Fn(u64) -> bool) -> u64 {
        let demand = Demand::default();
        demand.note(0, 56 * MIB);
        let slept = Cell::new(0);
        Pace::new(&demand, 64 * MIB).keep(MIB, &|_| {
            slept.set(slept.get() + 1);
            assert!(slept.get() < 100, "it sleeps for ever");
            if slept.get() <= growing {
                demand.note(1, 55 * MIB);
            }
            is_over(slept.get())
        });
        slept.get()
    }

    #[test]
    fn they_pause_while_the_log_grows_and_go_on_when_it_stands_still_or_ends() {
        assert_eq!(sleeps(0, |_| false), 1);
        assert_eq!(sleeps(4, |_| false), 5);
        assert_eq!(sleeps(u64::MAX, |slept| slept == 7), 7);
    }

    #[test]
    fn nobody_pauses_for_what_is_wanted_or_at_the_end_of_the_file() {
        let demand = Demand::default();
        demand.note(0, 56 * MIB);
        let pace = Pace::new(&demand, 64 * MIB);
        pace.keep(64 * MIB, &|_| panic!("all of it is there"));
        demand.note(MIB, 55 * MIB);
        pace.keep(MIB, &|_| panic!("the log has grown"));
    }

    #[test]
    fn whoever_waits_gets_all_of_it_at_once() {
        let demand = Demand::default();
        let pace = Pace::new(&demand, 64 * MIB);
        assert!(!pace.is_due(0));
        demand.wait(|| assert!(pace.is_due(64 * MIB - 1)));
        assert!(!pace.is_due(0));
    }
}
