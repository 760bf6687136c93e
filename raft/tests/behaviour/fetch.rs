//! Entries that the storage can give later only (raft-rs: test_raw_node.rs).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use raft::{
    Body, ConfChange, ConfChangeKind, Entries, Index, InitialState, MemStorage, Message, RawNode,
    Ready, RoleKind, Snapshot, Storage, StorageError,
};

use crate::common::build::{Kind, accepted, grant, heartbeat_reply};
use crate::common::node::{bodies_to, of_kind};
use crate::common::{heartbeat, id, server};

/// A storage that has to read first, while `busy`; it counts how often it is asked.
#[derive(Clone)]
struct Slow {
    inner: MemStorage,
    busy: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Storage for Slow {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.inner.initial_state()
    }

    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.busy.load(Ordering::Relaxed) {
            return Err(StorageError::Later);
        }
        self.inner.entries(range, bytes_max)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.inner.snapshot()
    }
}

/// A server with what it reads from.
struct Node {
    raw: RawNode,
    slow: Slow,
}

impl Node {
    /// The server 1 of three, with ten entries, all committed, and as many applied.
    fn start(applied: Index) -> Node {
        let setup = server(1, &[1, 2, 3]).log(&[1; 10]).commit(10).tune(|c| c.applied = applied);
        let slow = Slow {
            inner: setup.storage(),
            busy: Arc::new(AtomicBool::new(true)),
            asked: Arc::default(),
        };
        let raw = RawNode::new(setup.config, Box::new(slow.clone())).expect("a good start");
        Node { raw, slow }
    }

    /// A leader at term 2 whose entry 11 everybody but 2 has; 2 has none at all.
    fn lead() -> Node {
        let mut node = Node::start(10);
        node.raw.campaign();
        node.settle();
        node.ask(grant(2, 1, 2, true));
        assert_eq!(node.raw.role(), RoleKind::Leader);
        node.ask(accepted(3, 1, 2, 11));
        node
    }

    fn asked(&self) -> usize {
        self.slow.asked.load(Ordering::Relaxed)
    }

    fn fetched(&mut self) -> Vec<Message> {
        self.slow.busy.store(false, Ordering::Relaxed);
        self.raw.entries_fetched();
        self.settle()
    }

    fn ask(&mut self, message: Message) -> Vec<Message> {
        self.raw.step(message).expect("a message in order");
        self.settle()
    }

    /// 2 says that it has nothing.
    fn reject(&mut self) -> Vec<Message> {
        self.ask(crate::common::build::rejected(2, 1, 2, 10, (0, 0)))
    }

    fn settle(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        for _ in 0..100 {
            if !self.raw.has_ready() {
                return sent;
            }
            let Ready { messages, write, apply, .. } = self.raw.ready();
            sent.extend(messages);
            if let Some(write) = write {
                self.slow.inner.append(write.entries());
                if let Some(hard_state) = write.hard_state() {
                    self.slow.inner.set_hard_state(hard_state);
                }
                sent.extend(self.raw.persisted(write.synced()));
            }
            if let Some(apply) = apply {
                let _ = self.raw.applied(apply.done());
            }
        }
        panic!("it asks again and again")
    }
}

/// The index before, and how many entries, of each append to 2.
fn appends(sent: &[Message]) -> Vec<(Index, usize)> {
    let of = |body: &Body| match body {
        Body::AppendEntries { prev, entries, .. } => Some((prev.index, entries.len())),
        _ => None,
    };
    bodies_to(sent, 2).iter().filter_map(of).collect()
}

/// raft-rs: test_raw_node_with_async_entries. The append waits for the entries, without asking for
/// them again, and leaves when they are there.
#[test]
fn an_append_leaves_when_its_entries_are_read() {
    let mut node = Node::lead();
    let before = node.asked();
    assert_eq!(appends(&node.reject()), []);
    assert_eq!(node.asked(), before + 1);
    node.raw.propose("x".into()).expect("it leads");
    assert_eq!(appends(&node.settle()), []);
    assert_eq!(node.asked(), before + 1, "it was asked for that");
    assert_eq!(appends(&node.fetched()), [(0, 12)]);
    assert_eq!(appends(&node.fetched()), [], "once");
    node.ask(accepted(2, 1, 2, 12));
    node.raw.propose("y".into()).expect("it leads");
    assert_eq!(appends(&node.settle()), [(12, 1)], "from memory, as ever");
}

/// Whoever answers a heartbeat is tried again: the storage may have forgotten. And what is not
/// asked for any more is not waited for.
#[test]
fn an_answer_of_the_follower_asks_again() {
    let mut node = Node::lead();
    node.reject();
    let before = node.asked();
    assert_eq!(appends(&node.ask(heartbeat_reply(2, 1, 2))), []);
    assert_eq!(node.asked(), before + 1);
    // It has what was to be read, from an earlier leader.
    node.raw.propose("x".into()).expect("it leads");
    assert_eq!(appends(&node.ask(accepted(2, 1, 2, 11))), [(11, 1)]);
}

/// raft-rs: test_raw_node_with_async_entries_to_removed_node.
#[test]
fn nothing_is_sent_to_a_server_removed_meanwhile() {
    let mut node = Node::lead();
    node.reject();
    let remove = ConfChange::single(ConfChangeKind::RemoveNode, id(2));
    node.raw.propose_conf_change(&remove).expect("it leads");
    node.settle();
    node.ask(accepted(3, 1, 2, 12));
    assert!(!node.raw.membership().contains(id(2)));
    assert_eq!(bodies_to(&node.fetched(), 2), []);
}

/// raft-rs: test_raw_node_with_async_entries_on_follower,
/// test_raw_node_async_entries_with_leader_change. A leader that has stepped down sends nothing;
/// elected again it knows nothing of what it waited for, and finds out anew.
#[test]
fn nothing_is_sent_by_a_leader_that_stepped_down() {
    let mut node = Node::lead();
    node.reject();
    node.ask(heartbeat(3, 1, 3, 0));
    assert_eq!(node.fetched(), []);

    let mut node = Node::lead();
    node.reject();
    node.ask(heartbeat(3, 1, 3, 0));
    node.raw.campaign();
    node.settle();
    node.ask(grant(2, 1, 4, true));
    assert_eq!((node.raw.role(), node.raw.term()), (RoleKind::Leader, 4));
    assert_eq!(appends(&node.fetched()), [], "its probe was sent when it was elected");
    let refused = crate::common::build::rejected(2, 1, 4, 11, (0, 0));
    assert_eq!(appends(&node.ask(refused)), [(0, 12)]);
}

/// After a restart, entries that are to be applied wait the same way; nobody stands for election
/// before it is seen whether there is a membership change among them.
#[test]
fn entries_to_be_applied_wait_too() {
    let mut node = Node::start(4);
    assert!(node.raw.has_ready());
    assert_eq!(node.settle(), []);
    assert_eq!(node.asked(), 1);
    node.raw.campaign();
    assert_eq!(node.raw.role(), RoleKind::Follower);
    node.fetched();
    assert_eq!(node.raw.applied_index(), 10);
    node.raw.campaign();
    assert_eq!(of_kind(&node.settle(), Kind::RequestVote).len(), 2);
}
