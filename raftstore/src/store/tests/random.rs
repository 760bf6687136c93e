//! Anything in any order: messages lost, doubled and late, disks and machines that take their time,
//! power cuts in between. What was acknowledged stays, what was refused never happened, and a read
//! never misses what was acknowledged before it was asked.

use std::collections::BTreeMap;

use raft::{Message, NodeId};

use super::*;

struct World {
    cluster: Cluster,
    random: fastrand::Rng,
    /// Tasks that wait for each store's machine.
    tasks: BTreeMap<StoreId, VecDeque<Task<Toy>>>,
    down: BTreeMap<StoreId, Disk>,
    incarnation: u64,
    commands: Vec<u64>,
    /// Reads, with how many commands were acknowledged before each.
    reads: Vec<(u64, usize)>,
    power_cuts: usize,
    cuts_in_1000: u32,
    /// Who voted for whom in which term.
    votes: BTreeMap<(NodeId, u64), NodeId>,
}

/// One vote a term, through all crashes (E3, P2).
fn note_vote(votes: &mut BTreeMap<(NodeId, u64), NodeId>, message: &Message) {
    let Message { from, to, term, .. } = *message;
    let vote = match message.body {
        Body::RequestVote { pre: false, .. } => from,
        Body::RequestVoteReply { pre: false, granted: true, .. } => to,
        _ => return,
    };
    let first = *votes.entry((from, term)).or_insert(vote);
    assert_eq!(first, vote, "{from:?} votes once in term {term}");
}

impl World {
    fn new(seed: u64) -> World {
        let cluster = Cluster::with(|config| {
            config.seed = seed ^ config.store.0;
            config.compact_entries = 20;
            config.inflight_max = 3;
            config.append_bytes_max = 300;
        });
        World {
            cluster,
            random: fastrand::Rng::with_seed(seed),
            tasks: STORES.iter().map(|&id| (id, VecDeque::new())).collect(),
            down: BTreeMap::new(),
            incarnation: 0,
            commands: Vec::new(),
            reads: Vec::new(),
            power_cuts: 0,
            cuts_in_1000: if seed.is_multiple_of(4) { 5 } else { 1 },
            votes: BTreeMap::new(),
        }
    }

    fn acknowledged(&self) -> usize {
        self.commands.iter().filter(|&&id| self.cluster.is_applied(id)).count()
    }

    fn one_of(&mut self) -> Option<StoreId> {
        let id = STORES[self.random.usize(..3)];
        self.cluster.nodes.contains_key(&id).then_some(id)
    }

    fn step(&mut self) {
        match self.random.u32(..1000) {
            n if n < self.cuts_in_1000 => self.cut_power(),
            0..10 => self.start(),
            10 => _ = self.cluster.cut.insert(STORES[self.random.usize(..3)]),
            11..16 => self.cluster.cut.clear(),
            16..80 => self.ask(),
            80..120 => self.tick(),
            120..500 => self.deliver(),
            500..750 => self.round(),
            750..850 => self.sync(),
            _ => self.apply(1),
        }
    }

    fn ask(&mut self) {
        let Some(id) = self.one_of() else { return };
        if self.random.bool() {
            // Mostly somebody who leads, or thinks so.
            let leads = |id: &StoreId| {
                let node = self.cluster.nodes.get(id);
                let status = node.and_then(|node| node.store.status(R1));
                status.is_some_and(|status| status.role == RoleKind::Leader)
            };
            let id = STORES.into_iter().rev().find(leads).unwrap_or(id);
            let body = (self.cluster.asked + 1).to_string();
            let command = self.cluster.propose(id, &body);
            self.commands.push(command);
        } else {
            let floor = self.acknowledged();
            let read = self.cluster.read(id);
            self.reads.push((read, floor));
        }
    }

    fn tick(&mut self) {
        let Some(id) = self.one_of() else { return };
        let node = &mut self.cluster[id];
        node.store.tick();
        let mut reports = Vec::new();
        node.applier.tick(node.wal.written_bytes(), &mut reports);
        reports.into_iter().for_each(|report| node.store.applied(report));
    }

    fn deliver(&mut self) {
        let wire = &mut self.cluster.wire;
        if wire.is_empty() {
            return;
        }
        // Mostly the oldest ones.
        let at = self.random.usize(..wire.len().min(8));
        let fate = self.random.u8(..20);
        let taken = if fate == 0 { wire.get(at).cloned() } else { wire.remove(at) };
        let Some((from, to, message)) = taken.filter(|_| fate != 1) else { return };
        let is_cut = self.cluster.cut.contains(&from) || self.cluster.cut.contains(&to);
        if let Some(node) = self.cluster.nodes.get_mut(&to).filter(|_| !is_cut) {
            node.store.step(from, message);
        }
    }

    fn round(&mut self) {
        let Some(id) = self.one_of() else { return };
        let node = self.cluster.nodes.get_mut(&id).expect("running");
        if !node.store.has_ready() {
            return;
        }
        node.store.ready(&mut node.ready);
        for (to, messages) in node.ready.messages.drain() {
            messages.iter().for_each(|message| note_vote(&mut self.votes, &message.message));
            self.cluster.wire.extend(messages.into_iter().map(|message| (id, to, message)));
        }
        node.ready.roles.clear();
        node.unsynced.extend(node.ready.batch.take());
        self.tasks.entry(id).or_default().extend(node.ready.tasks.drain(..));
    }

    /// Appends some of what is to be written, and syncs now or later.
    fn sync(&mut self) {
        let Some(id) = self.one_of() else { return };
        self.cluster[id].sync();
    }

    fn apply(&mut self, count: usize) {
        let Some(id) = self.one_of() else { return };
        let node = self.cluster.nodes.get_mut(&id).expect("running");
        let mut reports = Vec::new();
        let tasks = self.tasks.entry(id).or_default();
        for task in tasks.drain(..count.min(tasks.len())) {
            node.applier.run(task, &mut reports);
        }
        reports.into_iter().for_each(|report| node.store.applied(report));
    }

    fn cut_power(&mut self) {
        let Some(id) = self.one_of() else { return };
        let mut node = self.cluster.nodes.remove(&id).expect("running");
        // Who waits is told that nobody knows; in a real crash nobody would tell them.
        let tasks = self.tasks.remove(&id).unwrap_or_default();
        for task in tasks.into_iter().filter(|task| !matches!(task, Task::Apply { .. })) {
            node.applier.run(task, &mut Vec::new());
        }
        let disk = node.stop();
        disk.drive.crash(Crash::Power);
        self.down.insert(id, disk);
        self.power_cuts += 1;
    }

    fn start(&mut self) {
        let Some((id, mut disk)) = self.down.pop_first() else { return };
        disk.checkpoint_bytes = self.random.u64(..4000);
        self.incarnation += 1;
        let incarnation = self.incarnation;
        let node = Node::open(id, disk, |config| {
            config.incarnation = incarnation;
            config.compact_entries = 20;
        });
        self.cluster.nodes.insert(id, node.expect("what was synced fits together"));
    }

    /// All faults end; everything comes to rest and is looked at.
    fn finish(mut self) -> (usize, usize) {
        self.cluster.cut.clear();
        while !self.down.is_empty() {
            self.start();
        }
        for id in STORES {
            let node = self.cluster.nodes.get_mut(&id).expect("running");
            let mut reports = Vec::new();
            for task in self.tasks.remove(&id).unwrap_or_default() {
                node.applier.run(task, &mut reports);
            }
            reports.into_iter().for_each(|report| node.store.applied(report));
            node.sync();
        }
        self.cluster.settle();
        self.cluster.tick(100);
        let leader = self.cluster.leader().expect("elected");
        let last = self.cluster.propose(leader, "last");
        self.cluster.tick(10);
        assert!(self.cluster.is_applied(last), "service goes on");
        self.check();
        let (acknowledged, power_cuts) = (self.acknowledged(), self.power_cuts);
        self.cluster.finish();
        (acknowledged, power_cuts)
    }

    fn check(&self) {
        let log = self.cluster[S1].commands();
        for id in STORES {
            assert_eq!(self.cluster[id].commands(), log, "{id:?} has the same state as S1");
        }
        let times = |id: u64| log.iter().filter(|command| **command == id.to_string()).count();
        for &id in &self.commands {
            match self.cluster.answers.of(id) {
                Some(Outcome::Applied(_)) => assert_eq!(times(id), 1, "{id} was acknowledged"),
                Some(Outcome::Stale | Outcome::Refused(_)) => {
                    assert_eq!(times(id), 0, "{id} was said to have no effect");
                }
                Some(Outcome::Unknown(_)) => assert!(times(id) <= 1, "{id}"),
                other => panic!("{id}: {other:?}"),
            }
        }
        for &(id, floor) in &self.reads {
            match self.cluster.answers.of(id) {
                Some(Outcome::Read(count)) => assert!(count >= floor, "{id}: {count} < {floor}"),
                Some(Outcome::Refused(_)) => {}
                other => panic!("{id}: {other:?}"),
            }
        }
    }
}

#[test]
fn whatever_happens_answers_are_true() {
    let (mut acknowledged, mut power_cuts) = (0, 0);
    for seed in 0..400 {
        let run = || {
            let mut world = World::new(seed);
            (0..6000).for_each(|_| world.step());
            world.finish()
        };
        let result = std::panic::catch_unwind(run);
        let (more, cuts) = result.unwrap_or_else(|_| panic!("seed {seed}"));
        acknowledged += more;
        power_cuts += cuts;
    }
    assert!(acknowledged > 3000, "only {acknowledged} commands came through");
    assert!(power_cuts > 300, "only {power_cuts} power cuts");
}
