//! What a power failure leaves of a snapshot that is being received and installed.

use std::collections::BTreeMap;
use std::sync::Arc;

use harness::cluster::Cluster;
use kv::engine::Read as _;
use kv::{Background, Cf, CheckpointOptions, KvMachine};
use raft::Index;
use raftstore::disk::sim::Crash;
use raftstore::disk::{Claim, ClusterId, SimDisk};
use raftstore::snapshot::{FileName, incoming};
use raftstore::start::{start, storage_of};
use raftstore::store::StoreConfig;
use raftstore::wal::{Wal, WalOptions};
use raftstore::{Region, RegionId, StoreId};

use super::{LIMIT, S1, installed, leave_behind, put_and_count, small};

const STORES: [StoreId; 3] = [StoreId(1), StoreId(2), StoreId(3)];

/// What a start found.
struct Found {
    applied: Index,
    /// The log begins after a snapshot, and the state came from its file.
    files: usize,
}

/// Starts S1 from a disk. Demands that it starts, that log and state fit, and that the state is that
/// of one moment: as many keys as were counted.
fn starts(image: &SimDisk, what: &str) -> Found {
    let disk = image.mount();
    let claim = Claim::new(disk.as_ref(), S1, ClusterId(1)).expect(what);
    let options = WalOptions { segment_bytes: 64 << 10 };
    let (wal, recovered) = Wal::open(Arc::clone(&disk), claim.identity(), options).expect(what);
    incoming::remove_unfinished(&*disk).expect(what);
    let checkpoints = CheckpointOptions {
        log_bytes_min: 64,
        log_percent_of_state: 0,
        background: Background::Inline,
    };
    let log: BTreeMap<RegionId, Index> =
        recovered.groups.iter().map(|(&region, log)| (region, log.compacted.index)).collect();
    let machine = KvMachine::open(Arc::clone(&disk), checkpoints, log.clone());
    let machine = machine.unwrap_or_else(|why| panic!("{what}: {why}"));
    let state = machine.reader().snapshot();
    let applied = state.region(RegionId::FIRST).map_or(0, |region| region.applied.index);
    let count = state.get(Cf::Default, b"count").map_or(0, |count| {
        std::str::from_utf8(&count).ok().and_then(|text| text.parse().ok()).expect("a number")
    });
    let keys = state.count(Cf::Default, b"key ", b"key~");
    assert_eq!(keys, count, "{what}: keys and their count are of two moments");
    let config = StoreConfig::new(S1);
    let storage = storage_of(wal.reader());
    let started = start(config, machine, Region::first(&STORES), &recovered.groups, storage);
    if let Err(why) = started {
        panic!("{what}: {why}");
    }
    let names = disk.list().expect(what);
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{what}: {names:?}");
    let files = names.iter().filter_map(|name| FileName::parse(name));
    let stray = |name: &FileName| log.get(&name.region) != Some(&name.last.index);
    let files: Vec<_> = files.collect();
    assert!(!files.iter().any(stray), "{what}: {names:?}");
    Found { applied, files: files.len() }
}

/// S4, S7, S9, S12, P8: the power fails before every operation on the receiver's disk, from the first
/// piece of a snapshot to the checkpoint after it, and what was not synced is lost or kept at random.
/// What is left always starts, as the old state or as the new one, and never as a mix.
#[test]
fn s4_s7_s12_a_power_failure_at_any_operation_leaves_old_or_new() {
    let (mut images, mut old, mut from_file, mut new) = (0, 0, 0, 0);
    for seed in 0..3 {
        let mut cluster = Cluster::simulated(small(seed, LIMIT));
        (0..5).for_each(|number| put_and_count(&mut cluster, number));
        cluster.barrier_on(S1);
        leave_behind(&mut cluster, S1, 5..60);
        let before = cluster.status(S1).expect("it runs").applied;
        let disk = cluster.sim_mut().expect("simulated").world().host(S1).disk.clone();
        disk.record();
        cluster.heal();
        cluster.barrier_on(S1);
        assert!(installed(&cluster, S1) > 0);
        // More, so that a checkpoint is made and the file goes.
        (60..80).for_each(|number| put_and_count(&mut cluster, number));
        cluster.barrier_on(S1);
        let moments = disk.recorded();
        assert!(moments.len() > 20, "only {} operations", moments.len());
        for (number, moment) in moments.iter().enumerate() {
            for fate in 0..4u64 {
                let image = moment.disk.fork();
                image.reseed(seed * 100_000 + number as u64 * 10 + fate);
                image.crash(if fate == 0 { Crash::Process } else { Crash::Power });
                let what = format!(
                    "seed {seed}, before operation {number} ({:?} {}), fate {fate}",
                    moment.operation, moment.file
                );
                let found = starts(&image, &what);
                images += 1;
                match found {
                    Found { applied, .. } if applied <= before => old += 1,
                    Found { files: 1.., .. } => from_file += 1,
                    Found { .. } => new += 1,
                }
            }
        }
    }
    println!("{images} images: {old} old, {from_file} from the file, {new} new");
    assert!(old > 10 && from_file > 10 && new > 10, "{old} old, {from_file} from file, {new} new");
}
