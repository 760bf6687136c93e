//! Cells, measured in turn.
//!
//! Machines are shared and noisy, so every round measures all cells once, odd rounds in the
//! opposite order (no cell always follows the same neighbour), and the median of the rounds counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::options::Options;

/// One figure of one round.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// What was measured.
    pub metric: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

/// A figure.
#[must_use]
pub fn figure(metric: &'static str, value: f64, unit: &'static str) -> Figure {
    Figure { metric, value, unit }
}

/// A workload: measured once a round.
pub struct Cell {
    name: String,
    measure: Box<dyn FnMut() -> Vec<Figure>>,
}

impl Cell {
    /// The cell of that name; `measure` is called once a round.
    pub fn new(name: impl Into<String>, measure: impl FnMut() -> Vec<Figure> + 'static) -> Cell {
        Cell { name: name.into(), measure: Box::new(measure) }
    }
}

/// Measures the wanted cells in turn and prints the median of each figure, with its range.
pub fn run(mut cells: Vec<Cell>, rounds: usize, options: &Options) {
    cells.retain(|cell| options.wants(&cell.name));
    // By cell, then by place among the cell's figures.
    let mut seen: BTreeMap<(usize, usize), (Figure, Vec<f64>)> = BTreeMap::new();
    for round in 0..rounds {
        let forth = 0..cells.len();
        let order: Vec<usize> =
            if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
        for at in order {
            for (place, figure) in (cells[at].measure)().into_iter().enumerate() {
                let (_, values) = seen.entry((at, place)).or_insert((figure, Vec::new()));
                values.push(figure.value);
            }
        }
    }
    for ((at, _), (Figure { metric, unit, .. }, mut values)) in seen {
        values.sort_by(f64::total_cmp);
        let name = &cells[at].name;
        print(name, metric, median(&values), unit);
        if let [least, .., most] = values[..]
            && !options.no_range
        {
            print(name, &format!("{metric}.min"), least, unit);
            print(name, &format!("{metric}.max"), most, unit);
        }
    }
}

/// Prints one figure.
pub fn print(name: &str, metric: &str, value: f64, unit: &str) {
    let digits = match value.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 10.0 => 2,
        _ => 4,
    };
    println!("{name}\t{metric}\t{value:.digits$}\t{unit}");
}

/// The middle of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        sorted[middle - 1..=middle].iter().sum::<f64>() / 2.0
    }
}

/// How long each of many things took.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Adds one.
    pub fn push(&mut self, latency: Duration) {
        self.0.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds others.
    pub fn extend(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The median and the 99th percentile, in microseconds; nothing for none.
    #[must_use]
    pub fn figures(mut self) -> Vec<Figure> {
        self.0.sort_unstable();
        let Some(last) = self.0.len().checked_sub(1) else { return Vec::new() };
        let at = |share: f64| self.0[(last as f64 * share).round() as usize] as f64 / 1e3;
        vec![figure("p50", at(0.50), "us"), figure("p99", at(0.99), "us")]
    }
}

/// Calls `step`, which says how much it did, until `time` has passed; gives how much was done and
/// how long it took.
pub fn during(time: Duration, mut step: impl FnMut() -> u64) -> (u64, Duration) {
    let start = Instant::now();
    let mut done = 0;
    loop {
        done += step();
        let elapsed = start.elapsed();
        if elapsed >= time {
            return (done, elapsed);
        }
    }
}

/// Bytes that do not compress.
#[must_use]
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    fn during_adds_up_what_was_done() {
        let (done, elapsed) = during(Duration::ZERO, || 7);
        assert_eq!((done, elapsed >= Duration::ZERO), (7, true));
    }
}
