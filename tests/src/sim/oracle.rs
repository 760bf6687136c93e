//! What must hold in every run, looked at after every event (`reliability/simulation.md` 3.3).
//!
//! | | oracle | Figure 3, or where it comes from | looked at |
//! |---|---|---|---|
//! | 1 | at most one leader of a region in a term | Election Safety | every event |
//! | 2 | at most one vote of a peer in a term, over all its lives | §5.2, §5.4.1 | every message |
//! | 3 | term, commit and applied never go back within a life | Figure 2 | every event |
//! | 4 | what is committed has one term at each index, on every store | Log Matching | every event |
//! | 5 | the first commit of an index fixes its term and content for ever | State Machine Safety | every event, every apply |
//! | 6 | a new leader has everything committed | Leader Completeness | every event |
//! | 7 | what is committed is durable on a majority of disks | §5.3, T§10.2.1 | every event |
//! | 8 | `compacted ≤ applied ≤ commit ≤ last`; until a snapshot is installed, `compacted ≤ commit` | | every event |
//! | 9 | what leaves a store rests on what its disk has | museum P1; `shadow` | every message |
//! | 10 | equal applied indexes, equal states | State Machine Safety | every so manieth index |
//! | 11 | the regions of a store do not overlap, their epochs grow, a store has one peer of each | | as 10 |
//! | 12 | every proposal is answered once; told "done", its entry was committed | museum K1, K3; the callbacks insist on the first themselves | every answer |
//! | 13 | what clients were told is linearizable | [`crate::linearizability`], [`crate::lists`] | at the end |
//! | 14 | nothing acknowledged is lost | the same, with reads after the end | at the end, twice |
//! | 15 | a group with something to hand out is known to its store | museum P11 | every event |
//! | 16 | a recovery finds a beginning of what was written, with all that was synced | `shadow` | every start; an image at every so manieth promise |
//! | 17 | logs are bounded by what they must keep; nothing waits for ever | [`crate::chaos`] | at the end |
//! | 18 | a leader with nothing to do accounts for no bytes, reads or batches | museum R9; [`super::World::check_idle`] | at the end |
//!
//! | 19 | what nobody needs of a log goes: two bytes for each that is live, and three segments | museum W13 | after every sync |
//! | 20 | every entry that a log must still have can be read, and is what was written | the same | when a segment has gone |
//!
//! The numbers are those of the list that the project keeps of them. 13, 14, 17 and 18 need a
//! cluster that has come to rest, and are asked for by [`crate::chaos`].

use std::collections::BTreeMap;
use std::sync::Arc;

use raft::{Body, EntryRef, Index, LogId, Message, NodeId, RawNode, RoleKind, Term};
use raftstore::applier::Task;
use raftstore::machine::Machine;
use raftstore::store::Store;
use raftstore::wal::WalStats;
use raftstore::{Epoch, Region, RegionId, StoreId};

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
    /// Of the content of every entry: how often it was committed, and acknowledged.
    contents: BTreeMap<u64, (u64, u64)>,
    epochs: BTreeMap<(StoreId, RegionId), Epoch>,
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
    pub(super) fn restarted(&mut self, store: StoreId) {
        self.seen.retain(|(of, _), _| *of != store);
        self.epochs.retain(|(of, _), _| *of != store);
    }

    /// A message leaves a store.
    ///
    /// # Errors
    /// If it is a second vote in one term.
    pub(super) fn on_message(&mut self, region: RegionId, message: &Message) -> Result<(), String> {
        let Body::RequestVoteReply { pre: false, granted: true, .. } = message.body else {
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
    pub(super) fn on_store<M: Machine>(
        &mut self,
        id: StoreId,
        store: &Store<M>,
        regions: &[RegionId],
        disks: &[&Shadow],
    ) -> Result<(), String> {
        if let Some(halt) = store.halted() {
            return Err(format!("the state machine has halted: {halt}"));
        }
        let may_lag = store.counters().snapshots_taken > 0;
        for &region in regions {
            let Some(raw) = store.raw(region) else { continue };
            self.checks += 1;
            if raw.has_ready() && !store.has_ready() {
                return Err(format!(
                    "{region:?} has something to hand out that nobody will ask for"
                ));
            }
            self.on_raw(id, region, raw, may_lag, disks)?;
        }
        Ok(())
    }

    fn on_raw(
        &mut self,
        store: StoreId,
        region: RegionId,
        raw: &RawNode,
        may_lag: bool,
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
        // A snapshot that was taken and is not yet installed puts the log's start ahead.
        let lags = may_lag && compacted <= now.commit && in_order[1..].is_sorted();
        if !in_order.is_sorted() && !lags {
            return Err(format!("compacted, applied, commit, last are {in_order:?}"));
        }
        let begins = Seen { commit: compacted, ..Seen::default() };
        let old = before.unwrap_or(begins);
        if before.is_some()
            && (now.term < old.term || now.commit < old.commit || now.applied < old.applied)
        {
            return Err(format!("{region:?} went back from {old:?} to {now:?}"));
        }
        if old.commit < compacted {
            self.on_snapshot(region, raw.compacted())?;
        }
        for index in old.commit.max(compacted) + 1..=now.commit {
            let term = raw.term_at(index).ok_or(format!("committed {index} has no term"))?;
            self.on_commit(region, LogId::new(term, index), now.term, disks)?;
        }
        if now.is_leader && (!old.is_leader || now.term != old.term) {
            self.on_leader(region, raw)?;
        }
        Ok(())
    }

    /// A store takes everything up to `last` from a snapshot.
    fn on_snapshot(&mut self, region: RegionId, last: LogId) -> Result<(), String> {
        self.checks += 1;
        let log = self.committed.get(&region).map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(last.index - 1).ok().and_then(|at| log.get(at));
        match at {
            Some(committed) if committed.term == last.term => Ok(()),
            other => Err(format!("a snapshot ends at {last}, where was committed {other:?}")),
        }
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
    pub(super) fn on_task<M: Machine>(&mut self, task: &Task<M>) -> Result<(), String> {
        if let Task::Install { region, last, .. } = task {
            return self.on_snapshot(*region, *last);
        }
        let Task::Apply { region, apply } = task else { return Ok(()) };
        let log = self.committed.entry(*region).or_default();
        for entry in apply.entries().iter() {
            self.checks += 1;
            let content = Digest::of(&entry.entry.data);
            let committed = usize::try_from(entry.id.index - 1).ok().and_then(|at| log.get_mut(at));
            let Some(committed) = committed else {
                return Err(format!("{} is applied, but not committed", entry.id));
            };
            if committed.content.is_none() {
                self.contents.entry(content).or_default().0 += 1;
            }
            let first = *committed.content.get_or_insert(content);
            if committed.term != entry.id.term || first != content {
                return Err(format!("{} is not what {committed:?} was", entry.id));
            }
        }
        Ok(())
    }

    /// A log was cleaned up.
    ///
    /// # Errors
    /// If it takes more room than it may.
    pub(super) fn on_space(&mut self, stats: &WalStats, segment_bytes: u64) -> Result<(), String> {
        self.checks += 1;
        let bound = 2 * stats.live_bytes + 3 * segment_bytes;
        let fits = stats.file_bytes <= bound;
        fits.then_some(())
            .ok_or_else(|| format!("the log takes more than {bound} bytes: {stats:?}"))
    }

    /// An entry was read back from a log that knows what is committed up to `commit`.
    ///
    /// # Errors
    /// If it is not what was written there.
    pub(super) fn on_entry(
        &mut self,
        region: RegionId,
        entry: EntryRef<'_>,
        commit: Index,
    ) -> Result<(), String> {
        self.checks += 1;
        let log = self.committed.get(&region).map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(entry.id.index - 1).ok().and_then(|at| log.get(at));
        let Some(committed) = at else {
            let is_later = entry.id.index > commit;
            return is_later.then_some(()).ok_or(format!("{} was never committed", entry.id));
        };
        let is_it = committed.term == entry.id.term;
        let differs = |first| first != Digest::of(&entry.entry.data);
        if is_it && committed.content.is_some_and(differs) {
            return Err(format!("{} is not what {committed:?} was", entry.id));
        }
        let may_differ = entry.id.index > commit;
        (is_it || may_differ).then_some(()).ok_or(format!("{} instead of {committed:?}", entry.id))
    }

    /// A client was told that a command with that content took effect.
    ///
    /// # Errors
    /// If fewer such commands were committed than clients were told.
    pub(super) fn on_answer(&mut self, content: u64) -> Result<(), String> {
        self.checks += 1;
        let (committed, told) = self.contents.entry(content).or_default();
        *told += 1;
        if *told <= *committed {
            return Ok(());
        }
        Err(format!("{told} clients were told of a command that was committed {committed} times"))
    }

    /// The regions of a store, as they are now.
    ///
    /// # Errors
    /// If they overlap, have gone back in time, or have two peers on one store.
    pub(super) fn on_regions(
        &mut self,
        store: StoreId,
        regions: &[Arc<Region>],
    ) -> Result<(), String> {
        self.checks += 1;
        let mut sorted: Vec<&Region> = regions.iter().map(Arc::as_ref).collect();
        sorted.sort_unstable_by_key(|region| &region.start_key);
        for two in sorted.windows(2) {
            if two[0].end_key.is_empty() || two[0].end_key > two[1].start_key {
                return Err(format!("{:?} and {:?} overlap", two[0], two[1]));
            }
        }
        for region in regions {
            let before = self.epochs.insert((store, region.id), region.epoch).unwrap_or_default();
            let now = region.epoch;
            if now.version < before.version || now.conf_ver < before.conf_ver {
                return Err(format!("{:?} went from {before:?} to {now:?}", region.id));
            }
            let mut stores: Vec<StoreId> = region.peers.iter().map(|peer| peer.store).collect();
            stores.sort_unstable();
            if stores.windows(2).any(|two| two[0] == two[1]) {
                return Err(format!("two peers of {:?} on one store: {stores:?}", region.id));
            }
        }
        Ok(())
    }

    /// A state machine has applied everything up to `index`.
    ///
    /// # Errors
    /// If another one had another state there.
    pub(super) fn on_state(
        &mut self,
        region: RegionId,
        index: Index,
        state: u64,
    ) -> Result<(), String> {
        self.checks += 1;
        match *self.states.entry((region, index)).or_insert(state) {
            first if first == state => Ok(()),
            first => Err(format!("the states at {index} differ: {state:016x}, {first:016x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_more_than_was_committed() {
        let mut oracles = Oracles::default();
        assert!(oracles.on_answer(7).is_err(), "nothing was committed");
        oracles.contents.insert(8, (2, 0));
        assert_eq!([(); 3].map(|()| oracles.on_answer(8).is_ok()), [true, true, false]);
    }

    #[test]
    fn regions_that_overlap_or_go_back_are_seen() {
        let store = StoreId(1);
        let whole = Region::first(&[StoreId(1), StoreId(2)]);
        let part = |id, start: &str, end: &str| {
            let (start_key, end_key) = (start.to_owned().into(), end.to_owned().into());
            Arc::new(Region { id: RegionId(id), start_key, end_key, ..whole.clone() })
        };
        let judge = |regions: &[Arc<Region>]| Oracles::default().on_regions(store, regions);
        assert_eq!(judge(&[part(2, "m", ""), part(1, "", "m")]), Ok(()));
        assert!(judge(&[part(2, "l", ""), part(1, "", "m")]).is_err());
        assert!(judge(&[part(1, "", ""), part(2, "m", "n")]).is_err());
        let mut twice = whole.clone();
        twice.peers[1].store = StoreId(1);
        assert!(judge(&[twice.into()]).is_err());

        let mut oracles = Oracles::default();
        let mut newer = whole.clone();
        newer.epoch.version += 1;
        assert_eq!(oracles.on_regions(store, &[newer.into()]), Ok(()));
        let whole = [Arc::new(whole)];
        assert!(oracles.on_regions(store, &whole).is_err());
        oracles.restarted(store);
        assert_eq!(oracles.on_regions(store, &whole), Ok(()), "a restart may go back");
    }
}
