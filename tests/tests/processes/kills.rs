//! `kill -9` of the leader, over and over, under load: nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::stores::{Stores, wait_for};

const KILLS: usize = 20;

/// Three times the longest randomized election timeout: 20 ticks of 50 ms.
const NEW_LEADER_WITHIN: Duration = Duration::from_secs(3);

/// How long anything else may take on a machine that does other things, too.
const LONG: Duration = Duration::from_secs(30);

/// Clients that write keys of their own and remember which were acknowledged. A key is written
/// once, so an answer that does not come leaves no doubt about any other.
struct Recorders {
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
    stop: Arc<AtomicBool>,
    unknown: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Recorders {
    fn start(addresses: [SocketAddr; 3]) -> Recorders {
        let mut recorders = Recorders {
            acknowledged: Arc::default(),
            stop: Arc::default(),
            unknown: Arc::default(),
            threads: Vec::new(),
        };
        for client in 0..3 {
            let (acknowledged, stop) = (recorders.acknowledged.clone(), recorders.stop.clone());
            let unknown = recorders.unknown.clone();
            recorders.threads.push(std::thread::spawn(move || {
                let (mut at, mut connection) = (client, None);
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (key, value) = (format!("kept:{client}:{n}"), format!("{n}"));
                    let open = connection.take().or_else(|| Client::connect(addresses[at]).ok());
                    let Some(mut open) = open else {
                        at = (at + 1) % 3;
                        std::thread::yield_now();
                        continue;
                    };
                    match open.call(&["SET", &key, &value]) {
                        Ok(reply) if reply.is_ok() => {
                            acknowledged.lock().unwrap().insert(key, value);
                            connection = Some(open);
                        }
                        // Refused, or nobody can say; the connection is as good as before.
                        Ok(_) => connection = Some(open),
                        Err(_) => {
                            unknown.fetch_add(1, Ordering::Relaxed);
                            at = (at + 1) % 3;
                        }
                    }
                }
            }));
        }
        recorders
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn finish(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut *self.acknowledged.lock().unwrap())
    }
}

/// `redis-benchmark` on a store, or `None` where it is not installed.
fn benchmark(address: SocketAddr) -> Option<Child> {
    let port = address.port().to_string();
    Command::new("redis-benchmark")
        .args(["-p", &port, "-t", "set,get", "-c", "50", "-P", "16", "-n", "1000000", "-q"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn set(stores: &Stores, store: usize, key: &str) -> Option<()> {
    let reply = Client::connect(stores.address(store)).ok()?.call(&["SET", key, "x"]).ok()?;
    reply.is_ok().then_some(())
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_of_the_leader() {
    let mut stores = Stores::start();
    wait_for("the first write", LONG, || set(&stores, 0, "first"));
    let recorders = Recorders::start([0, 1, 2].map(|store| stores.address(store)));
    let mut slowest = Duration::ZERO;
    for kill in 0..KILLS {
        let leader = wait_for("a leader", LONG, || stores.leader());
        let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let load = benchmark(stores.address(follower));
        if load.is_none() && kill == 0 {
            eprintln!("redis-benchmark is not installed: the recording clients are the only load");
        }
        let before = recorders.acknowledged();
        wait_for("writes under load", LONG, || {
            (recorders.acknowledged() > before + 20).then_some(())
        });

        stores.kill_9(leader);
        let start = Instant::now();
        let key = format!("after:{kill}");
        wait_for("a new leader that answers", NEW_LEADER_WITHIN, || set(&stores, other, &key));
        slowest = slowest.max(start.elapsed());

        let commit = stores.number(other, "commit").unwrap();
        stores.start_one(leader);
        wait_for("the victim to catch up", LONG, || {
            (stores.number(leader, "applied")? >= commit).then_some(())
        });
        let got = wait_for("a read on the victim", LONG, || {
            Client::connect(stores.address(leader)).ok()?.call(&["GET", &key]).ok()
        });
        assert_eq!(got, Reply::Bulk(Some(b"x".to_vec())), "after kill {kill}");
        if let Some(mut load) = load {
            let _ = load.kill();
            load.wait().unwrap();
        }
    }
    let unknown = recorders.unknown.load(Ordering::Relaxed);
    let acknowledged = recorders.finish();
    assert!(acknowledged.len() > KILLS * 20);
    for store in 0..3 {
        let mut client = Client::connect(stores.address(store)).unwrap();
        let all: Vec<_> = acknowledged.iter().collect();
        for some in all.chunks(500) {
            let keys = some.iter().map(|(key, _)| key.as_str());
            let command: Vec<&str> = std::iter::once("MGET").chain(keys).collect();
            let values = some.iter().map(|(_, value)| Reply::Bulk(Some(value.as_bytes().to_vec())));
            let got = client.call(&command).unwrap();
            assert_eq!(got, Reply::Array(values.collect()), "on store {}", store + 1);
        }
    }
    eprintln!(
        "{KILLS} kills, {} writes acknowledged and all there, {unknown} unknown, new leader \
         within {slowest:?}",
        acknowledged.len()
    );
}
