//! Which errors there are, read from the sources: so that one that is added is missed here until
//! something brings it about.

use std::fs;
use std::path::{Path, PathBuf};

/// The texts of an error, each with `{}` for what may differ; any of them will do.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// What the source says.
    pub(crate) text: String,
    /// What clients see then.
    shapes: Vec<String>,
}

impl Known {
    /// An error that is always seen within one of these frames.
    fn framed(text: String, frames: &[&str]) -> Known {
        let shapes = frames.iter().map(|frame| frame.replacen("{}", &text, 1)).collect();
        Known { text, shapes }
    }

    pub(crate) fn is_seen_in(&self, told: &str) -> bool {
        self.shapes.iter().any(|shape| fits(shape, told))
    }
}

/// Whether `text` is `shape`, with anything in the place of each `{…}`.
fn fits(shape: &str, text: &str) -> bool {
    let Some((before, rest)) = shape.split_once('{') else { return shape == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    let Some((_, after)) = rest.split_once('}') else { return false };
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.into_iter().any(|at| fits(after, &text[at..]))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

/// A source without its tests.
fn source(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source");
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

/// The part of a source from `begin` to the end of that item.
fn item(path: &str, begin: &str) -> String {
    let text = source(&workspace().join(path));
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{path}: no {begin}"));
    rest.split("\n}\n").next().unwrap_or_default().to_owned()
}

/// The literal strings of a source, without comments, continued lines joined.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, next)| next);
        } else if let Some(string) = rest.strip_prefix('"') {
            let (text, next) = literal(string);
            found.push(text);
            rest = next;
        } else {
            // A character, which may be a quote; all else is a lifetime or a division.
            let skip = match rest.as_bytes() {
                [b'\'', b'\\', _, b'\'', ..] => 4,
                [b'\'', _, b'\'', ..] => 3,
                _ => 1,
            };
            rest = &rest[skip..];
        }
    }
    found
}

/// What a literal says, and what follows it.
fn literal(from: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = from;
    while let Some(at) = rest.find(['"', '\\']) {
        text.push_str(&rest[..at]);
        if rest[at..].starts_with('"') {
            return (text, &rest[at + 1..]);
        }
        rest = match rest[at + 1..].strip_prefix('\n') {
            Some(next) => next.trim_start(),
            None => {
                let escaped = rest[at + 1..].chars().next().expect("something is escaped");
                text.push(match escaped {
                    'r' => '\r',
                    'n' => '\n',
                    other => other,
                });
                &rest[at + 1 + escaped.len_utf8()..]
            }
        };
    }
    panic!("a string without an end: {from:.40}");
}

/// The texts that an error's kinds are displayed with.
fn displayed(path: &str, begin: &str, frames: &[&str]) -> Vec<Known> {
    let item = item(path, begin);
    let texts = item.split("#[error(\"").skip(1).map(|rest| literal(rest).0);
    let known: Vec<Known> = texts.map(|text| Known::framed(text, frames)).collect();
    assert!(!known.is_empty(), "{path}: {begin}");
    known
}

/// Below `dir`, all that is no test.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder of the project");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("tests") => {}
            _ if path.is_dir() => found.extend(sources(&path)),
            _ => found.push(path),
        }
    }
    found
}

/// The first word of an error: capitals, and a space.
pub(crate) fn first_word(text: &str) -> Option<&str> {
    let (word, _) = text.split_once(' ')?;
    (word.len() > 2 && word.bytes().all(|b| b.is_ascii_uppercase())).then_some(word)
}

/// What the server says itself.
fn said() -> Vec<Known> {
    let is_help = |text: &str| {
        let is_usage = |(_, rest): (&str, &str)| rest.starts_with(['<', '[']);
        text.contains(" -- ") || text.split_once(' ').is_some_and(is_usage)
    };
    let files = sources(&workspace().join("kv/src/server"));
    let texts = files.iter().flat_map(|path| literals(&source(path)));
    // One is written by hand, with its type before it and its end after it.
    let texts = texts.map(|t| t.trim_start_matches('-').trim_end_matches("\r\n").to_owned());
    let errors = texts.filter(|text| first_word(text).is_some() && !is_help(text));
    errors.map(|text| Known::framed(text, &["{}"])).collect()
}

/// Every error of the code that may come to a client.
pub(crate) fn known() -> Vec<Known> {
    let refused = ["TRYAGAIN {}; nothing was done", "BUSY {}; nothing was done", "ERR {}"];
    let mut known = said();
    known.extend(displayed("kv/src/command.rs", "pub enum OpError {", &["ERR {}"]));
    known.extend(displayed("kv/src/resp/decode.rs", "enum ProtocolError {", &["ERR {}"]));
    known.extend(displayed("raftstore/src/machine.rs", "pub enum Refusal {", &refused));
    let frames = ["UNKNOWN {}; the command may or may not take effect"];
    known.extend(displayed("raftstore/src/machine.rs", "pub enum Unknown {", &frames));
    let frames = [&refused[..], &["APPLIED {}", "NOSESSION {}"]].concat();
    known.extend(displayed("kv/src/answer.rs", "pub enum Error {", &frames));
    let oversized = item("kv/src/resp/decode.rs", "impl fmt::Display for Oversized {");
    known.extend(literals(&oversized).into_iter().map(|text| Known::framed(text, &["ERR {}"])));
    known
}

/// The first words that are documented: the table at [`kv::server`].
pub(crate) fn documented() -> Vec<String> {
    let text = fs::read_to_string(workspace().join("kv/src/server/mod.rs")).expect("a source");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let words = rows.filter_map(|row| row.split_once("` |")).map(|(word, _)| word.to_owned());
    words.filter(|word| word.bytes().all(|b| b.is_ascii_uppercase())).collect()
}
