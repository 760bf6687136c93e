//! A window of its own for a follower (raft-rs: test_raft.rs, test_raft_flow_control.rs).

use raft::{Body, Index};

use crate::common::build::{Kind, accepted, heartbeat_reply};
use crate::common::node::{bodies_to, of_kind};
use crate::common::{Node, group, id, server};

/// A leader of three at term 1 whose entry everybody has, one append an entry.
fn leader() -> Node {
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.inflight_max = 4).lead();
    node.ask(accepted(2, 1, 1, 1));
    node.ask(accepted(3, 1, 1, 1));
    node
}

/// The last index of each append with entries that `n` proposals lead to.
fn sent_to(node: &mut Node, to: u64, n: usize) -> Vec<Index> {
    let mut sent = Vec::new();
    for _ in 0..n {
        node.raw.propose("x".into()).expect("it leads");
        sent.extend(node.settle());
    }
    let last = |body: &Body| match body {
        Body::AppendEntries { entries, .. } => entries.last().map(|last| last.index),
        _ => None,
    };
    bodies_to(&sent, to).iter().filter_map(last).collect()
}

/// raft-rs: test_disable_progress. A follower without a window gets no entries and no snapshot, but
/// heartbeats; the others go on. With one it catches up.
#[test]
fn a_follower_without_a_window_is_stopped() {
    let mut net = group(3);
    net.campaign(1);
    net.node(1).raw.set_inflight_max(id(3), Some(0));
    let before = net.arrived.get(&Kind::Heartbeat).copied().unwrap_or(0);
    for _ in 0..3 {
        net.put(1, "x");
        net.beat(1);
    }
    assert_eq!([1, 2, 3].map(|n| net.commit(n)), [4, 4, 1]);
    assert_eq!(net.nodes[&3].raw.last().index, 1);
    assert!(net.arrived[&Kind::Heartbeat] >= before + 6, "it is told who leads");
    net.node(1).compact(4);
    net.beat(1);
    assert_eq!(net.nodes[&3].raw.last().index, 1, "no snapshot either");
    net.node(1).raw.set_inflight_max(id(3), Some(1));
    net.pump();
    net.beat(1);
    net.assert_equal();
}

/// raft-rs: test_msg_app_flow_control_full, with another window for one. The setting holds at once,
/// and again as for the others with `None`.
#[test]
fn a_follower_may_have_a_narrower_or_a_wider_window() {
    let mut node = leader();
    node.raw.set_inflight_max(id(2), Some(1));
    node.raw.set_inflight_max(id(3), Some(6));
    assert_eq!(sent_to(&mut node, 2, 1), [2]);
    assert_eq!(sent_to(&mut node, 2, 2), [], "full");
    node.raw.set_inflight_max(id(2), Some(2));
    assert_eq!(node.progress(2).inflights().expect("streaming").count(), 1);
    let freed = bodies_to(&node.settle(), 2);
    assert!(matches!(&freed[..], [Body::AppendEntries { entries, .. }] if entries.len() == 2));

    let mut node = leader();
    node.raw.set_inflight_max(id(3), Some(6));
    assert_eq!(sent_to(&mut node, 3, 9), [2, 3, 4, 5, 6, 7]);
    node.raw.set_inflight_max(id(3), None);
    let sent = bodies_to(&node.ask(accepted(3, 1, 1, 4)), 3);
    assert_eq!(sent.len(), 1, "room for one, as for the others: {sent:?}");
    assert_eq!(sent_to(&mut node, 3, 1), []);
    assert_eq!(node.progress(3).inflights().expect("streaming").count(), 4);
    // A window for itself, or for a stranger, means nothing.
    let mut node = leader();
    node.raw.set_inflight_max(id(1), Some(0));
    node.raw.set_inflight_max(id(9), Some(0));
    assert_eq!(sent_to(&mut node, 2, 1).len(), 1);
}

/// A window that becomes narrower than what is on its way takes nothing back; it opens when enough
/// is acknowledged.
#[test]
fn a_window_may_shrink_below_what_is_on_its_way() {
    let mut node = leader();
    assert_eq!(sent_to(&mut node, 2, 3), [2, 3, 4]);
    node.raw.set_inflight_max(id(2), Some(2));
    assert_eq!(sent_to(&mut node, 2, 1), []);
    node.ask(accepted(2, 1, 1, 2));
    assert_eq!(node.progress(2).inflights().expect("streaming").count(), 2);
    let empty = of_kind(&node.ask(heartbeat_reply(2, 1, 1)), Kind::Append);
    assert!(
        empty
            .iter()
            .all(|m| matches!(&m.body, Body::AppendEntries { entries, .. } if entries.is_empty()))
    );
    let sent = bodies_to(&node.ask(accepted(2, 1, 1, 4)), 2);
    assert!(matches!(&sent[..], [Body::AppendEntries { entries, .. }] if entries.len() == 1));
}
