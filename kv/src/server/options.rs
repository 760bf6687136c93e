//! What can be set about a server.

use std::time::Duration;

/// Options of a [`Server`](crate::server::Server).
#[derive(Clone, Debug)]
pub struct Options {
    /// Most connections at a time; one more is told so and closed. Each takes a file descriptor
    /// and a few kilobytes.
    pub clients_max: usize,
    /// How long the store may take to answer a request. Then a write is answered with `UNKNOWN`
    /// and a read with `TRYAGAIN`, whatever comes later. Longer than the store's own wait for a
    /// leader, or that never gets to give its more exact answer.
    pub answer_timeout: Duration,
    /// A connection that sent nothing for so long is closed. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// What requests in flight are given to finish when the server stops.
    pub stop_grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            clients_max: 10_000,
            answer_timeout: Duration::from_secs(5),
            idle_timeout: None,
            stop_grace: Duration::from_millis(500),
        }
    }
}
