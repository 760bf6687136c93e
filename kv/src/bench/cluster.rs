//! A whole cluster in this process, on empty directories: real stores, with their threads, logs and
//! servers, that talk to each other through memory.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use raft::RoleKind;
use raftstore::disk::ClusterId;
use raftstore::node::{NodeError, NodeHandle};
use raftstore::transport::local::Network;
use raftstore::{RegionId, StoreId};

use super::unsynced::open_unsynced;
use crate::machine::KvMachine;
use crate::store::{RunningStore, StartError, StoreOptions};

/// How long the first store may take to be elected.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(20);

/// Whether what is acknowledged is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sync {
    /// A write is acknowledged when a majority has synced it
    #[default]
    Always,
    /// Nothing is synced: a power failure may lose what was acknowledged
    Never,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A store does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system gives no port.
    #[error("no port for a store: {0}")]
    Port(#[from] io::Error),
    /// Nobody was elected in time.
    #[error("no store was elected within {} s", PATIENCE.as_secs())]
    NoLeader,
    /// A store failed.
    #[error("a store failed: {0}")]
    Failed(#[from] NodeError),
}

/// Running stores, one of which leads.
///
/// ```no_run
/// use kv::bench::{ClusterError, LocalCluster, Sync};
///
/// let dir = tempfile::tempdir()?;
/// let cluster = LocalCluster::start(dir.path(), 3, Sync::Always, |_| {})?;
/// println!("store {} leads, clients connect to {}", cluster.leader().store(), cluster.address());
/// let stopped: Result<(), ClusterError> = cluster.stop();
/// stopped?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LocalCluster {
    stores: Vec<RunningStore>,
}

impl LocalCluster {
    /// Starts so many stores below `dir`, with what `configure` makes of their options, and waits
    /// until the first one leads.
    ///
    /// # Errors
    /// See [`ClusterError`]. Nothing runs then.
    pub fn start(
        dir: &Path,
        stores: u64,
        sync: Sync,
        configure: impl Fn(&mut StoreOptions),
    ) -> Result<LocalCluster, ClusterError> {
        let network = Network::new();
        let members: Vec<StoreId> = (1..=stores).map(StoreId).collect();
        let mut cluster = LocalCluster { stores: Vec::new() };
        for &store in &members {
            let data = dir.join(format!("store{store}"));
            let mut options = StoreOptions::new(store, ClusterId(1), members.clone(), data);
            if sync == Sync::Never {
                options.open_disk = open_unsynced;
            }
            configure(&mut options);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            match RunningStore::start(options, network.transport(store), listener) {
                Ok(running) => cluster.stores.push(running),
                Err(error) => {
                    // The first failure is the news.
                    let _ = cluster.stop();
                    return Err(error.into());
                }
            }
        }
        match cluster.elect_first() {
            Ok(()) => Ok(cluster),
            Err(error) => {
                let _ = cluster.stop();
                Err(error)
            }
        }
    }

    /// Makes the first store lead, so that every run measures the same thing.
    fn elect_first(&self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + PATIENCE;
        while !leads(self.leader()) {
            if Instant::now() > deadline {
                return Err(ClusterError::NoLeader);
            }
            self.leader().campaign(RegionId::FIRST);
            for other in &self.stores[1..] {
                other.node().transfer_leader(RegionId::FIRST, Some(self.leader().store()));
            }
            std::thread::sleep(STEP);
        }
        Ok(())
    }

    /// The node that led when the cluster started.
    #[must_use]
    pub fn leader(&self) -> &NodeHandle<KvMachine> {
        self.stores[0].node()
    }

    /// Where clients connect to it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.stores[0].address()
    }

    /// Stops all stores.
    ///
    /// # Errors
    /// With the first failure.
    pub fn stop(&self) -> Result<(), ClusterError> {
        let mut outcome = Ok(());
        // The others first: the leader then has nobody to hand over to, and need not wait for it.
        for store in self.stores.iter().rev() {
            outcome = outcome.and(store.stop());
        }
        Ok(outcome?)
    }
}

fn leads(node: &NodeHandle<KvMachine>) -> bool {
    node.status(RegionId::FIRST).is_some_and(|status| status.role == RoleKind::Leader)
}
