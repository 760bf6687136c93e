//! Putting tasks to the state machine: in a thread of its own, or in the loop.
//!
//! The thread keeps the loop free, for the price of two hand-overs. Where there is little to apply
//! and the thread has nothing to do, the hand-overs cost more than the work: then the loop does it
//! itself. Either way tasks are carried out in the order the store handed them out, and reported
//! in that order, because whoever has the applier has everything: the loop only takes it while
//! the queue is empty, and with it all reports that it has not seen yet.

use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;

use super::shared::{Input, Shared};
use crate::applier::{AppliedReport, Applier, Task};
use crate::machine::Machine;
use crate::transport::queue::{Consumer, Queue, Woken};

/// Most entries that the loop applies itself in a round. What a machine does for an entry takes
/// about a microsecond, a hand-over some ten, and everything else waits for the loop meanwhile.
const ENTRIES_HERE_MAX: usize = 64;

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
}

/// Whether the loop may carry these tasks out itself. Reads and snapshots take as long as they
/// like.
fn are_light<M: Machine>(tasks: &[Task<M>]) -> bool {
    let mut entries = 0;
    tasks.iter().all(|task| match task {
        Task::Proposed { .. } => true,
        Task::Apply { apply, .. } => {
            entries += apply.entries().len();
            entries <= ENTRIES_HERE_MAX
        }
        Task::Read { .. } | Task::Snapshot { .. } | Task::Install { .. } => false,
    })
}

impl<M: Machine> ApplyDesk<M> {
    pub(super) fn new(applier: Applier<M>) -> ApplyDesk<M> {
        ApplyDesk { applier: Mutex::new(Some(Box::new(applier))), reports: Mutex::default() }
    }

    /// The thread: carries out tasks until the queue is closed; then answers everybody who still
    /// waits.
    pub(super) fn run(&self, queue: &Queue<Work<M>>, shared: &Shared<M>) {
        let mut queued = Vec::new();
        while queue.wait(None) == Woken::Items {
            let mut applier = self.applier.lock();
            queue.take_more(&mut queued);
            let mut reports = Vec::new();
            carry_out(&mut applier, queued.drain(..), &mut reports, shared);
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
        if !are_light(&tasks) {
            return Err(tasks);
        }
        let Some(mut applier) = self.applier.try_lock() else { return Err(tasks) };
        if !queue.is_empty() {
            return Err(tasks);
        }
        let mut reports = self.take_reports();
        carry_out(&mut applier, [Work::Tasks(tasks)], &mut reports, shared);
        Ok(reports)
    }

    /// What was done since the last time.
    pub(super) fn take_reports(&self) -> Vec<AppliedReport> {
        std::mem::take(&mut *self.reports.lock())
    }
}

fn carry_out<M: Machine>(
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
                        Task::Proposed { .. } | Task::Snapshot { .. } | Task::Install { .. } => {}
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
        shared.counts.apply.applied(entries, began.elapsed());
    }
    *desk = Some(applier);
}
