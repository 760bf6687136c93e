//! Runs of entries: one encoding for the wire and for the log.
//!
//! A run is a table of lengths, then the payloads back to back, so that a writer can hand the
//! payloads on as they are and a reader cuts them out of its buffer without copying.
//!
//! | bytes | entries |
//! |---|---|
//! | 4 | number of runs |
//! | … | the runs, each starting where the one before ends, terms never falling |
//!
//! | bytes | run |
//! |---|---|
//! | 8 | term, at least 1 |
//! | 8 | index of the first entry, at least 1 |
//! | 4 | number of entries `n`, at least 1 |
//! | 4 `n` | for each entry: payload length in the low 30 bits, kind in the two highest (0 normal, 1 conf change, 2 conf change v2) |
//! | … | the payloads |
//!
//! There is no checksum here: the log's records, the frames and the command envelopes have theirs.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use raft::{Entries, Entry, EntryKind, Index, LogId, Run, Term};

use crate::codec::{CodecError, Decoder, ENTRY_BYTES_MAX};

/// Version of this encoding; whoever stores or sends entries says it once, in a header.
pub const ENTRY_FORMAT: u32 = 1;

/// Bytes of a run before its table.
pub const RUN_HEADER_BYTES: usize = 20;

const LEN_BITS: u32 = 30;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;

/// How many bytes [`encode_entries`] writes.
#[must_use]
pub fn entries_len(entries: &Entries) -> usize {
    4 + entries.runs().iter().map(run_len).sum::<usize>()
}

/// How many bytes [`encode_run`] writes.
#[must_use]
pub fn run_len(run: &Run) -> usize {
    RUN_HEADER_BYTES + 4 * run.len() + run.payload_bytes() as usize
}

/// Appends `entries` to `out`, which grows or has room for [`entries_len`] bytes.
///
/// # Panics
/// If `out` is a fixed buffer that is too small, or a payload exceeds [`ENTRY_BYTES_MAX`], which
/// nobody may propose.
pub fn encode_entries(entries: &Entries, out: &mut impl BufMut) {
    out.put_u32_le(entries.runs().len() as u32);
    for run in entries.runs() {
        encode_run(run, out);
    }
}

/// Appends one run to `out`, which grows or has room for [`run_len`] bytes.
///
/// # Panics
/// As [`encode_entries`].
pub fn encode_run(run: &Run, out: &mut impl BufMut) {
    out.put_u64_le(run.term());
    out.put_u64_le(run.first());
    out.put_u32_le(run.len() as u32);
    for entry in run.entries() {
        assert!(entry.data.len() <= ENTRY_BYTES_MAX, "an entry is within its limit when proposed");
        out.put_u32_le(entry.data.len() as u32 | kind_code(entry.kind) << LEN_BITS);
    }
    for entry in run.entries() {
        out.put_slice(&entry.data);
    }
}

/// Reads what [`encode_entries`] wrote. The payloads are slices of the input.
///
/// # Errors
/// If a run is malformed, or the runs don't follow each other.
pub fn decode_entries(input: &mut Decoder) -> Result<Entries, CodecError> {
    let runs = input.u32("number of runs")?;
    let mut entries = Entries::new();
    for _ in 0..runs {
        let run = decode_run(input)?;
        let first = run.first();
        entries.push(run).map_err(|_| CodecError::invalid("start of a run", first))?;
    }
    Ok(entries)
}

/// Reads what [`encode_run`] wrote. The payloads are slices of the input.
///
/// # Errors
/// If a number is out of its range or the input is too short.
pub fn decode_run(input: &mut Decoder) -> Result<Run, CodecError> {
    let raw = RawRun::decode(input)?;
    let entries: Vec<Entry> = raw.entries(0).collect();
    let RunHead { term, first, len } = raw.head;
    Run::new(term, first, entries).ok_or(CodecError::invalid("length of a run", len))
}

/// Position and length of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHead {
    /// The term of its entries.
    pub term: Term,
    /// Index of the first.
    pub first: Index,
    /// How many, at least 1.
    pub len: u32,
}

/// Reads past a run, checking it as [`decode_run`] does.
///
/// # Errors
/// As [`decode_run`].
pub fn skip_run(input: &mut Decoder) -> Result<RunHead, CodecError> {
    Ok(RawRun::decode(input)?.head)
}

/// Appends the entries of a run that are within `window` to `out`, for as long as `take` wants
/// them; whether it wanted all. The payloads are slices of the input.
///
/// # Errors
/// As [`decode_run`], and if the run does not have all of the window.
pub fn decode_run_part(
    input: &mut Decoder,
    window: Range<Index>,
    out: &mut Vec<Entry>,
    take: &mut dyn FnMut(&Entry) -> bool,
) -> Result<bool, CodecError> {
    let raw = RawRun::decode(input)?;
    let RunHead { first, len, .. } = raw.head;
    if window.start < first || window.end > first + u64::from(len) {
        return Err(CodecError::invalid("first index of a run", first));
    }
    let count = window.end.saturating_sub(window.start) as usize;
    out.reserve(count);
    for entry in raw.entries((window.start - first) as usize).take(count) {
        if !take(&entry) {
            return Ok(false);
        }
        out.push(entry);
    }
    Ok(true)
}

/// A run whose numbers were checked, not yet cut into entries.
struct RawRun {
    head: RunHead,
    table: Bytes,
    payload: Bytes,
}

impl RawRun {
    fn decode(input: &mut Decoder) -> Result<RawRun, CodecError> {
        let term: Term = input.u64("term of a run")?;
        let first: Index = input.u64("first index of a run")?;
        let len = input.u32("length of a run")?;
        if term == 0 {
            return Err(CodecError::invalid("term of a run", term));
        }
        if first == 0 || first.checked_add(u64::from(len)).is_none() {
            return Err(CodecError::invalid("first index of a run", first));
        }
        if len == 0 {
            return Err(CodecError::invalid("length of a run", len));
        }
        let table = input.bytes(4 * len as usize, "table of a run")?;
        let payload = input.bytes(check_table(&table)?, "payloads of a run")?;
        Ok(RawRun { head: RunHead { term, first, len }, table, payload })
    }

    /// The entries from the one with number `from` on.
    fn entries(&self, from: usize) -> impl Iterator<Item = Entry> {
        let (before, words) = self.table.split_at(4 * from);
        let mut start: usize = before.chunks_exact(4).map(|word| split_word(word).1).sum();
        words.chunks_exact(4).map(move |word| {
            let (kind, len) = split_word(word);
            let data = self.payload.slice(start..start + len);
            start += len;
            Entry { kind: kind.unwrap_or_default(), data }
        })
    }
}

/// Checks every word of a run's table and returns the sum of the lengths.
fn check_table(table: &Bytes) -> Result<usize, CodecError> {
    let mut total = 0;
    for word in table.chunks_exact(4) {
        let (kind, len) = split_word(word);
        if kind.is_none() {
            return Err(CodecError::invalid("kind of an entry", 3u32));
        }
        if len > ENTRY_BYTES_MAX {
            let (value, max) = (len as u64, ENTRY_BYTES_MAX as u64);
            return Err(CodecError::TooLarge { what: "payload of an entry", value, max });
        }
        total += len;
    }
    Ok(total)
}

fn split_word(word: &[u8]) -> (Option<EntryKind>, usize) {
    let word = word.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte));
    let kind = match word >> LEN_BITS {
        0 => Some(EntryKind::Normal),
        1 => Some(EntryKind::ConfChange),
        2 => Some(EntryKind::ConfChangeV2),
        _ => None,
    };
    (kind, (word & LEN_MASK) as usize)
}

fn kind_code(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    }
}

/// Appends a log position: term, then index, 8 bytes each.
pub fn encode_log_id(id: LogId, out: &mut impl BufMut) {
    out.put_u64_le(id.term);
    out.put_u64_le(id.index);
}

/// Reads what [`encode_log_id`] wrote.
///
/// # Errors
/// If the input is too short, or exactly one of term and index is 0.
pub fn decode_log_id(input: &mut Decoder, what: &'static str) -> Result<LogId, CodecError> {
    let id = LogId::new(input.u64(what)?, input.u64(what)?);
    if (id.term == 0) != (id.index == 0) {
        return Err(CodecError::invalid(what, id.index));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(term: Term, first: Index, payloads: &[&'static [u8]]) -> Run {
        let entries: Vec<_> =
            payloads.iter().map(|p| Entry::normal(Bytes::from_static(p))).collect();
        Run::new(term, first, entries).expect("not empty")
    }

    fn encoded(entries: &Entries) -> Bytes {
        let mut out = Vec::new();
        encode_entries(entries, &mut out);
        assert_eq!(out.len(), entries_len(entries));
        out.into()
    }

    fn decoded(data: Bytes) -> Result<Entries, CodecError> {
        let mut input = Decoder::new(data);
        let entries = decode_entries(&mut input)?;
        input.finish("entries")?;
        Ok(entries)
    }

    /// The format, byte by byte: changing it needs a new version, not a new expectation.
    #[test]
    fn golden_bytes() {
        let mut entries = Entries::from(run(3, 7, &[b"ab", b""]));
        let change = Entry { kind: EntryKind::ConfChangeV2, data: Bytes::from_static(b"!") };
        entries.push(Run::new(4, 9, vec![change]).expect("not empty")).expect("consecutive");
        let mut expected = vec![2, 0, 0, 0];
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"ab");
        expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        expected.extend([1, 0, 0, 0x80]);
        expected.extend(b"!");
        assert_eq!(encoded(&entries), expected);
        assert_eq!(decoded(expected.into()), Ok(entries));
    }

    #[test]
    fn payloads_are_slices_of_the_input() {
        let data = encoded(&run(1, 1, &[b"payload"]).into());
        let entries = decoded(data.clone()).expect("just encoded");
        let payload = &entries.get(1).expect("the entry").entry.data;
        assert!(data.as_ptr_range().contains(&payload.as_ptr()));
    }

    #[test]
    fn parts_of_a_run_are_those_of_the_whole() {
        let whole = run(2, 5, &[b"a", b"", b"ccc", b"dd"]);
        let data = encoded(&whole.clone().into()).slice(4..);
        for (start, end) in (5..=9).flat_map(|start| (start..=9).map(move |end| (start, end))) {
            let mut part = Vec::new();
            let all = &mut |_: &Entry| true;
            let mut input = Decoder::new(data.clone());
            assert_eq!(decode_run_part(&mut input, start..end, &mut part, all), Ok(true));
            assert_eq!(input.remaining(), 0);
            assert_eq!(Run::new(2, start, part), whole.slice(start..end));
        }
        let mut part = Vec::new();
        let mut two = 2;
        let limit = &mut |_: &Entry| {
            two -= 1;
            two >= 0
        };
        let mut input = Decoder::new(data.clone());
        assert_eq!(decode_run_part(&mut input, 6..9, &mut part, limit), Ok(false));
        assert_eq!(Run::new(2, 6, part), whole.slice(6..8));
        for outside in [4..6, 8..10] {
            let mut input = Decoder::new(data.clone());
            assert!(decode_run_part(&mut input, outside, &mut Vec::new(), &mut |_| true).is_err());
        }
        let head = skip_run(&mut Decoder::new(data));
        assert_eq!(head, Ok(RunHead { term: 2, first: 5, len: 4 }));
    }

    #[test]
    fn refuses_what_cannot_be() {
        let good = encoded(&run(1, 1, &[b"x", b"y"]).into());
        let with = |at: usize, byte: u8| {
            let mut bad = good.to_vec();
            bad[at] = byte;
            decoded(bad.into()).expect_err("refused")
        };
        let invalid = |what, value| CodecError::Invalid { what, value };
        assert_eq!(with(4, 0), invalid("term of a run", 0));
        assert_eq!(with(12, 0), invalid("first index of a run", 0));
        assert_eq!(with(20, 0), invalid("length of a run", 0));
        assert_eq!(with(27, 0xc0), invalid("kind of an entry", 3));
        assert!(matches!(with(27, 0x3f), CodecError::TooLarge { .. }));
        assert_eq!(with(24, 2), CodecError::Truncated { what: "payloads of a run" });
        assert_eq!(with(23, 0xff), CodecError::Truncated { what: "table of a run" });
        let gap = [encoded(&run(1, 1, &[b"x"]).into()), encoded(&run(1, 3, &[b"x"]).into())];
        let mut bad = vec![2, 0, 0, 0];
        gap.iter().for_each(|part| bad.extend(&part[4..]));
        assert_eq!(decoded(bad.into()), Err(invalid("start of a run", 3)));
    }

    #[test]
    fn every_prefix_is_refused() {
        let good = encoded(&run(5, 9, &[b"one", b"", b"three"]).into());
        for len in 0..good.len() {
            assert!(decoded(good.slice(..len)).is_err(), "{len} bytes of {}", good.len());
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            first in 1..u64::MAX / 2,
            runs in prop::collection::vec(
                (0..3u64, prop::collection::vec((0..3usize, prop::collection::vec(any::<u8>(), 0..40)), 1..6)),
                0..4,
            ),
        ) {
            let kinds = [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2];
            let (mut entries, mut term, mut next) = (Entries::new(), 1, first);
            for (more, payloads) in runs {
                term += more;
                let run: Vec<_> = payloads
                    .into_iter()
                    .map(|(kind, data)| Entry { kind: kinds[kind], data: data.into() })
                    .collect();
                let run = Run::new(term, next, run).expect("not empty");
                next = run.last().index + 1;
                entries.push(run).expect("consecutive");
            }
            prop_assert_eq!(decoded(encoded(&entries)), Ok(entries));
        }

        #[test]
        fn garbage_never_panics(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decoded(data.into());
        }
    }
}
