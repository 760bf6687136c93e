//! What all connections of a server share. Owned by the event loop, so nothing in it is locked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::server::backend::Backend;
use crate::server::connection::Connection;
use crate::server::cursors::Cursors;
use crate::server::options::Options;

pub(crate) struct World {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) options: Options,
    pub(crate) address: SocketAddr,
    pub(crate) started: Instant,
    /// When the loop last woke up.
    pub(crate) now: Instant,
    pub(crate) cursors: Cursors,
    pub(crate) counters: Counters,
    /// All but the connection whose commands are being carried out: that one is taken out.
    pub(crate) connections: Vec<Option<Box<Connection>>>,
    pub(crate) connected: usize,
    /// Input of all connections that was read and is not understood yet.
    pub(crate) input_bytes: usize,
}

/// Figures since the start, for `INFO`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) commands: u64,
    /// Requests to the store; fewer than commands where they were put together.
    pub(crate) requests: u64,
    /// Requests that were answered by an error.
    pub(crate) failed: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) wakeups: u64,
}

impl World {
    pub(crate) fn new(backend: Arc<dyn Backend>, options: Options, address: SocketAddr) -> World {
        let now = Instant::now();
        World {
            backend,
            options,
            address,
            started: now,
            now,
            cursors: Cursors::new(),
            counters: Counters::default(),
            connections: Vec::new(),
            connected: 0,
            input_bytes: 0,
        }
    }
}
