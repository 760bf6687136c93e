//! How much may be on its way to each follower (T§10.2.1).
//!
//! All have the window of [`Config::inflight_max`](crate::Config::inflight_max), unless one is given
//! a window of its own: a wide one for a server far away, a narrow one for a server that drowns, or
//! none, so that it gets no entries at all for a while (beyond etcd; as in TiKV). Heartbeats are
//! not counted and go on, so that it still follows, and still votes with the log it has.
//!
//! The buffers that remember what is on its way grow as they are used, and are freed when nothing
//! is and nothing happens (`ProgressMap::cool`).

use crate::progress::Window;
use crate::raw_node::RawNode;
use crate::replication;
use crate::role::Role;
use crate::server::Server;
use crate::types::NodeId;

/// The followers with a window of their own, in appends.
pub(crate) type Windows = Vec<(NodeId, usize)>;

/// How much may be on its way to `id`.
pub(crate) fn of(server: &Server, id: NodeId) -> Window {
    let own = server.wishes.as_ref().and_then(|wishes| {
        wishes.windows.iter().find(|(of, _)| *of == id).map(|(_, appends)| *appends)
    });
    Window {
        appends_max: own.unwrap_or(server.config.inflight_max),
        bytes_max: server.config.inflight_bytes_max,
    }
}

impl RawNode {
    /// From now on so many appends may be on their way from this server to `id`, or, with `None`,
    /// as many as to all others ([`Config::inflight_max`](crate::Config::inflight_max)). None at all,
    /// 0, stops it: it gets neither entries nor snapshots. What is on its way already stays so.
    ///
    /// A follower that is stopped counts in quorums with what it has.
    pub fn set_inflight_max(&mut self, id: NodeId, appends: Option<usize>) {
        let server = &mut self.raft.server;
        let windows = &mut server.wishes.get_or_insert_default().windows;
        windows.retain(|(of, _)| *of != id);
        windows.extend(appends.map(|appends| (id, appends)));
        if let Role::Leader(leader) = &mut self.raft.role
            && id != server.config.id
            && let Some(at) = leader.progress.place(id)
        {
            // Whoever sends next finds out whether it is full anew.
            let (_, pr) = leader.progress.at_mut(at);
            if pr.inflights().is_some() {
                pr.resume();
            }
            replication::request_append(server, leader, at, false);
        }
        self.observe();
    }
}
