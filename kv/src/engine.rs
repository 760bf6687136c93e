//! The engine: what the regions of a store hold, and how far each has got.
//!
//! It is a sorted map per column family, all regions side by side in it, and a table of regions with
//! the position of the last entry each has applied. There is one writer. A batch of changes and the
//! applied position that goes with it become visible together ([`Engine::write`]); a snapshot
//! ([`Engine::snapshot`]) is a state between two batches, costs O(1), and can be read on any thread
//! for as long as anybody likes. What only a snapshot can see is freed with it.
//!
//! ```
//! use std::sync::Arc;
//! use kv::Cf;
//! use kv::engine::{Engine, MemEngine, MemReader, MemSnapshot, Memory, Read, RegionState, Write};
//! use raft::LogId;
//! use raftstore::{Region, StoreId};
//!
//! let mut engine = MemEngine::new();
//! let region = Arc::new(Region::first(&[StoreId(1)]));
//! let id = region.id;
//! engine.set_region(RegionState { region, applied: LogId::ZERO });
//! engine.write(id, LogId::new(1, 1), |batch: &mut dyn Write| {
//!     batch.put(Cf::Default, b"a", b"1");
//!     batch.put(Cf::Default, b"b", b"2");
//! });
//!
//! // A snapshot stays as it is, on any thread, whatever is written after it …
//! let reader: MemReader = engine.reader();
//! let before: MemSnapshot = reader.snapshot();
//! engine.write(id, LogId::new(1, 2), |batch| batch.delete(Cf::Default, b"a"));
//! assert_eq!(before.get(Cf::Default, b"a").as_deref(), Some(&b"1"[..]));
//! let mut backwards = Vec::new();
//! before.scan(Cf::Default, b"", b"", true, &mut |key, _| {
//!     backwards.push(key.to_vec());
//!     true
//! });
//! assert_eq!(backwards, [b"b", b"a"]);
//!
//! // … and what only it can see is accounted for until it goes.
//! let Memory { keys, superseded_bytes, snapshots, .. } = engine.memory();
//! assert!(keys == 1 && superseded_bytes > 0 && snapshots == 1);
//! assert_eq!(before.region(id).map(|state| state.applied), Some(LogId::new(1, 1)));
//! drop(before);
//! assert_eq!(engine.memory().superseded_bytes, 0);
//! ```
//!
//! The engine of this crate, [`MemEngine`], keeps everything in memory; `checkpoint` makes it
//! durable. The traits are the seam for one that keeps data on disk.

mod keys;
mod mem;
mod tree;

use std::borrow::Cow;
use std::sync::Arc;

use raft::LogId;
use raftstore::{Region, RegionId};

use crate::command::Cf;

pub use mem::{MemEngine, MemReader, MemSnapshot, Memory};

/// A consistent state.
///
/// A range has its `start` and not its `end`; an empty bound is no bound.
pub trait Read {
    /// The value of a key.
    fn get(&self, cf: Cf, key: &[u8]) -> Option<Cow<'_, [u8]>>;

    /// Shows `visit` the keys and values of a range in order, or from last to first, until it says
    /// that it has seen enough by returning false.
    fn scan(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    );

    /// How many keys a range has.
    fn count(&self, cf: Cf, start: &[u8], end: &[u8]) -> u64;

    /// A region and how far it has got.
    fn region(&self, id: RegionId) -> Option<RegionState>;

    /// All regions, in the order of their ids.
    fn regions(&self) -> Vec<RegionState>;
}

/// The batch that is being written: it reads its own changes.
pub trait Write: Read {
    /// Sets the value of a key; returns whether it had one.
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> bool;

    /// Removes the value of a key; returns whether it had one.
    fn delete(&mut self, cf: Cf, key: &[u8]) -> bool;

    /// Adds a region, or replaces its description and position.
    fn set_region(&mut self, state: RegionState);
}

/// A region, and the last entry that is part of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionState {
    /// The region.
    pub region: Arc<Region>,
    /// The last entry applied; [`LogId::ZERO`] before the first.
    pub applied: LogId,
}

/// Where the state is kept.
pub trait Engine: Send + 'static {
    /// A state that stays as it is.
    type Snapshot: Read + Clone + Send + Sync + 'static;

    /// The state as of the last batch. O(1).
    fn snapshot(&self) -> Self::Snapshot;

    /// Makes the changes of `change`, and `applied` the position of `region`, as one.
    ///
    /// # Panics
    /// If there is no such region: its entries are not handed out before it is created.
    fn write<R>(
        &mut self,
        region: RegionId,
        applied: LogId,
        change: impl FnOnce(&mut dyn Write) -> R,
    ) -> R;

    /// Adds a region, or replaces it together with its position.
    fn set_region(&mut self, state: RegionState);
}

#[cfg(test)]
mod tests;
