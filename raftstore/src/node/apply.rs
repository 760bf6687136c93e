//! The thread that owns the state machine.

use std::sync::atomic::Ordering;

use super::shared::{Input, Shared};
use crate::applier::{Applier, Task};
use crate::machine::Machine;
use crate::transport::queue::{Queue, Woken};

/// What the thread is told.
pub(super) enum Work<M: Machine> {
    /// To be done in order.
    Tasks(Vec<Task<M>>),
    /// Time passes.
    Tick,
}

/// Carries out tasks until the queue is closed; then answers everybody who still waits.
pub(super) fn run<M: Machine>(mut applier: Applier<M>, queue: &Queue<Work<M>>, shared: &Shared<M>) {
    let (mut queued, mut reports) = (Vec::new(), Vec::new());
    while queue.take(&mut queued, None) == Woken::Items {
        let held = applier.held();
        let mut read = 0;
        for work in queued.drain(..) {
            match work {
                Work::Tasks(tasks) => {
                    for task in tasks {
                        if let Task::Read { queries, .. } = &task {
                            read += queries.len();
                        }
                        applier.run(task, &mut reports);
                    }
                }
                Work::Tick => {
                    let log_bytes = shared.counts.log_bytes.load(Ordering::Relaxed);
                    applier.tick(log_bytes, &mut reports);
                }
            }
        }
        // Those that are held are still on their way.
        shared.reading.fetch_sub(held + read - applier.held(), Ordering::Relaxed);
        if !reports.is_empty() {
            shared.tell(Input::Applied(std::mem::take(&mut reports)));
        }
    }
    applier.shut_down();
}
