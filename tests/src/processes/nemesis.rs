//! A run: clients, faults, judgement.
//!
//! For each fault, clients on fresh keys begin; then it happens; then all stores run again and answer;
//! then the clients end, every store is asked for every key, and their history is judged. After the
//! last fault everything is killed and started again, every key is read once more, and all histories
//! are judged again with that: what was true must have been durable.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::store::Reads;
use kv::{Op, Request};

use super::faults::{Fault, Faults, Step};
use super::program::raftkv;
use super::recorders::{Recorders, Workload};
use super::report::Report;
use super::resp::{Connection, Reply};
use super::stores::{LONG, Stores, wait_for};
use super::words::{Fate, commands, fate};
use crate::linearizability::store::{self, Requests};
use crate::linearizability::{Outcome, Verdict};

/// Of the search for an order of what was done to keys that belong together.
const STEPS_MAX: u64 = 1_000_000;

/// Answers that clients must have had before a fault begins, and after it is over.
const ANSWERS_BESIDE: u64 = 40;

/// Who waits for an answer here waits longer than a store may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to run.
///
/// ```
/// use harness::processes::nemesis::Options;
///
/// let options = Options { faults: 3, ..Options::new(7) };
/// assert_eq!(options.stores(), 3);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Draws the faults and what clients ask.
    pub seed: u64,
    /// How many faults.
    pub faults: usize,
    /// No further fault begins after so long.
    pub budget: Option<Duration>,
    /// The program; `None` for the one of this workspace, built if need be.
    pub program: Option<PathBuf>,
    /// How the stores read. Who is stopped with a lease must not trust it when it goes on.
    pub reads: Reads,
}

impl Options {
    /// A hundred faults.
    #[must_use]
    pub fn new(seed: u64) -> Options {
        Options { seed, faults: 100, budget: None, program: None, reads: Reads::default() }
    }

    /// How many stores there are: what the faults are made for.
    #[must_use]
    pub fn stores(&self) -> usize {
        3
    }
}

/// What was asked of the keys of one fault.
struct Round {
    names: Vec<Bytes>,
    history: Requests,
}

struct Nemesis {
    stores: Stores,
    report: Report,
    rounds: Vec<Round>,
    kept: Vec<Bytes>,
}

/// Runs all of it; `say` gets a line for each fault.
///
/// ```no_run
/// use harness::processes::nemesis::{Options, run};
///
/// let report = run(&Options { faults: 5, ..Options::new(1) }, &mut |line| println!("{line}"))?;
/// assert_eq!(report.faults(), 5);
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// With what was found, or what could not be done: history and directories are kept then, and named.
pub fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Report, String> {
    let started = Instant::now();
    let program = options.program.clone().map_or_else(raftkv, Ok)?;
    let stores = Stores::start_program(&program, options.stores(), options.reads)?;
    let report = Report::new(options.seed);
    let mut nemesis = Nemesis { stores, report, rounds: Vec::new(), kept: Vec::new() };
    let faults = Faults::new(options.seed).take(options.faults);
    for (number, fault) in faults.enumerate() {
        if options.budget.is_some_and(|budget| started.elapsed() >= budget) {
            break;
        }
        let done = nemesis.suffer(number, &fault, options.seed);
        let line = done.map_err(|why| nemesis.failed(&format!("fault {number}, {fault}"), &why))?;
        say(&format!("{number:>4}  {line}  {fault}"));
    }
    nemesis.judge_all().map_err(|why| nemesis.failed("after all faults", &why))?;
    nemesis.report.took = started.elapsed();
    Ok(nemesis.report)
}

impl Nemesis {
    /// Clients, the fault, the end of it, and what clients were told.
    fn suffer(&mut self, number: usize, fault: &Fault, seed: u64) -> Result<String, String> {
        let leader = wait_for("a leader", LONG, || self.stores.leader())?;
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        let workload = Workload::new(format!("fault {number} "), seed);
        let recorders = Recorders::start(&workload, self.stores.addresses());
        self.wait_for_answers(&recorders)?;
        for step in &fault.steps {
            self.take(*step, leader)?;
        }
        self.stores.heal()?;
        self.wait_for_service(number)?;
        self.wait_for_answers(&recorders)?;
        let record = recorders.finish()?;
        self.stores.check()?;

        let mut round = Round { names: workload.names(), history: record.history };
        self.report.silence(fault.kind, record.silence);
        self.report.unsure += record.unsure;
        self.kept.extend(record.kept);
        for store in 0..self.stores.count() {
            round.read(&self.stores, store)?;
        }
        let tally = round.history.tally();
        let verdict = round.judge();
        self.rounds.push(round);
        self.report.count(fault);
        match verdict {
            Verdict::Violation(why) => Err(format!("not linearizable: {why}")),
            _ => Ok(format!(
                "{:>5} answered {:>3} refused {:>2} unknown, silent for {:>4} ms",
                tally.answered,
                tally.refused,
                tally.unknown,
                record.silence.as_millis()
            )),
        }
    }

    fn take(&mut self, step: Step, leader: usize) -> Result<(), String> {
        let count = self.stores.count();
        let store = |victim: usize| (leader + victim) % count;
        match step {
            Step::Kill(victim) => self.stores.kill(store(victim)),
            Step::Pause(victim) => self.stores.pause(store(victim)),
            Step::Resume(victim) => self.stores.resume(store(victim)),
            Step::Stop(victim) => self.stores.stop(store(victim)),
            Step::Start(victim) => self.stores.start_one(store(victim)),
            Step::Wait(time) => {
                std::thread::sleep(time);
                Ok(())
            }
        }
    }

    fn wait_for_answers(&mut self, recorders: &Recorders) -> Result<(), String> {
        let before = recorders.answered();
        let more = || (recorders.answered() >= before + ANSWERS_BESIDE).then_some(());
        let waited = wait_for("answers to the clients", LONG, more);
        // A store that has ended is the better reason.
        self.stores.check()?;
        waited
    }

    /// Every store takes a write, and has it read.
    fn wait_for_service(&mut self, number: usize) -> Result<(), String> {
        let key = format!("service {number}");
        for store in 0..self.stores.count() {
            let what = format!("service of store {}", store + 1);
            let serves = || self.stores.ask(store, &["SET", &key, "x"])?.is_ok().then_some(());
            let waited = wait_for(&what, LONG, serves);
            self.stores.check()?;
            waited?;
        }
        Ok(())
    }

    /// Everything is killed and comes back; then everything is asked for, and judged again.
    fn judge_all(&mut self) -> Result<(), String> {
        let count = self.stores.count();
        (0..count).try_for_each(|store| self.stores.kill(store))?;
        self.stores.heal()?;
        self.wait_for_service(self.rounds.len())?;
        for (number, round) in self.rounds.iter_mut().enumerate() {
            round.read(&self.stores, number % count)?;
            let verdict = round.judge();
            let tally = round.history.tally();
            self.report.judged(&tally, &verdict);
            if let Verdict::Violation(why) = verdict {
                return Err(format!("keys of fault {number}: not linearizable: {why}"));
            }
        }
        for store in 0..count {
            self.check_kept(store)?;
        }
        self.report.kept = self.kept.len() as u64;
        self.stores.check()
    }

    /// What was acknowledged is there.
    fn check_kept(&self, store: usize) -> Result<(), String> {
        let wrong = |e: std::io::Error| format!("store {}: {e}", store + 1);
        let mut connection =
            Connection::open(self.stores.address(store), PATIENCE).map_err(wrong)?;
        for some in self.kept.chunks(500) {
            let command: Vec<Bytes> = std::iter::once("MGET".into()).chain(some.to_vec()).collect();
            let Reply::Array(found) = connection.call(&command).map_err(wrong)? else {
                return Err(format!("store {} does not answer MGET", store + 1));
            };
            let lost = some
                .iter()
                .zip(&found)
                .find(|(key, found)| **found != Reply::Bulk(Some((*key).clone())));
            if let Some((key, found)) = lost {
                return Err(format!(
                    "store {}: the write of {key:?} was acknowledged; now there is {found:?}",
                    store + 1
                ));
            }
        }
        Ok(())
    }

    /// What was found, and where all that is known of it was left.
    fn failed(&mut self, when: &str, why: &str) -> String {
        let dir = self.stores.keep().to_owned();
        let mut text = String::new();
        for (number, round) in self.rounds.iter().enumerate() {
            for call in round.history.calls() {
                let Outcome::Answered { at, answer } = &call.outcome else {
                    let _ = writeln!(text, "{number} {call:?}");
                    continue;
                };
                let (client, from, ops) = (call.client, call.invoked, &call.op.ops);
                let results = &answer.results;
                let _ = writeln!(text, "{number} c{client} {from}..{at} {ops:?} {results:?}");
            }
        }
        let history = dir.join("history");
        let left = match fs::write(&history, text) {
            Ok(()) => format!("histories, logs and data are in {}", dir.display()),
            Err(e) => format!("logs and data are in {}; no histories: {e}", dir.display()),
        };
        format!("seed {}: {when}: {why}\n{left}", self.report.seed)
    }
}

impl Round {
    /// Asks a store for every key.
    fn read(&mut self, stores: &Stores, store: usize) -> Result<(), String> {
        let mut open: Option<Connection> = None;
        for name in &self.names {
            let request = Request::from(Op::get(name.clone()));
            let what = format!("a read on store {}", store + 1);
            let response = wait_for(&what, LONG, || {
                let connect = || Connection::open(stores.address(store), PATIENCE).ok();
                let mut connection = open.take().or_else(connect)?;
                let call = self.history.invoke(0, request.clone());
                let replies = connection.pipeline(&commands(&request));
                match replies.map(|replies| fate(&request, &replies)) {
                    Ok(Ok(Fate::Done(response))) => {
                        self.history.answer(call, response);
                        open = Some(connection);
                        Some(Ok(()))
                    }
                    Ok(Err(why)) => Some(Err(why)),
                    Ok(Ok(_)) | Err(_) => {
                        self.history.refuse(call);
                        None
                    }
                }
            })?;
            response?;
        }
        Ok(())
    }

    fn judge(&self) -> Verdict {
        store::check(&self.history, STEPS_MAX)
    }
}
