//! A server under fire: its disk, its state machine, and what may never change about it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use raft::{
    Apply, Config, Entries, HardState, Index, InitialState, LogId, MemStorage, Message, NodeId,
    RawNode, Ready, Snapshot, SnapshotMeta, Storage, StorageError, Terms, Write, Written,
};

/// A log in memory that can be made to fail when it is read.
#[derive(Clone, Debug)]
struct Disk {
    log: MemStorage,
    fails: Arc<AtomicBool>,
}

impl Disk {
    fn read(&self) -> Result<&MemStorage, StorageError> {
        let fails = self.fails.load(Ordering::Relaxed);
        if fails {
            Err(StorageError::Other("the disk does not answer".into()))
        } else {
            Ok(&self.log)
        }
    }
}

impl Storage for Disk {
    fn initial_state(&self) -> Result<InitialState, StorageError> {
        self.log.initial_state()
    }

    fn entries(&self, range: Range<Index>, bytes_max: u64) -> Result<Entries, StorageError> {
        self.read()?.entries(range, bytes_max)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.read()?.snapshot()
    }
}

/// A server, with what it was handed and has not been told of.
pub(super) struct Host {
    pub(super) raw: RawNode,
    config: Config,
    disk: Disk,
    writes: VecDeque<Write>,
    /// On disk, not yet reported.
    written: Vec<Written>,
    applies: VecDeque<Apply>,
    /// As of the last look.
    seen: HardState,
    applied: Index,
    /// Some of what was committed.
    committed: VecDeque<LogId>,
}

impl Host {
    pub(super) fn new(config: Config, log: MemStorage) -> Result<Host, String> {
        let disk = Disk { log, fails: Arc::default() };
        let raw =
            RawNode::new(config.clone(), Box::new(disk.clone())).map_err(|e| e.to_string())?;
        Ok(Host {
            seen: raw.hard_state(),
            applied: raw.applied_index(),
            raw,
            config,
            disk,
            writes: VecDeque::new(),
            written: Vec::new(),
            applies: VecDeque::new(),
            committed: VecDeque::new(),
        })
    }

    pub(super) fn id(&self) -> NodeId {
        self.raw.id()
    }

    /// From now on reads of the disk fail, or no longer do.
    pub(super) fn set_disk_fails(&self, fails: bool) {
        self.disk.fails.store(fails, Ordering::Relaxed);
    }

    /// Power is cut, and comes back.
    ///
    /// # Errors
    /// If the server cannot start with what it wrote itself.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let on_disk = self.disk.log.hard_state();
        *self = Host::new(self.config.clone(), self.disk.log.clone())
            .map_err(|e| format!("a server cannot start with its own disk: {e}"))?;
        if (self.seen.term, self.seen.vote) != (on_disk.term, on_disk.vote) {
            return Err("term and vote are not those on disk".into());
        }
        Ok(())
    }

    // ---- Output ----

    /// Takes what there is to do; gives what may be sent.
    pub(super) fn ready(&mut self) -> Vec<Message> {
        let Ready { messages, write, apply, .. } = self.raw.ready();
        self.writes.extend(write);
        self.applies.extend(apply);
        messages
    }

    /// The oldest write reaches the disk.
    pub(super) fn write(&mut self) {
        let Some(write) = self.writes.pop_front() else { return };
        if let Some(snapshot) = write.snapshot() {
            // A snapshot of its own may have come first.
            let _ = self.disk.log.apply_snapshot(snapshot.clone());
        }
        self.disk.log.append(write.entries());
        if let Some(hard_state) = write.hard_state() {
            self.disk.log.set_hard_state(hard_state);
        }
        self.written.push(write.synced());
    }

    /// One of the writes on disk is reported, in any order; gives the promises.
    pub(super) fn report(&mut self, which: usize) -> Vec<Message> {
        if self.written.is_empty() {
            return Vec::new();
        }
        let written = self.written.swap_remove(which % self.written.len());
        self.raw.persisted(written)
    }

    /// The oldest entries are applied; membership changes perhaps ahead, or refused.
    pub(super) fn apply(&mut self, ahead: bool, refuse: bool) {
        let Some(mut apply) = self.applies.pop_front() else { return };
        if refuse && let Some(first) = apply.entries().first() {
            apply.refuse(first);
        }
        if ahead {
            // An error is a change that cannot be made.
            let _ = self.raw.apply_conf_change(&mut apply);
        }
        let _ = self.raw.applied(apply.done());
    }

    /// Drops the log up to `to`, and on disk, too, if it has that entry: with a state machine that
    /// is ahead of the log there may still be another.
    pub(super) fn compact(&mut self, to: Index) {
        let Ok(last) = self.raw.compact(to) else { return };
        let log = &self.disk.log;
        if last.index == self.raw.applied_index() && self.has_on_disk(last) {
            let meta = SnapshotMeta { last, conf_state: self.raw.membership().conf_state() };
            log.set_snapshot(Snapshot { meta, data: bytes::Bytes::new() });
            // Refused if it is compacted so far already.
            let _ = log.compact(last.index);
        }
    }

    fn has_on_disk(&self, id: LogId) -> bool {
        let Ok(InitialState { compacted, terms, last, .. }) = self.disk.log.initial_state() else {
            return false;
        };
        Terms::from_runs(compacted, &terms, last).is_some_and(|terms| terms.matches(id))
    }

    // ---- What may never change ----

    /// After anything has happened to it.
    ///
    /// # Errors
    /// With what changed that may not.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let (before, now) = (self.seen, self.raw.hard_state());
        let wrong = |what: &str| Err(format!("{what}: {before:?}, then {now:?}"));
        if now.term < before.term {
            return wrong("the term falls");
        }
        if now.term == before.term && before.vote.is_some() && now.vote != before.vote {
            return wrong("a second vote in a term");
        }
        if now.commit < before.commit || self.raw.applied_index() < self.applied {
            return wrong("the commit index or the applied index falls");
        }
        let (applied, last) = (self.raw.applied_index(), self.raw.last().index);
        if applied > now.commit || now.commit > last || self.raw.compacted().index > now.commit {
            return wrong("applied ≤ commit ≤ last, compacted ≤ commit");
        }
        for id in &self.committed {
            if self.raw.term_at(id.index).is_some_and(|term| term != id.term) {
                return wrong(&format!("{id} was committed and is replaced"));
            }
        }
        if now.commit > before.commit
            && let Some(term) = self.raw.term_at(now.commit)
        {
            self.committed.truncate(7);
            self.committed.push_front(LogId::new(term, now.commit));
        }
        (self.seen, self.applied) = (now, applied);
        Ok(())
    }

    /// What a leader thinks of the others is possible.
    ///
    /// # Errors
    /// With what is not.
    pub(super) fn check_progress(&self) -> Result<(), String> {
        let last = self.raw.last().index;
        for (id, pr) in self.raw.status().progress {
            if pr.matched >= pr.next || pr.matched > last {
                return Err(format!("{id}: match {} next {} last {last}", pr.matched, pr.next));
            }
        }
        Ok(())
    }
}
