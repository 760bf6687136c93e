//! Syncs on their way: several at a time, durable in order.
//!
//! ```text
//!  begun        1   2   3   4   5      each on any thread, ending in any order
//!  landed       ✓   ✓       ✓
//!  durable ─────────┘                  a record is durable when it and all before it are
//! ```
//!
//! The first failure stops everything: what is durable stays where it is, and what is still on its
//! way may land, but counts for nothing (`reliability/wal.md` rule 17).
//!
//! A sync that was begun is run by whoever comes first: the thread that holds its
//! [`PendingSync`], or one that needs all of them to have landed, because it wants to start the
//! next segment. So nobody waits for a sync that nobody runs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::Lsn;
use super::error::WalError;
use super::segment::segment_name;
use crate::disk::Flush;

/// A sync that was begun, to be run on any thread. One that is dropped instead is run by the next
/// [`Wal::sync`](super::Wal::sync), or the next segment's start.
#[derive(Debug)]
#[must_use = "nothing becomes durable before it is run"]
pub struct PendingSync {
    flights: Arc<Flights>,
    upto: Lsn,
}

impl PendingSync {
    /// Makes durable what was appended before it was begun. Returns the number up to which all is
    /// durable, which is less as long as an earlier one is still on its way: that one's end then
    /// says more.
    ///
    /// # Errors
    /// As [`Wal::sync`](super::Wal::sync): [`WalError::Io`] if this one failed,
    /// [`WalError::Poisoned`] if an earlier one has.
    pub fn run(self) -> Result<Lsn, WalError> {
        self.flights.run(self.upto)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Flights {
    state: Mutex<State>,
    changed: Condvar,
    /// How many may run at a time.
    running_max: usize,
}

#[derive(Debug)]
struct State {
    /// By number, ascending.
    flights: VecDeque<Flight>,
    durable: Lsn,
    running: usize,
    is_failed: bool,
}

#[derive(Debug)]
struct Flight {
    /// The last record it makes durable.
    upto: Lsn,
    segment: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Begun(Box<dyn Flush>),
    Running,
    Landed,
}

impl Flights {
    pub(super) fn new(durable: Lsn, running_max: usize) -> Arc<Flights> {
        let state = State { flights: VecDeque::new(), durable, running: 0, is_failed: false };
        Arc::new(Flights { state: Mutex::new(state), changed: Condvar::new(), running_max })
    }

    /// The last record that is durable, with all before it.
    pub(super) fn durable(&self) -> Lsn {
        self.state.lock().durable
    }

    pub(super) fn is_failed(&self) -> bool {
        self.state.lock().is_failed
    }

    pub(super) fn begin(
        self: &Arc<Flights>,
        upto: Lsn,
        segment: u64,
        flush: Box<dyn Flush>,
    ) -> PendingSync {
        let stage = Stage::Begun(flush);
        self.state.lock().flights.push_back(Flight { upto, segment, stage });
        PendingSync { flights: Arc::clone(self), upto }
    }

    /// Runs everything that was begun, and waits for what others run.
    ///
    /// # Errors
    /// As [`PendingSync::run`].
    pub(super) fn land_all(&self) -> Result<Lsn, WalError> {
        loop {
            let state = self.state.lock();
            if state.is_failed {
                return Err(WalError::Poisoned);
            }
            // The oldest that nobody runs; else the oldest, which has not landed.
            let begun = |flight: &&Flight| matches!(flight.stage, Stage::Begun(_));
            let next = state.flights.iter().find(begun).or(state.flights.front());
            let Some(next) = next.map(|flight| flight.upto) else { return Ok(state.durable) };
            drop(state);
            self.run(next)?;
        }
    }

    /// Runs the sync up to that record, or waits until it has landed if another thread runs it.
    fn run(&self, upto: Lsn) -> Result<Lsn, WalError> {
        let mut state = self.state.lock();
        let flush = loop {
            if state.is_failed {
                return Err(WalError::Poisoned);
            }
            let is_free = state.running < self.running_max;
            match state.flights.iter_mut().find(|flight| flight.upto == upto) {
                None => return Ok(state.durable),
                Some(Flight { stage: Stage::Landed, .. }) => return Ok(state.durable),
                Some(Flight { stage, .. }) if is_free && matches!(stage, Stage::Begun(_)) => {
                    if let Stage::Begun(flush) = std::mem::replace(stage, Stage::Running) {
                        break flush;
                    }
                }
                Some(_) => self.changed.wait(&mut state),
            }
        };
        state.running += 1;
        drop(state);
        let result = flush.run();
        self.land(upto, result)
    }

    fn land(&self, upto: Lsn, result: io::Result<()>) -> Result<Lsn, WalError> {
        let mut state = self.state.lock();
        state.running -= 1;
        let place = state.flights.iter().position(|flight| flight.upto == upto);
        let landed = match (result, place) {
            (Err(error), place) => {
                state.is_failed = true;
                let segment = place.map_or(0, |place| state.flights[place].segment);
                Err(WalError::io("sync", &segment_name(segment), error))
            }
            (Ok(()), place) => {
                if let Some(place) = place {
                    state.flights[place].stage = Stage::Landed;
                }
                state.advance();
                if state.is_failed { Err(WalError::Poisoned) } else { Ok(state.durable) }
            }
        };
        drop(state);
        self.changed.notify_all();
        landed
    }
}

impl State {
    /// Counts what has landed with everything before it.
    fn advance(&mut self) {
        if self.is_failed {
            return;
        }
        let landed = |flight: &mut Flight| matches!(flight.stage, Stage::Landed);
        while let Some(flight) = self.flights.pop_front_if(landed) {
            assert!(flight.upto > self.durable, "what is durable only grows");
            self.durable = flight.upto;
        }
    }
}
