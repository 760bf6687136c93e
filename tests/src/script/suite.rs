//! Which commands a script is written in, and who carries them out.

use std::fmt;

use super::Options;
use super::confchange::Changer;
use super::env::Env;
use super::grammar::{Directive, Script};
use super::{commands, quorum};

/// Why a script cannot go on: it asks for what makes no sense, or a safety property is broken.
/// Unlike an error that the core returns, which is part of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fatal(String);

impl Fatal {
    pub(crate) fn new(reason: impl Into<String>) -> Fatal {
        Fatal(reason.into())
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The three kinds of scripts, with the state their commands act on.
pub(super) enum Suite {
    /// Whole servers and the messages between them.
    Interaction(Box<Env>),
    /// Majorities alone.
    Quorum,
    /// Configurations alone.
    ConfChange(Changer),
}

impl Suite {
    /// The suite that a script belongs to: that of the first command that belongs to any. Scripts
    /// of which no command is known are run as interaction, which answers that it is unknown.
    pub(super) fn of(script: &Script, options: &Options) -> Suite {
        let found = script.directives.iter().find_map(|d| match d.command.as_str() {
            "committed" | "vote" => Some(Suite::Quorum),
            "simple" | "enter-joint" | "leave-joint" => Some(Suite::ConfChange(Changer::default())),
            name if commands::is_known(name) => Some(Suite::Interaction(Env::boxed(options))),
            _ => None,
        });
        found.unwrap_or_else(|| Suite::Interaction(Env::boxed(options)))
    }

    /// What the directive answers.
    ///
    /// # Errors
    /// If nothing after it can be relied on.
    pub(super) fn run(&mut self, directive: &Directive) -> Result<String, Fatal> {
        match self {
            Suite::Interaction(env) => commands::run(env, directive),
            Suite::Quorum => quorum::run(directive),
            Suite::ConfChange(changer) => changer.run(directive),
        }
    }
}
