//! Checkpoints: the whole state of a store at one moment, in one file.
//!
//! The log is the only journal; a checkpoint lets it be short. After a restart the state is the newest
//! checkpoint, and then every entry after its applied positions, from the log.
//!
//! ```text
//! "raftkv checkpoint 1\n" │ regions │ pairs │ pairs │ … │ ── sync ── │ trailer │ ── sync, rename, sync directory
//! ```
//!
//! The blocks are those of [`crate::blocks`], their first checksum is that of magic and number. The
//! trailer is written only after the rest is durable. A file is loaded whole or not at all (S8).
//!
//! | file | what |
//! |---|---|
//! | this | the format: [`write`], [`read`] |
//! | [`keeper`] | when to write, which to keep |
//! | `recover` | which to load |

mod keeper;
mod recover;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use raftstore::disk::{Disk, SteadyFile, is_full};

use crate::blocks::{BlockReader, BlockWriter, ReadError, Seed};
use crate::command::Cf;
use crate::engine::{Engine, MemEngine, MemSnapshot, Read};

pub(crate) use keeper::Keeper;
pub use keeper::{Background, CheckpointOptions, OpenError};

const MAGIC: &[u8] = b"raftkv checkpoint 1\n";

/// The name of checkpoint number `seq`. Names sort as numbers do.
fn name(seq: u64) -> String {
    format!("checkpoint-{seq:016x}")
}

/// The number of the checkpoint with that name.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Why a checkpoint was not written. The state that was to be written is as durable as before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
    /// For lack of space, perhaps; trying again later may help.
    #[error("{what}: {source}")]
    Failed { what: &'static str, source: io::Error },
    /// A sync failed: nobody knows what is durable, and no later sync will tell.
    #[error("{what} failed, so nothing can be made durable here any more: {source}")]
    SyncFailed { what: &'static str, source: io::Error },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Failed { what, source }
}

/// Writes checkpoint number `seq` of `state`. It is durable, under its name, on return.
///
/// # Errors
/// If it could not be written, or `stop` was raised. A file of another name may be left behind.
pub(crate) fn write(
    disk: &dyn Disk,
    seq: u64,
    state: &MemSnapshot,
    stop: &AtomicBool,
) -> Result<(), WriteError> {
    let temporary = format!("{}.tmp", name(seq));
    let file = disk.create(&temporary).map_err(failed("cannot make a checkpoint"))?;
    let file = RefCell::new(SteadyFile::new(file));
    let mut out = BlockWriter::new(seed(seq), |bytes: &[u8]| {
        if stop.load(Ordering::Relaxed) {
            return Err(WriteError::Stopped);
        }
        let mut file = file.borrow_mut();
        file.append(bytes).map_err(failed("cannot write a checkpoint"))?;
        if file.is_due() { sync(&mut file) } else { Ok(()) }
    })?;
    out.regions(&state.regions())?;
    for cf in Cf::ALL {
        out.pairs(cf, state.range(cf, b"", b""))?;
    }
    sync(&mut file.borrow_mut())?;
    out.trailer(seq)?;
    sync(&mut file.borrow_mut())?;
    disk.rename(&temporary, &name(seq)).map_err(failed("cannot rename a checkpoint"))?;
    disk.sync_dir()
        .map_err(|source| WriteError::SyncFailed { what: "sync of the directory", source })
}

fn sync(file: &mut SteadyFile) -> Result<(), WriteError> {
    // Space is often found wanting only when the pages are written. The file is thrown away then,
    // so nothing rests on what this sync left undone.
    file.sync().map_err(|source| match is_full(&source) {
        true => WriteError::Failed { what: "sync of a checkpoint", source },
        false => WriteError::SyncFailed { what: "sync of a checkpoint", source },
    })
}

fn seed(seq: u64) -> Seed {
    Seed::new(MAGIC, "not a checkpoint", &[seq])
}

/// Loads checkpoint number `seq`.
///
/// # Errors
/// If it cannot be read, or any byte of it is not what was written.
pub(crate) fn read(disk: &dyn Disk, seq: u64) -> Result<MemEngine, ReadError> {
    let mut input = BlockReader::open(disk, name(seq), &seed(seq))?;
    let mut engine = MemEngine::new();
    for state in input.regions()? {
        engine.set_region(state);
    }
    input.pairs(seq, &mut |cf, key, value| engine.load(cf, key, value))?;
    Ok(engine)
}

#[cfg(test)]
mod tests;
