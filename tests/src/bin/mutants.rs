//! Plants bugs into a copy of the workspace and has another program find them, the simulator or the
//! one that crashes logs: `cargo run --release -p tests --bin mutants`.
//!
//! The lists are `tests/mutants/*.txt`. All bugs are planted into one copy, each behind a switch, so
//! that it is built once. A bug that its program does not notice is something that it does not look
//! at, or never brings about. Exit code 0 if every one of them is noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use clap::Parser;

/// Plants bugs and has other programs find them.
#[derive(Debug, Parser)]
struct Args {
    /// Plant only this one; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Plant only those of this list, as in store or wal; may be given several times
    #[arg(long)]
    list: Vec<String>,
    /// Have the simulator give up on one after so many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Give up on one after so long, as in 90s
    #[arg(long, default_value = "300s")]
    budget: String,
    /// Write into the lists what was said
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

/// Who looks for a bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Judge {
    /// `sim`: clusters, seed by seed.
    #[default]
    Sim,
    /// `crashes`: logs, image by image.
    Crashes,
}

/// A block of a list.
#[derive(Debug, Default)]
struct Mutant {
    /// By which it is switched on: its place in all lists together, from 1.
    number: usize,
    name: String,
    by: Judge,
    changes: Vec<Change>,
}

/// A text, and what takes its place.
#[derive(Debug, Default)]
struct Change {
    file: String,
    find: String,
    replace: String,
}

/// A file of bugs.
struct List {
    name: String,
    path: PathBuf,
    text: String,
    mutants: Vec<Mutant>,
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
    let mut lists = lists(&root.join("tests/mutants"))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let mutants = lists.iter().flat_map(|list| &list.mutants);
    let programs = plant(root, &target.join("mutants"), &target, mutants)?;
    let is_asked = |list: &List| args.list.is_empty() || args.list.contains(&list.name);
    let is_wanted = |mutant: &Mutant| args.only.is_empty() || args.only.contains(&mutant.name);
    for by in [Judge::Sim, Judge::Crashes] {
        let asked = lists.iter().filter(|list| is_asked(list)).flat_map(|list| &list.mutants);
        if asked.into_iter().any(|mutant| mutant.by == by && is_wanted(mutant))
            && let Some(said) = noticed(&programs, by, 0, args)?
        {
            return Err(format!("with nothing planted: {said}"));
        }
    }
    let (mut count, mut survivors) = (0, 0);
    for List { path, text, mutants, .. } in lists.iter_mut().filter(|list| is_asked(list)) {
        for mutant in mutants.iter().filter(|mutant| is_wanted(mutant)) {
            count += 1;
            let said = noticed(&programs, mutant.by, mutant.number, args)?;
            survivors += usize::from(said.is_none());
            let line = said.unwrap_or_else(|| format!("{} none", mutant.by.unit()));
            println!("{}: {line}", mutant.name);
            *text = with_line(text, &mutant.name, &line);
            if args.rewrite {
                write(path, text)?;
            }
        }
    }
    println!("{count} planted, {} noticed", count - survivors);
    Ok(survivors == 0)
}

/// All lists, by name.
fn lists(dir: &Path) -> Result<Vec<List>, String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", dir.display());
    let entries = fs::read_dir(dir).map_err(wrong)?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(wrong)?;
    paths.sort();
    let mut lists = Vec::new();
    let mut number = 0;
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "txt")) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = read(&path)?;
        let mutants = parse(&text, &mut number).map_err(|what| format!("{name}: {what}"))?;
        lists.push(List { name, path, text, mutants });
    }
    Ok(lists)
}

fn parse(text: &str, number: &mut usize) -> Result<Vec<Mutant>, String> {
    let mut mutants: Vec<Mutant> = Vec::new();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let (key, value) = line.split_once(' ').ok_or(format!("{line:?} says nothing"))?;
        if key == "mutant" {
            *number += 1;
            let name = value.to_owned();
            mutants.push(Mutant { number: *number, name, ..Mutant::default() });
            continue;
        }
        let mutant = mutants.last_mut().ok_or(format!("{line:?} is of no bug"))?;
        match (key, value) {
            ("by", "sim") => mutant.by = Judge::Sim,
            ("by", "crashes") => mutant.by = Judge::Crashes,
            ("file", _) => {
                mutant.changes.push(Change { file: value.to_owned(), ..Change::default() });
            }
            ("-", _) => match mutant.changes.last_mut() {
                Some(change) if change.find.is_empty() => change.find = value.to_owned(),
                Some(Change { file, .. }) => {
                    let (file, find) = (file.clone(), value.to_owned());
                    mutant.changes.push(Change { file, find, replace: String::new() });
                }
                None => return Err(format!("{line:?} is of no file")),
            },
            ("+", _) => match mutant.changes.last_mut() {
                Some(change) => change.replace = value.to_owned(),
                None => return Err(format!("{line:?} takes nothing's place")),
            },
            ("says" | "seeds" | "images", _) => {}
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
        let is_said = |line: &&str| line.starts_with("seeds ") || line.starts_with("images ");
        let kept = block.lines().filter(|line| !is_said(line));
        kept.chain([line]).collect::<Vec<_>>().join("\n")
    };
    text.trim_end().split("\n\n").map(block).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// Makes the copy and builds its programs; where they are.
fn plant<'a>(
    from: &Path,
    to: &Path,
    target: &Path,
    mutants: impl Iterator<Item = &'a Mutant>,
) -> Result<PathBuf, String> {
    for part in ["raft", "raftstore", "kv", "benches", "tests", "Cargo.toml", "Cargo.lock"] {
        copy(&from.join(part), &to.join(part))?;
    }
    for Mutant { number, name, changes, .. } in mutants {
        for Change { file, find, replace } in changes {
            let path = to.join(file);
            let text = read(&path)?;
            if !text.contains(find) {
                return Err(format!("{name}: {find:?} is not in {file}"));
            }
            let planted = match find.ends_with(';') {
                true => format!("if crate::mutant({number}) {{ {replace} }} else {{ {find} }}"),
                false => format!("(if crate::mutant({number}) {{ {replace} }} else {{ {find} }})"),
            };
            write(&path, &text.replace(find, &planted))?;
        }
    }
    for root in ["raft/src/lib.rs", "kv/src/lib.rs", "raftstore/src/lib.rs"] {
        // (What is put into a text's place is in brackets, wherever it is.)
        let code = format!("#![allow(unused_parens)]\n{}{SWITCH_CODE}", read(&to.join(root))?);
        write(&to.join(root), &code)?;
    }
    // In a directory of its own: cargo would take the crates of the copy for ours.
    let target = target.join("mutants-target");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "-p", "tests", "--bin", "sim", "--bin", "crashes"]);
    let built = build.current_dir(to).env("CARGO_TARGET_DIR", &target).status();
    if !built.map_err(|e| format!("cargo: {e}"))?.success() {
        return Err("the copy cannot be built".to_owned());
    }
    Ok(target.join("debug"))
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

impl Judge {
    /// What it counts.
    fn unit(self) -> &'static str {
        match self {
            Judge::Sim => "seeds",
            Judge::Crashes => "images",
        }
    }
}

/// How much it takes until that program says something, and what; the line for the list. `None` if
/// it says nothing.
fn noticed(
    programs: &Path,
    by: Judge,
    number: usize,
    args: &Args,
) -> Result<Option<String>, String> {
    let program = programs.join(match by {
        Judge::Sim => "sim",
        Judge::Crashes => "crashes",
    });
    let mut run = Command::new(&program);
    run.args(["--jobs", "1", "--budget", &args.budget]);
    match by {
        Judge::Sim => run.args(["--shrink", "0s", "--seeds", &args.seeds.to_string()]),
        Judge::Crashes => run.arg("--json"),
    };
    run.env(SWITCH, number.to_string()).env("RUST_BACKTRACE", "0");
    let output = run.output().map_err(|e| format!("{}: {e}", program.display()))?;
    let said = match by {
        Judge::Sim => by_sim(&output)?,
        Judge::Crashes => by_crashes(&output)?,
    };
    Ok(said.map(|(count, what)| {
        let what: String = what.trim().chars().take(100).collect();
        format!("{} {count} {what}", by.unit())
    }))
}

/// The first seed that failed, from 1 on, and how.
fn by_sim(output: &Output) -> Result<Option<(u64, String)>, String> {
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
    Ok(Some((seed + 1, what.to_owned())))
}

/// How many images were opened until one was not as it must be, and what was said of it.
fn by_crashes(output: &Output) -> Result<Option<(u64, String)>, String> {
    if output.stdout.is_empty() {
        return Ok(Some((0, "it dies".to_owned())));
    }
    let says: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("crashes: {e}"))?;
    let images = says["images"].as_u64().ok_or("crashes counts no images")?;
    Ok(says["found"][0].as_str().map(|what| {
        // The end of a long line says what is wrong; before it comes where.
        let what = what.split("; again: ").next().unwrap_or(what).trim_start_matches("seed 0: ");
        let what = what.rsplit_once("]: ").map_or(what, |(_, what)| what);
        (images, what.to_owned())
    }))
}
