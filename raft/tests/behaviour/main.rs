//! What etcd's raft, raft-rs and TinyKV pin by their tests, chapter by chapter. The names of their
//! tests stand in the comments, so that what is covered can be found by name; so do the numbers of
//! bugs that others had.

#[path = "../common/mod.rs"]
mod common;

mod check_quorum;
mod commit;
mod commit_hints;
mod crash;
mod election;
mod fetch;
mod flow_control;
mod hostile;
mod lease;
mod membership;
mod prevote;
mod read;
mod ready;
mod replication;
mod snapshot;
mod snapshot_request;
mod transfer;
mod window;
