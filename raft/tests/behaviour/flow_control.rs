//! How fast a leader may send (T§10.2.1; etcd: raft_flow_control_test.go, raft_test.go; museum R).

use bytes::Bytes;
use raft::{Body, Entry, Flow, Index, Message, ProposeError, RoleKind};

use crate::common::build::{Kind, accepted, heartbeat_reply, rejected};
use crate::common::net::group_with;
use crate::common::node::of_kind;
use crate::common::{Node, id, server};

/// A leader of two at term 1 that streams to the other, with other settings.
fn streaming(tune: impl FnOnce(&mut raft::Config)) -> Node {
    let mut node = server(1, &[1, 2]).tune(tune).lead();
    node.ask(accepted(2, 1, 1, 1));
    assert!(matches!(node.progress(2).flow, Flow::Replicate { .. }));
    node
}

fn propose(node: &mut Node, bytes: usize) -> Vec<Message> {
    node.raw.propose(Bytes::from(vec![b'a'; bytes])).expect("it leads");
    of_kind(&node.settle(), Kind::Append)
}

/// (first, last) of the entries in each append; `None` for one without.
fn ranges(messages: &[Message]) -> Vec<Option<(Index, Index)>> {
    let appends = messages.iter().filter_map(|m| match &m.body {
        Body::AppendEntries { entries, .. } => Some(entries),
        _ => None,
    });
    appends.map(|e| Some((e.first()?, e.last()?.index))).collect()
}

/// etcd: TestLeaderIncreaseNext, TestSendAppendForProgressReplicate. A stream runs ahead, an append
/// a time; a probe does not.
#[test]
fn a_stream_runs_ahead() {
    let mut node = streaming(|_| {});
    for n in 2..12 {
        assert_eq!(ranges(&propose(&mut node, 9)), [Some((n, n))]);
        assert_eq!(node.progress(2).next, n + 1);
    }
    let mut node = server(1, &[1, 2]).lead();
    propose(&mut node, 9);
    assert_eq!((node.progress(2).next, node.progress(2).is_paused()), (1, true));
}

/// etcd: TestSendAppendForProgressProbe; R3. One probe, and after that one for each heartbeat that
/// is answered; those of ours that nobody answers resume nothing.
#[test]
fn a_probe_is_repeated_when_the_follower_is_heard_from() {
    let mut node = server(1, &[1, 2]).lead();
    for _ in 0..3 {
        assert!(propose(&mut node, 9).is_empty(), "a probe is out");
        let beats = node.tick(50);
        assert!(of_kind(&beats, Kind::Append).is_empty(), "nobody has answered");
        assert_eq!(of_kind(&beats, Kind::Heartbeat).len(), 50);
        for _ in 0..3 {
            let sent = node.ask(heartbeat_reply(2, 1, 1));
            assert_eq!(of_kind(&sent, Kind::Append).len(), 1);
        }
    }
    let sent = node.ask(accepted(2, 1, 1, 4));
    assert!(matches!(node.progress(2).flow, Flow::Replicate { .. }), "{sent:?}");
}

/// etcd: TestSendAppendForProgressSnapshot, TestPendingSnapshotPauseReplication.
#[test]
fn nothing_is_sent_beside_a_snapshot() {
    let mut node = server(1, &[1, 2]).after((1, 10)).lead();
    node.ask(rejected(2, 1, 2, 10, (0, 0)));
    assert!(matches!(node.progress(2).flow, Flow::Snapshot { pending: 10 }));
    assert!(propose(&mut node, 9).is_empty());
    assert!(of_kind(&node.ask(heartbeat_reply(2, 1, 2)), Kind::Append).is_empty());
}

/// etcd: TestRecvMsgUnreachable. What was on its way may be lost: back to match.
#[test]
fn an_unreachable_follower_is_probed_after_match() {
    let mut node = streaming(|_| {});
    for _ in 0..5 {
        propose(&mut node, 9);
    }
    assert_eq!(node.progress(2).next, 7);
    node.raw.report_unreachable(id(2));
    let pr = node.progress(2);
    assert_eq!((pr.is_probing(), pr.matched, pr.next), (true, 1, 2));
    node.raw.report_unreachable(id(2));
    node.raw.report_unreachable(id(9));
    assert_eq!(node.progress(2).next, 2);
}

/// etcd: TestProgressFlowControl. Bytes an append, and appends on their way.
#[test]
fn appends_are_cut_by_size_and_counted() {
    let size = |payload: u64| payload + Entry::OVERHEAD_BYTES;
    for eager in [false, true] {
        let mut node = server(1, &[1, 2])
            .tune(|c| {
                c.append_bytes_max = 2 * size(1000);
                c.inflight_max = 3;
                c.eager_appends = eager;
            })
            .lead();
        // The probe is out; ten entries wait behind it.
        for _ in 0..10 {
            assert!(propose(&mut node, 1000).is_empty());
        }
        let sent = ranges(&node.ask(accepted(2, 1, 1, 1)));
        let entries: Vec<_> = sent.into_iter().flatten().collect();
        assert_eq!(entries, [(2, 3), (4, 5), (6, 7)], "three appends of two");
        let sent = node.ask(accepted(2, 1, 1, 5));
        let entries: Vec<_> = ranges(&sent).into_iter().flatten().collect();
        assert_eq!(entries, [(8, 9), (10, 11)], "as many as were acknowledged");
    }
}

/// etcd: TestProgressFlowControl. Bytes on their way; one append may overrun the limit.
#[test]
fn bytes_on_their_way_are_limited() {
    let mut node = server(1, &[1, 2])
        .tune(|c| {
            c.append_bytes_max = 2048;
            c.inflight_bytes_max = 3000;
        })
        .lead();
    for bytes in [100, 1000, 1000, 10_000, 100, 100] {
        assert!(propose(&mut node, bytes).is_empty());
    }
    let sent = node.ask(accepted(2, 1, 1, 1));
    let entries: Vec<_> = ranges(&sent).into_iter().flatten().collect();
    // 2 and 3, of 1,100 bytes; with 4 they would be above the size of an append. Then 4 alone,
    // since 5 does not fit, and then 5, which overruns both limits.
    assert_eq!(entries, [(2, 3), (4, 4), (5, 5)]);
    let inflights = |node: &Node| {
        let pr = node.progress(2);
        let inflights = pr.inflights().expect("streaming");
        (inflights.count(), inflights.bytes())
    };
    assert_eq!(inflights(&node), (3, 12_100));
    assert!(propose(&mut node, 1).is_empty(), "the bytes are used up");
    let sent = node.ask(accepted(2, 1, 1, 4));
    assert!(ranges(&sent).into_iter().flatten().next().is_none(), "10,000 are still out");
    let sent = node.ask(accepted(2, 1, 1, 5));
    let entries: Vec<_> = ranges(&sent).into_iter().flatten().collect();
    assert_eq!(entries, [(6, 8)]);
    assert_eq!(inflights(&node), (1, 201));
}

/// R2: going back and forth between probing and streaming leaks nothing of the budget.
#[test]
fn the_byte_budget_does_not_leak() {
    let mut node = streaming(|c| {
        c.append_bytes_max = 500;
        c.inflight_bytes_max = 1000;
    });
    let mut last = 1;
    for _ in 0..100 {
        for _ in 0..4 {
            propose(&mut node, 400);
        }
        node.raw.report_unreachable(id(2));
        last = node.raw.last().index;
        node.ask(accepted(2, 1, 1, last));
    }
    assert_eq!(ranges(&propose(&mut node, 400)), [Some((last + 1, last + 1))]);
}

/// etcd: TestMsgAppFlowControlFull.
#[test]
fn a_full_window_sends_nothing() {
    let mut node = streaming(|c| c.inflight_max = 5);
    for n in 0..5 {
        assert_eq!(propose(&mut node, 9).len(), 1, "{n}");
    }
    for _ in 0..10 {
        assert!(propose(&mut node, 9).is_empty());
    }
}

/// etcd: TestMsgAppFlowControlMoveForward. An acknowledgement frees the appends up to it; an older
/// one nothing.
#[test]
fn an_acknowledgement_frees_up_to_its_index() {
    for eager in [false, true] {
        let mut node = streaming(|c| {
            c.inflight_max = 5;
            c.eager_appends = eager;
        });
        for _ in 0..5 {
            propose(&mut node, 9);
        }
        for acknowledged in 2..6 {
            node.ask(accepted(2, 1, 1, acknowledged));
            assert_eq!(propose(&mut node, 9).len(), 1, "room for one");
            assert!(propose(&mut node, 9).len() <= 1, "and no more");
            let behind = node.progress(2).inflights().expect("streaming").count();
            assert_eq!(behind, 5);
            for older in 0..acknowledged {
                let sent = node.ask(accepted(2, 1, 1, older));
                assert!(ranges(&sent).into_iter().flatten().next().is_none(), "{older} is old");
            }
            assert!(propose(&mut node, 9).is_empty());
            let last = node.raw.last().index;
            let next = node.progress(2).next;
            // Send what piled up, so that the window is full of single entries again.
            assert!(next <= last + 1);
            if next <= last {
                break;
            }
        }
    }
}

/// etcd: TestMsgAppFlowControlRecvHeartbeat. With a full window each answered heartbeat lets one
/// append without entries out: its answer shows whether the others were lost.
#[test]
fn a_heartbeats_answer_lets_one_empty_append_out() {
    for eager in [false, true] {
        let mut node = streaming(|c| {
            c.inflight_max = 5;
            c.eager_appends = eager;
        });
        for _ in 0..5 {
            propose(&mut node, 9);
        }
        for round in 1..5 {
            assert!(propose(&mut node, 9).is_empty());
            for _ in 0..round {
                let sent = node.ask(heartbeat_reply(2, 1, 1));
                assert_eq!(ranges(&sent), [None], "one, and empty");
            }
            assert!(propose(&mut node, 9).is_empty(), "the window is as full as before");
        }
    }
}

/// etcd: TestUncommittedEntryLimit; raft-rs: test_uncommitted_entries_size_limit; R9. Proposals
/// beyond the limit are refused, empty ones never, and the account returns to nothing.
#[test]
fn what_is_uncommitted_is_limited() {
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.uncommitted_bytes_max = 1024 * 6).lead();
    let offer = |node: &mut Node, bytes: usize| {
        let offered = node.raw.propose(Bytes::from(vec![b'a'; bytes]));
        node.settle();
        offered.map(|_| ())
    };
    let account = |node: &Node| node.raw.status().uncommitted_bytes;
    for round in 0..3 {
        for _ in 0..1024 {
            assert_eq!(offer(&mut node, 6), Ok(()));
        }
        assert_eq!(offer(&mut node, 6), Err(ProposeError::TooMuchUncommitted), "{round}");
        assert_eq!(offer(&mut node, 0), Ok(()), "an empty one costs nothing");
        assert_eq!(account(&node), 6 * 1024);
        let last = node.raw.last().index;
        node.ask(accepted(2, 1, 1, last));
        assert_eq!(account(&node), 0);
        // One that is too large goes alone.
        assert_eq!(offer(&mut node, 12 * 1024), Ok(()));
        assert_eq!(offer(&mut node, 1), Err(ProposeError::TooMuchUncommitted));
        assert_eq!(offer(&mut node, 0), Ok(()));
        let last = node.raw.last().index;
        node.ask(accepted(2, 1, 1, last));
        assert_eq!(account(&node), 0);
    }
}

/// etcd: TestRawNodeBoundedLogGrowthWithPartition; raft-rs: test_uncommitted_entry_after_leader_election,
/// test_uncommitted_state_advance_ready_from_last_term.
#[test]
fn a_leader_without_a_quorum_piles_up_so_much() {
    let mut node =
        server(1, &[1, 2, 3]).log(&[1; 4]).tune(|c| c.uncommitted_bytes_max = 4096).lead();
    assert_eq!(node.raw.status().uncommitted_bytes, 0, "what it took over is not its own");
    for n in 0..1024 {
        let offered = node.raw.propose(Bytes::from(vec![b'a'; 16]));
        assert_eq!(offered.is_ok(), n < 256);
    }
    node.settle();
    assert_eq!(node.raw.last().index, 5 + 256);
    node.ask(accepted(2, 1, 2, 5 + 256));
    assert_eq!(node.raw.status().uncommitted_bytes, 0, "entries of others are not subtracted");
}

/// R9: refused membership changes, which become empty entries, do not distort the account.
#[test]
fn refused_changes_do_not_distort_the_account() {
    let mut net = group_with(3, |_| {});
    net.campaign(1);
    let change = raft::ConfChange::single(raft::ConfChangeKind::AddLearnerNode, id(4));
    for n in 0..1_000 {
        net.node(1).raw.propose_conf_change(&change).expect("it leads");
        if n % 7 == 0 {
            net.node(1).raw.propose("x".into()).expect("it leads");
        }
        if n % 50 == 0 {
            net.pump();
        }
    }
    net.pump();
    assert_eq!(net.node(1).raw.status().uncommitted_bytes, 0);
}

/// etcd: TestAppendPagination. No append is above the limit, and large ones do occur.
#[test]
fn appends_stay_within_the_limit() {
    let limit = 2048;
    let mut net = group_with(3, |c| c.append_bytes_max = limit);
    let largest = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = largest.clone();
    net.hook(move |m| {
        if let Body::AppendEntries { entries, .. } = &m.body {
            assert!(entries.size() <= limit || entries.len() == 1);
            seen.set(seen.get().max(entries.size()));
        }
        true
    });
    net.campaign(1);
    net.isolate(2);
    for _ in 0..50 {
        net.put(1, &"x".repeat(100));
    }
    net.heal();
    net.run(10);
    // The hook went with the partition; look at what a lagging follower is sent once more.
    net.isolate(3);
    for _ in 0..50 {
        net.put(1, &"x".repeat(100));
    }
    net.heal();
    let seen = largest.clone();
    net.hook(move |m| {
        if let Body::AppendEntries { entries, .. } = &m.body {
            assert!(entries.size() <= limit || entries.len() == 1);
            seen.set(seen.get().max(entries.size()));
        }
        true
    });
    net.run(5);
    net.assert_equal();
    assert!(largest.get() > limit / 2, "{}", largest.get());
}

/// raft-rs: test_batch_msg_append. All proposals between two looks travel in one append.
#[test]
fn proposals_between_two_looks_share_an_append() {
    let mut node = streaming(|_| {});
    for n in 0..10 {
        node.raw.propose(format!("{n}").into()).expect("it leads");
    }
    assert_eq!(ranges(&of_kind(&node.settle(), Kind::Append)), [Some((2, 11))]);
    let mut node = streaming(|c| c.eager_appends = true);
    for n in 0..10 {
        node.raw.propose(format!("{n}").into()).expect("it leads");
    }
    let sent = ranges(&of_kind(&node.settle(), Kind::Append));
    assert_eq!(sent, (2..12).map(|n| Some((n, n))).collect::<Vec<_>>(), "each at once");
}

/// R1: with a full window, appends lost and the log compacted, the follower gets a snapshot, and
/// never a commit index beyond its log.
#[test]
fn a_full_window_over_a_compacted_log_ends_in_a_snapshot() {
    for eager in [false, true] {
        let mut net = group_with(3, |c| {
            c.inflight_max = 1;
            c.eager_appends = eager;
        });
        net.campaign(1);
        for n in 0..4 {
            net.put(1, &format!("{n}"));
        }
        net.isolate(3);
        for n in 4..20 {
            net.put(1, &format!("{n}"));
        }
        assert!(net.node(1).progress(3).is_paused());
        net.node(1).compact(20);
        net.heal();
        net.beat(1);
        net.beat(1);
        net.beat(1);
        assert_eq!(net.arrived.get(&Kind::Snapshot), Some(&1));
        net.assert_equal();
        assert_eq!(net.role(1), RoleKind::Leader);
    }
}
