//! What is kept of a measurement: a histogram of latencies and a count for each tenth of a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Length of a step of the timeline.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// Latencies are kept with so many digits, whatever their size, up to an hour.
const DIGITS: u8 = 3;
const HOUR_NANOS: u64 = 3_600_000_000_000;
/// The points of the curve.
const CURVE: [f64; 16] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999,
    100.0,
];

/// Takes answers while they come.
pub(super) struct Recorder {
    start: Instant,
    end: Instant,
    /// Nanoseconds.
    latencies: Histogram<u64>,
    steps: Vec<u64>,
    done: u64,
    errors: BTreeMap<String, u64>,
}

impl Recorder {
    /// For answers from `start` on, for so long.
    pub(super) fn new(start: Instant, duration: Duration) -> Result<Recorder, String> {
        let latencies = Histogram::new_with_bounds(1, HOUR_NANOS, DIGITS);
        let latencies = latencies.map_err(|error| error.to_string())?;
        let steps = duration.as_nanos().div_ceil(STEP.as_nanos()) as usize;
        Ok(Recorder {
            start,
            end: start + duration,
            latencies,
            steps: vec![0; steps],
            done: 0,
            errors: BTreeMap::new(),
        })
    }

    /// A request that should have been sent at `intended` was answered now.
    pub(super) fn answered(&mut self, intended: Instant, now: Instant) {
        if intended >= self.start {
            let nanos = u64::try_from((now - intended).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(nanos);
        }
        if now >= self.start && now < self.end {
            self.done += 1;
            let step = ((now - self.start).as_nanos() / STEP.as_nanos()) as usize;
            if let Some(count) = self.steps.get_mut(step) {
                *count += 1;
            }
        }
    }

    pub(super) fn failed(&mut self, why: &str) {
        match self.errors.get_mut(why) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(why.to_owned(), 1)),
        }
    }

    /// Answers so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    pub(super) fn finish(self) -> Measured {
        let Recorder { start, end, latencies, steps, done, errors } = self;
        let seconds = (end - start).as_secs_f64();
        let at = |percent: f64| latencies.value_at_percentile(percent);
        Measured {
            seconds,
            done,
            per_second: done as f64 / seconds,
            mean: latencies.mean(),
            percentiles: CURVE.iter().map(|&percent| (percent, at(percent))).collect(),
            timeline: steps.iter().map(|&n| n as f64 / STEP.as_secs_f64()).collect(),
            errors,
        }
    }
}

/// A measurement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    /// Requests answered within that time.
    pub(super) done: u64,
    pub(super) per_second: f64,
    /// Latency in nanoseconds.
    pub(super) mean: f64,
    /// Percents of requests, and the nanoseconds within which they were answered.
    pub(super) percentiles: Vec<(f64, u64)>,
    /// Answers per second in each tenth of a second.
    pub(super) timeline: Vec<f64>,
    /// What failed, and how often.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Measured {
    /// The latency in nanoseconds that so many percent of requests stay within: one of the curve's.
    pub(super) fn at(&self, percent: f64) -> u64 {
        let point = self.percentiles.iter().find(|(at, _)| *at >= percent);
        point.map_or(0, |(_, nanos)| *nanos)
    }

    pub(super) fn failures(&self) -> u64 {
        self.errors.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_when_a_request_should_have_been_sent() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start, Duration::from_secs(1)).unwrap();
        let ms = |n| start + Duration::from_millis(n);
        // A stall of 100 ms in which one request a millisecond should have been sent.
        for n in 0..100 {
            recorder.answered(ms(n), ms(100));
        }
        let measured = recorder.finish();
        let near = |nanos: u64, millis: u64| nanos.abs_diff(millis * 1_000_000) < 1_000_000;
        assert!(near(measured.at(50.0), 50), "{measured:?}");
        assert!(near(measured.at(99.0), 99), "{measured:?}");
        assert_eq!(measured.timeline[..3], [0.0, 1000.0, 0.0]);
    }

    #[test]
    fn what_comes_outside_the_time_is_no_throughput() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut recorder = Recorder::new(start, Duration::from_millis(150)).unwrap();
        let ms = |n| start + Duration::from_millis(n);
        recorder.answered(start - Duration::from_millis(5), start - Duration::from_millis(1));
        recorder.answered(start - Duration::from_millis(5), ms(1));
        recorder.answered(ms(2), ms(3));
        recorder.answered(ms(4), ms(400));
        recorder.failed("no");
        let measured = recorder.finish();
        assert_eq!((measured.done, measured.failures()), (2, 1));
        assert_eq!(measured.timeline, [20.0, 0.0]);
        assert!(measured.at(100.0) > 390_000_000, "late answers have a latency all the same");
    }
}
