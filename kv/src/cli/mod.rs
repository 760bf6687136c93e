//! The program `raftkv`: what it is told to do, and its life from start to stop.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | stopped as asked |
//! | 1 | could not start or go on: a port taken, a data directory in use or of another store, a disk that fails |
//! | 2 | the command line makes no sense |
//! | 3 | the data is damaged, or a store has lost it; nothing was changed |
//! | 4 | `bench`: an acknowledged write is missing |
//!
//! ```
//! use kv::cli::{
//!     Args, ClusterArgs, Command, Peers, PeersError, ServeArgs, ServerArgs, WalAction, WalArgs,
//! };
//!
//! let line = ["raftkv", "cluster", "--stores", "5", "--data", "somewhere", "--port", "7001"];
//! let args = Args::parse(line)?;
//! let five = ClusterArgs { stores: Some(5), data: "somewhere".into(), port: 7001 };
//! assert_eq!(args.command, Command::Cluster(five));
//! assert_eq!(Args::parse(["raftkv", "--nonsense"]).unwrap_err().exit_code(), 2);
//!
//! let line = "raftkv server --id 1 --peers 1=a:8001,2=b:8001 --listen a:7001 --data somewhere";
//! let Args { command, serve } = Args::parse(line.split(' '))?;
//! let Command::Server(ServerArgs { peers, .. }) = command else { unreachable!() };
//! let expected: Peers = "1=a:8001,2=b:8001".parse()?;
//! assert_eq!(peers, expected);
//! assert_eq!("1=a:8001,b:8001".parse::<Peers>(), Err(PeersError::Form("b:8001".into())));
//! let ServeArgs { options, .. } = serve;
//! assert_eq!(options.clients_max, 10_000);
//!
//! let look = WalArgs { action: WalAction::Verify, data: "somewhere/store1".into(), json: false };
//! let args = Args::parse(["raftkv", "wal", "verify", "somewhere/store1"])?;
//! assert_eq!(args.command, Command::Wal(look));
//! // kv::cli::run(args) is the program.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `raftkv wal` looks at a log and runs nothing: see `wal`.

mod args;
mod directory;
mod files;
pub(crate) mod peers;
mod run;
mod signals;
mod wal;

pub use args::{Args, ClusterArgs, Command, ServeArgs, ServerArgs};
pub use peers::{Peers, PeersError};
pub use run::run;
pub use wal::{WalAction, WalArgs};
