//! Are clients told the truth? Linearizability of any history, by search.
//!
//! A history says who asked for what, when, and what came of it. It is linearizable if every
//! operation can be given one moment between its question and its answer so that, carried out one
//! after the other at these moments, a single copy of the data ([`Model`]) would have given the same
//! answers. An operation whose outcome nobody knows may have its moment at any time after the
//! question, or never; one that was refused had none.
//!
//! ```text
//! client 1   put x=1 ├──────────┤                     put at *, both reads after it: fine.
//! client 2        get x ├─*──┤ = 1                    Were the second read to give nothing, there
//! client 3                     get x ├────┤ = 1       would be no place for it: a stale read.
//! ```
//!
//! | file | what |
//! |---|---|
//! | this | histories, models, verdicts |
//! | [`search`] | Wing and Gong's search with Lowe's memory, and what makes it fast |
//! | [`store`] | the key-value store as a model, and how its histories fall into parts |
//!
//! A search can take for ever, so it has a budget of steps, never of seconds: equal histories get
//! equal verdicts on every machine.
//!
//! ```
//! use harness::linearizability::{History, Verdict, store};
//! use kv::{Op, OpResult, Response};
//!
//! let mut history = History::new();
//! let put = history.invoke(1, Op::put("x", "1").into());
//! history.answer(put, Response { results: vec![OpResult::Put { written: true, old: None }] });
//! let get = history.invoke(2, Op::get("x").into());
//! history.answer(get, Response { results: vec![OpResult::Value(None)] });
//! let Verdict::Violation(why) = store::check(&history, 1000) else { panic!("a stale read") };
//! assert!(why.to_string().contains("client 2"));
//!
//! use harness::linearizability::{Call, CallId, Outcome, Tally};
//! let late: CallId = history.invoke(3, Op::put("x", "2").into());
//! let Some(Call { outcome: Outcome::Unknown, .. }) = history.calls().last() else { unreachable!() };
//! history.refuse(late);
//! assert_eq!(history.tally(), Tally { answered: 2, refused: 1, unknown: 0 });
//! ```

pub mod search;
pub mod store;

#[cfg(test)]
mod tests;

use std::fmt::{self, Debug};
use std::hash::Hash;

pub use search::check;

/// What a single copy of the data would do.
pub trait Model {
    /// What can be asked.
    type Op: Clone + Eq + Debug;
    /// What can be answered.
    type Answer: Clone + Eq + Debug;
    /// All there is.
    type State: Clone + Eq + Hash + Debug;

    /// The state before the first operation.
    fn begin(&self) -> Self::State;

    /// Carries out an operation. The same state and operation always give the same.
    fn apply(&self, state: &mut Self::State, op: &Self::Op) -> Self::Answer;

    /// Whether an operation with that answer has changed nothing, whatever the state was. Saying
    /// no is always right, and slow: the search tries both before and after everything else.
    fn is_read(&self, op: &Self::Op, answer: &Self::Answer) -> bool;
}

/// Names an operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(usize);

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// Not answered yet, or by "unknown": it may take effect at any later time, once.
    Unknown,
    /// It certainly had no effect and never will.
    Refused,
    /// It took effect.
    Answered {
        /// When the answer arrived.
        at: u64,
        /// What it was.
        answer: A,
    },
}

/// An operation of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O, A> {
    /// Whose it is; only for reports.
    pub client: usize,
    /// What was asked.
    pub op: O,
    /// When.
    pub invoked: u64,
    /// What came of it.
    pub outcome: Outcome<A>,
}

/// Who asked for what, in the order in which it happened.
#[derive(Clone, Debug)]
pub struct History<O, A> {
    calls: Vec<Call<O, A>>,
    /// Counts questions and answers: the only clock.
    moment: u64,
}

impl<O, A> Default for History<O, A> {
    fn default() -> History<O, A> {
        History { calls: Vec::new(), moment: 0 }
    }
}

impl<O, A> History<O, A> {
    /// An empty history.
    #[must_use]
    pub fn new() -> History<O, A> {
        History::default()
    }

    /// A client asks for something, now.
    pub fn invoke(&mut self, client: usize, op: O) -> CallId {
        self.moment += 1;
        let id = CallId(self.calls.len());
        self.calls.push(Call { client, op, invoked: self.moment, outcome: Outcome::Unknown });
        id
    }

    /// The answer arrives, now. Without one the outcome of a call stays unknown.
    pub fn answer(&mut self, call: CallId, answer: A) {
        self.moment += 1;
        self.calls[call.0].outcome = Outcome::Answered { at: self.moment, answer };
    }

    /// The call certainly has no effect.
    pub fn refuse(&mut self, call: CallId) {
        self.calls[call.0].outcome = Outcome::Refused;
    }

    /// All calls, in the order in which they were invoked.
    #[must_use]
    pub fn calls(&self) -> &[Call<O, A>] {
        &self.calls
    }

    /// Adds a call as it is, with its own times: for a part of another history. Calls come in the
    /// order in which they were invoked.
    pub fn push(&mut self, call: Call<O, A>) {
        self.moment = self.moment.max(call.invoked);
        self.calls.push(call);
    }

    /// How many calls ended how.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for call in &self.calls {
            *match call.outcome {
                Outcome::Unknown => &mut tally.unknown,
                Outcome::Refused => &mut tally.refused,
                Outcome::Answered { .. } => &mut tally.answered,
            } += 1;
        }
        tally
    }
}

/// How many calls ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// With an answer.
    pub answered: u64,
    /// Certainly without effect.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
}

impl Tally {
    /// Adds what another history came to.
    pub fn add(&mut self, other: &Tally) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }

    /// All calls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.answered + self.refused + self.unknown
    }
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The history is linearizable.
    Linearizable {
        /// In this order, for one: positions in [`History::calls`].
        order: Vec<usize>,
        /// What it cost to know.
        steps: u64,
    },
    /// It is not.
    Violation(Violation),
    /// The budget was used up before either was known.
    Undecided {
        /// The budget.
        steps: u64,
    },
}

/// How far a search got before nothing fitted any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The most answered calls that could be put in an order.
    pub placed: usize,
    /// All answered calls.
    pub answered: usize,
    /// The state after them.
    pub state: String,
    /// The calls one of which had to be next, with what the model would have answered.
    pub stuck: Vec<String>,
    /// The last few calls that were placed before.
    pub before: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} answered calls have an order", self.placed, self.answered)?;
        for line in &self.before {
            writeln!(f, "  placed  {line}")?;
        }
        writeln!(f, "  state   {}", self.state)?;
        for line in &self.stuck {
            writeln!(f, "  cannot  {line}")?;
        }
        Ok(())
    }
}
