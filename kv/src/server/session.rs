//! What a connection has said about itself, and the transaction it is putting together.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::resp::Version;
use crate::server::commands::Spec;

/// The state of one client that commands see and change.
#[derive(Debug)]
pub(crate) struct Session {
    /// Never used twice by one server.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) since: Instant,
    /// When it last sent something.
    pub(crate) active: Instant,
    pub(crate) last_command: &'static str,
    pub(crate) version: Version,
    pub(crate) name: Bytes,
    /// Name and version of the client library.
    pub(crate) library: Bytes,
    pub(crate) library_version: Bytes,
    pub(crate) transaction: Option<Transaction>,
    /// No command is taken any more; the connection closes when all answers are sent.
    pub(crate) closing: bool,
}

/// Commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) queued: Vec<(&'static Spec, Vec<Bytes>)>,
    /// Of all arguments.
    pub(crate) bytes: usize,
    /// Some command was refused, so `EXEC` will be.
    pub(crate) is_broken: bool,
}

impl Session {
    pub(crate) fn new(id: u64, peer: SocketAddr, now: Instant) -> Session {
        Session {
            id,
            peer,
            since: now,
            active: now,
            last_command: "NULL",
            version: Version::V2,
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            transaction: None,
            closing: false,
        }
    }

    /// As a new connection is, but for its identity.
    pub(crate) fn reset(&mut self) {
        self.version = Version::V2;
        self.name = Bytes::new();
        self.transaction = None;
    }

    /// A command was refused: a transaction it was meant for must not be carried out without it.
    pub(crate) fn break_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.is_broken = true;
        }
    }

    /// A line of `CLIENT LIST`.
    pub(crate) fn describe(&self, now: Instant) -> String {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        let multi = self.transaction.as_ref().map_or(-1, |t| t.queued.len() as i64);
        format!(
            "id={} addr={} name={} age={} idle={} flags={} db=0 multi={multi} cmd={} user=default \
             lib-name={} lib-ver={} resp={}",
            self.id,
            self.peer,
            self.name.escape_ascii(),
            seconds(self.since),
            seconds(self.active),
            if self.transaction.is_some() { "x" } else { "N" },
            self.last_command,
            self.library.escape_ascii(),
            self.library_version.escape_ascii(),
            self.version.number(),
        )
    }
}
