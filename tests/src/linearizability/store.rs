//! The key-value store as a [`Model`], and how its histories fall into parts.
//!
//! The model is a second, simple implementation of every operation: a sorted map, and a page of code
//! that was not written with the store's own in view. Values are taken to be small: the limits of
//! [`kv::command`] are not modelled.
//!
//! **Parts.** A history is linearizable if and only if that is so for each object alone (Herlihy and
//! Wing's locality), and the search is exponential, so it is run on each part by itself. A key is an
//! object unless some request touches several: all keys of a request belong together, and a range
//! holds together all keys of the history that are in it.
//!
//! ```
//! use harness::linearizability::store::{Requests, Store, check, parts};
//! use harness::linearizability::{Verdict, search};
//! use kv::{Op, OpResult, Response};
//!
//! let mut history = Requests::new();
//! for key in ["x", "y"] {
//!     let call = history.invoke(1, Op::add(key, 2).into());
//!     history.answer(call, Response { results: vec![OpResult::Integer(2)] });
//! }
//! assert_eq!(parts(&history).len(), 2, "nothing joins the two keys");
//! assert!(matches!(check(&history, 100), Verdict::Linearizable { .. }));
//! // All of it at once is the same, and dearer.
//! assert!(matches!(search::check(&Store, &history, 100), Verdict::Linearizable { .. }));
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use kv::{Cf, Condition, Op, OpError, OpResult, Request, Response};

use crate::linearizability::{History, Model, Verdict, search};

/// A history of requests to the store.
pub type Requests = History<Request, Response>;

type Map = BTreeMap<(Cf, Bytes), Bytes>;

/// Judges a history, each part within `steps_max`. The first part that is not linearizable is the
/// verdict; else an undecided one is.
#[must_use]
pub fn check(history: &Requests, steps_max: u64) -> Verdict {
    let (mut order, mut all) = (Vec::new(), 0);
    let mut undecided = None;
    for (calls, part) in parts(history) {
        match search::check(&Store, &part, steps_max) {
            Verdict::Linearizable { order: of_part, steps } => {
                order.extend(of_part.into_iter().map(|at| calls[at]));
                all += steps;
            }
            Verdict::Undecided { steps } => undecided = Some(Verdict::Undecided { steps }),
            violation @ Verdict::Violation(_) => return violation,
        }
    }
    undecided.unwrap_or(Verdict::Linearizable { order, steps: all })
}

/// The parts that can be judged alone, each with the positions of its calls in the whole.
#[must_use]
pub fn parts(history: &Requests) -> Vec<(Vec<usize>, Requests)> {
    let calls = history.calls();
    let mut keys: BTreeMap<(Cf, &Bytes), usize> = BTreeMap::new();
    for op in calls.iter().flat_map(|call| &call.op.ops) {
        if let Some(key) = op.key() {
            let next = keys.len();
            keys.entry((op.cf(), key)).or_insert(next);
        }
    }
    let mut groups = Groups((0..keys.len()).collect());
    let mut of_calls = Vec::with_capacity(calls.len());
    for call in calls {
        let mut first = None;
        for op in &call.op.ops {
            for (&at, &number) in &keys {
                if touches(op, at) {
                    groups.join(*first.get_or_insert(number), number);
                }
            }
        }
        of_calls.push(first);
    }
    let mut parts: BTreeMap<Option<usize>, (Vec<usize>, Requests)> = BTreeMap::new();
    for (at, (call, key)) in calls.iter().zip(of_calls).enumerate() {
        let (positions, part) = parts.entry(key.map(|key| groups.find(key))).or_default();
        positions.push(at);
        part.push(call.clone());
    }
    parts.into_values().collect()
}

fn touches(op: &Op, (cf, key): (Cf, &Bytes)) -> bool {
    if op.cf() != cf {
        return false;
    }
    match op {
        Op::Scan { start, end, .. } | Op::Count { start, end, .. } => {
            start <= key && (end.is_empty() || key < end)
        }
        other => other.key() == Some(key),
    }
}

/// Sets of keys that belong together.
struct Groups(Vec<usize>);

impl Groups {
    fn find(&mut self, key: usize) -> usize {
        let mut at = key;
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// A single copy of the store, empty at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Store;

impl Model for Store {
    type Op = Request;
    type Answer = Response;
    type State = Map;

    fn begin(&self) -> Map {
        Map::new()
    }

    fn apply(&self, state: &mut Map, request: &Request) -> Response {
        Response { results: request.ops.iter().map(|op| one(state, op)).collect() }
    }

    fn is_read(&self, request: &Request, answer: &Response) -> bool {
        let is_read = |(op, result): (&Op, &OpResult)| match result {
            OpResult::Failed(_)
            | OpResult::Put { written: false, .. }
            | OpResult::Deleted { existed: false, .. }
            | OpResult::Swapped { swapped: false, .. } => true,
            _ => op.is_read_only(),
        };
        request.ops.iter().zip(&answer.results).all(is_read)
    }
}

fn one(map: &mut Map, op: &Op) -> OpResult {
    let found = op.key().and_then(|key| map.get(&(op.cf(), key.clone())).cloned());
    let mut set = |value: Option<Bytes>| match (op.key(), value) {
        (Some(key), Some(value)) => drop(map.insert((op.cf(), key.clone()), value)),
        (Some(key), None) => drop(map.remove(&(op.cf(), key.clone()))),
        (None, _) => {}
    };
    match op {
        Op::Get { .. } => OpResult::Value(found),
        Op::Exists { .. } => OpResult::Exists(found.is_some()),
        Op::Length { .. } => OpResult::Length(found.map_or(0, |value| value.len() as u64)),
        Op::Put { value, condition, return_old, .. } => {
            let written = match condition {
                Condition::None => true,
                Condition::IfAbsent => found.is_none(),
                Condition::IfPresent => found.is_some(),
            };
            if written {
                set(Some(value.clone()));
            }
            OpResult::Put { written, old: found.filter(|_| *return_old) }
        }
        Op::Delete { return_old, .. } => {
            set(None);
            OpResult::Deleted { existed: found.is_some(), old: found.filter(|_| *return_old) }
        }
        Op::Add { delta, .. } => match sum(found.as_deref(), *delta) {
            Ok(sum) => {
                set(Some(sum.to_string().into()));
                OpResult::Integer(sum)
            }
            Err(why) => OpResult::Failed(why),
        },
        Op::Append { value, .. } => {
            let whole = [&found.unwrap_or_default()[..], value].concat();
            let length = whole.len() as u64;
            set(Some(whole.into()));
            OpResult::Length(length)
        }
        Op::CompareAndSet { expected, new, .. } if found == *expected => {
            set(new.clone());
            OpResult::Swapped { swapped: true, current: None }
        }
        Op::CompareAndSet { .. } => OpResult::Swapped { swapped: false, current: found },
        Op::Scan { start, end, limit, reverse, keys_only, cf } => {
            let mut pairs = range(map, *cf, start, end);
            if *reverse {
                pairs.reverse();
            }
            let more = pairs.len() > *limit as usize;
            pairs.truncate(*limit as usize);
            if *keys_only {
                pairs.iter_mut().for_each(|(_, value)| *value = Bytes::new());
            }
            OpResult::Pairs { pairs, more }
        }
        Op::Count { start, end, cf } => OpResult::Count(range(map, *cf, start, end).len() as u64),
    }
}

fn sum(text: Option<&[u8]>, delta: i64) -> Result<i64, OpError> {
    let number = match text {
        None => 0,
        Some(text) => {
            let text = std::str::from_utf8(text).map_err(|_| OpError::NotAnInteger)?;
            let number: i64 = text.parse().map_err(|_| OpError::NotAnInteger)?;
            // Only the shortest form is a number.
            if number.to_string() == text { number } else { return Err(OpError::NotAnInteger) }
        }
    };
    number.checked_add(delta).ok_or(OpError::Overflow)
}

fn range(map: &Map, cf: Cf, start: &[u8], end: &[u8]) -> Vec<(Bytes, Bytes)> {
    let within = |key: &[u8]| key >= start && (end.is_empty() || key < end);
    let of = map.iter().filter(|((of, key), _)| *of == cf && within(key));
    of.map(|((_, key), value)| (key.clone(), value.clone())).collect()
}
