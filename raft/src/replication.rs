//! Both ends of AppendEntries and of Heartbeat (§5.3, T§10.2).
//!
//! ```text
//!  propose ─► append ─► broadcast ─► send ──AppendEntries──► on_append
//!                            ▲                                   │ (on disk)
//!                 commit ◄── on_append_reply ◄──AppendEntriesReply┘
//! ```
//!
//! The leader keeps one stream of appends per follower and moves `next` ahead of the
//! acknowledgements; a rejection brings it back to where the logs may agree, by a hint of
//! (index, term) that skips whole terms at a time.
//!
//! By default appends wait for the next `ready()`, so that all proposals since the last one travel
//! together; [`Config::eager_appends`](crate::Config::eager_appends) sends each at once.
//!
//! Rules of Figure 2: AppendEntries, receiver 1–5 ([`on_append`], with `Log::append`); Leaders: "if
//! last log index ≥ nextIndex for a follower: send AppendEntries" ([`send`]), "if successful: update
//! nextIndex and matchIndex; if it fails because of log inconsistency: decrement nextIndex and
//! retry" ([`on_append_reply`]).

use bytes::Bytes;

use crate::commit;
use crate::commit_hints;
use crate::entry::{Entries, Entry, EntryKind};
use crate::error::{ProposeError, StepError};
use crate::fetch;
use crate::lease;
use crate::log::Appended;
use crate::membership_change;
use crate::message::{AppendReply, Body};
use crate::progress::{Flow, Wanted};
use crate::read;
use crate::role::Leader;
use crate::server::Server;
use crate::snapshot;
use crate::snapshot_request;
use crate::transfer;
use crate::types::{Index, LogId, NodeId};
use crate::window;

// ---- Leader: new entries ----

/// A client's entries, at the leader. They are moved out of the slice.
pub(crate) fn propose(
    server: &mut Server,
    leader: &mut Leader,
    entries: &mut [Entry],
) -> Result<LogId, ProposeError> {
    takes_proposals(server, leader)?;
    let pending_before = leader.pending_conf_index;
    for (entry, index) in entries.iter_mut().zip(server.log.last() + 1..) {
        if entry.kind == EntryKind::Normal {
            continue;
        }
        if membership_change::may_propose(server, leader, entry) {
            leader.pending_conf_index = index;
        } else {
            // The place is taken, the change is not made: its proposer sees an empty entry.
            *entry = Entry::default();
        }
    }
    let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
    let appended = append(server, leader, bytes, entries.iter_mut().map(std::mem::take));
    match appended {
        Ok(_) => broadcast(server, leader),
        Err(_) => leader.pending_conf_index = pending_before,
    }
    appended
}

/// One command of a client, at the leader: what [`propose`] does, without looking for changes.
pub(crate) fn propose_one(
    server: &mut Server,
    leader: &mut Leader,
    data: Bytes,
) -> Result<LogId, ProposeError> {
    takes_proposals(server, leader)?;
    admit(server, leader, data.len() as u64)?;
    server.log.append_own(server.term, Entry::normal(data));
    acknowledge_eagerly(server);
    broadcast(server, leader);
    Ok(server.last_id())
}

fn takes_proposals(server: &Server, leader: &Leader) -> Result<(), ProposeError> {
    if leader.progress.get(server.id()).is_none() {
        return Err(ProposeError::Removed);
    }
    if leader.transferee.is_some() {
        return Err(ProposeError::Transferring);
    }
    Ok(())
}

/// Appends to the leader's own log entries with that many payload bytes, unless too much is
/// uncommitted already.
pub(crate) fn append(
    server: &mut Server,
    leader: &mut Leader,
    bytes: u64,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<LogId, ProposeError> {
    admit(server, leader, bytes)?;
    for entry in entries {
        server.log.append_own(server.term, entry);
    }
    acknowledge_eagerly(server);
    Ok(server.last_id())
}

/// Counts payload bytes as uncommitted, unless there are too many already. One proposal is always
/// taken when nothing else is outstanding, and an empty one in any case.
fn admit(server: &Server, leader: &mut Leader, bytes: u64) -> Result<(), ProposeError> {
    let outstanding = leader.uncommitted_bytes;
    if outstanding > 0 && bytes > 0 && outstanding + bytes > server.config.uncommitted_bytes_max {
        return Err(ProposeError::TooMuchUncommitted);
    }
    leader.uncommitted_bytes += bytes;
    Ok(())
}

/// The acknowledgement of the leader's own entries comes back when they are on its disk.
fn acknowledge_eagerly(server: &mut Server) {
    if server.config.eager_appends {
        let index = server.log.last();
        let reply = Body::AppendEntriesReply(AppendReply::Accepted { index, commit: 0 });
        server.promise(server.id(), server.term, reply);
    }
}

/// The leader's own entries up to `index` are on its disk. That is its acknowledgement, without a
/// message to itself for each write.
pub(crate) fn on_stable(server: &mut Server, leader: &mut Leader, index: Index) {
    if !server.config.eager_appends
        && let Some(at) = leader.progress.place(server.id())
    {
        on_accepted(server, leader, at, index);
    }
}

// ---- Leader: sending ----

/// An append to everybody: there are new entries, or a new commit index to tell.
pub(crate) fn broadcast(server: &mut Server, leader: &mut Leader) {
    if !server.config.eager_appends {
        leader.wants_broadcast = true;
        leader.wants_flush = true;
        return;
    }
    for at in 0..leader.progress.len() {
        if leader.progress.at(at).0 != server.id() {
            request_append(server, leader, at, true);
        }
    }
}

/// An append to the member at place `at` of the leader's progress: now, or at the next `ready()`.
/// Without entries only if `may_be_empty`.
pub(crate) fn request_append(
    server: &mut Server,
    leader: &mut Leader,
    at: usize,
    may_be_empty: bool,
) {
    if server.config.eager_appends {
        send(server, leader, at, may_be_empty);
        return;
    }
    let last = server.log.last();
    let (_, pr) = leader.progress.at_mut(at);
    if pr.is_paused() {
        return;
    }
    let wanted = if may_be_empty { Wanted::Any } else { Wanted::Entries };
    if may_be_empty || pr.next <= last {
        pr.wanted = pr.wanted.max(wanted);
        leader.wants_flush = true;
    }
}

/// What was put off until `ready()`: appends as the windows allow, one heartbeat for all reads.
pub(crate) fn flush(server: &mut Server, leader: &mut Leader) {
    if !std::mem::take(&mut leader.wants_flush) {
        return;
    }
    if std::mem::take(&mut leader.wants_heartbeat) {
        broadcast_heartbeat(server, leader);
    }
    let all = std::mem::take(&mut leader.wants_broadcast);
    for at in 0..leader.progress.len() {
        let (to, pr) = leader.progress.at_mut(at);
        let own = std::mem::take(&mut pr.wanted);
        if to == server.id() {
            continue;
        }
        let wanted = if all { Wanted::Any } else { own };
        if wanted == Wanted::Nothing || !send(server, leader, at, wanted == Wanted::Any) {
            continue;
        }
        while leader.progress.at(at).1.next <= server.log.last() && send(server, leader, at, false)
        {
        }
    }
}

/// Sends one append to the member at place `at`, or a snapshot if its next entry is compacted. Says
/// whether it did: not if the follower is paused, or there is nothing to send and that would not do.
fn send(server: &mut Server, leader: &mut Leader, at: usize, may_be_empty: bool) -> bool {
    let (to, pr) = leader.progress.at_mut(at);
    let window = window::of(server, to);
    if pr.is_paused() || window.appends_max == 0 {
        return false;
    }
    server.log.seal();
    let prev_index = pr.next - 1;
    let prev_term = server.log.term(prev_index).filter(|_| !pr.wants_snapshot());
    let Some(prev_term) = prev_term else { return snapshot::send(server, pr, to) };
    let is_full = pr.inflights().is_some_and(|inflights| inflights.is_full(window));
    // With a full window an append without entries still goes out now and then: its answer shows
    // that the others were lost, if they were.
    let entries = if is_full {
        Entries::new()
    } else {
        match server.log.entries(pr.next..server.log.last() + 1, server.config.append_bytes_max) {
            Ok(entries) => entries,
            // The disk may answer later; until then the follower waits like any other, and if the
            // storage says when, there is nothing to try before.
            Err(error) => {
                pr.awaits_entries = fetch::is_later(&error);
                return false;
            }
        }
    };
    if entries.is_empty() && !may_be_empty {
        return false;
    }
    pr.sent(window, entries.last().map(|id| id.index), entries.payload_bytes());
    let commit = server.log.committed();
    pr.sent_commit(commit);
    let prev = LogId::new(prev_term, prev_index);
    server.send(to, Body::AppendEntries { prev, entries, commit });
    true
}

// ---- Follower ----

/// AppendEntries, receiver (Figure 2). The acknowledgement is a promise: it leaves once the entries
/// are on disk.
pub(crate) fn on_append(
    server: &mut Server,
    from: NodeId,
    prev: LogId,
    entries: Entries,
    commit: Index,
) -> Result<(), StepError> {
    let index = if prev.index < server.log.committed() {
        // An old append; what is committed matches without looking.
        server.log.committed()
    } else {
        match server.log.append(prev, entries, commit)? {
            Appended::Matches(index) => index,
            Appended::Mismatch => {
                reject(server, from, prev);
                return Ok(());
            }
        }
    };
    let commit = commit_hints::index(server);
    let reply = Body::AppendEntriesReply(AppendReply::Accepted { index, commit });
    server.promise(from, server.term, reply);
    Ok(())
}

/// The entry before the append is not there. Where the logs may agree is found by its term.
#[cold]
fn reject(server: &mut Server, from: NodeId, prev: LogId) {
    let hint = server.log.find_conflict(prev.index.min(server.log.last()), prev.term);
    let reply = AppendReply::Rejected { prev: prev.index, hint };
    server.promise(from, server.term, Body::AppendEntriesReply(reply));
}

// ---- Leader: answers ----

/// An acknowledgement or a rejection.
pub(crate) fn on_append_reply(
    server: &mut Server,
    leader: &mut Leader,
    from: NodeId,
    reply: AppendReply,
) -> Result<(), StepError> {
    let last = server.log.last();
    let Some(at) = leader.progress.place(from) else { return Ok(()) };
    let (_, pr) = leader.progress.at_mut(at);
    match reply {
        AppendReply::Accepted { index, .. } if index > last => {
            Err(StepError::BeyondLog { index, last })
        }
        AppendReply::Accepted { index, commit } => {
            pr.recent_active = true;
            commit_hints::on_follower(pr, last, commit);
            on_accepted(server, leader, at, index);
            Ok(())
        }
        AppendReply::Rejected { prev, hint } => {
            pr.recent_active = true;
            on_rejected(server, leader, at, prev, hint);
            Ok(())
        }
        AppendReply::SnapshotWanted { reaching } => {
            snapshot_request::on_request(server, leader, from, reaching)
        }
    }
}

fn on_accepted(server: &mut Server, leader: &mut Leader, at: usize, index: Index) {
    let (from, pr) = leader.progress.at_mut(at);
    // A repeated acknowledgement ends a probe, and says that a snapshot has arrived that was asked
    // for without need of the log, if what follows is there to be sent. Of somebody who
    // lacks compacted entries it is only an answer to an old leader, which knows nothing of the
    // log: taken for more it would undo what a rejection found, and ask for a snapshot. (Deviation
    // from etcd, which sends one.)
    let ends_probe = pr.matched == index
        && index + 1 >= server.log.first()
        && (pr.is_probing() || pr.has_snapshot_at(index));
    let is_news = pr.acknowledge(index) || ends_probe;
    if !is_news {
        return;
    }
    match &mut pr.flow {
        Flow::Probe { .. } => pr.become_replicate(),
        // Whichever snapshot is on its way: what the follower has now is enough to go on from.
        Flow::Snapshot { .. } if pr.matched + 1 >= server.log.first() => pr.become_replicate(),
        // It still wants its snapshot, unless it has gone beyond what that was to reach.
        Flow::Requested { reaching } if index > *reaching => pr.become_replicate(),
        Flow::Requested { .. } | Flow::Snapshot { .. } => {}
        Flow::Replicate { inflights, .. } => inflights.free_to(index),
    }
    let is_other = from != server.id();
    let committed = server.log.committed();
    let can_bump = pr.can_bump_commit(committed);
    // Who acknowledges what is committed already cannot make a quorum for more.
    let moved = index > committed && commit_and_tell(server, leader);
    if !moved && is_other && can_bump && tells_commits(server, leader) {
        request_append(server, leader, at, true);
    }
    if is_other {
        send_while_possible(server, leader, at);
        transfer::on_progress(server, leader, from);
    }
}

/// Commits what can be, and tells the others unless that is left to the next append or heartbeat.
/// Says whether the commit index moved.
pub(crate) fn commit_and_tell(server: &mut Server, leader: &mut Leader) -> bool {
    if !commit::advance(server, leader) {
        return false;
    }
    read::release_postponed(server, leader);
    if tells_commits(server, leader) {
        broadcast(server, leader);
    }
    true
}

/// Whether a new commit index is worth an append of its own. A membership change takes effect as it
/// is applied, so everybody should hear of it soon.
fn tells_commits(server: &Server, leader: &Leader) -> bool {
    !server.config.skip_commit_broadcast || leader.pending_conf_index > server.log.applied()
}

/// The window has opened: entries, as many appends as it takes.
fn send_while_possible(server: &mut Server, leader: &mut Leader, at: usize) {
    if server.config.eager_appends {
        while send(server, leader, at, false) {}
    } else {
        request_append(server, leader, at, false);
    }
}

/// The logs agree at `hint` at the latest. If the hint has a term, so does ours: nothing of ours
/// above that term can be in the follower's log up to there.
fn on_rejected(server: &mut Server, leader: &mut Leader, at: usize, prev: Index, hint: LogId) {
    let (_, pr) = leader.progress.at_mut(at);
    let until = match hint.term {
        0 => hint.index,
        term => server.log.find_conflict(hint.index, term).index,
    };
    if pr.reject(prev, until) {
        if matches!(pr.flow, Flow::Replicate { .. }) {
            pr.become_probe();
        }
        request_append(server, leader, at, true);
    }
}

/// The follower cannot be reached: what is on its way is lost.
pub(crate) fn on_unreachable(leader: &mut Leader, id: NodeId) {
    if let Some(pr) = leader.progress.get_mut(id)
        && matches!(pr.flow, Flow::Replicate { .. })
    {
        pr.become_probe();
    }
}

// ---- Heartbeats ----

/// "I lead", to everybody, with the number of the latest read that waits for confirmation, or of
/// the heartbeat itself if it may extend a lease.
pub(crate) fn broadcast_heartbeat(server: &mut Server, leader: &mut Leader) {
    let read = match &mut leader.lease {
        None => leader.reads.last_waiting(),
        Some(lease) => {
            let number = leader.reads.number_heartbeat();
            lease.sent(number, server.clock.now(), server.config.election_ticks);
            number
        }
    };
    let commit = server.log.committed();
    for (to, pr) in leader.progress.iter_mut() {
        if to != server.id() {
            // Never more than the follower is known to have: a heartbeat proves nothing about its
            // log.
            let known = commit.min(pr.matched);
            pr.sent_commit(known);
            server.send(to, Body::Heartbeat { commit: known, read });
        }
    }
}

/// A heartbeat, at the follower.
pub(crate) fn on_heartbeat(
    server: &mut Server,
    from: NodeId,
    commit: Index,
    read: u64,
) -> Result<(), StepError> {
    let last = server.log.last();
    if commit > last {
        return Err(StepError::BeyondLog { index: commit, last });
    }
    server.log.commit_to(commit);
    let commit = commit_hints::index(server);
    server.send(from, Body::HeartbeatReply { read, commit });
    Ok(())
}

/// The answer to a heartbeat: the follower is alive, so one more append may be tried if it lags,
/// and it still follows, which confirms reads.
pub(crate) fn on_heartbeat_reply(
    server: &mut Server,
    leader: &mut Leader,
    from: NodeId,
    read: u64,
    commit: Index,
) {
    let last = server.log.last();
    let Some(at) = leader.progress.place(from) else { return };
    let (_, pr) = leader.progress.at_mut(at);
    pr.recent_active = true;
    commit_hints::on_follower(pr, last, commit);
    pr.resume();
    pr.read_acked = pr.read_acked.max(read);
    if pr.matched < last || pr.is_probing() {
        request_append(server, leader, at, true);
    }
    lease::on_heartbeat_reply(server, leader);
    read::confirm(server, leader);
}

/// Appends to members who are behind, as the windows allow; for new ones, the first probe.
pub(crate) fn probe_all(server: &mut Server, leader: &mut Leader) {
    for at in 0..leader.progress.len() {
        if leader.progress.at(at).0 != server.id() {
            request_append(server, leader, at, false);
        }
    }
}
