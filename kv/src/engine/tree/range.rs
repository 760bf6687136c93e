//! Walking over a tree: down once, then from leaf to leaf.

use std::{ops, slice};

use super::{Child, Leaf, Node, Value};

/// Walks over pairs in one direction. See [`Tree::range`].
#[derive(Clone, Debug)]
pub(crate) struct Range<'a> {
    left: u64,
    reverse: bool,
    /// What is still to be visited, the nearest last.
    above: Vec<slice::Iter<'a, Child>>,
    leaf: Option<&'a Leaf>,
    /// The places in the leaf that are still to be visited.
    places: ops::Range<usize>,
}

impl<'a> Range<'a> {
    pub(super) fn new(left: u64, reverse: bool) -> Range<'a> {
        Range { left, reverse, above: Vec::new(), leaf: None, places: 0..0 }
    }

    /// Goes to the first pair that is not before `start`.
    pub(super) fn seek_from(&mut self, mut node: &'a Node, start: &[u8]) {
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_for(start);
                    self.above.push(inner.children[at + 1..].iter());
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let at = leaf.keys.search(start).unwrap_or_else(|at| at);
                    (self.leaf, self.places) = (Some(leaf.as_ref()), at..leaf.values.len());
                    return;
                }
            }
        }
    }

    /// Goes to the last pair before `end`, which is empty for no bound.
    pub(super) fn seek_before(&mut self, mut node: &'a Node, end: &[u8]) {
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = match end {
                        [] => inner.children.len() - 1,
                        end => inner.child_for(end),
                    };
                    self.above.push(inner.children[..at].iter());
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let at = match end {
                        [] => leaf.values.len(),
                        end => leaf.keys.search(end).unwrap_or_else(|at| at),
                    };
                    (self.leaf, self.places) = (Some(leaf.as_ref()), 0..at);
                    return;
                }
            }
        }
    }

    /// Goes to the next leaf.
    fn next_leaf(&mut self) -> Option<()> {
        let mut node = loop {
            let siblings = self.above.last_mut()?;
            let child = if self.reverse { siblings.next_back() } else { siblings.next() };
            match child {
                Some(child) => break &child.node,
                None => self.above.pop(),
            };
        };
        loop {
            match node {
                Node::Leaf(leaf) => {
                    (self.leaf, self.places) = (Some(leaf.as_ref()), 0..leaf.values.len());
                    return Some(());
                }
                Node::Inner(inner) => {
                    let mut children = inner.children.iter();
                    node = match self.reverse {
                        true => &children.next_back()?.node,
                        false => &children.next()?.node,
                    };
                    self.above.push(children);
                }
            }
        }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let at = if self.reverse { self.places.next_back() } else { self.places.next() };
            match (at, self.leaf) {
                (Some(at), Some(leaf)) => return Some((leaf.keys.get(at), &leaf.values[at])),
                _ => self.next_leaf()?,
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).ok();
        (left.unwrap_or(usize::MAX), left)
    }
}
