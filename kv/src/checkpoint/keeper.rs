//! When a checkpoint is written, which are kept, and which one a store starts from.
//!
//! A checkpoint is due when entries applied, or the log itself, have grown by [`CheckpointOptions::log_bytes_min`] and by a share
//! of what the state takes, so that a large state is not written again for every few changes. It is
//! written from a snapshot, on a thread of its own: meanwhile applying goes on, and pays only for
//! copying the nodes that it changes for the first time.
//!
//! **What the log may forget** is decided by [`Keeper::durable`]: nothing before a checkpoint of *this*
//! process has been synced under its name. That of an earlier process may have its name in the
//! kernel's memory only, after a sync of the directory that failed, and no sync of ours would tell.
//! Until then the log forgets no more than it had forgotten at the start.
//!
//! **Received snapshots** are part of the durable state until a checkpoint has what they have: when
//! the log of a region begins where a snapshot ends, and the checkpoint is older, the state of that
//! region is the snapshot's ([`raftstore::snapshot`]). The file goes with the first checkpoint that
//! reaches as far; one that nothing rests on goes at the start.
//!
//! **Two are kept.** If the newer turns out to be damaged, a store starts from the older one, if the log
//! still has all entries after it; if not, it does not start: it must not lose what it acknowledged.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use raft::{Index, LogId};
use raftstore::RegionId;
use raftstore::disk::Disk;
use raftstore::snapshot::FileName;

use super::recover::load;
use super::{WriteError, name, number};
use crate::blocks::ReadError;
use crate::engine::{Engine, MemEngine, MemSnapshot, Read, RegionState};
use crate::snapshot_file;

/// How many are kept.
const KEPT: usize = 2;

/// After a checkpoint could not be written, the next is tried after so many calls of
/// [`Keeper::maintain`], doubled each time up to the second number.
const RETRY_CALLS: u32 = 64;
const RETRY_CALLS_MAX: u32 = 4096;

/// Where checkpoints are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// On a thread of their own.
    #[default]
    Thread,
    /// At once, by whoever calls `maintain`: for simulations, which have one thread.
    Inline,
}

/// When checkpoints are written.
///
/// ```
/// use std::sync::Arc;
/// use kv::{Background, CheckpointOptions, KvMachine, OpenError};
/// use raftstore::disk::{DirDisk, Route};
///
/// let dir = tempfile::tempdir()?;
/// let disk = Arc::new(DirDisk::open(dir.path(), Route::default())?);
/// let often = CheckpointOptions { log_bytes_min: 1 << 20, ..CheckpointOptions::default() };
/// assert_eq!(often.background, Background::Thread);
/// match KvMachine::open(disk, often, []) {
///     Ok(machine) => assert_eq!(machine.pending(), 0),
///     Err(OpenError::Damaged { file, .. }) => panic!("{file} was changed by somebody else"),
///     Err(why) => return Err(why.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Bytes by which the log must have grown. More makes restarts slower: all of it is applied
    /// again. Less writes the state more often. 64 MiB.
    pub log_bytes_min: u64,
    /// Percent of the state's bytes by which the log must have grown as well. At 50, two bytes of
    /// checkpoints are written for each byte of the log at worst.
    pub log_percent_of_state: u32,
    /// Where they are written.
    pub background: Background,
}

impl Default for CheckpointOptions {
    fn default() -> CheckpointOptions {
        CheckpointOptions {
            log_bytes_min: 64 << 20,
            log_percent_of_state: 50,
            background: Background::Thread,
        }
    }
}

/// Why a store cannot start from its checkpoints.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk refuses.
    #[error("{what}: {source}")]
    Io {
        /// To do what.
        what: String,
        /// What it said.
        source: io::Error,
    },
    /// A checkpoint is damaged, and no other will do.
    #[error("{file} is damaged at offset {offset}: {what}{}", if *fallback {
        "; the one before is not enough, the log no longer has all entries after it"
    } else {
        ""
    })]
    Damaged {
        /// Its name.
        file: String,
        /// Where the part begins that cannot be read.
        offset: u64,
        /// Which part that is.
        what: &'static str,
        /// Whether there is another checkpoint, which the log does not continue.
        fallback: bool,
    },
    /// The log does not continue the newest checkpoint, or there is none and the log has a start.
    #[error("region {region}: the state ends at {applied}, and the log has forgotten up to {log}")]
    Gap {
        /// The region.
        region: RegionId,
        /// The last entry in the state; 0 if there is none.
        applied: Index,
        /// The last entry that the log no longer has.
        log: Index,
    },
}

/// Writes checkpoints of one engine.
#[derive(Debug)]
pub(crate) struct Keeper {
    disk: Arc<dyn Disk>,
    options: CheckpointOptions,
    /// The number of the next one.
    next: u64,
    /// Those on disk that can be loaded, the oldest first.
    kept: Vec<u64>,
    /// Those on disk that nobody needs once the next one is durable.
    surplus: Vec<u64>,
    /// Received snapshots that no durable checkpoint has yet.
    snapshots: Vec<FileName>,
    /// Up to where the log may forget each region.
    durable: BTreeMap<RegionId, Index>,
    running: Option<Running>,
    /// Calls of `maintain` to let pass.
    wait: u32,
    /// How many to let pass after the next failure.
    backoff: u32,
    requested: bool,
    /// Bytes of the entries applied that no durable checkpoint has, those of a restart included.
    grown: u64,
}

#[derive(Debug)]
struct Running {
    /// What will be durable.
    covers: BTreeMap<RegionId, Index>,
    /// Of [`Keeper::grown`].
    grown: u64,
    stop: Arc<AtomicBool>,
    job: Job,
}

#[derive(Debug)]
enum Job {
    Thread(JoinHandle<Result<(), WriteError>>),
    Done(Result<(), WriteError>),
}

impl Keeper {
    /// Loads the newest checkpoint that is whole and that the log continues.
    ///
    /// `log` names, for each region in the log, the last entry that it no longer has.
    ///
    /// # Errors
    /// If there is none such but there should be.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        options: CheckpointOptions,
        log: BTreeMap<RegionId, Index>,
    ) -> Result<(Keeper, MemEngine), OpenError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| OpenError::Io { what, source }
        };
        let (mut found, mut snapshots) = (Vec::new(), Vec::new());
        for file in disk.list().map_err(failed("cannot list the directory"))? {
            if file.strip_suffix(".tmp").and_then(number).is_some() {
                disk.remove(&file).map_err(failed("cannot remove an unfinished checkpoint"))?;
            }
            found.extend(number(&file));
            snapshots.extend(FileName::parse(&file));
        }
        // All others were received and never became part of the log, or not any more.
        let is_start = |name: &FileName| log.get(&name.region) == Some(&name.last.index);
        let (snapshots, strays): (Vec<_>, Vec<_>) = snapshots.into_iter().partition(is_start);
        let (engine, loaded) = load(&*disk, &found, &snapshots, &log)?;
        for stray in strays {
            let removed = disk.remove(&stray.to_string());
            removed.map_err(failed("cannot remove a snapshot that was not installed"))?;
        }
        let next = found.last().map_or(1, |last| last + 1);
        let keeper = Keeper {
            disk,
            options,
            next,
            surplus: found.into_iter().filter(|seq| Some(*seq) != loaded).collect(),
            kept: loaded.into_iter().collect(),
            snapshots,
            durable: log,
            running: None,
            wait: 0,
            backoff: RETRY_CALLS,
            requested: false,
            grown: 0,
        };
        Ok((keeper, engine))
    }

    /// Replaces what `engine` has of `region` by what is in `file`, where the log begins now.
    ///
    /// # Errors
    /// If it cannot be read: the state that the log continues is nowhere then.
    pub(crate) fn install(
        &mut self,
        engine: &mut MemEngine,
        region: RegionId,
        last: LogId,
        file: &str,
    ) -> Result<RegionState, ReadError> {
        let mut bytes = 0;
        let state = engine.replace_region(|load| {
            snapshot_file::read(&*self.disk, file, region, last, &mut |cf, key, value| {
                bytes += (key.len() + value.len()) as u64;
                load(cf, key, value);
            })
        })?;
        // The log does not begin at the end of an older one any more.
        for old in self.snapshots.extract_if(.., |name| name.region == region) {
            remove(&*self.disk, &old.to_string());
        }
        self.snapshots.extend(FileName::parse(file));
        let durable = self.durable.entry(region).or_default();
        *durable = last.index.max(*durable);
        self.grown += bytes;
        Ok(state)
    }

    /// Up to where the log may forget a region.
    pub(crate) fn durable(&self, region: RegionId) -> Index {
        self.durable.get(&region).copied().unwrap_or(0)
    }

    /// Entries of so many bytes were applied.
    pub(crate) fn grew(&mut self, bytes: u64) {
        self.grown += bytes;
    }

    /// The next call of [`Keeper::maintain`] that can, shall begin a checkpoint.
    pub(crate) fn request(&mut self) {
        self.requested = true;
    }

    /// Takes notice of a checkpoint that has been written, or begins one if it is due.
    ///
    /// # Errors
    /// If a sync has failed: the store must stop.
    pub(crate) fn maintain(
        &mut self,
        log_bytes: u64,
        engine: &MemEngine,
    ) -> Result<(), WriteError> {
        self.settle(false)?;
        self.wait = self.wait.saturating_sub(1);
        let idle = self.running.is_none() && self.wait == 0;
        if idle && (self.requested || self.is_due(log_bytes, engine)) {
            self.begin(engine.snapshot());
            // Inline, it is done already.
            self.settle(false)?;
        }
        Ok(())
    }

    fn is_due(&self, log_bytes: u64, engine: &MemEngine) -> bool {
        let options = &self.options;
        let grown = log_bytes.max(self.grown);
        let live = || engine.memory().live_bytes;
        grown > 0
            && grown >= options.log_bytes_min
            && grown >= live() / 100 * u64::from(options.log_percent_of_state)
    }

    fn begin(&mut self, state: MemSnapshot) {
        self.requested = false;
        let covers: BTreeMap<RegionId, Index> =
            state.regions().iter().map(|r| (r.region.id, r.applied.index)).collect();
        if covers.iter().all(|(region, index)| self.durable.get(region) == Some(index)) {
            return;
        }
        let seq = self.next;
        self.next += 1;
        let stop = Arc::new(AtomicBool::new(false));
        let (disk, stopped) = (Arc::clone(&self.disk), Arc::clone(&stop));
        // Room is made only once the new one is durable; the newest of the others stays.
        let checkpoints = self.kept[..self.kept.len().saturating_sub(KEPT - 1)].iter();
        let mut surplus: Vec<String> =
            self.surplus.iter().chain(checkpoints).map(|&seq| name(seq)).collect();
        let has = |name: &&FileName| is_covered(name, &covers);
        surplus.extend(self.snapshots.iter().filter(has).map(ToString::to_string));
        let job = move || {
            let written = super::write(&*disk, seq, &state, &stopped);
            drop(state);
            finish(&*disk, seq, written, &surplus)
        };
        let job = match self.options.background {
            Background::Inline => Job::Done(job()),
            Background::Thread => {
                match thread::Builder::new().name("checkpoint".to_owned()).spawn(job) {
                    Ok(thread) => Job::Thread(thread),
                    Err(source) => {
                        let what = "cannot start a thread for a checkpoint";
                        Job::Done(Err(WriteError::Failed { what, source }))
                    }
                }
            }
        };
        self.running = Some(Running { covers, grown: self.grown, stop, job });
    }

    /// Takes notice of the checkpoint under way, if it is done, or else if we are to `wait` for it.
    fn settle(&mut self, wait: bool) -> Result<(), WriteError> {
        let done = |running: &Running| match &running.job {
            Job::Thread(thread) => wait || thread.is_finished(),
            Job::Done(_) => true,
        };
        let Some(Running { covers, grown, job, .. }) =
            self.running.take_if(|running| done(running))
        else {
            return Ok(());
        };
        let written = match job {
            Job::Done(written) => written,
            Job::Thread(thread) => thread.join().unwrap_or_else(|_| {
                let source = io::Error::other("the thread panicked");
                Err(WriteError::SyncFailed { what: "writing a checkpoint", source })
            }),
        };
        match written {
            Ok(()) => {
                self.surplus.clear();
                self.kept.push(self.next - 1);
                self.kept.drain(..self.kept.len().saturating_sub(KEPT));
                self.snapshots.retain(|name| !is_covered(name, &covers));
                for (region, index) in covers {
                    // A snapshot may have been installed meanwhile.
                    let durable = self.durable.entry(region).or_default();
                    *durable = index.max(*durable);
                }
                self.grown -= grown;
                self.backoff = RETRY_CALLS;
                Ok(())
            }
            Err(error @ WriteError::SyncFailed { .. }) => Err(error),
            Err(WriteError::Stopped) => Ok(()),
            Err(error @ WriteError::Failed { .. }) => {
                log::warn!("checkpoint {}: {error}", self.next - 1);
                self.wait = self.backoff;
                self.backoff = (2 * self.backoff).min(RETRY_CALLS_MAX);
                Ok(())
            }
        }
    }

    /// Waits until nothing is being written any more; what is under way is broken off.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = &self.running {
            running.stop.store(true, Ordering::Relaxed);
        }
        if let Err(error) = self.settle(true) {
            log::error!("{error}");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether a checkpoint that reaches that far has all that a snapshot has.
fn is_covered(name: &FileName, covers: &BTreeMap<RegionId, Index>) -> bool {
    covers.get(&name.region).is_some_and(|&index| name.last.index <= index)
}

/// Cleans up after checkpoint `seq` was written, or was not.
fn finish(
    disk: &dyn Disk,
    seq: u64,
    written: Result<(), WriteError>,
    surplus: &[String],
) -> Result<(), WriteError> {
    match &written {
        Ok(()) => surplus.iter().for_each(|file| remove(disk, file)),
        Err(_) => remove(disk, &format!("{}.tmp", name(seq))),
    }
    written
}

fn remove(disk: &dyn Disk, file: &str) {
    // What stays behind takes room and nothing else; the next start finds it again.
    if let Err(error) = disk.remove(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot remove {file}: {error}");
    }
}

#[cfg(test)]
mod tests;
