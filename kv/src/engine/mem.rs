//! The engine in memory: three trees and a table, under one lock that only changes hands between
//! batches.
//!
//! ```text
//! applier ── write ──► [lock] trees, regions        readers ── snapshot ──► clones of the roots
//! ```
//!
//! The lock is held for one batch, a microsecond or so, and for the clone of a few pointers. Reading
//! a snapshot takes no lock at all.
//!
//! **Copies.** Keys and values are copied out of the log entry, a value into an allocation of exactly
//! its size, always. A slice would pin the whole network frame or log segment that the entry came in: a
//! 10-byte value that is never overwritten could hold megabytes. The copy of 256 B costs about 10
//! ns, and search and allocation dwarf it; that of 4 MiB less than writing it to the log did.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use raft::LogId;
use raftstore::RegionId;

use super::tree::{Range, Stats, Tree, stats_of};
use super::{Engine, Read, RegionState, Write};
use crate::blocks::Visit;
use crate::command::Cf;

/// The engine that keeps everything in memory. The only writer; readers use [`MemEngine::reader`].
#[derive(Debug, Default)]
pub struct MemEngine {
    shared: Arc<Mutex<State>>,
}

/// Takes snapshots of a [`MemEngine`] on any thread.
#[derive(Clone, Debug)]
pub struct MemReader {
    shared: Arc<Mutex<State>>,
}

/// A state between two batches. `Clone` is O(1).
#[derive(Clone, Default)]
pub struct MemSnapshot {
    content: Content,
    /// Counted by the engine, to know whether anybody still looks.
    _live: Arc<()>,
}

/// What an engine takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Keys in all column families.
    pub keys: u64,
    /// Bytes of the current state: keys, values, and 64 for the overhead of each.
    pub live_bytes: u64,
    /// Bytes overwritten or deleted since somebody began to hold a snapshot: at most this much is
    /// kept for snapshots alone. 0 without any.
    pub superseded_bytes: u64,
    /// How many snapshots are held.
    pub snapshots: usize,
}

#[derive(Clone, Default)]
struct Content {
    trees: [Tree; Cf::ALL.len()],
    regions: Arc<BTreeMap<RegionId, RegionState>>,
}

#[derive(Default)]
struct State {
    content: Content,
    live: Arc<()>,
    superseded_bytes: u64,
    /// A batch has begun and not ended. Seen only after a panic in the middle of one.
    torn: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.memory().fmt(f)
    }
}

impl fmt::Debug for MemSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemSnapshot")
            .field("keys", &self.content.stats().len)
            .field("regions", &self.content.regions.len())
            .finish()
    }
}

impl MemEngine {
    /// An engine without any region.
    #[must_use]
    pub fn new() -> MemEngine {
        MemEngine::default()
    }

    /// For other threads.
    #[must_use]
    pub fn reader(&self) -> MemReader {
        MemReader { shared: Arc::clone(&self.shared) }
    }

    /// What it takes.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.shared.lock().memory()
    }

    /// Adds a pair without a batch: a checkpoint is being read, and nobody else looks yet.
    pub(crate) fn load(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        self.shared.lock().batch().put(cf, key, value);
    }

    /// Replaces everything that a region holds, with its description and position: by what `load`
    /// gives, once it has given all of it. Readers see all of the old or all of the new.
    ///
    /// # Errors
    /// Those of `load`. Nothing has changed then.
    pub(crate) fn replace_region<E>(
        &mut self,
        load: impl FnOnce(&mut Visit<'_>) -> Result<RegionState, E>,
    ) -> Result<RegionState, E> {
        // The only writer is here, so nothing changes meanwhile.
        let mut content = self.shared.lock().snapshot().content;
        let mut loaded: [Tree; Cf::ALL.len()] = Default::default();
        let state = load(&mut |cf, key, value| {
            loaded[cf as usize].insert(key, Arc::from(value));
        })?;
        let known = content.region(state.region.id).map(|known| known.region);
        let before = content.stats().bytes;
        for region in known.iter().chain([&state.region]) {
            content.trees.iter_mut().for_each(|tree| {
                clear(tree, &region.start_key, &region.end_key);
            });
        }
        let removed = before - content.stats().bytes;
        for (tree, loaded) in content.trees.iter_mut().zip(loaded) {
            take_over(tree, loaded);
        }
        Arc::make_mut(&mut content.regions).insert(state.region.id, state.clone());
        let mut shared = self.shared.lock();
        shared.assert_whole();
        shared.superseded_bytes += removed;
        let old = std::mem::replace(&mut shared.content, content);
        drop(shared);
        // May take long, and nobody needs to wait for it.
        drop(old);
        Ok(state)
    }

    /// Runs `read` on the state as it is, without taking a snapshot. Nobody can write meanwhile.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&dyn Read) -> R) -> R {
        let state = self.shared.lock();
        state.assert_whole();
        read(&state.content)
    }
}

/// Removes the keys of a range.
fn clear(tree: &mut Tree, start: &[u8], end: &[u8]) {
    if start.is_empty() && end.is_empty() {
        *tree = Tree::default();
        return;
    }
    let keys: Vec<Vec<u8>> = tree.range(start, end).map(|(key, _)| key.to_vec()).collect();
    for key in keys {
        tree.remove(&key);
    }
}

/// Puts everything of `from` into `tree`.
fn take_over(tree: &mut Tree, from: Tree) {
    if tree.stats().len == 0 {
        *tree = from;
        return;
    }
    for (key, value) in from.range(b"", b"") {
        tree.insert(key, Arc::clone(value));
    }
}

impl MemReader {
    /// The state as of the last batch. O(1).
    #[must_use]
    pub fn snapshot(&self) -> MemSnapshot {
        self.shared.lock().snapshot()
    }

    /// What the engine takes.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.shared.lock().memory()
    }
}

impl Engine for MemEngine {
    type Snapshot = MemSnapshot;

    fn snapshot(&self) -> MemSnapshot {
        self.shared.lock().snapshot()
    }

    fn write<R>(
        &mut self,
        region: RegionId,
        applied: LogId,
        change: impl FnOnce(&mut dyn Write) -> R,
    ) -> R {
        let mut state = self.shared.lock();
        state.assert_whole();
        state.torn = true;
        let mut batch = state.batch();
        let result = change(&mut batch);
        let at = Arc::make_mut(&mut batch.content.regions).get_mut(&region);
        at.expect("entries come after their region is created").applied = applied;
        state.torn = false;
        result
    }

    fn set_region(&mut self, region: RegionState) {
        self.shared.lock().batch().set_region(region);
    }
}

impl State {
    fn batch(&mut self) -> Batch<'_> {
        if Arc::strong_count(&self.live) == 1 {
            self.superseded_bytes = 0;
        }
        let State { content, superseded_bytes, .. } = self;
        Batch { content, superseded_bytes }
    }

    fn snapshot(&self) -> MemSnapshot {
        self.assert_whole();
        MemSnapshot { content: self.content.clone(), _live: Arc::clone(&self.live) }
    }

    fn assert_whole(&self) {
        assert!(!self.torn, "nobody sees half a batch");
    }

    fn memory(&self) -> Memory {
        let stats = self.content.stats();
        let snapshots = Arc::strong_count(&self.live) - 1;
        Memory {
            keys: stats.len,
            live_bytes: stats.bytes,
            superseded_bytes: if snapshots == 0 { 0 } else { self.superseded_bytes },
            snapshots,
        }
    }
}

/// The state with a batch under way.
struct Batch<'a> {
    content: &'a mut Content,
    superseded_bytes: &'a mut u64,
}

impl Write for Batch<'_> {
    fn put(&mut self, cf: Cf, key: &[u8], value: &[u8]) -> bool {
        let old = self.content.trees[cf as usize].insert(key, Arc::from(value));
        *self.superseded_bytes += old.as_ref().map_or(0, |old| stats_of(key, old).bytes);
        old.is_some()
    }

    fn delete(&mut self, cf: Cf, key: &[u8]) -> bool {
        let old = self.content.trees[cf as usize].remove(key);
        *self.superseded_bytes += old.as_ref().map_or(0, |old| stats_of(key, old).bytes);
        old.is_some()
    }

    fn set_region(&mut self, state: RegionState) {
        Arc::make_mut(&mut self.content.regions).insert(state.region.id, state);
    }
}

impl Content {
    fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.trees.iter().for_each(|tree| sum.add(tree.stats()));
        sum
    }
}

impl Read for Content {
    fn get(&self, cf: Cf, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.trees[cf as usize].get(key).map(|value| Cow::Borrowed(&**value))
    }

    fn scan(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        let tree = &self.trees[cf as usize];
        let range = if reverse { tree.range_back(start, end) } else { tree.range(start, end) };
        for (key, value) in range {
            if !visit(key, value) {
                return;
            }
        }
    }

    fn count(&self, cf: Cf, start: &[u8], end: &[u8]) -> u64 {
        self.trees[cf as usize].within(start, end).len
    }

    fn region(&self, id: RegionId) -> Option<RegionState> {
        self.regions.get(&id).cloned()
    }

    fn regions(&self) -> Vec<RegionState> {
        self.regions.values().cloned().collect()
    }
}

impl MemSnapshot {
    /// The keys and values of a range, in order; its end excluded, and empty for no bound.
    pub(crate) fn range(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = (&[u8], &[u8])> {
        let range: Range<'_> = self.content.trees[cf as usize].range(start, end);
        range.map(|(key, value)| (key, &**value))
    }
}

/// Reads of a batch and of a snapshot are reads of their content.
impl Read for Batch<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.content.get(cf, key)
    }

    fn scan(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        self.content.scan(cf, start, end, reverse, visit);
    }

    fn count(&self, cf: Cf, start: &[u8], end: &[u8]) -> u64 {
        self.content.count(cf, start, end)
    }

    fn region(&self, id: RegionId) -> Option<RegionState> {
        self.content.region(id)
    }

    fn regions(&self) -> Vec<RegionState> {
        self.content.regions()
    }
}

impl Read for MemSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.content.get(cf, key)
    }

    fn scan(
        &self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        self.content.scan(cf, start, end, reverse, visit);
    }

    fn count(&self, cf: Cf, start: &[u8], end: &[u8]) -> u64 {
        self.content.count(cf, start, end)
    }

    fn region(&self, id: RegionId) -> Option<RegionState> {
        self.content.region(id)
    }

    fn regions(&self) -> Vec<RegionState> {
        self.content.regions()
    }
}
