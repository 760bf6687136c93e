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
//! - what clients did to shared lists is linearizable, and shared sums have lost nothing and
//!   counted nothing twice;
//! - logs are bounded by what they must keep;
//! - all of that is still so after everything has lost its power at once.

mod faults;
pub mod plan;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use raftstore::{RegionId, StoreId};

use crate::clients::{Counter, CounterClient, Driver, ListClient, Requests};
use crate::cluster::{Cluster, SimCluster, Stop};
use crate::lists::{Lists, Tally};
use crate::sim::net::NetCounters;
use crate::sim::{NetOptions, Time, ms};

use faults::Chaos;
pub use faults::Injected;
use plan::Plan;

/// What a run that found nothing has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How many stores it had.
    pub stores: u64,
    /// The hash of its trace.
    pub trace: u64,
    /// Events in the trace.
    pub events: u64,
    /// Checks the judges made.
    pub checks: u64,
    /// Virtual time that passed.
    pub time: Time,
    /// Indexes committed.
    pub committed: u64,
    /// What became of all requests.
    pub requests: Requests,
    /// Operations on lists, judged to be linearizable.
    pub tally: Tally,
    /// Faults, by kind.
    pub injected: Injected,
    /// What the network did.
    pub net: NetCounters,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, stores, trace, events, time, committed, .. } = self;
        write!(f, "seed {seed}: trace {trace:016x}, {stores} stores, {events} events")?;
        write!(f, ", {} ms, {committed} committed, {} ops", time / 1000, self.tally.total())
    }
}

/// What a run has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The seed that finds it again.
    pub seed: u64,
    /// What does not hold.
    pub what: String,
    /// What happened last.
    pub recent: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// How long a healed cluster may take until it is level: many elections, and time to catch up.
const CONVERGE: Time = ms(10_000);

/// Runs `seed`.
///
/// # Errors
/// With what it has found.
///
/// # Panics
/// If the code under test does.
pub fn run(seed: u64) -> Result<Report, Found> {
    let plan = Plan::draw(seed);
    let found = |what: String, recent: String| Found { seed, what, recent };
    let sim = SimCluster::new(plan.options.clone());
    let sim = sim.map_err(|failure| found(failure.to_string(), String::new()))?;
    let mut run = Run::new(plan, Cluster::over(Box::new(sim)));
    match run.whole() {
        Ok(()) => Ok(run.report()),
        Err(what) => Err(found(what, run.cluster.describe())),
    }
}

struct Run {
    plan: Plan,
    cluster: Cluster,
    driver: Driver,
    chaos: Chaos,
    lists: Rc<RefCell<Lists>>,
    counter: Rc<RefCell<Counter>>,
    rng: fastrand::Rng,
}

const SUM: &str = "sum";

impl Run {
    fn new(plan: Plan, cluster: Cluster) -> Run {
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0xc1_1e47);
        let mut driver = Driver::new(rng.u64(..), plan.patience, plan.think);
        let lists = Rc::new(RefCell::new(Lists::new()));
        let counter = Rc::new(RefCell::new(Counter::default()));
        let keys: Vec<Bytes> = (0..plan.keys).map(|n| format!("list {n}").into()).collect();
        for _ in 0..plan.clients {
            let (lists, seed) = (Rc::clone(&lists), rng.u64(..));
            driver.add(ListClient::new(lists, keys.clone(), plan.reads_percent, seed));
        }
        driver.add(CounterClient::new(Rc::clone(&counter), SUM.into()));
        let chaos = Chaos::new(plan.faults.clone(), rng.u64(..));
        Run { plan, cluster, driver, chaos, lists, counter, rng }
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
            self.driver.run_for(&mut self.cluster, pause)?;
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
        let dead = self.plan.dead.clone();
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
            if dead.contains(&store) {
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
            let sim = self.sim()?;
            let started = sim.world_mut().start(store).map_err(|failure| failure.to_string())?;
            if started {
                return Ok(());
            }
        }
        Err(format!("{store:?} does not start though nothing is wrong with its disk"))
    }

    fn converge(&mut self) -> Result<(), String> {
        let end = self.cluster.now() + CONVERGE;
        let is_level = |run: &mut Run| -> Result<bool, String> {
            let settled = run.sim()?.world().is_settled(RegionId::FIRST);
            Ok(settled && run.driver.unanswered() == 0)
        };
        while !is_level(self)? {
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

    /// What must be true of a cluster in which nothing is under way.
    fn judge(&mut self) -> Result<(), String> {
        self.cluster.must_agree();
        let keys: Vec<Bytes> = self.lists.borrow().keys().to_vec();
        let mut found = BTreeMap::new();
        for key in keys {
            if let Some(list) = self.cluster.get(key.clone()) {
                found.insert(key, list);
            }
        }
        let linearizable = self.lists.borrow().check(&found);
        linearizable.map_err(|violation| format!("not linearizable: {violation}"))?;
        let sum = self.cluster.get(SUM).unwrap_or_else(|| "0".into());
        let sum = std::str::from_utf8(&sum).ok().and_then(|text| text.parse().ok());
        let sum = sum.ok_or("the sum is not a number")?;
        self.counter.borrow().check(sum)?;
        self.cluster.must_put("fresh", "write");
        self.cluster.must_get("fresh", "write");
        self.check_space()
    }

    /// The log of a store is bounded by its live entries, and they by the limits.
    fn check_space(&mut self) -> Result<(), String> {
        let segment = self.plan.options.segment_bytes;
        for store in self.cluster.stores() {
            let sim = self.cluster.sim_mut().ok_or("not a simulation")?;
            let Some(process) = &sim.world().host(store).process else { continue };
            let stats = process.wal.stats();
            // What the log promises, and some for restarts: each begins a segment, and carrying
            // what is live in old ones is paid from what is appended.
            let bound = 2 * stats.live_bytes + 16 * segment;
            if stats.file_bytes > bound {
                return Err(format!("the log of {store:?} takes more than {bound}: {stats:?}"));
            }
        }
        Ok(())
    }

    fn power_off_and_on(&mut self) -> Result<(), String> {
        let mut running = self.cluster.stores();
        running.retain(|&id| self.cluster.status(id).is_some());
        for &store in &running {
            self.cluster.stop_server_by(store, Stop::PowerLoss);
        }
        running.into_iter().try_for_each(|store| self.restart(store))
    }

    fn report(&mut self) -> Report {
        let requests = self.driver.requests();
        let tally = self.lists.borrow().tally();
        let (seed, injected) = (self.plan.seed, self.chaos.injected());
        let mut report = Report {
            seed,
            stores: self.plan.options.stores,
            trace: 0,
            events: 0,
            checks: 0,
            time: self.cluster.now(),
            committed: 0,
            requests,
            tally,
            injected,
            net: NetCounters::default(),
        };
        if let Some(sim) = self.cluster.sim_mut() {
            let world = sim.world();
            report.trace = world.trace().hash();
            report.events = world.trace().count();
            report.checks = world.oracles().checks();
            report.committed = world.oracles().committed(RegionId::FIRST);
            report.net = world.net().counters();
        }
        report
    }
}
