//! Entries, and the runs they move in.
//!
//! A leader's log grows by *runs*: consecutive entries of one term in one shared allocation. The
//! term is stored once, indexes are implied by position, and a run is passed by reference to the
//! tail, to every follower's message, to the write and to apply. Cloning or slicing one costs a
//! reference count; no entry is ever copied.
//!
//! ```text
//! Run { first: 7 } ──► Arc { term: 3, [ Entry, Entry, Entry, Entry ] }
//!     └ a slice of it: the same Arc, narrower bounds
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{Index, LogId, Term};

/// What an entry is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A command for the state machine; empty for the no-op a new leader appends (§8).
    #[default]
    Normal,
    /// One membership change, applied alone (T§4.1).
    ConfChange,
    /// Any membership change, through a joint configuration where it takes one (§6).
    ConfChangeV2,
}

/// One command, without its position: that is implied by the [`Run`] it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What `data` means.
    pub kind: EntryKind,
    /// The payload; opaque unless `kind` is a configuration change.
    pub data: Bytes,
}

impl Entry {
    /// A command for the state machine.
    #[must_use]
    pub fn normal(data: Bytes) -> Entry {
        Entry { kind: EntryKind::Normal, data }
    }

    /// What the entry counts towards limits on messages and on outstanding applies: its payload
    /// and a constant that stands for its position and kind on the wire.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.data.len() as u64 + Entry::OVERHEAD_BYTES
    }

    /// The constant part of [`Entry::size`], in bytes.
    pub const OVERHEAD_BYTES: u64 = 12;
}

/// An entry with its position, as seen when iterating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Where it is.
    pub id: LogId,
    /// What it is.
    pub entry: &'a Entry,
}

/// Consecutive entries of one term, shared by reference. Never empty.
#[derive(Clone)]
pub struct Run {
    shared: Arc<Shared>,
    first: Index,
    /// Which of the shared entries are in it.
    start: u32,
    len: u32,
    /// Whether those are all.
    is_whole: bool,
    /// Whether a membership change is among the shared entries: nearly never, and then nobody has
    /// to look at each of them to know.
    has_changes: bool,
}

/// What a run and its slices refer to.
struct Shared {
    term: Term,
    payload_bytes: u64,
    entries: Held,
}

/// One entry is held without a buffer: a leader that is given one at a time makes one allocation
/// for each.
enum Held {
    One(Entry),
    Many(Vec<Entry>),
}

impl Held {
    fn as_slice(&self) -> &[Entry] {
        match self {
            Held::One(one) => std::slice::from_ref(one),
            Held::Many(many) => many,
        }
    }
}

impl Run {
    /// The run of `entries` that starts at `first`; `None` if there are none, or if there is no
    /// index for the last.
    ///
    /// The entries are moved, not copied, and the buffer they came in is kept, but for that of a
    /// single one.
    #[must_use]
    pub fn new(term: Term, first: Index, entries: impl Into<Vec<Entry>>) -> Option<Run> {
        let mut entries: Vec<Entry> = entries.into();
        match entries.pop() {
            Some(one) if entries.is_empty() => Run::of_one(term, first, one),
            Some(last) => {
                entries.push(last);
                Run::of(term, first, Held::Many(entries))
            }
            None => None,
        }
    }

    /// The run of one entry.
    pub(crate) fn of_one(term: Term, first: Index, entry: Entry) -> Option<Run> {
        Run::of(term, first, Held::One(entry))
    }

    /// The run of at least one entry.
    fn of(term: Term, first: Index, held: Held) -> Option<Run> {
        let entries = held.as_slice();
        let len = u32::try_from(entries.len()).expect("a run has fewer than 2^32 entries");
        first.checked_add(u64::from(len))?;
        let (mut payload_bytes, mut has_changes) = (0, false);
        for entry in entries {
            payload_bytes += entry.data.len() as u64;
            has_changes |= entry.kind != EntryKind::Normal;
        }
        let shared = Arc::new(Shared { term, payload_bytes, entries: held });
        Some(Run { shared, first, start: 0, len, is_whole: true, has_changes })
    }

    /// The term of every entry in the run.
    #[must_use]
    pub fn term(&self) -> Term {
        self.shared.term
    }

    /// Index of the first entry.
    #[must_use]
    pub fn first(&self) -> Index {
        self.first
    }

    /// Position of the last entry.
    #[must_use]
    pub fn last(&self) -> LogId {
        LogId::new(self.term(), self.end() - 1)
    }

    /// The index after the last entry.
    pub(crate) fn end(&self) -> Index {
        self.first + u64::from(self.len)
    }

    /// How many entries, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Sum of the payload lengths; known without looking unless the run is a part of another.
    #[must_use]
    #[inline]
    pub fn payload_bytes(&self) -> u64 {
        if self.is_whole {
            return self.shared.payload_bytes;
        }
        self.count_payload_bytes()
    }

    fn count_payload_bytes(&self) -> u64 {
        self.entries().iter().map(|e| e.data.len() as u64).sum()
    }

    /// Sum of [`Entry::size`].
    #[must_use]
    #[inline]
    pub fn size(&self) -> u64 {
        self.payload_bytes() + u64::from(self.len) * Entry::OVERHEAD_BYTES
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.shared.entries.as_slice()[self.start as usize..][..self.len as usize]
    }

    /// The entry at `index`, if the run has it.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<&Entry> {
        self.entries().get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The part of the run within `range`; `None` if nothing is.
    #[must_use]
    pub fn slice(&self, range: Range<Index>) -> Option<Run> {
        let end = self.end();
        if range.start <= self.first && end <= range.end {
            return Some(self.clone());
        }
        let (from, to) = (range.start.max(self.first), range.end.min(end));
        if from >= to {
            return None;
        }
        let mut part = self.clone();
        part.first = from;
        part.start += (from - self.first) as u32;
        part.len = (to - from) as u32;
        part.is_whole = false;
        Some(part)
    }

    /// Whether there may be a membership change in it.
    pub(crate) fn has_changes(&self) -> bool {
        self.has_changes
    }

    /// The membership changes in it; nearly always none, which is known without looking.
    pub(crate) fn conf_changes(&self) -> impl Iterator<Item = EntryRef<'_>> {
        let looked_at = if self.has_changes { self.len() } else { 0 };
        self.iter().take(looked_at).filter(|e| e.entry.kind != EntryKind::Normal)
    }

    /// The entries with their positions.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        let (term, first) = (self.term(), self.first);
        self.entries()
            .iter()
            .zip(first..)
            .map(move |(entry, index)| EntryRef { id: LogId::new(term, index), entry })
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}..={:?}]", self.first, self.last())
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Run) -> bool {
        self.term() == other.term()
            && self.first == other.first
            && self.entries() == other.entries()
    }
}

impl Eq for Run {}

/// Why a run could not be added to [`Entries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotConsecutive;

impl fmt::Display for NotConsecutive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entries are not consecutive, or their terms fall")
    }
}

impl std::error::Error for NotConsecutive {}

/// Consecutive entries of any terms: runs that follow each other, terms never falling.
///
/// Nearly always one run, which is kept without an allocation.
#[derive(Clone, Default)]
pub struct Entries(Runs);

#[derive(Clone, Default)]
enum Runs {
    #[default]
    None,
    One(Run),
    Many(Vec<Run>),
}

impl Entries {
    /// No entries.
    #[must_use]
    pub const fn new() -> Entries {
        Entries(Runs::None)
    }

    /// Adds a run at the end.
    ///
    /// # Errors
    /// If it does not start right after the last entry, or its term is lower than the last one's.
    pub fn push(&mut self, run: Run) -> Result<(), NotConsecutive> {
        if let Some(last) = self.last()
            && (run.first != last.index + 1 || run.term() < last.term)
        {
            return Err(NotConsecutive);
        }
        match &mut self.0 {
            Runs::None => self.0 = Runs::One(run),
            Runs::One(one) => self.0 = Runs::Many(vec![one.clone(), run]),
            Runs::Many(many) => many.push(run),
        }
        Ok(())
    }

    /// The runs, in order.
    #[must_use]
    #[inline]
    pub fn runs(&self) -> &[Run] {
        match &self.0 {
            Runs::None => &[],
            Runs::One(run) => std::slice::from_ref(run),
            Runs::Many(runs) => runs,
        }
    }

    /// Gives the runs, in order, to `take`.
    #[inline]
    pub(crate) fn for_each_run(self, mut take: impl FnMut(Run)) {
        match self.0 {
            Runs::None => {}
            Runs::One(run) => take(run),
            Runs::Many(runs) => runs.into_iter().for_each(take),
        }
    }

    /// Whether there is no entry.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.runs().is_empty()
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sum(Run::len)
    }

    /// Index of the first entry.
    #[must_use]
    #[inline]
    pub fn first(&self) -> Option<Index> {
        self.runs().first().map(Run::first)
    }

    /// Position of the last entry.
    #[must_use]
    #[inline]
    pub fn last(&self) -> Option<LogId> {
        self.runs().last().map(Run::last)
    }

    /// Sum of the payload lengths.
    #[must_use]
    #[inline]
    pub fn payload_bytes(&self) -> u64 {
        self.sum(Run::payload_bytes)
    }

    /// Sum of [`Entry::size`].
    #[must_use]
    #[inline]
    pub fn size(&self) -> u64 {
        self.sum(Run::size)
    }

    /// Whether there may be a membership change among them.
    #[inline]
    pub(crate) fn has_changes(&self) -> bool {
        self.runs().iter().any(Run::has_changes)
    }

    /// Sum of the payload lengths of entries of that term.
    pub(crate) fn payload_bytes_of(&self, term: Term) -> u64 {
        let of_term = self.runs().iter().filter(|run| run.term() == term);
        of_term.map(Run::payload_bytes).sum()
    }

    /// The sum over all runs.
    #[inline]
    fn sum<T: std::iter::Sum>(&self, of: fn(&Run) -> T) -> T {
        match &self.0 {
            Runs::One(run) => of(run),
            _ => sum_of_many(self.runs(), of),
        }
    }

    /// The entry at `index`.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<EntryRef<'_>> {
        let run = self.runs().iter().find(|r| r.last().index >= index)?;
        let entry = run.get(index)?;
        Some(EntryRef { id: LogId::new(run.term(), index), entry })
    }

    /// The entries within `range`, by reference.
    #[must_use]
    pub fn slice(&self, range: Range<Index>) -> Entries {
        if let Runs::One(run) = &self.0 {
            return run.slice(range).map_or(Entries::new(), Entries::from);
        }
        let mut part = Entries::new();
        for run in self.runs().iter().filter_map(|r| r.slice(range.clone())) {
            part.push(run).expect("a part of consecutive runs is consecutive");
        }
        part
    }

    /// The longest beginning within `bytes_max`, as [`Entry::size`] counts, but at least one entry.
    #[must_use]
    pub fn limit(self, bytes_max: u64) -> Entries {
        let Some(first) = self.first() else { return self };
        if let Runs::One(run) = &self.0
            && run.size() <= bytes_max
        {
            return self;
        }
        let mut bytes = 0;
        for run in self.runs() {
            if bytes + run.size() <= bytes_max {
                bytes += run.size();
                continue;
            }
            let fits = run.entries().iter().take_while(|entry| {
                bytes += entry.size();
                bytes <= bytes_max
            });
            let end = run.first() + fits.count() as u64;
            return self.slice(first..end.max(first + 1));
        }
        self
    }

    /// The entries with their positions.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.runs().iter().flat_map(Run::iter)
    }
}

/// Apart from [`Entries::sum`], which is nearly always of one run.
fn sum_of_many<T: std::iter::Sum>(runs: &[Run], of: fn(&Run) -> T) -> T {
    runs.iter().map(of).sum()
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        self.runs() == other.runs()
    }
}

impl Eq for Entries {}

impl From<Run> for Entries {
    fn from(run: Run) -> Entries {
        Entries(Runs::One(run))
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.runs()).finish()
    }
}

#[cfg(test)]
mod tests;
