//! TinyKV's tests of this kind, by name, for both kinds of clusters.
//!
//! What differs from the originals is in [`crate::generic`]; what they demand beyond it is here: with
//! a short log every store has forgotten the beginning of it, a restart begins from such a log, and
//! the log stays short.

use crate::cluster::{Cluster, Stop, ThreadOptions};
use crate::generic::{Generic, Outcome};
use crate::sim::{Options, ms};

/// Entries that a short log keeps for a store that is away. TinyKV's is 100, for rounds of five
/// seconds; these are of one.
pub const SHORT: u64 = 20;

/// A test with a name.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// TinyKV's.
    pub name: &'static str,
    /// Whether the log is to be short.
    pub is_short: bool,
    clients: usize,
    unreliable: bool,
    crash: bool,
    partitions: bool,
}

const fn named(name: &'static str, clients: usize) -> Named {
    let (unreliable, crash, partitions, is_short) = (false, false, false, false);
    Named { name, is_short, clients, unreliable, crash, partitions }
}

/// The tests of part 2B and 2C that are of this kind. (OnePartition2B and OneSnapshot2C have scenarios of
/// their own.)
pub const SUITE: [Named; 15] = [
    named("Basic2B", 1),
    named("Concurrent2B", 5),
    Named { unreliable: true, ..named("Unreliable2B", 5) },
    Named { partitions: true, ..named("ManyPartitionsOneClient2B", 1) },
    Named { partitions: true, ..named("ManyPartitionsManyClients2B", 5) },
    Named { crash: true, ..named("PersistOneClient2B", 1) },
    Named { crash: true, ..named("PersistConcurrent2B", 5) },
    Named { crash: true, unreliable: true, ..named("PersistConcurrentUnreliable2B", 5) },
    Named { crash: true, partitions: true, ..named("PersistPartition2B", 5) },
    Named {
        crash: true,
        unreliable: true,
        partitions: true,
        ..named("PersistPartitionUnreliable2B", 5)
    },
    Named { is_short: true, crash: true, ..named("SnapshotRecover2C", 1) },
    Named { is_short: true, crash: true, ..named("SnapshotRecoverManyClients2C", 20) },
    Named { is_short: true, unreliable: true, ..named("SnapshotUnreliable2C", 5) },
    Named {
        is_short: true,
        unreliable: true,
        crash: true,
        ..named("SnapshotUnreliableRecover2C", 5)
    },
    Named {
        is_short: true,
        unreliable: true,
        crash: true,
        partitions: true,
        ..named("SnapshotUnreliableRecoverConcurrentPartition2C", 5)
    },
];

/// The test with that name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn test(name: &str) -> Named {
    let found = SUITE.into_iter().find(|test| test.name == name);
    found.unwrap_or_else(|| panic!("no test is called {name}"))
}

impl Named {
    /// What it does to a cluster.
    #[must_use]
    pub fn generic(&self, seed: u64) -> Generic {
        Generic {
            clients: self.clients,
            unreliable: self.unreliable,
            crash: self.crash.then_some(Stop::PowerLoss),
            partitions: self.partitions,
            ..Generic::new(seed)
        }
    }

    /// Runs it on five simulated stores. Returns how many snapshots were installed.
    ///
    /// # Panics
    /// If the cluster does not do what it must.
    #[must_use]
    pub fn on_sim(&self, seed: u64) -> u64 {
        let mut options = Options::new(5, seed);
        if self.is_short {
            options.log_gc_count_limit = SHORT;
            options.compact_entries = SHORT;
            options.checkpoint_bytes = 64;
        }
        let mut cluster = Cluster::simulated(options);
        let outcome = self.generic(seed).run(&mut cluster);
        self.judge(&mut cluster, outcome);
        cluster.sim_mut().map_or(0, |sim| sim.world().installed())
    }

    /// Runs it on five nodes with threads and directories, in shorter rounds. Their power cannot be
    /// taken, so they are killed.
    ///
    /// # Panics
    /// If the cluster does not do what it must.
    pub fn on_threads(&self, seed: u64) {
        let mut options = ThreadOptions::new(5);
        if self.is_short {
            options.log_gc_count_limit = SHORT;
            options.checkpoint_bytes = 64;
        }
        let mut cluster = Cluster::threaded(options);
        let generic = Generic { rounds: 2, round: ms(500), ..self.generic(seed) };
        let outcome = generic.run(&mut cluster);
        self.judge(&mut cluster, outcome);
    }

    fn judge(&self, cluster: &mut Cluster, outcome: Outcome) {
        if !self.is_short {
            return;
        }
        cluster.logs_are_bounded(SHORT);
        for store in cluster.stores() {
            let status = cluster.status(store).expect("all run at the end");
            assert!(status.compacted > 0, "{store:?} has its whole log: {status:?}");
        }
        assert!(!self.crash || outcome.short_restarts > 0, "all restarts had the whole log");
    }
}
