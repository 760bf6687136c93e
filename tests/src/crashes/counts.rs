//! How often each kind of accident happened, and how often it must have.
//!
//! A generator that is broken finds nothing, and that looks like success: a class below its floor is
//! a failure like any other.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Where a class of accident is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    /// So many in each round, on the average.
    Round(u64),
    /// So many in all, however short the run.
    Once(u64),
}

/// Every class there must be, with the fewest of it. About a third of what there usually is.
const CLASSES: &[(&str, Floor)] = &[
    ("moments of a crash", Floor::Round(30)),
    ("crashes inside a sync", Floor::Round(8)),
    ("crash images", Floor::Round(1000)),
    ("every subset of what is unsynced", Floor::Round(300)),
    ("some subsets of what is unsynced", Floor::Round(300)),
    ("sectors lost", Floor::Round(300)),
    ("sectors torn", Floor::Round(50)),
    ("sectors at a content between", Floor::Round(5)),
    ("directory entries lost", Floor::Round(50)),
    ("lengths lost", Floor::Round(10)),
    ("torn tails cut", Floor::Round(100)),
    ("processes killed, then power lost", Floor::Round(20)),
    ("crashes during recovery", Floor::Round(300)),
    ("crashes during recovery from one", Floor::Round(20)),
    ("overwrites after recovery, then a crash", Floor::Round(50)),
    ("bits rotten where all was synced", Floor::Round(20)),
    ("bits flipped", Floor::Round(1000)),
    ("sectors zeroed", Floor::Round(1)),
    ("sectors stale", Floor::Once(1)),
    ("sectors swapped", Floor::Round(20)),
    ("sectors misdirected", Floor::Round(20)),
    ("images of files written", Floor::Round(30)),
    ("images of files mapped", Floor::Round(30)),
    ("images of files written directly", Floor::Round(30)),
    ("images opened as real files", Floor::Once(1)),
    ("failed: open", Floor::Round(1)),
    ("failed: mmap", Floor::Round(1)),
    ("failed: fallocate", Floor::Round(1)),
    ("failed: write", Floor::Round(10)),
    ("failed: fdatasync", Floor::Round(6)),
    ("failed: rename", Floor::Round(1)),
    ("failed: unlink", Floor::Round(1)),
    ("failed: fsync of the directory", Floor::Round(1)),
    ("failed: readdir", Floor::Round(1)),
    ("failed: mprotect", Floor::Round(1)),
    ("failed: calls of the direct route", Floor::Round(10)),
    ("failed: simulated operations", Floor::Round(20)),
    ("full: simulated operations", Floor::Round(20)),
    ("full: tmpfs", Floor::Once(2)),
];

/// Numbers by class.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    classes: BTreeMap<&'static str, u64>,
    /// Classes that this machine cannot have, and why.
    missing: BTreeMap<&'static str, String>,
    /// How many rounds they are of.
    rounds: u64,
}

impl Counts {
    pub(super) fn add(&mut self, class: &'static str, count: u64) {
        *self.classes.entry(class).or_default() += count;
    }

    /// Says why a class cannot be tried here.
    pub(super) fn excuse(&mut self, class: &'static str, why: String) {
        self.missing.insert(class, why);
    }

    pub(super) fn finish_round(&mut self) {
        self.rounds += 1;
    }

    /// How many of that class there were.
    #[must_use]
    pub fn of(&self, class: &str) -> u64 {
        self.classes.get(class).copied().unwrap_or_default()
    }

    /// How many rounds there were.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Adds those of other rounds.
    pub fn merge(&mut self, other: Counts) {
        self.rounds += other.rounds;
        for (class, count) in other.classes {
            self.add(class, count);
        }
        self.missing.extend(other.missing);
    }

    /// All images of a disk that were opened, whatever had happened to it.
    #[must_use]
    pub fn images(&self) -> u64 {
        let opened = [
            "crash images",
            "processes killed, then power lost",
            "crashes during recovery",
            "crashes during recovery from one",
            "overwrites after recovery, then a crash",
            "bits rotten where all was synced",
            "bits flipped",
            "sectors zeroed",
            "sectors stale",
            "sectors swapped",
            "sectors misdirected",
            "images of files written",
            "images of files mapped",
            "images of files written directly",
            "images opened as real files",
        ];
        opened.iter().map(|class| self.of(class)).sum()
    }

    fn floor(&self, floor: Floor) -> u64 {
        match floor {
            Floor::Round(each) => each * self.rounds.max(1),
            Floor::Once(all) => all,
        }
    }

    /// The classes that were too rare, with the fewest there must be.
    #[must_use]
    pub fn rare(&self) -> Vec<(&'static str, u64)> {
        let floors = CLASSES.iter().map(|(class, floor)| (*class, self.floor(*floor)));
        floors
            .filter(|(class, floor)| self.of(class) < *floor && !self.missing.contains_key(class))
            .collect()
    }

    fn per_minute(&self, took: Duration) -> f64 {
        self.images() as f64 / took.as_secs_f64().max(1e-9) * 60.0
    }

    /// As lines.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn print(&self, out: &mut dyn io::Write, took: Duration) -> io::Result<()> {
        for (class, floor) in CLASSES {
            let (count, floor) = (self.of(class), self.floor(*floor));
            match self.missing.get(class) {
                Some(why) => writeln!(out, "{count:>12} {class} (not here: {why})")?,
                None if count < floor => {
                    writeln!(out, "{count:>12} {class} (at least {floor}, TOO RARE)")?;
                }
                None => writeln!(out, "{count:>12} {class} (at least {floor})")?,
            }
        }
        writeln!(
            out,
            "{} rounds, {} images in {:.1} s ({:.0} a minute)",
            self.rounds,
            self.images(),
            took.as_secs_f64(),
            self.per_minute(took)
        )
    }

    /// As one object, with what was found. Names of classes need no escapes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print_json(
        &self,
        out: &mut dyn io::Write,
        took: Duration,
        found: &[String],
    ) -> io::Result<()> {
        writeln!(out, "{{")?;
        writeln!(out, "  \"rounds\": {},", self.rounds)?;
        writeln!(out, "  \"images\": {},", self.images())?;
        writeln!(out, "  \"seconds\": {:.3},", took.as_secs_f64())?;
        writeln!(out, "  \"images_per_minute\": {:.0},", self.per_minute(took))?;
        writeln!(out, "  \"classes\": {{")?;
        for (n, (class, floor)) in CLASSES.iter().enumerate() {
            let (count, floor) = (self.of(class), self.floor(*floor));
            let why = self.missing.get(class).map(|why| format!(", \"not_here\": {why:?}"));
            let comma = if n + 1 < CLASSES.len() { "," } else { "" };
            let why = why.unwrap_or_default();
            writeln!(
                out,
                "    \"{class}\": {{\"count\": {count}, \"floor\": {floor}{why}}}{comma}"
            )?;
        }
        writeln!(out, "  }},")?;
        let rare: Vec<String> =
            self.rare().iter().map(|(class, _)| format!("\"{class}\"")).collect();
        writeln!(out, "  \"too_rare\": [{}],", rare.join(", "))?;
        let found: Vec<String> = found.iter().map(|what| format!("{what:?}")).collect();
        writeln!(out, "  \"found\": [{}]", found.join(", "))?;
        writeln!(out, "}}")
    }
}
