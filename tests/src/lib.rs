//! The harness: what the tests of the workspace are made of.

pub mod budget;
pub mod chaos;
pub mod clients;
pub mod cluster;
pub mod crashes;
pub mod digest;
pub mod filter;
pub mod fuzz;
pub mod generic;
pub mod linearizability;
pub mod lists;
pub mod processes;
pub mod regions;
pub mod rules;
pub mod script;
pub mod sim;

/// The page for whoever brings a store of their own; its examples are compiled and run.
#[doc = include_str!("../README.md")]
pub mod readme {}
