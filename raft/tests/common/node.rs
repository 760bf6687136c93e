//! A server with its disk and its state machine.
//!
//! By default everything is done at once: [`Node::settle`] writes, syncs, reports and applies until
//! nothing is left, and gives the messages that may leave. With `hold_writes` or `hold_applies` the
//! work is queued, and a scenario says when each piece is done.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{
    Apply, Body, ConfChangeError, ConfState, Config, Entry, EntryKind, Index, LogId, MemStorage,
    Message, NodeId, Progress, RawNode, ReadState, Ready, RoleKind, Snapshot, SnapshotMeta,
    StepError, Term, Write,
};

use super::build::{grant, id};

pub struct Node {
    pub raw: RawNode,
    pub storage: MemStorage,
    pub config: Config,
    /// What the state machine has done, by index; a snapshot stands for all before it.
    pub applied: BTreeMap<Index, (Term, Entry)>,
    pub last_applied: LogId,
    /// A digest of everything applied, the same on all servers that have applied the same.
    pub digest: u64,
    /// The digest after each index, to make snapshots of.
    digests: BTreeMap<Index, u64>,
    pub conf_states: BTreeMap<Index, ConfState>,
    pub refusals: Vec<ConfChangeError>,
    pub reads: Vec<ReadState>,
    pub hold_writes: bool,
    pub hold_applies: bool,
    pub writes: VecDeque<Write>,
    pub applies: VecDeque<Apply>,
}

/// One more entry in a digest: FNV over its position and its payload.
fn digest(before: u64, at: LogId, entry: &Entry) -> u64 {
    let numbers = at.term.to_le_bytes().into_iter().chain(at.index.to_le_bytes());
    numbers.chain(entry.data.iter().copied()).fold(before ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Node {
    pub fn start(config: Config, storage: MemStorage) -> Node {
        let raw = RawNode::new(config.clone(), Box::new(storage.clone())).expect("a good start");
        let mut node = Node {
            raw,
            storage,
            config,
            applied: BTreeMap::new(),
            last_applied: LogId::ZERO,
            digest: 0,
            digests: BTreeMap::new(),
            conf_states: BTreeMap::new(),
            refusals: Vec::new(),
            reads: Vec::new(),
            hold_writes: false,
            hold_applies: false,
            writes: VecDeque::new(),
            applies: VecDeque::new(),
        };
        node.load();
        node
    }

    /// The state machine as the snapshot on disk has it.
    fn load(&mut self) {
        let conf_state = self.raw.membership().conf_state();
        let compacted = self.storage.compacted();
        let on_disk = raft::Storage::snapshot(&self.storage);
        let data = on_disk.map(|s| s.data).unwrap_or_default();
        self.install(compacted, conf_state, &data);
    }

    fn install(&mut self, last: LogId, conf_state: ConfState, data: &Bytes) {
        let digest =
            data.get(..8).and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_le_bytes);
        self.digest = digest;
        self.digests.insert(last.index, digest);
        self.last_applied = last;
        self.applied.clear();
        self.conf_states.insert(last.index, conf_state);
    }

    /// Power is cut: what was not synced is gone, and so is the state machine. Then it starts
    /// again.
    pub fn restart(&mut self) {
        self.writes.clear();
        self.applies.clear();
        self.reads.clear();
        let storage = Box::new(self.storage.clone());
        self.raw = RawNode::new(self.config.clone(), storage).expect("what is on disk is good");
        self.load();
    }

    // ---- Inputs ----

    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        self.raw.step(message)
    }

    /// A message that must be taken.
    pub fn take(&mut self, message: Message) {
        self.raw.step(message).expect("a message in order");
    }

    /// A message that must be taken; what it leads to.
    pub fn ask(&mut self, message: Message) -> Vec<Message> {
        self.take(message);
        self.settle()
    }

    /// So many ticks; what they lead to.
    pub fn tick(&mut self, ticks: u32) -> Vec<Message> {
        let mut messages = Vec::new();
        for _ in 0..ticks {
            self.raw.tick();
            messages.extend(self.settle());
        }
        messages
    }

    /// Campaigns, and everybody votes for it.
    pub fn win(&mut self) {
        self.stand();
        let (me, term) = (self.raw.id().get(), self.raw.term());
        let pre = self.raw.role() == RoleKind::PreCandidate;
        assert!(!pre, "with pre-vote, let the network do it");
        let voters: Vec<NodeId> = self.raw.membership().voters.voters().collect();
        for voter in voters.into_iter().filter(|voter| voter.get() != me) {
            self.take(grant(voter.get(), me, term, true));
            self.settle();
        }
        assert_eq!(self.raw.role(), RoleKind::Leader);
    }

    /// Campaigns; its requests get lost.
    pub fn stand(&mut self) -> Vec<Message> {
        self.raw.campaign();
        self.settle()
    }

    // ---- Output ----

    /// Does all there is to do, until nothing is left.
    pub fn settle(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while self.raw.has_ready() {
            let ready = self.raw.ready();
            messages.extend(self.work(ready));
        }
        messages
    }

    /// Does, or queues, what a `Ready` holds; the messages that may leave.
    pub fn work(&mut self, ready: Ready) -> Vec<Message> {
        let Ready { mut messages, write, apply, reads, .. } = ready;
        self.reads.extend(reads);
        if let Some(write) = write {
            self.writes.push_back(write);
            if !self.hold_writes {
                messages.extend(self.persist());
            }
        }
        if let Some(apply) = apply {
            self.applies.push_back(apply);
            if !self.hold_applies {
                self.apply();
            }
        }
        messages
    }

    /// The oldest write that is held reaches the disk; the promises that rest on it.
    pub fn persist(&mut self) -> Vec<Message> {
        let Some(mut write) = self.writes.pop_front() else { return Vec::new() };
        self.storage.write(&mut write).expect("a snapshot is newer than what is stored");
        if let Some(snapshot) = write.snapshot() {
            let meta = &snapshot.meta;
            self.install(meta.last, meta.conf_state.clone(), &snapshot.data);
        }
        self.raw.persisted(write.synced())
    }

    /// Everything that is held reaches the disk, and what comes of it; the promises.
    pub fn persist_all(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            while !self.writes.is_empty() {
                messages.extend(self.persist());
            }
            messages.extend(self.settle());
            if self.writes.is_empty() {
                return messages;
            }
        }
    }

    /// The oldest entries that are held are applied.
    pub fn apply(&mut self) {
        let Some(apply) = self.applies.pop_front() else { return };
        for e in apply.entries().iter() {
            // Overtaken by a snapshot.
            if e.id.index <= self.last_applied.index {
                continue;
            }
            assert_eq!(e.id.index, self.last_applied.index + 1, "applied in order, without a gap");
            self.digest = digest(self.digest, e.id, e.entry);
            self.digests.insert(e.id.index, self.digest);
            self.applied.insert(e.id.index, (e.id.term, e.entry.clone()));
            self.last_applied = e.id;
        }
        let last = apply.entries().last().expect("an apply is not empty").index;
        match self.raw.applied(apply.done()) {
            Ok(None) => {}
            Ok(Some(conf_state)) => {
                self.conf_states.insert(last, conf_state);
            }
            Err(e) => self.refusals.push(e),
        }
    }

    pub fn apply_all(&mut self) {
        while !self.applies.is_empty() {
            self.apply();
        }
    }

    /// Takes a snapshot of the state machine as of `to` and drops the log before it.
    pub fn compact(&mut self, to: Index) {
        let (_, conf_state) = self.conf_states.range(..=to).next_back().expect("since the start");
        let term = self.raw.term_at(to).expect("in the log");
        let digest = self.digests.get(&to).expect("applied");
        let meta = SnapshotMeta { last: LogId::new(term, to), conf_state: conf_state.clone() };
        let data = Bytes::copy_from_slice(&digest.to_le_bytes());
        self.storage.set_snapshot(Snapshot { meta, data });
        self.storage.compact(to).expect("in the log");
        self.raw.compact(to).expect("applied");
    }

    // ---- Questions ----

    pub fn progress(&self, of: u64) -> Progress {
        let status = self.raw.status();
        let found = status.progress.iter().find(|(member, _)| *member == id(of));
        found.expect("a member, known to the leader").1.clone()
    }

    /// The terms of its whole log after what is compacted.
    pub fn terms(&self) -> Vec<Term> {
        let first = self.raw.compacted().index + 1;
        (first..=self.raw.last().index).map(|i| self.raw.term_at(i).expect("no gap")).collect()
    }

    /// What was applied, without the entries that say nothing.
    pub fn said(&self) -> Vec<String> {
        let said = self.applied.values().filter(|(_, entry)| entry.kind == EntryKind::Normal);
        let said = said.map(|(_, entry)| String::from_utf8_lossy(&entry.data).into_owned());
        said.filter(|text| !text.is_empty()).collect()
    }
}

/// The messages of one kind among `messages`.
pub fn of_kind(messages: &[Message], kind: super::Kind) -> Vec<Message> {
    messages.iter().filter(|m| super::Kind::of(&m.body) == kind).cloned().collect()
}

/// The bodies of the messages to `to`.
pub fn bodies_to(messages: &[Message], to: u64) -> Vec<Body> {
    messages.iter().filter(|m| m.to == id(to)).map(|m| m.body.clone()).collect()
}
