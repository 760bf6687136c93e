//! What may go wrong with disks and the network of a world, and how it is made good again.

use std::collections::BTreeMap;
use std::sync::Arc;

use raftstore::StoreId;
use raftstore::disk::sim::{Crash, Fault};

use super::{World, at};
use crate::filter::Filter;
use crate::sim::host::Rotten;
use crate::sim::net::NetOptions;
use crate::sim::rot::{self, Rot};
use crate::sim::trace::Happening;
use crate::sim::{Failure, Subject, Time};

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
        } else if disk.has_failed_sync() {
            // So is a sync of it that failed, for which the store would stop at the next entry:
            // whoever changes the disk starts the store again.
            self.crash(id, Crash::Process);
        }
    }

    /// The disk of a store takes so many bytes more, or as many as anybody likes.
    pub fn limit_disk(&mut self, id: StoreId, room: Option<u64>) {
        let host = &mut self.hosts[at(id)];
        host.disk.set_capacity(room.map(|room| host.disk.used() + room));
        host.may_fail |= room.is_some();
    }

    /// A store loses its power, and something on its disk is damaged. Whether anything was; what
    /// the disk was like before is kept, for [`World::mend_disk`].
    pub fn damage_disk(&mut self, id: StoreId, rot: Rot) -> bool {
        self.crash(id, Crash::Power);
        let host = &mut self.hosts[at(id)];
        // What a killed process left in the cache is gone now, too.
        host.disk.crash(Crash::Power);
        let before = host.disk.fork();
        let Some(what) = rot::damage(&host.disk, rot, &mut self.rng) else { return false };
        host.may_fail = true;
        // After a second damage the disk before the first is the one without any.
        host.rotten.get_or_insert(Rotten { before: Some(before), refused: false });
        *self.rot.entry(rot.name()).or_default() += 1;
        self.trace.note(self.now, Some(id), Happening::Chaos(what));
        true
    }

    /// A damaged store has refused to start: it must say which file it cannot trust.
    pub(super) fn refused(&mut self, id: StoreId, why: String) -> Result<bool, Failure> {
        let host = &mut self.hosts[at(id)];
        let files = host.disk.mount().list().unwrap_or_default();
        let is_clear = files.iter().any(|file| why.contains(file.as_str()));
        host.crash(Crash::Power);
        match &mut host.rotten {
            Some(rotten) if is_clear => {
                rotten.refused = true;
                *self.rot.entry("start refused over damage").or_default() += 1;
                self.trace.note(self.now, Some(id), Happening::Chaos(why));
                Ok(false)
            }
            Some(_) => Err(self.failure(id, format!("refuses without a file's name: {why}"))),
            None => Err(self.failure(id, format!("refuses a disk that is fine: {why}"))),
        }
    }

    /// Whether a store's disk is damaged, and it does not start for that.
    #[must_use]
    pub fn has_refused(&self, id: StoreId) -> bool {
        self.hosts[at(id)].rotten.as_ref().is_some_and(|rotten| rotten.refused)
    }

    /// Whoever runs a store that has refused to start puts its disk back as it was before it was
    /// damaged, from a mirror of it. Whether that is possible: not if it has run since, for then
    /// it has promised what the mirror may not have.
    pub fn mend_disk(&mut self, id: StoreId) -> bool {
        let host = &mut self.hosts[at(id)];
        let Some(before) = host.rotten.as_mut().and_then(|rotten| rotten.before.take()) else {
            return false;
        };
        // What was planned to go wrong with the disk, or limits it, is not so with the mirror.
        before.heal();
        before.set_capacity(None);
        (host.disk, host.rotten) = (before, None);
        *self.rot.entry("disk mended").or_default() += 1;
        self.trace.note(self.now, Some(id), Happening::Chaos("its disk is mended".to_owned()));
        true
    }

    /// Damage at rest, by kind, and what came of it.
    #[must_use]
    pub fn rot(&self) -> &BTreeMap<&'static str, u64> {
        &self.rot
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
