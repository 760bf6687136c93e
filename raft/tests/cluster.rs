//! Whole groups in one thread: messages in order, every write synced at once.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{
    Body, ConfState, Config, Entry, MemStorage, Message, NodeId, RawNode, RoleKind, StepError,
};

fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("not zero")
}

struct Group {
    nodes: BTreeMap<NodeId, (RawNode, MemStorage)>,
    applied: BTreeMap<NodeId, Vec<(u64, Bytes)>>,
    wire: VecDeque<Message>,
    cut: Vec<NodeId>,
}

impl Group {
    fn new(n: u64, tune: impl Fn(&mut Config)) -> Group {
        let voters = ConfState::of_voters((1..=n).map(id));
        let node = |n| {
            let storage = MemStorage::with_conf_state(voters.clone());
            let mut config = Config::new(id(n));
            tune(&mut config);
            let node = RawNode::new(config, Box::new(storage.clone())).expect("a good config");
            (id(n), (node, storage))
        };
        Group {
            nodes: (1..=n).map(node).collect(),
            applied: BTreeMap::new(),
            wire: VecDeque::new(),
            cut: Vec::new(),
        }
    }

    fn node(&mut self, n: u64) -> &mut RawNode {
        &mut self.nodes.get_mut(&id(n)).expect("a member").0
    }

    fn settle(&mut self) {
        loop {
            let mut idle = true;
            for (id, (node, storage)) in &mut self.nodes {
                while node.has_ready() {
                    idle = false;
                    let ready = node.ready();
                    self.wire.extend(ready.messages);
                    if let Some(mut write) = ready.write {
                        storage.write(&mut write).expect("no snapshot is sent");
                        self.wire.extend(node.persisted(write.synced()));
                    }
                    if let Some(apply) = ready.apply {
                        let log = self.applied.entry(*id).or_default();
                        log.extend(
                            apply.entries().iter().map(|e| (e.id.index, e.entry.data.clone())),
                        );
                        node.applied(apply.done()).expect("no change is refused");
                    }
                }
            }
            while let Some(message) = self.wire.pop_front() {
                idle = false;
                if self.cut.contains(&message.from) || self.cut.contains(&message.to) {
                    continue;
                }
                if let Some((node, _)) = self.nodes.get_mut(&message.to) {
                    let _ = node.step(message);
                }
            }
            if idle {
                return;
            }
        }
    }
}

#[test]
fn a_leader_is_elected_and_commits_on_all() {
    let mut group = Group::new(3, |_| {});
    group.node(1).campaign();
    group.settle();
    assert_eq!(group.node(1).role(), RoleKind::Leader);
    for n in 0..100 {
        group.node(1).propose(Bytes::from(format!("{n}"))).expect("the leader takes it");
    }
    group.settle();
    let log = group.applied[&id(1)].clone();
    assert_eq!(log.len(), 101, "the no-op and the proposals");
    assert_eq!(group.applied[&id(2)], log);
    assert_eq!(group.applied[&id(3)], log);
}

#[test]
fn a_cut_off_leader_is_replaced_and_its_tail_overwritten() {
    let mut group = Group::new(3, |c| c.check_quorum = false);
    group.node(1).campaign();
    group.settle();
    group.cut.push(id(1));
    group.node(1).propose_entries(vec![Entry::normal(Bytes::from_static(b"lost"))]).expect("taken");
    group.settle();
    for _ in 0..40 {
        group.node(2).tick();
        group.settle();
    }
    assert_eq!(group.node(2).role(), RoleKind::Leader);
    group.node(2).propose(Bytes::from_static(b"kept")).expect("taken");
    group.settle();
    group.cut.clear();
    for _ in 0..10 {
        group.node(2).tick();
        group.settle();
    }
    assert_eq!(group.node(1).role(), RoleKind::Follower);
    assert_eq!(group.applied[&id(1)], group.applied[&id(2)]);
    assert!(group.applied[&id(1)].iter().all(|(_, data)| data != "lost"));
}

/// A request that reaches a server which follows by now is passed on in the name of who was asked
/// first: otherwise the answer to a read would end at the server in between.
#[test]
fn a_request_passed_on_twice_keeps_its_sender() {
    let mut group = Group::new(3, |_| {});
    let heartbeat = Body::Heartbeat { commit: 0, read: 0 };
    let message = |from, to, term, body| Message { from: id(from), to: id(to), term, body };
    let node = group.node(1);
    assert_eq!(node.step(message(3, 1, 1, heartbeat)), Ok(()));
    let requests = [
        Body::ReadIndex { context: Bytes::from_static(b"r") },
        Body::Propose { entries: vec![Entry::normal(Bytes::from_static(b"p"))] },
    ];
    for body in requests.clone() {
        assert_eq!(node.step(message(2, 1, 0, body)), Ok(()));
    }
    let mut sent = node.ready().messages;
    sent.retain(|message| message.term == 0);
    assert_eq!(sent, requests.map(|body| message(2, 3, 0, body)));
}

/// The server that was asked first may lead by the time its own request comes back to it.
#[test]
fn a_request_may_come_back_to_a_new_leader() {
    let mut group = Group::new(3, |_| {});
    group.node(2).campaign();
    group.settle();
    let body = Body::Propose { entries: vec![Entry::normal(Bytes::from_static(b"p"))] };
    let message = |body| Message { from: id(2), to: id(2), term: 0, body };
    assert_eq!(group.node(2).step(message(body)), Ok(()));
    group.settle();
    assert_eq!(group.applied[&id(3)].last().map(|(_, data)| &data[..]), Some(&b"p"[..]));
    assert_eq!(group.node(2).step(message(Body::TimeoutNow)), Err(StepError::FromMyself));
}

/// test_skip_bcast_commit.
#[test]
fn a_commit_index_that_is_not_told_travels_with_the_next_entries_or_heartbeat() {
    let mut group = Group::new(3, |c| c.skip_commit_broadcast = true);
    group.node(1).campaign();
    group.settle();
    assert_eq!(group.node(1).commit(), 1);
    assert_eq!(group.node(2).commit(), 0, "nobody was told");
    group.node(1).propose(Bytes::from_static(b"x")).expect("taken");
    group.settle();
    for n in [2, 3] {
        assert_eq!((group.node(1).commit(), group.node(n).commit()), (2, 1), "told with the entry");
    }
    (0..2).for_each(|_| group.node(1).tick());
    group.settle();
    assert_eq!(group.node(2).commit(), 2, "told by the heartbeat");
}

/// test_group_commit: a majority in one group commits nothing alone.
#[test]
fn with_groups_an_entry_needs_two_of_them() {
    let mut group = Group::new(3, |c| c.check_quorum = false);
    let east_and_west = [(1, 1), (2, 1), (3, 2)];
    let groups = east_and_west.map(|(n, g)| (id(n), raft::GroupId::new(g).expect("not zero")));
    group.node(1).set_commit_groups(groups);
    group.node(1).campaign();
    group.settle();
    group.cut.push(id(3));
    group.node(1).propose(Bytes::from_static(b"x")).expect("taken");
    group.settle();
    assert_eq!(group.node(1).commit(), 1, "only one group has it");
    group.node(1).set_commit_groups([]);
    group.settle();
    assert_eq!(group.node(1).commit(), 2, "a majority has it");
}

/// test_election_with_priority_log: between equal logs the lower priority is refused; a longer log
/// wins whatever its priority. test_set_priority, test_election_after_change_priority: it can be
/// set at any time.
#[test]
fn of_equal_logs_the_higher_priority_leads() {
    let mut group = Group::new(3, |c| (c.pre_vote, c.check_quorum) = (false, false));
    for n in 1..=3 {
        group.node(n).set_priorities([(id(1), 3), (id(2), 2), (id(3), 1)]);
    }
    group.node(3).campaign();
    group.settle();
    assert_eq!(group.node(3).role(), RoleKind::Follower, "1 and 2 would rather lead");
    group.node(1).campaign();
    group.settle();
    assert_eq!(group.node(1).role(), RoleKind::Leader);

    // 2 misses an entry, so that 3's log is longer and its priority does not matter to 2.
    group.cut.push(id(2));
    group.node(1).propose(Bytes::from_static(b"x")).expect("taken");
    group.settle();
    group.cut = vec![id(1)];
    group.node(3).campaign();
    group.settle();
    assert_eq!(group.node(3).role(), RoleKind::Leader);

    // Now that it is wanted less by nobody, 2 may be elected with an equal log.
    group.cut.clear();
    group.settle();
    for n in 1..=3 {
        group.node(n).set_priorities([]);
    }
    group.node(3).transfer_leader(id(2));
    group.settle();
    assert_eq!(group.node(2).role(), RoleKind::Leader);
}
