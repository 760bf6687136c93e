//! TinyKV's client: writes keys that nobody else writes, and scans them at once.

use bytes::Bytes;
use kv::{Answer, Op, OpResult, Request};

use crate::clients::Client;

/// Puts key after key, and at any moment its own range must hold exactly what it has put.
pub struct OwnKeys {
    number: usize,
    rng: fastrand::Rng,
    /// How many keys are put for certain.
    count: usize,
    /// A put that is not known to have taken effect, and so is repeated: it may be repeated.
    unsure: bool,
    scanning: bool,
}

impl OwnKeys {
    /// The client with that number.
    #[must_use]
    pub fn new(number: usize, seed: u64) -> OwnKeys {
        let rng = fastrand::Rng::with_seed(seed);
        OwnKeys { number, rng, count: 0, unsure: false, scanning: false }
    }

    fn key(&self, at: usize) -> Bytes {
        format!("{} {at:08}", self.number).into()
    }

    fn value(&self, at: usize) -> Bytes {
        format!("x {} {at} y", self.number).into()
    }

    /// Its range: from its first key to before the one after the next.
    #[must_use]
    pub fn range(&self) -> (Bytes, Bytes) {
        (self.key(0), self.key(self.count + 1))
    }

    /// Judges what its range holds.
    ///
    /// # Errors
    /// If that is not what it has put.
    pub fn check(&self, pairs: &[(Bytes, Bytes)]) -> Result<(), String> {
        let count = pairs.len();
        let expected = self.count..=self.count + usize::from(self.unsure);
        if !expected.contains(&count) {
            return Err(format!("client {} has put {expected:?} keys, finds {count}", self.number));
        }
        let wrong = |(at, (key, value)): &(usize, &(Bytes, Bytes))| {
            *key != self.key(*at) || *value != self.value(*at)
        };
        match pairs.iter().enumerate().find(wrong) {
            Some((at, pair)) => Err(format!("client {} finds {pair:?} at {at}", self.number)),
            None => Ok(()),
        }
    }
}

impl Client for OwnKeys {
    fn next(&mut self) -> Option<Request> {
        self.scanning = !self.unsure && self.rng.bool();
        if self.scanning {
            let (start, end) = self.range();
            return Some(Op::scan(start, end, u32::MAX).into());
        }
        self.unsure = true;
        Some(Op::put(self.key(self.count), self.value(self.count)).into())
    }

    fn told(&mut self, answer: &Answer) -> Result<(), String> {
        let Ok(response) = answer else { return Ok(()) };
        match response.results.as_slice() {
            [OpResult::Pairs { pairs, more: false }] if self.scanning => self.check(pairs),
            [OpResult::Put { written: true, .. }] if !self.scanning => {
                (self.count, self.unsure) = (self.count + 1, false);
                Ok(())
            }
            other => Err(format!("client {} is told {other:?}", self.number)),
        }
    }
}
