//! A cluster of simulated stores with the key-value machine on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kv::engine::Read as _;
use kv::{Background, Callback, Cf, CheckpointOptions, KvMachine, OpenError, Query, Request};
use parking_lot::Mutex;
use raftstore::command::{CommandKind, encode};
use raftstore::disk::Disk;
use raftstore::disk::sim::Crash;
use raftstore::node::metrics::LogSizes;
use raftstore::store::{Counters, RegionStatus};
use raftstore::wal::GroupLog;
use raftstore::{Epoch, RegionId, StoreId};

use crate::cluster::backend::{Backend, Stop};
use crate::cluster::inside::LogSight;
use crate::digest::Digest;
use crate::filter::Filter;
use crate::sim::{Failure, Options, StartFailure, Subject, Time, World};

/// The key-value machine, to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct KvSubject {
    checkpoints: CheckpointOptions,
}

impl Subject for KvSubject {
    type Machine = KvMachine;

    fn open(
        &mut self,
        _store: StoreId,
        disk: Arc<dyn Disk>,
        log: &BTreeMap<RegionId, GroupLog>,
    ) -> Result<KvMachine, StartFailure> {
        let forgotten = log.iter().map(|(&region, log)| (region, log.compacted.index));
        KvMachine::open(disk, self.checkpoints, forgotten).map_err(|why| match why {
            OpenError::Io { .. } => StartFailure::Disk(why.to_string()),
            OpenError::Damaged { .. } => StartFailure::Damaged(why.to_string()),
            other => StartFailure::Violated(other.to_string()),
        })
    }

    fn state_hash(&self, machine: &KvMachine, region: RegionId) -> Option<u64> {
        machine.state_hash(region)
    }
}

/// A simulated cluster, as [`crate::cluster::Cluster`] drives it.
pub struct SimCluster {
    world: World<KvSubject>,
    failure: Option<Failure>,
    /// Digests of commands that clients were told took effect, since somebody last looked.
    acknowledged: Arc<Mutex<Vec<u64>>>,
}

impl SimCluster {
    /// A cluster with empty disks.
    ///
    /// # Errors
    /// If a store does not start.
    pub fn new(options: Options) -> Result<SimCluster, Failure> {
        let checkpoints = CheckpointOptions {
            log_bytes_min: options.checkpoint_bytes,
            log_percent_of_state: 0,
            background: Background::Inline,
        };
        let world = World::new(options, KvSubject { checkpoints })?;
        Ok(SimCluster { world, failure: None, acknowledged: Arc::default() })
    }

    /// All that is simulated.
    #[must_use]
    pub fn world(&self) -> &World<KvSubject> {
        &self.world
    }

    /// All that is simulated, to interfere with.
    pub fn world_mut(&mut self) -> &mut World<KvSubject> {
        &mut self.world
    }

    /// A store stands for election.
    pub fn campaign(&mut self, store: StoreId) {
        let done = self.world.campaign(store, RegionId::FIRST);
        self.keep(done);
    }

    /// Has the judges look at what clients were told.
    fn judge_answers(&mut self) {
        let told = std::mem::take(&mut *self.acknowledged.lock());
        for digest in told {
            let judged = self.world.acknowledged(digest);
            self.keep(judged);
        }
    }

    /// Keeps the first failure.
    fn keep<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failure.get_or_insert(failure);
                None
            }
        }
    }

    /// The callback, with judges who hear of it if the command took effect.
    fn tell_judges(&self, command: &[u8], callback: Callback) -> Callback {
        let (acknowledged, digest) = (Arc::clone(&self.acknowledged), Digest::of(command));
        Callback::new(move |answer| {
            if answer.is_ok() {
                acknowledged.lock().push(digest);
            }
            callback.answer(answer);
        })
    }

    fn epoch(&self, region: RegionId) -> Epoch {
        let known = self.world.stores().into_iter().find_map(|id| self.world.status(id, region));
        known.map_or(Epoch { version: 1, conf_ver: 1 }, |status| status.region.epoch)
    }
}

impl Backend for SimCluster {
    fn stores(&self) -> Vec<StoreId> {
        self.world.stores()
    }

    fn now(&self) -> Time {
        self.world.now()
    }

    fn advance(&mut self, until: Time) {
        if self.failure.is_none() {
            let advanced = self.world.advance(until);
            self.keep(advanced);
            self.judge_answers();
        }
    }

    fn submit(&mut self, to: StoreId, region: RegionId, request: Request, callback: Callback) {
        let epoch = self.epoch(region);
        let submitted = if request.is_read_only() {
            self.world.read(to, region, Query::new(epoch, request, callback))
        } else {
            match request.encode() {
                Ok(body) => {
                    let data = encode(region, epoch, CommandKind::Application, &body);
                    let callback = self.tell_judges(&data, callback);
                    self.world.propose(to, region, epoch, data, callback)
                }
                Err(_) => {
                    let max = kv::command::REQUEST_BYTES_MAX;
                    let refusal = raftstore::Refusal::TooLarge { bytes: max + 1, max };
                    callback.answer(Err(refusal.into()));
                    Ok(())
                }
            }
        };
        self.keep(submitted);
    }

    fn is_running(&self, store: StoreId) -> bool {
        self.world.is_running(store)
    }

    fn stop(&mut self, store: StoreId, how: Stop) {
        let how = match how {
            Stop::Kill => Crash::Process,
            Stop::PowerLoss => Crash::Power,
        };
        self.world.crash(store, how);
    }

    fn start(&mut self, store: StoreId) -> bool {
        let started = self.world.start(store);
        self.keep(started).unwrap_or(false)
    }

    fn status(&self, store: StoreId, region: RegionId) -> Option<RegionStatus> {
        self.world.status(store, region)
    }

    fn counters(&self, store: StoreId) -> Option<Counters> {
        let process = self.world.host(store).process.as_ref();
        process.map(|process| process.store.counters())
    }

    fn log(&self, store: StoreId) -> Option<LogSight> {
        let process = self.world.host(store).process.as_ref()?;
        let stats = process.collected;
        let sizes = LogSizes {
            started: stats.segments_started,
            dropped: stats.segments_dropped,
            carried_bytes: stats.carried_bytes,
            segments: stats.segments,
            file_bytes: stats.file_bytes,
            live_bytes: stats.live_bytes,
        };
        Some(LogSight { reader: process.wal.reader(), sizes })
    }

    fn disk(&self, store: StoreId) -> Result<Arc<dyn Disk>, String> {
        match self.is_running(store) {
            true => Err(format!("{store:?} runs")),
            false => Ok(self.world.host(store).disk.mount()),
        }
    }

    fn peek(&self, store: StoreId, cf: Cf, key: &[u8]) -> Option<Bytes> {
        let snapshot = self.world.machine(store)?.reader().snapshot();
        snapshot.get(cf, key).map(|value| Bytes::copy_from_slice(&value))
    }

    fn state_hash(&self, store: StoreId, region: RegionId) -> Option<u64> {
        self.world.machine(store)?.state_hash(region)
    }

    fn transfer(&mut self, region: RegionId, to: StoreId) {
        let transferred = self.world.transfer(region, to);
        self.keep(transferred);
    }

    fn add_filter(&mut self, filter: Arc<dyn Filter>) {
        self.world.add_filter(filter);
    }

    fn clear_filters(&mut self) {
        self.world.clear_filters();
    }

    fn sim_mut(&mut self) -> Option<&mut SimCluster> {
        Some(self)
    }

    fn failure(&self) -> Option<String> {
        self.failure.as_ref().map(ToString::to_string)
    }

    fn describe(&self) -> String {
        let seed = self.world.options().seed;
        let mut out = String::new();
        for event in self.world.trace().recent() {
            out.push_str(&format!("{event}\n"));
        }
        let (now, hash) = (self.world.now(), self.world.trace().hash());
        out.push_str(&format!("simulated, seed {seed}, at {now} us, trace {hash:016x}"));
        out
    }
}
