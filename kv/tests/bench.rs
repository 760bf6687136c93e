//! `raftkv bench`: what it prints and writes, and that it notices when a store breaks its word.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use kv::bench::{LocalCluster, Sync};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_raftkv");

/// Runs `raftkv bench`, shortly; its exit code and what it prints.
fn bench(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(PROGRAM);
    command.args(["bench"]).args(args).args(["--duration", "0.3", "--warm-up", "0.1"]);
    let output = command.current_dir(dir).output().expect("the program was built");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn table_json_and_page_tell_the_same() {
    let dir = TempDir::new().expect("a directory");
    let files = ["--json", "figures.json", "--html", "figures.html"];
    let args = [&["mixed", "--clients", "2,8", "--payload", "64"][..], &files].concat();
    let (code, table, errors) = bench(dir.path(), &args);
    assert_eq!(code, Some(0), "{errors}");
    assert!(table.contains("3 stores in this process, synced"), "{table}");
    assert!(table.contains("acknowledged writes on 640 keys: none is missing"), "{table}");
    assert!(!dir.path().join("raftkv-bench-data").exists(), "what it made is removed");

    let json = std::fs::read_to_string(dir.path().join("figures.json")).expect("it was written");
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["workload"], &json["sync"]), (&"mixed".into(), &"synced".into()));
    assert!(json["floor"]["sync_p50_ns"].as_u64() > Some(0), "{json}");
    let points = json["points"].as_array().expect("a list");
    assert_eq!(
        points.iter().map(|p| p["clients"].as_u64()).collect::<Vec<_>>(),
        [Some(2), Some(8)]
    );
    for point in points {
        assert!(
            point["requests"].as_u64() > Some(0)
                && point["errors"] == Value::Object(Default::default())
        );
        let latencies = point["latency_ns"].as_array().expect("a list").iter();
        assert!(latencies.map(|at| at["ns"].as_u64()).is_sorted(), "{point}");
    }

    let page = std::fs::read_to_string(dir.path().join("figures.html")).expect("it was written");
    assert_eq!(page.matches("<svg").count(), 4);
    for outside in ["<script", "http:", "https:", "url(", "@import", "src="] {
        assert!(!page.contains(outside), "the page needs nothing else, not even {outside}");
    }
}

#[test]
fn figures_without_syncs_say_so_wherever_they_show() {
    let dir = TempDir::new().expect("a directory");
    let files = ["--json", "figures.json", "--html", "figures.html"];
    let args = [&["commit", "--clients", "1,4", "--sync", "never"][..], &files].concat();
    let (code, table, errors) = bench(dir.path(), &args);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(table.lines().filter(|line| line.ends_with("NOT SYNCED")).count(), 2, "{table}");
    let read = |name| std::fs::read_to_string(dir.path().join(name)).expect("it was written");
    assert_eq!(read("figures.json").matches("\"sync\": \"NOT SYNCED\"").count(), 3);
    // The warning, the title, four charts, two rows.
    assert_eq!(read("figures.html").matches("NOT SYNCED").count(), 8);
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    let dir = TempDir::new().expect("a directory");
    let args = ["commit", "--clients", "4", "--rate", "100", "--json", "figures.json"];
    let (code, _, errors) = bench(dir.path(), &args);
    assert_eq!(code, Some(0), "{errors}");
    let json = std::fs::read_to_string(dir.path().join("figures.json")).expect("it was written");
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    let done = json["verified"]["acknowledged_writes"].as_u64().expect("a number");
    assert!((1..=41).contains(&done), "in 0.4 s, at 100 a second: {done}");
}

#[test]
fn stores_elsewhere_are_measured_and_left_as_they_were() {
    let dir = TempDir::new().expect("a directory");
    let cluster = LocalCluster::start(&dir.path().join("data"), 1, Sync::Always, |_| {});
    let cluster = cluster.expect("an empty store starts");
    let address = cluster.address().to_string();
    let (code, table, errors) =
        bench(dir.path(), &["get", "--addr", &address, "--clients", "3", "--batch", "4"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(table.contains(&format!("the stores at {address}, synced")), "{table}");
    assert!(table.contains("192 acknowledged writes on 192 keys: none is missing"), "{table}");
    assert_eq!(ask(&address, "DBSIZE"), ":0", "its keys are removed");
    cluster.stop().expect("a healthy store stops");
}

fn ask(address: &str, command: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("it listens");
    socket.write_all(format!("{command}\r\n").as_bytes()).expect("connected");
    BufReader::new(socket).lines().next().expect("an answer").expect("text")
}

/// A store that acknowledges everything and keeps nothing.
fn forgetful_store() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.expect("a connection");
            std::thread::spawn(move || forget(&socket));
        }
    });
    address
}

fn forget(mut socket: &TcpStream) {
    let mut lines = BufReader::new(socket.try_clone().expect("a socket")).lines();
    let mut line = || lines.next()?.ok();
    while let Some(head) = line() {
        let count: usize = head[1..].parse().expect("a command");
        let args: Vec<String> = (0..count).filter_map(|_| line().and_then(|_| line())).collect();
        let answer = match args[0].as_str() {
            "MGET" => format!("*{}\r\n", count - 1) + &"$-1\r\n".repeat(count - 1),
            _ => "+OK\r\n".to_owned(),
        };
        if socket.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn a_store_that_loses_what_it_acknowledged_is_exit_code_4() {
    let dir = TempDir::new().expect("a directory");
    let address = forgetful_store();
    // The values have to be lines, for the forgetful store's sake.
    let args = ["put", "--addr", &address, "--clients", "2", "--payload", "16"];
    let (code, table, errors) = bench(dir.path(), &args);
    assert_eq!(code, Some(4), "{errors}");
    assert!(table.contains(" keys LOST an acknowledged write"), "{table}");
    assert!(table.contains("no value of ours, after value "), "{table}");
    assert!(errors.contains("LOST an acknowledged write"), "{errors}");
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("raftkv-bench-data/precious");
    std::fs::create_dir(file.parent().expect("below the directory")).expect("a directory");
    std::fs::write(&file, "x").expect("a file");
    let (code, _, errors) = bench(dir.path(), &["commit"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("raftkv-bench-data is not empty"), "{errors}");
    assert!(file.exists());
}

#[test]
fn nobody_at_the_address_is_exit_code_1() {
    let dir = TempDir::new().expect("a directory");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    let (code, _, errors) = bench(dir.path(), &["put", "--addr", &address]);
    assert_eq!(code, Some(1));
    assert!(errors.contains(&format!("the connection to {address} failed")), "{errors}");
}
