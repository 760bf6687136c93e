//! What must be there again, and what must not, after the store has ended somehow.

use raft::LogId;

use super::images::{Counts, Deed, SEGMENT_BYTES, attack, open, record};
use super::support::{Model, Step, append, append_one, filled, hard_state};
use crate::disk::SimDisk;
use crate::disk::sim::{Crash, Fate, Unsynced};
use crate::region::RegionId;
use crate::wal::{Recovered, SegmentHeader, Torn, Wal, segment_name};

fn new(seed: u64) -> (SimDisk, Wal) {
    let disk = SimDisk::new(seed);
    let wal = open(disk.mount()).expect("opens").0;
    (disk, wal)
}

fn one(region: u64, term: u64, first: u64, count: u64, bytes: usize) -> Step {
    Step::append(region, filled(term, first, count, bytes))
}

fn put(wal: &mut Wal, step: Step) {
    append(wal, &[step]).expect("appends");
}

fn reopen(disk: &SimDisk, crash: Crash) -> (Wal, Recovered) {
    disk.crash(crash);
    open(disk.mount()).expect("opens")
}

/// The power fails and takes all it may.
fn lose_all(disk: &SimDisk) -> (Wal, Recovered) {
    disk.lose_power(&mut |_| Fate::Lost);
    open(disk.mount()).expect("opens")
}

fn last(recovered: &Recovered, region: u64) -> (LogId, u64) {
    recovered.groups.get(&RegionId(region)).map_or((LogId::ZERO, 0), |g| (g.compacted, g.last))
}

/// Exactly the log of etcd-io/etcd#22442: an overwrite at or below the snapshot takes the old
/// suffix with it, even though none of its own entries are needed (museum W1).
#[test]
fn w1_an_overwrite_below_the_snapshot_still_truncates() {
    for how in ["compact", "reset"] {
        let (disk, mut wal) = new(1);
        put(&mut wal, one(1, 1, 1, 5, 10));
        put(&mut wal, one(1, 2, 3, 2, 10));
        let at = Some(LogId::new(2, 4));
        put(
            &mut wal,
            match how {
                "compact" => Step { region: 1, compact: at, ..Step::default() },
                _ => Step { region: 1, reset: at, ..Step::default() },
            },
        );
        wal.sync().expect("syncs");
        let (_, recovered) = reopen(&disk, Crash::Power);
        let log = &recovered.groups[&RegionId(1)];
        assert_eq!((log.compacted, log.last, log.terms.len()), (LogId::new(2, 4), 4, 0), "{how}");
    }
}

/// A snapshot from a leader, in front of it a stale tail that reaches beyond (museum W1).
#[test]
fn w1_a_snapshot_takes_a_longer_stale_tail_away() {
    let (disk, mut wal) = new(1);
    put(&mut wal, one(1, 1, 1, 9, 10));
    put(&mut wal, Step { region: 1, reset: Some(LogId::new(3, 4)), ..Step::default() });
    put(&mut wal, one(1, 3, 5, 1, 10));
    // A compacted log whose entries are overwritten from below where it starts.
    put(&mut wal, one(2, 1, 1, 5, 10));
    put(&mut wal, Step { region: 2, compact: Some(LogId::new(1, 2)), ..Step::default() });
    put(&mut wal, one(2, 2, 2, 1, 10));
    wal.sync().expect("syncs");
    let (wal, recovered) = reopen(&disk, Crash::Power);
    assert_eq!(last(&recovered, 1), (LogId::new(3, 4), 5));
    assert_eq!(recovered.groups[&RegionId(1)].terms, [LogId::new(3, 5)]);
    assert_eq!(last(&recovered, 2), (LogId::new(1, 2), 2));
    assert!(wal.reader().entries(RegionId(1), 4..6, u64::MAX).is_err());
}

/// A and B are written and not synced; the crash keeps B and loses A; something as long as A is
/// written in its place. B must not come back behind it (museum W2).
#[test]
fn w2_a_record_behind_a_torn_one_never_comes_back() {
    let (disk, mut wal) = new(1);
    // Sizes that put each record's start into a sector of its own.
    put(&mut wal, one(1, 1, 1, 1, 512 - 84));
    wal.sync().expect("syncs");
    put(&mut wal, one(1, 1, 2, 1, 512 - 84));
    put(&mut wal, one(1, 1, 3, 1, 512 - 84));
    disk.lose_power(&mut |thing| match thing {
        Unsynced::Sector { sector: 2, .. } => Fate::Lost,
        _ => Fate::Kept(usize::MAX),
    });
    let (mut wal, recovered) = open(disk.mount()).expect("opens");
    assert_eq!(last(&recovered, 1).1, 1);
    let torn = recovered.torn.expect("a torn tail");
    assert_eq!((torn.file, torn.offset), (segment_name(1), 1024));
    assert_eq!(torn.bytes, 2 * 512, "up to the end of the last record");
    put(&mut wal, one(1, 2, 2, 1, 512 - 84));
    wal.sync().expect("syncs");
    for crash in [Crash::Process, Crash::Power] {
        let (_, recovered) = reopen(&disk, crash);
        assert_eq!(last(&recovered, 1).1, 2);
        assert_eq!(recovered.groups[&RegionId(1)].terms, [LogId::new(1, 1), LogId::new(2, 2)]);
        assert_eq!(recovered.torn, None);
    }
}

/// Appended, not synced; the process dies; recovered, so it may be promised; the power fails
/// (museum P13).
#[test]
fn p13_what_was_recovered_from_the_page_cache_is_durable() {
    let (disk, mut wal) = new(1);
    put(&mut wal, one(1, 1, 1, 3, 100));
    wal.sync().expect("syncs");
    put(&mut wal, one(1, 1, 4, 3, 100));
    let (_, recovered) = reopen(&disk, Crash::Process);
    assert_eq!(last(&recovered, 1).1, 6);
    let (_, recovered) = lose_all(&disk);
    assert_eq!(last(&recovered, 1).1, 6, "it was promised");
}

/// The same in a segment too full to be replaced, and with the very first records of a segment
/// (museum P13).
#[test]
fn p13_holds_wherever_the_tail_is() {
    for full in 0..9 {
        let (disk, mut wal) = new(full);
        for n in 0..full {
            put(&mut wal, one(1, 1, 1 + n, 1, 1700));
            wal.sync().expect("syncs");
        }
        put(&mut wal, one(1, 1, 1 + full, 2, 40));
        put(&mut wal, one(2, 1, 1, 2, 40));
        let (_, recovered) = reopen(&disk, Crash::Process);
        assert_eq!((last(&recovered, 1).1, last(&recovered, 2).1), (full + 2, 2));
        let (_, recovered) = lose_all(&disk);
        assert_eq!((last(&recovered, 1).1, last(&recovered, 2).1), (full + 2, 2), "{full}");
    }
}

/// Restarts of an idle store leave no files behind.
#[test]
fn restarts_do_not_pile_up_segments() {
    let (disk, mut wal) = new(1);
    put(&mut wal, one(1, 1, 1, 2, 100));
    for n in 0..20 {
        let used = disk.used();
        let (next, recovered) =
            reopen(&disk, if n % 2 == 0 { Crash::Process } else { Crash::Power });
        assert_eq!(last(&recovered, 1).1, 2);
        wal = next;
        assert!(disk.used() <= used.max(2 * SEGMENT_BYTES), "{n}: {}", disk.used());
    }
    assert_eq!(wal.stats().segments, 1);
}

/// Segments used three times over, with records of equal sizes: nothing of an earlier life is
/// taken for this one's (museum W7).
#[test]
fn w7_recycled_segments_have_no_foreign_records() {
    let mut deeds = Vec::new();
    for n in 0..24 {
        let mut step = one(1, 1, 1 + n, 1, 1900);
        step.compact = step.entries.last();
        deeds.extend([Deed::Append(vec![step]), Deed::Sync, Deed::Collect]);
    }
    let run = record(7, &deeds, false);
    let disk = &run.points[run.points.len() - 1].moment.disk;
    let content = (1..99).rev().find_map(|id| disk.content(&segment_name(id))).expect("a segment");
    let header = SegmentHeader::decode(&content).expect("a segment");
    assert!(header.recycled && header.segment > 5, "{header:?}");
    let counts = attack(&run, 7, 12);
    assert!(counts.images > 800, "{counts:?}");
    assert!(counts.torn > 300, "{counts:?}");
}

/// A crash that lost nothing written reports nothing torn, in a recycled segment too (museum W7).
#[test]
fn w7_stale_bytes_of_another_life_are_not_reported_as_torn() {
    let (disk, mut wal) = new(1);
    for n in 0..24 {
        let mut step = one(1, 1, 1 + n, 1, 1900);
        step.compact = step.entries.last();
        put(&mut wal, step);
        wal.sync().expect("syncs");
        while wal.collect().expect("collects") {}
        let (next, recovered) = reopen(&disk, Crash::Power);
        assert_eq!(recovered.torn, None, "{n}");
        wal = next;
    }
}

/// A hundred groups, one of them idle; the others roll through many segments (museum W13).
#[test]
fn w13_an_idle_group_neither_loses_its_log_nor_pins_it() {
    let (disk, mut wal) = new(1);
    let mut model = Model::default();
    let mut idle = one(100, 3, 1, 4, 60);
    idle.hard_state = Some(hard_state(3, 2, 4));
    append_one(&mut wal, &idle).expect("appends");
    model.apply(&[idle]);
    for round in 0..40 {
        for region in 1..100 {
            let mut step = one(region, 1, 1 + round, 1, 100);
            step.compact = (round > 1).then(|| LogId::new(1, round - 1));
            append_one(&mut wal, &step).expect("appends");
            model.apply(&[step]);
        }
        wal.sync().expect("syncs");
        while wal.collect().expect("collects") {}
        let stats = wal.stats();
        assert!(stats.file_bytes <= 2 * stats.live_bytes + 3 * SEGMENT_BYTES, "{stats:?}");
        if round % 8 == 0 {
            let (next, recovered) = reopen(&disk, Crash::Power);
            model.check(&next, &recovered);
            wal = next;
        }
    }
    let stats = wal.stats();
    assert!(stats.segments_dropped > 10 && stats.carried_bytes > 0, "{stats:?}");
    let (wal, recovered) = reopen(&disk, Crash::Power);
    model.check(&wal, &recovered);
}

/// Every segment has a salt of its own, also when it takes another's place and number (museum W7).
#[test]
fn w7_no_two_segments_have_one_salt() {
    let (disk, mut wal) = new(1);
    let mut headers = Vec::new();
    for n in 0..24 {
        put(&mut wal, one(1, 1, 1 + n, 1, 1900));
        if n % 5 == 0 {
            wal = reopen(&disk, Crash::Process).0;
        }
        let contents = (1..20).filter_map(|id| disk.content(&segment_name(id)));
        headers.extend(contents.map(|c| SegmentHeader::decode(&c).expect("a segment")));
    }
    headers.sort_by_key(|header| header.salt);
    headers.dedup();
    let count = headers.len();
    headers.dedup_by_key(|header| header.salt);
    assert_eq!(headers.len(), count);
    assert!(count > 8, "{count}");
}

/// A batch of several records whose end was lost is torn, from its beginning on (museum W12).
#[test]
fn w12_a_batch_without_its_end_is_reported_as_torn() {
    let (disk, mut wal) = new(1);
    put(&mut wal, one(1, 1, 1, 1, 100));
    wal.sync().expect("syncs");
    disk.record();
    put(&mut wal, one(2, 1, 1, 6, 3000));
    let moments = disk.recorded();
    let mut torn = 0;
    for moment in &moments {
        moment.disk.lose_power(&mut |_| Fate::Kept(usize::MAX));
        let (_, recovered) = open(moment.disk.mount()).expect("opens");
        assert_eq!((last(&recovered, 1).1, last(&recovered, 2).1), (1, 0));
        torn += u64::from(recovered.torn.is_some_and(|torn| torn.bytes > 6000));
    }
    assert!(torn > 2, "{torn}");
}

/// Entries of which a segment holds one, and half of it stays unused: moving them does not help,
/// and is not tried for ever. The same with many groups that have nothing but a hard state
/// (museum W13).
#[test]
fn w13_collecting_comes_to_an_end() {
    let (_disk, mut wal) = new(1);
    let collect = |wal: &mut Wal| {
        let mut count = 0;
        while wal.collect().expect("collects") {
            count += 1;
            assert!(count < 100, "{:?}", wal.stats());
        }
        count
    };
    let mut moved = 0;
    for n in 0..40 {
        put(&mut wal, one(1, 1, 1 + n, 1, 3800));
        moved += collect(&mut wal);
    }
    assert!(moved < 100, "{moved}");
    for region in 2..2000 {
        let hard_state = Some(hard_state(1, 1, 0));
        put(&mut wal, Step { region, hard_state, ..Step::default() });
        moved += collect(&mut wal);
    }
    assert!(moved < 300, "{moved}");
    put(&mut wal, Step { region: 1, compact: Some(LogId::new(1, 40)), ..Step::default() });
    collect(&mut wal);
    let stats = wal.stats();
    assert!(stats.file_bytes <= 2 * stats.live_bytes + 3 * SEGMENT_BYTES, "{stats:?}");
}

/// The torn tail is named: which file, where, how much (museum W3).
#[test]
fn w3_a_torn_tail_is_reported_by_place() {
    let (disk, mut wal) = new(1);
    put(&mut wal, one(1, 1, 1, 1, 100));
    wal.sync().expect("syncs");
    put(&mut wal, one(1, 1, 2, 1, 3000));
    disk.lose_power(&mut |thing| match thing {
        Unsynced::Sector { sector: 3.., .. } => Fate::Lost,
        _ => Fate::Kept(0),
    });
    let (wal, recovered) = open(disk.mount()).expect("opens");
    let offset = 512 + 40 + 20 + 24 + 100;
    let torn = Torn { file: segment_name(1), offset, bytes: 40 + 20 + 24 + 3000 + 4 };
    assert_eq!(recovered.torn, Some(torn));
    assert_eq!(wal.stats().torn_bytes, 3088);
}

/// At each of its operations, three deep (museum W20).
#[test]
fn w20_crashes_during_recovery_from_a_crash() {
    let mut deeds = Vec::new();
    for n in 0..5 {
        deeds.push(Deed::Append(vec![one(1, 1, 1 + n, 1, 1500), one(2, 1, 1 + n, 1, 100)]));
        deeds.extend((n % 2 == 0).then_some(Deed::Sync));
    }
    let mut all = Counts::default();
    // Each seed picks others to crash again.
    for seed in 0..8 {
        let counts = attack(&record(20, &deeds, seed % 2 == 1), seed, 8);
        all.second_crashes += counts.second_crashes;
    }
    assert!(all.second_crashes > 1_000, "{all:?}");
}
