//! Damage at rest: bits flipped one by one in a log of 64 KiB, and sectors that are zero, stale,
//! swapped or another's (museum W4, W6, W21).
//!
//! The log ends with the mark of a clean close, so all before the mark is known to be durable, and
//! any change to it has to be refused by file and offset. Where the mark itself is hit, nothing is
//! left to prove the last batch durable, and it may pass for torn; but never silently.
//!
//! A log is divided over [`CHUNKS`] rounds, so that so many rounds in a row flip every bit of it.

use std::collections::BTreeSet;
use std::ops::Range;

use raftstore::disk::sim::Crash;
use raftstore::disk::{SECTOR_BYTES, SimDisk};
use raftstore::wal::{
    HEADER_BYTES, Inspection, RecordKind, Records, Recovered, SegmentHeader, Wal, WalError,
    segment_id, segment_name,
};

use super::counts::Counts;
use super::model::{IDENTITY, Model, Step, append, filled, hard_state, open};
use super::workload::is_direct;

/// Over how many rounds a log is divided.
pub(super) const CHUNKS: u64 = 32;
/// How long the log is at least, without what is unused at the end of segments.
pub(super) const LOG_BYTES: usize = 64 << 10;

/// A segment of a log that was closed.
struct Segment {
    name: String,
    content: Vec<u8>,
    /// The header and the records: what must not change.
    said: Vec<Range<usize>>,
    /// Where the mark at the end of the log is, if it is in here.
    mark: Option<usize>,
}

/// A log that was closed.
struct Log {
    disk: SimDisk,
    model: Model,
    segments: Vec<Segment>,
}

impl Log {
    /// The log on a disk whose process has ended.
    fn of(disk: SimDisk, model: Model) -> Result<Log, String> {
        let names = disk.mount().list().map_err(|error| error.to_string())?;
        let mut segments = Vec::new();
        for name in names.into_iter().filter(|name| segment_id(name).is_some()) {
            let content = disk.content(&name).unwrap_or_default();
            let header = SegmentHeader::decode(&content).map_err(|error| format!("{error:?}"))?;
            segments.push((name, content, header));
        }
        let nexts = segments.iter().skip(1).map(|(_, _, next)| next.previous_end as usize);
        let ends: Vec<usize> = nexts.chain([usize::MAX]).collect();
        let segments = segments.into_iter().zip(ends);
        let segments =
            segments.map(|((name, content, header), end)| Segment::of(name, content, &header, end));
        Ok(Log { disk, model, segments: segments.collect() })
    }

    /// What becomes of the log with other contents of some segments, which differ at `at` first in
    /// each. Whether it was refused.
    fn open(&self, changed: &[(usize, Vec<u8>)]) -> Result<bool, String> {
        let disk = self.disk.fork();
        let mut must_refuse = false;
        let mut mark_hit = false;
        for (segment, content) in changed {
            let Segment { name, content: old, said, mark } = &self.segments[*segment];
            let differs = |range: &Range<usize>| old[range.clone()] != content[range.clone()];
            must_refuse |= said.iter().any(differs);
            mark_hit |= mark.is_some_and(|mark| differs(&(mark..old.len())));
            disk.damage(name, |bytes| bytes.clone_from(content));
        }
        let opened = opened_as_seen(&disk)?;
        match opened {
            Ok((wal, recovered)) => {
                if must_refuse && !mark_hit {
                    return Err("damage to what was durable is not noticed".to_owned());
                }
                let read = Model::read(&wal, &recovered.groups)?;
                if read != self.model && (recovered.torn.is_none() || !mark_hit) {
                    return Err(format!("silently became {}", read.line()));
                }
                Ok(false)
            }
            Err(WalError::Corrupt { file, offset, .. }) => {
                let named = |(segment, content): &(usize, Vec<u8>)| {
                    let Segment { name, content: old, .. } = &self.segments[*segment];
                    let last = old.iter().zip(content).rposition(|(old, new)| old != new);
                    *name == file && last.is_some_and(|last| offset <= last as u64)
                };
                if !must_refuse && !mark_hit {
                    return Err(format!(
                        "refused at {offset} of {file} for bytes that say nothing"
                    ));
                }
                if changed.iter().any(named) {
                    Ok(true)
                } else {
                    Err(format!("refused at {offset} of {file}, which is not where it is damaged"))
                }
            }
            Err(error) => Err(format!("refused, but not as corrupt: {error}")),
        }
    }
}

/// Opens the log; a look at it must have had the same verdict (museum W5).
fn opened_as_seen(disk: &SimDisk) -> Result<Result<(Wal, Recovered), WalError>, String> {
    let seen = Inspection::open(disk.mount().as_ref(), &IDENTITY).and_then(|log| log.verdict());
    let opened = open(disk.mount());
    let is_same = match (&seen, &opened) {
        (Ok(seen), Ok((_, opened))) => {
            seen.recovered.groups == opened.groups && seen.recovered.torn == opened.torn
        }
        (Err(seen), Err(opened)) => seen.to_string() == opened.to_string(),
        _ => false,
    };
    if is_same {
        return Ok(opened);
    }
    Err(format!("a look says {seen:?}, a start {:?}", opened.map(|(_, recovered)| recovered)))
}

impl Segment {
    fn of(name: String, content: Vec<u8>, header: &SegmentHeader, end: usize) -> Segment {
        let mut said: Vec<Range<usize>> = std::iter::once(0..HEADER_BYTES).collect();
        let mut mark = None;
        let mut records = Records::new(&content, header);
        while records.offset() < end
            && let Ok(record) = records.next_record()
        {
            if end == usize::MAX && record.kind == RecordKind::Mark {
                mark = Some(record.offset);
            } else {
                said.push(record.offset..record.end());
                mark = None;
            }
        }
        Segment { name, content, said, mark }
    }
}

/// After a recovery and a clean end: one bit of all that was durable (simulation.md 3.6).
pub(super) fn rot(
    image: &SimDisk,
    rng: &mut fastrand::Rng,
    counts: &mut Counts,
) -> Result<(), String> {
    counts.add("bits rotten where all was synced", 1);
    let disk = image.fork();
    let opened = open(disk.mount()).map_err(|error| format!("opened before, and now: {error}"))?;
    let model = Model::read(&opened.0, &opened.1.groups)?;
    opened.0.close().map_err(|error| format!("after recovery: {error}"))?;
    disk.crash(Crash::Process);
    let log = Log::of(disk, model)?;
    let segment = rng.usize(..log.segments.len());
    let Segment { name, content, said, .. } = &log.segments[segment];
    let place = &said[rng.usize(..said.len())];
    let bit = 8 * rng.usize(place.clone()) + rng.usize(..8);
    let mut content = content.clone();
    content[bit / 8] ^= 1 << (bit % 8);
    let opened = log.open(&[(segment, content)]);
    opened
        .map(drop)
        .map_err(|what| format!("recovered, closed, bit {bit} of {name} flipped: {what}"))
}

/// A log long enough, and every content that its sectors have had on the disk before.
struct Grown {
    log: Log,
    stale: Vec<(usize, usize, Vec<u8>)>,
}

fn grow(seed: u64) -> Result<Grown, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = SimDisk::new(seed);
    disk.set_direct(is_direct(seed));
    let refused = |error: WalError| format!("a working disk, and yet: {error}");
    let mut wal = open(disk.mount()).map_err(refused)?.0;
    let mut model = Model::default();
    let mut before: BTreeSet<(String, usize, Vec<u8>)> = BTreeSet::new();
    while wal.written_bytes() < LOG_BYTES as u64 {
        let step = |region| {
            let last = model.last(region);
            let (term, first) = (last.term.max(1) + rng.u64(..2), last.index + 1);
            let mut step =
                Step::append(region, filled(term, first, rng.u64(1..4), rng.usize(1..700)));
            step.hard_state = rng.bool().then(|| hard_state(term, 1, last.index));
            step
        };
        let steps: Vec<Step> = [1, 2].map(step).into();
        append(&mut wal, &steps).map_err(refused)?;
        model.apply(&steps);
        wal.sync().map_err(refused)?;
        // Only the last segment changes, and in it only what was appended.
        let active = (1..).take_while(|id| disk.content(&segment_name(*id)).is_some()).last();
        let name = segment_name(active.unwrap_or(1));
        let content = disk.content(&name).unwrap_or_default();
        let sectors = content.chunks(SECTOR_BYTES).enumerate();
        let written = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
        before.extend(written.map(|(at, sector)| (name.clone(), at, sector.to_vec())));
    }
    wal.close().map_err(refused)?;
    disk.crash(Crash::Process);
    let log = Log::of(disk, model)?;
    let mut stale = Vec::new();
    for (name, at, sector) in before {
        let segment = log.segments.iter().position(|segment| segment.name == name);
        let segment = segment.ok_or_else(|| format!("{name} is gone"))?;
        if log.segments[segment].content[sector_at(at)] != *sector {
            stale.push((segment, at, sector));
        }
    }
    Ok(Grown { log, stale })
}

fn sector_at(at: usize) -> Range<usize> {
    at * SECTOR_BYTES..(at + 1) * SECTOR_BYTES
}

/// The seed's share of its log's damages.
///
/// # Errors
/// With the first that was not noticed, or not by its place.
pub(super) fn attack(seed: u64, counts: &mut Counts) -> Result<(), String> {
    let (grown, chunk) = (grow(seed / CHUNKS)?, seed % CHUNKS);
    flips(&grown.log, chunk, counts)?;
    sectors(&grown, chunk, counts)
}

/// Every bit of the log, and of the mark and what follows it.
fn flips(log: &Log, chunk: u64, counts: &mut Counts) -> Result<(), String> {
    let mut n = 0;
    for (segment, Segment { name, content, said, .. }) in log.segments.iter().enumerate() {
        let end = said.last().map_or(0, |last| last.end + 64).min(content.len());
        for at in 0..end {
            n += 1;
            if n % CHUNKS != chunk {
                continue;
            }
            for bit in 0..8 {
                let mut flipped = content.clone();
                flipped[at] ^= 1 << bit;
                counts.add("bits flipped", 1);
                log.open(&[(segment, flipped)])
                    .map_err(|what| format!("bit {bit} of byte {at} of {name} flipped: {what}"))?;
            }
        }
    }
    Ok(())
}

/// Sectors that are zero, older, another's, or changed places with another.
fn sectors(grown: &Grown, chunk: u64, counts: &mut Counts) -> Result<(), String> {
    let log = &grown.log;
    let written = |(segment, of): (usize, &Segment)| {
        let end = of.said.last().map_or(0, |last| last.end);
        (0..end.div_ceil(SECTOR_BYTES)).map(move |at| (segment, at)).collect::<Vec<_>>()
    };
    let places: Vec<(usize, usize)> = log.segments.iter().enumerate().flat_map(written).collect();
    let sector = |(segment, at): (usize, usize)| &log.segments[segment].content[sector_at(at)];
    let mut try_one = |class: &'static str, puts: &[((usize, usize), &[u8])]| {
        let Some(changed) = log.with(puts) else { return Ok(()) };
        counts.add(class, 1);
        let places: Vec<_> = puts.iter().map(|(place, _)| place).collect();
        log.open(&changed)
            .map(drop)
            .map_err(|what| format!("{class}, (segment, sector) {places:?}: {what}"))
    };
    let is_ours = |n: usize| n as u64 % CHUNKS == chunk;
    for (n, &place) in places.iter().enumerate().filter(|(n, _)| is_ours(*n)) {
        try_one("sectors zeroed", &[(place, &[0; SECTOR_BYTES])])?;
        for &other in places.iter().filter(|other| **other != place) {
            try_one("sectors misdirected", &[(place, sector(other))])?;
        }
        for &other in &places[n + 1..] {
            try_one("sectors swapped", &[(place, sector(other)), (other, sector(place))])?;
        }
    }
    for (_, (segment, at, old)) in grown.stale.iter().enumerate().filter(|(n, _)| is_ours(*n)) {
        try_one("sectors stale", &[((*segment, *at), old)])?;
    }
    Ok(())
}

impl Log {
    /// The contents of the segments in which those sectors are as given; `None` if they are.
    fn with(&self, puts: &[((usize, usize), &[u8])]) -> Option<Vec<(usize, Vec<u8>)>> {
        let mut changed: Vec<(usize, Vec<u8>)> = Vec::new();
        for ((segment, at), bytes) in puts {
            let found = changed.iter().position(|(other, _)| other == segment);
            let n = found.unwrap_or_else(|| {
                changed.push((*segment, self.segments[*segment].content.clone()));
                changed.len() - 1
            });
            changed[n].1[sector_at(*at)].copy_from_slice(bytes);
        }
        changed.retain(|(segment, content)| self.segments[*segment].content != *content);
        (!changed.is_empty()).then_some(changed)
    }
}
