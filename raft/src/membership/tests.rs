//! Changes of the membership, compared with a naive one, and with each other.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Membership;
use crate::conf_change::{ConfChange, ConfChangeKind, ConfChangeSingle, Transition};
use crate::error::ConfChangeError;
use crate::progress::{Progress, ProgressMap};
use crate::types::{ConfState, NodeId};

fn id(n: u64) -> NodeId {
    NodeId::new(n).expect("not zero")
}

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|n| id(*n)).collect()
}

fn group(voters: &[u64], learners: &[u64]) -> Membership {
    let state = ConfState { voters: ids(voters), learners: ids(learners), ..ConfState::default() };
    Membership::from_conf_state(&state).expect("voters and learners are separate")
}

fn single(kind: ConfChangeKind, n: u64) -> ConfChangeSingle {
    ConfChangeSingle { kind, node: id(n) }
}

use ConfChangeKind::{AddLearnerNode, AddNode, RemoveNode, UpdateNode};

/// The twin: three sets and the meaning of each change, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Naive {
    incoming: BTreeSet<u64>,
    outgoing: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    next: BTreeSet<u64>,
}

impl Naive {
    fn of(membership: &Membership) -> Naive {
        let set = |ids: &[NodeId]| ids.iter().map(|id| id.get()).collect();
        Naive {
            incoming: set(membership.voters.incoming.voters()),
            outgoing: set(membership.voters.outgoing.voters()),
            learners: set(&membership.learners),
            next: set(&membership.learners_next),
        }
    }

    fn apply(&mut self, change: &ConfChangeSingle) {
        let n = change.node.get();
        match change.kind {
            AddNode => {
                self.incoming.insert(n);
                self.learners.remove(&n);
                self.next.remove(&n);
            }
            AddLearnerNode => {
                self.incoming.remove(&n);
                // Who still votes in the outgoing half waits.
                if self.outgoing.contains(&n) {
                    self.next.insert(n);
                } else {
                    self.learners.insert(n);
                }
            }
            RemoveNode => {
                self.incoming.remove(&n);
                self.learners.remove(&n);
                self.next.remove(&n);
            }
            UpdateNode => {}
        }
    }
}

/// What must hold of any membership (etcd: checkInvariants).
fn check(membership: &Membership) -> Result<(), TestCaseError> {
    let Naive { incoming, outgoing, learners, next } = Naive::of(membership);
    prop_assert!(!incoming.is_empty(), "somebody votes");
    prop_assert!(learners.is_disjoint(&incoming), "no learner votes");
    prop_assert!(learners.is_disjoint(&outgoing), "nor in the outgoing half");
    prop_assert!(next.is_subset(&outgoing), "who waits votes in the outgoing half");
    prop_assert!(next.is_disjoint(&incoming));
    prop_assert!(membership.is_joint() || (next.is_empty() && !membership.auto_leave));
    Ok(())
}

fn change() -> impl Strategy<Value = ConfChangeSingle> {
    let kind = prop_oneof![Just(AddNode), Just(AddLearnerNode), Just(RemoveNode), Just(UpdateNode)];
    (kind, 1u64..8).prop_map(|(kind, n)| single(kind, n))
}

fn changes() -> impl Strategy<Value = Vec<ConfChangeSingle>> {
    proptest::collection::vec(change(), 0..8)
}

fn start() -> impl Strategy<Value = Membership> {
    (proptest::collection::btree_set(1u64..8, 1..5), proptest::collection::btree_set(1u64..8, 0..4))
        .prop_map(|(voters, learners)| {
            let learners: Vec<u64> = learners.difference(&voters).copied().collect();
            group(&voters.into_iter().collect::<Vec<_>>(), &learners)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// etcd: TestConfChangeQuick. Changes made one at a time lead to where the same changes lead
    /// through a joint configuration, left by itself or by hand.
    #[test]
    fn one_by_one_is_joint_and_leave(
        start in start(),
        changes in changes(),
        auto_leave in any::<bool>(),
    ) {
        let mut one_by_one = start.clone();
        for change in &changes {
            match one_by_one.simple(std::slice::from_ref(change)) {
                Ok(changed) => one_by_one = changed.membership,
                // The joint way refuses only to end without voters, so leave these lists out.
                Err(e) => {
                    prop_assert_eq!(e, ConfChangeError::RemovedAllVoters);
                    return Ok(());
                }
            }
            check(&one_by_one)?;
        }
        let joint = start.enter_joint(auto_leave, &changes).expect("the end has voters");
        check(&joint.membership)?;
        prop_assert_eq!(joint.membership.auto_leave, auto_leave);
        prop_assert_eq!(&joint.membership.voters.outgoing, &start.voters.incoming);
        let left = joint.membership.leave_joint().expect("it is joint").membership;
        check(&left)?;
        prop_assert_eq!(left, one_by_one);
    }

    /// Every change does what the sets say.
    #[test]
    fn changes_do_what_sets_do(start in start(), changes in changes(), joint in any::<bool>()) {
        let mut naive = Naive::of(&start);
        if joint {
            naive.outgoing = naive.incoming.clone();
        }
        for change in &changes {
            naive.apply(change);
        }
        let changed =
            if joint { start.enter_joint(false, &changes) } else { start.simple(&changes) };
        let before: BTreeSet<u64> = Naive::of(&start).incoming;
        match changed {
            Ok(changed) => {
                check(&changed.membership)?;
                let got = Naive::of(&changed.membership);
                prop_assert_eq!(got, naive.clone());
                prop_assert!(joint || before.symmetric_difference(&naive.incoming).count() <= 1);
                for fresh in &changed.fresh {
                    prop_assert!(changed.membership.contains(*fresh), "fresh members are members");
                }
                for member in changed.membership.members() {
                    let is_new = !start.contains(member);
                    prop_assert!(!is_new || changed.fresh.contains(&member), "new ones are fresh");
                }
            }
            Err(ConfChangeError::RemovedAllVoters) => prop_assert!(naive.incoming.is_empty()),
            Err(ConfChangeError::TooManyChanges) => {
                prop_assert!(before.symmetric_difference(&naive.incoming).count() > 1);
            }
            Err(e) => prop_assert!(false, "unexpected: {}", e),
        }
    }

    /// etcd: confchange TestRestore, TestConfState_Equivalent. Whatever the order in which the
    /// members are listed.
    #[test]
    fn a_conf_state_is_read_as_it_was_written(
        start in start(),
        changes in changes(),
        auto_leave in any::<bool>(),
        turn in 0usize..5,
    ) {
        let joint = start.enter_joint(auto_leave, &changes).map(|c| c.membership);
        for membership in std::iter::once(start).chain(joint) {
            let state = membership.conf_state();
            let mut turned = state.clone();
            for list in
                [&mut turned.voters, &mut turned.voters_outgoing, &mut turned.learners]
            {
                let len = list.len().max(1);
                list.rotate_left(turn % len);
            }
            prop_assert!(turned.is_equivalent(&state));
            let again = Membership::from_conf_state(&turned);
            prop_assert_eq!(again, Some(membership));
        }
    }

    /// What a peer or a disk claims is a membership or is none; what is one is consistent.
    #[test]
    fn impossible_conf_states_are_refused(
        lists in proptest::collection::vec(proptest::collection::vec(1u64..5, 0..4), 4),
        auto_leave in any::<bool>(),
    ) {
        let state = ConfState {
            voters: ids(&lists[0]),
            voters_outgoing: ids(&lists[1]),
            learners: ids(&lists[2]),
            learners_next: ids(&lists[3]),
            auto_leave,
        };
        if let Some(membership) = Membership::from_conf_state(&state)
            && !membership.voters.incoming.is_empty()
            && (membership.is_joint() || !auto_leave)
        {
            check(&membership)?;
        }
    }

    /// M10: who stays keeps what is known of its log, whatever it becomes; who is new starts anew,
    /// and counts as active until the next check (etcd: TestAddNodeCheckQuorum).
    #[test]
    fn progress_follows_the_membership(start in start(), changes in changes()) {
        let mut progress = ProgressMap::default();
        for member in start.members() {
            let mut pr = Progress::new(50, start.is_learner(member));
            pr.matched = member.get();
            progress.insert(member, pr);
        }
        let Ok(changed) = start.enter_joint(true, &changes) else { return Ok(()) };
        changed.reconcile(&mut progress, 100);
        let members: BTreeSet<NodeId> = changed.membership.members().collect();
        let tracked: BTreeSet<NodeId> = progress.iter().map(|(id, _)| id).collect();
        prop_assert_eq!(&tracked, &members);
        for (member, pr) in progress.iter() {
            prop_assert_eq!(pr.is_learner, changed.membership.is_learner(member));
            if changed.fresh.contains(&member) {
                prop_assert_eq!((pr.matched, pr.next, pr.recent_active), (0, 100, true));
            } else {
                prop_assert_eq!(pr.matched, member.get());
            }
        }
    }
}

/// Each rule that refuses a change, and that nothing has changed then.
#[test]
fn changes_that_cannot_be_made_are_refused() {
    let plain = group(&[1, 2, 3], &[]);
    let joint = plain.enter_joint(false, &[single(AddNode, 4)]).expect("valid").membership;
    let lone = group(&[1], &[]);
    let cases = [
        (plain.simple(&[single(AddNode, 4), single(AddNode, 5)]), ConfChangeError::TooManyChanges),
        (
            plain.simple(&[single(AddNode, 4), single(RemoveNode, 1)]),
            ConfChangeError::TooManyChanges,
        ),
        (lone.simple(&[single(RemoveNode, 1)]), ConfChangeError::RemovedAllVoters),
        (lone.simple(&[single(AddLearnerNode, 1)]), ConfChangeError::RemovedAllVoters),
        (lone.enter_joint(true, &[single(RemoveNode, 1)]), ConfChangeError::RemovedAllVoters),
        (
            Membership::default().enter_joint(true, &[single(AddNode, 1)]),
            ConfChangeError::ZeroVoters,
        ),
        (joint.simple(&[single(AddNode, 5)]), ConfChangeError::SimpleWhileJoint),
        (joint.enter_joint(true, &[single(AddNode, 5)]), ConfChangeError::AlreadyJoint),
        (plain.leave_joint(), ConfChangeError::NotJoint),
    ];
    for (result, error) in cases {
        assert_eq!(result, Err(error));
    }
}

/// etcd: TestRawNodeProposeAndConfChange, the configurations: which way each change takes.
#[test]
fn a_change_takes_the_way_it_names() {
    let start = group(&[1], &[]);
    let change = |transition, changes: &[ConfChangeSingle]| ConfChange {
        transition,
        changes: changes.to_vec(),
        ..ConfChange::default()
    };
    let cases = [
        (change(Transition::Auto, &[single(AddNode, 2)]), "voters=(1 2)"),
        (change(Transition::Auto, &[single(AddLearnerNode, 2)]), "voters=(1) learners=(2)"),
        (change(Transition::Auto, &[single(UpdateNode, 1)]), "voters=(1)"),
        (
            change(Transition::JointExplicit, &[single(AddLearnerNode, 2)]),
            "voters=(1)&&(1) learners=(2)",
        ),
        (
            change(Transition::JointImplicit, &[single(AddLearnerNode, 2)]),
            "voters=(1)&&(1) learners=(2) autoleave",
        ),
        (
            change(
                Transition::Auto,
                &[single(AddNode, 2), single(AddLearnerNode, 1), single(AddLearnerNode, 3)],
            ),
            "voters=(2)&&(1) learners=(3) learners_next=(1) autoleave",
        ),
        (
            change(
                Transition::JointExplicit,
                &[single(AddNode, 2), single(AddLearnerNode, 1), single(AddLearnerNode, 3)],
            ),
            "voters=(2)&&(1) learners=(3) learners_next=(1)",
        ),
    ];
    for (change, expected) in cases {
        let changed = start.changed(&change).expect("valid");
        assert_eq!(changed.membership.to_string(), expected, "{change:?}");
    }
    let joint = start.changed(&cases_joint()).expect("valid").membership;
    let left = joint.changed(&ConfChange::leave_joint()).expect("it is joint").membership;
    assert_eq!(left.to_string(), "voters=(2) learners=(1 3)");
}

fn cases_joint() -> ConfChange {
    ConfChange {
        transition: Transition::JointExplicit,
        changes: vec![single(AddNode, 2), single(AddLearnerNode, 1), single(AddLearnerNode, 3)],
        ..ConfChange::default()
    }
}

/// A member that leaves and comes back by the same change is a stranger: its disk may be new.
#[test]
fn who_leaves_and_comes_back_is_fresh() {
    let start = group(&[1, 2], &[3]);
    let changed = start.simple(&[single(RemoveNode, 3), single(AddLearnerNode, 3)]).expect("valid");
    assert_eq!(changed.fresh, ids(&[3]));
    let promoted = start.simple(&[single(AddNode, 3)]).expect("valid");
    assert!(promoted.fresh.is_empty(), "a promotion is no news of the log");
}
