//! The contract with the application, as types (T§10.2).
//!
//! ```text
//!  ready() ─► Ready ┬ messages ───────────────► send, now
//!                   ├ write: Write ─ store ─► synced() ─► Written ─► persisted() ─► send these
//!                   ├ apply: Apply ─ apply ─► done() ──► Applied ─► applied()
//!                   └ reads, soft_state
//! ```
//!
//! Votes and acknowledgements promise that something is on disk, so they are sealed in the
//! [`Write`] they rest on and come out of [`RawNode::persisted`](crate::RawNode::persisted), which
//! takes a [`Written`], which only [`Write::synced`] makes. A `Write` cannot be reported twice, nor
//! an `Apply`: both are consumed.
//!
//! A promise cannot be sent early:
//! ```compile_fail
//! fn send_early(write: raft::Write) -> Vec<raft::Message> { write.promises }
//! ```
//! What was not synced cannot be reported:
//! ```compile_fail
//! fn report(node: &mut raft::RawNode, write: raft::Write) { node.persisted(write); }
//! ```
//! Nor can a report be made up:
//! ```compile_fail
//! fn forge() -> raft::Written { raft::Written { number: 1 } }
//! ```
//! Or be made twice:
//! ```compile_fail
//! fn twice(node: &mut raft::RawNode, write: raft::Write) {
//!     node.persisted(write.synced());
//!     node.persisted(write.synced());
//! }
//! ```
//! The same for entries that were handed out to be applied:
//! ```compile_fail
//! fn twice(node: &mut raft::RawNode, apply: raft::Apply) {
//!     let done = apply.done();
//!     let _ = (node.applied(done), node.applied(done));
//! }
//! ```
//! And a report must not be dropped on the floor:
//! ```compile_fail
//! #![deny(unused_must_use)]
//! fn forget(write: raft::Write) { write.synced(); }
//! ```

use bytes::Bytes;

use crate::entry::{Entries, EntryRef};
use crate::message::Message;
use crate::types::{HardState, Index, LogId, Snapshot, SnapshotMeta, SoftState, Term};

/// All there is to do, at one moment. Every part is handed out once.
#[must_use = "what a Ready holds is handed out only once"]
#[derive(Debug, Default)]
pub struct Ready {
    /// Messages that may leave at once, beside the write (T§10.2.1).
    pub messages: Vec<Message>,
    /// What has to be made durable.
    pub write: Option<Write>,
    /// Committed entries for the state machine.
    pub apply: Option<Apply>,
    /// Reads that may run as soon as their index is applied.
    pub reads: Vec<ReadState>,
    /// The role and the leader, if they changed.
    pub soft_state: Option<SoftState>,
}

/// A read whose index is known (T§6.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// The read is linearizable once this is applied.
    pub index: Index,
    /// The mark it was asked with.
    pub context: Bytes,
}

/// What has to be made durable, all of it or nothing of it, in the order in which writes were
/// handed out. Several may be under way; they are reported in that order, too.
///
/// A write may be empty but for its promises: they rest on writes before it, and it needs no sync
/// of its own.
#[must_use = "a server whose writes are not reported stands still"]
#[derive(Debug)]
pub struct Write {
    pub(crate) number: u64,
    pub(crate) entries: Entries,
    /// As of this write, and what of it is news.
    pub(crate) hard_state: HardState,
    pub(crate) news: News,
    pub(crate) must_sync: bool,
    /// The last entry, if any was not known to be stable.
    pub(crate) last: Option<LogId>,
    /// Boxed, as in [`Stable`]: snapshots are rare, and every write is moved around.
    pub(crate) snapshot: Option<Box<Snapshot>>,
    pub(crate) promises: Vec<Message>,
}

/// What is new in a hard state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Nothing,
    /// Only the commit index, which need not survive a crash.
    Commit,
    TermOrVote,
}

impl News {
    /// What is new in `now`.
    pub(crate) fn of(before: &HardState, now: &HardState) -> News {
        if (before.term, before.vote) != (now.term, now.vote) {
            News::TermOrVote
        } else if before.commit != now.commit {
            News::Commit
        } else {
            News::Nothing
        }
    }
}

/// That everything up to some position is on disk, as of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stable {
    /// The server's term when the write was handed out. In another term the log may have been
    /// replaced since, and the report says nothing about entries.
    pub term: Term,
    /// The last entry, if any was not known to be stable.
    pub last: Option<LogId>,
    /// The snapshot, if one was written.
    pub snapshot: Option<Box<SnapshotMeta>>,
}

impl Write {
    /// Counts the writes of this server since it started, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Entries to append. Whatever the log has from their first index on is replaced by them.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Moves the entries out, for a storage that keeps them as they are.
    pub(crate) fn take_entries(&mut self) -> Entries {
        std::mem::take(&mut self.entries)
    }

    /// The hard state, if it changed.
    #[must_use]
    pub fn hard_state(&self) -> Option<HardState> {
        (self.news != News::Nothing).then_some(self.hard_state)
    }

    /// A snapshot that replaces the whole log and the state machine; entries follow it.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
    }

    /// Whether there is anything a crash must not lose: entries, a snapshot, a new term or vote. A
    /// new commit index alone is none.
    #[must_use]
    pub fn must_sync(&self) -> bool {
        self.must_sync
    }

    /// How many votes and acknowledgements rest on this write.
    #[must_use]
    pub fn promise_count(&self) -> usize {
        self.promises.len()
    }

    /// Shows what will be reported once this is on disk, in order: for traces and scripts.
    pub fn inspect(&self, mut show: impl FnMut(Inspect<'_>)) {
        self.promises.iter().for_each(|message| show(Inspect::Promise(message)));
        if let Some(stable) = Stable::of(self.hard_state.term, self.last, self.covered()) {
            show(Inspect::Stable(&stable));
        }
    }

    /// What the snapshot stands for, if there is one.
    #[inline]
    fn covered(&self) -> Option<Box<SnapshotMeta>> {
        self.snapshot.as_ref().map(|snapshot| Box::new(snapshot.meta.clone()))
    }

    /// "This survives power loss." Said when the data, and everything handed out before it, has
    /// been synced to stable storage, and not earlier.
    #[inline]
    pub fn synced(self) -> Written {
        Written {
            number: self.number,
            term: self.hard_state.term,
            last: self.last,
            snapshot: self.covered(),
            promises: self.promises,
        }
    }
}

impl Stable {
    /// `None` if neither an entry nor a snapshot becomes stable.
    fn of(term: Term, last: Option<LogId>, snapshot: Option<Box<SnapshotMeta>>) -> Option<Stable> {
        (last.is_some() || snapshot.is_some()).then_some(Stable { term, last, snapshot })
    }
}

/// A part of a report, to look at.
#[derive(Clone, Copy, Debug)]
pub enum Inspect<'a> {
    /// A vote or an acknowledgement.
    Promise(&'a Message),
    /// How far the log is on disk.
    Stable(&'a Stable),
}

/// The proof that a [`Write`] is on disk.
#[must_use = "promises leave only when the write is reported"]
#[derive(Debug)]
pub struct Written {
    pub(crate) number: u64,
    term: Term,
    last: Option<LogId>,
    snapshot: Option<Box<SnapshotMeta>>,
    pub(crate) promises: Vec<Message>,
}

impl Written {
    /// The report in parts, for storages that are themselves message queues: the promises in order,
    /// then how far the log is on disk. Each goes to [`RawNode::report`](crate::RawNode::report).
    #[must_use]
    pub fn reports(self) -> Vec<Report> {
        let (promises, stable) = self.into_parts();
        let promises = promises.into_iter().map(|m| Report(Part::Promise(m)));
        promises.chain(stable.map(|stable| Report(Part::Stable(stable)))).collect()
    }

    #[inline]
    pub(crate) fn into_parts(self) -> (Vec<Message>, Option<Stable>) {
        (self.promises, Stable::of(self.term, self.last, self.snapshot))
    }
}

/// A part of a [`Written`].
#[must_use = "promises leave only when they are reported"]
#[derive(Debug)]
pub struct Report(pub(crate) Part);

#[derive(Debug)]
pub(crate) enum Part {
    Promise(Message),
    Stable(Stable),
}

impl Report {
    /// To look at.
    #[must_use]
    pub fn inspect(&self) -> Inspect<'_> {
        match &self.0 {
            Part::Promise(message) => Inspect::Promise(message),
            Part::Stable(stable) => Inspect::Stable(stable),
        }
    }
}

/// Committed entries for the state machine, which follow directly on those handed out before.
#[must_use = "a server is never told again what to apply"]
#[derive(Debug)]
pub struct Apply {
    pub(crate) entries: Entries,
    /// Their size, as it counts towards what may be outstanding.
    pub(crate) bytes: u64,
    /// Membership changes up to here have taken effect already.
    pub(crate) switched: Index,
    pub(crate) refused: Vec<Index>,
}

impl Apply {
    /// The entries, at least one. Membership changes among them take effect when this is reported
    /// applied.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The application does not want the membership change at `index`: it will have no effect.
    /// Every server must decide alike.
    pub fn refuse(&mut self, index: Index) {
        self.refused.push(index);
    }

    /// The next membership change that has not taken effect.
    pub(crate) fn next_conf_change(&self) -> Option<EntryRef<'_>> {
        let is_due = |change: &EntryRef<'_>| {
            change.id.index > self.switched && !self.refused.contains(&change.id.index)
        };
        self.entries.runs().iter().find_map(|run| run.conf_changes().find(is_due))
    }

    /// "The state machine has done all of it."
    pub fn done(self) -> Applied {
        Applied(self)
    }
}

/// The proof that an [`Apply`] is done.
#[must_use = "membership changes and further entries wait for this report"]
#[derive(Debug)]
pub struct Applied(pub(crate) Apply);

impl Applied {
    /// The last entry that was applied.
    #[must_use]
    pub fn last(&self) -> Option<LogId> {
        self.0.entries.last()
    }
}
