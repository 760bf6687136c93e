//! What a test does to a cluster: stores end and start, messages do not arrive.

use std::sync::Arc;

use raftstore::StoreId;

use crate::cluster::{Cluster, Stop};
use crate::filter::{Filter, Partition};

impl Cluster {
    /// Ends a store's process, without warning.
    pub fn stop_server(&mut self, store: StoreId) {
        self.back.stop(store, Stop::Kill);
    }

    /// Takes a store's power away: of what it had not synced, anything may be left.
    pub fn crash_server(&mut self, store: StoreId) {
        self.back.stop(store, Stop::PowerLoss);
    }

    /// Ends a store's process in that way.
    pub fn stop_server_by(&mut self, store: StoreId, how: Stop) {
        self.back.stop(store, how);
    }

    /// Starts a store that was stopped, from its disk.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_server(&mut self, store: StoreId) {
        let started = self.back.start(store);
        self.check();
        assert!(started, "{store:?} does not start");
    }

    /// The two groups cannot reach each other from now on.
    pub fn partition(&mut self, one: &[StoreId], other: &[StoreId]) {
        self.add_filter(Partition { one: one.to_vec(), other: other.to_vec() });
    }

    /// Nobody reaches `store`, and it reaches nobody.
    pub fn isolate(&mut self, store: StoreId) {
        let others: Vec<_> = self.stores().into_iter().filter(|&id| id != store).collect();
        self.partition(&[store], &others);
    }

    /// Everybody reaches everybody again: all filters are taken away.
    pub fn heal(&mut self) {
        self.back.clear_filters();
    }

    /// Adds a filter for all messages between stores.
    pub fn add_filter(&mut self, filter: impl Filter + 'static) {
        self.back.add_filter(Arc::new(filter));
    }

    /// Takes all filters away.
    pub fn clear_filters(&mut self) {
        self.back.clear_filters();
    }
}
