//! What a round hands out, and what a store says of itself.

use std::fmt;
use std::sync::Arc;

use raft::{Index, LogId, NodeId, RoleKind, Term};

use crate::applier::Task;
use crate::batch::Batch;
use crate::codec::message::PeerMessage;
use crate::machine::Machine;
use crate::region::{Region, RegionId, StoreId};
use crate::snapshot::SendSnapshot;

/// Messages by the store they go to.
#[derive(Debug, Default)]
pub struct Outgoing {
    by_store: Vec<(StoreId, Vec<PeerMessage>)>,
    count: usize,
    /// Messages to members whose store is not known.
    pub(crate) undeliverable: u64,
}

impl Outgoing {
    pub(crate) fn push(&mut self, to: StoreId, message: PeerMessage) {
        self.count += 1;
        match self.by_store.iter_mut().find(|(store, _)| *store == to) {
            Some((_, messages)) => messages.push(message),
            None => self.by_store.push((to, vec![message])),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Takes the messages, store by store, each store's in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (StoreId, Vec<PeerMessage>)> {
        self.count = 0;
        self.by_store
            .iter_mut()
            .filter(|(_, messages)| !messages.is_empty())
            .map(|(store, messages)| (*store, std::mem::take(messages)))
    }
}

/// A change of role or leader, displayed as `r1 n1@3 leader last=7@3 commit=6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The group.
    pub region: RegionId,
    /// This store's peer in it.
    pub peer: NodeId,
    /// Its term.
    pub term: Term,
    /// What it is now.
    pub role: RoleKind,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// Its last entry.
    pub last: LogId,
    /// Its commit index.
    pub commit: Index,
}

impl fmt::Display for RoleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoleChange { region, peer, term, role, leader, last, commit } = self;
        write!(f, "{region:?} {peer:?}@{term} {role}")?;
        if let Some(leader) = leader.filter(|_| *role == RoleKind::Follower) {
            write!(f, " of {leader:?}")?;
        }
        write!(f, " last={last} commit={commit}")
    }
}

/// What a store knows of one of its regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// The region.
    pub region: Arc<Region>,
    /// This store's peer.
    pub peer: NodeId,
    /// Its term.
    pub term: Term,
    /// Its role.
    pub role: RoleKind,
    /// The store of the leader, if known.
    pub leader: Option<StoreId>,
    /// The last index of its log.
    pub last: Index,
    /// What it knows to be committed.
    pub commit: Index,
    /// What it has applied.
    pub applied: Index,
    /// The index before its log.
    pub compacted: Index,
    /// Proposals of this store in the log and not yet applied.
    pub pending_proposals: usize,
    /// Reads of this store that wait for their index.
    pub pending_reads: usize,
}

/// What a store has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands taken on.
    pub proposals: u64,
    /// Commands that were refused, before or after that: not proposed, so without effect.
    pub proposals_failed: u64,
    /// Reads taken on.
    pub reads: u64,
    /// Reads that were not confirmed in time.
    pub reads_expired: u64,
    /// Entries handed to the applier.
    pub committed: u64,
    /// Raft messages taken.
    pub messages_in: u64,
    /// Raft messages handed out.
    pub messages_out: u64,
    /// Raft messages for unknown regions or peers, or that the core refused.
    pub messages_refused: u64,
    /// Rounds that handed something out.
    pub rounds: u64,
    /// Batches handed out.
    pub batches: u64,
    /// Times a peer of this store became leader.
    pub elections_won: u64,
    /// Times a peer of this store learned of a leader that is not the one it knew last.
    pub leader_changes: u64,
    /// Snapshots that were begun to be sent.
    pub snapshots_begun: u64,
    /// Snapshots that arrived where they were sent.
    pub snapshots_sent: u64,
    /// Snapshots that did not.
    pub snapshots_failed: u64,
    /// Snapshots that arrived here and replaced a log.
    pub snapshots_taken: u64,
    /// Snapshots that arrived here and were not needed.
    pub snapshots_refused: u64,
    /// Snapshots that replaced a state.
    pub snapshots_installed: u64,
}

/// One round's output. The shell empties it and hands it back to the next round, so that its
/// buffers are used again.
pub struct Ready<M: Machine> {
    /// May leave at once; a leader's appends travel while its own disk writes (T§10.2.1).
    pub messages: Outgoing,
    /// To be made durable and then reported by [`Store::persisted`](super::Store::persisted).
    pub batch: Option<Batch>,
    /// For the applier, in this order.
    pub tasks: Vec<Task<M>>,
    /// To be sent in pieces, beside the messages.
    pub snapshots: Vec<SendSnapshot>,
    /// For whoever watches.
    pub roles: Vec<RoleChange>,
}

impl<M: Machine> Default for Ready<M> {
    fn default() -> Ready<M> {
        Ready {
            messages: Outgoing::default(),
            batch: None,
            tasks: Vec::new(),
            snapshots: Vec::new(),
            roles: Vec::new(),
        }
    }
}
