//! A replicated key-value store on `raftstore`: commands, answers, the state machine, a server.
//!
//! | chapter | what |
//! |---|---|
//! | [`command`] | what a client may ask, and what it gets; the bytes of both |
//! | [`answer`] | the three truths a client may be told |
//! | [`callback`] | who waits, and that everybody is answered exactly once |
//! | `proposals` | which command waits for which entry |
//! | [`engine`] | the sorted state, its snapshots, its memory |
//! | `execute` | what each operation does |
//! | [`sessions`] | commands that take effect once |
//! | [`client`] | a client that asks again only when it may |
//! | `checkpoint`, `snapshot_file`, `blocks` | the state on disk, and which of it a store starts from |
//! | [`machine`] | what a committed entry does: checks, changes, answers |
//! | `resp`, [`limits`] | the protocol clients speak, and what is taken from them |
//! | [`server`] | all connections of a store in one thread; the commands |
//! | `forward` | from any store to the one that leads |
//! | [`store`], `members` | one store with everything, from its directory to its clients |
//! | [`metrics`] | what a store shows to whoever watches it |
//! | [`mod@bench`] | measuring all of it, from clients' side |
//! | [`cli`] | the program `raftkv` |

#![forbid(unsafe_code)]

pub mod answer;
pub mod bench;
pub mod callback;
pub mod cli;
pub mod client;
pub mod command;
pub mod engine;
pub mod limits;
pub mod machine;
pub mod metrics;
pub mod server;
pub mod sessions;
pub mod store;

mod blocks;
mod checkpoint;
mod execute;
mod forward;
mod hash;
mod members;
mod proposals;
mod reads;
mod region_snapshot;
mod resp;
mod snapshot_file;
mod wire;

pub use answer::{Answer, Error};
pub use callback::{Callback, Query};
pub use client::Client;
pub use command::{Cf, Condition, Op, OpError, OpResult, Request, Response, Session};
pub use machine::{Background, CheckpointOptions, KvMachine, OpenError, RegionSnapshot};
