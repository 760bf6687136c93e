//! Proposals: who waits for which entry.
//!
//! A queue in the order of proposing, which is the order of (term, index): a leader's indexes grow
//! within its term, and terms grow. So whatever an applied entry decides is at the front:
//!
//! ```text
//! proposed    10@1  11@1 │ 10@3  11@3        applied 10@3:  10@1 stale, 11@1 stale, 10@3 result
//! ```
//!
//! Entry `i@t` being applied decides
//! - every proposal of an earlier term: not committed before `i`, it never will be, because terms
//!   do not fall along the log → stale;
//! - the proposal `i@t` itself → its result.
//!
//! A proposal is never decided by anything but an applied entry, a snapshot, or the end: not by the
//! loss of leadership, and not by an index alone (K1, K4).

use std::collections::VecDeque;

use raft::LogId;

/// Who waits for which entry of one region.
#[derive(Debug)]
pub(crate) struct Proposals<C> {
    queue: VecDeque<(LogId, C)>,
}

impl<C> Default for Proposals<C> {
    fn default() -> Proposals<C> {
        Proposals { queue: VecDeque::new() }
    }
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its entry can never be committed.
    Stale,
    /// Its index was passed without its entry being shown: a snapshot covers it.
    Overtaken,
}

impl<C> Proposals<C> {
    /// A command was appended at `at`.
    ///
    /// # Panics
    /// If it was not proposed after all those before.
    pub(crate) fn push(&mut self, at: LogId, callback: C) {
        assert!(self.queue.back().is_none_or(|(last, _)| *last < at), "proposals come in order");
        self.queue.push_back((at, callback));
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The entry `at` is being applied: returns who waits for it, and tells `decided` what became of
    /// those it leaves no chance. O(1) for each of them.
    pub(crate) fn applied(&mut self, at: LogId, decided: impl FnMut(Fate, C)) -> Option<C> {
        self.decide(at, decided);
        let (front, _) = self.queue.front()?;
        if *front != at {
            return None;
        }
        self.queue.pop_front().map(|(_, callback)| callback)
    }

    /// A snapshot replaced everything up to `last`.
    pub(crate) fn overtaken(&mut self, last: LogId, decided: impl FnMut(Fate, C)) {
        self.decide(LogId::new(last.term, last.index + 1), decided);
    }

    /// Everybody who still waits, in order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = C> + '_ {
        self.queue.drain(..).map(|(_, callback)| callback)
    }

    /// Decides all proposals before `next`, the first entry that anybody can still hope for. Below
    /// its index they were passed over; from there on they are of an earlier term.
    fn decide(&mut self, next: LogId, mut decided: impl FnMut(Fate, C)) {
        while self.queue.front().is_some_and(|(at, _)| *at < next || at.index < next.index)
            && let Some((at, callback)) = self.queue.pop_front()
        {
            decided(if at.index < next.index { Fate::Overtaken } else { Fate::Stale }, callback);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(index: u64, term: u64) -> LogId {
        LogId::new(term, index)
    }

    fn queue(of: &[LogId]) -> Proposals<LogId> {
        let mut proposals = Proposals::default();
        of.iter().for_each(|&id| proposals.push(id, id));
        proposals
    }

    /// K4: the right index with the wrong term is stale; the right one gets its result.
    #[test]
    fn k4_same_index_two_terms() {
        let mut proposals = queue(&[at(10, 1), at(11, 1), at(10, 3)]);
        let mut decided = Vec::new();
        let waiting = proposals.applied(at(10, 3), |fate, id| decided.push((fate, id)));
        assert_eq!(waiting, Some(at(10, 3)));
        assert_eq!(decided, [(Fate::Stale, at(10, 1)), (Fate::Stale, at(11, 1))]);
        assert_eq!(proposals.len(), 0);
    }

    /// An entry of an earlier term decides nothing about later terms, nor about later indexes.
    #[test]
    fn earlier_entries_leave_later_proposals_waiting() {
        let mut proposals = queue(&[at(12, 2), at(13, 2), at(14, 4)]);
        let nobody = |fate, id: LogId| panic!("{id} decided {fate:?}");
        assert_eq!(proposals.applied(at(10, 1), nobody), None);
        assert_eq!(proposals.applied(at(11, 2), nobody), None);
        assert_eq!(proposals.applied(at(12, 2), nobody), Some(at(12, 2)));
        let mut decided = Vec::new();
        assert_eq!(proposals.applied(at(13, 3), |fate, id| decided.push((fate, id))), None);
        assert_eq!(decided, [(Fate::Stale, at(13, 2))]);
        assert_eq!(proposals.applied(at(14, 4), nobody), Some(at(14, 4)));
    }

    /// K2: what a snapshot covers is unknown, even of an earlier term: it may be in there. Beyond
    /// it, an earlier term has no chance, and a later one still has.
    #[test]
    fn k2_a_snapshot_overtakes_what_it_covers_only() {
        let mut proposals = queue(&[at(5, 1), at(9, 1), at(6, 2), at(9, 2), at(10, 3)]);
        let mut decided = Vec::new();
        proposals.overtaken(at(6, 2), |fate, id| decided.push((fate, id)));
        let expected =
            [(Fate::Overtaken, at(5, 1)), (Fate::Stale, at(9, 1)), (Fate::Overtaken, at(6, 2))];
        assert_eq!(decided, expected);
        assert_eq!(proposals.len(), 2);
        assert_eq!(proposals.applied(at(9, 2), |_, id| panic!("{id}")), Some(at(9, 2)));
    }

    proptest! {
        /// Whatever logs leaders write over each other: every proposal is decided exactly once, and
        /// its result means that its own entry was applied.
        #[test]
        fn exactly_once_and_only_by_the_own_entry(
            leaders in prop::collection::vec((1..4u64, 0..4usize, 0..5usize, any::<bool>()), 1..20),
        ) {
            // Each leader cuts the log somewhere above what is applied, appends, applies a part.
            let mut log: Vec<LogId> = Vec::new();
            let (mut term, mut applied) = (0, 0);
            let mut proposals = Proposals::default();
            let (mut proposed, mut decided) = (Vec::new(), Vec::new());
            for (terms, appended, applies, ours) in leaders {
                term += terms;
                log.truncate((applied + appended / 2).min(log.len()));
                for _ in 0..appended {
                    let id = LogId::new(term, log.len() as u64 + 1);
                    log.push(id);
                    if ours {
                        proposals.push(id, id);
                        proposed.push(id);
                    }
                }
                for _ in 0..applies.min(log.len() - applied) {
                    let entry = log[applied];
                    applied += 1;
                    let waiting = proposals.applied(entry, |fate, id: LogId| {
                        assert_eq!(fate, Fate::Stale, "no snapshot here");
                        assert!(log.get(id.index as usize - 1) != Some(&id), "its entry is gone");
                        decided.push(id);
                    });
                    if let Some(id) = waiting {
                        assert_eq!(id, entry);
                        decided.push(id);
                    }
                }
            }
            decided.extend(proposals.drain());
            decided.sort_unstable();
            proposed.sort_unstable();
            prop_assert_eq!(decided, proposed);
        }
    }
}
