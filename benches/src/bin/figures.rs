//! Prints this project's cells of a comparison: `figures SUBCOMMAND [OPTIONS]`. See the library.

use std::process::ExitCode;

use benches::options::{Cli, What};
use clap::Parser;

fn main() -> ExitCode {
    // Whatever is not understood: usage, and exit 2.
    let measured = match Cli::parse().what {
        What::Core(options) => {
            benches::core::run(&options);
            true
        }
        What::CoreFixed(options) => {
            let known = benches::core::run_fixed(&options);
            if !known {
                eprintln!("error: no subject is called {:?}", options.subject);
                return ExitCode::from(2);
            }
            known
        }
        What::Idle(options) => {
            benches::idle::run(&options);
            true
        }
        What::Memory(options) => benches::memory::run(&options),
        What::Wal(options) => {
            benches::wal::run(&options);
            true
        }
        What::Recovery(options) => {
            benches::recovery::run(&options);
            true
        }
        What::E2e(options) => {
            benches::e2e::run(&options);
            true
        }
        What::Floor(options) => {
            benches::floor::run(&options);
            true
        }
        What::Catchup(options) => {
            benches::catchup::run(&options);
            true
        }
    };
    if measured { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
