//! A region as it was at one moment, for whoever asked.

use std::sync::Arc;

use bytes::Bytes;
use raft::LogId;
use raftstore::Region;

use crate::command::Cf;
use crate::engine::{MemSnapshot, Read, RegionState};
use crate::hash;

/// A consistent view of one region. It can be read on any thread and kept for as long as anybody
/// likes; what only it can see stays in memory until it is dropped.
///
/// ```
/// # use kv::{Callback, KvMachine, Query};
/// # use raftstore::{Machine, Region, StoreId};
/// # let region = Region::first(&[StoreId(1)]);
/// # let mut machine = KvMachine::in_memory();
/// # machine.create(region.clone());
/// let (callback, answer) = Callback::pair();
/// machine.read(region.id, vec![Query::snapshot(region.epoch, callback)]);
/// let snapshot: kv::RegionSnapshot = answer.recv()??;
/// assert_eq!(snapshot.count(kv::Cf::Default, b"", b""), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RegionSnapshot {
    state: MemSnapshot,
    region: Arc<Region>,
    applied: LogId,
}

impl RegionSnapshot {
    pub(crate) fn new(state: MemSnapshot, region: Arc<Region>, applied: LogId) -> RegionSnapshot {
        RegionSnapshot { state, region, applied }
    }

    /// The region and the position, as they are kept.
    pub(crate) fn region_state(&self) -> RegionState {
        RegionState { region: Arc::clone(&self.region), applied: self.applied }
    }

    /// All pairs of the region in a column family.
    pub(crate) fn pairs(&self, cf: Cf) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.state.range(cf, &self.region.start_key, &self.region.end_key)
    }

    /// The region, as of then.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The last entry that is part of it.
    #[must_use]
    pub fn applied(&self) -> LogId {
        self.applied
    }

    /// The value of a key; `None` also for one that the region does not have.
    #[must_use]
    pub fn get(&self, cf: Cf, key: &[u8]) -> Option<Bytes> {
        let value = if self.region.contains(key) { self.state.get(cf, key) } else { None };
        value.map(|value| Bytes::copy_from_slice(&value))
    }

    /// How many keys of the region are in the range; an empty bound is the region's own.
    #[must_use]
    pub fn count(&self, cf: Cf, start: &[u8], end: &[u8]) -> u64 {
        let (start, end) = self.clip(start, end);
        self.state.count(cf, start, end)
    }

    /// Shows `visit` the keys and values of the region that are in the range, in order or from last
    /// to first, until it returns false. An empty bound is the region's own.
    pub fn scan(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        let (start, end) = self.clip(start, end);
        self.state.scan(cf, start, end, reverse, visit);
    }

    /// As [`crate::KvMachine::state_hash`].
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        hash::of_region(&self.region, &self.state)
    }

    /// What the range and the region have in common.
    fn clip<'a>(&'a self, start: &'a [u8], end: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let (from, to) = (&*self.region.start_key, &*self.region.end_key);
        let end = match (end, to) {
            ([], bound) | (bound, []) => bound,
            (end, to) => end.min(to),
        };
        (start.max(from), end)
    }
}
