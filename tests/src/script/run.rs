//! Running a script and comparing what it says.
//!
//! The comparison is exact but for log lines, which a core that does not log cannot have: they are
//! dropped from both sides, and an output of which nothing is left equals `ok`. A run goes on
//! after a mismatch, so that one look shows how far a change reaches.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Options;
use super::diff::diff;
use super::grammar::{Directive, Script};
use super::suite::{Fatal, Suite};

/// What came of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many directives the script has; 0 if it cannot be read.
    pub directives: usize,
    /// The first thing that is wrong, if anything is.
    pub first: Option<Failure>,
    /// How many more directives went wrong.
    pub others: usize,
    /// The script with the outputs it should have, if it has others or none.
    pub rewritten: Option<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Number of the line, from 1.
    pub line: usize,
    /// One line of what is wrong.
    pub what: String,
    /// Expected against actual lines, where an output differs.
    pub diff: Option<String>,
}

impl Outcome {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.first.is_none()
    }

    fn fail(&mut self, failure: Failure) {
        if self.first.is_none() {
            self.first = Some(failure);
        } else {
            self.others += 1;
        }
    }
}

/// Runs the script `text` from a fresh state.
#[must_use]
pub fn run_text(text: &str, options: &Options) -> Outcome {
    let script = match Script::parse(text) {
        Ok(script) => script,
        Err(e) => {
            let failure = Failure { line: e.line, what: e.reason, diff: None };
            return Outcome { first: Some(failure), ..Outcome::default() };
        }
    };
    let mut outcome = Outcome { directives: script.directives.len(), ..Outcome::default() };
    let mut suite = Suite::of(&script, options);
    let mut outputs = Vec::new();
    for (position, directive) in script.directives.iter().enumerate() {
        match run_caught(&mut suite, directive) {
            Ok(actual) => {
                let mismatch = compare(directive, &actual);
                // A script that is being written has no output yet, not even `ok`.
                if mismatch.is_some() || directive.expected.is_empty() {
                    outputs.push((position, actual));
                }
                mismatch.into_iter().for_each(|mismatch| outcome.fail(mismatch));
            }
            Err(fatal) => {
                let (line, what) = (directive.line, format!("{}: {fatal}", directive.command));
                outcome.fail(Failure { line, what, diff: None });
                break;
            }
        }
    }
    if !outputs.is_empty() {
        outcome.rewritten = Some(script.rewritten(&outputs));
    }
    outcome
}

/// Runs one directive. A panic of the core, one of its invariants broken, ends the script and not
/// the run of the others; the state it leaves behind is not looked at again.
fn run_caught(suite: &mut Suite, directive: &Directive) -> Result<String, Fatal> {
    let run = AssertUnwindSafe(|| suite.run(directive));
    catch_unwind(run).unwrap_or_else(|panic| Err(Fatal::new(describe_panic(&*panic))))
}

fn describe_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message"))
}

fn compare(directive: &Directive, actual: &str) -> Option<Failure> {
    let mut actual = actual.to_owned();
    if !actual.is_empty() && !actual.ends_with('\n') {
        actual.push('\n');
    }
    let (expected, actual) = (without_logs(&directive.expected), without_logs(&actual));
    (expected != actual).then(|| Failure {
        line: directive.line,
        what: format!("{} answers something else", directive.command),
        diff: Some(diff(&expected, &actual)),
    })
}

/// An output without its log lines.
fn without_logs(output: &str) -> String {
    let is_log = |line: &str| {
        ["DEBUG ", "INFO ", "WARN ", "ERROR ", "FATAL "]
            .iter()
            .any(|level| line.trim_start().starts_with(level))
    };
    let kept: String = output.split_inclusive('\n').filter(|line| !is_log(line)).collect();
    if kept.is_empty() { "ok\n".to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Outcome {
        run_text(text, &Options::default())
    }

    #[test]
    fn log_lines_are_dropped_from_both_sides() {
        let output = "INFO 1 became\n> 1 x\n    DEBUG y\n  INFOx\nWARN a\n";
        assert_eq!(without_logs(output), "> 1 x\n  INFOx\n");
        assert_eq!(without_logs("INFO 1 became follower\n"), "ok\n");
        assert_eq!(without_logs(""), "ok\n");
        assert_eq!(without_logs("INFO 1 x\nraft proposal dropped\n"), "raft proposal dropped\n");
    }

    #[test]
    fn the_first_mismatch_is_shown_and_the_others_counted() {
        let text = "vote\n----\nVoteWon\n\nvote\n----\nVoteLost\n\nvote\n----\n\nvote cfg=(1) votes=(y)\n----\nVoteWon\n";
        let outcome = run(text);
        assert_eq!((outcome.directives, outcome.others), (4, 1));
        let first = outcome.first.unwrap();
        assert_eq!((first.line, first.diff.as_deref()), (5, Some("- VoteLost\n+ VoteWon\n")));
        let rewritten = outcome.rewritten.unwrap();
        assert!(run(&rewritten).passed(), "{rewritten}");
        assert_eq!(
            rewritten,
            text.replace("Lost", "Won").replace("vote\n----\n\n", "vote\n----\nVoteWon\n\n")
        );
    }

    #[test]
    fn what_makes_no_sense_fails_its_file_with_a_reason() {
        let cases = [
            ("vote cfg=(1\n----\n", "unclosed ( after cfg="),
            ("vote cfg=(x)\n----\n", "vote: strconv.ParseUint: parsing \"x\": invalid syntax"),
            ("vote\n----\nVoteWon\n\nsimple\nv1\n----\n", "simple: unknown command simple"),
            ("stabilize 1\n----\n", "stabilize: there is no node 1"),
            ("campaign\n----\n", "campaign: argument 1 is missing"),
            ("deliver-msgs 1 type=MsgFoo\n----\n", "deliver-msgs: unknown message type MsgFoo"),
            ("add-nodes x\n----\n", "add-nodes: "),
            ("add-nodes 1000000000000\n----\n", "add-nodes: at most"),
        ];
        for (text, reason) in cases {
            let first = run(text).first.expect(text);
            assert!(first.what.starts_with(reason), "{text}: {}", first.what);
        }
    }

    #[test]
    fn a_panic_is_a_failure() {
        let caught = catch_unwind(|| panic!("broken {}", 1)).unwrap_err();
        assert_eq!(describe_panic(&*caught), "panicked: broken 1");
        let caught = catch_unwind(|| panic!("broken")).unwrap_err();
        assert_eq!(describe_panic(&*caught), "panicked: broken");
    }

    #[test]
    fn an_unknown_command_is_an_answer() {
        assert!(run("foo\n----\nunknown command\n").passed());
    }
}
