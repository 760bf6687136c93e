use std::sync::Arc;

use proptest::prelude::*;
use raft::LogId;
use raftstore::disk::SimDisk;
use raftstore::{Region, RegionId, StoreId};

use super::*;
use crate::blocks::{BLOCK_BYTES, HEAD_BYTES, kind, next_link};
use crate::command::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::engine::RegionState;

/// A state of several blocks, with pairs in every column family, and values of all sizes.
fn example() -> MemEngine {
    let mut engine = MemEngine::new();
    for id in [1, 7] {
        let mut region = Region::first(&[StoreId(1), StoreId(2)]);
        region.id = RegionId(id);
        let applied = LogId::new(id, 100 * id);
        engine.set_region(RegionState { region: Arc::new(region), applied });
    }
    engine.write(RegionId(1), LogId::new(3, 1000), |batch| {
        for i in 0..3000u32 {
            batch.put(Cf::Default, format!("key{i:05}").as_bytes(), &[i as u8; 60]);
        }
        batch.put(Cf::Lock, b"", b"");
        batch.put(Cf::Write, b"large", &vec![9; 200_000]);
        batch.put(Cf::Write, b"max", &vec![8; VALUE_BYTES_MAX]);
        batch.put(Cf::Write, &vec![255; KEY_BYTES_MAX], b"long key");
    });
    engine
}

fn small() -> MemEngine {
    let mut engine = MemEngine::new();
    let region = Arc::new(Region::first(&[StoreId(1)]));
    engine.set_region(RegionState { region, applied: LogId::ZERO });
    engine.write(RegionId(1), LogId::new(2, 5), |batch| {
        batch.put(Cf::Default, b"a", b"1");
        batch.put(Cf::Default, b"b", b"2");
        batch.put(Cf::Lock, b"a", b"3");
    });
    engine
}

fn written(engine: &MemEngine, seq: u64) -> SimDisk {
    let disk = SimDisk::new(1);
    let go_on = AtomicBool::new(false);
    write(&*disk.mount(), seq, &engine.snapshot(), &go_on).expect("the disk is fine");
    disk
}

type Content = (Vec<RegionState>, Vec<(Cf, Vec<u8>, Vec<u8>)>);

fn content(engine: &MemEngine) -> Content {
    let mut pairs = Vec::new();
    let state = engine.snapshot();
    for cf in Cf::ALL {
        pairs.extend(
            state.range(cf, b"", b"").map(|(key, value)| (cf, key.to_vec(), value.to_vec())),
        );
    }
    (state.regions(), pairs)
}

/// Loads the file with `bytes` in place of checkpoint 1.
fn load(bytes: Vec<u8>) -> Result<MemEngine, ReadError> {
    let disk = SimDisk::new(1);
    let mounted = disk.mount();
    let file = mounted.create(&name(1)).expect("the disk is fine");
    file.write_at(0, &bytes).expect("the disk is fine");
    read(&*mounted, 1)
}

fn assert_refused(bytes: Vec<u8>, what: &str) {
    assert!(matches!(load(bytes), Err(ReadError::Damaged { .. })), "{what}");
}

#[test]
fn what_was_written_is_read() {
    for engine in [MemEngine::new(), small(), example()] {
        let disk = written(&engine, 0x1234);
        assert_eq!(disk.mount().list().expect("fine"), ["checkpoint-0000000000001234"]);
        let loaded = read(&*disk.mount(), 0x1234).expect("whole");
        assert_eq!(content(&loaded), content(&engine));
        assert_eq!(loaded.memory(), engine.memory());
    }
}

/// S8: cut, or zeroed to the end, at every 4 KiB and around it.
#[test]
fn s8_a_cut_file_is_refused() {
    let mut engine = example();
    engine.write(RegionId(1), LogId::new(3, 1001), |batch| {
        batch.delete(Cf::Write, b"max");
    });
    let whole = written(&engine, 1).content(&name(1)).expect("written");
    assert!(load(whole.clone()).is_ok());
    let around = |at: usize| [at.saturating_sub(1), at, at + 1];
    for cut in (0..whole.len()).step_by(4096).flat_map(around).chain([whole.len() - 1]) {
        assert_refused(whole[..cut].to_vec(), "cut");
        let mut zeroed = whole.clone();
        zeroed[cut..].fill(0);
        // The last byte may be a zero already.
        assert!(zeroed == whole || load(zeroed).is_err(), "zeroed from {cut}");
        let mut hole = whole.clone();
        let end = (cut + 4096).min(hole.len());
        hole[cut..end].fill(0);
        assert!(hole == whole || load(hole).is_err(), "4 KiB of zeros at {cut}");
    }
}

/// S8: every bit of a small file, trailer and all, and bytes after the end.
#[test]
fn s8_every_flipped_bit_is_noticed() {
    let whole = written(&small(), 1).content(&name(1)).expect("written");
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_refused(flipped, "flipped");
    }
    for len in 0..whole.len() {
        assert_refused(whole[..len].to_vec(), "cut");
    }
    assert_refused([&whole[..], &[0]].concat(), "more");
}

/// Good blocks in the wrong place are no checkpoint: the checksums are a chain.
#[test]
fn blocks_elsewhere_are_refused() {
    let whole = written(&example(), 1).content(&name(1)).expect("written");
    let mut blocks = Vec::new();
    let mut at = MAGIC.len();
    while at < whole.len() {
        let len = u32::from_le_bytes(whole[at..at + 4].try_into().expect("four bytes"));
        let end = at + HEAD_BYTES + len as usize;
        blocks.push(&whole[at..end]);
        at = end;
    }
    assert!(blocks.len() > 5, "several blocks of pairs");
    let join = |blocks: Vec<&[u8]>| [MAGIC].into_iter().chain(blocks).collect::<Vec<_>>().concat();
    assert!(load(join(blocks.clone())).is_ok());
    for at in 0..blocks.len() {
        let mut without = blocks.clone();
        without.remove(at);
        assert_refused(join(without), "a block is missing");
        let mut doubled = blocks.clone();
        doubled.insert(at, blocks[at]);
        assert_refused(join(doubled), "a block is there twice");
        if at > 0 {
            let mut exchanged = blocks.clone();
            exchanged.swap(at - 1, at);
            assert_refused(join(exchanged), "blocks are exchanged");
        }
    }
    let other = written(&small(), 2);
    let renamed = other.content(&name(2)).expect("written");
    assert_refused(renamed, "the number of another checkpoint");
}

/// A checksum that matches does not make bad content good: what a bug wrote is refused as well.
#[test]
fn wellformed_nonsense_is_refused() {
    let seal = |blocks: &[&[u8]]| {
        let (mut bytes, mut chain) = (MAGIC.to_vec(), seed(1).link);
        for block in blocks {
            chain = next_link(chain, block.len() as u32, block);
            bytes.extend((block.len() as u32).to_le_bytes());
            bytes.extend(chain.to_le_bytes());
            bytes.extend_from_slice(block);
        }
        bytes
    };
    let pairs = &[kind::PAIRS, 0, 1, b'a', 0, 1, b'b', 0][..];
    let good = [&[kind::REGIONS, 0][..], pairs, &[kind::TRAILER, 1, 2, 2, 0, 0, 0]];
    assert!(load(seal(&good)).is_ok());
    let bad: [(usize, &[u8]); 10] = [
        (0, &[kind::REGIONS, 1]),
        (0, &[kind::PAIRS, 0]),
        (1, &[kind::PAIRS, 4, 1, b'a', 0, 1, b'b', 0]),
        (1, &[kind::PAIRS, 0, 1, b'b', 0, 1, b'a', 0]),
        (1, &[kind::PAIRS, 0, 1, b'a', 0, 1, b'a', 0]),
        (1, &[kind::PAIRS, 0, 1, b'a', 0, 9, b'b', 0]),
        (1, &[9, 0, 1, b'a', 0, 1, b'b', 0]),
        (2, &[kind::TRAILER, 2, 2, 2, 0, 0, 0]),
        (2, &[kind::TRAILER, 1, 3, 2, 0, 0, 0]),
        (2, &[kind::TRAILER, 1, 2, 1, 1, 0, 0]),
    ];
    for (at, block) in bad {
        let mut blocks = good;
        blocks[at] = block;
        assert_refused(seal(&blocks), &format!("{block:?}"));
    }
    assert_refused(seal(&good[..2]), "no trailer");
    let huge = [MAGIC, &u32::MAX.to_le_bytes(), &[0; 100]].concat();
    assert_refused(huge, "a length beyond everything");
}

#[test]
fn a_stop_is_obeyed_within_a_block() {
    let disk = SimDisk::new(1);
    let stop = AtomicBool::new(true);
    let stopped = write(&*disk.mount(), 1, &example().snapshot(), &stop);
    assert!(matches!(stopped, Err(WriteError::Stopped)));
    assert!(disk.content(&name(1)).is_none(), "nothing under the name");
    assert!(disk.used() < 3 * BLOCK_BYTES as u64);
}

proptest! {
    #[test]
    fn garbage_is_refused(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_refused([MAGIC, &garbage[..]].concat(), "garbage");
        assert_refused(garbage, "garbage");
    }
}
