use proptest::prelude::*;
use raft::LogId;
use raftstore::disk::SimDisk;
use raftstore::disk::sim::{Crash, Fate, Fault, Operation, Unsynced};
use raftstore::{Region, StoreId};

use super::*;
use crate::command::Cf;
use crate::engine::RegionState;

const ID: RegionId = RegionId::FIRST;
const INLINE: CheckpointOptions = CheckpointOptions {
    log_bytes_min: 1000,
    log_percent_of_state: 0,
    background: Background::Inline,
};

fn engine() -> MemEngine {
    let mut engine = MemEngine::new();
    let region = Arc::new(Region::first(&[StoreId(1)]));
    engine.set_region(RegionState { region, applied: LogId::ZERO });
    engine
}

/// The state after entry `index`: the index itself, and a value that takes several sectors.
fn apply(engine: &mut MemEngine, index: Index) {
    engine.write(ID, LogId::new(1, index), |batch| {
        batch.put(Cf::Default, b"index", &index.to_be_bytes());
        batch.put(Cf::Default, b"long", &vec![index as u8; 1500]);
    });
}

/// Which entry the state is as of, having checked that it is whole.
fn index_of(engine: &MemEngine) -> Index {
    engine.read(|state| {
        let Some(region) = state.region(ID) else { return 0 };
        let index = region.applied.index;
        let expected = (index > 0).then(|| index.to_be_bytes().to_vec());
        assert_eq!(state.get(Cf::Default, b"index").map(|v| v.to_vec()), expected);
        index
    })
}

fn forgotten(index: Index) -> BTreeMap<RegionId, Index> {
    BTreeMap::from([(ID, index)])
}

fn open(disk: &SimDisk, log: Index) -> Result<(Keeper, MemEngine), OpenError> {
    Keeper::open(disk.mount(), INLINE, forgotten(log))
}

fn checkpoint(keeper: &mut Keeper, engine: &MemEngine) {
    keeper.request();
    keeper.maintain(0, engine).expect("the disk is fine");
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.mount().list().expect("the disk is fine")
}

/// A disk with checkpoints 1, 2, 3 of entries 10, 20, 30, of which two are left.
fn three() -> SimDisk {
    let disk = SimDisk::new(1);
    let (mut keeper, _) = open(&disk, 0).expect("a new store");
    let mut engine = engine();
    for index in [10, 20, 30] {
        apply(&mut engine, index);
        checkpoint(&mut keeper, &engine);
        assert_eq!(keeper.durable(ID), index);
    }
    assert_eq!(names(&disk), [name(2), name(3)]);
    disk
}

fn damage(disk: &SimDisk, seq: u64) {
    disk.damage(&name(seq), |bytes| bytes[60] ^= 1);
}

#[test]
fn a_new_store_starts_empty() {
    let (keeper, engine) = open(&SimDisk::new(1), 0).expect("nothing there, nothing missing");
    assert_eq!((index_of(&engine), keeper.durable(ID)), (0, 0));
}

#[test]
fn the_newest_is_loaded() {
    let disk = three();
    let (_, engine) = open(&disk, 30).expect("whole");
    assert_eq!(index_of(&engine), 30);
}

#[test]
fn it_is_due_by_bytes_of_the_log_or_of_entries() {
    let disk = SimDisk::new(1);
    let (mut keeper, _) = open(&disk, 0).expect("a new store");
    let mut engine = engine();
    apply(&mut engine, 1);
    keeper.maintain(999, &engine).expect("fine");
    assert_eq!(keeper.durable(ID), 0, "not yet");
    keeper.maintain(1000, &engine).expect("fine");
    assert_eq!(keeper.durable(ID), 1);
    keeper.maintain(5000, &engine).expect("fine");
    assert_eq!(names(&disk).len(), 1, "nothing new to write");

    apply(&mut engine, 2);
    keeper.grew(1000);
    keeper.maintain(0, &engine).expect("fine");
    assert_eq!(keeper.durable(ID), 2);
    apply(&mut engine, 3);
    keeper.maintain(0, &engine).expect("fine");
    assert_eq!(keeper.durable(ID), 2, "counted once");

    keeper.options.log_percent_of_state = 100;
    keeper.maintain(1500, &engine).expect("fine");
    assert_eq!(keeper.durable(ID), 2, "the state is larger than that");
    keeper.maintain(2000, &engine).expect("fine");
    assert_eq!(keeper.durable(ID), 3);
}

/// S8: the one before the newest will do only if the log has all entries after it.
#[test]
fn s8_an_older_one_will_do_only_if_the_log_covers_the_gap() {
    let disk = three();
    damage(&disk, 3);
    let (mut keeper, mut engine) = open(&disk, 20).expect("the log has 21 and all after it");
    assert_eq!(index_of(&engine), 20);
    let refused = open(&disk, 21).expect_err("entry 21 is lost");
    let OpenError::Damaged { file, fallback: true, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*file, name(3), "it names the damaged file");

    // The damaged one goes once there is a better one; its number is not used again.
    apply(&mut engine, 40);
    checkpoint(&mut keeper, &engine);
    assert_eq!(names(&disk), [name(2), name(4)]);
}

#[test]
fn damage_without_an_alternative_is_refused() {
    let disk = three();
    damage(&disk, 3);
    damage(&disk, 2);
    let refused = open(&disk, 0).expect_err("both are damaged");
    assert!(
        matches!(&refused, OpenError::Damaged { file, fallback: false, .. } if *file == name(3))
    );
    assert_eq!(names(&disk).len(), 2, "the evidence stays");
}

#[test]
fn a_log_that_starts_too_late_is_refused() {
    let refused = open(&three(), 31).expect_err("entry 31 is nowhere");
    assert!(matches!(refused, OpenError::Gap { applied: 30, log: 31, .. }));
    let refused = open(&SimDisk::new(1), 5).expect_err("the first five are nowhere");
    assert!(matches!(refused, OpenError::Gap { applied: 0, log: 5, .. }));
}

/// P13: a checkpoint of an earlier process may be in the kernel's memory only. The log must not
/// forget anything on its account.
#[test]
fn p13_the_log_waits_for_a_checkpoint_of_this_process() {
    let disk = three();
    let (mut keeper, mut engine) = open(&disk, 20).expect("whole");
    assert_eq!((index_of(&engine), keeper.durable(ID)), (30, 20));
    apply(&mut engine, 31);
    checkpoint(&mut keeper, &engine);
    assert_eq!(keeper.durable(ID), 31);
}

#[test]
fn a_full_disk_is_tried_again_and_loses_nothing() {
    let disk = three();
    let (mut keeper, mut engine) = open(&disk, 20).expect("whole");
    apply(&mut engine, 40);
    disk.set_capacity(Some(disk.used() + 700));
    checkpoint(&mut keeper, &engine);
    assert_eq!(keeper.durable(ID), 20);
    assert_eq!(names(&disk), [name(2), name(3)], "no unfinished file stays");
    disk.set_capacity(None);
    let mut calls = 0;
    while keeper.durable(ID) == 20 {
        calls += 1;
        keeper.maintain(5000, &engine).expect("fine");
    }
    assert_eq!(calls, RETRY_CALLS);
    assert_eq!(keeper.durable(ID), 40);
}

/// W10: after a failed sync nothing is said to be durable.
#[test]
fn a_failed_sync_is_the_end() {
    let recorded = three();
    recorded.record();
    let (mut keeper, mut engine) = open(&recorded, 20).expect("whole");
    apply(&mut engine, 40);
    checkpoint(&mut keeper, &engine);
    let moments = recorded.recorded();
    let syncs = |m: &raftstore::disk::sim::Moment| {
        matches!(m.operation, Operation::Sync | Operation::SyncDir)
    };
    assert_eq!(moments.iter().filter(|m| syncs(m)).count(), 3, "body, trailer, directory");
    for at in (0..moments.len()).filter(|&at| syncs(&moments[at])) {
        let disk = three();
        let (mut keeper, mut engine) = open(&disk, 20).expect("whole");
        apply(&mut engine, 40);
        disk.fail(at as u64, Fault::Error);
        keeper.request();
        let failed = keeper.maintain(0, &engine);
        assert!(matches!(failed, Err(WriteError::SyncFailed { .. })), "operation {at}");
        assert_eq!(keeper.durable(ID), 20);
    }
}

/// S8, S13, P5: the power fails before every operation, and leaves every kind of rest: a store
/// always starts, from a whole checkpoint, at least as far as the log had been told to forget.
#[test]
fn any_crash_leaves_a_checkpoint_that_will_do() {
    let disk = SimDisk::new(7);
    disk.record();
    let (mut keeper, _) = open(&disk, 0).expect("a new store");
    let mut engine = engine();
    let mut told = vec![(disk.operations(), 0)];
    for index in 1..=6 {
        apply(&mut engine, index);
        checkpoint(&mut keeper, &engine);
        told.push((disk.operations(), keeper.durable(ID)));
    }
    let first = told[0].0;
    let moments = disk.recorded();
    let mut seen = std::collections::BTreeSet::new();
    for (operation, moment) in (first..).zip(&moments) {
        let durable = told.iter().rfind(|(at, _)| *at <= operation).map_or(0, |told| told.1);
        let check = |disk: SimDisk, how: &str| {
            let (_, engine) = open(&disk, durable)
                .unwrap_or_else(|error| panic!("{how} at {operation} of {moment:?}: {error}"));
            let index = index_of(&engine);
            assert!(index >= durable, "the log has forgotten what the state lacks");
            index - durable
        };
        for seed in 0..20 {
            let disk = moment.disk.fork();
            disk.reseed(seed);
            disk.crash(Crash::Power);
            seen.insert(check(disk, "power failure"));
        }
        for (how, kept) in [("all lost", false), ("all kept", true)] {
            let disk = moment.disk.fork();
            let fate = if kept { Fate::Kept(usize::MAX) } else { Fate::Lost };
            disk.lose_power(&mut |_: &Unsynced<'_>| fate);
            seen.insert(check(disk, how));
        }
        let disk = moment.disk.fork();
        disk.crash(Crash::Process);
        seen.insert(check(disk, "kill"));
    }
    assert_eq!(seen, [0, 1].into(), "both the old and the new one were found");
}

/// On a thread: applying goes on meanwhile, and the checkpoint is of the moment it was begun.
#[test]
fn a_thread_writes_while_entries_are_applied() {
    let disk = SimDisk::new(1);
    let options = CheckpointOptions { background: Background::Thread, ..INLINE };
    let (mut keeper, _) = Keeper::open(disk.mount(), options, BTreeMap::new()).expect("new");
    let mut engine = engine();
    apply(&mut engine, 1);
    keeper.request();
    keeper.maintain(0, &engine).expect("fine");
    for index in 2..200 {
        apply(&mut engine, index);
    }
    keeper.settle(true).expect("fine");
    assert_eq!(keeper.durable(ID), 1);
    let (_, loaded) = open(&disk, 1).expect("whole");
    assert_eq!(index_of(&loaded), 1);
}

/// Whoever stops does not wait for gigabytes to be written.
#[test]
fn stopping_breaks_it_off() {
    let disk = SimDisk::new(1);
    let options = CheckpointOptions { background: Background::Thread, ..INLINE };
    let (mut keeper, _) = Keeper::open(disk.mount(), options, BTreeMap::new()).expect("new");
    let mut engine = engine();
    engine.write(ID, LogId::new(1, 1), |batch| {
        for i in 0..20_000u32 {
            batch.put(Cf::Default, &i.to_be_bytes(), &[7; 100]);
        }
    });
    keeper.request();
    keeper.maintain(0, &engine).expect("fine");
    keeper.stop();
    assert!(keeper.running.is_none());
    let left = names(&disk);
    assert!(left.is_empty() || left == [name(1)], "whole or nothing: {left:?}");
}

proptest! {
    /// Whatever is done in whatever order, with crashes between: the state never goes back behind
    /// what the log may have forgotten, and no more than two checkpoints stay.
    #[test]
    fn never_behind_the_log(
        steps in prop::collection::vec((0..5u8, any::<u64>()), 1..40),
    ) {
        let disk = SimDisk::new(3);
        let mut log = 0;
        let (mut keeper, mut engine) = open(&disk, log).expect("a new store");
        let region = Arc::new(Region::first(&[StoreId(1)]));
        let create = |engine: &mut MemEngine| {
            if index_of(engine) == 0 {
                let region = Arc::clone(&region);
                engine.set_region(RegionState { region, applied: LogId::ZERO });
            }
        };
        create(&mut engine);
        let mut alive = true;
        for (step, seed) in steps {
            match step {
                0 | 1 => {
                    let next = index_of(&engine) + 1;
                    apply(&mut engine, next);
                }
                2 if alive => {
                    keeper.request();
                    alive = keeper.maintain(0, &engine).is_ok();
                    log = log.max(keeper.durable(ID));
                }
                3 => disk.fail(seed % 8, [Fault::Error, Fault::Full][seed as usize / 8 % 2]),
                _ => {
                    disk.heal();
                    disk.reseed(seed);
                    disk.crash(if seed % 2 == 0 { Crash::Power } else { Crash::Process });
                    (keeper, engine) = open(&disk, log).expect("always startable");
                    prop_assert!(index_of(&engine) >= log);
                    create(&mut engine);
                    alive = true;
                }
            }
        }
        // Files whose removal failed or was undone by a crash go with the next start and checkpoint.
        disk.heal();
        disk.crash(Crash::Process);
        (keeper, engine) = open(&disk, log).expect("always startable");
        create(&mut engine);
        let next = index_of(&engine) + 1;
        apply(&mut engine, next);
        checkpoint(&mut keeper, &engine);
        prop_assert_eq!(keeper.durable(ID), next);
        prop_assert!(names(&disk).len() <= KEPT);
    }
}
