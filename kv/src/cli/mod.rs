//! The program `raftkv`: what it is told to do, and its life from start to stop.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | stopped as asked |
//! | 1 | could not start or go on: a port taken, a data directory in use or of another store, a disk that fails |
//! | 2 | the command line makes no sense |
//! | 3 | the data is damaged; nothing was changed |
//! | 4 | `bench`: an acknowledged write is missing |
//!
//! `raftkv wal` looks at a log and runs nothing: see [`wal`].

pub mod args;
pub mod peers;
pub mod run;
pub mod signals;
pub mod wal;

pub use args::{Args, ClusterArgs, Command, ServeArgs, ServerArgs};
pub use peers::Peers;
pub use run::{RunError, run};
pub use wal::{WalAction, WalArgs};
