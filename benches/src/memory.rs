//! `memory`: heap and resident bytes of an idle node.
//!
//! Each kind is measured in a process of its own, so that none reuses what another has freed.

use std::process::Command;
use std::time::Instant;

use malloc_info::info::{SystemType, TotalType};
use raft::{Config, RawNode};

use crate::cells::print;
use crate::cluster::{Cluster, Propose, empty_log, fast_config};
use crate::options::Options;

/// Both cells, or the one that is asked for. `false` if a process could not be measured.
#[must_use]
pub fn run(options: &Options) -> bool {
    let nodes = options.nodes(10_000);
    ["follower", "leader"].iter().all(|kind| {
        let label = format!("raftkv/{kind}");
        match &options.only {
            Some(only) if *only == label => measure(&label, nodes, *kind == "leader"),
            Some(_) => true,
            None => spawn(&label, nodes),
        }
    })
}

fn spawn(label: &str, nodes: usize) -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    let args = ["memory", "--nodes", &nodes.to_string(), "--only", label];
    Command::new(program).args(args).status().is_ok_and(|status| status.success())
}

fn measure(label: &str, nodes: usize, leaders: bool) -> bool {
    let (Some(heap_before), Some(rss_before)) = (heap_bytes(), rss_bytes()) else { return false };
    let start = Instant::now();
    let keep = make(nodes, leaders);
    let elapsed = start.elapsed();
    let (Some(heap), Some(rss)) = (heap_bytes(), rss_bytes()) else { return false };
    let name = format!("memory/{label}");
    let per_node = |from: u64, to: u64| (to.saturating_sub(from) as f64 / nodes as f64).round();
    print(&name, "heap_per_node", per_node(heap_before, heap), "B");
    print(&name, "rss_per_node", per_node(rss_before, rss), "B");
    print(&name, "build_per_node", elapsed.as_nanos() as f64 / nodes as f64, "ns");
    drop(keep);
    true
}

/// Bytes of heap that each of so many idle nodes takes, followers or leaders; `None` if the account
/// cannot be read.
#[must_use]
pub fn heap_per_node(nodes: usize, leaders: bool) -> Option<u64> {
    let before = heap_bytes()?;
    let keep = make(nodes, leaders);
    let after = heap_bytes()?;
    drop(keep);
    Some(after.saturating_sub(before) / nodes as u64)
}

/// Nodes of groups of three: followers that have heard of nobody yet, or elected leaders.
fn make(nodes: usize, leaders: bool) -> Vec<RawNode> {
    let config = |id| Config { append_bytes_max: 1 << 20, ..fast_config(id) };
    let mut keep = Vec::with_capacity(nodes);
    for _ in 0..nodes {
        keep.push(if leaders {
            let mut leader = Cluster::new(3, Propose::Many, config).into_leader();
            // Idle, not just elected: a tick frees what the election has used.
            leader.tick();
            leader
        } else {
            let id = raft::NodeId::new(1).expect("one is not zero");
            RawNode::new(config(id), Box::new(empty_log(3))).expect("an empty log is a good one")
        });
    }
    keep
}

/// Bytes that the C library's allocator has handed out and not got back, its own overhead
/// included: what it has from the system, less what is free of that.
#[must_use]
pub fn heap_bytes() -> Option<u64> {
    let info = malloc_info::malloc_info().ok()?;
    let system = info.system.iter().find(|s| s.r#type == SystemType::Current)?.size;
    let total = |kind| info.total.iter().find(|t| t.r#type == kind).map_or(0, |t| t.size);
    let free = total(TotalType::Fast) + total(TotalType::Rest);
    // What is mapped on its own is in use, and not part of `system`.
    Some((system - free + total(TotalType::Mmap)) as u64)
}

/// Bytes of this process that are in memory.
fn rss_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}
