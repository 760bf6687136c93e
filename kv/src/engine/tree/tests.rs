use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

impl Tree {
    /// Verifies the invariants of the module's documentation.
    fn check(&self) {
        fn walk(node: &Node, root: bool, depth: usize, leaves: &mut Vec<usize>) -> Stats {
            let keys = node.keys();
            let all: Vec<_> = (0..keys.len()).map(|at| keys.get(at)).collect();
            assert!(all.len() <= WIDTH_MAX, "no node is wider than WIDTH_MAX");
            assert!(all.is_sorted_by(|a, b| a < b), "keys ascend");
            match node {
                Node::Leaf(leaf) => {
                    assert!(root || !all.is_empty(), "only a root leaf may be empty");
                    assert_eq!(all.len(), leaf.values.len(), "a value for every key");
                    leaves.push(depth);
                }
                Node::Inner(inner) => {
                    assert!(!all.is_empty(), "no inner node is empty");
                    assert_eq!(all.len(), inner.children.len(), "a bound for every child");
                    for (at, child) in inner.children.iter().enumerate() {
                        let stats = walk(&child.node, false, depth + 1, leaves);
                        assert_eq!(stats, child.stats, "stats are the sums");
                        let (least, most) = bounds(&child.node);
                        assert!(all[at] <= least, "a bound is not above its keys");
                        if let Some(right) = all.get(at + 1) {
                            assert!(most < *right, "a bound is above all keys left of it");
                        }
                    }
                }
            }
            node.stats()
        }
        fn bounds(node: &Node) -> (&[u8], &[u8]) {
            match node {
                Node::Leaf(leaf) => (leaf.keys.get(0), leaf.keys.get(leaf.keys.len() - 1)),
                Node::Inner(inner) => {
                    let last = inner.children.len() - 1;
                    (bounds(&inner.children[0].node).0, bounds(&inner.children[last].node).1)
                }
            }
        }
        let mut leaves = Vec::new();
        assert_eq!(walk(&self.root, true, 0, &mut leaves), self.stats, "stats are the sums");
        assert!(leaves.windows(2).all(|w| w[0] == w[1]), "all leaves are equally deep");
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        self.insert(key, value.into()).map(|old| old.to_vec())
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.get(key).map(|value| &**value)
    }
}

/// Compares contents, counts, and a range in both directions.
fn assert_same(tree: &Tree, model: &Model, start: &[u8], end: &[u8]) {
    tree.check();
    let all: Vec<_> = tree.range(b"", b"").map(|(k, v)| (k, &**v)).collect();
    let expected: Vec<_> = model.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    assert_eq!(all, expected);
    let inside = |k: &[u8]| k >= start && (end.is_empty() || k < end);
    let mut expected: Vec<_> = model.keys().map(Vec::as_slice).filter(|k| inside(k)).collect();
    assert_eq!(tree.within(start, end).len, expected.len() as u64);
    assert_eq!(tree.range(start, end).size_hint().0, expected.len());
    assert_eq!(tree.range(start, end).map(|(k, _)| k).collect::<Vec<_>>(), expected);
    expected.reverse();
    assert_eq!(tree.range_back(start, end).map(|(k, _)| k).collect::<Vec<_>>(), expected);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16),
    Remove(u16),
    RemoveFrom(u16, u16),
    Snapshot,
    Drop(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..400u16;
    prop::collection::vec(
        prop_oneof![
            12 => key.clone().prop_map(Step::Put),
            6 => key.clone().prop_map(Step::Remove),
            1 => (key, 0..150u16).prop_map(|(from, len)| Step::RemoveFrom(from, len)),
            1 => Just(Step::Snapshot),
            1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        ],
        0..600,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The tree is a sorted map, and no copy ever sees a change made to another.
    #[test]
    fn equals_a_sorted_map_with_copies_held(steps in steps(), start in 0..400u16, len in 0..400u16) {
        let name = |key: u16| format!("{key:03}").into_bytes();
        let (from, to) = (name(start), name(start.saturating_add(len)));
        let (mut tree, mut model) = (Tree::default(), Model::new());
        let mut held: Vec<(Tree, Model)> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(key) => {
                    let value = vec![b'v'; at % 50];
                    let old = tree.put(&name(key), &value);
                    prop_assert_eq!(old, model.insert(name(key), value));
                }
                Step::Remove(key) => {
                    let old = tree.remove(&name(key)).map(|old| old.to_vec());
                    prop_assert_eq!(old, model.remove(&name(key)));
                }
                Step::RemoveFrom(key, len) => {
                    for key in key..key + len {
                        let old = tree.remove(&name(key)).map(|old| old.to_vec());
                        prop_assert_eq!(old, model.remove(&name(key)));
                    }
                }
                Step::Snapshot => held.push((tree.clone(), model.clone())),
                Step::Drop(which) if !held.is_empty() => {
                    let (tree, model) = held.swap_remove(which.index(held.len()));
                    assert_same(&tree, &model, &from, &to);
                }
                Step::Drop(_) => {}
            }
            let key = name(at as u16 % 400);
            prop_assert_eq!(tree.value(&key), model.get(&key).map(Vec::as_slice));
        }
        held.push((tree, model));
        for (tree, model) in &held {
            assert_same(tree, model, &from, &to);
            assert_same(tree, model, b"", &from);
            assert_same(tree, model, &to, b"");
        }
    }
}

/// Orders that split and merge at the edges, and keys that are prefixes of each other.
#[test]
fn ascending_descending_and_nested_keys() {
    let ascending: Vec<Vec<u8>> = (0..5000u32).map(|i| i.to_be_bytes().to_vec()).collect();
    let descending = ascending.iter().rev().cloned().collect::<Vec<_>>();
    let nested = (0..2000usize).map(|len| vec![0; len]).collect::<Vec<_>>();
    // Nodes are split by bytes here: a handful of such keys fills one.
    let long = (0..2000u32).map(|i| [&vec![0; 3000][..], &i.to_be_bytes()].concat());
    let long = long.collect::<Vec<_>>();
    for keys in [&ascending, &descending, &nested, &long] {
        let (mut tree, mut model) = (Tree::default(), Model::new());
        for key in keys {
            tree.put(key, b"x");
            model.insert(key.clone(), b"x".to_vec());
        }
        assert_same(&tree, &model, &keys[700], &keys[1500]);
        for key in keys.iter().step_by(3).chain(&keys[1000..1900]) {
            assert_eq!(tree.remove(key).is_some(), model.remove(key).is_some());
        }
        assert_same(&tree, &model, &keys[1500], &keys[700]);
        for key in keys {
            tree.remove(key);
        }
        assert_same(&tree, &Model::new(), b"", b"");
        assert_eq!(tree.stats(), Stats::default());
        assert_eq!(tree.root.keys().len(), 0, "an empty tree is one empty leaf");
    }
}

/// Keys that arrive in order leave full leaves: loading a checkpoint wastes no memory.
#[test]
fn ascending_keys_fill_their_leaves() {
    let mut tree = Tree::default();
    for i in 0..10_000u32 {
        tree.put(&i.to_be_bytes(), b"");
    }
    fn leaves(node: &Node) -> usize {
        match node {
            Node::Leaf(_) => 1,
            Node::Inner(inner) => inner.children.iter().map(|c| leaves(&c.node)).sum(),
        }
    }
    assert!(leaves(&tree.root) <= 10_000 / (WIDTH_MAX - 1) + 1);
}

/// A change copies shared nodes once, not on every write, and not at all when nothing is shared.
#[test]
fn changes_copy_only_what_is_shared() {
    let mut tree = Tree::default();
    for i in 0..1000u32 {
        tree.put(&i.to_be_bytes(), b"old");
    }
    let leaf = |tree: &Tree| {
        let mut node = &tree.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[0].node,
                Node::Leaf(leaf) => return Arc::as_ptr(leaf),
            }
        }
    };
    let before = leaf(&tree);
    tree.put(&0u32.to_be_bytes(), b"new");
    assert_eq!(leaf(&tree), before, "in place");
    let snapshot = tree.clone();
    tree.remove(b"not there");
    assert_eq!(leaf(&tree), before, "a miss copies nothing");
    tree.put(&0u32.to_be_bytes(), b"newer");
    let copied = leaf(&tree);
    assert_ne!(copied, before, "shared, so copied");
    tree.put(&1u32.to_be_bytes(), b"newer");
    assert_eq!(leaf(&tree), copied, "copied once");
    assert_eq!(snapshot.value(&0u32.to_be_bytes()), Some(&b"new"[..]));
}
