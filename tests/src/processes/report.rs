//! What a run came to.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::faults::{Fault, KINDS, Step};
use crate::linearizability::{Tally, Verdict};

/// Figures of one kind of fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OfKind {
    count: u64,
    /// The longest time without an answer to any client.
    silence: Duration,
}

/// What a run came to.
///
/// ```
/// use harness::processes::{faults::Faults, report::Report};
///
/// let mut report = Report::new(7);
/// Faults::new(7).take(30).for_each(|fault| report.count(&fault));
/// assert_eq!(report.faults(), 30);
/// assert!(report.kills > 0 && report.pauses > 0 && report.starts >= report.kills);
/// let mut text = Vec::new();
/// report.print(&mut text)?;
/// assert!(String::from_utf8_lossy(&text).contains("leader killed"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Of the run.
    pub seed: u64,
    kinds: BTreeMap<&'static str, OfKind>,
    /// `kill -9`.
    pub kills: u64,
    /// `kill -STOP`.
    pub pauses: u64,
    /// `kill -TERM`.
    pub stops: u64,
    /// Processes that were started again.
    pub starts: u64,
    /// What came of the questions that were judged.
    pub tally: Tally,
    /// What the judgement cost, in steps.
    pub steps: u64,
    /// Histories that could not be judged within the budget of steps.
    pub undecided: u64,
    /// Acknowledged writes of keepers, all of which were there at the end.
    pub kept: u64,
    /// Writes of keepers of which nobody knew.
    pub unsure: u64,
    /// In all.
    pub took: Duration,
}

impl Report {
    /// Of a run that has not begun.
    #[must_use]
    pub fn new(seed: u64) -> Report {
        Report { seed, ..Report::default() }
    }

    /// A fault is over.
    pub fn count(&mut self, fault: &Fault) {
        self.kinds.entry(fault.kind).or_default().count += 1;
        for step in &fault.steps {
            match step {
                Step::Kill(_) => self.kills += 1,
                Step::Pause(_) => self.pauses += 1,
                Step::Stop(_) => self.stops += 1,
                Step::Start(_) => self.starts += 1,
                Step::Resume(_) | Step::Wait(_) => {}
            }
        }
    }

    /// So long nobody was answered during a fault of that kind.
    pub fn silence(&mut self, kind: &'static str, time: Duration) {
        let of_kind = self.kinds.entry(kind).or_default();
        of_kind.silence = of_kind.silence.max(time);
    }

    pub(super) fn judged(&mut self, tally: &Tally, verdict: &Verdict) {
        self.tally.add(tally);
        match verdict {
            Verdict::Linearizable { steps, .. } => self.steps += steps,
            Verdict::Undecided { .. } => self.undecided += 1,
            Verdict::Violation(_) => {}
        }
    }

    /// How many faults there were.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.kinds.values().map(|of_kind| of_kind.count).sum()
    }

    fn of_kinds(&self) -> impl Iterator<Item = (&'static str, u64, u128)> {
        KINDS.into_iter().map(|kind| {
            let OfKind { count, silence } = self.kinds.get(kind).copied().unwrap_or_default();
            (kind, count, silence.as_millis())
        })
    }

    /// As lines.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn print(&self, out: &mut dyn io::Write) -> io::Result<()> {
        for (kind, count, silence) in self.of_kinds() {
            writeln!(out, "{count:>6} {kind}: at most {silence} ms without an answer")?;
        }
        let Report { seed, kills, pauses, stops, starts, tally, .. } = self;
        writeln!(
            out,
            "{} faults of seed {seed} in {:.1} s: {kills} kills, {pauses} pauses, {stops} stops, \
             {starts} starts",
            self.faults(),
            self.took.as_secs_f64()
        )?;
        writeln!(
            out,
            "{} answers linearizable beside {} unknown and {} refused, in {} steps; \
             {} histories undecided",
            tally.answered, tally.unknown, tally.refused, self.steps, self.undecided
        )?;
        writeln!(
            out,
            "{} other writes acknowledged and all there, {} unknown",
            self.kept, self.unsure
        )
    }

    /// As one object. Names of kinds need no escapes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print_json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "{{")?;
        writeln!(out, "  \"seed\": {},", self.seed)?;
        writeln!(out, "  \"faults\": {},", self.faults())?;
        let numbers = [
            ("kills", self.kills),
            ("pauses", self.pauses),
            ("stops", self.stops),
            ("starts", self.starts),
            ("answered", self.tally.answered),
            ("refused", self.tally.refused),
            ("unknown", self.tally.unknown),
            ("steps", self.steps),
            ("undecided", self.undecided),
            ("kept", self.kept),
            ("kept_unknown", self.unsure),
        ];
        numbers.iter().try_for_each(|(name, number)| writeln!(out, "  \"{name}\": {number},"))?;
        writeln!(out, "  \"seconds\": {:.3},", self.took.as_secs_f64())?;
        writeln!(out, "  \"kinds\": {{")?;
        for (n, (kind, count, silence)) in self.of_kinds().enumerate() {
            let comma = if n + 1 < KINDS.len() { "," } else { "" };
            writeln!(
                out,
                "    \"{kind}\": {{\"count\": {count}, \"silence_ms\": {silence}}}{comma}"
            )?;
        }
        writeln!(out, "  }}")?;
        writeln!(out, "}}")
    }
}
