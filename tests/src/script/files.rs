//! Scripts in files and directories.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Options;
use super::grammar::SEPARATOR;
use super::run::{Failure, Outcome, run_text};

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Where it is.
    pub path: PathBuf,
    /// What came of it.
    pub verdict: Verdict,
}

/// Whether a file says what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Passed,
    /// It did not, but was rewritten to.
    Rewritten,
    /// It does not.
    Failed {
        /// The first thing that is wrong.
        first: Failure,
        /// How many more directives are.
        others: usize,
    },
}

impl FileReport {
    /// Whether the file says, by now, what happens.
    #[must_use]
    pub fn passed(&self) -> bool {
        !matches!(self.verdict, Verdict::Failed { .. })
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let (first, others) = match &self.verdict {
            Verdict::Passed => return write!(f, "PASS {path}"),
            Verdict::Rewritten => return write!(f, "PASS {path}: rewritten"),
            Verdict::Failed { first, others } => (first, *others),
        };
        write!(f, "FAIL {path}:{}: {}", first.line, first.what)?;
        if others > 0 {
            write!(f, " (and {others} more)")?;
        }
        for line in first.diff.iter().flat_map(|diff| diff.lines()) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// The scripts at `path`: itself if it is a file, else those in it and the directories in it, by
/// name. Names that begin with a dot or end in `~`, and those between `#`, are an editor's and not
/// scripts; nor is what has neither a script's name, `*.txt`, nor a line of four dashes.
///
/// # Errors
/// If a directory or a file cannot be read.
pub fn find(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let entries: io::Result<Vec<fs::DirEntry>> = fs::read_dir(path)?.collect();
    let mut entries: Vec<PathBuf> = entries?.iter().map(fs::DirEntry::path).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let is_between_hashes = name.len() > 1 && name.starts_with('#') && name.ends_with('#');
        if name.starts_with('.') || name.ends_with('~') || is_between_hashes {
            continue;
        }
        if fs::metadata(&entry)?.is_dir() {
            found.extend(find(&entry)?);
        } else if name.ends_with(".txt") || has_separator(&entry)? {
            found.push(entry);
        }
    }
    Ok(found)
}

fn has_separator(path: &Path) -> io::Result<bool> {
    let bytes = fs::read(path)?;
    Ok(bytes.split(|byte| *byte == b'\n').any(|line| line == SEPARATOR.as_bytes()))
}

/// Runs the script in a file.
///
/// # Errors
/// If the file cannot be read, or not written where it is to be rewritten. A file that is no text
/// is no error of that kind: it fails.
pub fn run_file(path: &Path, options: &Options) -> io::Result<FileReport> {
    let outcome = match String::from_utf8(fs::read(path)?) {
        Ok(text) => run_text(&text, options),
        Err(e) => not_utf8(&e),
    };
    let verdict = match outcome {
        // A rewritten file may still fail, where a command makes no sense.
        Outcome { rewritten: Some(text), .. } if options.rewrite => {
            fs::write(path, &text)?;
            verdict(run_text(&text, options), Verdict::Rewritten)
        }
        outcome => verdict(outcome, Verdict::Passed),
    };
    Ok(FileReport { path: path.to_owned(), verdict })
}

fn verdict(outcome: Outcome, passed: Verdict) -> Verdict {
    match outcome.first {
        None => passed,
        Some(first) => Verdict::Failed { first, others: outcome.others },
    }
}

fn not_utf8(error: &std::string::FromUtf8Error) -> Outcome {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
    let failure = Failure { line, what: "the file is not UTF-8".to_owned(), diff: None };
    Outcome { first: Some(failure), ..Outcome::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn scripts_are_found_by_name_or_content() {
        let dir = directory();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let script = "vote\n----\nVoteWon\n";
        let files = [
            ("b.txt", "no script but named like one"),
            ("sub/a", script),
            (".hidden", script),
            ("#edited#", script),
            ("backup~", script),
            ("README.md", "- ---- -"),
            ("#", script),
        ];
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let found = find(dir.path()).unwrap();
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().to_owned()).collect();
        assert_eq!(names, ["#", "b.txt", "sub/a"].map(PathBuf::from));
        assert!(find(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_failure_is_told_with_its_place() {
        let dir = directory();
        let path = dir.path().join("x");
        fs::write(&path, "vote\n----\nVoteLost\n\nvote\n----\nfoo\n").unwrap();
        let report = run_file(&path, &Options::default()).unwrap();
        let shown = report.to_string();
        let expected =
            ":1: vote answers something else (and 1 more)\n    - VoteLost\n    + VoteWon";
        assert!(shown.starts_with("FAIL ") && shown.ends_with(expected), "{shown}");
    }

    #[test]
    fn bytes_that_are_no_text_fail_their_file() {
        let dir = directory();
        let path = dir.path().join("x");
        fs::write(&path, b"vote\n----\n\xff\n").unwrap();
        let shown = run_file(&path, &Options::default()).unwrap().to_string();
        assert!(shown.ends_with("x:3: the file is not UTF-8"), "{shown}");
    }

    #[test]
    fn rewriting_makes_a_file_pass() {
        let dir = directory();
        let path = dir.path().join("x");
        fs::write(&path, "# c\nvote\n----\nVoteLost\n").unwrap();
        let rewrite = Options { rewrite: true, ..Options::default() };
        assert_eq!(run_file(&path, &rewrite).unwrap().verdict, Verdict::Rewritten);
        assert_eq!(fs::read_to_string(&path).unwrap(), "# c\nvote\n----\nVoteWon\n");
        assert_eq!(run_file(&path, &rewrite).unwrap().verdict, Verdict::Passed);
        fs::write(&path, "vote\n----\n\nvote cfg=(x)\n----\n").unwrap();
        assert!(!run_file(&path, &rewrite).unwrap().passed());
    }
}
