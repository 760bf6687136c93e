//! Leadership transfer (T§3.10).
//!
//! The leader stops taking proposals, brings the target up to date, and tells it to start an
//! election at once ([`Body::TimeoutNow`]). The target skips the pre-vote, and its requests are
//! marked so that leases do not stop them. If no election has come of it within an election
//! timeout, the leader takes proposals again.

use crate::message::{Body, Message};
use crate::replication;
use crate::role::Leader;
use crate::server::Server;
use crate::types::NodeId;

/// A follower passes the wish on, in the name of the transferee.
pub(crate) fn forward(server: &mut Server, leader: NodeId, to: NodeId) {
    let body = Body::TransferLeader;
    server.out.messages.push(Message { from: to, to: leader, term: server.term, body });
}

/// The leader begins to hand over to `to`. A transfer to somebody else is given up; to the same
/// one it goes on, without more time. Nothing comes of a transfer to oneself, to a learner or to
/// somebody unknown.
pub(crate) fn start(server: &mut Server, leader: &mut Leader, to: NodeId) {
    let Some(at) = leader.progress.place(to) else { return };
    let (_, pr) = leader.progress.at(at);
    if pr.is_learner {
        return;
    }
    let is_up_to_date = pr.matched == server.log.last();
    if leader.transferee == Some(to) {
        return;
    }
    leader.transferee = None;
    if to == server.id() {
        return;
    }
    server.restart_election_timer();
    leader.transferee = Some(to);
    if let Some(lease) = &mut leader.lease {
        lease.give_up();
    }
    if is_up_to_date {
        server.send(to, Body::TimeoutNow);
    } else {
        replication::request_append(server, leader, at, true);
    }
}

/// The target has acknowledged `matched`: once that is everything, it is time (never before, or it
/// would lose the election that deposes the leader).
pub(crate) fn on_progress(server: &mut Server, leader: &Leader, from: NodeId) {
    if leader.transferee != Some(from) {
        return;
    }
    let matched = leader.progress.get(from).map(|pr| pr.matched);
    if matched == Some(server.log.last()) {
        server.send(from, Body::TimeoutNow);
    }
}
