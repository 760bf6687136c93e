//! What happens to messages between stores, beside what the network does by itself.
//!
//! A message arrives only if every filter lets it pass, as in TinyKV's harness. Filters see each
//! Raft message with both its ends, in the simulator and between the threads of a real node.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use raft::Body;
use raftstore::StoreId;
use raftstore::codec::message::PeerMessage;

/// Decides which messages arrive.
pub trait Filter: Send + Sync {
    /// Whether `message` goes through from one store to the other.
    fn passes(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> bool;
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

/// A kind of message, for filters by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Requests and replies of elections, pre-votes included.
    Vote,
    /// Appends.
    Append,
    /// Answers to appends and snapshots.
    AppendReply,
    /// Heartbeats and their answers.
    Heartbeat,
    /// Snapshots.
    Snapshot,
    /// "Start an election at once", and requests for it.
    Transfer,
    /// Questions for a read index, and answers.
    Read,
    /// Proposals passed on.
    Propose,
}

impl Kind {
    /// The kind of `body`.
    #[must_use]
    pub fn of(body: &Body) -> Kind {
        match body {
            Body::RequestVote { .. } | Body::RequestVoteReply { .. } => Kind::Vote,
            Body::AppendEntries { .. } => Kind::Append,
            Body::AppendEntriesReply(_) => Kind::AppendReply,
            Body::Heartbeat { .. } | Body::HeartbeatReply { .. } => Kind::Heartbeat,
            Body::InstallSnapshot { .. } => Kind::Snapshot,
            Body::TimeoutNow | Body::TransferLeader => Kind::Transfer,
            Body::ReadIndex { .. } | Body::ReadIndexReply { .. } => Kind::Read,
            Body::Propose { .. } => Kind::Propose,
        }
    }
}

/// Loses messages of one kind, all of them or the next few.
#[derive(Debug)]
pub struct Drop {
    kind: Kind,
    from: Option<StoreId>,
    to: Option<StoreId>,
    left: AtomicU64,
}

impl Drop {
    /// Loses all messages of that kind.
    #[must_use]
    pub fn all(kind: Kind) -> Drop {
        Drop { kind, from: None, to: None, left: AtomicU64::new(u64::MAX) }
    }

    /// Only those from `store`.
    #[must_use]
    pub fn from(self, store: StoreId) -> Drop {
        Drop { from: Some(store), ..self }
    }

    /// Only those to `store`.
    #[must_use]
    pub fn to(self, store: StoreId) -> Drop {
        Drop { to: Some(store), ..self }
    }

    /// Only the next `count` of them.
    #[must_use]
    pub fn times(self, count: u64) -> Drop {
        Drop { left: AtomicU64::new(count), ..self }
    }
}

impl Filter for Drop {
    fn passes(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> bool {
        let is_other = |end: Option<StoreId>, store| end.is_some_and(|end| end != store);
        if Kind::of(&message.message.body) != self.kind
            || is_other(self.from, from)
            || is_other(self.to, to)
        {
            return true;
        }
        let take = |left: u64| left.checked_sub(u64::from(left != u64::MAX));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err()
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
    use raft::{Message, NodeId};
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
    fn drop_counts_only_what_it_is_about() {
        let drop = Drop::all(Kind::Heartbeat).from(A).to(B).times(2);
        let (beat, other) =
            (message(Body::Heartbeat { commit: 0, read: 0 }), message(Body::TimeoutNow));
        assert!(drop.passes(B, A, &beat), "the other way");
        assert!(drop.passes(A, C, &beat), "somebody else");
        assert!(drop.passes(A, B, &other), "another kind");
        let passed: Vec<_> = (0..4).map(|_| drop.passes(A, B, &beat)).collect();
        assert_eq!(passed, [false, false, true, true]);
        let always = Drop::all(Kind::Heartbeat);
        assert!((0..10).all(|_| !always.passes(A, B, &beat)));
    }
}
