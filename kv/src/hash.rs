//! A hash of a region's state, to compare replicas by.
//!
//! Equal states give equal hashes on every machine and in every version of this format; two states
//! that differ give equal ones by an accident of 1 in 2⁶⁴. It is no defence against anybody who wants
//! a collision.

use raftstore::Region;

use crate::command::Cf;
use crate::engine::Read;

/// Odd constants without a pattern: the golden ratio's and the square root of 2's digits.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0x6a09_e667_f3bc_c909;

/// The hash of everything `region` holds: its range and epoch, and the pairs of every column family
/// in order. The applied position is left out, so that the empty entries of new leaders change
/// nothing. Walks over all of it: 2 to 3 ns for 8 bytes that are cached.
pub(crate) fn of_region(region: &Region, state: &dyn Read) -> u64 {
    let mut hash = Hash(SEED);
    hash.bytes(&region.start_key);
    hash.bytes(&region.end_key);
    hash.number(region.epoch.version);
    hash.number(region.epoch.conf_ver);
    for cf in Cf::ALL {
        hash.number(u64::from(cf.number()));
        state.scan(cf, &region.start_key, &region.end_key, false, &mut |key, value| {
            hash.bytes(key);
            hash.bytes(value);
            true
        });
    }
    hash.0
}

struct Hash(u64);

impl Hash {
    fn number(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * u128::from(FACTOR);
        // Both halves, and a rotation so that a state of 0 is left again.
        self.0 = ((product >> 64) as u64 ^ product as u64).rotate_left(23).wrapping_add(SEED);
    }

    /// The length first, so that moving a byte from a key to its value makes a difference.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.number(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
    }
}
