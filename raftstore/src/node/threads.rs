//! Starting and ending the threads of a node.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::apply::{self, Work};
use super::raft_loop::RaftLoop;
use super::shared::{Input, Shared};
use super::snapshots;
use super::writer::{self, Backlog, NodeLog};
use super::{NodeConfig, NodeError, SyncMode};
use crate::applier::Applier;
use crate::batch::Batch;
use crate::machine::{Machine, Refusal};
use crate::store::Store;
use crate::transport::queue::Queue;

/// A thread and the queue it lives on: closing the queue ends it.
pub(super) struct Worker<T> {
    pub(super) queue: Arc<Queue<T>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Worker<T> {
    fn spawn(name: String, run: impl FnOnce(&Queue<T>) + Send + 'static) -> io::Result<Worker<T>> {
        // What may queue is bounded by whoever pushes.
        let queue = Arc::new(Queue::new([0, 0]));
        let own = Arc::clone(&queue);
        let thread = Builder::new().name(name).spawn(move || run(&own))?;
        Ok(Worker { queue, thread })
    }

    /// Lets the thread do what is queued, and waits for its end.
    fn end(self) {
        self.queue.close();
        // If it panicked, that was told by its alarm.
        let _ = self.thread.join();
    }
}

/// Who writes the log.
pub(super) enum Writer {
    /// The loop.
    Inline(NodeLog, Backlog),
    /// The log thread.
    Thread(Worker<Batch>),
}

/// The threads beside the loop.
pub(super) struct Workers<M: Machine> {
    pub(super) writer: Writer,
    pub(super) prepare: Option<Worker<()>>,
    pub(super) apply: Worker<Work<M>>,
}

/// Tells the loop when its thread panics.
struct Alarm<M: Machine> {
    shared: Arc<Shared<M>>,
    thread: &'static str,
}

impl<M: Machine> Drop for Alarm<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.tell(Input::Failed(NodeError::Panicked(self.thread)));
        }
    }
}

/// Starts all threads of a node. The loop's is the last to end, and says so.
///
/// # Errors
/// If the operating system gives no thread; those started before end by themselves.
pub(super) fn spawn<M: Machine>(
    config: NodeConfig,
    shared: &Arc<Shared<M>>,
    store: Store<M>,
    applier: Applier<M>,
    log: NodeLog,
) -> io::Result<()> {
    let name = |what: &str| format!("s{}-{what}", config.store.store.0);
    let alarm = |thread| Alarm { shared: Arc::clone(shared), thread };
    let prepare = log.preparer().map(|preparer| {
        Worker::spawn(name("prepare"), move |queue| writer::prepare(&preparer, queue))
    });
    let prepare = prepare.transpose()?;
    let apply = {
        let alarm = alarm("apply");
        Worker::spawn(name("apply"), move |queue| apply::run(applier, queue, &alarm.shared))?
    };
    let writer = match config.sync {
        SyncMode::Inline => Writer::Inline(log, Backlog::default()),
        SyncMode::Writer => {
            let alarm = alarm("log");
            Writer::Thread(Worker::spawn(name("log"), move |queue| {
                if let Err(error) = writer::run(log, queue, &alarm.shared) {
                    alarm.shared.tell(Input::Failed(error));
                }
            })?)
        }
    };
    let thread = Builder::new().name(name("loop"));
    let workers = Workers { writer, prepare, apply };
    let shared = Arc::clone(shared);
    let mut raft_loop = RaftLoop::new(config, Arc::clone(&shared), store, workers, Instant::now());
    thread.spawn(move || {
        // The state may be half changed after a panic; it is only asked to answer who waits.
        let outcome = catch_unwind(AssertUnwindSafe(|| raft_loop.run()));
        let outcome = outcome.unwrap_or(Err(NodeError::Panicked("loop")));
        let outcome = catch_unwind(AssertUnwindSafe(|| end(raft_loop, outcome)));
        let outcome = outcome.unwrap_or(Err(NodeError::Panicked("loop")));
        if let Err(error) = &outcome {
            shared.note_failure();
            log::error!("{:?} failed: {error}", shared.store);
        }
        shared.inbox.close();
        shared.end(outcome);
    })?;
    Ok(())
}

/// Ends everything: answers who waits, writes what is left, joins the threads.
fn end<M: Machine>(
    mut raft_loop: RaftLoop<M>,
    mut outcome: Result<(), NodeError>,
) -> Result<(), NodeError> {
    let shared = Arc::clone(&raft_loop.shared);
    if outcome.is_err() {
        shared.note_failure();
    }
    let last = catch_unwind(AssertUnwindSafe(|| raft_loop.finish(outcome.is_ok())));
    outcome = outcome.and(last.unwrap_or(Err(NodeError::Panicked("loop"))));
    // Whoever sends or receives a snapshot gives up.
    shared.pace.stop();
    shared.transport.stop();
    snapshots::end_receiving(&shared);
    let Workers { writer, prepare, apply } = raft_loop.into_workers();
    match writer {
        Writer::Inline(log, _) if outcome.is_ok() => outcome = log.close().map_err(NodeError::from),
        Writer::Inline(..) => {}
        Writer::Thread(worker) => worker.end(),
    }
    if let Some(worker) = prepare {
        worker.end();
    }
    apply.end();
    shared.inbox.close();
    let mut rest = Vec::new();
    let _ = shared.inbox.take(&mut rest, Some(Instant::now()));
    for input in rest {
        match input {
            Input::Failed(error) => outcome = outcome.and(Err(error)),
            input => input.refuse(&Refusal::ShuttingDown),
        }
    }
    if outcome.is_ok() {
        log::info!("{:?} stopped", shared.store);
    }
    outcome
}
