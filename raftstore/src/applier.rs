//! Between the store and the state machine: puts what the loop decided to the machine, in order.
//!
//! Reads come with the index they must see. One that is ahead of what is applied is held until
//! that is, or until its deadline in ticks. Like the store it has no thread or clock: a shell
//! gives it tasks and ticks, and carries its reports back to the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::{Applied, Apply, Index, LogId};

use crate::machine::{Callback, Effects, Machine, Refusal};
use crate::region::{Region, RegionId};
use crate::snapshot::SnapshotSource;

/// Something for the state machine, in the order the store handed it out.
pub enum Task<M: Machine> {
    /// Commands of these callbacks were appended, the first at `first`, without a gap.
    Proposed {
        /// The region.
        region: RegionId,
        /// Where the first of them is.
        first: LogId,
        /// Who waits for each.
        callbacks: Vec<M::Callback>,
    },
    /// Committed entries.
    Apply {
        /// The region.
        region: RegionId,
        /// The entries; to be returned as applied.
        apply: Apply,
    },
    /// Reads that may run once `index` is applied.
    Read {
        /// The region.
        region: RegionId,
        /// What they must see.
        index: Index,
        /// The reads.
        queries: Vec<M::Query>,
    },
    /// A view of the region is wanted, for a follower whose next entry is compacted.
    Snapshot {
        /// The region.
        region: RegionId,
    },
    /// The log has been reset to a snapshot: the state has to follow.
    Install {
        /// The region.
        region: RegionId,
        /// Where the log begins now.
        last: LogId,
        /// The file with the state there.
        file: String,
    },
}

/// What applying did, for the store.
#[derive(Debug)]
#[must_use = "the store waits for it"]
pub struct AppliedReport {
    /// The region.
    pub(crate) region: RegionId,
    /// The entries that are applied; `None` if only `durable` is news.
    pub(crate) applied: Option<Applied>,
    /// What they changed.
    pub(crate) effects: Effects,
    /// The last index in a durable checkpoint.
    pub(crate) durable: Index,
    /// The last entry of a snapshot that was installed.
    pub(crate) installed: Option<LogId>,
    /// The answer to [`Task::Snapshot`].
    pub(crate) view: Option<View>,
}

/// A view that was taken, if the machine has one.
pub(crate) type View = Option<Arc<dyn SnapshotSource>>;

impl AppliedReport {
    fn new(region: RegionId, durable: Index) -> AppliedReport {
        let effects = Effects::default();
        AppliedReport { region, applied: None, effects, durable, installed: None, view: None }
    }
}

struct HeldReads<Q> {
    deadline: u64,
    queries: Vec<Q>,
}

/// What the applier knows of one region.
struct Applying<Q> {
    applied: Index,
    /// The durable index last reported.
    durable: Index,
    /// By the index they wait for, which is above `applied`.
    held: BTreeMap<Index, Vec<HeldReads<Q>>>,
}

/// Puts tasks to a state machine.
pub struct Applier<M: Machine> {
    machine: M,
    regions: BTreeMap<RegionId, Applying<M::Query>>,
    /// Ticks a read is held at most.
    hold_ticks: u64,
    now: u64,
    /// Reads in all regions' `held`.
    held: usize,
    /// The machine cannot go on.
    is_halted: bool,
    /// Bytes in the log when the durable state last moved.
    log_bytes_durable: u64,
}

impl<M: Machine> Applier<M> {
    pub(crate) fn new(machine: M, hold_ticks: u64) -> Applier<M> {
        Applier {
            machine,
            regions: BTreeMap::new(),
            hold_ticks,
            now: 0,
            held: 0,
            is_halted: false,
            log_bytes_durable: 0,
        }
    }

    /// Takes on a region whose durable state ends at `applied`.
    pub(crate) fn open(&mut self, region: RegionId, applied: Index) {
        let durable = self.machine.durable(region);
        self.regions.insert(region, Applying { applied, durable, held: BTreeMap::new() });
    }

    /// Takes on a region that is new on this store.
    pub(crate) fn create(&mut self, region: Region) {
        let id = region.id;
        self.machine.create(region);
        self.open(id, 0);
    }

    /// The state machine, to look at.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The state machine, for what a shell has to do with it beside applying.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Carries out one task. What the store has to know of it goes to `reports`.
    ///
    /// Once the machine has said that it cannot go on, nothing is applied or read any more.
    pub fn run(&mut self, task: Task<M>, reports: &mut Vec<AppliedReport>) {
        match task {
            Task::Proposed { region, first, callbacks } => {
                for (callback, index) in callbacks.into_iter().zip(first.index..) {
                    self.machine.proposed(region, LogId::new(first.term, index), callback);
                }
            }
            Task::Apply { region, apply } => reports.extend(self.apply(region, apply)),
            Task::Read { region, index, queries } => self.read(region, index, queries),
            Task::Snapshot { region } => reports.extend(self.view(region)),
            Task::Install { region, last, file } => {
                reports.extend(self.install(region, last, &file));
            }
        }
    }

    fn view(&mut self, region: RegionId) -> Option<AppliedReport> {
        let durable = self.regions.get(&region)?.durable;
        let view = if self.is_halted { None } else { self.machine.snapshot(region) };
        Some(AppliedReport { view: Some(view), ..AppliedReport::new(region, durable) })
    }

    fn install(&mut self, region: RegionId, last: LogId, file: &str) -> Option<AppliedReport> {
        let state = self.regions.get_mut(&region).filter(|_| !self.is_halted)?;
        assert!(last.index > state.applied, "a snapshot never takes back what is applied");
        let effects = self.machine.install(region, last, file);
        if effects.halt.is_some() {
            self.is_halted = true;
            return Some(AppliedReport { effects, ..AppliedReport::new(region, state.durable) });
        }
        let durable = self.moved(region, last.index);
        let installed = Some(last);
        Some(AppliedReport { effects, installed, ..AppliedReport::new(region, durable) })
    }

    /// The state of `region` is that of `applied` now: reads that waited for it run. Returns how
    /// much is durable.
    fn moved(&mut self, region: RegionId, applied: Index) -> Index {
        let durable = self.machine.durable(region);
        let Some(state) = self.regions.get_mut(&region) else { return durable };
        (state.applied, state.durable) = (applied, durable);
        while let Some(due) = state.held.first_entry().filter(|e| *e.key() <= applied) {
            for reads in due.remove() {
                self.held -= reads.queries.len();
                self.machine.read(region, reads.queries);
            }
        }
        durable
    }

    fn apply(&mut self, region: RegionId, apply: Apply) -> Option<AppliedReport> {
        let state = self.regions.get_mut(&region).filter(|_| !self.is_halted)?;
        let entries = apply.entries();
        if let Some(first) = entries.first() {
            assert_eq!(first, state.applied + 1, "entries are applied in order, each once");
        }
        let effects = self.machine.apply(region, entries);
        if effects.halt.is_some() {
            self.is_halted = true;
            return Some(AppliedReport { effects, ..AppliedReport::new(region, state.durable) });
        }
        let applied = entries.last().map_or(state.applied, |last| last.index);
        let durable = self.moved(region, applied);
        let applied = Some(apply.done());
        Some(AppliedReport { applied, effects, ..AppliedReport::new(region, durable) })
    }

    fn read(&mut self, region: RegionId, index: Index, queries: Vec<M::Query>) {
        match self.regions.get_mut(&region) {
            _ if self.is_halted => refuse_all(queries, &Refusal::ShuttingDown),
            Some(state) if index <= state.applied => self.machine.read(region, queries),
            Some(state) => {
                self.held += queries.len();
                let deadline = self.now + self.hold_ticks;
                state.held.entry(index).or_default().push(HeldReads { deadline, queries });
            }
            None => refuse_all(queries, &Refusal::RegionNotFound(region)),
        }
    }

    /// Time passes: reads held for too long are refused, and the machine may start a checkpoint.
    ///
    /// `log_bytes` is how many bytes were ever appended to the store's log.
    pub fn tick(&mut self, log_bytes: u64, reports: &mut Vec<AppliedReport>) {
        self.now += 1;
        for state in self.regions.values_mut() {
            state.held.retain(|_, held| {
                for late in held.extract_if(.., |reads| reads.deadline <= self.now) {
                    self.held -= late.queries.len();
                    refuse_all(late.queries, &Refusal::Timeout);
                }
                !held.is_empty()
            });
        }
        if self.is_halted {
            return;
        }
        self.machine.maintain(log_bytes.saturating_sub(self.log_bytes_durable));
        for (&region, state) in &mut self.regions {
            let durable = self.machine.durable(region);
            if durable != state.durable {
                state.durable = durable;
                self.log_bytes_durable = log_bytes;
                reports.push(AppliedReport::new(region, durable));
            }
        }
    }

    /// The last index of a region that is in a durable checkpoint.
    pub(crate) fn durable(&self, region: RegionId) -> Index {
        self.machine.durable(region)
    }

    /// How many reads are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The last applied index of a region.
    #[must_use]
    pub fn applied(&self, region: RegionId) -> Option<Index> {
        self.regions.get(&region).map(|state| state.applied)
    }

    /// The store stops: everybody who still waits is answered.
    pub fn shut_down(&mut self) {
        self.held = 0;
        for state in self.regions.values_mut() {
            for reads in std::mem::take(&mut state.held).into_values().flatten() {
                refuse_all(reads.queries, &Refusal::ShuttingDown);
            }
        }
        self.machine.shut_down();
    }
}

/// Refuses all of `callbacks` for the same reason.
pub(crate) fn refuse_all<C: Callback>(callbacks: Vec<C>, why: &Refusal) {
    for callback in callbacks {
        callback.refuse(why.clone());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::region::StoreId;
    use crate::testing::{Answers, Outcome, Toy, ToyCheckpoint};

    const R1: RegionId = RegionId::FIRST;

    fn applier() -> (Applier<Toy>, Answers) {
        let mut applier = Applier::new(Toy::open(&ToyCheckpoint::default(), 100), 3);
        applier.create(Region::first(&[StoreId(1)]));
        (applier, Answers::default())
    }

    fn read(
        applier: &mut Applier<Toy>,
        answers: &Answers,
        id: u64,
        region: RegionId,
        index: Index,
    ) {
        let queries = vec![answers.asker(id)];
        applier.run(Task::Read { region, index, queries }, &mut Vec::new());
    }

    /// The store's own core hands entries out; here a group of one, whose entries commit at once.
    fn applies(count: usize) -> Vec<Apply> {
        let id = raft::NodeId::new(1).expect("not zero");
        let storage = raft::MemStorage::with_conf_state(raft::ConfState::of_voters([id]));
        let mut raw = raft::RawNode::new(raft::Config::new(id), Box::new(storage.clone()))
            .expect("a new group");
        raw.campaign();
        let mut applies = Vec::new();
        while applies.len() < count {
            let ready = raw.ready();
            if let Some(write) = ready.write {
                storage.append(write.entries());
                assert!(raw.persisted(write.synced()).is_empty(), "nobody else is there");
            }
            if let Some(apply) = ready.apply {
                applies.push(apply);
                raw.propose(Bytes::new()).expect("it leads");
            }
        }
        applies
    }

    #[test]
    fn a_read_waits_for_its_index_or_its_deadline() {
        let (mut applier, answers) = applier();
        let mut reports = Vec::new();
        read(&mut applier, &answers, 0, R1, 0);
        assert_eq!(answers.of(0), Some(Outcome::Read(0)), "nothing to wait for");
        for (id, index) in [(1, 1), (2, 2), (3, 9)] {
            read(&mut applier, &answers, id, R1, index);
        }
        assert_eq!((applier.held(), answers.len()), (3, 1));
        for (apply, answered) in applies(2).into_iter().zip([2, 3]) {
            applier.run(Task::Apply { region: R1, apply }, &mut reports);
            assert_eq!(answers.len(), answered);
        }
        assert_eq!(answers.of(2), Some(Outcome::Read(0)));
        (0..3).for_each(|_| applier.tick(0, &mut reports));
        assert_eq!(answers.of(3), Some(Outcome::Refused(Refusal::Timeout)));
        assert_eq!((applier.held(), applier.applied(R1)), (0, Some(2)));
        read(&mut applier, &answers, 4, RegionId(9), 1);
        let unknown = Refusal::RegionNotFound(RegionId(9));
        assert_eq!(answers.of(4), Some(Outcome::Refused(unknown)));
        read(&mut applier, &answers, 5, R1, 3);
        applier.shut_down();
        assert_eq!(answers.of(5), Some(Outcome::Refused(Refusal::ShuttingDown)));
    }

    #[test]
    fn a_checkpoint_is_reported_once() {
        let (mut applier, _) = applier();
        let mut reports = Vec::new();
        for apply in applies(1) {
            applier.run(Task::Apply { region: R1, apply }, &mut reports);
        }
        assert_eq!(reports.pop().expect("applied").durable, 0);
        applier.tick(99, &mut reports);
        assert!(reports.is_empty(), "the log has not grown enough for one");
        applier.tick(100, &mut reports);
        assert_eq!(reports.pop().expect("news").durable, 1);
        applier.tick(199, &mut reports);
        assert!(reports.is_empty(), "counted from the last one on");
    }

    #[test]
    #[should_panic(expected = "entries are applied in order, each once")]
    fn entries_are_applied_in_order() {
        let (mut applier, _) = applier();
        let last = applies(2).pop().expect("two");
        applier.run(Task::Apply { region: R1, apply: last }, &mut Vec::new());
    }
}
