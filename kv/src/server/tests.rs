//! The server over real sockets, byte for byte, in front of a map in memory.

mod client;
mod commands;
mod memory;
mod pipelines;
mod sessions;

use std::time::Duration;

use client::{Running, command};
use raftstore::{Refusal, Unknown};

use crate::answer::Error;
use crate::limits;
use crate::server::Options;

#[test]
fn a_pipeline_is_one_request_and_is_answered_in_order() {
    let server = Running::start();
    let mut client = server.client();
    let mut text = Vec::new();
    let mut expected = Vec::new();
    for i in 0..300 {
        text.extend(command(&[b"SET", format!("k{i}").as_bytes(), b"v"]));
        text.extend(b"PING\r\nINCR n\r\n");
        expected.extend(format!("+OK\r\n+PONG\r\n:{}\r\n", i + 1).bytes());
    }
    client.send(&text);
    client.expect(&expected);
    let requests = server.memory.requests();
    assert_eq!(requests.iter().map(|r| r.0).sum::<usize>(), 600);
    assert!(requests.len() < 20, "{} requests for one write of the client", requests.len());
}

#[test]
fn a_read_behind_a_write_sees_it_and_a_read_before_does_not() {
    let server = Running::start();
    let mut client = server.client();
    client.send("GET k\r\nSET k 1\r\nGET k\r\nDEL k\r\nGET k\r\n");
    client.expect("$-1\r\n+OK\r\n$1\r\n1\r\n:1\r\n$-1\r\n");
    let large = vec![b'x'; limits::VALUE_BYTES_MAX];
    client.command(&[b"SET", b"large", &large]);
    client.expect("+OK\r\n");
    let one = [format!("${}\r\n", large.len()).as_bytes(), &large, b"\r\n"].concat();
    client.send("SET a 1\r\nGET large\r\n".repeat(10));
    client.expect([b"+OK\r\n", one.as_slice()].concat().repeat(10));
}

#[test]
fn large_answers_are_asked_for_again_in_parts() {
    let server = Running::start();
    let mut client = server.client();
    let large = vec![b'x'; limits::VALUE_BYTES_MAX];
    client.command(&[b"SET", b"large", &large]);
    client.expect("+OK\r\n");
    client.send([b"PING\r\n", &b"GET large\r\n".repeat(10)[..]].concat());
    let one = [format!("${}\r\n", large.len()).as_bytes(), &large, b"\r\n"].concat();
    client.expect([b"+PONG\r\n", &one.repeat(10)[..]].concat());
    client.send("MGET large large large large large\r\nPING\r\n");
    client.expect("-ERR the request asks for too much at once\r\n+PONG\r\n");
}

/// Each of them is within the limits, so none is to be refused for what it is put together with.
#[test]
fn no_more_is_put_together_than_a_request_may_hold() {
    let server = Running::start();
    server.memory.hold();
    let (mut client, mut witness) = (server.client(), server.client());
    let many = command(&vec![&b"DEL"[..]; limits::OPS_MAX / 2 + 2]);
    let text = [b"SET DEL 1\r\n", &many[..], &many[..], b"PING\r\n"].concat();
    client.send(&text);
    // All of it comes while the first waits for its answer; so does what the witness asks.
    let (question, mut bytes) = ("INFO stats\r\n", text.len());
    loop {
        witness.send(question);
        bytes += question.len();
        let info = witness.string();
        let came = info.lines().find_map(|l| l.strip_prefix("total_net_input_bytes:")).unwrap();
        if came.parse::<usize>().unwrap() >= bytes {
            break;
        }
    }
    server.memory.release();
    client.expect("+OK\r\n:1\r\n:0\r\n+PONG\r\n");
    let requests = server.memory.requests();
    assert!(requests.iter().all(|(ops, _)| *ops <= limits::OPS_MAX), "{requests:?}");
}

#[test]
fn answers_of_several_connections_do_not_wait_for_each_other() {
    let server = Running::start();
    server.memory.hold();
    let mut first = server.client();
    let mut second = server.client();
    first.send("SET k 1\r\nPING\r\n");
    second.send("PING\r\nSET j 1\r\n");
    second.expect("+PONG\r\n");
    while server.memory.held() < 2 {
        std::thread::yield_now();
    }
    first.send("GET k\r\n");
    server.memory.release();
    second.expect("+OK\r\n");
    first.expect("+OK\r\n+PONG\r\n$1\r\n1\r\n");
}

/// A connection that is reset leaves its place to the next one while its request is in flight.
#[test]
fn an_answer_for_a_connection_that_is_gone_reaches_nobody() {
    let server = Running::start();
    server.memory.hold();
    let mut gone = server.client();
    gone.send("PING\r\nSET k v\r\n");
    while server.memory.held() < 1 {
        std::thread::yield_now();
    }
    // Closing with an answer unread resets the connection.
    let mut unread = [0; 7];
    gone.socket.peek(&mut unread).unwrap();
    drop(gone);
    let mut witness = server.client();
    loop {
        witness.send("CLIENT LIST\r\n");
        if witness.string().lines().count() == 1 {
            break;
        }
    }
    // One of them is in its place.
    let mut clients = [server.client(), server.client(), witness];
    for (i, client) in clients.iter_mut().enumerate() {
        client.send("GET k\r\n");
        while server.memory.held() < i + 2 {
            std::thread::yield_now();
        }
    }
    server.memory.release_oldest();
    server.memory.release();
    clients.iter_mut().for_each(|client| client.expect("$1\r\nv\r\n"));
}

#[test]
fn garbage_closes_that_connection_alone() {
    let server = Running::start();
    let mut good = server.client();
    good.ask("SET k v", "+OK");
    let nested = b"*1\r\n".repeat(200_000);
    for garbage in [&b"*1\r\n+x\r\n"[..], b"*zz\r\n", &[b'*'; 100], &nested, b"*1\r\n$2\r\nxyz\r\n"]
    {
        let mut bad = server.client();
        bad.send("PING\r\n");
        bad.expect("+PONG\r\n");
        // The server may close while it is still being sent.
        let _ = std::io::Write::write_all(&mut bad.socket, garbage);
        assert!(bad.line().starts_with("-ERR Protocol error: "));
        bad.expect_end();
        good.ask("GET k", "$1 v");
    }
}

#[test]
fn answers_before_the_garbage_are_not_lost() {
    let server = Running::start();
    let mut client = server.client();
    client.send("SET k v\r\nGET k\r\n*x\r\n");
    client.expect("+OK\r\n$1\r\nv\r\n-ERR Protocol error: invalid multibulk length\r\n");
    client.expect_end();
}

#[test]
fn a_client_that_stops_sending_gets_all_its_answers() {
    let server = Running::start();
    server.memory.hold();
    let mut client = server.client();
    client.send("SET k v\r\nGET k\r\nPING");
    client.end();
    while server.memory.held() < 1 {
        std::thread::yield_now();
    }
    server.memory.release();
    client.expect("+OK\r\n$1\r\nv\r\n");
    client.expect_end();
}

#[test]
fn a_client_that_does_not_read_is_waited_for_and_loses_nothing() {
    let server = Running::start();
    let mut client = server.client();
    let value = vec![b'x'; 64 << 10];
    client.command(&[b"SET", b"k", &value]);
    client.expect("+OK\r\n");
    let mut writer = client.socket.try_clone().unwrap();
    let asking = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &b"GET k\r\n".repeat(4000)).unwrap();
    });
    // Others are served meanwhile, and not everything is asked for ahead of the reader.
    server.client().ask("PING", "+PONG");
    let one = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    for _ in 0..40 {
        client.expect(one.repeat(100));
    }
    asking.join().unwrap();
    assert!(server.memory.requests().len() > 4, "no batch may hold all of it");
}

/// As most clients do. If we waited for it to read, it would wait for us to read.
#[test]
fn a_client_may_send_a_whole_pipeline_before_it_reads() {
    let server = Running::start();
    let mut client = server.client();
    client.socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let value = vec![b'x'; 1 << 20];
    let one = [&command(&[b"SET", b"k", &value])[..], b"GET k\r\n"].concat();
    client.send(one.repeat(30));
    let one = [b"+OK\r\n$1048576\r\n", &value[..], b"\r\n"].concat();
    for _ in 0..30 {
        client.expect(&one);
    }
}

#[test]
fn commands_beyond_the_limits_are_refused_and_the_connection_goes_on() {
    let server = Running::start();
    let mut client = server.client();
    client.command(&[b"SET", &vec![b'k'; limits::KEY_BYTES_MAX + 1], b"v"]);
    client.expect("-ERR key has 65537 bytes, the limit is 65536\r\n");
    client.command(&[b"SET", b"k", &vec![b'v'; limits::VALUE_BYTES_MAX + 1]]);
    client.expect("-ERR value has 4194305 bytes, the limit is 4194304 (a key: 65536)\r\n");
    client.command(&[b"SET", &vec![b'k'; limits::KEY_BYTES_MAX], &[b'v'; 10]]);
    client.expect("+OK\r\n");
    client.ask("MULTI", "+OK");
    client.command(&[b"SET", b"k", &vec![b'v'; limits::VALUE_BYTES_MAX + 1]]);
    client.expect("-ERR value has 4194305 bytes, the limit is 4194304 (a key: 65536)\r\n");
    client.ask("EXEC", "-EXECABORT~Transaction~discarded~because~of~previous~errors.");
    client.ask("PING", "+PONG");
}

#[test]
fn each_failure_has_its_prefix() {
    let server = Running::start();
    let mut client = server.client();
    let mut check = |error: Error, write: &str, read: &str| {
        server.memory.fail(Some(error));
        client.send("SET k v\r\n");
        assert!(client.line().starts_with(write));
        client.send("GET k\r\n");
        assert!(client.line().starts_with(read));
        client.send("MULTI\r\nGET k\r\nSET k v\r\nPING\r\nEXEC\r\nPING\r\n");
        client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
        assert!(client.line().starts_with(write));
        client.expect("+PONG\r\n");
    };
    check(Error::Refused(Refusal::Timeout), "-TRYAGAIN no leader", "-TRYAGAIN no leader");
    check(Error::Refused(Refusal::Busy), "-BUSY ", "-BUSY ");
    check(Error::Refused(Refusal::ShuttingDown), "-TRYAGAIN ", "-TRYAGAIN ");
    check(Error::Unknown(Unknown::LeaderLost), "-UNKNOWN the leader", "-TRYAGAIN the leader");
    let (bytes, max) = (9, 8);
    check(Error::Refused(Refusal::TooLarge { bytes, max }), "-ERR ", "-ERR ");
}

#[test]
fn a_store_that_does_not_answer_is_answered_for() {
    let answer_timeout = Duration::from_millis(30);
    let server = Running::with(Options { answer_timeout, ..Options::default() });
    let mut client = server.client();
    server.memory.hold();
    client.send("SET k v\r\n");
    assert!(client.line().starts_with("-UNKNOWN "));
    client.send("GET k\r\n");
    assert!(client.line().starts_with("-TRYAGAIN "));
    // Its answers come after all, and belong to nobody.
    server.memory.release();
    client.ask("GET k", "$1 v");
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = Running::with(Options { clients_max: 2, ..Options::default() });
    let mut first = server.client();
    let mut second = server.client();
    first.ask("PING", "+PONG");
    second.ask("PING", "+PONG");
    let mut third = server.client();
    third.expect("-ERR max number of clients reached\r\n");
    third.expect_end();
    first.ask("QUIT", "+OK");
    first.expect_end();
    server.client().ask("PING", "+PONG");
}

#[test]
fn idle_clients_are_closed_if_asked_for() {
    let idle_timeout = Some(Duration::from_millis(1));
    let server = Running::with(Options { idle_timeout, ..Options::default() });
    let mut client = server.client();
    client.expect_end();
}

#[test]
fn stopping_answers_what_is_in_flight() {
    let server = Running::start();
    let mut idle = server.client();
    let mut busy = server.client();
    idle.ask("PING", "+PONG");
    server.memory.hold();
    busy.send("SET k v\r\n");
    while server.memory.held() < 1 {
        std::thread::yield_now();
    }
    server.stopper.stop();
    idle.expect_end();
    server.memory.release();
    busy.expect("+OK\r\n");
    busy.expect_end();
    server.join();
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let stop_grace = Duration::from_millis(20);
    let server = Running::with(Options { stop_grace, ..Options::default() });
    let mut client = server.client();
    server.memory.hold();
    client.send("SET k v\r\n");
    while server.memory.held() < 1 {
        std::thread::yield_now();
    }
    server.stopper.stop();
    assert!(client.line().starts_with("-UNKNOWN the store is shutting down"));
    client.expect_end();
    server.memory.release();
    server.join();
}
