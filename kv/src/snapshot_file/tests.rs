use std::sync::Arc;

use raftstore::StoreId;
use raftstore::disk::SimDisk;

use super::*;
use crate::command::{OpResult, Response, Session};
use crate::engine::{Engine, MemEngine, Read as _};

const ID: RegionId = RegionId::FIRST;
const LAST: LogId = LogId::new(3, 1000);
const NAME: &str = "snapshot-of-a-test";

fn region() -> Region {
    Region { start_key: b"b".to_vec(), end_key: b"y".to_vec(), ..Region::first(&[StoreId(1)]) }
}

/// A state with keys inside and outside of the region.
fn engine(pairs: u32) -> MemEngine {
    let mut engine = MemEngine::new();
    engine.set_region(RegionState { region: Arc::new(region()), applied: LogId::ZERO });
    engine.write(ID, LAST, |batch| {
        for i in 0..pairs {
            batch.put(Cf::Default, format!("key{i:05}").as_bytes(), &[i as u8; 40]);
        }
        batch.put(Cf::Lock, b"b", b"");
        batch.put(Cf::Write, b"x", b"large");
        batch.put(Cf::Default, b"a", b"another's");
        batch.put(Cf::Default, b"y", b"another's");
    });
    engine
}

fn source(engine: &MemEngine) -> RegionSnapshot {
    let state = engine.snapshot();
    let RegionState { region, applied } = state.region(ID).expect("it is there");
    RegionSnapshot::new(state, region, applied)
}

fn bytes(of: &RegionSnapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = of.write(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    written.expect("everything was taken");
    bytes
}

fn meta() -> SnapshotMeta {
    SnapshotMeta { last: LAST, conf_state: region().conf_state() }
}

fn verdict(bytes: &[u8], region: RegionId, meta: &SnapshotMeta) -> Result<(), String> {
    let disk = SimDisk::new(1).mount();
    let file = disk.create(NAME).expect("the disk is fine");
    file.write_at(0, bytes).expect("the disk is fine");
    verify(&*disk, NAME, region, meta)
}

#[test]
fn the_region_and_nothing_else_arrives() {
    let snapshot = source(&engine(3000));
    let bytes = bytes(&snapshot);
    assert!(bytes.len() > 2 * crate::blocks::BLOCK_BYTES, "several blocks");
    assert_eq!(verdict(&bytes, ID, &meta()), Ok(()));
    let disk = SimDisk::new(1).mount();
    disk.create(NAME).expect("fine").write_at(0, &bytes).expect("fine");
    // What was there before goes, and what is others' stays.
    let mut there = engine(0);
    there.write(ID, LogId::new(1, 3), |batch| batch.put(Cf::Default, b"old", b"gone"));
    let before = there.snapshot();
    let loaded = there.replace_region(|load| read(&*disk, NAME, ID, LAST, load));
    assert_eq!(loaded.expect("whole").applied, LAST);
    let now = there.snapshot();
    assert_eq!(source(&there).state_hash(), snapshot.state_hash());
    assert_eq!(now.region(ID).map(|state| state.applied), Some(LAST));
    assert_eq!(now.count(Cf::Default, b"", b""), 3002);
    assert_eq!(now.get(Cf::Default, b"old"), None);
    assert!(now.get(Cf::Default, b"a").is_some() && now.get(Cf::Default, b"y").is_some());
    assert!(before.get(Cf::Default, b"old").is_some(), "who looked before sees what was");
}

/// What sessions have done is part of the state: a command that was carried out before the snapshot
/// is not carried out again after it.
#[test]
fn l1_sessions_travel_with_the_region() {
    let session = |machine: &mut MemEngine, index: u64, session: Session| {
        let of = region();
        machine.write(ID, LogId::new(3, index), |batch| {
            crate::sessions::run(session, index, &of, batch, |batch| {
                batch.put(Cf::Default, b"n", &index.to_be_bytes());
                Response { results: vec![OpResult::Integer(index as i64)] }
            })
        })
    };
    let mut engine = engine(3);
    session(&mut engine, 998, Session::Open).expect("opened");
    let command = Session::Command { id: 998, sequence: 1 };
    let first = session(&mut engine, 1000, command);
    let bytes = bytes(&source(&engine));
    let disk = SimDisk::new(1).mount();
    disk.create(NAME).expect("fine").write_at(0, &bytes).expect("fine");
    let mut there = MemEngine::new();
    there.replace_region(|load| read(&*disk, NAME, ID, LAST, load)).expect("whole");
    assert_eq!(source(&there).state_hash(), source(&engine).state_hash());
    assert_eq!(session(&mut there, 1001, command), first);
    let unchanged = there.snapshot().get(Cf::Default, b"n").map(std::borrow::Cow::into_owned);
    assert_eq!(unchanged, Some(1000_u64.to_be_bytes().to_vec()));
}

/// Two writings of one view are the same bytes: a stream may be begun again.
#[test]
fn a_view_is_always_written_alike() {
    let mut engine = engine(500);
    let snapshot = source(&engine);
    let first = bytes(&snapshot);
    engine.write(ID, LogId::new(3, 1001), |batch| batch.delete(Cf::Default, b"key00001"));
    assert_eq!(bytes(&snapshot), first);
}

/// S8: a file of which a byte is wrong, or the end missing, is refused.
#[test]
fn s8_a_damaged_snapshot_is_refused() {
    let good = bytes(&source(&engine(20)));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(verdict(&bad, ID, &meta()).is_err(), "byte {at}");
        assert!(verdict(&good[..at], ID, &meta()).is_err(), "{at} bytes");
        let mut zeroed = good.clone();
        zeroed[at..].fill(0);
        let is_refused = verdict(&zeroed, ID, &meta()).is_err();
        assert!(is_refused || zeroed == good, "zero from {at} on");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(verdict(&longer, ID, &meta()).is_err());
}

/// A good file of something else is refused, too.
#[test]
fn a_snapshot_of_something_else_is_refused() {
    let good = bytes(&source(&engine(20)));
    assert!(verdict(&good, RegionId(2), &meta()).is_err(), "another region");
    for last in [LogId::new(3, 1001), LogId::new(2, 1000)] {
        let meta = SnapshotMeta { last, ..meta() };
        assert!(verdict(&good, ID, &meta).is_err(), "another position");
    }
    let others = Region::first(&[StoreId(1), StoreId(2)]).conf_state();
    let meta = SnapshotMeta { conf_state: others, ..meta() };
    let why = verdict(&good, ID, &meta).expect_err("another membership");
    assert!(why.contains("membership"), "{why}");
}

/// Keys outside of the region would overwrite another region's.
#[test]
fn keys_of_another_region_are_refused() {
    let state = RegionState { region: Arc::new(region()), applied: LAST };
    let mut bytes = Vec::new();
    let mut blocks = BlockWriter::new(seed(ID, LAST), |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), io::Error>(())
    })
    .expect("taken");
    blocks.regions(&[state]).expect("taken");
    blocks.pairs(Cf::Default, [(&b"z"[..], &b""[..])].into_iter()).expect("taken");
    blocks.trailer(LAST.index).expect("taken");
    let why = verdict(&bytes, ID, &meta()).expect_err("a stray");
    assert!(why.contains("another region"), "{why}");
}

/// What cannot be read changes nothing.
#[test]
fn a_failed_load_leaves_the_state_as_it_was() {
    let mounted = SimDisk::new(1).mount();
    let mut bytes = bytes(&source(&engine(3000)));
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    mounted.create(NAME).expect("fine").write_at(0, &bytes).expect("fine");
    let mut there = engine(7);
    let before = source(&there).state_hash();
    let loaded = there.replace_region(|load| read(&*mounted, NAME, ID, LAST, load));
    assert!(matches!(loaded, Err(ReadError::Damaged { .. })));
    assert_eq!(source(&there).state_hash(), before);
}
