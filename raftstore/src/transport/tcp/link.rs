//! The connection to one other store: a queue and the thread that empties it.
//!
//! A small packet that nothing is before is written by whoever sends it, as far as the socket takes
//! it at once: to wake the thread would cost more, and come later. The lock on the [`Pipe`] keeps the
//! order: the thread has it from before it takes packets off the queue until they are written.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::net::SendFlags;

use super::TcpConfig;
use crate::codec::frame::{self, FRAME_HEADER_BYTES, Frame, HELLO_BYTES_MAX};
use crate::region::StoreId;
use crate::transport::queue::{Queue, Refused, Woken};
use crate::transport::{Packet, Receiver, SendError};

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Larger packets are left to the thread: to encode them takes longer than to wake it.
const AT_ONCE_BYTES_MAX: usize = 4 << 10;

/// A connection to one store, made again whenever it breaks.
pub(super) struct Link {
    config: Arc<TcpConfig>,
    to: StoreId,
    address: String,
    queue: Queue<Packet>,
    /// There is no connection, or none that is likely to work. Changed under the lock of `stream`.
    is_down: AtomicBool,
    /// The connection, to be shut down from another thread; `None` as soon as that is done.
    stream: Mutex<Option<TcpStream>>,
    /// The connection, to be written to.
    pipe: Mutex<Option<Pipe>>,
}

/// A connection, in the hands of whoever writes.
struct Pipe {
    stream: TcpStream,
    /// Encoded and not written yet; before anything else.
    out: BytesMut,
}

impl Link {
    pub(super) fn new(config: Arc<TcpConfig>, to: StoreId, address: String) -> Link {
        let queue = Queue::new([config.queue_bytes_max, 0]);
        let (stream, pipe) = (Mutex::new(None), Mutex::new(None));
        Link { config, to, address, queue, is_down: AtomicBool::new(false), stream, pipe }
    }

    pub(super) fn send(&self, packet: Packet) -> Result<(), SendError> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(SendError::Unreachable);
        }
        let weight = packet.size_hint();
        let packet = match weight {
            0..=AT_ONCE_BYTES_MAX => self.send_at_once(packet),
            _ => Some(packet),
        };
        packet.map_or(Ok(()), |packet| self.queue.offer(packet, 0, weight)).map_err(|refused| {
            match refused {
                Refused::Full(_) => SendError::Full,
                Refused::Closed(_) => SendError::Unreachable,
            }
        })
    }

    /// Writes a packet without waiting for anything; gives it back if it has to be queued.
    fn send_at_once(&self, packet: Packet) -> Option<Packet> {
        let Some(mut pipe) = self.pipe.try_lock() else { return Some(packet) };
        let is_free = |pipe: &&mut Pipe| pipe.out.is_empty() && self.queue.is_idle();
        let Some(pipe) = pipe.as_mut().filter(is_free) else { return Some(packet) };
        encode(packet, &mut pipe.out);
        if !pipe.write_some() {
            // The rest is for the thread to write, and an error for it to find. If nothing is
            // taken on any more, it looks before it ends.
            let _ = self.queue.push(Packet::Raft(Vec::new()));
        }
        None
    }

    /// Takes nothing on any more. What is queued is still sent.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Breaks the connection, and with it a write that does not get on.
    pub(super) fn cut(&self) {
        let mut stream = self.stream.lock();
        self.is_down.store(true, Ordering::Relaxed);
        if let Some(stream) = stream.take() {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// A connection is made: packets are taken on. Not if it was broken since, or it would be
    /// believed in until a packet is lost in it.
    fn raise(&self) -> Result<(), Broken> {
        let stream = self.stream.lock();
        self.is_down.store(stream.is_none(), Ordering::Relaxed);
        stream.as_ref().map(|_| ()).ok_or(Broken)
    }

    /// The other store's connection to us has ended, so this one is likely dead, too, which only a
    /// write would show: breaks it, and refuses packets until there is another one.
    pub(super) fn doubt(&self) {
        self.cut();
        // Wakes the thread. A link that is stopped needs no more.
        let _ = self.queue.push(Packet::Raft(Vec::new()));
    }

    /// Connects, sends what is queued, connects again, until closed.
    pub(super) fn run(&self, receiver: &dyn Receiver) {
        let mut pause = self.config.retry_min;
        let mut refused = String::new();
        loop {
            match self.connect() {
                Ok(stream) => {
                    pause = self.config.retry_min;
                    if self.raise().and_then(|()| self.serve(stream)) == Ok(()) {
                        return;
                    }
                }
                Err(Refusal::Io) => {}
                Err(Refusal::Unwanted(why)) => {
                    if why != refused {
                        log::warn!(
                            "s{}: no connection to {:?}: {why}",
                            self.config.store.0,
                            self.to
                        );
                        refused = why;
                    }
                    pause = self.config.retry_max;
                }
            }
            self.cut();
            receiver.lost(self.to);
            if self.queue.sleep(Instant::now() + pause) {
                return;
            }
            pause = (2 * pause).min(self.config.retry_max);
            // What was queued before the connection broke is stale by now.
            let mut stale = Vec::new();
            let _ = self.queue.take(&mut stale, Some(Instant::now()));
        }
    }

    fn connect(&self) -> Result<TcpStream, Refusal> {
        connect(&self.config, self.to, &self.address, |stream| {
            *self.stream.lock() = Some(stream.try_clone()?);
            Ok(())
        })
    }

    /// A connection of its own for a snapshot; `open` is told of its socket, as in [`connect`].
    pub(super) fn connect_beside(
        &self,
        open: impl FnOnce(&TcpStream) -> io::Result<()>,
    ) -> Result<TcpStream, SendError> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(SendError::Unreachable);
        }
        connect(&self.config, self.to, &self.address, open).map_err(|_| SendError::Unreachable)
    }

    /// Sends until the connection breaks (an error) or the link is stopped.
    fn serve(&self, stream: TcpStream) -> Result<(), Broken> {
        let out = BytesMut::with_capacity(WRITE_BYTES);
        *self.pipe.lock() = Some(Pipe { stream, out });
        let mut packets = Vec::new();
        let mut woken = Woken::Items;
        let mut outcome = Ok(());
        while woken == Woken::Items && outcome.is_ok() {
            woken = self.queue.wait(None);
            let mut pipe = self.pipe.lock();
            self.queue.take_more(&mut packets);
            outcome = match pipe.as_mut() {
                Some(pipe) if !self.is_down.load(Ordering::Relaxed) => pipe.write(&mut packets),
                _ => Err(Broken),
            };
        }
        *self.pipe.lock() = None;
        outcome
    }
}

impl Pipe {
    /// Writes what the socket takes at once; whether that was all.
    fn write_some(&mut self) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Ok(written) = rustix::net::send(&self.stream, &self.out, flags) {
            self.out.advance(written);
        }
        self.out.is_empty()
    }

    /// Writes all of it, however long the socket takes.
    fn write(&mut self, packets: &mut Vec<Packet>) -> Result<(), Broken> {
        for packet in packets.drain(..) {
            encode(packet, &mut self.out);
            if self.out.len() >= WRITE_BYTES {
                self.write_out()?;
            }
        }
        self.write_out()
    }

    fn write_out(&mut self) -> Result<(), Broken> {
        self.stream.write_all(&self.out).map_err(|_| Broken)?;
        self.out.clear();
        Ok(())
    }
}

/// Connects to store `to`; `open` gets the socket before anything is waited for on it, so that
/// somebody else may break it.
fn connect(
    config: &TcpConfig,
    to: StoreId,
    address: &str,
    open: impl FnOnce(&TcpStream) -> io::Result<()>,
) -> Result<TcpStream, Refusal> {
    let timeout = config.io_timeout;
    let mut connected = Err(Refusal::Io);
    for address in address.to_socket_addrs()? {
        connected = TcpStream::connect_timeout(&address, timeout).map_err(Refusal::from);
        if connected.is_ok() {
            break;
        }
    }
    let mut stream = connected?;
    open(&stream)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut hello = BytesMut::new();
    frame::encode_hello(config.hello(to), &mut hello);
    stream.write_all(&hello)?;
    match read_frame(&mut stream, HELLO_BYTES_MAX)? {
        Frame::Hello(answer)
            if (answer.cluster, answer.from, answer.to) == (config.cluster, to, config.store) =>
        {
            // It took us for whom it knows; whether it is whom we know, it can't say.
            config.doubts(answer).map_or(Ok(stream), |why| Err(Refusal::Unwanted(why)))
        }
        Frame::Refusal(why) => Err(Refusal::Unwanted(format!("it says: {why}"))),
        _ => Err(Refusal::Unwanted("it answers as somebody else".to_owned())),
    }
}

fn encode(packet: Packet, out: &mut BytesMut) {
    match packet {
        Packet::Raft(messages) => frame::encode_messages(&messages, out),
        Packet::Request { id, body } => frame::encode_request(id, &body, out),
        Packet::Reply { id, body } => frame::encode_reply(id, &body, out),
    }
}

/// The connection broke while it was used.
#[derive(Debug, PartialEq, Eq)]
struct Broken;

/// Why there is no connection.
enum Refusal {
    /// Nobody is there, or it broke.
    Io,
    /// The other side does not want us, or is not whom we want.
    Unwanted(String),
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Refusal {
        Refusal::Io
    }
}

/// Reads one frame of at most `max` bytes.
pub(super) fn read_frame(from: &mut impl Read, max: usize) -> io::Result<Frame> {
    let mut header = [0; FRAME_HEADER_BYTES];
    from.read_exact(&mut header)?;
    let invalid = |e| io::Error::new(io::ErrorKind::InvalidData, e);
    let (len, sum) = frame::decode_header(header, max).map_err(invalid)?;
    let mut content = vec![0; len];
    from.read_exact(&mut content)?;
    frame::decode_frame(Bytes::from(content), sum).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::codec::frame::Hello;

    /// A link, the packets of which come out of the stream.
    fn connected() -> (Link, TcpStream, TcpStream) {
        let (me, other) = (StoreId(1), StoreId(2));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let config = TcpConfig::new(me, 7, [(other, address.clone())].into());
        let link = Link::new(Arc::new(config), other, address);
        let greets = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("connects");
            read_frame(&mut stream, HELLO_BYTES_MAX).expect("hello");
            let mut out = BytesMut::new();
            frame::encode_hello(Hello { cluster: 7, from: other, generation: 0, to: me }, &mut out);
            stream.write_all(&out).expect("connected");
            stream
        });
        let Ok(made) = link.connect() else { panic!("the handshake fails") };
        (link, made, greets.join().expect("no panic"))
    }

    /// Between the end of the handshake and the first packet the other store's connection ends:
    /// this one is broken, and is not to be taken for one that works.
    #[test]
    fn a_connection_in_doubt_before_its_first_packet_is_not_used() {
        let (link, _made, _held) = connected();
        assert_eq!(link.raise(), Ok(()));
        link.doubt();
        assert_eq!(link.raise(), Err(Broken), "it was broken");
        let packet = Packet::Raft(Vec::new());
        assert_eq!(link.send(packet), Err(SendError::Unreachable));
    }

    /// A large packet waits for the thread, which takes a while to wake up; here it does not run at
    /// all. The pipe is free meanwhile, and yet not for small packets behind that one.
    #[test]
    fn a_small_packet_does_not_overtake_a_large_one() {
        let (link, made, mut out) = connected();
        assert_eq!(link.raise(), Ok(()));
        let stream = made.try_clone().expect("a socket");
        *link.pipe.lock() = Some(Pipe { stream, out: BytesMut::new() });
        let send = |id, len| {
            let body = Bytes::from(vec![0; len]);
            assert_eq!(link.send(Packet::Request { id, body }), Ok(()));
        };
        let mut expect = |expected: u64| match read_frame(&mut out, WRITE_BYTES) {
            Ok(Frame::Request { id, .. }) => assert_eq!(id, expected),
            other => panic!("{other:?}"),
        };
        send(0, 1);
        assert!(link.queue.is_empty(), "nothing is before it");
        expect(0);
        send(1, AT_ONCE_BYTES_MAX + 1);
        send(2, 1);
        link.close();
        assert_eq!(link.serve(made), Ok(()));
        expect(1);
        expect(2);
    }

    /// More than sockets hold, to a store that reads nothing meanwhile: the sender never waits,
    /// and packets come in their order, whoever writes them.
    #[test]
    fn small_and_large_packets_keep_their_order() {
        const PACKETS: u64 = 4_000;
        let (link, made, mut out) = connected();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| link.raise().and_then(|()| link.serve(made)));
            for id in 0..PACKETS {
                let len = if id % 7 == 0 { AT_ONCE_BYTES_MAX + 1 } else { AT_ONCE_BYTES_MAX / 2 };
                let body = Bytes::from(vec![id as u8; len]);
                assert_eq!(link.send(Packet::Request { id, body }), Ok(()));
            }
            link.close();
            for expected in 0..PACKETS {
                match read_frame(&mut out, WRITE_BYTES).expect("a frame") {
                    Frame::Request { id, body } => {
                        assert_eq!((id, body[0]), (expected, expected as u8));
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(sender.join().expect("no panic"), Ok(()));
        });
        assert_eq!(link.send(Packet::Raft(Vec::new())), Err(SendError::Unreachable), "closed");
    }
}
