//! Commands that are wrong, too large, or none at all, sent to a store that is well.

use kv::limits::{ARGS_MAX, KEY_BYTES_MAX, OPS_MAX, REQUEST_BYTES_MAX, VALUE_BYTES_MAX};
use raftstore::StoreId;

use crate::Told;
use crate::client::{Client, Reply};
use crate::cluster::Cluster;

/// Lines, and how the error begins that answers them.
const LINES: &[(&str, &str)] = &[
    ("NOSUCH a b", "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b'"),
    ("CLIENT NOSUCH", "ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
    ("GET", "ERR wrong number of arguments for 'get' command"),
    ("SET k v NOSUCH", "ERR syntax error"),
    ("INCRBY k x", "ERR value is not an integer or out of range"),
    ("DECRBY k -9223372036854775808", "ERR decrement would overflow"),
    ("INCR word", "ERR value is not an integer or out of range"),
    ("INCR most", "ERR increment or decrement would overflow"),
    ("APPEND large x", "ERR string exceeds maximum allowed size"),
    ("MGET large large large large large", "ERR the request asks for too much at once"),
    ("SETEX k 10 v", "ERR expiry is not supported"),
    ("SELECT 1", "ERR DB index is out of range"),
    ("SELECT x", "ERR invalid DB index"),
    ("SCAN x", "ERR invalid cursor"),
    ("SCAN 12345", "ERR cursor is too old or of another store"),
    ("CONFIG SET timeout 1", "ERR parameters are set on the command line"),
    ("AUTH secret", "ERR AUTH <password> called without any password configured"),
    ("HELLO 4", "NOPROTO unsupported protocol version"),
    ("HELLO x", "ERR Protocol version is not an integer or out of range"),
    ("HELLO 2 NOSUCH", "ERR Syntax error in HELLO option 'NOSUCH'"),
    ("CLIENT SETNAME 'a b'", "ERR Client names cannot contain spaces"),
    ("CLIENT SETINFO NOSUCH x", "ERR Unrecognized option for CLIENT SETINFO"),
    ("DISCARD", "ERR DISCARD without MULTI"),
    ("EXEC", "ERR EXEC without MULTI"),
    ("WATCH k", "ERR WATCH is not supported"),
    ("ONCE 0 1 GET k", "ERR sessions and sequences are numbers from 1"),
    ("ONCE 1 1 PING", "ERR 'ping' cannot be a session's command"),
    ("ONCE 123456789 1 GET k", "NOSESSION the session has expired"),
    ("CALL x", "ERR not a request: "),
];

/// What no command can follow, and what is said before the connection is closed.
const GARBAGE: &[(&[u8], &str)] = &[
    (b"*x\r\n", "invalid multibulk length"),
    (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n+x\r\n", "expected '$', got '+'"),
    (b"*1\r\n$2\r\nxyz\r\n", "expected a line end after the string"),
    (&[b'x'; 70 << 10], "too big inline request"),
    (b"GET \"k\r\n", "unbalanced quotes in request"),
    (b"POST / HTTP/1.1\r\n", "this is not a web server"),
];

pub(crate) fn wrong_commands(told: &Told) {
    let cluster = Cluster::start(1, |_| {});
    let store = cluster.leader();
    let mut client = cluster.client(store);
    client.must("MSET word abc most 9223372036854775807", "OK");
    let large = vec![b'x'; VALUE_BYTES_MAX];
    assert_eq!(client.command(&[b"SET", b"large", &large]), Reply::Line("OK".into()));
    for (line, begin) in LINES {
        told.note(line, client.ask(line), begin);
    }
    transactions(told, &mut client);
    sessions(told, &mut client);
    too_large(told, &mut client);
    garbage(told, &cluster, store);
    client.must("PING", "PONG");
}

fn transactions(told: &Told, client: &mut Client) {
    client.must("MULTI", "OK");
    told.note("MULTI", client.ask("MULTI"), "ERR MULTI calls can not be nested");
    client.must("SET never 1", "QUEUED");
    told.note("AUTH", client.ask("AUTH x"), "ERR Command not allowed inside a transaction");
    told.note("EXEC", client.ask("EXEC"), "EXECABORT Transaction discarded");
    assert_eq!(client.ask("GET never"), Reply::Value(None), "all of it was discarded");
    // What fails as it is carried out fails alone, as in Redis.
    client.must("MULTI", "OK");
    client.must("INCR word", "QUEUED");
    client.must("INCR number", "QUEUED");
    let Reply::List(answers) = client.ask("EXEC") else { panic!("no list") };
    let [failed, number] = <[Reply; 2]>::try_from(answers).expect("two answers");
    told.note("INCR within MULTI", failed, "ERR value is not an integer");
    assert_eq!(number, Reply::Line("1".into()));
}

fn sessions(told: &Told, client: &mut Client) {
    let Reply::Line(id) = client.ask("SESSION") else { panic!("no session") };
    assert!(matches!(client.ask(&format!("ONCE {id} 2 GET large")), Reply::Value(Some(_))));
    let again = client.ask(&format!("ONCE {id} 2 GET large"));
    told.note("the same again", again, "APPLIED the command took effect before");
    let late = client.ask(&format!("ONCE {id} 1 SET late 1"));
    told.note("one before it", late, "NOSESSION a later command of the session came first");
    assert_eq!(client.ask("GET late"), Reply::Value(None));
}

fn too_large(told: &Told, client: &mut Client) {
    let large = vec![b'x'; VALUE_BYTES_MAX];
    let key = vec![b'k'; KEY_BYTES_MAX];
    let beyond = [&large[..], b"x"].concat();
    let beyond_key = [&key[..], b"k"].concat();
    let mut refused = |args: &[&[u8]], begin: &str| {
        told.note(begin, client.command(args), begin);
    };
    refused(&[b"SET", b"k", &beyond], "ERR value has 4194305 bytes, the limit is 4194304");
    refused(&[b"SET", &beyond_key, b"v"], "ERR key has 65537 bytes, the limit is 65536");
    refused(&vec![&b"a"[..]; ARGS_MAX + 1], "ERR command has 131073 arguments");
    refused(&[b"MGET", &large, &large], "ERR command is larger than 8388608 bytes");
    // Its arguments are just small enough. What it is in the log is not.
    let rest = &large[..REQUEST_BYTES_MAX - VALUE_BYTES_MAX - b"MSETab".len()];
    refused(&[b"MSET", b"a", &large, b"b", rest], "ERR the command has ");
    client.must("MULTI", "OK");
    assert_eq!(client.command(&[b"SET", b"a", rest]), Reply::Line("QUEUED".into()));
    let second = client.command(&[b"SET", b"b", rest]);
    told.note("a second SET", second, "ERR transaction is larger than 8388608 bytes");
    client.must("DISCARD", "OK");
    client.must("MULTI", "OK");
    for _ in 0..2 {
        let many = vec![&b"DEL"[..]; OPS_MAX / 2 + 2];
        assert_eq!(client.command(&many), Reply::Line("QUEUED".into()));
    }
    let exec = client.ask("EXEC");
    told.note("EXEC", exec, "ERR transaction has 131074 operations, the limit is 131072");

    // More than a response has room for, of keys alone.
    for some in 0..4_u8 {
        let keys: Vec<Vec<u8>> = (0..64).map(|n| [&key[2..], &[some, n]].concat()).collect();
        let pairs = keys.iter().flat_map(|key| [&key[..], b""]);
        let args: Vec<&[u8]> = [&b"MSET"[..]].into_iter().chain(pairs).collect();
        assert_eq!(client.command(&args), Reply::Line("OK".into()));
    }
    told.note("KEYS", client.ask("KEYS k*"), "ERR too many keys for one answer; use SCAN");
}

fn garbage(told: &Told, cluster: &Cluster, store: StoreId) {
    for (bytes, text) in GARBAGE {
        let mut client = cluster.client(store);
        client.send_bytes(bytes);
        told.note(text, client.reply(), &format!("ERR Protocol error: {text}"));
        assert!(client.is_closed());
    }
}
