//! The program itself: what it says and how it ends, above all when something is wrong.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_raftkv");

/// Far more than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first of `count` ports that follow each other and that nobody has right now.
fn free_ports(count: u16) -> u16 {
    // Each test process looks elsewhere, and each call goes on from the one before.
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 30_000) as u16;
    loop {
        let first = base + NEXT.fetch_add(count, Ordering::Relaxed) % 5_000;
        if (0..count).all(|k| TcpListener::bind(("127.0.0.1", first + k)).is_ok()) {
            return first;
        }
    }
}

/// A running program, killed when the test ends.
struct Running {
    child: Child,
    greeting: String,
    /// What it logs, read in the background so that it never has to wait.
    log: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    /// Starts it and waits until it says that it runs.
    fn start(args: &[&str]) -> Running {
        let mut child = Command::new(PROGRAM)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let mut stderr = child.stderr.take().expect("piped");
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("text");
            text
        });
        let mut greeting = String::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let line = line.expect("text");
            greeting.push_str(&line);
            greeting.push('\n');
            if line == "Ctrl-C stops." {
                return Running { child, greeting, log: Some(log) };
            }
        }
        let status = child.wait().expect("it has ended");
        panic!("{status}: {}", log.join().expect("no panic"));
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("there is kill");
        assert!(status.success());
    }

    /// Asks it to stop; its exit code, how long that took, and its log.
    fn stop(mut self, signal: &str) -> (Option<i32>, Duration, String) {
        let began = Instant::now();
        self.signal(signal);
        let status = self.child.wait().expect("a child");
        let took = began.elapsed();
        let log = self.log.take().expect("not read yet").join().expect("no panic");
        (status.code(), took, log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end, which comes soon when something is wrong.
fn run(args: &[&str]) -> (i32, String) {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("a child");
            panic!("it runs, with {args:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stderr, .. } = child.wait_with_output().expect("it has ended");
    let text = String::from_utf8(stderr).expect("text");
    (status.code().unwrap_or_else(|| panic!("{status}: {text}")), text)
}

/// The first line a store answers.
fn ask(port: u16, command: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket.write_all(format!("{command}\r\n").as_bytes()).expect("connected");
    let mut answer = BufReader::new(socket).lines();
    let line = answer.next().expect("an answer").expect("text");
    match line.strip_prefix('$') {
        Some("-1") | None => line,
        Some(_) => answer.next().expect("the rest").expect("text"),
    }
}

struct Scene {
    dir: TempDir,
    port: u16,
}

impl Scene {
    fn new() -> Scene {
        Scene { dir: TempDir::new().expect("a directory"), port: free_ports(3) }
    }

    fn data(&self) -> String {
        self.dir.path().join("data").to_str().expect("text").to_owned()
    }

    fn store(&self, store: u16) -> PathBuf {
        self.dir.path().join(format!("data/store{store}"))
    }

    /// A cluster of three on the scene's data and ports.
    fn cluster(&self) -> Running {
        Running::start(&["cluster", "--data", &self.data(), "--port", &self.port.to_string()])
    }

    /// What becomes of a cluster of three, elsewhere, on the scene's data.
    fn cluster_again(&self, more: &[&str]) -> (i32, String) {
        let (data, port) = (self.data(), free_ports(3).to_string());
        run(&[&["cluster", "--data", &data, "--port", &port], more].concat())
    }
}

/// Arguments of a store in a cluster of three.
fn server(store: u16, peers: &str, data: &Path, listen: u16) -> Vec<String> {
    let (data, listen) = (data.to_str().expect("text"), format!("127.0.0.1:{listen}"));
    let store = store.to_string();
    ["server", "--id", &store, "--peers", peers, "--data", data, "--listen", &listen]
        .map(ToOwned::to_owned)
        .to_vec()
}

fn three_peers(port: u16) -> String {
    let peers = [0, 1, 2].map(|k| format!("{}=127.0.0.1:{}", k + 1, port + k));
    peers.join(",")
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_cluster_serves_stops_and_remembers() {
    let scene = Scene::new();
    let port = scene.port;
    let running = scene.cluster();
    for (line, text) in running.greeting.lines().zip([
        "raftkv 0.1.0: 3 stores running, data in ",
        &format!("  store 1  127.0.0.1:{port}"),
        &format!("  store 2  127.0.0.1:{}", port + 1),
        &format!("  store 3  127.0.0.1:{}", port + 2),
        &format!("Try: redis-cli -p {port} set k v"),
    ]) {
        assert!(line.starts_with(text), "{line}");
    }
    assert_eq!(ask(port, "SET k v"), "+OK");
    assert_eq!(ask(port + 2, "GET k"), "v");
    let (code, took, log) = running.stop("-INT");
    assert_eq!(code, Some(0), "{log}");
    assert!(took < Duration::from_secs(2), "{took:?} to stop");

    let running = scene.cluster();
    assert_eq!(ask(port + 1, "GET k"), "v");
    assert_eq!(running.stop("-TERM").0, Some(0));
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2_with_the_usage() {
    for args in [&["--nonsense"][..], &["cluster", "--stores", "0"], &["server", "--id", "1"]] {
        let (code, text) = run(args);
        assert_eq!(code, 2, "{args:?}");
        assert!(text.contains("Usage: raftkv"), "{text}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let scene = Scene::new();
    let taken = TcpListener::bind(("127.0.0.1", scene.port + 1)).expect("free");
    let port = scene.port.to_string();
    let (code, text) = run(&["cluster", "--data", &scene.data(), "--port", &port]);
    assert_eq!(code, 1);
    assert!(text.contains(&format!("can't listen on 127.0.0.1:{}: ", scene.port + 1)), "{text}");
    assert!(!Path::new(&scene.data()).exists(), "nothing was touched");

    drop(taken);
    let peers = three_peers(scene.port);
    let taken = TcpListener::bind(("127.0.0.1", scene.port)).expect("free");
    let args = server(1, &peers, &scene.store(1), free_ports(1));
    let (code, text) = run(&strs(&args));
    assert_eq!(code, 1);
    assert!(text.contains(&format!("can't listen on 127.0.0.1:{}: ", scene.port)), "{text}");
    drop(taken);
}

/// What `GET /metrics` is answered at that port.
fn metrics(port: u16) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").expect("connected");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn metrics_are_served_where_it_is_said() {
    let scene = Scene::new();
    let (port, first) = (scene.port.to_string(), free_ports(3));
    let address = format!("127.0.0.1:{first}");
    let data = scene.data();
    let args = ["cluster", "--data", &data, "--port", &port, "--metrics", &address];
    let taken = TcpListener::bind(("127.0.0.1", first + 2)).expect("free");
    let (code, text) = run(&args);
    assert_eq!(code, 1);
    assert!(text.contains(&format!("can't listen on 127.0.0.1:{}: ", first + 2)), "{text}");
    assert!(!Path::new(&data).exists(), "nothing was touched");
    drop(taken);

    let running = Running::start(&args);
    assert_eq!(ask(scene.port, "SET k v"), "+OK");
    for (store, port) in (1..=3).zip(first..) {
        let line = format!("Metrics of store {store}: http://127.0.0.1:{port}/metrics");
        assert!(running.greeting.lines().any(|l| l == line), "{}", running.greeting);
        let page = metrics(port);
        assert!(page.contains(&format!("\nraftkv_server_id{{store=\"{store}\"}} 1\n")), "{page}");
    }
    assert_eq!(running.stop("-TERM").0, Some(0));

    let (scene, listen) = (Scene::new(), free_ports(2));
    let args = server(1, &three_peers(scene.port), &scene.store(1), listen);
    let args = [args, vec!["--metrics".into(), format!("127.0.0.1:{}", listen + 1)]].concat();
    let running = Running::start(&strs(&args));
    assert!(metrics(listen + 1).contains("\nraftkv_server_has_leader{region=\"1\"} 0\n"));
    assert_eq!(running.stop("-TERM").0, Some(0));
}

#[test]
fn a_directory_that_is_in_use_or_somebody_elses_is_refused_by_name() {
    let scene = Scene::new();
    let running = scene.cluster();
    let (code, text) = scene.cluster_again(&[]);
    assert_eq!(code, 1);
    let owner = format!("in use by process {} (store 1)", running.child.id());
    assert!(text.contains(&owner), "{text}");
    assert_eq!(running.stop("-TERM").0, Some(0));

    let (code, text) = scene.cluster_again(&["--stores", "5"]);
    assert_eq!(code, 1);
    assert!(text.contains("a cluster of the stores 1 2 3, not 1 2 3 4 5"), "{text}");

    fs::rename(scene.store(2), scene.store(4)).expect("a directory");
    fs::rename(scene.store(3), scene.store(2)).expect("a directory");
    let (code, text) = scene.cluster_again(&[]);
    assert_eq!(code, 1);
    assert!(text.contains("belongs to store 3, not to store 2"), "{text}");

    let other = Scene::new();
    assert_eq!(other.cluster().stop("-TERM").0, Some(0));
    fs::remove_dir_all(scene.store(2)).expect("a directory");
    fs::rename(other.store(2), scene.store(2)).expect("a directory");
    let (code, text) = scene.cluster_again(&[]);
    assert_eq!(code, 1);
    assert!(text.contains("belongs to cluster "), "{text}");
}

/// Museum M12, in the program's hands.
#[test]
fn a_store_that_has_lost_its_data_is_taken_back_on_purpose_only() {
    let scene = Scene::new();
    let running = scene.cluster();
    assert_eq!(ask(scene.port, "SET k v"), "+OK");
    assert_eq!(running.stop("-TERM").0, Some(0));

    fs::remove_dir_all(scene.store(3)).expect("a directory");
    let (code, text) = scene.cluster_again(&[]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("store 3 has lost its data"), "{text}");
    let (code, text) = scene.cluster_again(&["--readmit", "2"]);
    assert_eq!(code, 3, "{text}");

    let port = scene.port.to_string();
    let data = scene.data();
    let args = ["--data", &data, "--port", &port, "--readmit", "3"];
    let running = Running::start(&args);
    assert_eq!(ask(scene.port + 2, "GET k"), "v");
    assert_eq!(running.stop("-TERM").0, Some(0));
    // It is known by its new data now.
    assert_eq!(scene.cluster().stop("-TERM").0, Some(0));
}

#[test]
fn a_server_of_another_list_of_stores_is_refused() {
    let scene = Scene::new();
    let peers = three_peers(scene.port);
    let data = scene.store(1);
    let args = server(1, &peers, &data, free_ports(1));
    assert_eq!(Running::start(&strs(&args)).stop("-TERM").0, Some(0));

    let moved = peers.replacen(&format!(":{}", scene.port + 2), ":1", 1);
    let args = server(1, &moved, &data, free_ports(1));
    let (code, text) = run(&strs(&args));
    assert_eq!(code, 1);
    let (_, cluster) = text.trim_end().rsplit_once("say --cluster-id ").expect("a way out");

    // Another address, on purpose, is fine; another store is not.
    let args = [args, vec!["--cluster-id".into(), cluster.into()]].concat();
    assert_eq!(Running::start(&strs(&args)).stop("-TERM").0, Some(0));
    let args: Vec<String> = args.iter().map(|arg| arg.replace("3=", "4=")).collect();
    let (code, text) = run(&strs(&args));
    assert_eq!(code, 1);
    assert!(text.contains("a cluster of the stores 1 2 3, not 1 2 4"), "{text}");
}

#[test]
fn without_a_leader_a_write_is_answered_and_nothing_hangs() {
    let scene = Scene::new();
    let listen = free_ports(1);
    let args = server(1, &three_peers(scene.port), &scene.store(1), listen);
    let running = Running::start(&strs(&args));
    let began = Instant::now();
    assert!(ask(listen, "SET k v").starts_with("-TRYAGAIN no leader"));
    assert!(ask(listen, "GET k").starts_with("-TRYAGAIN "));
    assert!(began.elapsed() < Duration::from_secs(10), "two answers, both bounded");
    assert_eq!(ask(listen, "PING"), "+PONG");
    let (code, took, _) = running.stop("-TERM");
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "{took:?} to stop");
}

/// The log of store 1.
fn log_of(scene: &Scene) -> PathBuf {
    scene.store(1).join("wal-0000000001.log")
}

/// Where the last record of store 1's log ends, padding included: what `raftkv wal dump` says of it.
fn end_of_log(scene: &Scene) -> usize {
    let output = Command::new(PROGRAM).args(["wal", "dump"]).arg(scene.store(1)).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    // `    6656 record 6 mark, 512 bytes, durable up to 5`
    let last = text.lines().rfind(|line| line.contains(" record ")).expect("a record");
    let numbers: Vec<usize> =
        last.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    numbers[0] + numbers[2]
}

fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).expect("a log");
    file.write_all_at(bytes, offset as u64).expect("room");
}

#[test]
fn a_torn_tail_is_cut_and_said() {
    let scene = Scene::new();
    let running = scene.cluster();
    assert_eq!(ask(scene.port, "SET k v"), "+OK");
    assert_eq!(running.stop("-TERM").0, Some(0));

    let end = end_of_log(&scene);
    overwrite(&log_of(&scene), end, &[0xab; 40]);
    let running = scene.cluster();
    assert_eq!(ask(scene.port, "GET k"), "v");
    let (code, _, log) = running.stop("-TERM");
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("torn")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    let (line, at) = (lines[0], format!("from offset {end} "));
    assert!(line.contains("store 1: ") && line.contains("wal-0000000001.log"), "{line}");
    assert!(line.contains("40 bytes") && line.contains(&at), "{line}");
}

#[test]
fn damage_is_refused_with_its_place_and_exit_code_3() {
    let scene = Scene::new();
    let running = scene.cluster();
    for i in 0..20 {
        assert_eq!(ask(scene.port, &format!("SET key{i} value{i}")), "+OK");
    }
    assert_eq!(running.stop("-TERM").0, Some(0));

    let path = log_of(&scene);
    let bytes = fs::read(&path).expect("a log");
    let at = bytes.windows(6).position(|w| w == b"value3").expect("it was written");
    overwrite(&path, at, b"VALUE3");
    for _ in 0..2 {
        let (code, text) = scene.cluster_again(&[]);
        assert_eq!(code, 3, "{text}");
        assert!(text.contains("wal-0000000001.log: damaged at offset "), "{text}");
    }
    overwrite(&path, at, b"value3");
    let running = scene.cluster();
    assert_eq!(ask(scene.port, "GET key19"), "value19", "nothing was changed meanwhile");
    assert_eq!(running.stop("-TERM").0, Some(0));
}

#[test]
fn an_impatient_second_signal_ends_it_at_once() {
    let scene = Scene::new();
    let listen = free_ports(1);
    let args = server(1, &three_peers(scene.port), &scene.store(1), listen);
    let mut running = Running::start(&strs(&args));
    // A write without a leader is what the first signal makes it wait for.
    let mut socket = TcpStream::connect(("127.0.0.1", listen)).expect("it listens");
    socket.write_all(b"PING\r\nSET k v\r\n").expect("connected");
    let mut pong = [0; 7];
    socket.read_exact(&mut pong).expect("an answer");
    running.signal("-INT");
    running.signal("-TERM");
    assert_eq!(running.child.wait().expect("a child").code(), Some(130));
}
