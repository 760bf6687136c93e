//! Clients that were not written with this store in view: `redis-cli`, `redis-benchmark`, redis-py.
//!
//! Where one is not installed its test says so and passes: there is nothing it could show.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use harness::processes::stores::{LONG, Stores, wait_for};

/// Three stores that serve, the one that leads first.
fn cluster() -> (Stores, Vec<usize>) {
    let stores = Stores::start(3).unwrap();
    for store in 0..3 {
        let serves = || stores.ask(store, &["SET", "first", "x"])?.is_ok().then_some(());
        wait_for("service", LONG, serves).unwrap();
    }
    assert!(stores.ask(0, &["DEL", "first"]).is_some());
    let leader = wait_for("a leader", LONG, || stores.leader()).unwrap();
    (stores, (0..3).map(|n| (leader + n) % 3).collect())
}

/// Whether a program can be run; says so if not.
fn is_installed(program: &str, args: &[&str]) -> bool {
    let tried = Command::new(program).args(args).output();
    let is_there = tried.is_ok_and(|output| output.status.success());
    if !is_there {
        // (Not `println`: this is to be seen although the test passes.)
        let line = format!("NOT INSTALLED: {program} {}: nothing is shown here\n", args.join(" "));
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    is_there
}

/// What a client prints, run on a store.
fn run(stores: &Stores, store: usize, program: &str, args: &[&str], input: &str) -> String {
    let port = stores.address(store).port().to_string();
    let mut command = Command::new(program);
    command.args(["-p", &port]).args(args);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

#[test]
fn redis_cli() {
    if !is_installed("redis-cli", &["--version"]) {
        return;
    }
    let (stores, order) = cluster();
    let cli = |n: usize, args: &[&str]| run(&stores, order[n], "redis-cli", args, "");
    assert_eq!(cli(0, &["set", "name", "kim"]), "OK\n");
    assert_eq!(cli(1, &["get", "name"]), "kim\n");
    assert_eq!(cli(2, &["-3", "get", "none"]), "\n");
    assert_eq!(cli(2, &["--no-raw", "-3", "get", "none"]), "(nil)\n");
    assert_eq!(cli(1, &["--no-raw", "incrby", "n", "42"]), "(integer) 42\n");
    let unknown = cli(0, &["nosuch", "a", "b"]);
    assert_eq!(
        unknown.trim_end(),
        "ERR unknown command 'nosuch', with args beginning with: 'a' 'b'"
    );
    assert_eq!(cli(1, &["-n", "0", "exists", "name", "n"]), "2\n");
    assert_eq!(cli(2, &["--scan", "--pattern", "na*"]), "name\n");
    assert!(cli(0, &["info", "raft"]).contains("role:leader\r\n"));
    assert!(cli(1, &["--bigkeys"]).contains("2 strings with"));
    assert!(cli(1, &["-r", "3", "incr", "n"]).ends_with("45\n"));
    let lines: String = (0..2000).map(|n| format!("SET pipe:{n} {n}\r\n")).collect();
    let piped = run(&stores, order[1], "redis-cli", &["--pipe"], &lines);
    assert!(piped.contains("errors: 0, replies: 2000"), "{piped}");
    assert_eq!(cli(2, &["dbsize"]), "2002\n");
    let script = "MULTI\nSET name lee\nINCR n\nEXEC\nGET name\n";
    let typed = run(&stores, order[2], "redis-cli", &[], script);
    assert_eq!(typed, "OK\nQUEUED\nQUEUED\nOK\n46\nlee\n");
}

#[test]
fn redis_benchmark() {
    if !is_installed("redis-benchmark", &["--version"]) {
        return;
    }
    let (stores, order) = cluster();
    // On the leader and on a store that forwards.
    for store in [order[0], order[1]] {
        for pipeline in ["1", "16"] {
            let tests = "ping_inline,ping_mbulk,set,get,incr,mset";
            let args =
                ["-t", tests, "-n", "3200", "-c", "30", "-r", "1000", "-P", pipeline, "--csv"];
            let told = run(&stores, store, "redis-benchmark", &args, "");
            for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
                let line = told.lines().find(|l| l.starts_with(&format!("\"{test}\""))).unwrap();
                let rate = line.split(',').nth(1).map(|rate| rate.trim_matches('"').parse::<f64>());
                assert!(rate.is_some_and(|rate| rate.is_ok_and(|rate| rate > 0.0)), "{line}");
            }
            assert!(!told.contains("rror"), "{told}");
        }
    }
    // Every INCR of every run was done once.
    let numbers = |store: usize| {
        let sum = (0..1000).map(|n| {
            let key = format!("counter:{n:012}");
            stores.ask(store, &["GET", &key]).unwrap().text().parse::<u64>().unwrap_or(0)
        });
        sum.sum::<u64>()
    };
    assert_eq!(numbers(order[2]), 4 * 3200);
}

#[test]
fn redis_py() {
    if !is_installed("python3", &["-c", "import redis; assert redis.VERSION[0] >= 5"]) {
        return;
    }
    let (mut stores, order) = cluster();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/processes/ordinary_client.py");
    let mut command = Command::new("python3");
    command.arg(script);
    command.args(order.iter().map(|&store| stores.address(store).port().to_string()));
    let mut python = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = python.stdin.take().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(python.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.as_str() {
            "kill" => stores.kill(order[0]).unwrap(),
            "start" => stores.start_one(order[0]).unwrap(),
            _ => {}
        }
        // It may have ended meanwhile, and its exit code says why.
        let _ = to.write_all(b"\n");
        said.push(line);
    }
    assert!(python.wait().unwrap().success(), "its complaint is above; it said {said:?}");
    assert!(said.last().is_some_and(|line| line.starts_with("done, by redis-py ")), "{said:?}");
    stores.check().unwrap();
}
