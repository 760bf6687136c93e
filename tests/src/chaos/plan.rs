//! The conditions of a run, drawn from its seed.

use std::ops::Range;

use raft::ReadMode;
use raftstore::StoreId;

use crate::clients::Mix;
use crate::sim::{NetOptions, Options, Time, ms};

/// How often each kind of fault comes, against the others; 0 for never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A process is killed.
    pub kill: u32,
    /// A store loses its power.
    pub power: u32,
    /// A store loses its power in the middle of some operation on its disk.
    pub power_at: u32,
    /// An operation on a disk fails.
    pub disk_error: u32,
    /// A stopped store starts.
    pub start: u32,
    /// The stores are divided in two.
    pub partition: u32,
    /// Nothing gets from one store to another.
    pub one_way: u32,
    /// The leader reaches nobody.
    pub isolate: u32,
    /// All partitions end.
    pub heal: u32,
    /// A store stands still for a while.
    pub pause: u32,
    /// The leader is asked to hand over.
    pub transfer: u32,
    /// A store stands for election.
    pub campaign: u32,
    /// The network gets rough, or calm.
    pub storm: u32,
    /// Disks get slow, or fast.
    pub slow_disk: u32,
    /// A disk has little room left, or enough again.
    pub full_disk: u32,
    /// Messages from one store to another are held up for a while.
    pub clog: u32,
    /// The next few messages of one kind get lost.
    pub silence: u32,
    /// A disk without power changes what it has.
    pub rot: u32,
    /// Whose disk: with the dead they are a minority, so that others have all that is committed.
    pub may_rot: Vec<StoreId>,
    /// A store ends and starts several times in a row, and hears late what it has asked for.
    pub flap: u32,
    /// The leader hears nobody.
    pub deafen: u32,
    /// How the network is when it is rough.
    pub rough: NetOptions,
    /// How long syncs take when disks are slow.
    pub slow_sync: Range<Time>,
}

/// The conditions.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where they come from.
    pub seed: u64,
    /// The cluster.
    pub options: Options,
    /// What goes wrong.
    pub faults: Faults,
    /// From one thing that goes wrong to the next.
    pub pause: Range<Time>,
    /// How long clients work.
    pub chaos: Time,
    /// How many more things go wrong after that.
    pub tail: u32,
    /// Clients of lists.
    pub lists: usize,
    /// Lists.
    pub keys: usize,
    /// Clients of shared keys.
    pub shared: usize,
    /// Shared keys.
    pub shared_keys: usize,
    /// What is done to them.
    pub mix: Mix,
    /// Of a hundred times between two faults, in so many no client begins anything.
    pub idle_percent: u8,
    /// Of a hundred requests.
    pub reads_percent: u8,
    /// How long a client waits for an answer.
    pub patience: Time,
    /// How long a client waits before it asks again, at most.
    pub think: Time,
    /// For how long clients ask for the same again, within sessions; else they ask once.
    pub persistence: Option<Time>,
    /// Of a hundred commands of a session so many come once more, up to so much later.
    pub held_up: Option<(u8, Time)>,
    /// Stores that are dead at the end, for good; a minority.
    pub dead: Vec<StoreId>,
}

impl Plan {
    /// The conditions of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Plan {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let options = options(seed, &mut rng);
        let stores = options.stores;
        let mut all: Vec<StoreId> = (1..=stores).map(StoreId).collect();
        rng.shuffle(&mut all);
        let dead = if rng.u8(..4) == 0 { rng.usize(..=all.len().saturating_sub(1) / 2) } else { 0 };
        let busy = rng.u64(30..400);
        let mut faults = faults(&mut rng);
        // From a generator of its own: what else is drawn stays what it was without.
        let mut more = fastrand::Rng::with_seed(!seed);
        rot(&mut faults, &mut more, &all[dead..dead.max((all.len() - 1) / 2)]);
        faults.flap = if more.bool() { more.u32(1..=3) } else { 0 };
        let held_up = more.bool().then(|| (more.u8(1..30), ms(more.u64(5..800))));
        faults.deafen = if more.bool() { more.u32(1..=3) } else { 0 };
        Plan {
            seed,
            faults,
            held_up,
            pause: ms(busy / 10)..ms(busy),
            chaos: ms(rng.u64(1000..6000)),
            tail: rng.u32(..10),
            lists: rng.usize(..5),
            keys: rng.usize(1..4),
            shared: rng.usize(1..7),
            shared_keys: rng.usize(1..8),
            mix: mix(&mut rng),
            idle_percent: rng.u8(..20),
            reads_percent: rng.u8(10..70),
            patience: ms(rng.u64(50..1500)),
            think: ms(rng.u64(1..15)),
            persistence: rng.bool().then(|| ms(rng.u64(500..4000))),
            dead: all[..dead].to_vec(),
            options,
        }
    }
}

/// In half of the seeds, if there is anybody whose disk may.
fn rot(faults: &mut Faults, rng: &mut fastrand::Rng, may_rot: &[StoreId]) {
    if rng.bool() && !may_rot.is_empty() {
        faults.rot = rng.u32(1..=3);
        faults.may_rot = may_rot.to_vec();
        faults.start = faults.start.max(faults.rot);
    }
}

fn options(seed: u64, rng: &mut fastrand::Rng) -> Options {
    let stores = [1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5][rng.usize(..12)];
    let mut options = Options::new(stores, seed);
    options.drift_percent = rng.u8(..20);
    options.heartbeat_ticks = rng.u32(1..3);
    options.election_ticks = rng.u32(5..12);
    options.append_bytes_max = 1 << rng.u32(0..17);
    options.inflight_max = rng.usize(1..17);
    options.compact_entries = [3, 20, 200][rng.usize(..3)];
    options.log_gc_count_limit = [5, 20, 300][rng.usize(..3)];
    options.log_gc_bytes_limit = 1 << rng.u32(9..20);
    options.snapshot_bytes_per_ms = 1 << rng.u32(2..12);
    options.segment_bytes = [4, 8, 16, 64][rng.usize(..4)] << 10;
    options.checkpoint_bytes = 1 << rng.u32(6..15);
    options.round = 1..[2, 50, 1000][rng.usize(..3)];
    options.apply = 1..[2, 100, 5000][rng.usize(..3)];
    options.sync = 50..[100, 2000, 20_000][rng.usize(..3)];
    options.net.in_order = rng.bool();
    options.net.corrupt_permille = [0, 100, 400][rng.usize(..3)];
    options.net.delay = 10..[100, 1000, 10_000][rng.usize(..3)];
    options.image_every = rng.u64(1..200);
    // (From a generator of its own, too.)
    let is_direct = fastrand::Rng::with_seed(seed.rotate_left(32)).u8(..4) == 0;
    options.direct_logs = is_direct && options.segment_bytes >= 16 << 10;
    if fastrand::Rng::with_seed(seed.rotate_left(48)).u8(..4) == 0 {
        options.read_mode = ReadMode::Lease;
    }
    options
}

/// Of each kind none in some seeds. Ranges and requests of several keys are in half of them: what
/// they join is judged together, and the search sees further into keys that stand alone.
fn mix(rng: &mut fastrand::Rng) -> Mix {
    let joined = rng.bool();
    let mut weight = |max: u32| rng.u32(..=max);
    Mix {
        get: 1 + weight(8),
        put: weight(6),
        delete: weight(3),
        add: weight(5),
        append: weight(3),
        compare_and_set: weight(5),
        scan: if joined { weight(4) } else { 0 },
        multi: if joined { weight(3) } else { 0 },
    }
}

fn faults(rng: &mut fastrand::Rng) -> Faults {
    // Each kind is there in half of the seeds, with a weight of its own.
    let mut weight = |max: u32| if rng.bool() { rng.u32(1..=max) } else { 0 };
    let mut faults = Faults {
        kill: weight(4),
        power: weight(4),
        power_at: weight(4),
        disk_error: weight(2),
        partition: weight(6),
        one_way: weight(6),
        isolate: weight(4),
        pause: weight(4),
        transfer: weight(4),
        campaign: weight(3),
        storm: weight(4),
        slow_disk: weight(3),
        full_disk: weight(3),
        clog: weight(4),
        silence: weight(4),
        ..Faults::default()
    };
    let Faults {
        kill, power, power_at, disk_error, full_disk, partition, one_way, isolate, ..
    } = faults;
    let stops = kill + power + power_at + disk_error + full_disk;
    let cuts = partition + one_way + isolate;
    faults.start = if stops > 0 { rng.u32(stops..=3 * stops + 2) } else { 0 };
    faults.heal = if cuts > 0 { rng.u32(cuts..=2 * cuts + 2) } else { 0 };
    faults.slow_sync = ms(1)..ms(rng.u64(10..400));
    faults.rough = NetOptions {
        delay: 10..ms(rng.u64(1..30)),
        slow: ms(1)..ms(rng.u64(10..200)),
        slow_permille: rng.u16(..200),
        loss_permille: rng.u16(..300),
        duplicate_permille: rng.u16(..300),
        corrupt_permille: rng.u16(..200),
        in_order: rng.bool(),
    };
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan_and_seeds_differ() {
        let text = |seed| format!("{:?}", Plan::draw(seed));
        assert_eq!(text(7), text(7));
        let mut plans: Vec<_> = (0..100).map(text).collect();
        plans.sort_unstable();
        plans.dedup();
        assert_eq!(plans.len(), 100);
    }

    #[test]
    fn the_dead_and_the_damaged_are_a_minority() {
        for seed in 0..2000 {
            let plan = Plan::draw(seed);
            let (dead, rotten) = (&plan.dead, &plan.faults.may_rot);
            assert!((dead.len() + rotten.len()) as u64 * 2 < plan.options.stores, "seed {seed}");
            assert!(dead.iter().all(|store| !rotten.contains(store)), "seed {seed}");
        }
    }
}
