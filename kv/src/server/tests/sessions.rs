//! Commands that take effect once, and the words for every answer that is none.

use raftstore::{Epoch, Refusal, Region, RegionId, StoreId, Unknown};

use super::client::Running;
use crate::answer::{self, Error};
use crate::command::{Op, OpResult, Request, Response, Session};

#[test]
fn a_command_of_a_session_is_carried_out_once() {
    let server = Running::start();
    let mut client = server.client();
    client.ask("SESSION", ":1");
    client.ask("ONCE 1 1 INCR n", ":1");
    client.ask("ONCE 1 1 INCR n", ":1");
    // Whoever asks, and however often.
    let mut other = server.client();
    other.ask("ONCE 1 1 INCR n", ":1");
    other.ask("ONCE 1 2 SET k v NX", "+OK");
    other.ask("ONCE 1 2 SET k v NX", "+OK");
    other.ask("ONCE 1 3 GET n", "$1 1");
    other.send("GET n\r\n");
    other.expect("$1\r\n1\r\n");
}

#[test]
fn what_sessions_cannot_tell_is_said() {
    let server = Running::start();
    let mut client = server.client();
    client.ask("SESSION", ":1");
    client.ask("ONCE 1 5 INCR n", ":1");
    client.send("ONCE 1 4 INCR n\r\nONCE 9 1 INCR n\r\n");
    for why in [Error::Superseded, Error::SessionExpired] {
        client.expect(format!("-NOSESSION {why}\r\n"));
    }
    client.ask("ONCE 1 6 PING", "-ERR~'ping'~cannot~be~a~session's~command");
    client.ask("ONCE 1 6 ONCE 1 7 INCR n", "-ERR~'once'~cannot~be~a~session's~command");
    client.ask("ONCE 1 6 GET", "-ERR~wrong~number~of~arguments~for~'get'~command");
    client.ask("ONCE 0 6 INCR n", "-ERR~sessions~and~sequences~are~numbers~from~1");
    client.ask("ONCE 1 x INCR n", "-ERR~value~is~not~an~integer~or~out~of~range");
    client.ask("MULTI", "+OK");
    client.ask("ONCE 1 6 INCR n", "-ERR~Command~not~allowed~inside~a~transaction");
}

#[test]
fn whole_requests_are_answered_encoded() {
    let server = Running::start();
    let mut client = server.client();
    let call = |request: &Request| {
        let body = request.encode().expect("small");
        [format!("*2\r\n$4\r\nCALL\r\n${}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat()
    };
    let told = |answer| {
        let body = answer::encode(&answer);
        [format!("${}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat()
    };
    let gave = |result| told(Ok(Response { results: vec![result] }));
    client.send(call(&Request::default().within(Session::Open)));
    client.expect(gave(OpResult::Integer(1)));
    let add = Request::from(Op::add("n", 3)).within(Session::Command { id: 1, sequence: 1 });
    client.send([call(&add), call(&add), b"GET n\r\n".to_vec()].concat());
    client.expect([gave(OpResult::Integer(3)).repeat(2), b"$1\r\n3\r\n".to_vec()].concat());
    client.send(call(&Request::new(vec![Op::get("n"), Op::exists("m")])));
    let results = vec![OpResult::Value(Some("3".into())), OpResult::Exists(false)];
    client.expect(told(Ok(Response { results })));
    client.send(call(&Request::default()));
    client.expect(told(Ok(Response::default())));
    server.memory.fail(Some(Unknown::Overtaken.into()));
    client.send(call(&add));
    client.expect(told(Err(Unknown::Overtaken.into())));
    client.ask("CALL nonsense", "-ERR~not~a~request:~malformed~request:~version");
}

/// Every error there is, with the first word that a write and a read are told.
fn first_words() -> [(Error, &'static str, &'static str); 18] {
    let region = || Box::new(Region::first(&[StoreId(1)]));
    let (asked, key) = (Epoch { version: 3, conf_ver: 1 }, b"k".to_vec());
    [
        (Refusal::NotLeader { leader: None }.into(), "TRYAGAIN", "TRYAGAIN"),
        (Refusal::NotLeader { leader: Some(StoreId(2)) }.into(), "TRYAGAIN", "TRYAGAIN"),
        (Refusal::RegionNotFound(RegionId(9)).into(), "TRYAGAIN", "TRYAGAIN"),
        (Refusal::EpochNotMatch { asked, current: region() }.into(), "TRYAGAIN", "TRYAGAIN"),
        (Refusal::TooLarge { bytes: 9, max: 8 }.into(), "ERR", "ERR"),
        (Refusal::Busy.into(), "BUSY", "BUSY"),
        (Refusal::Timeout.into(), "TRYAGAIN", "TRYAGAIN"),
        (Refusal::ShuttingDown.into(), "TRYAGAIN", "TRYAGAIN"),
        (Error::StaleCommand, "TRYAGAIN", "TRYAGAIN"),
        (Error::NotReadOnly, "ERR", "ERR"),
        (Error::KeyNotInRegion { key, region: region() }, "TRYAGAIN", "TRYAGAIN"),
        (Error::ResponseForgotten, "APPLIED", "APPLIED"),
        (Error::SessionExpired, "NOSESSION", "NOSESSION"),
        (Error::Superseded, "NOSESSION", "NOSESSION"),
        // A read that nobody answered has changed nothing.
        (Unknown::LeaderLost.into(), "UNKNOWN", "TRYAGAIN"),
        (Unknown::Overtaken.into(), "UNKNOWN", "TRYAGAIN"),
        (Unknown::ShuttingDown.into(), "UNKNOWN", "TRYAGAIN"),
        (Unknown::Deadline.into(), "UNKNOWN", "TRYAGAIN"),
    ]
}

/// What comes after the first word may change; the first word is what clients go by.
#[test]
fn the_first_word_of_every_error_stays() {
    let server = Running::start();
    let mut client = server.client();
    for (error, of_write, of_read) in first_words() {
        server.memory.fail(Some(error.clone()));
        for (command, word) in [("SET k v", of_write), ("GET k", of_read)] {
            client.send(format!("{command}\r\n"));
            let line = client.line();
            assert!(line.starts_with(&format!("-{word} ")), "{command}, {error:?}: {line}");
        }
    }
}

/// The variants of an enum, as its source has them.
fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).expect("it is there");
    let (body, _) = body.split_once("\n}").expect("it ends");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(char::is_uppercase));
    names.filter_map(|line| line.split([' ', '(', ',']).next()).collect()
}

/// The enums may grow, and this crate would compile: an error that is new has no first word yet.
#[test]
fn no_error_is_without_a_first_word() {
    let (seam, answers) =
        (include_str!("../../../../raftstore/src/machine.rs"), include_str!("../../answer.rs"));
    let told: Vec<String> = first_words().iter().map(|(error, ..)| format!("{error:?}")).collect();
    let mut count = 0;
    for (source, name, of) in
        [(seam, "Refusal", "Refused("), (seam, "Unknown", "Unknown("), (answers, "Error", "")]
    {
        for variant in variants(source, name) {
            let begins = format!("{of}{variant}");
            assert!(told.iter().any(|error| error.starts_with(&begins)), "{name}::{variant}");
            count += 1;
        }
    }
    assert_eq!(count, 7 + 4 + 8, "what the sources have");
}
