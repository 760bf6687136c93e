//! A hundred groups on three stores, some busy, most of them idle, over logs that are compacted and
//! cleaned up many times: the logs stay small, and have all that they must (museum W13).
//!
//! | file | what |
//! |---|---|
//! | this | what happens, in simulations and with threads |
//! | `load` | clients |
//! | `check` | what must hold |
//!
//! In simulations the judges look, too: at the space after every sync, and at every entry of every
//! group each time a segment has gone.

mod check;
mod load;

use std::collections::BTreeMap;

use harness::cluster::{Cluster, Patience, Stop, ThreadOptions};
use harness::sim::{Options, ms};
use raftstore::StoreId;
use raftstore::disk::{Claim, ClusterId};
use raftstore::wal::Inspection;

use check::{Idle, Words};
use load::{Load, Pace};

/// Groups.
const COUNT: u64 = 100;

/// What is done to the cluster, and with which limits.
struct Scenario {
    seed: u64,
    segment_bytes: u64,
    /// How often all segments of all logs go between one restart and the next.
    cycles: u64,
    /// Turns from one look at everything to the next.
    look_every: u64,
    /// Nobody is elected but where a store has ended.
    is_calm: bool,
}

impl Scenario {
    fn run(&self, cluster: &mut Cluster) {
        cluster.set_patience(Patience { must: ms(120_000), ..Patience::default() });
        let mut load = Load::new(COUNT, self.seed);
        let words = Words::listen(cluster, &load);
        load.begin(cluster, 3);
        self.busy(cluster, &mut load, &words);

        // One goes, and the others go on.
        let lost = StoreId(1 + self.seed % 3);
        cluster.stop_server_by(lost, Stop::PowerLoss);
        (0..50).for_each(|_| self.turn(cluster, &mut load));
        cluster.start_server(lost);
        self.busy(cluster, &mut load, &words);

        // All go, in the middle of everything.
        (0..5).for_each(|_| self.turn(cluster, &mut load));
        for store in cluster.stores() {
            cluster.stop_server_by(store, Stop::PowerLoss);
        }
        for store in cluster.stores() {
            cluster.start_server(store);
        }
        self.busy(cluster, &mut load, &words);
        self.at_the_end(cluster, &load);
    }

    fn turn(&self, cluster: &mut Cluster, load: &mut Load) {
        load.turn(cluster);
        check::space(cluster, self.segment_bytes);
    }

    /// From one rest to the next: all segments that there were are gone meanwhile, several times.
    fn busy(&self, cluster: &mut Cluster, load: &mut Load, words: &Words) {
        load.rest(cluster);
        check::level(cluster, load);
        let idle = Idle::now(cluster, load);
        words.take();
        for _ in 0..self.cycles {
            let ends = goals(cluster);
            let mut turns = 0;
            while !ends.iter().all(|(store, end)| dropped(cluster, *store) >= *end) {
                self.turn(cluster, load);
                turns += 1;
                if turns % self.look_every == 0 {
                    check::readable(cluster, load);
                }
                assert!(turns < 20_000, "segments do not go: {:?} of {ends:?}", goals(cluster));
            }
        }
        load.rest(cluster);
        check::level(cluster, load);
        let elections = idle.unchanged(cluster, load);
        if self.is_calm {
            assert_eq!((elections, words.take()), (0, 0), "elections and words of idle groups");
        }
    }

    /// What is left on the disks.
    fn at_the_end(&self, cluster: &mut Cluster, load: &Load) {
        let idle: Vec<_> = load.groups.iter().filter(|group| group.pace == Pace::Idle).collect();
        let mut expected = BTreeMap::new();
        for group in &load.groups {
            cluster.turn_to(group.region);
            for store in cluster.stores() {
                let status = cluster.status(store).expect("it runs");
                expected.insert((store, group.region), (status.term, status.last));
            }
        }
        for store in cluster.stores() {
            cluster.stop_server(store);
            let disk = cluster.disk(store).expect("it does not run");
            let claim = Claim::new(disk.as_ref(), store, ClusterId(1)).expect("it is the store's");
            let inspection = Inspection::open(disk.as_ref(), claim.identity()).expect("readable");
            let verdict = inspection.verdict().expect("a good log");
            for (region, log) in &verdict.recovered.groups {
                let found = (log.hard_state.term, log.last);
                let known = expected[&(store, *region)];
                // A node that ends hands over first, and others are elected.
                let is_right = if self.is_calm { found == known } else { found >= known };
                assert!(is_right, "{region:?} on {store:?} ends with {found:?} after {known:?}");
            }
            assert_eq!(verdict.recovered.groups.len() as u64, COUNT);
            let files: u64 = inspection.segments().map(|segment| segment.file_bytes).sum();
            let bound = 2 * verdict.live_bytes + 3 * self.segment_bytes;
            assert!(files <= bound, "{store:?}: {files} of {bound}");
            if self.is_calm {
                let news = news_of(&inspection, &idle);
                assert_eq!(news, 0, "records about idle groups on {store:?}, but moved ones");
            }
        }
    }
}

/// How many records tell something new of idle groups.
fn news_of(inspection: &Inspection, idle: &[&load::Group]) -> usize {
    let mut news = 0;
    for segment in inspection.segments() {
        inspection.records(&segment, &mut |record| {
            let groups = record.groups.as_ref().expect("a good record");
            let of_idle = |region| idle.iter().any(|group| group.region == region);
            news += groups.iter().filter(|group| !group.carried && of_idle(group.region)).count();
        });
    }
    news
}

/// How many segments a store's log has dropped in this life.
fn dropped(cluster: &Cluster, store: StoreId) -> u64 {
    cluster.log(store).map_or(0, |log| log.sizes.dropped)
}

/// How many that must be until all that are there now are gone: the oldest goes first.
fn goals(cluster: &Cluster) -> BTreeMap<StoreId, u64> {
    let sizes = |store| cluster.log(store).map(|log| log.sizes.dropped + log.sizes.segments.max(1));
    cluster.stores().into_iter().filter_map(|store| Some((store, sizes(store)?))).collect()
}

fn simulated(seed: u64, direct_logs: bool) -> Cluster {
    Cluster::simulated(Options {
        regions: COUNT,
        // A hundred groups beat a hundred times as often as one.
        heartbeat_ticks: 10,
        election_ticks: 50,
        log_gc_count_limit: 16,
        compact_entries: 8,
        segment_bytes: 32 << 10,
        checkpoint_bytes: 64 << 10,
        image_every: 1024,
        direct_logs,
        ..Options::new(3, seed)
    })
}

#[test]
fn sim_a_hundred_groups_in_little_space() {
    for (seed, direct_logs) in [(1, false), (2, true)] {
        let scenario =
            Scenario { seed, segment_bytes: 32 << 10, cycles: 3, look_every: 50, is_calm: true };
        scenario.run(&mut simulated(seed, direct_logs));
    }
}

#[test]
fn threads_a_hundred_groups_in_little_space() {
    let segment_bytes = 64 << 10;
    let mut cluster = Cluster::threaded(ThreadOptions {
        regions: COUNT,
        segment_bytes,
        log_gc_count_limit: 16,
        checkpoint_bytes: 128 << 10,
        ..ThreadOptions::new(3)
    });
    let scenario = Scenario {
        seed: 3,
        segment_bytes,
        cycles: 4,
        look_every: 50,
        // With threads, somebody may always be slow.
        is_calm: false,
    };
    scenario.run(&mut cluster);
}
