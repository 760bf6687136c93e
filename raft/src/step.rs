//! Messages: first terms, then one table of roles and messages.
//!
//! "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to
//! follower" (Figure 2, All Servers), with two exceptions that etcd makes, too: pre-votes change
//! nobody's term, and within a leader's lease a vote request is not even looked at (T§4.2.3).
//!
//! A message of an older term never reaches a handler. Some are answered, so that their sender
//! learns of the newer term instead of asking for ever.

use crate::commit_hints;
use crate::election::{self, VoteRequest};
use crate::error::StepError;
use crate::lease;
use crate::message::{AppendReply, Body, Message};
use crate::raft::Raft;
use crate::read;
use crate::ready::ReadState;
use crate::replication;
use crate::role::{Follower, Next, Role};
use crate::snapshot_request;
use crate::transfer;
use crate::types::{LogId, NodeId, Term};

impl Raft {
    /// Takes a message from a peer, or this server's own vote or acknowledgement coming back.
    pub(crate) fn step(&mut self, message: Message) -> Result<(), StepError> {
        let Message { from, term, body, .. } = message;
        // Term 0: a client's request, forwarded; it belongs to no term.
        if term > self.server.term {
            if !self.enter_newer_term(from, term, &body) {
                return Ok(());
            }
        } else if term < self.server.term && term != 0 {
            self.answer_older_term(from, &body);
            return Ok(());
        }
        let next = self.dispatch(from, term, body)?;
        self.become_next(next);
        Ok(())
    }

    /// A newer term. Says whether the message is to be looked at any further.
    fn enter_newer_term(&mut self, from: NodeId, term: Term, body: &Body) -> bool {
        let leader = match body {
            Body::RequestVote { transfer: false, .. }
                if election::is_within_lease(&self.server, self.leader()) =>
            {
                return false;
            }
            // Asking changes nothing, and a pre-vote is granted in the term asked for. A refusal,
            // though, is of the refuser's own term.
            Body::RequestVote { pre: true, .. }
            | Body::RequestVoteReply { pre: true, granted: true, .. } => return true,
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::InstallSnapshot { .. } => {
                Some(from)
            }
            _ => None,
        };
        self.become_follower(term, leader);
        true
    }

    /// An older term. With pre-vote or check-quorum its sender may be stuck: a leader that nobody
    /// follows, or a candidate whose higher term is not spread by its own requests (E1, E2).
    fn answer_older_term(&mut self, from: NodeId, body: &Body) {
        let server = &mut self.server;
        match body {
            Body::AppendEntries { .. } | Body::Heartbeat { .. }
                if server.config.pre_vote || server.config.check_quorum =>
            {
                let reply = Body::AppendEntriesReply(AppendReply::Accepted { index: 0, commit: 0 });
                server.promise(from, server.term, reply);
            }
            Body::RequestVote { pre: true, .. } => {
                let commit = commit_hints::position(server);
                let reply = Body::RequestVoteReply { pre: true, granted: false, commit };
                server.promise(from, server.term, reply);
            }
            _ => {}
        }
    }

    /// A message of this term.
    fn dispatch(&mut self, from: NodeId, term: Term, body: Body) -> Result<Next, StepError> {
        // Every role grants or refuses votes by the same rule.
        if let Body::RequestVote { pre, last, transfer, commit } = body {
            if lease::is_promised(&self.server) && !transfer {
                return Ok(Next::Stay);
            }
            let (leader, role) = (self.leader(), self.role.kind());
            let request = VoteRequest { from, term, pre, last };
            election::on_request_vote(&mut self.server, leader, request);
            return Ok(commit_hints::on_vote_hint(&mut self.server, role, commit, Next::Stay));
        }
        match &mut self.role {
            Role::Leader(_) => self.step_leader(from, body),
            Role::PreCandidate(_) | Role::Candidate(_) => self.step_candidate(from, body),
            Role::Follower(_) => self.step_follower(from, body),
        }
    }

    fn step_leader(&mut self, from: NodeId, body: Body) -> Result<Next, StepError> {
        let Role::Leader(leader) = &mut self.role else { return Ok(Next::Stay) };
        let server = &mut self.server;
        match body {
            Body::AppendEntriesReply(reply) => {
                replication::on_append_reply(server, leader, from, reply)?;
            }
            Body::HeartbeatReply { read, commit } => {
                replication::on_heartbeat_reply(server, leader, from, read, commit);
            }
            Body::Propose { mut entries } if !entries.is_empty() => {
                replication::propose(server, leader, &mut entries).map_err(StepError::Dropped)?;
            }
            Body::ReadIndex { context } => read::ask(server, leader, from, context),
            Body::TransferLeader => transfer::start(server, leader, from),
            // A leader of this same term cannot be (Election Safety), and its own campaign is over.
            Body::AppendEntries { .. }
            | Body::Heartbeat { .. }
            | Body::InstallSnapshot { .. }
            | Body::RequestVote { .. }
            | Body::RequestVoteReply { .. }
            | Body::TimeoutNow
            | Body::Propose { .. }
            | Body::ReadIndexReply { .. } => {}
        }
        Ok(Next::Stay)
    }

    #[cold]
    fn step_candidate(&mut self, from: NodeId, body: Body) -> Result<Next, StepError> {
        match body {
            Body::RequestVoteReply { pre, granted, commit } => {
                let role = self.role.kind();
                let next = match &mut self.role {
                    // Only answers of the round that is under way count.
                    Role::PreCandidate(candidate) if pre => {
                        election::on_vote(&self.server, candidate, from, granted, pre)
                    }
                    Role::Candidate(candidate) if !pre => {
                        election::on_vote(&self.server, candidate, from, granted, pre)
                    }
                    _ => return Ok(Next::Stay),
                };
                match next {
                    Next::Stay | Next::Follow { .. } => {
                        Ok(commit_hints::on_vote_hint(&mut self.server, role, commit, next))
                    }
                    Next::PreCampaign | Next::Campaign { .. } | Next::Lead => Ok(next),
                }
            }
            // §5.2: somebody else has won this term.
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::InstallSnapshot { .. } => {
                self.become_follower(self.server.term, Some(from));
                self.step_follower(from, body)
            }
            Body::Propose { .. } => {
                Err(StepError::Dropped(crate::error::ProposeError::NotLeader { leader: None }))
            }
            // Already standing; or addressed to the leader that it is not, or no longer is.
            Body::TimeoutNow
            | Body::AppendEntriesReply(_)
            | Body::HeartbeatReply { .. }
            | Body::RequestVote { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
            | Body::TransferLeader => Ok(Next::Stay),
        }
    }

    // Nearly all messages of a store go through here; a call costs 1 % of a committed entry.
    #[inline(always)]
    fn step_follower(&mut self, from: NodeId, body: Body) -> Result<Next, StepError> {
        let Role::Follower(follower) = &mut self.role else { return Ok(Next::Stay) };
        let server = &mut self.server;
        match body {
            Body::AppendEntries { prev, entries, commit } => {
                server.hear_leader();
                follower.leader = Some(from);
                if let Some(reaching) = follower.wants_snapshot {
                    snapshot_request::ask(server, from, reaching);
                    return Ok(Next::Stay);
                }
                replication::on_append(server, from, prev, entries, commit)?;
            }
            Body::Heartbeat { commit, read } => {
                server.hear_leader();
                follower.leader = Some(from);
                replication::on_heartbeat(server, from, commit, read)?;
                if let Some(reaching) = follower.wants_snapshot {
                    snapshot_request::ask(server, from, reaching);
                }
            }
            Body::InstallSnapshot { snapshot } => {
                server.hear_leader();
                follower.leader = Some(from);
                self.on_install_snapshot(from, *snapshot);
            }
            Body::TimeoutNow => return Ok(election::campaign(server, true)),
            Body::Propose { entries } => {
                self.propose_for(from, entries).map_err(StepError::Dropped)?;
            }
            Body::TransferLeader => {
                if let Follower { leader: Some(leader), .. } = *follower {
                    transfer::forward(server, leader, from);
                }
            }
            // Without a leader it is lost, like any message; the asker asks again.
            Body::ReadIndex { context } => {
                let _ = self.read_index_for(from, context);
            }
            Body::ReadIndexReply { index, context } => {
                // Reads wait until the leader has committed in its term: so that is the entry's.
                commit_hints::learn(server, LogId::new(server.term, index));
                server.out.read(ReadState { index, context });
            }
            // Answers to a leader or candidate that it no longer is.
            Body::RequestVote { .. }
            | Body::RequestVoteReply { .. }
            | Body::AppendEntriesReply(_)
            | Body::HeartbeatReply { .. } => {}
        }
        Ok(Next::Stay)
    }
}
