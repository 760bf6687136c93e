//! What happens at each event, and what has to happen next because of it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use raft::ReadMode;
use raftstore::applier::Task;
use raftstore::codec::Decoder;
use raftstore::codec::message::{PeerMessage, decode_message, encode_message};
use raftstore::disk::sim::Crash;
use raftstore::wal::WalError;
use raftstore::{RegionId, StoreId};

use super::{Due, World, at};
use crate::sim::net::draw;
use crate::sim::trace::Happening;
use crate::sim::{Failure, Subject, Time, shadow};

impl<S: Subject> World<S> {
    pub(super) fn carry_out(&mut self, id: StoreId, due: Due) -> Result<(), Failure> {
        match due {
            Due::Tick => {
                self.tick(id);
                Ok(())
            }
            Due::Round => self.round(id),
            Due::Written => self.written(id),
            Due::Task => self.task(id),
            Due::Receive { from, bytes } => self.receive(id, from, bytes),
            Due::Stream(stream) => self.stream(id, stream),
        }
    }

    /// Where leases rest on clocks, a store that stood still finds out how late it is before it does
    /// anything else, as the node does.
    pub(super) fn catch_up(&mut self, id: StoreId) {
        let host = &mut self.hosts[at(id)];
        let Some(process) = &mut host.process else { return };
        if self.options.read_mode == ReadMode::Lease {
            while host.next_tick + host.tick <= self.now {
                process.store.tick();
                host.next_tick += host.tick;
            }
        }
    }

    fn tick(&mut self, id: StoreId) {
        let host = &mut self.hosts[at(id)];
        let Some(process) = &mut host.process else { return };
        self.trace.note(self.now, Some(id), Happening::Tick);
        process.store.tick();
        process.applier.tick(process.wal.written_bytes(), &mut self.reports);
        self.reports.drain(..).for_each(|report| process.store.applied(report));
        host.next_tick = self.now + host.tick;
        let next = host.next_tick;
        self.schedule(next, id, Due::Tick);
    }

    fn receive(&mut self, id: StoreId, from: StoreId, bytes: Bytes) -> Result<(), Failure> {
        let received = Happening::Received { from, bytes: bytes.clone() };
        self.trace.note(self.now, Some(id), received);
        let decoded = decode_message(&mut Decoder::new(bytes));
        let message = decoded.map_err(|why| self.failure(id, format!("a message: {why}")))?;
        if let Some(process) = &mut self.hosts[at(id)].process {
            process.store.step(from, message);
        }
        Ok(())
    }

    /// The loop hands out a round.
    fn round(&mut self, id: StoreId) -> Result<(), Failure> {
        let Some(process) = &mut self.hosts[at(id)].process else { return Ok(()) };
        process.round_is_due = false;
        let mut ready = std::mem::take(&mut process.ready);
        process.store.ready(&mut ready);
        let round = Happening::Round {
            messages: ready.messages.len(),
            writes: ready.batch.is_some(),
            tasks: ready.tasks.len(),
        };
        self.trace.note(self.now, Some(id), round);
        for change in ready.roles.drain(..) {
            self.trace.note(self.now, Some(id), Happening::Role(change));
        }
        if let Some(batch) = ready.batch.take() {
            process.queue(batch);
        }
        let checked = ready.tasks.iter().try_for_each(|task| self.oracles.on_task(task));
        process.tasks.extend(ready.tasks.drain(..));
        let messages: Vec<_> = ready.messages.drain().collect();
        let snapshots: Vec<_> = ready.snapshots.drain(..).collect();
        process.ready = ready;
        snapshots.into_iter().for_each(|send| self.begin_stream(id, send));
        checked.map_err(|why| self.failure(id, why))?;
        for (to, messages) in messages {
            for message in messages {
                self.send(id, to, &message)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, id: StoreId, to: StoreId, message: &PeerMessage) -> Result<(), Failure> {
        self.judge_message(id, message).map_err(|why| self.failure(id, why))?;
        let mut bytes = BytesMut::with_capacity(message.size_hint());
        encode_message(message, &mut bytes);
        let bytes = bytes.freeze();
        let arrivals = self.net.send(self.now, id, to, message);
        let sent = Happening::Sent { to, bytes: bytes.clone(), copies: arrivals.len() };
        self.trace.note(self.now, Some(id), sent);
        for arrival in arrivals {
            self.schedule(arrival, to, Due::Receive { from: id, bytes: bytes.clone() });
        }
        Ok(())
    }

    fn judge_message(&mut self, id: StoreId, message: &PeerMessage) -> Result<(), String> {
        let (region, message) = (message.region, &message.message);
        self.oracles.on_message(region, message)?;
        let host = &self.hosts[at(id)];
        host.shadow.check_promise(region, message)?;
        if shadow::is_promise(message) {
            self.promises += 1;
            // (Of a damaged disk an image may be refused, and a store that runs has not noticed.)
            let is_due = self.promises.is_multiple_of(self.options.image_every.max(1));
            if is_due && host.rotten.is_none() {
                host.check_image(&self.options)?;
            }
        }
        Ok(())
    }

    fn written(&mut self, id: StoreId) -> Result<(), Failure> {
        match self.hosts[at(id)].end_write() {
            Ok((batches, collected)) => {
                self.trace.note(self.now, Some(id), Happening::Synced { batches });
                collected.map_or(Ok(()), |stats| self.judge_log(id, stats))
            }
            Err(why) => {
                self.log_failed(id, &why);
                Ok(())
            }
        }
    }

    /// A log that failed is fatal to its store.
    fn log_failed(&mut self, id: StoreId, why: &WalError) {
        self.trace.note(self.now, Some(id), Happening::Chaos(why.to_string()));
        self.end_anyhow(id, "its log failed");
    }

    pub(super) fn end_anyhow(&mut self, id: StoreId, what: &'static str) {
        let how = if self.rng.bool() { Crash::Power } else { Crash::Process };
        self.end(id, how, what);
    }

    /// A machine that cannot go on stops its store. That is only right if its disk has failed.
    fn stop_if_halted(&mut self, id: StoreId) {
        let host = &self.hosts[at(id)];
        let halted = host.process.as_ref().and_then(|process| process.store.halted());
        if let Some(halt) = halted.filter(|_| host.may_fail) {
            let why = halt.to_string();
            self.trace.note(self.now, Some(id), Happening::Chaos(why));
            self.end_anyhow(id, "its machine halted");
        }
    }

    fn task(&mut self, id: StoreId) -> Result<(), Failure> {
        let Some(process) = &mut self.hosts[at(id)].process else { return Ok(()) };
        let (region, installs) = match process.tasks.front() {
            Some(Task::Apply { region, .. }) => (*region, false),
            Some(Task::Install { region, .. }) => (*region, true),
            _ => (RegionId::FIRST, false),
        };
        let before = process.applied(region);
        process.run_task(&mut self.reports);
        self.reports.drain(..).for_each(|report| process.store.applied(report));
        let index = process.applied(region);
        if index == before {
            return Ok(());
        }
        self.installed += u64::from(installs);
        let is_due = installs || index.is_multiple_of(self.options.state_every.max(1));
        let machine = process.applier.machine();
        let hash = || self.subject.state_hash(machine, region);
        let state = is_due.then(hash).flatten();
        self.trace.note(self.now, Some(id), Happening::Applied { index, state });
        if is_due {
            let regions: Vec<_> = process.store.statuses().map(|status| status.region).collect();
            let judged = self.oracles.on_regions(id, &regions);
            judged.map_err(|why| self.failure(id, why))?;
        }
        let judged = state.map_or(Ok(()), |s| self.oracles.on_state(region, index, s));
        judged.map_err(|why| self.failure(id, why))
    }

    /// After anything on a store: schedules what it has to do next, and lets the judges look.
    pub(super) fn after(&mut self, id: StoreId) -> Result<(), Failure> {
        match self.hosts[at(id)].begin_write() {
            Err(why) => self.log_failed(id, &why),
            Ok(None) => {}
            Ok(Some(begun)) => {
                if begun.appended {
                    let lsn = self.process(id).map_or(0, |p| p.wal.appended().0);
                    let appended = Happening::Appended { batches: begun.batches, lsn };
                    self.trace.note(self.now, Some(id), appended);
                }
                let range = if begun.must_sync { self.options.sync.clone() } else { 1..2 };
                self.schedule_in(range, id, Due::Written);
            }
        }
        self.stop_if_halted(id);
        let Some(process) = &mut self.hosts[at(id)].process else { return Ok(()) };
        let wants_round = process.store.has_ready() && !process.round_is_due;
        process.round_is_due |= wants_round;
        let wants_task = !process.tasks.is_empty() && !process.is_applying;
        process.is_applying |= wants_task;
        if wants_round {
            self.schedule_in(self.options.round.clone(), id, Due::Round);
        }
        if wants_task {
            self.schedule_in(self.options.apply.clone(), id, Due::Task);
        }
        self.judge(id)
    }

    pub(super) fn schedule_in(&mut self, range: Range<Time>, id: StoreId, due: Due) {
        let delay = draw(&mut self.rng, &range);
        self.schedule(self.now + delay, id, due);
    }

    fn judge(&mut self, id: StoreId) -> Result<(), Failure> {
        let Some(process) = &self.hosts[at(id)].process else { return Ok(()) };
        let disks: Vec<_> = self.hosts.iter().map(|host| &host.shadow).collect();
        let judged = self.oracles.on_store(id, &process.store, &process.regions, &disks);
        judged.map_err(|why| self.failure(id, why))
    }
}
