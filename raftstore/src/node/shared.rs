//! What the threads of a node and its handles share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use raft::Body;

use super::metrics::{Counts, NodeCounters, NodeMetrics};
use super::snapshots::{self, Pace};
use super::turn::{Crowd, Turn};
use super::{NodeConfig, NodeError};
use crate::batch::WrittenBatch;
use crate::codec::message::PeerMessage;
use crate::disk::Disk;
use crate::machine::{Callback, Machine, Refusal};
use crate::region::{Epoch, RegionId, StoreId};
use crate::snapshot::{Received, SnapshotId};
use crate::store::{Counters, RegionStatus, Store};
use crate::transport::queue::{Consumer, Queue, Refused};
use crate::transport::{Packet, Receiver, SendError, SnapshotSink, Transport};

/// What the loop is told.
pub(super) enum Input<M: Machine> {
    /// Raft messages from another store.
    Raft(StoreId, Vec<PeerMessage>),
    /// A command, in its envelope.
    Propose { region: RegionId, epoch: Epoch, data: Bytes, callback: M::Callback },
    /// A read.
    Read { region: RegionId, query: M::Query },
    /// Somebody else should lead.
    Transfer { region: RegionId, to: Option<StoreId> },
    /// This store should stand for election.
    Campaign(RegionId),
    /// Batches are on disk, in order.
    Written(Vec<WrittenBatch>),
    /// Tasks are done: the applier's desk has the reports.
    Applied,
    /// Messages to that store may be lost.
    Lost(StoreId),
    /// A snapshot from another store is on this disk.
    Snapshot(StoreId, Received),
    /// A snapshot to another store has arrived, or has failed.
    SnapshotSent(SnapshotId, bool),
    /// Another thread cannot go on.
    Failed(NodeError),
    /// The node is to stop in good order.
    Stop,
}

impl<M: Machine> Input<M> {
    /// Whether a client waits for it.
    pub(super) fn is_request(&self) -> bool {
        matches!(self, Input::Propose { .. } | Input::Read { .. })
    }

    /// Nobody will take it any more.
    pub(super) fn refuse(self, why: &Refusal) {
        match self {
            Input::Propose { callback, .. } => callback.refuse(why.clone()),
            Input::Read { query, .. } => query.refuse(why.clone()),
            // Nobody waits for these.
            Input::Raft(..)
            | Input::Transfer { .. }
            | Input::Campaign(_)
            | Input::Written(_)
            | Input::Applied
            | Input::Lost(_)
            // The next start finds the file and removes it.
            | Input::Snapshot(..)
            | Input::SnapshotSent(..)
            | Input::Failed(_)
            | Input::Stop => {}
        }
    }
}

/// Lanes of the inbox.
const RAFT: usize = 0;
const CLIENTS: usize = 1;

/// What a request weighs beside its bytes.
const REQUEST_WEIGHT: usize = 256;

/// What packets of the layer above are given to. Called on the transport's threads: must not
/// block.
pub trait Service: Send + Sync + 'static {
    /// A request from another store, to be answered by
    /// [`NodeHandle::reply`](super::NodeHandle::reply) with the same id.
    fn on_request(&self, from: StoreId, id: u64, body: Bytes);

    /// The answer to a request of this store.
    fn on_reply(&self, from: StoreId, id: u64, body: Bytes);

    /// The connection to a store was lost: requests that it has not answered may have reached it
    /// or not, and may never be answered.
    fn on_lost(&self, store: StoreId);
}

/// What the loop shows of its store.
#[derive(Default)]
pub(super) struct Published {
    pub(super) regions: BTreeMap<RegionId, RegionStatus>,
    pub(super) counters: Counters,
}

/// The part of a node that outlives its threads.
pub(super) struct Shared<M: Machine> {
    pub(super) store: StoreId,
    pub(super) inbox: Queue<Input<M>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) service: OnceLock<Arc<dyn Service>>,
    pub(super) published: Mutex<Published>,
    pub(super) counts: Counts,
    /// Commands and reads in the store, as of the last round.
    pub(super) pending: AtomicUsize,
    /// Reads on their way to the state machine.
    pub(super) reading: AtomicUsize,
    /// Where received snapshots are put; `None` if they cannot be.
    pub(super) snapshots: Option<Arc<dyn Disk>>,
    /// How many are being received.
    pub(super) receiving: AtomicUsize,
    /// The loop, for whoever does its work.
    pub(super) turn: Turn<M>,
    /// Whether there are many clients.
    pub(super) crowd: Crowd,
    /// What sending them may take. Stopped as soon as the node stops.
    pub(super) pace: Pace,
    /// Itself, for what outlives a call.
    pub(super) me: Weak<Shared<M>>,
    requests_max: usize,
    is_failed: AtomicBool,
    outcome: Mutex<Option<Result<(), NodeError>>>,
    ended: Condvar,
}

impl<M: Machine> Shared<M> {
    pub(super) fn new(
        config: &NodeConfig,
        transport: Arc<dyn Transport>,
        snapshots: Option<Arc<dyn Disk>>,
        store: &Store<M>,
    ) -> Arc<Shared<M>> {
        let regions = store.statuses().map(|status| (status.region.id, status)).collect();
        Arc::new_cyclic(|me| Shared {
            store: config.store.store,
            inbox: Queue::new([config.messages_bytes_max, config.requests_bytes_max]),
            transport,
            service: OnceLock::new(),
            published: Mutex::new(Published { regions, counters: Counters::default() }),
            counts: Counts::default(),
            pending: AtomicUsize::new(0),
            reading: AtomicUsize::new(0),
            snapshots,
            receiving: AtomicUsize::new(0),
            turn: Turn::default(),
            crowd: Crowd::default(),
            pace: Pace::new(config.snapshot_bytes_per_second),
            me: me.clone(),
            requests_max: config.requests_max,
            is_failed: AtomicBool::new(false),
            outcome: Mutex::new(None),
            ended: Condvar::new(),
        })
    }

    /// Gives a client's request to the loop, or refuses it. If it is the only one, its thread may
    /// do the loop's work; else it has more to bring, which shall become one batch.
    pub(super) fn offer(&self, input: Input<M>, bytes: usize) {
        let waiting = self.pending.load(Ordering::Relaxed) + self.reading.load(Ordering::Relaxed);
        let offered = if waiting >= self.requests_max {
            Err(Refused::Full(input))
        } else {
            self.inbox.push_quietly(input, Some((CLIENTS, REQUEST_WEIGHT + bytes)))
        };
        match offered {
            Ok(Consumer::Awake) => {}
            Ok(Consumer::Asleep) if waiting == 0 && self.crowd.may_help() => self.see_to(true),
            Ok(Consumer::Asleep) => self.inbox.wake(),
            Err(Refused::Full(input)) => {
                self.counts.traffic.busy.fetch_add(1, Ordering::Relaxed);
                input.refuse(&Refusal::Busy);
            }
            Err(Refused::Closed(input)) => input.refuse(&Refusal::ShuttingDown),
        }
    }

    /// Tells the loop something that it must not miss. After its end nobody needs to know.
    pub(super) fn tell(&self, input: Input<M>) {
        if self.tell_quietly(input) == Consumer::Asleep {
            self.inbox.wake();
        }
    }

    /// As [`Shared::tell`], by a thread that can [`Shared::see_to`] a sleeping loop.
    pub(super) fn tell_quietly(&self, input: Input<M>) -> Consumer {
        match self.inbox.push_quietly(input, None) {
            Ok(consumer) => consumer,
            Err(Refused::Full(input) | Refused::Closed(input)) => {
                input.refuse(&Refusal::ShuttingDown);
                Consumer::Awake
            }
        }
    }

    /// The store has failed; its threads are about to end.
    pub(super) fn note_failure(&self) {
        self.is_failed.store(true, Ordering::Release);
    }

    pub(super) fn is_failed(&self) -> bool {
        self.is_failed.load(Ordering::Acquire)
    }

    /// All threads have ended.
    pub(super) fn end(&self, outcome: Result<(), NodeError>) {
        *self.outcome.lock() = Some(outcome);
        self.ended.notify_all();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.outcome.lock().is_some()
    }

    pub(super) fn wait(&self) -> Result<(), NodeError> {
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            self.ended.wait(&mut outcome);
        }
    }

    pub(super) fn counters(&self) -> NodeCounters {
        self.counts.counters(self.published.lock().counters)
    }

    pub(super) fn metrics(&self) -> NodeMetrics {
        NodeMetrics {
            receiving: self.receiving.load(Ordering::Relaxed) as u64,
            reading: self.reading.load(Ordering::Relaxed) as u64,
            is_failed: self.is_failed(),
            ..self.counts.metrics(self.published.lock().counters)
        }
    }

    fn receive_raft(&self, from: StoreId, messages: Vec<PeerMessage>) -> Result<(), SendError> {
        let count = messages.len() as u64;
        let weight = messages.iter().map(PeerMessage::size_hint).sum();
        // Who answers has nothing more to do; who asks goes on while the other works.
        let can_wait = messages.iter().all(is_answer);
        let input = Input::Raft(from, messages);
        match self.inbox.push_quietly(input, Some((RAFT, weight))) {
            Ok(Consumer::Awake) => Ok(()),
            Ok(Consumer::Asleep) => {
                self.see_to(can_wait);
                Ok(())
            }
            Err(Refused::Closed(_)) => Err(SendError::Unreachable),
            Err(Refused::Full(_)) => {
                self.counts.traffic.messages_dropped.fetch_add(count, Ordering::Relaxed);
                Err(SendError::Full)
            }
        }
    }
}

/// Whether it answers something, and nobody will answer it in turn.
fn is_answer(message: &PeerMessage) -> bool {
    match message.message.body {
        Body::AppendEntriesReply(_)
        | Body::HeartbeatReply { .. }
        | Body::RequestVoteReply { .. }
        | Body::ReadIndexReply { .. } => true,
        Body::AppendEntries { .. }
        | Body::Heartbeat { .. }
        | Body::RequestVote { .. }
        | Body::InstallSnapshot { .. }
        | Body::TimeoutNow
        | Body::TransferLeader
        | Body::Propose { .. }
        | Body::ReadIndex { .. } => false,
    }
}

impl<M: Machine> Receiver for Shared<M> {
    fn receive(&self, from: StoreId, packet: Packet) -> Result<(), SendError> {
        let service = || self.service.get().ok_or(SendError::Unreachable);
        match packet {
            Packet::Raft(messages) => return self.receive_raft(from, messages),
            Packet::Request { id, body } => service()?.on_request(from, id, body),
            Packet::Reply { id, body } => service()?.on_reply(from, id, body),
        }
        Ok(())
    }

    fn snapshot(
        &self,
        from: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotSink>, SendError> {
        let shared = self.me.upgrade().ok_or(SendError::Unreachable)?;
        snapshots::receive(&shared, from, message)
    }

    fn lost(&self, store: StoreId) {
        self.tell(Input::Lost(store));
        if let Some(service) = self.service.get() {
            service.on_lost(store);
        }
    }
}
