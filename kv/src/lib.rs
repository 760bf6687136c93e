//! A replicated key-value store on `raftstore`: commands, answers, a server.
//!
//! | chapter | what |
//! |---|---|
//! | [`command`] | what a client may ask, and what it gets; the bytes of both |
//! | [`answer`] | the three truths a client may be told |
//! | [`resp`], [`limits`] | the protocol clients speak, and what is taken from them |

#![forbid(unsafe_code)]

pub mod answer;
pub mod command;
pub mod limits;
pub mod resp;

mod wire;

pub use answer::{Answer, Error};
pub use command::{Cf, Condition, Op, OpError, OpResult, Request, Response};
