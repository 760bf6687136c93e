//! Clients of a cluster, several at a time without a thread each.
//!
//! A [`Client`] says what it wants next and is told what came of it. The [`Driver`] asks for all
//! of them, finds the leader for each as a real client would, gives up when an answer takes too
//! long, and keeps account: every request that was ever handed to a store is answered, even when
//! nobody waits any more.
//!
//! ```
//! use std::cell::RefCell;
//! use std::rc::Rc;
//! use harness::clients::{
//!     Client, Counter, CounterClient, Driver, ListClient, Mix, OwnKeys, Requests, SharedClient,
//! };
//! use harness::cluster::Cluster;
//! use harness::linearizability::{Verdict, store};
//! use harness::lists::Lists;
//! use harness::sim::ms;
//!
//! let mut cluster = Cluster::sim(3, 7);
//! let history = Rc::new(RefCell::new(store::Requests::new()));
//! let lists = Rc::new(RefCell::new(Lists::new()));
//! let counter = Rc::new(RefCell::new(Counter::default()));
//! let mut driver = Driver::new(7, ms(500), ms(5));
//! driver.add(SharedClient::new(Rc::clone(&history), 1, 2, Mix::default(), 1));
//! driver.add(SharedClient::new(Rc::clone(&history), 2, 2, Mix::default(), 2));
//! driver.add(ListClient::new(Rc::clone(&lists), vec!["list".into()], 50, 3));
//! driver.add(CounterClient::new(Rc::clone(&counter), "sum".into()));
//! fn add(driver: &mut Driver, client: impl Client + 'static) {
//!     driver.add(client);
//! }
//! add(&mut driver, OwnKeys::new(5, 5));
//! driver.run_for(&mut cluster, ms(1000))?;
//! driver.drain(&mut cluster, ms(2000))?;
//!
//! let Requests { done, .. } = driver.requests();
//! assert!(done > 10);
//! assert!(matches!(store::check(&history.borrow(), 100_000), Verdict::Linearizable { .. }));
//! # Ok::<(), String>(())
//! ```

mod counter;
mod lists;
mod own_keys;
mod shared;

use std::collections::BTreeMap;

use kv::client::{Attempt, ClientSession, Next};
use kv::{Answer, Error, Request, Session};
use raftstore::{Refusal, StoreId, Unknown};

use crate::cluster::{Cluster, Ticket};
use crate::sim::Time;

pub use counter::{Counter, CounterClient};
pub use lists::ListClient;
pub use own_keys::OwnKeys;
pub use shared::{Mix, PREFIX, SharedClient, Wishes};

/// Somebody who wants things of a cluster, one at a time.
pub trait Client {
    /// What to ask next; `None` for nothing now.
    fn next(&mut self) -> Option<Request>;

    /// What came of it.
    ///
    /// # Errors
    /// If it cannot be true.
    fn told(&mut self, answer: &Answer) -> Result<(), String>;

    /// It gives up waiting, and will be told that nobody knows. Whoever wants to hear the answer
    /// all the same, should it still come, says so here: late answers have to be true, too (K2).
    fn late(&mut self) -> Option<Late> {
        None
    }
}

/// Takes an answer for which nobody waits any more.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use harness::clients::{Client, Driver, Late};
/// use harness::cluster::Cluster;
/// use harness::sim::ms;
/// use kv::{Answer, Op, Request};
///
/// /// Gives up soon, and counts what becomes true behind its back.
/// struct Hasty(Rc<Cell<u64>>);
///
/// impl Client for Hasty {
///     fn next(&mut self) -> Option<Request> {
///         Some(Request::new(vec![Op::put("k", "v")]))
///     }
///
///     fn told(&mut self, _: &Answer) -> Result<(), String> {
///         Ok(())
///     }
///
///     fn late(&mut self) -> Option<Late> {
///         let done = Rc::clone(&self.0);
///         Some(Box::new(move |answer| done.set(done.get() + u64::from(answer.is_ok()))))
///     }
/// }
///
/// let (mut cluster, done) = (Cluster::sim(3, 7), Rc::new(Cell::new(0)));
/// let mut driver = Driver::new(7, 1, ms(5));
/// driver.add(Hasty(Rc::clone(&done)));
/// driver.run_for(&mut cluster, ms(1000))?;
/// driver.drain(&mut cluster, ms(2000))?;
/// assert_eq!(driver.requests().done, 0);
/// assert!(done.get() > 10);
/// # Ok::<(), String>(())
/// ```
pub type Late = Box<dyn FnOnce(&Answer)>;

/// Commands of sessions that arrive long after they were asked, when the client has asked again.
struct HeldUp {
    percent: u8,
    at_most: Time,
    rng: fastrand::Rng,
    on_the_way: Vec<(Time, StoreId, Request)>,
}

struct Slot {
    client: Box<dyn Client>,
    session: ClientSession,
    /// What is asked again and again, and until when.
    attempt: Option<(Attempt, Time)>,
    waits: Option<(Ticket, Time)>,
    /// What it asked last, if that may be held up.
    asked: Option<Request>,
    /// When to ask next.
    next: Time,
    /// Whom to ask.
    store: StoreId,
}

/// What a driver's requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Handed to a store.
    pub asked: u64,
    /// Answered with a result.
    pub done: u64,
    /// Answered: certainly no effect.
    pub refused: u64,
    /// Answered: nobody knows.
    pub unknown: u64,
    /// Not answered while the client waited.
    pub late: u64,
}

/// Asks for all clients.
pub struct Driver {
    slots: Vec<Slot>,
    /// Which client waits for which answer.
    waiting: BTreeMap<Ticket, usize>,
    /// Asked by clients that gave up, and not answered yet.
    abandoned: BTreeMap<Ticket, Option<Late>>,
    held_up: Option<HeldUp>,
    rng: fastrand::Rng,
    patience: Time,
    think: Time,
    requests: Requests,
    /// For how long a client asks again, if it does.
    persistence: Option<Time>,
    /// Nobody begins anything, nor asks again.
    is_draining: bool,
}

impl Driver {
    /// A driver whose choices follow from `seed`. Clients wait for an answer for `patience`, and
    /// between two requests for up to `think`.
    #[must_use]
    pub fn new(seed: u64, patience: Time, think: Time) -> Driver {
        Driver {
            slots: Vec::new(),
            waiting: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            held_up: None,
            rng: fastrand::Rng::with_seed(seed),
            patience,
            think,
            requests: Requests::default(),
            persistence: None,
            is_draining: false,
        }
    }

    /// Has clients ask again within a session, as [`kv::client`] does, for as long as that: so what
    /// they want takes effect exactly once. Otherwise each request is asked once.
    pub fn persist(&mut self, time: Time) {
        self.persistence = Some(time);
    }

    /// Of a hundred commands of sessions of which a client does not know what became, has so many
    /// arrive once more, up to that much later, wherever: after the next command of the session
    /// perhaps (museum L1).
    pub fn hold_up(&mut self, percent: u8, at_most: Time, seed: u64) {
        let rng = fastrand::Rng::with_seed(seed);
        self.held_up = Some(HeldUp { percent, at_most, rng, on_the_way: Vec::new() });
    }

    /// Adds a client.
    pub fn add(&mut self, client: impl Client + 'static) {
        let (client, store) = (Box::new(client), StoreId(1));
        let (session, attempt) = (ClientSession::default(), None);
        self.slots.push(Slot {
            client,
            session,
            attempt,
            waits: None,
            asked: None,
            next: 0,
            store,
        });
    }

    /// What came of all requests.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.requests
    }

    /// How many requests have not been answered, whether somebody waits for them or not.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        (self.abandoned.len() + self.waiting.len()) as u64
    }

    /// Lets the clients work for so long.
    ///
    /// # Errors
    /// If a client was told what cannot be true.
    pub fn run_for(&mut self, cluster: &mut Cluster, time: Time) -> Result<(), String> {
        let until = cluster.now() + time;
        self.is_draining = false;
        while cluster.now() < until {
            self.ask(cluster)?;
            self.advance(cluster, until)?;
        }
        Ok(())
    }

    /// Lets no client begin anything, until all that is under way is answered, or for so long.
    ///
    /// # Errors
    /// If a client was told what cannot be true.
    pub fn drain(&mut self, cluster: &mut Cluster, time: Time) -> Result<(), String> {
        let until = cluster.now() + time;
        self.stop_asking(cluster)?;
        while cluster.now() < until && self.unanswered() > 0 {
            self.advance(cluster, until)?;
        }
        Ok(())
    }

    /// As [`Driver::drain`], but lets the time pass even if nothing is under way.
    ///
    /// # Errors
    /// If a client was told what cannot be true.
    pub fn drain_or_idle(&mut self, cluster: &mut Cluster, time: Time) -> Result<(), String> {
        let until = cluster.now() + time;
        self.stop_asking(cluster)?;
        while cluster.now() < until {
            self.advance(cluster, until)?;
        }
        Ok(())
    }

    /// Those who were about to ask again give up.
    fn stop_asking(&mut self, cluster: &Cluster) -> Result<(), String> {
        self.is_draining = true;
        // What is still on its way gets lost there.
        self.held_up.iter_mut().for_each(|held_up| held_up.on_the_way.clear());
        for number in 0..self.slots.len() {
            let slot = &mut self.slots[number];
            if slot.waits.is_none()
                && let Some((attempt, _)) = slot.attempt.take()
            {
                self.answer(cluster, number, &attempt.give_up(false))?;
            }
        }
        Ok(())
    }

    /// Lets something happen, and tells the clients.
    fn advance(&mut self, cluster: &mut Cluster, until: Time) -> Result<(), String> {
        // Soon enough for clients that think, or that give up.
        let soon = self.slots.iter().map(|slot| slot.waits.map_or(slot.next, |(_, late)| late));
        // (On real threads the time may have come meanwhile.)
        let on_the_way = self.held_up.iter().flat_map(|held_up| &held_up.on_the_way);
        let soon = soon.chain(on_the_way.map(|(at, ..)| *at)).min();
        let next = soon.unwrap_or(until).max(cluster.now() + 1).min(until);
        cluster.advance(next);
        if let Some(failure) = cluster.failure() {
            return Err(failure);
        }
        self.tell(cluster)
    }

    /// What was held up arrives.
    fn deliver_late(&mut self, cluster: &mut Cluster) {
        let Some(held_up) = &mut self.held_up else { return };
        let now = cluster.now();
        for (_, store, request) in held_up.on_the_way.extract_if(.., |(at, ..)| *at <= now) {
            self.abandoned.insert(cluster.submit(store, request), None);
        }
    }

    fn ask(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        self.deliver_late(cluster);
        for number in 0..self.slots.len() {
            let slot = &mut self.slots[number];
            if slot.waits.is_some() || slot.next > cluster.now() {
                continue;
            }
            if let Some((attempt, _)) = slot.attempt.take_if(|(_, until)| *until <= cluster.now()) {
                self.answer(cluster, number, &attempt.give_up(false))?;
                continue;
            }
            let Some(request) = self.next_request(cluster, number) else { continue };
            let slot = &mut self.slots[number];
            // Reads are answered by any store; which one they ask should not matter.
            if request.is_read_only() {
                slot.store = any_store(&mut self.rng, cluster);
            }
            if self.held_up.is_some() {
                slot.asked = Some(request.clone());
            }
            let ticket = cluster.submit(slot.store, request);
            slot.waits = Some((ticket, cluster.now() + self.patience));
            self.waiting.insert(ticket, number);
            self.requests.asked += 1;
        }
        Ok(())
    }

    /// What a client asks now: the same again, or something new.
    fn next_request(&mut self, cluster: &Cluster, number: usize) -> Option<Request> {
        let slot = &mut self.slots[number];
        if slot.attempt.is_none() {
            let Some(request) = slot.client.next() else {
                slot.next = cluster.now() + self.think.max(1000);
                return None;
            };
            let Some(persistence) = self.persistence else { return Some(request) };
            slot.attempt = Some((Attempt::begin(request), cluster.now() + persistence));
        }
        let (attempt, _) = slot.attempt.as_mut()?;
        let request = attempt.request(&slot.session);
        attempt.asked(&mut slot.session);
        Some(request)
    }

    fn tell(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        while let Some((ticket, answer)) = cluster.poll() {
            match self.waiting.remove(&ticket) {
                Some(number) => self.tell_one(cluster, number, &answer)?,
                None => {
                    if let Some(late) = self.abandoned.remove(&ticket).flatten() {
                        late(&answer);
                    }
                }
            }
        }
        let now = cluster.now();
        let is_late = |slot: &Slot| slot.waits.is_some_and(|(_, late)| late <= now);
        for number in 0..self.slots.len() {
            if is_late(&self.slots[number])
                && let Some((ticket, _)) = self.slots[number].waits
            {
                self.waiting.remove(&ticket);
                let slot = &mut self.slots[number];
                // (Of a command that is asked again, one try says little.)
                let late = if slot.attempt.is_none() { slot.client.late() } else { None };
                self.abandoned.insert(ticket, late);
                self.requests.late += 1;
                self.tell_one(cluster, number, &Err(Unknown::Deadline.into()))?;
            }
        }
        Ok(())
    }

    fn tell_one(
        &mut self,
        cluster: &Cluster,
        number: usize,
        answer: &Answer,
    ) -> Result<(), String> {
        let slot = &mut self.slots[number];
        slot.waits = None;
        if let (Some(held_up), Some(asked)) = (&mut self.held_up, slot.asked.take())
            && answer.as_ref().is_err_and(Error::is_unknown)
        {
            held_up.perhaps(asked, cluster);
        }
        let Some((mut attempt, until)) = slot.attempt.take() else {
            return self.answer(cluster, number, answer);
        };
        match attempt.told(&mut slot.session, answer.clone()) {
            Next::Answered(answer) => self.answer(cluster, number, &answer),
            Next::Again(_) if self.is_draining => {
                self.answer(cluster, number, &attempt.give_up(false))
            }
            Next::Again(_) => {
                slot.attempt = Some((attempt, until));
                self.go_elsewhere(cluster, number, answer);
                Ok(())
            }
        }
    }

    /// Whom to ask next, and when.
    fn go_elsewhere(&mut self, cluster: &Cluster, number: usize, answer: &Answer) {
        let slot = &mut self.slots[number];
        let Err(why) = answer else { return };
        slot.store = match why {
            Error::Refused(Refusal::NotLeader { leader: Some(leader) }) => *leader,
            _ => any_store(&mut self.rng, cluster),
        };
        // Somebody who is refused at once does not ask again at once.
        slot.next = slot.next.max(cluster.now() + self.rng.u64(1000..20_000));
    }

    /// A client is told what came of its request.
    fn answer(&mut self, cluster: &Cluster, number: usize, answer: &Answer) -> Result<(), String> {
        self.slots[number].next = cluster.now() + self.rng.u64(..=self.think);
        let count = &mut self.requests;
        match answer {
            Ok(_) => count.done += 1,
            Err(why) if why.is_unknown() => count.unknown += 1,
            Err(_) => count.refused += 1,
        }
        self.go_elsewhere(cluster, number, answer);
        let told = self.slots[number].client.told(answer);
        told.map_err(|why| format!("client {number}: {why}"))
    }
}

impl HeldUp {
    /// Has a command of a session arrive once more, perhaps.
    fn perhaps(&mut self, request: Request, cluster: &Cluster) {
        let is_command = matches!(request.session, Some(Session::Command { .. }));
        if is_command && self.rng.u8(..100) < self.percent {
            let at = cluster.now() + self.rng.u64(1..=self.at_most.max(1));
            self.on_the_way.push((at, any_store(&mut self.rng, cluster), request));
        }
    }
}

fn any_store(rng: &mut fastrand::Rng, cluster: &Cluster) -> StoreId {
    let stores = cluster.stores();
    stores[rng.usize(..stores.len())]
}
