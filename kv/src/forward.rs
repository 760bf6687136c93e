//! From any store to the one that leads: who asks one store is served by the cluster.
//!
//! Reads are done where they arrive, by read index or lease, unless they are to go through the log
//! as writes do. Writes go to the leader: to this store if it
//! leads, else as a service packet to the store that does.
//!
//! ```text
//!             ┌── this store leads ──► propose ── refused: not the leader ──┐
//! write ─► route ── another leads ──► Request ── Reply: not the leader ─────┤
//!             ├── nobody known ──────► parked ◄─────────────────────────────┘
//!             └──────── try again ◄──────┘ until the deadline: Timeout
//! ```
//!
//! **A write is tried again only if the answer is that it certainly had no effect**: the store it
//! was offered to did not propose it, or the packet never left. Everything else (the connection to
//! the leader lost, no reply in time) is answered with [`Unknown`], because trying again could
//! carry the write out twice. A request packet is sent once; the transport never repeats it.
//!
//! Requests are numbered from a random start, so that a reply meant for an earlier life of this
//! store, which arrives late over a new connection, belongs to nobody.
//!
//! A request packet holds a [`Request`] as it goes into the log; a reply packet an [`Answer`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use raftstore::{Epoch, Refusal, StoreId, Unknown};

use crate::answer::{self, Answer, Error};
use crate::callback::Callback;
use crate::command::encoding::{LimitExceeded, Ops};
use crate::command::{KEY_BYTES_MAX, OPS_MAX, REQUEST_BYTES_MAX, Request, VALUE_BYTES_MAX};
use crate::reads::Reads;

/// The store of this process, as forwarding needs it. Nothing here blocks.
pub(crate) trait Local: Send + Sync + 'static {
    /// Who it is.
    fn store(&self) -> StoreId;
    /// How the region looks from here.
    fn view(&self) -> View;
    /// Offers an encoded request to the log.
    fn propose(&self, epoch: Epoch, request: Bytes, callback: Callback);
    /// Reads here, as of now or later.
    fn read(&self, epoch: Epoch, request: Request, callback: Callback);
    /// Sends a request to another store, once. False if it certainly will not arrive.
    fn send_request(&self, to: StoreId, id: u64, body: Bytes) -> bool;
    /// Sends the answer to a request back. False if it certainly will not arrive.
    fn send_reply(&self, to: StoreId, id: u64, body: Bytes) -> bool;
}

/// A region as a store sees it. May be out of date, which is noticed where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The store that leads, if known.
    pub(crate) leader: Option<StoreId>,
    /// The region's epoch.
    pub(crate) epoch: Epoch,
}

/// How often what is parked is tried again, and deadlines are looked at. A new leader is found so
/// much later than it could be.
const TICK: Duration = Duration::from_millis(20);

/// Stores that are tried one after the other at once, when each names the next. More is a rumour
/// that goes in circles, and waits for the next tick.
const HOPS_MAX: u32 = 3;

/// A write on its way.
struct Job {
    body: Bytes,
    callback: Callback,
    deadline: Instant,
    hops: u32,
}

/// A write that another store has.
struct Sent {
    to: StoreId,
    job: Job,
}

#[derive(Default)]
struct State {
    sent: HashMap<u64, Sent>,
    parked: Vec<Job>,
    next_id: u64,
    /// Nothing was on its way when the watch last looked: it has to be woken.
    is_watch_idle: bool,
    is_stopped: bool,
}

/// Routes the requests that arrive at one store.
pub(crate) struct Forwarder<L> {
    local: L,
    timeout: Duration,
    reads: Reads,
    /// Never locked while something outside is called: an answer may come from within.
    state: Mutex<State>,
    /// There is something to watch, or nothing ever again.
    changed: Condvar,
}

impl<L: Local> Forwarder<L> {
    /// A forwarder whose writes find a leader and get an answer within `timeout`. Some thread has
    /// to call [`Forwarder::watch`].
    pub(crate) fn new(local: L, timeout: Duration, reads: Reads) -> Arc<Forwarder<L>> {
        let state = State { next_id: RandomState::new().hash_one(0), ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Arc::new(Forwarder { local, timeout, reads, state, changed })
    }

    /// The store behind it.
    pub(crate) fn local(&self) -> &L {
        &self.local
    }

    /// Takes all requests of `batch`, of clients of this store, on.
    pub(crate) fn submit(self: &Arc<Self>, batch: &mut Vec<(Request, Callback)>, now: Instant) {
        let view = self.local.view();
        let deadline = now + self.timeout;
        for (request, callback) in batch.drain(..) {
            if request.is_read_only() && self.reads != Reads::Log {
                self.local.read(view.epoch, request, callback);
                continue;
            }
            match request.encode() {
                Ok(body) => self.route(Job { body, callback, deadline, hops: 0 }, view),
                Err(e) => callback.answer(Err(too_large(e).into())),
            }
        }
    }

    fn route(self: &Arc<Self>, mut job: Job, view: View) {
        job.hops += 1;
        match view.leader {
            Some(leader) if job.hops > HOPS_MAX => {
                log::debug!("the leader is said to be {leader}; waiting");
                self.park(job);
            }
            Some(leader) if leader == self.local.store() => self.propose(job, view.epoch),
            Some(leader) => self.send(job, leader),
            None => self.park(job),
        }
    }

    fn propose(self: &Arc<Self>, job: Job, epoch: Epoch) {
        let forwarder = Arc::clone(self);
        let body = job.body.clone();
        self.local.propose(epoch, body, Callback::new(move |answer| forwarder.settle(job, answer)));
    }

    fn send(&self, job: Job, to: StoreId) {
        let body = job.body.clone();
        let id = {
            let mut state = self.state.lock();
            if state.is_stopped {
                drop(state);
                return job.callback.answer(Err(Refusal::ShuttingDown.into()));
            }
            let id = state.next_id;
            state.next_id = id.wrapping_add(1);
            state.sent.insert(id, Sent { to, job });
            self.wake_watch(&mut state);
            id
        };
        if !self.local.send_request(to, id, body) {
            // Unless the connection's loss has answered it meanwhile.
            let sent = self.state.lock().sent.remove(&id);
            if let Some(Sent { job, .. }) = sent {
                self.park(job);
            }
        }
    }

    fn park(&self, job: Job) {
        {
            let mut state = self.state.lock();
            if !state.is_stopped {
                state.parked.push(job);
                return self.wake_watch(&mut state);
            }
        }
        job.callback.answer(Err(Refusal::ShuttingDown.into()));
    }

    fn wake_watch(&self, state: &mut State) {
        if std::mem::take(&mut state.is_watch_idle) {
            self.changed.notify_one();
        }
    }

    /// An answer has come: hands it on, or tries again if nothing was done.
    fn settle(self: &Arc<Self>, job: Job, answer: Answer) {
        match answer {
            Err(Error::Refused(Refusal::NotLeader { leader })) => {
                let epoch = self.local.view().epoch;
                self.route(job, View { leader, epoch });
            }
            // It stops, or another leader's entries have taken the place of this one.
            Err(Error::Refused(Refusal::ShuttingDown) | Error::StaleCommand) => self.park(job),
            other => job.callback.answer(other),
        }
    }

    /// A request of another store's client: this store is thought to lead.
    ///
    /// What can't be read is not proposed: an entry that a state machine can't read halts it.
    pub(crate) fn on_request(self: &Arc<Self>, from: StoreId, id: u64, body: Bytes) {
        let forwarder = Arc::clone(self);
        let callback = Callback::new(move |answer| {
            if !forwarder.local.send_reply(from, id, answer::encode(&answer)) {
                log::debug!("the answer to request {id} of store {from} can't be sent");
            }
        });
        match Ops::read(&body).and_then(|mut ops| ops.try_for_each(|op| op.map(drop))) {
            Ok(()) => self.local.propose(self.local.view().epoch, body, callback),
            Err(e) => {
                log::warn!("a request of store {from} is refused: {e}");
                callback.answer(Err(Refusal::Timeout.into()));
            }
        }
    }

    /// The answer to a request that was sent to another store.
    pub(crate) fn on_reply(self: &Arc<Self>, from: StoreId, id: u64, body: &Bytes) {
        let sent = {
            let mut state = self.state.lock();
            match state.sent.get(&id) {
                Some(sent) if sent.to == from => state.sent.remove(&id),
                _ => None,
            }
        };
        if let Some(Sent { job, .. }) = sent {
            let answer = answer::decode(body).unwrap_or_else(|e| {
                log::warn!("an answer of store {from}: {e}");
                Err(Unknown::LeaderLost.into())
            });
            self.settle(job, answer);
        }
    }

    /// The connection to `store` was lost, and with it what was on its way, or its reply.
    pub(crate) fn on_lost(&self, store: StoreId) {
        let lost: Vec<Sent> = {
            let mut state = self.state.lock();
            state.sent.extract_if(|_, sent| sent.to == store).map(|(_, sent)| sent).collect()
        };
        for Sent { job, .. } in lost {
            job.callback.answer(Err(Unknown::LeaderLost.into()));
        }
    }

    /// Tries what is parked again, and ends what takes too long.
    pub(crate) fn tick(self: &Arc<Self>, now: Instant) {
        let (late, parked) = {
            let mut state = self.state.lock();
            let late: Vec<Sent> = state
                .sent
                .extract_if(|_, sent| sent.job.deadline <= now)
                .map(|(_, sent)| sent)
                .collect();
            (late, std::mem::take(&mut state.parked))
        };
        for Sent { job, .. } in late {
            job.callback.answer(Err(Unknown::Deadline.into()));
        }
        if parked.is_empty() {
            return;
        }
        let view = self.local.view();
        for mut job in parked {
            if job.deadline <= now {
                job.callback.answer(Err(Refusal::Timeout.into()));
            } else {
                job.hops = 0;
                self.route(job, view);
            }
        }
    }

    /// Watches deadlines until stopped; the body of a thread. Sleeps while nothing is on its way.
    pub(crate) fn watch(self: &Arc<Self>) {
        while self.wait_for_tick() {
            self.tick(Instant::now());
        }
    }

    /// Whether there is a tick to come.
    fn wait_for_tick(&self) -> bool {
        let mut state = self.state.lock();
        while state.sent.is_empty() && state.parked.is_empty() && !state.is_stopped {
            state.is_watch_idle = true;
            self.changed.wait(&mut state);
        }
        state.is_watch_idle = false;
        let next = Instant::now() + TICK;
        while !state.is_stopped && !self.changed.wait_until(&mut state, next).timed_out() {}
        !state.is_stopped
    }

    /// Ends [`Forwarder::watch`] and answers everybody who still waits here.
    pub(crate) fn stop(&self) {
        let (sent, parked) = {
            let mut state = self.state.lock();
            state.is_stopped = true;
            (std::mem::take(&mut state.sent), std::mem::take(&mut state.parked))
        };
        self.changed.notify_all();
        for Sent { job, .. } in sent.into_values() {
            job.callback.answer(Err(Unknown::ShuttingDown.into()));
        }
        for job in parked {
            job.callback.answer(Err(Refusal::ShuttingDown.into()));
        }
    }
}

fn too_large(why: LimitExceeded) -> Refusal {
    let (bytes, max) = match why {
        LimitExceeded::Key(bytes) => (bytes, KEY_BYTES_MAX),
        LimitExceeded::Value(bytes) => (bytes, VALUE_BYTES_MAX),
        LimitExceeded::Ops(count) => (count, OPS_MAX),
        // Nobody should ask for that, and none of it is too little.
        LimitExceeded::Family => (1, 0),
        LimitExceeded::Request(bytes) => (bytes, REQUEST_BYTES_MAX),
    };
    Refusal::TooLarge { bytes, max }
}

#[cfg(test)]
mod tests;
