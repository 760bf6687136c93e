//! The loop: takes what has come, steps the store, hands out what it says. Who does that is the
//! matter of `turn`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::apply::Work;
use super::errands;
use super::shared::{Input, Shared};
use super::snapshots;
use super::threads::{Workers, Writer};
use super::{NodeConfig, NodeError};
use raft::ReadMode;

use crate::applier::{AppliedReport, Task};
use crate::batch::Batch;
use crate::codec::message::PeerMessage;
use crate::machine::{Machine, Refusal};
use crate::region::StoreId;
use crate::snapshot::{Received, incoming};
use crate::store::{Ready, Store};
use crate::transport::Packet;
use crate::wal::WalError;

/// What whoever has the turn works on.
pub(super) struct RaftLoop<M: Machine> {
    pub(super) shared: Arc<Shared<M>>,
    config: NodeConfig,
    store: Store<M>,
    ready: Ready<M>,
    workers: Workers<M>,
    next_tick: Instant,
    /// Stopping in good order, until then at most.
    stop_by: Option<Instant>,
    unreachable: Vec<StoreId>,
    /// Kept for its room.
    inputs: Vec<Input<M>>,
    /// What ended it, if that was not in its own thread.
    failed: Option<NodeError>,
}

impl<M: Machine> RaftLoop<M> {
    pub(super) fn new(
        config: NodeConfig,
        shared: Arc<Shared<M>>,
        store: Store<M>,
        workers: Workers<M>,
        now: Instant,
    ) -> RaftLoop<M> {
        RaftLoop {
            shared,
            next_tick: now + config.tick,
            config,
            store,
            ready: Ready::default(),
            workers,
            stop_by: None,
            unreachable: Vec::new(),
            inputs: Vec::new(),
            failed: None,
        }
    }

    /// Ticks if it is time to.
    pub(super) fn tick_if_due(&mut self, now: Instant) -> Result<(), NodeError> {
        if now >= self.next_tick {
            self.tick(now);
            self.write_backlog()?;
        }
        Ok(())
    }

    /// Who writes the log.
    pub(super) fn writer(&self) -> &Writer {
        &self.workers.writer
    }

    /// When the next tick is due.
    pub(super) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Whether it has stopped in good order, or had enough time to.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.stop_by.is_some_and(|by| self.store.is_resigned() || now >= by)
    }

    /// It has failed in other hands than its thread's, which is to find the same.
    pub(super) fn fail(&mut self, error: NodeError) {
        self.failed = Some(error);
    }

    /// Takes what has come, and does rounds until there is nothing to hand out.
    pub(super) fn turn(&mut self) -> Result<(), NodeError> {
        self.failed.clone().map_or(Ok(()), Err)?;
        let mut inputs = std::mem::take(&mut self.inputs);
        self.shared.inbox.take_more(&mut inputs);
        let requests = inputs.iter().filter(|input| input.is_request()).count();
        let mut outcome = match self.config.store.read_mode {
            // Later than what was taken has come, or after a pause it is answered by an old lease.
            ReadMode::Lease => self.tick_if_due(Instant::now()),
            ReadMode::Safe => Ok(()),
        };
        let mut bytes = 0;
        for input in inputs.drain(..) {
            if outcome.is_err() {
                input.refuse(&Refusal::ShuttingDown);
                continue;
            }
            outcome = self.take(input).and_then(|taken| {
                bytes += taken;
                if bytes < self.config.round_bytes_max {
                    return Ok(());
                }
                bytes = 0;
                self.rounds()
            });
        }
        self.inputs = inputs;
        self.shared.crowd.note(requests, self.store.pending());
        errands::set_alone(self.shared.crowd.is_alone());
        outcome.and_then(|()| self.rounds())
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick += self.config.tick;
        self.store.tick();
        // The process was stopped, or starved. Time that nobody could use does not count, but for
        // a lease, which the others think is over by now.
        if self.config.store.read_mode == ReadMode::Lease {
            let lease = self.config.store.election_ticks;
            for _ in 0..lease {
                if self.next_tick <= now {
                    self.next_tick += self.config.tick;
                    self.store.tick();
                }
            }
        }
        if self.next_tick <= now {
            self.next_tick = now + self.config.tick;
        }
        // It may have come to lead since it began to stop.
        if self.stop_by.is_some() {
            self.store.resign();
        }
        self.publish();
        // Only a thread that has ended does not take these, and it has told so.
        let _ = self.workers.apply.queue.push(Work::Tick);
        if let Some(prepare) = &self.workers.prepare
            && self.shared.counts.log.wants_segment.load(Ordering::Relaxed)
        {
            let _ = prepare.queue.push(());
        }
    }

    /// Gives an input to the store. Returns how many bytes came with it.
    fn take(&mut self, input: Input<M>) -> Result<usize, NodeError> {
        match input {
            Input::Raft(from, messages) => {
                let bytes = messages.iter().map(PeerMessage::size_hint).sum();
                messages.into_iter().for_each(|message| self.store.step(from, message));
                return Ok(bytes);
            }
            Input::Propose { .. } | Input::Read { .. } if self.stop_by.is_some() => {
                input.refuse(&Refusal::ShuttingDown);
            }
            Input::Propose { region, epoch, data, callback } => {
                let bytes = data.len();
                self.store.propose(region, epoch, data, callback);
                return Ok(bytes);
            }
            Input::Read { region, query } => self.store.read(region, query),
            Input::Transfer { region, to } => {
                // Whoever asked sees in the status what came of it.
                let _ = self.store.transfer(region, to);
            }
            Input::Campaign(region) => self.store.campaign(region),
            Input::Written(batches) => {
                batches.into_iter().for_each(|batch| self.store.persisted(batch));
            }
            Input::Applied => self.applied(self.workers.desk.take_reports())?,
            Input::Lost(store) => self.store.unreachable(store),
            Input::Snapshot(from, received) => self.receive(from, received),
            Input::SnapshotSent(id, arrived) => self.store.snapshot_sent(id, arrived),
            Input::Failed(error) => return Err(error),
            Input::Stop => {
                // What came before it is still proposed.
                self.rounds()?;
                self.stop_by.get_or_insert(Instant::now() + self.config.stop_timeout);
                self.store.resign();
            }
        }
        Ok(0)
    }

    fn receive(&mut self, from: StoreId, received: Received) {
        let (region, file) = (received.message.region, received.file.clone());
        if self.store.snapshot_received(from, received) {
            log::info!("{region:?} begins with {file}");
        } else if let Some(disk) = &self.shared.snapshots {
            incoming::discard(&**disk, &file);
        }
    }

    /// Rounds until the store has nothing to hand out.
    fn rounds(&mut self) -> Result<(), NodeError> {
        while self.store.has_ready() {
            self.round()?;
        }
        self.shared.pending.store(self.store.pending(), Ordering::Relaxed);
        Ok(())
    }

    fn round(&mut self) -> Result<(), NodeError> {
        self.store.ready(&mut self.ready);
        self.send();
        for send in self.ready.snapshots.drain(..) {
            snapshots::send(&self.shared, send);
        }
        if !self.ready.roles.is_empty() {
            self.ready.roles.drain(..).for_each(|change| log::info!("{change}"));
            self.publish();
        }
        let batch = self.ready.batch.take();
        // Other threads can be at the disk while this one applies. Else applying comes first: it
        // is not to wait for the disk, which may fail besides.
        if matches!(self.workers.writer, Writer::Inline(..)) {
            self.apply()?;
            return batch.map_or(Ok(()), |batch| self.write(batch));
        }
        let written = batch.map_or(Ok(()), |batch| self.write(batch));
        self.apply()?;
        written
    }

    /// Carries the round's tasks out, or passes them on.
    fn apply(&mut self) -> Result<(), NodeError> {
        if self.ready.tasks.is_empty() {
            return Ok(());
        }
        let tasks = std::mem::take(&mut self.ready.tasks);
        let reads = tasks.iter().map(|task| match task {
            Task::Read { queries, .. } => queries.len(),
            Task::Proposed { .. }
            | Task::Apply { .. }
            | Task::Snapshot { .. }
            | Task::Install { .. } => 0,
        });
        self.shared.reading.fetch_add(reads.sum(), Ordering::Relaxed);
        let Workers { apply, desk, .. } = &self.workers;
        let here = || desk.run_here(tasks, &apply.queue, &self.shared);
        match catch_unwind(AssertUnwindSafe(here)) {
            Ok(Ok(reports)) => self.applied(reports),
            Ok(Err(tasks)) => {
                // If the thread has ended by a panic, nobody there can be answered any more.
                let _ = apply.queue.push(Work::Tasks(tasks));
                Ok(())
            }
            // The machine's, wherever it ran.
            Err(_) => Err(NodeError::Panicked("apply")),
        }
    }

    fn applied(&mut self, reports: Vec<AppliedReport>) -> Result<(), NodeError> {
        reports.into_iter().for_each(|report| self.store.applied(report));
        self.store.halted().map_or(Ok(()), |halt| Err(halt.clone().into()))
    }

    fn send(&mut self) {
        for (to, messages) in self.ready.messages.drain() {
            let count = messages.len() as u64;
            if self.shared.transport.send(to, Packet::Raft(messages)).is_err() {
                self.shared.counts.traffic.messages_dropped.fetch_add(count, Ordering::Relaxed);
                self.unreachable.push(to);
            }
        }
        for store in self.unreachable.drain(..) {
            self.store.unreachable(store);
        }
    }

    fn write(&mut self, batch: Batch) -> Result<(), NodeError> {
        match &mut self.workers.writer {
            Writer::Inline(_, backlog) => {
                backlog.push(batch);
                self.write_backlog()?;
            }
            // With nothing to write and nothing before it, there is nothing to wait for.
            Writer::Threads(..) if !batch.has_record() && self.store.batches_in_flight() == 1 => {
                self.store.persisted(batch.synced());
            }
            Writer::Threads(writer, _) => {
                // If the threads have ended, why is on its way; nothing is acknowledged meanwhile.
                let _ = writer.queue.push(batch);
            }
        }
        Ok(())
    }

    /// Writes in this thread. On a full disk the batches wait for the next batch or tick.
    fn write_backlog(&mut self) -> Result<(), NodeError> {
        let counts = &self.shared.counts.log;
        if let Writer::Inline(log, backlog) = &mut self.workers.writer
            && !backlog.is_empty()
        {
            match backlog.write(log, counts) {
                Ok(written) => {
                    written.into_iter().for_each(|batch| self.store.persisted(batch));
                    log.collect(counts)?;
                }
                Err(WalError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Shows the state of all regions to the handles.
    fn publish(&self) {
        let mut published = self.shared.published.lock();
        for status in self.store.statuses() {
            published.regions.insert(status.region.id, status);
        }
        published.counters = self.store.counters();
    }

    /// The end: refuses what was not handed on, and, if all is well, writes what waited for a
    /// record to travel with.
    pub(super) fn finish(&mut self, is_well: bool) -> Result<(), NodeError> {
        self.store.shut_down();
        // A round that panicked half-way may have left some.
        self.apply()?;
        if is_well {
            self.store.flush();
            self.round()?;
        }
        self.publish();
        Ok(())
    }

    /// The other threads, to be ended.
    pub(super) fn into_workers(self) -> Workers<M> {
        self.workers
    }
}
