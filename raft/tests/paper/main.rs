//! The paper, sentence by sentence: one test for each that states a rule, in the paper's order,
//! the rule in our words above it (after etcd's raft_paper_test.go).

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod election;
mod membership;
mod replication;
mod safety;
mod snapshots;
mod terms;
