//! Elections without pre-vote, and what both kinds have in common (§5.2, §5.4.1; etcd:
//! raft_test.go).

use raft::{ConfChange, ConfChangeKind, LogId, RoleKind};

use crate::common::build::{Kind, accepted, changes, pre_vote, voters};
use crate::common::net::group_with;
use crate::common::{Net, Node, append, grant, group, heartbeat, id, message, server, vote};

use RoleKind::{Candidate, Follower, Leader, PreCandidate};

/// A server of three in that role, in term 3, with the log 1@1 2@2.
fn in_role(role: RoleKind) -> Node {
    let setup = server(1, &[1, 2, 3]).log(&[1, 2]);
    match role {
        Leader => setup.lead_after(2),
        Candidate => {
            let mut node = setup.start();
            node.stand();
            node
        }
        PreCandidate => {
            let mut node = setup.term(3).tune(|c| c.pre_vote = true).start();
            node.stand();
            node
        }
        Follower => setup.term(3).start(),
    }
}

const ROLES: [RoleKind; 4] = [Follower, PreCandidate, Candidate, Leader];

/// etcd: TestRecvMsgVote, TestRecvMsgPreVote. At the same term a follower votes by its vote so far
/// and by the logs; a candidate has voted for itself, and a leader for itself, too.
#[test]
fn votes_at_the_same_term_by_role_log_and_former_vote() {
    let logs = [
        // candidate's last (term, index), good enough for 1@1 2@2
        ((0, 0), false),
        ((1, 1), false),
        ((1, 2), false),
        ((1, 9), false),
        ((2, 1), false),
        ((2, 2), true),
        ((2, 3), true),
        ((3, 0), true),
        ((3, 9), true),
    ];
    for (last, is_good) in logs {
        for (voted, may) in [(0, true), (2, true), (3, false)] {
            let mut node = server(1, &[1, 2, 3]).log(&[1, 2]).term(3).voted(voted).start();
            let answer = node.ask(vote(2, 1, 3, last));
            assert_eq!(answer, [grant(1, 2, 3, is_good && may)], "{last:?}, voted {voted}");
        }
    }
    for role in [Candidate, Leader] {
        let mut node = in_role(role);
        let term = node.raw.term();
        assert_eq!(node.ask(vote(2, 1, term, (9, 9))), [grant(1, 2, term, false)], "{role}");
        assert_eq!(node.raw.role(), role);
    }
}

/// etcd: TestVoteFromAnyState, TestPreVoteFromAnyState (TinyKV: TestVoteFromAnyState2AA). Asked in
/// a higher term by a server with a log as good as its own, everybody grants.
#[test]
fn every_role_grants_a_higher_term() {
    for role in ROLES {
        let mut node = in_role(role);
        let term = node.raw.term() + 1;
        let granted = node.ask(vote(2, 1, term, (9, 42)));
        assert_eq!(granted.last(), Some(&grant(1, 2, term, true)), "{role}");
        assert_eq!((node.raw.role(), node.raw.term()), (Follower, term));
        assert_eq!(node.storage.hard_state().vote, Some(id(2)));

        let mut node = in_role(role);
        let before = (node.raw.hard_state(), node.raw.role());
        let term = node.raw.term() + 1;
        let asked = pre_vote(2, 1, term, (9, 42));
        let granted = node.ask(asked);
        let body = raft::Body::RequestVoteReply { pre: true, granted: true, commit: LogId::ZERO };
        assert_eq!(granted.last(), Some(&message(1, 2, term, body)), "{role}");
        assert_eq!((node.raw.hard_state(), node.raw.role()), before, "asking changes nothing");
    }
}

/// A leader that has been elected by so many of the group; the others are black holes.
fn stands(size: u64, alive: &[u64], pre: bool) -> Net {
    let all: Vec<u64> = (1..=size).collect();
    let setups = alive.iter().map(|n| server(*n, &all).tune(|c| c.pre_vote = pre));
    let mut net = Net::of(setups);
    net.campaign(1);
    net
}

/// etcd: TestLeaderElection, TestLeaderElectionPreVote.
#[test]
fn an_election_needs_a_living_majority() {
    for (size, alive, won) in [
        (3, &[1, 2, 3][..], true),
        (3, &[1, 2], true),
        (3, &[1], false),
        (4, &[1, 2], false),
        (5, &[1, 2, 3], true),
        (5, &[1, 2], false),
    ] {
        for pre in [false, true] {
            let net = stands(size, alive, pre);
            let open = if pre { PreCandidate } else { Candidate };
            assert_eq!(net.role(1), if won { Leader } else { open }, "{alive:?} of {size}");
            let term = u64::from(won || !pre);
            assert_eq!(net.term(1), term, "a pre-candidate's term does not rise");
        }
    }
    // Others have longer logs: the election is lost.
    for pre in [false, true] {
        let mut net = Net::of([
            server(1, &[1, 2, 3]).term(1).tune(|c| c.pre_vote = pre),
            server(2, &[1, 2, 3]).log(&[1]),
            server(3, &[1, 2, 3]).log(&[1]),
        ]);
        net.campaign(1);
        assert_eq!(net.role(1), Follower);
        assert_eq!(net.term(1), if pre { 1 } else { 2 });
    }
}

/// etcd: TestLeaderCycle, TestLeaderCyclePreVote (TinyKV: TestLeaderCycle2AA).
#[test]
fn everybody_can_be_elected_in_turn() {
    for pre in [false, true] {
        let mut net = group_with(3, |c| c.pre_vote = pre);
        for n in [1, 2, 3, 1, 3, 2] {
            net.campaign(n);
            for other in 1..=3 {
                let role = if other == n { Leader } else { Follower };
                assert_eq!(net.role(other), role, "{n} campaigned, {other}");
            }
            net.put(n, "x");
        }
        net.assert_equal();
    }
}

/// etcd: TestLeaderElectionOverwriteNewerLogs, TestLeaderElectionOverwriteNewerLogsPreVote. A leader
/// of a later term replaces entries of an older term, even if that is higher than the terms in its
/// own log.
#[test]
fn a_leader_overwrites_entries_of_a_higher_old_term() {
    for pre in [false, true] {
        let all = [1, 2, 3, 4, 5];
        // 1 led term 1, on itself and 2; 3 led term 2 with the votes of 4 and 5, which forgot 1.
        let mut net = Net::of([
            server(1, &all).log(&[1]).tune(|c| c.pre_vote = pre),
            server(2, &all).log(&[1]).tune(|c| c.pre_vote = pre),
            server(3, &all).log(&[2]).tune(|c| c.pre_vote = pre),
            server(4, &all).term(2).voted(3).tune(|c| c.pre_vote = pre),
            server(5, &all).term(2).voted(3).tune(|c| c.pre_vote = pre),
        ]);
        net.campaign(1);
        if net.role(1) != Leader {
            // Without pre-vote the first try fails on the others' term, which it learns by that.
            net.campaign(1);
        }
        assert_eq!(net.role(1), Leader);
        let term = net.term(1);
        assert!(term > 2);
        for n in 1..=5 {
            assert_eq!(net.node(n).terms(), [1, term], "{n}");
        }
    }
}

/// etcd: TestDuelingCandidates. The loser has missed an entry: it disturbs by its term, and loses.
#[test]
fn a_candidate_that_missed_entries_disturbs_and_loses() {
    let mut net = group(3);
    net.cut(1, 3);
    net.campaign(1);
    net.campaign(3);
    assert_eq!((net.role(1), net.role(3)), (Leader, Candidate), "2 has voted");
    net.heal();
    net.campaign(3);
    assert_eq!(net.roles(), [Follower, Follower, Follower]);
    assert_eq!(net.terms(), [2, 2, 2]);
    let logs: Vec<LogId> = (1..=3).map(|n| net.node(n).raw.last()).collect();
    assert_eq!(logs, [LogId::new(1, 1), LogId::new(1, 1), LogId::ZERO]);
}

/// etcd: TestCandidateConcede. A candidate that was cut off yields to the leader of its term.
#[test]
fn a_candidate_yields_and_gets_the_log() {
    let mut net = group(3);
    net.isolate(1);
    net.campaign(1);
    net.campaign(3);
    assert_eq!((net.term(1), net.term(3)), (1, 1));
    net.heal();
    net.put(3, "x");
    net.beat(3);
    net.beat(3);
    assert_eq!(net.role(1), Follower);
    net.assert_equal();
    assert_eq!(net.node(1).said(), ["x"]);
}

/// etcd: TestSingleNodeCandidate, TestSingleNodePreCandidate.
#[test]
fn a_lone_voter_elects_itself() {
    for pre in [false, true] {
        let mut net = group_with(1, |c| c.pre_vote = pre);
        net.campaign(1);
        assert_eq!((net.role(1), net.term(1)), (Leader, 1));
    }
}

/// etcd: TestOldMessages.
#[test]
fn appends_of_a_former_leader_are_ignored() {
    let mut net = group(3);
    net.campaign(1);
    net.campaign(2);
    net.campaign(1);
    net.send(append(2, 1, 2, (1, 1), &[2, 2, 2], 4));
    net.put(1, "x");
    for n in 1..=3 {
        assert_eq!(net.node(n).terms(), [1, 2, 3, 3]);
    }
    net.assert_equal();
}

/// etcd: TestAllServerStepdown. A higher term makes everybody a follower; who leads it is known
/// only from a leader. The log is left alone (C5).
#[test]
fn a_higher_term_ends_every_role() {
    for role in ROLES {
        for (request, leads) in [(vote(2, 1, 9, (0, 0)), false), (heartbeat(2, 1, 9, 0), true)] {
            let mut node = in_role(role);
            let log = (node.raw.last(), node.terms());
            node.ask(request);
            assert_eq!((node.raw.role(), node.raw.term()), (Follower, 9), "{role}");
            assert_eq!(node.raw.leader(), leads.then_some(id(2)));
            assert_eq!((node.raw.last(), node.terms()), log, "changing roles truncates nothing");
            assert_eq!(node.raw.hard_state().vote, None, "seen is not voted");
        }
    }
}

/// etcd: TestCandidateSelfVoteAfterLostElection, TestCandidateSelfVoteAfterLostElectionPreVote. The
/// own vote, late from the disk, means nothing once somebody else leads.
#[test]
fn a_late_own_vote_after_a_lost_election_is_nothing() {
    for pre in [false, true] {
        let mut node = server(1, &[1]).tune(|c| c.pre_vote = pre).members(voters(&[1, 2])).start();
        node.hold_writes = true;
        node.stand();
        let term = if pre { 0 } else { 1 };
        assert_eq!(node.raw.term(), term);
        node.take(heartbeat(2, 1, term.max(1), 0));
        assert_eq!(node.raw.role(), Follower);
        node.persist_all();
        assert_eq!((node.raw.role(), node.raw.leader()), (Follower, Some(id(2))));
    }
}

/// etcd: TestCandidateDeliversPreCandidateSelfVoteAfterBecomingCandidate. What was given to a
/// pre-candidate, by itself or by others, does not elect anybody.
#[test]
fn a_pre_vote_is_no_vote() {
    let mut node = server(1, &[1, 2, 3]).tune(|c| c.pre_vote = true).start();
    node.hold_writes = true;
    node.stand();
    let granted = raft::Body::RequestVoteReply { pre: true, granted: true, commit: LogId::ZERO };
    node.take(message(2, 1, 1, granted.clone()));
    node.take(message(3, 1, 1, granted.clone()));
    assert_eq!(node.raw.role(), Candidate, "two others would vote for it");
    // Now its own pre-vote arrives, and the others' again.
    node.persist_all();
    node.take(message(2, 1, 1, granted));
    node.settle();
    assert_eq!(node.raw.role(), Candidate);
    node.take(grant(2, 1, 1, true));
    node.persist_all();
    assert_eq!(node.raw.role(), Leader);
}

/// etcd: TestLeaderMsgAppSelfAckAfterTermChange. So is a late acknowledgement of own entries.
#[test]
fn a_late_own_acknowledgement_of_an_older_term_is_nothing() {
    let mut node = server(1, &[1, 2, 3]).lead();
    node.hold_writes = true;
    node.raw.propose("x".into()).expect("it leads");
    node.settle();
    node.take(heartbeat(2, 1, 2, 0));
    node.persist_all();
    assert_eq!((node.raw.role(), node.raw.commit()), (Follower, 0));
    assert_eq!(node.raw.status().stable, 2, "it is on disk, though");
}

/// etcd: TestCampaignWhileLeader, TestPreCampaignWhileLeader (TinyKV: TestCampaignWhileLeader2AA).
#[test]
fn a_leader_does_not_campaign() {
    for pre in [false, true] {
        let mut net = group_with(1, |c| c.pre_vote = pre);
        net.campaign(1);
        let before = net.node(1).raw.hard_state();
        net.campaign(1);
        assert_eq!((net.role(1), net.node(1).raw.hard_state()), (Leader, before));
    }
}

/// etcd: TestPromotable. Only who votes may stand.
#[test]
fn only_a_voter_stands() {
    for (members, stands) in [(&[1][..], true), (&[1, 2, 3], true), (&[], false), (&[2, 3], false)]
    {
        let mut node = server(1, members).start();
        node.tick(40);
        assert_eq!(node.raw.role() != Follower, stands, "{members:?}");
    }
}

/// etcd: TestTransferNonMember; E11. Neither a call to take over, nor votes, make a leader of a
/// server that is no member.
#[test]
fn nothing_makes_a_leader_of_a_stranger() {
    let mut node = server(1, &[2, 3, 4]).start();
    node.ask(message(2, 1, 5, raft::Body::TimeoutNow));
    node.ask(grant(2, 1, 5, true));
    node.ask(grant(3, 1, 5, true));
    assert_eq!(node.raw.role(), Follower);
}

/// etcd: TestConfChangeCheckBeforeCampaign, TestConfChangeV2CheckBeforeCampaign; M2. Nobody stands,
/// by its timer or by a transfer, with a membership change that is committed and not applied.
#[test]
fn nobody_stands_over_an_unapplied_membership_change() {
    for change in [
        ConfChange::single(ConfChangeKind::RemoveNode, id(2)),
        changes(raft::Transition::JointImplicit, &[(ConfChangeKind::RemoveNode, 2)]),
    ] {
        let mut net = group(3);
        net.campaign(1);
        net.node(2).hold_applies = true;
        net.change(1, &change);
        let node = net.node(2);
        assert_eq!(node.raw.commit(), node.raw.last().index);
        node.tick(40);
        assert_eq!(node.raw.role(), Follower, "by its timer");
        net.transfer(1, 2);
        assert_eq!(net.role(2), Follower, "by a transfer");
        net.node(2).apply_all();
        net.node(2).hold_applies = false;
        net.pump();
        assert!(!net.node(2).raw.membership().is_voter(id(2)), "and then it may not");
    }
    let mut net = group(3);
    net.campaign(1);
    net.node(2).hold_applies = true;
    net.change(1, &ConfChange::single(ConfChangeKind::AddLearnerNode, id(4)));
    net.node(2).tick(40);
    assert_eq!(net.role(2), Follower);
    net.node(2).apply_all();
    net.node(2).tick(40);
    assert_eq!(net.role(2), Candidate, "once it is applied");
}

/// etcd: TestScan. The change is found wherever it is among what is not applied, however little of
/// that can be read at a time; without one, everything is looked through, and nothing is in the way.
#[test]
fn an_unapplied_change_is_found_on_any_page() {
    for append_bytes_max in [1, 30, 1 << 20] {
        for at in 0..=5 {
            let mut net = group_with(3, |c| c.append_bytes_max = append_bytes_max);
            net.campaign(1);
            net.node(2).hold_applies = true;
            for n in 0..5 {
                if n == at {
                    net.change(1, &ConfChange::single(ConfChangeKind::AddLearnerNode, id(4)));
                }
                net.put(1, "x");
            }
            net.node(2).tick(40);
            let expected = if at < 5 { Follower } else { Candidate };
            assert_eq!(net.role(2), expected, "{append_bytes_max} bytes a page, change {at}");
        }
    }
}

/// TinyKV: TestSplitVote2AA.
#[test]
fn a_split_vote_costs_a_term() {
    let mut net = group(3);
    net.campaign(1);
    net.cut(1, 2);
    net.cut(1, 3);
    net.node(2).raw.campaign();
    net.node(3).raw.campaign();
    net.pump();
    assert_eq!(net.roles(), [Leader, Candidate, Candidate]);
    assert_eq!(net.terms(), [1, 2, 2]);
    net.campaign(3);
    assert_eq!((net.role(3), net.term(3)), (Leader, 3));
}

/// raft-rs: test_election_tick_range.
#[test]
fn the_interval_of_timeouts_can_be_chosen() {
    for range in [10..11, 12..15, 30..32] {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let tuned = range.clone();
            let setup = server(1, &[1, 2]).tune(|c| {
                c.election_ticks_range = Some(tuned);
                c.seed = seed;
            });
            let mut node = setup.start();
            let timeout = (1..).find(|_| {
                node.tick(1);
                node.raw.role() == Candidate
            });
            seen.insert(timeout.expect("some time"));
        }
        assert_eq!(seen, range.clone().collect(), "{range:?}");
    }
}

/// failpoints (raft-rs): what is stale never reaches a role's handler.
#[test]
fn stale_messages_reach_nobody() {
    let mut net = group(3);
    net.campaign(1);
    net.campaign(2);
    let before = net.node(2).raw.status().progress.len();
    net.send(accepted(1, 2, 1, 2));
    net.send(grant(1, 2, 1, true));
    assert_eq!(net.node(2).raw.status().progress.len(), before);
    assert_eq!(net.role(2), Leader);
    assert_eq!(net.arrived[&Kind::VoteReply], 5);
}

/// etcd: a follower that has not voted in its term but knows the leader has nothing to decide.
#[test]
fn beside_a_leader_nobody_gets_a_vote() {
    let mut node = server(1, &[1, 2, 3]).log(&[1, 2]).term(3).start();
    node.ask(heartbeat(3, 1, 3, 0));
    assert_eq!(node.ask(vote(2, 1, 3, (9, 9))), [grant(1, 2, 3, false)]);
    assert_eq!(node.storage.hard_state().vote, None);
}

/// Figure 2, followers: a timer runs out "without … granting vote to candidate". A vote that is
/// refused is none.
#[test]
fn a_vote_restarts_the_election_timer_if_it_is_granted() {
    for (last, granted) in [((9, 9), true), ((1, 1), false)] {
        let mut node = server(1, &[1, 2, 3]).log(&[1, 2]).term(3).start();
        node.raw.set_election_timeout(10);
        node.tick(9);
        assert_eq!(node.ask(vote(2, 1, 3, last)), [grant(1, 2, 3, granted)]);
        node.tick(1);
        assert_eq!(node.raw.role() == Follower, granted, "{last:?}");
        node.tick(8);
        assert_eq!(node.raw.role() == Follower, granted, "{last:?}");
        node.tick(1);
        assert_eq!(node.raw.role(), Candidate);
    }
}

/// A voter that refused cannot have granted, whatever arrives in its name later.
#[test]
fn the_first_answer_of_a_voter_counts() {
    let mut node = server(1, &[1, 2, 3, 4, 5]).start();
    node.stand();
    for (from, granted) in [(2, false), (2, true), (3, true)] {
        node.take(grant(from, 1, 1, granted));
    }
    assert_eq!(node.raw.status().votes, [(id(1), true), (id(2), false), (id(3), true)]);
    assert_eq!(node.raw.role(), Candidate, "two of five");
    node.take(grant(4, 1, 1, true));
    assert_eq!(node.raw.role(), Leader);
}
