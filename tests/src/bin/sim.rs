//! Runs seeds of the simulator: `cargo run --release -p tests --bin sim -- --seeds 1000`.
//!
//! Every seed is a whole life of a cluster (see `harness::chaos`). The first thing that does not
//! hold is printed with the command that has it again, and the exit code is 1.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::panic::{set_hook, take_hook};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use harness::chaos::{self, Found, Report};
use harness::lists::Tally;

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
    /// How many of the last events to print of a run that fails.
    #[arg(long, default_value_t = 60)]
    events: usize,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a duration"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3600 * number)),
        unit => Err(format!("unknown unit {unit:?}: ms, s, m or h")),
    }
}

/// What all seeds together came to.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    events: u64,
    checks: u64,
    virtual_ms: u64,
    tally: Tally,
    injected: BTreeMap<&'static str, u64>,
    lines: BTreeMap<u64, String>,
}

impl Total {
    fn add(&mut self, report: &Report, keep_line: bool) {
        self.seeds += 1;
        self.events += report.events;
        self.checks += report.checks;
        self.virtual_ms += report.time / 1000;
        self.tally.add(&report.tally);
        for (kind, count) in &report.injected {
            *self.injected.entry(kind).or_default() += count;
        }
        let net = report.net;
        for (kind, count) in [
            ("message lost", net.lost),
            ("message doubled", net.doubled),
            ("message late", net.slow),
            ("message overtaken", net.overtaken),
            ("message cut off", net.filtered),
        ] {
            *self.injected.entry(kind).or_default() += count;
        }
        if keep_line {
            self.lines.insert(report.seed, report.to_string());
        }
    }

    fn print(&self, out: &mut impl io::Write, took: Duration) -> io::Result<()> {
        for line in self.lines.values() {
            writeln!(out, "{line}")?;
        }
        for (kind, count) in &self.injected {
            writeln!(out, "{count:>12} {kind}")?;
        }
        let Tally { appends, reads, refused, unknown } = self.tally;
        writeln!(
            out,
            "{} operations on lists: {appends} appended, {reads} read, {refused} refused, \
             {unknown} unknown",
            self.tally.total()
        )?;
        let per_minute = self.seeds as f64 / took.as_secs_f64() * 60.0;
        writeln!(
            out,
            "{} seeds passed in {:.1} s ({per_minute:.0} a minute), {} s of virtual time, \
             {} events, {} checks",
            self.seeds,
            took.as_secs_f64(),
            self.virtual_ms / 1000,
            self.events,
            self.checks
        )
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
            println!("{}", again(seed));
        }
    }));
}

fn again(seed: u64) -> String {
    format!("again: cargo run --release -p tests --bin sim -- --seed {seed}")
}

fn run(seed: u64) -> Result<Report, Found> {
    SEED.set(Some(seed));
    let ran = chaos::run(seed);
    SEED.set(None);
    ran
}

fn main() -> ExitCode {
    let args = Args::parse();
    tell_seeds_of_panics();
    let (first, count) = args.seed.map_or((args.first, args.seeds), |seed| (seed, 1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or(cores).max(1);
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed)
                    && args.budget.is_none_or(|budget| started.elapsed() < budget)
                {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(count) {
                        return;
                    }
                    match run(seed) {
                        Ok(report) => {
                            let keep = args.hashes || args.seed.is_some();
                            lock(&total).add(&report, keep);
                        }
                        Err(what) => {
                            failed.store(true, Ordering::Relaxed);
                            lock(&found).push(what);
                        }
                    }
                }
            });
        }
    });
    let mut out = io::stdout().lock();
    // Nobody is left to be told if this fails.
    let _ = lock(&total).print(&mut out, started.elapsed());
    let found = std::mem::take(&mut *lock(&found));
    for what in &found {
        let recent: Vec<_> = what.recent.lines().collect();
        let from = recent.len().saturating_sub(args.events);
        recent[from..].iter().for_each(|line| drop(writeln!(out, "{line}")));
        let _ = writeln!(out, "FAILED {what}");
        let _ = writeln!(out, "{}", again(what.seed));
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
