//! Raft as a pure state machine: no I/O, threads, clock or logging.

pub mod conf_change;
pub mod config;
pub mod entry;
pub mod error;
pub mod membership;
pub mod message;
pub mod progress;
pub mod quorum;
pub mod ready;
pub mod status;
pub mod storage;
pub mod types;

mod commit;
mod election;
mod invariants;
mod log;
mod membership_change;
mod raft;
mod raw_node;
mod read;
mod replication;
mod role;
mod server;
mod snapshot;
mod step;
mod transfer;

pub use conf_change::{ConfChange, ConfChangeKind, ConfChangeSingle, Transition};
pub use config::{Config, ConfigError, ReadMode};
pub use entry::{Entries, Entry, EntryKind, EntryRef, NotConsecutive, Run};
pub use error::{
    CompactError, ConfChangeError, NewError, ProposeError, ReadError, StepError, StorageError,
};
pub use log::Terms;
pub use membership::Membership;
pub use message::{AppendReply, Body, Message};
pub use progress::{Flow, Progress};
pub use raft::Proposed;
pub use raw_node::RawNode;
pub use ready::{Applied, Apply, Inspect, ReadState, Ready, Report, Stable, Write, Written};
pub use status::Status;
pub use storage::{InitialState, MemStorage, Storage};
pub use types::{
    ConfState, HardState, Index, LogId, NodeId, RoleKind, Snapshot, SnapshotMeta, SoftState, Term,
};
