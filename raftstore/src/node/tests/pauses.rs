//! A process that stood still, while the others went on.

use raft::ReadMode;

use super::*;

/// A process that stood still has missed its own ticks. What it takes up then is not answered by a
/// lease that the others have seen end: it makes up for the ticks first, whoever looked at the clock
/// before.
#[test]
fn a_loop_that_stood_still_does_not_trust_its_lease() {
    for sync in [SyncMode::Writer, SyncMode::Inline] {
        let cluster = Cluster::in_dirs(move |config| {
            config.sync = sync;
            config.store.read_mode = ReadMode::Lease;
        });
        let old = cluster.must_apply(&STORES, "first");
        assert_eq!(cluster.answers.wait(cluster.read(old)), Outcome::Read(1));
        // Its thread looks at the clock once more, and then waits for the turn.
        let held = cluster.nodes[&old].0.turn.hold();
        // Nobody tells it what it is to find out by itself.
        cluster.network.add_filter(Arc::new(move |from, to, _| from != old && to != old));
        let rest: Vec<_> = STORES.into_iter().filter(|&id| id != old).collect();
        cluster.must_apply(&rest, "second");
        let read = cluster.read(old);
        drop(held);
        wait("it to see that it leads nobody, or an answer", || {
            let has_lost = cluster.status(old).role != RoleKind::Leader;
            (has_lost || cluster.answers.of(read).is_some()).then_some(())
        });
        cluster.network.clear_filters();
        let told = cluster.answers.wait(read);
        let is_true = matches!(told, Outcome::Read(2) | Outcome::Refused(_));
        assert!(is_true, "{sync:?}: {told:?}, after two commands");
        cluster.finish();
    }
}
