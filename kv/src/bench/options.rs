//! What is to be measured, and how.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ValueEnum, value_parser};
use log::LevelFilter;

use super::cluster::Sync;
use crate::limits::VALUE_BYTES_MAX;

/// Bytes of a value at least: its number has to fit.
pub(super) const PAYLOAD_MIN: usize = 16;
const CLIENTS_MAX: u16 = 8192;
const BATCH_MAX: u16 = 4096;

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Writes handed to the leading store of this process, without a connection
    Commit,
    /// SET over connections
    Put,
    /// GET over connections
    Get,
    /// Both, over connections
    Mixed,
}

impl Workload {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Workload::Commit => "commit",
            Workload::Put => "put",
            Workload::Get => "get",
            Workload::Mixed => "mixed",
        }
    }
}

/// The flags of `raftkv bench`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct BenchOptions {
    /// What the clients do
    #[arg(value_enum, default_value = "commit")]
    pub workload: Workload,
    /// Measure the store that serves clients there, instead of a cluster in this process
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',',
        value_parser = crate::cli::peers::address, conflicts_with_all = ["sync", "stores", "data"])]
    pub addr: Vec<String>,
    /// Clients at a time; several numbers are measured one after the other
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 8, 64, 512],
        value_parser = value_parser!(u16).range(1..=i64::from(CLIENTS_MAX)))]
    pub clients: Vec<u16>,
    /// Requests that each client has in flight
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = value_parser!(u16).range(1..=i64::from(BATCH_MAX)))]
    pub batch: u16,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256,
        value_parser = value_parser!(u32).range(PAYLOAD_MIN as i64..=VALUE_BYTES_MAX as i64))]
    pub payload: u32,
    /// Seconds that each number of clients is measured
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub duration: Duration,
    /// Seconds before, which are not
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warm_up: Duration,
    /// Requests a second of all clients together, sent whether or not earlier ones are answered;
    /// latencies count from when a request should have been sent [default: as fast as answered]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Whether the stores sync their logs
    #[arg(long, value_enum, default_value = "always")]
    pub sync: Sync,
    /// Stores of the cluster in this process
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u16).range(1..=15))]
    pub stores: u16,
    /// Directory of its data; must be empty or not there, and is removed afterwards
    #[arg(long, value_name = "DIR", default_value = "raftkv-bench-data")]
    pub data: PathBuf,
    /// Writes all figures to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes a page with charts to a file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What is logged: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log: LevelFilter,
}

impl BenchOptions {
    /// What can't be seen of one flag alone.
    ///
    /// # Errors
    /// With what does not fit together.
    pub fn check(&self) -> Result<(), String> {
        if self.workload == Workload::Commit && !self.addr.is_empty() {
            return Err("commit measures a cluster in this process: with --addr say put".into());
        }
        if self.duration.is_zero() {
            return Err("--duration is 0: nothing would be measured".into());
        }
        Ok(())
    }

    /// Where the stores are, and whether they sync: belongs to every figure.
    #[must_use]
    pub fn subject(&self) -> String {
        match (&self.addr[..], self.sync) {
            ([], Sync::Always) => format!("{} stores in this process, synced", self.stores),
            ([], Sync::Never) => format!("{} stores in this process, NOT SYNCED", self.stores),
            (addresses, _) => format!("the stores at {}", addresses.join(", ")),
        }
    }
}

/// Seconds, perhaps with a fraction; at most a day.
fn seconds(text: &str) -> Result<Duration, String> {
    const DAY: f64 = 86_400.0;
    match text.parse() {
        Ok(seconds) if (0.0..=DAY).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds from 0 to 86400".into()),
    }
}
