//! The store: many Raft groups as one deterministic step function.
//!
//! Inputs are method calls; the output is one [`Ready`] a round, over all groups that have
//! something to say. No thread, clock, socket or file is in here: the node's threads and the
//! simulator drive the same code.
//!
//! ```text
//! step propose read tick persisted applied transfer unreachable snapshot_received
//!                       │
//!                 Store::ready ─► messages   leave now, beside the write
//!                              ├► batch      one log record over all groups; back by persisted()
//!                              ├► tasks      for the applier, in order; back by applied()
//!                              ├► snapshots  to be sent in pieces; back by snapshot_sent()
//!                              └► roles      for the log
//! ```
//!
//! What holds:
//! - a command is checked (region, epoch, size) before it is proposed, and its callback is either
//!   handed on with its position or refused, never both;
//! - the groups of one round share one record, so one sync;
//! - batches are reported in the order they were handed out;
//! - a group with something to hand out is in the dirty list: at rest no group has any (P11).

mod config;
mod ready;
mod snapshots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{Body, Index, NodeId, RawNode, RoleKind, StepError};

use crate::applier::{AppliedReport, Task};
use crate::batch::{Batch, GroupWrite, GroupWritten, WrittenBatch};
use crate::codec::message::PeerMessage;
use crate::machine::{Callback, Halt, Machine, Refusal};
use crate::peer::Peer;
use crate::region::{Epoch, Region, RegionId, StoreId};
use crate::snapshot::Slot;

use snapshots::install;

pub use config::StoreConfig;
pub use ready::{Counters, Outgoing, Ready, RegionStatus, RoleChange};

/// Ticks after which what waits for a record to travel with gets one of its own.
const UNWRITTEN_TICKS_MAX: u64 = 20;

/// All groups of one store.
pub struct Store<M: Machine> {
    config: StoreConfig,
    peers: BTreeMap<RegionId, Peer<M>>,
    /// Groups with something to hand out, each once.
    dirty: Vec<RegionId>,
    /// Groups whose commit or compaction waits for a record to travel with, each once.
    unwritten: Vec<RegionId>,
    unwritten_since: u64,
    /// They are not to wait any longer.
    flush: bool,
    /// Messages that came out between rounds: promises whose writes are on disk.
    outgoing: Outgoing,
    /// Tasks that came out between rounds, ahead of those of the next.
    tasks: Vec<Task<M>>,
    /// Snapshots that are being sent.
    sending: usize,
    now: u64,
    next_batch: u64,
    next_written: u64,
    /// Commands and reads of clients in all peers.
    pending: usize,
    counters: Counters,
    halted: Option<Halt>,
}

impl<M: Machine> Store<M> {
    pub(crate) fn new(config: StoreConfig) -> Store<M> {
        Store {
            config,
            peers: BTreeMap::new(),
            dirty: Vec::new(),
            unwritten: Vec::new(),
            unwritten_since: 0,
            flush: false,
            outgoing: Outgoing::default(),
            tasks: Vec::new(),
            sending: 0,
            now: 0,
            next_batch: 1,
            next_written: 1,
            pending: 0,
            counters: Counters::default(),
            halted: None,
        }
    }

    pub(crate) fn open(&mut self, region: Region, raw: RawNode, slot: Slot, durable: Index) {
        let id = region.id;
        self.peers.insert(id, Peer::new(region, raw, slot, durable, &self.config));
        self.refresh(id);
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// After every change of a peer: queues it for the next round if it has something to hand
    /// out, and counts its clients.
    fn refresh(&mut self, region: RegionId) {
        let Some(peer) = self.peers.get_mut(&region) else { return };
        let pending = peer.pending();
        self.pending = self.pending - peer.counted + pending;
        peer.counted = pending;
        if !peer.is_dirty && peer.has_ready(self.now) {
            peer.is_dirty = true;
            self.dirty.push(region);
        }
    }

    /// Takes a message from a peer on store `from`. One that is for nobody here, or that the core
    /// refuses, is dropped and counted.
    pub fn step(&mut self, from: StoreId, message: PeerMessage) {
        let PeerMessage { region, message, .. } = message;
        let known = self.peers.get_mut(&region);
        // They come in pieces, by [`Store::snapshot_received`].
        let known = known.filter(|_| !matches!(message.body, Body::InstallSnapshot { .. }));
        let sender = message.from;
        match known.map(|peer| peer.step(from, message)) {
            Some(Ok(())) => self.counters.messages_in += 1,
            Some(Err(why)) => self.refused(region, sender, &why),
            None => self.counters.messages_refused += 1,
        }
        self.refresh(region);
    }

    fn refused(&mut self, region: RegionId, sender: NodeId, why: &StepError) {
        self.counters.messages_refused += 1;
        if let StepError::ConflictsWithCommitted { .. } | StepError::BeyondLog { .. } = why {
            log::error!("{region:?} {sender:?} or this store has lost data: {why}");
        }
    }

    /// Takes a command on: `data` is an envelope ([`crate::command`]) that names the same `region`
    /// and `epoch`. The callback is refused at once if the command cannot be proposed; otherwise
    /// it is handed to the machine with its position, or refused, by the next round.
    pub fn propose(&mut self, region: RegionId, epoch: Epoch, data: Bytes, callback: M::Callback) {
        let why = match self.peers.get_mut(&region) {
            None => Refusal::RegionNotFound(region),
            Some(peer) => match peer.objection(epoch, data.len()) {
                Some(why) => why,
                None => {
                    peer.gather(data, callback);
                    self.counters.proposals += 1;
                    return self.refresh(region);
                }
            },
        };
        self.counters.proposals_failed += 1;
        callback.refuse(why);
    }

    /// Takes a read on. It runs on this store, whoever leads, once everything is applied that was
    /// committed when it arrived.
    pub fn read(&mut self, region: RegionId, query: M::Query) {
        let Some(peer) = self.peers.get_mut(&region) else {
            return query.refuse(Refusal::RegionNotFound(region));
        };
        peer.reads.push(query, self.now);
        self.counters.reads += 1;
        self.refresh(region);
    }

    /// Time passes, by one tick.
    pub fn tick(&mut self) {
        self.now += 1;
        let regions: Vec<RegionId> = self.peers.keys().copied().collect();
        for region in regions {
            if let Some(peer) = self.peers.get_mut(&region) {
                peer.tick(self.now);
                self.note_unwritten(region);
            }
            self.refresh(region);
        }
    }

    /// A batch is on disk.
    ///
    /// # Panics
    /// If an earlier batch was not reported: a later one is durable only if those before it are.
    pub fn persisted(&mut self, written: WrittenBatch) {
        assert_eq!(written.number, self.next_written, "batches are reported in order");
        self.next_written += 1;
        for GroupWritten { region, written, snapshot } in written.written {
            self.tasks.extend(snapshot.map(|snapshot| install(region, &snapshot)));
            if let Some(peer) = self.peers.get_mut(&region) {
                peer.persisted(self.now, written, &mut self.outgoing);
            }
            self.refresh(region);
        }
    }

    /// How many batches are handed out and not yet reported.
    #[must_use]
    pub fn batches_in_flight(&self) -> u64 {
        self.next_batch - self.next_written
    }

    /// The applier has applied something, or made it durable.
    ///
    /// Afterwards the shell has to look whether the machine can go on: [`Store::halted`].
    pub fn applied(&mut self, report: AppliedReport) {
        let region = report.region;
        if let Some(halt) = &report.effects.halt {
            log::error!("{halt}");
            self.halted = Some(halt.clone());
        }
        self.counters.snapshots_installed += u64::from(report.installed.is_some());
        if let Some(peer) = self.peers.get_mut(&region) {
            peer.applied(self.now, report);
            self.note_unwritten(region);
        }
        self.refresh(region);
    }

    /// Why the state machine cannot go on, if it can't. The shell has to stop the store at once,
    /// without another acknowledgement.
    #[must_use]
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// How many commands and reads of clients have not been decided, or handed to the applier.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Queues `region` for the next record if it has something that waits for one.
    fn note_unwritten(&mut self, region: RegionId) {
        if let Some(peer) = self.peers.get_mut(&region)
            && peer.note_unwritten()
        {
            if self.unwritten.is_empty() {
                self.unwritten_since = self.now;
            }
            self.unwritten.push(region);
        }
    }

    /// Asks that leadership of `region` goes to `to`, or, for `None`, to the member that lags
    /// least. Nothing is promised: it may come to nothing, and the leader then goes on.
    ///
    /// # Errors
    /// If the region is unknown or this store does not lead it.
    pub fn transfer(&mut self, region: RegionId, to: Option<StoreId>) -> Result<(), Refusal> {
        let peer = self.peers.get_mut(&region).ok_or(Refusal::RegionNotFound(region))?;
        if !peer.is_leader() {
            return Err(peer.not_leader());
        }
        peer.transfer(to);
        self.refresh(region);
        Ok(())
    }

    /// Begins to hand over every group that this store leads.
    pub fn resign(&mut self) {
        let led: Vec<_> = self.peers.values().filter(|p| p.is_leader()).map(Peer::id).collect();
        for region in led {
            // It leads, so it cannot be refused.
            let _ = self.transfer(region, None);
        }
    }

    /// Whether nobody would notice this store stop: it leads no group of more than itself, and
    /// all its proposals are decided.
    #[must_use]
    pub fn is_resigned(&self) -> bool {
        let is_needed = |p: &Peer<M>| p.is_leader() && p.region().peers.len() > 1;
        self.peers.values().all(|p| !is_needed(p) && p.is_settled())
    }

    /// Starts an election in `region`, without waiting for a timeout.
    pub fn campaign(&mut self, region: RegionId) {
        if let Some(peer) = self.peers.get_mut(&region) {
            peer.campaign();
        }
        self.refresh(region);
    }

    /// Messages to `store` could not be delivered.
    pub fn unreachable(&mut self, store: StoreId) {
        for peer in self.peers.values_mut() {
            peer.unreachable(store);
        }
    }

    /// Whether [`Store::ready`] would hand something out.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.dirty.is_empty()
            || !self.outgoing.is_empty()
            || !self.tasks.is_empty()
            || self.is_flush_due()
    }

    fn is_flush_due(&self) -> bool {
        let waited = self.now >= self.unwritten_since + UNWRITTEN_TICKS_MAX;
        !self.unwritten.is_empty() && (waited || self.flush)
    }

    /// Lets the next round write what would otherwise wait for a record to travel with, so that a
    /// restart after a clean stop has nothing to learn again.
    pub fn flush(&mut self) {
        self.flush = true;
    }

    /// Gathers one round over all dirty groups into `ready`, which the shell has emptied.
    pub fn ready(&mut self, ready: &mut Ready<M>) {
        debug_assert!(ready.batch.is_none(), "the last round's batch was taken");
        // Before what the groups hand out now, which rests on it.
        ready.tasks.append(&mut self.tasks);
        let mut groups = Vec::new();
        let mut dirty = std::mem::take(&mut self.dirty);
        for region in dirty.drain(..) {
            let Some(peer) = self.peers.get_mut(&region) else { continue };
            peer.is_dirty = false;
            let before = (self.outgoing.len(), ready.tasks.len(), ready.roles.len());
            let write = peer.ready(self.now, &mut self.outgoing, ready);
            let after = (self.outgoing.len(), ready.tasks.len(), ready.roles.len());
            let began = self.begin_snapshots(region, ready);
            let moved = write.is_some() || before != after || began;
            self.note_unwritten(region);
            groups.extend(write);
            // A group whose log cannot be read has something to hand out and cannot; it is asked
            // again after the next input or tick.
            if moved {
                self.refresh(region);
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
        std::mem::swap(&mut self.outgoing, &mut ready.messages);
        ready.batch = self.batch(groups);
        self.count(ready);
    }

    /// The round's batch. If it has a record anyway, or enough time has passed, what waited for
    /// one goes with it.
    fn batch(&mut self, groups: Vec<GroupWrite>) -> Option<Batch> {
        let mut batch = Batch { number: self.next_batch, groups };
        if !self.unwritten.is_empty() && (batch.has_record() || self.is_flush_due()) {
            self.flush = false;
            for region in std::mem::take(&mut self.unwritten) {
                let Some(peer) = self.peers.get_mut(&region) else { continue };
                let (hard_state, compact) = peer.take_unwritten();
                if hard_state.is_some() || compact.is_some() {
                    batch.add(region, hard_state, compact);
                }
            }
        }
        if batch.groups.is_empty() {
            return None;
        }
        self.next_batch += 1;
        Some(batch)
    }

    fn count(&mut self, ready: &Ready<M>) {
        let counters = &mut self.counters;
        counters.rounds += 1;
        counters.messages_out += ready.messages.len() as u64;
        counters.batches += u64::from(ready.batch.is_some());
        for task in &ready.tasks {
            if let Task::Apply { apply, .. } = task {
                counters.committed += apply.entries().len() as u64;
            }
        }
        let won = ready.roles.iter().filter(|change| change.role == RoleKind::Leader);
        counters.elections_won += won.count() as u64;
        let led = ready.roles.iter().filter(|change| change.leader.is_some());
        counters.leader_changes += led.count() as u64;
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for peer in self.peers.values() {
            counters.proposals_failed += peer.proposals_failed;
            counters.reads_expired += peer.reads_expired;
        }
        counters
    }

    /// The state of one region.
    #[must_use]
    pub fn status(&self, region: RegionId) -> Option<RegionStatus> {
        self.peers.get(&region).map(Peer::status)
    }

    /// The state of all regions, by ascending id.
    pub fn statuses(&self) -> impl Iterator<Item = RegionStatus> {
        self.peers.values().map(Peer::status)
    }

    /// The core of `region`'s peer, for checks from outside.
    #[must_use]
    pub fn raw(&self, region: RegionId) -> Option<&RawNode> {
        self.peers.get(&region).map(Peer::raw)
    }

    /// The store stops: commands and reads that were not handed on yet are refused.
    pub fn shut_down(&mut self) {
        self.peers.values_mut().for_each(Peer::shut_down);
    }
}
