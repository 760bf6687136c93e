//! What a store shows to whoever watches it: counters and histograms with the names that operators
//! know from etcd, over HTTP, in the text format of Prometheus (version 0.0.4).
//!
//! ```text
//!  node, state machine ─► Figures ─► table ─► text ─► endpoint ─► GET /metrics
//! ```
//!
//! Nothing here is on the way of a command: the store counts whether somebody looks or not
//! ([`raftstore::node::metrics`]), and a scrape only reads. The names are a promise; `METRICS.md` lists
//! them, and a test holds both against what a running store answers.
//!
//! Written by ourselves: the client libraries for Prometheus own their counters, and so would decide
//! what an increment costs on the hot path, or write another format (OpenMetrics). Requests are parsed
//! by `httparse`.
//!
//! | file | what |
//! |---|---|
//! | `table` | every metric: name, meaning, where its value is |
//! | `text` | the format |
//! | `endpoint` | HTTP, as little as is needed |

mod endpoint;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use raftstore::StoreId;
use raftstore::node::metrics::NodeMetrics;
use raftstore::store::RegionStatus;

pub(crate) use endpoint::{Endpoint, EndpointLimits};

/// What a store has to tell at one moment.
///
/// ```
/// use std::net::TcpListener;
/// use kv::metrics::{Figures, Recovery};
/// use kv::store::{RunningStore, StoreOptions};
/// use raftstore::StoreId;
/// use raftstore::disk::ClusterId;
/// use raftstore::transport::local::Network;
///
/// let (id, dir) = (StoreId(1), tempfile::tempdir()?);
/// let options = StoreOptions::new(id, ClusterId(7), vec![id], dir.path().to_owned());
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let store = RunningStore::start(options, Network::new().transport(id), listener)?;
/// let figures: Figures = store.figures();
/// assert_eq!((figures.store, figures.keys), (id, 0));
/// let Recovery { torn_bytes, .. } = figures.recovery;
/// assert_eq!(torn_bytes, 0, "the log was new");
/// assert!(figures.to_text().contains("# TYPE "));
/// store.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Figures {
    /// Which store.
    pub store: StoreId,
    /// What its node has counted.
    pub node: NodeMetrics,
    /// Its regions.
    pub regions: Vec<RegionStatus>,
    /// Keys in its state.
    pub keys: u64,
    /// Bytes of keys and values in its state.
    pub state_bytes: u64,
    /// What opening its log found.
    pub recovery: Recovery,
}

/// What opening a log found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl Figures {
    /// All metrics as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::page(table::METRICS, self)
    }
}
