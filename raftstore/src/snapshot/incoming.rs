//! The receiving side: from pieces to a file that the log may rest on.
//!
//! Whatever comes is written to a temporary file of its own, so that several senders, of this term
//! or an old one, never meet. Only a file that has arrived whole, that the state machine finds to
//! be what the message says, and that is durable under its name is handed to the core. Everything
//! else leaves nothing behind: the file goes with the [`Incoming`] that wrote it, and what a crash
//! leaves goes at the next start.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use raft::Body;

use super::{FileName, UNFINISHED};
use crate::codec::message::PeerMessage;
use crate::disk::{Disk, SteadyFile, is_full};
use crate::machine::Machine;

/// Why a snapshot was not received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// It is not what it should be. Another attempt may be luckier.
    #[error("{0}")]
    Refused(String),
    /// The file could not be written, for lack of space perhaps. Another attempt may be luckier.
    #[error("{what}: {source}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A sync failed: nobody knows what is durable in this directory. The store must stop.
    #[error("{what} failed, so nothing can be made durable here any more: {source}")]
    SyncFailed {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl ReceiveError {
    /// Whether the store must stop.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, ReceiveError::SyncFailed { .. })
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ReceiveError {
    move |source| ReceiveError::Failed { what, source }
}

/// Removes what an earlier life of the store did not finish receiving. To be called at its start.
///
/// # Errors
/// If the operating system refuses.
pub fn remove_unfinished(disk: &dyn Disk) -> io::Result<()> {
    for file in disk.list()? {
        if file.strip_suffix(UNFINISHED).and_then(FileName::parse).is_some() {
            disk.remove(&file)?;
        }
    }
    Ok(())
}

/// Removes a file that the core did not take.
pub fn discard(disk: &dyn Disk, file: &str) {
    // What stays behind takes room and nothing else; the next start finds it again.
    if let Err(error) = disk.remove(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot remove {file}: {error}");
    }
}

/// A snapshot that is being received.
#[derive(Debug)]
pub struct Incoming {
    disk: Arc<dyn Disk>,
    message: PeerMessage,
    name: FileName,
    file: SteadyFile,
    crc: crc32fast::Hasher,
    /// The temporary file is still there.
    is_unfinished: bool,
}

/// A snapshot that has arrived: a message whose data names the file. To be given to
/// [`Store::snapshot_received`](crate::store::Store::snapshot_received).
#[derive(Debug)]
#[must_use = "the file is only good for the core"]
pub struct Received {
    /// The message.
    pub message: PeerMessage,
    /// The file.
    pub file: String,
}

impl Incoming {
    /// Begins to receive what `message` announces.
    ///
    /// # Errors
    /// If it announces no snapshot, or no file can be made.
    pub fn begin(disk: &Arc<dyn Disk>, message: PeerMessage) -> Result<Incoming, ReceiveError> {
        let Body::InstallSnapshot { snapshot } = &message.message.body else {
            return Err(ReceiveError::Refused("pieces of something else".to_owned()));
        };
        let (region, last) = (message.region, snapshot.meta.last);
        let name = FileName { region, last, unique: disk.random() };
        let file = disk.create(&format!("{name}{UNFINISHED}"));
        let file = SteadyFile::new(file.map_err(failed("cannot make a file for a snapshot"))?);
        let (disk, crc) = (Arc::clone(disk), crc32fast::Hasher::new());
        Ok(Incoming { disk, message, name, file, crc, is_unfinished: true })
    }

    /// The next piece. Now and then what has come is made durable, so that the end of it, for which
    /// the log would have to wait, is short.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn piece(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        let written = self.file.append(bytes);
        written.map_err(failed("cannot write a snapshot"))?;
        self.crc.update(bytes);
        if self.file.is_due() { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), ReceiveError> {
        // Space is often found wanting only when the pages are written. The file is thrown away
        // then, so nothing rests on what this sync left undone.
        self.file.sync().map_err(|source| match is_full(&source) {
            true => ReceiveError::Failed { what: "sync of a snapshot", source },
            false => ReceiveError::SyncFailed { what: "sync of a snapshot", source },
        })
    }

    /// All pieces have come: together they must have `bytes` bytes and the checksum `crc`, and
    /// machine `M` must find them right. The file is durable on return.
    ///
    /// # Errors
    /// If they are not, or it cannot be made so.
    pub fn finish<M: Machine>(mut self, bytes: u64, crc: u32) -> Result<Received, ReceiveError> {
        let come = self.file.bytes();
        if (come, self.crc.clone().finalize()) != (bytes, crc) {
            let why = format!("{come} bytes of {bytes} have come, or they are damaged");
            return Err(ReceiveError::Refused(why));
        }
        let temporary = format!("{}{UNFINISHED}", self.name);
        let file = self.name.to_string();
        let Body::InstallSnapshot { snapshot } = &mut self.message.message.body else {
            return Err(ReceiveError::Refused("pieces of something else".to_owned()));
        };
        M::verify(&*self.disk, &temporary, self.message.region, &snapshot.meta)
            .map_err(ReceiveError::Refused)?;
        snapshot.data = Bytes::from(file.clone());
        self.sync()?;
        let renamed = self.disk.rename(&temporary, &file);
        renamed.map_err(failed("cannot rename a snapshot"))?;
        self.is_unfinished = false;
        let synced = self.disk.sync_dir();
        synced
            .map_err(|source| ReceiveError::SyncFailed { what: "sync of the directory", source })?;
        Ok(Received { message: self.message.clone(), file })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.is_unfinished {
            discard(&*self.disk, &format!("{}{UNFINISHED}", self.name));
        }
    }
}
