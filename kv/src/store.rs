//! One store with everything: its data directory, log, state machine, node, and server.
//!
//! ```text
//! clients ─► server ─► forwarder ─► node ─► log, other stores
//!                          ▲          └──► state machine
//!          requests of other stores
//! ```
//!
//! ```
//! use std::net::TcpListener;
//! use kv::store::{RunningStore, StartError, StoreOptions};
//! use raftstore::StoreId;
//! use raftstore::disk::ClusterId;
//! use raftstore::transport::local::Network;
//!
//! let dir = tempfile::tempdir()?;
//! let options = |store| {
//!     let data = dir.path().to_owned();
//!     StoreOptions::new(StoreId(store), ClusterId(7), vec![StoreId(store)], data)
//! };
//! let (network, port) = (Network::new(), || TcpListener::bind("127.0.0.1:0"));
//! let store = RunningStore::start(options(1), network.transport(StoreId(1)), port()?)?;
//! println!("clients connect to {}", store.address());
//! store.stop()?;
//! drop(store);
//!
//! // The directory has an owner now.
//! let other = RunningStore::start(options(2), network.transport(StoreId(2)), port()?);
//! assert!(matches!(other, Err(StartError::Identity { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Starting** finds out what is wrong before anything is changed, in this order: is the directory
//! ours, do the others know it, is the log whole, does the state machine fit the log. What a client
//! port needs is the caller's business, so that a taken port is known before any of that.
//!
//! **Stopping** takes a bounded time: the server takes no more commands and answers those it has,
//! then the node hands leadership over and closes the log.

mod start_error;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use raftstore::disk::{Acquaintances, Claim, ClusterId, DirDisk, Disk, Route};
use raftstore::node::{NodeConfig, NodeError, NodeHandle, OpenLog, Proposal, Service};
use raftstore::store::StoreConfig;
use raftstore::transport::Transport;
use raftstore::wal::{Wal, WalOptions};
use raftstore::{Epoch, Region, RegionId, StoreId};

use crate::callback::{Callback, Query};
use crate::command::Request;
use crate::engine::MemReader;
use crate::forward::{Forwarder, Local, View};
use crate::machine::{CheckpointOptions, KvMachine};
use crate::members;
pub use crate::members::MembersError;
use crate::metrics::{Figures, Recovery};
pub use crate::reads::Reads;
use crate::server::{Backend, Options, Server, Status, Stopper};
pub use start_error::StartError;

/// How long a write may look for a leader, by default: three elections of the default length.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(3);

/// What a store is and has.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Which store.
    pub store: StoreId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The stores the cluster began with, ascending.
    pub members: Vec<StoreId>,
    /// Its directory.
    pub data: PathBuf,
    /// Settings of its node, but for those that every start draws anew.
    pub node: NodeConfig,
    /// Settings of its log.
    pub wal: WalOptions,
    /// When checkpoints are made.
    pub checkpoints: CheckpointOptions,
    /// Settings of its server.
    pub server: Options,
    /// How reads are kept linearizable; what `node` says of it does not count.
    pub reads: Reads,
    /// How long a write may look for a leader.
    pub leader_timeout: Duration,
    /// Stores that are taken back although they have lost their data: what only they and others that
    /// are gone had acknowledged may be lost.
    pub readmitted: BTreeSet<StoreId>,
    /// Opens its directory. Anything but [`open_directory`] is for measuring or testing.
    pub open_disk: fn(&Path) -> io::Result<Arc<dyn Disk>>,
}

/// The directory at `path`, as stores use it.
///
/// # Errors
/// If it can't be made.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let disk = kv::store::open_directory(&dir.path().join("new"))?;
/// assert_eq!(disk.list()?, [String::new(); 0]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn open_directory(path: &Path) -> io::Result<Arc<dyn Disk>> {
    Ok(Arc::new(DirDisk::open(path, Route::default())?))
}

impl StoreOptions {
    /// Defaults.
    #[must_use]
    pub fn new(
        store: StoreId,
        cluster: ClusterId,
        members: Vec<StoreId>,
        data: PathBuf,
    ) -> StoreOptions {
        StoreOptions {
            store,
            cluster,
            members,
            data,
            node: NodeConfig::new(StoreConfig::new(store)),
            wal: WalOptions::default(),
            checkpoints: CheckpointOptions::default(),
            server: Options::default(),
            reads: Reads::default(),
            leader_timeout: LEADER_TIMEOUT,
            readmitted: BTreeSet::new(),
            open_disk: open_directory,
        }
    }
}

/// Its threads, beside those of the node.
struct Threads {
    /// Serves clients.
    serve: JoinHandle<()>,
    /// Watches the deadlines of what was forwarded.
    watch: JoinHandle<()>,
}

/// A store that runs, until [`RunningStore::stop`].
pub struct RunningStore {
    backend: Arc<StoreBackend>,
    stopper: Stopper,
    address: SocketAddr,
    threads: Mutex<Option<Threads>>,
    /// What opening its log found.
    recovery: Recovery,
    /// The directory is ours as long as this is held.
    _claim: Claim,
}

impl fmt::Debug for RunningStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunningStore({} at {})", self.store(), self.address)
    }
}

impl RunningStore {
    /// Starts a store that talks to the others over `transport` and to clients at `listener`.
    ///
    /// # Errors
    /// If something is not as it must be; see [`StartError`].
    pub fn start(
        options: StoreOptions,
        transport: Arc<dyn Transport>,
        listener: TcpListener,
    ) -> Result<RunningStore, StartError> {
        let store = options.store;
        let server_options = options.server.clone();
        let (leader_timeout, reads) = (options.leader_timeout, options.reads);
        let Opened { node, reader, recovery, claim } = open(options, transport)?;
        let local = NodeLocal { node: node.clone(), reader };
        let backend = Arc::new(StoreBackend(Forwarder::new(local, leader_timeout, reads)));
        node.set_service(Arc::clone(&backend) as _);
        let failed = |source| {
            if let Err(e) = node.shutdown() {
                log::error!("store {store}: {e}");
            }
            StartError::Server { store, source }
        };
        let server = Server::new(listener, Arc::clone(&backend) as _, server_options);
        let server = server.map_err(failed)?;
        let (address, stopper) = (server.address(), server.stopper());
        let threads = spawn(&backend, server).map_err(|source| {
            backend.0.stop();
            failed(source)
        })?;
        let threads = Mutex::new(Some(threads));
        Ok(RunningStore { backend, stopper, address, threads, recovery, _claim: claim })
    }

    /// Which store it is.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.node().store()
    }

    /// Where its clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its node.
    #[must_use]
    pub fn node(&self) -> &NodeHandle<KvMachine> {
        &self.backend.0.local().node
    }

    /// What there is to see of it, also after it has failed.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let NodeLocal { node, reader } = self.backend.0.local();
        let memory = reader.memory();
        Figures {
            store: node.store(),
            node: node.metrics(),
            regions: node.statuses(),
            keys: memory.keys,
            state_bytes: memory.live_bytes,
            recovery: self.recovery,
        }
    }

    /// Stops it: answers the commands it has, hands leadership over, syncs and closes the log.
    /// Takes little more than the server's grace and the node's time to stop.
    ///
    /// # Errors
    /// If the node had failed, or failed while stopping.
    pub fn stop(&self) -> Result<(), NodeError> {
        self.stopper.stop();
        let threads = self.threads.lock().take();
        let watch = threads.map(|Threads { serve, watch }| {
            join(serve);
            watch
        });
        let outcome = self.node().shutdown();
        self.backend.0.stop();
        watch.into_iter().for_each(join);
        outcome
    }
}

fn join(thread: JoinHandle<()>) {
    // A panic there was reported by the panic hook.
    let _ = thread.join();
}

fn spawn(backend: &Arc<StoreBackend>, server: Server) -> io::Result<Threads> {
    let store = backend.0.local().store();
    let named = |what: &str| std::thread::Builder::new().name(format!("s{store}-{what}"));
    let watching = Arc::clone(backend);
    let watch = named("forward").spawn(move || watching.0.watch())?;
    let serve = named("clients").spawn(move || {
        if let Err(e) = server.run() {
            log::error!("store {store} serves no clients any more: {e}");
        }
    })?;
    Ok(Threads { serve, watch })
}

/// A node that runs on what was on disk.
struct Opened {
    node: NodeHandle<KvMachine>,
    reader: MemReader,
    recovery: Recovery,
    claim: Claim,
}

/// Opens what is on disk, and starts the node with it.
fn open(options: StoreOptions, transport: Arc<dyn Transport>) -> Result<Opened, StartError> {
    let (open_disk, reads) = (options.open_disk, options.reads);
    let StoreOptions { store, cluster, members, data: path, mut node, .. } = options;
    let StoreOptions { wal, checkpoints, readmitted, .. } = options;
    let disk =
        open_disk(&path).map_err(|source| StartError::Directory { path: path.clone(), source })?;
    let claim = Claim::new(disk.as_ref(), store, cluster)
        .map_err(|source| StartError::Identity { path: path.clone(), source })?;
    members::agree(disk.as_ref(), &members)
        .map_err(|source| StartError::Members { path: path.clone(), source })?;
    let met = Acquaintances::open(Arc::clone(&disk), *claim.identity(), readmitted)
        .and_then(|known| transport.introduce(Arc::new(known)));
    met.map_err(|source| StartError::Acquaintances { path: path.clone(), source })?;
    let began = Instant::now();
    let (log, recovered) = Wal::open(Arc::clone(&disk), claim.identity(), wal)
        .map_err(|source| StartError::Log { path: path.clone(), source })?;
    if let Some(torn) = &recovered.torn {
        log::warn!(
            "store {store}: the log's tail was torn by a crash: {} bytes of {} from offset {} \
             are cut off, nothing of it was acknowledged",
            torn.bytes,
            torn.file,
            torn.offset
        );
    }
    let recovery = Recovery {
        records: recovered.records,
        bytes: recovered.bytes,
        torn_bytes: recovered.torn.as_ref().map_or(0, |torn| torn.bytes),
        took: began.elapsed(),
    };
    let Recovery { records, bytes, took, .. } = recovery;
    log::info!("store {store}: {records} records, {bytes} bytes of log read in {took:.1?}");
    let compacted = recovered.groups.iter().map(|(region, log)| (*region, log.compacted.index));
    let machine = KvMachine::open(Arc::clone(&disk), checkpoints, compacted)
        .map_err(|source| StartError::Checkpoint { path, source })?;
    let reader = machine.reader();
    // Reads and elections of this life must not be mistaken for those of another.
    node.store.incarnation = disk.random();
    node.store.seed = disk.random();
    node.store.read_mode = reads.mode();
    let bootstrap = Region::first(&members);
    let log = OpenLog::wal(log, recovered.groups);
    let node = NodeHandle::start(node, machine, bootstrap, log, transport)
        .map_err(|source| StartError::Node { store, source })?;
    Ok(Opened { node, reader, recovery, claim })
}

/// The node, as forwarding sees it.
struct NodeLocal {
    node: NodeHandle<KvMachine>,
    reader: MemReader,
}

impl Local for NodeLocal {
    fn store(&self) -> StoreId {
        self.node.store()
    }

    fn view(&self) -> View {
        match self.node.status(RegionId::FIRST) {
            Some(status) => View { leader: status.leader, epoch: status.region.epoch },
            None => View { leader: None, epoch: Epoch::default() },
        }
    }

    fn propose(&self, epoch: Epoch, body: Bytes, callback: Callback) {
        self.node.propose(Proposal { region: RegionId::FIRST, epoch, body, callback });
    }

    fn read(&self, epoch: Epoch, request: Request, callback: Callback) {
        self.node.read(RegionId::FIRST, Query::new(epoch, request, callback));
    }

    fn send_request(&self, to: StoreId, id: u64, body: Bytes) -> bool {
        self.node.request(to, id, body).is_ok()
    }

    fn send_reply(&self, to: StoreId, id: u64, body: Bytes) -> bool {
        self.node.reply(to, id, body).is_ok()
    }
}

/// The store, as the server sees it, and as other stores do.
struct StoreBackend(Arc<Forwarder<NodeLocal>>);

impl Service for StoreBackend {
    fn on_request(&self, from: StoreId, id: u64, body: Bytes) {
        self.0.on_request(from, id, body);
    }

    fn on_reply(&self, from: StoreId, id: u64, body: Bytes) {
        self.0.on_reply(from, id, &body);
    }

    fn on_lost(&self, store: StoreId) {
        self.0.on_lost(store);
    }
}

impl Backend for StoreBackend {
    fn submit(&self, batch: &mut Vec<(Request, Callback)>) {
        self.0.submit(batch, Instant::now());
    }

    fn status(&self) -> Status {
        let NodeLocal { node, reader } = self.0.local();
        let mut status = Status::starting(node.store().0);
        let memory = reader.memory();
        status.keys = Some(memory.keys);
        if let Some(region) = node.status(RegionId::FIRST) {
            status.region = region.region.id.0;
            status.epoch = (region.region.epoch.version, region.region.epoch.conf_ver);
            status.role = region.role;
            status.term = region.term;
            status.leader = region.leader.map(|store| store.0);
            status.commit = region.commit;
            status.applied = region.applied;
            status.last_index = region.last;
            status.counters.extend([
                ("compacted", region.compacted),
                ("pending_proposals", region.pending_proposals as u64),
                ("pending_reads", region.pending_reads as u64),
            ]);
        }
        let counters = node.counters();
        status.counters.extend([
            ("proposals", counters.store.proposals),
            ("reads", counters.store.reads),
            ("committed", counters.store.committed),
            ("rounds", counters.store.rounds),
            ("batches", counters.store.batches),
            ("elections_won", counters.store.elections_won),
            ("messages_in", counters.store.messages_in),
            ("messages_out", counters.store.messages_out),
            ("messages_refused", counters.store.messages_refused),
            ("messages_dropped", counters.messages_dropped),
            ("busy", counters.busy),
            ("log_appends", counters.appends),
            ("log_syncs", counters.syncs),
            ("log_bytes", counters.log_bytes),
            ("state_bytes", memory.live_bytes),
        ]);
        status
    }
}
