//! Which messages a filter is about: by kind, ends, region, count and condition.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raft::Body;
use raftstore::codec::message::PeerMessage;
use raftstore::{RegionId, StoreId};

/// A kind of message.
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

type Condition = Arc<dyn Fn(&PeerMessage) -> bool + Send + Sync>;

/// Some messages. What is not said does not matter.
pub struct Which {
    kind: Option<Kind>,
    from: Option<StoreId>,
    to: Option<StoreId>,
    region: Option<RegionId>,
    condition: Option<Condition>,
    left: AtomicU64,
}

impl Which {
    /// All messages.
    #[must_use]
    pub fn all() -> Which {
        let (kind, from, to, region, condition) = (None, None, None, None, None);
        Which { kind, from, to, region, condition, left: AtomicU64::new(u64::MAX) }
    }

    /// Those of a kind.
    #[must_use]
    pub fn kind(kind: Kind) -> Which {
        Which { kind: Some(kind), ..Which::all() }
    }

    /// Only those from `store`.
    #[must_use]
    pub fn from(self, store: StoreId) -> Which {
        Which { from: Some(store), ..self }
    }

    /// Only those to `store`.
    #[must_use]
    pub fn to(self, store: StoreId) -> Which {
        Which { to: Some(store), ..self }
    }

    /// Only those of a region.
    #[must_use]
    pub fn region(self, region: RegionId) -> Which {
        Which { region: Some(region), ..self }
    }

    /// Only those for which `condition` holds.
    #[must_use]
    pub fn when(self, condition: impl Fn(&PeerMessage) -> bool + Send + Sync + 'static) -> Which {
        Which { condition: Some(Arc::new(condition)), ..self }
    }

    /// Only the next `count` of them.
    #[must_use]
    pub fn times(self, count: u64) -> Which {
        Which { left: AtomicU64::new(count), ..self }
    }

    /// Whether this message is one of them; if so, it counts.
    #[must_use]
    pub fn picks(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> bool {
        let is = |wanted: Option<StoreId>, store| wanted.is_none_or(|wanted| wanted == store);
        let is_meant = is(self.from, from)
            && is(self.to, to)
            && self.kind.is_none_or(|kind| kind == Kind::of(&message.message.body))
            && self.region.is_none_or(|region| region == message.region)
            && self.condition.as_ref().is_none_or(|condition| condition(message));
        // Without a limit nothing is counted.
        let take = |left: u64| left.checked_sub(u64::from(left != u64::MAX));
        is_meant && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Which { kind, from, to, region, condition, left } = self;
        f.write_str("messages")?;
        kind.map_or(Ok(()), |kind| write!(f, " {kind:?}"))?;
        from.map_or(Ok(()), |from| write!(f, " from {from:?}"))?;
        to.map_or(Ok(()), |to| write!(f, " to {to:?}"))?;
        region.map_or(Ok(()), |region| write!(f, " of {region:?}"))?;
        condition.as_ref().map_or(Ok(()), |_| write!(f, " with a condition"))?;
        match left.load(Ordering::Relaxed) {
            u64::MAX => Ok(()),
            left => write!(f, ", {left} times"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Message, NodeId};
    use raftstore::Epoch;

    const A: StoreId = StoreId(1);
    const B: StoreId = StoreId(2);
    const C: StoreId = StoreId(3);

    fn message(body: Body) -> PeerMessage {
        let id = |n| NodeId::new(n).expect("not zero");
        let message = Message { from: id(1), to: id(2), term: 1, body };
        PeerMessage { region: RegionId::FIRST, epoch: Epoch::default(), message }
    }

    #[test]
    fn only_what_is_meant_is_picked_and_counted() {
        let which = Which::kind(Kind::Heartbeat).from(A).to(B).times(2);
        assert_eq!(format!("{which:?}"), "messages Heartbeat from s1 to s2, 2 times");
        let (beat, other) =
            (message(Body::Heartbeat { commit: 0, read: 0 }), message(Body::TimeoutNow));
        assert!(!which.picks(B, A, &beat), "the other way");
        assert!(!which.picks(A, C, &beat), "somebody else");
        assert!(!which.picks(A, B, &other), "another kind");
        let picked: Vec<_> = (0..4).map(|_| which.picks(A, B, &beat)).collect();
        assert_eq!(picked, [true, true, false, false]);
        let always = Which::kind(Kind::Heartbeat);
        assert!((0..10).all(|_| always.picks(A, B, &beat)));
    }

    #[test]
    fn regions_and_conditions_count() {
        let beat = message(Body::Heartbeat { commit: 7, read: 0 });
        assert!(Which::all().region(RegionId::FIRST).picks(A, B, &beat));
        assert!(!Which::all().region(RegionId(9)).picks(A, B, &beat));
        let term = |term| Which::all().when(move |m| m.message.term == term);
        assert!(term(1).picks(A, B, &beat));
        assert!(!term(2).picks(A, B, &beat));
    }
}
