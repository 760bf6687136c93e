//! What each command answers. In the expected answers a space stands for a line end and `~` for a
//! space.

use std::collections::BTreeSet;

use super::client::{Client, Running};

const NO_PASSWORDS: &str = "-ERR~AUTH~<password>~called~without~any~password~configured~for~the~\
    default~user.~Are~you~sure~your~configuration~is~correct?";

const NO_EXPIRY: &str = "-ERR~expiry~is~not~supported:~keys~live~until~they~are~deleted";

fn check(cases: &[(&str, &str)]) {
    let server = Running::start();
    let mut client = server.client();
    for (line, answer) in cases {
        client.ask(line, answer);
    }
}

#[test]
fn strings() {
    check(&[
        ("GET k", "$-1"),
        ("SET k v", "+OK"),
        ("get k", "$1 v"),
        ("SET k w XX", "+OK"),
        ("SET k x NX", "$-1"),
        ("SET n x XX", "$-1"),
        ("SET k y GET", "$1 w"),
        ("SET k z GET KEEPTTL", "$1 y"),
        ("SET new 1 NX GET", "$-1"),
        ("SET k v NX XX", "-ERR~syntax~error"),
        ("SET k v BAD", "-ERR~syntax~error"),
        ("SET k v EX 10", NO_EXPIRY),
        ("SETEX k 10 v", NO_EXPIRY),
        ("SETNX k v", ":0"),
        ("SETNX k2 v", ":1"),
        ("GETSET k2 w", "$1 v"),
        ("GETDEL k2", "$1 w"),
        ("GETDEL k2", "$-1"),
        ("APPEND a 12", ":2"),
        ("APPEND a 345", ":5"),
        ("STRLEN a", ":5"),
        ("STRLEN none", ":0"),
        ("MSET a 1 b 2", "+OK"),
        ("MSET a 1 b", "-ERR~wrong~number~of~arguments~for~'mset'~command"),
        ("MGET a none b", "*3 $1 1 $-1 $1 2"),
        ("GET", "-ERR~wrong~number~of~arguments~for~'get'~command"),
        ("GET a b", "-ERR~wrong~number~of~arguments~for~'get'~command"),
    ]);
}

#[test]
fn parts_of_values() {
    check(&[
        ("SET k 0123456789", "+OK"),
        ("GETRANGE k 0 0", "$1 0"),
        ("GETRANGE k 2 4", "$3 234"),
        ("GETRANGE k -3 -1", "$3 789"),
        ("GETRANGE k -100 1", "$2 01"),
        ("GETRANGE k 8 100", "$2 89"),
        ("GETRANGE k 4 2", "$0 "),
        ("GETRANGE k 10 11", "$0 "),
        ("GETRANGE k -1 -2", "$0 "),
        ("GETRANGE k 0 -11", "$0 "),
        ("GETRANGE k -9223372036854775808 9223372036854775807", "$10 0123456789"),
        ("GETRANGE none 0 -1", "$0 "),
        ("GETRANGE k x 1", "-ERR~value~is~not~an~integer~or~out~of~range"),
    ]);
}

#[test]
fn what_is_about_expiry_says_that_there_is_none() {
    check(&[
        ("SET k v", "+OK"),
        ("GETEX k", "$1 v"),
        ("GETEX k PERSIST", "$1 v"),
        ("GETEX k EX 10", NO_EXPIRY),
        ("GETEX k NX", "-ERR~syntax~error"),
        ("EXPIRE k 10", NO_EXPIRY),
        ("PEXPIREAT k 10 NX", NO_EXPIRY),
        ("PERSIST k", ":0"),
        ("TTL k", ":-1"),
        ("TOUCH k none k", ":2"),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("INCR n", ":1"),
        ("INCRBY n 41", ":42"),
        ("DECR n", ":41"),
        ("DECRBY n 40", ":1"),
        ("INCRBY n -2", ":-1"),
        ("INCRBY n x", "-ERR~value~is~not~an~integer~or~out~of~range"),
        ("INCRBY n +1", "-ERR~value~is~not~an~integer~or~out~of~range"),
        ("INCRBY n 9223372036854775808", "-ERR~value~is~not~an~integer~or~out~of~range"),
        ("DECRBY n -9223372036854775808", "-ERR~decrement~would~overflow"),
        ("INCRBY m 9223372036854775807", ":9223372036854775807"),
        ("INCR m", "-ERR~increment~or~decrement~would~overflow"),
        ("SET s text", "+OK"),
        ("INCR s", "-ERR~value~is~not~an~integer~or~out~of~range"),
        ("GET s", "$4 text"),
    ]);
}

#[test]
fn keys() {
    check(&[
        ("MSET a 1 b 2 c 3", "+OK"),
        ("EXISTS a b none a", ":3"),
        ("DBSIZE", ":3"),
        ("DEL a none a", ":1"),
        ("UNLINK b c", ":2"),
        ("DBSIZE", ":0"),
        ("SET k v", "+OK"),
        ("TYPE k", "+string"),
        ("TYPE none", "+none"),
        ("TTL k", ":-1"),
        ("PTTL none", ":-2"),
        ("KEYS *", "*1 $1 k"),
        ("KEYS x*", "*0"),
    ]);
}

#[test]
fn transactions() {
    check(&[
        ("EXEC", "-ERR~EXEC~without~MULTI"),
        ("DISCARD", "-ERR~DISCARD~without~MULTI"),
        ("MULTI", "+OK"),
        ("MULTI", "-ERR~MULTI~calls~can~not~be~nested"),
        ("SET k 1", "+QUEUED"),
        ("INCR k", "+QUEUED"),
        ("PING", "+QUEUED"),
        ("SET t text", "+QUEUED"),
        ("INCR t", "+QUEUED"),
        ("GET k", "+QUEUED"),
        ("EXEC", "*6 +OK :2 +PONG +OK -ERR~value~is~not~an~integer~or~out~of~range $1 2"),
        ("MULTI", "+OK"),
        ("EXEC", "*0"),
        ("MULTI", "+OK"),
        ("PING", "+QUEUED"),
        ("SELECT 1", "+QUEUED"),
        ("EXEC", "*2 +PONG -ERR~DB~index~is~out~of~range"),
        ("MULTI", "+OK"),
        ("GET", "-ERR~wrong~number~of~arguments~for~'get'~command"),
        ("EXEC", "-EXECABORT~Transaction~discarded~because~of~previous~errors."),
        ("MULTI", "+OK"),
        ("WATCH k", "-ERR~Command~not~allowed~inside~a~transaction"),
        ("EXEC", "-EXECABORT~Transaction~discarded~because~of~previous~errors."),
        ("MULTI", "+OK"),
        ("SET k 9", "+QUEUED"),
        ("DISCARD", "+OK"),
        ("GET k", "$1 2"),
        ("WATCH k", "-ERR~WATCH~is~not~supported;~SET~has~NX,~XX~and~GET,~and~MULTI~is~atomic"),
        ("UNWATCH", "+OK"),
    ]);
}

#[test]
fn a_nested_multi_does_not_break_the_transaction() {
    check(&[
        ("MULTI", "+OK"),
        ("MULTI", "-ERR~MULTI~calls~can~not~be~nested"),
        ("INCR k", "+QUEUED"),
        ("EXEC", "*1 :1"),
    ]);
}

#[test]
fn a_transaction_is_one_request() {
    let server = Running::start();
    let mut client = server.client();
    client.send("SET a 1\r\nMULTI\r\nSET b 2\r\nGET a\r\nEXEC\r\nGET b\r\n");
    client.expect("+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(server.memory.requests(), [(1, false), (2, false), (1, true)]);
}

#[test]
fn connections() {
    check(&[
        ("PING", "+PONG"),
        ("PING hi", "$2 hi"),
        ("PING a b", "-ERR~wrong~number~of~arguments~for~'ping'~command"),
        ("ECHO hi", "$2 hi"),
        ("SELECT 0", "+OK"),
        ("SELECT 1", "-ERR~DB~index~is~out~of~range"),
        ("SELECT x", "-ERR~invalid~DB~index"),
        ("CLIENT GETNAME", "$-1"),
        ("CLIENT SETNAME me", "+OK"),
        ("CLIENT GETNAME", "$2 me"),
        ("CLIENT SETINFO LIB-NAME lib", "+OK"),
        ("CLIENT SETINFO LIB-X lib", "-ERR~Unrecognized~option~for~CLIENT~SETINFO"),
        ("CLIENT NO-EVICT ON", "+OK"),
        ("CLIENT NO-TOUCH off", "+OK"),
        ("CLIENT ID", ":1"),
        ("CLIENT NONE", "-ERR~unknown~subcommand~'NONE'.~Try~CLIENT~HELP."),
        ("RESET", "+RESET"),
        ("CLIENT GETNAME", "$-1"),
        ("FOO a b", "-ERR~unknown~command~'FOO',~with~args~beginning~with:~'a'~'b'~"),
        ("AUTH x", NO_PASSWORDS),
        ("QUIT", "+OK"),
    ]);
}

#[test]
fn the_third_version() {
    let server = Running::start();
    let mut client = server.client();
    client.ask("HELLO 4", "-NOPROTO~unsupported~protocol~version");
    client.ask("HELLO x", "-ERR~Protocol~version~is~not~an~integer~or~out~of~range");
    client.ask("HELLO 3 AUTH a b", NO_PASSWORDS);
    client.ask("HELLO 3 SETNAME", "-ERR~Syntax~error~in~HELLO~option~'SETNAME'");
    client.ask("GET none", "$-1");
    let version = env!("CARGO_PKG_VERSION");
    let greeting = |map: &str, proto: u8| {
        format!(
            "{map} $6 server $6 raftkv $7 version ${} {version} $5 proto :{proto} $2 id :1 \
             $4 mode $10 standalone $4 role $6 master $7 modules *0",
            version.len()
        )
    };
    client.ask("HELLO 3 SETNAME me", &greeting("%7", 3));
    client.ask("GET none", "_");
    client.ask("MGET none", "*1 _");
    client.ask("CLIENT GETNAME", "$2 me");
    client.ask("CONFIG GET databases", "%1 $9 databases $1 1");
    client.send("INFO raft\r\n");
    assert!(client.string().starts_with("txt:# Raft\r\nstore:7\r\n"));
    client.ask("HELLO 2", &greeting("*14", 2));
    client.ask("GET none", "$-1");
}

#[test]
fn a_change_of_version_within_a_pipeline_is_in_order() {
    let server = Running::start();
    let mut client = server.client();
    client.send("GET a\r\nHELLO 3\r\nGET a\r\n");
    let version = env!("CARGO_PKG_VERSION");
    client.expect(format!(
        "$-1\r\n%7\r\n$6\r\nserver\r\n$6\r\nraftkv\r\n$7\r\nversion\r\n${}\r\n{version}\r\n",
        version.len()
    ));
    client.expect("$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n");
    client.expect("$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n_\r\n");
}

#[test]
fn what_the_server_says_about_itself() {
    let server = Running::start();
    let mut client = server.client();
    client.ask("SET k v", "+OK");
    client.send("INFO\r\n");
    let info = client.string();
    for line in [
        "# Server",
        "raftkv_version:",
        "connected_clients:1",
        "term:3",
        "leader:2",
        "role:follower",
        "db0:keys=1,",
        "total_commands_processed:2",
        "total_requests:1",
    ] {
        assert!(info.contains(line), "no {line} in {info}");
    }
    client.send("INFO raft\r\n");
    let raft = client.string();
    assert!(raft.starts_with("# Raft") && !raft.contains("# Server"), "{raft}");
    client.ask("CONFIG GET save appendonly", "*4 $10 appendonly $3 yes $4 save $0 ");
    client.ask("CONFIG GET none", "*0");
    client
        .ask("CONFIG SET save x", "-ERR~parameters~are~set~on~the~command~line,~not~while~it~runs");
    client.ask(
        "COMMAND INFO get none",
        "*2 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *0 *0 *0 *0 $-1",
    );
    let summary = "Returns~the~value~of~a~key.";
    client.ask(
        "COMMAND DOCS get",
        &format!(
            "*2 $3 get *6 $7 summary ${} {summary} $5 since $5 1.0.0 $5 group $6 string",
            summary.len()
        ),
    );
    let count = super::super::commands::COMMANDS.len();
    client.ask("COMMAND COUNT", &format!(":{count}"));
    client.send("COMMAND\r\n");
    client.expect(format!("*{count}\r\n*10\r\n"));
}

#[test]
fn every_connection_is_listed() {
    let server = Running::start();
    let mut first = server.client();
    first.ask("CLIENT SETNAME first", "+OK");
    let mut second = server.client();
    second.ask("PING", "+PONG");
    second.send("CLIENT LIST\r\n");
    let list = second.string();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].starts_with("id=1 ") && lines[0].contains(" name=first "), "{list}");
    assert!(lines[1].starts_with("id=2 ") && lines[1].contains(" cmd=client "), "{list}");
}

/// All keys that a scan returns, and in how many pages.
fn scan(clients: &mut [Client], options: &str) -> (Vec<String>, usize) {
    let mut cursor = "0".to_owned();
    let (mut keys, mut pages) = (Vec::new(), 0);
    loop {
        // Each page over another connection, as a pool of them would.
        let turn = pages % clients.len();
        let client = &mut clients[turn];
        client.send(format!("SCAN {cursor} {options}\r\n"));
        assert_eq!(client.line(), "*2");
        cursor = client.string();
        let count: usize = client.line()[1..].parse().unwrap();
        keys.extend((0..count).map(|_| client.string()));
        pages += 1;
        if cursor == "0" {
            return (keys, pages);
        }
    }
}

#[test]
fn scans_return_every_key_once() {
    let server = Running::start();
    let mut clients = vec![server.client(), server.client()];
    for i in 0..95 {
        clients[0].ask(&format!("SET user:{i} v"), "+OK");
        clients[0].ask(&format!("SET other:{i} v"), "+OK");
    }
    let (keys, pages) = scan(&mut clients, "");
    assert_eq!((keys.len(), pages), (190, 19));
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 190);
    let (keys, pages) = scan(&mut clients, "MATCH user:* COUNT 19");
    assert_eq!((keys.len(), pages), (95, 5));
    let (keys, _) = scan(&mut clients, "MATCH *:7");
    assert_eq!(keys, ["other:7", "user:7"]);
    assert_eq!(scan(&mut clients, "TYPE list").0.len(), 0);
    assert_eq!(scan(&mut clients, "TYPE string COUNT 1000").0.len(), 190);
    let client = &mut clients[0];
    client.ask("SCAN x", "-ERR~invalid~cursor");
    client.ask("SCAN 0 COUNT 0", "-ERR~syntax~error");
    client.ask("SCAN 0 COUNT x", "-ERR~value~is~not~an~integer~or~out~of~range");
    client.ask("SCAN 0 MATCH", "-ERR~syntax~error");
    client.ask("SCAN 5", "-ERR~cursor~is~too~old~or~of~another~store;~start~again~with~0");
}
