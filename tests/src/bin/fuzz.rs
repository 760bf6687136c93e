//! Sends servers anything: `cargo run --release -p tests --bin fuzz -- --messages 10000000`.
//!
//! See `harness::fuzz`. The first promise that is broken, or the first panic, is printed with the
//! command that has it again, and the exit code is 1; 2 if it was called wrongly.

use std::panic::{set_hook, take_hook};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use harness::budget::duration;
use harness::fuzz::{Counts, LIFE, run};

/// Sends servers messages of any kind and content, in any state.
#[derive(Parser)]
#[command(name = "fuzz")]
struct Args {
    /// How many messages
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// The seed of the first group; the next has the next
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Begin no further group after so long, as in 90s or 10m
    #[arg(long, value_parser = duration)]
    budget: Option<Duration>,
}

fn again(seed: u64) -> String {
    format!("again: cargo run --release -p tests --bin fuzz -- --seed {seed} --messages {LIFE}")
}

fn main() -> ExitCode {
    let args = Args::parse();
    let started = Instant::now();
    let current = Arc::new(AtomicU64::new(args.seed));
    let (usual, seed_of) = (take_hook(), current.clone());
    set_hook(Box::new(move |info| {
        usual(info);
        let seed = seed_of.load(Ordering::Relaxed);
        println!("FAILED seed {seed}: a panic\n{}", again(seed));
    }));
    let mut all = Counts::default();
    while all.messages < args.messages
        && args.budget.is_none_or(|budget| started.elapsed() < budget)
    {
        let seed = current.load(Ordering::Relaxed);
        match run(seed, LIFE.min(args.messages - all.messages)) {
            Ok(counts) => all.add(&counts),
            Err(broken) => {
                println!("FAILED seed {seed}: {broken}\n{}", again(seed));
                return ExitCode::FAILURE;
            }
        }
        current.store(seed.wrapping_add(1), Ordering::Relaxed);
    }
    let groups = current.load(Ordering::Relaxed).wrapping_sub(args.seed);
    println!("{all}");
    println!("{groups} groups, {:.1} s; nothing was broken", started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
