//! Clients that add to a number they share: what is carried out twice, or lost, shows in the sum.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use kv::{Answer, Op, OpResult, Request};

use crate::clients::{Client, Late};

/// What all clients of a counter were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Additions that took effect.
    pub added: i64,
    /// Additions nobody knows about.
    pub unknown: i64,
}

impl Counter {
    /// Judges the sum at the end.
    ///
    /// # Errors
    /// If an addition was lost, or took effect twice or though it was refused.
    pub fn check(&self, sum: i64) -> Result<(), String> {
        let range = self.added..=self.added + self.unknown;
        range.contains(&sum).then_some(()).ok_or_else(|| {
            format!("the sum is {sum}, with {} added and {} unknown", self.added, self.unknown)
        })
    }
}

/// Adds 1 again and again.
pub struct CounterClient {
    counter: Rc<RefCell<Counter>>,
    key: Bytes,
    /// The sum of this client's last addition.
    last: i64,
}

impl CounterClient {
    /// A client that adds to `key`.
    #[must_use]
    pub fn new(counter: Rc<RefCell<Counter>>, key: Bytes) -> CounterClient {
        CounterClient { counter, key, last: 0 }
    }
}

impl Client for CounterClient {
    fn next(&mut self) -> Option<Request> {
        Some(Op::add(self.key.clone(), 1).into())
    }

    fn told(&mut self, answer: &Answer) -> Result<(), String> {
        let mut counter = self.counter.borrow_mut();
        match answer {
            Ok(response) => match response.results.as_slice() {
                [OpResult::Integer(sum)] if *sum > self.last => {
                    counter.added += 1;
                    self.last = *sum;
                    Ok(())
                }
                other => Err(format!("after {}, adding 1 gives {other:?}", self.last)),
            },
            Err(why) => {
                counter.unknown += i64::from(why.is_unknown());
                Ok(())
            }
        }
    }
    fn late(&mut self) -> Option<Late> {
        let counter = Rc::clone(&self.counter);
        Some(Box::new(move |answer| {
            let mut counter = counter.borrow_mut();
            if answer.as_ref().err().is_none_or(|why| !why.is_unknown()) {
                counter.unknown -= 1;
                counter.added += i64::from(answer.is_ok());
            }
        }))
    }
}
