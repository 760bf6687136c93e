//! The harness: what the tests of the workspace are made of.

pub mod script;
