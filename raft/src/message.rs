//! The messages servers exchange (Figure 2, §7, T§3.10, T§6.4, T§9.6).
//!
//! A [`Message`] is an envelope, who to whom in which term, around a [`Body`] with the paper's
//! names. The table gives etcd's names, in which the conformance scripts are written.
//!
//! | here | etcd |
//! |---|---|
//! | [`Body::RequestVote`], `pre` or not | MsgVote, MsgPreVote |
//! | [`Body::RequestVoteReply`] | MsgVoteResp, MsgPreVoteResp |
//! | [`Body::AppendEntries`] | MsgApp |
//! | [`Body::AppendEntriesReply`] | MsgAppResp |
//! | [`Body::Heartbeat`], [`Body::HeartbeatReply`] | MsgHeartbeat, MsgHeartbeatResp |
//! | [`Body::InstallSnapshot`] | MsgSnap |
//! | [`Body::TimeoutNow`], [`Body::TransferLeader`] | MsgTimeoutNow, MsgTransferLeader |
//! | [`Body::Propose`] | MsgProp |
//! | [`Body::ReadIndex`], [`Body::ReadIndexReply`] | MsgReadIndex, MsgReadIndexResp |

use bytes::Bytes;

use crate::entry::{Entries, Entry, Run};
use crate::membership::Membership;
use crate::types::{Index, LogId, NAMED_MAX, NodeId, Snapshot, Term};

/// An envelope and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender. For a request that is passed on, who was asked first ([`Body::Propose`],
    /// [`Body::ReadIndex`]), or the transferee ([`Body::TransferLeader`]).
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; the *next* term for pre-votes; 0 for requests that are forwarded on
    /// behalf of a client ([`Body::Propose`], [`Body::ReadIndex`]), which belong to no term.
    pub term: Term,
    /// The request or the reply.
    pub body: Body,
}

impl Message {
    /// Whether any server can have sent it, as far as the message alone shows: what handlers rely
    /// on without looking again (etcd's logSlice.valid, and more).
    pub(crate) fn is_well_formed(&self) -> bool {
        let belongs_to_no_term = matches!(self.body, Body::Propose { .. } | Body::ReadIndex { .. });
        if self.term >= NAMED_MAX || (self.term == 0 && !belongs_to_no_term) {
            return false;
        }
        match &self.body {
            Body::AppendEntries { prev, entries, .. } => {
                let follows = entries.first().is_none_or(|at| at == prev.index.saturating_add(1));
                let first_term = entries.runs().first().map_or(self.term, Run::term);
                let last = entries.last().unwrap_or(*prev);
                // Terms do not fall along a log, and none is above the leader's.
                let rises = prev.term.max(1) <= first_term && last.term <= self.term;
                follows && rises && last.index < NAMED_MAX
            }
            Body::InstallSnapshot { snapshot } => {
                let meta = &snapshot.meta;
                meta.last.index < NAMED_MAX
                    && meta.last.term <= self.term
                    // Before the first entry, and only there, there is no term.
                    && (meta.last.index == 0) == (meta.last.term == 0)
                    && Membership::from_conf_state(&meta.conf_state).is_some()
            }
            // Numbers that are only compared.
            Body::RequestVote { .. }
            | Body::RequestVoteReply { .. }
            | Body::AppendEntriesReply(_)
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow
            | Body::TransferLeader
            | Body::Propose { .. }
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. } => true,
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// "Vote for me" (§5.2), or, if `pre`, "would you?" (T§9.6).
    RequestVote {
        /// Ask only, without anybody's term changing.
        pre: bool,
        /// The candidate's last entry, which decides whether its log is up to date (§5.4.1).
        last: LogId,
        /// The leader itself asked for this election, so a lease is no reason to refuse (T§4.2.3).
        transfer: bool,
        /// What the candidate knows to be committed, if it says so
        /// ([`Config::commit_hints`](crate::Config::commit_hints)); else [`LogId::ZERO`].
        commit: LogId,
    },
    /// The answer to a vote request.
    RequestVoteReply {
        /// Answers a pre-vote.
        pre: bool,
        /// Whether the vote is given.
        granted: bool,
        /// What the voter knows to be committed, if it says so; else [`LogId::ZERO`].
        commit: LogId,
    },
    /// Entries that follow `prev`, none to probe or to tell a new commit index (§5.3).
    AppendEntries {
        /// The entry before `entries`, which the receiver must have.
        prev: LogId,
        /// What follows.
        entries: Entries,
        /// The leader's commit index.
        commit: Index,
    },
    /// The answer to an append or a snapshot.
    AppendEntriesReply(AppendReply),
    /// "I lead" (§5.2).
    Heartbeat {
        /// min(match, commit): what is known to be committed *and* to be in the receiver's log.
        commit: Index,
        /// Number of the latest read waiting for confirmation, 0 for none (T§6.4).
        read: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatReply {
        /// The heartbeat's `read`, confirmed.
        read: u64,
        /// The follower's commit index, if it says so; else 0.
        commit: Index,
    },
    /// A snapshot for a follower whose next entry is compacted (§7).
    InstallSnapshot {
        /// Boxed: snapshots are rare, and a message should be small.
        snapshot: Box<Snapshot>,
    },
    /// "Start an election at once" (T§3.10).
    TimeoutNow,
    /// "Make `from` the leader", forwarded by a follower.
    TransferLeader,
    /// A client's entries, forwarded by a follower. They have no position yet.
    Propose {
        /// The entries, at least one.
        entries: Vec<Entry>,
    },
    /// A client's read, forwarded by a follower or learner (T§6.4).
    ReadIndex {
        /// The application's mark, returned with the answer.
        context: Bytes,
    },
    /// The index that the read named `context` must wait for.
    ReadIndexReply {
        /// Once applied up to here the read may run.
        index: Index,
        /// The mark of the request.
        context: Bytes,
    },
}

/// How a follower answers an append (§5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendReply {
    /// The follower's log matches the leader's up to here. 0 when it only tells its term.
    Accepted {
        /// Last index known to match.
        index: Index,
        /// The follower's commit index, if it says so
        /// ([`Config::commit_hints`](crate::Config::commit_hints)); else 0.
        commit: Index,
    },
    /// The follower lacks the entry before the append.
    Rejected {
        /// The append's previous index, which names the append that is refused.
        prev: Index,
        /// Where the logs may last agree; the term is 0 if unknown.
        hint: LogId,
    },
    /// The follower takes no entries: it wants a snapshot
    /// ([`RawNode::request_snapshot`](crate::RawNode::request_snapshot)).
    SnapshotWanted {
        /// The end of its log, which the snapshot must reach.
        reaching: Index,
    },
}
