//! The keys of one node, packed one after the other.
//!
//! ```text
//! bytes │ a p p l e b a n a n a c h e r r y │      ends │ 5 │ 11 │ 17 │
//! ```
//!
//! A search stays within a few cache lines, where following a pointer to every key it looks at would
//! miss the cache each time; and a copy of a node copies its keys in one go.

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
    ends: Vec<u32>,
    bytes: Vec<u8>,
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
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        let (start, len) = (self.start(at), self.bytes.len());
        self.bytes.extend_from_slice(key);
        self.bytes[start..].rotate_right(key.len());
        debug_assert_eq!(self.bytes.len(), len + key.len());
        self.ends.insert(at, start as u32);
        self.ends[at..].iter_mut().for_each(|end| *end += key.len() as u32);
    }

    pub(super) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends.remove(at) as usize);
        self.bytes.drain(start..end);
        self.ends[at..].iter_mut().for_each(|e| *e -= (end - start) as u32);
    }

    /// Takes the keys from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Keys {
        let start = self.start(at);
        let mut right = Keys::default();
        right.ends.reserve_exact(WIDTH_MAX + 1);
        right.ends.extend(self.ends.drain(at..).map(|end| end - start as u32));
        right.bytes.extend(self.bytes.drain(start..));
        right
    }

    /// Adds the keys of `right`, which are all above these.
    pub(super) fn append(&mut self, right: &Keys) {
        let len = self.bytes.len() as u32;
        self.ends.extend(right.ends.iter().map(|end| len + end));
        self.bytes.extend_from_slice(&right.bytes);
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
}
