//! What the server takes from a client at most, in one place.
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | a key | [`KEY_BYTES_MAX`] | `-ERR`, the connection goes on |
//! | a value, or any other argument | [`VALUE_BYTES_MAX`] | `-ERR`, the connection goes on |
//! | all arguments of a command, or of a `MULTI` | [`REQUEST_BYTES_MAX`] | `-ERR`, the connection goes on |
//! | arguments of a command | [`ARGS_MAX`] | `-ERR`, the connection goes on |
//! | an inline command | [`INLINE_BYTES_MAX`] | `-ERR Protocol error`, closed |
//! | a declared length | [`DECLARED_BYTES_MAX`], [`DECLARED_ARGS_MAX`] | `-ERR Protocol error`, closed |
//!
//! The declared lengths are those of Redis: whoever announces more speaks another protocol. Between
//! them and ours the arguments are read past without being kept, so a client's promise never
//! costs memory.

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Bytes of a value, and of any argument.
pub const VALUE_BYTES_MAX: usize = 4 << 20;

/// Bytes of all arguments of one command, or of one transaction. What an entry of the log, a frame
/// of the transport and a record of the write-ahead log must hold, so those limits are higher.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Arguments of one command, its name included.
pub const ARGS_MAX: usize = 128 << 10;

/// Bytes of a command typed as a line.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// The longest argument a client may announce.
pub const DECLARED_BYTES_MAX: usize = 512 << 20;

/// The most arguments a client may announce.
pub const DECLARED_ARGS_MAX: usize = 1 << 20;
