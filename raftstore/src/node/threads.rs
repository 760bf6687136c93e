//! Starting and ending the threads of a node.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::apply::{ApplyDesk, Work};
use super::node_log::NodeLog;
use super::raft_loop::RaftLoop;
use super::shared::{Input, Shared};
use super::snapshots;
use super::writer::{self, Backlog, Desk};
use super::{NodeConfig, NodeError, SyncMode};
use crate::applier::Applier;
use crate::batch::Batch;
use crate::machine::{Machine, Refusal};
use crate::store::Store;
use crate::transport::queue::Queue;

/// A thread, or several, and the queue they live on: closing the queue ends them.
pub(super) struct Worker<T> {
    pub(super) queue: Arc<Queue<T>>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    fn spawn(name: String, run: impl FnOnce(&Queue<T>) + Send + 'static) -> io::Result<Worker<T>> {
        // What may queue is bounded by whoever pushes.
        let queue = Arc::new(Queue::new([0, 0]));
        let mut worker = Worker { queue, threads: Vec::new() };
        worker.add(name, run)?;
        Ok(worker)
    }

    /// One thread more. If it cannot be had, those there are end by themselves.
    fn add(
        &mut self,
        name: String,
        run: impl FnOnce(&Queue<T>) + Send + 'static,
    ) -> io::Result<()> {
        let own = Arc::clone(&self.queue);
        let spawned = Builder::new().name(name).spawn(move || run(&own));
        self.threads.push(spawned.inspect_err(|_| self.queue.close())?);
        Ok(())
    }

    /// Lets the threads do what is queued, and waits for their end.
    fn end(self) {
        self.queue.close();
        for thread in self.threads {
            // If it panicked, that was told by its alarm.
            let _ = thread.join();
        }
    }
}

/// Who writes the log.
pub(super) enum Writer {
    /// The loop.
    Inline(NodeLog, Backlog),
    /// The log's threads.
    Threads(Worker<Batch>, Arc<Desk>),
}

/// The threads beside the loop.
pub(super) struct Workers<M: Machine> {
    pub(super) writer: Writer,
    pub(super) prepare: Option<Worker<()>>,
    pub(super) apply: Worker<Work<M>>,
    pub(super) desk: Arc<ApplyDesk<M>>,
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
    let apply_desk = Arc::new(ApplyDesk::new(applier));
    let apply = {
        let (alarm, desk) = (alarm("apply"), Arc::clone(&apply_desk));
        Worker::spawn(name("apply"), move |queue| desk.run(queue, &alarm.shared))?
    };
    let threads = log.syncs_max().min(config.syncs_max);
    let writer = if config.sync == SyncMode::Inline || threads == 0 {
        Writer::Inline(log, Backlog::default())
    } else {
        let desk = Arc::new(Desk::new(log));
        let run = || {
            let (alarm, desk) = (alarm("log"), Arc::clone(&desk));
            move |queue: &Queue<Batch>| {
                if let Err(error) = desk.run(queue, &alarm.shared) {
                    alarm.shared.tell(Input::Failed(error));
                }
            }
        };
        let mut worker = Worker::spawn(name("log"), run())?;
        for _ in 1..threads {
            worker.add(name("log"), run())?;
        }
        Writer::Threads(worker, desk)
    };
    let thread = Builder::new().name(name("loop"));
    let workers = Workers { writer, prepare, apply, desk: apply_desk };
    let raft_loop = RaftLoop::new(config, Arc::clone(shared), store, workers, Instant::now());
    shared.turn.begin(raft_loop);
    let own = Arc::clone(shared);
    let spawned = thread.spawn(move || {
        let shared = own;
        let outcome = catch_unwind(AssertUnwindSafe(|| shared.run_loop()));
        let outcome = outcome.unwrap_or(Err(NodeError::Panicked("loop")));
        // The state may be half changed after a panic; it is only asked to answer who waits.
        let Some(raft_loop) = shared.turn.end() else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| end(*raft_loop, outcome)));
        let outcome = outcome.unwrap_or(Err(NodeError::Panicked("loop")));
        if let Err(error) = &outcome {
            shared.note_failure();
            log::error!("{:?} failed: {error}", shared.store);
        }
        shared.inbox.close();
        shared.end(outcome);
    });
    spawned.map(drop).inspect_err(|_| drop(shared.turn.end()))
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
    let Workers { writer, prepare, apply, desk: _desk } = raft_loop.into_workers();
    let mut ended = None;
    match writer {
        Writer::Inline(log, _) if outcome.is_ok() => outcome = log.close().map_err(NodeError::from),
        Writer::Inline(..) => {}
        Writer::Threads(worker, desk) => {
            worker.end();
            // What the threads have told at their end comes before this.
            ended = Arc::into_inner(desk);
        }
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
    if let Some(desk) = ended.filter(|_| outcome.is_ok()) {
        outcome = desk.close().map_err(NodeError::from);
    }
    if outcome.is_ok() {
        log::info!("{:?} stopped", shared.store);
    }
    outcome
}
