//! Kills, stops and restarts real processes while clients work, and judges what these were told:
//! `cargo run --release -p tests --bin nemesis -- --faults 100 --seed 1`.
//!
//! See `harness::processes`. Exit code 1 if something was found; everything that is known of it is
//! kept, and said where.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use harness::budget::duration;
use harness::processes::nemesis::{self, Options};
use kv::store::Reads;

/// Does all that can be done to processes to three stores under load.
#[derive(Debug, Parser)]
struct Args {
    /// How many faults
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// Draws what is done, and what clients ask
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Begin no further fault after so long, as in 90s or 10m
    #[arg(long, value_parser = duration)]
    budget: Option<Duration>,
    /// The program; built from this workspace if left out
    #[arg(long)]
    program: Option<PathBuf>,
    /// How the stores read: index, lease or log
    #[arg(long, value_enum, default_value = "index")]
    reads: Reads,
    /// Print what it came to as JSON, and nothing else
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Args { faults, seed, budget, program, reads, json } = Args::parse();
    let options = Options { seed, faults, budget, program, reads };
    let mut out = io::stdout().lock();
    let mut say = |line: &str| {
        // Nobody may be reading, which is no reason to stop.
        let _ = if json { Ok(()) } else { writeln!(out, "{line}") };
    };
    match nemesis::run(&options, &mut say) {
        Ok(report) => {
            let told = if json { report.print_json(&mut out) } else { report.print(&mut out) };
            // What nobody could judge is nothing found, and nothing shown either.
            let is_fine = told.is_ok() && report.undecided * 20 <= report.faults();
            if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            let _ = match json {
                true => writeln!(out, "{{\"seed\": {seed}, \"found\": {why:?}}}"),
                false => writeln!(out, "FAILED {why}"),
            };
            ExitCode::FAILURE
        }
    }
}
