//! Stores over simulated disks, and the loop that drives them.

use super::*;

/// What survives a restart.
pub(super) struct Disk {
    pub(super) drive: SimDisk,
    pub(super) checkpoint: ToyCheckpoint,
    /// Bytes of log between checkpoints.
    pub(super) checkpoint_bytes: u64,
}

impl Disk {
    pub(super) fn new(id: StoreId) -> Disk {
        let checkpoint = ToyCheckpoint::default();
        Disk { drive: SimDisk::new(id.0), checkpoint, checkpoint_bytes: 0 }
    }

    pub(super) fn open(&self, id: StoreId) -> (Wal, Recovered) {
        open_wal(&self.drive, id)
    }

    /// What a restart would find in the log of `R1`.
    pub(super) fn log(&self) -> GroupLog {
        let (_, recovered) = open_wal(&self.drive.fork(), S1);
        recovered.groups[&R1].clone()
    }

    pub(super) fn fork(&self) -> Disk {
        let checkpoint = Mutex::new(self.checkpoint.lock().clone());
        Disk { drive: self.drive.fork(), checkpoint: Arc::new(checkpoint), ..*self }
    }
}

pub(super) fn open_wal(drive: &SimDisk, _id: StoreId) -> (Wal, Recovered) {
    // One identity for all, so that any disk can be looked at.
    let identity = Identity { store: S1, cluster: ClusterId(1), generation: 1 };
    let options = WalOptions { segment_bytes: 16 << 10 };
    Wal::open(drive.mount(), &identity, options).expect("opens")
}

pub(super) struct Node {
    pub(super) store: Store<Toy>,
    pub(super) applier: Applier<Toy>,
    pub(super) ready: Ready<Toy>,
    pub(super) disk: Disk,
    pub(super) wal: Wal,
    /// Handed out and not yet reported, while `is_disk_slow`.
    pub(super) unsynced: VecDeque<Batch>,
    pub(super) is_disk_slow: bool,
    pub(super) roles: Vec<String>,
}

impl Node {
    pub(super) fn open(
        id: StoreId,
        disk: Disk,
        set: impl FnOnce(&mut StoreConfig),
    ) -> Result<Node, StartError> {
        let mut config = StoreConfig::new(id);
        set(&mut config);
        let (wal, recovered) = disk.open(id);
        let machine = Toy::open(&disk.checkpoint, disk.checkpoint_bytes);
        let storage = storage_of(wal.reader());
        let (store, applier) =
            start(config, machine, Region::first(&STORES), &recovered.groups, storage)?;
        Ok(Node {
            store,
            applier,
            ready: Ready::default(),
            disk,
            wal,
            unsynced: VecDeque::new(),
            is_disk_slow: false,
            roles: Vec::new(),
        })
    }

    /// One round of the loop. Returns the messages that leave.
    pub(super) fn round(&mut self) -> Vec<(StoreId, PeerMessage)> {
        self.store.ready(&mut self.ready);
        let messages = self.ready.messages.drain();
        let messages = messages.flat_map(|(to, list)| list.into_iter().map(move |m| (to, m)));
        let messages: Vec<_> = messages.collect();
        self.roles.extend(self.ready.roles.drain(..).map(|change| change.to_string()));
        self.unsynced.extend(self.ready.batch.take());
        if !self.is_disk_slow {
            self.sync();
        }
        let mut reports = Vec::new();
        for task in self.ready.tasks.drain(..) {
            self.applier.run(task, &mut reports);
        }
        reports.into_iter().for_each(|report| self.store.applied(report));
        messages
    }

    pub(super) fn sync(&mut self) {
        for batch in &self.unsynced {
            self.wal.append(&batch.records()).expect("the disk works");
        }
        if self.unsynced.iter().any(Batch::must_sync) {
            self.wal.sync().expect("the disk works");
        }
        for batch in self.unsynced.drain(..) {
            self.store.persisted(batch.synced());
        }
        while self.wal.collect().expect("the disk works") {}
    }

    pub(super) fn commands(&self) -> Vec<String> {
        let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
        self.applier.machine().commands(R1).iter().map(text).collect()
    }

    pub(super) fn stop(mut self) -> Disk {
        self.store.shut_down();
        self.applier.shut_down();
        self.disk
    }
}

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<StoreId, Node>,
    pub(super) wire: VecDeque<(StoreId, StoreId, PeerMessage)>,
    pub(super) cut: BTreeSet<StoreId>,
    pub(super) answers: Answers,
    pub(super) asked: u64,
    pub(super) sent: usize,
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        Cluster::with(|_| {})
    }

    pub(super) fn with(set: impl Fn(&mut StoreConfig)) -> Cluster {
        let open = |&id: &StoreId| (id, Node::open(id, Disk::new(id), &set).expect("new"));
        Cluster {
            nodes: STORES.iter().map(open).collect(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            answers: Answers::default(),
            asked: 0,
            sent: 0,
        }
    }

    /// With S1 leading and everything settled.
    pub(super) fn led_by_s1(set: impl Fn(&mut StoreConfig)) -> Cluster {
        let mut cluster = Cluster::with(set);
        cluster[S1].store.campaign(R1);
        cluster.settle();
        assert_eq!(cluster[S1].store.status(R1).expect("there").role, RoleKind::Leader);
        cluster.tick(2);
        cluster
    }

    /// Rounds and deliveries until nothing moves.
    pub(super) fn settle(&mut self) {
        loop {
            let mut moved = false;
            for (&id, node) in &mut self.nodes {
                while node.store.has_ready() {
                    moved = true;
                    let messages = node.round();
                    self.sent += messages.len();
                    self.wire.extend(messages.into_iter().map(|(to, m)| (id, to, m)));
                }
            }
            while let Some((from, to, message)) = self.wire.pop_front() {
                moved = true;
                if self.cut.contains(&from) || self.cut.contains(&to) {
                    continue;
                }
                if let Some(node) = self.nodes.get_mut(&to) {
                    node.store.step(from, message);
                }
            }
            if !moved {
                break;
            }
        }
        for node in self.nodes.values() {
            let raw = node.store.raw(R1).expect("there");
            assert!(!raw.has_ready(), "no group is forgotten with something to hand out (P11)");
        }
    }

    pub(super) fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for node in self.nodes.values_mut() {
                node.store.tick();
                let mut reports = Vec::new();
                node.applier.tick(node.wal.written_bytes(), &mut reports);
                reports.into_iter().for_each(|report| node.store.applied(report));
            }
            self.settle();
        }
    }

    pub(super) fn propose(&mut self, to: StoreId, body: &str) -> u64 {
        self.asked += 1;
        let data = command::encode(R1, EPOCH, CommandKind::Application, body.as_bytes());
        let asker = self.answers.asker(self.asked);
        self[to].store.propose(R1, EPOCH, data, asker);
        self.asked
    }

    pub(super) fn read(&mut self, from: StoreId) -> u64 {
        self.asked += 1;
        let asker = self.answers.asker(self.asked);
        self[from].store.read(R1, asker);
        self.asked
    }

    pub(super) fn is_applied(&self, id: u64) -> bool {
        matches!(self.answers.of(id), Some(Outcome::Applied(_)))
    }

    pub(super) fn leader(&self) -> Option<StoreId> {
        let mut statuses =
            self.nodes.iter().map(|(id, n)| (*id, n.store.status(R1).expect("there")));
        let leads = |s: &(StoreId, RegionStatus)| s.1.role == RoleKind::Leader;
        statuses.find(|s| leads(s) && !self.cut.contains(&s.0)).map(|(id, _)| id)
    }

    /// Takes the power from a store, and starts it again with nothing but what was synced.
    pub(super) fn restart(&mut self, id: StoreId) {
        let disk = self.nodes.remove(&id).expect("running").stop();
        disk.drive.lose_power(&mut |_| Fate::Lost);
        let node = Node::open(id, disk, |config| config.incarnation = 1).expect("restarts");
        self.nodes.insert(id, node);
    }

    pub(super) fn finish(mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.stop();
        }
        assert_eq!(self.answers.len() as u64, self.asked, "each asker is answered exactly once");
    }
}

impl std::ops::Index<StoreId> for Cluster {
    type Output = Node;

    fn index(&self, id: StoreId) -> &Node {
        &self.nodes[&id]
    }
}

impl std::ops::IndexMut<StoreId> for Cluster {
    fn index_mut(&mut self, id: StoreId) -> &mut Node {
        self.nodes.get_mut(&id).expect("running")
    }
}
