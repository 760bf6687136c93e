//! Crashes, flips and faults for the write-ahead log, as many as the budget allows:
//! `cargo run --release -p tests --bin crashes -- --budget 60s`.
//!
//! See `harness::crashes`. The first image that is not recovered as it must be is printed with the
//! command that has it again; the exit code is then 1, as it is if a class of accident was too rare.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use harness::budget::duration;
use harness::crashes::{self, Counts};

/// Attacks the write-ahead log with crashes, flips and faults.
#[derive(Debug, Parser)]
struct Args {
    /// Begin no further round after so long, as in 90s or 10m
    #[arg(long, value_parser = duration, default_value = "60s")]
    budget: Duration,
    /// Do only the round of this seed
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    first: u64,
    /// Rounds at a time; as many as there are processors if left out
    #[arg(long)]
    jobs: Option<usize>,
    /// Print everything as JSON, and nothing else
    #[arg(long)]
    json: bool,
    /// Fill the disk of this directory, and nothing else: what the program calls itself for
    #[arg(long, hide = true)]
    on_full_disk: Option<PathBuf>,
}

fn again(seed: u64) -> String {
    format!("again: cargo run --release -p tests --bin crashes -- --seed {seed}")
}

/// Does rounds until the budget is used up or something is found.
fn run(args: &Args, started: Instant) -> (Counts, Vec<(u64, String)>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if args.seed.is_some() { 1 } else { args.jobs.unwrap_or(cores).max(1) };
    let next = AtomicU64::new(args.seed.unwrap_or(args.first));
    let is_over = AtomicBool::new(false);
    let results = Mutex::new((Counts::default(), Vec::new()));
    let work = || {
        // Each job does one round, however short the budget.
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let (counts, result) = crashes::round(seed);
            let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            results.0.merge(counts);
            if let Err(what) = result {
                results.1.push((seed, what));
                is_over.store(true, Ordering::Relaxed);
            }
            let is_late = args.seed.is_some() || started.elapsed() >= args.budget;
            if is_late || is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Has this program fill a disk in a process of its own.
fn full_disk() -> (Counts, Result<(), String>) {
    match std::env::current_exe() {
        Ok(program) => crashes::full::attack(&program),
        Err(error) => (Counts::default(), Err(format!("where this program is: {error}"))),
    }
}

/// That process: prints how often the disk was full, or what is wrong.
fn fill(dir: &Path) -> ExitCode {
    match crashes::full::fill(dir) {
        Ok(times) => {
            println!("{times}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(dir) = &args.on_full_disk {
        return fill(dir);
    }
    let started = Instant::now();
    let mut lines = Vec::new();
    let mut counts = Counts::default();
    if args.seed.is_none() {
        let (full, result) = full_disk();
        counts.merge(full);
        lines.extend(result.err());
    }
    let (rounds, found) = run(&args, started);
    counts.merge(rounds);
    let took = started.elapsed();
    lines.extend(found.iter().map(|(seed, what)| format!("seed {seed}: {what}; {}", again(*seed))));
    let mut out = io::stdout().lock();
    let told = if args.json {
        counts.print_json(&mut out, took, &lines)
    } else {
        let told = counts.print(&mut out, took);
        lines.iter().fold(told, |told, line| {
            told.and_then(|()| io::Write::write_fmt(&mut out, format_args!("FAILED {line}\n")))
        })
    };
    // One seed alone need not have every class.
    let is_fine = lines.is_empty() && (args.seed.is_some() || counts.rare().is_empty());
    if is_fine && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
