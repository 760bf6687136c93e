//! The text format of Prometheus, version 0.0.4: for each metric a line of help, one with its type,
//! and a line for each sample.

use std::fmt::{Display, Write as _};

use raftstore::RegionId;
use raftstore::node::metrics::HistogramView;

use super::Figures;

/// What a metric's value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often values came up to each of some bounds.
    Histogram,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One line.
    pub(super) help: &'static str,
    /// Puts its samples down.
    pub(super) samples: fn(&Figures, &mut Samples<'_>),
}

/// Where the samples of one metric go.
pub(super) struct Samples<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Samples<'_> {
    /// The only one.
    pub(super) fn value(&mut self, value: impl Display) {
        self.line("", "", value);
    }

    /// The one of a region.
    pub(super) fn of(&mut self, region: RegionId, value: impl Display) {
        self.labelled("region", region.0, value);
    }

    /// One with a label whose value needs no escape.
    pub(super) fn labelled(&mut self, label: &str, of: impl Display, value: impl Display) {
        self.line("", &format!("{{{label}=\"{of}\"}}"), value);
    }

    /// Values that are `scale` times what is shown; bounds are shown with all that are below.
    pub(super) fn histogram(&mut self, view: &HistogramView, scale: f64) {
        let mut within = 0;
        for &(bound, count) in &view.buckets {
            within += count;
            self.line("_bucket", &format!("{{le=\"{}\"}}", bound as f64 / scale), within);
        }
        self.line("_bucket", "{le=\"+Inf\"}", view.count());
        self.line("_sum", "", view.sum as f64 / scale);
        self.line("_count", "", view.count());
    }

    fn line(&mut self, suffix: &str, labels: &str, value: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

/// All metrics of a store.
pub(super) fn page(metrics: &[Metric], figures: &Figures) -> String {
    let mut text = String::with_capacity(32 << 10);
    for Metric { name, kind, help, samples } in metrics {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        samples(figures, &mut Samples { name, text: &mut text });
    }
    text
}
