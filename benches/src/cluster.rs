//! A whole group in one thread: no disk, no network, nothing encoded, messages moved by hand.
//!
//! What is measured with it is the core and the least that an application has to do around it:
//! store what is to be written in a [`MemStorage`], pass messages on, count what is applied.

use bytes::Bytes;
use raft::{ConfState, Config, Entry, MemStorage, Message, NodeId, RawNode, RoleKind};

/// The log is compacted every so many entries.
const COMPACT_EVERY: u64 = 2048;

/// How a round's entries are proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propose {
    /// One call an entry.
    Each,
    /// One call for all of them.
    Many,
}

struct Node {
    raft: RawNode,
    storage: MemStorage,
    done: Work,
}

/// What has been done, on a node or on all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Messages from one node to another.
    pub messages: u64,
    /// Writes that must be durable before anything is promised: a sync each.
    pub syncs: u64,
    /// Reads that were confirmed.
    pub reads: u64,
}

/// A group whose first node leads.
pub struct Cluster {
    nodes: Vec<Node>,
    /// What has been sent to each node.
    inboxes: Vec<Vec<Message>>,
    propose: Propose,
    since_compacted: u64,
}

/// Who is at that place of [`Cluster::nodes`].
fn id_at(place: usize) -> NodeId {
    NodeId::new(place as u64 + 1).expect("a place and one is not zero")
}

/// A log of a group of that many voters in which nothing has happened yet.
#[must_use]
pub fn empty_log(voters: usize) -> MemStorage {
    MemStorage::with_conf_state(ConfState::of_voters((0..voters).map(id_at)))
}

/// Settings under which nothing but the workload happens: elections are far away, appends are as
/// large as they come, and commit indexes travel with the next append, as in the other libraries'
/// fastest settings, and are recorded with it.
#[must_use]
pub fn fast_config(id: NodeId) -> Config {
    Config { skip_commit_broadcast: true, lazy_commit: true, ..telling_config(id) }
}

/// The same, but followers are told of each commit at once, as by default.
#[must_use]
pub fn telling_config(id: NodeId) -> Config {
    Config { election_ticks: 1_000_000, append_bytes_max: u64::MAX, ..Config::new(id) }
}

impl Cluster {
    /// A group of that many nodes, the first of them elected.
    ///
    /// # Panics
    /// If it is not: then the core does not work, and there is nothing to measure.
    #[must_use]
    pub fn new(size: usize, propose: Propose, config: impl Fn(NodeId) -> Config) -> Cluster {
        let node = |place| {
            let storage = empty_log(size);
            let raft = RawNode::new(config(id_at(place)), Box::new(storage.clone()))
                .expect("an empty log is a good one");
            Node { raft, storage, done: Work::default() }
        };
        let nodes = (0..size).map(node).collect();
        let inboxes = (0..size).map(|_| Vec::new()).collect();
        let mut cluster = Cluster { nodes, inboxes, propose, since_compacted: 0 };
        cluster.leader().campaign();
        cluster.pump();
        assert_eq!(cluster.leader().role(), RoleKind::Leader, "the first node was elected");
        cluster
    }

    /// The node that leads.
    pub fn leader(&mut self) -> &mut RawNode {
        &mut self.nodes[0].raft
    }

    /// The first node that follows.
    pub fn follower(&mut self) -> &mut RawNode {
        &mut self.nodes[1].raft
    }

    /// What all nodes have done so far.
    #[must_use]
    pub fn done(&self) -> Work {
        self.nodes.iter().fold(Work::default(), |sum, Node { done, .. }| Work {
            messages: sum.messages + done.messages,
            syncs: sum.syncs + done.syncs,
            reads: sum.reads + done.reads,
        })
    }

    /// The logs of all nodes, the leader's first.
    pub fn logs(&self) -> impl Iterator<Item = &MemStorage> {
        self.nodes.iter().map(|node| &node.storage)
    }

    /// The node that leads, without the others.
    #[must_use]
    pub fn into_leader(mut self) -> RawNode {
        self.nodes.swap_remove(0).raft
    }

    /// Proposes `batch` entries, each with its own copy of the payload, as a client would hand them
    /// over, and moves messages until nothing is left to do. Gives how many entries the leader
    /// handed out as committed. The log is compacted now and then, so that nothing grows.
    pub fn round(&mut self, payload: &[u8], batch: usize) -> u64 {
        self.offer(payload, batch);
        self.settle()
    }

    /// The rest of a round after [`Cluster::offer`].
    pub fn settle(&mut self) -> u64 {
        let committed = self.pump();
        self.since_compacted += committed;
        if self.since_compacted >= COMPACT_EVERY {
            self.compact();
        }
        committed
    }

    /// Only proposes.
    ///
    /// # Panics
    /// If the leader refuses.
    pub fn offer(&mut self, payload: &[u8], batch: usize) {
        let leader = &mut self.nodes[0].raft;
        let copy = || Bytes::from(payload.to_vec());
        match self.propose {
            Propose::Each => {
                for _ in 0..batch {
                    leader.propose(copy()).expect("the leader takes it");
                }
            }
            Propose::Many => {
                let entries = (0..batch).map(|_| Entry::normal(copy())).collect();
                leader.propose_entries(entries).expect("the leader takes them");
            }
        }
    }

    /// Asks the leader for a linearizable read and moves messages until it is confirmed.
    ///
    /// # Panics
    /// If it is not.
    pub fn read(&mut self) {
        let before = self.done().reads;
        let asked = self.leader().read_index(Bytes::from_static(b"read"));
        asked.expect("a leader takes reads");
        self.pump();
        assert_eq!(self.done().reads, before + 1, "the read was confirmed");
    }

    /// Moves messages until all nodes are quiet; gives what the leader handed out as committed.
    ///
    /// # Panics
    /// If a message is refused.
    pub fn pump(&mut self) -> u64 {
        let mut committed = 0;
        loop {
            let mut quiet = true;
            for at in 0..self.nodes.len() {
                let node = &mut self.nodes[at];
                for message in self.inboxes[at].drain(..) {
                    node.raft.step(message).expect("messages of a healthy group are good");
                }
                if node.raft.has_ready() {
                    quiet = false;
                    let applied = work(node, &mut self.inboxes);
                    committed += if at == 0 { applied } else { 0 };
                }
            }
            if quiet {
                return committed;
            }
        }
    }

    /// Drops what all nodes have applied.
    ///
    /// # Panics
    /// If there is nothing to drop.
    pub fn compact(&mut self) {
        self.since_compacted = 0;
        let applied = self.nodes.iter().map(|node| node.raft.applied_index());
        let to = applied.min().expect("a group has nodes");
        for node in &mut self.nodes {
            node.raft.compact(to).expect("what is applied can be compacted");
            node.storage.compact(to).expect("what is applied is stored");
        }
    }
}

/// What an application does with one `Ready`; gives how many entries it applied.
fn work(node: &mut Node, inboxes: &mut [Vec<Message>]) -> u64 {
    let mut ready = node.raft.ready();
    node.done.reads += ready.reads.len() as u64;
    send(node, ready.messages, inboxes);
    if let Some(write) = &mut ready.write {
        node.storage.write(write).expect("nobody sends snapshots");
    }
    if let Some(write) = ready.write {
        node.done.syncs += u64::from(write.must_sync());
        let promises = node.raft.persisted(write.synced());
        send(node, promises, inboxes);
    }
    let Some(apply) = ready.apply else { return 0 };
    let applied = apply.entries().len() as u64;
    let switched = node.raft.applied(apply.done()).expect("no membership is changed");
    debug_assert_eq!(switched, None);
    applied
}

/// Puts messages of `from` into the inboxes, and gives it their buffer back.
fn send(from: &mut Node, mut messages: Vec<Message>, inboxes: &mut [Vec<Message>]) {
    if messages.is_empty() {
        return;
    }
    from.done.messages += messages.len() as u64;
    for message in messages.drain(..) {
        inboxes[(message.to.get() - 1) as usize].push(message);
    }
    from.raft.recycle(messages);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_a_round_is_committed_and_applied_everywhere() {
        for propose in [Propose::Each, Propose::Many] {
            let mut cluster = Cluster::new(3, propose, fast_config);
            let before = cluster.leader().applied_index();
            for batch in [1, 64, 1024, 1024, 1024] {
                assert_eq!(cluster.round(&[7; 16], batch), batch as u64);
            }
            let applied = before + 1 + 64 + 3 * 1024;
            // The others hear of the last commit with the next entries.
            for (node, applied) in cluster.nodes.iter().zip([applied, applied - 1024]) {
                assert_eq!(node.raft.applied_index(), applied, "{:?}", node.raft.id());
                assert!(node.storage.compacted().index > 1024, "the log does not grow");
            }
        }
    }
}
