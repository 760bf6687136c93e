//! Files of blocks, whose checksums form a chain: what checkpoints and snapshots are made of.
//!
//! ```text
//! magic │ regions │ pairs │ pairs │ … │ trailer
//! ```
//!
//! | block | bytes |
//! |---|---|
//! | 4 | length of what follows the checksum, little endian |
//! | 4 | CRC-32 of the checksum before (the *seed* for the first), the length, and what follows |
//! | 1 | kind: 1 regions, 2 pairs, 3 trailer |
//! | … | regions: a count, then for each the region, term and index applied |
//! | | pairs: the column family, then key and value again and again, ascending |
//! | | trailer: a number that names the file, blocks before, pairs of each column family |
//!
//! Every checksum covers the one before, so the trailer's covers the file: a block that is missing,
//! doubled, exchanged or of another file is found as surely as a flipped bit.

use std::io;
use std::sync::Arc;

use raftstore::disk::{Disk, File};

use crate::command::{Cf, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::engine::RegionState;
use crate::wire::{self, Malformed, Reader};

/// Whoever is shown pairs: column family, key, value.
pub(crate) type Visit<'a> = dyn FnMut(Cf, &[u8], &[u8]) + 'a;

/// A block of pairs is written once it has so many bytes.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// No block is longer: one pair of the largest key and value may come on top of a nearly full one.
pub(crate) const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 1024;

/// Bytes of length and checksum.
pub(crate) const HEAD_BYTES: usize = 8;

/// What a block is.
pub(crate) mod kind {
    pub(crate) const REGIONS: u8 = 1;
    pub(crate) const PAIRS: u8 = 2;
    pub(crate) const TRAILER: u8 = 3;
}

/// How a file begins, and the checksum that its first block continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    magic: &'static [u8],
    /// What to say of a file that begins otherwise.
    not: &'static str,
    pub(crate) link: u32,
}

impl Seed {
    /// That of the file with `magic` that is named by `numbers`.
    pub(crate) fn new(magic: &'static [u8], not: &'static str, numbers: &[u64]) -> Seed {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(magic);
        numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
        Seed { magic, not, link: hasher.finalize() }
    }
}

/// The checksum of a block, after that of the one before.
pub(crate) fn next_link(chain: u32, len: u32, block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(block);
    hasher.finalize()
}

/// Writes blocks one after the other to `out`.
pub(crate) struct BlockWriter<F> {
    out: F,
    /// The last checksum.
    chain: u32,
    blocks: u64,
    counts: [u64; Cf::ALL.len()],
    /// The block being put together, with room for its head.
    block: Vec<u8>,
}

impl<E, F: FnMut(&[u8]) -> Result<(), E>> BlockWriter<F> {
    pub(crate) fn new(seed: Seed, mut out: F) -> Result<BlockWriter<F>, E> {
        out(seed.magic)?;
        let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
        block.resize(HEAD_BYTES, 0);
        Ok(BlockWriter { out, chain: seed.link, blocks: 0, counts: [0; Cf::ALL.len()], block })
    }

    pub(crate) fn regions(&mut self, regions: &[RegionState]) -> Result<(), E> {
        self.block.push(kind::REGIONS);
        wire::put_number(&mut self.block, regions.len() as u64);
        for RegionState { region, applied } in regions {
            wire::put_region(&mut self.block, region);
            wire::put_log_id(&mut self.block, *applied);
        }
        self.flush()
    }

    /// All pairs of a column family, in order.
    pub(crate) fn pairs<'a>(
        &mut self,
        cf: Cf,
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), E> {
        for (key, value) in pairs {
            if self.block.len() == HEAD_BYTES {
                self.block.extend_from_slice(&[kind::PAIRS, cf.number()]);
            }
            wire::put_string(&mut self.block, key);
            wire::put_string(&mut self.block, value);
            self.counts[cf as usize] += 1;
            if self.block.len() >= BLOCK_BYTES {
                self.flush()?;
            }
        }
        if self.block.len() > HEAD_BYTES { self.flush() } else { Ok(()) }
    }

    /// The last block, with the file's own number.
    pub(crate) fn trailer(&mut self, number: u64) -> Result<(), E> {
        self.block.push(kind::TRAILER);
        wire::put_number(&mut self.block, number);
        wire::put_number(&mut self.block, self.blocks);
        self.counts.iter().for_each(|&count| wire::put_number(&mut self.block, count));
        self.flush()
    }

    fn flush(&mut self) -> Result<(), E> {
        let len = (self.block.len() - HEAD_BYTES) as u32;
        self.chain = next_link(self.chain, len, &self.block[HEAD_BYTES..]);
        self.block[..4].copy_from_slice(&len.to_le_bytes());
        self.block[4..HEAD_BYTES].copy_from_slice(&self.chain.to_le_bytes());
        (self.out)(&self.block)?;
        self.blocks += 1;
        self.block.truncate(HEAD_BYTES);
        self.block.shrink_to(2 * BLOCK_BYTES);
        Ok(())
    }
}

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The operating system refuses to read it.
    #[error("cannot read {file}: {source}")]
    Io { file: String, source: io::Error },
    /// It is not what was written.
    #[error("{file} is damaged at offset {offset}: {what}")]
    Damaged { file: String, offset: u64, what: &'static str },
}

/// A file being read block by block.
pub(crate) struct BlockReader {
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

impl BlockReader {
    pub(crate) fn open(
        disk: &dyn Disk,
        name: String,
        seed: &Seed,
    ) -> Result<BlockReader, ReadError> {
        let failed = |source| ReadError::Io { file: name.clone(), source };
        let file = disk.open(&name).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let (chain, block) = (seed.link, Vec::new());
        let mut input =
            BlockReader { file, name, len, began: 0, offset: 0, chain, blocks: 0, block };
        input.take(seed.magic.len())?;
        if input.block != seed.magic {
            return Err(input.damaged(seed.not));
        }
        Ok(input)
    }

    /// The block of regions, which comes first.
    pub(crate) fn regions(&mut self) -> Result<Vec<RegionState>, ReadError> {
        self.next(kind::REGIONS)?;
        read_regions(&self.block[1..]).map_err(|error| self.damaged(error.what))
    }

    /// All the rest: shows every pair to `visit`, and checks that the file ends as it should, with
    /// its own `number`. Until then nothing is certain.
    pub(crate) fn pairs(&mut self, number: u64, visit: &mut Visit<'_>) -> Result<(), ReadError> {
        let mut loaded = Loaded::default();
        while self.next(kind::PAIRS)? == kind::PAIRS {
            let added = loaded.add(&self.block[1..], visit);
            added.map_err(|error| self.damaged(error.what))?;
        }
        let trailer = read_trailer(&self.block[1..]).map_err(|error| self.damaged(error.what))?;
        if trailer != (number, self.blocks - 1, loaded.counts) {
            return Err(self.damaged("the counts of the trailer"));
        }
        if self.offset != self.len {
            return Err(self.damaged("something follows the trailer"));
        }
        Ok(())
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

    pub(crate) fn damaged(&self, what: &'static str) -> ReadError {
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
    fn add(&mut self, block: &[u8], visit: &mut Visit<'_>) -> Result<(), Malformed> {
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
            visit(cf, key, value);
        }
        Ok(())
    }
}
