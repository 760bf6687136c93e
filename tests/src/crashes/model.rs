//! What a log should hold, kept the slow way: a map of maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft::{Entries, Entry, HardState, Index, LogId, NodeId, Run, Term};
use raftstore::disk::{ClusterId, Disk, Identity};
use raftstore::wal::{GroupLog, GroupRecord, Recovered, Wal, WalError, WalOptions};
use raftstore::{RegionId, StoreId};

/// Whose log it is.
pub(super) const IDENTITY: Identity =
    Identity { store: StoreId(1), cluster: ClusterId(7), generation: 3 };

/// Small, so that a few batches fill several.
pub(super) const SEGMENT_BYTES: u64 = 16 << 10;

/// Opens the log with segments of [`SEGMENT_BYTES`].
pub(super) fn open(disk: Arc<dyn Disk>) -> Result<(Wal, Recovered), WalError> {
    Wal::open(disk, &IDENTITY, WalOptions { segment_bytes: SEGMENT_BYTES })
}

/// Entries of `count` times `bytes` bytes, each filled with the low byte of its index and term.
pub(super) fn filled(term: Term, first: Index, count: u64, bytes: usize) -> Entries {
    let fill = |index: Index| (index as u8) ^ (term as u8).rotate_left(4);
    let entry = |index| Entry::normal(Bytes::from(vec![fill(index); bytes]));
    let entries: Vec<Entry> = (first..first + count).map(entry).collect();
    Run::new(term, first, entries).map(Entries::from).unwrap_or_default()
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

/// Appends a batch.
pub(super) fn append(wal: &mut Wal, steps: &[Step]) -> Result<(), WalError> {
    let groups: Vec<_> = steps.iter().map(Step::record).collect();
    wal.append(&groups).map(drop)
}

/// What a group should be.
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
    /// Applies a batch.
    pub(super) fn apply(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.apply_one(step));
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

    /// The last entry of a group, or what precedes its log.
    pub(super) fn last(&self, region: u64) -> LogId {
        let Some(group) = self.groups.get(&region) else { return LogId::ZERO };
        let last = group.entries.last_key_value();
        last.map_or(group.compacted, |(index, (term, _))| LogId::new(*term, *index))
    }

    /// What an open log says, read back entry by entry.
    ///
    /// # Errors
    /// If something it claims to have cannot be read.
    pub(super) fn read(wal: &Wal, logs: &BTreeMap<RegionId, GroupLog>) -> Result<Model, String> {
        let mut model = Model::default();
        let reader = wal.reader();
        for (region, log) in logs {
            let range = log.compacted.index + 1..log.last + 1;
            let read = reader.entries(*region, range, u64::MAX);
            let read = read.map_err(|error| format!("recovered, but not readable: {error}"))?;
            let entries = read.iter().map(|e| (e.id.index, (e.id.term, e.entry.data.clone())));
            let (hard_state, compacted) = (log.hard_state, log.compacted);
            let group = ModelGroup { hard_state, compacted, entries: entries.collect() };
            model.groups.insert(region.0, group);
        }
        Ok(model)
    }

    /// In one line: what each group has.
    pub(super) fn line(&self) -> String {
        let group = |(region, group): (&u64, &ModelGroup)| {
            let last = self.last(*region);
            let HardState { term, commit, .. } = group.hard_state;
            format!("{region}: {}..{last} term {term} commit {commit}", group.compacted)
        };
        let groups: Vec<String> = self.groups.iter().map(group).collect();
        format!("[{}]", groups.join("; "))
    }
}
