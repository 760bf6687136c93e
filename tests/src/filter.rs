//! What happens to messages between stores, beside what the network does by itself.
//!
//! A message arrives only if every filter lets it pass, as in TinyKV's harness; filters may also hold
//! it up, or have it arrive twice. They see each Raft message with both its ends, in the simulator and
//! between the threads of a real node.
//!
//! | filter | what |
//! |---|---|
//! | [`Partition`] | two groups that cannot reach each other |
//! | [`Lossy`] | some messages are lost, at random |
//! | [`Drop`], [`Delay`], [`Duplicate`] | those that [`Which`] picks are lost, late, doubled |
//! | a closure | whatever it says |
//!
//! Messages that are late by different times overtake each other: [`Delay`] also reorders.
//!
//! ```
//! use harness::cluster::Cluster;
//! use harness::filter::{Delay, Drop, Kind, Which};
//! use harness::sim::ms;
//!
//! let mut cluster = Cluster::sim(3, 1);
//! let leader = cluster.wait_leader();
//! cluster.add_filter(Drop(Which::kind(Kind::AppendReply).to(leader).times(5)));
//! cluster.add_filter(Delay::new(Which::kind(Kind::Append), ms(0)..ms(30), 7));
//! cluster.must_put("k", "v");
//! ```
//!
//! A filter of one's own says what becomes of each message:
//!
//! ```
//! use harness::cluster::Cluster;
//! use harness::filter::{Duplicate, Filter, Kind, Lossy, Partition, Passage, Which};
//! use harness::sim::ms;
//! use raftstore::StoreId;
//! use raftstore::codec::message::PeerMessage;
//!
//! /// The first store is far away.
//! struct Far;
//!
//! impl Filter for Far {
//!     fn passes(&self, _: StoreId, _: StoreId, _: &PeerMessage) -> bool {
//!         true
//!     }
//!
//!     fn passage(&self, from: StoreId, to: StoreId, _: &PeerMessage) -> Passage {
//!         let is_far = from == StoreId(1) || to == StoreId(1);
//!         Passage { late: if is_far { ms(20) } else { 0 }, ..Passage::default() }
//!     }
//! }
//!
//! let mut cluster = Cluster::sim(3, 7);
//! cluster.add_filter(Far);
//! cluster.add_filter(Lossy::new(5, 7));
//! cluster.add_filter(Duplicate::new(Which::kind(Kind::Append), ms(1)..ms(9), 7));
//! cluster.must_put("k", "v");
//! cluster.add_filter(Partition { one: vec![StoreId(1)], other: vec![StoreId(2), StoreId(3)] });
//! cluster.must_put("k", "w");
//! ```

mod which;

use std::fmt;
use std::ops::Range;

use parking_lot::Mutex;
use raftstore::StoreId;
use raftstore::codec::message::PeerMessage;

use crate::sim::Time;
use crate::sim::net::draw;
pub use which::{Kind, Which};

/// What becomes of a message, on top of what the network does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// It does not arrive.
    pub lost: bool,
    /// It arrives so much later.
    pub late: Time,
    /// It arrives once more, so long after the first time.
    pub again: Option<Time>,
}

impl Passage {
    /// What becomes of it if another filter has its say, too.
    #[must_use]
    pub fn then(self, other: Passage) -> Passage {
        let (lost, late) = (self.lost || other.lost, self.late + other.late);
        Passage { lost, late, again: self.again.max(other.again) }
    }
}

/// Decides which messages arrive, and when.
pub trait Filter: Send + Sync {
    /// Whether `message` goes through from one store to the other.
    fn passes(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> bool;

    /// What becomes of it. Filters that only let pass or not need not say more.
    fn passage(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> Passage {
        Passage { lost: !self.passes(from, to, message), ..Passage::default() }
    }
}

impl<F> Filter for F
where
    F: Fn(StoreId, StoreId, &PeerMessage) -> bool + Send + Sync,
{
    fn passes(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> bool {
        self(from, to, message)
    }
}

/// Two groups of stores that cannot reach each other, in either direction. Stores in neither reach
/// everybody.
#[derive(Clone, Debug)]
pub struct Partition {
    /// One side.
    pub one: Vec<StoreId>,
    /// The other.
    pub other: Vec<StoreId>,
}

impl Partition {
    /// Whether it keeps these two apart.
    #[must_use]
    pub fn separates(&self, a: StoreId, b: StoreId) -> bool {
        (self.one.contains(&a) && self.other.contains(&b))
            || (self.one.contains(&b) && self.other.contains(&a))
    }
}

impl Filter for Partition {
    fn passes(&self, from: StoreId, to: StoreId, _: &PeerMessage) -> bool {
        !self.separates(from, to)
    }
}

/// Loses one message in so many, at random.
pub struct Lossy {
    percent: u8,
    rng: Mutex<fastrand::Rng>,
}

impl Lossy {
    /// Loses `percent` of all messages; which ones follows from `seed` and their order.
    #[must_use]
    pub fn new(percent: u8, seed: u64) -> Lossy {
        Lossy { percent, rng: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }
}

impl Filter for Lossy {
    fn passes(&self, _: StoreId, _: StoreId, _: &PeerMessage) -> bool {
        self.rng.lock().u8(..100) >= self.percent
    }
}

/// Loses what it is about.
#[derive(Debug)]
pub struct Drop(pub Which);

impl Filter for Drop {
    fn passes(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> bool {
        !self.0.picks(from, to, message)
    }
}

/// Has what it is about arrive later, by a random time: also out of order.
#[derive(Debug)]
pub struct Delay {
    which: Which,
    by: Range<Time>,
    rng: Mutex<fastrand::Rng>,
}

impl Delay {
    /// Holds messages up for a time in `by`; which one follows from `seed` and their order.
    #[must_use]
    pub fn new(which: Which, by: Range<Time>, seed: u64) -> Delay {
        Delay { which, by, rng: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }
}

impl Filter for Delay {
    fn passes(&self, _: StoreId, _: StoreId, _: &PeerMessage) -> bool {
        true
    }

    fn passage(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> Passage {
        let picked = self.which.picks(from, to, message);
        let late = if picked { draw(&mut self.rng.lock(), &self.by) } else { 0 };
        Passage { late, ..Passage::default() }
    }
}

/// Has what it is about arrive twice.
#[derive(Debug)]
pub struct Duplicate {
    which: Which,
    after: Range<Time>,
    rng: Mutex<fastrand::Rng>,
}

impl Duplicate {
    /// Messages arrive once more after a time in `after`; which one follows from `seed` and their
    /// order.
    #[must_use]
    pub fn new(which: Which, after: Range<Time>, seed: u64) -> Duplicate {
        Duplicate { which, after, rng: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }
}

impl Filter for Duplicate {
    fn passes(&self, _: StoreId, _: StoreId, _: &PeerMessage) -> bool {
        true
    }

    fn passage(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> Passage {
        let picked = self.which.picks(from, to, message);
        let again = picked.then(|| draw(&mut self.rng.lock(), &self.after));
        Passage { again, ..Passage::default() }
    }
}

impl fmt::Debug for dyn Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Body, Message, NodeId};
    use raftstore::{Epoch, RegionId};

    const A: StoreId = StoreId(1);
    const B: StoreId = StoreId(2);
    const C: StoreId = StoreId(3);

    fn message(body: Body) -> PeerMessage {
        let id = |n| NodeId::new(n).expect("not zero");
        let message = Message { from: id(1), to: id(2), term: 1, body };
        PeerMessage { region: RegionId::FIRST, epoch: Epoch::default(), message }
    }

    #[test]
    fn a_partition_cuts_both_ways_and_spares_the_rest() {
        let partition = Partition { one: vec![A], other: vec![B] };
        let message = message(Body::TimeoutNow);
        assert!(!partition.passes(A, B, &message));
        assert!(!partition.passes(B, A, &message));
        assert!(partition.passes(A, C, &message));
        assert!(partition.passes(C, B, &message));
    }

    #[test]
    fn losses_follow_from_the_seed() {
        let message = message(Body::TimeoutNow);
        let lost = |seed| {
            let lossy = Lossy::new(30, seed);
            (0..1000).map(|_| lossy.passes(A, B, &message)).collect::<Vec<_>>()
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
        let passed = lost(1).iter().filter(|&&passed| passed).count();
        assert!((650..750).contains(&passed), "{passed} of 1000 passed");
    }

    #[test]
    fn what_is_picked_is_lost_late_or_doubled() {
        let beat = message(Body::Heartbeat { commit: 0, read: 0 });
        let beats = || Which::kind(Kind::Heartbeat).from(A);
        let drop = Drop(beats().times(1));
        assert_eq!([(); 2].map(|()| drop.passes(A, B, &beat)), [false, true]);
        let delay = Delay::new(beats(), 5..6, 1);
        assert_eq!(delay.passage(A, B, &beat), Passage { late: 5, ..Passage::default() });
        assert_eq!(delay.passage(B, A, &beat), Passage::default());
        let double = Duplicate::new(beats(), 3..4, 1);
        assert_eq!(double.passage(A, B, &beat), Passage { again: Some(3), ..Passage::default() });
        let both = delay.passage(A, B, &beat).then(double.passage(A, B, &beat));
        assert_eq!(both, Passage { lost: false, late: 5, again: Some(3) });
        assert!(both.then(Passage { lost: true, ..Passage::default() }).lost);
    }
}
