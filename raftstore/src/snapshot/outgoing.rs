//! The leader's side: one view, the streams from it, and what the log has to keep for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use raft::{Body, Entries, Index, InitialState, NodeId, RawNode, Snapshot, SnapshotMeta, Storage};
use raft::{StorageError, Term};

use super::{SendSnapshot, SnapshotId, SnapshotSource};
use crate::codec::message::PeerMessage;
use crate::region::StoreId;

/// Where the core asks for a snapshot, and where it finds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Content>);

#[derive(Debug, Default)]
struct Content {
    /// What the core may send.
    meta: Mutex<Option<SnapshotMeta>>,
    /// It has asked, and there was nothing.
    is_wanted: AtomicBool,
}

impl Slot {
    /// The log of `storage`, with this as its snapshot.
    pub(crate) fn beside(&self, storage: Box<dyn Storage + Send>) -> Box<dyn Storage + Send> {
        Box::new(WithSlot { log: storage, slot: self.clone() })
    }

    fn put(&self, meta: Option<SnapshotMeta>) {
        *self.0.meta.lock() = meta;
    }

    fn is_wanted(&self) -> bool {
        self.0.is_wanted.load(Ordering::Relaxed)
    }

    fn settle(&self) {
        self.0.is_wanted.store(false, Ordering::Relaxed);
    }
}

struct WithSlot {
    log: Box<dyn Storage + Send>,
    slot: Slot,
}

impl Storage for WithSlot {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.log.initial_state()
    }

    fn entries(
        &self,
        range: std::ops::Range<Index>,
        bytes_max: u64,
    ) -> Result<Entries, StorageError> {
        self.log.entries(range, bytes_max)
    }

    /// Says at once whether there is one; if not, one is taken, and the core asks again.
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        match &*self.slot.0.meta.lock() {
            Some(meta) => Ok(Snapshot { meta: meta.clone(), ..Snapshot::default() }),
            None => {
                self.slot.0.is_wanted.store(true, Ordering::Relaxed);
                Err(StorageError::SnapshotUnavailable)
            }
        }
    }
}

/// A snapshot for one member.
#[derive(Debug)]
struct Stream {
    send: SendSnapshot,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be begun, not before that tick.
    Waiting(u64),
    /// Pieces are on their way.
    Running,
    /// It is there; the log behind it is kept until that tick, or until the member has said so.
    Arrived(u64),
}

/// A member to which snapshots fail.
#[derive(Debug)]
struct Failing {
    peer: NodeId,
    times: u32,
    /// Nothing is begun before that tick.
    until: u64,
}

/// After the first failure the next stream waits for so many ticks, doubled with each further
/// one, so many times at most: with ticks of 50 ms from 100 ms to 12.8 s.
const BACKOFF_TICKS: u64 = 2;
const BACKOFF_DOUBLINGS: u32 = 7;

/// The snapshots that a peer sends to others of its group.
#[derive(Debug)]
pub(crate) struct Outgoing {
    slot: Slot,
    view: Option<Arc<dyn SnapshotSource>>,
    /// A view was asked for.
    is_asked: bool,
    /// When the view was last good for something.
    used: u64,
    /// Ticks for which a view, or the log behind a snapshot, is kept without being used: long
    /// enough for a member to say that the snapshot is installed, and to be elected.
    keep_ticks: u64,
    streams: Vec<Stream>,
    failing: Vec<Failing>,
}

impl Outgoing {
    pub(crate) fn new(slot: Slot, keep_ticks: u64) -> Outgoing {
        let (streams, failing) = (Vec::new(), Vec::new());
        Outgoing { slot, view: None, is_asked: false, used: 0, keep_ticks, streams, failing }
    }

    /// Whether a view is to be taken. Says so once.
    pub(crate) fn wants_view(&mut self) -> bool {
        self.is_due_view() && !std::mem::replace(&mut self.is_asked, true)
    }

    pub(crate) fn is_due_view(&self) -> bool {
        !self.is_asked && self.slot.is_wanted()
    }

    /// A view was taken, or cannot be had. One that ends before the log begins is of no use: the
    /// core asks again, and then another is taken (S10).
    pub(crate) fn took(
        &mut self,
        now: u64,
        view: Option<Arc<dyn SnapshotSource>>,
        compacted: Index,
    ) {
        self.is_asked = false;
        self.slot.settle();
        let Some(view) = view.filter(|view| view.last().index >= compacted) else { return };
        self.used = now;
        let (last, conf_state) = (view.last(), view.region().conf_state());
        self.slot.put(Some(SnapshotMeta { last, conf_state }));
        self.view = Some(view);
    }

    /// The core sends a snapshot to the member on store `to`. Whether it can be had.
    pub(crate) fn send(&mut self, now: u64, to: StoreId, message: PeerMessage) -> bool {
        let Body::InstallSnapshot { snapshot } = &message.message.body else { return false };
        let last = snapshot.meta.last;
        let Some(view) = self.view.as_ref().filter(|view| view.last() == last) else {
            return false;
        };
        let peer = message.message.to;
        let failing = self.failing.iter().find(|failing| failing.peer == peer);
        let state = State::Waiting(failing.map_or(now, |failing| failing.until));
        self.used = now;
        let source = Arc::clone(view);
        // One that waits is of an earlier term, or the core would not send another.
        self.streams.retain(|s| s.peer() != peer || s.state == State::Running);
        self.streams.push(Stream { send: SendSnapshot { to, message, source }, state });
        true
    }

    /// The log begins after `index` now. A view that ends before is no use to anybody, and the core
    /// must not find it in the slot: who got it would lack the entries between.
    pub(crate) fn compacted(&mut self, index: Index) {
        if self.view.as_ref().is_some_and(|view| view.last().index < index) {
            self.drop_view();
        }
    }

    fn drop_view(&mut self) {
        self.view = None;
        self.slot.put(None);
    }

    /// Whether a stream could begin.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.streams.iter().any(|stream| self.may_begin(stream, now))
    }

    fn may_begin(&self, stream: &Stream, now: u64) -> bool {
        let is_busy = |s: &Stream| s.peer() == stream.peer() && s.state == State::Running;
        matches!(stream.state, State::Waiting(until) if until <= now)
            && !self.streams.iter().any(is_busy)
    }

    /// The next stream that may begin. In `Err` comes one that may not any more, because it is of
    /// another term than `term`, or because the log begins after it.
    pub(crate) fn begin(
        &mut self,
        now: u64,
        term: Term,
        compacted: Index,
    ) -> Option<Result<SendSnapshot, NodeId>> {
        let at = self.streams.iter().position(|stream| self.may_begin(stream, now))?;
        let stream = &mut self.streams[at];
        if stream.send.message.message.term != term || stream.send.source.last().index < compacted {
            return Some(Err(self.streams.remove(at).peer()));
        }
        stream.state = State::Running;
        Some(Ok(stream.send.clone()))
    }

    /// A stream has ended. Whether the core should hear of it: not if another one has taken its
    /// place.
    pub(crate) fn sent(&mut self, now: u64, id: SnapshotId, arrived: bool) -> bool {
        let is_it = |s: &Stream| s.state == State::Running && s.send.id() == id;
        let Some(at) = self.streams.iter().position(is_it) else { return false };
        if arrived {
            self.streams[at].state = State::Arrived(now + self.keep_ticks);
            self.failing.retain(|failing| failing.peer != id.peer);
        } else {
            self.streams.remove(at);
            self.failed(now, id.peer);
        }
        self.used = now;
        let replaces = |s: &Stream| s.peer() == id.peer && matches!(s.state, State::Waiting(_));
        !self.streams.iter().any(replaces)
    }

    fn failed(&mut self, now: u64, peer: NodeId) {
        if !self.failing.iter().any(|failing| failing.peer == peer) {
            self.failing.push(Failing { peer, times: 0, until: 0 });
        }
        for failing in self.failing.iter_mut().filter(|failing| failing.peer == peer) {
            failing.until = now + (BACKOFF_TICKS << failing.times.min(BACKOFF_DOUBLINGS));
            failing.times += 1;
        }
    }

    /// What the log may not be compacted past: the first snapshot that is on its way, or has
    /// arrived and was not yet acknowledged.
    pub(crate) fn pin(&self) -> Option<Index> {
        let kept = self.streams.iter().filter(|s| !matches!(s.state, State::Waiting(_)));
        kept.map(|stream| stream.send.source.last().index).min()
    }

    /// Time passes. What nobody needs any more is dropped: of streams that have arrived, those that
    /// are acknowledged or too old; the view, if it was not used for long.
    pub(crate) fn tick(&mut self, now: u64, raw: &RawNode) {
        let is_leader = raw.role() == raft::RoleKind::Leader;
        let is_over = |stream: &Stream| match stream.state {
            State::Waiting(_) => !is_leader,
            State::Running => false,
            State::Arrived(until) => !is_leader || until <= now,
        };
        self.streams.retain(|stream| !is_over(stream));
        if self.streams.iter().any(|s| matches!(s.state, State::Arrived(_))) {
            self.drop_acknowledged(raw);
        }
        if !is_leader {
            self.failing.clear();
            self.slot.settle();
        }
        let is_old = self.streams.is_empty() && now >= self.used + self.keep_ticks;
        if is_old || !is_leader {
            self.drop_view();
        }
    }

    fn drop_acknowledged(&mut self, raw: &RawNode) {
        let progress = raw.status().progress;
        let matched = |peer| progress.iter().find(|(id, _)| *id == peer).map(|(_, pr)| pr.matched);
        self.streams.retain(|stream| {
            let last = stream.send.source.last().index;
            !matches!(stream.state, State::Arrived(_))
                || matched(stream.peer()).is_some_and(|matched| matched < last)
        });
    }
}

impl Stream {
    fn peer(&self) -> NodeId {
        self.send.message.message.to
    }
}
