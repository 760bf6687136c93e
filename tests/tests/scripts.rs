//! Our golden scripts, and the program that runs scripts.
//!
//! A script that fails because behaviour was changed on purpose is written anew by
//! `cargo run -p tests --bin conformance -- --rewrite tests/scripts`; read the difference, and commit
//! it only if you can explain it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::script::{ElectionTimeout, Options, find, run_file};

fn scripts() -> Vec<PathBuf> {
    let found = find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")).expect("our scripts");
    assert!(found.len() >= 20, "only {} scripts were found", found.len());
    found
}

#[test]
fn golden_scripts_say_what_happens_whatever_timeouts_are_drawn() {
    let timeouts = [
        ElectionTimeout::Random,
        ElectionTimeout::Lowest,
        ElectionTimeout::Middle,
        ElectionTimeout::Highest,
    ];
    let mut failed = Vec::new();
    for election_timeout in timeouts {
        let options = Options { election_timeout, ..Options::default() };
        for path in scripts() {
            let report = run_file(&path, &options).expect("a readable script");
            if !report.passed() {
                failed.push(format!("{election_timeout:?}: {report}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_script_begins_with_what_it_shows() {
    for path in scripts() {
        let text = fs::read_to_string(&path).expect("a readable script");
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("# ") && first.ends_with('.'), "{}: {first}", path.display());
    }
}

/// Runs the program in a directory that holds the script `x.txt`.
fn conformance(script: &str, arguments: &[&str]) -> (Output, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.txt");
    fs::write(&path, script).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .current_dir(directory.path())
        .args(arguments)
        .output()
        .expect("the program runs");
    (output, fs::read_to_string(&path).expect("read"))
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_program_tells_what_passed_and_what_failed() {
    let good = "vote\n----\nVoteWon\n";
    let (output, _) = conformance(good, &["--election-timeout", "highest", "."]);
    assert_eq!(told(&output), (Some(0), "PASS ./x.txt\n1 passed, 0 failed\n".to_owned()));

    let bad = "vote\n----\nVoteLost\n";
    let (output, text) = conformance(bad, &["x.txt"]);
    let shown = "FAIL x.txt:1: vote answers something else\n    - VoteLost\n    + VoteWon\n\
                 0 passed, 1 failed\n";
    assert_eq!(told(&output), (Some(1), shown.to_owned()));
    assert_eq!(text, bad);

    let (output, text) = conformance(bad, &["--rewrite", "."]);
    let shown = "PASS ./x.txt: rewritten\n1 passed, 0 failed\n";
    assert_eq!((told(&output), text.as_str()), ((Some(0), shown.to_owned()), good));
}

#[test]
fn the_program_refuses_to_be_called_wrongly() {
    let calls: [&[&str]; 5] =
        [&[], &["--foo", "."], &["--election-timeout", "odd", "."], &["missing"], &["empty"]];
    for arguments in calls {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("empty")).expect("made");
        let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
            .current_dir(directory.path())
            .args(arguments)
            .output()
            .expect("the program runs");
        assert_eq!(told(&output), (Some(2), String::new()), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?} is refused in silence");
    }
}
