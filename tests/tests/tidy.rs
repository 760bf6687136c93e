//! What the compiler does not check about the shape of the tree: which crate may do what, how long
//! a chapter may be, where the one line of the workspace is that says "this survives power loss".

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace").to_path_buf()
}

/// All Rust files below `dir`, with their text up to the unit tests.
fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(dir)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("text");
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(&text).to_string();
                found.push((path, code));
            }
        }
    }
    assert!(!found.is_empty(), "{dir} has sources");
    found
}

/// Lines of code (comments left out) that contain one of `words`.
fn lines_with(sources: &[(PathBuf, String)], words: &[&str]) -> Vec<String> {
    let mut hits = Vec::new();
    for (path, code) in sources {
        for (at, line) in code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if words.iter().any(|word| code.contains(word)) {
                hits.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    hits
}

fn assert_none(hits: &[String], rule: &str) {
    assert!(hits.is_empty(), "{rule}:\n{}", hits.join("\n"));
}

const OUTSIDE_WORLD: &[&str] = &[
    "std::time",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "println!",
    "Instant::now",
];

#[test]
fn the_core_is_pure() {
    let hits = lines_with(&sources("raft/src"), OUTSIDE_WORLD);
    assert_none(&hits, "raft knows no clock, disk, network, thread or console");
}

#[test]
fn the_core_depends_on_bytes_and_a_small_generator_only() {
    let manifest = fs::read_to_string(root().join("raft/Cargo.toml")).expect("raft's manifest");
    let (_, rest) = manifest.split_once("[dependencies]\n").expect("its dependencies");
    let dependencies: Vec<&str> = rest
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(dependencies, ["bytes", "fastrand"]);
}

#[test]
fn the_step_function_of_a_store_is_pure() {
    let step: Vec<_> = sources("raftstore/src")
        .into_iter()
        .filter(|(path, _)| {
            let path = path.to_string_lossy();
            let shells = ["/node", "/transport", "/disk", "/wal", "/testing.rs"];
            !shells.iter().any(|shell| path.contains(shell))
        })
        .collect();
    assert_none(&lines_with(&step, OUTSIDE_WORLD), "only the shells of raftstore touch the world");
}

#[test]
fn unsafe_code_is_in_the_mapping_only() {
    let mut all = Vec::new();
    for dir in ["raft/src", "raftstore/src", "kv/src", "tests/src"] {
        all.extend(sources(dir));
    }
    let is_mapping =
        |path: &Path| path.ends_with("mapping.rs") || path.ends_with("mapping/system.rs");
    all.retain(|(path, _)| !is_mapping(path));
    assert_none(&lines_with(&all, &["unsafe ", "unsafe{"]), "unsafe code outside of the mapping");
}

#[test]
fn one_line_of_the_libraries_says_that_something_survives_power_loss() {
    let mut hits = Vec::new();
    for dir in ["raftstore/src", "kv/src"] {
        let mut code = sources(dir);
        code.retain(|(path, _)| !path.ends_with("testing.rs"));
        hits.extend(lines_with(&code, &["write.synced()", "Write::synced"]));
    }
    assert_eq!(hits.len(), 1, "{}", hits.join("\n"));
}

#[test]
fn no_chapter_is_longer_than_500_lines() {
    let mut long = Vec::new();
    for dir in ["raft/src", "raftstore/src", "kv/src", "tests/src", "benches/src"] {
        for (path, code) in sources(dir) {
            let lines = code.lines().count();
            if lines > 500 {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert_none(&long, "files over 500 lines before their tests");
}

/// `cargo bench` would run libraries and programs as well, which know none of criterion's options.
#[test]
fn only_benchmarks_are_benchmarks() {
    for member in ["raft", "raftstore", "kv", "benches", "tests"] {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).expect("text");
        let unmarked = |name: &str| {
            let mut sections = manifest.split("\n[").filter(|section| section.contains(name));
            !sections.any(|section| section.contains("bench = false"))
        };
        assert!(!unmarked("lib]"), "{member}: the library");
        let programs = fs::read_dir(root().join(member).join("src/bin"));
        for program in programs.into_iter().flatten().flatten() {
            let path = program.path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            assert!(!unmarked(&format!("name = \"{name}\"")), "{member}: {name}");
        }
    }
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    let mut all = Vec::new();
    for dir in ["raft", "raftstore", "kv", "tests/src", "benches"] {
        all.extend(sources(dir));
    }
    let words = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"];
    assert_none(&lines_with(&all, &words), "unfinished or switched off");
}
