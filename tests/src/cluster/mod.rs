//! A cluster to test with: TinyKV's names, over two kinds of stores.
//!
//! | | [`Cluster::sim`] | [`Cluster::threads`] |
//! |---|---|---|
//! | stores | steps in this thread | the real node, with its threads |
//! | time | virtual, as fast as it goes | the clock |
//! | disk | simulated, forgets what was not synced | a directory |
//! | the same seed | the same run | not quite |
//!
//! ```
//! use harness::cluster::Cluster;
//!
//! let mut cluster = Cluster::sim(3, 42);
//! cluster.must_put("k", "v");
//! let leader = cluster.wait_leader();
//! cluster.isolate(leader);
//! cluster.must_put("k", "w");
//! cluster.heal();
//! cluster.must_get("k", "w");
//! ```
//!
//! Nothing here sleeps for a fixed time: whatever is waited for has a deadline, in the time of the
//! back end. A cluster that does not do what it must panics, as an assertion does, and says how to
//! have the run again.
//!
//! A cluster is built from options, too, and what is behind it can be had:
//!
//! ```
//! use harness::cluster::{
//!     Backend, Cluster, ClusterLink, LogSight, Patience, SimCluster, Stop, ThreadCluster,
//!     ThreadOptions, Ticket,
//! };
//! use harness::sim::{Options, ms};
//! use kv::Op;
//!
//! let back = SimCluster::new(Options::new(5, 7)).map_err(|failure| failure.to_string())?;
//! let mut cluster = Cluster::over(Box::new(back) as Box<dyn Backend>);
//! let leader = cluster.wait_leader();
//! let ticket: Ticket = cluster.submit(leader, Op::put("k", "v").into());
//! while cluster.poll().is_none_or(|(of, _)| of != ticket) {
//!     let soon = cluster.now() + ms(1);
//!     cluster.advance(soon);
//! }
//! if let Some(LogSight { sizes, .. }) = cluster.log(leader) {
//!     assert!(sizes.live_bytes <= sizes.file_bytes);
//! }
//! // Its power is cut; others have what was acknowledged.
//! cluster.stop_server_by(leader, Stop::PowerLoss);
//! cluster.must_get("k", "v");
//! // The client library works on it, in its time.
//! let mut client: kv::Client<ClusterLink<'_>> = cluster.client();
//! assert_eq!(client.add("visits", 1), Ok(Some(1)));
//!
//! // The same over real threads, which are waited for a little longer.
//! let _ = Patience::default();
//! let options: ThreadOptions = ThreadOptions::new(3);
//! let _: fn(ThreadOptions) -> Result<ThreadCluster, String> = ThreadCluster::with;
//! # Ok::<(), String>(())
//! ```

pub mod backend;
mod faults;
pub mod inside;
mod late;
mod link;
pub mod patience;
pub mod sim;
pub mod threads;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use kv::{Answer, Callback, Cf, Error, Op, OpResult, Request, Response};
use raft::RoleKind;
use raftstore::store::RegionStatus;
use raftstore::{Refusal, RegionId, StoreId, Unknown};

pub use backend::{Backend, Stop};
pub use inside::{LogSight, ThreadOptions};
pub use link::ClusterLink;
pub use patience::Patience;
pub use sim::SimCluster;
pub use threads::ThreadCluster;

use crate::sim::{Options, Time, ms};

/// Names a request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A cluster of stores, all of them members of all regions, and clients of them. What names no
/// region is about the first one, unless [`Cluster::turn_to`] has named another.
pub struct Cluster {
    /// A trait object: what a test does costs more than the call.
    back: Box<dyn Backend>,
    region: RegionId,
    patience: Patience,
    sender: Sender<(Ticket, Answer)>,
    answers: Receiver<(Ticket, Answer)>,
    next_ticket: u64,
    /// Whom to ask first.
    hint: StoreId,
}

impl Cluster {
    /// `stores` simulated stores, healthy but for what the test does. Everything follows from
    /// `seed`.
    ///
    /// # Panics
    /// If a store does not start.
    #[must_use]
    pub fn sim(stores: u64, seed: u64) -> Cluster {
        Cluster::simulated(Options::new(stores, seed))
    }

    /// `stores` real nodes in this process, with their threads, and a directory each that goes away
    /// with the cluster.
    ///
    /// # Panics
    /// If a store does not start.
    #[must_use]
    pub fn threads(stores: u64) -> Cluster {
        match ThreadCluster::new(stores) {
            Ok(threads) => Cluster::over(Box::new(threads)),
            Err(failure) => panic!("the cluster does not start: {failure}"),
        }
    }

    /// A simulated cluster with those options.
    ///
    /// # Panics
    /// If a store does not start.
    #[must_use]
    pub fn simulated(options: Options) -> Cluster {
        match SimCluster::new(options) {
            Ok(sim) => Cluster::over(Box::new(sim)),
            Err(failure) => panic!("the cluster does not start: {failure}"),
        }
    }
}

impl Cluster {
    /// A cluster of what `back` has.
    #[must_use]
    pub fn over(back: Box<dyn Backend>) -> Cluster {
        let (sender, answers) = unbounded();
        let hint = back.stores().first().copied().unwrap_or(StoreId(1));
        let (region, patience) = (RegionId::FIRST, Patience::default());
        Cluster { back, region, patience, sender, answers, next_ticket: 0, hint }
    }

    /// The simulation, if it is one, to do with it what only it can do.
    pub fn sim_mut(&mut self) -> Option<&mut SimCluster> {
        self.back.sim_mut()
    }

    /// How to have this run again, and what happened last.
    #[must_use]
    pub fn describe(&self) -> String {
        self.back.describe()
    }

    /// From now on, what names no region is about this one.
    pub fn turn_to(&mut self, region: RegionId) {
        self.region = region;
    }

    /// Sets how long things may take.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    // ---- Time ----

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.back.now()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Time) {
        let until = self.now() + time;
        while self.now() < until {
            self.back.advance(until);
            self.check();
        }
    }

    /// Waits for something; `what` names it if it does not come.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn wait_for<T>(&mut self, what: &str, look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let within = self.patience.must;
        let found = self.wait_at_most(within, look);
        found.unwrap_or_else(|| panic!("{what}: not within {} ms", within / 1000))
    }

    /// As [`Cluster::wait_for`], but it may not come.
    pub fn wait_at_most<T>(
        &mut self,
        time: Time,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let deadline = self.now() + time;
        loop {
            if let Some(found) = look(self) {
                return Some(found);
            }
            if self.now() >= deadline {
                return None;
            }
            let next = deadline.min(self.now() + self.patience.poll);
            while self.now() < next {
                self.back.advance(next);
                self.check();
            }
        }
    }

    /// Lets something happen, at the latest until `until`.
    pub fn advance(&mut self, until: Time) {
        self.back.advance(until);
    }

    /// What was found to be wrong, if anything was.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.back.failure()
    }

    fn check(&self) {
        if let Some(failure) = self.back.failure() {
            panic!("{failure}");
        }
    }

    // ---- Requests ----

    /// Asks a store and does not wait. [`Cluster::poll`] gives the answer.
    pub fn submit(&mut self, to: StoreId, request: Request) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        let sender = self.sender.clone();
        // The receiver is gone only when the cluster is.
        let callback = Callback::new(move |answer| drop(sender.send((ticket, answer))));
        self.back.submit(to, self.region, request, callback);
        ticket
    }

    /// An answer that has arrived.
    pub fn poll(&mut self) -> Option<(Ticket, Answer)> {
        self.answers.try_recv().ok()
    }

    /// Asks one store, once, and waits. Answers that nobody waits for any more are dropped.
    pub fn call_command(&mut self, to: StoreId, request: Request) -> Answer {
        self.call_within(to, request, self.patience.request)
    }

    /// As [`Cluster::call_command`], for so long.
    pub fn call_within(&mut self, to: StoreId, request: Request, within: Time) -> Answer {
        let ticket = self.submit(to, request);
        let answer = self.wait_at_most(within, |cluster| {
            std::iter::from_fn(|| cluster.poll()).find(|(of, _)| *of == ticket)
        });
        answer.map_or(Err(Unknown::Deadline.into()), |(_, answer)| answer)
    }

    /// Asks whoever leads: tries again elsewhere for as long as the answer is that the request
    /// certainly had no effect.
    pub fn call_command_on_leader(&mut self, request: Request) -> Answer {
        let deadline = self.now() + self.patience.must;
        loop {
            let answer = self.call_command(self.hint, request.clone());
            match &answer {
                Err(Error::Refused(why)) if self.now() < deadline => self.look_elsewhere(why),
                Err(Error::StaleCommand) if self.now() < deadline => {}
                _ => return answer,
            }
        }
    }

    fn look_elsewhere(&mut self, why: &Refusal) {
        let named = match why {
            Refusal::NotLeader { leader } => *leader,
            _ => None,
        };
        match named.filter(|&id| id != self.hint && self.back.is_running(id)) {
            Some(leader) => self.hint = leader,
            None => {
                let stores = self.back.stores();
                let next = stores.iter().position(|&id| id == self.hint).map_or(0, |at| at + 1);
                self.hint = stores[next % stores.len()];
                // Somebody has to be elected first.
                self.run_for(self.patience.poll);
            }
        }
    }

    /// Has a request carried out that may be carried out twice: it is repeated until the answer
    /// is that it took effect.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn request(&mut self, request: impl Into<Request>) -> Response {
        let request = request.into();
        let deadline = self.now() + self.patience.must;
        loop {
            match self.call_command_on_leader(request.clone()) {
                Ok(response) => return response,
                Err(why) => assert!(self.now() < deadline, "{request:?} is not answered: {why}"),
            }
        }
    }

    /// A client that has everything take effect once, in the time of this cluster.
    pub fn client(&mut self) -> kv::Client<ClusterLink<'_>> {
        kv::Client::new(ClusterLink::new(self))
    }

    fn one(&mut self, op: Op) -> OpResult {
        let mut results = self.request(op).results;
        assert_eq!(results.len(), 1, "one operation, one result");
        results.remove(0)
    }

    /// Sets a key.
    ///
    /// # Panics
    /// If nobody takes it in time; so do all the following.
    pub fn must_put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let result = self.one(Op::put(key, value));
        assert!(matches!(result, OpResult::Put { written: true, .. }), "put gives {result:?}");
    }

    /// Sets a key of a column family.
    pub fn must_put_cf(&mut self, cf: Cf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        let condition = kv::Condition::None;
        let result = self.one(Op::Put { cf, key, value, condition, return_old: false });
        assert!(matches!(result, OpResult::Put { written: true, .. }), "put gives {result:?}");
    }

    /// Removes a key.
    pub fn must_delete(&mut self, key: impl Into<Bytes>) {
        let result = self.one(Op::delete(key));
        assert!(matches!(result, OpResult::Deleted { .. }), "delete gives {result:?}");
    }

    /// The value of a key, as of now.
    pub fn get(&mut self, key: impl Into<Bytes>) -> Option<Bytes> {
        match self.one(Op::get(key)) {
            OpResult::Value(value) => value,
            other => panic!("get gives {other:?}"),
        }
    }

    /// Demands that a key has that value.
    pub fn must_get(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let key = key.into();
        assert_eq!(self.get(key.clone()), Some(value.into()), "the value of {key:?}");
    }

    /// Demands that a key has no value. (This is a linearizable read: it does not pass because
    /// something has not arrived yet.)
    pub fn must_get_none(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        assert_eq!(self.get(key.clone()), None, "the value of {key:?}");
    }

    /// All keys and values of a range, its end excluded; an empty end is no end.
    pub fn scan(&mut self, start: impl Into<Bytes>, end: impl Into<Bytes>) -> Vec<(Bytes, Bytes)> {
        match self.one(Op::scan(start, end, u32::MAX)) {
            OpResult::Pairs { pairs, more: false } => pairs,
            other => panic!("scan gives {other:?}"),
        }
    }

    // ---- One store's own state ----

    /// Waits until a store has that value for a key in its own state.
    pub fn must_get_on(&mut self, store: StoreId, key: &str, value: &str) {
        self.wait_for(&format!("{key} = {value} on {store:?}"), |cluster| {
            let found = cluster.back.peek(store, Cf::Default, key.as_bytes());
            (found.as_deref() == Some(value.as_bytes())).then_some(())
        });
    }

    /// Demands that a store has no value for a key in its own state now. A test that expects the
    /// absence of something that was deleted, not of something that never arrived, calls
    /// [`Cluster::barrier_on`] before.
    pub fn must_get_none_on(&mut self, store: StoreId, key: &str) {
        let found = self.back.peek(store, Cf::Default, key.as_bytes());
        assert_eq!(found, None, "the value of {key} on {store:?}");
    }

    /// Waits until a store has applied everything that is committed now.
    pub fn barrier_on(&mut self, store: StoreId) {
        let leader = self.wait_leader();
        let commit = self.status(leader).map_or(0, |status| status.commit);
        self.wait_for(&format!("{store:?} to apply {commit}"), |cluster| {
            cluster.status(store).filter(|status| status.applied >= commit).map(drop)
        });
    }

    /// What a running store says of the region.
    #[must_use]
    pub fn status(&self, store: StoreId) -> Option<RegionStatus> {
        self.back.status(store, self.region)
    }

    /// All stores.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreId> {
        self.back.stores()
    }

    /// Waits until all running stores have applied the same log, and demands that they hold the
    /// same.
    pub fn must_agree(&mut self) {
        self.wait_for("all stores to be level", |cluster| {
            let stores = cluster.stores();
            let statuses: Vec<_> = stores.iter().filter_map(|&id| cluster.status(id)).collect();
            let first = statuses.first()?;
            let is_level = |s: &RegionStatus| s.last == first.last && s.applied == first.last;
            let one_leads = statuses.iter().filter(|s| s.role == RoleKind::Leader).count() == 1;
            (one_leads && statuses.iter().all(is_level)).then_some(())
        });
        let stores = self.stores().into_iter().filter(|&id| self.back.is_running(id));
        let states: Vec<_> = stores.map(|id| (id, self.back.state_hash(id, self.region))).collect();
        assert!(states.windows(2).all(|two| two[0].1 == two[1].1), "states differ: {states:x?}");
    }

    // ---- Leaders ----

    /// The store that leads in the highest term, if one does.
    #[must_use]
    pub fn leader_of(&self, region: RegionId) -> Option<StoreId> {
        let led = |id: StoreId| {
            let status = self.back.status(id, region)?;
            (status.role == RoleKind::Leader).then_some((status.term, id))
        };
        self.stores().into_iter().filter_map(led).max().map(|(_, id)| id)
    }

    /// Waits for a leader that most stores know.
    pub fn wait_leader(&mut self) -> StoreId {
        self.wait_for("a leader", |cluster| {
            let leader = cluster.leader_of(cluster.region)?;
            let term = cluster.status(leader)?.term;
            let stores = cluster.stores();
            let statuses = stores.iter().filter_map(|&id| cluster.status(id));
            let follow = statuses.filter(|s| s.term == term && s.leader == Some(leader)).count();
            (follow * 2 > stores.len()).then_some(leader)
        })
    }

    /// Waits for a leader among `stores`.
    pub fn wait_leader_among(&mut self, stores: &[StoreId]) -> StoreId {
        self.wait_for("a leader among some", |cluster| {
            cluster.leader_of(cluster.region).filter(|leader| stores.contains(leader))
        })
    }

    /// Has `to` lead.
    pub fn transfer_leader(&mut self, to: StoreId) {
        let mut asked = None;
        self.wait_for(&format!("{to:?} to lead"), |cluster| {
            if cluster.leader_of(cluster.region) == Some(to) {
                return Some(());
            }
            // A transfer may come to nothing: ask again after a while.
            if asked.is_none_or(|at| cluster.now() >= at + ms(300)) {
                asked = Some(cluster.now());
                cluster.back.transfer(cluster.region, to);
            }
            None
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.back.describe());
        }
    }
}
