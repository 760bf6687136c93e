//! The envelope around every command in a log entry.
//!
//! It names the region and the shape (epoch) the command was made for, so that both are checked
//! again when the entry is applied, perhaps long after it was proposed; and it carries a checksum
//! that is computed once, by the proposer, and holds all the way through wires, logs and memory to
//! every state machine.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | kind: 0 application, 1 compact log |
//! | 2 | zero |
//! | 4 | CRC-32 of the four bytes before and of everything after |
//! | 8 | region |
//! | 8 | epoch: version |
//! | 8 | epoch: conf_ver |
//! | … | body |
//!
//! An entry without any data is the no-op of a new leader (§8) and has no envelope.

use bytes::{BufMut, Bytes, BytesMut};
use raft::Index;

use crate::codec::{CodecError, ENTRY_BYTES_MAX};
use crate::region::{Epoch, RegionId};

/// Version of the envelope.
pub const COMMAND_FORMAT: u8 = 1;

/// Bytes of the envelope around a body.
pub const HEADER_BYTES: usize = 32;

/// Most bytes a body may have.
pub const BODY_BYTES_MAX: usize = ENTRY_BYTES_MAX - HEADER_BYTES;

/// Who a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// The state machine's own.
    Application,
    /// The log is no longer needed up to the index in the body (§7). The state machine changes
    /// nothing and returns the index in `Effects::compact`.
    CompactLog,
}

/// A command with its envelope taken off. It borrows what it was read from: of the many copies of
/// an entry's command that are looked at, hardly any is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The region it was proposed to.
    pub region: RegionId,
    /// The region's epoch when it was proposed.
    pub epoch: Epoch,
    /// Who it is for.
    pub kind: CommandKind,
    /// What it says.
    pub body: &'a [u8],
}

impl Command<'_> {
    /// Reads the envelope off `data`.
    ///
    /// # Errors
    /// If the checksum is wrong, or this version does not know the version or the kind. Every
    /// store answers the same for the same bytes.
    pub fn decode(data: &[u8]) -> Result<Command<'_>, CodecError> {
        let cut_short = CodecError::Truncated { what: "envelope of a command" };
        let (head, rest) = data.split_first_chunk::<8>().ok_or(cut_short)?;
        let (place, body) = rest.split_first_chunk::<24>().ok_or(cut_short)?;
        let [version, kind, _, _, sum @ ..] = *head;
        if version != COMMAND_FORMAT {
            return Err(CodecError::invalid("version of a command", version));
        }
        if u32::from_le_bytes(sum) != checksum(&head[..4], rest) {
            return Err(CodecError::Checksum { what: "a command" });
        }
        let [region, version, conf_ver] = numbers(place);
        Ok(Command {
            region: RegionId(region),
            epoch: Epoch { version, conf_ver },
            kind: match kind {
                0 => CommandKind::Application,
                1 => CommandKind::CompactLog,
                _ => return Err(CodecError::invalid("kind of a command", kind)),
            },
            body,
        })
    }

    /// The index of a [`CommandKind::CompactLog`].
    ///
    /// # Errors
    /// If the body is not an index.
    pub fn compact_index(&self) -> Result<Index, CodecError> {
        match self.body.split_first_chunk() {
            Some((index, [])) => Ok(u64::from_le_bytes(*index)),
            Some((_, rest)) => {
                Err(CodecError::Trailing { what: "a compaction", bytes: rest.len() })
            }
            None => Err(CodecError::Truncated { what: "index of a compaction" }),
        }
    }
}

/// The three numbers in so many bytes.
fn numbers(bytes: &[u8; 24]) -> [u64; 3] {
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    numbers
}

/// Puts `body` into an envelope: one allocation, one copy.
#[must_use]
pub fn encode(region: RegionId, epoch: Epoch, kind: CommandKind, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + body.len());
    let kind = match kind {
        CommandKind::Application => 0,
        CommandKind::CompactLog => 1,
    };
    out.put_slice(&[COMMAND_FORMAT, kind, 0, 0, 0, 0, 0, 0]);
    out.put_u64_le(region.0);
    out.put_u64_le(epoch.version);
    out.put_u64_le(epoch.conf_ver);
    out.put_slice(body);
    let sum = checksum(&out[..4], &out[8..]);
    out[4..8].copy_from_slice(&sum.to_le_bytes());
    out.freeze()
}

/// The command that lets the log go up to `index`.
#[must_use]
pub fn encode_compact_log(region: RegionId, epoch: Epoch, index: Index) -> Bytes {
    encode(region, epoch, CommandKind::CompactLog, &index.to_le_bytes())
}

fn checksum(before: &[u8], after: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update(after);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch { version: 2, conf_ver: 5 };

    fn example() -> Bytes {
        encode(RegionId(7), EPOCH, CommandKind::Application, b"body")
    }

    /// The format, byte by byte: changing it needs a new version, not a new expectation.
    #[test]
    fn golden_bytes() {
        let mut expected = vec![1, 0, 0, 0, 0x66, 0x76, 0x58, 0x44];
        expected.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"body");
        assert_eq!(example(), expected);
    }

    #[test]
    fn comes_back_as_it_went_in_without_a_copy() {
        let data = example();
        let command = Command::decode(&data).expect("just encoded");
        let kind = CommandKind::Application;
        let expected = Command { region: RegionId(7), epoch: EPOCH, kind, body: b"body" };
        assert_eq!(command, expected);
        assert!(data.as_ptr_range().contains(&command.body.as_ptr()));
    }

    #[test]
    fn compact_log_carries_its_index() {
        let data = encode_compact_log(RegionId(1), EPOCH, 77);
        let command = Command::decode(&data).expect("valid");
        assert_eq!(command.kind, CommandKind::CompactLog);
        assert_eq!(command.compact_index(), Ok(77));
        let data = example();
        let other = Command::decode(&data).expect("valid");
        assert!(other.compact_index().is_err(), "four bytes are not an index");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = example();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Command::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Command::decode(&good.slice(..len)).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn unknown_kinds_and_versions_are_refused_by_name() {
        let sealed = |version: u8, kind: u8| {
            let mut data = example().to_vec();
            (data[0], data[1]) = (version, kind);
            let sum = checksum(&data[..4], &data[8..]);
            data[4..8].copy_from_slice(&sum.to_le_bytes());
            Command::decode(&data).map(|command| command.kind)
        };
        assert_eq!(sealed(2, 0), Err(CodecError::invalid("version of a command", 2u8)));
        assert_eq!(sealed(1, 9), Err(CodecError::invalid("kind of a command", 9u8)));
    }
}
