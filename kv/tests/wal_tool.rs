//! `raftkv wal`: what it says of logs that are whole, torn, damaged, in use, or no logs at all, and
//! that it changes none of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use raft::{Entries, Entry, HardState, LogId, NodeId, Run};
use raftstore::disk::{Claim, ClusterId, DirDisk, Route};
use raftstore::wal::{GroupRecord, Wal, WalOptions, segment_name};
use raftstore::{RegionId, StoreId};
use tempfile::TempDir;

fn run(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_raftkv")).args(args).output();
    let output = output.expect("the program was built");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn wal(action: &str, dir: &Path, more: &[&str]) -> (i32, String, String) {
    run(&[&["wal", action, dir.to_str().expect("text")], more].concat())
}

/// The directory of a store that has stopped: two regions, one of them compacted, several segments.
fn store() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = std::sync::Arc::new(DirDisk::open(dir.path(), Route::Written).expect("opens"));
    let claim = Claim::new(disk.as_ref(), StoreId(3), ClusterId(7)).expect("nobody's");
    let options = WalOptions { segment_bytes: 8 << 10 };
    let mut wal = Wal::open(disk.clone(), claim.identity(), options).expect("opens").0;
    for n in 1..=10 {
        let entry = |index: u64| Entry::normal(Bytes::from(vec![index as u8; 700]));
        let entries = |index| Entries::from(Run::new(2, index, vec![entry(index)]).expect("a run"));
        let (one, two) = (entries(n), entries(n));
        let mut first = GroupRecord::new(RegionId(1), &one);
        first.hard_state = Some(HardState { term: 2, vote: NodeId::new(3), commit: n - 1 });
        let mut second = GroupRecord::new(RegionId(2), &two);
        second.compact = (n == 9).then(|| LogId::new(2, 8));
        wal.append(&[first, second]).expect("appends");
        wal.sync().expect("syncs");
    }
    wal.close().expect("closes");
    dir
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("text");
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(file).collect()
}

fn overwrite(dir: &Path, segment: u64, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(dir.join(segment_name(segment)));
    file.expect("a segment").write_all_at(bytes, offset).expect("room");
}

#[test]
fn a_whole_log_is_shown_and_left_as_it_is() {
    let dir = store();
    let before = files(dir.path());
    let (code, out, _) = wal("verify", dir.path(), &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("whole: 11 records, "), "{out}");

    let (code, out, _) = wal("dump", dir.path(), &[]);
    assert_eq!(code, 0, "{out}");
    let has = |line: &str| assert!(out.contains(line), "{line}: {out}");
    has("wal-0000000001.log: 8192 bytes, from record 1, durable up to 0, salt ");
    has("         512 record 1 whole, ");
    has("region 1: term 2 vote 3 commit 0; entries 1..=1 of term 2, 724 bytes\n");
    has("region 2: entries 9..=9 of term 2, 724 bytes; compacted up to 8@2\n");
    has(" record 11 mark, 40 bytes, durable up to 10\n");
    assert_eq!(out.lines().filter(|line| line.starts_with("wal-")).count(), 3, "{out}");

    let (code, out, _) = wal("stats", dir.path(), &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("store 3 of cluster 7\n3 segments, 24576 bytes, of which "), "{out}");
    let region = "region 2: 2 entries of 1 terms after 8@2, last 10, term 0, commit 0\n";
    assert!(out.contains(region), "{out}");
    assert_eq!(files(dir.path()), before, "nothing was changed");
}

#[test]
fn json_is_a_value_a_line() {
    let dir = store();
    let (code, out, _) = wal("dump", dir.path(), &["--json"]);
    assert_eq!(code, 0, "{out}");
    let record = r#"{"record":1,"watermark":0,"kind":"whole","offset":512,"bytes":"#;
    assert!(out.contains(record), "{out}");
    let group = r#"{"region":1,"term":2,"vote":3,"commit":0,"runs":[{"term":2,"first":1,"count":1,"bytes":724}],"carried":false,"removed":false}"#;
    assert!(out.contains(group), "{out}");
    for line in out.lines() {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        assert_eq!(line.matches('{').count(), line.matches('}').count(), "{line}");
    }
    let (_, out, _) = wal("verify", dir.path(), &["--json"]);
    assert!(out.starts_with(r#"{"verdict":"whole","records":11,"bytes":"#), "{out}");
    assert!(out.trim_end().ends_with(r#""torn":null,"reason":null}"#), "{out}");
    let (_, out, _) = wal("stats", dir.path(), &["--json"]);
    assert!(out.contains(r#"{"store":3,"cluster":7,"segments":3,"file_bytes":24576,"#), "{out}");
}

#[test]
fn a_torn_tail_is_said_and_is_no_failure() {
    let dir = store();
    let content = fs::read(dir.path().join(segment_name(3))).expect("a segment");
    let end = content.iter().rposition(|&b| b != 0).expect("not empty") + 1;
    let at = (end as u64).next_multiple_of(8);
    overwrite(dir.path(), 3, at, &[0xab; 40]);
    let (code, out, _) = wal("verify", dir.path(), &[]);
    assert_eq!(code, 0, "{out}");
    let torn = format!("40 bytes from offset {at} of wal-0000000003.log were never promised");
    assert!(out.contains(&torn), "{out}");
    let (code, out, _) = wal("verify", dir.path(), &["--json"]);
    let torn =
        format!(r#""torn":{{"file":"wal-0000000003.log","offset":{at},"bytes":40}},"reason":null"#);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains(r#"{"verdict":"torn","#) && out.contains(&torn), "{out}");
}

/// Refused as a start would refuse it, and shown up to there.
#[test]
fn damage_is_exit_code_3_and_named() {
    let dir = store();
    overwrite(dir.path(), 2, 900, &[0x55]);
    for (action, more) in [("verify", &[][..]), ("stats", &[]), ("dump", &[])] {
        let (code, out, _) = wal(action, dir.path(), more);
        assert_eq!(code, 3, "{action}: {out}");
        let why = "refused: wal-0000000002.log: damaged at offset 512: wrong checksum of a record";
        assert!(out.contains(why), "{action}: {out}");
    }
    let (_, out, _) = wal("dump", dir.path(), &[]);
    assert!(out.contains("         512 record 1 whole"), "what precedes it is shown: {out}");
    let (code, out, _) = wal("verify", dir.path(), &["--json"]);
    assert_eq!(code, 3);
    assert!(out.contains(r#"{"verdict":"refused","#) && out.contains("damaged at offset"), "{out}");

    fs::remove_file(dir.path().join(segment_name(2))).expect("a segment");
    let (code, out, _) = wal("verify", dir.path(), &[]);
    assert_eq!(code, 3);
    assert!(out.contains("segment 2 is missing"), "{out}");
}

#[test]
fn logs_of_other_stores_and_other_versions_are_exit_code_3() {
    let dir = store();
    let path = dir.path().join(segment_name(1));
    let mut content = fs::read(&path).expect("a segment");
    content[8] = 9;
    let crc = crc32fast::hash(&content[..508]);
    content[508..512].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, content).expect("writes");
    let (code, out, _) = wal("verify", dir.path(), &[]);
    assert_eq!(code, 3);
    assert!(out.contains("format version 9, where this program knows"), "{out}");

    let other = store();
    let disk = DirDisk::open(other.path(), Route::Written).expect("opens");
    fs::remove_file(other.path().join("store")).expect("an identity");
    drop(Claim::new(&disk, StoreId(5), ClusterId(7)).expect("nobody's"));
    let (code, out, _) = wal("verify", other.path(), &[]);
    assert_eq!(code, 3);
    assert!(out.contains("belongs to store 3 of cluster 7"), "{out}");
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let dir = store();
    let disk = DirDisk::open(dir.path(), Route::Written).expect("opens");
    let claim = Claim::new(&disk, StoreId(3), ClusterId(7)).expect("free");
    let (code, out, err) = wal("verify", dir.path(), &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    let owner = format!("in use by process {} (store 3)", std::process::id());
    assert!(err.contains(&owner), "{err}");
    drop(claim);
    assert_eq!(wal("verify", dir.path(), &[]).0, 0);
}

#[test]
fn what_is_no_store_is_said_and_nothing_is_made() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = dir.path().join("missing");
    let (code, _, err) = wal("verify", &missing, &[]);
    assert_eq!(code, 1);
    assert!(err.contains("missing: not the directory of a store"), "{err}");
    assert!(!missing.exists());

    fs::rename(store().keep(), dir.path().join("store1")).expect("a directory");
    let (code, _, err) = wal("verify", dir.path(), &[]);
    assert_eq!(code, 1);
    assert!(err.contains("not the directory of a store; there is "), "{err}");
    assert!(err.contains("store1"), "{err}");
    let names: Vec<_> = fs::read_dir(dir.path()).expect("a directory").flatten().collect();
    assert_eq!(names.len(), 1, "nothing was made: {names:?}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    for args in [&["wal"][..], &["wal", "mend", "x"], &["wal", "dump"], &["wal", "dump", "x", "-x"]]
    {
        let (code, _, err) = run(args);
        assert_eq!(code, 2, "{args:?}");
        assert!(err.contains("Usage: raftkv wal"), "{err}");
    }
}
