//! A cluster that has more than one region from its first day: which keys each of them has.
//!
//! ```text
//!   region 1         region 2          …          region n
//!   ""  ─► "00002/"  "00002/" ─► "00003/"         "0000n/" ─► ""
//! ```
//!
//! ```
//! use harness::regions::{create_missing, key, regions};
//! use kv::KvMachine;
//! use raftstore::{Machine, RegionId, StoreId};
//!
//! let stores = [StoreId(1), StoreId(2), StoreId(3)];
//! let all = regions(&stores, 100);
//! assert!(all[6].contains(&key(RegionId(7), "name")));
//!
//! let mut machine = KvMachine::in_memory();
//! create_missing(&mut machine, &stores, 100);
//! assert_eq!(machine.recovered().len(), 100);
//! ```

use bytes::Bytes;
use raftstore::{Machine, Region, RegionId, StoreId};

/// What all keys of a region begin with.
fn prefix(region: u64) -> String {
    format!("{region:05}/")
}

/// A key of a region.
#[must_use]
pub fn key(region: RegionId, name: &str) -> Bytes {
    (prefix(region.0) + name).into()
}

/// So many regions that have all keys between them, each with a voter on all `stores`.
#[must_use]
pub fn regions(stores: &[StoreId], count: u64) -> Vec<Region> {
    let bound = |region: u64| match region {
        1 => Vec::new(),
        beyond if beyond > count => Vec::new(),
        region => prefix(region).into_bytes(),
    };
    let region = |id: u64| Region {
        id: RegionId(id),
        start_key: bound(id),
        end_key: bound(id + 1),
        ..Region::first(stores)
    };
    (1..=count.max(1)).map(region).collect()
}

/// Has a machine begin with so many regions. It may have some of them: a crash before the first
/// checkpoint leaves none, one after it all. The only region of a cluster is left to the store,
/// which begins with it.
pub fn create_missing(machine: &mut impl Machine, stores: &[StoreId], count: u64) {
    if count > 1 {
        let known: Vec<RegionId> =
            machine.recovered().iter().map(|known| known.region.id).collect();
        let missing = regions(stores, count).into_iter().filter(|new| !known.contains(&new.id));
        missing.for_each(|region| machine.create(region));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_of_one_region() {
        for count in [1, 2, 100] {
            let all = regions(&[StoreId(1)], count);
            assert_eq!(all.len() as u64, count);
            for id in (1..=count).map(RegionId) {
                for key in [key(id, ""), key(id, "\u{7f}")] {
                    let of: Vec<_> =
                        all.iter().filter(|r| r.contains(&key)).map(|r| r.id).collect();
                    assert_eq!(of, [id], "{key:?}");
                }
            }
            for key in ["", "0", "~"] {
                assert_eq!(all.iter().filter(|r| r.contains(key.as_bytes())).count(), 1, "{key}");
            }
        }
    }
}
