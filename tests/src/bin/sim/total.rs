//! What all seeds together came to.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use harness::chaos::{Injected, Report};
use harness::{linearizability, lists};

/// Every kind of fault that must be there. (A kind that is never drawn would not be missed.)
const KINDS: [&str; 34] = [
    "bit flipped at rest",
    "campaign",
    "clogged link",
    "damage at rest",
    "deaf leader",
    "disk error",
    "disk full",
    "disk mended",
    "flapping store",
    "leader isolated",
    "mended",
    "message cut off",
    "message doubled",
    "message late",
    "message lost",
    "message overtaken",
    "network storm",
    "one kind of message lost",
    "one-way cut",
    "partition",
    "pause",
    "power lost",
    "power lost within an operation",
    "process killed",
    "restart",
    "sector unreadable",
    "slow disk",
    "snapshot broken off",
    "snapshot damaged",
    "snapshot installed",
    "start refused over damage",
    "transfer",
    "write gone astray",
    "write lost by the drive",
];

/// So many seeds are needed before anything can be said about how often something happens.
const SEEDS_MIN: u64 = 100;

/// The sum over all seeds that passed.
#[derive(Debug, Default)]
pub(crate) struct Total {
    seeds: u64,
    events: u64,
    checks: u64,
    virtual_ms: u64,
    operations: u64,
    lists: lists::Tally,
    shared: linearizability::Tally,
    steps: u64,
    undecided: u64,
    faults: Injected,
    lines: BTreeMap<u64, String>,
}

impl Total {
    pub(crate) fn add(&mut self, report: &Report, keep_line: bool) {
        self.seeds += 1;
        self.events += report.events;
        self.checks += report.checks;
        self.virtual_ms += report.time / 1000;
        self.operations += report.operations();
        self.lists.add(&report.lists);
        self.shared.add(&report.shared);
        self.steps += report.steps;
        self.undecided += u64::from(report.undecided);
        for (kind, count) in report.faults() {
            *self.faults.entry(kind).or_default() += count;
        }
        if keep_line {
            self.lines.insert(report.seed, report.to_string());
        }
    }

    /// The fewest faults of a kind that so many seeds must have had: one in five seeds. Each kind is
    /// there in half of the seeds, several times; but few snapshots meet a lost connection, and damage
    /// at rest is of four kinds.
    fn floor(&self, kind: &str) -> u64 {
        match kind {
            _ if self.seeds < SEEDS_MIN => 0,
            "snapshot broken off" | "disk mended" | "start refused over damage" => self.seeds / 50,
            "bit flipped at rest" | "sector unreadable" => self.seeds / 50,
            "write gone astray" | "write lost by the drive" => self.seeds / 50,
            _ => self.seeds / 5,
        }
    }

    /// Kinds of faults that were too rare: a generator that is broken finds nothing, and that
    /// looks like success.
    pub(crate) fn rare(&self) -> Vec<&'static str> {
        let count = |kind: &&str| self.faults.get(kind).copied().unwrap_or(0);
        KINDS.into_iter().filter(|kind| count(kind) < self.floor(kind)).collect()
    }

    fn per_minute(&self, took: Duration) -> f64 {
        self.seeds as f64 / took.as_secs_f64().max(1e-9) * 60.0
    }

    pub(crate) fn print(&self, out: &mut impl io::Write, took: Duration) -> io::Result<()> {
        for line in self.lines.values() {
            writeln!(out, "{line}")?;
        }
        for (kind, count) in &self.faults {
            let floor = self.floor(kind);
            let rare = if *count < floor { ", TOO RARE" } else { "" };
            writeln!(out, "{count:>12} {kind} (at least {floor}{rare})")?;
        }
        for kind in self.rare().iter().filter(|kind| !self.faults.contains_key(*kind)) {
            writeln!(out, "           0 {kind} (at least {}, TOO RARE)", self.floor(kind))?;
        }
        let lists::Tally { appends, reads, refused, unknown } = self.lists;
        writeln!(
            out,
            "lists: {appends} appended, {reads} read, {refused} refused, {unknown} unknown"
        )?;
        let linearizability::Tally { answered, refused, unknown } = self.shared;
        writeln!(
            out,
            "shared keys: {answered} answered, {refused} refused, {unknown} unknown; judged in {} \
             steps, {} seeds undecided",
            self.steps, self.undecided
        )?;
        writeln!(
            out,
            "{} seeds passed in {:.1} s ({:.0} a minute), {} s of virtual time, {} events, {} \
             checks, {} operations found linearizable",
            self.seeds,
            took.as_secs_f64(),
            self.per_minute(took),
            self.virtual_ms / 1000,
            self.events,
            self.checks,
            self.operations
        )
    }

    /// As one object. Names are those of [`KINDS`] and need no escapes.
    pub(crate) fn print_json(&self, out: &mut impl io::Write, took: Duration) -> io::Result<()> {
        let faults = self.faults.iter().map(|(kind, count)| format!("\"{kind}\": {count}"));
        let faults: Vec<String> = faults.collect();
        let rare = self.rare().into_iter().map(|kind| format!("\"{kind}\""));
        let numbers = [
            ("seeds", self.seeds),
            ("virtual_ms", self.virtual_ms),
            ("events", self.events),
            ("checks", self.checks),
            ("operations_linearizable", self.operations),
            ("unknown", self.lists.unknown + self.shared.unknown),
            ("refused", self.lists.refused + self.shared.refused),
            ("search_steps", self.steps),
            ("undecided", self.undecided),
        ];
        writeln!(out, "{{")?;
        for (name, number) in numbers {
            writeln!(out, "  \"{name}\": {number},")?;
        }
        writeln!(out, "  \"seconds\": {:.3},", took.as_secs_f64())?;
        writeln!(out, "  \"seeds_per_minute\": {:.1},", self.per_minute(took))?;
        writeln!(out, "  \"faults\": {{{}}},", faults.join(", "))?;
        writeln!(out, "  \"too_rare\": [{}]", rare.collect::<Vec<_>>().join(", "))?;
        writeln!(out, "}}")
    }
}
