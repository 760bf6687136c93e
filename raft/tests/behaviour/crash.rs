//! Power cuts between what is sent and what is on disk. Requests leave beside the write
//! (T§10.2.1); these are the ones that would do harm.

use raft::{LogId, RoleKind};

use crate::common::build::Kind;
use crate::common::node::of_kind;
use crate::common::{Node, append, grant, group, server, vote};

fn held(mut node: Node) -> Node {
    node.hold_writes = true;
    node
}

/// A leader's term is on its own disk. Else it could be elected by the others' votes, write
/// entries to one of them, lose its memory, be elected in the *same* term once more, and write
/// other entries with the same index and term.
#[test]
fn nobody_leads_before_its_own_vote_is_on_disk() {
    let mut node = held(server(1, &[1, 2, 3]).log(&[1]).start());
    assert_eq!(node.stand().len(), 2, "the requests leave beside the write");
    node.ask(grant(2, 1, 2, true));
    node.ask(grant(3, 1, 2, true));
    assert_eq!(node.raw.role(), RoleKind::Candidate, "elected, but it could forget it");
    node.restart();
    assert_eq!((node.raw.term(), node.raw.role()), (1, RoleKind::Follower));

    node.stand();
    node.ask(grant(2, 1, 2, true));
    let sent = node.persist_all();
    assert_eq!(node.raw.role(), RoleKind::Leader);
    assert_eq!(node.storage.hard_state().term, 2);
    assert_eq!(of_kind(&sent, Kind::Append).len(), 2);
}

/// A candidate asks in the name of the log that it has on disk. Else it could get votes for
/// entries that it forgets with its term, stand again in the same term with a shorter log, and win
/// with the late votes for the longer one: without entries that are committed.
#[test]
fn votes_are_asked_for_a_log_that_is_on_disk() {
    let mut node = held(server(1, &[1, 2, 3]).log(&[1]).start());
    node.take(append(3, 1, 1, (1, 1), &[1, 1], 1));
    node.settle();
    assert_eq!(node.raw.last(), LogId::new(1, 3), "in memory");
    assert!(of_kind(&node.stand(), Kind::RequestVote).is_empty(), "2 and 3 are not on disk");
    node.restart();
    assert_eq!(node.raw.last(), LogId::new(1, 1));

    node.take(append(3, 1, 1, (1, 1), &[1, 1], 1));
    node.settle();
    node.stand();
    let sent = of_kind(&node.persist_all(), Kind::RequestVote);
    assert_eq!(sent, [vote(1, 2, 2, (1, 3)), vote(1, 3, 2, (1, 3))]);
    assert_eq!(node.storage.last(), LogId::new(1, 3));
}

/// E12: a vote leaves only when it is on disk, and then it holds.
#[test]
fn a_vote_that_was_not_synced_was_not_given() {
    let mut node = held(server(1, &[1, 2, 3]).start());
    assert!(node.ask(vote(2, 1, 1, (0, 0))).is_empty());
    node.restart();
    assert_eq!(node.raw.hard_state().vote, None);
    assert!(node.ask(vote(3, 1, 1, (0, 0))).is_empty());
    assert_eq!(node.persist_all(), [grant(1, 3, 1, true)]);
    node.restart();
    assert!(node.ask(vote(2, 1, 1, (0, 0))).is_empty());
    assert_eq!(node.persist_all(), [grant(1, 2, 1, false)]);
}

// ---- Groups under way ----

/// etcd: TestBasicProgress, TestRestart, TestPause (of rafttest). Five servers and a hundred
/// proposals: all get there, though servers lose power, or stand still, one after the other.
#[test]
fn a_hundred_proposals_get_everywhere() {
    for disturbance in ["none", "restart", "pause"] {
        let mut net = group(5);
        net.campaign(1);
        for n in 0..100 {
            let (round, victim) = (n / 10, 2 + (n / 10) % 4);
            match (disturbance, n % 10) {
                ("restart", 3) => net.restart(victim),
                ("pause", 3) => net.isolate(victim),
                ("pause", 8) => net.heal(),
                _ => {}
            }
            net.put(1, &format!("{round}.{n}"));
        }
        net.heal();
        net.run(5);
        assert_eq!(net.commit(1), 101, "{disturbance}");
        net.assert_equal();
        let said = net.node(5).said();
        assert_eq!((said.len(), said.last().map(String::as_str)), (100, Some("9.99")));
    }
    // The leader itself, too: what it had told its clients is there under the next one.
    let mut net = group(5);
    for n in 0..20 {
        let leader = net.elect(100).expect("a majority is there");
        net.put(leader, &n.to_string());
        net.restart(leader);
    }
    let leader = net.elect(100).expect("a majority is there");
    net.run(5);
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(net.node(leader).said(), expected);
    net.assert_equal();
}
