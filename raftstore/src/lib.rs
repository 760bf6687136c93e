//! Many Raft groups in one batched ready loop over a memory-mapped write-ahead log.

pub mod codec;
pub mod command;
pub mod disk;
pub mod machine;
pub mod region;
pub mod transport;
pub mod wal;

pub use machine::{Callback, Effects, Machine, RecoveredRegion, Refusal, Unknown};
pub use region::{Epoch, Peer, Region, RegionId, StoreId};
