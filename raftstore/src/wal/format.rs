//! The bytes of a segment: its header, and the records after it. See the tables in [`super`].
//!
//! One decoder serves recovery and the tools, so that none of them is stricter than another
//! (museum W5).

use crate::disk::{ClusterId, Identity, SECTOR_BYTES};
use crate::region::StoreId;

use super::Lsn;
use super::error::Damage;

/// Version of the format; a segment of any other is refused.
pub const FORMAT: u32 = 1;
/// Bytes of a segment's header: one sector, so that a crash leaves all of it or nothing valid.
pub const HEADER_BYTES: usize = SECTOR_BYTES;
/// What padding up to a whole block is counted in.
const PADDING_UNIT: usize = 8;
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 40;

const SEGMENT_MAGIC: &[u8; 8] = b"rkvwal\r\n";
/// At Hamming distance 16 from zero: no few flipped bits turn a record into an end of log.
const RECORD_MAGIC: u32 = 0xb5c7_2a6d;
const RECYCLED: u32 = 1;
const WHOLE_BLOCKS: u32 = 2;
/// Where the records of a segment start whose records fill whole blocks: at the start of one.
const WHOLE_BLOCKS_START: usize = 4096;

/// The first sector of a segment. It never changes once the segment has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub store: StoreId,
    /// Whose log it is.
    pub cluster: ClusterId,
    /// Number of the segment, one more than that of the one before.
    pub segment: u64,
    /// Random: tells this life of the file from earlier ones, and seeds all its checksums.
    pub salt: u64,
    /// Number of the first record.
    pub first: Lsn,
    /// Everything up to here was durable before this segment got its name: what precedes it, and
    /// the records it started with if recovery moved some here.
    pub watermark: Lsn,
    /// Where the segment before ends; what follows there is void. 0 if none precedes.
    pub previous_end: u64,
    /// The chain at that point.
    pub previous_chain: u32,
    /// Whether the file had another life before, so that what follows the last record may be
    /// anything instead of zeros.
    pub recycled: bool,
    /// Whether its records begin and end with blocks, so that no block is written twice.
    pub whole_blocks: bool,
}

impl SegmentHeader {
    /// The sector.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let flags = flag(self.recycled, RECYCLED) | flag(self.whole_blocks, WHOLE_BLOCKS);
        out[0..8].copy_from_slice(SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&flags.to_le_bytes());
        out[16..24].copy_from_slice(&self.store.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.cluster.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.segment.to_le_bytes());
        out[40..48].copy_from_slice(&self.salt.to_le_bytes());
        out[48..56].copy_from_slice(&self.first.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.watermark.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.previous_end.to_le_bytes());
        out[72..76].copy_from_slice(&self.previous_chain.to_le_bytes());
        let crc = crc32fast::hash(&out[..HEADER_BYTES - 4]);
        out[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads what [`SegmentHeader::encode`] wrote, whoever wrote it.
    ///
    /// # Errors
    /// The version, if it is a segment of another one; or what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let sector = bytes.get(..HEADER_BYTES).ok_or(HeaderError::Damaged(Damage::Short))?;
        if &sector[..8] != SEGMENT_MAGIC
            || crc32fast::hash(&sector[..HEADER_BYTES - 4]) != u32_at(sector, HEADER_BYTES - 4)
        {
            return Err(HeaderError::Damaged(Damage::Header));
        }
        let (version, flags) = (u32_at(sector, 8), u32_at(sector, 12));
        if version != FORMAT || flags & !(RECYCLED | WHOLE_BLOCKS) != 0 {
            return Err(HeaderError::Version(version));
        }
        Ok(SegmentHeader {
            store: StoreId(u64_at(sector, 16)),
            cluster: ClusterId(u64_at(sector, 24)),
            segment: u64_at(sector, 32),
            salt: u64_at(sector, 40),
            first: Lsn(u64_at(sector, 48)),
            watermark: Lsn(u64_at(sector, 56)),
            previous_end: u64_at(sector, 64),
            previous_chain: u32_at(sector, 72),
            recycled: flags & RECYCLED != 0,
            whole_blocks: flags & WHOLE_BLOCKS != 0,
        })
    }

    /// Where its first record starts.
    #[must_use]
    pub fn first_offset(&self) -> usize {
        if self.whole_blocks { WHOLE_BLOCKS_START } else { HEADER_BYTES }
    }

    /// Whether it is a segment of that store.
    #[must_use]
    pub fn is_of(&self, identity: &Identity) -> bool {
        self.store == identity.store && self.cluster == identity.cluster
    }

    /// What the first record's checksum is chained to: salt and number of the segment, and all
    /// else in the header.
    #[must_use]
    pub fn chain(&self) -> u32 {
        u32_at(&self.encode(), HEADER_BYTES - 4)
    }
}

/// Why a segment's header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It is of this version, or has flags this version does not know.
    Version(u32),
    /// It is not what was written.
    Damaged(Damage),
}

/// What a record is of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// All of it.
    Whole,
    /// Its first part.
    Begin,
    /// A part between.
    Continue,
    /// Its last part: only now does any of it count.
    End,
    /// No batch: says only that everything before is durable.
    Mark,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            RecordKind::Whole => 1,
            RecordKind::Begin => 2,
            RecordKind::Continue => 3,
            RecordKind::End => 4,
            RecordKind::Mark => 5,
        }
    }

    fn of(code: u8) -> Option<RecordKind> {
        Some(match code {
            1 => RecordKind::Whole,
            2 => RecordKind::Begin,
            3 => RecordKind::Continue,
            4 => RecordKind::End,
            5 => RecordKind::Mark,
            _ => return None,
        })
    }
}

/// A valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is of its batch.
    pub kind: RecordKind,
    /// Its number.
    pub lsn: Lsn,
    /// Everything up to here was durable when it was written.
    pub watermark: Lsn,
    /// Where it starts.
    pub offset: usize,
    /// Its payload, without the padding.
    pub payload_bytes: usize,
    /// Bytes it takes, header and padding included.
    pub bytes: usize,
    /// The chain after it.
    pub chain: u32,
}

impl Record {
    /// Where its payload starts.
    #[must_use]
    pub fn payload(&self) -> usize {
        self.offset + RECORD_HEADER_BYTES
    }

    /// Where it ends, padding included.
    #[must_use]
    pub fn end(&self) -> usize {
        self.offset + self.bytes
    }
}

/// How many bytes a record of that payload takes, where it need not fill whole blocks.
#[must_use]
pub(crate) const fn record_bytes(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(8)
}

/// Completes a record in place: `record` has room for the header, then the payload, to which
/// padding is added, up to a multiple of `block` bytes. Returns the chain after it.
pub(crate) fn seal_record(
    record: &mut Vec<u8>,
    kind: RecordKind,
    (lsn, watermark): (Lsn, Lsn),
    (offset, block): (usize, usize),
    before: Before,
) -> u32 {
    let payload_bytes = record.len() - RECORD_HEADER_BYTES;
    let bare = record_bytes(payload_bytes);
    record.resize(bare.next_multiple_of(block), 0);
    let padding = ((record.len() - bare) / PADDING_UNIT) as u16;
    record[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
    record[8..12].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    record[12..14].copy_from_slice(&[kind.code(), 0]);
    record[14..16].copy_from_slice(&padding.to_le_bytes());
    record[16..24].copy_from_slice(&lsn.0.to_le_bytes());
    record[24..32].copy_from_slice(&watermark.0.to_le_bytes());
    let check = head_check(&record[8..32], offset, before.seed);
    record[4..8].copy_from_slice(&check.to_le_bytes());
    record[36..40].copy_from_slice(&[0; 4]);
    let chain = chain_over(record, before.chain);
    record[32..36].copy_from_slice(&chain.to_le_bytes());
    chain
}

/// What a record's checksums start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    /// The segment's own value: [`SegmentHeader::chain`].
    pub(crate) seed: u32,
    /// The chain after the record before, or the seed again for the first.
    pub(crate) chain: u32,
}

/// Checksum of a record's header alone: it proves, without the records before, that this segment's
/// writer put it at this place in this life of the file.
fn head_check(fields: &[u8], offset: usize, seed: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(&(offset as u64).to_le_bytes());
    hasher.update(fields);
    hasher.finalize()
}

fn chain_over(record: &[u8], before: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(&record[..32]);
    hasher.update(&record[RECORD_HEADER_BYTES..]);
    hasher.finalize()
}

/// The header of a record, as far as it can be told without the ones before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    kind: RecordKind,
    lsn: Lsn,
    watermark: Lsn,
    payload_bytes: usize,
    /// Bytes of the whole record.
    bytes: usize,
}

fn head_at(segment: &[u8], offset: usize, seed: u32) -> Result<Head, Damage> {
    let head = segment.get(offset..).and_then(|rest| rest.get(..RECORD_HEADER_BYTES));
    let head = head.ok_or(Damage::Short)?;
    if u32_at(head, 0) != RECORD_MAGIC {
        return Err(Damage::NoRecord);
    }
    let kind = RecordKind::of(head[12]);
    let (Some(kind), true) = (kind, head_check(&head[8..32], offset, seed) == u32_at(head, 4))
    else {
        return Err(Damage::RecordHeader);
    };
    if head[13] != 0 || head[36..40] != [0; 4] {
        return Err(Damage::RecordHeader);
    }
    let payload_bytes = u32_at(head, 8) as usize;
    let padding = usize::from(u16::from_le_bytes([head[14], head[15]])) * PADDING_UNIT;
    let bytes = record_bytes(payload_bytes) + padding;
    let (lsn, watermark) = (Lsn(u64_at(head, 16)), Lsn(u64_at(head, 24)));
    Ok(Head { kind, lsn, watermark, payload_bytes, bytes })
}

/// Reads the records of a segment in order, checking each.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    segment: &'a [u8],
    before: Before,
    offset: usize,
    next: Lsn,
    /// The highest watermark of a record so far.
    claimed: Lsn,
    /// The header's watermark.
    durable: Lsn,
}

impl<'a> Records<'a> {
    /// The records of the segment with that header, of which `segment` is the whole.
    #[must_use]
    pub fn new(segment: &'a [u8], header: &SegmentHeader) -> Records<'a> {
        let seed = header.chain();
        let before = Before { seed, chain: seed };
        let (next, claimed) = (header.first, header.first.previous());
        let durable = header.watermark;
        Records { segment, before, offset: header.first_offset(), next, claimed, durable }
    }

    /// The next record, or why there is none here. That is not an error by itself: the log ends
    /// somewhere. Asking again gives the same answer.
    ///
    /// # Errors
    /// What is wrong with the bytes, taken for a record.
    pub fn next_record(&mut self) -> Result<Record, Damage> {
        let head = head_at(self.segment, self.offset, self.before.seed)?;
        let end = self.offset.saturating_add(head.bytes);
        let bytes = self.segment.get(self.offset..end).ok_or(Damage::Short)?;
        if head.lsn != self.next || head.watermark >= head.lsn || head.watermark < self.claimed {
            return Err(Damage::Order);
        }
        let chain = chain_over(bytes, self.before.chain);
        if chain != u32_at(bytes, 32) {
            return Err(Damage::Checksum);
        }
        let Head { kind, lsn, watermark, payload_bytes, bytes } = head;
        let offset = self.offset;
        let record = Record { kind, lsn, watermark, offset, payload_bytes, bytes, chain };
        self.offset = end;
        self.before.chain = chain;
        self.next = lsn.next();
        self.claimed = watermark;
        Ok(record)
    }

    /// Where the next record would start.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The number it would have.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// The chain so far.
    #[must_use]
    pub fn chain(&self) -> u32 {
        self.before.chain
    }

    /// Everything up to here was durable before the last record (or the segment) was written.
    #[must_use]
    pub fn watermark(&self) -> Lsn {
        self.claimed.max(self.durable)
    }

    /// What can be told about the bytes from here to the end of the file, where no valid record
    /// starts: a tail that a crash tore, or damage to something that was durable.
    #[must_use]
    pub fn rest(&self, recycled: bool) -> Rest {
        let mut rest = Rest { end: self.offset, damaged: self.watermark() >= self.next };
        if let Ok(head) = head_at(self.segment, self.offset, self.before.seed) {
            let end = self.offset.saturating_add(head.bytes);
            rest.end = end.min(self.segment.len());
        }
        let mut at = self.offset;
        while let Some(found) = find_magic(self.segment, at) {
            at = found + 8;
            let Ok(head) = head_at(self.segment, found, self.before.seed) else { continue };
            let end = found.saturating_add(head.bytes);
            rest.end = rest.end.max(end.min(self.segment.len()));
            // This life's writer put it there, after a sync had covered the record that is now
            // missing: no crash takes that away.
            rest.damaged |= head.watermark >= self.next;
        }
        if !recycled {
            let unread = self.segment.get(self.offset..).unwrap_or_default();
            let written = written_len(unread);
            rest.end = rest.end.max(if written > 0 { self.offset + written } else { 0 });
        }
        rest
    }
}

/// What follows the last valid record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Up to where something was written, as far as can be told.
    pub end: usize,
    /// Whether something durable is missing.
    pub damaged: bool,
}

/// Where from `from` on, in steps of 8 bytes, a record may start. Most of what is looked at is zeros:
/// a block of words is gone through without a branch, many words at a time.
fn find_magic(segment: &[u8], from: usize) -> Option<usize> {
    let (words, _) = segment.get(from..)?.as_chunks::<8>();
    let is_magic = |word: &[u8; 8]| u64::from_le_bytes(*word) as u32 == RECORD_MAGIC;
    let (blocks, _) = words.as_chunks::<32>();
    let has_magic = |block: &[[u8; 8]; 32]| block.iter().fold(false, |has, w| has | is_magic(w));
    let skipped = 32 * blocks.iter().take_while(|block| !has_magic(block)).count();
    let found = words[skipped..].iter().position(is_magic)?;
    Some(from + 8 * (skipped + found))
}

/// How many bytes there are up to the last one that is not zero.
fn written_len(bytes: &[u8]) -> usize {
    let (_, blocks) = bytes.as_rchunks::<256>();
    let is_zero = |block: &&[u8; 256]| block.iter().fold(0, |any, byte| any | byte) == 0;
    let zeros = 256 * blocks.iter().rev().take_while(is_zero).count();
    let written = &bytes[..bytes.len() - zeros];
    written.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_by_blocks_find_what_scans_by_bytes_find() {
        let mut rng = fastrand::Rng::with_seed(1);
        for len in (0..1200).step_by(7) {
            let mut bytes = vec![0; len];
            for _ in 0..rng.usize(..3) {
                let Some(at) = (len / 8).checked_sub(1).map(|last| 8 * rng.usize(..=last)) else {
                    continue;
                };
                bytes[at..at + 4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
            }
            let from = 8 * rng.usize(..10);
            let slowly = (from..len).step_by(8).find(|at| {
                bytes.get(*at..at + 8).is_some_and(|word| u32_at(word, 0) == RECORD_MAGIC)
            });
            assert_eq!(find_magic(&bytes, from), slowly, "{len} bytes from {from} on");
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            assert_eq!(written_len(&bytes), written, "{len} bytes");
        }
    }
}
