//! Small worlds, exhaustively: every order of messages, every time-out, every point at which the
//! power may go, for two or three servers, a few terms and a few entries; through the real core,
//! with Figure 3 checked in every state.
//!
//! A world is a group and a budget of events. A state is reached by running the choices that lead
//! to it from the start (servers cannot be copied), and each state is gone on from once, by its
//! hash. The smallest worlds are seen completely; of larger ones, the states that are nearest to
//! a run without mishaps: a lost, late or repeated message, an election out of turn, a crash each
//! count one. What is found first is the nearest way to it, and is printed. Then chance leads, to
//! states that take many mishaps. From some states on nothing fails any more, and then somebody has
//! to lead and to commit.
//!
//! `cargo test` looks at so many states of each world as take seconds; `EXPLORE_STATES=…` says how
//! many instead, and `cargo test --release -p raft --test explorer -- --nocapture` shows how far
//! each got.

#[path = "../common/mod.rs"]
mod common;

mod check;
mod search;
mod world;

use raft::ConfChangeKind::{AddLearnerNode, AddNode, RemoveNode};
use raft::Transition::{Auto, JointExplicit, JointImplicit};

use search::{Order, explore};
use world::{Budget, Change, Rules};

/// What most worlds have: nothing that fails, and no options.
fn rules(servers: u64, budget: Budget) -> Rules {
    Rules {
        servers,
        voters: if servers == 2 { &[1, 2] } else { &[1, 2, 3] },
        budget,
        changes: &[],
        slow_disks: &[],
        slow_applies: &[],
        pre_vote: false,
        check_quorum: false,
        eager_appends: false,
        commit_hints: false,
    }
}

/// Two elections and one proposal.
const FEW: Budget = Budget {
    campaigns: 2,
    proposals: 1,
    reads: 0,
    beats: 0,
    lapses: 0,
    crashes: 0,
    repeats: 0,
    compactions: 0,
    transfers: 0,
};

// ---- Every order ----

#[test]
fn two_servers_in_every_order() {
    explore("two servers", Order::Breadth, rules(2, FEW));
}

#[test]
fn two_servers_that_crash_in_every_order() {
    let budget = Budget { crashes: 1, ..FEW };
    let rules = Rules { slow_disks: &[1], ..rules(2, budget) };
    explore("two servers, a crash", Order::Breadth, rules);
}

#[test]
fn three_servers_one_election_in_every_order() {
    let budget = Budget { campaigns: 1, ..FEW };
    explore("three servers, one election", Order::Breadth, rules(3, budget));
}

#[test]
fn three_servers_in_every_order() {
    explore("three servers", Order::Breadth, rules(3, FEW));
}

// ---- Near a run without mishaps: messages, disks ----

#[test]
fn two_servers_everything_may_happen() {
    let budget = Budget {
        campaigns: 3,
        proposals: 2,
        beats: 2,
        crashes: 2,
        repeats: 1,
        compactions: 1,
        ..FEW
    };
    let rules = Rules { slow_disks: &[1, 2], ..rules(2, budget) };
    explore("two servers, everything", Order::Mishaps, rules);
}

#[test]
fn three_servers_messages_that_are_lost_or_repeated() {
    let budget = Budget { campaigns: 3, proposals: 2, beats: 2, repeats: 2, ..FEW };
    explore("messages", Order::Mishaps, rules(3, budget));
}

#[test]
fn three_servers_eager_appends() {
    let budget = Budget { campaigns: 3, proposals: 2, beats: 2, repeats: 1, ..FEW };
    let rules = Rules { eager_appends: true, slow_disks: &[1], ..rules(3, budget) };
    explore("eager appends", Order::Mishaps, rules);
}

#[test]
fn three_servers_that_crash() {
    let budget = Budget { campaigns: 3, proposals: 2, beats: 1, crashes: 2, ..FEW };
    explore("crashes", Order::Mishaps, rules(3, budget));
}

/// The first leader's disk is slow, and loses what it has not written.
#[test]
fn three_servers_a_leaders_slow_disk() {
    let budget = Budget { proposals: 2, crashes: 1, ..FEW };
    let rules = Rules { slow_disks: &[1], ..rules(3, budget) };
    explore("a leader's slow disk", Order::Mishaps, rules);
}

/// So is the disk of a follower who stands later.
#[test]
fn three_servers_a_candidates_slow_disk() {
    let budget = Budget { campaigns: 3, crashes: 1, ..FEW };
    let rules = Rules { slow_disks: &[2], ..rules(3, budget) };
    explore("a candidate's slow disk", Order::Mishaps, rules);
}

#[test]
fn three_servers_slow_disks() {
    let budget = Budget { campaigns: 3, proposals: 2, crashes: 1, ..FEW };
    let rules = Rules { slow_disks: &[1, 2, 3], ..rules(3, budget) };
    explore("slow disks", Order::Mishaps, rules);
}

/// Nothing but elections, with disks that forget what was not synced.
#[test]
fn three_servers_elections_on_slow_disks() {
    let budget = Budget { campaigns: 4, proposals: 2, crashes: 2, ..FEW };
    let rules = Rules { slow_disks: &[1, 2], ..rules(3, budget) };
    explore("elections on slow disks", Order::Mishaps, rules);
}

// ---- Elections ----

#[test]
fn three_servers_pre_vote() {
    let budget = Budget { campaigns: 3, proposals: 2, crashes: 1, ..FEW };
    let rules = Rules { pre_vote: true, ..rules(3, budget) };
    explore("pre-vote", Order::Mishaps, rules);
}

/// Leases run out at some and not at others, leaders make sure of their quorum or step down.
#[test]
fn three_servers_check_quorum() {
    let budget = Budget { lapses: 5, crashes: 1, ..FEW };
    let rules = Rules { check_quorum: true, ..rules(3, budget) };
    explore("check-quorum", Order::Mishaps, rules);
}

#[test]
fn three_servers_pre_vote_and_check_quorum() {
    let budget = Budget { lapses: 6, transfers: 1, ..FEW };
    let rules = Rules { pre_vote: true, check_quorum: true, ..rules(3, budget) };
    explore("pre-vote and check-quorum", Order::Mishaps, rules);
}

#[test]
fn three_servers_transfers() {
    let budget = Budget { proposals: 2, transfers: 2, beats: 1, ..FEW };
    explore("transfers", Order::Mishaps, rules(3, budget));
}

// ---- Snapshots and reads ----

#[test]
fn three_servers_snapshots() {
    let budget = Budget { proposals: 2, beats: 3, compactions: 2, crashes: 1, ..FEW };
    let rules = Rules { slow_disks: &[3], ..rules(3, budget) };
    explore("snapshots", Order::Mishaps, rules);
}

/// A read sees what was committed when it was asked, whoever was asked, and whoever led then.
#[test]
fn three_servers_reads() {
    let budget = Budget { proposals: 2, reads: 2, beats: 1, repeats: 1, ..FEW };
    explore("reads", Order::Mishaps, rules(3, budget));
}

#[test]
fn two_servers_reads_in_every_order() {
    let budget = Budget { reads: 1, ..FEW };
    explore("two servers, a read", Order::Breadth, rules(2, budget));
}

// ---- Membership ----

/// Two of three are removed, one after the other, while there are elections.
#[test]
fn a_group_that_shrinks() {
    let budget = Budget { campaigns: 2, proposals: 1, ..FEW };
    let changes = &[Change(Auto, &[(RemoveNode, 2)]), Change(Auto, &[(RemoveNode, 3)])];
    let rules = Rules { changes, slow_applies: &[2, 3], ..rules(3, budget) };
    explore("a group that shrinks", Order::Mishaps, rules);
}

/// A third comes in, who may crash on the way.
#[test]
fn a_group_that_grows() {
    let budget = Budget { crashes: 1, beats: 1, ..FEW };
    let changes = &[Change(Auto, &[(AddLearnerNode, 3)]), Change(Auto, &[(AddNode, 3)])];
    let rules = Rules { voters: &[1, 2], changes, slow_applies: &[2], ..rules(3, budget) };
    explore("a group that grows", Order::Mishaps, rules);
}

/// The same, where everybody says what is committed: what is learnt so is as safe.
#[test]
fn a_group_that_shrinks_and_hears_of_it() {
    let changes = &[Change(Auto, &[(RemoveNode, 2)]), Change(Auto, &[(RemoveNode, 3)])];
    let slow_applies = &[2, 3];
    let rules = Rules { changes, slow_applies, commit_hints: true, ..rules(3, FEW) };
    explore("a group that shrinks, with hints", Order::Mishaps, rules);
}

/// One takes the place of another through a joint configuration that is left by itself.
#[test]
fn a_joint_change_that_is_left_by_itself() {
    let budget = Budget { beats: 1, ..FEW };
    let changes = &[Change(JointImplicit, &[(AddNode, 3), (RemoveNode, 2)])];
    let rules = Rules { voters: &[1, 2], changes, slow_applies: &[2], ..rules(3, budget) };
    explore("joint, implicit", Order::Mishaps, rules);
}

/// The leader leaves, through a joint configuration that somebody has to leave.
#[test]
fn a_joint_change_that_is_to_be_left() {
    let changes = &[Change(JointExplicit, &[(AddNode, 3), (RemoveNode, 1)]), Change(Auto, &[])];
    let rules = Rules { voters: &[1, 2], changes, slow_applies: &[2, 3], ..rules(3, FEW) };
    explore("joint, explicit", Order::Mishaps, rules);
}
