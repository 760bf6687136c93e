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
        Body::RequestVoteReply { pre: false, granted: true }
            if disk.term == term && disk.vote != Some(message.to) =>
        {
            return broken(format!("{from} votes for {} before that is stored", message.to));
        }
        Body::AppendEntriesReply(AppendReply::Accepted { index }) if index > last_on_disk => {
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
