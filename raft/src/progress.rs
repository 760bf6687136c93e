//! What a leader knows of one follower, and how fast it may send (§5.3, T§10.2.1).
//!
//! ```text
//!            ack                    next entry compacted
//!   Probe ─────────► Replicate        any ─────────► Snapshot
//!     ▲  rejection,      │                              │ reported, or acknowledged
//!     └── unreachable ◄──┘            Probe ◄───────────┘
//! ```
//!
//! *Probe*: where the logs agree is not known; one append with entries at a time, the next after an
//! answer or a heartbeat's answer. *Replicate*: appends flow, `next` runs ahead of `match`, up to a
//! window. *Snapshot*: nothing is sent until the snapshot has arrived or failed. A follower that
//! asks for a snapshot is *Requested*, from wherever it was, until one is sent.
//!
//! Invariant: `matched < next`, and entries up to `matched` are on the follower's disk.

use std::collections::VecDeque;

use crate::types::{Index, NodeId};

/// The appends on their way to a follower: each one's last index and payload bytes.
///
/// Grows as it is used, and is nothing but a pointer while nothing is on its way; the limits are
/// the leader's.
#[derive(Clone, Debug, Default)]
pub struct Inflights(Option<Box<Sent>>);

#[derive(Clone, Debug, Default)]
struct Sent {
    appends: VecDeque<(Index, u64)>,
    bytes: u64,
}

/// How much may be on its way to one follower.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Appends, at least 1.
    pub appends_max: usize,
    /// Payload bytes; 0 for no limit.
    pub bytes_max: u64,
}

impl Inflights {
    /// Notes an append whose last entry is `last`, with that many payload bytes.
    ///
    /// # Panics
    /// If the window is full: the leader checks before it sends.
    pub fn add(&mut self, window: Window, last: Index, bytes: u64) {
        assert!(!self.is_full(window), "nothing is sent into a full window");
        let sent = self.0.get_or_insert_default();
        sent.appends.push_back((last, bytes));
        sent.bytes += bytes;
    }

    /// Forgets the appends up to `index`, which have been acknowledged.
    pub fn free_to(&mut self, index: Index) {
        let Some(sent) = &mut self.0 else { return };
        while let Some((_, bytes)) = sent.appends.pop_front_if(|(last, _)| *last <= index) {
            sent.bytes -= bytes;
        }
    }

    /// Frees the buffer if it is empty.
    fn cool(&mut self) {
        self.0.take_if(|sent| sent.appends.is_empty());
    }

    /// Whether nothing more may be sent. The byte limit may be overrun by one append.
    #[must_use]
    pub fn is_full(&self, window: Window) -> bool {
        self.count() >= window.appends_max
            || (window.bytes_max != 0 && self.bytes() >= window.bytes_max)
    }

    /// How many appends are on their way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |sent| sent.appends.len())
    }

    /// How many payload bytes are on their way.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |sent| sent.bytes)
    }
}

/// How a follower is being brought up to date.
#[derive(Clone, Debug)]
pub enum Flow {
    /// Finding out where the logs agree.
    Probe {
        /// An append with entries is out; wait for news.
        paused: bool,
    },
    /// Streaming.
    Replicate {
        /// What is on its way.
        inflights: Inflights,
        /// The window is full; wait for an ack, or send one empty append per heartbeat's answer.
        paused: bool,
    },
    /// It asked for a snapshot, which is sent as soon as there is one.
    Requested {
        /// The end of its log, which the snapshot must reach.
        reaching: Index,
    },
    /// Waiting for a snapshot to arrive.
    Snapshot {
        /// Its last index.
        pending: Index,
    },
}

/// An append that waits for the next `ready()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// None.
    #[default]
    Nothing,
    /// One, if there are entries to put into it.
    Entries,
    /// One in any case, to tell the commit index.
    Any,
}

/// What a leader knows of one member.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The last index known to be the same, and on disk, there.
    pub matched: Index,
    /// The next index to send: in `[matched + 1, last + 1]`.
    pub next: Index,
    /// How it is being brought up to date.
    pub flow: Flow,
    /// Heard from since the last check-quorum.
    pub recent_active: bool,
    /// Gets entries but does not count towards majorities.
    pub is_learner: bool,
    /// The highest commit index it said it knows, if it says so
    /// ([`Config::commit_hints`](crate::Config::commit_hints)); else 0.
    pub committed: Index,
    /// The highest commit index sent, at most `next - 1`: what it could learn from us.
    pub(crate) sent_commit: Index,
    /// What is to be sent to it is being read ([`StorageError::Later`](crate::StorageError::Later)).
    pub(crate) awaits_entries: bool,
    /// The number of the last read it has confirmed (T§6.4).
    pub(crate) read_acked: u64,
    /// What is to be sent at the next `ready()`.
    pub(crate) wanted: Wanted,
}

impl Progress {
    /// A member of whom nothing is known yet: probing from `next`.
    #[must_use]
    pub fn new(next: Index, is_learner: bool) -> Progress {
        Progress {
            matched: 0,
            next,
            flow: Flow::Probe { paused: false },
            recent_active: false,
            is_learner,
            committed: 0,
            sent_commit: 0,
            awaits_entries: false,
            read_acked: 0,
            wanted: Wanted::Nothing,
        }
    }

    /// Whether nothing is to be sent for now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        match self.flow {
            Flow::Probe { paused } | Flow::Replicate { paused, .. } => {
                paused || self.awaits_entries
            }
            Flow::Requested { .. } => false,
            Flow::Snapshot { .. } => true,
        }
    }

    /// Whether it is being probed.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        matches!(self.flow, Flow::Probe { .. })
    }

    /// Whether it has asked for a snapshot, and none was sent yet.
    pub(crate) fn wants_snapshot(&self) -> bool {
        matches!(self.flow, Flow::Requested { .. })
    }

    /// Whether it waits for a snapshot that it has, if it has everything up to `index`.
    pub(crate) fn has_snapshot_at(&self, index: Index) -> bool {
        matches!(self.flow, Flow::Snapshot { pending } if pending <= index)
    }

    /// The appends on their way; none unless replicating.
    #[must_use]
    pub fn inflights(&self) -> Option<&Inflights> {
        match &self.flow {
            Flow::Replicate { inflights, .. } => Some(inflights),
            _ => None,
        }
    }

    /// Starts to probe: after `matched`, or after a snapshot that was on its way.
    pub fn become_probe(&mut self) {
        let known = match self.flow {
            Flow::Snapshot { pending } => self.matched.max(pending),
            _ => self.matched,
        };
        self.flow = Flow::Probe { paused: false };
        self.awaits_entries = false;
        self.next = known + 1;
        self.sent_commit = self.sent_commit.min(self.next - 1);
    }

    /// A snapshot has failed: probes after `matched`, once the follower is heard from.
    pub fn become_probe_after_failure(&mut self) {
        self.flow = Flow::Probe { paused: true };
        self.next = self.matched + 1;
        self.sent_commit = self.sent_commit.min(self.next - 1);
    }

    /// Starts to stream, after `matched`.
    pub fn become_replicate(&mut self) {
        self.flow = Flow::Replicate { inflights: Inflights::default(), paused: false };
        self.awaits_entries = false;
        self.next = self.matched + 1;
    }

    /// Waits for the snapshot that ends at `pending`.
    pub fn become_snapshot(&mut self, pending: Index) {
        self.flow = Flow::Snapshot { pending };
        self.next = pending + 1;
        self.sent_commit = pending;
    }

    /// It wants a snapshot that reaches `reaching`. Says whether that is news: not if it has moved
    /// on since, or if such a one is on its way.
    pub fn request_snapshot(&mut self, reaching: Index) -> bool {
        let is_sent = matches!(self.flow, Flow::Snapshot { pending } if pending >= reaching);
        if reaching < self.matched || is_sent {
            return false;
        }
        self.flow = Flow::Requested { reaching };
        true
    }

    /// Takes an acknowledgement up to `index`; says whether it is news. Never goes back: a delayed
    /// acknowledgement is none.
    pub fn acknowledge(&mut self, index: Index) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index + 1);
        // The window has room again, and whoever sends next finds out whether it is full anew.
        self.resume();
        true
    }

    /// Takes the rejection of the append after `rejected`, whose sender suggests that the logs may
    /// agree up to `hint`; says whether it is news and not an old answer that came late.
    pub fn reject(&mut self, rejected: Index, hint: Index) -> bool {
        match &mut self.flow {
            Flow::Replicate { .. } => {
                if rejected <= self.matched {
                    return false;
                }
                self.next = self.matched + 1;
            }
            Flow::Probe { paused } => {
                // One probe is out at a time, so the answer to it names its previous index.
                if self.next - 1 != rejected {
                    return false;
                }
                self.next = rejected.min(hint.saturating_add(1)).max(self.matched + 1);
                *paused = false;
                self.awaits_entries = false;
            }
            // To an append before the request.
            Flow::Requested { .. } => return false,
            Flow::Snapshot { .. } => {
                if self.next - 1 != rejected {
                    return false;
                }
                self.next = rejected.min(hint.saturating_add(1)).max(self.matched + 1);
            }
        }
        self.sent_commit = self.sent_commit.min(self.next - 1);
        true
    }

    /// Notes an append of entries up to `last` (none: `None`), with that many payload bytes.
    pub(crate) fn sent(&mut self, window: Window, last: Option<Index>, bytes: u64) {
        match &mut self.flow {
            Flow::Replicate { inflights, paused } => {
                if let Some(last) = last {
                    self.next = last + 1;
                    inflights.add(window, last, bytes);
                }
                *paused = inflights.is_full(window);
            }
            Flow::Probe { paused } => *paused |= last.is_some(),
            Flow::Requested { .. } | Flow::Snapshot { .. } => {
                unreachable!("nothing is sent instead of a snapshot")
            }
        }
    }

    /// Lets one append out: the follower was heard from.
    pub(crate) fn resume(&mut self) {
        self.awaits_entries = false;
        if let Flow::Probe { paused } | Flow::Replicate { paused, .. } = &mut self.flow {
            *paused = false;
        }
    }

    /// Sends nothing until the follower is heard from.
    pub(crate) fn pause(&mut self) {
        if let Flow::Probe { paused } | Flow::Replicate { paused, .. } = &mut self.flow {
            *paused = true;
        }
    }

    /// Notes that the follower was told of `commit`.
    pub(crate) fn sent_commit(&mut self, commit: Index) {
        self.sent_commit = commit;
    }

    /// Whether an append could tell the follower a commit index it may not know, given what is in
    /// its log.
    pub(crate) fn can_bump_commit(&self, commit: Index) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next - 1
    }
}

/// The progress of all members, by ascending id. Groups are small, so a sorted vector is both the
/// smallest and the fastest map.
#[derive(Clone, Debug, Default)]
pub struct ProgressMap(Vec<(NodeId, Progress)>);

impl ProgressMap {
    /// The progress of `id`.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Progress> {
        self.0.iter().find(|(of, _)| *of == id).map(|(_, pr)| pr)
    }

    /// The progress of `id`, to change.
    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Progress> {
        self.0.iter_mut().find(|(of, _)| *of == id).map(|(_, pr)| pr)
    }

    /// Its place in ascending order.
    pub(crate) fn place(&self, id: NodeId) -> Option<usize> {
        self.0.iter().position(|(of, _)| *of == id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one at that place in ascending order.
    pub(crate) fn at(&self, place: usize) -> (NodeId, &Progress) {
        let (id, pr) = &self.0[place];
        (*id, pr)
    }

    /// The one at that place, to change.
    pub(crate) fn at_mut(&mut self, place: usize) -> (NodeId, &mut Progress) {
        let (id, pr) = &mut self.0[place];
        (*id, pr)
    }

    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.0.iter().map(|(id, pr)| (*id, pr))
    }

    /// All, ascending, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Progress)> {
        self.0.iter_mut().map(|(id, pr)| (*id, pr))
    }

    /// Frees the buffers that are empty.
    pub(crate) fn cool(&mut self) {
        self.0.shrink_to_fit();
        for (_, pr) in &mut self.0 {
            if let Flow::Replicate { inflights, .. } = &mut pr.flow {
                inflights.cool();
            }
        }
    }

    /// Puts `id`'s progress in, in the place of any there was.
    pub fn insert(&mut self, id: NodeId, progress: Progress) {
        match self.0.binary_search_by_key(&id, |(of, _)| *of) {
            Ok(at) => self.0[at].1 = progress,
            Err(at) => self.0.insert(at, (id, progress)),
        }
    }

    /// Keeps the progress of those ids only.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.0.retain(|(id, _)| keep(*id));
    }
}

#[cfg(test)]
mod tests;
