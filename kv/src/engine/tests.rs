use std::collections::BTreeMap;

use proptest::prelude::*;
use raftstore::StoreId;

use super::*;

const REGION: RegionId = RegionId::FIRST;

fn engine() -> MemEngine {
    let mut engine = MemEngine::new();
    let region = Arc::new(Region::first(&[StoreId(1)]));
    engine.set_region(RegionState { region, applied: LogId::ZERO });
    engine
}

/// The slow twin: whole copies.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    families: [BTreeMap<Vec<u8>, Vec<u8>>; Cf::ALL.len()],
    applied: LogId,
}

fn content(of: &impl Read) -> Model {
    let mut model =
        Model { applied: of.region(REGION).expect("created").applied, ..Model::default() };
    for cf in Cf::ALL {
        of.scan(cf, b"", b"", false, &mut |key, value| {
            model.families[cf as usize].insert(key.to_vec(), value.to_vec());
            true
        });
        assert_eq!(of.count(cf, b"", b""), model.families[cf as usize].len() as u64);
    }
    model
}

#[derive(Clone, Debug)]
enum Step {
    /// Puts (with a value) and deletes (without) in one batch.
    Batch(Vec<(u8, u8, Option<u8>)>),
    Snapshot,
    Drop(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let change = (0..3u8, 0..60u8, prop::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        8 => prop::collection::vec(change, 0..8).prop_map(Step::Batch),
        1 => Just(Step::Snapshot),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
    ]
}

proptest! {
    /// Batches change the state and the applied position together; snapshots stay as they are for
    /// as long as they are held; nothing is kept for snapshots that are gone.
    #[test]
    fn equals_a_model_that_copies_everything(
        steps in prop::collection::vec(step(), 0..120),
        from in 0..60u8,
        to in 0..60u8,
    ) {
        let (mut engine, mut model) = (engine(), Model::default());
        let mut held: Vec<(MemSnapshot, Model)> = Vec::new();
        for step in steps {
            match step {
                Step::Batch(changes) => {
                    model.applied = LogId::new(1, model.applied.index + 1);
                    engine.write(REGION, model.applied, |batch| {
                        for (cf, key, value) in changes {
                            let (family, cf) =
                                (&mut model.families[cf as usize], Cf::ALL[cf as usize]);
                            let existed = match value {
                                Some(value) => {
                                    let existed = batch.put(cf, &[key], &[value]);
                                    assert_eq!(batch.get(cf, &[key]).as_deref(), Some(&[value][..]));
                                    (existed, family.insert(vec![key], vec![value]))
                                }
                                None => {
                                    let existed = batch.delete(cf, &[key]);
                                    assert_eq!(batch.get(cf, &[key]), None);
                                    (existed, family.remove(&vec![key]))
                                }
                            };
                            assert_eq!(existed.0, existed.1.is_some());
                        }
                    });
                }
                Step::Snapshot => held.push((engine.snapshot(), model.clone())),
                Step::Drop(which) if !held.is_empty() => {
                    let (snapshot, model) = held.swap_remove(which.index(held.len()));
                    prop_assert_eq!(content(&snapshot), model);
                }
                Step::Drop(_) => {}
            }
            let memory = engine.memory();
            prop_assert_eq!(memory.snapshots, held.len());
            prop_assert!(!held.is_empty() || memory.superseded_bytes == 0);
        }
        held.push((engine.snapshot(), model));
        for (snapshot, model) in &held {
            prop_assert_eq!(&content(snapshot), model);
            let keys: Vec<_> = model.families[0]
                .keys()
                .filter(|k| k[0] >= from && k[0] < to)
                .cloned()
                .collect();
            let mut seen = Vec::new();
            snapshot.scan(Cf::Default, &[from], &[to], true, &mut |key, _| {
                seen.push(key.to_vec());
                true
            });
            seen.reverse();
            prop_assert_eq!(seen, keys.clone());
            prop_assert_eq!(snapshot.count(Cf::Default, &[from], &[to]), keys.len() as u64);
        }
    }
}

#[test]
fn memory_is_accounted_for() {
    let mut engine = engine();
    let put = |engine: &mut MemEngine, index, len: usize| {
        engine.write(REGION, LogId::new(1, index), |b| b.put(Cf::Default, b"key", &vec![0; len]));
    };
    put(&mut engine, 1, 100);
    let expected = Memory { keys: 1, live_bytes: 167, superseded_bytes: 0, snapshots: 0 };
    assert_eq!(engine.memory(), expected);
    let snapshot = engine.snapshot();
    put(&mut engine, 2, 200);
    let expected = Memory { keys: 1, live_bytes: 267, superseded_bytes: 167, snapshots: 1 };
    assert_eq!(engine.memory(), expected);
    drop(snapshot);
    assert_eq!(engine.memory(), Memory { superseded_bytes: 0, snapshots: 0, ..expected });
    put(&mut engine, 3, 100_000);
    put(&mut engine, 4, 0);
    engine.write(REGION, LogId::new(1, 5), |b| b.delete(Cf::Default, b"key"));
    assert_eq!(engine.memory(), Memory::default());
}

/// A reader on another thread sees whole batches only, each with its own applied position.
#[test]
fn readers_on_other_threads_see_whole_batches() {
    const BATCHES: u64 = 3_000;
    let mut engine = engine();
    let reader = engine.reader();
    let watch = move || {
        let mut last = 0;
        while last < BATCHES {
            let snapshot = reader.snapshot();
            let index = snapshot.region(REGION).expect("created").applied.index;
            assert!(index >= last, "the applied position never goes back");
            last = index;
            for key in 0..5u8 {
                let value = snapshot.get(Cf::Default, &[key]).map(Cow::into_owned);
                let expected = (index > 0).then(|| index.to_be_bytes().to_vec());
                assert_eq!(value, expected, "data and applied position move together");
            }
        }
    };
    std::thread::scope(|threads| {
        let watchers: Vec<_> = (0..2).map(|_| threads.spawn(watch.clone())).collect();
        for index in 1..=BATCHES {
            engine.write(REGION, LogId::new(1, index), |batch| {
                for key in 0..5u8 {
                    batch.put(Cf::Default, &[key], &index.to_be_bytes());
                }
            });
        }
        for watcher in watchers {
            watcher.join().expect("no assertion failed");
        }
    });
}

/// A panic in the middle of a batch must not let anybody see, or make durable, half of it.
#[test]
fn half_a_batch_is_never_seen() {
    let mut engine = engine();
    let mut torn = || {
        engine.write(REGION, LogId::new(1, 1), |batch| {
            batch.put(Cf::Default, b"k", b"half");
            panic!("in the middle");
        })
    };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut torn));
    assert!(caught.is_err());
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.snapshot()));
    assert!(seen.is_err(), "no snapshot of half a batch");
}
