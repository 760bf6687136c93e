//! A log in a test's hands: groups as a map of maps, and disks of every kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft::{Entries, Entry, HardState, Index, LogId, NodeId, Run, Term};

use crate::disk::sim::Crash;
use crate::disk::{ClusterId, DirDisk, Disk, Identity, Route, SimDisk};
use crate::region::{RegionId, StoreId};
use crate::wal::{GroupLog, GroupRecord, Recovered, Wal, WalError, WalOptions};

pub(super) const IDENTITY: Identity =
    Identity { store: StoreId(1), cluster: ClusterId(7), generation: 3 };

pub(super) fn small(segment_bytes: u64) -> WalOptions {
    WalOptions { segment_bytes }
}

/// A disk that can be closed and opened again.
pub(super) enum Place {
    Dir(tempfile::TempDir, Route),
    Sim(SimDisk),
}

impl Place {
    pub(super) fn dir(route: Route) -> Place {
        Place::Dir(tempfile::tempdir().expect("a temporary directory"), route)
    }

    pub(super) fn sim(seed: u64) -> Place {
        Place::Sim(SimDisk::new(seed))
    }

    /// One that takes several writes at a time.
    pub(super) fn direct_sim(seed: u64) -> Place {
        let disk = SimDisk::new(seed);
        disk.set_direct(true);
        Place::Sim(disk)
    }

    /// The disk after the last user's end; unsynced data is still in the cache.
    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        match self {
            Place::Dir(dir, route) => Arc::new(DirDisk::open(dir.path(), *route).expect("opens")),
            Place::Sim(disk) => {
                disk.crash(Crash::Process);
                disk.mount()
            }
        }
    }

    /// Small segments; larger where the header takes a block, or it would be a large part of them.
    pub(super) fn options(&self) -> WalOptions {
        let is_direct = match self {
            Place::Dir(_, route) => *route == Route::Direct,
            Place::Sim(disk) => disk.mount().block_bytes() > 1,
        };
        small(if is_direct { 32 << 10 } else { 16 << 10 })
    }

    pub(super) fn open(&self, options: WalOptions) -> (Wal, Recovered) {
        Wal::open(self.disk(), &IDENTITY, options).expect("opens")
    }
}

/// `payloads` as one run of entries from `first` on.
pub(super) fn run(term: Term, first: Index, payloads: &[&[u8]]) -> Entries {
    let entry = |data: &&[u8]| Entry::normal(Bytes::copy_from_slice(data));
    let entries: Vec<Entry> = payloads.iter().map(entry).collect();
    Run::new(term, first, entries).map(Entries::from).unwrap_or_default()
}

/// Entries of `count` times `bytes` bytes, each filled with the low byte of its index.
pub(super) fn filled(term: Term, first: Index, count: u64, bytes: usize) -> Entries {
    let data: Vec<Vec<u8>> = (first..first + count).map(|i| vec![i as u8; bytes]).collect();
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    run(term, first, &data)
}

pub(super) fn hard_state(term: Term, vote: u64, commit: Index) -> HardState {
    HardState { term, vote: NodeId::new(vote), commit }
}

/// A change of one group that owns its entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) region: u64,
    pub(super) hard_state: Option<HardState>,
    pub(super) entries: Entries,
    pub(super) reset: Option<LogId>,
    pub(super) compact: Option<LogId>,
    pub(super) remove: bool,
}

impl Step {
    pub(super) fn append(region: u64, entries: Entries) -> Step {
        Step { region, entries, ..Step::default() }
    }

    pub(super) fn record(&self) -> GroupRecord<'_> {
        GroupRecord {
            region: RegionId(self.region),
            hard_state: self.hard_state,
            entries: &self.entries,
            reset: self.reset,
            compact: self.compact,
            remove: self.remove,
        }
    }
}

pub(super) fn append(wal: &mut Wal, steps: &[Step]) -> Result<crate::wal::Lsn, WalError> {
    let groups: Vec<_> = steps.iter().map(Step::record).collect();
    wal.append(&groups)
}

pub(super) fn append_one(wal: &mut Wal, step: &Step) -> Result<crate::wal::Lsn, WalError> {
    wal.append(&[step.record()])
}

/// What a group should be, kept the slow way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModelGroup {
    pub(super) hard_state: HardState,
    pub(super) compacted: LogId,
    pub(super) entries: BTreeMap<Index, (Term, Bytes)>,
}

/// What a whole log should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) groups: BTreeMap<u64, ModelGroup>,
}

impl Model {
    pub(super) fn apply(&mut self, steps: &[Step]) {
        for step in steps {
            self.apply_one(step);
        }
    }

    fn apply_one(&mut self, step: &Step) {
        if step.remove {
            self.groups.remove(&step.region);
            return;
        }
        let group = self.groups.entry(step.region).or_default();
        group.hard_state = step.hard_state.unwrap_or(group.hard_state);
        if let Some(at) = step.reset {
            group.entries.clear();
            group.compacted = at;
        }
        if let Some(first) = step.entries.first() {
            group.entries.retain(|index, _| *index < first);
        }
        for entry in step.entries.iter().filter(|e| e.id.index > group.compacted.index) {
            group.entries.insert(entry.id.index, (entry.id.term, entry.entry.data.clone()));
        }
        if let Some(at) = step.compact.filter(|at| at.index > group.compacted.index) {
            group.entries.retain(|index, _| *index > at.index);
            group.compacted = at;
        }
    }

    pub(super) fn last(&self, region: u64) -> LogId {
        let Some(group) = self.groups.get(&region) else { return LogId::ZERO };
        let last = group.entries.last_key_value();
        last.map_or(group.compacted, |(index, (term, _))| LogId::new(*term, *index))
    }

    fn logs(&self) -> BTreeMap<RegionId, GroupLog> {
        let log = |group: &ModelGroup| {
            let mut terms: Vec<LogId> = Vec::new();
            for (index, (term, _)) in &group.entries {
                if terms.last().is_none_or(|last| last.term != *term) {
                    terms.push(LogId::new(*term, *index));
                }
            }
            let last = group.entries.last_key_value().map_or(group.compacted.index, |(i, _)| *i);
            GroupLog { hard_state: group.hard_state, compacted: group.compacted, terms, last }
        };
        self.groups.iter().map(|(region, group)| (RegionId(*region), log(group))).collect()
    }

    /// Whether the log has exactly this, every entry readable.
    pub(super) fn check(&self, wal: &Wal, recovered: &Recovered) {
        assert_eq!(recovered.groups, self.logs());
        self.check_entries(wal);
    }

    pub(super) fn check_entries(&self, wal: &Wal) {
        assert_eq!(Model::read(wal, &self.logs()), *self);
    }

    /// What the log says, read back entry by entry.
    pub(super) fn read(wal: &Wal, logs: &BTreeMap<RegionId, GroupLog>) -> Model {
        let mut model = Model::default();
        let reader = wal.reader();
        for (region, log) in logs {
            let range = log.compacted.index + 1..log.last + 1;
            let entries = reader.entries(*region, range, u64::MAX).expect("readable");
            let entries = entries.iter().map(|e| (e.id.index, (e.id.term, e.entry.data.clone())));
            let (hard_state, compacted) = (log.hard_state, log.compacted);
            let group = ModelGroup { hard_state, compacted, entries: entries.collect() };
            model.groups.insert(region.0, group);
        }
        model
    }
}
