//! TinyKV's GenericTest: clients at work while the cluster is taken apart, in three rounds.
//!
//! Every client puts keys of its own and demands at any moment to read exactly what it has put;
//! another group appends to lists that all share, which [`crate::lists`] judges at the end, and a third
//! does everything to keys that all share, judged by [`crate::linearizability`]. What goes wrong
//! meanwhile is chosen by named options; [`suite`] has TinyKV's tests by name. Mended over the original:
//!
//! 1. A crash is no orderly stop: a store loses what it had not synced, any part of it, and opens its
//!    disk again ([`Stop::PowerLoss`]); threads reopen their directory.
//! 2. (Members do not change here.)
//! 3. Loss does not add up: all filters go before the next ones come.
//! 4. Absence is read linearizably, or after a barrier, not until a key is absent for once.
//! 5. Clients share keys and lists, judged for linearizability.
//! 6. Everything follows from a seed, in virtual time.
//! 7. Only what may be done twice is repeated, or all within sessions (`exactly_once`).
//!
//! ```no_run
//! use harness::cluster::{Cluster, Stop};
//! use harness::generic::suite::{Named, test};
//! use harness::generic::{Generic, Outcome};
//!
//! let options = Generic {
//!     clients: 5,
//!     unreliable: true,
//!     partitions: true,
//!     crash: Some(Stop::PowerLoss),
//!     ..Generic::new(7)
//! };
//! let outcome: Outcome = options.run(&mut Cluster::sim(5, 7));
//! println!("{outcome:?}");
//!
//! // One of TinyKV's, by name.
//! let named: Named = test("PersistPartition2B");
//! named.on_sim(7);
//! ```

pub mod suite;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use kv::{Answer, Op, Request};
use raftstore::StoreId;

use crate::clients::{Client, Driver, ListClient, Mix, OwnKeys, SharedClient};
use crate::cluster::{Cluster, Stop};
use crate::filter::Lossy;
use crate::linearizability::store::Requests;
use crate::linearizability::{Verdict, store};
use crate::lists::Lists;
use crate::sim::{Time, ms};

/// What to do to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generic {
    /// Clients with keys of their own; as many others share lists.
    pub clients: usize,
    /// A tenth of all messages is lost.
    pub unreliable: bool,
    /// All stores end at the end of a round, and start again from their disks.
    pub crash: Option<Stop>,
    /// The stores are divided at random again and again.
    pub partitions: bool,
    /// Rounds.
    pub rounds: u32,
    /// How long the clients work in a round.
    pub round: Time,
    /// From one partition to the next.
    pub era: Time,
    /// Clients ask again within sessions, so that what they want takes effect once; else they ask
    /// once, and repeat only what may be done twice.
    pub exactly_once: bool,
    /// All choices follow from it.
    pub seed: u64,
}

impl Generic {
    /// A healthy cluster with one client, three rounds of a second: TinyKV's Basic2B, in the time
    /// of a cluster whose elections take a fifth of TinyKV's.
    #[must_use]
    pub fn new(seed: u64) -> Generic {
        Generic {
            clients: 1,
            unreliable: false,
            crash: None,
            partitions: false,
            rounds: 3,
            round: ms(1000),
            era: ms(120),
            exactly_once: false,
            seed,
        }
    }

    /// Runs it.
    ///
    /// # Panics
    /// If the cluster does not do what it must.
    pub fn run(&self, cluster: &mut Cluster) -> Outcome {
        let mut test = Running::new(*self);
        for round in 0..self.rounds {
            if let Err(why) = test.round(cluster, round) {
                panic!("round {round}: {why}");
            }
        }
        test.judge(cluster);
        test.outcome
    }
}

/// What happened that need not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How often a store started with a log that had forgotten its beginning.
    pub short_restarts: u64,
}

/// Somebody whose client the driver has, and who wants to look at it afterwards.
struct Shared(Rc<RefCell<OwnKeys>>);

impl Client for Shared {
    fn next(&mut self) -> Option<kv::Request> {
        self.0.borrow_mut().next()
    }

    fn told(&mut self, answer: &Answer) -> Result<(), String> {
        self.0.borrow_mut().told(answer)
    }
}

struct Running {
    options: Generic,
    rng: fastrand::Rng,
    driver: Driver,
    own: Vec<Rc<RefCell<OwnKeys>>>,
    lists: Rc<RefCell<Lists>>,
    shared: Rc<RefCell<Requests>>,
    outcome: Outcome,
}

/// Keys that the third group shares.
const SHARED_KEYS: usize = 3;

/// Of the search for an order of what was done to one of them.
const STEPS_MAX: u64 = 1_000_000;

impl Running {
    fn new(options: Generic) -> Running {
        let mut rng = fastrand::Rng::with_seed(options.seed);
        let mut driver = Driver::new(rng.u64(..), ms(1000), ms(5));
        if options.exactly_once {
            driver.persist(ms(10_000));
        }
        let lists = Rc::new(RefCell::new(Lists::new()));
        let shared = Rc::new(RefCell::new(Requests::new()));
        let mut own = Vec::new();
        for number in 0..options.clients {
            let keys = vec![Bytes::from("list 0"), Bytes::from("list 1")];
            driver.add(ListClient::new(Rc::clone(&lists), keys, 40, rng.u64(..)));
            let client = Rc::new(RefCell::new(OwnKeys::new(number, rng.u64(..))));
            driver.add(Shared(Rc::clone(&client)));
            own.push(client);
            let (shared, mix) = (Rc::clone(&shared), Mix::default());
            driver.add(SharedClient::new(shared, number + 1, SHARED_KEYS, mix, rng.u64(..)));
        }
        let outcome = Outcome::default();
        Running { options, rng, driver, own, lists, shared, outcome }
    }

    fn round(&mut self, cluster: &mut Cluster, round: u32) -> Result<(), String> {
        let Generic { unreliable, partitions, .. } = self.options;
        let end = cluster.now() + self.options.round;
        self.driver.run_for(cluster, self.options.round / 16)?;
        while cluster.now() < end {
            cluster.clear_filters();
            if partitions {
                let stores = cluster.stores().into_iter();
                let (one, other): (Vec<StoreId>, Vec<_>) = stores.partition(|_| self.rng.bool());
                cluster.partition(&one, &other);
            }
            if unreliable {
                cluster.add_filter(Lossy::new(10, self.rng.u64(..)));
            }
            let era = self.options.era + self.rng.u64(..=self.options.era / 2);
            self.driver.run_for(cluster, era.min(end - cluster.now()))?;
        }
        cluster.clear_filters();
        if let Some(how) = self.options.crash {
            for store in cluster.stores() {
                cluster.stop_server_by(store, how);
            }
            self.driver.run_for(cluster, self.options.era)?;
            for store in cluster.stores() {
                cluster.start_server(store);
                let compacted = cluster.status(store).map_or(0, |status| status.compacted);
                self.outcome.short_restarts += u64::from(compacted > 0);
            }
        }
        // Clients that wait for somebody who is gone give up, and others get their answers.
        self.driver.drain(cluster, ms(10_000))?;
        let left = self.driver.unanswered();
        if left > 0 {
            return Err(format!("round {round}: {left} requests were never answered"));
        }
        Ok(())
    }

    fn judge(&self, cluster: &mut Cluster) {
        cluster.must_agree();
        for client in &self.own {
            let client = client.borrow();
            let (start, end) = client.range();
            let pairs = cluster.scan(start, end);
            if let Err(why) = client.check(&pairs) {
                panic!("at the end: {why}");
            }
            for (key, _) in &pairs {
                cluster.must_delete(key.clone());
                cluster.must_get_none(key.clone());
            }
        }
        let lists = self.lists.borrow();
        let read = |key: &Bytes| Some((key.clone(), cluster.get(key.clone())?));
        let found: BTreeMap<Bytes, Bytes> = lists.keys().iter().filter_map(read).collect();
        if let Err(violation) = lists.check(&found) {
            panic!("not linearizable: {violation}");
        }
        self.judge_shared(cluster);
        let (asked, tally) = (self.driver.requests(), lists.tally());
        assert!(asked.done > 0 && tally.appends > 0, "nothing was done: {asked:?}, {tally:?}");
    }

    /// What everybody did to the shared keys, up to reads of what is there now.
    fn judge_shared(&self, cluster: &mut Cluster) {
        let mut history = self.shared.borrow_mut();
        for key in SharedClient::keys(SHARED_KEYS) {
            let request = Request::from(Op::get(key));
            let call = history.invoke(0, request.clone());
            history.answer(call, cluster.request(request));
        }
        match store::check(&history, STEPS_MAX) {
            Verdict::Linearizable { .. } => assert!(history.tally().answered > 0, "nothing done"),
            Verdict::Violation(why) => panic!("not linearizable: {why}"),
            Verdict::Undecided { steps } => eprintln!("no order within {steps} steps, nor none"),
        }
    }
}
