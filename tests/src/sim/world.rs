//! The clock, the queue of events, and what happens at each.

mod faults;
mod logs;
mod snapshots;
mod steps;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use raft::RoleKind;
use raftstore::applier::AppliedReport;
use raftstore::disk::sim::Crash;
use raftstore::machine::{Callback, Machine, Refusal};
use raftstore::store::RegionStatus;
use raftstore::{Epoch, RegionId, StoreId};

use crate::digest::Digest;
use crate::sim::host::{Host, Process};
use crate::sim::net::Net;
use crate::sim::oracle::Oracles;
use crate::sim::streams::Stream;
use crate::sim::trace::{Happening, Trace};
use crate::sim::{Failure, Options, StartFailure, Subject, Time};

/// Something that is due on a store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    Tick,
    Round,
    Written,
    Task,
    Receive { from: StoreId, bytes: Bytes },
    Stream(Stream),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Scheduled {
    at: Time,
    /// Breaks ties: what was scheduled first happens first.
    number: u64,
    store: StoreId,
    /// The life of the store that it belongs to; `None` for messages, which any life receives.
    incarnation: Option<u64>,
    due: Due,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

type MachineOf<S> = <S as Subject>::Machine;

/// A simulated cluster.
pub struct World<S: Subject> {
    options: Options,
    subject: S,
    now: Time,
    scheduled: BinaryHeap<Reverse<Scheduled>>,
    next_number: u64,
    hosts: Vec<Host<S::Machine>>,
    net: Net,
    /// For how long things take.
    rng: fastrand::Rng,
    trace: Trace,
    oracles: Oracles,
    promises: u64,
    reports: Vec<AppliedReport>,
    /// Counts the snapshots that were begun to be sent.
    streams: u64,
    /// Snapshots that replaced a state, over all lives of all stores.
    installed: u64,
    /// Damage at rest, by kind, and what came of it.
    rot: BTreeMap<&'static str, u64>,
}

impl<S: Subject> World<S> {
    /// A cluster with empty disks whose stores all start now.
    ///
    /// # Errors
    /// If a store does not start.
    pub fn new(options: Options, subject: S) -> Result<World<S>, Failure> {
        let mut rng = fastrand::Rng::with_seed(options.seed);
        let mut hosts = Vec::new();
        for id in (1..=options.stores).map(StoreId) {
            let drift = options.tick * u64::from(options.drift_percent.min(50)) / 100;
            let tick = rng.u64(options.tick - drift..=options.tick + drift).max(1);
            let host = Host::new(id, tick, rng.u64(..));
            host.disk.set_direct(options.direct_logs);
            hosts.push(host);
        }
        let options_trace = options.trace_events;
        let mut world = World {
            net: Net::new(options.net.clone(), rng.u64(..)),
            options,
            subject,
            now: 0,
            scheduled: BinaryHeap::new(),
            next_number: 0,
            hosts,
            rng,
            trace: Trace::new(options_trace),
            oracles: Oracles::default(),
            promises: 0,
            reports: Vec::new(),
            streams: 0,
            installed: 0,
            rot: BTreeMap::new(),
        };
        for id in world.stores() {
            world.start(id)?;
        }
        Ok(world)
    }

    // ---- Looking ----

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// What was chosen about the cluster.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// All stores, running or not.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreId> {
        (1..=self.options.stores).map(StoreId).collect()
    }

    /// What happened.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The judges.
    #[must_use]
    pub fn oracles(&self) -> &Oracles {
        &self.oracles
    }

    /// A client was told that the command with that digest took effect.
    ///
    /// # Errors
    /// If it did not.
    pub fn acknowledged(&mut self, digest: u64) -> Result<(), Failure> {
        let judged = self.oracles.on_answer(digest);
        judged.map_err(|what| Failure { at: self.now, store: None, what })
    }

    /// The network.
    #[must_use]
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// A store.
    #[must_use]
    pub fn host(&self, store: StoreId) -> &Host<MachineOf<S>> {
        &self.hosts[at(store)]
    }

    fn process(&self, store: StoreId) -> Option<&Process<MachineOf<S>>> {
        self.hosts.get(at(store))?.process.as_ref()
    }

    /// Whether a store runs.
    #[must_use]
    pub fn is_running(&self, store: StoreId) -> bool {
        self.process(store).is_some()
    }

    /// What a running store says of a region.
    #[must_use]
    pub fn status(&self, store: StoreId, region: RegionId) -> Option<RegionStatus> {
        self.process(store)?.store.status(region)
    }

    /// The state machine of a running store.
    #[must_use]
    pub fn machine(&self, store: StoreId) -> Option<&MachineOf<S>> {
        Some(self.process(store)?.applier.machine())
    }

    /// The store that leads a region in the highest term.
    #[must_use]
    pub fn leader(&self, region: RegionId) -> Option<StoreId> {
        let led = |&id: &StoreId| self.status(id, region).filter(|s| s.role == RoleKind::Leader);
        let leaders = self.stores().into_iter().filter(|id| led(id).is_some());
        leaders.max_by_key(|id| led(id).map(|status| status.term))
    }

    /// Whether nothing is under way for a region but heartbeats: one running store leads, all
    /// running stores have applied all there is, nobody waits for an answer.
    #[must_use]
    pub fn is_settled(&self, region: RegionId) -> bool {
        let Some(leader) = self.leader(region).and_then(|id| self.status(id, region)) else {
            return false;
        };
        let is_level = |id: &StoreId| {
            let (Some(process), Some(status)) = (self.process(*id), self.status(*id, region))
            else {
                return true;
            };
            let indexes = [status.last, status.commit, status.applied, process.applied(region)];
            process.is_idle()
                && status.term == leader.term
                && status.leader == leader.leader
                && indexes.iter().all(|&index| index == leader.last)
                && status.pending_proposals + status.pending_reads == 0
                && process.applier.held() == 0
        };
        self.stores().iter().all(is_level)
    }

    /// Whether a store with nothing to do has nothing on its account: no bytes, reads, proposals or
    /// batches. Asked of a settled cluster only.
    ///
    /// # Errors
    /// With what is left over.
    pub fn check_idle(&self, id: StoreId, region: RegionId) -> Result<(), String> {
        let Some(process) = self.process(id) else { return Ok(()) };
        let raw = process.store.raw(region).map(raft::RawNode::status);
        let counts = [
            ("uncommitted bytes", raw.as_ref().map_or(0, |status| status.uncommitted_bytes)),
            ("reads", raw.as_ref().map_or(0, |status| status.pending_reads as u64)),
            ("requests", process.store.pending() as u64),
            ("batches", process.store.batches_in_flight()),
            ("held back reports", process.applier.held() as u64),
        ];
        match counts.iter().find(|(_, count)| *count > 0) {
            Some((what, count)) => Err(format!("{id:?} is idle with {count} {what}: {raw:?}")),
            None => Ok(()),
        }
    }

    // ---- Doing ----

    fn schedule(&mut self, at: Time, store: StoreId, due: Due) {
        let is_message = match &due {
            Due::Receive { .. } => true,
            Due::Stream(stream) => stream.comes_from_outside(),
            Due::Tick | Due::Round | Due::Written | Due::Task => false,
        };
        let incarnation = (!is_message).then(|| self.hosts[self::at(store)].incarnation);
        self.next_number += 1;
        let number = self.next_number;
        self.scheduled.push(Reverse(Scheduled { at, number, store, incarnation, due }));
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, what: impl Into<String>) {
        self.trace.note(self.now, None, Happening::Chaos(what.into()));
    }

    fn failure(&self, store: StoreId, what: String) -> Failure {
        Failure { at: self.now, store: Some(store), what }
    }

    /// Starts a store that does not run, from what its disk has. Whether it runs now: not if its
    /// disk fails or is damaged, as it may have been told to.
    ///
    /// # Errors
    /// If it does not start though its disk is sound.
    pub fn start(&mut self, id: StoreId) -> Result<bool, Failure> {
        if self.is_running(id) {
            return Ok(true);
        }
        let host = &mut self.hosts[at(id)];
        self.oracles.restarted(id);
        let recovered = match host.start(&self.options, &mut self.subject) {
            Ok(recovered) => recovered,
            Err(StartFailure::Violated(why)) => return Err(self.failure(id, why)),
            Err(StartFailure::Damaged(why)) => return self.refused(id, why),
            Err(StartFailure::Disk(why)) => {
                if let Some(rotten) = &mut host.rotten {
                    rotten.refused = true;
                }
                host.crash(if self.rng.bool() { Crash::Power } else { Crash::Process });
                self.trace.note(self.now, Some(id), Happening::Chaos(why));
                return Ok(false);
            }
        };
        if let Some(rotten) = &mut host.rotten {
            (rotten.before, rotten.refused) = (None, false);
        }
        let started = Happening::Started {
            incarnation: host.incarnation,
            last: recovered.groups.get(&RegionId::FIRST).map_or(0, |log| log.last),
            torn: recovered.torn.map_or(0, |torn| torn.bytes),
        };
        let first_tick = self.now + self.rng.u64(1..=host.tick);
        host.next_tick = first_tick;
        self.trace.note(self.now, Some(id), started);
        self.schedule(first_tick, id, Due::Tick);
        self.after(id)?;
        Ok(true)
    }

    /// Ends a store's process as `how` says.
    pub fn crash(&mut self, id: StoreId, how: Crash) {
        let what = match how {
            Crash::Process => "killed",
            Crash::Power => "power lost",
        };
        self.end(id, how, what);
    }

    fn end(&mut self, id: StoreId, how: Crash, what: &'static str) {
        if self.is_running(id) {
            self.break_streams(id);
            self.hosts[at(id)].crash(how);
            self.trace.note(self.now, Some(id), Happening::Stopped { how: what });
        }
    }

    /// A store's machine stands still until `until`, and then goes on as if nothing had been.
    pub fn pause(&mut self, id: StoreId, until: Time) {
        self.hosts[at(id)].paused_until = until;
    }

    /// A client offers a command to a store.
    ///
    /// # Errors
    /// If an oracle objects to what follows.
    pub fn propose(
        &mut self,
        id: StoreId,
        region: RegionId,
        epoch: Epoch,
        data: Bytes,
        callback: <MachineOf<S> as Machine>::Callback,
    ) -> Result<(), Failure> {
        let asked = Happening::Asked { write: true, request: Digest::of(&data) };
        self.trace.note(self.now, Some(id), asked);
        match &mut self.hosts[at(id)].process {
            Some(process) => process.store.propose(region, epoch, data, callback),
            None => callback.refuse(Refusal::ShuttingDown),
        }
        self.after(id)
    }

    /// A client asks a store for something that changes nothing.
    ///
    /// # Errors
    /// If an oracle objects to what follows.
    pub fn read(
        &mut self,
        id: StoreId,
        region: RegionId,
        query: <MachineOf<S> as Machine>::Query,
    ) -> Result<(), Failure> {
        self.trace.note(self.now, Some(id), Happening::Asked { write: false, request: 0 });
        match &mut self.hosts[at(id)].process {
            Some(process) => process.store.read(region, query),
            None => query.refuse(Refusal::ShuttingDown),
        }
        self.after(id)
    }

    /// Asks the leader of a region to hand over to `to`.
    ///
    /// # Errors
    /// If an oracle objects to what follows.
    pub fn transfer(&mut self, region: RegionId, to: StoreId) -> Result<(), Failure> {
        let Some(leader) = self.leader(region) else { return Ok(()) };
        if let Some(process) = &mut self.hosts[at(leader)].process {
            // A refusal is as good as a transfer that comes to nothing.
            let _ = process.store.transfer(region, Some(to));
        }
        self.after(leader)
    }

    /// A store stands for election now.
    ///
    /// # Errors
    /// If an oracle objects to what follows.
    pub fn campaign(&mut self, id: StoreId, region: RegionId) -> Result<(), Failure> {
        if let Some(process) = &mut self.hosts[at(id)].process {
            process.store.campaign(region);
        }
        self.after(id)
    }

    // ---- Time ----

    /// Lets everything happen that is due until `until`, and makes it that time.
    ///
    /// # Errors
    /// With the first thing that does not hold.
    pub fn run_until(&mut self, until: Time) -> Result<(), Failure> {
        while self.scheduled.peek().is_some_and(|next| next.0.at <= until) {
            self.step()?;
        }
        self.now = until.max(self.now);
        Ok(())
    }

    /// Lets the next thing happen if it is due until `until`; otherwise makes it that time.
    ///
    /// # Errors
    /// With the first thing that does not hold.
    pub fn advance(&mut self, until: Time) -> Result<(), Failure> {
        if self.scheduled.peek().is_some_and(|next| next.0.at <= until) {
            return self.step();
        }
        self.now = until.max(self.now);
        Ok(())
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    /// If an oracle objects to what follows.
    pub fn step(&mut self) -> Result<(), Failure> {
        let Some(Reverse(next)) = self.scheduled.pop() else { return Ok(()) };
        self.now = next.at.max(self.now);
        let host = &self.hosts[at(next.store)];
        if host.process.is_none() || next.incarnation.is_some_and(|of| of != host.incarnation) {
            return Ok(());
        }
        if host.paused_until > self.now {
            let later = host.paused_until;
            self.schedule(later, next.store, next.due);
            return Ok(());
        }
        self.catch_up(next.store);
        self.carry_out(next.store, next.due)?;
        self.after(next.store)
    }
}

impl<S: Subject> Drop for World<S> {
    /// Whoever still waits for an answer gets one.
    fn drop(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.crash(Crash::Process));
    }
}

/// Where a store is in the list of hosts.
fn at(store: StoreId) -> usize {
    usize::try_from(store.0).unwrap_or(usize::MAX).wrapping_sub(1)
}
