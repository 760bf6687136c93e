//! The harness: what the tests of the workspace are made of.

pub mod chaos;
pub mod clients;
pub mod cluster;
pub mod digest;
pub mod filter;
pub mod fuzz;
pub mod generic;
pub mod linearizability;
pub mod lists;
pub mod script;
pub mod sim;
