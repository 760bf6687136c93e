//! Operations that fail: nothing is promised that is not there, and nothing goes on regardless.

use super::images::{SEGMENT_BYTES, open};
use super::support::{Model, Step, append, append_one, filled};
use crate::disk::SimDisk;
use crate::disk::sim::{Crash, Fate, Fault, Operation};
use crate::wal::{Lsn, Wal, WalError};

/// What a run on a failing disk did before it stopped.
struct Stopped {
    models: Vec<Model>,
    /// Number of the last batch that was synced.
    synced: usize,
    error: Option<WalError>,
    wal: Wal,
}

/// Appends, syncs, compacts, collects, prepares: everything a log does.
fn run(mut wal: Wal) -> Stopped {
    let mut models = vec![Model::default()];
    let mut synced = 0;
    let mut error = None;
    for n in 0..10 {
        let mut step = Step::append(1, filled(1, 1 + n, 1, 1800));
        step.compact = step.entries.last().filter(|_| n % 3 == 2);
        let steps = [step, Step::append(2, filled(1, 1 + n, 1, 30))];
        let mut next = models[models.len() - 1].clone();
        next.apply(&steps);
        models.push(next);
        let done = append(&mut wal, &steps)
            .and_then(|_| wal.sync())
            .map(|_| synced = models.len() - 1)
            .and_then(|()| if n % 4 == 1 { wal.preparer().prepare().map(drop) } else { Ok(()) })
            .and_then(|()| wal.collect().map(drop));
        if let Err(stopped) = done {
            error = Some(stopped);
            break;
        }
    }
    Stopped { models, synced, error, wal }
}

/// What the disk has now, as a state of the run; and that it stays so through a power failure.
fn durable_state(disk: &SimDisk, stopped: &Stopped) -> usize {
    let mut states = Vec::new();
    for power in [false, true] {
        if power {
            disk.lose_power(&mut |_| Fate::Lost);
        }
        let (wal, recovered) = open(disk.mount()).expect("opens");
        let read = Model::read(&wal, &recovered.groups);
        states.push(stopped.models.iter().rposition(|model| *model == read).expect("a state"));
    }
    assert_eq!(states[0], states[1], "what was recovered was promised");
    assert!(states[0] >= stopped.synced, "{} of {}", states[0], stopped.synced);
    states[0]
}

fn drive(seed: u64, is_direct: bool) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.set_direct(is_direct);
    disk
}

fn operations(is_direct: bool) -> u64 {
    let disk = drive(1, is_direct);
    let wal = open(disk.mount()).expect("opens").0;
    let before = disk.operations();
    assert!(run(wal).error.is_none());
    disk.operations() - before
}

/// Each operation fails once, then the process dies, then the power fails (museum W10, W11).
#[test]
fn w10_each_operation_fails_once() {
    let mut poisoned = 0;
    for (seed, is_direct) in (0..12).map(|n| (n / 2, n % 2 == 1)) {
        for k in 0..operations(is_direct) {
            let disk = drive(seed, is_direct);
            let wal = open(disk.mount()).expect("opens").0;
            disk.fail(k, Fault::Error);
            let mut stopped = run(wal);
            let error = stopped.error.take().expect("a failure is not ignored");
            assert!(matches!(error, WalError::Io { .. }), "{error}");
            if stopped.wal.is_poisoned() {
                poisoned += 1;
                let again = append(&mut stopped.wal, &[Step::append(1, filled(1, 9, 1, 1))]);
                assert!(matches!(again, Err(WalError::Poisoned)));
                assert!(matches!(stopped.wal.sync(), Err(WalError::Poisoned)));
                assert!(matches!(stopped.wal.collect(), Err(WalError::Poisoned)));
            }
            disk.crash(Crash::Process);
            durable_state(&disk, &stopped);
        }
    }
    assert!(poisoned > 100, "{poisoned}");
}

/// One of several writes on their way fails: those before it count, those after it never do, not
/// even if they land (museum W10; rule 17).
#[test]
fn w10_a_failed_write_stops_those_behind_it() {
    for failing in 0..4 {
        let disk = drive(failing as u64, true);
        let mut wal = open(disk.mount()).expect("opens").0;
        let mut models = vec![Model::default()];
        let mut pending = Vec::new();
        for n in 0..4 {
            let step = Step::append(1, filled(1, 1 + n, 1, 300));
            let mut next = models[models.len() - 1].clone();
            append_one(&mut wal, &step).expect("appends");
            next.apply(&[step]);
            models.push(next);
            pending.push(wal.begin_sync().expect("begins").expect("there is something"));
        }
        let failed = pending.remove(failing);
        let after = pending.split_off(failing);
        let mut synced = 0;
        for (n, before) in pending.into_iter().enumerate() {
            synced = n + 1;
            assert_eq!(before.run().expect("lands"), Lsn(synced as u64));
        }
        disk.fail(0, Fault::Error);
        let error = failed.run().expect_err("fails");
        assert!(matches!(error, WalError::Io { .. }), "{error}");
        for pending in after {
            assert!(matches!(pending.run(), Err(WalError::Poisoned)));
        }
        assert_eq!(wal.durable(), Lsn(synced as u64));
        assert!(wal.is_poisoned() && matches!(wal.begin_sync(), Err(WalError::Poisoned)));
        let again = append_one(&mut wal, &Step::append(1, filled(1, 5, 1, 1)));
        assert!(matches!(again, Err(WalError::Poisoned)));
        disk.crash(Crash::Process);
        durable_state(&disk, &Stopped { models, synced, error: None, wal });
    }
}

/// A sync that was begun and forgotten is still made, by the next one or by a segment's start.
#[test]
fn a_forgotten_sync_is_not_lost() {
    for (is_direct, rolls) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = drive(1, is_direct);
        let mut wal = open(disk.mount()).expect("opens").0;
        let mut model = Model::default();
        let mut next = 1;
        while next <= 3 || (rolls && wal.stats().segments_started == 1) {
            let step = Step::append(1, filled(1, next, 1, 700));
            append_one(&mut wal, &step).expect("appends");
            drop(wal.begin_sync().expect("begins"));
            model.apply(&[step]);
            next += 1;
        }
        assert_eq!(wal.sync().expect("syncs"), wal.appended());
        drop(wal);
        disk.lose_power(&mut |_| Fate::Lost);
        let (wal, recovered) = open(disk.mount()).expect("opens");
        model.check(&wal, &recovered);
    }
}

/// A sync fails; the kernel takes the pages for clean; the next start reads them all the same
/// (museum W10).
#[test]
fn w10_a_tail_whose_sync_failed_is_written_again() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let mut wal = open(disk.mount()).expect("opens").0;
        let steps = [Step::append(1, filled(1, 1, 3, 400))];
        append(&mut wal, &steps).expect("appends");
        disk.fail(0, Fault::Error);
        assert!(matches!(wal.sync(), Err(WalError::Io { .. })));
        assert!(matches!(wal.sync(), Err(WalError::Poisoned)), "never tried again");
        disk.crash(Crash::Process);
        let mut after = Model::default();
        after.apply(&steps);
        let models = vec![Model::default(), after];
        let stopped = Stopped { models, synced: 0, error: None, wal };
        assert_eq!(durable_state(&disk, &stopped), 1, "the cache had it");
    }
}

/// There is no room for the next segment: an error, no harm, and service again when there is
/// (museum W16).
#[test]
fn w16_a_full_disk_is_an_error_and_passes() {
    let disk = SimDisk::new(1);
    let mut wal = open(disk.mount()).expect("opens").0;
    let mut model = Model::default();
    disk.set_capacity(Some(2 * SEGMENT_BYTES));
    let mut full = 0;
    for n in 0..40 {
        let step = Step::append(1, filled(1, 1 + n, 2, 700));
        let result = append_one(&mut wal, &step);
        if let Err(error) = result {
            assert!(matches!(error, WalError::Full { .. }), "{error}");
            assert!(!wal.is_poisoned());
            full += 1;
            wal.sync().expect("what is there can be made durable");
            disk.set_capacity(Some(disk.used() + 2 * SEGMENT_BYTES));
            append_one(&mut wal, &step).expect("there is room again");
        }
        model.apply(&[step]);
        model.check_entries(&wal);
    }
    assert!(full >= 3, "{full}");
    wal.close().expect("closes");
    disk.crash(Crash::Power);
    disk.set_capacity(None);
    let (wal, recovered) = open(disk.mount()).expect("opens");
    model.check(&wal, &recovered);
}

/// In the middle of a batch of several records: the part that was written is void (museum W11).
#[test]
fn w11_a_batch_that_ran_out_of_room_leaves_nothing() {
    let disk = SimDisk::new(1);
    let mut wal = open(disk.mount()).expect("opens").0;
    let first = Step::append(1, filled(1, 1, 1, 10));
    append_one(&mut wal, &first).expect("appends");
    disk.set_capacity(Some(disk.used() + SEGMENT_BYTES));
    let large = Step::append(2, filled(1, 1, 6, 3000));
    let error = append_one(&mut wal, &large).expect_err("no room");
    assert!(matches!(error, WalError::Full { .. }), "{error}");
    let mut model = Model::default();
    model.apply(&[first]);
    model.check_entries(&wal);
    let small = Step::append(3, filled(1, 1, 1, 10));
    disk.set_capacity(None);
    append_one(&mut wal, &small).expect("appends");
    model.apply(&[small]);
    wal.sync().expect("syncs");
    for crash in [Crash::Process, Crash::Power] {
        disk.crash(crash);
        let (next, recovered) = open(disk.mount()).expect("opens");
        model.check(&next, &recovered);
        wal = next;
    }
    append_one(&mut wal, &large).expect("there is room");
    model.apply(&[large]);
    model.check_entries(&wal);
}

/// Opening needs no space: the segment made ahead, then the reserve (museum W17).
#[test]
fn w17_a_full_disk_does_not_keep_a_store_from_starting() {
    let disk = SimDisk::new(1);
    let mut wal = open(disk.mount()).expect("opens").0;
    wal.preparer().prepare().expect("prepares");
    let mut model = Model::default();
    let mut next = 1;
    disk.set_capacity(Some(disk.used()));
    for start in 0..2 {
        // Too much to be moved, so that each start takes a file.
        for _ in 0..3 {
            let step = Step::append(1, filled(1, next, 1, 1000));
            append_one(&mut wal, &step).expect("appends");
            model.apply(&[step]);
            next += 1;
        }
        disk.crash(Crash::Process);
        let (opened, recovered) = open(disk.mount()).unwrap_or_else(|e| panic!("{start}: {e}"));
        model.check(&opened, &recovered);
        wal = opened;
    }
    // Nothing is left now; it says so, and how much it needs.
    for _ in 0..3 {
        append(&mut wal, &[Step::append(1, filled(1, next, 1, 1000))]).expect("appends");
        next += 1;
    }
    disk.crash(Crash::Process);
    let error = open(disk.mount()).expect_err("no room");
    assert!(matches!(error, WalError::Full { bytes: SEGMENT_BYTES }), "{error}");
    disk.set_capacity(None);
    assert!(open(disk.mount()).is_ok());
}

/// No sync is skipped, joined with a later one, or answered without the disk (museum W26).
#[test]
fn w26_every_acknowledged_batch_had_its_sync() {
    let disk = SimDisk::new(1);
    let mut wal = open(disk.mount()).expect("opens").0;
    disk.record();
    for n in 0..20 {
        append(&mut wal, &[Step::append(1, filled(1, 1 + n, 1, 20))]).expect("appends");
        wal.sync().expect("syncs");
        assert_eq!(wal.sync().expect("nothing to do"), wal.appended());
    }
    let moments = disk.recorded();
    let syncs = moments.iter().filter(|moment| moment.operation == Operation::Sync).count();
    assert_eq!(syncs, 20);
    assert_eq!(wal.stats().syncs, 21, "and one to open");
}
