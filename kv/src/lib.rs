//! kv.

pub mod limits;
pub mod resp;
