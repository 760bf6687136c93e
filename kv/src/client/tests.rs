use std::collections::VecDeque;

use raft::{Entries, Entry, LogId, Run};
use raftstore::command::{CommandKind, encode};
use raftstore::{Epoch, Machine, Region, RegionId};

use super::*;
use crate::callback::Callback;
use crate::machine::KvMachine;

/// What becomes of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// Not carried out, and said so.
    Refused,
    /// Not carried out, and nobody says so.
    Lost,
    /// Carried out, and the answer is lost.
    Mute,
}

/// One store of three, with a state machine, and what becomes of the tries, in order.
struct Fake {
    machine: KvMachine,
    index: u64,
    fates: VecDeque<Fate>,
    now: Duration,
    asked: Vec<(StoreId, Request)>,
}

fn client(fates: impl IntoIterator<Item = Fate>) -> Client<Fake> {
    let mut machine = KvMachine::in_memory();
    machine.create(Region::first(&[StoreId(1)]));
    let (fates, now) = (fates.into_iter().collect(), Duration::ZERO);
    Client::new(Fake { machine, index: 0, fates, now, asked: Vec::new() })
}

impl Fake {
    fn carry_out(&mut self, request: &Request) -> Answer {
        let body = request.encode().expect("within the limits");
        let epoch = Epoch { version: 1, conf_ver: 1 };
        let data = encode(RegionId::FIRST, epoch, CommandKind::Application, &body);
        self.index += 1;
        let (callback, answer) = Callback::pair();
        self.machine.proposed(RegionId::FIRST, LogId::new(1, self.index), callback);
        let run = Run::new(1, self.index, vec![Entry::normal(data)]);
        self.machine.apply(RegionId::FIRST, &run.map(Entries::from).expect("not empty"));
        answer.try_recv().expect("answered when applied")
    }
}

impl Link for Fake {
    fn stores(&self) -> Vec<StoreId> {
        [1, 2, 3].map(StoreId).into()
    }

    fn ask(&mut self, store: StoreId, request: &Request, within: Duration) -> Answer {
        self.asked.push((store, request.clone()));
        match self.fates.pop_front().unwrap_or(Fate::Fine) {
            Fate::Fine => self.carry_out(request),
            Fate::Refused => Err(Refusal::NotLeader { leader: Some(StoreId(3)) }.into()),
            Fate::Lost => {
                self.now += within;
                Err(Unknown::Deadline.into())
            }
            Fate::Mute => {
                let _ = self.carry_out(request);
                Err(Unknown::LeaderLost.into())
            }
        }
    }

    fn pause(&mut self, time: Duration) {
        self.now += time;
    }

    fn now(&self) -> Duration {
        self.now
    }
}

/// L1: whatever becomes of the tries, a command takes effect once.
#[test]
fn l1_every_command_takes_effect_once() {
    let fates = [Fate::Fine, Fate::Refused, Fate::Lost, Fate::Mute];
    for all in 0..4_usize.pow(4) {
        let drawn = (0..4).map(|n| fates[all / 4_usize.pow(n) % 4]);
        let mut client = client(drawn.clone());
        let sums = [(); 3].map(|()| client.add("n", 1));
        let told: Vec<_> = sums.iter().filter_map(|sum| sum.as_ref().ok()).collect();
        assert!(told.is_sorted() && told.windows(2).all(|two| two[0] != two[1]), "{sums:?}");
        // Four lost answers of two seconds each, and one more try, fit into the deadline.
        assert_eq!(sums, [1, 2, 3].map(|sum| Ok(Some(sum))), "{:?}", drawn.collect::<Vec<_>>());
        assert_eq!(client.get("n"), Ok(Some("3".into())));
    }
}

#[test]
fn at_the_deadline_it_says_what_it_knows() {
    // Nothing was ever asked but to open a session.
    let mut refused = client([Fate::Refused; 2000]);
    assert_eq!(refused.put("k", "v"), Err(Refusal::Timeout.into()));
    let mut silent = client([Fate::Lost; 2000]);
    assert_eq!(silent.put("k", "v"), Err(Refusal::Timeout.into()));
    assert_eq!(silent.get("k"), Err(Refusal::Timeout.into()), "a read has no effect");
    // The command has been asked, and nobody knows.
    let mut lost = client(std::iter::once(Fate::Fine).chain([Fate::Lost; 2000]));
    assert_eq!(lost.put("k", "v"), Err(Unknown::Deadline.into()));
    // Refusals alone leave no doubt.
    let mut refused = client(std::iter::once(Fate::Fine).chain([Fate::Refused; 2000]));
    assert_eq!(refused.put("k", "v"), Err(Refusal::Timeout.into()));
    // One lost answer does.
    let fates = [Fate::Fine, Fate::Mute].into_iter().chain([Fate::Refused; 2000]);
    let mut doubtful = client(fates);
    assert_eq!(doubtful.put("k", "v"), Err(Unknown::Deadline.into()));
    // And the next command has a number of its own.
    doubtful.link_mut().fates.clear();
    assert_eq!(doubtful.add("n", 5), Ok(Some(5)));
    assert_eq!(doubtful.get("k"), Ok(Some("v".into())));
}

#[test]
fn it_asks_the_store_that_is_named() {
    let mut client = client([Fate::Refused]);
    client.put("k", "v").expect("put");
    let stores: Vec<u64> = client.link().asked.iter().map(|(store, _)| store.0).collect();
    assert_eq!(stores, [1, 3, 3], "to open a session, twice, and the command");
}

#[test]
fn a_forgotten_session_is_opened_anew_unless_there_is_doubt() {
    let mut client = client([]);
    client.put("k", "v1").expect("put");
    client.session = ClientSession { id: Some(77), sequence: 3 };
    assert_eq!(client.put("k", "v2"), Ok(()), "it was never asked before");
    client.session = ClientSession { id: Some(77), sequence: 3 };
    client.link_mut().fates = [Fate::Lost].into();
    assert_eq!(client.put("k", "v3"), Err(Error::SessionExpired));
    assert_eq!(client.put("k", "v4"), Ok(()));
    assert_eq!(client.compare_and_set("k", Some("v4".into()), None), Ok(true));
    assert_eq!(client.delete("k"), Ok(false));
}

#[test]
fn what_can_never_be_done_is_refused_at_once() {
    let mut client = client([]);
    client
        .link_mut()
        .machine
        .create(Region { end_key: b"m".to_vec(), ..Region::first(&[StoreId(1)]) });
    assert!(matches!(client.put("z", "v"), Err(Error::KeyNotInRegion { .. })));
    assert_eq!(client.put("a", "v"), Ok(()));
}
