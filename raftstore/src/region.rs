//! Regions: which group has which keys, on which stores, and since when.

use std::fmt;

use raft::{ConfState, NodeId};

/// Names a region, and with it the Raft group that replicates it, in the whole cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u64);

impl RegionId {
    /// The region every cluster starts with, which covers all keys.
    pub const FIRST: RegionId = RegionId(1);
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// Names a store: one process (or one simulated one) with one log and one data directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// Counts the changes of a region, so that a request made for an older shape of it is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Grows when the key range changes.
    pub version: u64,
    /// Grows when the membership changes.
    pub conf_ver: u64,
}

/// A member of a region: who it is in the group, and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its id within the group. Never used again once removed.
    pub id: NodeId,
    /// The store it is on.
    pub store: StoreId,
    /// Whether it only learns.
    pub learner: bool,
}

/// A range of keys and the group that replicates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub id: RegionId,
    /// The first key it has; empty for the very first.
    pub start_key: Vec<u8>,
    /// The first key it does not have; empty for no bound.
    pub end_key: Vec<u8>,
    /// How often it has changed.
    pub epoch: Epoch,
    /// Its members.
    pub peers: Vec<Peer>,
}

impl Region {
    /// The first region of a cluster: all keys, one voter on each store, peer ids equal to the
    /// stores' ids, epoch (1, 1).
    ///
    /// # Panics
    /// If a store's id is 0.
    #[must_use]
    pub fn first(stores: &[StoreId]) -> Region {
        let peer = |&store: &StoreId| Peer {
            id: NodeId::new(store.0).expect("store ids are not zero"),
            store,
            learner: false,
        };
        Region {
            id: RegionId::FIRST,
            start_key: Vec::new(),
            end_key: Vec::new(),
            epoch: Epoch { version: 1, conf_ver: 1 },
            peers: stores.iter().map(peer).collect(),
        }
    }

    /// Whether `key` is within the range: half open, an empty end meaning no bound.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start_key.as_slice()
            && (self.end_key.is_empty() || key < self.end_key.as_slice())
    }

    /// The membership that its peers form.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        let ids = |learner: bool| -> Vec<NodeId> {
            self.peers.iter().filter(|p| p.learner == learner).map(|p| p.id).collect()
        };
        ConfState { voters: ids(false), learners: ids(true), ..ConfState::default() }
    }

    /// The member on `store`.
    #[must_use]
    pub fn peer_on(&self, store: StoreId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.store == store)
    }

    /// The member with that id.
    #[must_use]
    pub fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.id == id)
    }
}
