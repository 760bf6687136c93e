//! Commands with which nothing is wrong, sent to a cluster that is not well.
//!
//! Times are short, so that running into them is quick, where that is what is to be seen; else
//! so long that only a hang runs into them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kv::store::StoreOptions;
use parking_lot::Mutex;
use raftstore::StoreId;
use raftstore::disk::sim::Fault;
use raftstore::disk::{Disk, SimDisk};

use crate::Told;
use crate::client::Reply;
use crate::cluster::{Cluster, PATIENCE, until};

const NO_LEADER: &str = "TRYAGAIN no leader answered in time; nothing was done";
const MAYBE: &str = "the command may or may not take effect";

/// Every wait of a store for others takes longer than a test.
fn patient(options: &mut StoreOptions) {
    options.leader_timeout = PATIENCE;
    options.server.answer_timeout = PATIENCE;
    options.node.store.read_deadline_ticks = 1_000_000;
}

/// A leader loses its majority with a write under way, and its clients are told so in time.
pub(crate) fn too_slow(told: &Told) {
    let set = |options: &mut StoreOptions| {
        patient(options);
        options.server.answer_timeout = Duration::from_millis(200);
    };
    let (cluster, leader, mut writer) = Cluster::stranded(set, "SET k stranded");
    let late = format!("UNKNOWN the deadline passed; {MAYBE}");
    told.note("a write under way", writer.reply(), &late);
    let mut client = cluster.client(leader);
    told.note("a read", client.ask("GET k"), "TRYAGAIN the deadline passed");
    for (command, begin) in [("SET k v", &late[..]), ("GET k", "TRYAGAIN the deadline passed")] {
        client.must("MULTI", "OK");
        client.must(command, "QUEUED");
        told.note("a transaction", client.ask("EXEC"), begin);
    }
}

/// A store that is cut off, or alone; and one whose leader's answer is lost.
pub(crate) fn no_leader(told: &Told) {
    let mut cluster = Cluster::start(3, |options| {
        patient(options);
        options.leader_timeout = Duration::from_millis(200);
        options.node.store.read_deadline_ticks = 10;
    });
    let unknown = until("a write whose answer is lost", || {
        cluster.heal();
        let (_, follower) = cluster.leader_and_follower();
        let mut client = cluster.client(follower);
        cluster.lose_replies();
        let reply = client.ask("SET forwarded yes");
        // It was done. (Unless the leader has changed on the way.)
        (reply.is_error("UNKNOWN ") && client.ask("GET forwarded").is_value("yes")).then_some(reply)
    });
    told.note("SET", unknown, &format!("UNKNOWN the deadline passed; {MAYBE}"));

    cluster.heal();
    let (_, follower) = cluster.leader_and_follower();
    cluster.cut_off(follower);
    let mut client = cluster.client(follower);
    let wait_until_lost = |cluster: &Cluster| {
        let has_lost = || cluster.status(follower).leader.is_none().then_some(());
        until("a store to give its leader up", has_lost);
    };
    wait_until_lost(&cluster);
    told.note("SET", client.ask("SET k v"), NO_LEADER);
    told.note("GET", client.ask("GET k"), NO_LEADER);
    cluster.heal();
    cluster.leader();
    let value = until("a read", || match client.ask("GET k") {
        Reply::Error(_) => None,
        value => Some(value),
    });
    assert_eq!(value, Reply::Value(None), "nothing was done");

    cluster.others(follower).into_iter().for_each(|store| cluster.stop(store));
    wait_until_lost(&cluster);
    told.note("SET", client.ask("SET k v"), NO_LEADER);
    told.note("GET", client.ask("GET k"), NO_LEADER);
}

/// The connection to the leader breaks with a write under way.
pub(crate) fn a_connection_that_breaks(told: &Told) {
    let cluster = Cluster::start(3, patient);
    let lost = until("a write whose leader is gone", || {
        cluster.heal();
        let (leader, follower) = cluster.leader_and_follower();
        cluster.lose_replies();
        let mut client = cluster.client(follower);
        client.send("INCR n");
        let mut witness = cluster.client(leader);
        until("it to be done, or the leader to be another one", || {
            let is_done = matches!(witness.ask("GET n"), Reply::Value(Some(_)));
            (is_done || cluster.leader() != leader).then_some(())
        });
        cluster.break_connection(follower, leader);
        let reply = client.reply();
        reply.is_error("UNKNOWN ").then_some(reply)
    });
    told.note("INCR", lost, &format!("UNKNOWN the leader went away; {MAYBE}"));
}

/// A leader stops that can't commit or confirm anything any more.
pub(crate) fn a_leader_that_stops(told: &Told) {
    let (mut cluster, leader, mut writer) = Cluster::stranded(patient, "INCR n");
    let mut reader = cluster.client(leader);
    reader.send("GET n");
    until("the read to wait", || (cluster.status(leader).pending_reads > 0).then_some(()));
    cluster.stop(leader);
    let begin = format!("UNKNOWN the store is shutting down; {MAYBE}");
    told.note("INCR", writer.reply(), &begin);
    told.note("GET", reader.reply(), "TRYAGAIN the store is shutting down");
}

/// The log goes on without a leader that is cut off, until its followers have nothing but a snapshot
/// for it, which does not tell what became of its command.
pub(crate) fn overtaken(told: &Told) {
    let set = |options: &mut StoreOptions| {
        patient(options);
        options.node.store.compact_entries = 4;
        options.node.store.log_gc_count_limit = 8;
        options.checkpoints.log_bytes_min = 64;
    };
    let (cluster, old, mut writer) = Cluster::stranded(set, "SET k stranded");
    let last = cluster.status(old).last;
    let others = cluster.others(old);
    let mut client = cluster.client(cluster.leader_of(&others));
    until("the log to go on without the old leader", || {
        let _ = client.ask("SET k v");
        others.iter().all(|&store| cluster.status(store).compacted > last).then_some(())
    });
    cluster.heal();
    let begin = format!("UNKNOWN a snapshot overtook the command; {MAYBE}");
    told.note("SET", writer.reply(), &begin);
}

/// The drives of stores, by their directories.
static DRIVES: Mutex<BTreeMap<PathBuf, SimDisk>> = Mutex::new(BTreeMap::new());

fn simulated(path: &Path) -> io::Result<Arc<dyn Disk>> {
    let mut drives = DRIVES.lock();
    Ok(drives.entry(path.to_owned()).or_insert_with(|| SimDisk::new(1)).mount())
}

/// A store alone, on a simulated drive.
fn on_a_drive(set: impl Fn(&mut StoreOptions)) -> (Cluster, SimDisk) {
    let path = Mutex::new(PathBuf::new());
    let cluster = Cluster::start(1, |options| {
        patient(options);
        options.open_disk = simulated;
        options.wal.segment_bytes = 1 << 20;
        path.lock().clone_from(&options.data);
        set(options);
    });
    let drive = DRIVES.lock()[&*path.lock()].clone();
    cluster.leader();
    (cluster, drive)
}

/// A full disk is no error of its own: what does not fit waits, first for room and then in vain, and
/// when enough of it waits nothing more is taken on. And there is one client too many.
pub(crate) fn a_disk_without_room(told: &Told) {
    const STORE: StoreId = StoreId(1);
    let (cluster, drive) = on_a_drive(|options| {
        options.server.answer_timeout = Duration::from_millis(200);
        options.server.clients_max = 2;
        options.node.requests_max = 3;
    });
    let mut client = cluster.client(STORE);
    let mut other = cluster.client(STORE);
    client.must("PING", "PONG");
    other.must("PING", "PONG");
    let mut third = cluster.client(STORE);
    told.note("connect", third.reply(), "ERR max number of clients reached");
    assert!(third.is_closed());

    drive.set_capacity(Some(drive.used()));
    let value = vec![b'x'; 100 << 10];
    let waits = until("a write that there is no room for", || {
        let reply = client.command(&[b"SET", b"k", &value]);
        reply.is_error("UNKNOWN ").then_some(reply)
    });
    told.note("SET", waits, &format!("UNKNOWN the deadline passed; {MAYBE}"));
    let busy = "BUSY too many requests are waiting; nothing was done";
    let refused = until("too much to wait", || {
        let reply = client.command(&[b"SET", b"more", &value]);
        reply.is_error("BUSY ").then_some(reply)
    });
    told.note("SET", refused, busy);
    told.note("GET", other.ask("GET k"), busy);
    drive.set_capacity(None);
    until("room", || (client.ask("SET k v") == Reply::Line("OK".into())).then_some(()));
}

/// The disk fails under a write: the store ends, while its server still answers.
pub(crate) fn a_disk_that_fails(told: &Told) {
    let (cluster, drive) = on_a_drive(|_| {});
    let mut client = cluster.client(StoreId(1));
    // The next operation may be one that is not needed, and so nobody's failure.
    let unknown = until("a write that fails", || {
        drive.fail(0, Fault::Error);
        let reply = client.ask("SET k v");
        reply.is_error("").then_some(reply)
    });
    told.note("SET", unknown, &format!("UNKNOWN the store is shutting down; {MAYBE}"));
    let begin = "TRYAGAIN the store is shutting down; nothing was done";
    told.note("GET", client.ask("GET k"), begin);
}
