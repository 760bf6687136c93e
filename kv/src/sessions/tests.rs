use std::collections::BTreeMap;

use proptest::prelude::*;
use raft::LogId;
use raftstore::{RegionId, StoreId};

use super::*;
use crate::engine::{Engine, MemEngine, Read, RegionState};

const ID: RegionId = RegionId::FIRST;

/// A region to which entries are applied, one after the other.
struct Fixture {
    engine: MemEngine,
    region: Region,
    index: Index,
    carried_out: Vec<u64>,
}

impl Fixture {
    fn new() -> Fixture {
        let region = Region::first(&[StoreId(1)]);
        let mut engine = MemEngine::new();
        let state = RegionState { region: region.clone().into(), applied: LogId::ZERO };
        engine.set_region(state);
        Fixture { engine, region, index: 0, carried_out: Vec::new() }
    }

    fn apply(&mut self, session: Session, response: Response) -> Answer {
        self.index += 1;
        let (at, region, carried_out) = (self.index, &self.region, &mut self.carried_out);
        self.engine.write(ID, LogId::new(1, at), |batch| {
            run(session, at, region, batch, |_| {
                carried_out.push(at);
                response
            })
        })
    }

    fn open(&mut self) -> u64 {
        let opened = self.apply(Session::Open, Response::default()).expect("opened");
        match opened.results[..] {
            [OpResult::Integer(id)] => id as u64,
            ref other => panic!("{other:?}"),
        }
    }

    fn command(&mut self, id: u64, sequence: u64, gives: i64) -> Answer {
        let response = Response { results: vec![OpResult::Integer(gives)] };
        self.apply(Session::Command { id, sequence }, response)
    }

    fn count(&self) -> u64 {
        self.engine.snapshot().count(Cf::Session, b"", b"")
    }
}

fn gave(number: i64) -> Answer {
    Ok(Response { results: vec![OpResult::Integer(number)] })
}

/// L1: asked twice, carried out once, and answered the same.
#[test]
fn l1_the_same_command_again_is_answered_and_not_carried_out() {
    let mut state = Fixture::new();
    let id = state.open();
    assert_eq!(state.command(id, 1, 10), gave(10));
    assert_eq!(state.command(id, 1, 99), gave(10));
    assert_eq!(state.command(id, 2, 20), gave(20));
    assert_eq!(state.command(id, 1, 99), Err(Error::Superseded));
    assert_eq!(state.command(id, 2, 99), gave(20));
    assert_eq!(state.carried_out, [2, 4]);
    // A client may leave out numbers, and never uses 0.
    assert_eq!(state.command(id, 7, 70), gave(70));
    assert_eq!(state.command(id, 0, 99), Err(Error::Superseded));
}

#[test]
fn sessions_know_nothing_of_each_other() {
    let mut state = Fixture::new();
    let (one, two) = (state.open(), state.open());
    assert_ne!(one, two);
    assert_eq!(state.command(one, 1, 1), gave(1));
    assert_eq!(state.command(two, 1, 2), gave(2));
    assert_eq!(state.command(one, 1, 9), gave(1));
    assert_eq!(state.command(99, 1, 9), Err(Error::SessionExpired));
    assert_eq!(state.command(0, 1, 9), Err(Error::SessionExpired));
}

#[test]
fn a_large_response_is_not_kept_but_the_command_is_not_carried_out_again() {
    let mut state = Fixture::new();
    let id = state.open();
    let large = Response { results: vec![OpResult::Value(Some(vec![7; 2000].into()))] };
    let command = Session::Command { id, sequence: 1 };
    assert_eq!(state.apply(command, large.clone()), Ok(large.clone()));
    assert_eq!(state.apply(command, large), Err(Error::ResponseForgotten));
    assert_eq!(state.carried_out.len(), 1);
}

#[test]
fn the_one_that_was_used_longest_ago_is_forgotten() {
    let mut state = Fixture::new();
    let ids: Vec<u64> = (0..SESSIONS_MAX).map(|_| state.open()).collect();
    assert_eq!(state.command(ids[0], 1, 1), gave(1));
    // A retry counts as a use, too.
    assert_eq!(state.command(ids[1], 1, 2), gave(2));
    state.open();
    assert_eq!(state.count(), SESSIONS_MAX);
    assert_eq!(state.command(ids[2], 1, 3), Err(Error::SessionExpired));
    assert_eq!(state.command(ids[0], 1, 9), gave(1));
    assert_eq!(state.command(ids[1], 1, 9), gave(2));
    assert_eq!(state.command(ids[3], 1, 4), gave(4));
}

/// The last key that fits is the longest a region can begin with.
#[test]
fn a_region_without_room_for_a_session_refuses_them() {
    let mut state = Fixture::new();
    state.region.start_key = vec![b'x'; KEY_BYTES_MAX - 7];
    assert_eq!(state.apply(Session::Open, Response::default()), Err(Error::SessionExpired));
    state.region.start_key.pop();
    state.open();
    state.region.end_key = [&state.region.start_key[..], b"\0"].concat();
    assert_eq!(state.command(1, 1, 1), Err(Error::SessionExpired), "beyond the region's end");
}

proptest! {
    /// Against the simplest thing that could be right: a map of all that was ever answered.
    #[test]
    fn every_number_is_carried_out_at_most_once(
        commands in prop::collection::vec((0..3usize, 1..6u64), 1..60),
    ) {
        let mut state = Fixture::new();
        let ids = [state.open(), state.open(), state.open()];
        let mut model: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
        for (n, (session, sequence)) in commands.into_iter().enumerate() {
            let answer = state.command(ids[session], sequence, n as i64);
            let (last, given) = model.get(&ids[session]).copied().unwrap_or_default();
            let expected = match sequence.cmp(&last) {
                std::cmp::Ordering::Less => Err(Error::Superseded),
                std::cmp::Ordering::Equal => gave(given),
                std::cmp::Ordering::Greater => {
                    model.insert(ids[session], (sequence, n as i64));
                    gave(n as i64)
                }
            };
            prop_assert_eq!(answer, expected);
        }
    }
}
