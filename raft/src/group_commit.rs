//! Commit only what is in two groups of members, such as two data centres (beyond etcd; TiKV's
//! group commit).
//!
//! A majority may sit in one data centre, and be lost with it. With groups assigned, an entry is
//! committed once a majority has it *and* two voters of different groups do. That costs the latency
//! to the nearest other group, and commits nothing while only one group can be reached.
//!
//! Members without a group are in none: as long as there are such, and no two groups among those
//! that have one, only what every voter has is committed.

use crate::quorum::Majority;
use crate::types::{Index, NodeId};

/// The name of a group; chosen by the operator, the same on all servers.
pub type GroupId = std::num::NonZeroU64;

/// Which group each member is in; empty when the rule is off.
pub(crate) type Groups = Vec<(NodeId, GroupId)>;

/// The highest index that `voters` may commit under the rule, with whether two groups have it.
pub(crate) fn committed(
    voters: &Majority,
    groups: &Groups,
    reached: impl Fn(NodeId) -> Index,
) -> (Index, bool) {
    let quorum = voters.committed(&reached);
    let group_of = |id| groups.iter().find(|(of, _)| *of == id).map(|(_, group)| *group);
    let mut by_index: Vec<_> =
        voters.voters().iter().map(|id| (reached(*id), group_of(*id))).collect();
    by_index.sort_unstable_by_key(|(index, _)| std::cmp::Reverse(*index));
    let Some(slowest) = by_index.last().map(|(index, _)| *index) else { return (quorum, true) };
    let Some(first) = by_index.iter().find_map(|(_, group)| *group) else {
        return (slowest, false);
    };
    let other = by_index.iter().find(|(_, group)| group.is_some_and(|group| group != first));
    match other {
        Some((index, _)) => (quorum.min(*index), true),
        None if by_index.iter().all(|(_, group)| group.is_some()) => (quorum, false),
        None => (slowest, false),
    }
}

#[cfg(test)]
mod tests {
    use super::{GroupId, Groups, committed};
    use crate::quorum::Majority;
    use crate::types::{Index, NodeId};

    /// Voters 1, 2, …, each at an index and in a group (0 for none).
    fn commit(voters: &[(Index, u64)]) -> (Index, bool) {
        let ids: Vec<NodeId> = (1..).map_while(NodeId::new).take(voters.len()).collect();
        let groups: Groups = ids
            .iter()
            .zip(voters)
            .filter_map(|(id, (_, group))| Some((*id, GroupId::new(*group)?)))
            .collect();
        let majority: Majority = ids.iter().copied().collect();
        committed(&majority, &groups, |id| voters[id.get() as usize - 1].0)
    }

    /// test_group_commit, test_group_commit_consistent.
    #[test]
    fn what_two_groups_have_is_committed() {
        for (voters, expected) in [
            // One voter, and voters of one group: the majority decides, nothing is consistent.
            (&[(1, 1)][..], (1, false)),
            (&[(4, 1), (2, 1), (1, 1)], (2, false)),
            // The fastest of another group bounds what a majority has.
            (&[(4, 1), (2, 1), (1, 2)], (1, true)),
            (&[(4, 1), (2, 2), (1, 2)], (2, true)),
            (&[(4, 2), (3, 1), (2, 1), (1, 1)], (2, true)),
            (&[(9, 1), (8, 1), (7, 1), (3, 2), (2, 3)], (3, true)),
            // Members without a group: everybody has to have it, unless two groups are known.
            (&[(4, 0), (2, 0), (1, 0)], (1, false)),
            (&[(4, 1), (2, 0), (1, 0)], (1, false)),
            (&[(4, 1), (3, 2), (1, 0)], (3, true)),
            (&[(4, 1), (2, 0), (1, 2)], (1, true)),
            // Nobody votes: everything is committed.
            (&[], (Index::MAX, true)),
        ] {
            assert_eq!(commit(voters), expected, "{voters:?}");
        }
    }

    #[test]
    fn the_rule_never_commits_more_than_a_majority() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let voters: Vec<(Index, u64)> =
                (0..random.usize(1..8)).map(|_| (random.u64(0..6), random.u64(0..4))).collect();
            let all: Majority = (1..).map_while(NodeId::new).take(voters.len()).collect();
            let plain = all.committed(|id| voters[id.get() as usize - 1].0);
            let (grouped, is_consistent) = commit(&voters);
            assert!(grouped <= plain, "{voters:?}");
            let groups_with_it = |group| voters.iter().any(|(i, g)| *i >= grouped && *g == group);
            let count = (1..4).filter(|group| groups_with_it(*group)).count();
            assert!(!is_consistent || count >= 2, "{voters:?}: {count} groups have {grouped}");
        }
    }
}
