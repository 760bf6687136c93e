//! Bytes that change at rest: nothing durable may go missing without a word.

use proptest::prelude::*;

use super::images::open;
use super::support::{Model, Step, append, append_one, filled, hard_state};
use crate::codec::Decoder;
use crate::disk::sim::Crash;
use crate::disk::{SECTOR_BYTES, SimDisk};
use crate::wal::{
    HEADER_BYTES, RECORD_HEADER_BYTES, RecordKind, Records, SegmentHeader, WalError, batch,
    segment_name,
};

/// A log of two segments, synced after each batch, and what it is after each of them.
struct Log {
    disk: SimDisk,
    models: Vec<Model>,
    segments: Vec<Vec<u8>>,
}

/// `closed` leaves the mark of a clean end.
fn log(batches: u64, closed: bool) -> Log {
    let disk = SimDisk::new(1);
    let mut wal = open(disk.mount()).expect("opens").0;
    let mut models = vec![Model::default()];
    for n in 0..batches {
        let mut one = Step::append(1, filled(1 + n / 4, 1 + 2 * n, 2, 90 + n as usize));
        one.hard_state = Some(hard_state(1 + n / 4, 1, 2 * n));
        let two = Step::append(2, filled(1, 1 + n, 1, 700));
        append(&mut wal, &[one.clone(), two.clone()]).expect("appends");
        wal.sync().expect("syncs");
        let mut next = models[models.len() - 1].clone();
        next.apply(&[one, two]);
        models.push(next);
    }
    if closed {
        wal.close().expect("closes");
    }
    disk.crash(Crash::Process);
    let ids = (1..).map_while(|id| disk.content(&segment_name(id)));
    Log { segments: ids.collect(), disk, models }
}

/// The records of a segment's content.
fn records(content: &[u8]) -> Vec<std::ops::Range<usize>> {
    let header = SegmentHeader::decode(content).expect("a segment");
    let mut records = Records::new(content, &header);
    std::iter::from_fn(|| records.next_record().ok()).map(|r| r.offset..r.end()).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Refused, naming a place not behind the damage.
    Refused,
    /// All is there.
    Whole,
    /// The last batch is missing, and opening said so.
    Cut,
}

impl Log {
    /// Opens the log after `change` to a segment, where the bytes of `damaged` differ.
    fn damaged(&self, segment: usize, at: usize, change: impl FnOnce(&mut Vec<u8>)) -> Verdict {
        let disk = self.disk.fork();
        let name = segment_name(segment as u64 + 1);
        disk.damage(&name, change);
        self.verdict(&disk, &name, at)
    }

    fn verdict(&self, disk: &SimDisk, name: &str, at: usize) -> Verdict {
        match open(disk.mount()) {
            Ok((wal, recovered)) => {
                let read = Model::read(&wal, &recovered.groups);
                let state = self.models.iter().position(|model| *model == read);
                match self.models.len() - 1 - state.expect("a state of the log") {
                    0 => Verdict::Whole,
                    1 => {
                        let torn = recovered.torn.expect("a shorter log is reported");
                        assert!(torn.offset <= at as u64 && torn.bytes > 0, "{torn:?}, {at}");
                        Verdict::Cut
                    }
                    n => panic!("{n} durable batches are missing after damage at {at} of {name}"),
                }
            }
            Err(WalError::Corrupt { file, offset, .. }) => {
                assert!(file == name && offset <= at as u64, "{file}, {offset}: {name}, {at}");
                Verdict::Refused
            }
            Err(error) => panic!("{error} after damage at {at} of {name}"),
        }
    }
}

/// Every single bit of a log that was closed: what it says is refused if it is changed, and no
/// batch goes missing (museum W4, W6).
#[test]
fn w4_every_flipped_bit_of_a_closed_log_is_noticed() {
    let log = log(9, true);
    assert_eq!(log.segments.len(), 2);
    let mut refused = 0;
    for (segment, content) in log.segments.iter().enumerate() {
        let records = records(content);
        // The mark at the end is not missed by anybody.
        let data = records[records.len() - 1 - segment].end;
        for bit in 0..8 * (data + 64).min(content.len()) {
            let at = bit / 8;
            let verdict = log.damaged(segment, at, |bytes| bytes[at] ^= 1 << (bit % 8));
            let says = at < data;
            let expected = if says { Verdict::Refused } else { Verdict::Whole };
            assert_eq!(verdict, expected, "segment {segment}, bit {bit}");
            refused += u64::from(says);
        }
    }
    assert!(refused > 60_000, "{refused}");
}

/// Without the mark, the last batch alone may pass for torn: no record says that it was synced
/// (museum W4).
#[test]
fn w4_a_crash_leaves_only_the_last_batch_in_doubt() {
    let log = log(7, false);
    let segment = log.segments.len() - 1;
    let content = &log.segments[segment];
    let records = records(content);
    let last = &records[records.len() - 1];
    for bit in (0..8 * last.end).step_by(7) {
        let at = bit / 8;
        let verdict = log.damaged(segment, at, |bytes| bytes[at] ^= 1 << (bit % 8));
        let expected = if at < last.start { Verdict::Refused } else { Verdict::Cut };
        assert_eq!(verdict, expected, "bit {bit}");
    }
}

/// Any length, number or kind in a record's header (museum W6).
#[test]
fn w6_any_word_of_a_record_header_may_be_anything() {
    let log = log(9, true);
    let mut rng = fastrand::Rng::with_seed(6);
    for (segment, content) in log.segments.iter().enumerate() {
        let records = records(content);
        for record in &records[..records.len() - segment] {
            for word in (record.start..record.start + RECORD_HEADER_BYTES).step_by(4) {
                for value in [0, 1, u32::MAX, 8 << 10, rng.u32(..), rng.u32(..)] {
                    let value = value.to_le_bytes();
                    if content[word..word + 4] == value {
                        continue;
                    }
                    let verdict = log.damaged(segment, word, |bytes| {
                        bytes[word..word + 4].copy_from_slice(&value);
                    });
                    assert_eq!(verdict, Verdict::Refused, "{word} of {segment}");
                }
            }
        }
    }
}

/// A sector that is zero, or another sector's, or what it was before (museum W21).
#[test]
fn w21_lost_stale_and_misdirected_sectors_are_noticed() {
    let (log, before) = (log(9, true), log(4, false));
    let mark = records(&log.segments[1]).pop().expect("the mark");
    let sectors = |content: &[u8]| content.len() / SECTOR_BYTES;
    let sector = |n: usize| n * SECTOR_BYTES..(n + 1) * SECTOR_BYTES;
    let mut noticed = 0;
    for (segment, content) in log.segments.iter().enumerate() {
        for to in 0..sectors(content) {
            let mut put = |from: &[u8]| {
                if content[sector(to)] == *from {
                    return;
                }
                let at = sector(to).end;
                let verdict =
                    log.damaged(segment, at, |bytes| bytes[sector(to)].copy_from_slice(from));
                // Nothing is left to prove the end durable if the mark goes with it.
                let marked = segment == 1 && sector(to).end > mark.start;
                assert!(verdict != Verdict::Cut || marked, "sector {to} of segment {segment}");
                noticed += u64::from(verdict == Verdict::Refused);
            };
            put(&[0; SECTOR_BYTES]);
            put(&before.segments[0][sector(to)]);
            for other in &log.segments {
                (0..sectors(other)).for_each(|from| put(&other[sector(from)]));
            }
        }
    }
    assert!(noticed > 500, "{noticed}");
}

/// A record at another's place, of this segment or of another (museum W21).
#[test]
fn w21_a_record_counts_only_where_it_was_written() {
    let log = log(9, true);
    for (segment, content) in log.segments.iter().enumerate() {
        let own = records(content);
        for (source, from) in
            log.segments.iter().flat_map(|s| records(s).into_iter().map(move |r| (s, r)))
        {
            for to in &own[..own.len() - segment] {
                let end = (to.start + from.len()).min(content.len());
                let bytes = &source[from.start..from.start + (end - to.start)];
                if content[to.start..end] == *bytes {
                    continue;
                }
                let verdict = log.damaged(segment, to.start, |content| {
                    content[to.start..end].copy_from_slice(bytes);
                });
                assert_eq!(verdict, Verdict::Refused);
            }
        }
    }
}

/// Two lives of one disk that part, with records of equal sizes: same segments, salts, offsets and
/// numbers. What one wrote is no part of the other, because a record continues exactly the ones
/// before it, and a segment exactly the one before (museum W21).
#[test]
fn w21_a_record_counts_only_after_those_it_was_written_after() {
    let disk = SimDisk::new(1);
    let mut wal = open(disk.mount()).expect("opens").0;
    append_one(&mut wal, &Step::append(1, filled(1, 1, 1, 900))).expect("appends");
    wal.sync().expect("syncs");
    let twin = disk.fork();
    let life = |disk: &SimDisk, term| {
        // The twin cannot go on with the writer; it opens the log first, as the original does.
        disk.reseed(5);
        disk.crash(Crash::Process);
        let mut wal = open(disk.mount()).expect("opens").0;
        for index in 2..14 {
            append_one(&mut wal, &Step::append(1, filled(term, index, 1, 900))).expect("appends");
            wal.sync().expect("syncs");
        }
        wal.close().expect("closes");
        disk.crash(Crash::Process);
    };
    life(&disk, 2);
    life(&twin, 3);
    drop(wal);
    for id in [1, 2] {
        let (one, two) = (disk.content(&segment_name(id)), twin.content(&segment_name(id)));
        let (one, two) = (one.expect("a segment"), two.expect("a segment"));
        let salt = |content| SegmentHeader::decode(content).expect("a segment").salt;
        assert_eq!(salt(&one), salt(&two));
        let places = records(&one);
        assert_eq!(places, records(&two));
        // The first record of all is the same in both, and nobody misses the mark at the end.
        for place in &places[usize::from(id == 1)..places.len() - usize::from(id == 2)] {
            let spliced = disk.fork();
            let record = &two[place.clone()];
            spliced.damage(&segment_name(id), |bytes| bytes[place.clone()].copy_from_slice(record));
            assert!(matches!(open(spliced.mount()), Err(WalError::Corrupt { .. })), "{place:?}");
        }
        let swapped = disk.fork();
        swapped.damage(&segment_name(id), |bytes| *bytes = two);
        assert!(matches!(open(swapped.mount()), Err(WalError::Corrupt { .. })), "{id}");
    }
}

/// A segment under another's name, missing, or cut short (museum W19, W23).
#[test]
fn w23_names_and_lengths_are_only_hints() {
    let log = log(16, true);
    assert!(log.segments.len() >= 3, "{}", log.segments.len());
    let middle = segment_name(2);
    let swapped = log.segments[0].clone();
    assert_eq!(log.damaged(1, 0, |bytes| *bytes = swapped), Verdict::Refused);
    for len in [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, 4000] {
        assert_eq!(log.damaged(1, len, |bytes| bytes.truncate(len)), Verdict::Refused, "{len}");
    }
    let disk = log.disk.fork();
    disk.mount().remove(&middle).expect("removes");
    let error = open(disk.mount()).expect_err("refused");
    assert!(error.to_string().contains("segment 2 is missing"), "{error}");
    // Something else that happens to lie there is nobody's business.
    let disk = log.disk.fork();
    disk.mount().create("wal-7.log").expect("creates");
    assert!(open(disk.mount()).is_ok());
}

/// Not by its name, by what it says itself (museum W23).
#[test]
fn w23_segments_of_others_and_of_other_versions_are_refused_by_name() {
    let log = log(2, true);
    let with = |change: &dyn Fn(&mut SegmentHeader)| {
        let disk = log.disk.fork();
        disk.damage(&segment_name(1), |bytes| {
            let mut header = SegmentHeader::decode(bytes).expect("a segment");
            change(&mut header);
            bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        });
        open(disk.mount()).expect_err("refused")
    };
    let foreign = with(&|header| header.store.0 = 9);
    assert!(matches!(&foreign, WalError::Foreign { store, .. } if store.0 == 9), "{foreign}");
    let foreign = with(&|header| header.cluster.0 = 8);
    assert!(matches!(&foreign, WalError::Foreign { cluster, .. } if cluster.0 == 8), "{foreign}");
    let disk = log.disk.fork();
    disk.damage(&segment_name(1), |bytes| {
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    });
    let newer = open(disk.mount()).expect_err("refused");
    assert!(matches!(newer, WalError::Version { found: 2, known: 1, .. }), "{newer}");
}

/// The format, byte by byte: changing it needs a new version, not a new expectation.
#[test]
fn golden_bytes_of_a_record() {
    let log = log(1, true);
    let content = &log.segments[0];
    let records = records(content);
    let (record, mark) = (&content[records[0].clone()], &content[records[1].clone()]);
    let expected = [
        0x6d, 0x2a, 0xc7, 0xb5, record[4], record[5], record[6], record[7], 0xe0, 3, 0, 0, 1, 0, 0,
        0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, record[32], record[33], record[34],
        record[35], 0, 0, 0, 0,
    ];
    assert_eq!(record[..RECORD_HEADER_BYTES], expected);
    let group = [
        2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        2, 0, 0, 0, 90, 0, 0, 0, 90, 0, 0, 0, 1, 1, 1,
    ];
    assert_eq!(record[RECORD_HEADER_BYTES..][..group.len()], group);
    assert_eq!(mark.len(), RECORD_HEADER_BYTES);
    assert_eq!((mark[12], mark[16], mark[24]), (5, 2, 1));
    let header = SegmentHeader::decode(content).expect("a segment");
    let mut reader = Records::new(content, &header);
    let kinds: Vec<_> = std::iter::from_fn(|| reader.next_record().ok()).map(|r| r.kind).collect();
    assert_eq!(kinds, [RecordKind::Whole, RecordKind::Mark]);
}

proptest! {
    /// Bytes are checked before they are believed (museum W24).
    #[test]
    fn w24_garbage_is_an_error_and_never_a_panic(
        data in prop::collection::vec(any::<u8>(), 0..2000),
        at in 0..3000usize,
    ) {
        let _ = SegmentHeader::decode(&data);
        let _ = batch::decode(Decoder::new(data.clone().into()));
        let log = log(3, false);
        let disk = log.disk.fork();
        disk.damage(&segment_name(1), |bytes| {
            let end = (at + data.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&data[..end - at]);
        });
        let _ = open(disk.mount());
        let disk = log.disk.fork();
        disk.damage(&segment_name(1), |bytes| *bytes = data);
        let _ = open(disk.mount());
    }
}
