use bytes::Bytes;
use crossbeam_channel::Receiver;
use proptest::prelude::*;
use raft::{Entry, Run};
use raftstore::command::{encode, encode_compact_log};
use raftstore::disk::SimDisk;
use raftstore::disk::sim::{Crash, Fault};
use raftstore::{Epoch, StoreId};

use super::*;
use crate::command::{OpError, OpResult, Request};

const ID: RegionId = RegionId::FIRST;
const EPOCH: Epoch = Epoch { version: 1, conf_ver: 1 };

/// A machine, and the log it is shown.
struct Fixture {
    machine: KvMachine,
    index: Index,
}

fn envelope(epoch: Epoch, ops: Vec<Op>) -> Bytes {
    let body = Request::new(ops).encode().expect("within the limits");
    encode(ID, epoch, CommandKind::Application, &body)
}

fn entries(term: u64, first: Index, data: Vec<Bytes>) -> Entries {
    let entries: Vec<Entry> = data.into_iter().map(Entry::normal).collect();
    Run::new(term, first, entries).map(Entries::from).unwrap_or_default()
}

impl Fixture {
    fn new() -> Fixture {
        let mut machine = KvMachine::in_memory();
        machine.create(Region::first(&[StoreId(1), StoreId(2), StoreId(3)]));
        Fixture { machine, index: 0 }
    }

    fn propose(&mut self, index: Index, term: u64) -> Receiver<Answer> {
        let (callback, receiver) = Callback::pair();
        self.machine.proposed(ID, LogId::new(term, index), callback);
        receiver
    }

    fn apply(&mut self, term: u64, data: Vec<Bytes>) -> Effects {
        let entries = entries(term, self.index + 1, data);
        self.index += entries.len() as u64;
        self.machine.apply(ID, &entries)
    }

    /// Proposes and applies one command.
    fn run(&mut self, ops: Vec<Op>) -> Answer {
        let receiver = self.propose(self.index + 1, 1);
        self.apply(1, vec![envelope(EPOCH, ops)]);
        receiver.try_recv().expect("answered when applied")
    }

    fn query(&mut self, ops: Vec<Op>) -> Answer {
        let (callback, receiver) = Callback::pair();
        self.machine.read(ID, vec![Query::new(EPOCH, Request::new(ops), callback)]);
        receiver.try_recv().expect("answered at once")
    }

    fn get(&mut self, key: &'static str) -> Option<Bytes> {
        match self.query(vec![Op::get(key)]).expect("served").results.remove(0) {
            OpResult::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    fn set_region(&mut self, change: impl FnOnce(&mut Region)) {
        let group = self.machine.groups.get_mut(&ID).expect("created");
        let region = Arc::make_mut(&mut group.region);
        change(region);
    }
}

fn one(result: OpResult) -> Answer {
    Ok(Response { results: vec![result] })
}

#[test]
fn a_command_is_answered_when_its_entry_is_applied() {
    let mut store = Fixture::new();
    let receiver = store.propose(1, 1);
    assert!(receiver.try_recv().is_err(), "not before");
    store.apply(1, vec![envelope(EPOCH, vec![Op::add("n", 3)])]);
    assert_eq!(receiver.try_recv(), Ok(one(OpResult::Integer(3))));
    assert_eq!(store.get("n"), Some("3".into()));
    assert_eq!(store.machine.applied(ID), Some(LogId::new(1, 1)));
    assert_eq!(store.machine.pending(), 0);
}

/// K1: the fate of a command is decided by (index, term) when an entry is applied, not by the index
/// and not by what was true when it was proposed.
#[test]
fn k1_an_overwritten_command_is_never_a_success() {
    let mut store = Fixture::new();
    let ours = store.propose(1, 1);
    let theirs = envelope(EPOCH, vec![Op::put("k", "theirs")]);
    store.apply(2, vec![theirs]);
    assert_eq!(ours.try_recv(), Ok(Err(Error::StaleCommand)));
    assert_eq!(store.get("k"), Some("theirs".into()));
}

/// K1, the other side: same index and term is a success, however often leadership was lost between.
#[test]
fn k1_losing_leadership_alone_answers_nobody() {
    let mut store = Fixture::new();
    let first = store.propose(1, 1);
    let second = store.propose(2, 1);
    store.apply(1, vec![envelope(EPOCH, vec![Op::put("k", "v")])]);
    assert!(first.try_recv().is_ok_and(|answer| answer.is_ok()));
    assert!(second.try_recv().is_err(), "still open");
    store.apply(1, vec![envelope(EPOCH, vec![Op::put("k", "w")])]);
    assert!(second.try_recv().is_ok_and(|answer| answer.is_ok()));
}

/// K4: both terms waited at the same index; the earlier is stale, the later succeeds, in order.
#[test]
fn k4_the_right_index_with_the_wrong_term_is_stale() {
    let mut store = Fixture::new();
    store.apply(1, vec![envelope(EPOCH, vec![Op::put("k", "0")]); 9]);
    let (answers, order) = crossbeam_channel::unbounded();
    for (index, term) in [(10, 1), (11, 1), (10, 3)] {
        let answers = answers.clone();
        let note = move |answer: Answer| drop(answers.send((index, term, answer.map(|_| ()))));
        store.machine.proposed(ID, LogId::new(term, index), Callback::new(note));
    }
    store.apply(3, vec![envelope(EPOCH, vec![Op::put("k", "3")])]);
    let expected =
        [(10, 1, Err(Error::StaleCommand)), (11, 1, Err(Error::StaleCommand)), (10, 3, Ok(()))];
    assert_eq!(order.try_iter().collect::<Vec<_>>(), expected);
}

/// K5: at shutdown nobody knows; "failed" would be a lie about a command that may yet commit.
#[test]
fn k5_shutdown_answers_unknown() {
    let mut store = Fixture::new();
    let waiting: Vec<_> = (1..=50).map(|index| store.propose(index, 1)).collect();
    store.machine.shut_down();
    for receiver in waiting.into_iter().chain([store.propose(51, 1)]) {
        assert_eq!(receiver.try_recv(), Ok(Err(Unknown::ShuttingDown.into())));
    }
    assert_eq!(store.query(vec![Op::get("k")]), Err(Refusal::ShuttingDown.into()));
}

/// K9: proposed for a region that has since been split: the entry changes nothing, on any replica,
/// and the client learns the new shape.
#[test]
fn k9_the_epoch_is_checked_again_at_apply() {
    let mut store = Fixture::new();
    store.run(vec![Op::put("z", "before")]).expect("applied");
    let ours = store.propose(2, 1);
    store.set_region(|region| {
        region.end_key = b"m".to_vec();
        region.epoch.version = 2;
    });
    store.apply(1, vec![envelope(EPOCH, vec![Op::put("a", "x"), Op::put("z", "after")])]);
    let answer = ours.try_recv().expect("answered");
    let Err(Error::Refused(Refusal::EpochNotMatch { asked: EPOCH, current })) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((current.epoch.version, &current.end_key[..]), (2, &b"m"[..]));
    let state = store.machine.reader().snapshot();
    assert_eq!(state.get(crate::Cf::Default, b"a"), None, "nothing took effect");
    assert_eq!(state.get(crate::Cf::Default, b"z").as_deref(), Some(&b"before"[..]));
    assert_eq!(
        store.machine.applied(ID),
        Some(LogId::new(1, 2)),
        "the entry is applied all the same"
    );
}

/// K9: a request that names one key outside its region takes no effect at all.
#[test]
fn k9_one_key_outside_the_region_stops_all_of_the_request() {
    let mut store = Fixture::new();
    store.set_region(|region| region.end_key = b"m".to_vec());
    let answer = store.run(vec![Op::put("a", "x"), Op::put("z", "y")]);
    assert!(matches!(answer, Err(Error::KeyNotInRegion { key, .. }) if key == b"z"));
    assert_eq!(store.get("a"), None);
    assert!(matches!(store.query(vec![Op::get("z")]), Err(Error::KeyNotInRegion { .. })));
}

/// A change of members leaves commands valid that were proposed before it.
#[test]
fn a_change_of_members_alone_refuses_nothing() {
    let mut store = Fixture::new();
    store.set_region(|region| region.epoch.conf_ver = 5);
    assert!(store.run(vec![Op::put("a", "x")]).is_ok());
}

/// P9: the applied index is that of the last entry really applied, also if the next one is damaged
/// in the middle of a batch of ten; and from there on nothing is applied, read, or told.
#[test]
fn p9_a_damaged_entry_halts_the_machine_where_it_is() {
    let mut store = Fixture::new();
    let mut batch: Vec<Bytes> = (0..10).map(|_| envelope(EPOCH, vec![Op::add("n", 1)])).collect();
    let mut damaged = batch[6].to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    batch[6] = damaged.into();
    let waiting: Vec<_> = (1..=10).map(|index| store.propose(index, 1)).collect();

    let halt = store.apply(1, batch).halt.expect("it cannot go on");
    assert_eq!((halt.region, halt.at), (ID, LogId::new(1, 7)));
    assert_eq!(store.machine.applied(ID), Some(LogId::new(1, 6)));
    let state = store.machine.reader().snapshot();
    assert_eq!(state.get(crate::Cf::Default, b"n").as_deref(), Some(&b"6"[..]));
    for (at, receiver) in waiting.iter().enumerate() {
        assert_eq!(receiver.try_recv().is_ok(), at < 6, "nobody is told what was not done");
    }
    let good = envelope(EPOCH, vec![Op::add("n", 1)]);
    assert_eq!(store.apply(1, vec![good]).halt, Some(halt), "it stays halted");
    assert_eq!(store.query(vec![Op::get("n")]), Err(Refusal::ShuttingDown.into()));
    store.machine.shut_down();
    let unknown = waiting.iter().filter_map(|receiver| receiver.try_recv().ok());
    assert_eq!(unknown.collect::<Vec<_>>(), vec![Err(Unknown::ShuttingDown.into()); 4]);
}

/// What only a newer version can have written must not be skipped either.
#[test]
fn an_unknown_command_halts_the_machine() {
    let sealed = |body: &[u8]| encode(ID, EPOCH, CommandKind::Application, body);
    for body in [&b""[..], b"\x02\x01\x01\x00\x01k", b"\x01\x01\x7f\x00\x01k", b"\x01\x00more"] {
        let mut store = Fixture::new();
        assert!(store.apply(1, vec![sealed(body)]).halt.is_some(), "{body:?}");
        assert_eq!(store.machine.applied(ID), Some(LogId::ZERO));
    }
}

/// A command cut in the middle changes nothing, not even by its first operations.
#[test]
fn operations_before_an_unreadable_one_have_no_effect() {
    let mut body =
        Request::new(vec![Op::put("a", "x"), Op::put("b", "y")]).encode().expect("small").to_vec();
    body.truncate(body.len() - 1);
    let mut store = Fixture::new();
    let entry = encode(ID, EPOCH, CommandKind::Application, &body);
    assert!(store.apply(1, vec![entry]).halt.is_some());
    let state = store.machine.reader().snapshot();
    assert_eq!(state.get(crate::Cf::Default, b"a"), None);
}

#[test]
fn compact_log_is_handed_on_and_changes_nothing() {
    let mut store = Fixture::new();
    store.run(vec![Op::put("k", "v")]).expect("applied");
    let before = store.machine.state_hash(ID);
    let ours = store.propose(2, 1);
    let effects = store.apply(1, vec![encode_compact_log(ID, EPOCH, 1), Bytes::new()]);
    assert_eq!(effects, Effects { compact: Some(1), ..Effects::default() });
    assert_eq!(ours.try_recv(), Ok(Ok(Response::default())));
    assert_eq!(store.machine.state_hash(ID), before);
    assert_eq!(store.machine.applied(ID), Some(LogId::new(1, 3)), "the empty entry counts");
}

#[test]
fn queries_read_and_only_read() {
    let mut store = Fixture::new();
    store.run(vec![Op::put("a", "1"), Op::put("b", "2")]).expect("applied");
    let answer = store.query(vec![Op::get("a"), Op::count(), Op::exists("c")]).expect("served");
    let expected = [OpResult::Value(Some("1".into())), OpResult::Count(2), OpResult::Exists(false)];
    assert_eq!(answer.results, expected);
    assert_eq!(store.query(vec![Op::get("a"), Op::put("a", "9")]), Err(Error::NotReadOnly));
    assert_eq!(store.get("a"), Some("1".into()));

    let (callback, receiver) = Callback::pair();
    let later = Epoch { version: 7, conf_ver: 1 };
    store.machine.read(ID, vec![Query::new(later, Op::get("a").into(), callback)]);
    let answer = receiver.try_recv().expect("answered");
    assert!(matches!(answer, Err(Error::Refused(Refusal::EpochNotMatch { .. }))));

    let (callback, receiver) = Callback::pair();
    store.machine.read(RegionId(9), vec![Query::new(EPOCH, Op::get("a").into(), callback)]);
    assert_eq!(receiver.try_recv(), Ok(Err(Refusal::RegionNotFound(RegionId(9)).into())));
}

/// I5: a snapshot is of one moment, and of the region as it was then.
#[test]
fn a_snapshot_stays_as_it_was() {
    let mut store = Fixture::new();
    store.run(vec![Op::put("a", "1"), Op::put("z", "26")]).expect("applied");
    store.set_region(|region| region.end_key = b"m".to_vec());
    let (callback, receiver) = Callback::pair();
    store.machine.read(ID, vec![Query::snapshot(EPOCH, callback)]);
    let snapshot = receiver.try_recv().expect("answered").expect("served");
    let hash = store.machine.state_hash(ID);
    assert_eq!(Some(snapshot.state_hash()), hash);
    store.run(vec![Op::put("a", "2"), Op::put("b", "3")]).expect("applied");
    assert_ne!(store.machine.state_hash(ID), hash);
    assert_eq!(Some(snapshot.state_hash()), hash);
    let default = crate::Cf::Default;
    assert_eq!(snapshot.applied(), LogId::new(1, 1));
    assert_eq!(snapshot.get(default, b"a"), Some("1".into()));
    assert_eq!(snapshot.get(default, b"z"), None, "not in the region");
    assert_eq!(snapshot.count(default, b"", b""), 1);
    assert_eq!(snapshot.count(default, b"", b"zz"), 1);
    let mut seen = Vec::new();
    snapshot.scan(default, b"", b"", true, &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
        true
    });
    assert_eq!(seen, [(b"a".to_vec(), b"1".to_vec())]);
}

/// The hash tells states apart that differ in any of their parts.
#[test]
fn the_hash_sees_every_difference() {
    let hash_of = |ops: Vec<Op>| {
        let mut store = Fixture::new();
        store.run(ops).expect("applied");
        store.machine.state_hash(ID).expect("created")
    };
    let lock = |key: &'static str, value: &'static str| Op::Put {
        cf: crate::Cf::Lock,
        key: key.into(),
        value: value.into(),
        condition: crate::Condition::None,
        return_old: false,
    };
    let mut hashes = vec![
        hash_of(vec![]),
        hash_of(vec![Op::put("k", "v")]),
        hash_of(vec![Op::put("k", "w")]),
        hash_of(vec![Op::put("kv", "")]),
        hash_of(vec![Op::put("", "kv")]),
        hash_of(vec![Op::put("k", "v\0")]),
        hash_of(vec![lock("k", "v")]),
        hash_of(vec![Op::put("k", "v"), lock("k", "v")]),
    ];
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 8);
    assert_eq!(
        hash_of(vec![Op::put("k", "v")]),
        hash_of(vec![Op::put("k", "x"), Op::put("k", "v")])
    );
}

/// L1: why clients must not retry what may have been applied: the machine applies what the log
/// holds, as often as the log holds it.
#[test]
fn l1_a_command_proposed_twice_is_applied_twice() {
    let mut store = Fixture::new();
    let add = || envelope(EPOCH, vec![Op::add("n", 1)]);
    let lost = store.propose(1, 1);
    drop(lost);
    store.apply(1, vec![add(), add()]);
    assert_eq!(store.get("n"), Some("2".into()));
}

fn inline() -> CheckpointOptions {
    CheckpointOptions { log_bytes_min: 0, log_percent_of_state: 0, background: Background::Inline }
}

impl Fixture {
    /// Starts from what is on `disk`, the log having forgotten up to `log`.
    fn open(disk: &SimDisk, log: Index) -> Fixture {
        let mut machine = KvMachine::open(disk.mount(), inline(), [(ID, log)]).expect("startable");
        let recovered = machine.recovered();
        if recovered.is_empty() {
            machine.create(Region::first(&[StoreId(1), StoreId(2), StoreId(3)]));
        }
        let index = recovered.first().map_or(0, |region| region.applied.index);
        Fixture { machine, index }
    }

    fn hash(&self) -> u64 {
        self.machine.state_hash(ID).expect("created")
    }
}

/// P8, K10, S13: the process dies before any I/O of a run of counters and checkpoints. What is found
/// again is exactly the state of its applied index, and with the log after it every command has
/// been applied exactly once.
#[test]
fn p8_k10_after_any_crash_data_and_applied_index_agree() {
    let commands: Vec<Bytes> = (0..30u8)
        .map(|i| envelope(EPOCH, vec![Op::add("sum", 1), Op::put(vec![i % 5], vec![i; 700])]))
        .collect();
    let mut canonical = Fixture::new();
    let mut hashes = vec![canonical.hash()];
    for command in &commands {
        canonical.apply(1, vec![command.clone()]);
        hashes.push(canonical.hash());
    }

    let disk = SimDisk::new(5);
    disk.record();
    let mut store = Fixture::open(&disk, 0);
    let mut durable = vec![(0, 0)];
    for batch in commands.chunks(3) {
        store.apply(1, batch.to_vec());
        store.machine.maintain(1);
        durable.push((disk.operations(), store.machine.durable(ID)));
    }
    let moments = disk.recorded();
    assert!(moments.len() > 60, "ten checkpoints");
    let first = disk.operations() - moments.len() as u64;
    let mut found = std::collections::BTreeSet::new();
    for (operation, moment) in (first..).zip(moments) {
        let log = durable.iter().rfind(|(at, _)| *at <= operation).map_or(0, |found| found.1);
        for crash in [Crash::Power, Crash::Process] {
            let disk = moment.disk.fork();
            disk.crash(crash);
            let mut store = Fixture::open(&disk, log);
            let at = store.index as usize;
            assert!(store.index >= log, "nothing is lost that the log has forgotten");
            assert_eq!(store.hash(), hashes[at], "{crash:?} before operation {operation}");
            store.apply(1, commands[at..].to_vec());
            assert_eq!(store.hash(), hashes[30]);
            assert_eq!(store.get("sum"), Some("30".into()), "each exactly once");
            found.insert(at);
        }
    }
    assert_eq!(found, (0..=30).step_by(3).collect(), "every checkpoint was started from");
}

/// W10: a store that cannot make anything durable any more stops at its next entry, and the log
/// forgets nothing.
#[test]
fn a_failed_sync_halts_the_machine_at_the_next_entry() {
    let disk = SimDisk::new(5);
    let mut store = Fixture::open(&disk, 0);
    store.run(vec![Op::put("k", "v")]).expect("applied");
    // Operations of a checkpoint: create, magic, regions, pairs, and then the first sync.
    disk.fail(4, Fault::Error);
    store.machine.maintain(1);
    assert_eq!(store.machine.durable(ID), 0);
    let ours = store.propose(2, 1);
    let halt = store.apply(1, vec![envelope(EPOCH, vec![Op::put("k", "w")])]).halt;
    assert_eq!(halt.expect("stopped").at, LogId::new(1, 2));
    store.machine.shut_down();
    assert_eq!(ours.try_recv(), Ok(Err(Unknown::ShuttingDown.into())));
}

#[test]
fn a_machine_in_memory_lets_the_log_forget_nothing() {
    let mut store = Fixture::new();
    store.run(vec![Op::put("k", "v")]).expect("applied");
    store.machine.request_checkpoint();
    store.machine.maintain(u64::MAX);
    assert_eq!(store.machine.durable(ID), 0);
}

fn op() -> impl Strategy<Value = Op> {
    let key = prop::sample::select(&["a", "b", "c"][..]);
    prop_oneof![
        (key.clone(), 0..9i64).prop_map(|(k, n)| Op::put(k, n.to_string())),
        key.clone().prop_map(Op::delete),
        (key.clone(), -5..5i64).prop_map(|(k, n)| Op::add(k, n)),
        (key.clone(), 0..9i64).prop_map(|(k, n)| Op::compare_and_set(
            k,
            None,
            Some(n.to_string().into())
        )),
        key.prop_map(|k| Op::put(k, "text")),
    ]
}

proptest! {
    /// K12: however the same entries are cut into batches, and whoever waits for them, the state
    /// is the same; everybody who waits gets exactly one answer.
    #[test]
    fn k12_same_entries_same_hash(
        commands in prop::collection::vec(prop::collection::vec(op(), 0..4), 1..20),
        cuts in prop::collection::vec(1..5usize, 20),
        ours in prop::collection::vec(any::<bool>(), 20),
    ) {
        let data: Vec<Bytes> = commands.into_iter().map(|ops| envelope(EPOCH, ops)).collect();
        let (mut leader, mut follower) = (Fixture::new(), Fixture::new());
        let waiting: Vec<_> = (1..=data.len() as u64)
            .zip(&ours)
            .filter(|(_, ours)| **ours)
            .map(|(index, _)| leader.propose(index, 1))
            .collect();
        leader.apply(1, data.clone());
        let mut rest = &data[..];
        for cut in cuts {
            let (batch, left) = rest.split_at(cut.min(rest.len()));
            follower.apply(1, batch.to_vec());
            rest = left;
        }
        prop_assert_eq!(leader.machine.applied(ID), follower.machine.applied(ID));
        prop_assert_eq!(leader.machine.state_hash(ID), follower.machine.state_hash(ID));
        for receiver in waiting {
            let answer = receiver.try_recv().expect("answered").expect("applied");
            let failed = OpResult::Failed(OpError::NotAnInteger);
            prop_assert!(answer.results.iter().all(|r| !matches!(r, OpResult::Failed(_)) || *r == failed));
            prop_assert!(receiver.try_recv().is_err(), "once");
        }
        prop_assert_eq!(leader.machine.pending(), 0);
    }
}
