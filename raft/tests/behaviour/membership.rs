//! Membership changes (§6, T§4).

use raft::{ConfChangeKind, Transition};

use crate::common::build::changes;
use crate::common::group;

/// M6: leaving a joint configuration is refused while leadership is being handed over; it is tried
/// again afterwards, without waiting for another entry to be applied.
#[test]
fn leaving_is_tried_again_after_a_transfer() {
    let mut net = group(3);
    net.campaign(1);
    let demote = changes(Transition::JointImplicit, &[(ConfChangeKind::AddLearnerNode, 3)]);
    net.node(1).hold_applies = true;
    net.change(1, &demote);
    // 2 does not answer the call to take over.
    net.isolate(2);
    net.transfer(1, 2);
    net.node(1).apply_all();
    net.node(1).hold_applies = false;
    net.pump();
    assert!(net.node(1).raw.membership().is_joint());
    net.heal();
    net.run(30);
    assert_eq!(net.node(1).raw.membership().to_string(), "voters=(1 2) learners=(3)");
    net.assert_equal();
}
