//! The command line.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand, value_parser};
use log::LevelFilter;
use raftstore::StoreId;

use super::peers::{self, Peers};
use super::wal::{WalAction, WalArgs};
use crate::bench::BenchOptions;
use crate::server::Options;
use crate::store::Reads;

/// A replicated key-value store that speaks the Redis protocol.
///
/// Without a command: `cluster`.
#[derive(Debug, Parser)]
#[command(name = "raftkv", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Runs a whole cluster in this process, its data on disk
    Cluster(ClusterFlags),
    /// Runs one store of a cluster
    Server(ServerFlags),
    /// Measures a cluster, and checks that it keeps what it acknowledges
    Bench(BenchOptions),
    /// Shows what the log of a store that has stopped says, and changes nothing
    #[command(subcommand)]
    Wal(WalSub),
}

#[derive(Debug, Subcommand)]
enum WalSub {
    /// Every record, with its place and what it changes
    Dump(WalFlags),
    /// Whether a start would accept the log, and what it would cut
    Verify(WalFlags),
    /// Sizes, and what each region has
    Stats(WalFlags),
}

#[derive(Debug, clap::Args)]
struct WalFlags {
    /// Directory of one store
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// As JSON, a value a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ClusterFlags {
    /// Stores of the cluster [default: as many as there are in the data directory, or 3]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=15))]
    stores: Option<u16>,
    /// Directory of the data; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "raftkv-data")]
    data: PathBuf,
    /// Port of the first store; the others have those that follow
    #[arg(long, default_value_t = 7001, value_parser = value_parser!(u16).range(1..))]
    port: u16,
    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Debug, clap::Args)]
struct ServerFlags {
    /// This store's id
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    id: u64,
    /// All stores and where they talk to each other: 1=HOST:PORT,2=HOST:PORT,...
    #[arg(long, value_name = "LIST")]
    peers: Peers,
    /// Directory of the data; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where clients connect
    #[arg(long, value_name = "HOST:PORT", value_parser = peers::address)]
    listen: String,
    /// Name of the cluster, where it is not to follow from the first list of its stores
    #[arg(long, value_name = "N")]
    cluster_id: Option<u64>,
    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Debug, clap::Args)]
struct ServeFlags {
    /// Most clients of a store at a time
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_clients: usize,
    /// Seconds after which a silent client is disconnected; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    idle_timeout: u64,
    /// How reads are kept linearizable; the same for all stores of a cluster
    #[arg(long, value_enum, value_name = "HOW", default_value = "index")]
    reads: Reads,
    /// Take store N back although it has lost its data; may be given several times
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    readmit: Vec<u64>,
    /// Where metrics are served, at /metrics; further stores of a cluster have the ports that follow
    #[arg(long, value_name = "HOST:PORT", value_parser = peers::address)]
    metrics: Option<String>,
    /// What is logged: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: LevelFilter,
}

/// What the program is told to do.
#[derive(Clone, Debug)]
pub struct Args {
    /// What to run.
    pub command: Command,
    /// How to serve clients.
    pub serve: ServeArgs,
}

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A cluster in this process.
    Cluster(ClusterArgs),
    /// One store.
    Server(ServerArgs),
    /// A measurement.
    Bench(BenchOptions),
    /// A look at a log.
    Wal(WalArgs),
}

/// A cluster in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterArgs {
    /// How many stores; `None`: as many as there are, or 3.
    pub stores: Option<u16>,
    /// Where their directories are.
    pub data: PathBuf,
    /// Port of the first.
    pub port: u16,
}

/// One store of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerArgs {
    /// Which.
    pub store: StoreId,
    /// All of them.
    pub peers: Peers,
    /// Its directory.
    pub data: PathBuf,
    /// Where its clients connect: host and port.
    pub listen: String,
    /// The cluster, if it is said.
    pub cluster: Option<u64>,
}

/// How to serve clients.
#[derive(Clone, Debug)]
pub struct ServeArgs {
    /// The server's options.
    pub options: Options,
    /// How reads are kept linearizable.
    pub reads: Reads,
    /// Stores that are taken back without the data they had.
    pub readmitted: BTreeSet<StoreId>,
    /// Where metrics of the first store are served, if they are.
    pub metrics: Option<String>,
    /// What is logged.
    pub log: LevelFilter,
}

impl ServeArgs {
    /// Where nobody is served.
    fn of_nobody(log: LevelFilter) -> ServeArgs {
        let (options, reads) = (Options::default(), Reads::default());
        ServeArgs { options, reads, readmitted: BTreeSet::new(), metrics: None, log }
    }
}

impl Args {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// If it makes no sense, or asks for help; the error says where it is to be printed, and its
    /// exit code is 2, or 0 for help.
    pub fn parse(
        line: impl IntoIterator<Item: Into<OsString> + Clone>,
    ) -> Result<Args, clap::Error> {
        let cli = Cli::try_parse_from(line).map_err(with_usage)?;
        let (command, serve) = match cli.command.unwrap_or(Sub::Cluster(cli.cluster)) {
            Sub::Cluster(ClusterFlags { stores, data, port, serve }) => {
                let count = stores.unwrap_or(3);
                let metrics = serve.metrics.as_deref().map(peers::port_of);
                for first in std::iter::once(port).chain(metrics) {
                    if first.checked_add(count - 1).is_none() {
                        let why = format!("the ports from {first} on do not suffice for {count}");
                        return Err(conflict("cluster", format!("{why} stores")));
                    }
                }
                (Command::Cluster(ClusterArgs { stores, data, port }), serve)
            }
            Sub::Server(flags) => {
                let store = StoreId(flags.id);
                check(&flags, store).map_err(|why| conflict("server", why))?;
                let ServerFlags { peers, data, listen, cluster_id: cluster, serve, .. } = flags;
                (Command::Server(ServerArgs { store, peers, data, listen, cluster }), serve)
            }
            Sub::Bench(options) => {
                options.check().map_err(|why| conflict("bench", why))?;
                let serve = ServeArgs::of_nobody(options.log);
                return Ok(Args { command: Command::Bench(options), serve });
            }
            Sub::Wal(sub) => {
                let (action, WalFlags { data, json }) = match sub {
                    WalSub::Dump(flags) => (WalAction::Dump, flags),
                    WalSub::Verify(flags) => (WalAction::Verify, flags),
                    WalSub::Stats(flags) => (WalAction::Stats, flags),
                };
                let serve = ServeArgs::of_nobody(LevelFilter::Warn);
                return Ok(Args { command: Command::Wal(WalArgs { action, data, json }), serve });
            }
        };
        let idle = Duration::from_secs(serve.idle_timeout);
        let options = Options {
            clients_max: serve.max_clients,
            idle_timeout: (!idle.is_zero()).then_some(idle),
            ..Options::default()
        };
        let ServeFlags { reads, readmit, metrics, log, .. } = serve;
        let readmitted = readmit.into_iter().map(StoreId).collect();
        Ok(Args { command, serve: ServeArgs { options, reads, readmitted, metrics, log } })
    }
}

/// What can't be seen of one flag alone.
fn check(flags: &ServerFlags, store: StoreId) -> Result<(), String> {
    let Some(own) = flags.peers.address(store) else {
        return Err(format!("--peers does not have this store, {store}"));
    };
    if own == flags.listen {
        return Err(format!("clients and stores can't both connect to {own}"));
    }
    if let Some(taken) = flags.serve.metrics.as_ref().filter(|m| **m == own || **m == flags.listen)
    {
        return Err(format!("metrics can't be served at {taken}, which is for others"));
    }
    Ok(())
}

/// A wrong value is answered without the usage otherwise.
fn with_usage(mut error: clap::Error) -> clap::Error {
    if error.exit_code() == 2 && error.get(ContextKind::Usage).is_none() {
        let usage = Cli::command().render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
    }
    error
}

fn conflict(subcommand: &str, why: String) -> clap::Error {
    let mut command = Cli::command();
    command.build();
    let command = command.find_subcommand_mut(subcommand).map(|c| c.clone());
    command.unwrap_or_else(Cli::command).error(ErrorKind::ArgumentConflict, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::parse(std::iter::once("raftkv").chain(line.split_whitespace()))
    }

    fn cluster(line: &str) -> ClusterArgs {
        match parse(line).unwrap().command {
            Command::Cluster(args) => args,
            other => panic!("{other:?}"),
        }
    }

    const SERVER: &str = "server --id 1 --peers 1=a:1,2=b:1 --data d --listen 127.0.0.1:7001";

    #[test]
    fn a_cluster_is_what_runs_without_a_command() {
        let expected = ClusterArgs { stores: None, data: "raftkv-data".into(), port: 7001 };
        assert_eq!(cluster(""), expected);
        assert_eq!(cluster("cluster"), expected);
        let expected = ClusterArgs { stores: Some(5), data: "d".into(), port: 8000 };
        assert_eq!(cluster("--stores 5 --data d --port 8000"), expected);
        assert_eq!(cluster("cluster --stores 5 --data d --port 8000"), expected);
    }

    #[test]
    fn a_server_has_all_it_needs() {
        let args = parse(SERVER).unwrap();
        let expected = ServerArgs {
            store: StoreId(1),
            peers: "1=a:1,2=b:1".parse().unwrap(),
            data: "d".into(),
            listen: "127.0.0.1:7001".into(),
            cluster: None,
        };
        assert_eq!(args.command, Command::Server(expected));
        let args =
            parse(&format!("{SERVER} --idle-timeout 5 --max-clients 9 --log debug")).unwrap();
        assert_eq!(args.serve.options.idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(args.serve.options.clients_max, 9);
        assert_eq!(args.serve.log, LevelFilter::Debug);
        assert_eq!(args.serve.metrics, None);
        let args = parse(&format!("{SERVER} --metrics [::1]:9100")).unwrap();
        assert_eq!(args.serve.metrics.as_deref(), Some("[::1]:9100"));
        assert_eq!(args.serve.reads, Reads::Index);
        for (how, reads) in [("index", Reads::Index), ("lease", Reads::Lease), ("log", Reads::Log)]
        {
            let args = parse(&format!("{SERVER} --reads {how}")).unwrap();
            assert_eq!(args.serve.reads, reads);
        }
    }

    #[test]
    fn a_log_is_looked_at_in_a_directory() {
        let wal = |line: &str| parse(line).unwrap().command;
        let expected = |action, json| Command::Wal(WalArgs { action, data: "d".into(), json });
        assert_eq!(wal("wal dump d"), expected(WalAction::Dump, false));
        assert_eq!(wal("wal verify --json d"), expected(WalAction::Verify, true));
        assert_eq!(wal("wal stats d --json"), expected(WalAction::Stats, true));
    }

    #[test]
    fn what_makes_no_sense_shows_the_usage_and_is_exit_code_2() {
        let server = |from: &str, to: &str| SERVER.replace(from, to);
        let lines = [
            "--nonsense".to_owned(),
            "cluster --nonsense".into(),
            "nonsense".into(),
            "--stores 0".into(),
            "--stores 16".into(),
            "--stores x".into(),
            "--port 0".into(),
            "--port 65534 --stores 3".into(),
            "--port 65534".into(),
            "--port 8000 server".into(),
            "--data a --data b".into(),
            "--log loud".into(),
            "--reads dirty".into(),
            "server".into(),
            server("--id 1", "--id 0"),
            server("--id 1", "--id 3"),
            server("--id 1", ""),
            server("2=b:1", "1=b:1"),
            server("2=b:1", "2=a:1"),
            server("2=b:1", "0=b:1"),
            server("2=b:1", "b:1"),
            server("127.0.0.1:7001", "7001"),
            server("127.0.0.1:7001", "127.0.0.1:0"),
            server("1=a:1", "1=127.0.0.1:7001"),
            format!("{SERVER} --port 7001"),
            format!("{SERVER} --metrics 9100"),
            format!("{SERVER} --metrics 127.0.0.1:7001"),
            format!("{SERVER} --metrics a:1"),
            "cluster --metrics a:65534".into(),
            "bench nonsense".into(),
            "bench --clients 0".into(),
            "bench --clients 1,x".into(),
            "bench --batch 0".into(),
            "bench --payload 15".into(),
            "bench --duration 0".into(),
            "bench --duration -1".into(),
            "bench --warm-up soon".into(),
            "bench --rate 0".into(),
            "bench --sync sometimes".into(),
            "bench put --addr 7001".into(),
            "bench put --addr a:1 --sync never".into(),
            "bench put --addr a:1 --stores 3".into(),
            "bench commit --addr a:1".into(),
            format!("{SERVER} --stores 3"),
            "wal --json".into(),
            "wal mend d".into(),
            "wal dump".into(),
            "wal verify --json".into(),
            "wal stats d e".into(),
            "wal dump d --port 7001".into(),
        ];
        for line in lines {
            let error = parse(&line).expect_err(&line);
            assert_eq!(error.exit_code(), 2, "{line}");
            let text = error.to_string();
            assert!(text.starts_with("error: "), "{line}: {text}");
            assert!(text.contains("Usage: raftkv"), "{line}: {text}");
        }
    }

    #[test]
    fn help_and_version_are_no_failure() {
        for line in ["--help", "--version", "cluster --help", "help server", "bench --help"] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 0, "{line}");
        }
    }
}
