//! One seed, one run: a cluster is built, worked with, taken apart, healed, and judged.
//!
//! ```text
//! chaos ───────────────► tail-off ──► heal ──► converge ──► judge ──► power off, on ──► judge
//! clients, faults        faults only                        lists, sums, states, space
//! ```
//!
//! The seed also draws the conditions ([`plan`]): how many stores, how small the limits, which
//! kinds of faults and how many of them, so that no two seeds test the same thing and many test
//! something that an average of everything would never reach (swarm testing).
//!
//! Besides what [`crate::sim::oracle`] checks at every event, a run ends with these demands:
//!
//! - within a bounded time after the faults end the cluster is level: one leader, all logs applied
//!   everywhere, nothing under way, equal states;
//! - every request that was ever handed to a store has been answered;
//! - what clients did to shared lists and keys is linearizable, and shared sums have lost nothing
//!   and counted nothing twice;
//! - a leader with nothing to do accounts for no bytes, reads or batches under way;
//! - logs are bounded by what they must keep;
//! - all of that is still so after everything has lost its power at once;
//! - a store whose disk was damaged starts with all it had, or says which file it cannot trust and
//!   stays down: for good, unless its disk is put back as it was ([`crate::sim::rot`]).
//!
//! ```
//! use harness::chaos::plan::{Faults, Plan};
//! use harness::chaos::{Cuts, Injected, Report, run_less};
//!
//! // The conditions of a seed, and less of it: two clients, no faults, and little time.
//! let Plan { faults, seed: 7, .. } = Plan::draw(7) else { unreachable!() };
//! let _: Faults = faults;
//! let cuts = Cuts {
//!     faults: Some([].into()),
//!     lists: Some(1),
//!     shared: Some(1),
//!     chaos_ms: Some(200),
//!     tail: Some(0),
//! };
//! let report: Report = run_less(7, &cuts, 10)?;
//! assert!(report.committed > 0 && report.checks > 0);
//! let injected: &Injected = &report.injected;
//! assert!(!injected.contains_key("power lost"));
//! let _whole = || harness::chaos::run(7);
//! # Ok::<(), Box<harness::chaos::Found>>(())
//! ```

mod cuts;
mod faults;
mod judge;
pub mod plan;
mod report;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use raftstore::{RegionId, StoreId};

use crate::clients::{Counter, CounterClient, Driver, ListClient, SharedClient};
use crate::cluster::{Cluster, SimCluster, Stop};
use crate::linearizability::store::Requests;
use crate::lists::Lists;
use crate::sim::{NetOptions, Time, ms};

pub use cuts::Cuts;
use faults::Chaos;
use plan::Plan;
pub use report::{Found, Injected, Report};

/// How long a healed cluster may take until it is level: many elections, and time to catch up.
const CONVERGE: Time = ms(10_000);

/// Runs `seed`.
///
/// # Errors
/// With what it has found.
///
/// # Panics
/// If the code under test does.
pub fn run(seed: u64) -> Result<Report, Box<Found>> {
    run_less(seed, &Cuts::default(), RECENT_EVENTS)
}

/// How many of the last events a run that finds something shows.
pub const RECENT_EVENTS: usize = 400;

/// Runs what `cuts` leave of `seed`, and keeps the last `events` events.
///
/// # Errors
/// With what it has found.
///
/// # Panics
/// If the code under test does.
pub fn run_less(seed: u64, cuts: &Cuts, events: usize) -> Result<Report, Box<Found>> {
    let mut plan = cuts.apply(Plan::draw(seed));
    plan.options.trace_events = events;
    let found = |what: String, script: Vec<String>, recent: String| {
        Box::new(Found { seed, cuts: cuts.clone(), what, script, recent })
    };
    let sim = SimCluster::new(plan.options.clone());
    let sim = sim.map_err(|failure| found(failure.to_string(), Vec::new(), String::new()))?;
    let mut run = Run::new(plan, cuts.clone(), Cluster::over(Box::new(sim)));
    match run.whole() {
        Ok(()) => Ok(run.report()),
        Err(what) => Err(found(what, run.chaos.script(), run.cluster.describe())),
    }
}

struct Run {
    plan: Plan,
    cluster: Cluster,
    driver: Driver,
    chaos: Chaos,
    lists: Rc<RefCell<Lists>>,
    shared: Rc<RefCell<Requests>>,
    counter: Rc<RefCell<Counter>>,
    rng: fastrand::Rng,
    steps: u64,
    undecided: bool,
    /// Stores that nobody waits for: dead for good, or with a disk that cannot be mended.
    lost: BTreeSet<StoreId>,
}

const SUM: &str = "sum";

impl Run {
    fn new(plan: Plan, cuts: Cuts, cluster: Cluster) -> Run {
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0xc1_1e47);
        let mut driver = Driver::new(rng.u64(..), plan.patience, plan.think);
        if let Some(persistence) = plan.persistence {
            driver.persist(persistence);
        }
        if let Some((percent, at_most)) = plan.held_up {
            driver.hold_up(percent, at_most, !plan.seed);
        }
        let lists = Rc::new(RefCell::new(Lists::new()));
        let shared = Rc::new(RefCell::new(Requests::new()));
        let counter = Rc::new(RefCell::new(Counter::default()));
        let keys: Vec<Bytes> = (0..plan.keys).map(|n| format!("list {n}").into()).collect();
        for _ in 0..plan.lists {
            let (lists, seed) = (Rc::clone(&lists), rng.u64(..));
            driver.add(ListClient::new(lists, keys.clone(), plan.reads_percent, seed));
        }
        for number in 1..=plan.shared {
            let (shared, seed) = (Rc::clone(&shared), rng.u64(..));
            driver.add(SharedClient::new(shared, number, plan.shared_keys, plan.mix, seed));
        }
        driver.add(CounterClient::new(Rc::clone(&counter), SUM.into()));
        let chaos = Chaos::new(plan.faults.clone(), cuts, rng.u64(..));
        let (steps, undecided) = (0, false);
        let lost = plan.dead.iter().copied().collect();
        Run { plan, cluster, driver, chaos, lists, shared, counter, rng, steps, undecided, lost }
    }

    fn sim(&mut self) -> Result<&mut SimCluster, String> {
        self.cluster.sim_mut().ok_or_else(|| "not a simulation".to_owned())
    }

    fn whole(&mut self) -> Result<(), String> {
        self.work()?;
        self.tail_off()?;
        self.heal()?;
        self.converge()?;
        self.judge()?;
        self.power_off_and_on()?;
        self.converge()?;
        self.judge()
    }

    /// Clients work while things go wrong.
    fn work(&mut self) -> Result<(), String> {
        let end = self.cluster.now() + self.plan.chaos;
        while self.cluster.now() < end {
            let pause = self.rng.u64(self.plan.pause.clone());
            let pause = self.chaos.until_next(pause);
            if self.rng.u8(..100) < self.plan.idle_percent {
                self.driver.drain_or_idle(&mut self.cluster, pause)?;
            } else {
                self.driver.run_for(&mut self.cluster, pause)?;
            }
            let sim = self.cluster.sim_mut().ok_or("not a simulation")?;
            self.chaos.act(sim);
        }
        Ok(())
    }

    /// Things go wrong in silence: some bugs need that nobody writes.
    fn tail_off(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.tail {
            let pause = self.rng.u64(self.plan.pause.clone());
            self.driver.drain(&mut self.cluster, pause)?;
            let sim = self.cluster.sim_mut().ok_or("not a simulation")?;
            self.chaos.act(sim);
        }
        Ok(())
    }

    /// All faults end. Some of a minority of stores may be dead for good.
    fn heal(&mut self) -> Result<(), String> {
        let normal = self.plan.options.clone();
        let sim = self.sim()?;
        let world = sim.world_mut();
        world.note("heal");
        world.heal();
        world.set_net(NetOptions::default());
        world.set_sync(normal.sync);
        for store in world.stores() {
            world.pause(store, 0);
            world.heal_disk(store);
        }
        for store in self.cluster.stores() {
            if self.lost.contains(&store) {
                self.cluster.stop_server(store);
            } else {
                self.restart(store)?;
            }
        }
        Ok(())
    }

    fn restart(&mut self, store: StoreId) -> Result<(), String> {
        // A power cut that was to hit an operation may leave the first start without power.
        for _ in 0..2 {
            let world = self.sim()?.world_mut();
            if world.start(store).map_err(|failure| failure.to_string())? {
                return Ok(());
            }
        }
        let is_mended = self.rng.bool();
        let world = self.sim()?.world_mut();
        if !world.has_refused(store) {
            return Err(format!("{store:?} does not start though nothing is wrong with its disk"));
        }
        if is_mended && world.mend_disk(store) {
            return self.restart(store);
        }
        self.lost.insert(store);
        Ok(())
    }

    fn converge(&mut self) -> Result<(), String> {
        let end = self.cluster.now() + CONVERGE;
        let is_level = |run: &mut Run| -> Result<bool, String> {
            let settled = run.sim()?.world().is_settled(RegionId::FIRST);
            // A cluster of those that are left would be settled, too.
            let is_up = |id: &StoreId| run.lost.contains(id) || run.cluster.status(*id).is_some();
            Ok(settled && run.driver.unanswered() == 0 && run.cluster.stores().iter().all(is_up))
        };
        let mut late = BTreeSet::new();
        while !is_level(self)? {
            self.restart_late(&mut late)?;
            if self.cluster.now() >= end {
                let unanswered = self.driver.unanswered();
                let statuses = self.statuses();
                return Err(format!(
                    "not level {} ms after healing, {unanswered} requests unanswered: {statuses:#?}",
                    CONVERGE / 1000
                ));
            }
            self.driver.drain_or_idle(&mut self.cluster, ms(5))?;
        }
        Ok(())
    }

    /// What failed before the faults ended may show only now: a store whose checkpoint could not be
    /// written halts when it next looks. Whoever runs it starts it again, and once is enough.
    fn restart_late(&mut self, late: &mut BTreeSet<StoreId>) -> Result<(), String> {
        for store in self.cluster.stores() {
            let is_down = self.cluster.status(store).is_none() && !self.lost.contains(&store);
            if is_down && late.insert(store) {
                self.restart(store)?;
            }
        }
        Ok(())
    }

    fn statuses(&self) -> Vec<String> {
        let stores = self.cluster.stores().into_iter();
        let line = |id| match self.cluster.status(id) {
            None => format!("{id:?} stopped"),
            Some(s) => format!(
                "{id:?}@{} {} of {:?} last {} commit {} applied {} waiting {}+{}",
                s.term,
                s.role,
                s.leader,
                s.last,
                s.commit,
                s.applied,
                s.pending_proposals,
                s.pending_reads
            ),
        };
        stores.map(line).collect()
    }

    fn power_off_and_on(&mut self) -> Result<(), String> {
        let mut running = self.cluster.stores();
        running.retain(|&id| self.cluster.status(id).is_some());
        for &store in &running {
            self.cluster.stop_server_by(store, Stop::PowerLoss);
        }
        running.into_iter().try_for_each(|store| self.restart(store))
    }
}
