//! What must hold in every run, whatever the scripts say (Figure 3).
//!
//! * *Election Safety*: one leader a term.
//! * *Log Matching*: an entry is the same, and so is the one before it, wherever (index, term) is.
//! * *State Machine Safety*: what is committed at an index is the same everywhere.
//! * Terms and commit indexes never fall.
//! * Nothing is acknowledged or voted before the write it rests on.
//!
//! The checks look from outside, at what servers have stored and handed out; the core's own
//! invariants look from inside.

use std::collections::BTreeMap;

use raft::{
    AppendReply, Body, Entries, Entry, HardState, Index, LogId, Message, NodeId, RoleKind, Term,
};

use super::suite::Fatal;

/// What has been seen of all servers so far.
#[derive(Debug, Default)]
pub(super) struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry, with the term of the one before it where that was seen.
    entries: BTreeMap<LogId, (Option<Term>, Entry)>,
    committed: BTreeMap<Index, Term>,
    cursors: BTreeMap<NodeId, (Term, Index)>,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub(super) id: NodeId,
    pub(super) role: RoleKind,
    pub(super) term: Term,
    pub(super) commit: Index,
}

impl Safety {
    /// Looks at a server after it did something.
    pub(super) fn observe(&mut self, seen: Observed) -> Result<(), Fatal> {
        let Observed { id, role, term, commit } = seen;
        if role == RoleKind::Leader {
            let leader = *self.leaders.entry(term).or_insert(id);
            if leader != id {
                return broken(format!("{leader} and {id} both lead in term {term}"));
            }
        }
        let before = self.cursors.insert(id, (term, commit)).unwrap_or_default();
        if term < before.0 {
            return broken(format!("the term of {id} falls from {} to {term}", before.0));
        }
        if commit < before.1 {
            return broken(format!("the commit index of {id} falls from {} to {commit}", before.1));
        }
        Ok(())
    }

    /// A server has started again: it may have forgotten what it did not have to remember.
    pub(super) fn restarted(&mut self, id: NodeId) {
        self.cursors.remove(&id);
    }

    /// Looks at what a server has in its log, or a part of it; `prev` is the term of what precedes
    /// it, where known.
    pub(super) fn stored(&mut self, prev: Option<Term>, log: &Entries) -> Result<(), Fatal> {
        let mut prev = prev;
        for seen in log.iter() {
            let (known_prev, known) =
                self.entries.entry(seen.id).or_insert_with(|| (prev, seen.entry.clone()));
            if known != seen.entry {
                return broken(format!("two entries {}", seen.id));
            }
            match (&*known_prev, prev) {
                (Some(known), Some(prev)) if *known != prev => {
                    return broken(format!("{} follows both terms {known} and {prev}", seen.id));
                }
                (None, Some(_)) => *known_prev = prev,
                _ => {}
            }
            prev = Some(seen.id.term);
        }
        Ok(())
    }

    /// Looks at entries that a server takes to be committed.
    pub(super) fn committed(&mut self, id: NodeId, entries: &Entries) -> Result<(), Fatal> {
        self.stored(None, entries)?;
        for seen in entries.iter() {
            let term = *self.committed.entry(seen.id.index).or_insert(seen.id.term);
            if term != seen.id.term {
                return broken(format!(
                    "{id} has {} committed where another has term {term}",
                    seen.id
                ));
            }
        }
        Ok(())
    }
}

/// Looks at a promise on its way out, with what its sender's disk has by now.
///
/// A promise of an older term than the disk's says nothing that the disk must have: what it was
/// about may have been replaced since, as if it had been stored in between.
pub(super) fn promised(
    message: &Message,
    disk: HardState,
    last_on_disk: Index,
) -> Result<(), Fatal> {
    let (from, term) = (message.from, message.term);
    if disk.term < term && !is_pre_vote(&message.body) {
        return broken(format!("{from} answers in term {term}, but stored {}", disk.term));
    }
    match message.body {
        _ if disk.term > term => {}
        Body::RequestVoteReply { pre: false, granted: true, .. }
            if disk.vote != Some(message.to) =>
        {
            return broken(format!("{from} votes for {} before that is stored", message.to));
        }
        Body::AppendEntriesReply(AppendReply::Accepted { index, .. }) if index > last_on_disk => {
            return broken(format!("{from} acknowledges {index}, but stored {last_on_disk}"));
        }
        _ => {}
    }
    Ok(())
}

/// A pre-vote is granted in the term asked about, which nobody is in yet.
fn is_pre_vote(body: &Body) -> bool {
    matches!(body, Body::RequestVoteReply { pre: true, .. })
}

fn broken(what: String) -> Result<(), Fatal> {
    Err(Fatal::new(format!("safety is broken: {what}")))
}

#[cfg(test)]
mod tests {
    use raft::Run;

    use super::*;

    fn id(n: u64) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn log(term: Term, first: Index, data: &[&'static str]) -> Entries {
        let entries: Vec<Entry> = data.iter().map(|&d| Entry::normal(d.into())).collect();
        Entries::from(Run::new(term, first, entries).unwrap())
    }

    fn seen(n: u64, role: RoleKind, term: Term, commit: Index) -> Observed {
        Observed { id: id(n), role, term, commit }
    }

    fn words(result: Result<(), Fatal>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn one_leader_a_term() {
        let mut safety = Safety::default();
        assert_eq!(safety.observe(seen(1, RoleKind::Leader, 1, 0)), Ok(()));
        assert_eq!(safety.observe(seen(1, RoleKind::Leader, 1, 0)), Ok(()));
        assert_eq!(safety.observe(seen(2, RoleKind::Leader, 2, 0)), Ok(()));
        let result = safety.observe(seen(3, RoleKind::Leader, 1, 0));
        assert_eq!(words(result), "safety is broken: 1 and 3 both lead in term 1");
    }

    #[test]
    fn terms_and_commit_indexes_never_fall() {
        let mut safety = Safety::default();
        assert_eq!(safety.observe(seen(1, RoleKind::Follower, 2, 5)), Ok(()));
        let result = safety.observe(seen(1, RoleKind::Follower, 2, 4));
        assert_eq!(words(result), "safety is broken: the commit index of 1 falls from 5 to 4");
        safety.restarted(id(1));
        assert_eq!(safety.observe(seen(1, RoleKind::Follower, 2, 3)), Ok(()));
        let result = safety.observe(seen(1, RoleKind::Follower, 1, 3));
        assert_eq!(words(result), "safety is broken: the term of 1 falls from 2 to 1");
    }

    #[test]
    fn an_entry_and_the_one_before_are_the_same_everywhere() {
        let mut safety = Safety::default();
        assert_eq!(safety.stored(Some(1), &log(1, 5, &["a", "b"])), Ok(()));
        assert_eq!(safety.stored(None, &log(1, 6, &["b", "c"])), Ok(()));
        let result = safety.stored(Some(1), &log(1, 6, &["x"]));
        assert_eq!(words(result), "safety is broken: two entries 6@1");
        let result = safety.stored(Some(0), &log(1, 5, &["a"]));
        assert_eq!(words(result), "safety is broken: 5@1 follows both terms 1 and 0");
    }

    #[test]
    fn a_predecessor_that_was_unknown_is_learned() {
        let mut safety = Safety::default();
        assert_eq!(safety.stored(None, &log(2, 5, &["a"])), Ok(()));
        assert_eq!(safety.stored(Some(1), &log(2, 5, &["a"])), Ok(()));
        assert!(safety.stored(Some(2), &log(2, 5, &["a"])).is_err());
    }

    #[test]
    fn what_is_committed_agrees() {
        let mut safety = Safety::default();
        assert_eq!(safety.committed(id(1), &log(1, 5, &["a"])), Ok(()));
        let result = safety.committed(id(2), &log(2, 5, &["a"]));
        let expected = "safety is broken: 2 has 5@2 committed where another has term 1";
        assert_eq!(words(result), expected);
    }

    #[test]
    fn promises_rest_on_what_is_stored() {
        let disk = HardState { term: 2, vote: Some(id(3)), commit: 0 };
        let check =
            |to, term, body| promised(&Message { from: id(1), to: id(to), term, body }, disk, 7);
        let vote = |granted| Body::RequestVoteReply { pre: false, granted, commit: LogId::ZERO };
        let ack = |index| Body::AppendEntriesReply(AppendReply::Accepted { index, commit: 0 });
        assert_eq!(check(3, 2, vote(true)), Ok(()));
        assert_eq!(check(2, 2, vote(false)), Ok(()));
        assert_eq!(check(2, 2, ack(7)), Ok(()));
        assert_eq!(check(2, 1, ack(8)), Ok(()));
        assert_eq!(check(2, 1, vote(true)), Ok(()));
        let pre = Body::RequestVoteReply { pre: true, granted: true, commit: LogId::ZERO };
        assert_eq!(check(2, 3, pre), Ok(()));
        let unstored = [(2, 2, vote(true)), (3, 3, vote(true)), (2, 2, ack(8)), (2, 3, ack(7))];
        for (to, term, body) in unstored {
            assert!(check(to, term, body.clone()).is_err(), "{body:?}");
        }
    }
}
