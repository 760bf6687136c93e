//! Scripts: what servers do, command by command, and every word of what they answer.
//!
//! The grammar, the commands and the notation are those of etcd's data-driven tests, so that their
//! scripts run here unchanged; our own golden scripts are written in the same language.
//!
//! | file | chapter |
//! |---|---|
//! | `grammar` | directives, input and output; rewriting |
//! | `run` `diff` | a script from its first to its last directive; what differs |
//! | `suite` | which of the three suites a script belongs to |
//! | `quorum` `confchange` | the two small suites: majorities, configurations |
//! | `commands` `args` | the commands of the large one, interaction, and their arguments |
//! | `env` `network` | its world: servers and messages in flight; delays and doubles |
//! | `node` `disk` | a server, its storage and the threads of that |
//! | `describe` `ready` `golang` `output` | etcd's notation |
//! | `safety` | what must hold in every run besides |
//!
//! ```
//! use harness::script::{Options, run_text};
//!
//! let script = "add-nodes 1 voters=(1) index=3\n----\nok\n\nraft-state\n----\n\
//!               1: StateFollower (Voter) Term:0 Lead:0\n";
//! assert!(run_text(script, &Options::default()).passed());
//! ```
//!
//! Of a folder, as `--bin conformance` has it:
//!
//! ```no_run
//! use harness::script::{
//!     ElectionTimeout, Failure, FileReport, Options, Outcome, Verdict, find, run_file, run_text,
//! };
//!
//! let options = Options { election_timeout: ElectionTimeout::Lowest, rewrite: false };
//! for path in find("tests/scripts".as_ref())? {
//!     let report: FileReport = run_file(&path, &options)?;
//!     if let Verdict::Failed { first, others } = &report.verdict {
//!         let first: &Failure = first;
//!         println!("{report}, and {others} more: {first:?}");
//!     }
//! }
//! let outcome: Outcome = run_text("", &options);
//! assert!(outcome.passed());
//! # Ok::<(), std::io::Error>(())
//! ```

mod args;
mod commands;
mod confchange;
mod describe;
mod diff;
mod disk;
mod env;
mod files;
mod golang;
mod grammar;
mod network;
mod node;
mod output;
mod quorum;
mod ready;
mod run;
mod safety;
mod suite;

use std::ops::Range;

pub use files::{FileReport, Verdict, find, run_file};
pub use run::{Failure, Outcome, run_text};

/// How scripts are run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What every randomized election timeout is.
    pub election_timeout: ElectionTimeout,
    /// Put the outputs there are in the place of those that differ.
    pub rewrite: bool,
}

/// What every randomized election timeout is. No script may depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ElectionTimeout {
    /// Drawn, by a generator whose seed is the node's number.
    #[default]
    Random,
    /// The shortest there is, the election timeout itself.
    Lowest,
    /// In the middle between the shortest and the longest.
    Middle,
    /// The longest there is, one less than twice the election timeout.
    Highest,
}

impl ElectionTimeout {
    /// What timeouts are drawn from, given the election timeout.
    fn range(self, election_ticks: u32) -> Option<Range<u32>> {
        let forced = match self {
            ElectionTimeout::Random => return None,
            ElectionTimeout::Lowest => election_ticks,
            ElectionTimeout::Middle => election_ticks + (election_ticks - 1) / 2,
            ElectionTimeout::Highest => 2 * election_ticks - 1,
        };
        Some(forced..forced + 1)
    }
}
