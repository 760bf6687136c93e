//! Clients of a hundred groups: some are asked all the time, some now and then, most not at all.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use harness::cluster::{Cluster, Ticket};
use harness::regions::key;
use harness::sim::ms;
use kv::{Answer, Error, Op, OpResult, Request};
use raftstore::command::{CommandKind, encode};
use raftstore::{Epoch, RegionId};

const EPOCH: Epoch = Epoch { version: 1, conf_ver: 1 };

/// Keys of a group that writes go to in turn.
const KEYS: u64 = 4;

/// One in so many turns of a slow group has a command.
const SLOW: u32 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A command is always under way.
    Hot,
    /// A command now and then.
    Slow,
    /// A few commands at the beginning.
    Idle,
}

/// What is known of a command that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// Not applied, now or later.
    Refused,
    /// Under way, or nobody knows.
    Open,
}

/// A command that waits for its answer.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Write(u64),
    /// With the last write that was done when it was asked.
    Read(u64),
}

/// A region and its client, who does one thing at a time.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) region: RegionId,
    pub(crate) pace: Pace,
    /// All writes, by number.
    pub(crate) fates: BTreeMap<u64, Fate>,
    /// Their numbers, by what must be in the log.
    pub(crate) written: HashMap<Bytes, u64>,
    waiting: Option<(Ticket, Asked)>,
}

impl Group {
    /// The last write that was done; 0 if none was.
    pub(crate) fn done(&self) -> u64 {
        let done = self.fates.iter().rev().find(|(_, fate)| **fate == Fate::Done);
        done.map_or(0, |(number, _)| *number)
    }

    /// Where the number of the last write is.
    pub(crate) fn last_key(&self) -> Bytes {
        key(self.region, "last")
    }

    /// Write number `number`: of a size and content that follow from the number.
    fn write(&self, number: u64) -> Request {
        let mut rng = fastrand::Rng::with_seed(self.region.0 << 32 | number);
        let mut ops = vec![Op::put(self.last_key(), number.to_string())];
        let at = key(self.region, &format!("key {}", number % KEYS));
        if number.is_multiple_of(7) {
            ops.push(Op::delete(at));
        } else {
            let mut value = vec![0; rng.usize(100..900)];
            rng.fill(&mut value);
            ops.push(Op::put(at, value));
        }
        Request::new(ops)
    }

    fn told(&mut self, asked: Asked, answer: &Answer) {
        match (asked, answer) {
            (Asked::Write(number), answer) => {
                let fate = match answer {
                    Ok(_) => Fate::Done,
                    Err(Error::Refused(_) | Error::StaleCommand) => Fate::Refused,
                    Err(_) => Fate::Open,
                };
                self.fates.insert(number, fate);
            }
            (Asked::Read(done), Ok(response)) => {
                let [OpResult::Value(value)] = &response.results[..] else {
                    panic!("{:?}: a read gives {response:?}", self.region);
                };
                let last = value.as_ref().map_or(0, number_of);
                assert!(last >= done, "{:?}: reads {last} after {done} was done", self.region);
            }
            (Asked::Read(_), Err(_)) => {}
        }
    }
}

/// The number that a value says.
pub(crate) fn number_of(value: &Bytes) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// All groups and their clients.
pub(crate) struct Load {
    pub(crate) groups: Vec<Group>,
    rng: fastrand::Rng,
    /// Writes that were done.
    pub(crate) done: u64,
}

impl Load {
    /// So many groups, of which a fifth is hot and half of them idle.
    pub(crate) fn new(count: u64, seed: u64) -> Load {
        let group = |id| {
            let pace = match id % 10 {
                3 | 7 => Pace::Hot,
                0 | 4 | 8 => Pace::Slow,
                _ => Pace::Idle,
            };
            let (fates, written) = (BTreeMap::new(), HashMap::new());
            Group { region: RegionId(id), pace, fates, written, waiting: None }
        };
        let rng = fastrand::Rng::with_seed(seed);
        Load { groups: (1..=count).map(group).collect(), rng, done: 0 }
    }

    /// Has each group do `writes` writes and waits for their answers.
    pub(crate) fn begin(&mut self, cluster: &mut Cluster, writes: u64) {
        cluster.wait_for("the first writes of all groups", |cluster| {
            for at in 0..self.groups.len() {
                if self.groups[at].waiting.is_none() && self.groups[at].done() < writes {
                    self.ask(cluster, at, true);
                }
            }
            self.take_answers(cluster);
            self.groups.iter().all(|group| group.done() >= writes).then_some(())
        });
    }

    /// Asks whom it is the turn of, and takes what answers there are.
    pub(crate) fn turn(&mut self, cluster: &mut Cluster) {
        for at in 0..self.groups.len() {
            let is_due = match self.groups[at].pace {
                Pace::Hot => true,
                Pace::Slow => self.rng.u32(..SLOW) == 0,
                Pace::Idle => false,
            };
            if is_due && self.groups[at].waiting.is_none() {
                let writes = self.rng.u8(..5) > 0;
                self.ask(cluster, at, writes);
            }
        }
        cluster.run_for(ms(2));
        self.take_answers(cluster);
    }

    /// Waits until nobody waits.
    pub(crate) fn rest(&mut self, cluster: &mut Cluster) {
        cluster.wait_for("all answers", |cluster| {
            self.take_answers(cluster);
            self.groups.iter().all(|group| group.waiting.is_none()).then_some(())
        });
    }

    fn ask(&mut self, cluster: &mut Cluster, at: usize, writes: bool) {
        let group = &mut self.groups[at];
        cluster.turn_to(group.region);
        let stores = cluster.stores();
        let anybody = stores[self.rng.usize(..stores.len())];
        let to = cluster.leader_of(group.region).unwrap_or(anybody);
        let (request, asked) = if writes {
            let number = group.fates.last_key_value().map_or(1, |(last, _)| last + 1);
            let request = group.write(number);
            let body = request.encode().expect("it is small");
            let data = encode(group.region, EPOCH, CommandKind::Application, &body);
            group.written.insert(data, number);
            group.fates.insert(number, Fate::Open);
            (request, Asked::Write(number))
        } else {
            (Op::get(group.last_key()).into(), Asked::Read(group.done()))
        };
        group.waiting = Some((cluster.submit(to, request), asked));
    }

    fn take_answers(&mut self, cluster: &mut Cluster) {
        while let Some((ticket, answer)) = cluster.poll() {
            let of = |group: &&mut Group| group.waiting.is_some_and(|(waits, _)| waits == ticket);
            let Some(group) = self.groups.iter_mut().find(of) else { continue };
            let Some((_, asked)) = group.waiting.take() else { continue };
            group.told(asked, &answer);
            self.done += u64::from(answer.is_ok() && matches!(asked, Asked::Write(_)));
        }
    }
}
