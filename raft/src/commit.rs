//! The commit rule (§5.3, §5.4.2).
//!
//! Figure 2, Leaders: "if there exists an N such that N > commitIndex, a majority of
//! matchIndex[i] ≥ N, and log[N].term == currentTerm: set commitIndex = N". The second half is the
//! one that Figure 8 is about: an entry of an older term is never committed by counting, only by
//! an entry of this term after it.

use crate::group_commit;
use crate::role::Leader;
use crate::server::Server;
use crate::types::Index;

/// Commits what a quorum has on disk, this server included only as far as it has acknowledged its
/// own entries. Says whether the commit index moved.
pub(crate) fn advance(server: &mut Server, leader: &Leader) -> bool {
    let index = reached(server, leader).0;
    index > server.log.committed()
        && server.log.term(index) == Some(server.term)
        && server.log.commit_to(index)
}

/// Whether this leader has committed an entry of its own term: only then does it know what its
/// predecessors committed (§8).
pub(crate) fn has_committed_in_term(server: &Server) -> bool {
    server.log.term(server.log.committed()) == Some(server.term)
}

/// The highest index a quorum has on disk, and whether voters of two groups do, where groups are
/// assigned.
pub(crate) fn reached(server: &Server, leader: &Leader) -> (Index, bool) {
    let matched = |id| leader.progress.get(id).map_or(0, |pr| pr.matched);
    let voters = &server.membership.voters;
    let groups = server.wishes.as_ref().map(|wishes| &wishes.commit_groups);
    let Some(groups) = groups.filter(|groups| !groups.is_empty()) else {
        return (voters.committed(matched), false);
    };
    let (incoming, a) = group_commit::committed(&voters.incoming, groups, matched);
    let (outgoing, b) = group_commit::committed(&voters.outgoing, groups, matched);
    (incoming.min(outgoing), a && b)
}
