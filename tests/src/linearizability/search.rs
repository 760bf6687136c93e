//! The search for an order: Wing and Gong 1993, with the memory of Lowe 2017.
//!
//! At every point the next operation is one of those that were invoked before any other operation,
//! not placed yet, was answered. Each that fits is tried, and what is known to lead nowhere is
//! remembered: the set of operations placed, and the state they left. Four observations keep the
//! tree small; none of them changes the verdict.
//!
//! - **A read that fits is placed at once**, with no alternative: in any order that places it later
//!   it could be moved to here, past others that it does not affect. (A write that happens to change
//!   nothing here could not: where the order has it, it may change something.)
//! - **An unknown operation that changes nothing here** is not tried here.
//! - **Of equal unknown operations the earliest** is tried: whatever another could do, it can.
//! - **Fewer unknown operations used are better**: a point with the same answered operations placed
//!   and the same state leads nowhere if one with a part of its unknown operations did.
//!
//! Answered operations are tried before unknown ones, so what needs fewest of these comes first.

use std::collections::HashMap;

use crate::linearizability::{Call, History, Model, Outcome, Verdict, Violation};

/// How many placed calls a report of a violation shows.
const SHOWN_MAX: usize = 8;

/// Looks for an order in which `model` gives all the answers of `history`. A step is one operation
/// carried out by the model; after `steps_max` of them the search gives up.
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Answer>, steps_max: u64) -> Verdict {
    let mut search = Search::new(model, history, steps_max);
    match search.run() {
        Some(true) => Verdict::Linearizable { order: search.order(), steps: search.steps },
        Some(false) => Verdict::Violation(search.violation()),
        None => Verdict::Undecided { steps: search.steps },
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Set(Box<[u64]>);

impl Set {
    fn new(len: usize) -> Set {
        Set(vec![0; len.div_ceil(64)].into())
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }

    fn is_within(&self, other: &Set) -> bool {
        self.0.iter().zip(&*other.0).all(|(mine, theirs)| mine & !theirs == 0)
    }
}

/// An operation that may have taken effect.
struct Step<'a, M: Model> {
    /// Where it is in the history.
    at: usize,
    call: &'a Call<M::Op, M::Answer>,
    /// The answer and its time; `None` if it is unknown.
    answered: Option<(u64, &'a M::Answer)>,
}

/// A point of the search: something was placed, and there are choices of what comes next.
struct Point<M: Model> {
    /// What was placed to get here.
    placed: Option<usize>,
    state: M::State,
    /// What to try next, the best last.
    choices: Vec<(usize, M::State)>,
}

/// The sets of unknown operations with which a point led nowhere.
type Failed<S> = HashMap<(Set, S), Vec<Set>>;

struct Search<'a, M: Model> {
    model: &'a M,
    /// Answered operations first, then unknown ones, each in the order of invocation.
    steps_of: Vec<Step<'a, M>>,
    answered: usize,
    /// Which of the answered, and of the unknown ones (counted from 0) are placed.
    placed: (Set, Set),
    path: Vec<Point<M>>,
    /// The first answered operation that may not be placed.
    first: usize,
    failed: Failed<M::State>,
    deepest: (usize, Vec<usize>, M::State),
    steps: u64,
    steps_max: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a History<M::Op, M::Answer>, steps_max: u64) -> Search<'a, M> {
        let (mut answered, mut unknown) = (Vec::new(), Vec::new());
        for (at, call) in history.calls().iter().enumerate() {
            match &call.outcome {
                Outcome::Answered { at: time, answer } => {
                    answered.push(Step { at, call, answered: Some((*time, answer)) });
                }
                Outcome::Unknown => unknown.push(Step { at, call, answered: None }),
                Outcome::Refused => {}
            }
        }
        let placed = (Set::new(answered.len()), Set::new(unknown.len()));
        let count = answered.len();
        answered.append(&mut unknown);
        Search {
            model,
            steps_of: answered,
            answered: count,
            placed,
            path: Vec::new(),
            first: 0,
            failed: HashMap::new(),
            deepest: (0, Vec::new(), model.begin()),
            steps: 0,
            steps_max,
        }
    }

    /// Whether there is an order; `None` if the budget does not allow to know.
    fn run(&mut self) -> Option<bool> {
        let state = self.model.begin();
        let choices = self.choices(&state);
        self.path.push(Point { placed: None, state, choices });
        let mut count = 0;
        loop {
            if count == self.answered {
                return Some(true);
            }
            if self.steps > self.steps_max {
                return None;
            }
            let Some(point) = self.path.last_mut() else { return Some(false) };
            if let Some((next, state)) = point.choices.pop() {
                self.flip(next);
                if self.is_hopeless(&state) {
                    self.flip(next);
                    continue;
                }
                count += usize::from(next < self.answered);
                let choices = self.choices(&state);
                self.path.push(Point { placed: Some(next), state, choices });
                if count > self.deepest.0 {
                    self.note_deepest(count);
                }
            } else if let Some(Point { placed: Some(last), .. }) = self.path.pop() {
                self.flip(last);
                self.first = self.first.min(last);
                count -= usize::from(last < self.answered);
            }
        }
    }

    fn flip(&mut self, step: usize) {
        match step.checked_sub(self.answered) {
            None => self.placed.0.flip(step),
            Some(unknown) => self.placed.1.flip(unknown),
        }
    }

    fn is_placed(&self, step: usize) -> bool {
        match step.checked_sub(self.answered) {
            None => self.placed.0.has(step),
            Some(unknown) => self.placed.1.has(unknown),
        }
    }

    /// Whether the same answered operations left the same state before, with a part of the unknown
    /// operations. If not, this one is remembered.
    fn is_hopeless(&mut self, state: &M::State) -> bool {
        let (answered, unknown) = self.placed.clone();
        let tried = self.failed.entry((answered, state.clone())).or_default();
        if tried.iter().any(|before| before.is_within(&unknown)) {
            return true;
        }
        tried.retain(|before| !unknown.is_within(before));
        tried.push(unknown);
        false
    }

    /// What may come next, with the states it leaves; the best last.
    fn choices(&mut self, state: &M::State) -> Vec<(usize, M::State)> {
        while self.first < self.answered && self.placed.0.has(self.first) {
            self.first += 1;
        }
        let mut choices = Vec::new();
        // Nobody who was invoked after this answer can come before it.
        let mut first_answer = u64::MAX;
        for at in self.first..self.answered {
            let step = &self.steps_of[at];
            if step.call.invoked > first_answer {
                break;
            }
            if let Some((time, answer)) = step.answered
                && !self.placed.0.has(at)
            {
                first_answer = first_answer.min(time);
                let mut next = state.clone();
                self.steps += 1;
                if self.model.apply(&mut next, &step.call.op) == *answer {
                    choices.push((at, next));
                }
            }
        }
        // An answer found later may exclude operations found before it.
        choices.retain(|(at, _)| self.steps_of[*at].call.invoked < first_answer);
        let is_read = |(at, _): &(usize, M::State)| {
            let Step { call, answered, .. } = &self.steps_of[*at];
            answered.is_some_and(|(_, answer)| self.model.is_read(&call.op, answer))
        };
        if let Some(at) = choices.iter().position(is_read) {
            return vec![choices.swap_remove(at)];
        }
        let unknown = self.unknown_choices(state, first_answer);
        choices.reverse();
        unknown.into_iter().rev().chain(choices).collect()
    }

    fn unknown_choices(&mut self, state: &M::State, before: u64) -> Vec<(usize, M::State)> {
        let mut choices: Vec<(usize, M::State)> = Vec::new();
        for at in self.answered..self.steps_of.len() {
            let call = self.steps_of[at].call;
            if call.invoked > before {
                break;
            }
            let tried = |&(other, _): &(usize, _)| self.steps_of[other].call.op == call.op;
            if self.is_placed(at) || choices.iter().any(tried) {
                continue;
            }
            let mut next = state.clone();
            self.steps += 1;
            self.model.apply(&mut next, &call.op);
            if next != *state {
                choices.push((at, next));
            }
        }
        choices
    }

    fn note_deepest(&mut self, count: usize) {
        let placed = self.path.iter().filter_map(|point| point.placed).collect();
        let state = self.path.last().map_or_else(|| self.model.begin(), |p| p.state.clone());
        self.deepest = (count, placed, state);
    }

    fn order(&self) -> Vec<usize> {
        self.path.iter().filter_map(|point| Some(self.steps_of[point.placed?].at)).collect()
    }

    fn violation(&self) -> Violation {
        let (placed, path, state) = &self.deepest;
        let is_left = |at: &usize| !path.contains(at);
        let answer_at = |at: usize| self.steps_of[at].answered.map_or(u64::MAX, |(time, _)| time);
        let left: Vec<usize> = (0..self.answered).filter(is_left).collect();
        let first_answer = left.iter().map(|&at| answer_at(at)).min().unwrap_or(u64::MAX);
        let next = left.into_iter().filter(|&at| self.steps_of[at].call.invoked < first_answer);
        let shown = path.len().saturating_sub(SHOWN_MAX);
        Violation {
            placed: *placed,
            answered: self.answered,
            state: format!("{state:?}"),
            stuck: next.map(|at| self.describe(at, Some(state))).collect(),
            before: path[shown..].iter().map(|&at| self.describe(at, None)).collect(),
        }
    }

    fn describe(&self, at: usize, state: Option<&M::State>) -> String {
        let Step { call, answered, .. } = &self.steps_of[at];
        let Call { client, op, invoked, .. } = call;
        let mut line = match answered {
            Some((time, answer)) => {
                format!("client {client} {invoked}..{time} {op:?} = {answer:?}")
            }
            None => format!("client {client} {invoked}.. {op:?}, unknown"),
        };
        if let Some(state) = state {
            let mut next = state.clone();
            let answer = self.model.apply(&mut next, op);
            line.push_str(&format!("; here it would be {answer:?}"));
        }
        line
    }
}
