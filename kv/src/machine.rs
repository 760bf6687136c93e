//! The state machine: what a committed entry does, and who is told.
//!
//! ```text
//! entry ─► envelope ─► epoch and keys still right? ─► operations, atomically with the applied index
//!                              │ no                          │
//!                              ▼                             ▼
//!                          not applied                    response ─► whoever proposed (index, term)
//! ```
//!
//! **Checked again.** Epoch and key range were checked when the command was proposed, but the region
//! may have changed since (K9): what counts is the region as it is when the entry is applied, which is
//! the same on every replica. A command whose time has passed changes nothing but the applied index.
//!
//! **Together.** Each entry's changes and its position are one batch of the engine. Whatever a
//! reader sees, a checkpoint writes, or a restart finds has all of the entries up to its applied
//! position and none of those after (P8, P9, K10).
//!
//! **A snapshot** of a region replaces all that is here of it, pairs, description and position, as one
//! batch does; commands that were proposed here for positions up to its end may be part of it or not,
//! which nobody can tell: their clients are told that they were overtaken (K2).
//!
//! **An entry that cannot be read** is damage in this store's memory or log, or was written by a newer
//! version. Skipping it would let this replica differ from the others for ever, so the machine halts:
//! it applies nothing more, refuses reads, and says so in [`Effects::halt`].

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::{Entries, EntryKind, EntryRef, Index, LogId, SnapshotMeta};
use raftstore::command::{Command, CommandKind};
use raftstore::disk::Disk;
use raftstore::machine::Halt;
use raftstore::snapshot::SnapshotSource;
use raftstore::{Effects, Machine, RecoveredRegion, Refusal, Region, RegionId, Unknown};

use crate::answer::{Answer, Error};
use crate::callback::{Ask, Callback, Query};
use crate::checkpoint::Keeper;
pub use crate::checkpoint::{Background, CheckpointOptions, OpenError};
use crate::command::encoding::Ops;
use crate::command::{Op, Response};
use crate::engine::{Engine, MemEngine, MemReader, Read, RegionState, Write};
use crate::execute::{self, Reads};
use crate::hash;
use crate::proposals::{Fate, Proposals};
pub use crate::region_snapshot::RegionSnapshot;
use crate::sessions;
use crate::snapshot_file;

/// The replicated state machine of one store.
///
/// A store drives it; by hand it goes like this:
///
/// ```
/// use kv::{Callback, KvMachine, Op, OpResult, Request};
/// use raft::{Entries, Entry, LogId, Run};
/// use raftstore::command::{CommandKind, encode};
/// use raftstore::{Machine, Region, StoreId};
///
/// let region = Region::first(&[StoreId(1)]);
/// let mut machine = KvMachine::in_memory();
/// machine.create(region.clone());
///
/// let body = Request::from(Op::add("visits", 1)).encode()?;
/// let entry = Entry::normal(encode(region.id, region.epoch, CommandKind::Application, &body));
/// let (callback, answer) = Callback::pair();
/// machine.proposed(region.id, LogId::new(1, 1), callback);
/// let committed = Run::new(1, 1, vec![entry]).map(Entries::from).unwrap_or_default();
/// machine.apply(region.id, &committed);
///
/// let response = answer.recv()??;
/// assert_eq!(response.results, [OpResult::Integer(1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct KvMachine {
    engine: MemEngine,
    groups: BTreeMap<RegionId, Group>,
    /// None if the state is not to survive.
    keeper: Option<Keeper>,
    /// Why nothing can be made durable any more: the next entry halts the machine.
    broken: Option<String>,
    halted: Option<Halt>,
    stopped: bool,
}

/// A region and who waits for its entries.
#[derive(Debug)]
struct Group {
    region: Arc<Region>,
    proposals: Proposals<Callback>,
}

/// What an entry asks for, once it has been judged.
enum Todo<'a> {
    /// The entry of a new leader, or one that is not for the state machine.
    Nothing,
    Run(Ops<'a>),
    Refuse(Error),
}

impl KvMachine {
    /// A machine without any region that keeps everything in memory only: after a restart the whole
    /// log is applied again.
    #[must_use]
    pub fn in_memory() -> KvMachine {
        KvMachine::default()
    }

    /// A machine that keeps its state on `disk`: it begins with the newest checkpoint there.
    ///
    /// `log` names, for each region that the log has, the last entry that it no longer has: the
    /// checkpoint must reach at least as far.
    ///
    /// # Errors
    /// If a checkpoint is damaged and the log does not have all entries after an older one, or the
    /// disk refuses. Nothing but unfinished files has been removed.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: CheckpointOptions,
        log: impl IntoIterator<Item = (RegionId, Index)>,
    ) -> Result<KvMachine, OpenError> {
        let (keeper, engine) = Keeper::open(disk, options, log.into_iter().collect())?;
        let mut machine = KvMachine { keeper: Some(keeper), ..KvMachine::default() };
        for RegionState { region, .. } in engine.read(|state| state.regions()) {
            let group = Group { proposals: Proposals::default(), region };
            machine.groups.insert(group.region.id, group);
        }
        machine.engine = engine;
        Ok(machine)
    }

    /// Has a checkpoint begun at the next chance, however little there is to write.
    pub fn request_checkpoint(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.request();
        }
    }

    /// Takes snapshots of the state on any thread.
    #[must_use]
    pub fn reader(&self) -> MemReader {
        self.engine.reader()
    }

    /// A hash of everything the region holds, its range and its epoch; equal on every replica that
    /// has applied the same entries. `None` if the region is not here. Walks over all of it.
    #[must_use]
    pub fn state_hash(&self, region: RegionId) -> Option<u64> {
        let group = self.groups.get(&region)?;
        Some(self.engine.read(|state| hash::of_region(&group.region, state)))
    }

    /// The last entry applied to the region.
    #[must_use]
    pub fn applied(&self, region: RegionId) -> Option<LogId> {
        self.engine.read(|state| state.region(region)).map(|state| state.applied)
    }

    /// How many commands wait for their entry, over all regions.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.groups.values().map(|group| group.proposals.len()).sum()
    }

    /// Nothing is applied or read any more.
    fn halt(&mut self, halt: Halt) -> Effects {
        let halt = self.halted.get_or_insert(halt).clone();
        Effects { halt: Some(halt), ..Effects::default() }
    }

    /// Starts with a region, or replaces it.
    fn add(&mut self, state: RegionState) {
        let group = Group { region: Arc::clone(&state.region), proposals: Proposals::default() };
        self.groups.insert(state.region.id, group);
        self.engine.set_region(state);
    }

    /// Carries out one query.
    fn query(&self, group: &Group, query: Query) {
        let region = &group.region;
        if query.epoch.version != region.epoch.version {
            let (asked, current) = (query.epoch, Box::new(Region::clone(region)));
            return raftstore::Callback::refuse(query, Refusal::EpochNotMatch { asked, current });
        }
        match query.ask {
            Ask::Snapshot(callback) => {
                let state = self.engine.snapshot();
                let applied = state.region(region.id).map_or(LogId::ZERO, |state| state.applied);
                callback.answer(Ok(RegionSnapshot::new(state, Arc::clone(region), applied)));
            }
            Ask::Request(request, callback) if request.is_read_only() => {
                let mut ops = request.ops.iter().map(Op::borrowed);
                callback.answer(match ops.find_map(|op| execute::first_outside(&op, region)) {
                    Some(key) => Err(key_not_in_region(key, region)),
                    None => Ok(self.engine.read(|s| execute::read_all(&request.ops, region, s))),
                });
            }
            Ask::Request(_, callback) => callback.answer(Err(Error::NotReadOnly)),
        }
    }
}

impl Group {
    /// What the command asks for, under the region as it is now.
    ///
    /// # Errors
    /// If it cannot be read to its end.
    fn judge<'a>(&self, command: &Command<'a>, effects: &mut Effects) -> Result<Todo<'a>, String> {
        let region = &self.region;
        if command.region != region.id {
            return Ok(Todo::Refuse(Refusal::RegionNotFound(command.region).into()));
        }
        if command.kind == CommandKind::CompactLog {
            let index = command.compact_index().map_err(|error| error.to_string())?;
            effects.compact = effects.compact.max(Some(index));
            return Ok(Todo::Nothing);
        }
        let ops = Ops::read(command.body).map_err(|error| error.to_string())?;
        let mut outside = None;
        for op in ops.clone() {
            let op = op.map_err(|error| error.to_string())?;
            outside = outside.or_else(|| execute::first_outside(&op, region));
        }
        // The range alone decides what a command may touch, so a change of members leaves it valid.
        if command.epoch.version != region.epoch.version {
            let (asked, current) = (command.epoch, Box::new(Region::clone(region)));
            return Ok(Todo::Refuse(Refusal::EpochNotMatch { asked, current }.into()));
        }
        Ok(match outside {
            Some(key) => Todo::Refuse(key_not_in_region(key, region)),
            None => Todo::Run(ops),
        })
    }

    /// Applies one entry and answers whoever waits for it.
    ///
    /// # Errors
    /// If it cannot be read. Nothing has changed then, and nobody was told a result.
    fn apply(
        &mut self,
        engine: &mut MemEngine,
        entry: EntryRef<'_>,
        effects: &mut Effects,
    ) -> Result<(), Halt> {
        let halt = |why: String| Halt { region: self.region.id, at: entry.id, why };
        let command = match entry.entry.kind {
            EntryKind::Normal if !entry.entry.data.is_empty() => {
                Some(Command::decode(&entry.entry.data).map_err(|error| halt(error.to_string()))?)
            }
            // Members are not part of the state yet; the Raft core switches configurations itself.
            EntryKind::Normal | EntryKind::ConfChange | EntryKind::ConfChangeV2 => None,
        };
        let todo = match &command {
            None => Todo::Nothing,
            Some(command) => self.judge(command, effects).map_err(halt)?,
        };
        let callback = self.proposals.applied(entry.id, decided);
        let (region, wanted) = (&self.region, callback.is_some());
        let at = entry.id;
        let answer = engine.write(region.id, at, |batch| todo.run(region, at, batch, wanted));
        if let Some(callback) = callback {
            callback.answer(answer);
        }
        Ok(())
    }
}

impl Todo<'_> {
    /// Makes the changes. The response is left empty if nobody `wants` it, now or at a retry.
    fn run(self, region: &Region, at: LogId, batch: &mut dyn Write, wanted: bool) -> Answer {
        match self {
            Todo::Nothing => Ok(Response::default()),
            Todo::Refuse(error) => Err(error),
            Todo::Run(ops) => match ops.session {
                None => Ok(carry_out(ops, region, batch, wanted)),
                Some(session) => sessions::run(session, at.index, region, batch, |batch| {
                    carry_out(ops, region, batch, true)
                }),
            },
        }
    }
}

/// Carries out operations, all of which could be read when the command was judged.
fn carry_out(ops: Ops<'_>, region: &Region, batch: &mut dyn Write, wanted: bool) -> Response {
    let mut response = Response::default();
    let mut reads = Reads::new(region);
    if wanted {
        response.results.reserve_exact(ops.len());
    }
    for op in ops.flatten() {
        let result = execute::run(&op, batch, &mut reads, wanted);
        if wanted {
            response.results.push(result);
        }
    }
    response
}

/// Answers a proposal whose own entry will not be shown to this store.
fn decided(fate: Fate, callback: Callback) {
    callback.answer(Err(match fate {
        Fate::Stale => Error::StaleCommand,
        Fate::Overtaken => Unknown::Overtaken.into(),
    }));
}

impl Machine for KvMachine {
    type Callback = Callback;
    type Query = Query;

    fn recovered(&self) -> Vec<RecoveredRegion> {
        let regions = self.engine.read(|state| state.regions());
        let recovered = |RegionState { region, applied }| RecoveredRegion {
            region: Arc::unwrap_or_clone(region),
            applied,
        };
        regions.into_iter().map(recovered).collect()
    }

    fn create(&mut self, region: Region) {
        self.add(RegionState { region: Arc::new(region), applied: LogId::ZERO });
    }

    fn proposed(&mut self, region: RegionId, at: LogId, callback: Callback) {
        match self.groups.get_mut(&region) {
            Some(group) if !self.stopped => group.proposals.push(at, callback),
            // It is in the log, and nobody here will see what becomes of it.
            Some(_) => callback.answer(Err(Unknown::ShuttingDown.into())),
            None => callback.answer(Err(Unknown::LeaderLost.into())),
        }
    }

    fn apply(&mut self, region: RegionId, entries: &Entries) -> Effects {
        if let (Some(why), Some(at)) = (&self.broken, entries.iter().next()) {
            let why = why.clone();
            return self.halt(Halt { region, at: at.id, why });
        }
        let mut effects = Effects { halt: self.halted.clone(), ..Effects::default() };
        if effects.halt.is_some() {
            return effects;
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.grew(entries.size());
        }
        for entry in entries.iter() {
            let applied = match self.groups.get_mut(&region) {
                Some(group) => group.apply(&mut self.engine, entry, &mut effects),
                None => Err(Halt { region, at: entry.id, why: "no such region".to_owned() }),
            };
            if let Err(halt) = applied {
                self.halted = Some(halt);
                effects.halt = self.halted.clone();
                break;
            }
        }
        effects
    }

    fn snapshot(&mut self, region: RegionId) -> Option<Arc<dyn SnapshotSource>> {
        if self.stopped || self.halted.is_some() {
            return None;
        }
        let state = self.engine.snapshot();
        let RegionState { region, applied } = state.region(region)?;
        Some(Arc::new(RegionSnapshot::new(state, region, applied)))
    }

    fn verify(
        disk: &dyn Disk,
        file: &str,
        region: RegionId,
        meta: &SnapshotMeta,
    ) -> Result<(), String> {
        snapshot_file::verify(disk, file, region, meta)
    }

    fn install(&mut self, region: RegionId, last: LogId, file: &str) -> Effects {
        let installed = match (&mut self.keeper, &self.broken) {
            (Some(keeper), None) => keeper.install(&mut self.engine, region, last, file),
            (_, why) => {
                let what = "nothing can be made durable here";
                let why = why.clone().unwrap_or_else(|| what.to_owned());
                return self.halt(Halt { region, at: last, why });
            }
        };
        let state = match installed {
            Ok(state) => state,
            Err(error) => return self.halt(Halt { region, at: last, why: error.to_string() }),
        };
        let changed = Region::clone(&state.region);
        let group = self.groups.entry(region).or_insert_with(|| Group {
            region: Arc::clone(&state.region),
            proposals: Proposals::default(),
        });
        group.region = state.region;
        group.proposals.overtaken(last, decided);
        Effects { region: Some(changed), ..Effects::default() }
    }

    fn is_light(query: &Query) -> bool {
        query.is_light()
    }

    fn read(&mut self, region: RegionId, queries: Vec<Query>) {
        for query in queries {
            match self.groups.get(&region) {
                // A halted state lacks what the log has: to read it would be to read the past.
                _ if self.stopped || self.halted.is_some() => {
                    raftstore::Callback::refuse(query, Refusal::ShuttingDown);
                }
                Some(group) => self.query(group, query),
                None => raftstore::Callback::refuse(query, Refusal::RegionNotFound(region)),
            }
        }
    }

    fn maintain(&mut self, log_bytes: u64) {
        if self.stopped || self.broken.is_some() {
            return;
        }
        if let Some(keeper) = &mut self.keeper
            && let Err(error) = keeper.maintain(log_bytes, &self.engine)
        {
            log::error!("{error}");
            self.broken = Some(error.to_string());
        }
    }

    fn durable(&self, region: RegionId) -> Index {
        self.keeper.as_ref().map_or(0, |keeper| keeper.durable(region))
    }

    fn shut_down(&mut self) {
        self.stopped = true;
        if let Some(keeper) = &mut self.keeper {
            keeper.stop();
        }
        for callback in self.groups.values_mut().flat_map(|group| group.proposals.drain()) {
            callback.answer(Err(Unknown::ShuttingDown.into()));
        }
    }
}

#[cfg(test)]
mod tests;

fn key_not_in_region(key: &[u8], region: &Region) -> Error {
    Error::KeyNotInRegion { key: key.to_vec(), region: Box::new(region.clone()) }
}
