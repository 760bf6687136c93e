//! What is written is read back, and what is not ours is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::{ConfChange, ConfChangeKind, ConfChangeSingle, Transition};
use crate::error::ConfChangeError;
use crate::types::NodeId;

fn single() -> impl Strategy<Value = ConfChangeSingle> {
    let kind = prop_oneof![
        Just(ConfChangeKind::AddNode),
        Just(ConfChangeKind::RemoveNode),
        Just(ConfChangeKind::UpdateNode),
        Just(ConfChangeKind::AddLearnerNode),
    ];
    (kind, 1..=u64::MAX)
        .prop_map(|(kind, n)| ConfChangeSingle { kind, node: NodeId::new(n).expect("not zero") })
}

fn change() -> impl Strategy<Value = ConfChange> {
    let transition = prop_oneof![
        Just(Transition::Auto),
        Just(Transition::JointImplicit),
        Just(Transition::JointExplicit),
    ];
    let context = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    (transition, proptest::collection::vec(single(), 0..6), context)
        .prop_map(|(transition, changes, context)| ConfChange { transition, changes, context })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_change_is_read_as_it_was_written(change in change()) {
        prop_assert_eq!(ConfChange::decode(&change.encode()), Ok(change));
    }

    /// An entry's payload is a peer's claim: any bytes give a change or an error, and a change
    /// that was read is written the same way again.
    #[test]
    fn garbage_is_refused_or_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let bytes = Bytes::from(bytes);
        match ConfChange::decode(&bytes) {
            Ok(change) if change == ConfChange::leave_joint() => {}
            Ok(change) => prop_assert_eq!(change.encode(), bytes),
            Err(e) => prop_assert_eq!(e, ConfChangeError::Malformed),
        }
    }

    /// Bytes cut or changed anywhere never panic.
    #[test]
    fn damage_never_panics(change in change(), at in 0usize..64, flip in 1u8..=255) {
        let mut bytes = change.encode().to_vec();
        let cut = Bytes::copy_from_slice(&bytes[..at.min(bytes.len())]);
        let _ = ConfChange::decode(&cut);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= flip;
        }
        let _ = ConfChange::decode(&Bytes::from(bytes));
    }
}

/// etcd: TestLeaveJoint. An empty change, with or without a context, leaves a joint configuration;
/// a transition named explicitly does not.
#[test]
fn an_empty_change_leaves_a_joint_configuration() {
    assert!(ConfChange::leave_joint().is_leave_joint());
    assert!(ConfChange::leave_joint().encode().is_empty());
    assert_eq!(ConfChange::decode(&Bytes::new()), Ok(ConfChange::leave_joint()));
    let with_context = ConfChange { context: Bytes::from_static(b"x"), ..ConfChange::default() };
    assert!(with_context.is_leave_joint());
    let explicit = ConfChange { transition: Transition::JointExplicit, ..ConfChange::default() };
    assert!(!explicit.is_leave_joint());
}

/// Which way a change takes, as its transition and its length say.
#[test]
fn several_changes_go_through_a_joint_configuration() {
    let one =
        ConfChangeSingle { kind: ConfChangeKind::AddNode, node: NodeId::new(4).expect("not zero") };
    let cases = [
        (Transition::Auto, 0, None),
        (Transition::Auto, 1, None),
        (Transition::Auto, 2, Some(true)),
        (Transition::JointImplicit, 1, Some(true)),
        (Transition::JointImplicit, 2, Some(true)),
        (Transition::JointExplicit, 1, Some(false)),
        (Transition::JointExplicit, 2, Some(false)),
    ];
    for (transition, len, enters) in cases {
        let change = ConfChange { transition, changes: vec![one; len], context: Bytes::new() };
        assert_eq!(change.enters_joint(), enters, "{transition:?} of {len}");
    }
}

/// The layout of the module's table, byte by byte: it is on disks.
#[test]
fn the_layout_stays() {
    let change = ConfChange {
        transition: Transition::JointExplicit,
        changes: vec![ConfChangeSingle {
            kind: ConfChangeKind::AddLearnerNode,
            node: NodeId::new(0x0102).expect("not zero"),
        }],
        context: Bytes::from_static(b"ctx"),
    };
    assert_eq!(&change.encode()[..], b"\x02\x01\x00\x03\x02\x01\0\0\0\0\0\0ctx");
}

/// Node id 0 is nobody, and nobody can be added.
#[test]
fn id_zero_is_refused() {
    let zero = Bytes::from_static(b"\x00\x01\x00\x00\0\0\0\0\0\0\0\0");
    assert_eq!(ConfChange::decode(&zero), Err(ConfChangeError::Malformed));
}
