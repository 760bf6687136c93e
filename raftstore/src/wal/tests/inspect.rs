//! Looking at a log says what a start would say, whatever has become of it (museum W5).

use super::images::{Deed, open, record};
use super::support::{IDENTITY, Step, filled, hard_state};
use crate::disk::sim::{Crash, Fate};
use crate::disk::{SECTOR_BYTES, SimDisk};
use crate::wal::{Inspection, WalError, segment_id, segment_name};

/// A disk with several segments, some of them used before, and a tail that is not synced.
fn disks() -> Vec<SimDisk> {
    let mut deeds = Vec::new();
    for n in 0..10 {
        let mut one = Step::append(1, filled(1 + n / 3, 1 + n, 1, 1700));
        one.hard_state = Some(hard_state(1 + n / 3, 1, n));
        one.compact = one.entries.last().filter(|_| n < 6);
        deeds.push(Deed::Append(vec![one, Step::append(2, filled(1, 1 + n, 1, 60))]));
        deeds.extend((n < 8).then_some(Deed::Sync));
        deeds.extend((n % 2 == 0).then_some(Deed::Collect));
    }
    let points =
        [false, true].into_iter().flat_map(|is_direct| record(5, &deeds, is_direct).points);
    points.map(|point| point.moment.disk).collect()
}

/// What both say, and that looking changed nothing.
fn compare(disk: &SimDisk) -> bool {
    let looked = disk.mount();
    let before = disk.operations();
    let seen = Inspection::open(looked.as_ref(), &IDENTITY).and_then(|found| found.verdict());
    assert_eq!(disk.operations(), before, "looking changes nothing");
    let text = |error: WalError| error.to_string();
    match (seen.map_err(text), open(disk.mount()).map_err(text)) {
        (Err(seen), Err(started)) => assert_eq!(seen, started),
        (Ok(seen), Ok((_, started))) => {
            assert_eq!(seen.recovered.groups, started.groups);
            assert_eq!(seen.recovered.torn, started.torn);
            return true;
        }
        (seen, started) => panic!("seen {seen:?}, started {:?}", started.map(|(_, r)| r)),
    }
    false
}

/// Recovery and the tool over the same images, whole, torn and damaged in every way.
#[test]
fn w5_the_tool_and_a_start_have_one_verdict() {
    let mut rng = fastrand::Rng::with_seed(5);
    let disks = disks();
    let (mut accepted, mut refused) = (0, 0);
    for n in 0..10_000 {
        let disk = disks[n % disks.len()].fork();
        disk.reseed(rng.u64(..));
        if rng.bool() {
            disk.crash(Crash::Power);
        } else {
            disk.lose_power(&mut |_| Fate::Kept(usize::MAX));
        }
        let names = disk.mount().list().expect("lists");
        let logs: Vec<_> = names.into_iter().filter(|name| segment_id(name).is_some()).collect();
        if let Some(name) = rng.choice(&logs)
            && n % 4 > 0
        {
            disk.damage(name, |bytes| damage(bytes, &mut rng));
        }
        if compare(&disk) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    assert!(accepted > 2_500 && refused > 2_500, "{accepted} accepted, {refused} refused");
}

fn damage(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = rng.usize(..written);
    match rng.u8(..4) {
        0 => bytes.truncate(at),
        1 => bytes[at..].iter_mut().take(SECTOR_BYTES).for_each(|byte| *byte = 0),
        2 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = rng.u8(..)),
        _ => bytes[at] ^= 1 << rng.u8(..8),
    }
}

/// A segment of whole blocks that ends before its first record would start: the bytes that are not
/// there are not looked at (museum W19, W24).
#[test]
fn w19_w24_a_segment_cut_short_before_its_records_is_no_panic() {
    for is_direct in [false, true] {
        let disk = SimDisk::new(1);
        disk.set_direct(is_direct);
        let mut wal = open(disk.mount()).expect("opens").0;
        super::support::append(&mut wal, &[Step::append(1, filled(1, 1, 1, 10))]).expect("appends");
        wal.sync().expect("syncs");
        disk.crash(Crash::Process);
        for len in (0..6000).step_by(61) {
            let cut = disk.fork();
            cut.damage(&segment_name(1), |bytes| bytes.truncate(len));
            compare(&cut);
        }
    }
}

/// What is shown of each record is what was appended.
#[test]
fn every_record_is_shown_with_what_it_changes() {
    let disk = SimDisk::new(1);
    let mut wal = open(disk.mount()).expect("opens").0;
    let mut step = Step::append(4, filled(2, 1, 3, 10));
    step.hard_state = Some(hard_state(2, 1, 1));
    step.compact = Some(raft::LogId::new(2, 2));
    let gone = Step { region: 5, remove: true, ..Step::default() };
    super::support::append(&mut wal, &[step.clone(), gone]).expect("appends");
    wal.close().expect("closes");
    disk.crash(Crash::Process);
    let found = Inspection::open(disk.mount().as_ref(), &IDENTITY).expect("a log");
    let segments: Vec<_> = found.segments().collect();
    assert_eq!(segments.len(), 1);
    let mut shown = Vec::new();
    found.records(&segments[0], &mut |shows| {
        shown.push((shows.record.lsn.0, shows.groups.clone().expect("it makes sense")));
    });
    assert_eq!(shown.len(), 2);
    let groups = &shown[0].1;
    assert_eq!((groups[0].hard_state, groups[0].compact), (step.hard_state, step.compact));
    assert_eq!((groups[0].runs[0].first, groups[0].runs[0].count), (1, 3));
    assert!(groups[1].remove && groups[1].runs.is_empty());
    assert_eq!(shown[1], (2, Vec::new()), "the mark");
    let empty = Inspection::open(SimDisk::new(2).mount().as_ref(), &IDENTITY).expect("no log");
    assert_eq!(empty.verdict().expect("nothing to refuse").recovered.records, 0);
}
