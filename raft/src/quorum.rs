//! Majorities, and joint majorities (§6, T§4.3).
//!
//! A decision needs a majority of the voters; while a configuration changes from one set of
//! voters to another, a majority of each. Everything that counts votes or acknowledgements,
//! elections, commit, reads, check-quorum, goes through the two questions here:
//!
//! * [`Joint::committed`]: the highest index that a quorum has reached;
//! * [`Joint::vote_result`]: whether a vote is won, lost or still open.
//!
//! An empty majority has reached everything and won every vote, so that a configuration that is
//! not joint needs no case of its own.

use crate::types::{Index, NodeId};

/// The outcome of a vote so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Neither side can be sure yet.
    Pending,
    /// A quorum said no, or so many that none can say yes any more.
    Lost,
    /// A quorum said yes.
    Won,
}

/// A set of voters, any majority of which decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Majority(Box<[NodeId]>);

/// Up to so many voters are counted without an allocation.
const STACK_VOTERS: usize = 7;

impl Majority {
    /// The voters, ascending.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `id` is one of them.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        // They are few: faster than to search by halves.
        self.0.contains(&id)
    }

    /// Adds a voter; says whether it is new.
    pub fn insert(&mut self, id: NodeId) -> bool {
        match self.0.binary_search(&id) {
            Ok(_) => false,
            Err(at) => {
                let mut ids = std::mem::take(&mut self.0).into_vec();
                ids.insert(at, id);
                self.0 = ids.into();
                true
            }
        }
    }

    /// Removes a voter; says whether it was one.
    pub fn remove(&mut self, id: NodeId) -> bool {
        match self.0.binary_search(&id) {
            Ok(at) => {
                let mut ids = std::mem::take(&mut self.0).into_vec();
                ids.remove(at);
                self.0 = ids.into();
                true
            }
            Err(_) => false,
        }
    }

    /// The highest index that a majority has reached, given how far each voter is (0 if unknown).
    /// [`Index::MAX`] for no voters.
    #[must_use]
    pub fn committed(&self, reached: impl Fn(NodeId) -> Index) -> Index {
        let n = self.0.len();
        if n == 0 {
            return Index::MAX;
        }
        if let [a, b, c] = *self.0 {
            // Nearly every group has three voters; the middle one needs no sorting.
            let (a, b, c) = (reached(a), reached(b), reached(c));
            return a.min(b).max(a.max(b).min(c));
        }
        let mut stack = [0; STACK_VOTERS];
        let mut heap;
        let all: &mut [Index] = if n <= STACK_VOTERS {
            &mut stack[..n]
        } else {
            heap = vec![0; n];
            &mut heap
        };
        for (slot, id) in all.iter_mut().zip(&*self.0) {
            *slot = reached(*id);
        }
        // Ascending, so the one at n - (n/2 + 1) and all after it, a majority, are that far.
        all.sort_unstable();
        all[n - (n / 2 + 1)]
    }

    /// The result of a vote, given what each voter said (`None` if nothing yet).
    #[must_use]
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        if self.0.is_empty() {
            return VoteResult::Won;
        }
        let (mut yes, mut missing) = (0, 0);
        for id in &*self.0 {
            match vote(*id) {
                Some(true) => yes += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        let quorum = self.0.len() / 2 + 1;
        if yes >= quorum {
            VoteResult::Won
        } else if yes + missing >= quorum {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}

impl FromIterator<NodeId> for Majority {
    fn from_iter<I: IntoIterator<Item = NodeId>>(ids: I) -> Majority {
        let mut ids: Vec<NodeId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Majority(ids.into())
    }
}

/// Two majorities that must both agree; the outgoing one is empty unless the configuration is
/// changing (§6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joint {
    /// The voters from now on.
    pub incoming: Majority,
    /// The voters so far, while joint.
    pub outgoing: Majority,
}

impl Joint {
    /// All voters of both halves, ascending, each once.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        let (mut a, mut b) = (self.incoming.voters(), self.outgoing.voters());
        std::iter::from_fn(move || {
            let id = match (a.first(), b.first()) {
                (Some(&x), Some(&y)) => x.min(y),
                (Some(&x), None) | (None, Some(&x)) => x,
                (None, None) => return None,
            };
            a = a.strip_prefix(&[id]).unwrap_or(a);
            b = b.strip_prefix(&[id]).unwrap_or(b);
            Some(id)
        })
    }

    /// Whether `id` votes in either half.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.incoming.contains(id) || self.outgoing.contains(id)
    }

    /// The highest index that both halves have reached.
    #[must_use]
    pub fn committed(&self, reached: impl Fn(NodeId) -> Index) -> Index {
        let incoming = self.incoming.committed(&reached);
        if self.outgoing.is_empty() {
            return incoming;
        }
        incoming.min(self.outgoing.committed(&reached))
    }

    /// The result of a vote that both halves have to win.
    #[must_use]
    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        match (self.incoming.vote_result(&vote), self.outgoing.vote_result(&vote)) {
            (a, b) if a == b => a,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
