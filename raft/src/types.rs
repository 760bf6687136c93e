//! The nouns of the paper: terms, indexes, ids, and what must survive a crash.
//!
//! Nothing here has behaviour of its own but [`LogId`], whose derived order *is* the up-to-date
//! rule of §5.4.1: term first, then index.

use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;

/// A term (§5.1): 0 before the first election, then counting up, never down.
pub type Term = u64;

/// A position in the log (§5.3): the first entry has index 1, and 0 stands before it.
pub type Index = u64;

/// Terms and indexes stay below this: nobody counts so far, and below it sums do not overflow. Who
/// names a higher one, a peer or a disk, is damaged.
pub(crate) const COUNT_MAX: u64 = u64::MAX >> 1;

/// What a peer names is below this, so that a server that believed it can go on counting: one that
/// was brought to the very end would write a term or an entry that it refuses to start with.
pub(crate) const NAMED_MAX: u64 = COUNT_MAX >> 1;

/// Who a server is within one group. Never zero: "no server" is `None`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// The id with that number; `None` for zero, which stands for "nobody" on the wire.
    #[must_use]
    pub const fn new(id: u64) -> Option<NodeId> {
        match NonZeroU64::new(id) {
            Some(id) => Some(NodeId(id)),
            None => None,
        }
    }

    /// The number, never zero.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Where an entry is and who wrote it. Two logs that agree on a `LogId` agree on everything up to
/// it (Log Matching, Figure 3). The order is §5.4.1's: the later term is more up to date, and at
/// the same term the longer log is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term of the entry; 0 only before the log's first entry.
    pub term: Term,
    /// Index of the entry; 0 only before the log's first entry.
    pub index: Index,
}

impl LogId {
    /// The position before the first entry of an empty log.
    pub const ZERO: LogId = LogId { term: 0, index: 0 };

    /// The position `index` with that `term`.
    #[must_use]
    pub const fn new(term: Term, index: Index) -> LogId {
        LogId { term, index }
    }
}

impl fmt::Debug for LogId {
    /// `index@term`, as everywhere in traces and logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a server must remember through a crash besides its log (Figure 2, "Persistent state").
///
/// `term` and `vote` must be on disk before any message of that term leaves. `commit` is a hint
/// that saves replay; losing it loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term this server has seen.
    pub term: Term,
    /// Who got this server's vote in `term`.
    pub vote: Option<NodeId>,
    /// The highest index known to be committed.
    pub commit: Index,
}

impl HardState {
    /// Whether nothing has ever been recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == HardState::default()
    }
}

/// What others may want to know but nobody needs to remember: who leads, and what this server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftState {
    /// The leader of the current term, where known.
    pub leader: Option<NodeId>,
    /// This server's role.
    pub role: RoleKind,
}

/// The roles of Figure 4, and the pre-candidate of T§9.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// Answers requests of leaders and candidates.
    Follower,
    /// Asks whether an election could be won, without raising its term (T§9.6).
    PreCandidate,
    /// Stands for election in its term (§5.2).
    Candidate,
    /// Replicates its log to all others (§5.3).
    Leader,
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RoleKind::Follower => "follower",
            RoleKind::PreCandidate => "pre-candidate",
            RoleKind::Candidate => "candidate",
            RoleKind::Leader => "leader",
        })
    }
}

/// A group's membership as it is stored in snapshots and handed to applications (§6, T§4).
///
/// `voters_outgoing` is non-empty exactly in a joint configuration; `learners_next` are voters of
/// the outgoing half that become learners when the joint configuration is left. Lists are sorted
/// when the core makes them; any order is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfState {
    /// Voters of the (incoming) configuration.
    pub voters: Vec<NodeId>,
    /// Voters of the outgoing configuration while joint.
    pub voters_outgoing: Vec<NodeId>,
    /// Members that get the log but do not count towards any majority.
    pub learners: Vec<NodeId>,
    /// Outgoing voters that are to become learners.
    pub learners_next: Vec<NodeId>,
    /// Leave the joint configuration as soon as it is applied.
    pub auto_leave: bool,
}

impl ConfState {
    /// A plain configuration of voters only.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> ConfState {
        ConfState { voters: voters.into_iter().collect(), ..ConfState::default() }
    }

    /// Whether both name the same members in the same parts, whatever the order.
    #[must_use]
    pub fn is_equivalent(&self, other: &ConfState) -> bool {
        let sorted = |ids: &[NodeId]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        sorted(&self.voters) == sorted(&other.voters)
            && sorted(&self.voters_outgoing) == sorted(&other.voters_outgoing)
            && sorted(&self.learners) == sorted(&other.learners)
            && sorted(&self.learners_next) == sorted(&other.learners_next)
            && self.auto_leave == other.auto_leave
    }
}

/// What a snapshot stands for: everything up to `last`, under configuration `conf_state` (§7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry the snapshot includes.
    pub last: LogId,
    /// The membership as of that entry.
    pub conf_state: ConfState,
}

/// A snapshot of the state machine (§7). The core looks only at `meta`; `data` is the
/// application's, whole or a reference to where the rest can be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// The application's bytes.
    pub data: Bytes,
}
