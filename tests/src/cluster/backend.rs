//! What a cluster has to be able to do, whatever it is made of.

use std::sync::Arc;

use bytes::Bytes;
use kv::{Callback, Cf, Request};
use raftstore::disk::Disk;
use raftstore::store::{Counters, RegionStatus};
use raftstore::{RegionId, StoreId};

use crate::cluster::inside::LogSight;
use crate::cluster::sim::SimCluster;
use crate::filter::Filter;
use crate::sim::Time;

/// How a store ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The process is killed: what it wrote is in the page cache, synced or not.
    Kill,
    /// The power fails: of what was not synced, anything may be left. Threads cannot have that;
    /// there it is as [`Stop::Kill`].
    PowerLoss,
}

/// Stores and what is between them.
pub trait Backend {
    /// All stores, running or not.
    fn stores(&self) -> Vec<StoreId>;

    /// Microseconds since the start: virtual ones in a simulation.
    fn now(&self) -> Time;

    /// Lets time pass: until something may have happened, at the latest until `until`.
    fn advance(&mut self, until: Time);

    /// Asks a store. The callback is answered once, at once or while time passes.
    fn submit(&mut self, to: StoreId, region: RegionId, request: Request, callback: Callback);

    /// Whether a store runs.
    fn is_running(&self, store: StoreId) -> bool;

    /// Ends a store's process.
    fn stop(&mut self, store: StoreId, how: Stop);

    /// Starts a store from what its disk has. Whether it runs.
    fn start(&mut self, store: StoreId) -> bool;

    /// What a running store says of a region.
    fn status(&self, store: StoreId, region: RegionId) -> Option<RegionStatus>;

    /// What a running store has counted in this life.
    fn counters(&self, store: StoreId) -> Option<Counters>;

    /// The log of a running store.
    fn log(&self, store: StoreId) -> Option<LogSight>;

    /// The disk of a store that does not run.
    ///
    /// # Errors
    /// If it runs, or its directory cannot be opened.
    fn disk(&self, store: StoreId) -> Result<Arc<dyn Disk>, String>;

    /// A value as a running store has it, without asking anybody whether it is current.
    fn peek(&self, store: StoreId, cf: Cf, key: &[u8]) -> Option<Bytes>;

    /// A hash of all that a running store holds for a region.
    fn state_hash(&self, store: StoreId, region: RegionId) -> Option<u64>;

    /// Asks the leader to hand over.
    fn transfer(&mut self, region: RegionId, to: StoreId);

    /// Adds a filter for all messages between stores.
    fn add_filter(&mut self, filter: Arc<dyn Filter>);

    /// Takes all filters away.
    fn clear_filters(&mut self);

    /// The simulation, if it is one.
    fn sim_mut(&mut self) -> Option<&mut SimCluster> {
        None
    }

    /// What was found to be wrong, if anything was.
    fn failure(&self) -> Option<String>;

    /// How to have this run again, and what happened last: for whoever has to find out.
    fn describe(&self) -> String;
}
