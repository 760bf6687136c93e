//! A leader whose disk has stopped hands over to one whose disk works.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::{ConfState, Config, MemStorage, Message, NodeId, RawNode, RoleKind, Write};

fn id(n: u64) -> NodeId {
    NodeId::new(n).unwrap()
}

/// Three servers; the writes of those in `stopped` are never reported.
struct Group {
    nodes: BTreeMap<NodeId, (RawNode, MemStorage)>,
    stopped: Vec<NodeId>,
    held: Vec<Write>,
}

impl Group {
    fn new(write_ticks_max: u32) -> Group {
        let nodes = (1..=3).map(|n| {
            let storage = MemStorage::with_conf_state(ConfState::of_voters((1..=3).map(id)));
            let config = Config { write_ticks_max, ..Config::new(id(n)) };
            (id(n), (RawNode::new(config, Box::new(storage.clone())).unwrap(), storage))
        });
        Group { nodes: nodes.collect(), stopped: Vec::new(), held: Vec::new() }
    }

    fn node(&mut self, n: u64) -> &mut RawNode {
        &mut self.nodes.get_mut(&id(n)).unwrap().0
    }

    fn settle(&mut self) {
        loop {
            let mut wire: Vec<Message> = Vec::new();
            for (id, (node, storage)) in &mut self.nodes {
                while node.has_ready() {
                    let ready = node.ready();
                    wire.extend(ready.messages);
                    match ready.write {
                        Some(write) if self.stopped.contains(id) => self.held.push(write),
                        Some(write) => {
                            storage.append(write.entries());
                            wire.extend(node.persisted(write.synced()));
                        }
                        None => {}
                    }
                    if let Some(apply) = ready.apply {
                        node.applied(apply.done()).unwrap();
                    }
                }
            }
            if wire.is_empty() {
                return;
            }
            for message in wire {
                let to = message.to;
                let _ = self.node(to.get()).step(message);
            }
        }
    }

    fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            (1..=3).for_each(|n| self.node(n).tick());
            self.settle();
        }
    }
}

fn leader_with_a_stopped_disk(write_ticks_max: u32) -> Group {
    let mut group = Group::new(write_ticks_max);
    group.node(1).campaign();
    group.settle();
    assert_eq!(group.node(1).role(), RoleKind::Leader);
    group.stopped.push(id(1));
    group.node(1).propose(Bytes::from_static(b"x")).unwrap();
    group.settle();
    group
}

#[test]
fn it_hands_over_and_is_not_elected_again() {
    let mut group = leader_with_a_stopped_disk(15);
    group.tick(14);
    assert_eq!(group.node(1).role(), RoleKind::Leader, "it waits for as long as it is told to");
    group.tick(1);
    assert_eq!(group.node(1).role(), RoleKind::Follower);
    let leader = group.node(1).leader().expect("there is a new leader");
    assert_ne!(leader, id(1));
    group.tick(200);
    assert_eq!(group.node(2).leader(), Some(leader), "nobody disturbs the new one");
}

#[test]
fn alone_it_steps_down() {
    let mut group = leader_with_a_stopped_disk(8);
    // Nobody answers from here on, but not for long enough that check-quorum would act.
    for _ in 0..16 {
        group.node(1).tick();
        let _ = group.node(1).ready();
    }
    assert_ne!(group.node(1).role(), RoleKind::Leader);
}

#[test]
fn switched_off_it_leads_on() {
    let mut group = leader_with_a_stopped_disk(0);
    group.tick(200);
    assert_eq!(group.node(1).role(), RoleKind::Leader);
}
