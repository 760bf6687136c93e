//! What the server takes from a client at most, in one place.
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | a key | [`KEY_BYTES_MAX`] | `-ERR`, the connection goes on |
//! | a value, or any other argument | [`VALUE_BYTES_MAX`] | `-ERR`, the connection goes on |
//! | all arguments of a command, or of a `MULTI` | [`REQUEST_BYTES_MAX`] | `-ERR`, the connection goes on |
//! | operations of a `MULTI` that writes | [`OPS_MAX`] | `-ERR`, the connection goes on |
//! | arguments of a command | [`ARGS_MAX`] | `-ERR`, the connection goes on |
//! | an inline command | [`INLINE_BYTES_MAX`] | `-ERR Protocol error`, closed |
//! | sent without reading any answer | 64 MiB | not read until answers are |
//! | a declared length | [`DECLARED_BYTES_MAX`], [`DECLARED_ARGS_MAX`] | `-ERR Protocol error`, closed |
//!
//! The declared lengths are those of Redis: whoever announces more speaks another protocol. Between
//! them and ours the arguments are read past without being kept, so a client's promise never
//! costs memory.

pub use crate::command::{KEY_BYTES_MAX, OPS_MAX, REQUEST_BYTES_MAX, VALUE_BYTES_MAX};

/// Arguments of one command, its name included.
pub const ARGS_MAX: usize = 128 << 10;

/// Bytes of a command typed as a line.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// The longest argument a client may announce.
pub const DECLARED_BYTES_MAX: usize = 512 << 20;

/// The most arguments a client may announce.
pub const DECLARED_ARGS_MAX: usize = 1 << 20;
