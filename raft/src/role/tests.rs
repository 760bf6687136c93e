//! Which role may follow which, with which term and leader.

use super::Next;
use crate::config::Config;
use crate::raft::Raft;
use crate::raw_node::RawNode;
use crate::storage::MemStorage;
use crate::types::{ConfState, NodeId, RoleKind};

use RoleKind::{Candidate, Follower, Leader, PreCandidate};

fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("not zero")
}

/// A server of three in that role and in term 1.
fn in_role(role: RoleKind) -> Raft {
    let storage = MemStorage::with_conf_state(ConfState::of_voters([id(1), id(2), id(3)]));
    let node = RawNode::new(Config::new(id(1)), Box::new(storage)).expect("a good start");
    let mut raft = node.raft;
    match role {
        Follower => raft.become_follower(1, None),
        PreCandidate => {
            raft.become_follower(1, None);
            raft.become_next(Next::PreCampaign);
        }
        Candidate => raft.become_next(Next::Campaign { transfer: false }),
        Leader => {
            raft.become_next(Next::Campaign { transfer: false });
            raft.become_next(Next::Lead);
        }
    }
    assert_eq!((raft.role.kind(), raft.server.term), (role, 1));
    raft
}

/// etcd: TestStateTransition.
#[test]
fn the_transitions_of_figure_4() {
    let follow = |term, leader| Next::Follow { term, leader };
    let campaign = Next::Campaign { transfer: false };
    for (from, next, to, term, leader) in [
        (Follower, follow(1, Some(id(2))), Follower, 1, Some(id(2))),
        (Follower, follow(2, None), Follower, 2, None),
        (Follower, Next::PreCampaign, PreCandidate, 1, None),
        (Follower, campaign, Candidate, 2, None),
        (PreCandidate, follow(1, None), Follower, 1, None),
        (PreCandidate, Next::PreCampaign, PreCandidate, 1, None),
        (PreCandidate, campaign, Candidate, 2, None),
        (Candidate, follow(1, Some(id(2))), Follower, 1, Some(id(2))),
        (Candidate, Next::PreCampaign, PreCandidate, 1, None),
        (Candidate, campaign, Candidate, 2, None),
        (Candidate, Next::Lead, Leader, 1, Some(id(1))),
        (Leader, follow(2, Some(id(2))), Follower, 2, Some(id(2))),
        (Leader, Next::Stay, Leader, 1, Some(id(1))),
    ] {
        let mut raft = in_role(from);
        raft.become_next(next);
        assert_eq!((raft.role.kind(), raft.server.term, raft.leader()), (to, term, leader));
        let vote = raft.server.vote;
        assert!(raft.server.term == 1 || vote.is_none() || vote == Some(id(1)));
    }
}

/// A follower that leads, or a leader that stands, is a mistake of this crate.
#[test]
fn the_transitions_that_must_not_be() {
    for (from, next) in [
        (Follower, Next::Lead),
        (PreCandidate, Next::Lead),
        (Leader, Next::Lead),
        (Leader, Next::PreCampaign),
        (Leader, Next::Campaign { transfer: false }),
        (Follower, Next::Follow { term: 0, leader: None }),
    ] {
        let mut raft = in_role(from);
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| raft.become_next(next)));
        assert!(outcome.is_err(), "{from} then {next:?}");
    }
}
