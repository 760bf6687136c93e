//! Reads that wait for their index (§8, T§6.4).
//!
//! Reads that arrive together share one *round*: one question to the leader, one index. One round
//! is on its way, or a few if so configured; reads that come meanwhile wait for the next one, so
//! that a thousand readers cost a few heartbeats and not a thousand.
//!
//! ```text
//! push ─► waiting ─► round 7 ── ask ─► leader ── (index, mark 7) ─► confirmed ─► applier
//!                       └ no answer: ask again with the same mark; at the deadline: Timeout
//! ```
//!
//! Asking again with the same mark is safe: every read of a round arrived before the round was
//! first asked for, so any answer to any of its questions is recent enough for all of them. A mark
//! is never used again, not even after a restart: it holds the store and its incarnation.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::region::StoreId;

/// Limits of [`Reads`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    /// Ticks without an answer until a round is asked for again.
    pub(crate) retry_ticks: u64,
    /// Ticks until a read is refused.
    pub(crate) deadline_ticks: u64,
    /// Rounds on their way at a time.
    pub(crate) rounds_max: usize,
}

#[derive(Debug)]
struct Round<Q> {
    number: u64,
    /// When it was last asked for; `None` if that is to be done.
    asked: Option<u64>,
    /// When its reads are refused.
    deadline: u64,
    queries: Vec<Q>,
}

/// The reads of one region on this store.
#[derive(Debug)]
pub(crate) struct Reads<Q> {
    limits: ReadLimits,
    store: StoreId,
    incarnation: u64,
    waiting: Vec<Q>,
    waiting_deadline: u64,
    /// Ascending by number.
    rounds: VecDeque<Round<Q>>,
    next_number: u64,
}

impl<Q> Reads<Q> {
    pub(crate) fn new(limits: ReadLimits, store: StoreId, incarnation: u64) -> Reads<Q> {
        Reads {
            limits,
            store,
            incarnation,
            waiting: Vec::new(),
            waiting_deadline: 0,
            rounds: VecDeque::new(),
            next_number: 1,
        }
    }

    /// Takes a read on.
    pub(crate) fn push(&mut self, query: Q, now: u64) {
        if self.waiting.is_empty() {
            self.waiting_deadline = now + self.limits.deadline_ticks;
        }
        self.waiting.push(query);
    }

    /// How many reads are here.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.rounds.iter().map(|r| r.queries.len()).sum::<usize>()
    }

    /// Whether [`Reads::ask`] would ask for something.
    pub(crate) fn has_question(&self, now: u64) -> bool {
        self.can_begin_round() || self.rounds.iter().any(|r| self.is_due(r, now))
    }

    fn can_begin_round(&self) -> bool {
        !self.waiting.is_empty() && self.rounds.len() < self.limits.rounds_max
    }

    fn is_due(&self, round: &Round<Q>, now: u64) -> bool {
        round.asked.is_none_or(|asked| now >= asked + self.limits.retry_ticks)
    }

    /// The marks to ask the leader about now.
    pub(crate) fn ask(&mut self, now: u64, mut question: impl FnMut(Bytes)) {
        if self.can_begin_round() {
            self.rounds.push_back(Round {
                number: self.next_number,
                asked: None,
                deadline: self.waiting_deadline,
                queries: std::mem::take(&mut self.waiting),
            });
            self.next_number += 1;
        }
        for at in 0..self.rounds.len() {
            if self.is_due(&self.rounds[at], now) {
                self.rounds[at].asked = Some(now);
                question(self.mark(self.rounds[at].number));
            }
        }
    }

    fn mark(&self, number: u64) -> Bytes {
        let mut mark = BytesMut::with_capacity(24);
        mark.put_u64_le(self.store.0);
        mark.put_u64_le(self.incarnation);
        mark.put_u64_le(number);
        mark.freeze()
    }

    /// The reads of the round with that mark; `None` if it is not one of ours or has been answered.
    pub(crate) fn confirmed(&mut self, mark: &[u8]) -> Option<Vec<Q>> {
        let number = u64::from_le_bytes(mark.get(16..24)?.try_into().ok()?);
        if self.mark(number) != mark {
            return None;
        }
        let at = self.rounds.binary_search_by_key(&number, |r| r.number).ok()?;
        self.rounds.remove(at).map(|round| round.queries)
    }

    /// The leader has changed: questions to the old one may be lost, so all are asked again.
    pub(crate) fn ask_again(&mut self) {
        self.rounds.iter_mut().for_each(|r| r.asked = None);
    }

    /// The reads whose deadline has come.
    pub(crate) fn expired(&mut self, now: u64) -> Vec<Q> {
        let mut expired = Vec::new();
        // Rounds are begun in the order of their deadlines.
        while let Some(round) = self.rounds.pop_front_if(|r| r.deadline <= now) {
            expired.extend(round.queries);
        }
        if !self.waiting.is_empty() && self.waiting_deadline <= now {
            expired.append(&mut self.waiting);
        }
        expired
    }

    /// All reads, to be refused because the store stops.
    pub(crate) fn take_all(&mut self) -> Vec<Q> {
        let rounds = self.rounds.drain(..).flat_map(|r| r.queries);
        rounds.chain(self.waiting.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReadLimits = ReadLimits { retry_ticks: 3, deadline_ticks: 10, rounds_max: 2 };

    fn reads() -> Reads<&'static str> {
        Reads::new(LIMITS, StoreId(1), 7)
    }

    fn asked(reads: &mut Reads<&'static str>, now: u64) -> Vec<Bytes> {
        let mut marks = Vec::new();
        assert_eq!(reads.has_question(now), {
            reads.ask(now, |mark| marks.push(mark));
            !marks.is_empty()
        });
        marks
    }

    #[test]
    fn reads_that_arrive_together_share_a_round() {
        let mut reads = reads();
        reads.push("a", 0);
        reads.push("b", 0);
        let marks = asked(&mut reads, 0);
        assert_eq!(marks.len(), 1);
        assert_eq!(asked(&mut reads, 2), Vec::<Bytes>::new(), "the answer is on its way");
        assert_eq!(reads.confirmed(&marks[0]), Some(vec!["a", "b"]));
        assert_eq!(reads.confirmed(&marks[0]), None, "answered already");
        assert_eq!(reads.len(), 0);
    }

    #[test]
    fn later_reads_wait_for_a_free_round() {
        let mut reads = reads();
        let mut marks = Vec::new();
        for name in ["a", "b", "c", "d"] {
            reads.push(name, 0);
            marks.extend(asked(&mut reads, 0));
        }
        assert_eq!(marks.len(), 2);
        assert_eq!(reads.confirmed(&marks[1]), Some(vec!["b"]), "answers come in any order");
        let next = asked(&mut reads, 1);
        assert_eq!(next.len(), 1);
        assert_eq!(reads.confirmed(&next[0]), Some(vec!["c", "d"]));
        assert_eq!(reads.confirmed(&marks[0]), Some(vec!["a"]));
    }

    #[test]
    fn a_lost_question_is_asked_again_and_then_refused() {
        let mut reads = reads();
        reads.push("a", 5);
        let first = asked(&mut reads, 5);
        assert_eq!(asked(&mut reads, 8), first, "the same mark");
        reads.ask_again();
        assert_eq!(asked(&mut reads, 8), first);
        assert!(reads.expired(14).is_empty());
        assert_eq!(reads.expired(15), ["a"]);
        assert_eq!(reads.confirmed(&first[0]), None, "an answer after the deadline");
    }

    #[test]
    fn waiting_reads_expire_too() {
        let mut reads = reads();
        for name in ["a", "b", "c"] {
            reads.push(name, 0);
            asked(&mut reads, 0);
        }
        assert_eq!(reads.expired(10), ["a", "b", "c"]);
        assert_eq!(reads.len(), 0);
    }

    /// I2: a delayed answer to a read before the restart must not release one after it.
    #[test]
    fn marks_of_another_incarnation_or_store_are_not_ours() {
        let mut old = reads();
        old.push("old", 0);
        let marks = asked(&mut old, 0);
        for (store, incarnation) in [(1, 8), (2, 7)] {
            let mut new = Reads::new(LIMITS, StoreId(store), incarnation);
            new.push("new", 0);
            asked(&mut new, 0);
            assert_eq!(new.confirmed(&marks[0]), None);
        }
        assert_eq!(old.confirmed(b"short"), None);
    }
}
