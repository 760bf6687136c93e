//! Elections: timers, campaigns, granting and counting votes (§5.2, §5.4.1, T§9.6, T§4.2.3).
//!
//! The rules of Figure 2 carried out here:
//!
//! * Followers: "if election timeout elapses … convert to candidate": [`tick`].
//! * Candidates: "increment currentTerm, vote for self, reset election timer, send RequestVote to
//!   all other servers": [`request_votes`], with what `role.rs` does on becoming one.
//! * RequestVote, receiver: "grant if votedFor is null or candidateId, and the candidate's log is
//!   at least as up to date": [`on_request_vote`].
//! * Candidates: "if votes received from majority of servers: become leader": [`on_vote`].
//!
//! Invariants: a server votes once in a term, and its vote is on disk before anybody hears of it:
//! the vote is a *promise*, its own included, so it counts only after the write it rests on. A
//! leader's term is on its own disk.

use crate::commit_hints;
use crate::entry::EntryKind;
use crate::lease;
use crate::message::Body;
use crate::quorum::VoteResult;
use crate::replication;
use crate::role::{Candidate, Leader, Next};
use crate::server::Server;
use crate::types::{Index, LogId, NodeId, Term};

/// Which kind of election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// "Would you vote for me?" (T§9.6).
    Pre,
    /// "Vote for me"; `transfer` if the leader asked for it, which leases do not stop.
    Real { transfer: bool },
}

// ---- Timers ----

/// A tick of anybody but the leader: when the timer runs out, campaign.
pub(crate) fn tick(server: &mut Server) -> Next {
    let timeout = u64::from(server.election_timeout);
    if server.election_elapsed() < timeout || !server.is_promotable() {
        return Next::Stay;
    }
    server.restart_election_timer();
    campaign(server, false)
}

/// A tick of the leader: every election timeout it makes sure of its quorum and gives up a
/// transfer that has not worked; every heartbeat timeout it says that it leads.
pub(crate) fn tick_leader(server: &mut Server, leader: &mut Leader) -> Next {
    let now = server.clock.now();
    if server.election_elapsed() >= u64::from(server.config.election_ticks) {
        server.restart_election_timer();
        if server.config.check_quorum && !has_active_quorum(server, leader) {
            return Next::Follow { term: server.term, leader: None };
        }
        leader.transferee = None;
    }
    if now - leader.heartbeat_since >= u64::from(server.config.heartbeat_ticks) {
        leader.heartbeat_since = now;
        replication::broadcast_heartbeat(server, leader);
    }
    Next::Stay
}

/// Check-quorum (T§6.2): whether a quorum was heard from since the last time. Then everybody has
/// to be heard from anew.
fn has_active_quorum(server: &Server, leader: &mut Leader) -> bool {
    let active = |id| Some(leader.progress.get(id).is_some_and(|pr| pr.recent_active));
    let result = server.membership.voters.vote_result(active);
    for (id, pr) in leader.progress.iter_mut() {
        pr.recent_active = id == server.id();
    }
    result == VoteResult::Won
}

// ---- Standing ----

/// Whether and how to stand for election.
pub(crate) fn campaign(server: &Server, transfer: bool) -> Next {
    if !server.is_promotable() || has_unapplied_conf_change(server) {
        return Next::Stay;
    }
    if lease::is_promised(server) && !transfer {
        return Next::Stay;
    }
    if server.config.pre_vote && !transfer {
        Next::PreCampaign
    } else {
        Next::Campaign { transfer }
    }
}

/// Whether a committed membership change is not yet in force here: votes would be counted by a
/// configuration that the others may have left.
pub(crate) fn has_unapplied_conf_change(server: &Server) -> bool {
    let log = &server.log;
    let mut next = log.applied() + 1;
    while next <= log.committed() {
        let bytes_max = server.config.append_bytes_max;
        let Ok(entries) = log.entries(next..log.committed() + 1, bytes_max) else {
            // Not readable now: nothing proves that there is none.
            return true;
        };
        if entries.iter().any(|e| e.entry.kind != EntryKind::Normal) {
            return true;
        }
        next = entries.last().map_or(Index::MAX, |id| id.index + 1);
    }
    false
}

/// Asks all voters, oneself included: the own vote, too, counts only once it is on disk.
///
/// The requests leave beside the write, unless the log they name is not on disk yet. A server that
/// crashed before it wrote may stand in the same term again, with less of a log, and must not win
/// by late votes for the log it has lost.
pub(crate) fn request_votes(server: &mut Server, kind: Kind) {
    let (pre, transfer, term) = match kind {
        Kind::Pre => (true, false, server.term + 1),
        Kind::Real { transfer } => (false, transfer, server.term),
    };
    let (id, last, commit) = (server.id(), server.last_id(), commit_hints::position(server));
    let can_forget_log = !pre && server.log.has_unstable();
    let Server { membership, out, .. } = server;
    for to in membership.voters.voters() {
        let body = if to == id {
            Body::RequestVoteReply { pre, granted: true, commit }
        } else {
            Body::RequestVote { pre, last, transfer, commit }
        };
        let message = crate::message::Message { from: id, to, term, body };
        if to == id || can_forget_log {
            out.promises.push(message);
        } else {
            out.messages.push(message);
        }
    }
}

// ---- Granting ----

/// A vote request, as it arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VoteRequest {
    pub(crate) from: NodeId,
    /// The candidate's term; for a pre-vote the one it would have.
    pub(crate) term: Term,
    pub(crate) pre: bool,
    pub(crate) last: LogId,
}

/// T§4.2.3: while a leader is heard from, a candidate is not needed, whatever its term.
pub(crate) fn is_within_lease(server: &Server, leader: Option<NodeId>) -> bool {
    lease::is_promised(server)
        || server.config.check_quorum
            && leader.is_some()
            && server.election_elapsed() < u64::from(server.config.election_ticks)
}

/// RequestVote, receiver (Figure 2). Learners grant votes, too: they may have been promoted by an
/// entry that they have not seen.
#[cold]
pub(crate) fn on_request_vote(server: &mut Server, leader: Option<NodeId>, request: VoteRequest) {
    let VoteRequest { from, term, pre, last } = request;
    let may_vote = server.vote == Some(from)
        || (server.vote.is_none() && leader.is_none())
        || (pre && term > server.term);
    // Beyond etcd, and only between equal logs: somebody else should rather lead.
    let is_preferred =
        last != server.last_id() || server.priority(from) >= server.priority(server.id());
    let commit = commit_hints::position(server);
    if may_vote && last >= server.last_id() && is_preferred {
        server.promise(from, term, Body::RequestVoteReply { pre, granted: true, commit });
        if !pre {
            server.restart_election_timer();
            server.vote = Some(from);
        }
    } else {
        let term = server.term;
        server.promise(from, term, Body::RequestVoteReply { pre, granted: false, commit });
    }
}

// ---- Counting ----

/// An answer of the kind that is waited for: the first of each voter counts.
pub(crate) fn on_vote(
    server: &Server,
    candidate: &mut Candidate,
    from: NodeId,
    granted: bool,
    pre: bool,
) -> Next {
    if candidate.votes.iter().all(|(id, _)| *id != from) {
        candidate.votes.push((from, granted));
    }
    let votes = &candidate.votes;
    let vote = |id| votes.iter().find(|(of, _)| *of == id).map(|(_, granted)| *granted);
    match server.membership.voters.vote_result(vote) {
        VoteResult::Pending => Next::Stay,
        VoteResult::Won if pre => Next::Campaign { transfer: false },
        // Without its own vote on disk it could forget that it led, be elected in this term once
        // more, and give indexes to other entries.
        VoteResult::Won if vote(server.id()).is_none() => Next::Stay,
        VoteResult::Won => Next::Lead,
        VoteResult::Lost => Next::Follow { term: server.term, leader: None },
    }
}
