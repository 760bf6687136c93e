mod acquaintances;

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Bytes, BytesMut};
use parking_lot::Condvar;
use raft::{Body, Message, NodeId};

use super::*;
use crate::codec::frame::{self, FRAME_BYTES_MAX, Frame, HELLO_BYTES_MAX, Hello};
use crate::codec::message::PeerMessage;
use crate::region::{Epoch, RegionId};

const S1: StoreId = StoreId(1);
const S2: StoreId = StoreId(2);
const CLUSTER: u64 = 77;
/// Far beyond what anything here takes; reaching it is a failure.
const LONG: Duration = Duration::from_secs(30);

/// What arrived at a store.
#[derive(Default)]
struct Mailbox {
    seen: Mutex<Seen>,
    news: Condvar,
    me: std::sync::OnceLock<std::sync::Weak<Mailbox>>,
}

/// Puts the pieces of a snapshot together. A piece that says "no" is not wanted.
struct Collected {
    at: Arc<Mailbox>,
    from: StoreId,
    message: PeerMessage,
    bytes: Vec<u8>,
    ended: bool,
}

impl SnapshotSink for Collected {
    fn piece(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.bytes.extend_from_slice(bytes);
        if bytes == b"no" { Err(SendError::Refused) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>, bytes: u64, crc: u32) -> Result<(), SendError> {
        if (self.bytes.len() as u64, crc32fast::hash(&self.bytes)) != (bytes, crc) {
            return Err(SendError::Refused);
        }
        self.ended = true;
        let whole = (self.from, self.message.clone(), std::mem::take(&mut self.bytes));
        self.at.seen.lock().snapshots.push(whole);
        self.at.news.notify_all();
        Ok(())
    }
}

impl std::ops::Drop for Collected {
    fn drop(&mut self) {
        self.at.seen.lock().broken += usize::from(!self.ended);
        self.at.news.notify_all();
    }
}

#[derive(Default)]
struct Seen {
    packets: Vec<(StoreId, Packet)>,
    lost: usize,
    /// Snapshots that came to their end, with all their bytes.
    snapshots: Vec<(StoreId, PeerMessage, Vec<u8>)>,
    /// Snapshots that did not.
    broken: usize,
}

impl Receiver for Mailbox {
    fn receive(&self, from: StoreId, packet: Packet) -> Result<(), SendError> {
        self.seen.lock().packets.push((from, packet));
        self.news.notify_all();
        Ok(())
    }

    fn snapshot(
        &self,
        from: StoreId,
        message: PeerMessage,
    ) -> Result<Box<dyn SnapshotSink>, SendError> {
        Ok(Box::new(Collected { at: self.me(), from, message, bytes: Vec::new(), ended: false }))
    }

    fn lost(&self, _store: StoreId) {
        self.seen.lock().lost += 1;
        self.news.notify_all();
    }
}

impl Mailbox {
    /// One that snapshots can hold on to.
    fn shared() -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.me.set(Arc::downgrade(&mailbox)).expect("set once");
        mailbox
    }

    fn me(&self) -> Arc<Mailbox> {
        self.me.get().and_then(std::sync::Weak::upgrade).expect("it is in use")
    }

    fn wait(&self, what: &str, is_there: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + LONG;
        let mut seen = self.seen.lock();
        while !is_there(&seen) {
            let late = self.news.wait_until(&mut seen, deadline).timed_out();
            assert!(!late, "waited in vain for {what}");
        }
    }

    fn wait_for(&self, packet: &Packet) {
        self.wait("a packet", |seen| seen.packets.iter().any(|(_, p)| p == packet));
    }
}

struct Station {
    transport: TcpTransport,
    mailbox: Arc<Mailbox>,
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().expect("bound").to_string()
}

/// Store `id`, which knows one other.
fn station(id: StoreId, cluster: u64, listener: TcpListener, peer: (StoreId, String)) -> Station {
    station_retrying(id, cluster, listener, peer, Duration::from_millis(1))
}

/// The same, which waits for so long before it connects again.
fn station_retrying(
    id: StoreId,
    cluster: u64,
    listener: TcpListener,
    peer: (StoreId, String),
    retry: Duration,
) -> Station {
    let mut config = TcpConfig::new(id, cluster, [peer].into());
    config.retry_min = retry;
    config.retry_max = 20 * retry;
    config.io_timeout = LONG;
    config.queue_bytes_max = 1 << 20;
    let transport = TcpTransport::new(config, listener).expect("bound");
    let mailbox = Mailbox::shared();
    transport.start(Arc::clone(&mailbox) as Arc<dyn Receiver>).expect("threads");
    Station { transport, mailbox }
}

/// Two stores that know each other.
fn pair() -> [Station; 2] {
    pair_retrying(Duration::from_millis(1))
}

fn pair_retrying(retry: Duration) -> [Station; 2] {
    let (one, two) = (listener(), listener());
    let (to_one, to_two) = (address(&one), address(&two));
    [
        station_retrying(S1, CLUSTER, one, (S2, to_two), retry),
        station_retrying(S2, CLUSTER, two, (S1, to_one), retry),
    ]
}

fn request(id: u64) -> Packet {
    Packet::Request { id, body: Bytes::from(format!("request {id}")) }
}

fn heartbeat(commit: u64) -> PeerMessage {
    let node = |id| NodeId::new(id).expect("not zero");
    let body = Body::Heartbeat { commit, read: 0 };
    let message = Message { from: node(1), to: node(2), term: 1, body };
    PeerMessage { region: RegionId(1), epoch: Epoch::default(), message }
}

/// A connection to `station` that has said hello like `from` would.
fn greeted(station: &Station, hello: Hello) -> TcpStream {
    let mut stream = TcpStream::connect(station.transport.address()).expect("listening");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let mut out = BytesMut::new();
    frame::encode_hello(hello, &mut out);
    stream.write_all(&out).expect("connected");
    stream
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is an end, too: what we sent last may not have been read.
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn packets_travel_both_ways_in_order() {
    let [one, two] = pair();
    let messages: Vec<_> = (0..100).map(heartbeat).collect();
    one.transport.send(S2, Packet::Raft(messages.clone())).expect("taken");
    one.transport.send(S2, request(1)).expect("taken");
    two.mailbox.wait_for(&request(1));
    let reply = Packet::Reply { id: 1, body: Bytes::from_static(b"done") };
    two.transport.send(S1, reply.clone()).expect("taken");
    one.mailbox.wait_for(&reply);
    let expected = vec![(S1, Packet::Raft(messages)), (S1, request(1))];
    assert_eq!(two.mailbox.seen.lock().packets, expected);
    one.transport.stop();
    two.transport.stop();
}

#[test]
fn garbage_closes_its_own_connection_only() {
    let [one, two] = pair();
    one.transport.send(S2, request(1)).expect("taken");
    two.mailbox.wait_for(&request(1));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let mut stream = TcpStream::connect(two.transport.address()).expect("listening");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        stream.write_all(garbage).expect("connected");
        assert!(is_closed(&mut stream), "{garbage:?}");
        // The same after a good handshake.
        let hello = Hello { cluster: CLUSTER, from: S1, generation: 0, to: S2 };
        let mut stream = greeted(&two, hello);
        let welcome = link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("welcome");
        assert_eq!(
            welcome,
            Frame::Hello(Hello { cluster: CLUSTER, from: S2, generation: 0, to: S1 })
        );
        stream.write_all(garbage).expect("connected");
        assert!(is_closed(&mut stream), "{garbage:?}");
    }
    one.transport.send(S2, request(2)).expect("taken");
    two.mailbox.wait_for(&request(2));
    one.transport.stop();
    two.transport.stop();
}

#[test]
fn a_frame_beyond_the_limit_is_not_even_read() {
    let [one, two] = pair();
    let mut stream = greeted(&two, Hello { cluster: CLUSTER, from: S1, generation: 0, to: S2 });
    link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("welcome");
    let len = FRAME_BYTES_MAX as u32 + 1;
    stream.write_all(&[len.to_le_bytes(), [0; 4]].concat()).expect("connected");
    assert!(is_closed(&mut stream));
    let large = Packet::Request { id: 1, body: vec![0; SERVICE_BYTES_MAX + 1].into() };
    assert_eq!(one.transport.send(S2, large), Err(SendError::TooLarge));
    one.transport.stop();
    two.transport.stop();
}

#[test]
fn strangers_are_told_why_they_are_refused() {
    let [one, two] = pair();
    let hellos = [
        (Hello { cluster: 78, from: S1, generation: 0, to: S2 }, "this is cluster 77, not 78"),
        (
            Hello { cluster: CLUSTER, from: S1, generation: 0, to: StoreId(3) },
            "this is store 2, not 3",
        ),
        (
            Hello { cluster: CLUSTER, from: StoreId(9), generation: 0, to: S2 },
            "store 9 is not known here",
        ),
        (Hello { cluster: CLUSTER, from: S2, generation: 0, to: S2 }, "store 2 is not known here"),
    ];
    for (hello, why) in hellos {
        let mut stream = greeted(&two, hello);
        let answer = link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("an answer");
        assert_eq!(answer, Frame::Refusal(why.to_owned()));
        assert!(is_closed(&mut stream));
    }
    one.transport.stop();
    two.transport.stop();
}

#[test]
fn a_store_of_another_cluster_is_unreachable() {
    let (one, two) = (listener(), listener());
    let (to_one, to_two) = (address(&one), address(&two));
    let one = station(S1, CLUSTER, one, (S2, to_two));
    let two = station(S2, CLUSTER + 1, two, (S1, to_one));
    one.mailbox.wait("a refusal", |seen| seen.lost > 0);
    assert_eq!(one.transport.send(S2, request(1)), Err(SendError::Unreachable));
    assert_eq!(one.transport.send(StoreId(3), request(1)), Err(SendError::Unknown));
    one.transport.stop();
    two.transport.stop();
    assert_eq!(two.mailbox.seen.lock().packets, []);
}

#[test]
fn a_broken_connection_is_made_again() {
    let [one, two] = pair();
    one.transport.send(S2, request(1)).expect("taken");
    two.mailbox.wait_for(&request(1));
    let port = two.transport.address();
    let to_one = one.transport.address().to_string();
    two.transport.stop();
    drop(two);
    // Sending finds out; then nothing is taken on until there is a connection again.
    let deadline = Instant::now() + LONG;
    while one.transport.send(S2, request(2)) != Err(SendError::Unreachable) {
        assert!(Instant::now() < deadline, "the loss goes unnoticed");
        std::thread::yield_now();
    }
    one.mailbox.wait("the loss", |seen| seen.lost > 0);
    let again = TcpListener::bind(port).expect("the port is free again");
    let two = station(S2, CLUSTER, again, (S1, to_one));
    while one.transport.send(S2, request(3)).is_err() {
        assert!(Instant::now() < deadline, "no new connection");
        std::thread::yield_now();
    }
    two.mailbox.wait_for(&request(3));
    one.transport.stop();
    two.transport.stop();
}

/// A connection to `to` that says it is S1's, and ends. Gives how many losses `to` had seen before.
fn come_and_go(to: &Station) -> usize {
    let mut stream = greeted(to, Hello { cluster: CLUSTER, from: S1, generation: 0, to: S2 });
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).expect("welcome");
    let before = to.mailbox.seen.lock().lost;
    drop(stream);
    before
}

/// Two stores that each have a connection to the other.
fn connected(retry: Duration) -> [Station; 2] {
    let [one, two] = pair_retrying(retry);
    one.transport.send(S2, request(1)).expect("taken");
    two.mailbox.wait_for(&request(1));
    two.transport.send(S1, request(2)).expect("taken");
    one.mailbox.wait_for(&request(2));
    [one, two]
}

#[test]
fn the_end_of_a_connection_from_a_store_is_told_too() {
    // Longer than any test: whoever is disconnected stays so.
    let [one, two] = connected(Duration::from_secs(3600));
    let before = come_and_go(&two);
    assert_eq!(before, 0, "both stay connected: only what happens here can be told");
    two.mailbox.wait("the loss", |seen| seen.lost > before);
    let doubted = two.transport.send(S1, request(3));
    assert_eq!(doubted, Err(SendError::Unreachable), "its own was given up with it");
    one.transport.stop();
    two.transport.stop();
}

#[test]
fn a_connection_in_doubt_is_made_again() {
    let [one, two] = connected(Duration::from_millis(1));
    let before = come_and_go(&two);
    two.mailbox.wait("the loss", |seen| seen.lost > before);
    // The other end hears of it, too, and gives up its own: what is sent until both are there again
    // may be lost.
    let deadline = Instant::now() + LONG;
    let is_new =
        |(_, packet): &(StoreId, Packet)| matches!(packet, Packet::Request { id: 3.., .. });
    for id in 3.. {
        let _ = two.transport.send(S1, request(id));
        if one.mailbox.seen.lock().packets.iter().any(is_new) {
            break;
        }
        assert!(Instant::now() < deadline, "no new connection");
        std::thread::yield_now();
    }
    one.transport.stop();
    two.transport.stop();
}

/// A store that accepts and never reads: its queue fills, nobody waits for it.
#[test]
fn a_dead_peer_blocks_nobody() {
    let (mine, dead) = (listener(), listener());
    let one = station(S1, CLUSTER, mine, (S2, address(&dead)));
    let (mut stream, _) = dead.accept().expect("connects");
    link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("hello");
    let mut out = BytesMut::new();
    frame::encode_hello(Hello { cluster: CLUSTER, from: S2, generation: 0, to: S1 }, &mut out);
    stream.write_all(&out).expect("connected");
    let body = Bytes::from(vec![0; 64 << 10]);
    let deadline = Instant::now() + LONG;
    let mut taken = 0;
    loop {
        match one.transport.send(S2, Packet::Request { id: taken, body: body.clone() }) {
            Ok(()) => taken += 1,
            Err(error) => {
                assert_eq!(error, SendError::Full);
                break;
            }
        }
        assert!(Instant::now() < deadline, "{taken} packets are taken on");
    }
    let started = Instant::now();
    one.transport.stop();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

fn announced() -> PeerMessage {
    let meta = raft::SnapshotMeta { last: raft::LogId::new(2, 9), ..Default::default() };
    let snapshot = Box::new(raft::Snapshot { meta, ..Default::default() });
    PeerMessage {
        message: Message { body: Body::InstallSnapshot { snapshot }, ..heartbeat(0).message },
        ..heartbeat(0)
    }
}

/// A way for a snapshot to S2, once there is a connection.
fn way(station: &Station) -> Box<dyn SnapshotStream> {
    let deadline = Instant::now() + LONG;
    loop {
        match station.transport.snapshot(S2, announced()) {
            Ok(stream) => return stream,
            Err(why) => assert!(Instant::now() < deadline, "no connection: {why}"),
        }
        std::thread::yield_now();
    }
}

/// A snapshot arrives whole over a connection of its own, packets go on beside it, and the sender
/// hears that it is there.
#[test]
fn a_snapshot_travels_beside_the_packets() {
    let [a, b] = pair();
    let pieces = [vec![1; 3], vec![2; 300 << 10], Vec::new(), vec![3; 1]];
    let whole = pieces.concat();
    let mut stream = way(&a);
    for (number, piece) in (0..).zip(&pieces) {
        stream.piece(piece).expect("it goes on");
        a.transport.send(S2, request(number)).expect("there is a connection");
        b.mailbox.wait_for(&request(number));
    }
    assert_eq!(stream.finish(whole.len() as u64, crc32fast::hash(&whole)), Ok(()));
    let seen = b.mailbox.seen.lock();
    assert_eq!(seen.snapshots, [(S1, announced(), whole)]);
    assert_eq!((seen.broken, seen.lost), (0, 0));
}

/// Whatever is not wanted, not whole, or broken off is told to both ends, and to nobody as a loss of
/// the store.
#[test]
fn a_snapshot_that_fails_fails_for_both() {
    let [a, b] = pair();
    let mut stream = way(&a);
    stream.piece(b"something").expect("it goes on");
    assert_eq!(stream.finish(9, 0), Err(SendError::Refused), "another checksum");
    b.mailbox.wait("the first to end", |seen| seen.broken == 1);

    let mut stream = way(&a);
    // It may find the connection closed before it comes to the end.
    let refused = stream.piece(b"no").and_then(|()| stream.finish(2, crc32fast::hash(b"no")));
    assert!(refused.is_err(), "not wanted");
    b.mailbox.wait("the second to end", |seen| seen.broken == 2);

    let mut stream = way(&a);
    stream.piece(b"half of it").expect("it goes on");
    drop(stream);
    b.mailbox.wait("the third to end", |seen| seen.broken == 3);
    a.transport.send(S2, request(1)).expect("the other connection is as it was");
    b.mailbox.wait_for(&request(1));
    let seen = b.mailbox.seen.lock();
    assert_eq!((seen.snapshots.len(), seen.lost), (0, 0));
}

/// A store that stops breaks off what it sends.
#[test]
fn stopping_breaks_a_snapshot_off() {
    let [a, b] = pair();
    let mut stream = way(&a);
    stream.piece(b"half of it").expect("it goes on");
    a.transport.stop();
    b.mailbox.wait("its end", |seen| seen.broken == 1);
    assert!(stream.finish(10, crc32fast::hash(b"half of it")).is_err());
}
