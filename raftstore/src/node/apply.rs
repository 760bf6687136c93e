//! Putting tasks to the state machine: in a thread of its own, or in the loop.
//!
//! The thread keeps the loop free, for the price of two hand-overs. Where there is little to apply
//! and the thread has nothing to do, the hand-overs cost more than the work: then the loop does it
//! itself. How little that is in entries depends on the machine, and shows as it applies them.
//!
//! Either way tasks are carried out in the order the store handed them out, and reported in that
//! order, because whoever has the applier has everything: the loop only takes it while the queue
//! is empty, and with it all reports that it has not seen yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::shared::{Input, Shared};
use crate::applier::{AppliedReport, Applier, Task};
use crate::machine::Machine;
use crate::transport::queue::{Consumer, Queue, Woken};

/// How long the loop may take to apply what it applies itself in a round. A hand-over takes some
/// ten microseconds, more where there are fewer cores than threads; and everything else waits for
/// the loop meanwhile.
const TIME_HERE_MAX: Duration = Duration::from_micros(100);

/// Most reads that the loop runs itself in a round. Where there are many, two threads answer more
/// than one.
const READS_HERE_MAX: usize = 8;

/// What the thread is told.
pub(super) enum Work<M: Machine> {
    /// To be done in order.
    Tasks(Vec<Task<M>>),
    /// Time passes.
    Tick,
}

/// The applier, shared by the loop and the thread.
pub(super) struct ApplyDesk<M: Machine> {
    /// In the hands of one of them at a time. None after a panic: what the machine held fell with
    /// it, and what is left is not to be trusted.
    applier: Mutex<Option<Box<Applier<M>>>>,
    /// What the loop has to know, in order.
    reports: Mutex<Vec<AppliedReport>>,
    pace: Pace,
}

/// How long the machine takes for an entry, as it has turned out so far.
struct Pace {
    entry_nanos: AtomicU64,
}

impl Pace {
    /// So many entries were applied in that time.
    fn note(&self, entries: usize, took: Duration) {
        let Some(sample) = took.as_nanos().checked_div(entries as u128) else { return };
        let before = self.entry_nanos.load(Ordering::Relaxed);
        // Now and then the time went to other threads of this machine; that says little of the next.
        let sample = u64::try_from(sample).unwrap_or(u64::MAX).min(2 * before + 1);
        // By whoever has the applier, so nobody else's is lost.
        self.entry_nanos.store((7 * before + sample).div_ceil(8), Ordering::Relaxed);
    }

    /// How many the loop may apply itself.
    fn entries_max(&self) -> usize {
        let nanos = self.entry_nanos.load(Ordering::Relaxed).max(1);
        TIME_HERE_MAX.as_nanos() as usize / nanos as usize
    }
}

impl Default for Pace {
    /// A microsecond, until it turns out.
    fn default() -> Pace {
        Pace { entry_nanos: AtomicU64::new(1000) }
    }
}

/// Whether the loop may carry these tasks out itself, if it may apply so many entries. Snapshots take
/// as long as they like, and so do reads of which the machine does not say otherwise.
fn are_light<M: Machine>(tasks: &[Task<M>], entries_max: usize) -> bool {
    let (mut entries, mut reads) = (0, 0);
    tasks.iter().all(|task| match task {
        Task::Proposed { .. } => true,
        Task::Apply { apply, .. } => {
            entries += apply.entries().len();
            entries <= entries_max
        }
        Task::Read { queries, .. } => {
            reads += queries.len();
            reads <= READS_HERE_MAX && queries.iter().all(M::is_light)
        }
        Task::Snapshot { .. } | Task::Install { .. } => false,
    })
}

impl<M: Machine> ApplyDesk<M> {
    pub(super) fn new(applier: Applier<M>) -> ApplyDesk<M> {
        ApplyDesk {
            applier: Mutex::new(Some(Box::new(applier))),
            reports: Mutex::default(),
            pace: Pace::default(),
        }
    }

    /// The thread: carries out tasks until the queue is closed; then answers everybody who still
    /// waits.
    pub(super) fn run(&self, queue: &Queue<Work<M>>, shared: &Shared<M>) {
        let mut queued = Vec::new();
        while queue.wait(None) == Woken::Items {
            let mut applier = self.applier.lock();
            queue.take_more(&mut queued);
            let mut reports = Vec::new();
            self.carry_out(&mut applier, queued.drain(..), &mut reports, shared);
            let tell = !reports.is_empty();
            self.reports.lock().append(&mut reports);
            drop(applier);
            if tell && shared.tell_quietly(Input::Applied) == Consumer::Asleep {
                shared.see_to(true);
            }
        }
        if let Some(applier) = self.applier.lock().as_mut() {
            applier.shut_down();
        }
    }

    /// The loop: carries these tasks out now, if they are light and nothing is to be done before;
    /// gives them back otherwise.
    pub(super) fn run_here(
        &self,
        tasks: Vec<Task<M>>,
        queue: &Queue<Work<M>>,
        shared: &Shared<M>,
    ) -> Result<Vec<AppliedReport>, Vec<Task<M>>> {
        if !are_light(&tasks, self.pace.entries_max()) {
            return Err(tasks);
        }
        let Some(mut applier) = self.applier.try_lock() else { return Err(tasks) };
        if !queue.is_empty() {
            return Err(tasks);
        }
        let mut reports = self.take_reports();
        self.carry_out(&mut applier, [Work::Tasks(tasks)], &mut reports, shared);
        Ok(reports)
    }

    /// What was done since the last time.
    pub(super) fn take_reports(&self) -> Vec<AppliedReport> {
        std::mem::take(&mut *self.reports.lock())
    }

    fn carry_out(
        &self,
        desk: &mut Option<Box<Applier<M>>>,
        queued: impl IntoIterator<Item = Work<M>>,
        reports: &mut Vec<AppliedReport>,
        shared: &Shared<M>,
    ) {
        // Put back below, unless the machine panics.
        let Some(mut applier) = desk.take() else { return };
        let held = applier.held();
        let (mut read, mut entries, began) = (0, 0, Instant::now());
        for work in queued {
            match work {
                Work::Tasks(tasks) => {
                    for task in tasks {
                        match &task {
                            Task::Read { queries, .. } => read += queries.len(),
                            Task::Apply { apply, .. } => entries += apply.entries().len(),
                            Task::Proposed { .. }
                            | Task::Snapshot { .. }
                            | Task::Install { .. } => {}
                        }
                        applier.run(task, reports);
                    }
                }
                Work::Tick => {
                    let log_bytes = shared.counts.log.bytes.load(Ordering::Relaxed);
                    applier.tick(log_bytes, reports);
                }
            }
        }
        // Those that are held are still on their way.
        shared.reading.fetch_sub(held + read - applier.held(), Ordering::Relaxed);
        if entries > 0 {
            let took = began.elapsed();
            self.pace.note(entries, took);
            shared.counts.apply.applied(entries, took);
        }
        *desk = Some(applier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_the_loop_applies_itself_follows_the_time_it_takes() {
        let pace = Pace::default();
        assert_eq!(pace.entries_max(), 100, "a microsecond each, as long as nobody knows");
        pace.note(0, Duration::from_secs(1));
        assert_eq!(pace.entries_max(), 100, "nothing was applied");
        (0..100).for_each(|_| pace.note(1000, Duration::from_micros(100)));
        let quick = pace.entries_max();
        assert!((900..=1000).contains(&quick), "{quick} of 100 ns each");
        pace.note(1, Duration::from_millis(5));
        assert!(pace.entries_max() > quick * 4 / 5, "one that was interrupted says little");
        (0..100).for_each(|_| pace.note(10, Duration::from_millis(1)));
        assert_eq!(pace.entries_max(), 1, "100 us each");
        (0..100).for_each(|_| pace.note(1, Duration::from_millis(1)));
        assert_eq!(pace.entries_max(), 0, "each would take longer than the loop has");
        (0..1000).for_each(|_| pace.note(1000, Duration::ZERO));
        (0..1000).for_each(|_| pace.note(10, Duration::from_millis(1)));
        assert!(pace.entries_max() < 10, "it always comes back");
    }
}
