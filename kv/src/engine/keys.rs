//! The keys of one node, packed one after the other.
//!
//! ```text
//! bytes │ user:anna user:bert user:carl │   ends │ 9 │ 18 │ 27 │   shared "user:"   heads │ anna │ bert │ carl │
//! ```
//!
//! Keys in one node are neighbours and often begin alike. What they `share` is compared once, and the
//! next eight bytes of each are kept as a number: most searches compare numbers that lie side by
//! side, and only one key in full. Following a pointer to every key looked at would miss the cache
//! each time. A copy of a node copies its keys in one go.

use std::cmp::Ordering;

/// Most keys in a node. Searches want it large, copying shared nodes and inserting want it small.
pub(super) const WIDTH_MAX: usize = 32;

/// A node below this width is merged with a neighbour when both fit comfortably into one.
pub(super) const WIDTH_MIN: usize = WIDTH_MAX / 4;

/// A node with more bytes of keys than this is split before it is full: to put a key in, half of
/// them are moved.
const KEY_BYTES_MAX: usize = 8 << 10;

/// A node of fewer keys than this is never split, however long they are: an inner node needs two
/// on either side for the tree to become narrower upwards.
const SPLIT_WIDTH_MIN: usize = 4;

/// Ascending keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// So many first bytes are the same in all keys; perhaps more are.
    shared: usize,
    /// [`head`] of each key after those.
    heads: Vec<u64>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

/// The first eight bytes as a number that sorts as they do; zeros where there are fewer. If the heads
/// of two strings differ, the strings do, in the same order; if not, they may still.
fn head(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk() {
        return u64::from_be_bytes(*chunk);
    }
    let mut chunk = [0; 8];
    chunk[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(chunk)
}

/// How many first bytes two strings have in common.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// # Panics
    /// If there are not that many.
    pub(super) fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    /// Where `key` is, or else where it belongs.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let shared = &self.bytes[..self.shared];
        let Some(rest) = key.strip_prefix(shared) else {
            return Err(if key < shared { 0 } else { self.len() });
        };
        let wanted = head(rest);
        let mut low = self.heads.partition_point(|&head| head < wanted);
        let mut high = low + self.heads[low..].iter().take_while(|&&head| head == wanted).count();
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        let start = self.start(at);
        self.bytes.extend_from_slice(key);
        self.bytes[start..].rotate_right(key.len());
        self.ends.insert(at, start as u32);
        self.ends[at..].iter_mut().for_each(|end| *end += key.len() as u32);
        // What all keys share, the first of the others shares with this one.
        let other = if at == 0 { 1 } else { 0 };
        let shared =
            if self.len() == 1 { 0 } else { common(key, self.get(other)).min(self.shared) };
        if shared == self.shared {
            self.heads.insert(at, head(&key[shared..]));
        } else {
            self.share(shared);
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends.remove(at) as usize);
        self.bytes.drain(start..end);
        self.ends[at..].iter_mut().for_each(|e| *e -= (end - start) as u32);
        self.heads.remove(at);
        if self.ends.is_empty() {
            self.shared = 0;
        }
    }

    /// Takes the keys from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Keys {
        let start = self.start(at);
        let mut right = Keys::default();
        right.ends.reserve_exact(WIDTH_MAX + 1);
        right.ends.extend(self.ends.drain(at..).map(|end| end - start as u32));
        right.bytes.extend(self.bytes.drain(start..));
        self.share_all();
        right.share_all();
        right
    }

    /// Adds the keys of `right`, which are all above these.
    pub(super) fn append(&mut self, right: &Keys) {
        let len = self.bytes.len() as u32;
        self.ends.extend(right.ends.iter().map(|end| len + end));
        self.bytes.extend_from_slice(&right.bytes);
        self.share_all();
    }

    /// Whether these and the keys of `right` leave room in one node.
    pub(super) fn fit_together(&self, right: &Keys) -> bool {
        self.len() + right.len() <= WIDTH_MAX * 3 / 4
            && self.bytes.len() + right.bytes.len() <= KEY_BYTES_MAX / 2
    }

    /// Where to split after a key was put in at `at`, if there are too many: in the middle, or, when
    /// it was put in at the end, near the end, so that keys that arrive in order leave full nodes
    /// behind.
    pub(super) fn split_point(&self, at: usize) -> Option<usize> {
        let len = self.len();
        let full = len > WIDTH_MAX || self.bytes.len() > KEY_BYTES_MAX;
        if !full || len < SPLIT_WIDTH_MIN {
            return None;
        }
        Some(if at + 1 == len { len - 2 } else { len / 2 })
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    /// Takes notice of all that the keys share: as they ascend, what the first and the last do.
    fn share_all(&mut self) {
        let shared = match self.len() {
            0 => 0,
            len => common(self.get(0), self.get(len - 1)),
        };
        self.share(shared);
    }

    fn share(&mut self, shared: usize) {
        self.shared = shared;
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        heads.reserve_exact(WIDTH_MAX + 1);
        heads.extend((0..self.len()).map(|at| head(&self.get(at)[shared..])));
        self.heads = heads;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(keys: &Keys) {
        let all: Vec<&[u8]> = (0..keys.len()).map(|at| keys.get(at)).collect();
        assert!(all.iter().all(|key| key.starts_with(&keys.bytes[..keys.shared])));
        let heads: Vec<u64> = all.iter().map(|key| head(&key[keys.shared..])).collect();
        assert_eq!(keys.heads, heads);
    }

    /// Few letters, zeros among them: prefixes of each other, and heads that are equal.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let letter = prop::sample::select(&[0u8, 0, 1, b'a', 255][..]);
        let long = prop::collection::vec(letter.clone(), 0..14);
        let prefixed = long.clone().prop_map(|key| [b"prefix", &key[..]].concat());
        prop_oneof![2 => prefixed, 1 => long]
    }

    proptest! {
        #[test]
        fn heads_sort_as_keys_do(a in key(), b in key()) {
            match head(&a).cmp(&head(&b)) {
                Ordering::Equal => {}
                different => prop_assert_eq!(different, a.cmp(&b)),
            }
        }

        #[test]
        fn equals_a_sorted_vector(
            steps in prop::collection::vec((key(), 0..4u8), 0..60),
            probes in prop::collection::vec(key(), 10),
        ) {
            let (mut keys, mut model) = (Keys::default(), Vec::<Vec<u8>>::new());
            for (key, what) in steps {
                let found = keys.search(&key);
                prop_assert_eq!(found, model.binary_search(&key));
                match (what, found) {
                    (3, _) => {
                        let at = found.unwrap_or_else(|at| at);
                        let right = keys.split_off(at);
                        check(&keys);
                        check(&right);
                        keys.append(&right);
                    }
                    (2, Ok(at)) => {
                        keys.remove(at);
                        model.remove(at);
                    }
                    (_, Err(at)) => {
                        keys.insert(at, &key);
                        model.insert(at, key);
                    }
                    (_, Ok(_)) => {}
                }
                check(&keys);
                prop_assert!((0..keys.len()).map(|at| keys.get(at)).eq(model.iter()));
            }
            for probe in probes {
                prop_assert_eq!(keys.search(&probe), model.binary_search(&probe));
            }
        }
    }
}
