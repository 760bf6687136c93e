//! Clients whose questions and answers are recorded.
//!
//! | client | asks | after an error |
//! |---|---|---|
//! | plain | any store, in Redis's words | goes elsewhere, and never asks the same again |
//! | [`kv::Client`] | the leader, within a session | asks again until it knows, or its deadline |
//! | keeper | any store, writes of keys of its own, 16 at a time | goes elsewhere |
//!
//! The first two share keys and one history, which is to be judged; a question without an answer stays
//! in it as unknown. What the keeper was told to be done must be there for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::client::ClientOptions;
use kv::client::resp::RespLink;
use kv::{Client, Request, Response};

use super::resp::Connection;
use super::words::{Fate, commands, fate};
use crate::clients::{Mix, Wishes};
use crate::linearizability::CallId;
use crate::linearizability::store::Requests;

/// Writes that a keeper sends at once.
const AT_ONCE: u64 = 16;

/// Who works, on what, and how fast.
///
/// ```
/// use harness::processes::recorders::Workload;
///
/// let workload = Workload::new("round 1 ".to_owned(), 7);
/// assert!(workload.keys < 10 && workload.plain > 0 && workload.persistent > 0);
/// ```
#[derive(Clone, Debug)]
pub struct Workload {
    /// What all keys of it begin with.
    pub prefix: String,
    /// How many keys are shared.
    pub keys: usize,
    /// What is asked of them.
    pub mix: Mix,
    /// Clients in Redis's words.
    pub plain: usize,
    /// Clients that ask again.
    pub persistent: usize,
    /// The longest pause between two questions of a client.
    pub think: Duration,
    /// For what clients choose.
    pub seed: u64,
}

impl Workload {
    /// Four plain clients and two persistent ones on six keys, with some of everything.
    #[must_use]
    pub fn new(prefix: String, seed: u64) -> Workload {
        // Ranges and several keys at once make one part of all keys: not always.
        let joined = u32::from(seed.is_multiple_of(2));
        let mix = Mix { multi: 2 * joined, scan: joined, ..Mix::default() };
        let think = Duration::from_millis(8);
        Workload { prefix, keys: 6, mix, plain: 4, persistent: 2, think, seed }
    }

    /// The names of the shared keys.
    #[must_use]
    pub fn names(&self) -> Vec<Bytes> {
        Wishes::keys(&self.prefix, self.keys)
    }
}

/// What the clients have found out.
#[derive(Debug, Default)]
pub struct Record {
    /// What was asked and told of the shared keys.
    pub history: Requests,
    /// Keys that were acknowledged, each with itself as its value.
    pub kept: Vec<Bytes>,
    /// Writes of keepers of which nobody knows.
    pub unsure: u64,
    /// The longest time without any answer to a recorded question.
    pub silence: Duration,
    /// What cannot be true.
    pub nonsense: Option<String>,
}

struct Shared {
    record: Mutex<(Record, Instant)>,
    is_over: AtomicBool,
    addresses: Vec<SocketAddr>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Record, Instant)> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn invoke(&self, client: usize, request: &Request) -> CallId {
        self.lock().0.history.invoke(client, request.clone())
    }

    fn done(&self, call: CallId, response: Response) {
        let (record, last) = &mut *self.lock();
        record.history.answer(call, response);
        let now = Instant::now();
        record.silence = record.silence.max(now.duration_since(*last));
        *last = now;
    }

    fn refused(&self, call: CallId) {
        self.lock().0.history.refuse(call);
    }
}

/// Clients at work.
///
/// ```no_run
/// use harness::linearizability::store;
/// use harness::processes::recorders::{Record, Recorders, Workload};
///
/// let stores = vec![([127, 0, 0, 1], 7001).into(), ([127, 0, 0, 1], 7002).into()];
/// let recorders = Recorders::start(&Workload::new("mine ".into(), 1), stores);
/// // … something is done to the stores …
/// let record: Record = recorders.finish()?;
/// println!("{:?}", store::check(&record.history, 1_000_000));
/// # Ok::<(), String>(())
/// ```
pub struct Recorders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Recorders {
    /// Starts them, each in a thread of its own, as clients of the stores at those addresses.
    #[must_use]
    pub fn start(workload: &Workload, addresses: Vec<SocketAddr>) -> Recorders {
        let record = Mutex::new((Record::default(), Instant::now()));
        let shared = Arc::new(Shared { record, is_over: AtomicBool::new(false), addresses });
        let mut threads = Vec::new();
        for number in 1..=workload.plain + workload.persistent {
            let seed = workload.seed << 8 | number as u64;
            let Workload { prefix, keys, mix, think, .. } = workload;
            let worker = Worker {
                shared: Arc::clone(&shared),
                number,
                wishes: Wishes::new(prefix, number, *keys, *mix, seed),
                rng: fastrand::Rng::with_seed(!seed),
                think: *think,
            };
            let is_plain = number <= workload.plain;
            threads.push(std::thread::spawn(move || match is_plain {
                true => worker.plain(),
                false => worker.persistent(),
            }));
        }
        let (keeper, prefix) = (Arc::clone(&shared), workload.prefix.clone());
        threads.push(std::thread::spawn(move || keep(&keeper, &prefix)));
        Recorders { shared, threads }
    }

    /// How many recorded questions have been answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.lock().0.history.tally().answered
    }

    /// Waits until each has the answer it waits for, or has given up.
    ///
    /// # Errors
    /// If one was told what makes no sense.
    pub fn finish(self) -> Result<Record, String> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a client panicked".to_owned())?;
        }
        let mut record = std::mem::take(&mut self.shared.lock().0);
        record.nonsense.take().map_or(Ok(record), Err)
    }
}

/// One client of the shared keys.
struct Worker {
    shared: Arc<Shared>,
    number: usize,
    wishes: Wishes,
    rng: fastrand::Rng,
    think: Duration,
}

impl Worker {
    fn think(&mut self) {
        let most = u64::try_from(self.think.as_micros()).unwrap_or(u64::MAX);
        std::thread::sleep(Duration::from_micros(self.rng.u64(..=most)));
    }

    fn plain(mut self) {
        let mut open: Option<Connection> = None;
        while !self.shared.is_over() {
            self.think();
            if self.rng.u8(..50) == 0 {
                open = None;
            }
            let Some(mut connection) = open.take().or_else(|| self.connect()) else { continue };
            let request = self.wishes.draw();
            let call = self.shared.invoke(self.number, &request);
            let Ok(replies) = connection.pipeline(&commands(&request)) else {
                // Who only reads has no effect, whatever comes of it.
                if request.is_read_only() {
                    self.shared.refused(call);
                }
                continue;
            };
            match fate(&request, &replies) {
                Ok(Fate::Done(response)) => {
                    self.wishes.saw(&request, &response);
                    self.shared.done(call, response);
                }
                Ok(Fate::Refused) => self.shared.refused(call),
                Ok(Fate::Unknown) => {}
                Err(why) => self.shared.lock().0.nonsense = Some(why),
            }
            open = Some(connection);
        }
    }

    /// To any store, and with any patience.
    fn connect(&mut self) -> Option<Connection> {
        let at = self.rng.usize(..self.shared.addresses.len());
        let patience = Duration::from_millis(self.rng.u64(100..3000));
        Connection::open(self.shared.addresses[at], patience).ok()
    }

    fn persistent(mut self) {
        let link = RespLink::new(self.shared.addresses.iter().copied());
        let options = ClientOptions {
            deadline: Duration::from_secs(self.rng.u64(2..6)),
            attempt: Duration::from_millis(self.rng.u64(100..1000)),
            pause: Duration::from_millis(10),
        };
        let mut client = Client::with(link, options);
        while !self.shared.is_over() {
            self.think();
            let request = self.wishes.draw();
            let call = self.shared.invoke(self.number, &request);
            match client.request(request.clone()) {
                Ok(response) => {
                    self.wishes.saw(&request, &response);
                    self.shared.done(call, response);
                }
                Err(why) if why.is_unknown() && !request.is_read_only() => {}
                Err(_) => self.shared.refused(call),
            }
        }
    }
}

/// Writes keys of its own, and remembers those that were acknowledged.
fn keep(shared: &Shared, prefix: &str) {
    let (mut open, mut at) = (None, 0);
    for batch in 0.. {
        std::thread::sleep(Duration::from_millis(5));
        if shared.is_over() {
            return;
        }
        let address = shared.addresses[at % shared.addresses.len()];
        let connect = || Connection::open(address, Duration::from_secs(1)).ok();
        let Some(mut connection) = open.take().or_else(connect) else {
            at += 1;
            continue;
        };
        let keys: Vec<Bytes> = (batch * AT_ONCE..(batch + 1) * AT_ONCE)
            .map(|n| format!("kept {prefix}{n}").into())
            .collect();
        let told = write(&mut connection, &keys);
        let mut record = shared.lock();
        match told {
            Ok(kept) => {
                record.0.kept.extend(kept);
                open = Some(connection);
            }
            Err(_) => {
                record.0.unsure += AT_ONCE;
                at += 1;
            }
        }
    }
}

/// Those of the keys that are acknowledged.
fn write(connection: &mut Connection, keys: &[Bytes]) -> io::Result<Vec<Bytes>> {
    let set = |key: &Bytes| vec!["SET".into(), key.clone(), key.clone()];
    let replies = connection.pipeline(&keys.iter().map(set).collect::<Vec<_>>())?;
    let told = keys.iter().zip(&replies).filter(|(_, reply)| reply.is_ok());
    Ok(told.map(|(key, _)| key.clone()).collect())
}
