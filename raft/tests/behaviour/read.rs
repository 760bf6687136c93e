//! Linearizable reads (§8, T§6.4).

use crate::common::server;

/// I9: the commit index of a group of one, after a restart, may be older than what was
/// acknowledged; its reads wait for an entry of the new term like everybody's.
#[test]
fn a_lone_leader_waits_for_its_first_commit() {
    let mut node = server(1, &[1]).log(&[1, 1, 1]).commit(1).start();
    node.settle();
    node.stand();
    assert_eq!(node.raw.commit(), 4, "as soon as its own disk has it");

    let mut node = server(1, &[1]).log(&[1, 1, 1]).commit(1).start();
    node.settle();
    node.raw.campaign();
    let ready = node.raw.ready();
    node.work(ready);
    assert!(node.raw.commit() < 4, "it leads, and its first entry is not written");
    node.raw.read_index("early".into()).expect("it leads");
    assert!(node.reads.is_empty());
    node.settle();
    assert_eq!(node.reads[0].index, 4, "with everything that was there before");
    node.raw.read_index("later".into()).expect("it leads");
    node.settle();
    assert_eq!(node.reads[1].index, 4);
}
