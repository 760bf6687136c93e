//! Runs seeds of the simulator: `cargo run --release -p tests --bin sim -- --seeds 1000`.
//!
//! Every seed is a whole life of a cluster (see `harness::chaos`). The first thing that does not
//! hold is printed with the command that has it again, what happened last, and a script of what
//! was done to the cluster, shrunk to hardly more than it takes; the exit code is then 1.

mod shrink;
mod total;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::panic::{set_hook, take_hook};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use harness::budget::duration;
use harness::chaos::{self, Cuts, Found, Report};

use crate::total::Total;

/// Runs simulated clusters, each from its seed.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run only this seed.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Begin no further seed after so long, as in 90s or 10m.
    #[arg(long, value_parser = duration)]
    budget: Option<Duration>,
    /// Seeds at a time; as many as there are processors if left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print a line for each seed, with the hash of its trace.
    #[arg(long)]
    hashes: bool,
    /// Print what all came to as JSON, and nothing else.
    #[arg(long, conflicts_with = "hashes")]
    json: bool,
    /// How many of the last events to print of a run that fails.
    #[arg(long, default_value_t = 60)]
    events: usize,
    /// Where to write all events of a run that fails; a temporary file if left out.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// How long to look for a shorter run that fails, too; 0s for not at all.
    #[arg(long, value_parser = duration, default_value = "30s")]
    shrink: Duration,
    #[command(flatten)]
    less: Less,
}

/// Less of a run, as shrinking found it.
#[derive(Debug, clap::Args)]
struct Less {
    /// Only these faults, by their numbers in the script: as in 3,17 or none.
    #[arg(long, value_parser = numbers, requires = "seed")]
    faults: Option<Numbers>,
    /// At most so many clients of lists.
    #[arg(long, requires = "seed")]
    lists: Option<usize>,
    /// At most so many clients of shared keys.
    #[arg(long, requires = "seed")]
    shared: Option<usize>,
    /// At most so much chaos.
    #[arg(long, requires = "seed")]
    chaos_ms: Option<u64>,
    /// At most so many faults after the chaos.
    #[arg(long, requires = "seed")]
    tail: Option<u32>,
}

/// (A type of its own, or the flag could be given several times.)
#[derive(Clone, Debug)]
struct Numbers(BTreeSet<u32>);

fn numbers(text: &str) -> Result<Numbers, String> {
    if text == "none" {
        return Ok(Numbers(BTreeSet::new()));
    }
    let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is not a number"));
    text.split(',').map(number).collect::<Result<_, _>>().map(Numbers)
}

impl Less {
    fn cuts(&self) -> Cuts {
        let Less { faults, lists, shared, chaos_ms, tail } = self;
        let faults = faults.clone().map(|Numbers(faults)| faults);
        Cuts { faults, lists: *lists, shared: *shared, chaos_ms: *chaos_ms, tail: *tail }
    }
}

thread_local! {
    /// What this thread is running.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A panic is something found, too. Release builds end there, so it says all that is needed.
fn tell_seeds_of_panics() {
    let usual = take_hook();
    set_hook(Box::new(move |info| {
        usual(info);
        if let Some(seed) = SEED.get() {
            println!("FAILED seed {seed}: a panic");
            println!("{}", again(seed, &Cuts::default()));
        }
    }));
}

fn again(seed: u64, cuts: &Cuts) -> String {
    format!("again: cargo run --release -p tests --bin sim -- --seed {seed}{cuts}")
}

fn run(seed: u64, cuts: &Cuts) -> Result<Report, Box<Found>> {
    SEED.set(Some(seed));
    let ran = chaos::run_less(seed, cuts, chaos::RECENT_EVENTS);
    SEED.set(None);
    ran
}

/// Runs all seeds, as many at a time as there are jobs. Ends early if one fails.
fn run_all(args: &Args, started: Instant) -> (Total, Vec<Found>) {
    let (first, count) = args.seed.map_or((args.first, args.seeds), |seed| (seed, 1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (jobs, cuts) = (args.jobs.unwrap_or(cores).max(1), args.less.cuts());
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let results = Mutex::new((Total::default(), Vec::new()));
    let work = || {
        while !failed.load(Ordering::Relaxed)
            && args.budget.is_none_or(|budget| started.elapsed() < budget)
        {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(count) {
                return;
            }
            let ran = run(seed, &cuts);
            let mut results = lock(&results);
            match ran {
                Ok(report) => results.0.add(&report, args.hashes || args.seed.is_some()),
                Err(what) => {
                    failed.store(true, Ordering::Relaxed);
                    results.1.push(*what);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    std::mem::take(&mut *lock(&results))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Says what was found, and how to have it again with less around it.
fn tell(what: &Found, args: &Args, out: &mut impl io::Write) -> io::Result<()> {
    let recent: Vec<_> = what.recent.lines().collect();
    let from = recent.len().saturating_sub(args.events);
    recent[from..].iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "FAILED {what}")?;
    writeln!(out, "{}", again(what.seed, &what.cuts))?;
    if args.shrink.is_zero() {
        return Ok(());
    }
    out.flush()?;
    let mut smallest = what.clone();
    if let Some(cuts) = shrink::shrink(what.seed, &what.cuts, args.shrink)
        && let Err(found) = chaos::run_less(what.seed, &cuts, usize::MAX)
    {
        smallest = *found;
    } else if let Err(found) = chaos::run_less(what.seed, &what.cuts, usize::MAX) {
        smallest = *found;
    }
    writeln!(out, "shrunk to {} faults:", smallest.script.len())?;
    smallest.script.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
    writeln!(out, "  {}", smallest.what)?;
    writeln!(out, "{}", again(smallest.seed, &smallest.cuts))?;
    let name = format!("raftkv-sim-seed-{}.trace", smallest.seed);
    let path = args.trace.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
    match fs::write(&path, format!("{}\nFAILED {smallest}\n", smallest.recent)) {
        Ok(()) => writeln!(out, "all its events: {}", path.display()),
        Err(why) => writeln!(out, "its events cannot be written to {}: {why}", path.display()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    tell_seeds_of_panics();
    let started = Instant::now();
    let (total, found) = run_all(&args, started);
    let took = started.elapsed();
    let mut out = io::stdout().lock();
    let told =
        if args.json { total.print_json(&mut out, took) } else { total.print(&mut out, took) };
    let told = found.iter().fold(told, |told, what| told.and(tell(what, &args, &mut out)));
    let is_fine = found.is_empty() && total.rare().is_empty();
    // Nobody is left to be told if this failed.
    if is_fine && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
