//! One region's peer on this store: the Raft core and what the store adds to it.
//!
//! Proposals of a round are gathered and proposed as one run; reads are gathered into rounds; the
//! log is compacted as far as the group has agreed (CompactLog), this store's checkpoint reaches
//! and everything is applied.
//!
//! | file | what |
//! |---|---|
//! | this | proposals, rounds, messages |
//! | `compaction` | how far the log may go |
//! | `snapshots` | sending them, and taking them |

mod compaction;
mod snapshots;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use raft::{
    Applied, Body, Entry, HardState, LogId, Message, NodeId, ProposeError, Proposed, RawNode,
};
use raft::{Index, ReadState, RoleKind, StepError, Write, Written};

use crate::applier::{AppliedReport, Task, refuse_all};
use crate::batch::GroupWrite;
use crate::codec::ENTRY_BYTES_MAX;
use crate::codec::message::PeerMessage;
use crate::command;
use crate::machine::{Callback, Machine, Refusal, Unknown};
use crate::reads::Reads;
use crate::region::{Epoch, Region, RegionId, StoreId};
use crate::snapshot::{self, Slot};
use crate::store::{Outgoing, Ready, RegionStatus, RoleChange, StoreConfig};
use compaction::Compaction;
pub(crate) use compaction::Limits;

/// Members outside of the region whose store is remembered, the latest first: as many as a change
/// of membership may add, and no more because somebody makes ids up.
const SEEN_MAX: usize = 16;

/// A peer.
pub(crate) struct Peer<M: Machine> {
    region: Arc<Region>,
    raw: RawNode,
    /// The last entry that is part of the state. The core's is ahead of it from the moment a
    /// snapshot is on disk until it is installed.
    applied: Index,
    /// Where messages came from, for members that the region does not name yet.
    seen: Vec<(NodeId, StoreId)>,
    /// This round's proposals and who waits for them.
    entries: Vec<Entry>,
    callbacks: Vec<M::Callback>,
    /// Proposals in the log: the last position of each round's, and how many they are; ascending.
    proposed: VecDeque<(LogId, usize)>,
    pending_proposals: usize,
    pub(crate) reads: Reads<M::Query>,
    /// A hard state that differs from the written one in commit only. It waits for a record to
    /// travel with.
    unwritten: Option<HardState>,
    compaction: Compaction,
    limits: Limits,
    snapshots: snapshot::Outgoing,
    /// Commands that were refused after they had been taken on.
    pub(crate) proposals_failed: u64,
    /// Reads that were not confirmed in time.
    pub(crate) reads_expired: u64,
    /// [`Peer::pending`], as the store has counted it.
    pub(crate) counted: usize,
    /// Queued in the store's dirty list.
    pub(crate) is_dirty: bool,
    /// Queued in the store's list of groups that wait for a record.
    is_noted: bool,
}

impl<M: Machine> Peer<M> {
    pub(crate) fn new(
        region: Region,
        raw: RawNode,
        slot: Slot,
        durable: Index,
        config: &StoreConfig,
    ) -> Peer<M> {
        let keep_ticks = 4 * u64::from(config.election_ticks);
        Peer {
            region: Arc::new(region),
            applied: raw.applied_index(),
            seen: Vec::new(),
            entries: Vec::new(),
            callbacks: Vec::new(),
            proposed: VecDeque::new(),
            pending_proposals: 0,
            reads: Reads::new(config.read_limits(), config.store, config.incarnation),
            unwritten: None,
            compaction: Compaction::new(raw.compacted().index, durable),
            limits: config.compaction(),
            snapshots: snapshot::Outgoing::new(slot, keep_ticks),
            raw,
            proposals_failed: 0,
            reads_expired: 0,
            counted: 0,
            is_dirty: false,
            is_noted: false,
        }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn raw(&self) -> &RawNode {
        &self.raw
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.role() == RoleKind::Leader
    }

    /// The store of a member; also of one that the region does not name (yet), if it was heard of.
    fn store_of(&self, id: NodeId) -> Option<StoreId> {
        let named = self.region.peer(id).map(|peer| peer.store);
        named.or_else(|| self.seen.iter().find(|(seen, _)| *seen == id).map(|(_, store)| *store))
    }

    fn leader_store(&self) -> Option<StoreId> {
        self.store_of(self.raw.leader()?)
    }

    pub(crate) fn not_leader(&self) -> Refusal {
        Refusal::NotLeader { leader: self.leader_store() }
    }

    /// Why a command of so many bytes, asked for in that epoch, cannot be taken on.
    pub(crate) fn objection(&self, asked: Epoch, bytes: usize) -> Option<Refusal> {
        if bytes > ENTRY_BYTES_MAX {
            return Some(Refusal::TooLarge { bytes, max: ENTRY_BYTES_MAX });
        }
        if asked != self.region.epoch {
            let current = Box::new(self.region().clone());
            return Some(Refusal::EpochNotMatch { asked, current });
        }
        (!self.is_leader()).then(|| self.not_leader())
    }

    /// Takes a command on for this round.
    pub(crate) fn gather(&mut self, data: Bytes, callback: M::Callback) {
        self.entries.push(Entry::normal(data));
        self.callbacks.push(callback);
    }

    /// Takes a message from the peer on store `from`.
    pub(crate) fn step(&mut self, from: StoreId, message: Message) -> Result<(), StepError> {
        if self.region.peer(message.from).is_none() {
            self.seen.retain(|(id, _)| *id != message.from);
            self.seen.truncate(SEEN_MAX - 1);
            self.seen.insert(0, (message.from, from));
        }
        self.raw.step(message)
    }

    pub(crate) fn persisted(&mut self, now: u64, written: Written, out: &mut Outgoing) {
        let messages = self.raw.persisted(written);
        self.route(now, messages, out);
    }

    /// Puts messages with the stores they go to, and snapshots with what is to be sent in pieces.
    fn route(&mut self, now: u64, messages: Vec<Message>, out: &mut Outgoing) {
        for message in messages {
            let (region, epoch, peer) = (self.region.id, self.region.epoch, message.to);
            let is_snapshot = matches!(message.body, Body::InstallSnapshot { .. });
            let to = self.store_of(peer);
            let message = PeerMessage { region, epoch, message };
            match to {
                Some(to) if is_snapshot => self.send_snapshot(now, to, message),
                Some(to) => out.push(to, message),
                None => {
                    out.undeliverable += 1;
                    self.raw.report_snapshot(peer, false);
                }
            }
        }
    }

    /// Entries are applied, or a checkpoint is done.
    pub(crate) fn applied(&mut self, now: u64, report: AppliedReport) {
        let last = report.applied.as_ref().and_then(Applied::last).or(report.installed);
        self.applied = last.map_or(self.applied, |last| last.index);
        if let Some(applied) = report.applied {
            self.decided(applied.last());
            if let Err(why) = self.raw.applied(applied) {
                // Every peer refuses it alike, so the group stays of one mind.
                log::warn!("{:?} a membership change has no effect: {why}", self.region.id);
            }
        }
        self.decided(report.installed);
        if let Some(region) = report.effects.region {
            self.region = Arc::new(region);
        }
        let applied = self.raw.applied_index();
        let compaction = &mut self.compaction;
        compaction.durable = compaction.durable.max(report.durable);
        compaction.agreed = compaction.agreed.max(report.effects.compact.unwrap_or(0));
        if compaction.proposed.is_some_and(|at| at <= applied) {
            compaction.proposed = None;
        }
        if let Some(view) = report.view {
            self.snapshots.took(now, view, self.raw.compacted().index);
        }
        self.compact();
    }

    /// The state machine has applied everything up to `last`. What was proposed up to there is
    /// decided; so is what was proposed in an earlier term beyond: a later term's entry has taken
    /// its place, or will (§5.3). The order of positions says both.
    fn decided(&mut self, last: Option<LogId>) {
        while let Some((_, count)) = self.proposed.pop_front_if(|(at, _)| Some(*at) <= last) {
            self.pending_proposals -= count;
        }
    }

    /// Drops what the group has agreed on, as far as this store can do without.
    fn compact(&mut self) {
        let due = self.compaction.due(&self.raw, self.snapshots.pin());
        if let Some(Ok(at)) = due.map(|to| self.raw.compact(to)) {
            self.compaction.unwritten = Some(at);
            self.snapshots.compacted(at.index);
        }
    }

    /// Time passes. A leader far ahead of the compacted part proposes to compact.
    pub(crate) fn tick(&mut self, now: u64) {
        self.raw.tick();
        let expired = self.reads.expired(now);
        self.reads_expired += expired.len() as u64;
        refuse_all(expired, &Refusal::Timeout);
        self.snapshots.tick(now, &self.raw);
        self.compact();
        if self.is_leader() {
            self.propose_compaction();
        } else {
            self.compaction.follow();
        }
    }

    fn propose_compaction(&mut self) {
        let target = self.compaction.target(&self.raw, self.snapshots.pin(), self.limits);
        let Some(to) = target else { return };
        let command = command::encode_compact_log(self.region.id, self.region.epoch, to);
        if let Ok(Proposed::Appended(at)) = self.raw.propose(command) {
            self.compaction.proposed = Some(at.index);
        }
    }

    /// Hands leadership to `to`, or to the member that lags least. Says whether there is one.
    pub(crate) fn transfer(&mut self, to: Option<StoreId>) -> bool {
        let target = match to {
            Some(store) => self.region.peer_on(store).map(|peer| peer.id),
            None => self.most_caught_up(),
        };
        if let Some(target) = target {
            self.raw.transfer_leader(target);
        }
        target.is_some()
    }

    fn most_caught_up(&self) -> Option<NodeId> {
        let me = self.raw.id();
        let progress = self.raw.status().progress;
        let voters = progress.iter().filter(|(id, pr)| *id != me && !pr.is_learner);
        voters.max_by_key(|(_, pr)| (pr.recent_active, pr.matched)).map(|(id, _)| *id)
    }

    pub(crate) fn campaign(&mut self) {
        self.raw.campaign();
    }

    /// A store could not be reached.
    pub(crate) fn unreachable(&mut self, store: StoreId) {
        if let Some(peer) = self.region.peer_on(store) {
            self.raw.report_unreachable(peer.id);
        }
    }

    /// Whether there is something to do that `ready` would hand out.
    pub(crate) fn has_ready(&self, now: u64) -> bool {
        self.raw.has_ready()
            || !self.entries.is_empty()
            || self.has_snapshot_work(now)
            || (self.raw.leader().is_some() && self.reads.has_question(now))
    }

    /// How many commands and reads of clients it has.
    pub(crate) fn pending(&self) -> usize {
        self.pending_proposals + self.callbacks.len() + self.reads.len()
    }

    /// Whether all of its own proposals are decided.
    pub(crate) fn is_settled(&self) -> bool {
        self.proposed.is_empty() && self.entries.is_empty()
    }

    /// Puts this peer's part of the round into `ready`; what it has to write is returned.
    pub(crate) fn ready(
        &mut self,
        now: u64,
        out: &mut Outgoing,
        ready: &mut Ready<M>,
    ) -> Option<GroupWrite> {
        self.propose_gathered(&mut ready.tasks);
        if self.raw.leader().is_some() {
            let raw = &mut self.raw;
            // Refused only without a leader; then it is asked again when there is one.
            self.reads.ask(now, |mark| _ = raw.read_index(mark));
        }
        if !self.raw.has_ready() {
            self.ask_for_view(&mut ready.tasks);
            return None;
        }
        let round = self.raw.ready();
        self.route(now, round.messages, out);
        self.ask_for_view(&mut ready.tasks);
        if round.soft_state.is_some() {
            self.reads.ask_again();
            ready.roles.push(self.role_change());
        }
        let region = self.region.id;
        if let Some(apply) = round.apply {
            let entries = apply.entries();
            if let Some(last) = entries.last() {
                self.compaction.grew(last.index, entries.size(), self.limits);
            }
            ready.tasks.push(Task::Apply { region, apply });
        }
        for ReadState { index, context } in round.reads {
            if let Some(queries) = self.reads.confirmed(&context) {
                ready.tasks.push(Task::Read { region, index, queries });
            }
        }
        round.write.map(|write| self.group_write(write))
    }

    fn propose_gathered(&mut self, tasks: &mut Vec<Task<M>>) {
        if self.entries.is_empty() {
            return;
        }
        let callbacks = std::mem::take(&mut self.callbacks);
        let count = callbacks.len();
        match self.raw.propose_entries(std::mem::take(&mut self.entries)) {
            Ok(Proposed::Appended(last)) => {
                let first = LogId::new(last.term, last.index + 1 - count as u64);
                self.proposed.push_back((last, count));
                self.pending_proposals += count;
                tasks.push(Task::Proposed { region: self.region.id, first, callbacks });
            }
            // Not with forwarding off; if it were, nobody here would learn what became of them.
            Ok(Proposed::Forwarded(_)) => {
                callbacks.into_iter().for_each(|c| c.unknown(Unknown::LeaderLost));
            }
            Err(why) => {
                self.proposals_failed += count as u64;
                refuse_all(callbacks, &self.refusal(why));
            }
        }
    }

    fn refusal(&self, why: ProposeError) -> Refusal {
        match why {
            ProposeError::TooMuchUncommitted => Refusal::Busy,
            // Being handed over, or removed: whoever leads next is not known yet.
            ProposeError::Transferring | ProposeError::Removed => {
                Refusal::NotLeader { leader: None }
            }
            _ => self.not_leader(),
        }
    }

    /// What goes into the round's record. A hard state that is news only in its commit waits for
    /// a record that is needed anyway.
    fn group_write(&mut self, write: Write) -> GroupWrite {
        if let Some(hard_state) = write.hard_state() {
            self.unwritten = Some(hard_state);
        }
        if let Some(snapshot) = write.snapshot() {
            self.compaction.reset(snapshot.meta.last.index);
            self.snapshots.compacted(snapshot.meta.last.index);
        }
        let hard_state = if write.must_sync() { self.unwritten.take() } else { None };
        GroupWrite { region: self.region.id, hard_state, compact: None, write: Some(write) }
    }

    /// What waits for a record to travel with, now that there is one (or it has waited enough).
    pub(crate) fn take_unwritten(&mut self) -> (Option<HardState>, Option<LogId>) {
        self.is_noted = false;
        (self.unwritten.take(), self.compaction.unwritten.take())
    }

    /// Notes whether something waits for a record to travel with; says whether that is news.
    pub(crate) fn note_unwritten(&mut self) -> bool {
        let has_unwritten = self.unwritten.is_some() || self.compaction.unwritten.is_some();
        has_unwritten && !std::mem::replace(&mut self.is_noted, true)
    }

    fn role_change(&self) -> RoleChange {
        RoleChange {
            region: self.region.id,
            peer: self.raw.id(),
            term: self.raw.term(),
            role: self.raw.role(),
            leader: self.raw.leader(),
            last: self.raw.last(),
            commit: self.raw.commit(),
        }
    }

    pub(crate) fn status(&self) -> RegionStatus {
        RegionStatus {
            region: Arc::clone(&self.region),
            peer: self.raw.id(),
            term: self.raw.term(),
            role: self.raw.role(),
            leader: self.leader_store(),
            last: self.raw.last().index,
            commit: self.raw.commit(),
            applied: self.applied,
            compacted: self.raw.compacted().index,
            pending_proposals: self.pending_proposals,
            pending_reads: self.reads.len(),
        }
    }

    /// The store stops: nobody's command or read that has not been proposed will be.
    pub(crate) fn shut_down(&mut self) {
        self.entries.clear();
        refuse_all(std::mem::take(&mut self.callbacks), &Refusal::ShuttingDown);
        refuse_all(self.reads.take_all(), &Refusal::ShuttingDown);
    }

    pub(crate) fn id(&self) -> RegionId {
        self.region.id
    }
}
