//! Stores anywhere: TCP connections, one for each direction between two stores.
//!
//! ```text
//!  send ─► queue ─► writer thread ═══ connection ═══► reader thread ─► Receiver
//!    │     bounded   connects, retries with back-off     one for each connection
//!    └── what is small and has nothing before it ──┘
//! ```
//!
//! A slow or dead store costs its own queue and its own thread, and nobody else anything: when the
//! queue is full, or there is no connection, packets for it are refused at once. Bytes that make
//! no sense close the connection they came over, and only that one. A connection begins with a
//! handshake, so that stores of different clusters, at addresses that have changed hands, or without
//! the data they had, never exchange a message.
//!
//! A snapshot travels over a connection of its own, made for it and closed after it; see `stream`.

mod link;
mod listener;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Packet, Receiver, SendError, SnapshotSink, SnapshotStream, Transport};
use crate::codec::frame::{Hello, SERVICE_BYTES_MAX};
use crate::codec::message::PeerMessage;
use crate::disk::{AcquaintanceError, Acquaintances};
use crate::region::StoreId;
use link::Link;
use listener::Listener;
use stream::{Streams, TcpStreamOut};

/// The settings of a [`TcpTransport`].
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Who this store is.
    pub store: StoreId,
    /// Its cluster; connections of others are refused.
    pub cluster: u64,
    /// The other stores, as host and port. Names are looked up at every attempt to connect.
    pub peers: BTreeMap<StoreId, String>,
    /// Bytes waiting for one store; more are refused. Too few, and a short pause of a follower
    /// turns into probing; too many, and it gets stale messages after a long one.
    pub queue_bytes_max: usize,
    /// The first pause after a failed attempt to connect; doubles with each further one.
    pub retry_min: Duration,
    /// The longest pause.
    pub retry_max: Duration,
    /// How long connecting, the handshake, and a single write may take.
    pub io_timeout: Duration,
    /// Connections accepted at a time.
    pub connections_max: usize,
    /// Who remembers which data the others have.
    acquaintances: OnceLock<Arc<Acquaintances>>,
}

impl TcpConfig {
    /// Defaults for `store` of `cluster`.
    #[must_use]
    pub fn new(store: StoreId, cluster: u64, peers: BTreeMap<StoreId, String>) -> TcpConfig {
        TcpConfig {
            store,
            cluster,
            peers,
            queue_bytes_max: 64 << 20,
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(2),
            io_timeout: Duration::from_secs(3),
            connections_max: 256,
            acquaintances: OnceLock::new(),
        }
    }

    /// What this store says in a handshake with `to`.
    fn hello(&self, to: StoreId) -> Hello {
        let own = self.acquaintances.get().map(|known| known.own().generation);
        let generation = own.unwrap_or(UNSAID);
        Hello { cluster: self.cluster, from: self.store, generation, to }
    }

    /// Why the data of the sender is not what it was, if so.
    fn doubts(&self, hello: Hello) -> Option<String> {
        let known = self.acquaintances.get().filter(|_| hello.generation != UNSAID)?;
        known.meet(hello.from, hello.generation).err().map(|error| error.to_string())
    }
}

/// For a generation that a store does not say, as one without a directory has none.
const UNSAID: u64 = 0;

/// What a connection may take to end in good order.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// Talks to other stores over TCP.
pub struct TcpTransport {
    config: Arc<TcpConfig>,
    links: BTreeMap<StoreId, Arc<Link>>,
    listener: Arc<Listener>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    streams: Streams,
}

impl TcpTransport {
    /// A transport that will accept connections on `listener`.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn new(config: TcpConfig, listener: TcpListener) -> io::Result<TcpTransport> {
        let config = Arc::new(config);
        let link = |(&store, address): (&StoreId, &String)| {
            (store, Arc::new(Link::new(Arc::clone(&config), store, address.clone())))
        };
        Ok(TcpTransport {
            links: config.peers.iter().filter(|(id, _)| **id != config.store).map(link).collect(),
            listener: Arc::new(Listener::new(Arc::clone(&config), listener)?),
            threads: Mutex::new(Vec::new()),
            streams: Streams::default(),
            config,
        })
    }

    /// Where connections are accepted.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }
}

/// What arrives over the connections of other stores.
struct Accepted {
    receiver: Arc<dyn Receiver>,
    links: BTreeMap<StoreId, Arc<Link>>,
}

impl Receiver for Accepted {
    fn receive(&self, from: StoreId, packet: Packet) -> Result<(), SendError> {
        self.receiver.receive(from, packet)
    }

    fn snapshot(
        &self,
        from: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotSink>, SendError> {
        self.receiver.snapshot(from, message)
    }

    fn lost(&self, store: StoreId) {
        if let Some(link) = self.links.get(&store) {
            link.doubt();
        }
        self.receiver.lost(store);
    }
}

impl Transport for TcpTransport {
    fn introduce(&self, acquaintances: Arc<Acquaintances>) -> Result<(), AcquaintanceError> {
        // Only the first time counts: a transport has one store.
        let _ = self.config.acquaintances.set(acquaintances);
        Ok(())
    }

    fn start(&self, receiver: Arc<dyn Receiver>) -> io::Result<()> {
        let mut threads = self.threads.lock();
        let name = |what: &str| format!("s{}-{what}", self.config.store.0);
        let (listener, clone) = (Arc::clone(&self.listener), Arc::clone(&receiver));
        let to: Arc<dyn Receiver> =
            Arc::new(Accepted { receiver: clone, links: self.links.clone() });
        threads.push(
            std::thread::Builder::new().name(name("accept")).spawn(move || listener.run(&to))?,
        );
        for (peer, link) in &self.links {
            let (link, receiver) = (Arc::clone(link), Arc::clone(&receiver));
            let thread = std::thread::Builder::new().name(name(&format!("to-s{}", peer.0)));
            threads.push(thread.spawn(move || link.run(receiver.as_ref()))?);
        }
        Ok(())
    }

    fn send(&self, to: StoreId, packet: Packet) -> Result<(), SendError> {
        if let Packet::Request { body, .. } | Packet::Reply { body, .. } = &packet
            && body.len() > SERVICE_BYTES_MAX
        {
            return Err(SendError::TooLarge);
        }
        self.links.get(&to).ok_or(SendError::Unknown)?.send(packet)
    }

    fn snapshot(
        &self,
        to: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotStream>, SendError> {
        let link = self.links.get(&to).ok_or(SendError::Unknown)?;
        let stream = link.connect_beside(|stream| self.streams.add(stream))?;
        Ok(Box::new(TcpStreamOut::begin(stream, &message)?))
    }

    fn stop(&self) {
        self.streams.cut();
        self.links.values().for_each(|link| link.close());
        self.listener.stop();
        let mut threads = std::mem::take(&mut *self.threads.lock());
        // Most are done at once. A writer whose peer does not read is cut off after a grace; one
        // that waits for a name server or for a connection cannot be, and ends by itself later.
        join_within(&mut threads, STOP_GRACE);
        self.links.values().for_each(|link| link.cut());
        threads.extend(self.listener.take_readers());
        join_within(&mut threads, STOP_GRACE);
    }
}

/// Joins the threads that end within `time`.
fn join_within(threads: &mut Vec<JoinHandle<()>>, time: Duration) {
    let deadline = Instant::now() + time;
    while !threads.is_empty() && Instant::now() < deadline {
        for done in threads.extract_if(.., |thread| thread.is_finished()) {
            // A panic there was reported by the panic hook; the connection is gone either way.
            let _ = done.join();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests;
