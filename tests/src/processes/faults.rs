//! What is done to the processes, drawn from a seed.
//!
//! Every kind comes once before any comes again. Between the steps of a fault some time passes, often
//! little: what happens while others still take notice is what goes wrong.

use std::fmt;
use std::time::Duration;

/// A store, by what it was when the fault began: 0 led, the others followed.
pub type Victim = usize;

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `kill -9`.
    Kill(Victim),
    /// `kill -STOP`.
    Pause(Victim),
    /// `kill -CONT`.
    Resume(Victim),
    /// `kill -TERM`, and waiting for the end.
    Stop(Victim),
    /// Starting it again.
    Start(Victim),
    /// Nothing, for so long.
    Wait(Duration),
}

/// Steps with a name. Whatever is not running after the last is started or continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind, for people and for counting.
    pub kind: &'static str,
    /// What is done.
    pub steps: Vec<Step>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        self.steps.iter().try_for_each(|step| match step {
            Step::Kill(who) => write!(f, " kill {who}"),
            Step::Pause(who) => write!(f, " pause {who}"),
            Step::Resume(who) => write!(f, " resume {who}"),
            Step::Stop(who) => write!(f, " stop {who}"),
            Step::Start(who) => write!(f, " start {who}"),
            Step::Wait(time) => write!(f, " {} ms", time.as_millis()),
        })
    }
}

/// The kinds there are. All are of three stores.
pub const KINDS: [&str; 12] = [
    "leader killed",
    "follower killed",
    "majority killed",
    "all killed",
    "killed while it starts",
    "leader paused",
    "follower paused",
    "majority paused",
    "all paused",
    "leader paused, another killed",
    "leader stopped",
    "follower stopped",
];

/// Faults without end, that follow from a seed.
///
/// ```
/// use harness::processes::faults::{Fault, Faults, KINDS, Step, Victim};
///
/// let some: Vec<Fault> = Faults::new(7).take(KINDS.len()).collect();
/// assert!(KINDS.iter().all(|kind| some.iter().any(|fault| fault.kind == *kind)));
/// let leader: Victim = 0;
/// assert!(some.iter().any(|fault| fault.steps[0] == Step::Kill(leader)));
/// assert_eq!(some, Faults::new(7).take(KINDS.len()).collect::<Vec<_>>());
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    rng: fastrand::Rng,
    deck: Vec<&'static str>,
}

impl Faults {
    /// Those of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Faults {
        Faults { rng: fastrand::Rng::with_seed(seed), deck: Vec::new() }
    }

    /// Often too short to be noticed, often longer than it takes to elect another leader.
    fn wait(&mut self) -> Step {
        let most = [50, 500, 2000, 3500][self.rng.usize(..4)];
        Step::Wait(Duration::from_millis(self.rng.u64(1..=most)))
    }

    fn steps(&mut self, kind: &str) -> Vec<Step> {
        use Step::{Kill, Pause, Resume, Start, Stop};
        let follower = self.rng.usize(1..3);
        let other = 3 - follower;
        let (now, then) = (self.wait(), self.wait());
        match kind {
            "leader killed" => vec![Kill(0), now, Start(0)],
            "follower killed" => vec![Kill(follower), now, Start(follower)],
            "majority killed" => {
                vec![Kill(0), now, Kill(follower), then, Start(follower), self.wait(), Start(0)]
            }
            "all killed" => {
                vec![Kill(0), Kill(1), Kill(2), now, Start(follower), then, Start(0), Start(other)]
            }
            "killed while it starts" => {
                let soon = Step::Wait(Duration::from_millis(self.rng.u64(0..60)));
                vec![Kill(0), now, Start(0), soon, Kill(0), Start(0), soon, Kill(0), then, Start(0)]
            }
            "leader paused" => vec![Pause(0), now, Resume(0)],
            "follower paused" => vec![Pause(follower), now, Resume(follower)],
            "majority paused" => {
                vec![Pause(0), Pause(follower), now, Resume(0), then, Resume(follower)]
            }
            "all paused" => {
                vec![Pause(0), Pause(1), Pause(2), now, Resume(1), Resume(2), Resume(0)]
            }
            "leader paused, another killed" => {
                vec![Pause(0), now, Kill(follower), then, Start(follower), self.wait(), Resume(0)]
            }
            "leader stopped" => vec![Stop(0), now, Start(0)],
            _ => vec![Stop(follower), now, Start(follower)],
        }
    }
}

impl Iterator for Faults {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.deck.is_empty() {
            self.deck = KINDS.to_vec();
            self.rng.shuffle(&mut self.deck);
        }
        let kind = self.deck.pop()?;
        Some(Fault { kind, steps: self.steps(kind) })
    }
}
