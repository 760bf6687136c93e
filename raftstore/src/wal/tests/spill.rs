//! A log that nobody syncs: what gathers is written all the same, and a failure shows.

use super::support::{IDENTITY, Model, Place, Step, append_one, filled};
use crate::disk::Route;
use crate::disk::sim::Fault;
use crate::wal::{Lsn, Wal, WalError, WalOptions};

const BATCH_BYTES: usize = 256 << 10;
/// Enough for several spills, within one segment.
const BATCHES: u64 = 60;

fn step(n: u64) -> Step {
    Step::append(1, filled(1, n, 1, BATCH_BYTES))
}

fn open(place: &Place) -> Wal {
    let options = WalOptions { segment_bytes: 32 << 20 };
    Wal::open(place.disk(), &IDENTITY, options).expect("opens").0
}

#[test]
fn what_nobody_syncs_is_written_and_reads_the_same() {
    for place in [Place::direct_sim(1), Place::dir(Route::Direct)] {
        let (mut wal, mut model) = (open(&place), Model::default());
        if wal.syncs_max() == 1 {
            eprintln!("no direct writes here");
            continue;
        }
        for n in 1..=BATCHES {
            append_one(&mut wal, &step(n)).expect("appends");
            model.apply(&[step(n)]);
            // All but the last few megabytes: two spills on their way, and what gathers meanwhile.
            let behind = (wal.appended().0 - wal.durable().0) as usize * BATCH_BYTES;
            assert!(behind <= 8 << 20, "{behind} bytes in memory");
        }
        // Each of several batches.
        let spills = wal.stats().syncs;
        assert!((4..BATCHES / 4).contains(&spills), "{spills}");
        assert!(wal.durable() > Lsn(0) && wal.durable() < wal.appended(), "{wal:?}");
        model.check_entries(&wal);
        // A sync covers the rest, after whatever is on its way.
        let pending = wal.begin_sync().expect("begins").expect("the last batch is never spilled");
        assert_eq!(pending.run().expect("syncs"), wal.appended());
        drop(wal);
        let options = WalOptions { segment_bytes: 32 << 20 };
        let (wal, recovered) = place.open(options);
        model.check(&wal, &recovered);
    }
}

#[test]
fn a_spill_that_fails_stops_the_log() {
    let Place::Sim(disk) = Place::direct_sim(1) else { return };
    let mut wal = open(&Place::Sim(disk.clone()));
    append_one(&mut wal, &step(1)).expect("appends");
    disk.fail(0, Fault::Error);
    let failed = (2..=BATCHES).find_map(|n| append_one(&mut wal, &step(n)).err());
    assert!(matches!(failed, Some(WalError::Poisoned | WalError::Io { .. })), "{failed:?}");
    assert!(wal.is_poisoned() && wal.durable() == Lsn(0));
    assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
}
