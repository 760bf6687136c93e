//! A shorter run that fails, too: clients, time and faults are taken away for as long as something
//! still fails.
//!
//! Every attempt is a process of its own, so that one that panics is an attempt like any other.
//! What fails in the end need not be what failed first; it is the shortest way to a failure that
//! was found from there.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::chaos::Cuts;
use harness::chaos::plan::Plan;

/// The exit code of a run that found something, but for panics: those end by a signal, or with 101.
const USAGE: i32 = 2;

struct Shrinking {
    seed: u64,
    best: Cuts,
    until: Instant,
}

/// Looks for less of `seed`, for about as long as `budget`. `None` if it does not fail again.
pub(crate) fn shrink(seed: u64, cuts: &Cuts, budget: Duration) -> Option<Cuts> {
    let until = Instant::now() + budget;
    let mut shrinking = Shrinking { seed, best: cuts.clone(), until };
    if !shrinking.fails(cuts) {
        return None;
    }
    let plan = cuts.apply(Plan::draw(seed));
    shrinking.times(&plan);
    shrinking.clients(&plan);
    shrinking.faults(&plan);
    Some(shrinking.best)
}

impl Shrinking {
    fn fails(&self, cuts: &Cuts) -> bool {
        let Ok(program) = std::env::current_exe() else { return false };
        let mut attempt = Command::new(program);
        attempt.args(["--shrink", "0s", "--seed", &self.seed.to_string()]);
        attempt.args(cuts.to_string().split_whitespace());
        attempt.stdout(Stdio::null()).stderr(Stdio::null());
        attempt.status().is_ok_and(|status| !status.success() && status.code() != Some(USAGE))
    }

    /// Takes `cuts` if they fail, too.
    fn attempt(&mut self, cuts: Cuts) -> bool {
        let fails = Instant::now() < self.until && self.fails(&cuts);
        if fails {
            self.best = cuts;
        }
        fails
    }

    fn times(&mut self, plan: &Plan) {
        self.attempt(Cuts { tail: Some(0), ..self.best.clone() });
        let mut chaos = plan.chaos / 1000;
        while chaos > 1 && self.attempt(Cuts { chaos_ms: Some(chaos / 2), ..self.best.clone() }) {
            chaos /= 2;
        }
        // Between the last that failed and its half.
        for eighths in [5, 6, 7] {
            if self.attempt(Cuts { chaos_ms: Some(chaos * eighths / 8), ..self.best.clone() }) {
                return;
            }
        }
    }

    fn clients(&mut self, plan: &Plan) {
        for count in 0..plan.lists {
            if self.attempt(Cuts { lists: Some(count), ..self.best.clone() }) {
                break;
            }
        }
        for count in 0..plan.shared {
            if self.attempt(Cuts { shared: Some(count), ..self.best.clone() }) {
                break;
            }
        }
    }

    /// Halves, quarters and so on are left out, down to single faults (Zeller's ddmin).
    fn faults(&mut self, plan: &Plan) {
        let most = plan.chaos / plan.pause.start.max(1) + u64::from(plan.tail) + 1;
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(10_000);
        let mut kept: Vec<u32> = match &self.best.faults {
            Some(faults) => faults.iter().copied().collect(),
            None => (0..most).collect(),
        };
        if self.attempt(Cuts { faults: Some(BTreeSet::new()), ..self.best.clone() }) {
            return;
        }
        let mut size = kept.len().div_ceil(2);
        while size > 0 && Instant::now() < self.until {
            let mut at = 0;
            while at < kept.len() {
                let mut fewer = kept.clone();
                fewer.drain(at..(at + size).min(kept.len()));
                let faults = Some(fewer.iter().copied().collect());
                if self.attempt(Cuts { faults, ..self.best.clone() }) {
                    kept = fewer;
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}
