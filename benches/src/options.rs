//! The command line of `figures`. All subcommands take the same options and ignore those that
//! mean nothing to them, so that one list of options can be given to both sides of a comparison.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Prints measurements, one a line: name, metric, value, unit, separated by tabs.
#[derive(Debug, Parser)]
#[command(name = "figures")]
pub struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub what: What,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Propose, replicate and commit in one thread, without disk or network.
    Core(Options),
    /// The same for a fixed number of entries and without a clock, for an instruction counter.
    CoreFixed(Options),
    /// Nanoseconds per tick and per heartbeat round, over one group and over many.
    Idle(Options),
    /// Bytes per idle node.
    Memory(Options),
    /// Appends to the log, synced and not.
    Wal(Options),
    /// Opening a log.
    Recovery(Options),
    /// Three stores in one process, a synced log each.
    E2e(Options),
    /// What they cannot be faster than: syncs and hand-overs, without a store.
    Floor(Options),
    /// The same, while one of them catches up by a snapshot.
    Catchup(Options),
}

/// How to measure it.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How often each cell is measured; the median is printed.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of one cell in one round.
    #[arg(long)]
    secs: Option<f64>,
    /// Only cells whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    filter: Vec<String>,
    /// Bytes of a payload.
    #[arg(long, value_delimiter = ',')]
    payload: Vec<usize>,
    /// Proposals a round.
    #[arg(long, value_delimiter = ',')]
    batch: Vec<usize>,
    /// Writes in flight.
    #[arg(long, value_delimiter = ',')]
    clients: Vec<usize>,
    /// Where logs are kept while they are measured.
    #[arg(long, default_value = "figures-data")]
    pub dir: PathBuf,
    /// Print the median only, without the least and the most.
    #[arg(long)]
    pub no_range: bool,
    /// Leave out the cells of five nodes.
    #[arg(long)]
    pub no_n5: bool,
    /// `core-fixed`: which variant.
    #[arg(long, default_value = "raftkv")]
    pub subject: String,
    /// `core-fixed`: how many entries.
    #[arg(long, default_value_t = 10_000)]
    pub entries: u64,
    /// `core-fixed`: nodes of the group; `memory`: nodes in all.
    #[arg(long)]
    nodes: Option<usize>,
    /// `idle`: how many groups.
    #[arg(long, default_value_t = 10_000)]
    pub groups: usize,
    /// `memory`: only this cell, in this process.
    #[arg(long)]
    pub only: Option<String>,
    /// `catchup`: keys that are written.
    #[arg(long, default_value_t = 300_000)]
    pub keys: u64,
    /// `catchup`: entries that a store lacks when it comes back.
    #[arg(long, default_value_t = 200_000)]
    pub behind: u64,
    /// `catchup`: MiB of snapshots a second.
    #[arg(long, default_value_t = 100)]
    pub limit_mib: u64,
    /// `recovery`: size of the log.
    #[arg(long, default_value_t = 1024)]
    pub mib: u64,
}

fn or(given: &[usize], default: &[usize]) -> Vec<usize> {
    if given.is_empty() { default.to_vec() } else { given.to_vec() }
}

impl Options {
    /// Rounds, unless the command line says otherwise.
    #[must_use]
    pub fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default)
    }

    /// Time of one cell in one round.
    #[must_use]
    pub fn time(&self, default_secs: f64) -> Duration {
        Duration::try_from_secs_f64(self.secs.unwrap_or(default_secs)).unwrap_or(Duration::ZERO)
    }

    /// Payload sizes.
    #[must_use]
    pub fn payloads(&self, default: &[usize]) -> Vec<usize> {
        or(&self.payload, default)
    }

    /// Batch sizes.
    #[must_use]
    pub fn batches(&self, default: &[usize]) -> Vec<usize> {
        or(&self.batch, default)
    }

    /// Writes in flight.
    #[must_use]
    pub fn clients(&self, default: &[usize]) -> Vec<usize> {
        or(&self.clients, default)
    }

    /// Nodes.
    #[must_use]
    pub fn nodes(&self, default: usize) -> usize {
        self.nodes.unwrap_or(default)
    }

    /// Whether a cell of that name is wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|part| name.contains(part))
    }
}
