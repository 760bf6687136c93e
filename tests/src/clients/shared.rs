//! Clients that do everything to keys they share, and a history of it for the judge of
//! [`crate::linearizability`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use kv::{Answer, Cf, Condition, Op, OpResult, Request, Response};

use crate::clients::{Client, Late};
use crate::linearizability::CallId;
use crate::linearizability::store::Requests;

/// How often a client asks for what, against the others; 0 for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Reads of one key.
    pub get: u32,
    /// Writes, some of them only if there is a value, or none.
    pub put: u32,
    /// Removals.
    pub delete: u32,
    /// Additions.
    pub add: u32,
    /// Appends.
    pub append: u32,
    /// Compare-and-set against what the client saw last.
    pub compare_and_set: u32,
    /// Scans and counts of all the keys. They join the keys into one part, which is costlier to
    /// judge.
    pub scan: u32,
    /// Several operations as one, on two keys.
    pub multi: u32,
}

impl Default for Mix {
    /// Of everything on one key alone.
    fn default() -> Mix {
        Mix { get: 6, put: 3, delete: 1, add: 2, append: 1, compare_and_set: 2, scan: 0, multi: 0 }
    }
}

/// What all shared keys begin with, and nothing else does.
pub const PREFIX: &str = "shared ";

/// What a client of shared keys asks for, one thing after the other, drawn from a seed. Where it asks
/// and how it waits is somebody else's business.
///
/// ```
/// use harness::clients::{Mix, Wishes};
/// use kv::Op;
///
/// let reads = Mix { get: 1, put: 0, delete: 0, add: 0, append: 0, compare_and_set: 0, ..Mix::default() };
/// let mut wishes = Wishes::new("some ", 1, 2, reads, 7);
/// assert!(matches!(&wishes.draw().ops[..], [Op::Get { key, .. }] if key.starts_with(b"some ")));
/// ```
#[derive(Debug)]
pub struct Wishes {
    prefix: String,
    number: usize,
    keys: Vec<Bytes>,
    mix: Mix,
    rng: fastrand::Rng,
    /// Makes its values unlike all others.
    serial: u64,
    /// What it saw last.
    seen: BTreeMap<Bytes, Option<Bytes>>,
}

impl Wishes {
    /// The wishes of the client with that number, about `keys` keys that begin with `prefix`, as
    /// nothing else does.
    #[must_use]
    pub fn new(prefix: &str, number: usize, keys: usize, mix: Mix, seed: u64) -> Wishes {
        let keys = Wishes::keys(prefix, keys);
        let (prefix, rng) = (prefix.to_owned(), fastrand::Rng::with_seed(seed));
        Wishes { prefix, number, keys, mix, rng, serial: 0, seen: BTreeMap::new() }
    }

    /// The names of that many keys.
    #[must_use]
    pub fn keys(prefix: &str, count: usize) -> Vec<Bytes> {
        (0..count.max(1)).map(|n| format!("{prefix}{n}").into()).collect()
    }

    fn key(&mut self) -> Bytes {
        self.keys[self.rng.usize(..self.keys.len())].clone()
    }

    /// A number that nobody else writes: it can be added to.
    fn value(&mut self) -> Bytes {
        self.serial += 1;
        (self.number as u64 * 1_000_000 + self.serial).to_string().into()
    }

    fn put(&mut self) -> Op {
        let (key, value) = (self.key(), self.value());
        let condition = match self.rng.u8(..6) {
            0 => Condition::IfAbsent,
            1 => Condition::IfPresent,
            _ => Condition::None,
        };
        Op::Put { cf: Cf::Default, key, value, condition, return_old: self.rng.bool() }
    }

    fn compare_and_set(&mut self) -> Op {
        let key = self.key();
        let expected = self.seen.get(&key).cloned().flatten();
        let new = (self.rng.u8(..4) > 0).then(|| self.value());
        Op::compare_and_set(key, expected, new)
    }

    fn scan(&mut self) -> Op {
        let start = Bytes::copy_from_slice(self.prefix.as_bytes());
        // The first key beyond all that begin so: a prefix is text, so its last byte can grow.
        let mut end = start.to_vec();
        end.last_mut().into_iter().for_each(|last| *last += 1);
        let (end, cf) = (Bytes::from(end), Cf::Default);
        if self.rng.u8(..3) == 0 {
            return Op::Count { cf, start, end };
        }
        let (reverse, keys_only) = (self.rng.bool(), self.rng.u8(..4) == 0);
        Op::Scan { cf, start, end, limit: self.rng.u32(1..10), reverse, keys_only }
    }

    /// The next one.
    pub fn draw(&mut self) -> Request {
        let Mix { get, put, delete, add, append, compare_and_set, scan, multi } = self.mix;
        let weights = [get, put, delete, add, append, compare_and_set, scan, multi];
        let mut at = self.rng.u32(..weights.iter().sum::<u32>().max(1));
        let kind = weights.iter().position(|&weight| match at.checked_sub(weight) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        });
        let key = self.key();
        match kind {
            Some(1) => self.put().into(),
            Some(2) => Op::Delete { cf: Cf::Default, key, return_old: self.rng.bool() }.into(),
            Some(3) => Op::add(key, self.rng.i64(-3..10)).into(),
            Some(4) => Op::Append { cf: Cf::Default, key, value: self.value() }.into(),
            Some(5) => self.compare_and_set().into(),
            Some(6) => self.scan().into(),
            Some(7) => Request::new(vec![self.put(), Op::get(key), Op::add(self.key(), 1)]),
            _ => Op::get(key).into(),
        }
    }

    /// What came of one: later ones compare with the values that were seen.
    pub fn saw(&mut self, request: &Request, response: &Response) {
        if let ([Op::Get { key, .. }], [OpResult::Value(value)]) =
            (&request.ops[..], &response.results[..])
        {
            self.seen.insert(key.clone(), value.clone());
        }
    }
}

/// One client; all of them write one history.
pub struct SharedClient {
    history: Rc<RefCell<Requests>>,
    number: usize,
    wishes: Wishes,
    waits: Option<(CallId, Request)>,
}

impl SharedClient {
    /// The client with that number, of `keys` keys, that writes its doings into `history`.
    #[must_use]
    pub fn new(
        history: Rc<RefCell<Requests>>,
        number: usize,
        keys: usize,
        mix: Mix,
        seed: u64,
    ) -> SharedClient {
        let wishes = Wishes::new(PREFIX, number, keys, mix, seed);
        SharedClient { history, number, wishes, waits: None }
    }

    /// The names of that many keys.
    #[must_use]
    pub fn keys(count: usize) -> Vec<Bytes> {
        Wishes::keys(PREFIX, count)
    }
}

impl Client for SharedClient {
    fn next(&mut self) -> Option<Request> {
        let request = self.wishes.draw();
        let call = self.history.borrow_mut().invoke(self.number, request.clone());
        self.waits = Some((call, request.clone()));
        Some(request)
    }

    fn told(&mut self, answer: &Answer) -> Result<(), String> {
        let Some((call, request)) = self.waits.take() else {
            return Err("nobody asked".to_owned());
        };
        let mut history = self.history.borrow_mut();
        match answer {
            Ok(response) => {
                self.wishes.saw(&request, response);
                history.answer(call, response.clone());
            }
            // Without an answer it may take effect for ever.
            Err(why) if why.is_unknown() => {}
            Err(_) => history.refuse(call),
        }
        Ok(())
    }
    fn late(&mut self) -> Option<Late> {
        let (call, _) = self.waits.as_ref()?;
        let (history, call) = (Rc::clone(&self.history), *call);
        Some(Box::new(move |answer| match answer {
            Ok(response) => history.borrow_mut().answer(call, response.clone()),
            Err(why) if why.is_unknown() => {}
            Err(_) => history.borrow_mut().refuse(call),
        }))
    }
}
