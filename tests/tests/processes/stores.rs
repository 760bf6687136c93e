//! Stores as processes of their own, on ports of this machine and directories that go away.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;

/// The program, built like this test if it is not there yet.
fn raftkv() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let this = std::env::current_exe().unwrap();
        let folder = this.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "kv", "--bin", "raftkv"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        build.arg("--target-dir").arg(folder.parent().unwrap());
        assert!(build.status().unwrap().success(), "raftkv can be built");
        folder.join("raftkv")
    })
}

/// Ports that nobody listens on, at this moment.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Asks again and again until there is an answer, but not for longer than `within`.
pub(crate) fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        std::thread::yield_now();
    }
}

/// A program that is killed with its handle.
struct Process(Child);

impl Process {
    /// Starts raftkv; what it says goes to the file `log`.
    fn start(args: &[&str], log: &Path) -> Process {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let program = Command::new(raftkv())
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn();
        Process(program.unwrap())
    }

    fn kill_9(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster of three processes.
pub(crate) struct Stores {
    dir: TempDir,
    peers: String,
    ports: [u16; 3],
    processes: [Option<Process>; 3],
}

impl Stores {
    pub(crate) fn start() -> Stores {
        let [a, b, c, x, y, z] = free_ports();
        let mut stores = Stores {
            dir: TempDir::new().unwrap(),
            peers: format!("1=127.0.0.1:{a},2=127.0.0.1:{b},3=127.0.0.1:{c}"),
            ports: [x, y, z],
            processes: [None, None, None],
        };
        (0..3).for_each(|store| stores.start_one(store));
        stores
    }

    fn data(&self, store: usize) -> PathBuf {
        self.dir.path().join(format!("store{}", store + 1))
    }

    pub(crate) fn address(&self, store: usize) -> SocketAddr {
        local(self.ports[store])
    }

    pub(crate) fn start_one(&mut self, store: usize) {
        let (id, data) = ((store + 1).to_string(), self.data(store));
        let listen = self.address(store).to_string();
        let args = ["server", "--id", &id, "--peers", &self.peers, "--listen", &listen, "--data"];
        let log = self.dir.path().join(format!("log{id}"));
        let args: Vec<&str> = args.into_iter().chain([data.to_str().unwrap()]).collect();
        self.processes[store] = Some(Process::start(&args, &log));
    }

    pub(crate) fn kill_9(&mut self, store: usize) {
        self.processes[store].take().unwrap().kill_9();
    }

    /// What the store says of itself, if it answers: the fields of `INFO raft`.
    pub(crate) fn field(&self, store: usize, name: &str) -> Option<String> {
        let info = Client::connect(self.address(store)).ok()?.call(&["INFO", "raft"]).ok()?.text();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::to_string)
    }

    pub(crate) fn number(&self, store: usize, name: &str) -> Option<u64> {
        self.field(store, name)?.parse().ok()
    }

    /// The store that leads, as it says itself.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..3).find(|&store| self.field(store, "role").as_deref() == Some("leader"))
    }
}
