//! What must hold in every run, looked at after every event (`reliability/simulation.md` 3.3).
//!
//! | oracle | Figure 3, or where it comes from |
//! |---|---|
//! | at most one leader in a term | Election Safety |
//! | at most one vote of a store in a term, over all its lives | §5.2, §5.4.1 |
//! | term, commit and applied never go back within a life | Figure 2 |
//! | the first commit of an index fixes its term and content for ever | State Machine Safety |
//! | a new leader has everything committed | Leader Completeness |
//! | what is committed is durable on a majority of disks | §5.3, T§10.2.1 |
//! | `compacted ≤ applied ≤ commit ≤ last` | |
//! | equal applied indexes, equal states | State Machine Safety |
//! | a group with something to hand out is known to its store | museum P11 |
//! | what leaves a store rests on what its disk has | museum P1; see [`super::shadow`] |
//! | every proposal is answered exactly once | museum K3; the callbacks insist on it themselves |

use std::collections::BTreeMap;

use raft::{Body, Index, LogId, Message, NodeId, RawNode, RoleKind, Term};
use raftstore::applier::Task;
use raftstore::machine::Machine;
use raftstore::store::Store;
use raftstore::{RegionId, StoreId};

use crate::digest::Digest;
use crate::sim::shadow::Shadow;

/// What was first committed at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Committed {
    term: Term,
    /// The term of whoever was the first to see it committed: its leader.
    by: Term,
    /// Of the entry, once somebody has applied it.
    content: Option<u64>,
}

/// What a store showed last, in its present life.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    term: Term,
    commit: Index,
    applied: Index,
    is_leader: bool,
}

/// All that the judges remember.
#[derive(Debug, Default)]
pub struct Oracles {
    leaders: BTreeMap<(RegionId, Term), NodeId>,
    votes: BTreeMap<(RegionId, NodeId, Term), NodeId>,
    /// Of each region, from index 1.
    committed: BTreeMap<RegionId, Vec<Committed>>,
    states: BTreeMap<(RegionId, Index), u64>,
    seen: BTreeMap<(StoreId, RegionId), Seen>,
    checks: u64,
}

impl Oracles {
    /// How many checks were made.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.checks
    }

    /// The highest index of a region that is committed.
    #[must_use]
    pub fn committed(&self, region: RegionId) -> Index {
        self.committed.get(&region).map_or(0, |log| log.len() as u64)
    }

    /// A store has started again: what it shows may go back to what its disk had.
    pub fn restarted(&mut self, store: StoreId) {
        self.seen.retain(|(of, _), _| *of != store);
    }

    /// A message leaves a store.
    ///
    /// # Errors
    /// If it is a second vote in one term.
    pub fn on_message(&mut self, region: RegionId, message: &Message) -> Result<(), String> {
        let Body::RequestVoteReply { pre: false, granted: true } = message.body else {
            return Ok(());
        };
        self.on_vote(region, message.from, message.term, message.to)
    }

    fn on_vote(
        &mut self,
        region: RegionId,
        voter: NodeId,
        term: Term,
        candidate: NodeId,
    ) -> Result<(), String> {
        self.checks += 1;
        match *self.votes.entry((region, voter, term)).or_insert(candidate) {
            first if first == candidate => Ok(()),
            first => Err(format!("{voter:?} votes for {first:?} and {candidate:?} in term {term}")),
        }
    }

    /// Looks at the groups of a store after something happened on it. `disks` are the shadows of all stores,
    /// by ascending id from 1.
    ///
    /// # Errors
    /// With what does not hold.
    pub fn on_store<M: Machine>(
        &mut self,
        id: StoreId,
        store: &Store<M>,
        regions: &[RegionId],
        disks: &[&Shadow],
    ) -> Result<(), String> {
        if let Some(halt) = store.halted() {
            return Err(format!("the state machine has halted: {halt}"));
        }
        for &region in regions {
            let Some(raw) = store.raw(region) else { continue };
            self.checks += 1;
            if raw.has_ready() && !store.has_ready() {
                return Err(format!(
                    "{region:?} has something to hand out that nobody will ask for"
                ));
            }
            self.on_raw(id, region, raw, disks)?;
        }
        Ok(())
    }

    fn on_raw(
        &mut self,
        store: StoreId,
        region: RegionId,
        raw: &RawNode,
        disks: &[&Shadow],
    ) -> Result<(), String> {
        let now = Seen {
            term: raw.term(),
            commit: raw.commit(),
            applied: raw.applied_index(),
            is_leader: raw.role() == RoleKind::Leader,
        };
        let before = self.seen.insert((store, region), now);
        let (compacted, last) = (raw.compacted().index, raw.last().index);
        let in_order = [compacted, now.applied, now.commit, last];
        if !in_order.is_sorted() {
            return Err(format!("compacted, applied, commit, last are {in_order:?}"));
        }
        let begins = Seen { commit: compacted, ..Seen::default() };
        let old = before.unwrap_or(begins);
        if before.is_some()
            && (now.term < old.term || now.commit < old.commit || now.applied < old.applied)
        {
            return Err(format!("{region:?} went back from {old:?} to {now:?}"));
        }
        for index in old.commit + 1..=now.commit {
            let term = raw.term_at(index).ok_or(format!("committed {index} has no term"))?;
            self.on_commit(region, LogId::new(term, index), now.term, disks)?;
        }
        if now.is_leader && (!old.is_leader || now.term != old.term) {
            self.on_leader(region, raw)?;
        }
        Ok(())
    }

    fn on_commit(
        &mut self,
        region: RegionId,
        id: LogId,
        by: Term,
        disks: &[&Shadow],
    ) -> Result<(), String> {
        self.checks += 1;
        let log = self.committed.entry(region).or_default();
        let next = log.len() as u64 + 1;
        if id.index < next {
            let first = log[(id.index - 1) as usize];
            return if first.term == id.term {
                Ok(())
            } else {
                Err(format!("{id} is committed, and was so with term {} before", first.term))
            };
        }
        if id.index > next {
            return Err(format!("{id} is committed, but {next} never was"));
        }
        let has = |shadow: &&&Shadow| shadow.synced(region).is_some_and(|group| group.has(id));
        let durable = disks.iter().filter(has).count();
        if durable * 2 <= disks.len() {
            return Err(format!("{id} is committed, but durable on {durable} of {}", disks.len()));
        }
        log.push(Committed { term: id.term, by, content: None });
        Ok(())
    }

    fn on_leader(&mut self, region: RegionId, raw: &RawNode) -> Result<(), String> {
        self.checks += 1;
        let (id, term) = (raw.id(), raw.term());
        let first = *self.leaders.entry((region, term)).or_insert(id);
        if first != id {
            return Err(format!("{first:?} and {id:?} both lead {region:?} in term {term}"));
        }
        // It voted for itself, and cannot have voted for anybody else.
        self.on_vote(region, id, term, id)?;
        // What was committed in an earlier term it must have; what a later one has committed
        // meanwhile, it need not.
        let log = self.committed.get(&region).map_or(&[][..], Vec::as_slice);
        let Some(at) = log.iter().rposition(|committed| committed.by < term) else {
            return Ok(());
        };
        let (index, expected) = (at as u64 + 1, log[at]);
        let found = raw.term_at(index);
        if index <= raw.compacted().index || found == Some(expected.term) {
            return Ok(());
        }
        Err(format!("{id:?} leads term {term} with {found:?} at {index}, without {expected:?}"))
    }

    /// A store is about to apply entries.
    ///
    /// # Errors
    /// If they are not what was committed.
    pub fn on_task<M: Machine>(&mut self, task: &Task<M>) -> Result<(), String> {
        let Task::Apply { region, apply } = task else { return Ok(()) };
        let log = self.committed.entry(*region).or_default();
        for entry in apply.entries().iter() {
            self.checks += 1;
            let content = Digest::of(&entry.entry.data);
            let committed = usize::try_from(entry.id.index - 1).ok().and_then(|at| log.get_mut(at));
            let Some(committed) = committed else {
                return Err(format!("{} is applied, but not committed", entry.id));
            };
            let first = *committed.content.get_or_insert(content);
            if committed.term != entry.id.term || first != content {
                return Err(format!("{} is not what {committed:?} was", entry.id));
            }
        }
        Ok(())
    }

    /// A state machine has applied everything up to `index`.
    ///
    /// # Errors
    /// If another one had another state there.
    pub fn on_state(&mut self, region: RegionId, index: Index, state: u64) -> Result<(), String> {
        self.checks += 1;
        match *self.states.entry((region, index)).or_insert(state) {
            first if first == state => Ok(()),
            first => Err(format!("the states at {index} differ: {state:016x}, {first:016x}")),
        }
    }
}
