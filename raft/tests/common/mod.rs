//! Whole groups in one thread, over the public face of the crate and nothing else.
//!
//! * [`build`]: ids, messages, and servers with any log to begin with;
//! * [`node`]: a server with its disk and its state machine, synchronous or held back;
//! * [`net`]: the network between servers: first in, first out, with cuts, losses and a hook;
//! * [`oracle`]: Figure 3 across all servers, checked whenever the network comes to rest.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each suite uses its part")]

pub mod build;
pub mod net;
pub mod node;
pub mod oracle;

pub use build::{
    Kind, Setup, append, entries, grant, heartbeat, id, ids, message, server, snapshot, vote,
};
pub use net::{Net, group};
pub use node::Node;
pub use oracle::Oracle;
