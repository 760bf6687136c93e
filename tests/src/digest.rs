//! A hash that is the same in every process, on every machine, for ever: for traces and states.
//!
//! The hasher of the standard library may change with it, and a seed written down in an issue
//! should still give the same trace hash next year. FNV-1a over bytes; whole numbers are mixed in
//! at once, because traces consist of them.
//!
//! ```
//! use std::hash::Hasher;
//! use harness::digest::Digest;
//!
//! let mut digest = Digest::new();
//! digest.write(b"some bytes");
//! assert_eq!(digest.finish(), Digest::of(b"some bytes"));
//! ```

use std::hash::Hasher;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Hashes what it is fed, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Of nothing.
    #[must_use]
    pub const fn new() -> Digest {
        Digest(OFFSET)
    }

    /// The hash of `bytes` alone.
    #[must_use]
    pub fn of(bytes: &[u8]) -> u64 {
        let mut digest = Digest::new();
        digest.write(bytes);
        digest.finish()
    }

    /// Adds a string of bytes and where it ends.
    pub fn add(&mut self, bytes: &[u8]) {
        self.write_u64(bytes.len() as u64);
        self.write(bytes);
    }
}

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        // The multiplication alone leaves the low bits weak.
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_as_it_is() {
        assert_eq!(Digest::of(b""), OFFSET ^ (OFFSET >> 29));
        // FNV-1a's published value for "foobar", and the fold on top of it.
        let fnv = 0x8594_4171_f739_67e8_u64;
        assert_eq!(Digest::of(b"foobar"), fnv ^ (fnv >> 29));
    }

    #[test]
    fn order_and_boundaries_count() {
        let both = |a: &[u8], b: &[u8]| {
            let mut digest = Digest::new();
            digest.add(a);
            digest.add(b);
            digest.finish()
        };
        assert_ne!(both(b"ab", b"c"), both(b"a", b"bc"));
        assert_ne!(both(b"a", b"b"), both(b"b", b"a"));
    }
}
