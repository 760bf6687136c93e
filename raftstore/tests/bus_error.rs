//! A mapped log file that loses its bytes (museum W18). In a program of its own: a process made here
//! has, until it runs, whatever locks the tests beside it hold.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use raftstore::disk::{DirDisk, Disk, Route, tell_bus_errors};

/// Where the process that is to end finds its directory.
const DIR: &str = "RAFTSTORE_TEST_CUT_SHORT";
const NAME: &str = "wal-0000000001.log";
/// The byte that is read, behind the new end.
const PLACE: usize = 2 * 4096 + 7;
const SIGABRT: i32 = 6;

/// Somebody else cuts the file short, and it is read through its map: the process says where, and
/// aborts. The test calls itself, since one of the two has to end.
#[test]
fn w18_a_file_cut_short_under_its_map_ends_the_process_with_a_word() {
    if let Some(dir) = std::env::var_os(DIR) {
        tell_bus_errors().expect("the handler is taken");
        let disk = DirDisk::open(&dir, Route::Written).expect("opens");
        disk.create_log(NAME, 3 * 4096, &|_| true).expect("there is room");
        let view = disk.view_log(NAME).expect("maps");
        let bytes = view.bytes(0..view.len()).expect("they are there");
        let file = std::fs::OpenOptions::new().write(true).open(disk.path().join(NAME));
        file.and_then(|file| file.set_len(4096)).expect("is cut");
        assert_eq!(bytes[4095], 0, "what is left can be read");
        panic!("read {} behind the end", bytes[PLACE]);
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let test = "w18_a_file_cut_short_under_its_map_ends_the_process_with_a_word";
    let program = std::env::current_exe().expect("this test has a file");
    let ended = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{said}");
    let place = format!("bus error at byte {PLACE} of {}", dir.path().join(NAME).display());
    assert!(said.contains(&place), "{said}");
}
