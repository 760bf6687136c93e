//! A state machine that remembers, for the tests of this crate.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use raft::{Entries, EntryKind, Index, LogId};

use crate::command::{Command, CommandKind};
use crate::machine::{Callback, Effects, Halt, Machine, RecoveredRegion, Refusal, Unknown};
use crate::region::{Region, RegionId};

/// What became of a command or a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Applied at that position.
    Applied(LogId),
    /// Another entry took its position.
    Stale,
    /// The number of commands applied when the read ran.
    Read(usize),
    Refused(Refusal),
    Unknown(Unknown),
}

/// Who got which answer.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Given>);

#[derive(Default)]
struct Given {
    answers: Mutex<HashMap<u64, (Outcome, ThreadId)>>,
    news: Condvar,
}

/// Far beyond what anything here takes; reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

impl Answers {
    pub(crate) fn asker(&self, id: u64) -> Asker {
        Asker { id, answers: self.clone(), answered: false }
    }

    pub(crate) fn of(&self, id: u64) -> Option<Outcome> {
        self.0.answers.lock().get(&id).map(|(outcome, _)| outcome.clone())
    }

    /// Whether the answer was given by the calling thread.
    pub(crate) fn is_from_here(&self, id: u64) -> bool {
        let here = std::thread::current().id();
        self.0.answers.lock().get(&id).is_some_and(|(_, by)| *by == here)
    }

    /// Waits for the answer.
    pub(crate) fn wait(&self, id: u64) -> Outcome {
        let deadline = Instant::now() + LONG;
        let mut answers = self.0.answers.lock();
        loop {
            if let Some((outcome, _)) = answers.get(&id) {
                return outcome.clone();
            }
            let late = self.0.news.wait_until(&mut answers, deadline).timed_out();
            assert!(!late, "asker {id} waited in vain");
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.answers.lock().len()
    }
}

/// Waits for one answer, and insists on it (K3).
pub(crate) struct Asker {
    id: u64,
    answers: Answers,
    answered: bool,
}

impl Asker {
    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.answered = true;
        let answer = (outcome, std::thread::current().id());
        let before = self.answers.0.answers.lock().insert(self.id, answer);
        assert_eq!(before, None, "asker {} is answered once", self.id);
        self.answers.0.news.notify_all();
    }
}

impl Callback for Asker {
    fn refuse(self, why: Refusal) {
        self.answer(Outcome::Refused(why));
    }

    fn unknown(self, why: Unknown) {
        self.answer(Outcome::Unknown(why));
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        assert!(self.answered || std::thread::panicking(), "asker {} was forgotten", self.id);
    }
}

/// The commands of one region, in the order they were applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToyRegion {
    pub(crate) region: Region,
    pub(crate) applied: LogId,
    pub(crate) commands: Vec<Bytes>,
}

/// What a restart finds.
pub(crate) type ToyCheckpoint = Arc<Mutex<BTreeMap<RegionId, ToyRegion>>>;

/// A machine whose state is the list of its commands.
pub(crate) struct Toy {
    pub(crate) regions: BTreeMap<RegionId, ToyRegion>,
    waiting: VecDeque<(RegionId, LogId, Asker)>,
    checkpoint: ToyCheckpoint,
    /// Log bytes between checkpoints.
    checkpoint_bytes: u64,
}

impl Toy {
    pub(crate) fn open(checkpoint: &ToyCheckpoint, checkpoint_bytes: u64) -> Toy {
        let regions = checkpoint.lock().clone();
        let checkpoint = checkpoint.clone();
        Toy { regions, waiting: VecDeque::new(), checkpoint, checkpoint_bytes }
    }

    pub(crate) fn commands(&self, region: RegionId) -> &[Bytes] {
        self.regions.get(&region).map_or(&[], |r| &r.commands)
    }

    /// Whatever was proposed up to `at` is decided, and whatever in an earlier term beyond.
    fn answer(&mut self, region: RegionId, at: LogId) {
        while let Some((_, proposed, _)) =
            self.waiting.front().filter(|(r, proposed, _)| *r == region && *proposed <= at)
        {
            let outcome = if *proposed == at { Outcome::Applied(at) } else { Outcome::Stale };
            let (_, _, asker) = self.waiting.pop_front().expect("there is a front");
            asker.answer(outcome);
        }
    }
}

impl Machine for Toy {
    type Callback = Asker;
    type Query = Asker;

    fn recovered(&self) -> Vec<RecoveredRegion> {
        let recovered =
            |r: &ToyRegion| RecoveredRegion { region: r.region.clone(), applied: r.applied };
        self.regions.values().map(recovered).collect()
    }

    fn create(&mut self, region: Region) {
        let id = region.id;
        let new = ToyRegion { region, applied: LogId::ZERO, commands: Vec::new() };
        assert!(self.regions.insert(id, new).is_none(), "a region is created once");
    }

    fn proposed(&mut self, region: RegionId, at: LogId, callback: Asker) {
        self.waiting.push_back((region, at, callback));
    }

    fn apply(&mut self, region: RegionId, entries: &Entries) -> Effects {
        let mut effects = Effects::default();
        for entry in entries.iter() {
            let state = self.regions.get_mut(&region).expect("only known regions apply");
            assert_eq!(entry.id.index, state.applied.index + 1, "no gap, nothing twice");
            if entry.entry.kind == EntryKind::Normal && !entry.entry.data.is_empty() {
                let command = Command::decode(&entry.entry.data).expect("what was proposed");
                if command.region != region {
                    let why = "of another region".to_owned();
                    effects.halt = Some(Halt { region, at: entry.id, why });
                    return effects;
                }
                match command.kind {
                    CommandKind::Application if command.body == b"panic" => panic!("as asked"),
                    CommandKind::Application => {
                        state.commands.push(entry.entry.data.slice_ref(command.body));
                    }
                    CommandKind::CompactLog => {
                        effects.compact = Some(command.compact_index().expect("an index"));
                    }
                }
            }
            state.applied = entry.id;
            self.answer(region, entry.id);
        }
        effects
    }

    /// Those of even numbers, so that there are both kinds.
    fn is_light(query: &Asker) -> bool {
        query.id.is_multiple_of(2)
    }

    fn read(&mut self, region: RegionId, queries: Vec<Asker>) {
        let count = self.commands(region).len();
        queries.into_iter().for_each(|q| q.answer(Outcome::Read(count)));
    }

    fn maintain(&mut self, log_bytes: u64) {
        if log_bytes >= self.checkpoint_bytes {
            *self.checkpoint.lock() = self.regions.clone();
        }
    }

    fn durable(&self, region: RegionId) -> Index {
        self.checkpoint.lock().get(&region).map_or(0, |r| r.applied.index)
    }

    fn shut_down(&mut self) {
        for (_, _, asker) in self.waiting.drain(..) {
            asker.unknown(Unknown::ShuttingDown);
        }
    }
}
