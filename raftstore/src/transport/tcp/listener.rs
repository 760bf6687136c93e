//! Accepts the connections of other stores and reads what they send.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;

use super::TcpConfig;
use super::link::read_frame;
use super::stream;
use crate::codec::frame::{self, FRAME_BYTES_MAX, Frame, HELLO_BYTES_MAX, Hello};
use crate::region::StoreId;
use crate::transport::{Packet, Receiver};

const READ_BYTES: usize = 64 << 10;

struct Connection {
    /// To be shut down from another thread.
    stream: TcpStream,
    thread: JoinHandle<()>,
}

/// The accepting side.
pub(super) struct Listener {
    config: Arc<TcpConfig>,
    listener: TcpListener,
    address: SocketAddr,
    is_stopped: AtomicBool,
    connections: Mutex<BTreeMap<u64, Connection>>,
    /// What was said about refused connections: each once, so that a stubborn stranger does not
    /// fill the log.
    refusals: Mutex<BTreeSet<String>>,
}

impl Listener {
    pub(super) fn new(config: Arc<TcpConfig>, listener: TcpListener) -> io::Result<Listener> {
        let address = listener.local_addr()?;
        Ok(Listener {
            config,
            listener,
            address,
            is_stopped: AtomicBool::new(false),
            connections: Mutex::default(),
            refusals: Mutex::default(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until stopped.
    pub(super) fn run(self: &Arc<Listener>, receiver: &Arc<dyn Receiver>) {
        for number in 0.. {
            let accepted = self.listener.accept();
            if self.is_stopped.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((stream, _)) => self.spawn(number, stream, receiver),
                // Out of descriptors, or the other side gave up: neither ends the listener, and
                // the first must not make it spin.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn spawn(self: &Arc<Listener>, number: u64, stream: TcpStream, receiver: &Arc<dyn Receiver>) {
        let mut connections = self.connections.lock();
        connections.retain(|_, connection| !connection.thread.is_finished());
        if connections.len() >= self.config.connections_max {
            return;
        }
        let Ok(handle) = stream.try_clone() else { return };
        let (listener, receiver) = (Arc::clone(self), Arc::clone(receiver));
        let thread = std::thread::Builder::new().name(format!("s{}-read", self.config.store.0));
        let thread = thread.spawn(move || {
            listener.read(&stream, receiver.as_ref());
            // The handle kept here would hold the connection open.
            let _ = stream.shutdown(Shutdown::Both);
        });
        if let Ok(thread) = thread {
            connections.insert(number, Connection { stream: handle, thread });
        }
    }

    /// Reads one connection to its end: the other side's, ours, or the first nonsense.
    ///
    /// Its loss is told like that of our own connection to the store: a store that only waits for
    /// answers sends nothing by which it would notice that there is nobody left to answer.
    fn read(&self, stream: &TcpStream, receiver: &dyn Receiver) {
        let Ok(Some(from)) = self.greet(stream) else { return };
        let is_lost = self.read_frames(stream, from, receiver);
        if is_lost && !self.is_stopped.load(Ordering::Acquire) {
            receiver.lost(from);
        }
    }

    /// Whether it was not us who ended it.
    fn read_frames(&self, stream: &TcpStream, from: StoreId, receiver: &dyn Receiver) -> bool {
        let mut frames = BufReader::with_capacity(READ_BYTES, stream);
        loop {
            let packet = match read_frame(&mut frames, FRAME_BYTES_MAX) {
                Ok(Frame::Raft(messages)) => Packet::Raft(messages),
                Ok(Frame::Request { id, body }) => Packet::Request { id, body },
                Ok(Frame::Reply { id, body }) => Packet::Reply { id, body },
                Ok(Frame::Snapshot(message)) => {
                    let timeout = self.config.io_timeout;
                    // Whether the connection breaks matters to nobody but the snapshot.
                    let _ = stream::receive(&mut frames, timeout, from, message, receiver);
                    return false;
                }
                Ok(
                    Frame::Hello(_)
                    | Frame::Refusal(_)
                    | Frame::Piece(_)
                    | Frame::End { .. }
                    | Frame::Verdict(_),
                ) => return false,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let me = self.config.store.0;
                    log::warn!("s{me}: closed a connection from {from:?}: {error}");
                    return false;
                }
                Err(_) => return true,
            };
            // A full inbox drops it; the sender finds out by what does not come back.
            let _ = receiver.receive(from, packet);
        }
    }

    fn say_once(&self, text: String) {
        const REFUSALS_MAX: usize = 64;
        let mut refusals = self.refusals.lock();
        if refusals.len() < REFUSALS_MAX && !refusals.contains(&text) {
            log::warn!("s{}: {text}", self.config.store.0);
            refusals.insert(text);
        }
    }

    /// The handshake. `None` if the connection is not wanted.
    fn greet(&self, mut stream: &TcpStream) -> io::Result<Option<StoreId>> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.config.io_timeout))?;
        stream.set_write_timeout(Some(self.config.io_timeout))?;
        let hello = match read_frame(&mut stream, HELLO_BYTES_MAX) {
            Ok(Frame::Hello(hello)) => hello,
            Ok(_) => return Ok(None),
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    refuse(stream, &error.to_string())?;
                }
                return Err(error);
            }
        };
        let mut answer = BytesMut::new();
        if let Some(why) = self.objection(hello) {
            self.say_once(format!("refused a connection from {:?}: {why}", hello.from));
            refuse(stream, &why)?;
            return Ok(None);
        }
        frame::encode_hello(self.config.hello(hello.from), &mut answer);
        stream.write_all(&answer)?;
        stream.set_read_timeout(None)?;
        Ok(Some(hello.from))
    }

    fn objection(&self, hello: Hello) -> Option<String> {
        let config = &self.config;
        if hello.cluster != config.cluster {
            return Some(format!("this is cluster {}, not {}", config.cluster, hello.cluster));
        }
        if hello.to != config.store {
            return Some(format!("this is store {}, not {}", config.store, hello.to));
        }
        if hello.from == config.store || !config.peers.contains_key(&hello.from) {
            return Some(format!("store {} is not known here", hello.from));
        }
        config.doubts(hello)
    }

    /// Ends the accepting thread.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        // The accepting thread sleeps in the kernel; a connection wakes it.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let wake = SocketAddr::new(ip, self.address.port());
        let _ = TcpStream::connect_timeout(&wake, Duration::from_millis(200));
    }

    /// The reading threads, for whoever ends them; no new ones come after [`Listener::stop`].
    pub(super) fn take_readers(&self) -> Vec<JoinHandle<()>> {
        let connections = std::mem::take(&mut *self.connections.lock());
        let end = |connection: Connection| {
            // It may be gone already.
            let _ = connection.stream.shutdown(Shutdown::Both);
            connection.thread
        };
        connections.into_values().map(end).collect()
    }
}

fn refuse(mut stream: &TcpStream, why: &str) -> io::Result<()> {
    let mut out = BytesMut::new();
    frame::encode_refusal(why, &mut out);
    stream.write_all(&out)
}
