//! Plants bugs into a copy of the workspace and has the simulator find them:
//! `cargo run --release -p tests --bin mutants`.
//!
//! The list is `tests/mutants.txt`. All bugs are planted into one copy, each behind a switch, so that
//! it is built once. A bug that the simulator does not notice is something that it does not look at,
//! or never brings about. Exit code 0 if it notices every one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

/// Plants bugs and has the simulator find them.
#[derive(Debug, Parser)]
struct Args {
    /// Plant only this one; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// Give up on one after so many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// Give up on one after so long, as `sim` takes it.
    #[arg(long, default_value = "60s")]
    budget: String,
    /// Write into the list what the simulator said.
    #[arg(long)]
    rewrite: bool,
}

/// Says which bug is there, by its number in the list from 1.
const SWITCH: &str = "RAFTKV_MUTANT";

/// What is added to the root of a crate with bugs.
const SWITCH_CODE: &str = r#"
pub(crate) fn mutant(number: usize) -> bool {
    static NUMBER: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let read = || std::env::var("RAFTKV_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    *NUMBER.get_or_init(read) == number
}
"#;

/// A block of the list.
#[derive(Debug, Default)]
struct Mutant {
    number: usize,
    name: String,
    file: String,
    find: String,
    replace: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("mutants: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether all were noticed.
fn run(args: &Args) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let list = root.join("tests/mutants.txt");
    let mut text = read(&list)?;
    let mutants = parse(&text)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let sim = plant(root, &target.join("mutants"), &target, &mutants)?;
    if let Some((_, what)) = noticed(&sim, 0, args)? {
        return Err(format!("with nothing planted: {what}"));
    }
    let wanted = |m: &&Mutant| args.only.is_empty() || args.only.contains(&m.name);
    let (mut count, mut survivors) = (0, 0);
    for mutant in mutants.iter().filter(wanted) {
        count += 1;
        let line = match noticed(&sim, mutant.number, args)? {
            Some((seeds, what)) => format!("seeds {seeds} {what}"),
            None => {
                survivors += 1;
                "seeds none".to_owned()
            }
        };
        println!("{}: {line}", mutant.name);
        text = with_line(&text, &mutant.name, &line);
        if args.rewrite {
            write(&list, &text)?;
        }
    }
    println!("{count} planted, {} noticed", count - survivors);
    Ok(survivors == 0)
}

fn parse(text: &str) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let (key, value) = line.split_once(' ').ok_or(format!("{line:?} says nothing"))?;
        if key == "mutant" {
            let (number, name) = (mutants.len() + 1, value.to_owned());
            mutants.push(Mutant { number, name, ..Mutant::default() });
            continue;
        }
        let mutant = mutants.last_mut().ok_or(format!("{line:?} is of no bug"))?;
        match key {
            "file" => mutant.file = value.to_owned(),
            "-" => mutant.find = value.to_owned(),
            "+" => mutant.replace = value.to_owned(),
            "says" | "seeds" => {}
            _ => return Err(format!("{line:?} is no part of a bug")),
        }
    }
    Ok(mutants)
}

/// The list with what was said of one.
fn with_line(text: &str, name: &str, line: &str) -> String {
    let block = |block: &str| {
        if !block.starts_with(&format!("mutant {name}\n")) {
            return block.to_owned();
        }
        let kept = block.lines().filter(|line| !line.starts_with("seeds "));
        kept.chain([line]).collect::<Vec<_>>().join("\n")
    };
    text.trim_end().split("\n\n").map(block).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// Makes the copy and builds its simulator.
fn plant(from: &Path, to: &Path, target: &Path, mutants: &[Mutant]) -> Result<PathBuf, String> {
    for part in ["raft", "raftstore", "kv", "benches", "tests", "Cargo.toml", "Cargo.lock"] {
        copy(&from.join(part), &to.join(part))?;
    }
    for mutant in mutants {
        let path = to.join(&mutant.file);
        let Mutant { number, name, find, replace, .. } = mutant;
        let text = read(&path)?;
        if !text.contains(find) {
            return Err(format!("{name}: {find:?} is not in {}", mutant.file));
        }
        let planted = match find.ends_with(';') {
            true => format!("if crate::mutant({number}) {{ {replace} }} else {{ {find} }}"),
            false => format!("(if crate::mutant({number}) {{ {replace} }} else {{ {find} }})"),
        };
        write(&path, &text.replace(find, &planted))?;
    }
    for root in ["kv/src/lib.rs", "raftstore/src/lib.rs"] {
        // (What is put into a text's place is in brackets, wherever it is.)
        let code = format!("#![allow(unused_parens)]\n{}{SWITCH_CODE}", read(&to.join(root))?);
        write(&to.join(root), &code)?;
    }
    // In a directory of its own: cargo would take the crates of the copy for ours.
    let target = target.join("mutants-target");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "-p", "tests", "--bin", "sim"]).current_dir(to);
    let built = build.env("CARGO_TARGET_DIR", &target).status();
    if !built.map_err(|e| format!("cargo: {e}"))?.success() {
        return Err("the copy cannot be built".to_owned());
    }
    Ok(target.join("debug/sim"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", from.display());
    if from.is_dir() {
        fs::create_dir_all(to).map_err(wrong)?;
        for entry in fs::read_dir(from).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(wrong)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// How many seeds it takes until the simulator says something, and what. `None` if it does not.
fn noticed(sim: &Path, number: usize, args: &Args) -> Result<Option<(u64, String)>, String> {
    let mut run = Command::new(sim);
    run.args(["--jobs", "1", "--shrink", "0s", "--seeds", &args.seeds.to_string()]);
    run.args(["--budget", &args.budget]).env(SWITCH, number.to_string()).env("RUST_BACKTRACE", "0");
    let output = run.output().map_err(|e| format!("{}: {e}", sim.display()))?;
    let says = String::from_utf8_lossy(&output.stdout);
    let Some(failed) = says.lines().find_map(|line| line.strip_prefix("FAILED seed ")) else {
        let is_fine = output.status.success() || says.contains("TOO RARE");
        return if is_fine { Ok(None) } else { Ok(Some((0, "it dies".to_owned()))) };
    };
    let (seed, what) = failed.split_once(':').unwrap_or((failed, ""));
    let seed: u64 = seed.trim().parse().map_err(|_| format!("{failed:?} names no seed"))?;
    // A panic says more on the other channel.
    let panic = String::from_utf8_lossy(&output.stderr);
    let panic = panic.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    let what = if what.trim() == "a panic" { panic.unwrap_or(what) } else { what };
    let what: String = what.trim().chars().take(100).collect();
    Ok(Some((seed + 1, what)))
}
