//! Breaks each rule of Raft once and sees to it that a test notices:
//! `cargo run -p tests --bin rules`.
//!
//! The list is `tests/rules.txt`. A copy of the workspace in `target/rules` gets all breaks, each
//! behind a switch (`harness::rules`), and is built once. Exit code 0 if every break is noticed, 1
//! if not, 2 if it was called wrongly or the copy cannot be built.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use harness::rules::{Caught, Rule, SWITCH, SWITCH_CODE, parse, plant, rewrite};

/// Breaks each rule of Raft once, and sees to it that a test notices.
#[derive(Parser)]
#[command(name = "rules")]
struct Args {
    /// Break only this rule; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Write what notices into the list: the first suite that does, with one of its tests
    #[arg(long)]
    rewrite: bool,
    /// With `--rewrite`, ask this suite, too, whatever others notice; may be given several times
    #[arg(long, requires = "rewrite")]
    suite: Vec<String>,
}

/// How long a suite may take; some breaks make servers talk for ever.
const PATIENCE: Duration = Duration::from_secs(300);

/// The suites, in the order in which they are asked: the slow ones last.
const SUITES: [&str; 8] =
    ["paper", "behaviour", "unit", "cluster", "stall", "trace", "explorer", "scripts"];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(reason) => {
            eprintln!("rules: {reason}");
            ExitCode::from(2)
        }
    }
}

/// Breaks the rules; says how many breaks nothing noticed.
fn run(args: &Args) -> Result<usize, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let list = root.join("tests/rules.txt");
    let text = read(&list)?;
    let rules = parse(&text)?;
    if let Some(unknown) = args.only.iter().find(|name| rules.iter().all(|r| r.name != **name)) {
        return Err(format!("there is no rule {unknown}"));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let copy = Copy { root: target.join("rules/workspace"), target: target.join("rules/target") };
    copy.make(root, &rules)?;
    if let Some(unknown) = args.suite.iter().find(|name| !SUITES.contains(&name.as_str())) {
        return Err(format!("there is no suite {unknown}: {}", SUITES.join(", ")));
    }
    let mut suites = copy.build()?;
    if !args.suite.is_empty() {
        suites.retain(|suite| args.suite.iter().any(|name| name == suite.name));
    }
    let (mut noticed, mut unnoticed) = (BTreeMap::new(), Vec::new());
    for rule in rules.iter().filter(|r| args.only.is_empty() || args.only.contains(&r.name)) {
        let caught = match (args.rewrite, args.suite.is_empty()) {
            (false, _) => named(&suites, rule)?,
            (true, true) => anything(&suites, rule, 1)?,
            (true, false) => anything(&suites, rule, suites.len())?,
        };
        println!("{:3} {}: {}", rule.number, rule.name, line(&caught));
        if caught.is_empty() {
            unnoticed.push(&rule.name);
        }
        let kept = rule.caught.iter().filter(|c| {
            let asked = args.suite.is_empty() || args.suite.contains(&c.suite);
            !asked
        });
        noticed.insert(rule.name.clone(), kept.cloned().chain(caught).collect());
        if args.rewrite {
            fs::write(&list, rewrite(&text, &noticed)).map_err(|e| format!("the list: {e}"))?;
        }
    }
    let broken = noticed.len();
    println!("{broken} rules broken, {} noticed", broken - unnoticed.len());
    Ok(unnoticed.len())
}

fn line(caught: &[Caught]) -> String {
    let part = |c: &Caught| format!("{} ({}) {}", c.suite, c.failures, c.test);
    match caught.iter().map(part).collect::<Vec<_>>() {
        parts if parts.is_empty() => "NOTHING notices".into(),
        parts => parts.join(", "),
    }
}

/// The first so many suites that notice that the rule is broken.
fn anything(suites: &[Suite], rule: &Rule, count: usize) -> Result<Vec<Caught>, String> {
    let mut caught = Vec::new();
    for suite in suites {
        let failed = suite.run(rule.number, None)?;
        if let Some(test) = failed.first() {
            let (suite, failures) = (suite.name.to_string(), failed.len());
            caught.push(Caught { suite, failures, test: test.clone() });
        }
        if caught.len() == count {
            break;
        }
    }
    Ok(caught)
}

/// The test that the list names first for the rule, with the rule broken.
fn named(suites: &[Suite], rule: &Rule) -> Result<Vec<Caught>, String> {
    let Some(first) = rule.caught.first() else { return Ok(Vec::new()) };
    let suite = suites.iter().find(|suite| suite.name == first.suite);
    let suite = suite.ok_or_else(|| format!("{}: there is no suite {}", rule.name, first.suite))?;
    let failed = suite.run(rule.number, Some(&first.test))?;
    let caught = Caught { failures: failed.len(), ..first.clone() };
    Ok(if failed.is_empty() { Vec::new() } else { vec![caught] })
}

// ---- The copy ----

/// A workspace whose core can be made to break each rule.
#[derive(Clone)]
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make(&self, from: &Path, rules: &[Rule]) -> Result<(), String> {
        for part in ["raft", "raftstore", "kv", "benches", "tests", "Cargo.toml", "Cargo.lock"] {
            copy(&from.join(part), &self.root.join(part))?;
        }
        let mut by_file: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
        for rule in rules {
            by_file.entry(&rule.file).or_default().push(rule);
        }
        for (file, rules) in by_file {
            let planted = plant(&read(&from.join(file))?, &rules)?;
            write(&self.root.join(file), planted.as_bytes())?;
        }
        let crate_root = Path::new("raft/src/lib.rs");
        let code = read(&from.join(crate_root))? + SWITCH_CODE;
        write(&self.root.join(crate_root), code.as_bytes())
    }

    /// Builds the suites, but for the scripts, whose runner takes the whole workspace.
    fn build(&self) -> Result<Vec<Suite>, String> {
        let tests = self.cargo(&["test", "-p", "raft", "--lib", "--tests", "--no-run"])?;
        let mut suites = Vec::new();
        for name in SUITES {
            let program = if name == "scripts" {
                self.target.join("debug/conformance")
            } else {
                let file = if name == "unit" { "raft" } else { name };
                let mark = format!("/{file}-");
                let line = tests.lines().find(|l| l.contains("Executable") && l.contains(&mark));
                let path = line.and_then(|l| l.rsplit_once('(')).map(|(_, path)| path);
                let path = path.ok_or_else(|| format!("there is no suite {name}"))?;
                self.root.join(path.trim_end_matches(')'))
            };
            suites.push(Suite { name, program, copy: self.clone(), passes: OnceCell::new() });
        }
        Ok(suites)
    }

    /// Runs cargo over the copy; gives what it says.
    fn cargo(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("cargo")
            .args(args)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            // A break may leave a name unused.
            .env("RUSTFLAGS", "-A warnings")
            .output()
            .map_err(|e| format!("cargo: {e}"))?;
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(says) } else { Err(says) }
    }
}

/// Copies a file or a directory; what has not changed is left alone, so that it is not built again.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", from.display());
    if !from.is_dir() {
        return write(to, &fs::read(from).map_err(wrong)?);
    }
    for entry in fs::read_dir(from).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let parent = path.parent().ok_or("a file without a directory")?;
    let wrong = |e: std::io::Error| format!("{}: {e}", path.display());
    fs::create_dir_all(parent).map_err(wrong)?;
    fs::write(path, bytes).map_err(wrong)
}

// ---- Suites ----

/// A program that runs tests.
struct Suite {
    name: &'static str,
    program: PathBuf,
    copy: Copy,
    /// Set once it is seen to pass with no rule broken.
    passes: OnceCell<()>,
}

impl Suite {
    /// Runs all tests, or one, with a rule broken; gives those that fail, in order.
    ///
    /// # Errors
    /// If it does not pass with no rule broken, or cannot be run.
    fn run(&self, rule: usize, only: Option<&str>) -> Result<Vec<String>, String> {
        if self.passes.get().is_none() {
            if self.name == "scripts" {
                self.copy.cargo(&["build", "--quiet", "-p", "tests", "--bin", "conformance"])?;
            }
            if let Some(failed) = self.start(0, None)?.first() {
                return Err(format!("with no rule broken {} fails: {failed}", self.name));
            }
            let _ = self.passes.set(());
        }
        self.start(rule, only)
    }

    fn start(&self, rule: usize, only: Option<&str>) -> Result<Vec<String>, String> {
        let log = self.copy.root.join("output.txt");
        let out = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = Command::new(&self.program);
        match (self.name, only) {
            ("scripts", only) => command.arg(only.unwrap_or("tests/scripts")),
            (_, Some(test)) => command.args(["--exact", test]),
            (_, None) => &mut command,
        };
        command.env(SWITCH, rule.to_string()).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        let root = &self.copy.root;
        let dir = if self.name == "scripts" { root.clone() } else { root.join("raft") };
        let child = command.current_dir(dir).stdout(out).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|e| format!("{}: {e}", self.program.display()))?;
        let ended = wait(&mut child)?;
        let says = read(&log)?;
        let mut failed: Vec<String> = says.lines().filter_map(failure).collect();
        failed.sort();
        let passed = ended == Some(true);
        if !passed && failed.is_empty() {
            // What ran when it ended is not said; any test of the suite has it end.
            failed.push(if ended.is_none() { "(never ends)" } else { "(dies)" }.into());
        }
        Ok(failed)
    }
}

/// The test that a line of output says to have failed.
fn failure(line: &str) -> Option<String> {
    if let Some(script) = line.strip_prefix("FAIL ") {
        return Some(script.split([' ', ':']).next().unwrap_or(script).to_string());
    }
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::to_string)
}

/// Waits until it ends, but not for ever; says whether it went well.
fn wait(child: &mut Child) -> Result<Option<bool>, String> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Ok(Some(status.success()));
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
