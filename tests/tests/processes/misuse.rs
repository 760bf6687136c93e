//! The server as its users will use it: wrong directories, garbage, too many of everything, no room.
//! Each gets a clear error, and nothing is lost.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::processes::program::raftkv;
use harness::processes::resp::{Connection, Reply};
use harness::processes::stores::{LONG, Stores, wait_for};

/// One store that serves.
fn alone() -> Stores {
    let stores = Stores::start(1).unwrap();
    serve(&stores);
    stores
}

fn serve(stores: &Stores) {
    wait_for("service", LONG, || stores.ask(0, &["SET", "kept", "v"])?.is_ok().then_some(()))
        .unwrap();
}

/// How the program ends that is told this, and what it says.
fn refused(args: &[String]) -> (i32, String) {
    let output = Command::new(raftkv().unwrap()).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text)
}

/// The arguments of the only store, some of them replaced.
fn elsewhere(stores: &Stores, replace: &[(&str, &str)]) -> Vec<String> {
    let mut args = stores.args(0);
    for (flag, value) in replace {
        let at = args.iter().position(|arg| arg == flag).unwrap();
        args[at + 1] = (*value).to_owned();
    }
    args
}

/// An address of this machine that nobody listens on.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_directory_that_is_not_the_stores_own_is_refused_and_left_alone() {
    let mut stores = alone();
    let data = stores.data(0);
    let dir = data.parent().unwrap();
    let own = stores.args(0);
    let (code, text) = refused(&own);
    assert!(code == 1 && text.contains("Address already in use"), "{code} {text}");
    let others = |stores: &Stores, args: &[(&str, &str)]| {
        let (peers, listen) = (format!("1={}", free_address()), free_address());
        let all = [("--peers", peers.as_str()), ("--listen", listen.as_str())];
        refused(&elsewhere(stores, &[&all, args].concat()))
    };
    let (code, text) = others(&stores, &[]);
    assert!(code == 1 && text.contains("is in use by process"), "{code} {text}");

    let notes = dir.join("notes");
    fs::create_dir(&notes).unwrap();
    fs::write(notes.join("todo.txt"), "buy milk").unwrap();
    let notes = notes.to_str().unwrap();
    let (code, text) = others(&stores, &[("--data", notes)]);
    let clear = "is not the directory of a store, and not empty: it has \"todo.txt\"";
    assert!(code == 1 && text.contains(clear), "{code} {text}");
    assert_eq!(fs::read_dir(notes).unwrap().count(), 1, "nothing was written there");

    let file = format!("{notes}/todo.txt");
    let (code, text) = others(&stores, &[("--data", &file)]);
    assert!(code == 1 && text.contains("todo.txt is not a directory"), "{code} {text}");
    let args = ["cluster".to_owned(), "--data".into(), data.to_str().unwrap().into()];
    let (code, text) = refused(&args);
    assert!(code == 1 && text.contains("that of one store: use `raftkv server`"), "{code} {text}");

    stores.kill(0).unwrap();
    let (code, text) = others(&stores, &[]);
    assert!(code == 1 && text.contains("the data directory belongs to cluster"), "{code} {text}");
    assert!(text.contains("say --cluster-id"), "{text}");
    stores.start_one(0).unwrap();
    wait_for("the value", LONG, || (stores.ask(0, &["GET", "kept"])?.text() == "v").then_some(()))
        .unwrap();
}

#[test]
fn garbage_halves_and_hang_ups_hurt_nobody_else() {
    let mut stores = alone();
    let open = || Connection::open(stores.address(0), Duration::from_secs(10)).unwrap();
    let mut good = open();
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..200 {
        let mut bad = open();
        let bytes: Vec<u8> = match round % 4 {
            0 => (0..rng.usize(1..2000)).map(|_| rng.u8(..)).collect(),
            // Half a command, and nobody there any more.
            1 => b"*3\r\n$3\r\nSET\r\n$4\r\nkept\r\n$1000\r\nxx".to_vec(),
            2 => b"GET / HTTP/1.1\r\nHost: store\r\n\r\n".to_vec(),
            // A promise of more than there is memory.
            _ => format!("*2\r\n$3\r\nGET\r\n${}\r\n", 1_u64 << rng.u32(20..63)).into_bytes(),
        };
        let _ = bad.send(&bytes);
        drop(bad);
        assert!(good.call(&["PING"]).is_ok());
    }
    let mut oversized = open();
    let value = vec![b'x'; 5 << 20];
    let told = oversized.call(&[&b"SET"[..], b"kept", &value]).unwrap();
    let text = "ERR value has 5242880 bytes, the limit is 4194304 (a key: 65536)";
    assert_eq!(told, Reply::Error(text.to_owned()));
    assert_eq!(oversized.call(&["GET", "kept"]).unwrap().text(), "v");
    stores.check().unwrap();
}

#[test]
fn a_client_that_does_not_read_delays_nobody() {
    let mut stores = alone();
    let open = || Connection::open(stores.address(0), Duration::from_secs(10)).unwrap();
    let value = "x".repeat(1 << 20);
    assert!(open().call(&["SET", "large", &value]).unwrap().is_ok());
    let mut slow = open();
    slow.send(&b"GET large\r\n".repeat(200)).unwrap();
    let mut good = open();
    for _ in 0..200 {
        assert_eq!(good.call(&["GET", "kept"]).unwrap().text(), "v");
    }
    for _ in 0..200 {
        assert_eq!(slow.answer().unwrap().text().len(), value.len());
    }
    stores.check().unwrap();
}

/// Starts the store again, under a shell that sets limits first.
fn restart_within(stores: &mut Stores, limits: &str) -> harness::processes::program::Process {
    stores.kill(0).unwrap();
    let program = raftkv().unwrap();
    let script = format!("{limits}; exec {} \"$@\"", program.display());
    let args = ["-c".to_owned(), script, "sh".to_owned()].into_iter().chain(stores.args(0));
    let log = stores.data(0).with_extension("limited.log");
    harness::processes::program::Process::start(
        Path::new("/bin/sh"),
        &args.collect::<Vec<_>>(),
        &log,
    )
    .unwrap()
}

/// Clients that take all open files end connections, not the log: the store goes on.
#[test]
fn more_clients_than_open_files_do_not_end_the_store() {
    let mut stores = alone();
    let mut process = restart_within(&mut stores, "ulimit -n 200");
    let address = stores.address(0);
    let connect = || Connection::open(address, Duration::from_secs(20)).ok();
    let mut first = wait_for("a connection", LONG, || {
        let mut connection = connect()?;
        (connection.call(&["GET", "kept"]).ok()?.text() == "v").then_some(connection)
    })
    .unwrap();
    let crowd: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let mut last = crowd.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = String::new();
    last.read_to_string(&mut text).unwrap();
    assert_eq!(text, "-ERR max number of clients reached\r\n");
    // Enough for more segments of the log, and a checkpoint.
    let value = "x".repeat(4 << 20);
    for n in 0..40 {
        let told = first.call(&["SET", &format!("large{}", n % 4), &value]).unwrap();
        assert!(told.is_ok(), "{}", told.text());
    }
    assert_eq!(process.ended(), None);
    drop(crowd);
    process.kill().unwrap();
    stores.start_one(0).unwrap();
    serve(&stores);
    assert_eq!(stores.ask(0, &["STRLEN", "large3"]), Some(Reply::Integer(4 << 20)));
}

/// Ten thousand clients at a time, and one more.
#[test]
fn ten_thousand_clients_are_served_and_one_more_is_told() {
    let (soft, stores) = (raise_open_files(), alone());
    if soft < 10_100 {
        eprintln!("NOT SHOWN: only {soft} open files are allowed here, not 10 100");
        return;
    }
    // The system refuses some for a while when they come faster than they are taken.
    let connect = || Connection::open(stores.address(0), LONG).ok();
    let open = || wait_for("a connection", LONG, connect).unwrap();
    let mut all: Vec<Connection> = (0..9_990).map(|_| open()).collect();
    for connection in all.iter_mut().step_by(97) {
        assert_eq!(connection.call(&["GET", "kept"]).unwrap().text(), "v");
    }
    let mut info = || all[0].call(&["INFO", "clients"]).unwrap().text();
    let expected = "connected_clients:9990\r\nmaxclients:10000";
    wait_for("all to be counted", LONG, || info().contains(expected).then_some(())).unwrap();
    all.extend((0..10).map(|_| open()));
    assert_eq!(all[9_999].call(&["PING"]).unwrap(), Reply::Simple("PONG".into()));
    let told = open().answer().unwrap();
    assert_eq!(told, Reply::Error("ERR max number of clients reached".into()));
    drop(all);
    serve(&stores);
}

/// As many as the system lets this process have.
fn raise_open_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A file system of its own for the data of the store; `None` where nobody may mount one.
fn mounted(dir: &Path, options: &str) -> Option<()> {
    let mount = |what: &str| {
        Command::new("mount").args(["-t", "tmpfs", "-o", what, "tmpfs"]).arg(dir).output()
    };
    let done = mount(options).is_ok_and(|output| output.status.success());
    if !done {
        eprintln!("NOT SHOWN: this process may not mount a tmpfs");
    }
    done.then_some(())
}

fn mount_again(dir: &Path, options: &str) {
    let options = format!("remount,{options}");
    let done = Command::new("mount").args(["-o", &options]).arg(dir).status().unwrap();
    assert!(done.success(), "{options}");
}

/// Unmounts when it goes, whatever was found.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_waited_for_and_a_read_only_one_is_refused() {
    let mut stores = Stores::start(1).unwrap();
    stores.kill(0).unwrap();
    let data = stores.data(0);
    let _ = fs::remove_dir_all(&data);
    fs::create_dir(&data).unwrap();
    if mounted(&data, "size=96m").is_none() {
        return;
    }
    let mount = Mounted(&data);
    stores.start_one(0).unwrap();
    serve(&stores);
    // A write that does not fit is not acknowledged; nor is any after it.
    let value = "x".repeat(4 << 20);
    let mut acknowledged = 0;
    let refused = (0..100).find_map(|n| {
        let key = format!("large{n}");
        let mut connection = Connection::open(stores.address(0), LONG).unwrap();
        let told = connection.call(&["SET", &key, &value]).unwrap();
        acknowledged += u64::from(told.is_ok());
        (!told.is_ok()).then(|| told.text())
    });
    let refused = refused.unwrap();
    assert!(refused.starts_with("UNKNOWN ") || refused.starts_with("BUSY "), "{refused}");
    assert!(acknowledged > 5, "{acknowledged}");
    assert!(stores.log(0).contains("the disk is full"), "{}", stores.log(0));
    stores.check().unwrap();
    // With room it goes on, and has all it acknowledged.
    mount_again(&data, "size=600m");
    wait_for("service", LONG, || stores.ask(0, &["SET", "fresh", "v"])?.is_ok().then_some(()))
        .unwrap();
    let all_there = |stores: &Stores| {
        let length = |n| stores.ask(0, &["STRLEN", &format!("large{n}")]);
        (0..acknowledged).for_each(|n| assert_eq!(length(n), Some(Reply::Integer(4 << 20))));
    };
    all_there(&stores);

    stores.kill(0).unwrap();
    mount_again(&data, "ro");
    let (code, text) = self::refused(&stores.args(0));
    assert!(code == 1 && text.contains("Read-only file system"), "{code} {text}");
    mount_again(&data, "rw");
    stores.start_one(0).unwrap();
    wait_for("the value", LONG, || (stores.ask(0, &["GET", "fresh"])?.text() == "v").then_some(()))
        .unwrap();
    all_there(&stores);
    stores.kill(0).unwrap();
    drop(mount);
}
