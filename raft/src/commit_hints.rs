//! Telling each other what is committed (beyond etcd; TiKV's fast commit).
//!
//! In the paper a follower learns the commit index from its leader, with an append or a heartbeat.
//! When that leader is lost, so may be the news, and with it a membership change that has been
//! committed but that only some have heard of. Two groups that etcd leaves stuck for ever:
//!
//! ```text
//!  promotion   voters 1 2, learner 3; leader 1 commits "3 votes, too", tells 3, and is lost.
//!              2: x x C y   believes in {1 2}: asks 1, in vain; refuses 3, whose log is shorter
//!              3: x x C     knows {1 2 3}: asks 2, in vain
//!
//!  leaving     voters 2 3 and, outgoing, 1; leader 2 commits "1 is out", tells 3; 1 is taken away.
//! ```
//!
//! With [`Config::commit_hints`](crate::Config::commit_hints) whoever talks says what it knows:
//!
//! * Vote requests and their answers name the sender's commit position. Who has that entry commits
//!   it ([`learn`]): by Log Matching it has everything before, too. Nothing is believed of a log
//!   that differs.
//! * The answer to a read names an index that is committed, and of the leader's term; the same
//!   holds for it.
//! * Answers to appends and heartbeats name the sender's commit index, and the leader keeps it
//!   ([`Progress::committed`]): who lags in *knowing* is seen by it. A rejection names none: whoever
//!   rejects may have another log's entries.
//!
//! Invariant: a hint raises a commit index, if anything. A leader learns nothing by hints: it has
//! everything that is committed, and what its term commits it counts itself.

use crate::election;
use crate::progress::Progress;
use crate::role::Next;
use crate::server::Server;
use crate::types::{Index, LogId, RoleKind};

/// What this server tells candidates and voters: the last position it knows to be committed;
/// nothing, without the option.
pub(crate) fn position(server: &Server) -> LogId {
    if !server.config.commit_hints {
        return LogId::ZERO;
    }
    let index = server.log.committed();
    // Its term is known: what is committed is in the log, or is what precedes it.
    server.log.term(index).map_or(LogId::ZERO, |term| LogId::new(term, index))
}

/// What this server tells its leader: its commit index; nothing, without the option.
pub(crate) fn index(server: &Server) -> Index {
    if server.config.commit_hints { server.log.committed() } else { 0 }
}

/// Somebody knows `hint` to be committed. If this server has that entry, so does it from now on;
/// says whether that is news.
pub(crate) fn learn(server: &mut Server, hint: LogId) -> bool {
    server.config.commit_hints && server.log.matches(hint) && server.log.commit_to(hint.index)
}

/// What a vote request, or an answer that decides nothing, says besides. A candidate that finds out
/// that the membership has changed stands back until it has applied the change: until then it would
/// count by a configuration that the others have left.
#[cold]
pub(crate) fn on_vote_hint(server: &mut Server, role: RoleKind, hint: LogId, next: Next) -> Next {
    match role {
        RoleKind::Leader => next,
        RoleKind::Follower => {
            learn(server, hint);
            next
        }
        RoleKind::PreCandidate | RoleKind::Candidate => {
            if learn(server, hint) && election::has_unapplied_conf_change(server) {
                return Next::Follow { term: server.term, leader: None };
            }
            next
        }
    }
}

/// A follower names its commit index. Beyond the end of the leader's log nothing is committed.
pub(crate) fn on_follower(pr: &mut Progress, last: Index, commit: Index) {
    if commit <= last {
        pr.committed = pr.committed.max(commit);
    }
}
