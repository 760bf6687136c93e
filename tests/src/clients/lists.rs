//! Clients that append to lists they share, and read them.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use kv::{Answer, Cf, Op, OpResult, Request};

use crate::clients::{Client, Late};
use crate::lists::{Appended, Lists, OpId};

/// Appends to shared keys and reads them; [`Lists`] judges all that they did together.
pub struct ListClient {
    lists: Rc<RefCell<Lists>>,
    keys: Vec<Bytes>,
    /// Of so many requests.
    reads_percent: u8,
    rng: fastrand::Rng,
    /// What it waits for.
    append: Option<OpId>,
    read: Option<OpId>,
}

impl ListClient {
    /// A client that writes its doings into `lists`.
    #[must_use]
    pub fn new(lists: Rc<RefCell<Lists>>, keys: Vec<Bytes>, reads_percent: u8, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        ListClient { lists, keys, reads_percent, rng, append: None, read: None }
    }
}

impl Client for ListClient {
    fn next(&mut self) -> Option<Request> {
        let key = self.keys[self.rng.usize(..self.keys.len())].clone();
        let mut lists = self.lists.borrow_mut();
        if self.rng.u8(..100) < self.reads_percent {
            self.read = Some(lists.read(&key));
            return Some(Op::get(key).into());
        }
        let (op, token) = lists.append(&key);
        self.append = Some(op);
        let append = Op::Append { cf: Cf::Default, key: key.clone(), value: token };
        if self.rng.u8(..10) > 0 {
            return Some(append.into());
        }
        // One request, so one moment: the read sees the append and nothing after it.
        self.read = Some(lists.read(&key));
        Some(Request::new(vec![append, Op::get(key)]))
    }

    fn told(&mut self, answer: &Answer) -> Result<(), String> {
        let mut lists = self.lists.borrow_mut();
        let (append, read) = (self.append.take(), self.read.take());
        match answer {
            Ok(response) => {
                let mut results = response.results.iter();
                if let Some(op) = append {
                    match results.next() {
                        Some(OpResult::Length(length)) => {
                            lists.appended(op, Appended::Length(*length));
                        }
                        other => return Err(format!("an append gives {other:?}")),
                    }
                }
                if let Some(op) = read {
                    match results.next() {
                        Some(OpResult::Value(value)) => lists.was_read(op, value.clone()),
                        other => return Err(format!("a read gives {other:?}")),
                    }
                }
                results.next().map_or(Ok(()), |more| Err(format!("nobody asked for {more:?}")))
            }
            Err(why) => {
                if let Some(op) = append {
                    let outcome =
                        if why.is_unknown() { Appended::Unknown } else { Appended::Refused };
                    lists.appended(op, outcome);
                }
                if let Some(op) = read {
                    lists.read_failed(op);
                }
                Ok(())
            }
        }
    }
    fn late(&mut self) -> Option<Late> {
        let (lists, op) = (Rc::clone(&self.lists), self.append?);
        Some(Box::new(move |answer| {
            let outcome = match answer {
                Ok(response) => match response.results.first() {
                    Some(OpResult::Length(length)) => Appended::Length(*length),
                    _ => Appended::Unknown,
                },
                Err(why) if why.is_unknown() => Appended::Unknown,
                Err(_) => Appended::Refused,
            };
            lists.borrow_mut().appended(op, outcome);
        }))
    }
}
