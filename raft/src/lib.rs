//! Raft as a pure state machine.

pub mod entry;
pub mod message;
pub mod types;

pub use entry::{Entries, Entry, EntryKind, EntryRef, NotConsecutive, Run};
pub use message::{AppendReply, Body, Message};
pub use types::{
    ConfState, HardState, Index, LogId, NodeId, RoleKind, Snapshot, SnapshotMeta, SoftState, Term,
};
