//! Snapshots of a region as files: what a leader sends and a follower installs.
//!
//! ```text
//! "raftkv snapshot 1\n" │ region │ pairs │ pairs │ … │ trailer
//! ```
//!
//! The blocks are those of [`crate::blocks`]; their first checksum is that of magic, region, term and
//! index, so that a file of another state does not pass for this one. There is one region, with the
//! position up to which it is applied, and only keys of that region. The trailer has the index.
//!
//! A follower reads a file twice: to see whether it is good ([`verify`]), on the thread that
//! received it, before anything rests on it; and to take its content.

use std::io;

use raft::{LogId, SnapshotMeta};
use raftstore::disk::Disk;
use raftstore::snapshot::SnapshotSource;
use raftstore::{Region, RegionId};

use crate::blocks::{BlockReader, BlockWriter, ReadError, Seed, Visit};
use crate::command::Cf;
use crate::engine::RegionState;
use crate::region_snapshot::RegionSnapshot;

const MAGIC: &[u8] = b"raftkv snapshot 1\n";

fn seed(region: RegionId, last: LogId) -> Seed {
    Seed::new(MAGIC, "not a snapshot", &[region.0, last.term, last.index])
}

impl SnapshotSource for RegionSnapshot {
    fn last(&self) -> LogId {
        self.applied()
    }

    fn region(&self) -> &Region {
        RegionSnapshot::region(self)
    }

    fn write(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let state = self.region_state();
        let mut blocks = BlockWriter::new(seed(state.region.id, state.applied), out)?;
        blocks.regions(std::slice::from_ref(&state))?;
        for cf in Cf::ALL {
            blocks.pairs(cf, self.pairs(cf))?;
        }
        blocks.trailer(state.applied.index)
    }
}

/// Shows `visit` every pair in `file`, which must be the state of `region` at `last`. Nothing is
/// certain before it returns.
///
/// # Errors
/// If the file is not what it should be, or cannot be read.
pub(crate) fn read(
    disk: &dyn Disk,
    file: &str,
    region: RegionId,
    last: LogId,
    visit: &mut Visit<'_>,
) -> Result<RegionState, ReadError> {
    let mut input = BlockReader::open(disk, file.to_owned(), &seed(region, last))?;
    let mut regions = input.regions()?;
    let state = regions
        .pop()
        .filter(|state| regions.is_empty() && state.region.id == region && state.applied == last);
    let state = state.ok_or_else(|| input.damaged("the region"))?;
    let mut strays = false;
    input.pairs(last.index, &mut |cf, key, value| {
        strays |= !state.region.contains(key);
        visit(cf, key, value);
    })?;
    if strays { Err(input.damaged("keys of another region")) } else { Ok(state) }
}

/// Looks whether `file` is the state of `region` at `meta`.
///
/// # Errors
/// With what is wrong.
pub(crate) fn verify(
    disk: &dyn Disk,
    file: &str,
    region: RegionId,
    meta: &SnapshotMeta,
) -> Result<(), String> {
    let state = read(disk, file, region, meta.last, &mut |_, _, _| {});
    let state = state.map_err(|error| error.to_string())?;
    if !state.region.conf_state().is_equivalent(&meta.conf_state) {
        return Err("it is of another membership than its message says".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
