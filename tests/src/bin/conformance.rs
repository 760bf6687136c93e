//! Runs scripts and says which of them tell what happens.
//!
//! Exit code 0 if all do, 1 if some do not, 2 if it was called wrongly.

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use harness::script::{ElectionTimeout, Options, find, run_file};

/// Runs the scripts in files and directories against the Raft core.
#[derive(Parser)]
#[command(name = "conformance")]
struct Arguments {
    /// What every randomized election timeout is; drawn from a fixed seed if not given
    #[arg(long, value_enum)]
    election_timeout: Option<Timeout>,
    /// Put the outputs there are in the place of those that differ
    #[arg(long)]
    rewrite: bool,
    /// Files and directories of scripts
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Timeout {
    Lowest,
    Middle,
    Highest,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        election_timeout: match arguments.election_timeout {
            None => ElectionTimeout::Random,
            Some(Timeout::Lowest) => ElectionTimeout::Lowest,
            Some(Timeout::Middle) => ElectionTimeout::Middle,
            Some(Timeout::Highest) => ElectionTimeout::Highest,
        },
        rewrite: arguments.rewrite,
    };
    match run(&arguments.paths, &options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(reason) => {
            eprintln!("conformance: {reason}");
            ExitCode::from(2)
        }
    }
}

/// Runs all scripts; says how many failed.
fn run(paths: &[PathBuf], options: &Options) -> Result<usize, String> {
    let mut files = Vec::new();
    for path in paths {
        let found = find(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if found.is_empty() {
            return Err(format!("{}: no scripts", path.display()));
        }
        files.extend(found);
    }
    let mut out = stdout().lock();
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let report = run_file(&file, options).map_err(|e| format!("{}: {e}", file.display()))?;
        writeln!(out, "{report}").map_err(|e| format!("standard output: {e}"))?;
        if report.passed() {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")
        .map_err(|e| format!("standard output: {e}"))?;
    Ok(failed)
}
