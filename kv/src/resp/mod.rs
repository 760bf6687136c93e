//! RESP, the Redis serialization protocol: what clients send ([`decode`]) and what they are
//! answered ([`encode`]), in versions 2 and 3.
//!
//! A client sends arrays of bulk strings or lines ("inline commands"), in both versions; only the
//! answers differ.
//!
//! Why not the decoder of the `redis-protocol` crate: it recurses once for each level of nesting
//! that a client announces, so `*1\r\n` a million times overflows the stack and takes every
//! connection along; it has no limit on what is announced; it starts over from the first byte
//! whenever a frame is not complete, which makes a large command that arrives in pieces quadratic;
//! and it takes any two bytes for the line end after a string. A command is neither nested nor
//! typed, so what a server needs is the hundred lines here. Its encoder wants a tree of frames for
//! each answer (maps in random order) and walks it twice. The tests hold both ends of this module
//! against that crate.

pub(crate) mod decode;
pub(crate) mod encode;
mod inline;

pub(crate) use decode::{Decoded, Decoder};
pub(crate) use encode::{Output, Version};
