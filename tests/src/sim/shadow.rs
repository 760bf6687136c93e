//! What the disk of a store must still have after a crash, kept beside the log by simple means.
//!
//! The shadow is told of every record that is appended and of how far the log says it is durable.
//! From that follows what a recovery may find: the synced state, or that and some of the records
//! after it, whole and in order. It knows nothing of segments, checksums or sectors, so it can
//! judge the log, and it says at any moment what a store may promise.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use raft::{AppendReply, Body, HardState, Index, LogId, Message, Term};
use raftstore::RegionId;
use raftstore::wal::{GroupLog, GroupRecord, Lsn};

/// One group's durable state.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Group {
    hard_state: HardState,
    compacted: LogId,
    /// Of the entries after `compacted`.
    terms: VecDeque<Term>,
}

impl Group {
    /// The last index.
    #[must_use]
    pub(super) fn last(&self) -> Index {
        self.compacted.index + self.terms.len() as u64
    }

    /// What precedes the first entry.
    #[must_use]
    pub(super) fn compacted(&self) -> LogId {
        self.compacted
    }

    /// Up to where it is known to be committed.
    #[must_use]
    pub(super) fn commit(&self) -> Index {
        self.hard_state.commit
    }

    /// Whether the entry at `id` is here, or was and is compacted.
    #[must_use]
    pub(super) fn has(&self, id: LogId) -> bool {
        let Some(at) = id.index.checked_sub(self.compacted.index + 1) else { return true };
        usize::try_from(at).is_ok_and(|at| self.terms.get(at) == Some(&id.term))
    }

    fn apply(&mut self, change: &Change) {
        if let Some(hard_state) = change.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(reset) = change.reset {
            self.compacted = reset;
            self.terms.clear();
        }
        if let Some(first) = change.first {
            let keep = first.saturating_sub(self.compacted.index + 1);
            self.terms.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            self.terms.extend(&change.terms);
        }
        if let Some(compact) = change.compact
            && compact.index > self.compacted.index
        {
            let gone = usize::try_from(compact.index - self.compacted.index).unwrap_or(usize::MAX);
            self.terms.drain(..gone.min(self.terms.len()));
            self.compacted = compact;
        }
    }

    fn of(log: &GroupLog) -> Group {
        let mut terms = VecDeque::new();
        for (number, run) in log.terms.iter().enumerate() {
            let end = log.terms.get(number + 1).map_or(log.last + 1, |next| next.index);
            terms.extend((run.index..end).map(|_| run.term));
        }
        Group { hard_state: log.hard_state, compacted: log.compacted, terms }
    }
}

/// As `r1 t2 n3 commit 7, after 0@0: 1x5 2x4`: runs of equal terms with their lengths.
impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HardState { term, vote, commit } = self.hard_state;
        write!(f, "t{term} {vote:?} commit {commit}, after {}:", self.compacted)?;
        let mut terms = self.terms.iter().peekable();
        while let Some(term) = terms.next() {
            let more = std::iter::from_fn(|| terms.next_if_eq(&term)).count();
            write!(f, " {term}x{}", more + 1)?;
        }
        Ok(())
    }
}

/// A group's part of a record.
#[derive(Clone, Debug)]
struct Change {
    region: RegionId,
    hard_state: Option<HardState>,
    first: Option<Index>,
    terms: Vec<Term>,
    reset: Option<LogId>,
    compact: Option<LogId>,
    remove: bool,
}

impl Change {
    fn of(record: &GroupRecord<'_>) -> Change {
        Change {
            region: record.region,
            hard_state: record.hard_state,
            first: record.entries.first(),
            terms: record.entries.iter().map(|entry| entry.id.term).collect(),
            reset: record.reset,
            compact: record.compact,
            remove: record.remove,
        }
    }
}

type Groups = BTreeMap<RegionId, Group>;

fn apply(groups: &mut Groups, changes: &[Change]) {
    for change in changes {
        if change.remove {
            groups.remove(&change.region);
        } else {
            groups.entry(change.region).or_default().apply(change);
        }
    }
}

/// The shadow of one store's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    synced: Groups,
    /// Records that a crash may take, from the last one on.
    unsynced: VecDeque<(Lsn, Vec<Change>)>,
    /// How far the log reached when its group went on to a term.
    reached: BTreeMap<(RegionId, Term), Index>,
}

impl Shadow {
    /// A record was appended and has number `lsn`.
    pub(super) fn appended(&mut self, lsn: Lsn, records: &[GroupRecord<'_>]) {
        self.unsynced.push_back((lsn, records.iter().map(Change::of).collect()));
    }

    /// The log says that everything up to `lsn` is durable.
    pub(super) fn durable(&mut self, lsn: Lsn) {
        while let Some((_, changes)) = self.unsynced.pop_front_if(|(number, _)| *number <= lsn) {
            for change in &changes {
                let before = self.reach(change.region);
                apply(&mut self.synced, std::slice::from_ref(change));
                let after = self.reach(change.region);
                if after.0 > before.0 {
                    // If the same write brings entries, those that were accepted before and are
                    // replaced by them were never written: nothing is known of how far it was.
                    let is_open = change.first.is_some() || change.reset.is_some();
                    let last = if is_open { Index::MAX } else { before.1 };
                    self.reached.insert((change.region, after.0), last);
                }
            }
        }
    }

    /// The term of a group, and the end of its log.
    fn reach(&self, region: RegionId) -> (Term, Index) {
        self.synced.get(&region).map_or((0, 0), |group| (group.hard_state.term, group.last()))
    }

    /// What is durable, group by group.
    pub(super) fn groups(&self) -> impl Iterator<Item = (RegionId, &Group)> {
        self.synced.iter().map(|(&region, group)| (region, group))
    }

    /// What is durable of a group.
    #[must_use]
    pub(super) fn synced(&self, region: RegionId) -> Option<&Group> {
        self.synced.get(&region)
    }

    /// Checks what a recovery has found.
    ///
    /// # Errors
    /// If it is nothing that a crash can leave.
    pub(super) fn check(&self, found: &BTreeMap<RegionId, GroupLog>) -> Result<(), String> {
        let found: Groups = found.iter().map(|(&id, log)| (id, Group::of(log))).collect();
        let mut possible = self.synced.clone();
        if found == possible {
            return Ok(());
        }
        for (_, changes) in &self.unsynced {
            apply(&mut possible, changes);
            if found == possible {
                return Ok(());
            }
        }
        Err(format!(
            "the log recovered {found:?}, which is neither {:?} nor that and some of {:?}",
            self.synced, self.unsynced
        ))
    }

    /// Takes what a recovery has found for durable, which the log promises.
    pub(super) fn recovered(&mut self, found: &BTreeMap<RegionId, GroupLog>) {
        self.synced = found.iter().map(|(&id, log)| (id, Group::of(log))).collect();
        self.unsynced.clear();
        self.reached.clear();
    }

    /// Checks that a message promises nothing that a power failure could take back.
    ///
    /// One sync may make the writes of several terms durable, and all their answers leave after it.
    /// Then a later leader may have replaced entries already that an answer of an earlier term
    /// accepts. That promises nothing false: the entries were accepted before the vote of the later
    /// term was given, which is all that commitment and elections rest on (§5.4.3); such an answer
    /// is only late, as if the network had kept it. So it is held against what the log had when
    /// that term ended.
    ///
    /// # Errors
    /// If it does.
    pub(super) fn check_promise(&self, region: RegionId, message: &Message) -> Result<(), String> {
        let empty = Group::default();
        let group = self.synced.get(&region).unwrap_or(&empty);
        let HardState { term, vote, .. } = group.hard_state;
        let kept = match message.body {
            Body::RequestVoteReply { pre: false, granted: true, .. } => {
                term > message.term || (term == message.term && vote == Some(message.to))
            }
            Body::AppendEntriesReply(AppendReply::Accepted { index, .. }) => {
                let later = (region, message.term.saturating_add(1))..=(region, Term::MAX);
                let ended = self.reached.range(later).next().map(|(_, last)| *last);
                term >= message.term && ended.unwrap_or(group.last()) >= index
            }
            _ => true,
        };
        let last = group.last();
        kept.then_some(()).ok_or_else(|| {
            format!("{message:?} leaves, but durable is term {term}, vote {vote:?}, last {last}")
        })
    }
}

/// Whether a message rests on what is on disk.
#[must_use]
pub(super) fn is_promise(message: &Message) -> bool {
    matches!(
        message.body,
        Body::RequestVoteReply { pre: false, granted: true, .. }
            | Body::AppendEntriesReply(AppendReply::Accepted { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Entries, Entry, NodeId, Run};

    const REGION: RegionId = RegionId::FIRST;

    fn entries(term: Term, first: Index, count: usize) -> Entries {
        Run::new(term, first, vec![Entry::default(); count]).map(Entries::from).expect("not empty")
    }

    fn log(terms: &[(Term, Index)], last: Index, compacted: LogId) -> BTreeMap<RegionId, GroupLog> {
        let terms = terms.iter().map(|&(term, index)| LogId::new(term, index)).collect();
        let group = GroupLog { hard_state: HardState::default(), compacted, terms, last };
        BTreeMap::from([(REGION, group)])
    }

    fn shadow() -> Shadow {
        let mut shadow = Shadow::default();
        shadow.appended(Lsn(1), &[GroupRecord::new(REGION, &entries(1, 1, 3))]);
        shadow.durable(Lsn(1));
        shadow.appended(Lsn(2), &[GroupRecord::new(REGION, &entries(2, 3, 2))]);
        let none = Entries::new();
        let compact = Some(LogId::new(1, 2));
        shadow.appended(Lsn(3), &[GroupRecord { compact, ..GroupRecord::new(REGION, &none) }]);
        shadow
    }

    #[test]
    fn the_synced_state_and_whole_records_after_it_are_possible() {
        let shadow = shadow();
        assert_eq!(shadow.check(&log(&[(1, 1)], 3, LogId::ZERO)), Ok(()));
        assert_eq!(shadow.check(&log(&[(1, 1), (2, 3)], 4, LogId::ZERO)), Ok(()));
        assert_eq!(shadow.check(&log(&[(2, 3)], 4, LogId::new(1, 2))), Ok(()));
    }

    #[test]
    fn anything_else_is_not() {
        let shadow = shadow();
        let wrong = [
            (log(&[(1, 1)], 2, LogId::ZERO), "synced entries are lost"),
            (log(&[(1, 1), (2, 3)], 3, LogId::ZERO), "half a record"),
            (log(&[(1, 1)], 4, LogId::ZERO), "never written"),
            (BTreeMap::new(), "all is lost"),
        ];
        for (found, why) in wrong {
            assert!(shadow.check(&found).is_err(), "{why}");
        }
        let mut all_synced = shadow;
        all_synced.durable(Lsn(3));
        assert!(all_synced.check(&log(&[(1, 1)], 3, LogId::ZERO)).is_err(), "now it is durable");
    }

    #[test]
    fn what_is_not_durable_is_not_promised() {
        let mut shadow = shadow();
        let id = |n| NodeId::new(n).expect("not zero");
        let accepted = |index| {
            let body = Body::AppendEntriesReply(AppendReply::Accepted { index, commit: 0 });
            Message { from: id(1), to: id(2), term: 0, body }
        };
        assert_eq!(shadow.check_promise(REGION, &accepted(3)), Ok(()));
        assert!(shadow.check_promise(REGION, &accepted(4)).is_err());
        shadow.durable(Lsn(2));
        assert_eq!(shadow.check_promise(REGION, &accepted(4)), Ok(()));

        let vote = |to, term| {
            let body = Body::RequestVoteReply { pre: false, granted: true, commit: LogId::ZERO };
            Message { from: id(1), to: id(to), term, body }
        };
        assert!(shadow.check_promise(REGION, &vote(2, 5)).is_err());
        let hard_state = Some(HardState { term: 5, vote: Some(id(2)), commit: 0 });
        let none = Entries::new();
        shadow.appended(Lsn(4), &[GroupRecord { hard_state, ..GroupRecord::new(REGION, &none) }]);
        shadow.durable(Lsn(4));
        assert_eq!(shadow.check_promise(REGION, &vote(2, 5)), Ok(()));
        assert!(shadow.check_promise(REGION, &vote(3, 5)).is_err(), "a vote for somebody else");
        assert!(shadow.check_promise(REGION, &vote(2, 6)).is_err(), "a later term");
    }
    /// One sync makes an append of term 1 durable, and what the leader of term 2 put in its place.
    #[test]
    fn a_late_answer_is_held_against_the_log_of_its_term() {
        let mut shadow = Shadow::default();
        let id = |n| NodeId::new(n).expect("not zero");
        let in_term = |term| Some(HardState { term, vote: None, commit: 0 });
        let records = [(1, entries(1, 1, 5)), (2, Entries::new()), (2, entries(2, 3, 1))];
        for (lsn, (term, entries)) in (1..).map(Lsn).zip(&records) {
            let hard_state = in_term(*term);
            shadow
                .appended(lsn, &[GroupRecord { hard_state, ..GroupRecord::new(REGION, entries) }]);
        }
        let accepted = |term, index| {
            let body = Body::AppendEntriesReply(AppendReply::Accepted { index, commit: 0 });
            Message { from: id(1), to: id(2), term, body }
        };
        assert!(shadow.check_promise(REGION, &accepted(1, 5)).is_err(), "nothing is durable");
        shadow.durable(Lsn(3));
        assert_eq!(shadow.check_promise(REGION, &accepted(1, 5)), Ok(()), "it had them");
        assert!(shadow.check_promise(REGION, &accepted(1, 6)).is_err(), "it never had that one");
        assert_eq!(shadow.check_promise(REGION, &accepted(2, 3)), Ok(()));
        assert!(shadow.check_promise(REGION, &accepted(2, 5)).is_err(), "not any more");
    }
}
