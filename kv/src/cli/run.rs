//! From the command line to running stores, and to the exit code.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use raftstore::StoreId;
use raftstore::disk::{ClusterId, DirDisk, Identity, IdentityError, Route};
use raftstore::node::NodeError;
use raftstore::transport::local::Network;
use raftstore::transport::tcp::{TcpConfig, TcpTransport};

use super::args::{Args, ClusterArgs, Command, ServeArgs, ServerArgs};
use super::directory::{DirectoryError, check_cluster, check_store};
use super::{files, peers, signals};
use crate::bench::{self, BenchError};
use crate::members::{self, MembersError};
use crate::metrics::{Endpoint, EndpointLimits};
use crate::store::{RunningStore, StartError, StoreOptions};

/// Stores of a new cluster, unless somebody says otherwise.
const STORES_DEFAULT: u16 = 3;

/// Why the program ends otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A port is taken, or not one of this machine.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The data directory has more stores than there are ports.
    #[error("the ports from {first} on do not suffice for all stores of the data directory")]
    Ports {
        /// The first.
        first: u16,
    },
    /// The directory of the data is something else.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A store does not start.
    #[error("{source}{}", hint(source))]
    Start {
        /// Why.
        #[from]
        source: StartError,
    },
    /// A store failed.
    #[error("store {store} failed: {source}")]
    Failed {
        /// Which.
        store: StoreId,
        /// Why.
        source: NodeError,
    },
    /// There are no figures, or none to trust.
    #[error(transparent)]
    Bench(BenchError),
    /// The system does not give what every program needs.
    #[error("{0}")]
    System(#[from] io::Error),
}

fn hint(error: &StartError) -> String {
    match error {
        StartError::Identity { source: IdentityError::OtherCluster { owner, .. }, .. } => format!(
            "; if it is the same cluster and only addresses have changed, say --cluster-id {owner}"
        ),
        _ => String::new(),
    }
}

impl RunError {
    /// The exit code of the program.
    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            RunError::Start { source } if source.is_damage() => 3,
            RunError::Bench(error) => error.exit_code(),
            _ => 1,
        }
    }
}

/// The whole program: runs what it is told to until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    env_logger::Builder::new().filter_level(args.serve.log).init();
    let Args { command, serve } = args;
    let outcome = match command {
        Command::Cluster(cluster) => run_cluster(&cluster, &serve),
        Command::Server(server) => run_server(server, &serve),
        Command::Bench(options) => bench::run(&options).map_err(RunError::Bench),
        Command::Wal(wal) => return super::wal::run(&wal),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Nobody may be listening, and there is nobody else to tell.
            let _ = writeln!(io::stderr(), "raftkv: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// What ends the program.
enum Event {
    /// It is told to.
    Stop,
    /// A store has ended.
    Ended(StoreId, Result<(), NodeError>),
}

fn run_cluster(args: &ClusterArgs, serve: &ServeArgs) -> Result<(), RunError> {
    check_cluster(&args.data)?;
    let stores = stores_of(args)?;
    let cluster = cluster_of(&args.data.join("store1"))?;
    let listeners: Vec<TcpListener> =
        (0..).zip(&stores).map(|(k, _)| listen_from(args.port, k)).collect::<Result<_, _>>()?;
    let watched = listen_for_metrics(serve, stores.len())?;
    // Before anything is started: from now on Ctrl-C means stopping in good order.
    let (events, ended) = watch_signals()?;
    let mut server = serve.options.clone();
    server.clients_max = files::clients_for(server.clients_max, stores.len());
    let network = Network::new();
    let mut running = Vec::new();
    for (&store, listener) in stores.iter().zip(listeners) {
        let data = args.data.join(format!("store{store}"));
        check_store(&data)?;
        let mut options = StoreOptions::new(store, cluster, stores.clone(), data);
        options.server = server.clone();
        options.reads = serve.reads;
        options.readmitted = serve.readmitted.clone();
        match RunningStore::start(options, network.transport(store), listener) {
            Ok(store) => running.push(Arc::new(store)),
            Err(e) => {
                // The first failure is the news.
                let _ = stop(&running);
                return Err(e.into());
            }
        }
    }
    let watched = show(&running, watched)?;
    say(&greeting(&running, &watched, &args.data));
    until_stopped(&running, &events, &ended)
}

fn run_server(args: ServerArgs, serve: &ServeArgs) -> Result<(), RunError> {
    let ServerArgs { store, peers, data, listen: address, cluster } = args;
    check_store(&data)?;
    let clients = listen(address.as_str())?;
    // The command line was refused if it had no address of this store.
    let own = peers.address(store).unwrap_or_default().to_owned();
    let others = listen(own.as_str())?;
    let watched = listen_for_metrics(serve, 1)?;
    let (events, ended) = watch_signals()?;
    let cluster = cluster.map_or_else(|| peers.cluster(), ClusterId);
    let config = TcpConfig::new(store, cluster.0, peers.addresses().clone());
    let transport = TcpTransport::new(config, others)?;
    let mut options = StoreOptions::new(store, cluster, peers.stores(), data.clone());
    options.server = serve.options.clone();
    options.reads = serve.reads;
    options.readmitted = serve.readmitted.clone();
    options.server.clients_max = files::clients_for(options.server.clients_max, 1);
    let running = [Arc::new(RunningStore::start(options, Arc::new(transport), clients)?)];
    let watched = show(&running, watched)?;
    say(&greeting(&running, &watched, &data));
    until_stopped(&running, &events, &ended)
}

/// The stores there are, or those there shall be.
fn stores_of(args: &ClusterArgs) -> Result<Vec<StoreId>, RunError> {
    let first = args.data.join("store1");
    let known = match directory(&first)? {
        Some(disk) => members::read(&disk)
            .map_err(|source| StartError::Members { path: first.clone(), source })?,
        None => None,
    };
    let asked = args.stores.map(|n| (1..=u64::from(n)).map(StoreId).collect());
    match (known, asked) {
        (Some(began), Some(asked)) if began != asked => {
            let source = MembersError::Other { began, asked };
            Err(StartError::Members { path: first, source }.into())
        }
        (Some(known), _) => Ok(known),
        (None, Some(asked)) => Ok(asked),
        (None, None) => Ok((1..=u64::from(STORES_DEFAULT)).map(StoreId).collect()),
    }
}

/// The cluster whose first store is in `first`, or a new one.
fn cluster_of(first: &Path) -> Result<ClusterId, RunError> {
    let identity = match directory(first)? {
        Some(disk) => Identity::read(&disk)
            .map_err(|source| StartError::Identity { path: first.to_owned(), source })?,
        None => None,
    };
    // The standard library seeds these from the operating system.
    let new = || ClusterId(RandomState::new().hash_one(0));
    Ok(identity.map_or_else(new, |identity| identity.cluster))
}

/// The directory, if it is there.
fn directory(path: &Path) -> Result<Option<DirDisk>, StartError> {
    if !path.is_dir() {
        return Ok(None);
    }
    let open = DirDisk::open(path, Route::default());
    open.map(Some).map_err(|source| StartError::Directory { path: path.to_owned(), source })
}

fn listen(address: impl ToSocketAddrs + ToString) -> Result<TcpListener, RunError> {
    let name = address.to_string();
    TcpListener::bind(address).map_err(|source| RunError::Listen { address: name, source })
}

/// The port `k` after the first.
fn listen_from(first: u16, k: u16) -> Result<TcpListener, RunError> {
    let port = first.checked_add(k).ok_or(RunError::Ports { first })?;
    listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// A socket for the metrics of each store, if they are to be served.
fn listen_for_metrics(serve: &ServeArgs, stores: usize) -> Result<Vec<TcpListener>, RunError> {
    let Some(first) = &serve.metrics else { return Ok(Vec::new()) };
    let listen_after = |(k, _)| {
        let ports = || RunError::Ports { first: peers::port_of(first) };
        listen(peers::port_after(first, k).ok_or_else(ports)?.as_str())
    };
    (0..).zip(0..stores).map(listen_after).collect()
}

/// Serves the metrics of each store at its socket.
fn show(
    stores: &[Arc<RunningStore>],
    listeners: Vec<TcpListener>,
) -> Result<Vec<Endpoint>, RunError> {
    let show = |(store, listener): (&Arc<RunningStore>, TcpListener)| {
        let (name, store) = (format!("s{}-metrics", store.store()), Arc::clone(store));
        let page = move || store.figures().to_text();
        Endpoint::start(listener, &name, EndpointLimits::default(), page)
    };
    let shown: io::Result<_> = stores.iter().zip(listeners).map(show).collect();
    shown.map_err(|error| {
        // That there is no thread is the news.
        let _ = stop(stores);
        error.into()
    })
}

fn watch_signals() -> Result<(Sender<Event>, Receiver<Event>), RunError> {
    raftstore::disk::tell_bus_errors()?;
    let (events, ended) = crossbeam_channel::unbounded();
    let stop = events.clone();
    // There is nobody to stop when the receiver is gone.
    signals::on_first(move || drop(stop.send(Event::Stop)))?;
    Ok((events, ended))
}

/// Waits for the signal, or for a store to fail; then stops all.
fn until_stopped(
    stores: &[Arc<RunningStore>],
    events: &Sender<Event>,
    ended: &Receiver<Event>,
) -> Result<(), RunError> {
    for store in stores {
        let (store, events) = (Arc::clone(store), events.clone());
        let name = format!("s{}-wait", store.store());
        std::thread::Builder::new().name(name).spawn(move || {
            let outcome = store.node().wait();
            // There is nobody to tell when the program is about to end.
            let _ = events.send(Event::Ended(store.store(), outcome));
        })?;
    }
    let first = ended.recv();
    log::info!("stopping");
    let stopped = stop(stores);
    match first {
        Ok(Event::Ended(store, Err(source))) => Err(RunError::Failed { store, source }),
        Ok(Event::Ended(_, Ok(())) | Event::Stop) | Err(_) => stopped,
    }
}

/// Stops all stores at a time; the first failure.
fn stop(stores: &[Arc<RunningStore>]) -> Result<(), RunError> {
    std::thread::scope(|scope| {
        let stopping: Vec<_> =
            stores.iter().map(|store| (store.store(), scope.spawn(|| store.stop()))).collect();
        let mut outcome = Ok(());
        for (store, thread) in stopping {
            let stopped = thread.join().unwrap_or(Err(NodeError::Panicked("stopping")));
            if let Err(source) = stopped {
                outcome = outcome.and(Err(RunError::Failed { store, source }));
            }
        }
        outcome
    })
}

fn greeting(stores: &[Arc<RunningStore>], watched: &[Endpoint], data: &Path) -> String {
    let count = stores.len();
    let mut text = format!(
        "raftkv {}: {count} {} running, data in {}\n",
        env!("CARGO_PKG_VERSION"),
        if count == 1 { "store" } else { "stores" },
        data.display()
    );
    for store in stores {
        text.push_str(&format!("  store {}  {}\n", store.store(), store.address()));
    }
    if let Some(first) = stores.first() {
        text.push_str(&format!("Try: redis-cli{} set k v\n", options_for(first.address())));
    }
    for (store, endpoint) in stores.iter().zip(watched) {
        let (store, address) = (store.store(), endpoint.address());
        text.push_str(&format!("Metrics of store {store}: http://{address}/metrics\n"));
    }
    text.push_str("Ctrl-C stops.\n");
    text
}

/// What `redis-cli` has to be told to connect there.
fn options_for(address: SocketAddr) -> String {
    let ip = address.ip();
    if ip.is_loopback() && ip.is_ipv4() || ip.is_unspecified() {
        format!(" -p {}", address.port())
    } else {
        format!(" -h {ip} -p {}", address.port())
    }
}

/// For people. Nobody may be reading, which is no reason to stop.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
