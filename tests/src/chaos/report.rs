//! What a run has to tell, whether it found something or not.

use std::collections::BTreeMap;
use std::fmt;

use crate::chaos::Cuts;
use crate::clients::Requests;
use crate::linearizability;
use crate::lists;
use crate::sim::Time;
use crate::sim::net::NetCounters;

/// How many faults of each kind a run has had.
pub type Injected = BTreeMap<&'static str, u64>;

/// What a run that found nothing has to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    pub lists: lists::Tally,
    /// Requests to shared keys, judged to be linearizable.
    pub shared: linearizability::Tally,
    /// What that cost, in steps of the search.
    pub steps: u64,
    /// Whether the search for an order gave up.
    pub undecided: bool,
    /// Faults, by kind.
    pub injected: Injected,
    /// What the network did.
    pub net: NetCounters,
    /// Snapshots that replaced a state.
    pub snapshots: u64,
    /// Damage at rest, by kind, and what came of it.
    pub rot: Injected,
}

impl Report {
    /// All faults, those of the network included, and what they led to: snapshots.
    #[must_use]
    pub fn faults(&self) -> Injected {
        let net = self.net;
        let mut faults = self.injected.clone();
        faults.extend(&self.rot);
        faults.extend([
            ("message lost", net.lost),
            ("message doubled", net.doubled),
            ("message late", net.slow),
            ("message overtaken", net.overtaken),
            ("message cut off", net.filtered),
            ("snapshot damaged", net.corrupted),
            ("snapshot broken off", net.broken),
            ("snapshot installed", self.snapshots),
        ]);
        faults
    }

    /// Operations that were judged to be linearizable.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let shared = if self.undecided { 0 } else { self.shared.answered };
        self.lists.appends + self.lists.reads + shared
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, stores, trace, events, time, committed, .. } = self;
        write!(f, "seed {seed}: trace {trace:016x}, {stores} stores, {events} events")?;
        write!(f, ", {} ms, {committed} committed, {} ops", time / 1000, self.operations())
    }
}

/// What a run has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The seed that finds it again.
    pub seed: u64,
    /// What was left out of its run.
    pub cuts: Cuts,
    /// What does not hold.
    pub what: String,
    /// The faults up to then: a script of the run.
    pub script: Vec<String>,
    /// What happened last.
    pub recent: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}{}: {}", self.seed, self.cuts, self.what)
    }
}
