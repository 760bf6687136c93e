//! The seam between the protocol and the store: what the event loop needs of whatever is behind it.

use raft::RoleKind;

use crate::callback::Callback;
use crate::command::Request;

/// Whoever carries out requests. Implemented by the store of this process, and by a map in memory
/// in tests.
pub trait Backend: Send + Sync + 'static {
    /// Takes all of `batch` on, without blocking. The requests may be carried out in any order, and
    /// answered from any thread.
    fn submit(&self, batch: &mut Vec<(Request, Callback)>);

    /// How the store is, for `INFO`.
    fn status(&self) -> Status;
}

/// A store as `INFO` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The store.
    pub store: u64,
    /// The region.
    pub region: u64,
    /// The region's epoch: version and `conf_ver`.
    pub epoch: (u64, u64),
    /// What this store is in the region's group.
    pub role: RoleKind,
    /// The term.
    pub term: u64,
    /// The store that leads, if known.
    pub leader: Option<u64>,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index the state machine has.
    pub applied: u64,
    /// The last index of the log.
    pub last_index: u64,
    /// How many keys this store has, if it knows.
    pub keys: Option<u64>,
    /// Further figures, by name.
    pub counters: Vec<(&'static str, u64)>,
}

impl Status {
    /// A store that has only just started.
    #[must_use]
    pub fn starting(store: u64) -> Status {
        Status {
            store,
            region: 1,
            epoch: (1, 1),
            role: RoleKind::Follower,
            term: 0,
            leader: None,
            commit: 0,
            applied: 0,
            last_index: 0,
            keys: None,
            counters: Vec::new(),
        }
    }
}
