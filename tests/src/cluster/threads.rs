//! A cluster of real nodes: their threads, their log in a directory, the clock.
//!
//! Threads cannot be killed as a process can. To stop a store without warning it is cut off first,
//! so that it hands nothing over and answers nobody, and what it had in memory is dropped with it.
//! What it wrote is in the files and is all that [`Backend::start`] has; nothing un-synced is lost,
//! for that there is the simulation.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::engine::{MemReader, Read as _};
use kv::{Callback, Cf, CheckpointOptions, KvMachine, Query, Request};
use parking_lot::RwLock;
use raftstore::codec::message::PeerMessage;
use raftstore::disk::{Claim, ClusterId, DirDisk, Disk, Route};
use raftstore::node::{NodeConfig, NodeHandle, OpenLog, Proposal};
use raftstore::store::{Counters, RegionStatus, StoreConfig};
use raftstore::transport::Packet;
use raftstore::transport::local::Network;
use raftstore::wal::{LogReader, Wal, WalOptions};
use raftstore::{Callback as _, Epoch, Refusal, Region, RegionId, StoreId};
use tempfile::TempDir;

use crate::cluster::backend::{Backend, Stop};
use crate::cluster::inside::{LogSight, ThreadOptions};
use crate::cluster::late::{Late, is_delivering};
use crate::filter::{Filter, Partition, Passage};
use crate::regions::create_missing;
use crate::sim::Time;

/// Ticks are short, so that tests need not wait for elections of a second.
const TICK: Duration = Duration::from_millis(10);

const EPOCH: Epoch = Epoch { version: 1, conf_ver: 1 };

/// All filters that are in force.
type Filters = Arc<RwLock<Vec<Arc<dyn Filter>>>>;

/// Whether a message arrives, now; what is late or comes twice is left to `late`.
fn arrives_now(
    filters: &[Arc<dyn Filter>],
    late: &Late,
    from: StoreId,
    to: StoreId,
    message: &PeerMessage,
) -> bool {
    let asked = filters.iter().map(|filter| filter.passage(from, to, message));
    let passage = asked.fold(Passage::default(), Passage::then);
    if passage.lost {
        return false;
    }
    if passage.late > 0 {
        late.send(passage.late, from, to, message.clone());
    }
    if let Some(after) = passage.again {
        late.send(passage.late + after, from, to, message.clone());
    }
    passage.late == 0
}

/// A store that runs.
struct Running {
    node: NodeHandle<KvMachine>,
    reader: MemReader,
    log: LogReader,
    /// The directory is this store's for as long as it runs.
    _claim: Claim,
}

/// Nodes in this process, with a directory each.
pub struct ThreadCluster {
    dir: TempDir,
    options: ThreadOptions,
    stores: Vec<StoreId>,
    running: BTreeMap<StoreId, Running>,
    network: Network,
    filters: Filters,
    /// Delivers what is late, until the network forgets the filter that hands it over.
    delivery: Option<JoinHandle<()>>,
    began: Instant,
    failure: Option<String>,
}

impl ThreadCluster {
    /// Nodes with empty directories.
    ///
    /// # Errors
    /// If one does not start.
    pub fn new(stores: u64) -> Result<ThreadCluster, String> {
        ThreadCluster::with(ThreadOptions::new(stores))
    }

    /// Nodes with empty directories and those limits.
    ///
    /// # Errors
    /// If one does not start.
    pub fn with(options: ThreadOptions) -> Result<ThreadCluster, String> {
        let network = Network::new();
        let filters = Filters::default();
        let asked = Arc::clone(&filters);
        let (late, delivery) = Late::start(network.clone()).map_err(|error| error.to_string())?;
        network.add_filter(Arc::new(move |from, to, packet: &mut Packet| {
            let Packet::Raft(messages) = packet else { return true };
            if is_delivering() {
                return true;
            }
            let filters = asked.read();
            messages.retain(|m| arrives_now(&filters, &late, from, to, m));
            !messages.is_empty()
        }));
        let mut cluster = ThreadCluster {
            dir: TempDir::new().map_err(|error| error.to_string())?,
            options,
            stores: (1..=options.stores).map(StoreId).collect(),
            running: BTreeMap::new(),
            network,
            filters,
            delivery: Some(delivery),
            began: Instant::now(),
            failure: None,
        };
        for store in cluster.stores.clone() {
            let running = cluster.open(store)?;
            cluster.running.insert(store, running);
        }
        Ok(cluster)
    }

    fn directory(&self, store: StoreId) -> Result<Arc<dyn Disk>, String> {
        let path = self.dir.path().join(format!("store{store}"));
        let disk = DirDisk::open(path, Route::default()).map_err(|error| error.to_string())?;
        Ok(Arc::new(disk))
    }

    /// Opens what the store's directory has, as the program does.
    fn open(&self, store: StoreId) -> Result<Running, String> {
        let disk = self.directory(store)?;
        let claim =
            Claim::new(disk.as_ref(), store, ClusterId(1)).map_err(|error| error.to_string())?;
        let options = WalOptions { segment_bytes: self.options.segment_bytes };
        let (wal, recovered) = Wal::open(Arc::clone(&disk), claim.identity(), options)
            .map_err(|error| error.to_string())?;
        let compacted = recovered.groups.iter().map(|(region, log)| (*region, log.compacted.index));
        let checkpoints = CheckpointOptions {
            log_bytes_min: self.options.checkpoint_bytes,
            ..CheckpointOptions::default()
        };
        let mut machine = KvMachine::open(Arc::clone(&disk), checkpoints, compacted)
            .map_err(|error| error.to_string())?;
        create_missing(&mut machine, &self.stores, self.options.regions);
        let reader = machine.reader();
        let mut config = NodeConfig::new(StoreConfig::new(store));
        config.tick = TICK;
        config.store.log_gc_count_limit = self.options.log_gc_count_limit;
        config.store.incarnation = disk.random();
        config.store.seed = disk.random();
        let entries = wal.reader();
        let log = OpenLog::wal(wal, recovered.groups);
        let bootstrap = Region::first(&self.stores);
        let transport = self.network.transport(store);
        let node = NodeHandle::start(config, machine, bootstrap, log, transport)
            .map_err(|error| error.to_string())?;
        Ok(Running { node, reader, log: entries, _claim: claim })
    }

    /// Stops a store and keeps the first failure.
    fn end(&mut self, store: StoreId) {
        if let Some(running) = self.running.remove(&store)
            && let Err(why) = running.node.shutdown()
        {
            self.failure.get_or_insert(format!("store {store} failed: {why}"));
        }
    }
}

impl Backend for ThreadCluster {
    fn stores(&self) -> Vec<StoreId> {
        self.stores.clone()
    }

    fn now(&self) -> Time {
        self.began.elapsed().as_micros() as Time
    }

    fn advance(&mut self, until: Time) {
        // What happens meanwhile happens on other threads; whoever waits looks again soon.
        let left = Duration::from_micros(until.saturating_sub(self.now()));
        std::thread::sleep(left.min(Duration::from_millis(1)));
    }

    fn submit(&mut self, to: StoreId, region: RegionId, request: Request, callback: Callback) {
        let Some(running) = self.running.get(&to) else {
            return callback.refuse(Refusal::ShuttingDown);
        };
        if request.is_read_only() {
            return running.node.read(region, Query::new(EPOCH, request, callback));
        }
        match request.encode() {
            Ok(body) => {
                running.node.propose(Proposal { region, epoch: EPOCH, body, callback });
            }
            Err(_) => {
                let max = kv::command::REQUEST_BYTES_MAX;
                callback.refuse(Refusal::TooLarge { bytes: max + 1, max });
            }
        }
    }

    fn is_running(&self, store: StoreId) -> bool {
        self.running.contains_key(&store)
    }

    fn stop(&mut self, store: StoreId, _: Stop) {
        let others = self.stores.iter().copied().filter(|&id| id != store).collect();
        let cut: Arc<dyn Filter> = Arc::new(Partition { one: vec![store], other: others });
        self.filters.write().push(Arc::clone(&cut));
        self.end(store);
        self.filters.write().retain(|filter| !Arc::ptr_eq(filter, &cut));
    }

    fn start(&mut self, store: StoreId) -> bool {
        match self.open(store) {
            Ok(running) => {
                self.running.insert(store, running);
                true
            }
            Err(why) => {
                self.failure.get_or_insert(format!("store {store} does not start: {why}"));
                false
            }
        }
    }

    fn status(&self, store: StoreId, region: RegionId) -> Option<RegionStatus> {
        self.running.get(&store)?.node.status(region)
    }

    fn counters(&self, store: StoreId) -> Option<Counters> {
        Some(self.running.get(&store)?.node.counters().store)
    }

    fn log(&self, store: StoreId) -> Option<LogSight> {
        let running = self.running.get(&store)?;
        // What is read together was written together, if it is the same twice.
        let sizes = || running.node.metrics().log;
        let mut last = sizes();
        let settled = std::iter::repeat_with(|| std::mem::replace(&mut last, sizes()) == last);
        let _ = settled.take(1000).any(|same| same);
        Some(LogSight { reader: running.log.clone(), sizes: last })
    }

    fn disk(&self, store: StoreId) -> Result<Arc<dyn Disk>, String> {
        match self.is_running(store) {
            true => Err(format!("{store:?} runs")),
            false => self.directory(store),
        }
    }

    fn peek(&self, store: StoreId, cf: Cf, key: &[u8]) -> Option<Bytes> {
        let snapshot = self.running.get(&store)?.reader.snapshot();
        snapshot.get(cf, key).map(|value| Bytes::copy_from_slice(&value))
    }

    fn state_hash(&self, store: StoreId, region: RegionId) -> Option<u64> {
        let snapshot = self.running.get(&store)?.reader.snapshot();
        let region = snapshot.region(region)?.region;
        let mut hasher = DefaultHasher::new();
        for cf in Cf::ALL {
            snapshot.scan(cf, &region.start_key, &region.end_key, false, &mut |key, value| {
                (key, value).hash(&mut hasher);
                true
            });
        }
        Some(hasher.finish())
    }

    fn transfer(&mut self, region: RegionId, to: StoreId) {
        self.running.values().for_each(|running| running.node.transfer_leader(region, Some(to)));
    }

    fn add_filter(&mut self, filter: Arc<dyn Filter>) {
        self.filters.write().push(filter);
    }

    fn clear_filters(&mut self) {
        self.filters.write().clear();
    }

    fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    fn describe(&self) -> String {
        let statuses = self.running.values().filter_map(|r| r.node.status(RegionId::FIRST));
        let lines: Vec<String> = statuses.map(|status| format!("{status:?}")).collect();
        format!("{}\nreal threads, {} ms after the start", lines.join("\n"), self.now() / 1000)
    }
}

impl Drop for ThreadCluster {
    fn drop(&mut self) {
        for store in std::mem::take(&mut self.stores) {
            self.end(store);
        }
        self.network.clear_filters();
        if let Some(thread) = self.delivery.take() {
            // A panic there was reported by the panic hook.
            let _ = thread.join();
        }
    }
}
