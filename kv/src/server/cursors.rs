//! Cursors of `SCAN`: numbers for the client, keys for us.
//!
//! Clients want a cursor to be a 64-bit number, 0 at both ends, and may send it on another
//! connection than the one it came from. A key does not fit into a number, so this server remembers
//! the key each cursor stands for: for all its connections, the latest [`CURSORS_MAX`] of them. A
//! cursor may be used again, by a client that lost the answer. One that is forgotten, or of another
//! server, is an error; nothing is skipped silently.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

/// How many scans may be under way. With keys of the usual length, some megabytes at most.
const CURSORS_MAX: usize = 16 << 10;

/// Bytes of all keys remembered, for the case that they are long.
const BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Cursors {
    next: u64,
    keys: BTreeMap<u64, Bytes>,
    bytes: usize,
}

impl Cursors {
    /// Cursors that another run of the server gave out are most likely not taken for its own:
    /// it starts at a random number. Below 2^53, as some clients keep it in a float.
    pub(crate) fn new() -> Cursors {
        let random = RandomState::new().hash_one(0) >> (64 - 28);
        Cursors { next: (random + 1) << 24, keys: BTreeMap::new(), bytes: 0 }
    }

    /// A cursor that stands for `key`.
    pub(crate) fn remember(&mut self, key: &Bytes) -> u64 {
        let cursor = self.next;
        self.next += 1;
        self.bytes += key.len();
        // A copy: the key is a slice of a large answer, which must not live on with it.
        self.keys.insert(cursor, Bytes::copy_from_slice(key));
        while self.keys.len() > CURSORS_MAX || (self.bytes > BYTES_MAX && self.keys.len() > 1) {
            if let Some((_, oldest)) = self.keys.pop_first() {
                self.bytes -= oldest.len();
            }
        }
        cursor
    }

    /// The key a cursor stands for.
    pub(crate) fn get(&self, cursor: u64) -> Option<Bytes> {
        self.keys.get(&cursor).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_can_be_used_twice_and_the_oldest_is_forgotten() {
        let mut cursors = Cursors::new();
        let first = cursors.remember(&Bytes::from_static(b"a"));
        assert_ne!(first, 0);
        assert_eq!(cursors.get(first).as_deref(), Some(&b"a"[..]));
        assert_eq!(cursors.get(first).as_deref(), Some(&b"a"[..]));
        for _ in 0..CURSORS_MAX {
            cursors.remember(&Bytes::from_static(b"b"));
        }
        assert_eq!(cursors.get(first), None);
        assert_eq!(cursors.keys.len(), CURSORS_MAX);
    }

    #[test]
    fn long_keys_are_bounded_by_their_bytes() {
        let mut cursors = Cursors::new();
        for _ in 0..1000 {
            cursors.remember(&Bytes::from(vec![b'k'; 64 << 10]));
        }
        assert!(cursors.bytes <= BYTES_MAX);
        assert_eq!(cursors.bytes, cursors.keys.values().map(Bytes::len).sum::<usize>());
    }
}
