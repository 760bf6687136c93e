//! Pre-vote (T§9.6), alone and with check-quorum, and groups that are being moved to it.

use raft::{Body, LogId, RoleKind};

use crate::common::build::{Kind, heartbeat, pre_vote, vote};
use crate::common::net::group_with;
use crate::common::node::of_kind;
use crate::common::{Net, append, id, message, server};

use RoleKind::{Candidate, Follower, Leader, PreCandidate};

fn with_pre_vote(n: u64) -> Net {
    group_with(n, |c| c.pre_vote = true)
}

fn with_both(n: u64) -> Net {
    group_with(n, |c| {
        c.pre_vote = true;
        c.check_quorum = true;
    })
}

/// etcd: TestDuelingPreCandidates. With pre-vote a server that missed entries does not disturb.
#[test]
fn a_pre_candidate_that_missed_entries_does_not_disturb() {
    let mut net = with_pre_vote(3);
    net.cut(1, 3);
    net.campaign(1);
    net.campaign(3);
    assert_eq!((net.role(1), net.role(3)), (Leader, Follower), "refused by 2, which has more");
    net.heal();
    net.campaign(3);
    assert_eq!(net.roles(), [Leader, Follower, Follower]);
    assert_eq!(net.terms(), [1, 1, 1]);
    net.put(1, "x");
    net.beat(1);
    net.assert_equal();
}

/// E13: a server that was cut off for long comes back without a stir.
#[test]
fn a_returning_server_does_not_depose_the_leader() {
    let mut net = with_both(3);
    net.campaign(1);
    net.isolate(3);
    net.run(1_000);
    net.heal();
    let term = net.term(1);
    net.run(200);
    assert_eq!((net.leader(), net.term(1), net.role(3)), (Some(1), term, Follower));

    // Without pre-vote there is at most one election.
    let mut net = group_with(3, |_| {});
    net.campaign(1);
    net.isolate(3);
    net.run(1_000);
    let away = net.term(3);
    net.heal();
    net.run(200);
    assert!(net.leader().is_some());
    assert!(net.term(1) <= away + 2, "one election, or one more if it was split");
}

/// Asking has no effect: neither the term nor the vote, on either side (E4: nothing is stored).
#[test]
fn a_pre_vote_stores_nothing() {
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.pre_vote = true).log(&[1]).start();
    let before = node.storage.hard_state();
    let sent = node.stand();
    assert_eq!(node.raw.role(), PreCandidate);
    assert_eq!(of_kind(&sent, Kind::RequestPreVote).len(), 2);
    assert!(sent.iter().all(|m| m.term == 2), "in the term it would have");
    node.ask(pre_vote(2, 1, 7, (9, 9)));
    assert_eq!(node.storage.hard_state(), before);
    assert_eq!(node.raw.hard_state(), before);
}

/// E3: the tally starts empty in each round, and a pre-candidate follows nobody, so that it is not
/// kept from voting by a leader that is gone.
#[test]
fn each_round_counts_anew() {
    let mut net = with_both(3);
    net.campaign(1);
    net.isolate(1);
    for n in [2, 3] {
        net.node(n).raw.set_election_timeout(10);
    }
    for _ in 0..10 {
        net.node(2).raw.tick();
        net.node(3).raw.tick();
    }
    assert_eq!((net.role(2), net.role(3)), (PreCandidate, PreCandidate), "in the same tick");
    assert_eq!((net.leader_of(2), net.leader_of(3)), (None, None));
    net.pump();
    net.campaign(3);
    assert!(net.leader() == Some(2) || net.leader() == Some(3));

    let mut node = server(1, &[1, 2, 3, 4, 5]).tune(|c| c.pre_vote = true).start();
    node.stand();
    let granted = Body::RequestVoteReply { pre: true, granted: true, commit: LogId::ZERO };
    node.ask(message(2, 1, 1, granted.clone()));
    node.stand();
    node.ask(message(3, 1, 1, granted.clone()));
    assert_eq!(node.raw.role(), PreCandidate, "2's was for the round before");
    node.ask(message(2, 1, 1, granted));
    assert_eq!(node.raw.role(), Candidate);
}

/// E10: answers to an older round do nothing to a leader.
#[test]
fn late_pre_votes_do_nothing_to_a_leader() {
    let mut net = with_pre_vote(3);
    net.campaign(1);
    let before = net.node(1).raw.hard_state();
    for term in [1, 2, 3] {
        let granted = Body::RequestVoteReply { pre: true, granted: true, commit: LogId::ZERO };
        net.send(message(2, 1, term, granted.clone()));
        net.send(message(3, 1, term, granted));
    }
    assert_eq!((net.role(1), net.node(1).raw.hard_state()), (Leader, before));
}

/// E4: a refusal carries the refuser's term, and the asker takes it.
#[test]
fn a_refusal_of_a_later_term_is_heeded() {
    let mut net = Net::of([
        server(1, &[1, 2, 3]).log(&[1, 3, 3]).tune(|c| c.pre_vote = true),
        server(2, &[1, 2, 3]).log(&[1, 3, 3]).tune(|c| c.pre_vote = true),
        server(3, &[1, 2, 3]).log(&[1]).term(9).tune(|c| c.pre_vote = true),
    ]);
    net.isolate(2);
    net.campaign(1);
    assert_eq!((net.role(1), net.term(1)), (Follower, 9));
    assert_eq!(net.node(1).raw.hard_state().vote, None);
    assert_eq!(net.node(3).storage.hard_state().vote, None);
    net.heal();
    assert!(net.elect(100).is_some_and(|n| n != 3));
}

/// etcd: TestNodeWithSmallerTermCanCompleteElection; E2. A server that was away at a low term can
/// still take part.
#[test]
fn a_server_of_a_low_term_still_helps_to_elect() {
    let mut net = with_pre_vote(3);
    net.campaign(1);
    net.isolate(3);
    // 1 and 2 go through some terms without 3.
    for n in [2, 1, 2] {
        net.campaign(n);
    }
    assert_eq!(net.terms(), [4, 4, 1]);
    net.heal();
    net.isolate(2);
    net.run(200);
    assert_eq!((net.role(1), net.role(3)), (Leader, Follower), "3 lacks entries");
    assert!(net.term(1) > 4);
}

/// E2: also if it has all entries.
#[test]
fn a_server_of_a_low_term_with_all_entries() {
    let mut net = Net::of([
        server(1, &[1, 2, 3]).log(&[1]).term(5).tune(|c| c.pre_vote = true),
        server(3, &[1, 2, 3]).log(&[1]).term(1).tune(|c| c.pre_vote = true),
    ]);
    net.elect(200).expect("1 and 3 are enough");
    assert!(net.term(1) > 5);
}

/// E1: the one with the longer log has the lower term, the other the higher.
#[test]
fn a_higher_term_and_a_longer_log_do_not_lock_each_other_out() {
    let mut net = Net::of([
        server(1, &[1, 2, 3]).log(&[4; 10]).term(5).tune(|c| c.pre_vote = true),
        server(2, &[1, 2, 3]).log(&[4; 9]).term(6).voted(2).tune(|c| c.pre_vote = true),
    ]);
    assert_eq!(net.elect(200), Some(1));
    assert!(net.term(1) >= 7);
    let stale = append(1, 2, 1, (0, 0), &[], 0);
    let answer = net.node(2).ask(stale);
    assert!(answer.iter().all(|m| m.term == net.term(2)) && !answer.is_empty());
}

/// etcd: TestPreVoteWithSplitVote. After a split vote the next round elects; a term a round.
#[test]
fn a_split_vote_after_pre_votes_costs_one_term() {
    let mut net = with_pre_vote(3);
    net.campaign(1);
    net.isolate(1);
    net.node(2).raw.campaign();
    net.node(3).raw.campaign();
    net.pump();
    assert_eq!((net.role(2), net.role(3)), (Candidate, Candidate));
    assert_eq!((net.term(2), net.term(3)), (2, 2));
    net.campaign(2);
    assert_eq!((net.role(2), net.term(2)), (Leader, 3));
}

/// etcd: TestPreVoteWithCheckQuorum; E8. Leases and pre-votes together still let a leader emerge.
#[test]
fn leases_and_pre_votes_together_elect() {
    let mut net = with_both(3);
    net.campaign(1);
    net.isolate(1);
    let elected = (0..60).find_map(|_| {
        net.run(1);
        net.leader().filter(|n| *n != 1)
    });
    assert!(elected.is_some(), "within three timeouts");
    net.heal();
    net.run(60);
    assert_eq!(net.leader(), elected);
    // E8: a leader that lost its quorum for a while stands at once, while it is still followed.
    let mut net = with_both(3);
    net.campaign(1);
    net.isolate(1);
    net.ticks(1, 20);
    assert_eq!(net.role(1), Follower);
    net.heal();
    net.campaign(1);
    assert!(net.elect(60).is_some());
}

/// A group on its way to pre-vote: 1, which leads, and 2 have it; 3, which was away, is at a higher
/// term with a shorter log, and gets it now.
fn migrating() -> Net {
    let mut net = Net::of([1, 2, 3].map(|n| server(n, &[1, 2, 3]).tune(|c| c.pre_vote = n != 3)));
    net.campaign(1);
    net.isolate(3);
    net.put(1, "x");
    net.campaign(3);
    net.campaign(3);
    net.node(3).config.pre_vote = true;
    net.restart(3);
    assert_eq!(net.terms(), [1, 1, 3]);
    net.heal();
    net
}

/// etcd: TestPreVoteMigrationCanCompleteElection.
#[test]
fn a_group_on_its_way_to_pre_vote_elects() {
    let mut net = migrating();
    net.isolate(1);
    net.campaign(3);
    net.campaign(2);
    net.campaign(3);
    net.campaign(2);
    assert_eq!((net.role(2), net.role(3)), (Leader, Follower), "2 has the log");
    assert_eq!(net.term(2), 4);
}

/// etcd: TestPreVoteMigrationWithFreeStuckPreCandidate. The stuck server answers the leader's
/// heartbeat by its higher term; the leader steps down and is elected again, for all three.
#[test]
fn a_stuck_pre_candidate_is_freed_by_the_leaders_heartbeat() {
    let mut net = migrating();
    net.campaign(3);
    net.campaign(3);
    assert_eq!(net.roles(), [Leader, Follower, PreCandidate], "1 and 2 do not heed it");
    net.send(heartbeat(1, 3, 1, 0));
    assert_eq!((net.role(1), net.term(1)), (Follower, 3), "freed");
    net.elect(100).expect("everybody is there");
    net.run(20);
    net.assert_equal();
    assert!(net.terms().iter().all(|term| *term == net.term(1)));
}

/// With pre-vote or check-quorum, a leader of an older term is answered, so that it steps down;
/// without both, silence is enough.
#[test]
fn a_leader_of_an_older_term_is_told() {
    for (pre, check, answers) in [(false, false, 0), (true, false, 1), (false, true, 1)] {
        for stale in [heartbeat(2, 1, 3, 0), append(2, 1, 3, (0, 0), &[], 0)] {
            let mut node = server(1, &[1, 2, 3])
                .tune(|c| {
                    c.pre_vote = pre;
                    c.check_quorum = check;
                })
                .log(&[1])
                .term(5)
                .start();
            let told = node.ask(stale);
            assert_eq!(told.len(), answers);
            assert!(told.iter().all(|m| m.term == 5 && m.to == id(2)));
            assert_eq!(node.raw.last(), LogId::new(1, 1));
        }
    }
    // A pre-vote of an older term is refused in any case, with the present term.
    let mut node = server(1, &[1, 2, 3]).term(5).start();
    let refused = Body::RequestVoteReply { pre: true, granted: false, commit: LogId::ZERO };
    assert_eq!(node.ask(pre_vote(2, 1, 4, (9, 9))), [message(1, 2, 5, refused)]);
    assert!(node.ask(vote(2, 1, 4, (9, 9))).is_empty());
}
