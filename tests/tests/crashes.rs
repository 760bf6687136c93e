//! The program `crashes`: how it is called. What it finds is for the gate to see (`.ci/run`).

use std::process::{Command, Output};

fn crashes(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_crashes")).args(args).output();
    let Output { status, stderr, .. } = output.expect("the program was built");
    (status.code(), String::from_utf8(stderr).expect("text"))
}

#[test]
fn what_it_does_not_know_is_refused_with_its_usage() {
    for args in [&["--bogus"][..], &["--budget", "fast"], &["--seed", "x"], &["more"]] {
        let (code, said) = crashes(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains("Usage: crashes") || said.contains("--help"), "{args:?}: {said}");
    }
}

/// A disk that is not small is never full, and that is said instead of a success.
#[test]
fn a_disk_that_does_not_fill_is_told_of() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("filler"), "").expect("writes");
    let missing = dir.path().join("no such/directory");
    std::fs::write(dir.path().join("no such"), "a file").expect("writes");
    let (code, _) = crashes(&["--on-full-disk", missing.to_str().expect("text")]);
    assert_eq!(code, Some(1));
}
