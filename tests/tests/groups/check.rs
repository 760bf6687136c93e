//! What must hold of the logs of a hundred groups, at any moment and at rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::cluster::Cluster;
use harness::filter::{Filter, Kind};
use kv::Cf;
use raft::{Entries, EntryKind, Index, LogId, Term};
use raftstore::codec::message::PeerMessage;
use raftstore::command::{Command, CommandKind};
use raftstore::store::RegionStatus;
use raftstore::wal::ReadError;
use raftstore::{RegionId, StoreId};

use super::load::{Fate, Group, Load, Pace, number_of};

/// The log of each running store is within its bound: twice what is live, and three segments.
pub(crate) fn space(cluster: &Cluster, segment_bytes: u64) {
    for store in cluster.stores() {
        let Some(sizes) = cluster.log(store).map(|log| log.sizes) else { continue };
        let bound = 2 * sizes.live_bytes + 3 * segment_bytes;
        assert!(sizes.file_bytes <= bound, "{store:?} may take {bound}: {sizes:?}");
    }
}

/// What the log of a running store has of a group: what is written, which may be less than what
/// the group has, and what is not compacted meanwhile.
fn written(cluster: &Cluster, store: StoreId, region: RegionId) -> Option<Entries> {
    let reader = cluster.log(store)?.reader;
    let (mut first, mut last) = (1, Index::MAX - 1);
    // Each refusal says how far it goes; it goes on meanwhile, but not for ever.
    for _ in 0..1000 {
        match reader.entries(region, first..last + 1, u64::MAX) {
            Ok(entries) => return Some(entries),
            Err(ReadError::Compacted { compacted }) => first = compacted.index + 1,
            Err(ReadError::Unavailable { last: end }) => last = end,
            Err(ReadError::Unknown(_)) => return None,
            Err(damage) => panic!("{region:?} on {store:?}: {damage}"),
        }
    }
    panic!("{region:?} on {store:?}: never read at one time");
}

/// Which writes are in `entries`. Each is one that was sent, to the byte, in the order they were
/// sent in.
fn numbers(group: &Group, store: StoreId, entries: &Entries) -> Vec<u64> {
    let mut numbers = Vec::new();
    for entry in entries.iter() {
        let at = format!("{:?} on {store:?}, {}", group.region, entry.id);
        let data = &entry.entry.data;
        if entry.entry.kind != EntryKind::Normal || data.is_empty() {
            continue;
        }
        let command = Command::decode(data).unwrap_or_else(|why| panic!("{at}: {why}"));
        if command.kind == CommandKind::Application {
            let number = group.written.get(data);
            let number = *number.unwrap_or_else(|| panic!("{at}: nobody has sent that"));
            assert!(numbers.last().is_none_or(|last| *last < number), "{at}: {number} is late");
            numbers.push(number);
        }
    }
    numbers
}

/// Everything that is in the logs of running stores can be read, and is what was sent.
pub(crate) fn readable(cluster: &Cluster, load: &Load) {
    for store in cluster.stores() {
        for group in &load.groups {
            if let Some(entries) = written(cluster, store, group.region) {
                numbers(group, store, &entries);
            }
        }
    }
}

/// All that a running store must have of a group at rest, whose log may still be compacted.
fn whole(cluster: &mut Cluster, store: StoreId, region: RegionId) -> Entries {
    cluster.wait_for(&format!("the log of {region:?} on {store:?}"), |cluster| {
        let status = cluster.status(store)?;
        let range = status.compacted + 1..status.last + 1;
        match cluster.log(store)?.reader.entries(region, range.clone(), u64::MAX) {
            Ok(entries) => {
                assert_eq!(entries.len() as u64, range.end - range.start, "{status:?}");
                Some(entries)
            }
            // What a node says of itself may be a tick old.
            Err(ReadError::Compacted { .. } | ReadError::Unavailable { .. }) => None,
            Err(why) => panic!("{status:?} of {store:?}: {why}"),
        }
    })
}

/// At rest: all stores have the same logs, those have all that must be in them, and the states have
/// what was done. Returns how many entries there are on all stores.
pub(crate) fn level(cluster: &mut Cluster, load: &Load) -> usize {
    let mut count = 0;
    for group in &load.groups {
        cluster.turn_to(group.region);
        cluster.must_agree();
        let mut seen: BTreeMap<Index, (Term, bytes::Bytes)> = BTreeMap::new();
        for store in cluster.stores() {
            let entries = whole(cluster, store, group.region);
            for entry in entries.iter() {
                let LogId { term, index } = entry.id;
                let this = (term, entry.entry.data.clone());
                let first = seen.entry(index).or_insert_with(|| this.clone());
                assert_eq!(*first, this, "{:?} at {index} on {store:?}", group.region);
            }
            complete(group, store, &numbers(group, store, &entries));
            let last = cluster.value_on(store, Cf::Default, &text(&group.last_key()));
            let last = last.as_ref().map_or(0, number_of);
            let of = group.region;
            assert!(last >= group.done(), "{of:?} on {store:?} ends with {last}");
            count += entries.len();
        }
    }
    count
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// From the first write in a log on, all that were done are there, and none that was refused.
fn complete(group: &Group, store: StoreId, numbers: &[u64]) {
    let Some(&first) = numbers.first() else { return };
    for (number, fate) in group.fates.range(first..) {
        let is_there = numbers.binary_search(number).is_ok();
        let is_wrong = match fate {
            Fate::Done => !is_there,
            Fate::Refused => is_there,
            Fate::Open => false,
        };
        assert!(
            !is_wrong,
            "write {number} of {:?} was {fate:?}, on {store:?}: {numbers:?}",
            group.region
        );
    }
}

/// What idle groups look like, to be compared.
pub(crate) struct Idle {
    statuses: BTreeMap<(StoreId, RegionId), RegionStatus>,
}

impl Idle {
    pub(crate) fn now(cluster: &mut Cluster, load: &Load) -> Idle {
        let mut statuses = BTreeMap::new();
        for group in load.groups.iter().filter(|group| group.pace == Pace::Idle) {
            cluster.turn_to(group.region);
            for store in cluster.stores() {
                statuses.insert((store, group.region), cluster.status(store).expect("it runs"));
            }
        }
        Idle { statuses }
    }

    /// Nothing has happened to them. What a new leader does is not nothing: groups with another
    /// term are left out, and counted.
    pub(crate) fn unchanged(self, cluster: &mut Cluster, load: &Load) -> usize {
        let now = Idle::now(cluster, load).statuses;
        let mut elections = 0;
        for (of, before) in &self.statuses {
            if now[of].term == before.term {
                assert_eq!(&now[of], before, "{of:?} was idle");
            } else {
                elections += 1;
            }
        }
        elections
    }
}

/// Counts what idle groups say, but for heartbeats.
#[derive(Clone, Default)]
pub(crate) struct Words(Arc<AtomicU64>);

impl Words {
    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Words {
    /// Hears what the groups of `load` say.
    pub(crate) fn listen(cluster: &mut Cluster, load: &Load) -> Words {
        let words = Words::default();
        let idle = load.groups.iter().filter(|group| group.pace == Pace::Idle);
        let idle = idle.map(|group| group.region).collect();
        cluster.add_filter(Ear { idle, words: words.clone() });
        words
    }
}

struct Ear {
    idle: Vec<RegionId>,
    words: Words,
}

impl Filter for Ear {
    fn passes(&self, _: StoreId, _: StoreId, message: &PeerMessage) -> bool {
        let is_beat = Kind::of(&message.message.body) == Kind::Heartbeat;
        if !is_beat && self.idle.contains(&message.region) {
            self.words.0.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}
