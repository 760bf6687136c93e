//! §5.2, leader election.

use std::collections::BTreeSet;

use raft::{Body, LogId, NewError, RawNode, RoleKind};

use crate::common::build::{Kind, accepted};
use crate::common::node::of_kind;
use crate::common::{append, grant, group, heartbeat, id, server, vote};

/// When servers start up, they begin as followers. (etcd: TestStartAsFollower.)
#[test]
fn a_server_starts_as_follower() {
    assert_eq!(server(1, &[1, 2, 3]).start().raw.role(), RoleKind::Follower);
    assert_eq!(server(1, &[1]).start().raw.role(), RoleKind::Follower);
    let mut leader = server(1, &[1, 2, 3]).lead();
    leader.restart();
    assert_eq!(leader.raw.role(), RoleKind::Follower, "whatever it was before");
}

/// A server remains a follower as long as it hears from a leader or grants a candidate its vote.
#[test]
fn news_of_a_leader_or_a_granted_vote_keeps_a_follower() {
    for news in ["append", "heartbeat", "vote"] {
        let mut node = server(1, &[1, 2, 3]).start();
        for term in 1..=20 {
            node.take(match news {
                "append" => append(2, 1, term, (0, 0), &[], 0),
                "heartbeat" => heartbeat(2, 1, term, 0),
                _ => vote(2, 1, term, (0, 0)),
            });
            node.tick(9);
            assert_eq!(node.raw.role(), RoleKind::Follower, "{news}");
        }
    }
}

/// A vote request that is refused is no reason to wait longer.
#[test]
fn a_refused_vote_does_not_delay_an_election() {
    let mut node = server(1, &[1, 2, 3]).log(&[1]).start();
    node.raw.set_election_timeout(10);
    node.tick(9);
    // The candidate's log is shorter, and its term no higher than the present one.
    node.take(vote(2, 1, 1, (0, 0)));
    node.settle();
    node.tick(1);
    assert_eq!(node.raw.role(), RoleKind::Candidate);
}

/// Leaders send periodic heartbeats to all followers. They carry no entries, and the commit index
/// as far as the follower is known to have it. (etcd: TestLeaderBcastBeat, TestBcastBeat.)
#[test]
fn a_leader_sends_heartbeats_to_all() {
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.heartbeat_ticks = 2).lead();
    node.take(accepted(2, 1, 1, 1));
    node.settle();
    assert_eq!(node.raw.commit(), 1);
    for _ in 0..3 {
        assert!(of_kind(&node.tick(1), Kind::Heartbeat).is_empty());
        let beats = of_kind(&node.tick(1), Kind::Heartbeat);
        let sent: Vec<_> = beats.iter().map(|m| (m.to, m.term, m.body.clone())).collect();
        let beat = |commit| Body::Heartbeat { commit, read: 0 };
        assert_eq!(sent, [(id(2), 1, beat(1)), (id(3), 1, beat(0))], "min(match, commit)");
    }
}

/// If a follower receives no communication over the election timeout, it begins an election; a
/// candidate whose election comes to nothing begins another one.
/// (etcd: TestFollowerStartElection, TestCandidateStartNewElection.)
#[test]
fn a_timeout_begins_an_election() {
    let mut node = server(1, &[1, 2, 3]).start();
    for term in 1..=5 {
        let sent = node.tick(20);
        let requests = of_kind(&sent, Kind::RequestVote);
        assert_eq!(node.raw.role(), RoleKind::Candidate);
        assert!(node.raw.term() >= term, "a term for each election");
        assert!(requests.iter().any(|m| m.to == id(2)) && requests.iter().any(|m| m.to == id(3)));
    }
}

/// To begin an election, a follower increments its current term and transitions to candidate; it
/// votes for itself and issues RequestVote to each of the other servers.
#[test]
fn a_candidate_votes_for_itself_in_a_new_term_and_asks_all_others() {
    let mut node = server(1, &[1, 2, 3, 4, 5]).log(&[1, 3]).start();
    let sent = node.stand();
    assert_eq!(node.raw.role(), RoleKind::Candidate);
    assert_eq!(node.raw.term(), 4);
    assert_eq!(node.storage.hard_state().vote, Some(id(1)), "on disk");
    let body = Body::RequestVote {
        pre: false,
        last: LogId::new(3, 2),
        transfer: false,
        commit: LogId::ZERO,
    };
    let expected: Vec<_> = (2..=5).map(|n| (id(n), 4, body.clone())).collect();
    let sent: Vec<_> = sent.into_iter().map(|m| (m.to, m.term, m.body)).collect();
    assert_eq!(sent, expected);
}

/// A candidate wins if it receives votes from a majority of the servers in the full cluster; it
/// stays candidate while that is open, and goes back when it cannot win any more.
/// (etcd: TestLeaderElectionInOneRoundRPC.)
#[test]
fn a_majority_of_the_full_cluster_elects() {
    use RoleKind::{Candidate, Follower, Leader};
    let cases: [(u64, &[u64], &[u64], RoleKind); 17] = [
        // size, who grants, who refuses → role
        (1, &[], &[], Leader),
        (3, &[2, 3], &[], Leader),
        (3, &[2], &[], Leader),
        (5, &[2, 3, 4, 5], &[], Leader),
        (5, &[2, 3, 4], &[], Leader),
        (5, &[2, 3], &[], Leader),
        (3, &[], &[2, 3], Follower),
        (5, &[], &[2, 3, 4, 5], Follower),
        (5, &[2], &[3, 4, 5], Follower),
        (3, &[], &[], Candidate),
        (3, &[], &[2], Candidate),
        (5, &[2], &[], Candidate),
        (5, &[], &[2, 3], Candidate),
        (5, &[], &[], Candidate),
        (4, &[2], &[], Candidate),
        (4, &[2, 3], &[], Leader),
        (4, &[2], &[3, 4], Follower),
    ];
    for (size, yes, no, role) in cases {
        let all: Vec<u64> = (1..=size).collect();
        let mut node = server(1, &all).start();
        node.stand();
        for n in yes.iter().chain(no) {
            node.take(grant(*n, 1, 1, yes.contains(n)));
            node.settle();
        }
        assert_eq!(node.raw.role(), role, "{yes:?} of {size} grant, {no:?} refuse");
        assert_eq!(node.raw.term(), 1);
    }
}

/// Only votes for the same term count.
#[test]
fn votes_of_another_term_do_not_count() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.stand();
    node.stand();
    assert_eq!(node.raw.term(), 2);
    node.take(grant(2, 1, 1, true));
    node.settle();
    assert_eq!(node.raw.role(), RoleKind::Candidate);
    node.take(grant(2, 1, 2, true));
    node.settle();
    assert_eq!(node.raw.role(), RoleKind::Leader);
}

/// One vote a server: the first answer of each counts, however often it is repeated.
#[test]
fn a_voter_counts_once() {
    let mut node = server(1, &[1, 2, 3, 4, 5]).start();
    node.stand();
    for _ in 0..5 {
        node.take(grant(2, 1, 1, true));
    }
    node.settle();
    assert_eq!(node.raw.role(), RoleKind::Candidate);
    // A refusal that comes after a grant takes nothing back, and the other way round.
    node.take(grant(2, 1, 1, false));
    node.take(grant(3, 1, 1, false));
    node.take(grant(3, 1, 1, true));
    node.settle();
    assert_eq!(node.raw.role(), RoleKind::Candidate);
    node.take(grant(4, 1, 1, true));
    node.settle();
    assert_eq!(node.raw.role(), RoleKind::Leader);
}

/// Each server votes for at most one candidate in a term, first come, first served; the same
/// candidate may ask again. (etcd: TestFollowerVote; E9.)
#[test]
fn one_vote_a_term_first_come_first_served() {
    for (voted, asks, granted) in
        [(0, 2, true), (0, 3, true), (2, 2, true), (3, 3, true), (2, 3, false), (3, 2, false)]
    {
        let mut node = server(1, &[1, 2, 3]).term(4).voted(voted).start();
        let replies = node.ask(vote(asks, 1, 4, (0, 0)));
        assert_eq!(replies, [grant(1, asks, 4, granted)], "voted for {voted}, {asks} asks");
        let again = node.ask(vote(asks, 1, 4, (0, 0)));
        assert_eq!(again, replies, "asked again, answered the same");
    }
}

/// The vote is remembered through a crash.
#[test]
fn a_vote_survives_a_crash() {
    let mut node = server(1, &[1, 2, 3]).start();
    assert_eq!(node.ask(vote(2, 1, 5, (0, 0))), [grant(1, 2, 5, true)]);
    node.restart();
    assert_eq!(node.ask(vote(3, 1, 5, (0, 0))), [grant(1, 3, 5, false)]);
    assert_eq!(node.ask(vote(2, 1, 5, (0, 0))), [grant(1, 2, 5, true)]);
}

/// Once a candidate wins, it becomes leader and tells all others, to prevent new elections.
#[test]
fn a_new_leader_tells_everybody() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.stand();
    let sent = node.ask(grant(2, 1, 1, true));
    assert_eq!(node.raw.role(), RoleKind::Leader);
    for n in [2, 3] {
        let told = sent.iter().filter(|m| m.to == id(n) && m.term == 1).count();
        assert_eq!(told, 1, "{n}");
    }
}

/// A candidate that hears from a leader of its own or a later term returns to follower.
/// (etcd: TestCandidateFallback, TestCandidateResetTermMsgHeartbeat,
/// TestCandidateResetTermMsgApp.)
#[test]
fn a_candidate_yields_to_a_leader_of_at_least_its_term() {
    for term in [1, 2] {
        for message in [append(2, 1, term, (0, 0), &[], 0), heartbeat(2, 1, term, 0)] {
            let mut node = server(1, &[1, 2, 3]).start();
            node.stand();
            node.take(message);
            assert_eq!(node.raw.role(), RoleKind::Follower);
            assert_eq!((node.raw.term(), node.raw.leader()), (term, Some(id(2))));
        }
    }
}

/// If the term in the RPC is smaller than the candidate's, it rejects and remains candidate.
#[test]
fn a_candidate_ignores_an_older_leader() {
    let mut node = server(1, &[1, 2, 3]).term(3).start();
    node.stand();
    node.take(append(2, 1, 3, (0, 0), &[3], 1));
    assert_eq!(node.raw.role(), RoleKind::Candidate);
    assert_eq!((node.raw.term(), node.raw.last()), (4, LogId::ZERO));
}

/// If votes are split, each candidate times out and starts a new election in the next term.
#[test]
fn after_a_split_vote_the_next_term_elects() {
    let mut net = group(3);
    net.isolate(3);
    net.node(1).raw.campaign();
    net.node(2).raw.campaign();
    net.pump();
    assert_eq!(net.roles()[..2], [RoleKind::Candidate, RoleKind::Candidate]);
    net.campaign(1);
    assert_eq!((net.role(1), net.term(1)), (RoleKind::Leader, 2));
}

/// Election timeouts are chosen randomly from a fixed interval. All values occur.
/// (etcd: TestFollowerElectionTimeoutRandomized, TestCandidateElectionTimeoutRandomized,
/// TestPastElectionTimeout.)
#[test]
fn timeouts_are_drawn_from_the_whole_interval() {
    let mut counts = std::collections::BTreeMap::new();
    let draws = 4_000;
    for seed in 0..draws / 10 {
        let mut node = server(1, &[1, 2, 3]).tune(|c| c.seed = seed).start();
        for term in 1..=10 {
            let mut ticks = 0;
            while node.raw.term() < term {
                node.tick(1);
                ticks += 1;
            }
            *counts.entry(ticks).or_insert(0) += 1;
        }
    }
    let seen: BTreeSet<u32> = counts.keys().copied().collect();
    assert_eq!(seen, (10..20).collect(), "every value from 10 to 19");
    // Evenly: each about a tenth.
    assert!(counts.values().all(|n| (250..550).contains(n)), "{counts:?}");
}

/// So that in most cases only a single server will time out.
/// (etcd: TestFollowersElectionTimeoutNonconflict, TestCandidatesElectionTimeoutNonconflict.)
#[test]
fn servers_seldom_time_out_together() {
    let (mut conflicts, rounds) = (0, 1_000);
    for seed in 0..rounds {
        let mut nodes: Vec<_> =
            (1..=5).map(|n| server(n, &[1, 2, 3, 4, 5]).tune(|c| c.seed = seed).start()).collect();
        let mut timed_out = 0;
        while timed_out == 0 {
            for node in &mut nodes {
                node.tick(1);
            }
            timed_out = nodes.iter().filter(|node| node.raw.term() > 0).count();
        }
        conflicts += usize::from(timed_out > 1);
    }
    assert!(conflicts * 10 <= rounds as usize * 4, "{conflicts} of {rounds}");
}

/// Each candidate restarts its randomized election timeout at the start of an election.
#[test]
fn an_election_restarts_the_timer() {
    let mut node = server(1, &[1, 2, 3]).start();
    node.tick(8);
    node.stand();
    let term = node.raw.term();
    node.tick(9);
    assert_eq!(node.raw.term(), term, "no second election before a whole timeout has passed");
    node.tick(11);
    assert!(node.raw.term() > term);
}

/// §5.6: the broadcast time must be well below the election timeout; settings that cannot work are
/// refused. (raft-rs: test_new_raft_with_bad_config_errors.)
#[test]
fn heartbeats_slower_than_elections_are_refused() {
    let setup = server(1, &[1, 2, 3]).tune(|c| c.heartbeat_ticks = c.election_ticks);
    let refused = RawNode::new(setup.config.clone(), Box::new(setup.storage()));
    assert!(matches!(refused, Err(NewError::Config(_))));
}
