//! Putting commands together must not change what any of them answers.

use std::io::Read;

use proptest::prelude::*;
use redis_protocol::{resp2, resp3};

use super::client::{Client, Running};

/// Commands on few keys, so that they meet; a transaction now and then, and mistakes.
fn command() -> impl Strategy<Value = String> {
    let key = || prop::sample::select(vec!["a", "b", "c", "n"]);
    prop_oneof![
        4 => key().prop_map(|k| format!("GET {k}")),
        4 => (key(), 0..9).prop_map(|(k, v)| format!("SET {k} {v}")),
        2 => key().prop_map(|k| format!("SET {k} text NX GET")),
        2 => key().prop_map(|k| format!("SET {k} 7 XX")),
        3 => key().prop_map(|k| format!("INCR {k}")),
        2 => (key(), key()).prop_map(|(k, l)| format!("MGET {k} none {l}")),
        2 => (key(), key()).prop_map(|(k, l)| format!("MSET {k} x {l} y")),
        2 => (key(), key()).prop_map(|(k, l)| format!("DEL {k} {l}")),
        1 => key().prop_map(|k| format!("APPEND {k} 1")),
        1 => Just("DBSIZE".to_owned()),
        1 => Just("KEYS *".to_owned()),
        1 => Just("SCAN 0 COUNT 100".to_owned()),
        1 => Just("PING".to_owned()),
        1 => Just("GET".to_owned()),
        1 => Just("nonsense".to_owned()),
        2 => Just("MULTI".to_owned()),
        2 => Just("EXEC".to_owned()),
        1 => Just("DISCARD".to_owned()),
        1 => Just("RESET".to_owned()),
        1 => Just("HELLO 3".to_owned()),
    ]
}

/// Reads one answer, whichever version it is in.
fn answer(client: &mut Client, buffer: &mut Vec<u8>) -> Vec<u8> {
    loop {
        let two = resp2::decode::decode(buffer).ok().flatten().map(|(_, len)| len);
        let three = || resp3::decode::complete::decode(buffer).ok().flatten().map(|(_, len)| len);
        if let Some(len) = two.or_else(three) {
            return buffer.drain(..len).collect();
        }
        let mut more = [0; 4096];
        let n = client.socket.read(&mut more).unwrap();
        assert_ne!(n, 0, "closed after {:?}", buffer.escape_ascii().to_string());
        buffer.extend_from_slice(&more[..n]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn answers_are_those_of_one_command_at_a_time(
        commands in prop::collection::vec(command(), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let (alone, together) = (Running::start(), Running::start());
        let (mut one, mut all) = (alone.client(), together.client());
        let lines: Vec<String> = commands.iter().map(|c| format!("{c}\r\n")).collect();

        let mut buffer = Vec::new();
        let mut expected = Vec::new();
        for line in &lines {
            one.send(line);
            expected.push(answer(&mut one, &mut buffer));
        }

        let text = lines.concat();
        let (begin, end) = text.split_at(cut.index(text.len()));
        all.send(begin);
        all.send(end);
        for (line, expected) in lines.iter().zip(&expected) {
            let got = answer(&mut all, &mut buffer);
            let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
            prop_assert_eq!(show(&got), show(expected), "to {} of {:?}", line, commands);
        }
    }
}
