//! `raftkv`: a replicated key-value store that speaks the Redis protocol. See [`kv::cli`].

use std::process::ExitCode;

use kv::cli::{self, Args};

fn main() -> ExitCode {
    match Args::parse(std::env::args_os()) {
        Ok(args) => cli::run(args),
        Err(e) => e.exit(),
    }
}
