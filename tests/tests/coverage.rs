//! The index of what other suites pin (`raft/tests/README.md`) is true: every test it lists is there
//! and names what it is listed for, and it lists every name that a test of the core names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of the index, which its paths are relative to.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../raft/tests")
}

/// A row of the index: a test of another suite, and one of ours that pins the same.
struct Row {
    theirs: String,
    path: String,
    /// `None` for a script, which is one test.
    ours: Option<String>,
}

fn index() -> Vec<Row> {
    let text = fs::read_to_string(directory().join("README.md")).expect("the index");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, theirs, path, ours, _] = cells[..] else { return None };
        let ours = (ours != "the script").then(|| ours.to_owned());
        is_name(theirs).then(|| Row { theirs: theirs.to_owned(), path: path.to_owned(), ours })
    };
    text.lines().filter_map(row).collect()
}

/// Whether a word is the name of a test of another suite: `TestX…` of Go, `test_…` of Rust.
fn is_name(word: &str) -> bool {
    let go = word.strip_prefix("Test").is_some_and(|rest| rest.starts_with(char::is_uppercase));
    go || word.strip_prefix("test_").is_some_and(|rest| !rest.is_empty())
}

fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| is_name(word)).collect()
}

/// The tests in a file of Rust, with the comment above each.
fn tests(code: &str) -> BTreeMap<&str, String> {
    let (mut comment, mut is_test) = (String::new(), false);
    let mut found = BTreeMap::new();
    for line in code.lines().map(str::trim) {
        if line.starts_with("//") {
            comment.push_str(line);
            comment.push('\n');
        } else if line == "#[test]" {
            is_test = true;
        } else if !line.starts_with("#[") {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            if let Some(name) = name.filter(|_| is_test) {
                found.insert(name, std::mem::take(&mut comment));
            }
            comment.clear();
            is_test = false;
        }
    }
    found
}

#[test]
fn every_test_that_the_index_lists_is_there_and_names_its_model() {
    let rows = index();
    assert!(rows.len() > 300, "only {} rows were found", rows.len());
    let mut wrong = Vec::new();
    for Row { theirs, path, ours } in &rows {
        let Ok(text) = fs::read_to_string(directory().join(path)) else {
            wrong.push(format!("{theirs}: there is no {path}"));
            continue;
        };
        let comment = match ours {
            Some(ours) => tests(&text).get(ours.as_str()).cloned(),
            None => Some(text.lines().filter(|line| line.starts_with('#')).collect()),
        };
        if !comment.is_some_and(|comment| names(&comment).contains(theirs.as_str())) {
            wrong.push(format!("{theirs}: {path} has no test {ours:?} that names it"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All files below `folder` that end in `.rs`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_index_lists_every_name_that_a_test_of_the_core_names() {
    let rows = index();
    let mut files = Vec::new();
    sources(&directory(), &mut files);
    sources(&directory().join("../src"), &mut files);
    let mut missing = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for (ours, comment) in tests(&text) {
            for name in names(&comment) {
                let is_listed = |row: &Row| row.theirs == name && row.ours.as_deref() == Some(ours);
                if !rows.iter().any(is_listed) {
                    missing.push(format!("{name}: {ours} in {}", file.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "not in raft/tests/README.md:\n{}", missing.join("\n"));
}

#[test]
fn names_are_found_in_comments() {
    let code = "/// etcd: TestX (raft-rs: test_y), Testing.\n#[test]\nfn a() {\n    // TestZ\n}\n\
                /// TestW\nfn b() {}\n";
    let found = tests(code);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["a"]);
    assert_eq!(names(&found["a"]), BTreeSet::from(["TestX", "test_y"]));
}
