//! `raftkv bench`: measures a cluster, in this process or elsewhere, and checks afterwards that it
//! kept what it acknowledged.
//!
//! ```text
//! options ─► stores (here, or where they are) ─► floor ─► clients ─► verify ─► report
//!                                                 driver ──┬── direct   to the leading store
//!                                                          └── wire     over connections
//! ```
//!
//! ```no_run
//! use kv::bench::{BenchError, BenchOptions, Workload, Wrong, run};
//! use kv::cli::{Args, Command};
//!
//! let Command::Bench(options) = Args::parse(["raftkv", "bench", "--clients", "1,64"])?.command else {
//!     unreachable!()
//! };
//! let options: BenchOptions = options;
//! assert_eq!(options.workload, Workload::Commit);
//! match run(&options) {
//!     Err(BenchError::Lost(what)) => {
//!         let what: Wrong = what;
//!         panic!("{what}")
//!     }
//!     told => told?,
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | what |
//! |---|---|
//! | `options` | what is to be measured |
//! | `cluster`, `unsynced` | stores in this process; a log that is not synced |
//! | `client` | what a client asks, and what it must find later |
//! | `driver`, `direct`, `wire`, `reply` | who sends when, and which way |
//! | `record`, `progress` | latencies and throughput, kept and shown |
//! | `floor`, `environment` | what the machine allows, and which one it is |
//! | `verify` | whether all that was acknowledged is there |
//! | `report`, `page`, `chart` | table, JSON and HTML |

mod chart;
mod client;
mod cluster;
mod direct;
mod driver;
mod environment;
mod floor;
mod options;
mod page;
mod progress;
mod record;
mod reply;
mod report;
mod run;
mod unsynced;
mod verify;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use client::Wrong;
pub use cluster::{ClusterError, LocalCluster, Sync};
pub use options::{BenchOptions, Workload};
pub use run::run;

/// Why there are no figures, or none to trust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The stores of this process don't run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The data directory has something in it, and a benchmark removes its own.
    #[error("{} is not empty: a benchmark starts with empty stores", .0.display())]
    NotEmpty(PathBuf),
    /// A file can't be had.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such host.
    #[error("{address}: {why}")]
    Address {
        /// As it was given.
        address: String,
        /// Why.
        why: String,
    },
    /// A connection failed.
    #[error("the connection to {address} failed: {source}")]
    Connection {
        /// To whom.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// What a store sent makes no sense.
    #[error("{0}")]
    Protocol(String),
    /// A request can't be made.
    #[error("a request: {0}")]
    Request(String),
    /// Something had to be answered and was not.
    #[error("the store does not answer as it must: {0}")]
    Unanswered(String),
    /// No histogram.
    #[error("no histogram: {0}")]
    Histogram(String),
    /// The system does not give what every program needs.
    #[error("{0}")]
    System(io::Error),
    /// A read found something else than it must: an acknowledged write is not there.
    #[error("an acknowledged write was LOST: {0}")]
    Lost(#[from] Wrong),
    /// Afterwards, acknowledged writes are not there.
    #[error("{0} keys LOST an acknowledged write")]
    Missing(usize),
}

impl BenchError {
    /// The exit code of the program: 4 if the stores broke their word.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            BenchError::Lost(_) | BenchError::Missing(_) => 4,
            _ => 1,
        }
    }
}
