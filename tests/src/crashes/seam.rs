//! A real disk with somebody in between, who fails a call or looks what each leaves.
//!
//! Every call of the [`Disk`] seam is counted here. One of them may be told to fail, as its system
//! call would: what a call does before it fails is drawn, from nothing to half of it. And the files
//! as of the last sync are kept, so that any moment can be turned into what a power failure would
//! leave then ([`Moment`]).

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use raftstore::disk::{
    DirDisk, Disk, File, Flush, Lock, LockError, LogFile, LogView, Route, SECTOR_BYTES,
};

/// A directory for real files: in memory where the system has such a place, because what is asked
/// here is what a program writes where, and a device would only make thousands of syncs slow.
///
/// # Errors
/// If it cannot be made.
pub(super) fn scratch() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// A kind of system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// Opening a file, or making an empty one.
    Open,
    /// Mapping a file.
    Mmap,
    /// Making a log file of some length.
    Fallocate,
    /// Writing; by the direct route also what makes it durable.
    Write,
    /// Syncing a file.
    Fdatasync,
    /// Giving a file another name.
    Rename,
    /// Removing a file.
    Unlink,
    /// Syncing the directory.
    FsyncDir,
    /// Listing the directory.
    ReadDir,
    /// Making the map of a full segment read-only.
    Mprotect,
}

/// The bytes of a file at some moment.
type Content = Arc<Vec<u8>>;

/// Everything there is on the disk, and what of it a power failure cannot take.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Files by numbers of ours: what was synced last, and what there is now.
    pub(super) files: BTreeMap<u64, (Content, Content)>,
    /// The synced directory.
    pub(super) synced_names: BTreeMap<String, u64>,
    /// What was done to the directory since: a name and its file, or none.
    pub(super) pending: Vec<Vec<(String, Option<u64>)>>,
}

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    /// Its number, from 0.
    pub(super) number: u64,
    /// The error, as in `errno`.
    pub(super) code: i32,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    failing: Option<Failing>,
    rng: Option<fastrand::Rng>,
    names: BTreeMap<String, u64>,
    next_file: u64,
    synced: BTreeMap<u64, Content>,
    synced_names: BTreeMap<String, u64>,
    pending: Vec<Vec<(String, Option<u64>)>>,
    /// Contents of files that have lost their names.
    unlinked: BTreeMap<u64, Content>,
    moments: Option<Vec<Moment>>,
}

/// The disk. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub(super) struct Seam {
    disk: Arc<DirDisk>,
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Seam {
    /// The directory at `path`, which is empty.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(super) fn new(path: &Path, route: Route, seed: u64) -> io::Result<Seam> {
        let disk = Arc::new(DirDisk::open(path, route)?);
        let rng = Some(fastrand::Rng::with_seed(seed));
        let state = Arc::new(Mutex::new(State { rng, ..State::default() }));
        Ok(Seam { disk, path: path.to_owned(), state })
    }

    /// By which route log files are written really.
    pub(super) fn route(&self) -> Route {
        self.disk.route()
    }

    /// Has a call fail.
    pub(super) fn fail(&self, failing: Option<Failing>) {
        self.state.lock().failing = failing;
    }

    /// The calls so far, in order.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.state.lock().calls.clone()
    }

    /// From now on keeps the moment before each call.
    pub(super) fn record(&self) {
        self.state.lock().moments = Some(Vec::new());
    }

    /// The moments kept, and the present one.
    pub(super) fn recorded(&self) -> io::Result<Vec<Moment>> {
        let mut moments = self.state.lock().moments.take().unwrap_or_default();
        moments.push(self.moment(&self.state.lock())?);
        Ok(moments)
    }

    fn read(&self, name: &str) -> io::Result<Content> {
        std::fs::read(self.path.join(name)).map(Arc::new)
    }

    fn moment(&self, state: &State) -> io::Result<Moment> {
        let mut files = BTreeMap::new();
        for (name, id) in &state.names {
            let now = self.read(name)?;
            files.insert(*id, (state.synced.get(id).cloned().unwrap_or_default(), now));
        }
        for (id, content) in &state.unlinked {
            let synced = state.synced.get(id).cloned().unwrap_or_default();
            files.insert(*id, (synced, Arc::clone(content)));
        }
        let (synced_names, pending) = (state.synced_names.clone(), state.pending.clone());
        Ok(Moment { files, synced_names, pending })
    }

    fn is_direct(&self) -> bool {
        self.route() == Route::Direct
    }

    /// If moments are kept, keeps this one.
    fn keep(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.moments.is_some() {
            let moment = self.moment(&state)?;
            state.moments.get_or_insert_default().push(moment);
        }
        Ok(())
    }

    /// Before a call: whether it is to fail, and how much of it is done nevertheless, in 256ths.
    fn begin(&self, call: Call) -> io::Result<Result<(), (u8, io::Error)>> {
        self.keep()?;
        let mut state = self.state.lock();
        let number = state.calls.len() as u64;
        state.calls.push(call);
        let share = state.rng.get_or_insert_with(|| fastrand::Rng::with_seed(0)).u8(..);
        match state.failing.take_if(|failing| failing.number == number) {
            Some(failing) => Ok(Err((share, io::Error::from_raw_os_error(failing.code)))),
            None => Ok(Ok(())),
        }
    }

    /// Before a call that happens wholly or not at all.
    fn whole(&self, call: Call) -> io::Result<()> {
        self.begin(call)?.map_err(|(_, error)| error)
    }

    fn wrap(&self, name: &str, file: Box<dyn LogFile>) -> Box<dyn LogFile> {
        let id = self.state.lock().names.get(name).copied().unwrap_or(u64::MAX);
        Box::new(Log { seam: self.clone(), id, file, at: 0, gathered: Vec::new() })
    }

    /// The name a file has now.
    fn name_of(&self, id: u64) -> Option<String> {
        let state = self.state.lock();
        state.names.iter().find(|(_, file)| **file == id).map(|(name, _)| name.clone())
    }

    /// A file was synced: what it has now stays.
    fn synced(&self, id: u64) -> io::Result<()> {
        let Some(name) = self.name_of(id) else { return Ok(()) };
        let content = self.read(&name)?;
        self.state.lock().synced.insert(id, content);
        Ok(())
    }

    fn add(&self, name: &str, is_synced: bool) -> io::Result<u64> {
        let content = if is_synced { self.read(name)? } else { Arc::default() };
        let mut state = self.state.lock();
        let id = state.next_file;
        state.next_file += 1;
        state.synced.insert(id, content);
        state.names.insert(name.to_owned(), id);
        state.pending.push(vec![(name.to_owned(), Some(id))]);
        Ok(id)
    }

    /// Before a name goes: what its file has stays to be seen, in case the name comes back.
    fn forget(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(id) = state.names.remove(name) {
            let content = self.read(name)?;
            state.unlinked.insert(id, content);
            state.pending.push(vec![(name.to_owned(), None)]);
        }
        Ok(())
    }
}

impl Disk for Seam {
    fn list(&self) -> io::Result<Vec<String>> {
        self.whole(Call::ReadDir)?;
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.whole(Call::Open)?;
        self.forget(name)?;
        let file = self.disk.create(name)?;
        self.add(name, false)?;
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.whole(Call::Open)?;
        self.disk.open(name)
    }

    fn create_log(
        &self,
        name: &str,
        len: u64,
        is_wanted: &dyn Fn(u64) -> bool,
    ) -> io::Result<bool> {
        self.whole(Call::Fallocate)?;
        self.forget(name)?;
        let is_there = self.disk.create_log(name, len, is_wanted)?;
        if is_there {
            self.add(name, true)?;
        }
        Ok(is_there)
    }

    fn append_log(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        self.whole(Call::Open)?;
        self.whole(Call::Mmap)?;
        Ok(self.wrap(name, self.disk.append_log(name)?))
    }

    fn view_log(&self, name: &str) -> io::Result<Arc<dyn LogView>> {
        self.whole(Call::Open)?;
        self.whole(Call::Mmap)?;
        self.disk.view_log(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.whole(Call::Rename)?;
        let replaced = self.read(to).ok();
        self.disk.rename(from, to)?;
        let mut state = self.state.lock();
        if let (Some(content), Some(id)) = (replaced, state.names.remove(to)) {
            state.unlinked.insert(id, content);
        }
        if let Some(id) = state.names.remove(from) {
            state.names.insert(to.to_owned(), id);
            state.pending.push(vec![(from.to_owned(), None), (to.to_owned(), Some(id))]);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.whole(Call::Unlink)?;
        self.forget(name)?;
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.whole(Call::FsyncDir)?;
        self.disk.sync_dir()?;
        let mut state = self.state.lock();
        state.pending.clear();
        state.synced_names = state.names.clone();
        state.unlinked.clear();
        Ok(())
    }

    fn block_bytes(&self) -> u64 {
        self.disk.block_bytes()
    }

    fn flushes_max(&self) -> usize {
        self.disk.flushes_max()
    }

    fn random(&self) -> u64 {
        self.state.lock().rng.get_or_insert_with(|| fastrand::Rng::with_seed(0)).u64(..)
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        self.disk.lock(owner)
    }
}

/// A log file that is being written.
#[derive(Debug)]
struct Log {
    seam: Seam,
    id: u64,
    file: Box<dyn LogFile>,
    /// By the direct route: what was appended since the last flush, and where it goes.
    at: u64,
    gathered: Vec<u8>,
}

impl LogFile for Log {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.seam.is_direct() {
            // It stays in memory for now: no call that could fail.
            self.gathered.extend_from_slice(bytes);
            return self.file.append(bytes);
        }
        let Err((share, error)) = self.seam.begin(Call::Write)? else {
            return self.file.append(bytes);
        };
        self.file.append(&bytes[..bytes.len() * usize::from(share) / 256])?;
        Err(error)
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        let (at, bytes) = (self.at, std::mem::take(&mut self.gathered));
        self.at += bytes.len() as u64;
        let (seam, id, flush) = (self.seam.clone(), self.id, self.file.flush());
        if seam.is_direct() {
            return Box::new(DirectFlush { seam, id, flush, at, bytes });
        }
        Box::new(LogFlush { seam, id, flush })
    }

    fn seal(&mut self) -> io::Result<()> {
        self.seam.whole(Call::Mprotect)?;
        self.file.seal()
    }

    fn view(&self) -> Arc<dyn LogView> {
        self.file.view()
    }
}

/// A sync of such a file.
#[derive(Debug)]
struct LogFlush {
    seam: Seam,
    id: u64,
    flush: Box<dyn Flush>,
}

impl Flush for LogFlush {
    fn run(&self) -> io::Result<()> {
        if let Err((share, error)) = self.seam.begin(Call::Fdatasync)? {
            // It may be on the disk nevertheless.
            if share > 128 {
                self.flush.run()?;
            }
            return Err(error);
        }
        self.flush.run()?;
        self.seam.synced(self.id)
    }
}

/// A write past the cache that is durable when it returns.
#[derive(Debug)]
struct DirectFlush {
    seam: Seam,
    id: u64,
    flush: Box<dyn Flush>,
    at: u64,
    bytes: Vec<u8>,
}

impl Flush for DirectFlush {
    fn run(&self) -> io::Result<()> {
        if let Err((share, error)) = self.seam.begin(Call::Write)? {
            // Some of its sectors are there, in a fourth of all cases all of them.
            let sectors = self.bytes.len() / SECTOR_BYTES;
            let kept = (sectors * usize::from(share) / 192).min(sectors) * SECTOR_BYTES;
            if let Some(name) = self.seam.name_of(self.id) {
                let file =
                    std::fs::OpenOptions::new().write(true).open(self.seam.path.join(name))?;
                file.write_all_at(&self.bytes[..kept], self.at)?;
            }
            return Err(error);
        }
        self.flush.run()?;
        // Inside of the write: of what it changed, any part.
        self.seam.keep()?;
        self.seam.synced(self.id)
    }
}
