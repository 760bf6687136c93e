//! How entries and messages look as bytes, on the wire and in the log.
//!
//! An entry has one encoding ([`entry`]), which the log and the messages share. All integers are
//! little-endian. Nothing here trusts its input: every length is checked against what is left
//! before anything is allocated, and what a decoder accepts satisfies the invariants of the type
//! it returns. Decoded payloads are slices of the input, not copies.
//!
//! | file | what |
//! |---|---|
//! | [`entry`] | runs of entries |
//! | [`message`] | Raft messages between peers |
//! | [`frame`] | what travels over a connection: handshake, frames, packets |

pub mod entry;
pub mod frame;
pub mod message;

use bytes::{Buf, Bytes};

/// Most bytes the payload of one entry may have, envelope included.
///
/// A command takes one entry, one message and one log record; larger ones would hold up everything
/// behind them for longer than a heartbeat.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;

/// Why bytes could not be decoded. The same bytes will always be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The input ends too early.
    #[error("{what} is cut short")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A field has a value it can't have.
    #[error("{what} has the impossible value {value}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Something is larger than allowed.
    #[error("{what} is {value}, more than {max}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// The checksum does not match.
    #[error("{what} has a wrong checksum")]
    Checksum {
        /// Of what.
        what: &'static str,
    },
    /// There are bytes behind the end.
    #[error("{bytes} bytes too many after {what}")]
    Trailing {
        /// After what.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
}

impl CodecError {
    pub(crate) fn invalid(what: &'static str, value: impl Into<u64>) -> CodecError {
        CodecError::Invalid { what, value: value.into() }
    }
}

/// Reads fields off the front of a buffer; payloads come out as slices of it.
#[derive(Debug)]
pub struct Decoder {
    rest: Bytes,
}

impl Decoder {
    /// Reads `data` from its start.
    #[must_use]
    pub fn new(data: Bytes) -> Decoder {
        Decoder { rest: data }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is left, without taking it.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// The next byte.
    ///
    /// # Errors
    /// If none is left.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, CodecError> {
        self.rest.try_get_u8().map_err(|_| CodecError::Truncated { what })
    }

    /// The next four bytes as a number.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        self.rest.try_get_u32_le().map_err(|_| CodecError::Truncated { what })
    }

    /// The next eight bytes as a number.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, CodecError> {
        self.rest.try_get_u64_le().map_err(|_| CodecError::Truncated { what })
    }

    /// The next `len` bytes, by reference.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn bytes(&mut self, len: usize, what: &'static str) -> Result<Bytes, CodecError> {
        if len > self.rest.len() {
            return Err(CodecError::Truncated { what });
        }
        Ok(self.rest.split_to(len))
    }

    /// A length of four bytes, at most `max`, and so many bytes, by reference.
    ///
    /// # Errors
    /// If the length is above `max`, or fewer bytes are left.
    pub fn prefixed(&mut self, max: usize, what: &'static str) -> Result<Bytes, CodecError> {
        let len = self.u32(what)? as usize;
        if len > max {
            return Err(CodecError::TooLarge { what, value: len as u64, max: max as u64 });
        }
        self.bytes(len, what)
    }

    /// Demands that nothing is left.
    ///
    /// # Errors
    /// If something is.
    pub fn finish(self, what: &'static str) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Trailing { what, bytes }),
        }
    }
}
