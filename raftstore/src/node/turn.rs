//! Whose turn it is to do the loop's work: its own thread's, or that of whoever brought some.
//!
//! ```text
//!  client ────┐                  ┌─ the loop's thread: whenever it is awake, and at every tick
//!  log ───────┼─► inbox ─► turn ◄┤
//!  transport ─┘                  └─ whoever pushed, while that thread sleeps
//! ```
//!
//! Waking a thread takes it microseconds, several times what a small round does, and a commit has
//! half a dozen hand-overs on its way. So a thread that finds the loop asleep, and has nothing
//! better to do, takes the turn and does the round itself. A single client's command then goes from
//! its thread to the log's, and straight back.
//!
//! Many clients are served better by the loop's thread: while it wakes up, more comes for the same
//! round, the same record and the same sync. [`Crowd`] tells one from the other.
//!
//! - There is one turn, under a lock: nobody waits for it but the loop's thread, so helping can
//!   neither block nor lock up. Inputs are taken with the turn in hand, so they are taken in order.
//! - Whoever finds the loop asleep has to see to what they queued: they help, or wake it. So does
//!   a helper for what came meanwhile, after a few rounds: their own work waits.
//! - A helper never waits for the disk: with [`SyncMode::Inline`](super::SyncMode::Inline) nobody
//!   helps. What fails or panics in a helper's hands fails the store, not the helper.
//! - The end is the affair of the loop's thread alone: once the node stops, nobody helps.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::NodeError;
use super::errands::{self, Hands, Sleeper};
use super::node_log::NodeLog;
use super::raft_loop::RaftLoop;
use super::shared::{Input, Shared};
use super::threads::Writer;
use crate::machine::Machine;
use crate::transport::queue::Woken;

/// Commands that have to come alone, one after the other, before a client is taken for the only one.
const ALONE_AFTER: u32 = 64;

/// Of so many commands that come alone, one is left to the loop's thread, to see whether more
/// follow while it wakes up.
const PROBE_EVERY: u32 = 256;

/// Whether there is more than one command or read on its way at a time. If so, the loop's thread
/// lets them gather while it wakes up; a helper would do a round for each.
#[derive(Default)]
pub(super) struct Crowd {
    /// Commands that have yet to come alone.
    left: AtomicU32,
    /// Commands that found the store at rest.
    came: AtomicU32,
}

impl Crowd {
    /// A turn has taken so many, and so many are on their way now. By whoever has the turn.
    pub(super) fn note(&self, taken: usize, pending: usize) {
        let left = self.left.load(Ordering::Relaxed);
        match (taken, pending) {
            (0, _) => {}
            (1, 1) => self.left.store(left.saturating_sub(1), Ordering::Relaxed),
            _ => self.left.store(ALONE_AFTER, Ordering::Relaxed),
        }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Whether the client who has found the store at rest may help.
    pub(super) fn may_help(&self) -> bool {
        let is_probe = self.came.fetch_add(1, Ordering::Relaxed).is_multiple_of(PROBE_EVERY);
        self.is_alone() && !is_probe
    }
}

/// How often the loop's thread looks again before it sleeps.
const LOOKS: usize = 3;

/// Whoever had the core in between for longer has better things to do than to bring work soon.
const LOOK_TIME_MAX: Duration = Duration::from_millis(1);

/// After such a look there is none for so many times as long: so it costs one percent at most.
const LOOK_PAUSE: u32 = 100;

/// Looks of the loop's thread before it sleeps. In between it gives up its core to whoever waits
/// for one, who may well be about to bring something: that takes less than a microsecond, to sleep
/// and be woken several, on both sides. But if it is a program that only computes, the core is gone
/// for milliseconds, while a thread that was woken would get it back at once. Only without a disk:
/// what waits for a sync comes much later than any look.
#[derive(Default)]
struct Looks {
    paused_until: Option<Instant>,
}

impl Looks {
    /// Looks for as long as there is nothing, a few times.
    fn look(&mut self, is_idle: impl Fn() -> bool) {
        let began = Instant::now();
        if self.is_paused(began) {
            return;
        }
        for _ in 0..LOOKS {
            if !is_idle() {
                break;
            }
            std::thread::yield_now();
        }
        self.took(began, began.elapsed());
    }

    fn took(&mut self, began: Instant, time: Duration) {
        self.paused_until = (time > LOOK_TIME_MAX).then(|| began + time * LOOK_PAUSE);
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }
}

/// The loop, for whoever's turn it is.
pub(super) struct Turn<M: Machine> {
    /// `None` before its start and after its end.
    raft_loop: Mutex<Option<Box<RaftLoop<M>>>>,
    /// Anybody may help.
    is_open: AtomicBool,
    /// The log's threads are at work beside the loop: what comes meanwhile gathers.
    gathers: AtomicBool,
}

impl<M: Machine> Default for Turn<M> {
    fn default() -> Turn<M> {
        Turn {
            raft_loop: Mutex::new(None),
            is_open: AtomicBool::new(false),
            gathers: AtomicBool::new(false),
        }
    }
}

impl<M: Machine> Turn<M> {
    /// Begins.
    pub(super) fn begin(&self, raft_loop: RaftLoop<M>) {
        let (is_open, gathers) = match raft_loop.writer() {
            Writer::Threads(..) => (true, true),
            Writer::Inline(NodeLog::Memory(_), _) => (true, false),
            // Nobody but the loop's own thread is to wait for the disk.
            Writer::Inline(NodeLog::Wal(_), _) => (false, true),
        };
        *self.raft_loop.lock() = Some(Box::new(raft_loop));
        self.gathers.store(gathers, Ordering::Release);
        self.is_open.store(is_open, Ordering::Release);
    }

    /// From now on the loop's thread does everything itself.
    pub(super) fn close(&self) {
        self.is_open.store(false, Ordering::Release);
    }

    /// Takes the loop out, for its end.
    pub(super) fn end(&self) -> Option<Box<RaftLoop<M>>> {
        self.close();
        self.raft_loop.lock().take()
    }

    /// Keeps everybody from the loop's work, as a process that is stopped would, until dropped.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Drop + '_ {
        self.raft_loop.lock()
    }

    /// One turn in the hands of a helper. `None` if somebody else has it, or nobody may help.
    fn help(&self) -> Option<Result<(), NodeError>> {
        let mut raft_loop = self.raft_loop.try_lock()?;
        // With the turn in hand: so nobody works on what a panic has left.
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        let raft_loop = raft_loop.as_mut()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| raft_loop.turn()));
        let outcome = outcome.unwrap_or(Err(NodeError::Panicked("loop")));
        if let Err(error) = &outcome {
            self.close();
            raft_loop.fail(error.clone());
        }
        Some(outcome)
    }
}

impl<M: Machine> Sleeper for Shared<M> {
    fn help(&self) -> bool {
        match self.turn.help() {
            Some(Ok(())) => return self.inbox.rest(),
            Some(Err(error)) => self.tell(Input::Failed(error)),
            None => {}
        }
        self.wake();
        true
    }

    fn wake(&self) {
        self.inbox.wake();
    }
}

impl<M: Machine> Shared<M> {
    /// Sees to what was queued while the loop slept, as soon as this thread has time; see
    /// [`errands::see_to`].
    pub(super) fn see_to(&self, can_wait: bool) {
        // With many clients, more gathers while the loop's thread wakes up. Only where there is
        // nothing to gather for, another loop's thread may go straight on.
        let is_quick = || !self.turn.gathers.load(Ordering::Acquire) && errands::is_own();
        let may_help = self.turn.is_open.load(Ordering::Acquire);
        let may_help = may_help && (self.crowd.is_alone() || is_quick());
        match self.me.upgrade().filter(|_| may_help) {
            Some(me) => errands::see_to(me, can_wait),
            None => self.inbox.wake(),
        }
    }

    /// The loop's thread: has every turn that nobody else takes, and ticks, until the node is
    /// stopped or something fails.
    pub(super) fn run_loop(&self) -> Result<(), NodeError> {
        let mut next_tick = Instant::now();
        let mut looks = Looks::default();
        loop {
            if !self.turn.gathers.load(Ordering::Acquire) {
                looks.look(|| self.inbox.is_idle());
            }
            if self.inbox.wait(Some(next_tick)) == Woken::Closed {
                break;
            }
            match errands::run(Hands::Own, || self.turn_here())? {
                Some(at) => next_tick = at,
                None => break,
            }
        }
        Ok(())
    }

    /// One turn of the loop's thread. Returns when the next tick is due; `None` at the end.
    fn turn_here(&self) -> Result<Option<Instant>, NodeError> {
        let now = Instant::now();
        let mut raft_loop = self.turn.raft_loop.lock();
        let Some(raft_loop) = raft_loop.as_mut() else { return Ok(None) };
        raft_loop.tick_if_due(now)?;
        raft_loop.turn()?;
        Ok((!raft_loop.is_over(now)).then(|| raft_loop.next_tick()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_alone_when_its_commands_came_alone_for_a_while() {
        let crowd = Crowd::default();
        assert!(crowd.is_alone(), "until there are more");
        assert!(!crowd.may_help(), "the first is a probe");
        assert!(crowd.may_help());
        crowd.note(1, 2);
        assert!(!crowd.is_alone() && !crowd.may_help(), "another is on its way");
        for _ in 1..ALONE_AFTER {
            crowd.note(1, 1);
            crowd.note(0, 1);
        }
        assert!(!crowd.is_alone());
        crowd.note(1, 1);
        assert!(crowd.is_alone());
        crowd.note(2, 2);
        assert!(!crowd.is_alone(), "two came together");
    }

    #[test]
    fn looks_that_take_long_are_rare() {
        let (mut looks, began) = (Looks::default(), Instant::now());
        assert!(!looks.is_paused(began));
        looks.took(began, LOOK_TIME_MAX);
        assert!(!looks.is_paused(began), "work of a store's own threads");
        looks.took(began, Duration::from_millis(3));
        assert!(looks.is_paused(began + Duration::from_millis(299)));
        assert!(!looks.is_paused(began + Duration::from_millis(300)));
        looks.took(began, Duration::ZERO);
        assert!(!looks.is_paused(began), "the last look counts");
    }

    #[test]
    fn what_is_there_is_seen_at_the_first_look() {
        let count = std::cell::Cell::new(0);
        let is_idle_until = |at: usize| {
            count.set(0);
            Looks::default().look(|| count.replace(count.get() + 1) < at);
            count.get()
        };
        assert_eq!((is_idle_until(0), is_idle_until(1), is_idle_until(9)), (1, 2, LOOKS));
    }

    #[test]
    fn now_and_then_the_only_client_lets_others_gather() {
        let crowd = Crowd::default();
        let helped = (0..10 * PROBE_EVERY).filter(|_| crowd.may_help()).count();
        assert_eq!(helped, 10 * (PROBE_EVERY as usize - 1));
    }
}
