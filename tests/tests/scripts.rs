//! Our golden scripts, and the program that runs scripts.
//!
//! A script that fails because behaviour was changed on purpose is written anew by
//! `cargo run -p tests --bin conformance -- --rewrite tests/scripts`; read the difference, and commit
//! it only if you can explain it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fastrand::Rng;
use harness::script::{ElectionTimeout, Options, find, run_file, run_text};

fn scripts() -> Vec<PathBuf> {
    let found = find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")).expect("our scripts");
    assert!(found.len() >= 75, "only {} scripts were found", found.len());
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

/// The directories of scripts that the guide in front of the core names, chapter by chapter.
fn directories_of_chapters() -> BTreeSet<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../raft/src/lib.rs");
    let guide = fs::read_to_string(guide).expect("the core's front page");
    let (_, rows) = guide.split_once("//! | chapter | file | scripts |").expect("its table");
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with("//! |"));
    let cells = rows.map(|row| row.split('|').nth(3).expect("a cell for scripts"));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

#[test]
fn every_chapter_has_its_scripts_and_every_script_a_chapter() {
    let mut directories = BTreeSet::new();
    for path in scripts() {
        let directory = path.parent().and_then(Path::file_name).expect("a directory");
        directories.insert(directory.to_string_lossy().into_owned());
    }
    assert_eq!(directories_of_chapters(), directories);
}

/// The commands of a script with their input, without what they answer.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("\n\n").map(|block| {
        let lines = block.lines().filter(|line| !line.starts_with('#'));
        lines.take_while(|line| *line != "----").map(|line| format!("{line}\n")).collect::<String>()
    });
    blocks.filter(|block| !block.is_empty()).collect()
}

/// One of `scripts` with a few commands left out, doubled, moved, taken from another one or made
/// about another node.
fn mangled(scripts: &[Vec<String>], random: &mut Rng) -> String {
    let mut commands = scripts[random.usize(..scripts.len())].clone();
    for _ in 0..random.usize(1..10) {
        let at = random.usize(..commands.len());
        match random.u8(..5) {
            0 if commands.len() > 1 => drop(commands.remove(at)),
            0 | 1 => commands.insert(random.usize(..=commands.len()), commands[at].clone()),
            2 => commands.swap(at, random.usize(..at + 1)),
            3 => {
                let other = &scripts[random.usize(..scripts.len())];
                commands.insert(at, other[random.usize(..other.len())].clone());
            }
            _ => {
                let digit = random.u8(b'0'..b'5');
                let digits = commands[at].match_indices(|c: char| c.is_ascii_digit());
                let places: Vec<usize> = digits.map(|(place, _)| place).collect();
                if !places.is_empty() {
                    let place = places[random.usize(..places.len())];
                    commands[at]
                        .replace_range(place..=place, char::from(digit).encode_utf8(&mut [0]));
                }
            }
        }
    }
    commands.iter().map(|command| format!("{command}----\n\n")).collect()
}

/// Whatever a script asks for, it is answered or refused: the core does not panic, and stays safe.
#[test]
fn mangled_scripts_are_answered_or_refused() {
    let read = |path: PathBuf| commands(&fs::read_to_string(path).expect("a readable script"));
    let scripts: Vec<Vec<String>> = scripts().into_iter().map(read).collect();
    let options = Options::default();
    let mut refused = 0;
    for seed in 0..1000 {
        let text = mangled(&scripts, &mut Rng::with_seed(seed));
        // With the answers filled in, what is left to fail is what was refused.
        let filled = run_text(&text, &options).rewritten.unwrap_or(text);
        let Some(failure) = run_text(&filled, &options).first else { continue };
        let groups =
            filled.lines().filter(|line| line.contains("voters=(") && line.starts_with("add"));
        let is_unsafe = failure.what.contains("safety is broken") && groups.count() < 2;
        assert!(
            !failure.what.contains("panicked") && !is_unsafe,
            "seed {seed}: {failure:?}\n{filled}"
        );
        refused += 1;
    }
    assert!((50..950).contains(&refused), "{refused} of 1000 were refused");
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
