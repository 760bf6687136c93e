//! One server of a script: the core, its storage, and the work its storage threads have to do.
//!
//! The core knows one style of storage, the asynchronous one. In *synchronous* mode everything a
//! `Ready` asks for is done at once, in the order in which a simple application would: store,
//! apply, send, report. In *asynchronous* mode a write and an apply become work for two threads,
//! and their reports come back as messages.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::progress::Window;
use raft::{
    Applied, Apply, Config, Entries, EntryKind, HardState, Index, InitialState, Inspect,
    MemStorage, Message, NodeId, RawNode, ReadMode, Ready, Report, Snapshot, SnapshotMeta, Storage,
    StorageError, Write,
};

use super::describe::{
    Kind, Note, Target, describe_entry, describe_hard_state, describe_snapshot, describe_soft_state,
};
use super::env::{Flight, Stop};
use super::output::Output;
use super::safety::{Observed, Safety, promised};
use super::suite::Fatal;

/// What the nodes of one `add-nodes` have in common.
#[derive(Clone)]
pub(super) struct Template {
    /// All but the id.
    pub(super) config: Config,
    /// What they start from; nothing, if it is the default.
    pub(super) snapshot: Snapshot,
    pub(super) is_async: bool,
}

/// Stands in for the id that each node gets.
const FIRST: NodeId = NodeId::new(1).expect("1 is not 0");

impl Default for Template {
    fn default() -> Template {
        let config = Config {
            election_ticks: 3,
            heartbeat_ticks: 1,
            append_bytes_max: u64::MAX,
            inflight_max: i32::MAX as usize,
            inflight_bytes_max: 0,
            apply_bytes_max: u64::MAX,
            uncommitted_bytes_max: u64::MAX,
            pre_vote: false,
            check_quorum: false,
            eager_appends: true,
            step_down_on_removal: false,
            read_mode: ReadMode::Safe,
            ..Config::new(FIRST)
        };
        Template { config, snapshot: Snapshot::default(), is_async: false }
    }
}

/// What a message in flight carries.
pub(super) enum Cargo {
    /// From one server to another.
    Message(Message),
    /// A part of the report of a write, from the append thread or to oneself.
    Report(Report),
    /// The report of an apply, from the apply thread.
    Applied(Applied),
}

/// A log in memory, and the snapshots of the state machine after each applied entry. The latest
/// of those is what the core gets when it asks for one.
#[derive(Clone)]
struct NodeStorage {
    log: MemStorage,
    history: Arc<Mutex<Vec<Snapshot>>>,
}

impl NodeStorage {
    fn latest(&self) -> Snapshot {
        self.history.lock().last().cloned().unwrap_or_default()
    }
}

impl Storage for NodeStorage {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.log.initial_state()
    }

    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError> {
        self.log.entries(range, bytes_max)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.latest())
    }
}

/// Work for a storage thread: the request as it is shown, and what it is about.
struct Work<T> {
    note: Note,
    item: T,
}

/// A server.
pub(super) struct Node {
    pub(super) raw: RawNode,
    pub(super) config: Config,
    storage: NodeStorage,
    is_async: bool,
    /// The hard state handed out last, for what a new one changes.
    handed: HardState,
    append_work: VecDeque<Work<Write>>,
    apply_work: VecDeque<Work<Apply>>,
}

impl Node {
    /// Starts a server.
    pub(super) fn new(config: Config, template: &Template) -> Result<Node, Stop> {
        let config = Config { apply_unpersisted: !template.is_async, ..config };
        if let Some(words) = refusal(&config) {
            return Err(Stop::Error(words.to_owned()));
        }
        let log = MemStorage::default();
        if template.snapshot != Snapshot::default() {
            log.apply_snapshot(template.snapshot.clone()).map_err(error)?;
        }
        let history = Arc::new(Mutex::new(vec![template.snapshot.clone()]));
        let storage = NodeStorage { log, history };
        let raw = RawNode::new(config.clone(), Box::new(storage.clone())).map_err(error)?;
        Ok(Node {
            handed: raw.hard_state(),
            raw,
            config,
            storage,
            is_async: template.is_async,
            append_work: VecDeque::new(),
            apply_work: VecDeque::new(),
        })
    }

    pub(super) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(super) fn has_ready(&self) -> bool {
        self.raw.has_ready()
    }

    /// How much work the append thread has.
    pub(super) fn append_work(&self) -> usize {
        self.append_work.len()
    }

    /// How much work the apply thread has.
    pub(super) fn apply_work(&self) -> usize {
        self.apply_work.len()
    }

    /// How much may be in flight to each follower.
    pub(super) fn window(&self) -> Window {
        let Config { inflight_max, inflight_bytes_max, .. } = self.config;
        Window { appends_max: inflight_max, bytes_max: inflight_bytes_max }
    }

    /// The last snapshot of the state machine.
    pub(super) fn latest_snapshot(&self) -> Snapshot {
        self.storage.latest()
    }

    // ---- The stored log ----

    /// Index of the first entry, whether or not it is there.
    pub(super) fn first(&self) -> Index {
        self.storage.log.compacted().index + 1
    }

    /// Index of the last entry.
    pub(super) fn last(&self) -> Index {
        self.storage.log.last().index
    }

    /// All entries.
    pub(super) fn log(&self) -> Result<Entries, Fatal> {
        let range = self.first()..self.last() + 1;
        if range.is_empty() {
            return Ok(Entries::new());
        }
        self.storage.log.entries(range, u64::MAX).map_err(|e| Fatal::new(e.to_string()))
    }

    /// Drops the entries up to `to`, in the storage and in the core.
    pub(super) fn compact(&mut self, to: Index) -> Result<(), Stop> {
        match self.storage.log.compact(to) {
            Ok(()) => {}
            Err(StorageError::Compacted) => return Err(error(StorageError::Compacted)),
            // Beyond the end of the log: no answer to that makes sense.
            Err(e) => return Err(Fatal::new(e.to_string()).into()),
        }
        self.raw.compact(to).map_err(|e| Fatal::new(e.to_string()))?;
        Ok(())
    }

    /// Checks the server against what was seen of all.
    pub(super) fn observe(&self, safety: &mut Safety) -> Result<(), Fatal> {
        let (term, commit) = (self.raw.term(), self.raw.commit());
        safety.observe(Observed { id: self.id(), role: self.raw.role(), term, commit })?;
        let log = self.log()?;
        safety.stored(Some(self.storage.log.compacted().term), &log)?;
        // Beyond what is stable, the storage may have what the core has replaced already.
        let settled = commit.min(self.raw.status().stable);
        safety.committed(self.id(), &log.slice(0..settled + 1))
    }

    // ---- Inputs ----

    /// Takes a message; an error is the line to print.
    pub(super) fn receive(&mut self, cargo: Cargo) -> Result<(), String> {
        match cargo {
            Cargo::Message(message) => self.raw.step(message).map_err(|e| e.to_string()),
            Cargo::Report(report) => {
                if let Inspect::Promise(_) = report.inspect()
                    && !self.raw.membership().contains(self.id())
                {
                    // Like any other answer of somebody who is not a member.
                    return Err(raft::StepError::PeerNotFound.to_string());
                }
                let message = self.raw.report(report);
                debug_assert!(message.is_none(), "what is for others was sent already");
                Ok(())
            }
            Cargo::Applied(applied) => self.applied(applied).map_err(|e| e.to_string()),
        }
    }

    // ---- A Ready ----

    /// Takes a `Ready`, prints it, and does what it asks for or leaves that to the threads.
    pub(super) fn process_ready(
        &mut self,
        out: &mut Output,
        flights: &mut Vec<Flight>,
        safety: &mut Safety,
    ) -> Result<(), Stop> {
        let ready = self.raw.ready();
        let append = ready.write.as_ref().map(|write| self.append_note(write));
        let apply = ready.apply.as_ref().map(|apply| self.apply_note(apply));
        out.push(&self.describe_ready(&ready, append.as_ref(), apply.as_ref()));
        if let Some(state) = ready.write.as_ref().and_then(Write::hard_state) {
            self.handed = state;
        }
        if let Some(apply) = &ready.apply {
            safety.committed(self.id(), apply.entries())?;
        }
        if !self.is_async {
            return self.finish(ready, flights);
        }
        flights.extend(ready.messages.into_iter().map(Flight::of));
        let append = append.zip(ready.write);
        self.append_work.extend(append.map(|(note, item)| Work { note, item }));
        let apply = apply.zip(ready.apply);
        self.apply_work.extend(apply.map(|(note, item)| Work { note, item }));
        Ok(())
    }

    /// Synchronous mode: all of it, now.
    fn finish(&mut self, ready: Ready, flights: &mut Vec<Flight>) -> Result<(), Stop> {
        if let Some(write) = &ready.write {
            self.store(write)?;
        }
        let applied = ready.apply.map(|apply| self.apply(apply));
        flights.extend(ready.messages.into_iter().map(Flight::of));
        let reports = ready.write.map_or(Vec::new(), |write| write.synced().reports());
        // Promises to others leave, then this server's own take effect, and then what is stable.
        let (others, own): (Vec<Report>, Vec<Report>) =
            reports.into_iter().partition(|report| self.is_for_others(report));
        for report in others {
            self.check_promise(&report)?;
            flights.extend(self.raw.report(report).map(Flight::of));
        }
        for report in own {
            self.check_promise(&report)?;
            let message = self.raw.report(report);
            debug_assert!(message.is_none(), "what is for others was sent already");
        }
        if let Some(applied) = applied {
            self.applied(applied)?;
        }
        Ok(())
    }

    /// Reports what was applied. Its membership changes are in force already.
    fn applied(&mut self, applied: Applied) -> Result<(), Fatal> {
        match self.raw.applied(applied) {
            Ok(None) => Ok(()),
            other => Err(Fatal::new(format!("a membership change was put off: {other:?}"))),
        }
    }

    fn is_for_others(&self, report: &Report) -> bool {
        matches!(report.inspect(), Inspect::Promise(message) if message.to != self.id())
    }

    /// Makes sure that the storage has what a promise rests on.
    fn check_promise(&self, report: &Report) -> Result<(), Fatal> {
        match report.inspect() {
            Inspect::Promise(message) => {
                promised(message, self.storage.log.hard_state(), self.last())
            }
            Inspect::Stable(_) => Ok(()),
        }
    }

    fn store(&self, write: &Write) -> Result<(), Stop> {
        if let Some(state) = write.hard_state().filter(|state| !state.is_empty()) {
            self.storage.log.set_hard_state(state);
        }
        match write.snapshot() {
            Some(_) if !write.entries().is_empty() => {
                Err(error("can't apply snapshot and entries at the same time"))
            }
            Some(snapshot) => self.storage.log.apply_snapshot(snapshot.clone()).map_err(error),
            None => {
                self.storage.log.append(write.entries());
                Ok(())
            }
        }
    }

    /// Applies entries: the state machine is the concatenation of what it was given, and has a
    /// snapshot of every state it was in.
    fn apply(&mut self, mut apply: Apply) -> Applied {
        let entries = apply.entries().clone();
        for seen in entries.iter() {
            let before = self.storage.latest();
            let (update, conf_state) = match seen.entry.kind {
                EntryKind::Normal => (seen.entry.data.clone(), None),
                EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                    // One that cannot be made has no effect.
                    (Bytes::new(), self.raw.apply_conf_change(&mut apply).ok().flatten())
                }
            };
            let conf_state = conf_state.unwrap_or(before.meta.conf_state);
            self.storage.history.lock().push(Snapshot {
                meta: SnapshotMeta { last: seen.id, conf_state },
                data: [before.data, update].concat().into(),
            });
        }
        apply.done()
    }

    // ---- Storage threads ----

    /// One piece of work of the append thread.
    pub(super) fn process_append(
        &mut self,
        out: &mut Output,
        flights: &mut Vec<Flight>,
    ) -> Result<(), Stop> {
        let Some(Work { mut note, item: write }) = self.append_work.pop_front() else {
            out.push("no append work to perform");
            return Ok(());
        };
        let responses = std::mem::take(&mut note.responses);
        print_request(out, &note);
        self.store(&write)?;
        print_responses(out, &responses);
        for (note, report) in responses.into_iter().zip(write.synced().reports()) {
            self.check_promise(&report)?;
            if self.is_for_others(&report) {
                flights.extend(self.raw.report(report).map(Flight::of));
            } else {
                flights.push(Flight { note, cargo: Cargo::Report(report) });
            }
        }
        Ok(())
    }

    /// One piece of work of the apply thread.
    pub(super) fn process_apply(
        &mut self,
        out: &mut Output,
        flights: &mut Vec<Flight>,
    ) -> Result<(), Stop> {
        let Some(Work { mut note, item: apply }) = self.apply_work.pop_front() else {
            out.push("no apply work to perform");
            return Ok(());
        };
        let responses = std::mem::take(&mut note.responses);
        print_request(out, &note);
        let applied = self.apply(apply);
        print_responses(out, &responses);
        let response = responses.into_iter().next().map(|note| (note, Cargo::Applied(applied)));
        flights.extend(response.map(|(note, cargo)| Flight { note, cargo }));
        Ok(())
    }

    // ---- Notation ----

    /// The write as the request that etcd sends to its append thread.
    fn append_note(&self, write: &Write) -> Note {
        let id = Target::Node(self.id());
        let mut note = Note::new(id, Target::AppendThread, Kind::STORAGE_APPEND, 0);
        if let Some(state) = write.hard_state() {
            (note.term, note.vote, note.commit) = (state.term, state.vote, state.commit);
        }
        note.entries = write.entries().iter().map(describe_entry).collect();
        note.snapshot = write.snapshot().map(|snapshot| snapshot.meta.clone());
        write.inspect(|report| {
            note.responses.push(match report {
                Inspect::Promise(message) => Note::of(message),
                Inspect::Stable(stable) => {
                    let kind = Kind::STORAGE_APPEND_RESP;
                    let mut response = Note::new(Target::AppendThread, id, kind, stable.term);
                    response.log = stable.last.unwrap_or_default();
                    response.snapshot = stable.snapshot.clone();
                    response
                }
            });
        });
        note
    }

    /// The apply as the request that etcd sends to its apply thread.
    fn apply_note(&self, apply: &Apply) -> Note {
        let id = Target::Node(self.id());
        let mut note = Note::new(id, Target::ApplyThread, Kind::STORAGE_APPLY, 0);
        note.entries = apply.entries().iter().map(describe_entry).collect();
        let mut response = Note::new(Target::ApplyThread, id, Kind::STORAGE_APPLY_RESP, 0);
        response.entries.clone_from(&note.entries);
        note.responses.push(response);
        note
    }

    /// What there is to do. Promises to others are shown among the messages in synchronous mode,
    /// and inside the request to the append thread in asynchronous mode.
    fn describe_ready(&self, ready: &Ready, append: Option<&Note>, apply: Option<&Note>) -> String {
        let mut text = Lines::default();
        if let Some(state) = &ready.soft_state {
            text.line(&describe_soft_state(state));
        }
        let state = ready.write.as_ref().and_then(Write::hard_state);
        if let Some(state) = state.filter(|state| !state.is_empty()) {
            text.line(&format!("HardState {}", describe_hard_state(&state)));
        }
        if !ready.reads.is_empty() {
            let reads: Vec<String> = ready.reads.iter().map(describe_read).collect();
            text.line(&format!("ReadStates [{}]", reads.join(" ")));
        }
        text.section("Entries:", append.map_or(&[][..], |note| &note.entries));
        if let Some(meta) = append.and_then(|note| note.snapshot.as_ref()) {
            text.line(&format!("Snapshot {}", describe_snapshot(meta)));
        }
        text.section("CommittedEntries:", apply.map_or(&[][..], |note| &note.entries));

        let mut messages: Vec<String> =
            ready.messages.iter().map(|message| Note::of(message).describe("")).collect();
        let describe = |note: &Note| note.describe("");
        if self.is_async {
            messages.extend(append.map(describe));
            messages.extend(apply.map(describe));
        } else if let Some(append) = append {
            let own = Target::Node(self.id());
            messages.extend(append.responses.iter().filter(|n| n.to != own).map(describe));
        }
        text.section("Messages:", &messages);

        if text.0.is_empty() {
            return "<empty Ready>".to_owned();
        }
        let has_entries = append.is_some_and(|note| !note.entries.is_empty());
        let is_new =
            |state: HardState| (state.term, state.vote) != (self.handed.term, self.handed.vote);
        let must_sync = has_entries || state.is_some_and(is_new);
        format!("Ready MustSync={must_sync}:\n{}", text.0)
    }
}

/// The words in which etcd refuses a configuration.
fn refusal(config: &Config) -> Option<&'static str> {
    if config.inflight_max == 0 {
        return Some("max inflight messages must be greater than 0");
    }
    if config.read_mode == ReadMode::Lease && !config.check_quorum {
        return Some("CheckQuorum must be enabled when ReadOnlyOption is ReadOnlyLeaseBased");
    }
    None
}

fn error(error: impl ToString) -> Stop {
    Stop::Error(error.to_string())
}

fn describe_read(read: &raft::ReadState) -> String {
    let context: Vec<String> = read.context.iter().map(ToString::to_string).collect();
    format!("{{{} [{}]}}", read.index, context.join(" "))
}

fn print_request(out: &mut Output, note: &Note) {
    out.line("Processing:");
    out.line(&note.describe(""));
}

fn print_responses(out: &mut Output, responses: &[Note]) {
    out.line("Responses:");
    for response in responses {
        out.line(&response.describe(""));
    }
}

/// Text that grows by lines.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// A title and what belongs under it; nothing if that is nothing.
    fn section(&mut self, title: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.line(title);
            lines.iter().for_each(|line| self.line(line));
        }
    }
}
