//! Many Raft groups in one batched ready loop over a memory-mapped write-ahead log.
//!
//! A step function first, threads second. [`store::Store`] takes inputs and hands out one
//! [`store::Ready`] a round; [`applier::Applier`] puts what is committed to a [`Machine`];
//! [`wal::Wal`] makes batches durable. None of them has a thread or a clock, so the node's threads
//! and a simulator drive the same code. This is the whole loop:
//!
//! ```
//! use raftstore::applier::Applier;
//! use raftstore::codec::message::PeerMessage;
//! use raftstore::store::{Ready, Store};
//! use raftstore::wal::{Wal, WalError};
//! use raftstore::{Machine, StoreId};
//!
//! /// After inputs: `store.step()`, `propose()`, `read()`, and once in a while `store.tick()` and
//! /// `applier.tick()`.
//! fn rounds<M: Machine>(
//!     store: &mut Store<M>,
//!     applier: &mut Applier<M>,
//!     wal: &mut Wal,
//!     ready: &mut Ready<M>, // kept, for its buffers
//!     send: &mut dyn FnMut(StoreId, Vec<PeerMessage>),
//! ) -> Result<(), WalError> {
//!     while store.has_ready() && store.halted().is_none() {
//!         store.ready(ready);
//!         ready.messages.drain().for_each(|(to, messages)| send(to, messages));
//!         if let Some(batch) = ready.batch.take() {
//!             wal.append(&batch.records())?; // does nothing if there are none
//!             if batch.must_sync() {
//!                 wal.sync()?; // an error here is the end of this store
//!             }
//!             store.persisted(batch.synced());
//!         }
//!         let mut reports = Vec::new();
//!         ready.tasks.drain(..).for_each(|task| applier.run(task, &mut reports));
//!         reports.into_iter().for_each(|report| store.applied(report));
//!     }
//!     while wal.collect()? {} // drops segments that nobody needs any more
//!     Ok(())
//! }
//! ```
//!
//! [`start::start`] makes store and applier from what the log and the machine have recovered. A
//! simulator may do each step later, and in between whatever it likes: batches are reported in
//! order, tasks are run in order, nothing else is demanded. What must hold at all times is said by
//! `store.raw(region)`, the core of each group.
//!
//! | module | what |
//! |---|---|
//! | [`region`] [`machine`] | which keys are where; the seam to the state machine |
//! | [`store`] [`batch`] | the step function, and what a round makes durable |
//! | [`snapshot`] | the state, for a follower that the log does not reach back to |
//! | [`applier`] | from committed entries and confirmed reads to the machine |
//! | [`start`] | from what is on disk to a running store |
//! | [`node::metrics`] | what is counted and timed, for whoever watches |
//! | [`command`] [`codec`] | the envelope of commands; entries, messages and frames as bytes |
//! | [`node`] [`transport`] | the threads around it all; packets between stores |
//! | [`wal`] [`disk`] | the log, and the disks under it |

pub mod applier;
pub mod batch;
pub mod codec;
pub mod command;
pub mod disk;
pub mod machine;
pub mod node;
pub mod region;
pub mod snapshot;
pub mod start;
pub mod store;
pub mod transport;
pub mod wal;

mod peer;
mod reads;
#[cfg(test)]
mod testing;

pub use machine::{Callback, Effects, Machine, RecoveredRegion, Refusal, Unknown};
pub use region::{Epoch, Peer, Region, RegionId, StoreId};
