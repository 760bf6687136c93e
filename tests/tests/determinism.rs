//! Equal seeds give equal runs, also in another process.

use std::process::Command;

/// The lines that `sim` prints for its seeds: hash of the trace, counts, times.
fn runs(args: &[&str]) -> Vec<String> {
    let ran = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("it can be run");
    let text = String::from_utf8(ran.stdout).expect("text");
    assert!(ran.status.success(), "{text}");
    text.lines().filter(|line| line.starts_with("seed ")).map(str::to_owned).collect()
}

#[test]
fn twenty_seeds_in_two_processes() {
    let one = runs(&["--seeds", "20", "--hashes", "--jobs", "2"]);
    let two = runs(&["--seeds", "20", "--hashes", "--jobs", "1"]);
    assert_eq!(one.len(), 20);
    assert_eq!(one, two);
    let hash = |line: &String| line.split(' ').nth(3).map(str::to_owned);
    let mut hashes: Vec<_> = one.iter().map(hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 20, "every seed is a run of its own");
}

#[test]
fn a_seed_alone_is_the_same_as_among_others() {
    let all = runs(&["--seeds", "8", "--hashes"]);
    assert_eq!(runs(&["--seed", "7"]), all[7..]);
}

#[test]
fn contradictory_flags_are_refused() {
    for args in [&["--seed", "1", "--seeds", "2"][..], &["--budget", "5 parsecs"], &["--nonsense"]]
    {
        let ran = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("runs");
        assert_eq!(ran.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_program_can_read_what_it_came_to() {
    let ran = Command::new(env!("CARGO_BIN_EXE_sim")).args(["--seeds", "3", "--json"]).output();
    let ran = ran.expect("it can be run");
    let text = String::from_utf8(ran.stdout).expect("text");
    assert!(ran.status.success(), "{text}");
    for part in ["{\n  \"seeds\": 3,", "\"operations_linearizable\": ", "\"faults\": {\"", "]\n}\n"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// What shrinking prints is the same run in every process, and less than the whole.
#[test]
fn a_part_of_a_seed_is_a_run_of_its_own() {
    let part = ["--seed", "7", "--faults", "0,2", "--shared", "1", "--chaos-ms", "400"];
    assert_eq!(runs(&part), runs(&part));
    assert_ne!(runs(&part), runs(&["--seed", "7"]));
    let ran = Command::new(env!("CARGO_BIN_EXE_sim")).args(["--faults", "1"]).output();
    assert_eq!(ran.expect("it can be run").status.code(), Some(2), "of which seed?");
}
