//! One client: which keys are its own, what it asks next, and what it was told.
//!
//! No two clients share a key, and a client has one write of a key in flight at a time. So it can
//! say of each key which value must be there: that of its last acknowledged write, or of one whose
//! fate nobody knows.

use std::time::Instant;

use bytes::Bytes;
use fastrand::Rng;

use super::options::{PAYLOAD_MIN, Workload};

/// Keys of a client, and how many there are for each request that it may have in flight.
const SLOTS_MIN: usize = 64;
const SLOTS_PER_REQUEST: usize = 4;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Get,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) kind: Kind,
    /// Which of the client's keys.
    pub(super) slot: u32,
    /// The value's number, for a put.
    pub(super) number: u64,
    /// When it should have been sent: latency counts from here.
    pub(super) intended: Instant,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A write is acknowledged.
    Done,
    /// What a read found.
    Found(Option<Bytes>),
    /// There was an error. A write may or may not take effect.
    Failed(String),
}

/// A key.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// The last acknowledged value.
    acknowledged: Option<u64>,
    /// Values of later writes whose fate is not known.
    open: Vec<u64>,
    writing: bool,
    reading: u32,
}

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Client {
    prefix: String,
    slots: Vec<Slot>,
    turn: usize,
    next: u64,
    rng: Rng,
    payload: Bytes,
    /// Requests on their way.
    pub(super) in_flight: usize,
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
}

impl Client {
    /// The client of that number, of a run that no other run shares its name with.
    pub(super) fn new(run: u64, number: usize, batch: usize, payload: usize) -> Client {
        let mut rng = Rng::with_seed(number as u64);
        let mut noise = vec![0; payload];
        rng.fill(&mut noise);
        let slots = SLOTS_MIN.max(batch * SLOTS_PER_REQUEST);
        Client {
            prefix: format!("bench:{run:x}:{number}"),
            slots: vec![Slot::default(); slots],
            turn: 0,
            next: 1,
            rng,
            payload: noise.into(),
            in_flight: 0,
            acknowledged: 0,
        }
    }

    /// Its keys, with the values each may have; those that were never written are left out.
    pub(super) fn written(&self) -> impl Iterator<Item = Expected> + '_ {
        let written = (0..).zip(&self.slots).filter(|(_, slot)| slot.acknowledged.is_some());
        written.map(|(n, slot)| Expected {
            key: self.key(n),
            acknowledged: slot.acknowledged.unwrap_or_default(),
            open: slot.open.clone(),
        })
    }

    pub(super) fn key(&self, slot: u32) -> Bytes {
        format!("{}:{slot}", self.prefix).into()
    }

    /// The value of that number: itself, then what does not compress.
    pub(super) fn value(&self, number: u64) -> Bytes {
        let mut value = Vec::with_capacity(self.payload.len());
        value.extend_from_slice(format!("{number:016x}").as_bytes());
        value.extend_from_slice(&self.payload[PAYLOAD_MIN..]);
        value.into()
    }

    /// Whether each of its keys has been written.
    pub(super) fn is_filled(&self) -> bool {
        self.next > self.slots.len() as u64
    }

    /// What it asks next.
    pub(super) fn next(&mut self, workload: Workload, intended: Instant) -> Job {
        self.in_flight += 1;
        match workload {
            Workload::Commit | Workload::Put => self.put(intended),
            Workload::Get => self.get(intended),
            Workload::Mixed if self.rng.bool() => self.put(intended),
            Workload::Mixed => self.get(intended),
        }
    }

    fn put(&mut self, intended: Instant) -> Job {
        let free = self.free(self.turn, |slot| !slot.writing && slot.reading == 0);
        self.turn = (free + 1) % self.slots.len();
        self.slots[free].writing = true;
        let number = self.next;
        self.next += 1;
        Job { kind: Kind::Put, slot: free as u32, number, intended }
    }

    fn get(&mut self, intended: Instant) -> Job {
        let any = self.rng.usize(..self.slots.len());
        let free = self.free(any, |slot| !slot.writing);
        self.slots[free].reading += 1;
        Job { kind: Kind::Get, slot: free as u32, number: 0, intended }
    }

    /// The first key from `from` on that is free. There is one: it has several for each request.
    fn free(&self, from: usize, is_free: impl Fn(&Slot) -> bool) -> usize {
        let count = self.slots.len();
        let mut all = (from..from + count).map(|n| n % count);
        all.find(|&n| is_free(&self.slots[n])).unwrap_or(from)
    }

    /// Notes an answer. `Err` if it contradicts one that was given before.
    pub(super) fn answered(&mut self, job: Job, outcome: &Outcome) -> Result<(), Wrong> {
        self.in_flight -= 1;
        let key = self.key(job.slot);
        let slot = &mut self.slots[job.slot as usize];
        match job.kind {
            Kind::Get => slot.reading -= 1,
            Kind::Put => slot.writing = false,
        }
        match (job.kind, outcome) {
            (Kind::Put, Outcome::Failed(_)) => slot.open.push(job.number),
            (Kind::Put, _) => {
                slot.acknowledged = Some(job.number);
                self.acknowledged += 1;
            }
            (Kind::Get, Outcome::Found(value)) => {
                if let Some(acknowledged) = slot.acknowledged {
                    let open = slot.open.clone();
                    return Expected { key, acknowledged, open }.check(value.as_deref());
                }
            }
            (Kind::Get, _) => {}
        }
        Ok(())
    }
}

/// What a key must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) key: Bytes,
    pub(super) acknowledged: u64,
    pub(super) open: Vec<u64>,
}

/// A key that has something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} has {}, after value {acknowledged} was acknowledged", key.escape_ascii(),
    found.map_or("no value of ours".to_owned(), |found| format!("value {found}"))
)]
pub struct Wrong {
    key: Bytes,
    acknowledged: u64,
    found: Option<u64>,
}

impl Expected {
    pub(super) fn check(&self, value: Option<&[u8]>) -> Result<(), Wrong> {
        let found = value.and_then(number_of);
        match found {
            Some(found) if found == self.acknowledged || self.open.contains(&found) => Ok(()),
            _ => Err(Wrong { key: self.key.clone(), acknowledged: self.acknowledged, found }),
        }
    }
}

/// The number at the start of a value.
fn number_of(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.get(..PAYLOAD_MIN)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client::new(7, 1, 1, 32)
    }

    #[test]
    fn a_key_is_never_written_twice_at_a_time() {
        let mut client = client();
        let now = Instant::now();
        let slots: Vec<u32> = (0..64).map(|_| client.next(Workload::Put, now).slot).collect();
        assert_eq!(slots, (0..64).collect::<Vec<_>>());
        assert!(client.is_filled());
    }

    #[test]
    fn the_last_acknowledged_value_or_an_open_one_must_be_there() {
        let mut client = client();
        let now = Instant::now();
        let jobs: Vec<Job> = (0..65)
            .map(|_| {
                let job = client.next(Workload::Put, now);
                assert_eq!(client.answered(job, &Outcome::Done), Ok(()));
                job
            })
            .collect();
        assert_eq!((jobs[0].slot, jobs[64].slot), (0, 0));
        let expected = client.written().next().unwrap();
        let (first, last) = (client.value(jobs[0].number), client.value(jobs[64].number));
        assert_eq!((first.len(), expected.acknowledged), (32, 65));
        assert_eq!(expected.check(Some(&last)), Ok(()));
        // What a store that loses acknowledged writes has:
        for (value, found) in [(Some(&first[..]), Some(1)), (None, None), (Some(b"x"), None)] {
            let wrong = expected.check(value).unwrap_err();
            assert_eq!((wrong.found, wrong.acknowledged), (found, 65));
        }

        // Of this one nobody knows: both values are right.
        for _ in 0..63 {
            let job = client.next(Workload::Put, now);
            assert_eq!(client.answered(job, &Outcome::Done), Ok(()));
        }
        let job = client.next(Workload::Put, now);
        assert_eq!(client.answered(job, &Outcome::Failed("gone".into())), Ok(()));
        let expected = client.written().next().unwrap();
        assert_eq!(expected.check(Some(&last)), Ok(()));
        assert_eq!(expected.check(Some(&client.value(job.number))), Ok(()));
        assert!(expected.check(Some(&first)).is_err());
    }

    #[test]
    fn a_read_of_the_past_is_noticed() {
        let mut client = client();
        let now = Instant::now();
        for _ in 0..64 {
            let job = client.next(Workload::Put, now);
            assert_eq!(client.answered(job, &Outcome::Done), Ok(()));
        }
        let job = client.next(Workload::Get, now);
        let value = client.value(u64::from(job.slot) + 1);
        assert_eq!(client.answered(job, &Outcome::Found(Some(value))), Ok(()));
        let job = client.next(Workload::Get, now);
        assert!(client.answered(job, &Outcome::Found(None)).is_err());
    }
}
