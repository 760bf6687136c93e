//! Stores that come back without their data (museum M12).

use super::*;
use crate::disk::{Acquaintances, ClusterId, Identity, SimDisk};

/// Store 2's own.
const GENERATION: u64 = 22;

fn acquaintances() -> Arc<Acquaintances> {
    let own = Identity { store: S2, cluster: ClusterId(CLUSTER), generation: GENERATION };
    let known = Acquaintances::open(SimDisk::new(1).mount(), own, [].into());
    Arc::new(known.expect("an empty disk"))
}

fn hello(generation: u64) -> Hello {
    Hello { cluster: CLUSTER, from: S1, generation, to: S2 }
}

#[test]
fn m12_who_connects_without_the_data_it_had_is_refused() {
    let (one, two) = (listener(), listener());
    let two = station(S2, CLUSTER, two, (S1, address(&one)));
    two.transport.introduce(acquaintances()).expect("nobody is known");
    let answer = |generation| {
        let mut stream = greeted(&two, hello(generation));
        link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("an answer")
    };
    let welcome = Hello { cluster: CLUSTER, from: S2, generation: GENERATION, to: S1 };
    assert_eq!(answer(11), Frame::Hello(welcome));
    let Frame::Refusal(why) = answer(12) else { panic!("it is welcome") };
    assert!(why.starts_with("store 1 has lost its data"), "{why}");
    assert_eq!(answer(11), Frame::Hello(welcome));
    two.transport.stop();
}

#[test]
fn m12_who_answers_without_the_data_it_had_is_sent_nothing() {
    let (one, two) = (listener(), listener());
    let config = TcpConfig::new(S2, CLUSTER, [(S1, address(&one))].into());
    let two = TcpTransport::new(config, two).expect("bound");
    two.introduce(acquaintances()).expect("nobody is known");
    two.start(Mailbox::shared()).expect("threads");
    // Store 1, by hand: it is connected to, and answers as with data of that generation.
    let answered = |generation| {
        let (mut stream, _) = one.accept().expect("it connects");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        let asked = link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("hello");
        assert!(matches!(asked, Frame::Hello(Hello { from: S2, to: S1, .. })), "{asked:?}");
        let mut out = BytesMut::new();
        frame::encode_hello(Hello { from: S1, to: S2, generation, cluster: CLUSTER }, &mut out);
        stream.write_all(&out).expect("connected");
        stream
    };
    let mut stream = answered(11);
    while two.send(S1, request(1)).is_err() {
        std::thread::yield_now();
    }
    let asked = link::read_frame(&mut stream, HELLO_BYTES_MAX).expect("a request");
    assert!(matches!(asked, Frame::Request { id: 1, .. }), "{asked:?}");
    drop(stream);
    // What shows that a connection is gone is a write.
    while two.send(S1, request(2)).is_ok() {
        std::thread::yield_now();
    }
    assert!(is_closed(&mut answered(12)));
    two.stop();
}
