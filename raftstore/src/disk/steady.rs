//! A long file, written beside a log that others wait for.
//!
//! What is written to a file stays in memory until something makes the kernel write it out, and
//! then all of it goes at once: the disk is busy with tens of megabytes, and a sync of the log that
//! comes meanwhile waits for them. So a long file is synced as it grows, step by step: never is
//! more than a step between a sync of the log and the disk.

use std::io;

use super::File;

/// Bytes of a step. Less means more syncs; more, that others wait longer for each.
pub const STEP_BYTES: u64 = 1 << 20;

/// A file that is written from its beginning to its end.
#[derive(Debug)]
pub struct SteadyFile {
    file: Box<dyn File>,
    bytes: u64,
    synced: u64,
}

impl SteadyFile {
    /// Writes to `file`, which is empty.
    #[must_use]
    pub fn new(file: Box<dyn File>) -> SteadyFile {
        SteadyFile { file, bytes: 0, synced: 0 }
    }

    /// How many bytes were written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes what follows.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.bytes, bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Whether so much is unsynced that a sync is due, before more is written.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.bytes - self.synced >= STEP_BYTES
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// As [`File::sync`]: nobody knows then what is durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.synced = self.bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;
    use crate::disk::sim::{Fate, Fault};

    /// Of a file of several steps, at most one is lost with the power.
    #[test]
    fn what_is_written_is_durable_but_for_a_step() {
        let disk = SimDisk::new(1);
        let mounted = disk.mount();
        let mut file = SteadyFile::new(mounted.create("file").expect("room"));
        mounted.sync_dir().expect("a good disk");
        let piece = vec![7; 100_000];
        for _ in 0..50 {
            file.append(&piece).expect("room");
            if file.is_due() {
                file.sync().expect("a good disk");
            }
        }
        assert_eq!(file.bytes(), 5_000_000);
        disk.lose_power(&mut |_| Fate::Lost);
        let left = disk.content("file").map_or(0, |content| content.len() as u64);
        assert!(left >= 5_000_000 - STEP_BYTES - 100_000, "{left}");
    }

    #[test]
    fn a_sync_that_fails_is_an_error() {
        let disk = SimDisk::new(1);
        let mut file = SteadyFile::new(disk.mount().create("file").expect("room"));
        file.append(&[1; 100]).expect("room");
        disk.fail(0, Fault::Error);
        assert!(file.sync().is_err());
    }
}
