//! Linearizable reads without writing to the log (§8, T§6.4).
//!
//! A read may run once the state machine has applied what was committed when it was asked for,
//! provided that the server that named this index was the leader then. To prove that it was, the
//! leader numbers its reads, sends the latest number with its heartbeats, and waits until a quorum
//! has answered one with at least that number: nobody else can have been elected before.
//!
//! ```text
//!  ask(read 7, index 40) ─► Heartbeat{read: 7} ─► HeartbeatReply{read: 7} ×quorum ─► ReadState
//! ```
//!
//! Numbers are this leader's own and never used again within its term, so neither a context that
//! a client uses twice nor an answer that comes late can confirm a read that was asked after it.
//! All reads asked between two `ready()`s share one round of heartbeats.
//!
//! A new leader does not know what its predecessors committed until it has committed an entry of
//! its own; reads wait for that (§8).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::commit;
use crate::lease;
use crate::message::Body;
use crate::ready::ReadState;
use crate::replication;
use crate::role::Leader;
use crate::server::Server;
use crate::types::{Index, NodeId};

/// The reads of one leader that are not answered yet.
#[derive(Default)]
pub(crate) struct Reads {
    /// Numbers given so far, to reads and to heartbeats that extend a lease.
    count: u64,
    /// Those not answered: nothing while nobody reads, as on most of many leaders.
    open: Option<Box<Open>>,
}

#[derive(Default)]
struct Open {
    /// Waiting for confirmation, ascending by number.
    waiting: VecDeque<Waiting>,
    /// Asked before this leader had committed anything.
    postponed: Vec<(NodeId, Bytes)>,
}

struct Waiting {
    number: u64,
    index: Index,
    asker: NodeId,
    context: Bytes,
}

impl Reads {
    /// The number that heartbeats carry: the latest read that waits, 0 if none does.
    pub(crate) fn last_waiting(&self) -> u64 {
        self.open.as_ref().and_then(|open| open.waiting.back()).map_or(0, |read| read.number)
    }

    /// A number for heartbeats that extend a lease: confirms all reads that wait, too.
    pub(crate) fn number_heartbeat(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// How many reads have not been answered.
    pub(crate) fn len(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.waiting.len() + open.postponed.len())
    }

    /// Frees the buffers that are empty.
    pub(crate) fn cool(&mut self) {
        self.open.take_if(|open| open.waiting.is_empty() && open.postponed.is_empty());
    }
}

/// A read asked by `asker`, at the leader.
pub(crate) fn ask(server: &mut Server, leader: &mut Leader, asker: NodeId, context: Bytes) {
    if commit::has_committed_in_term(server) {
        number(server, leader, asker, context);
    } else {
        leader.reads.open.get_or_insert_default().postponed.push((asker, context));
    }
}

/// This leader has committed something new, perhaps its first own entry.
pub(crate) fn release_postponed(server: &mut Server, leader: &mut Leader) {
    let Some(open) = &mut leader.reads.open else { return };
    if commit::has_committed_in_term(server) {
        for (asker, context) in std::mem::take(&mut open.postponed) {
            number(server, leader, asker, context);
        }
    }
}

fn number(server: &mut Server, leader: &mut Leader, asker: NodeId, context: Bytes) {
    let index = server.log.committed();
    // Nobody else can have been elected if nobody else votes, nor within the lease.
    if server.membership.is_singleton(server.id()) || lease::holds(server, leader) {
        return answer(server, asker, index, context);
    }
    let reads = &mut leader.reads;
    reads.count += 1;
    reads.open.get_or_insert_default().waiting.push_back(Waiting {
        number: reads.count,
        index,
        asker,
        context,
    });
    if server.config.eager_appends {
        replication::broadcast_heartbeat(server, leader);
    } else {
        leader.wants_heartbeat = true;
        leader.wants_flush = true;
    }
}

/// Answers the reads that a quorum of the present voters has confirmed.
pub(crate) fn confirm(server: &mut Server, leader: &mut Leader) {
    let last = leader.reads.last_waiting();
    let Some(open) = &mut leader.reads.open else { return };
    let (id, progress) = (server.id(), &leader.progress);
    let acked = |voter: NodeId| {
        if voter == id { last } else { progress.get(voter).map_or(0, |pr| pr.read_acked) }
    };
    let confirmed = server.membership.voters.committed(acked);
    while let Some(read) = open.waiting.pop_front_if(|read| read.number <= confirmed) {
        answer(server, read.asker, read.index, read.context);
    }
}

fn answer(server: &mut Server, asker: NodeId, index: Index, context: Bytes) {
    if asker == server.id() {
        server.out.read(ReadState { index, context });
    } else {
        server.send(asker, Body::ReadIndexReply { index, context });
    }
}
