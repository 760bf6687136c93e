//! What commands ask of their arguments. One that is missing or makes no sense fails the script.

use std::fmt::Display;
use std::str::FromStr;

use raft::NodeId;

use super::grammar::{Arg, Directive};
use super::suite::Fatal;

impl Directive {
    /// The key of the argument at that position.
    pub(super) fn word(&self, position: usize) -> Result<&str, Fatal> {
        let missing = || Fatal::new(format!("argument {} is missing", position + 1));
        Ok(&self.args.get(position).ok_or_else(missing)?.key)
    }

    /// The number that the argument at that position is.
    pub(super) fn number<T: FromStr<Err: Display>>(&self, position: usize) -> Result<T, Fatal> {
        number(self.word(position)?)
    }

    /// The node that the argument at that position names.
    pub(super) fn node(&self, position: usize) -> Result<NodeId, Fatal> {
        node(self.word(position)?)
    }

    /// The value of the argument `key`.
    pub(super) fn value(&self, key: &str) -> Result<&str, Fatal> {
        let arg = self.args.iter().find(|arg| arg.key == key);
        let value = arg.and_then(|arg| arg.values.first());
        value.map(String::as_str).ok_or_else(|| Fatal::new(format!("argument {key}= is missing")))
    }

    /// The nodes named by the arguments without a value, in the order written.
    pub(super) fn nodes(&self) -> Result<Vec<NodeId>, Fatal> {
        self.args.iter().filter(|arg| arg.is_bare()).map(|arg| node(&arg.key)).collect()
    }

    /// What is said of nodes by arguments like `2=7`, in the order written.
    pub(super) fn numbers_of_nodes<T: FromStr<Err: Display>>(
        &self,
    ) -> Result<Vec<(NodeId, T)>, Fatal> {
        let said = self.args.iter().filter_map(|arg| Some((&arg.key, arg.values.first()?)));
        said.map(|(key, value)| Ok((node(key)?, number(value)?))).collect()
    }
}

impl Arg {
    /// Whether it has no value.
    pub(super) fn is_bare(&self) -> bool {
        self.values.is_empty()
    }
}

/// Reads a number.
pub(super) fn number<T: FromStr<Err: Display>>(text: &str) -> Result<T, Fatal> {
    text.parse().map_err(|e| Fatal::new(format!("{text} is not a number: {e}")))
}

/// Reads a node's number.
pub(super) fn node(text: &str) -> Result<NodeId, Fatal> {
    NodeId::new(number(text)?).ok_or_else(|| Fatal::new("there is no node 0"))
}
