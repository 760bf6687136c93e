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
}

#[derive(Default)]
struct Seen {
    packets: Vec<(StoreId, Packet)>,
    lost: usize,
}

impl Receiver for Mailbox {
    fn receive(&self, from: StoreId, packet: Packet) -> Result<(), SendError> {
        self.seen.lock().packets.push((from, packet));
        self.news.notify_all();
        Ok(())
    }

    fn lost(&self, _store: StoreId) {
        self.seen.lock().lost += 1;
        self.news.notify_all();
    }
}

impl Mailbox {
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
    let mut config = TcpConfig::new(id, cluster, [peer].into());
    config.retry_min = Duration::from_millis(1);
    config.retry_max = Duration::from_millis(20);
    config.queue_bytes_max = 1 << 20;
    let transport = TcpTransport::new(config, listener).expect("bound");
    let mailbox = Arc::new(Mailbox::default());
    transport.start(Arc::clone(&mailbox) as Arc<dyn Receiver>).expect("threads");
    Station { transport, mailbox }
}

/// Two stores that know each other.
fn pair() -> [Station; 2] {
    let (one, two) = (listener(), listener());
    let (to_one, to_two) = (address(&one), address(&two));
    [station(S1, CLUSTER, one, (S2, to_two)), station(S2, CLUSTER, two, (S1, to_one))]
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
        let hello = Hello { cluster: CLUSTER, from: S1, to: S2 };
        let mut stream = greeted(&two, hello);
        let welcome = link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("welcome");
        assert_eq!(welcome, Frame::Hello(Hello { cluster: CLUSTER, from: S2, to: S1 }));
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
    let mut stream = greeted(&two, Hello { cluster: CLUSTER, from: S1, to: S2 });
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
        (Hello { cluster: 78, from: S1, to: S2 }, "this is cluster 77, not 78"),
        (Hello { cluster: CLUSTER, from: S1, to: StoreId(3) }, "this is store 2, not 3"),
        (Hello { cluster: CLUSTER, from: StoreId(9), to: S2 }, "store 9 is not known here"),
        (Hello { cluster: CLUSTER, from: S2, to: S2 }, "store 2 is not known here"),
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
    assert!(one.mailbox.seen.lock().lost > 0);
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

/// A store that accepts and never reads: its queue fills, nobody waits for it.
#[test]
fn the_end_of_a_connection_from_a_store_is_told_too() {
    let [one, two] = pair();
    one.transport.send(S2, request(1)).expect("taken");
    two.mailbox.wait_for(&request(1));
    two.transport.send(S1, request(2)).expect("taken");
    one.mailbox.wait_for(&request(2));
    // From now on both stay connected: only what happens here can be told.
    let before = two.mailbox.seen.lock().lost;
    let hello = Hello { cluster: CLUSTER, from: S1, to: S2 };
    let mut stream = greeted(&two, hello);
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).expect("welcome");
    assert_eq!(two.mailbox.seen.lock().lost, before);
    drop(stream);
    two.mailbox.wait("the loss", |seen| seen.lost > before);
    // Its own connection there was given up with it, and is made again.
    let mut id = 3;
    while two.transport.send(S1, request(id)).is_err() {
        std::thread::yield_now();
        id += 1;
    }
    assert_ne!(id, 3, "nothing is sent over a connection in doubt");
    one.mailbox.wait_for(&request(id));
    one.transport.stop();
    two.transport.stop();
}

#[test]
fn a_dead_peer_blocks_nobody() {
    let (mine, dead) = (listener(), listener());
    let one = station(S1, CLUSTER, mine, (S2, address(&dead)));
    let (mut stream, _) = dead.accept().expect("connects");
    link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("hello");
    let mut out = BytesMut::new();
    frame::encode_hello(Hello { cluster: CLUSTER, from: S2, to: S1 }, &mut out);
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
