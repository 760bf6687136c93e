//! A `Ready` in etcd's notation.
//!
//! etcd has two styles of storage. In the asynchronous one a write and an apply are requests to
//! two threads, whose responses hold what may be said once they are done: the same that our
//! [`Write`] seals. In the synchronous one they are parts of the `Ready`, and what its promises
//! say to others is shown among its messages.

use raft::{Apply, HardState, Inspect, NodeId, ReadState, Ready, Write};

use super::describe::{
    Kind, Note, Target, describe_entry, describe_hard_state, describe_snapshot, describe_soft_state,
};

/// The write as the request that etcd sends to its append thread.
pub(super) fn append_note(id: NodeId, write: &Write) -> Note {
    let id = Target::Node(id);
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
                response.snapshot = stable.snapshot.as_deref().cloned();
                response
            }
        });
    });
    note
}

/// The apply as the request that etcd sends to its apply thread.
pub(super) fn apply_note(id: NodeId, apply: &Apply) -> Note {
    let id = Target::Node(id);
    let mut note = Note::new(id, Target::ApplyThread, Kind::STORAGE_APPLY, 0);
    note.entries = apply.entries().iter().map(describe_entry).collect();
    let mut response = Note::new(Target::ApplyThread, id, Kind::STORAGE_APPLY_RESP, 0);
    response.entries.clone_from(&note.entries);
    note.responses.push(response);
    note
}

/// A `Ready` about to be shown, with what it is shown by.
pub(super) struct Shown<'a> {
    /// Whose it is.
    pub(super) id: NodeId,
    pub(super) is_async: bool,
    /// The hard state handed out before.
    pub(super) before: HardState,
    /// What [`append_note`] makes of its write.
    pub(super) append: Option<&'a Note>,
    /// What [`apply_note`] makes of its apply.
    pub(super) apply: Option<&'a Note>,
}

impl Shown<'_> {
    /// All that there is to do.
    pub(super) fn describe(&self, ready: &Ready) -> String {
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
        text.section("Entries:", self.append.map_or(&[], |note| &note.entries));
        if let Some(meta) = self.append.and_then(|note| note.snapshot.as_ref()) {
            text.line(&format!("Snapshot {}", describe_snapshot(meta)));
        }
        text.section("CommittedEntries:", self.apply.map_or(&[], |note| &note.entries));
        text.section("Messages:", &self.messages(ready));
        if text.0.is_empty() {
            return "<empty Ready>".to_owned();
        }
        format!("Ready MustSync={}:\n{}", self.must_sync(state), text.0)
    }

    fn messages(&self, ready: &Ready) -> Vec<String> {
        let describe = |note: &Note| note.describe("");
        let mut messages: Vec<String> =
            ready.messages.iter().map(|message| describe(&Note::of(message))).collect();
        if self.is_async {
            messages.extend(self.append.map(describe));
            messages.extend(self.apply.map(describe));
        } else if let Some(append) = self.append {
            let own = Target::Node(self.id);
            messages.extend(append.responses.iter().filter(|note| note.to != own).map(describe));
        }
        messages
    }

    /// etcd's notion of what must be synced: entries, term and vote, but no snapshot, which ours
    /// counts, too.
    fn must_sync(&self, state: Option<HardState>) -> bool {
        let has_entries = self.append.is_some_and(|note| !note.entries.is_empty());
        let before = (self.before.term, self.before.vote);
        has_entries || state.is_some_and(|state| (state.term, state.vote) != before)
    }
}

fn describe_read(read: &ReadState) -> String {
    let context: Vec<String> = read.context.iter().map(ToString::to_string).collect();
    format!("{{{} [{}]}}", read.index, context.join(" "))
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
