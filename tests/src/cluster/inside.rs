//! What a single store has and has counted, looked at from outside; clusters whose limits are small.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kv::{Cf, Op, OpResult};
use raftstore::StoreId;
use raftstore::disk::Disk;
use raftstore::node::metrics::LogSizes;
use raftstore::store::Counters;
use raftstore::wal::LogReader;

use crate::cluster::{Cluster, ThreadCluster};

/// What can be chosen about a cluster of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadOptions {
    /// How many stores, each a voter of all regions.
    pub stores: u64,
    /// How many regions ([`crate::regions`]), at least 1.
    pub regions: u64,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Entries that the log keeps for a store that is away.
    pub log_gc_count_limit: u64,
    /// Bytes by which the log grows until the state machine makes its state durable.
    pub checkpoint_bytes: u64,
}

impl ThreadOptions {
    /// The limits that stores have by default.
    #[must_use]
    pub fn new(stores: u64) -> ThreadOptions {
        ThreadOptions {
            stores,
            regions: 1,
            // Small, so that segments are changed now and then.
            segment_bytes: 1 << 20,
            log_gc_count_limit: 128_000,
            checkpoint_bytes: 64 << 20,
        }
    }
}

/// The log of a running store, to be looked at while it is written.
#[derive(Clone)]
pub struct LogSight {
    /// Reads entries back.
    pub reader: LogReader,
    /// How large it was when it was last cleaned up.
    pub sizes: LogSizes,
}

impl fmt::Debug for LogSight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sizes.fmt(f)
    }
}

impl Cluster {
    /// Real nodes in this process, with those limits.
    ///
    /// # Panics
    /// If a store does not start.
    #[must_use]
    pub fn threaded(options: ThreadOptions) -> Cluster {
        match ThreadCluster::with(options) {
            Ok(threads) => Cluster::over(Box::new(threads)),
            Err(failure) => panic!("the cluster does not start: {failure}"),
        }
    }

    /// Removes a key of a column family.
    ///
    /// # Panics
    /// If nobody does it in time.
    pub fn must_delete_cf(&mut self, cf: Cf, key: impl Into<Bytes>) {
        let result = self.one(Op::Delete { cf, key: key.into(), return_old: false });
        assert!(matches!(result, OpResult::Deleted { .. }), "delete gives {result:?}");
    }

    /// A value as a running store has it in its own state now.
    #[must_use]
    pub fn value_on(&self, store: StoreId, cf: Cf, key: &str) -> Option<Bytes> {
        self.back.peek(store, cf, key.as_bytes())
    }

    /// Waits until the log of no store is longer than twice the limit.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn logs_are_bounded(&mut self, limit: u64) {
        self.wait_for("all logs to be compacted", |cluster| {
            let statuses = cluster.stores().into_iter().filter_map(|id| cluster.status(id));
            let mut lengths = statuses.map(|status| status.applied - status.compacted);
            lengths.all(|length| length <= 2 * limit).then_some(())
        });
    }

    /// The log of a running store.
    #[must_use]
    pub fn log(&self, store: StoreId) -> Option<LogSight> {
        self.back.log(store)
    }

    /// The disk of a store that does not run.
    ///
    /// # Errors
    /// If it runs, or its directory cannot be opened.
    pub fn disk(&self, store: StoreId) -> Result<Arc<dyn Disk>, String> {
        self.back.disk(store)
    }

    /// What a running store has counted in this life.
    #[must_use]
    pub fn counters(&self, store: StoreId) -> Option<Counters> {
        self.back.counters(store)
    }
}
