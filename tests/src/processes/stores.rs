//! The processes of a cluster: their ports, their directories, and which of them run.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kv::store::Reads;
use tempfile::TempDir;

use super::program::{Process, raftkv};
use super::resp::{Connection, Reply};

/// How long anything may take that must come, on a machine that does other things, too.
pub const LONG: Duration = Duration::from_secs(60);

/// How long a store may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks again and again until there is an answer, but not for longer than `within`.
///
/// ```
/// use std::time::Duration;
/// use harness::processes::stores::wait_for;
///
/// let mut left = 3;
/// let mut ask = || { left -= 1; (left == 0).then_some("done") };
/// assert_eq!(wait_for("the third time", Duration::from_secs(5), &mut ask), Ok("done"));
/// assert!(wait_for("what never comes", Duration::ZERO, || None::<()>).is_err());
/// ```
///
/// # Errors
/// If there is none by then.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() >= within {
            return Err(format!("{what}: not within {within:?}"));
        }
        // What is waited for happens in other processes, in real time.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ports that nobody listens on, and that the system does not give to whoever connects somewhere: a
/// store that is down for a while must find its own free again.
fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let mut rng = fastrand::Rng::with_seed(u64::from(std::process::id()) << 20 ^ nanos());
    let mut held = Vec::new();
    for _ in 0..1000 {
        if held.len() == count {
            let port = |l: &TcpListener| l.local_addr().map(|address| address.port());
            let ports: Result<_, _> = held.iter().map(port).collect();
            return ports.map_err(|e| format!("ports: {e}"));
        }
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, rng.u16(10_000..32_000))));
    }
    Err("there are no free ports".to_owned())
}

fn nanos() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.subsec_nanos().into())
}

/// What a process of the cluster is doing.
#[derive(Debug)]
enum State {
    Running(Process),
    Paused(Process),
    Down,
}

/// A cluster of processes, in a directory that goes away with it. Stores are counted from 0 here,
/// and from 1 where people see them.
///
/// ```no_run
/// use harness::processes::stores::{LONG, Stores, wait_for};
///
/// let mut stores = Stores::start(3)?;
/// let leader = wait_for("a leader", LONG, || stores.leader())?;
/// stores.kill(leader)?;
/// wait_for("another leader", LONG, || stores.leader())?;
/// stores.start_one(leader)?;
/// # Ok::<(), String>(())
/// ```
#[derive(Debug)]
pub struct Stores {
    dir: TempDir,
    program: PathBuf,
    peers: String,
    reads: Reads,
    ports: Vec<u16>,
    states: Vec<State>,
}

impl Stores {
    /// Starts that many.
    ///
    /// # Errors
    /// If the program is not there, or the system does not give what it takes.
    pub fn start(count: usize) -> Result<Stores, String> {
        Stores::start_program(&raftkv()?, count, Reads::default())
    }

    /// Starts that many of `program`, which read as said.
    ///
    /// # Errors
    /// As [`Stores::start`].
    pub fn start_program(program: &Path, count: usize, reads: Reads) -> Result<Stores, String> {
        let ports = free_ports(2 * count)?;
        let (between, clients) = ports.split_at(count);
        let peers = (1..).zip(between).map(|(id, port)| format!("{id}=127.0.0.1:{port}"));
        let mut stores = Stores {
            dir: TempDir::new().map_err(|e| format!("a directory: {e}"))?,
            program: program.to_owned(),
            peers: peers.collect::<Vec<_>>().join(","),
            reads,
            ports: clients.to_vec(),
            states: (0..count).map(|_| State::Down).collect(),
        };
        (0..count).try_for_each(|store| stores.start_one(store))?;
        Ok(stores)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// Where the data of a store is.
    #[must_use]
    pub fn data(&self, store: usize) -> PathBuf {
        self.dir.path().join(format!("store{}", store + 1))
    }

    /// What a store has said, in all its lives.
    #[must_use]
    pub fn log(&self, store: usize) -> String {
        let text = fs::read(self.log_path(store)).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn log_path(&self, store: usize) -> PathBuf {
        self.dir.path().join(format!("log{}", store + 1))
    }

    /// Where clients of a store connect.
    #[must_use]
    pub fn address(&self, store: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[store]).into()
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        (0..self.count()).map(|store| self.address(store)).collect()
    }

    /// What the program is told to be that store.
    #[must_use]
    pub fn args(&self, store: usize) -> Vec<String> {
        let (id, listen) = ((store + 1).to_string(), self.address(store).to_string());
        let data = self.data(store).to_string_lossy().into_owned();
        let reads = self.reads.to_string();
        let args = ["server", "--id", &id, "--peers", &self.peers, "--listen", &listen];
        let more = ["--reads", &reads, "--data", &data];
        args.into_iter().chain(more).map(str::to_owned).collect()
    }

    /// Starts a store that is down.
    ///
    /// # Errors
    /// If the system does not start it.
    pub fn start_one(&mut self, store: usize) -> Result<(), String> {
        let process = Process::start(&self.program, &self.args(store), &self.log_path(store))?;
        self.states[store] = State::Running(process);
        Ok(())
    }

    /// `kill -9`, whether it runs or is paused.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self, store: usize) -> Result<(), String> {
        match std::mem::replace(&mut self.states[store], State::Down) {
            State::Running(mut process) | State::Paused(mut process) => process.kill(),
            State::Down => Ok(()),
        }
    }

    /// Asks a store to end, and waits until it has.
    ///
    /// # Errors
    /// If it ends otherwise than by exit code 0.
    pub fn stop(&mut self, store: usize) -> Result<(), String> {
        match std::mem::replace(&mut self.states[store], State::Down) {
            State::Running(mut process) => {
                process.stop().map_err(|why| format!("store {}: {why}", store + 1))
            }
            other => {
                self.states[store] = other;
                Ok(())
            }
        }
    }

    /// `kill -STOP`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pause(&mut self, store: usize) -> Result<(), String> {
        let state = std::mem::replace(&mut self.states[store], State::Down);
        let (state, done) = match state {
            State::Running(process) => {
                let done = process.pause();
                (State::Paused(process), done)
            }
            other => (other, Ok(())),
        };
        self.states[store] = state;
        done
    }

    /// `kill -CONT`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn resume(&mut self, store: usize) -> Result<(), String> {
        let state = std::mem::replace(&mut self.states[store], State::Down);
        let (state, done) = match state {
            State::Paused(process) => {
                let done = process.resume();
                (State::Running(process), done)
            }
            other => (other, Ok(())),
        };
        self.states[store] = state;
        done
    }

    /// Has all of them run.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn heal(&mut self) -> Result<(), String> {
        for store in 0..self.count() {
            self.resume(store)?;
            if matches!(self.states[store], State::Down) {
                self.start_one(store)?;
            }
        }
        Ok(())
    }

    /// Whether every store still does what it was left doing: none has ended by itself, none has
    /// panicked.
    ///
    /// # Errors
    /// With what a store that did not said last.
    pub fn check(&mut self) -> Result<(), String> {
        for store in 0..self.count() {
            let (State::Running(process) | State::Paused(process)) = &mut self.states[store] else {
                continue;
            };
            let ended = process.ended().map(|status| format!("ended with {status}"));
            let log = self.log(store);
            let panicked = log.contains("panicked at").then(|| "panicked".to_owned());
            if let Some(what) = ended.or(panicked) {
                let lines: Vec<&str> = log.lines().rev().take(10).collect();
                let last = lines.into_iter().rev().collect::<Vec<_>>().join("\n  ");
                return Err(format!("store {} {what}:\n  {last}", store + 1));
            }
        }
        Ok(())
    }

    /// Asks a store, over a connection of its own.
    #[must_use]
    pub fn ask(&self, store: usize, words: &[&str]) -> Option<Reply> {
        if !matches!(self.states[store], State::Running(_)) {
            return None;
        }
        Connection::open(self.address(store), PATIENCE).ok()?.call(words).ok()
    }

    /// What the store says of itself, if it answers: the fields of `INFO raft`.
    #[must_use]
    pub fn field(&self, store: usize, name: &str) -> Option<String> {
        let info = self.ask(store, &["INFO", "raft"])?.text();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::to_string)
    }

    /// A number among these fields.
    #[must_use]
    pub fn number(&self, store: usize, name: &str) -> Option<u64> {
        self.field(store, name)?.parse().ok()
    }

    /// The store that leads, as it says itself.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        (0..self.count()).find(|&store| self.field(store, "role").as_deref() == Some("leader"))
    }

    /// Keeps the directory when this is gone, for whoever looks into a failure.
    #[must_use]
    pub fn keep(&mut self) -> &Path {
        self.dir.disable_cleanup(true);
        self.dir.path()
    }
}
