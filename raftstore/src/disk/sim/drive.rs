//! The state of a simulated drive: files with the contents their sectors had since the last sync,
//! names and what is pending of them, and what a crash makes of both.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Fate, Fault, Moment, Operation, SimDisk, Unsynced};
use crate::disk::SECTOR_BYTES;

type Sector = [u8; SECTOR_BYTES];

/// All sectors of a file.
pub(super) const ALL: Range<usize> = 0..usize::MAX;

#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What a reader sees.
    pub(super) cache: Vec<u8>,
    /// What a power failure cannot take.
    pub(super) disk: Vec<u8>,
    /// The contents of unsynced sectors since the last sync, oldest first.
    pub(super) dirty: BTreeMap<usize, Vec<Sector>>,
    /// What synced sectors had on the disk before, for drives that lose a write.
    pub(super) before: BTreeMap<usize, Sector>,
    /// Sectors that cannot be read until somebody writes them.
    pub(super) unreadable: BTreeSet<usize>,
    /// Whether a failed sync left clean sectors that are not on the disk.
    is_doubtful: bool,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Add { name: String, inode: u64 },
    Move { from: String, to: String, inode: u64 },
    Remove { name: String },
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) rng: fastrand::Rng,
    pub(super) inodes: BTreeMap<u64, Arc<Inode>>,
    pub(super) next_inode: u64,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) synced_names: BTreeMap<String, u64>,
    pub(super) pending: Vec<NameChange>,
    /// Counts mounts: handles of an older one are dead.
    pub(super) epoch: u64,
    pub(super) operations: u64,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) powerless: bool,
    /// A sync has failed since it was mounted.
    pub(super) sync_failed: bool,
    pub(super) capacity: Option<u64>,
    pub(super) owner: Option<String>,
    /// Whether log files are written past the cache.
    pub(super) is_direct: bool,
    pub(super) moments: Option<Vec<Moment>>,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            rng: fastrand::Rng::with_seed(seed),
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            pending: Vec::new(),
            epoch: 0,
            operations: 0,
            faults: BTreeMap::new(),
            powerless: false,
            sync_failed: false,
            capacity: None,
            owner: None,
            is_direct: false,
            moments: None,
        }
    }

    /// An independent copy, without what was recorded.
    pub(super) fn fork(&mut self) -> SimDisk {
        let moments = self.moments.take();
        let copy = self.clone();
        self.moments = moments;
        SimDisk { state: Arc::new(Mutex::new(copy)) }
    }

    /// Starts an operation: counts it, and says what it is to do instead of succeeding.
    pub(super) fn begin(
        &mut self,
        epoch: u64,
        operation: Operation,
        file: &str,
    ) -> io::Result<Option<Fault>> {
        self.check(epoch)?;
        if self.moments.is_some() {
            let moment = Moment { operation, file: file.to_owned(), disk: self.fork() };
            self.moments.get_or_insert_default().push(moment);
        }
        let fault = self.faults.remove(&self.operations);
        self.operations += 1;
        if fault == Some(Fault::PowerCut) {
            self.powerless = true;
            return self.check(epoch).map(|()| None);
        }
        self.sync_failed |= fault.is_some() && operation == Operation::Sync;
        Ok(fault)
    }

    pub(super) fn check(&self, epoch: u64) -> io::Result<()> {
        if self.powerless {
            return Err(io::Error::other("the power failed"));
        }
        if self.epoch != epoch {
            return Err(io::Error::other("the disk was unmounted by a crash"));
        }
        Ok(())
    }

    /// As [`State::begin`], for operations that happen wholly or not at all.
    pub(super) fn begin_whole(
        &mut self,
        epoch: u64,
        operation: Operation,
        file: &str,
    ) -> io::Result<()> {
        self.begin(epoch, operation, file)?.map_or(Ok(()), |fault| Err(error(fault)))
    }

    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&mut self, inode: u64) -> &mut Inode {
        Arc::make_mut(self.inodes.entry(inode).or_default())
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].cache.len() as u64).sum()
    }

    pub(super) fn reserve(&self, bytes: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + bytes > capacity => Err(error(Fault::Full)),
            _ => Ok(()),
        }
    }

    pub(super) fn create(&mut self, name: &str, len: u64) -> io::Result<u64> {
        if self.names.remove(name).is_some() {
            self.pending.push(NameChange::Remove { name: name.to_owned() });
        }
        self.reserve(len)?;
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inode(inode).cache = vec![0; len as usize];
        self.names.insert(name.to_owned(), inode);
        self.pending.push(NameChange::Add { name: name.to_owned(), inode });
        Ok(inode)
    }

    pub(super) fn write(
        &mut self,
        epoch: u64,
        inode: u64,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let name = self.name_of(inode);
        let fault = self.begin(epoch, Operation::Write, &name)?;
        let len = match fault {
            None => bytes.len(),
            Some(Fault::Error) => self.rng.usize(..=bytes.len()),
            Some(fault) => return Err(error(fault)),
        };
        let grown = (offset + len as u64).saturating_sub(self.inodes[&inode].cache.len() as u64);
        self.reserve(grown)?;
        self.inode(inode).write(offset as usize, &bytes[..len]);
        fault.map_or(Ok(()), |fault| Err(error(fault)))
    }

    /// Makes sectors of a file durable, as they are now.
    pub(super) fn sync(&mut self, epoch: u64, inode: u64, sectors: Range<usize>) -> io::Result<()> {
        let name = self.name_of(inode);
        match self.begin(epoch, Operation::Sync, &name)? {
            None => {
                self.inode(inode).sync(&sectors);
                Ok(())
            }
            Some(Fault::Full) => Err(error(Fault::Full)),
            Some(fault) => {
                let mut rng = self.rng.fork();
                self.inode(inode).sync_in_part(&sectors, &mut rng);
                Err(error(fault))
            }
        }
    }

    pub(super) fn name_of(&self, inode: u64) -> String {
        let found = self.names.iter().find(|(_, i)| **i == inode);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    pub(super) fn lose_power(&mut self, decide: &mut dyn FnMut(&Unsynced<'_>) -> Fate) {
        let ids: Vec<u64> = self.inodes.keys().copied().collect();
        for id in ids {
            // (Most are clean, and shared with the drives that this one was forked from.)
            if self.inodes[&id].is_clean() {
                continue;
            }
            let name = self.name_of(id);
            let mut rng = self.rng.fork();
            self.inode(id).lose_power(&name, &mut rng, decide);
        }
        for change in std::mem::take(&mut self.pending) {
            if let Fate::Kept(_) = decide(&Unsynced::Name { name: change.name() }) {
                change.apply(&mut self.synced_names);
            }
        }
        self.names = self.synced_names.clone();
    }

    pub(super) fn unmount(&mut self) {
        self.epoch += 1;
        self.owner = None;
        self.powerless = false;
        self.sync_failed = false;
        let live = [&self.names, &self.synced_names];
        let mut live: Vec<u64> = live.iter().flat_map(|names| names.values().copied()).collect();
        // A power failure may keep a name and lose its removal.
        live.extend(self.pending.iter().filter_map(NameChange::inode));
        self.inodes.retain(|inode, _| live.contains(inode));
    }
}

impl NameChange {
    pub(super) fn name(&self) -> &str {
        match self {
            NameChange::Add { name, .. } | NameChange::Remove { name } => name,
            NameChange::Move { to, .. } => to,
        }
    }

    fn inode(&self) -> Option<u64> {
        match self {
            NameChange::Add { inode, .. } | NameChange::Move { inode, .. } => Some(*inode),
            NameChange::Remove { .. } => None,
        }
    }

    pub(super) fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Add { name, inode } => {
                names.insert(name, inode);
            }
            NameChange::Move { from, to, inode } => {
                names.remove(&from);
                names.insert(to, inode);
            }
            NameChange::Remove { name } => {
                names.remove(&name);
            }
        }
    }
}

impl Inode {
    /// Whether a power failure has nothing to decide about.
    fn is_clean(&self) -> bool {
        self.dirty.is_empty() && !self.is_doubtful && self.disk.len() == self.cache.len()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        if bytes.is_empty() {
            return;
        }
        for sector in offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let content = sector_of(&self.cache, sector);
            self.unreadable.remove(&sector);
            self.dirty.entry(sector).or_default().push(content);
        }
    }

    pub(super) fn sync(&mut self, sectors: &Range<usize>) {
        self.disk.resize(self.cache.len(), 0);
        for (sector, versions) in self.take_dirty(sectors) {
            if let Some(last) = versions.last() {
                self.before.insert(sector, sector_of(&self.disk, sector));
                put_sector(&mut self.disk, sector, last);
            }
        }
    }

    /// The unsynced sectors in that range, which are clean now.
    fn take_dirty(&mut self, sectors: &Range<usize>) -> BTreeMap<usize, Vec<Sector>> {
        let mut taken = self.dirty.split_off(&sectors.start);
        self.dirty.append(&mut taken.split_off(&sectors.end));
        taken
    }

    /// The sync that fails: each page is written or not, and all are clean afterwards.
    pub(super) fn sync_in_part(&mut self, sectors: &Range<usize>, rng: &mut fastrand::Rng) {
        self.is_doubtful = true;
        if rng.bool() {
            self.disk.resize(self.cache.len(), 0);
        }
        for (sector, versions) in self.take_dirty(sectors) {
            if let Some(kept) = rng.usize(..=versions.len()).checked_sub(1) {
                put_sector(&mut self.disk, sector, &versions[kept]);
            }
        }
    }

    pub(super) fn lose_power(
        &mut self,
        file: &str,
        rng: &mut fastrand::Rng,
        decide: &mut dyn FnMut(&Unsynced<'_>) -> Fate,
    ) {
        if self.disk.len() != self.cache.len()
            && let Fate::Kept(_) = decide(&Unsynced::Length { file })
        {
            self.disk.resize(self.cache.len(), 0);
        }
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let count = versions.len();
            let asked = Unsynced::Sector { file, sector, versions: count };
            let content = match decide(&asked) {
                Fate::Lost => continue,
                Fate::Kept(n) => versions[n.min(count - 1)],
                Fate::Torn => tear(&sector_of(&self.disk, sector), &versions[count - 1], rng),
            };
            put_sector(&mut self.disk, sector, &content);
        }
        self.cache = self.disk.clone();
        self.is_doubtful = false;
    }
}

/// Whether none of those bytes is in an unreadable sector.
pub(super) fn is_readable(unreadable: &BTreeSet<usize>, bytes: &Range<u64>) -> bool {
    let first = bytes.start as usize / SECTOR_BYTES;
    let next = unreadable.range(first..).next();
    next.is_none_or(|&sector| (sector * SECTOR_BYTES) as u64 >= bytes.end)
}

/// The sector with that number, zeros where there is nothing.
fn sector_of(content: &[u8], sector: usize) -> Sector {
    let mut out = [0; SECTOR_BYTES];
    let start = (sector * SECTOR_BYTES).min(content.len());
    let end = (start + SECTOR_BYTES).min(content.len());
    out[..end - start].copy_from_slice(&content[start..end]);
    out
}

/// Stores a sector, as far as the file reaches.
fn put_sector(content: &mut [u8], sector: usize, from: &Sector) {
    let start = (sector * SECTOR_BYTES).min(content.len());
    let end = (start + SECTOR_BYTES).min(content.len());
    content[start..end].copy_from_slice(&from[..end - start]);
}

/// A sector whose write was cut off: new up to a point, then old or random. What comes before the
/// first byte that changes is safe (see [`crate::disk`]).
fn tear(old: &Sector, new: &Sector, rng: &mut fastrand::Rng) -> Sector {
    let mut out = *new;
    let changed = old.iter().zip(new).position(|(old, new)| old != new);
    let at = rng.usize(changed.unwrap_or(SECTOR_BYTES - 1)..SECTOR_BYTES);
    if rng.bool() {
        out[at..].copy_from_slice(&old[at..]);
    } else {
        rng.fill(&mut out[at..]);
    }
    out
}

pub(super) fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Full => io::ErrorKind::StorageFull.into(),
        Fault::Error | Fault::PowerCut => io::Error::other("simulated failure"),
    }
}
