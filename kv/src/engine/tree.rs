//! A sorted map whose copies are free: a B+ tree with shared nodes.
//!
//! ```text
//!            root ──► [ a… │ k… │ t… ]            inner: lower bound, count and bytes of each child
//!                       │     │    └─► …
//!  copy of the root ────┼─────┘
//!                       ▼
//!                 [ a=1 │ c=2 │ h=3 ]             leaf: keys in one piece, values shared one by one
//! ```
//!
//! Cloning a [`Tree`] takes another reference to the root. Whoever then changes one of the two
//! copies only the nodes on the way down that are still shared, once; a tree that nobody else
//! holds is changed in place. So a snapshot is O(1), costs readers nothing ever, and what only it
//! can see goes away when it does.
//!
//! Every child's count and bytes are kept beside it, so the count and size of any range of keys
//! are two descents.
//!
//! Invariants, which [`Tree::check`] verifies in tests:
//! 1. Keys ascend. A child's `first` is not above any key in it, and above all keys left of it.
//! 2. A child's `stats` are the sums over its pairs.
//! 3. All leaves are equally deep; no node but a root leaf is empty; none has over `WIDTH_MAX` keys.
//!
//! **Why not a skip list** (crossbeam-skiplist, with versions as part of the keys). Measured side by
//! side with 10⁵ keys of 16 B and values of 256 B, its lookups and overwrites take 1.5 to 2 times as
//! long and a walk 10 to 20 times, because it follows a pointer at every step; and each version
//! would have to be searched for once more to be removed. imbl's `OrdMap` is as fast as this, but
//! counts no ranges and no bytes.

mod range;

use std::sync::Arc;

use super::keys::{Keys, WIDTH_MAX, WIDTH_MIN};
pub(crate) use range::Range;

/// What a pair costs besides its bytes: its place in the leaf, the counts of its allocation, and its
/// share of the nodes above, which are about two thirds full.
const PAIR_OVERHEAD_BYTES: u64 = 64;

/// A value, shared by all copies of the tree that have it.
pub(crate) type Value = Arc<[u8]>;

/// How many pairs, and how much memory they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) len: u64,
    pub(crate) bytes: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, other: Stats) {
        self.len += other.len;
        self.bytes += other.bytes;
    }

    fn sub(&mut self, other: Stats) {
        self.len -= other.len;
        self.bytes -= other.bytes;
    }

    /// Counts the pair `new` in, and out the `old` value of its key.
    fn replace(&mut self, key: &[u8], old: Option<&Value>, new: Stats) {
        self.add(new);
        if let Some(old) = old {
            self.sub(stats_of(key, old));
        }
    }
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

#[derive(Clone, Debug, Default)]
struct Leaf {
    keys: Keys,
    values: Vec<Value>,
}

#[derive(Clone, Debug)]
struct Inner {
    /// A lower bound of each child's keys.
    firsts: Keys,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
struct Child {
    stats: Stats,
    node: Node,
}

/// The right half of a node that was split, and the least key in it.
struct Split {
    first: Box<[u8]>,
    right: Child,
}

/// The map. `Clone` is O(1) and shares everything.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Node,
    stats: Stats,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree { root: Node::empty(), stats: Stats::default() }
    }
}

impl Tree {
    /// The sums over all pairs.
    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Value> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_for(key)].node,
                Node::Leaf(leaf) => return Some(&leaf.values[leaf.keys.search(key).ok()?]),
            }
        }
    }

    /// Sets the value of `key`, and returns the one before.
    pub(crate) fn insert(&mut self, key: &[u8], value: Value) -> Option<Value> {
        let new = stats_of(key, &value);
        let mut old = None;
        let split = self.root.insert(key, value, &mut old);
        self.stats.replace(key, old.as_ref(), new);
        if let Some(split) = split {
            // The old root becomes the left child. Nothing is left of it, so any bound will do.
            let left = std::mem::replace(&mut self.root, Node::empty());
            let mut inner = Inner { firsts: Keys::default(), children: Vec::new() };
            inner.insert(0, b"", Child { stats: left.stats(), node: left });
            inner.insert(1, &split.first, split.right);
            self.root = Node::Inner(Arc::new(inner));
        }
        old
    }

    /// Removes `key`, and returns its value.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Value> {
        // Looking first keeps a miss from copying shared nodes.
        self.get(key)?;
        let removed = self.root.remove(key)?;
        self.stats.sub(stats_of(key, &removed));
        while let Node::Inner(inner) = &self.root
            && inner.children.len() <= 1
        {
            self.root = inner.children.first().map_or(Node::empty(), |c| c.node.clone());
        }
        Some(removed)
    }

    /// The sums over all keys before `key`.
    pub(crate) fn before(&self, key: &[u8]) -> Stats {
        let mut sum = Stats::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_for(key);
                    inner.children[..at].iter().for_each(|c| sum.add(c.stats));
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let at = leaf.keys.search(key).unwrap_or_else(|at| at);
                    leaf.pairs(0, at).for_each(|(key, value)| sum.add(stats_of(key, value)));
                    return sum;
                }
            }
        }
    }

    /// The sums over the keys from `start`, included, to `end`, excluded and empty for no bound.
    pub(crate) fn within(&self, start: &[u8], end: &[u8]) -> Stats {
        let mut sum = if end.is_empty() { self.stats } else { self.before(end) };
        if start.is_empty() {
            return sum;
        }
        let before = self.before(start);
        if before.len >= sum.len {
            return Stats::default();
        }
        sum.sub(before);
        sum
    }

    /// The pairs from `start`, included, to `end`, excluded and empty for no bound.
    pub(crate) fn range(&self, start: &[u8], end: &[u8]) -> Range<'_> {
        let mut range = Range::new(self.within(start, end).len, false);
        range.seek_from(&self.root, start);
        range
    }

    /// The same pairs as of [`Tree::range`], from the last to the first.
    pub(crate) fn range_back(&self, start: &[u8], end: &[u8]) -> Range<'_> {
        let mut range = Range::new(self.within(start, end).len, true);
        range.seek_before(&self.root, end);
        range
    }
}

/// What one pair counts for.
pub(crate) fn stats_of(key: &[u8], value: &Value) -> Stats {
    Stats { len: 1, bytes: (key.len() + value.len()) as u64 + PAIR_OVERHEAD_BYTES }
}

impl Node {
    fn empty() -> Node {
        Node::Leaf(Arc::default())
    }

    fn keys(&self) -> &Keys {
        match self {
            Node::Leaf(leaf) => &leaf.keys,
            Node::Inner(inner) => &inner.firsts,
        }
    }

    /// Sums up one level: leaves over pairs, inner nodes over children.
    fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        match self {
            Node::Leaf(leaf) => leaf
                .pairs(0, leaf.values.len())
                .for_each(|(key, value)| sum.add(stats_of(key, value))),
            Node::Inner(inner) => inner.children.iter().for_each(|c| sum.add(c.stats)),
        }
        sum
    }

    /// Returns the right half if the node had to be split.
    fn insert(&mut self, key: &[u8], value: Value, old: &mut Option<Value>) -> Option<Split> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.keys.search(key);
                let leaf = Arc::make_mut(leaf);
                let at = match at {
                    Ok(at) => {
                        *old = Some(std::mem::replace(&mut leaf.values[at], value));
                        return None;
                    }
                    Err(at) => at,
                };
                leaf.keys.insert(at, key);
                leaf.values.insert(at, value);
                let middle = leaf.keys.split_point(at)?;
                let right = Leaf {
                    keys: leaf.keys.split_off(middle),
                    values: tail(&mut leaf.values, middle),
                };
                Some(Split::new(Node::Leaf(Arc::new(right))))
            }
            Node::Inner(inner) => {
                let at = inner.child_for(key);
                let inner = Arc::make_mut(inner);
                if key < inner.firsts.get(at) {
                    inner.firsts.remove(at);
                    inner.firsts.insert(at, key);
                }
                let new = stats_of(key, &value);
                let child = &mut inner.children[at];
                let split = child.node.insert(key, value, old);
                child.stats.replace(key, old.as_ref(), new);
                let split = split?;
                child.stats.sub(split.right.stats);
                inner.insert(at + 1, &split.first, split.right);
                let middle = inner.firsts.split_point(at + 1)?;
                let right = Inner {
                    firsts: inner.firsts.split_off(middle),
                    children: tail(&mut inner.children, middle),
                };
                Some(Split::new(Node::Inner(Arc::new(right))))
            }
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Value> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.keys.search(key).ok()?;
                let leaf = Arc::make_mut(leaf);
                leaf.keys.remove(at);
                Some(leaf.values.remove(at))
            }
            Node::Inner(inner) => {
                let at = inner.child_for(key);
                let inner = Arc::make_mut(inner);
                let removed = inner.children[at].node.remove(key)?;
                inner.children[at].stats.sub(stats_of(key, &removed));
                inner.shrink(at);
                Some(removed)
            }
        }
    }

    /// Takes over everything of `right`, which is of the same kind: all leaves are equally deep.
    fn absorb(&mut self, right: Node) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let (left, right) = (Arc::make_mut(left), Arc::unwrap_or_clone(right));
                left.keys.append(&right.keys);
                left.values.extend(right.values);
            }
            (Node::Inner(left), Node::Inner(right)) => {
                let (left, right) = (Arc::make_mut(left), Arc::unwrap_or_clone(right));
                left.firsts.append(&right.firsts);
                left.children.extend(right.children);
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("all leaves are equally deep")
            }
        }
    }
}

impl Split {
    fn new(right: Node) -> Split {
        Split {
            first: right.keys().get(0).into(),
            right: Child { stats: right.stats(), node: right },
        }
    }
}

impl Leaf {
    fn pairs(&self, from: usize, to: usize) -> impl Iterator<Item = (&[u8], &Value)> {
        (from..to).map(|at| (self.keys.get(at), &self.values[at]))
    }
}

impl Inner {
    /// Which child has `key`, if any has.
    fn child_for(&self, key: &[u8]) -> usize {
        self.firsts.search(key).unwrap_or_else(|at| at.saturating_sub(1))
    }

    fn insert(&mut self, at: usize, first: &[u8], child: Child) {
        self.firsts.insert(at, first);
        self.children.insert(at, child);
    }

    /// Drops the child at `at` if it has become empty, or merges it with a neighbour if it has
    /// become narrow. Two that would nearly fill one node stay apart, or the next insert would
    /// split them again.
    fn shrink(&mut self, at: usize) {
        let keys = self.children[at].node.keys();
        if keys.len() == 0 {
            self.firsts.remove(at);
            self.children.remove(at);
            return;
        }
        if keys.len() >= WIDTH_MIN {
            return;
        }
        let fits = |left: usize| {
            self.children.get(left + 1).is_some_and(|right| {
                self.children[left].node.keys().fit_together(right.node.keys())
            })
        };
        let left = match at.checked_sub(1) {
            Some(left) if fits(left) => left,
            _ if fits(at) => at,
            _ => return,
        };
        self.firsts.remove(left + 1);
        let right = self.children.remove(left + 1);
        self.children[left].stats.add(right.stats);
        self.children[left].node.absorb(right.node);
    }
}

/// Takes the items from `at` on, into a vector with room to grow.
fn tail<T>(items: &mut Vec<T>, at: usize) -> Vec<T> {
    let mut tail = Vec::with_capacity(WIDTH_MAX + 1);
    tail.extend(items.drain(at..));
    tail
}

#[cfg(test)]
mod tests;
