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
//! A log that does not grow at all gets its segment too, in seconds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes a second of zeros if the log stands still.
const IDLE_BYTES_PER_SECOND: u64 = 4 << 20;

/// How long a pause is at most, until it is looked again.
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
        let used = self.used.load(Ordering::Relaxed);
        self.used.store(used + bytes, Ordering::Relaxed);
        self.room.store(room, Ordering::Relaxed);
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
    began: Instant,
}

impl<'a> Pace<'a> {
    /// Begins to make a segment of `bytes`.
    pub(super) fn new(demand: &'a Demand, bytes: u64) -> Pace<'a> {
        let room = demand.room.load(Ordering::Relaxed);
        let used = demand.used.load(Ordering::Relaxed);
        Pace { demand, room, used, bytes, began: Instant::now() }
    }

    /// Sleeps until more than `written` bytes are wanted, or it is the end.
    pub(super) fn keep(&self, written: u64, sleep: &dyn Fn(Instant) -> bool) {
        while written < self.bytes
            && !self.is_due(written, self.began.elapsed())
            && !sleep(Instant::now() + PAUSE)
        {}
    }

    /// Whether more than `written` bytes are wanted by now.
    fn is_due(&self, written: u64, elapsed: Duration) -> bool {
        let appended = self.demand.used.load(Ordering::Relaxed) - self.used;
        // u128: bytes times bytes.
        let wanted = u128::from(self.bytes) * u128::from(appended) * 5 / 4;
        let in_step = wanted / u128::from(self.room.max(1));
        let at_least = u128::from(IDLE_BYTES_PER_SECOND) * elapsed.as_micros() / 1_000_000;
        let is_urgent = self.demand.waiting.load(Ordering::Relaxed) > 0;
        is_urgent || in_step.max(at_least) > u128::from(written)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MIB: u64 = 1 << 20;
    const NO_TIME: Duration = Duration::ZERO;

    #[test]
    fn the_zeros_are_written_before_the_room_is_used() {
        let demand = Demand::default();
        demand.note(10 * MIB, 40 * MIB);
        let pace = Pace::new(&demand, 64 * MIB);
        assert!(!pace.is_due(0, NO_TIME));
        demand.note(16 * MIB, 24 * MIB);
        // Two fifths of the room are used: half of the zeros are wanted.
        assert!(pace.is_due(32 * MIB - 1, NO_TIME));
        assert!(!pace.is_due(32 * MIB, NO_TIME));
        demand.note(16 * MIB, 8 * MIB);
        assert!(pace.is_due(64 * MIB - 1, NO_TIME));
        // The next segment is begun, and counts on.
        demand.note(16 * MIB, 56 * MIB);
        assert!(pace.is_due(64 * MIB - 1, NO_TIME));
    }

    #[test]
    fn a_log_that_stands_still_gets_a_segment_in_seconds() {
        let demand = Demand::default();
        let pace = Pace::new(&demand, 64 * MIB);
        assert!(!pace.is_due(4 * MIB, Duration::from_secs(1)));
        assert!(pace.is_due(64 * MIB - 1, Duration::from_secs(16)));
    }

    #[test]
    fn whoever_waits_gets_all_of_it_at_once() {
        let demand = Demand::default();
        let pace = Pace::new(&demand, 64 * MIB);
        assert!(!pace.is_due(0, NO_TIME));
        demand.wait(|| assert!(pace.is_due(64 * MIB - 1, NO_TIME)));
        assert!(!pace.is_due(0, NO_TIME));
    }

    #[test]
    fn it_sleeps_until_the_end_at_most() {
        let demand = Demand::default();
        let pace = Pace::new(&demand, u64::MAX);
        let slept = Cell::new(0);
        pace.keep(u64::MAX - 1, &|_| {
            slept.set(slept.get() + 1);
            slept.get() == 5
        });
        assert_eq!(slept.get(), 5);
    }
}
