//! One server of a script: the core, its storage, and the work its storage threads have to do.
//!
//! The core knows one style of storage, the asynchronous one. In *synchronous* mode everything a
//! `Ready` asks for is done at once, in the order in which a simple application would: store,
//! apply, send, report. In *asynchronous* mode a write and an apply become work for two threads,
//! and their reports come back as messages.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::progress::Window;
use raft::{
    Applied, Apply, Config, Entries, EntryKind, HardState, Index, Inspect, Message, NodeId,
    RawNode, ReadMode, Ready, Report, Snapshot, Storage, StorageError, Write, Written,
};

use super::describe::Note;
use super::disk::Disk;
use super::env::{Flight, Stop};
use super::output::Output;
use super::ready::{Shown, append_note, apply_note};
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
            skip_commit_broadcast: false,
            disable_conf_change_validation: false,
            step_down_on_removal: false,
            disable_proposal_forwarding: false,
            write_ticks_max: 0,
            applied: 0,
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

/// Work for a storage thread: the request as it is shown, and what it is about.
struct Work<T> {
    note: Note,
    item: T,
}

/// A server.
pub(super) struct Node {
    pub(super) raw: RawNode,
    pub(super) config: Config,
    disk: Disk,
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
        let disk = Disk::new(&template.snapshot).map_err(error)?;
        let raw = RawNode::new(config.clone(), Box::new(disk.clone())).map_err(error)?;
        Ok(Node {
            handed: raw.hard_state(),
            raw,
            config,
            disk,
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
        self.disk.latest()
    }

    /// Starts over from what is stored and applied.
    pub(super) fn restart(&mut self) -> Result<(), Stop> {
        self.config.applied = self.disk.last_applied().last.index;
        self.raw = RawNode::new(self.config.clone(), Box::new(self.disk.clone())).map_err(error)?;
        self.handed = self.raw.hard_state();
        self.append_work.clear();
        self.apply_work.clear();
        Ok(())
    }

    // ---- The stored log ----

    /// Index of the first entry, whether or not it is there.
    pub(super) fn first(&self) -> Index {
        self.disk.log.compacted().index + 1
    }

    /// Index of the last entry.
    pub(super) fn last(&self) -> Index {
        self.disk.log.last().index
    }

    /// All entries.
    pub(super) fn log(&self) -> Result<Entries, Fatal> {
        let range = self.first()..self.last() + 1;
        if range.is_empty() {
            return Ok(Entries::new());
        }
        self.disk.log.entries(range, u64::MAX).map_err(|e| Fatal::new(e.to_string()))
    }

    /// From now on stored entries have to be read first.
    pub(super) fn delay_entries(&self) {
        self.disk.set_slow(true);
    }

    /// They are read.
    pub(super) fn entries_fetched(&mut self) {
        self.disk.set_slow(false);
        self.raw.entries_fetched();
    }

    /// Drops the entries up to `to`, in the storage and in the core.
    pub(super) fn compact(&mut self, to: Index) -> Result<(), Stop> {
        let stable = self.raw.status().stable;
        if to > stable {
            let reason = format!("{to} is not in the stored log, whose last index is {stable}");
            return Err(Fatal::new(reason).into());
        }
        match self.disk.log.compact(to) {
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
        safety.stored(Some(self.disk.log.compacted().term), &log)?;
        // Beyond what is applied, the storage may still have what the core has replaced already, by
        // other entries or by a snapshot.
        safety.committed(self.id(), &log.slice(0..self.raw.applied_index() + 1))
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
        let append = ready.write.as_ref().map(|write| append_note(self.id(), write));
        let apply = ready.apply.as_ref().map(|apply| apply_note(self.id(), apply));
        let shown = Shown {
            id: self.id(),
            is_async: self.is_async,
            before: self.handed,
            append: append.as_ref(),
            apply: apply.as_ref(),
        };
        out.push(&shown.describe(&ready));
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
        let written = ready.write.map(|write| self.disk.store(write)).transpose();
        let written = written.map_err(error)?;
        let applied = ready.apply.map(|apply| self.apply(apply));
        flights.extend(ready.messages.into_iter().map(Flight::of));
        let reports = written.map_or(Vec::new(), Written::reports);
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
            Inspect::Promise(message) => promised(message, self.disk.log.hard_state(), self.last()),
            Inspect::Stable(_) => Ok(()),
        }
    }

    /// Applies entries: the state machine is the concatenation of what it was given, and has a
    /// snapshot of every state it was in.
    fn apply(&mut self, mut apply: Apply) -> Applied {
        let entries = apply.entries().clone();
        for seen in entries.iter() {
            let (update, conf_state) = match seen.entry.kind {
                EntryKind::Normal => (seen.entry.data.clone(), None),
                EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                    // One that cannot be made has no effect.
                    (Bytes::new(), self.raw.apply_conf_change(&mut apply).ok().flatten())
                }
            };
            self.disk.applied(seen.id, &update, conf_state);
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
        let written = self.disk.store(write).map_err(error)?;
        print_responses(out, &responses);
        for (note, report) in responses.into_iter().zip(written.reports()) {
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
