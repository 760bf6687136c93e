//! Figure 3 and what the core promises besides, as code. Runs after every public call in debug
//! builds, and so in every simulation; in release builds it is nothing.
//!
//! * Election Safety: a server votes once a term ([`vote_once`]); the rest of it spans servers, and
//!   is checked by the explorer (`tests/explorer`) and the simulator.
//! * Leader Append-Only: [`leader_append_only`].
//! * Log Matching, Leader Completeness, State Machine Safety span servers; what one server can see
//!   of them is that its commit index never falls and its cursors stay in order ([`cursors`]).

use crate::raft::Raft;
#[cfg(debug_assertions)]
use crate::types::{HardState, Index, LogId, RoleKind};

/// What was seen at the last check.
#[cfg(debug_assertions)]
pub(crate) struct Invariants {
    hard_state: HardState,
    applied: Index,
    role: RoleKind,
    last: LogId,
}

#[cfg(debug_assertions)]
impl Invariants {
    pub(crate) fn new(raft: &Raft) -> Invariants {
        Invariants {
            hard_state: raft.server.hard_state(),
            applied: raft.server.log.applied(),
            role: raft.role.kind(),
            last: raft.server.last_id(),
        }
    }

    /// Compares with the last check, and looks at the state as it is.
    pub(crate) fn check(&mut self, raft: &Raft) {
        monotonic(self, raft);
        vote_once(self, raft);
        leader_append_only(self, raft);
        cursors(raft);
        progress(raft);
        *self = Invariants::new(raft);
    }
}

/// Term, commit index and applied index never fall.
#[cfg(debug_assertions)]
fn monotonic(before: &Invariants, raft: &Raft) {
    let now = raft.server.hard_state();
    assert!(now.term >= before.hard_state.term, "the term never falls");
    assert!(now.commit >= before.hard_state.commit, "the commit index never falls");
    assert!(raft.server.log.applied() >= before.applied, "the applied index never falls");
}

/// A vote, once given, stays for the term (§5.2).
#[cfg(debug_assertions)]
fn vote_once(before: &Invariants, raft: &Raft) {
    let now = raft.server.hard_state();
    if now.term == before.hard_state.term && before.hard_state.vote.is_some() {
        assert!(now.vote == before.hard_state.vote, "one vote in a term");
    }
}

/// A leader never overwrites or deletes entries in its log (Figure 3).
#[cfg(debug_assertions)]
fn leader_append_only(before: &Invariants, raft: &Raft) {
    let stays_leader = before.role == RoleKind::Leader
        && raft.role.kind() == RoleKind::Leader
        && raft.server.term == before.hard_state.term;
    if stays_leader {
        assert!(raft.server.log.last() >= before.last.index, "a leader's log never shrinks");
        assert!(
            raft.server.log.term(before.last.index).is_none_or(|term| term == before.last.term),
            "a leader's log never changes"
        );
    }
}

/// The cursors of the log are in order.
#[cfg(debug_assertions)]
fn cursors(raft: &Raft) {
    let log = &raft.server.log;
    assert!(log.applied() <= log.applying(), "applied ≤ applying");
    assert!(log.applying() <= log.committed(), "applying ≤ committed");
    assert!(log.committed() <= log.last(), "committed ≤ last");
    assert!(log.stable() <= log.handed(), "stable ≤ handed");
    assert!(log.handed() <= log.last(), "handed ≤ last");
    assert!(log.compacted().index <= log.committed(), "compacted ≤ committed");
    assert!(
        log.last_id().term <= raft.server.term || log.committed() == log.last(),
        "no entry is of a later term"
    );
}

/// A leader's view of the others is possible.
#[cfg(debug_assertions)]
fn progress(raft: &Raft) {
    let last = raft.server.log.last();
    for (id, pr) in raft.as_leader().into_iter().flat_map(|leader| leader.progress.iter()) {
        assert!(pr.matched < pr.next, "matched < next");
        assert!(pr.matched <= last, "nobody has more of this leader's log than it has");
        assert!(
            id != raft.server.id() || pr.matched <= raft.server.log.handed(),
            "own entries count once written"
        );
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
pub(crate) struct Invariants;

#[cfg(not(debug_assertions))]
impl Invariants {
    pub(crate) fn new(_: &Raft) -> Invariants {
        Invariants
    }

    #[inline(always)]
    pub(crate) fn check(&mut self, _: &Raft) {}
}
