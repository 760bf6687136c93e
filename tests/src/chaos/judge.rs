//! What must be true of a cluster in which nothing is under way.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Op, Request};
use raftstore::RegionId;

use super::{Report, Run, SUM};
use crate::clients::SharedClient;
use crate::linearizability::{Verdict, store};
use crate::sim::ms;

/// Of the search for an order of what was done to the shared keys that belong together.
const STEPS_MAX: u64 = 300_000;

impl Run {
    /// What must be true of a cluster in which nothing is under way.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        self.cluster.must_agree();
        // Questions that were held up on their way may still arrive, and wait for a heartbeat.
        let late = self.cluster.now() + ms(2000);
        while self.check_account().is_err() && self.cluster.now() < late {
            self.driver.drain_or_idle(&mut self.cluster, ms(20))?;
        }
        self.check_account()?;
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
        self.judge_shared()?;
        self.cluster.must_put("fresh", "write");
        self.cluster.must_get("fresh", "write");
        self.check_space()
    }

    /// Whatever anybody did to the shared keys, up to reads of what is there now.
    fn judge_shared(&mut self) -> Result<(), String> {
        for key in SharedClient::keys(self.plan.shared_keys) {
            let request = Request::from(Op::get(key));
            let call = self.shared.borrow_mut().invoke(0, request.clone());
            let response = self.cluster.request(request);
            self.shared.borrow_mut().answer(call, response);
        }
        match store::check(&self.shared.borrow(), STEPS_MAX) {
            Verdict::Linearizable { steps, .. } => self.steps += steps,
            Verdict::Undecided { steps } => {
                self.steps += steps;
                self.undecided = true;
            }
            Verdict::Violation(why) => return Err(format!("not linearizable: {why}")),
        }
        Ok(())
    }

    /// What is idle has nothing on its account.
    fn check_account(&mut self) -> Result<(), String> {
        for store in self.cluster.stores() {
            let sim = self.cluster.sim_mut().ok_or("not a simulation")?;
            sim.world().check_idle(store, RegionId::FIRST)?;
        }
        Ok(())
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

    pub(super) fn report(&mut self) -> Report {
        let requests = self.driver.requests();
        let mut report = Report {
            seed: self.plan.seed,
            stores: self.plan.options.stores,
            time: self.cluster.now(),
            requests,
            lists: self.lists.borrow().tally(),
            shared: self.shared.borrow().tally(),
            steps: self.steps,
            undecided: self.undecided,
            injected: self.chaos.injected(),
            ..Report::default()
        };
        if let Some(sim) = self.cluster.sim_mut() {
            let world = sim.world();
            report.trace = world.trace().hash();
            report.events = world.trace().count();
            report.checks = world.oracles().checks();
            report.committed = world.oracles().committed(RegionId::FIRST);
            report.net = world.net().counters();
            report.snapshots = world.installed();
            report.rot = world.rot().clone();
        }
        report
    }
}
