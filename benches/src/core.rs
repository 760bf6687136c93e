//! `core`: propose, replicate, commit, apply in one thread.

use std::time::Duration;

use raft::{Config, NodeId};

use crate::cells::{self, Cell, Figure, during, figure, noise};
use crate::cluster::{Cluster, Propose, fast_config, telling_config};
use crate::options::Options;

/// A variant.
#[derive(Clone, Copy)]
struct Subject {
    /// As it is called in figures.
    name: &'static str,
    propose: Propose,
    config: fn(NodeId) -> Config,
}

const SUBJECTS: [Subject; 3] = [
    Subject { name: "raftkv", propose: Propose::Each, config: fast_config },
    Subject { name: "raftkv-many", propose: Propose::Many, config: fast_config },
    Subject { name: "raftkv-telling", propose: Propose::Each, config: telling_config },
];

/// Entries that warm a fresh cluster up.
const WARM_UP: usize = 4096;

/// Cells of three nodes for all payloads and batches, and of five nodes once.
pub fn run(options: &Options) {
    let time = options.time(0.3);
    let mut cells = Vec::new();
    for subject in SUBJECTS {
        for &payload in &options.payloads(&[16, 256, 4096]) {
            for &batch in &options.batches(&[1, 64, 1024]) {
                cells.push(cell(subject, 3, payload, batch, time));
            }
        }
        if !options.no_n5 {
            cells.push(cell(subject, 5, 256, 64, time));
        }
    }
    cells::run(cells, options.rounds(7), options);
}

fn cell(subject: Subject, nodes: usize, payload: usize, batch: usize, time: Duration) -> Cell {
    let Subject { name, propose, config } = subject;
    Cell::new(format!("core/{name}/n{nodes}/p{payload}/b{batch}"), move || {
        // A fresh cluster each round, so that no cell keeps another's memory warm.
        let mut cluster = Cluster::new(nodes, propose, config);
        let payload = noise(payload, 1);
        for _ in 0..(WARM_UP / batch).max(2) {
            cluster.round(&payload, batch);
        }
        let (entries, elapsed) = during(time, || cluster.round(&payload, batch));
        rates(entries, elapsed)
    })
}

fn rates(entries: u64, elapsed: Duration) -> Vec<Figure> {
    vec![
        figure("entries_per_s", entries as f64 / elapsed.as_secs_f64(), "1/s"),
        figure("ns_per_entry", elapsed.as_nanos() as f64 / entries as f64, "ns"),
    ]
}

/// `core-fixed`: so many entries and no clock, for an instruction counter around the process.
/// `false` if there is no variant of that name.
#[must_use]
pub fn run_fixed(options: &Options) -> bool {
    let subject = SUBJECTS.iter().find(|subject| subject.name == options.subject);
    let Some(Subject { name, propose, config }) = subject else { return false };
    let first = |given: Vec<usize>| given.first().copied().unwrap_or(1);
    let (payload, batch) = (first(options.payloads(&[256])), first(options.batches(&[64])));
    let mut cluster = Cluster::new(options.nodes(3), *propose, config);
    let bytes = noise(payload, 1);
    let mut done = 0;
    while done < options.entries {
        done += cluster.round(&bytes, batch);
    }
    cells::print(
        &format!("core-fixed/{name}/p{payload}/b{batch}"),
        "entries",
        done as f64,
        "count",
    );
    true
}
