//! Checkpoints: the whole state of a store at one moment, in one file.
//!
//! The log is the only journal; a checkpoint lets it be short. After a restart the state is the newest
//! checkpoint, and then every entry after its applied positions, from the log.
//!
//! ```text
//! "raftkv checkpoint 1\n" │ regions │ pairs │ pairs │ … │ ── sync ── │ trailer │ ── sync, rename, sync directory
//! ```
//!
//! | block | bytes |
//! |---|---|
//! | 4 | length of what follows the checksum, little endian |
//! | 4 | CRC-32 of the checksum before (of magic and number for the first), the length, and what follows |
//! | 1 | kind: 1 regions, 2 pairs, 3 trailer |
//! | … | regions: a count, then for each the region, term and index applied |
//! | | pairs: the column family, then key and value again and again, ascending |
//! | | trailer: number of the checkpoint, blocks before, pairs of each column family |
//!
//! Every checksum covers the one before, so the trailer's covers the file: a block that is missing,
//! doubled, exchanged or of another checkpoint is found as surely as a flipped bit. The trailer is
//! written only after the rest is durable. A file is loaded whole or not at all (S8).
//!
//! | file | what |
//! |---|---|
//! | this | the format: [`write`], [`read`] |
//! | [`keeper`] | when to write, which to keep, which to load |

mod keeper;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use raftstore::disk::{Disk, File, is_full};

use crate::command::{Cf, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::engine::{Engine, MemEngine, MemSnapshot, Read, RegionState};
use crate::wire::{self, Malformed, Reader};

pub(crate) use keeper::Keeper;
pub use keeper::{Background, CheckpointOptions, OpenError};

const MAGIC: &[u8] = b"raftkv checkpoint 1\n";

/// A block of pairs is written once it has so many bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// No block is longer: one pair of the largest key and value may come on top of a nearly full one.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 1024;

/// Bytes of length and checksum.
const HEAD_BYTES: usize = 8;

/// What a block is.
mod kind {
    pub(super) const REGIONS: u8 = 1;
    pub(super) const PAIRS: u8 = 2;
    pub(super) const TRAILER: u8 = 3;
}

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
    let mut out = Writer::new(file, seq)?;
    out.regions(&state.regions())?;
    let mut counts = [0; Cf::ALL.len()];
    for cf in Cf::ALL {
        counts[cf as usize] = out.pairs(cf, state, stop)?;
    }
    out.sync()?;
    out.trailer(seq, counts)?;
    out.sync()?;
    disk.rename(&temporary, &name(seq)).map_err(failed("cannot rename a checkpoint"))?;
    disk.sync_dir()
        .map_err(|source| WriteError::SyncFailed { what: "sync of the directory", source })
}

struct Writer {
    file: Box<dyn File>,
    offset: u64,
    /// The last checksum.
    chain: u32,
    blocks: u64,
    /// The block being put together, with room for its head.
    block: Vec<u8>,
}

impl Writer {
    fn new(file: Box<dyn File>, seq: u64) -> Result<Writer, WriteError> {
        file.write_at(0, MAGIC).map_err(failed("cannot write a checkpoint"))?;
        let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
        block.resize(HEAD_BYTES, 0);
        Ok(Writer { file, offset: MAGIC.len() as u64, chain: first_link(seq), blocks: 0, block })
    }

    fn regions(&mut self, regions: &[RegionState]) -> Result<(), WriteError> {
        self.block.push(kind::REGIONS);
        wire::put_number(&mut self.block, regions.len() as u64);
        for RegionState { region, applied } in regions {
            wire::put_region(&mut self.block, region);
            wire::put_log_id(&mut self.block, *applied);
        }
        self.flush()
    }

    fn pairs(&mut self, cf: Cf, state: &MemSnapshot, stop: &AtomicBool) -> Result<u64, WriteError> {
        let mut count = 0;
        for (key, value) in state.range(cf) {
            if self.block.len() == HEAD_BYTES {
                self.block.extend_from_slice(&[kind::PAIRS, cf.number()]);
            }
            wire::put_string(&mut self.block, key);
            wire::put_string(&mut self.block, value);
            count += 1;
            if self.block.len() >= BLOCK_BYTES {
                self.flush()?;
                if stop.load(Ordering::Relaxed) {
                    return Err(WriteError::Stopped);
                }
            }
        }
        if self.block.len() > HEAD_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn trailer(&mut self, seq: u64, counts: [u64; Cf::ALL.len()]) -> Result<(), WriteError> {
        self.block.push(kind::TRAILER);
        wire::put_number(&mut self.block, seq);
        wire::put_number(&mut self.block, self.blocks);
        counts.iter().for_each(|&count| wire::put_number(&mut self.block, count));
        self.flush()
    }

    fn sync(&self) -> Result<(), WriteError> {
        // Space is often found wanting only when the pages are written. The file is thrown away
        // then, so nothing rests on what this sync left undone.
        self.file.sync().map_err(|source| match is_full(&source) {
            true => WriteError::Failed { what: "sync of a checkpoint", source },
            false => WriteError::SyncFailed { what: "sync of a checkpoint", source },
        })
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let len = (self.block.len() - HEAD_BYTES) as u32;
        self.chain = next_link(self.chain, len, &self.block[HEAD_BYTES..]);
        self.block[..4].copy_from_slice(&len.to_le_bytes());
        self.block[4..HEAD_BYTES].copy_from_slice(&self.chain.to_le_bytes());
        let written = self.file.write_at(self.offset, &self.block);
        written.map_err(failed("cannot write a checkpoint"))?;
        self.offset += self.block.len() as u64;
        self.blocks += 1;
        self.block.truncate(HEAD_BYTES);
        self.block.shrink_to(2 * BLOCK_BYTES);
        Ok(())
    }
}

fn first_link(seq: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(MAGIC);
    hasher.update(&seq.to_le_bytes());
    hasher.finalize()
}

fn next_link(chain: u32, len: u32, block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(block);
    hasher.finalize()
}

/// Why a checkpoint cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The operating system refuses to read it.
    #[error("cannot read {file}: {source}")]
    Io { file: String, source: io::Error },
    /// It is not what was written.
    #[error("{file} is damaged at offset {offset}: {what}")]
    Damaged { file: String, offset: u64, what: &'static str },
}

/// Loads checkpoint number `seq`.
///
/// # Errors
/// If it cannot be read, or any byte of it is not what was written.
pub(crate) fn read(disk: &dyn Disk, seq: u64) -> Result<MemEngine, ReadError> {
    let mut input = Input::open(disk, seq)?;
    let mut engine = MemEngine::new();
    input.next(kind::REGIONS)?;
    let regions = read_regions(&input.block[1..]);
    for state in regions.map_err(|error| input.damaged(error.what))? {
        engine.set_region(state);
    }
    let mut loaded = Loaded::default();
    while input.next(kind::PAIRS)? == kind::PAIRS {
        let added = loaded.add(&mut engine, &input.block[1..]);
        added.map_err(|error| input.damaged(error.what))?;
    }
    let trailer = read_trailer(&input.block[1..]).map_err(|error| input.damaged(error.what))?;
    if trailer != (seq, input.blocks - 1, loaded.counts) {
        return Err(input.damaged("the counts of the trailer"));
    }
    if input.offset != input.len {
        return Err(input.damaged("something follows the trailer"));
    }
    Ok(engine)
}

/// A file being read block by block.
struct Input {
    file: Box<dyn File>,
    name: String,
    len: u64,
    /// Where the block that was last read began.
    began: u64,
    offset: u64,
    chain: u32,
    blocks: u64,
    block: Vec<u8>,
}

impl Input {
    fn open(disk: &dyn Disk, seq: u64) -> Result<Input, ReadError> {
        let name = name(seq);
        let failed = |source| ReadError::Io { file: name.clone(), source };
        let file = disk.open(&name).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let (chain, block) = (first_link(seq), Vec::new());
        let mut input = Input { file, name, len, began: 0, offset: 0, chain, blocks: 0, block };
        input.take(MAGIC.len())?;
        if input.block != MAGIC {
            return Err(input.damaged("not a checkpoint"));
        }
        Ok(input)
    }

    /// Reads the next bytes into `block`.
    fn take(&mut self, len: usize) -> Result<(), ReadError> {
        if self.len - self.offset < len as u64 {
            return Err(self.damaged("it ends in the middle"));
        }
        self.block.resize(len, 0);
        let read = self.file.read_at(self.offset, &mut self.block);
        read.map_err(|source| ReadError::Io { file: self.name.clone(), source })?;
        self.offset += len as u64;
        Ok(())
    }

    /// Reads the next block, which must be a `wanted` one or, for pairs, the trailer. Returns its
    /// kind.
    fn next(&mut self, wanted: u8) -> Result<u8, ReadError> {
        self.began = self.offset;
        self.take(HEAD_BYTES)?;
        let (words, _) = self.block.as_chunks::<4>();
        let (len, crc) = (u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]));
        if len == 0 || len as usize > BLOCK_BYTES_MAX {
            return Err(self.damaged("the length of a block"));
        }
        self.take(len as usize)?;
        self.chain = next_link(self.chain, len, &self.block);
        if self.chain != crc {
            return Err(self.damaged("a checksum"));
        }
        self.blocks += 1;
        let found = self.block[0];
        if found == wanted || (wanted == kind::PAIRS && found == kind::TRAILER) {
            return Ok(found);
        }
        Err(self.damaged("the kind of a block"))
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        ReadError::Damaged { file: self.name.clone(), offset: self.began, what }
    }
}

fn read_regions(block: &[u8]) -> Result<Vec<RegionState>, Malformed> {
    let mut from = Reader::new(block);
    let count = from.count(8, "count of regions")?;
    let mut regions = Vec::with_capacity(count);
    for _ in 0..count {
        let region = Arc::new(from.region()?);
        regions.push(RegionState { region, applied: from.log_id("applied position")? });
    }
    from.end("regions")?;
    Ok(regions)
}

fn read_trailer(block: &[u8]) -> Result<(u64, u64, [u64; Cf::ALL.len()]), Malformed> {
    let mut from = Reader::new(block);
    let (seq, blocks) = (from.number("trailer")?, from.number("trailer")?);
    let mut counts = [0; Cf::ALL.len()];
    for count in &mut counts {
        *count = from.number("trailer")?;
    }
    from.end("trailer")?;
    Ok((seq, blocks, counts))
}

/// What was loaded so far.
#[derive(Default)]
struct Loaded {
    counts: [u64; Cf::ALL.len()],
    /// The last key and its column family.
    last: Option<(Cf, Vec<u8>)>,
}

impl Loaded {
    fn add(&mut self, engine: &mut MemEngine, block: &[u8]) -> Result<(), Malformed> {
        let mut from = Reader::new(block);
        let number = usize::from(from.byte("column family")?);
        let cf = *Cf::ALL.get(number).ok_or(Malformed { what: "column family" })?;
        while !from.rest().is_empty() {
            let key = from.string(KEY_BYTES_MAX, "key")?;
            let value = from.string(VALUE_BYTES_MAX, "value")?;
            let last = self.last.get_or_insert_with(|| (cf, Vec::new()));
            if self.counts[cf as usize] > 0 && (&*last.1 >= key) || last.0 > cf {
                return Err(Malformed { what: "the order of keys" });
            }
            last.0 = cf;
            last.1.clear();
            last.1.extend_from_slice(key);
            self.counts[cf as usize] += 1;
            engine.load(cf, key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
