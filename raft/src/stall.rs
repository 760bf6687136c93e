//! A leader whose disk has stopped answering (beyond etcd).
//!
//! Such a leader still sends heartbeats, so nobody replaces it, but it commits at the pace of the
//! others' disks at best, and reads and clients wait on it. With
//! [`Config::write_ticks_max`](crate::Config::write_ticks_max) it gives up: it hands over to the
//! voter with the most complete log that answers, and if that does not work in the same time
//! again, it steps down. It cannot be elected again while its disk stands still: its own vote, too,
//! has to be written first.

use crate::raft::Raft;
use crate::role::{Leader, Next, Role};
use crate::server::Server;
use crate::transfer;
use crate::types::NodeId;

/// How long the oldest unreported write has been waited for.
#[derive(Default)]
pub(crate) struct Stall {
    reported: u64,
    ticks: u32,
}

impl Stall {
    /// A tick, when `reported` of `writes` are on disk.
    pub(crate) fn tick(&mut self, raft: &mut Raft, writes: u64, reported: u64) -> Next {
        let ticks_max = raft.server.config.write_ticks_max;
        if reported == writes || reported != self.reported {
            *self = Stall { reported, ticks: 0 };
        }
        if reported == writes {
            return Next::Stay;
        }
        self.ticks = self.ticks.saturating_add(1);
        let Role::Leader(leader) = &mut raft.role else { return Next::Stay };
        let server = &mut raft.server;
        let step_down = Next::Follow { term: server.term, leader: None };
        if self.ticks == ticks_max {
            match most_complete(server, leader) {
                Some(to) => transfer::start(server, leader, to),
                None => return step_down,
            }
        } else if self.ticks >= ticks_max.saturating_mul(2) {
            return step_down;
        }
        Next::Stay
    }
}

/// The voter other than this server that answers and has most of the log.
fn most_complete(server: &Server, leader: &Leader) -> Option<NodeId> {
    let candidates = leader.progress.iter().filter(|(id, pr)| {
        *id != server.id() && pr.recent_active && server.membership.is_voter(*id)
    });
    candidates.max_by_key(|(_, pr)| pr.matched).map(|(id, _)| id)
}
