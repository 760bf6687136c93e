use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use raftstore::disk::sim::{Fault, SimDisk};
use raftstore::disk::{ClusterId, Disk};
use raftstore::transport::local::Network;
use tempfile::TempDir;

use super::text::Kind;
use super::*;
use crate::store::{RunningStore, StoreOptions};

/// Far more than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

/// A store and where it is watched.
struct Watched {
    store: Arc<RunningStore>,
    endpoint: Endpoint,
}

impl Watched {
    fn new(options: StoreOptions, network: &Network) -> Watched {
        let transport = network.transport(options.store);
        let store = RunningStore::start(options, transport, listener()).expect("it starts");
        let store = Arc::new(store);
        let of = Arc::clone(&store);
        let page = move || of.figures().to_text();
        let endpoint = Endpoint::start(listener(), "metrics", EndpointLimits::default(), page);
        Watched { store, endpoint: endpoint.expect("a thread") }
    }

    /// What a client is answered, when there is a leader.
    fn ask(&self, command: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut socket = TcpStream::connect(self.store.address()).expect("it listens");
            socket.write_all(format!("{command}\r\n").as_bytes()).expect("connected");
            let mut line = String::new();
            BufReader::new(socket).read_line(&mut line).expect("an answer");
            if !line.starts_with("-TRYAGAIN") || Instant::now() > deadline {
                return line.trim_end().to_owned();
            }
        }
    }

    fn scrape(&self) -> Scrape {
        let answer = get(&self.endpoint, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let kind = "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
        assert!(head.contains(kind), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        Scrape::parse(body)
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Scrape) -> bool) -> Scrape {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let scrape = self.scrape();
            if is_so(&scrape) {
                return scrape;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {scrape:#?}");
        }
    }
}

fn options(store: u64, stores: u64, data: &Path) -> StoreOptions {
    let members = (1..=stores).map(StoreId).collect();
    let data = data.join(format!("store{store}"));
    StoreOptions::new(StoreId(store), ClusterId(7), members, data)
}

/// A store alone, on disk.
fn alone(dir: &TempDir) -> Watched {
    Watched::new(options(1, 1, dir.path()), &Network::new())
}

/// All that is answered to `request`.
fn get(endpoint: &Endpoint, request: impl AsRef<[u8]>) -> String {
    let mut socket = TcpStream::connect(endpoint.address()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    // It may have had enough before it has read everything.
    let _ = socket.write_all(request.as_ref());
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8(answer).expect("text")
}

/// A page, read as Prometheus reads it, which is strict here where Prometheus forgives.
#[derive(Debug, Default)]
struct Scrape {
    kinds: BTreeMap<String, String>,
    /// By name and labels.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    fn parse(page: &str) -> Scrape {
        let mut scrape = Scrape::default();
        let mut current = (String::new(), String::new());
        assert!(page.ends_with('\n'), "the last line ends, too");
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a help");
                assert!(!text.is_empty() && !text.contains('\\'), "{line}");
                current = (name.to_owned(), String::new());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(name, current.0, "{line}");
                current.1 = kind.to_owned();
                let twice = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(twice, None, "{line}");
            } else {
                scrape.sample(line, &current);
            }
        }
        scrape
    }

    fn sample(&mut self, line: &str, (metric, kind): &(String, String)) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let name = series.split('{').next().expect("a name");
        let suffix = name.strip_prefix(metric).expect("below its own type");
        let suffixes: &[&str] =
            if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(name.chars().all(legal), "{line}");
        let twice = self.samples.insert(series.to_owned(), value.parse().expect("a number"));
        assert_eq!(twice, None, "{line}");
    }

    fn value(&self, series: &str) -> f64 {
        let series = format!("raftkv_{series}");
        *self.samples.get(&series).unwrap_or_else(|| panic!("{series} is missing: {self:#?}"))
    }
}

/// The names on the page of a running store, those of the table, and those that are documented.
#[test]
fn the_names_are_those_that_are_documented() {
    let dir = TempDir::new().expect("a directory");
    let watched = alone(&dir);
    let scrape = watched.scrape();
    let documented: BTreeMap<String, String> = include_str!("../../METRICS.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), (*cells.get(2)?).to_owned()))
        })
        .collect();
    assert!(documented.len() > 50, "{documented:?}");
    assert_eq!(scrape.kinds, documented);
    for metric in table::METRICS {
        let row = format!("| `{}` | {} | {} |", metric.name, metric.kind.name(), metric.help);
        assert!(include_str!("../../METRICS.md").contains(&row), "{row}");
        let is_total = metric.name.ends_with("_total");
        assert_eq!(is_total, metric.kind == Kind::Counter, "{}", metric.name);
    }
    let names: BTreeSet<&str> = table::METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), table::METRICS.len(), "each once");
    let with_samples = |name: &&str| {
        let is_of = |series: &String| series.starts_with(*name);
        scrape.samples.keys().any(is_of)
    };
    assert!(names.iter().all(with_samples), "each with a value");
    watched.store.stop().expect("in good order");
}

/// Each histogram grows towards its end, whose count is that of all.
fn check_histograms(scrape: &Scrape) {
    for (name, _) in scrape.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
        let prefix = format!("{name}_bucket{{le=\"");
        let mut buckets: Vec<(f64, f64)> = scrape
            .samples
            .iter()
            .filter_map(|(series, count)| {
                let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
                Some((bound, *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.len() > 10, "{name}");
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
        let all = buckets.last().map(|bucket| bucket.1);
        assert_eq!(all, scrape.samples.get(&format!("{name}_count")).copied(), "{name}");
    }
}

#[test]
fn values_move_as_writes_happen() {
    let (dir, network) = (TempDir::new().expect("a directory"), Network::new());
    let stores: Vec<Watched> =
        (1..=3).map(|id| Watched::new(options(id, 3, dir.path()), &network)).collect();
    assert_eq!(stores[0].ask("SET a 1"), "+OK");
    let is_leader = |watched: &&Watched| {
        watched.wait("a leader", |now| now.value("server_has_leader{region=\"1\"}") == 1.0);
        watched.scrape().value("server_is_leader{region=\"1\"}") == 1.0
    };
    let leader = stores.iter().find(is_leader).expect("one leads");
    let before = leader.scrape();
    for n in 0..20 {
        assert_eq!(leader.ask(&format!("SET key{n} value{n}")), "+OK");
    }
    leader.ask("GET key7");
    let after = leader.wait("the next tick", |now| {
        now.value("server_proposals_applied_total")
            >= before.value("server_proposals_applied_total") + 20.0
            && now.value("server_proposals_total") >= before.value("server_proposals_total") + 20.0
            && now.value("state_keys") == 21.0
            && now.value("server_proposals_pending") == 0.0
    });
    check_histograms(&after);
    let grew = |series: &str| after.value(series) - before.value(series);
    assert!(grew("disk_wal_fsync_duration_seconds_count") >= 20.0, "each was synced on its own");
    assert!(grew("disk_wal_fsync_duration_seconds_sum") > 0.0);
    assert!(grew("disk_wal_write_bytes_total") > 20.0 * 10.0);
    assert!(grew("disk_wal_batch_bytes_sum") == grew("disk_wal_write_bytes_total"));
    assert!(grew("server_apply_duration_seconds_count") >= 20.0);
    assert!(grew("network_messages_sent_total") >= 40.0, "to two followers");
    assert!(grew("raft_applied_index{region=\"1\"}") >= 20.0);
    assert_eq!(after.value("raft_groups_led"), 1.0);
    assert!(after.value("server_leader_changes_seen_total") >= 1.0);
    assert!(after.value("disk_wal_live_bytes") > 0.0);
    assert_eq!(after.value("disk_wal_fsync_failures_total"), 0.0);
    assert_eq!(after.value(&format!("server_id{{store=\"{}\"}}", leader.store.store())), 1.0);
    let led: f64 = stores.iter().map(|s| s.scrape().value("raft_groups_led")).sum();
    assert_eq!(led, 1.0, "the stores of a process do not mix");
    stores.iter().for_each(|watched| watched.store.stop().expect("in good order"));
}

/// The disk under `open_sim`, which can hold on to nothing.
static DISK: OnceLock<SimDisk> = OnceLock::new();

fn open_sim(_: &Path) -> std::io::Result<Arc<dyn Disk>> {
    Ok(DISK.get_or_init(|| SimDisk::new(1)).mount())
}

#[test]
fn a_failed_sync_shows() {
    let dir = TempDir::new().expect("a directory");
    let options = StoreOptions { open_disk: open_sim, ..options(1, 1, dir.path()) };
    let watched = Watched::new(options, &Network::new());
    assert_eq!(watched.ask("SET a 1"), "+OK");
    assert_eq!(watched.scrape().value("server_is_failed"), 0.0);
    // The sync of what it writes next, unless it wrote something by itself just now.
    DISK.get().expect("in use").fail(1, Fault::Error);
    assert!(watched.ask("SET a 2").starts_with("-UNKNOWN"), "it must not be acknowledged");
    let after = watched.wait("the failure", |now| now.value("server_is_failed") == 1.0);
    let failures = ["disk_wal_fsync_failures_total", "disk_wal_write_failures_total"];
    assert_eq!(failures.map(|series| after.value(series)).iter().sum::<f64>(), 1.0);
    assert!(watched.store.stop().is_err(), "it had failed");
}

#[test]
fn garbage_is_answered_and_hurts_nobody() {
    let dir = TempDir::new().expect("a directory");
    let watched = alone(&dir);
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(16 << 10));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    for (request, answer) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 404 "),
        (b"GET /metrics/x HTTP/1.0\r\n\r\n", "HTTP/1.1 404 "),
        (b"GET /metrics?name=x HTTP/1.1\r\n\r\n", "HTTP/1.1 200 "),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 "),
        (b"*1\r\n$4\r\nPING\r\n", "HTTP/1.1 400 "),
        (b"\xff\xfe\x00\x01", "HTTP/1.1 400 "),
        (&[0; 100], "HTTP/1.1 400 "),
        (long.as_bytes(), "HTTP/1.1 431 "),
        (many.as_bytes(), "HTTP/1.1 431 "),
    ] {
        let answered = get(&watched.endpoint, request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]);
        assert!(answered.starts_with(answer), "{shown:?}: {answered:?}");
    }
    let head = get(&watched.endpoint, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head:?}");
    // Whatever bytes come, and however few of them.
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let garbage: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
        let mut socket = TcpStream::connect(watched.endpoint.address()).expect("it listens");
        let _ = socket.write_all(&garbage);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.read_to_end(&mut Vec::new());
    }
    assert_eq!(watched.ask("SET a 1"), "+OK");
    watched.scrape();
    watched.store.stop().expect("in good order");
}

#[test]
fn whoever_is_slow_or_one_too_many_is_turned_away() {
    let limits = EndpointLimits {
        time_max: Duration::from_millis(50),
        connections_max: 2,
        ..EndpointLimits::default()
    };
    let page = || "page\n".to_owned();
    let endpoint = Endpoint::start(listener(), "metrics", limits, page).expect("a thread");
    // Never ends its request.
    assert!(get(&endpoint, "GET /metrics HTTP/1.1\r\n").starts_with("HTTP/1.1 408 "));

    let patient = EndpointLimits { time_max: PATIENCE, ..limits };
    let endpoint = Endpoint::start(listener(), "metrics", patient, page).expect("a thread");
    let silent = [(); 2].map(|()| TcpStream::connect(endpoint.address()).expect("it listens"));
    // They are accepted in their order. What was sent and not read may cost the answer.
    let answer = get(&endpoint, "");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
    drop(silent);
    let deadline = Instant::now() + PATIENCE;
    while !get(&endpoint, "GET /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\npage\n") {
        assert!(Instant::now() < deadline, "they are gone");
    }
    endpoint.stop();
    assert!(TcpStream::connect(endpoint.address()).is_err(), "nobody listens any more");
}
