use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use raft::LogId;
use raftstore::{RegionId, StoreId};

use super::*;
use crate::command::encoding::Ops;
use crate::command::{Request, Response};
use crate::engine::{Engine, MemEngine, RegionState};

struct Fixture {
    engine: MemEngine,
    region: Region,
    index: u64,
}

impl Fixture {
    fn new() -> Fixture {
        let region = Region::first(&[StoreId(1)]);
        let mut engine = MemEngine::new();
        engine.set_region(RegionState { region: Arc::new(region.clone()), applied: LogId::ZERO });
        Fixture { engine, region, index: 0 }
    }

    fn run(&mut self, ops: Vec<Op>) -> Vec<OpResult> {
        self.index += 1;
        let bytes = Request::new(ops).encode().expect("within the limits");
        let region = &self.region;
        self.engine.write(RegionId::FIRST, LogId::new(1, self.index), |batch| {
            let mut reads = Reads::new(region);
            let ops = Ops::read(&bytes).expect("just encoded").flatten();
            ops.map(|op| run(&op, batch, &mut reads, true)).collect()
        })
    }

    fn one(&mut self, op: Op) -> OpResult {
        self.run(vec![op]).remove(0)
    }

    fn read(&self, ops: Vec<Op>) -> Response {
        self.engine.read(|state| read_all(&ops, &self.region, state))
    }
}

fn value(text: &'static str) -> OpResult {
    OpResult::Value(Some(text.into()))
}

#[test]
fn put_obeys_its_condition_and_returns_the_old_value() {
    let mut store = Fixture::new();
    let put = |value: &'static str, condition| Op::Put {
        cf: Cf::Default,
        key: "k".into(),
        value: value.into(),
        condition,
        return_old: true,
    };
    let result =
        |written, old: Option<&'static str>| OpResult::Put { written, old: old.map(Into::into) };
    assert_eq!(store.one(put("1", Condition::IfPresent)), result(false, None));
    assert_eq!(store.one(put("1", Condition::IfAbsent)), result(true, None));
    assert_eq!(store.one(put("2", Condition::IfAbsent)), result(false, Some("1")));
    assert_eq!(store.one(put("3", Condition::IfPresent)), result(true, Some("1")));
    assert_eq!(store.one(put("4", Condition::None)), result(true, Some("3")));
    assert_eq!(store.one(Op::get("k")), value("4"));
}

#[test]
fn delete_says_what_was_there() {
    let mut store = Fixture::new();
    store.one(Op::put("k", "v"));
    let delete = Op::Delete { cf: Cf::Default, key: "k".into(), return_old: true };
    assert_eq!(
        store.one(delete.clone()),
        OpResult::Deleted { existed: true, old: Some("v".into()) }
    );
    assert_eq!(store.one(delete), OpResult::Deleted { existed: false, old: None });
}

/// Redis's rules for numbers: decimal, shortest form, 64 bits.
#[test]
fn add_takes_numbers_as_redis_does() {
    let mut store = Fixture::new();
    assert_eq!(store.one(Op::add("n", 5)), OpResult::Integer(5));
    assert_eq!(store.one(Op::add("n", -7)), OpResult::Integer(-2));
    assert_eq!(store.one(Op::get("n")), value("-2"));
    for good in ["0", "-1", "10", "9223372036854775807", "-9223372036854775808"] {
        store.one(Op::put("n", good));
        assert_eq!(store.one(Op::add("n", 0)), OpResult::Integer(good.parse().expect("a number")));
        assert_eq!(store.one(Op::get("n")), value(good));
    }
    let bad =
        ["", " 1", "1 ", "+1", "01", "-0", "00", "-", "1.0", "1e3", "x", "9223372036854775808"];
    for bad in bad {
        store.one(Op::put("n", bad));
        assert_eq!(store.one(Op::add("n", 1)), OpResult::Failed(OpError::NotAnInteger), "{bad:?}");
        assert_eq!(store.one(Op::get("n")), value(bad), "unchanged");
    }
    store.one(Op::put("n", "9223372036854775807"));
    assert_eq!(store.one(Op::add("n", 1)), OpResult::Failed(OpError::Overflow));
    store.one(Op::put("n", "-9223372036854775808"));
    assert_eq!(store.one(Op::add("n", -1)), OpResult::Failed(OpError::Overflow));
}

#[test]
fn compare_and_set_swaps_only_what_it_expects() {
    let mut store = Fixture::new();
    let cas = |expected: Option<&'static str>, new: Option<&'static str>| {
        Op::compare_and_set("k", expected.map(Into::into), new.map(Into::into))
    };
    let swapped = OpResult::Swapped { swapped: true, current: None };
    let kept = |current: Option<&'static str>| OpResult::Swapped {
        swapped: false,
        current: current.map(Into::into),
    };
    assert_eq!(store.one(cas(Some("1"), Some("2"))), kept(None));
    assert_eq!(store.one(cas(None, Some("1"))), swapped);
    assert_eq!(store.one(cas(None, Some("2"))), kept(Some("1")));
    assert_eq!(store.one(cas(Some("1"), Some("2"))), swapped);
    assert_eq!(store.one(cas(Some("2"), None)), swapped);
    assert_eq!(store.one(cas(None, None)), swapped);
    assert_eq!(store.one(Op::exists("k")), OpResult::Exists(false));
}

#[test]
fn append_grows_a_value_up_to_the_limit() {
    let mut store = Fixture::new();
    let append = |value: Bytes| Op::Append { cf: Cf::Default, key: "k".into(), value };
    assert_eq!(store.one(append("ab".into())), OpResult::Length(2));
    assert_eq!(store.one(append("c".into())), OpResult::Length(3));
    assert_eq!(store.one(Op::get("k")), value("abc"));
    let rest = VALUE_BYTES_MAX - 3;
    assert_eq!(
        store.one(append(vec![0; rest + 1].into())),
        OpResult::Failed(OpError::ValueTooLarge)
    );
    let length = Op::Length { cf: Cf::Default, key: "k".into() };
    assert_eq!(store.one(length), OpResult::Length(3));
    assert_eq!(store.one(append(vec![0; rest].into())), OpResult::Length(VALUE_BYTES_MAX as u64));
}

/// As in a Redis MULTI: what fails, fails alone; each operation sees those before it.
#[test]
fn a_failed_operation_leaves_the_others_their_effect() {
    let mut store = Fixture::new();
    let results = store.run(vec![
        Op::put("a", "1"),
        Op::put("text", "x"),
        Op::add("text", 1),
        Op::add("a", 1),
        Op::get("a"),
        Op::count(),
    ]);
    assert_eq!(results[2], OpResult::Failed(OpError::NotAnInteger));
    assert_eq!(results[3], OpResult::Integer(2));
    assert_eq!(results[4..], [value("2"), OpResult::Count(2)]);
}

#[test]
fn column_families_are_separate() {
    let mut store = Fixture::new();
    for (cf, value) in [(Cf::Lock, "lock"), (Cf::Write, "write")] {
        let (key, value) = ("k".into(), value.into());
        store.one(Op::Put { cf, key, value, condition: Condition::None, return_old: false });
    }
    assert_eq!(store.one(Op::get("k")), OpResult::Value(None));
    assert_eq!(store.one(Op::Get { cf: Cf::Lock, key: "k".into() }), value("lock"));
    assert_eq!(store.one(Op::Get { cf: Cf::Write, key: "k".into() }), value("write"));
    assert_eq!(store.one(Op::count()), OpResult::Count(0));
}

#[test]
fn scans_stop_at_their_limits_and_say_so() {
    let mut store = Fixture::new();
    store.run(["a", "b", "c", "d"].map(|key| Op::put(key, key)).to_vec());
    let scan = |start: &'static str, end: &'static str, limit, reverse, keys_only| {
        let (cf, start, end) = (Cf::Default, start.into(), end.into());
        let op = Op::Scan { cf, start, end, limit, reverse, keys_only };
        let OpResult::Pairs { pairs, more } = store.read(vec![op]).results.remove(0) else {
            panic!("a scan gives pairs");
        };
        assert!(pairs.iter().all(|(k, v)| if keys_only { v.is_empty() } else { k == v }));
        (pairs.into_iter().map(|(k, _)| k).collect::<Vec<_>>(), more)
    };
    let keys = |keys: &[&'static str]| keys.iter().map(|&k| Bytes::from(k)).collect::<Vec<_>>();
    assert_eq!(scan("", "", 10, false, false), (keys(&["a", "b", "c", "d"]), false));
    assert_eq!(scan("b", "d", 10, false, false), (keys(&["b", "c"]), false));
    assert_eq!(scan("b", "d", 2, true, true), (keys(&["c", "b"]), false));
    assert_eq!(scan("", "", 3, true, false), (keys(&["d", "c", "b"]), true));
    assert_eq!(scan("", "", 0, false, false), (keys(&[]), true));
    assert_eq!(scan("d", "b", 10, false, false), (keys(&[]), false));
}

#[test]
fn a_response_has_a_size_limit() {
    let mut store = Fixture::new();
    let large = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    for key in ["a", "b", "c", "d", "e"] {
        store.one(Op::put(key, large.clone()));
    }
    let results = store.read(["a", "b", "c", "d", "e", "none"].map(Op::get).to_vec()).results;
    let fit = RESPONSE_BYTES_MAX / VALUE_BYTES_MAX;
    assert!(results[..fit].iter().all(|r| *r == OpResult::Value(Some(large.clone()))));
    assert_eq!(results[fit], OpResult::Failed(OpError::ResponseTooLarge));
    assert_eq!(results[5], OpResult::Value(None));
    let results = store.read(vec![Op::scan("", "", 10)]).results;
    let OpResult::Pairs { pairs, more: true } = &results[0] else { panic!("cut: there is more") };
    assert_eq!(pairs.len(), fit - 1, "keys and overhead count as well");
}

#[test]
fn keys_and_bounds_outside_the_region_are_found() {
    let mut region = Region::first(&[StoreId(1)]);
    (region.start_key, region.end_key) = (b"f".to_vec(), b"m".to_vec());
    let outside = |op: Op| first_outside(&op.borrowed(), &region).map(<[u8]>::to_vec);
    assert_eq!(outside(Op::get("f")), None);
    assert_eq!(outside(Op::put("lz", "")), None);
    assert_eq!(outside(Op::add("m", 1)), Some(b"m".to_vec()));
    assert_eq!(outside(Op::delete("e")), Some(b"e".to_vec()));
    assert_eq!(outside(Op::scan("", "", 1)), None, "empty bounds are the region's");
    assert_eq!(outside(Op::scan("f", "m", 1)), None);
    assert_eq!(outside(Op::scan("g", "h", 1)), None);
    assert_eq!(outside(Op::scan("e", "h", 1)), Some(b"e".to_vec()));
    assert_eq!(outside(Op::scan("g", "n", 1)), Some(b"n".to_vec()));
    assert_eq!(outside(Op::scan("m", "", 1)), Some(b"m".to_vec()));
}

proptest! {
    /// A counter per key and a map are enough of a model for what changes the state.
    #[test]
    fn equals_a_model(
        ops in prop::collection::vec((0..6u8, 0..4u8, -3..3i64), 0..60),
    ) {
        let mut store = Fixture::new();
        let mut model: BTreeMap<u8, i64> = BTreeMap::new();
        for (what, key, number) in ops {
            let name = vec![key];
            let text = |n: i64| Bytes::from(n.to_string());
            let before = model.get(&key).copied();
            let (op, expected) = match what {
                0 => {
                    model.insert(key, number);
                    (Op::put(name, text(number)), OpResult::Put { written: true, old: None })
                }
                1 => {
                    model.remove(&key);
                    let existed = before.is_some();
                    (Op::delete(name), OpResult::Deleted { existed, old: None })
                }
                2 => {
                    let sum = before.unwrap_or(0) + number;
                    model.insert(key, sum);
                    (Op::add(name, number), OpResult::Integer(sum))
                }
                3 => {
                    let expected = Some(number);
                    let swapped = before == expected;
                    if swapped {
                        model.insert(key, 99);
                    }
                    let current = before.filter(|_| !swapped).map(text);
                    let cas = Op::compare_and_set(name, expected.map(text), Some(text(99)));
                    (cas, OpResult::Swapped { swapped, current })
                }
                4 => (Op::get(name), OpResult::Value(before.map(text))),
                _ => (Op::count(), OpResult::Count(model.len() as u64)),
            };
            prop_assert_eq!(store.one(op), expected);
        }
    }
}
