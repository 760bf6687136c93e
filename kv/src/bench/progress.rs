//! What somebody at a terminal sees while it runs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for each measurement, with the throughput of the last second; none if nobody looks.
pub(super) struct Progress {
    bar: ProgressBar,
    last: (Instant, u64),
}

impl Progress {
    /// For a measurement of that name and length.
    pub(super) fn new(name: &str, duration: Duration) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress::hidden();
        }
        let steps = duration.as_millis().try_into().unwrap_or(u64::MAX);
        let style = ProgressStyle::with_template("{prefix:>24} [{bar:30}] {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(steps).with_style(style).with_prefix(name.to_owned());
        bar.set_message("warms up");
        Progress { bar, last: (Instant::now(), 0) }
    }

    pub(super) fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), last: (Instant::now(), 0) }
    }

    /// So much was done since `start`, which may be yet to come.
    pub(super) fn show(&mut self, start: Instant, done: u64) {
        let now = Instant::now();
        let since = now - self.last.0;
        if self.bar.is_hidden() || now < start || since < Duration::from_secs(1) {
            return;
        }
        let elapsed = (now - start).as_millis();
        self.bar.set_position(elapsed.try_into().unwrap_or(u64::MAX));
        let per_second = (done - self.last.1) as f64 / since.as_secs_f64();
        self.bar.set_message(format!("{per_second:.0}/s"));
        self.last = (now, done);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
