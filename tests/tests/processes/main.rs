//! Real processes: what only the program itself, killed and started again, can show.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod clients;
mod misuse;
mod nemesis;
