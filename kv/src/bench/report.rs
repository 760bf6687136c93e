//! A whole run, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::environment::Environment;
use super::floor::Floor;
use super::options::BenchOptions;
use super::record::{Measured, STEP};
use super::verify::Verdict;

/// Everything that was found out.
pub(super) struct Report {
    pub(super) options: BenchOptions,
    pub(super) environment: Environment,
    /// What was measured, with its stores and whether they sync: belongs beside every figure.
    pub(super) subject: String,
    pub(super) floor: Option<Floor>,
    pub(super) points: Vec<Point>,
    pub(super) verdict: Verdict,
}

/// A number of clients, and what came of it.
pub(super) struct Point {
    pub(super) clients: usize,
    pub(super) measured: Measured,
}

/// The percentiles of the table.
pub(super) const COLUMNS: [(f64, &str); 6] = [
    (50.0, "p50"),
    (90.0, "p90"),
    (99.0, "p99"),
    (99.9, "p99.9"),
    (99.99, "p99.99"),
    (100.0, "max"),
];

impl Report {
    /// What was done, in a line.
    pub(super) fn title(&self) -> String {
        let BenchOptions { workload, payload, batch, rate, .. } = &self.options;
        let pace = match rate {
            Some(rate) => format!("open loop, {rate} requests/s due"),
            None => "closed loop".to_owned(),
        };
        let name = workload.name();
        let subject = &self.subject;
        format!("{name}: {subject}; {payload} B values, {batch} in flight per client, {pace}")
    }

    /// What the disk and the threads of this machine allow, in a line.
    pub(super) fn floor_line(&self) -> String {
        match &self.floor {
            Some(floor) => format!(
                "one 4 KiB sync p50 {}, p99 {}; one hand-over between threads {}",
                time(floor.sync),
                time(floor.sync_p99),
                time(floor.hand_over)
            ),
            None => "not measured: the stores are elsewhere".to_owned(),
        }
    }

    pub(super) fn verdict_line(&self) -> String {
        let Verdict { acknowledged, keys, wrong } = &self.verdict;
        match wrong.len() {
            0 => format!("{acknowledged} acknowledged writes on {keys} keys: none is missing"),
            lost => format!("{lost} of {keys} keys LOST an acknowledged write"),
        }
    }

    pub(super) fn table(&self) -> String {
        let mut text = format!("raftkv bench {}\n", self.title());
        for (name, value) in self.environment.rows() {
            let _ = writeln!(text, "  {name:<12} {value}");
        }
        let _ = writeln!(text, "  {:<12} {}\n", "floor", self.floor_line());
        let _ = write!(text, "{:>8} {:>11} {:>9}", "clients", "requests/s", "MB/s");
        for (_, name) in COLUMNS {
            let _ = write!(text, " {name:>9}");
        }
        let _ = writeln!(text, " {:>7}  log", "failed");
        for Point { clients, measured } in &self.points {
            let bytes = measured.per_second * f64::from(self.options.payload) / 1e6;
            let _ = write!(text, "{clients:>8} {:>11.0} {bytes:>9.2}", measured.per_second);
            for (percent, _) in COLUMNS {
                let _ = write!(text, " {:>9}", time(measured.at(percent)));
            }
            let _ = writeln!(text, " {:>7}  {}", measured.failures(), self.sync());
        }
        for Point { clients, measured } in &self.points {
            for (why, count) in &measured.errors {
                let _ = writeln!(text, "{clients} clients, {count} times: {why}");
            }
        }
        let _ = writeln!(text, "\nverified: {}", self.verdict_line());
        for wrong in self.verdict.wrong.iter().take(10) {
            let _ = writeln!(text, "  {wrong}");
        }
        text
    }

    /// What is true of the log under all figures, in a word or two.
    pub(super) fn sync(&self) -> &'static str {
        match self.subject.rsplit_once(", ") {
            Some((_, "synced")) => "synced",
            Some((_, "NOT SYNCED")) => "NOT SYNCED",
            _ => "unknown",
        }
    }

    pub(super) fn json(&self) -> Value {
        let BenchOptions { workload, payload, batch, rate, duration, warm_up, .. } = &self.options;
        let floor = self.floor.as_ref().map(|floor| {
            json!({
                "sync_p50_ns": floor.sync,
                "sync_p99_ns": floor.sync_p99,
                "hand_over_p50_ns": floor.hand_over,
            })
        });
        let environment = &self.environment;
        json!({
            "workload": workload.name(),
            "subject": self.subject,
            "sync": self.sync(),
            "payload_bytes": payload,
            "batch": batch,
            "rate_per_s": rate,
            "duration_s": duration.as_secs_f64(),
            "warm_up_s": warm_up.as_secs_f64(),
            "environment": {
                "cpu": environment.cpu,
                "cores": environment.cores,
                "kernel": environment.kernel,
                "file_system": environment.file_system,
                "load": environment.load,
                "revision": environment.revision,
            },
            "floor": floor,
            "points": self.points.iter().map(|point| self.point(point)).collect::<Vec<_>>(),
            "verified": {
                "acknowledged_writes": self.verdict.acknowledged,
                "keys": self.verdict.keys,
                "wrong": self.verdict.wrong.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
        })
    }

    fn point(&self, Point { clients, measured }: &Point) -> Value {
        let curve = measured.percentiles.iter();
        json!({
            "clients": clients,
            "sync": self.sync(),
            "requests": measured.done,
            "seconds": measured.seconds,
            "requests_per_s": measured.per_second,
            "latency_mean_ns": measured.mean,
            "latency_ns": curve.map(|(at, ns)| json!({ "percent": at, "ns": ns })).collect::<Vec<_>>(),
            "timeline_step_s": STEP.as_secs_f64(),
            "timeline_per_s": measured.timeline,
            "errors": measured.errors,
        })
    }
}

/// A time for people: three digits and a unit.
pub(super) fn time(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 µs"),
            (99_960, "100 µs"),
            (56_789_000, "56.8 ms"),
            (2_000_000_000, "2.00 s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(time(nanos), text);
        }
    }
}
