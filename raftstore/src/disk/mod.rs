//! What the store needs of a disk, and nothing more: one flat directory of files.
//!
//! ```text
//!              Disk ── File      grows, small or streamed: checkpoints, snapshots, identity
//!               │  └── LogFile   preallocated, only appended to, read through a map
//!      ┌────────┴────────┐
//!   DirDisk           SimDisk    a seeded disk that forgets what was not synced
//!  (a directory,     (crashes, failing operations, a full disk; any image a crash may leave)
//!   three routes)
//! ```
//!
//! Everything that must survive a crash goes through here, so that the simulator can lose
//! whatever a real disk may lose. What a disk promises, and all it promises:
//!
//! - Bytes written are durable once [`File::sync`] on the *same* handle (or [`Flush::run`] of a log
//!   file) has returned. Before, any 512-byte sector may hold its old content, any later one or garbage,
//!   whatever the order of the writes. Garbage does not reach back over bytes that did not change:
//!   appending to a sector does not endanger what it had. (SQLite calls this powersafe overwrite;
//!   a device without it needs [`Route::Direct`], which never writes a sector twice.)
//! - A name created, changed or removed is so for good once [`Disk::sync_dir`] has returned.
//!   Before, each such operation may be lost without the others.
//! - A failed sync says nothing about what is durable, and repeating it proves nothing: the kernel
//!   may have dropped the pages (`reliability/wal.md` D4). Whoever sees one must stop.
//! - The end of the process loses nothing that is durable, and makes nothing durable. What was
//!   written and not synced outlives it in the page cache, but not by [`Route::Direct`], which may
//!   still have it in the memory of the process.
//!
//! | file | what |
//! |---|---|
//! | [`dir`] | a real directory |
//! | `append` | its log files, written through the page cache |
//! | `direct` | its log files, written past it |
//! | [`sim`] | the simulated disk |
//! | [`steady`] | long files, written in steps |
//! | [`identity`] | whose directory it is, and that only one process uses it |

pub mod acquaintances;
mod append;
pub mod dir;
mod direct;
pub mod identity;
pub mod sim;
pub mod steady;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub use acquaintances::{AcquaintanceError, Acquaintances};
pub use dir::{DirDisk, Route};
pub use identity::{Claim, ClusterId, IDENTITY_FILE, Identity, IdentityError};
pub use sim::SimDisk;
pub use steady::SteadyFile;

/// The size a disk writes at once: what a crash tears, it tears at multiples of this.
pub const SECTOR_BYTES: usize = 512;

/// One directory. Names are plain file names.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names of all files, sorted.
    ///
    /// # Errors
    /// If the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file; one that had the name is gone.
    ///
    /// # Errors
    /// If the operating system refuses.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Opens a file to read or go on writing.
    ///
    /// # Errors
    /// `NotFound` if there is none, or what the operating system says.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Makes a file of `len` bytes that [`Disk::append_log`] can write without needing space or
    /// changing metadata: allocated, written with zeros, and synced. One that had the name is
    /// gone. The name itself is not durable yet.
    ///
    /// `is_wanted` is told how many bytes are written, now and then before more are, and may take its
    /// time; if it says no, nothing stays behind, and the result is `false`.
    ///
    /// # Errors
    /// `StorageFull` or `QuotaExceeded` if there is no room, and then nothing stays behind; or
    /// what the operating system says.
    fn create_log(&self, name: &str, len: u64, is_wanted: &dyn Fn(u64) -> bool)
    -> io::Result<bool>;

    /// Opens a file made by [`Disk::create_log`] to fill it from its start.
    ///
    /// # Errors
    /// If the operating system refuses.
    fn append_log(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Maps a file that nobody writes any more.
    ///
    /// # Errors
    /// If the operating system refuses.
    fn view_log(&self, name: &str) -> io::Result<Arc<dyn LogView>>;

    /// Renames; a file that had the new name is gone, in one step.
    ///
    /// # Errors
    /// If the operating system refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Views of it stay valid.
    ///
    /// # Errors
    /// If the operating system refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable as they are now.
    ///
    /// # Errors
    /// If the operating system refuses; see the module about repeating it.
    fn sync_dir(&self) -> io::Result<()>;

    /// What is appended to a log file must have a multiple of this length: 1, or a block.
    fn block_bytes(&self) -> u64 {
        1
    }

    /// How many flushes of a log may run at a time. Where it is 1, a second one could take the
    /// news of an error away from the first.
    fn flushes_max(&self) -> usize {
        1
    }

    /// A number nobody could have guessed, or in a simulation the next one of its seed.
    fn random(&self) -> u64;

    /// Makes this process the directory's only user until the lock is dropped or the process
    /// ends, and leaves `owner` for others to read.
    ///
    /// # Errors
    /// [`LockError::Held`] with the text of whoever has it.
    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError>;
}

/// Says that the directory is ours until dropped.
pub trait Lock: Send + Sync + fmt::Debug {}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("in use by {owner}")]
    Held {
        /// What they said about themselves.
        owner: String,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file that grows as it is written.
#[allow(clippy::len_without_is_empty, reason = "an empty file is nothing special")]
pub trait File: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// If the operating system refuses.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before, or what the operating system says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// If the operating system refuses; a part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// If the operating system refuses; see the module about repeating it.
    fn sync(&self) -> io::Result<()>;
}

/// A preallocated file, written once from front to back by its only writer.
#[allow(clippy::len_without_is_empty, reason = "it has a fixed length, never 0")]
pub trait LogFile: Send + Sync + fmt::Debug {
    /// How long the file is, written or not.
    fn len(&self) -> u64;

    /// Writes `bytes` after what was written before. They can be read at once, and are durable
    /// after the next flush and all before it.
    ///
    /// # Errors
    /// If they don't fit or the operating system refuses; a part may have been written, and the
    /// file must not be appended to any more.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// What has to be done to make durable all that was appended since the last flush was asked
    /// for. On a disk that allows several at a time ([`Disk::flushes_max`]) it says nothing about
    /// what earlier ones cover.
    fn flush(&mut self) -> Box<dyn Flush>;

    /// Says that nothing will be appended any more; all of it must be durable.
    ///
    /// # Errors
    /// If the operating system refuses; the file is as before.
    fn seal(&mut self) -> io::Result<()>;

    /// A way to read what was appended, while more is.
    fn view(&self) -> Arc<dyn LogView>;
}

/// Appended bytes that are to become durable, on any thread.
pub trait Flush: Send + Sync + fmt::Debug {
    /// Makes them durable. To be called once.
    ///
    /// # Errors
    /// If the operating system refuses; see the module about repeating it.
    fn run(&self) -> io::Result<()>;
}

/// Reads a log file without copying.
#[allow(clippy::len_without_is_empty, reason = "it has a fixed length, never 0")]
pub trait LogView: Send + Sync + fmt::Debug {
    /// How many bytes can be read: those appended so far, or the whole of a file that is not
    /// written any more.
    fn len(&self) -> u64;

    /// Those bytes of the file; `None` if there are fewer. They stay as they are for as long as
    /// anybody keeps them, even if the file is removed.
    fn bytes(&self, range: Range<u64>) -> Option<Bytes>;

    /// The bytes from `offset` on, at least up to the end of the append that wrote the one there;
    /// `None` if there is none.
    fn after(&self, offset: u64) -> Option<Bytes> {
        self.bytes(offset..self.len())
    }

    /// Brings those bytes into memory, if they are not, which takes as long as reading them. Only
    /// makes later reads faster; what can't be read stays as it is.
    fn read_ahead(&self, _: Range<u64>) {}

    /// Whether anybody keeps bytes of it, so that the file must not be written again.
    fn is_lent(&self) -> bool;
}

/// From now on this process says, before it ends by a bus error, which byte of which file it could
/// not read. That happens if somebody cuts a log file short while it is mapped, or if the device
/// fails; no program can go on then (museum W18). To be called once, by a program that has no
/// handler of its own for SIGBUS.
///
/// # Errors
/// If the operating system takes no handler.
pub fn tell_bus_errors() -> io::Result<()> {
    crate::wal::mapping::tell_bus_errors()
}

/// Whether an error says that there is no room.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Replaces the small file `name` by `content`, or makes it: a crash leaves the old content or the
/// new one, never neither (museum P5). Durable on return.
///
/// # Errors
/// If an operation fails; then either content may be there.
pub fn replace(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let file = disk.create(&temporary)?;
    file.write_at(0, content)?;
    file.sync()?;
    disk.rename(&temporary, name)?;
    disk.sync_dir()
}

/// The whole content of a small file; `None` if there is none.
///
/// # Errors
/// If it is there but cannot be read.
pub fn read(disk: &dyn Disk, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut content = vec![0; len];
    file.read_at(0, &mut content)?;
    Ok(Some(content))
}
