//! One simulated store: a disk that outlives it, and the process that runs on it for a while.
//!
//! The process is what the threads of a node are, as steps: a loop that handles what came in since
//! its last round, a log writer that appends all batches that queued while it synced and then
//! syncs once, an applier that takes one task after the other. It decides nothing about time: the
//! world says when a round, a sync or a task is over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use raft::Index;
use raftstore::applier::{AppliedReport, Applier, Task};
use raftstore::batch::Batch;
use raftstore::disk::sim::{Crash, Fate};
use raftstore::disk::{Claim, ClusterId, Disk, IdentityError, SimDisk};
use raftstore::machine::{Callback, Machine, Refusal, Unknown};
use raftstore::snapshot::{Incoming, incoming};
use raftstore::start::{start, storage_of};
use raftstore::store::{Ready, Store, StoreConfig};
use raftstore::wal::{Lsn, Recovered, Wal, WalError, WalOptions, WalStats};
use raftstore::{Region, RegionId, StoreId};

use crate::regions::create_missing;
use crate::sim::shadow::Shadow;
use crate::sim::streams::Sending;
use crate::sim::{Options, StartFailure, Subject, Time};

/// The cluster that all simulated stores belong to.
const CLUSTER: ClusterId = ClusterId(1);

/// A store, running or not.
pub struct Host<M: Machine> {
    /// Who it is.
    pub id: StoreId,
    /// Its disk.
    pub disk: SimDisk,
    /// Whether the disk was ever told to fail.
    pub(super) may_fail: bool,
    /// Something on the disk is not what was written, and nobody has noticed or mended it yet.
    pub(super) rotten: Option<Rotten>,
    /// What the disk must still have after a crash.
    pub(super) shadow: Shadow,
    /// Counts its lives.
    pub(super) incarnation: u64,
    /// Between two ticks of its clock.
    pub(super) tick: Time,
    /// When its clock ticks next.
    pub(super) next_tick: Time,
    /// Nothing happens on it before: its machine stands still.
    pub(super) paused_until: Time,
    /// Its process, if it runs.
    pub process: Option<Process<M>>,
}

/// What is known of a disk with damage at rest.
pub(super) struct Rotten {
    /// The disk as it was before, while no process has written to it since.
    pub(super) before: Option<SimDisk>,
    /// Whether the store has refused to start.
    pub(super) refused: bool,
}

/// A running store.
pub struct Process<M: Machine> {
    /// All its groups.
    pub store: Store<M>,
    /// Their names.
    pub(super) regions: Vec<RegionId>,
    /// Its state machine.
    pub applier: Applier<M>,
    /// Its log.
    pub wal: Wal,
    _claim: Claim,
    /// Buffers for rounds.
    pub(super) ready: Ready<M>,
    /// Batches that wait for the log writer.
    queued: Vec<Batch>,
    /// Batches that are appended and not yet reported.
    writing: Vec<Batch>,
    /// Tasks that wait for the applier.
    pub(super) tasks: VecDeque<Task<M>>,
    /// A round is scheduled.
    pub(super) round_is_due: bool,
    /// The end of a write is scheduled.
    pub(super) is_writing: bool,
    /// The end of a task is scheduled.
    pub(super) is_applying: bool,
    /// Where received snapshots go.
    pub(super) snapshots: Arc<dyn Disk>,
    /// Snapshots that are being sent, by the numbers of their streams.
    pub(super) sending: BTreeMap<u64, Sending>,
    /// Snapshots that are being received.
    pub(super) receiving: BTreeMap<u64, Incoming>,
    /// Its log when it was last cleaned up.
    pub(crate) collected: WalStats,
}

/// What the log writer began to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    /// Batches.
    pub(super) batches: usize,
    /// Whether anything was appended.
    pub(super) appended: bool,
    /// Whether it has to be synced before the batches are reported.
    pub(super) must_sync: bool,
}

impl<M: Machine> Host<M> {
    /// A store with an empty disk that was never started.
    #[must_use]
    pub(super) fn new(id: StoreId, tick: Time, disk_seed: u64) -> Host<M> {
        Host {
            id,
            disk: SimDisk::new(disk_seed),
            may_fail: false,
            rotten: None,
            shadow: Shadow::default(),
            incarnation: 0,
            tick,
            next_tick: 0,
            paused_until: 0,
            process: None,
        }
    }

    /// Starts the process on what the disk has.
    ///
    /// # Errors
    /// [`StartFailure::Violated`] if the disk has lost or invented something, or the store refuses
    /// to start from what a crash may leave; [`StartFailure::Disk`] if the disk failed.
    pub(super) fn start<S: Subject<Machine = M>>(
        &mut self,
        options: &Options,
        subject: &mut S,
    ) -> Result<Recovered, StartFailure> {
        self.incarnation += 1;
        let disk = self.disk.mount();
        let claim = Claim::new(disk.as_ref(), self.id, CLUSTER).map_err(|why| match why {
            IdentityError::Io { .. } => StartFailure::Disk(why.to_string()),
            IdentityError::Damaged { .. } => StartFailure::Damaged(why.to_string()),
            other => StartFailure::violated(other),
        })?;
        let wal_options = WalOptions { segment_bytes: options.segment_bytes };
        let opened = Wal::open(Arc::clone(&disk), claim.identity(), wal_options);
        let (wal, recovered) = opened.map_err(StartFailure::of_log)?;
        self.shadow.check(&recovered.groups).map_err(StartFailure::Violated)?;
        self.shadow.recovered(&recovered.groups);
        let cleaned = incoming::remove_unfinished(&*disk);
        cleaned.map_err(|why| StartFailure::Disk(why.to_string()))?;
        let mut machine = subject.open(self.id, Arc::clone(&disk), &recovered.groups)?;
        let storage = storage_of(wal.reader());
        let stores: Vec<StoreId> = (1..=options.stores).map(StoreId).collect();
        create_missing(&mut machine, &stores, options.regions);
        let config = self.config(options);
        let started = start(config, machine, Region::first(&stores), &recovered.groups, storage);
        let (store, applier) = started.map_err(StartFailure::violated)?;
        let regions = store.statuses().map(|status| status.region.id).collect();
        self.process = Some(Process {
            store,
            regions,
            applier,
            wal,
            _claim: claim,
            ready: Ready::default(),
            queued: Vec::new(),
            writing: Vec::new(),
            tasks: VecDeque::new(),
            round_is_due: false,
            is_writing: false,
            is_applying: false,
            snapshots: disk,
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            collected: WalStats::default(),
        });
        Ok(recovered)
    }

    fn config(&self, options: &Options) -> StoreConfig {
        StoreConfig {
            incarnation: self.incarnation,
            election_ticks: options.election_ticks,
            heartbeat_ticks: options.heartbeat_ticks,
            read_mode: options.read_mode,
            append_bytes_max: options.append_bytes_max,
            inflight_max: options.inflight_max,
            compact_entries: options.compact_entries,
            log_gc_count_limit: options.log_gc_count_limit,
            log_gc_bytes_limit: options.log_gc_bytes_limit,
            seed: options.seed.rotate_left(17) ^ self.id.0,
            ..StoreConfig::new(self.id)
        }
    }

    /// Ends the process as `how` says. Whoever waits for it is told what is certain, or that
    /// nobody knows.
    pub(super) fn crash(&mut self, how: Crash) {
        // First the disk, so that the end of the process cannot change it.
        self.disk.crash(how);
        if let Some(process) = self.process.take() {
            process.end();
        }
    }

    /// What a power failure at this moment would leave of the log, opened and compared with what
    /// must be left.
    ///
    /// # Errors
    /// If it is something else.
    pub(super) fn check_image(&self, options: &Options) -> Result<(), String> {
        let image = self.disk.fork();
        image.heal();
        image.set_capacity(None);
        image.lose_power(&mut |_| Fate::Lost);
        let disk = image.mount();
        let claim = Claim::new(disk.as_ref(), self.id, CLUSTER).map_err(|e| e.to_string())?;
        let wal_options = WalOptions { segment_bytes: options.segment_bytes };
        let (_, recovered) =
            Wal::open(disk, claim.identity(), wal_options).map_err(|e| e.to_string())?;
        self.shadow.check(&recovered.groups)
    }

    /// The writer takes all batches that wait and appends them, unless it is at work already.
    ///
    /// # Errors
    /// If the log fails; the store must stop.
    pub(super) fn begin_write(&mut self) -> Result<Option<Begun>, WalError> {
        let Some(process) = &mut self.process else { return Ok(None) };
        if process.is_writing || process.queued.is_empty() {
            return Ok(None);
        }
        process.writing.append(&mut process.queued);
        let mut begun = Begun { batches: process.writing.len(), appended: false, must_sync: false };
        for batch in &process.writing {
            begun.must_sync |= batch.must_sync();
            if batch.has_record() {
                let records = batch.records();
                let appended = process.wal.append(&records);
                // Of a record whose writing failed there may be all.
                let lsn = *appended.as_ref().unwrap_or(&Lsn(u64::MAX));
                self.shadow.appended(lsn, &records);
                appended?;
                begun.appended = true;
            }
        }
        // Going on in a new segment syncs the one before.
        self.shadow.durable(process.wal.durable());
        process.is_writing = true;
        Ok(Some(begun))
    }

    /// The writer is done: what it appended is synced if it has to be, and the batches are
    /// reported. Returns how many they were, and the log if it was synced and cleaned up.
    ///
    /// # Errors
    /// If the log fails; the store must stop.
    pub(super) fn end_write(&mut self) -> Result<(usize, Option<WalStats>), WalError> {
        let Some(process) = &mut self.process else { return Ok((0, None)) };
        process.is_writing = false;
        let mut collected = None;
        if process.writing.iter().any(Batch::must_sync) {
            process.wal.sync()?;
            while process.wal.collect()? {}
            self.shadow.durable(process.wal.durable());
            collected = Some(process.wal.stats());
        }
        let count = process.writing.len();
        for batch in process.writing.drain(..) {
            process.store.persisted(batch.synced());
        }
        Ok((count, collected))
    }
}

impl<M: Machine> Process<M> {
    /// Queues a batch for the writer.
    pub(super) fn queue(&mut self, batch: Batch) {
        self.queued.push(batch);
    }

    /// Carries out the applier's next task and reports what it did.
    pub(super) fn run_task(&mut self, reports: &mut Vec<AppliedReport>) {
        self.is_applying = false;
        if let Some(task) = self.tasks.pop_front() {
            self.applier.run(task, reports);
        }
    }

    /// The last index the state machine has of a region.
    #[must_use]
    pub fn applied(&self, region: RegionId) -> Index {
        self.applier.applied(region).unwrap_or(0)
    }

    /// How many snapshots it is sending.
    #[must_use]
    pub fn sending(&self) -> usize {
        self.sending.len()
    }

    /// How many snapshots it is receiving.
    #[must_use]
    pub fn receiving(&self) -> usize {
        self.receiving.len()
    }

    /// Whether nothing is queued anywhere in it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queued.is_empty()
            && self.writing.is_empty()
            && self.tasks.is_empty()
            && !self.store.has_ready()
    }

    fn end(mut self) {
        self.store.shut_down();
        for task in self.tasks.drain(..) {
            match task {
                Task::Proposed { callbacks, .. } => {
                    callbacks.into_iter().for_each(|c| c.unknown(Unknown::LeaderLost));
                }
                Task::Read { queries, .. } => {
                    queries.into_iter().for_each(|q| q.refuse(Refusal::ShuttingDown));
                }
                Task::Apply { .. } | Task::Snapshot { .. } | Task::Install { .. } => {}
            }
        }
        self.applier.shut_down();
    }
}

impl StartFailure {
    fn violated(why: impl std::fmt::Display) -> StartFailure {
        StartFailure::Violated(format!("the store does not start: {why}"))
    }

    fn of_log(why: WalError) -> StartFailure {
        match why {
            WalError::Io { .. } | WalError::Full { .. } => StartFailure::Disk(why.to_string()),
            WalError::Corrupt { .. } | WalError::Version { .. } => {
                StartFailure::Damaged(why.to_string())
            }
            _ => StartFailure::violated(why),
        }
    }
}
