//! What may go wrong with disks and the network of a world, and how it is made good again.

use std::sync::Arc;

use raftstore::StoreId;
use raftstore::disk::sim::{Crash, Fault};

use super::{World, at};
use crate::filter::Filter;
use crate::sim::net::NetOptions;
use crate::sim::{Subject, Time};

impl<S: Subject> World<S> {
    /// The disk operation of a store that comes after `n` others does `fault` instead.
    pub fn fail_disk(&mut self, id: StoreId, n: u64, fault: Fault) {
        let host = &mut self.hosts[at(id)];
        host.disk.fail(n, fault);
        host.may_fail = true;
    }

    /// The disk of a store works from now on, and has room.
    pub fn heal_disk(&mut self, id: StoreId) {
        let disk = &self.hosts[at(id)].disk;
        disk.heal();
        disk.set_capacity(None);
        // A power cut that hit what may fail, a checkpoint say, is noticed at the latest now.
        if disk.is_powerless() {
            self.crash(id, Crash::Power);
        }
    }

    /// The disk of a store takes so many bytes more, or as many as anybody likes.
    pub fn limit_disk(&mut self, id: StoreId, room: Option<u64>) {
        let host = &mut self.hosts[at(id)];
        host.disk.set_capacity(room.map(|room| host.disk.used() + room));
        host.may_fail |= room.is_some();
    }

    /// How messages travel from now on.
    pub fn set_net(&mut self, options: NetOptions) {
        self.net.set_options(options);
    }

    /// How long syncs take from now on.
    pub fn set_sync(&mut self, range: std::ops::Range<Time>) {
        self.options.sync = range;
    }

    /// Nothing gets from one store to the other, in this direction.
    pub fn cut(&mut self, from: StoreId, to: StoreId) {
        self.net.cut(from, to);
    }

    /// What gets from one store to the other arrives at `until` or later.
    pub fn clog(&mut self, from: StoreId, to: StoreId, until: Time) {
        self.net.clog(from, to, until);
    }

    /// Takes all cuts and filters away.
    pub fn heal(&mut self) {
        self.net.mend();
        self.net.clear_filters();
    }

    /// Adds a filter.
    pub fn add_filter(&mut self, filter: Arc<dyn Filter>) {
        self.net.add_filter(filter);
    }

    /// Takes the filters away, not the cuts.
    pub fn clear_filters(&mut self) {
        self.net.clear_filters();
    }
}
