//! The harness: what the tests of the workspace are made of.

pub mod digest;
pub mod filter;
pub mod lists;
pub mod script;
pub mod sim;
