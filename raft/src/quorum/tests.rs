//! Counting, compared with counting the slow way.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Joint, Majority, VoteResult};
use crate::types::{Index, NodeId};

fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("not zero")
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<NodeId> {
    numbers.into_iter().map(id).collect()
}

/// The definition: the highest index such that more than half of the voters have reached it.
fn committed_by_definition(voters: &[NodeId], reached: impl Fn(NodeId) -> Index) -> Index {
    let quorum = |index| voters.iter().filter(|id| reached(**id) >= index).count() * 2;
    if voters.is_empty() {
        return Index::MAX;
    }
    let all = voters.iter().map(|id| reached(*id));
    all.chain([0]).filter(|index| quorum(*index) > voters.len()).max().expect("all have reached 0")
}

/// The definition: won or lost is what no missing vote can change any more.
fn vote_by_definition(halves: &[&[NodeId]], vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
    let wins = |missing: bool| {
        halves.iter().all(|voters| {
            let yes = voters.iter().filter(|id| vote(**id).unwrap_or(missing)).count();
            voters.is_empty() || yes * 2 > voters.len()
        })
    };
    match (wins(false), wins(true)) {
        (true, _) => VoteResult::Won,
        (false, true) => VoteResult::Pending,
        (false, false) => VoteResult::Lost,
    }
}

/// All vectors of `len` numbers below `base`.
fn vectors(len: u32, base: u64) -> impl Iterator<Item = Vec<u64>> {
    (0..base.pow(len)).map(move |n| (0..len).map(|i| n / base.pow(i) % base).collect())
}

/// C3, I8: every size from 1 to 8, every vector of acknowledgements up to 3.
#[test]
fn committed_is_what_a_majority_has_for_every_small_vector() {
    for n in 1..=8 {
        let majority: Majority = ids(1..=u64::from(n)).into_iter().collect();
        for vector in vectors(n, 4) {
            let reached = |id: NodeId| vector[id.get() as usize - 1];
            let expected = committed_by_definition(majority.voters(), reached);
            assert_eq!(majority.committed(reached), expected, "{vector:?}");
        }
    }
}

/// I8: every size from 1 to 7, every vector of yes, no and not yet.
#[test]
fn a_vote_is_decided_when_no_missing_answer_can_change_it() {
    for n in 1..=7 {
        let majority: Majority = ids(1..=u64::from(n)).into_iter().collect();
        for vector in vectors(n, 3) {
            let vote = |id: NodeId| match vector[id.get() as usize - 1] {
                0 => None,
                answer => Some(answer == 1),
            };
            let expected = vote_by_definition(&[majority.voters()], vote);
            assert_eq!(majority.vote_result(vote), expected, "{vector:?}");
        }
    }
}

#[test]
fn no_voters_have_reached_everything_and_won() {
    let nobody = Majority::default();
    assert_eq!(nobody.committed(|_| 0), Index::MAX);
    assert_eq!(nobody.vote_result(|_| Some(false)), VoteResult::Won);
}

/// C4: both halves count, however small one of them is.
#[test]
fn one_voter_of_the_old_half_alone_commits_nothing() {
    let joint = Joint {
        incoming: ids([1, 2, 3]).into_iter().collect(),
        outgoing: ids([1]).into_iter().collect(),
    };
    let reached = |of: NodeId| if of == id(1) { 7 } else { 3 };
    assert_eq!(joint.committed(reached), 3);
    let vote = |of: NodeId| (of == id(1)).then_some(true);
    assert_eq!(joint.vote_result(vote), VoteResult::Pending);
}

fn voters() -> impl Strategy<Value = BTreeSet<u64>> {
    proptest::collection::btree_set(1u64..=14, 0..=9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// C2 (etcd: quorum TestQuick): random configurations, joint or not, some voters unknown.
    #[test]
    fn joint_committed_is_the_lower_of_both_halves(
        incoming in voters(),
        outgoing in voters(),
        reached in proptest::collection::btree_map(1u64..=14, 0u64..9, 0..14),
    ) {
        let joint = Joint {
            incoming: ids(incoming).into_iter().collect(),
            outgoing: ids(outgoing).into_iter().collect(),
        };
        let reached = |id: NodeId| reached.get(&id.get()).copied().unwrap_or(0);
        let slow = committed_by_definition(joint.incoming.voters(), reached)
            .min(committed_by_definition(joint.outgoing.voters(), reached));
        prop_assert_eq!(joint.committed(reached), slow);
    }

    /// The same for votes.
    #[test]
    fn a_joint_vote_needs_both_halves(
        incoming in voters(),
        outgoing in voters(),
        votes in proptest::collection::btree_map(1u64..=14, any::<bool>(), 0..14),
    ) {
        let joint = Joint {
            incoming: ids(incoming).into_iter().collect(),
            outgoing: ids(outgoing).into_iter().collect(),
        };
        let vote = |id: NodeId| votes.get(&id.get()).copied();
        let halves = [joint.incoming.voters(), joint.outgoing.voters()];
        prop_assert_eq!(joint.vote_result(vote), vote_by_definition(&halves, vote));
    }

    /// C2: an index once committed stays so while acknowledgements only grow.
    #[test]
    fn committed_never_falls(
        members in proptest::collection::btree_set(1u64..=9, 1..=9),
        updates in proptest::collection::vec((1u64..=9, 0u64..20), 0..40),
    ) {
        let majority: Majority = ids(members).into_iter().collect();
        let mut reached = BTreeMap::new();
        let mut before = 0;
        for (of, index) in updates {
            let slot = reached.entry(of).or_insert(0);
            *slot = index.max(*slot);
            let now = majority.committed(|id| reached.get(&id.get()).copied().unwrap_or(0));
            prop_assert!(now >= before);
            before = now;
        }
    }

    /// A majority is a set.
    #[test]
    fn a_majority_is_a_sorted_set(changes in proptest::collection::vec((any::<bool>(), 1u64..9), 0..40)) {
        let mut majority = Majority::default();
        let mut set = BTreeSet::new();
        for (add, n) in changes {
            if add {
                prop_assert_eq!(majority.insert(id(n)), set.insert(n));
            } else {
                prop_assert_eq!(majority.remove(id(n)), set.remove(&n));
            }
            prop_assert_eq!(majority.contains(id(n)), add);
            prop_assert_eq!(majority.voters(), &ids(set.iter().copied())[..]);
            prop_assert_eq!(majority.is_empty(), set.is_empty());
        }
    }

    /// The voters of both halves, each once, ascending (etcd: TestRaftNodes).
    #[test]
    fn joint_voters_are_the_union(incoming in voters(), outgoing in voters()) {
        let joint = Joint {
            incoming: ids(incoming.iter().copied()).into_iter().collect(),
            outgoing: ids(outgoing.iter().copied()).into_iter().collect(),
        };
        let union: Vec<NodeId> = ids(incoming.union(&outgoing).copied());
        prop_assert_eq!(joint.voters().collect::<Vec<_>>(), union.clone());
        prop_assert!(union.iter().all(|id| joint.contains(*id)));
        prop_assert!(!joint.contains(id(15)));
    }
}
