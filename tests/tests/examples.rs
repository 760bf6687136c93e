//! Every public type, trait and free function of `kv` and of the harness is shown by an example that
//! compiles: in its own documentation, in that of its chapter, or in the page `tests/README.md`.
//! Methods are shown with their types.
//!
//! An example shows what it names. Where several items have a name it must name the chapter, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A public item: the file it is in, the chapter that file is of, its name.
#[derive(Clone, Debug)]
struct Item {
    file: PathBuf,
    name: String,
}

impl Item {
    /// The file's name, or its folder's.
    fn chapter(&self) -> String {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.file.parent().and_then(Path::file_name).unwrap_or_default();
        if stem == "mod" { folder.to_string_lossy().into_owned() } else { stem }
    }
}

/// A piece of code in the documentation of a file.
struct Example {
    file: PathBuf,
    words: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace").to_path_buf()
}

/// All source files of a crate's library, without its tests.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "bin" && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && name != "tests.rs" {
                found.push(path);
            }
        }
    }
    found
}

/// The public items of a file. (What is `pub` and cannot be reached is a warning of the compiler.)
fn items(file: &Path, code: &str) -> Vec<Item> {
    let kinds = ["struct ", "enum ", "trait ", "fn ", "type ", "const fn "];
    let name = |line: &str| {
        let rest = line.strip_prefix("pub ")?;
        let rest = kinds.iter().find_map(|kind| rest.strip_prefix(kind))?;
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        Some(Item { file: file.to_path_buf(), name: rest[..end].to_owned() })
    };
    code.lines().filter_map(name).collect()
}

/// The examples in documentation, each with the words in it. `text` is no example.
fn examples(file: &Path, lines: impl Iterator<Item = String>) -> Vec<Example> {
    let mut found = Vec::new();
    let mut open: Option<(bool, BTreeSet<String>)> = None;
    for line in lines {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            open = match open.take() {
                None => Some((["", "no_run", "rust"].contains(&kind.trim()), BTreeSet::new())),
                Some((is_code, words)) => {
                    found.extend(is_code.then(|| Example { file: file.to_path_buf(), words }));
                    None
                }
            };
        } else if let Some((_, words)) = &mut open {
            let all = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.extend(all.filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    found
}

fn documentation(code: &str) -> impl Iterator<Item = String> + '_ {
    let text = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::to_owned)
    };
    code.lines().filter_map(text)
}

/// Whether two files are of one chapter: the same, or one in the folder of the other.
fn is_beside(a: &Path, b: &Path) -> bool {
    let base = |path: &Path| match path.file_name() {
        Some(name) if name == "mod.rs" => path.with_file_name(""),
        _ => path.with_extension(""),
    };
    base(a).starts_with(base(b)) || base(b).starts_with(base(a))
}

/// The items of a crate that no example shows.
fn unshown(dir: &str, page: Option<&str>) -> Vec<String> {
    let (mut all, mut shown_by) = (Vec::new(), Vec::new());
    for file in files(&root().join(dir)) {
        let text = fs::read_to_string(&file).expect("text");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        all.extend(items(&file, code));
        // The root of a crate is no chapter: what it shows is shown by name.
        shown_by.extend(examples(&file, documentation(code)));
    }
    if let Some(page) = page {
        let text = fs::read_to_string(root().join(page)).expect("the page");
        shown_by.extend(examples(Path::new(page), text.lines().map(str::to_owned)));
    }
    assert!(all.len() > 50 && shown_by.len() > 10, "{dir} has items and examples");
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|item| *names.entry(&item.name).or_default() += 1);
    let is_shown = |item: &&Item| {
        let is_unique = names[item.name.as_str()] == 1 && item.name.starts_with(char::is_uppercase);
        shown_by.iter().any(|example| {
            let close = is_beside(&example.file, &item.file);
            let named = is_unique || example.words.contains(&item.chapter());
            example.words.contains(&item.name) && (close || named)
        })
    };
    let rest = all.iter().filter(|item| !is_shown(item));
    rest.map(|item| format!("{}::{}", item.chapter(), item.name)).collect()
}

#[test]
fn every_public_item_is_shown_by_an_example() {
    let mut found = unshown("kv/src", None);
    found.extend(unshown("tests/src", Some("tests/README.md")));
    assert!(found.is_empty(), "no example shows {found:#?}");
}

#[test]
fn an_example_shows_what_it_names() {
    let file = Path::new("x/chapter.rs");
    let code = "/// ```\n/// use x::chapter::Thing;\n/// ```\n/// ```text\n/// other\n/// ```\n\
                pub struct Thing;\nfn hidden() {}\npub(crate) fn inner() {}\npub fn other() {}\n";
    let names: Vec<_> = items(file, code).into_iter().map(|item| item.name).collect();
    assert_eq!(names, ["Thing", "other"]);
    let shown = examples(file, documentation(code));
    assert_eq!(shown.len(), 1);
    assert!(shown[0].words.contains("Thing") && !shown[0].words.contains("other"));
    assert!(is_beside(Path::new("x/chapter/part.rs"), file));
    assert!(is_beside(Path::new("x/folder/mod.rs"), Path::new("x/folder/part.rs")));
    assert!(!is_beside(Path::new("x/chapter2.rs"), file));
}
