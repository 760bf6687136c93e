//! What goes wrong, one thing at a time.

use std::sync::Arc;

use raftstore::disk::sim::{Crash, Fault};
use raftstore::{RegionId, StoreId};

use crate::chaos::plan::Faults;
use crate::chaos::{Cuts, Injected};
use crate::cluster::{Backend as _, SimCluster};
use crate::filter as message;
use crate::sim::rot::Rot;
use crate::sim::{Time, ms};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    Power,
    PowerAt,
    DiskError,
    Start,
    Partition,
    OneWay,
    Isolate,
    Heal,
    Pause,
    Transfer,
    Campaign,
    Storm,
    SlowDisk,
    FullDisk,
    Clog,
    Silence,
    Rot,
    Flap,
    Deafen,
}

/// Whoever makes things go wrong.
pub(super) struct Chaos {
    faults: Faults,
    rng: fastrand::Rng,
    is_rough: bool,
    is_slow: bool,
    injected: Injected,
    cuts: Cuts,
    /// How many were drawn, carried out or not.
    drawn: u32,
    /// Which were carried out, when.
    done: Vec<(u32, Time, &'static str)>,
    /// Who ends and starts again and again, and how often still.
    flapping: Option<(StoreId, u32)>,
}

impl Chaos {
    pub(super) fn new(faults: Faults, cuts: Cuts, seed: u64) -> Chaos {
        Chaos {
            faults,
            rng: fastrand::Rng::with_seed(seed),
            is_rough: false,
            is_slow: false,
            injected: Injected::new(),
            cuts,
            drawn: 0,
            done: Vec::new(),
            flapping: None,
        }
    }

    /// All that was done, a line each.
    pub(super) fn script(&self) -> Vec<String> {
        let line = |(number, at, what): &(u32, Time, &str)| format!("{at:>10} #{number} {what}");
        self.done.iter().map(line).collect()
    }

    pub(super) fn injected(&self) -> Injected {
        self.injected.clone()
    }

    fn weights(&self) -> [(Kind, u32); 20] {
        let f = &self.faults;
        [
            (Kind::Kill, f.kill),
            (Kind::Power, f.power),
            (Kind::PowerAt, f.power_at),
            (Kind::DiskError, f.disk_error),
            (Kind::Start, f.start),
            (Kind::Partition, f.partition),
            (Kind::OneWay, f.one_way),
            (Kind::Isolate, f.isolate),
            (Kind::Heal, f.heal),
            (Kind::Pause, f.pause),
            (Kind::Transfer, f.transfer),
            (Kind::Campaign, f.campaign),
            (Kind::Storm, f.storm),
            (Kind::SlowDisk, f.slow_disk),
            (Kind::FullDisk, f.full_disk),
            (Kind::Clog, f.clog),
            (Kind::Silence, f.silence),
            (Kind::Rot, f.rot),
            (Kind::Flap, f.flap),
            (Kind::Deafen, f.deafen),
        ]
    }

    fn draw(&mut self) -> Option<Kind> {
        let weights = self.weights();
        let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut at = if sum == 0 { return None } else { self.rng.u32(..sum) };
        for (kind, weight) in weights {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return Some(kind),
            }
        }
        None
    }

    fn any(&mut self, stores: &[StoreId]) -> Option<StoreId> {
        (!stores.is_empty()).then(|| stores[self.rng.usize(..stores.len())])
    }

    /// Does one thing.
    pub(super) fn act(&mut self, sim: &mut SimCluster) {
        if let Some((store, left)) = self.flapping.take() {
            return self.bounce(sim, store, left);
        }
        let Some(kind) = self.draw() else { return };
        self.drawn += 1;
        if !self.cuts.keeps(self.drawn - 1) {
            return;
        }
        let stores = sim.stores();
        let (running, stopped): (Vec<_>, Vec<_>) =
            stores.iter().copied().partition(|&id| sim.is_running(id));
        let done = match kind {
            Kind::Kill => self.crash(sim, &running, Crash::Process),
            Kind::Power => self.crash(sim, &running, Crash::Power),
            Kind::PowerAt => self.fail(sim, &stores, Fault::PowerCut),
            Kind::DiskError => self.fail(sim, &stores, Fault::Error),
            Kind::Start => match self.any(&stopped) {
                Some(store) => sim.start(store),
                None => false,
            },
            Kind::Partition => self.partition(sim, &stores),
            Kind::OneWay => self.one_way(sim, &stores),
            Kind::Isolate => isolate(sim, &stores),
            Kind::Heal => {
                sim.world_mut().note("mend");
                sim.world_mut().heal();
                true
            }
            Kind::Pause => self.pause(sim, &running),
            Kind::Transfer => match self.any(&stores) {
                Some(to) => {
                    sim.transfer(RegionId::FIRST, to);
                    true
                }
                None => false,
            },
            Kind::Campaign => self.campaign(sim, &running),
            Kind::Storm => self.storm(sim),
            Kind::SlowDisk => self.slow_disk(sim),
            Kind::FullDisk => self.full_disk(sim, &stores),
            Kind::Clog => self.clog(sim, &stores),
            Kind::Silence => self.silence(sim, &stores),
            Kind::Rot => self.rot(sim),
            Kind::Flap => self.flap(sim, &stores),
            Kind::Deafen => deafen(sim, &stores),
        };
        if done {
            *self.injected.entry(name(kind)).or_default() += 1;
            self.done.push((self.drawn - 1, sim.now(), name(kind)));
        }
    }

    fn crash(&mut self, sim: &mut SimCluster, running: &[StoreId], how: Crash) -> bool {
        let Some(store) = self.any(running) else { return false };
        sim.world_mut().crash(store, how);
        true
    }

    /// Some operation of a disk, soon, will not do what it should.
    fn fail(&mut self, sim: &mut SimCluster, stores: &[StoreId], fault: Fault) -> bool {
        let Some(store) = self.any(stores) else { return false };
        let after = self.rng.u64(..20);
        sim.world_mut().note(format!("{store:?}: {fault:?} after {after}"));
        sim.world_mut().fail_disk(store, after, fault);
        true
    }

    fn partition(&mut self, sim: &mut SimCluster, stores: &[StoreId]) -> bool {
        let (one, other): (Vec<_>, Vec<_>) = stores.iter().copied().partition(|_| self.rng.bool());
        let world = sim.world_mut();
        world.note(format!("partition {one:?} {other:?}"));
        for &a in &one {
            for &b in &other {
                world.cut(a, b);
                world.cut(b, a);
            }
        }
        !one.is_empty() && !other.is_empty()
    }

    fn one_way(&mut self, sim: &mut SimCluster, stores: &[StoreId]) -> bool {
        let (Some(from), Some(to)) = (self.any(stores), self.any(stores)) else { return false };
        sim.world_mut().note(format!("cut {from:?} -> {to:?}"));
        sim.world_mut().cut(from, to);
        from != to
    }

    fn pause(&mut self, sim: &mut SimCluster, running: &[StoreId]) -> bool {
        let Some(store) = self.any(running) else { return false };
        let until = sim.now() + ms(self.rng.u64(1..500));
        sim.world_mut().note(format!("{store:?} stands still until {until}"));
        sim.world_mut().pause(store, until);
        true
    }

    fn campaign(&mut self, sim: &mut SimCluster, running: &[StoreId]) -> bool {
        let Some(store) = self.any(running) else { return false };
        sim.world_mut().note(format!("{store:?} campaigns"));
        sim.campaign(store);
        true
    }

    fn storm(&mut self, sim: &mut SimCluster) -> bool {
        self.is_rough = !self.is_rough;
        let net = if self.is_rough { &self.faults.rough } else { &sim.world().options().net };
        let net = net.clone();
        sim.world_mut().note(format!("network: {net:?}"));
        sim.world_mut().set_net(net);
        self.is_rough
    }

    fn slow_disk(&mut self, sim: &mut SimCluster) -> bool {
        self.is_slow = !self.is_slow;
        let range = if self.is_slow { self.faults.slow_sync.clone() } else { 50..500 };
        sim.world_mut().note(format!("syncs take {range:?}"));
        sim.world_mut().set_sync(range);
        self.is_slow
    }

    /// There is room for a little more on a disk, or as much as anybody wants again.
    fn full_disk(&mut self, sim: &mut SimCluster, stores: &[StoreId]) -> bool {
        let Some(store) = self.any(stores) else { return false };
        let room = (self.rng.u8(..3) > 0).then(|| self.rng.u64(..64 << 10));
        sim.world_mut().note(format!("{store:?} has room for {room:?} more bytes"));
        sim.world_mut().limit_disk(store, room);
        room.is_some()
    }

    /// What travels from one store to another comes late, all at once.
    fn clog(&mut self, sim: &mut SimCluster, stores: &[StoreId]) -> bool {
        let (Some(from), Some(to)) = (self.any(stores), self.any(stores)) else { return false };
        let until = sim.now() + ms(self.rng.u64(5..800));
        sim.world_mut().note(format!("{from:?} -> {to:?} is clogged until {until}"));
        sim.world_mut().clog(from, to, until);
        from != to
    }

    /// A store loses its power, and its disk changes what it has.
    fn rot(&mut self, sim: &mut SimCluster) -> bool {
        let rotten = self.faults.may_rot.clone();
        let Some(store) = self.any(&rotten) else { return false };
        let rot = Rot::ALL[self.rng.usize(..Rot::ALL.len())];
        sim.world_mut().damage_disk(store, rot)
    }

    /// How long until the next thing, if it is not a matter of its own.
    pub(super) fn until_next(&mut self, usual: Time) -> Time {
        if self.flapping.is_some() { ms(self.rng.u64(2..80)) } else { usual }
    }

    /// A store hears late of what others have and of what it has asked for, and lives several short
    /// lives: what comes in one of them was perhaps meant for an earlier one (I2, I4).
    fn flap(&mut self, sim: &mut SimCluster, stores: &[StoreId]) -> bool {
        let Some(store) = self.any(stores) else { return false };
        let late = ms(1)..ms(self.rng.u64(10..120));
        for kind in [message::Kind::Read, message::Kind::Append] {
            let which = message::Which::kind(kind).to(store).times(self.rng.u64(20..200));
            let delay = message::Delay::new(which, late.clone(), self.rng.u64(..));
            sim.world_mut().add_filter(Arc::new(delay));
        }
        let lives = self.rng.u32(2..10);
        self.bounce(sim, store, lives);
        true
    }

    fn bounce(&mut self, sim: &mut SimCluster, store: StoreId, left: u32) {
        sim.world_mut().note(format!("{store:?} ends and starts, {left} times"));
        sim.world_mut().crash(store, Crash::Process);
        sim.start(store);
        self.flapping = (left > 1).then_some((store, left - 1));
    }

    /// The next few messages of one kind get lost, wherever they go.
    fn silence(&mut self, sim: &mut SimCluster, stores: &[StoreId]) -> bool {
        let kinds = [message::Kind::AppendReply, message::Kind::Append, message::Kind::Vote];
        let others = [message::Kind::Heartbeat, message::Kind::Read, message::Kind::Transfer];
        let kind = [kinds, others].concat()[self.rng.usize(..6)];
        let Some(store) = self.any(stores) else { return false };
        let lost = message::Which::kind(kind).times(self.rng.u64(1..30));
        let lost = if self.rng.bool() { lost.from(store) } else { lost.to(store) };
        sim.world_mut().note(format!("lost: {lost:?}"));
        sim.world_mut().add_filter(Arc::new(message::Drop(lost)));
        true
    }
}

/// Whoever leads reaches nobody, and is reached by nobody.
fn isolate(sim: &mut SimCluster, stores: &[StoreId]) -> bool {
    let Some(leader) = sim.world().leader(RegionId::FIRST) else { return false };
    let world = sim.world_mut();
    world.note(format!("isolate {leader:?}"));
    for &other in stores.iter().filter(|&&other| other != leader) {
        world.cut(leader, other);
        world.cut(other, leader);
    }
    true
}

/// Whoever leads hears nobody, and everybody hears it: what it proposes is committed by its successor,
/// and perhaps compacted by the time it hears of that (K2).
fn deafen(sim: &mut SimCluster, stores: &[StoreId]) -> bool {
    let Some(leader) = sim.world().leader(RegionId::FIRST) else { return false };
    let world = sim.world_mut();
    world.note(format!("{leader:?} hears nobody"));
    stores.iter().filter(|&&other| other != leader).for_each(|&other| world.cut(other, leader));
    true
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Kill => "process killed",
        Kind::Power => "power lost",
        Kind::PowerAt => "power lost within an operation",
        Kind::DiskError => "disk error",
        Kind::Start => "restart",
        Kind::Partition => "partition",
        Kind::OneWay => "one-way cut",
        Kind::Isolate => "leader isolated",
        Kind::Heal => "mended",
        Kind::Pause => "pause",
        Kind::Transfer => "transfer",
        Kind::Campaign => "campaign",
        Kind::Storm => "network storm",
        Kind::SlowDisk => "slow disk",
        Kind::FullDisk => "disk full",
        Kind::Clog => "clogged link",
        Kind::Silence => "one kind of message lost",
        Kind::Rot => "damage at rest",
        Kind::Flap => "flapping store",
        Kind::Deafen => "deaf leader",
    }
}
