//! The page of `raftkv bench` in a browser: no complaint on its console, no request but for itself.
//!
//! Chromium writes down each request that it makes; those of a page from a file name `file://` as the
//! place that they are for, its own errands (updates, the time) don't. Where Chromium is not
//! installed, that is said, and nothing is checked.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_raftkv");
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
];

/// What a browser saw of a page.
struct Seen {
    /// What the page has become, once loaded.
    elements: String,
    /// What was said on the console.
    console: Vec<String>,
    /// What was asked for on the page's behalf.
    requests: Vec<String>,
}

/// Whatever is installed and says which version it is.
fn browser() -> Option<&'static str> {
    BROWSERS.into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    })
}

fn open(browser: &str, page: &Path) -> Seen {
    let dir = TempDir::new().expect("a directory");
    let net = dir.path().join("net.json");
    let output = Command::new(browser)
        .args(FLAGS)
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("--log-net-log={}", net.display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("it told its version a moment ago");
    let errors = String::from_utf8_lossy(&output.stderr);
    let net = fs::read(&net).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let net: Value = serde_json::from_slice(&net).expect("its list of requests is JSON");
    Seen {
        elements: String::from_utf8_lossy(&output.stdout).into_owned(),
        console: errors.lines().filter(|l| l.contains("CONSOLE")).map(String::from).collect(),
        requests: requests_of_files(&net),
    }
}

/// The addresses that a page from a file asked for.
fn requests_of_files(net: &Value) -> Vec<String> {
    let events = net["events"].as_array().expect("a list of events");
    let text = |event: &Value, name: &str| event["params"][name].as_str().map(String::from);
    let is_files = |event: &&Value| {
        text(event, "network_isolation_key").is_some_and(|place| place.contains("file://"))
    };
    events.iter().filter(is_files).filter_map(|event| text(event, "url")).collect()
}

#[test]
fn the_page_opens_without_a_complaint_or_a_request() {
    let Some(browser) = browser() else {
        // Not by a macro: what those write is kept from whoever runs the tests.
        let note = "Chromium is not installed: the page of `raftkv bench` was not opened\n";
        return std::io::stderr().write_all(note.as_bytes()).expect("somewhere to write to");
    };
    let dir = TempDir::new().expect("a directory");
    let output = Command::new(PROGRAM)
        .args(["bench", "--clients", "1,8", "--duration", "0.3", "--warm-up", "0.1"])
        .args(["--html", "page.html"])
        .current_dir(dir.path())
        .output()
        .expect("the program was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let page = dir.path().join("page.html");
    let seen = open(browser, &page);
    // Throughput and six latencies, both with the floor, and twice a line for each number of clients.
    let lines = 2 + 7 + 2 + 2;
    assert_eq!(seen.elements.matches("<polyline").count(), lines, "{}", seen.elements);
    assert_eq!((seen.console, seen.requests), (vec![], vec![]));

    // The same page with a fault of each kind, to show that they would be seen.
    let faults = "<img src=\"http://127.0.0.1:9/no\"><script>console.error('no')</script></body>";
    let text = fs::read_to_string(&page).expect("it was opened");
    fs::write(&page, text.replace("</body>", faults)).expect("it was written before");
    let seen = open(browser, &page);
    assert_eq!(seen.requests, ["http://127.0.0.1:9/no"]);
    assert!(seen.console.len() == 1 && seen.console[0].contains("no"), "{:?}", seen.console);
}
