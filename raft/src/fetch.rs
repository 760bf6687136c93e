//! Entries that the storage has, but not at once (beyond etcd; TiKV's async entry fetch).
//!
//! What a follower lacks may have left memory long ago, and a server of many groups must not stand
//! still while one of them reads its disk. So a storage may answer
//! [`StorageError::Later`](crate::StorageError::Later) to [`Storage::entries`](crate::Storage::entries),
//! read what it was asked for somewhere else, and have the application say
//! [`RawNode::entries_fetched`] when it can answer.
//!
//! * An append that was to be sent waits, as if the follower were paused: the storage is not asked
//!   for the same again, unless the follower answers a heartbeat meanwhile (so nothing is lost if
//!   the storage forgets). That it waits is part of what the leader knows of the follower: it is
//!   forgotten when either goes, steps down, or enters another term.
//! * Entries to be applied, after a restart, wait the same way.
//! * A server does not stand for election while it cannot see whether a membership change is to be
//!   applied first; its next timeout tries again.

use crate::error::StorageError;
use crate::raw_node::RawNode;
use crate::replication;
use crate::role::{Leader, Role};
use crate::server::Server;

impl RawNode {
    /// The storage can answer now what it put off ([`StorageError::Later`](crate::StorageError::Later)): what
    /// waited for it goes on. Without effect if nothing waits.
    pub fn entries_fetched(&mut self) {
        self.raft.server.log.resume_apply();
        if let Role::Leader(leader) = &mut self.raft.role {
            resume_appends(&mut self.raft.server, leader);
        }
        self.observe();
    }
}

/// Whether the storage will say when it can answer.
#[cold]
pub(crate) fn is_later(error: &StorageError) -> bool {
    matches!(error, StorageError::Later)
}

fn resume_appends(server: &mut Server, leader: &mut Leader) {
    for at in 0..leader.progress.len() {
        let (_, pr) = leader.progress.at_mut(at);
        if std::mem::take(&mut pr.awaits_entries) {
            replication::request_append(server, leader, at, false);
        }
    }
}
