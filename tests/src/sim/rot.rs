//! Damage at rest: what a drive does to bytes that nobody writes.
//!
//! A bit flips, a sector cannot be read any more, shows what it had before its last write (the write
//! was lost), or has got what was meant for another (the write went astray, and that other one lost
//! it). It happens to a store without power, so that no cache hides it.
//!
//! What is asked of the store: never to start from less than it had. Either the damage does not
//! matter, or the store refuses to start and names a file. There is one thing that no log can tell
//! from a crash: the end of its last segment, where nothing behind the damage says that the damaged
//! record was durable (see [`raftstore::wal`]). Such damage is not done here.
//!
//! It is bounded: only a minority of stores is ever damaged, the dead included, so that of all that
//! was committed a majority of those who have it keeps it.

use std::ops::Range;

use raftstore::disk::{SECTOR_BYTES, SimDisk};
use raftstore::wal::{RECORD_HEADER_BYTES, Records, SegmentHeader, segment_id};

/// What a drive does.
///
/// ```
/// use harness::cluster::SimCluster;
/// use harness::sim::rot::Rot;
/// use harness::sim::{Options, ms};
/// use raftstore::StoreId;
///
/// let mut cluster = SimCluster::new(Options::new(3, 7))?;
/// let (world, store) = (cluster.world_mut(), StoreId(2));
/// world.run_until(ms(1000))?;
/// assert!(world.damage_disk(store, Rot::Flip), "there is something to damage");
/// // The damage does not matter, or the store names a file and does not start.
/// assert_eq!(world.start(store)?, !world.has_refused(store));
/// # Ok::<(), harness::sim::Failure>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// A bit is the other one.
    Flip,
    /// A sector cannot be read.
    Unreadable,
    /// A sector has what it had before.
    Stale,
    /// A sector has what another should have, and that one has what it had before.
    Astray,
}

impl Rot {
    /// All of them.
    pub const ALL: [Rot; 4] = [Rot::Flip, Rot::Unreadable, Rot::Stale, Rot::Astray];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rot::Flip => "bit flipped at rest",
            Rot::Unreadable => "sector unreadable",
            Rot::Stale => "write lost by the drive",
            Rot::Astray => "write gone astray",
        }
    }
}

/// A part of a file.
type Place = (String, Range<usize>);

/// How often a place is drawn until one will do.
const ATTEMPTS: usize = 16;

/// Damages something on a drive without power. Says what, or `None` if nothing was found.
pub(super) fn damage(disk: &SimDisk, rot: Rot, rng: &mut fastrand::Rng) -> Option<String> {
    let files = disk.mount().list().unwrap_or_default();
    (0..ATTEMPTS).find_map(|_| {
        let place = draw(disk, &files, rng)?;
        let other = if rot == Rot::Astray { Some(draw(disk, &files, rng)?) } else { None };
        if other.as_ref() == Some(&place) {
            return None;
        }
        let places: Vec<&Place> = [&place].into_iter().chain(&other).collect();
        let spares = |file: &String| is_provable(disk, file, &places);
        if !places.iter().map(|(file, _)| file).all(spares) {
            return None;
        }
        let is_done = match (rot, &other) {
            (Rot::Astray, Some(to)) => stray(disk, &place, to),
            (Rot::Flip, _) => flip(disk, &place, rng),
            (Rot::Unreadable, _) => {
                disk.make_unreadable(&place.0, place.1.start / SECTOR_BYTES);
                true
            }
            _ => stale(disk, &place),
        };
        is_done.then(|| format!("{}: {places:?}", rot.name()))
    })
}

/// A sector that says something: of a segment, up to where its records end.
fn draw(disk: &SimDisk, files: &[String], rng: &mut fastrand::Rng) -> Option<Place> {
    if files.is_empty() {
        return None;
    }
    let file = &files[rng.usize(..files.len())];
    let content = disk.content(file)?;
    let said = match segment_id(file) {
        Some(_) => records(&content).map_or(content.len(), |(_, end)| end),
        None => content.len(),
    };
    let sector = rng.usize(..said.div_ceil(SECTOR_BYTES).max(1));
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(content.len());
    (start < end).then(|| (file.clone(), start..end))
}

fn flip(disk: &SimDisk, (file, place): &Place, rng: &mut fastrand::Rng) -> bool {
    let (at, bit) = (rng.usize(place.clone()), rng.u32(..8));
    disk.damage(file, |bytes| bytes[at] ^= 1 << bit);
    true
}

fn stale(disk: &SimDisk, (file, place): &Place) -> bool {
    let Some(before) = disk.before(file, place.start / SECTOR_BYTES) else { return false };
    disk.damage(file, |bytes| bytes[place.clone()].copy_from_slice(&before[..place.len()]));
    true
}

/// What should be at `from` is at `to`.
fn stray(disk: &SimDisk, from: &Place, to: &Place) -> bool {
    let Some(content) = disk.content(&from.0) else { return false };
    let meant = content[from.1.clone()].to_vec();
    if !stale(disk, from) {
        return false;
    }
    let len = meant.len().min(to.1.len());
    disk.damage(&to.0, |bytes| {
        bytes[to.1.start..to.1.start + len].copy_from_slice(&meant[..len]);
    });
    true
}

/// A record's place, its number, and up to which number it says that all was durable.
type Said = (Range<usize>, u64, u64);

/// The records of a segment, and where they end.
fn records(content: &[u8]) -> Option<(Vec<Said>, usize)> {
    let header = SegmentHeader::decode(content).ok()?;
    let mut reader = Records::new(content, &header);
    let mut found = Vec::new();
    while let Ok(record) = reader.next_record() {
        found.push((record.offset..record.end(), record.lsn.0, record.watermark.0));
    }
    Some((found, reader.offset()))
}

/// Whether a log can tell that `file` was changed in those places: if it is no segment or not the last, or
/// if a header that stays as it is says that the last record among them was durable. (The first ones may
/// be whole in what the sector had before.)
fn is_provable(disk: &SimDisk, file: &str, places: &[&Place]) -> bool {
    let Some(id) = segment_id(file) else { return true };
    let files = disk.mount().list().unwrap_or_default();
    let is_last = files.iter().filter_map(|file| segment_id(file)).all(|other| other <= id);
    let content = disk.content(file).unwrap_or_default();
    let (Some((records, _)), true) = (records(&content), is_last) else { return true };
    let is_hit = |part: &Range<usize>| {
        let meets = |place: &Range<usize>| place.start < part.end && part.start < place.end;
        places.iter().any(|(of, place)| of == file && meets(place))
    };
    let last = records.iter().rfind(|(part, ..)| is_hit(part)).map(|(_, lsn, _)| *lsn);
    let Some(last) = last else { return true };
    let header = SegmentHeader::decode(&content).map_or(0, |header| header.watermark.0);
    let proves = |(part, _, watermark): &Said| {
        *watermark >= last && !is_hit(&(part.start..part.start + RECORD_HEADER_BYTES))
    };
    header >= last || records.iter().any(proves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Entries, Entry, LogId, Run};
    use raftstore::disk::sim::Crash;
    use raftstore::disk::{Claim, ClusterId};
    use raftstore::wal::{GroupRecord, Wal, WalOptions};
    use raftstore::{RegionId, StoreId};

    /// A log of so many records, each synced, without power.
    fn log(seed: u64, count: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        let mount = disk.mount();
        let claim = Claim::new(&*mount, StoreId(1), ClusterId(1)).expect("an empty disk");
        let options = WalOptions { segment_bytes: 8 << 10 };
        let (mut wal, _) = Wal::open(mount, claim.identity(), options).expect("an empty disk");
        for index in 1..=count {
            let entry = Entry::normal(vec![index as u8; 100].into());
            let entries = Run::new(1, index, vec![entry]).map(Entries::from).expect("one");
            wal.append(&[GroupRecord::new(RegionId::FIRST, &entries)]).expect("room");
            wal.sync().expect("a working disk");
        }
        drop((wal, claim));
        disk.crash(Crash::Power);
        disk
    }

    /// The last index that a start finds, or the refusal.
    fn start(disk: &SimDisk) -> Result<LogId, String> {
        let mount = disk.mount();
        let claim = Claim::new(&*mount, StoreId(1), ClusterId(1)).map_err(|e| e.to_string())?;
        let opened = Wal::open(mount, claim.identity(), WalOptions { segment_bytes: 8 << 10 });
        let (_, recovered) = opened.map_err(|e| e.to_string())?;
        let last = recovered.groups.get(&RegionId::FIRST).map_or(0, |log| log.last);
        Ok(LogId::new(1, last))
    }

    /// A log refuses all damage that is done here, or has lost nothing by it.
    #[test]
    fn damage_is_refused_or_does_not_matter() {
        let mut refused = [0; 4];
        for seed in 0..400 {
            let disk = log(seed, 40 + seed % 60);
            let mut rng = fastrand::Rng::with_seed(seed);
            let rot = Rot::ALL[seed as usize % 4];
            let Some(what) = damage(&disk, rot, &mut rng) else { continue };
            match start(&disk) {
                Ok(last) => assert_eq!(last.index, 40 + seed % 60, "seed {seed}: {what}"),
                Err(why) => {
                    assert!(why.contains("wal-") || why.contains("store"), "seed {seed}: {why}");
                    refused[seed as usize % 4] += 1;
                }
            }
        }
        assert!(refused.iter().all(|&count| count > 20), "{refused:?} were refused");
    }

    /// Nothing behind the last record says that it was durable, so it is left alone.
    #[test]
    fn the_end_that_may_be_torn_is_left_alone() {
        let disk = log(7, 3);
        let file = "wal-0000000001.log";
        let content = disk.content(file).expect("the only segment");
        let (records, end) = records(&content).expect("it was written");
        let at = |part: &Range<usize>| (file.to_owned(), part.clone());
        assert_eq!(records.len(), 3);
        assert!(is_provable(&disk, file, &[&at(&records[0].0)]));
        assert!(!is_provable(&disk, file, &[&at(&records[2].0)]));
        assert!(!is_provable(&disk, file, &[&at(&records[1].0), &at(&records[2].0)]));
        assert!(is_provable(&disk, file, &[&at(&(end..content.len()))]));
    }
}
