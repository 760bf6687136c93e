//! Images of real files: what the routes really put where (simulation.md 3.1, layer E).
//!
//! A map is coherent with reads of the file, so copying the files at each sync gives what is
//! durable, and copying them later what may be; each sector of an image is one or the other. The
//! images are opened on the simulated disk, which is faster. Which versions between the two the
//! kernel may have written, only the simulated disk knows.

use std::collections::BTreeMap;
use std::path::Path;

use super::images::{SEGMENT_BYTES, open};
use super::support::{IDENTITY, Model, Step, append, filled, small};
use crate::disk::{DirDisk, Route, SECTOR_BYTES, SimDisk};
use crate::wal::{HEADER_BYTES, Wal};

type Files = BTreeMap<String, Vec<u8>>;

fn files(dir: &Path) -> Files {
    let entries = std::fs::read_dir(dir).expect("lists").flatten();
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().expect("a name of ours");
        (name, std::fs::read(entry.path()).expect("reads"))
    };
    entries.map(file).collect()
}

/// The files as of the last sync. A segment started since then was durable with its header alone,
/// and what was written to the one before it had been synced by then.
fn durable(synced: &Files, now: &Files) -> Files {
    let started = now.keys().any(|name| !synced.contains_key(name));
    let file = |(name, content): (&String, &Vec<u8>)| {
        let mut durable = content.clone();
        match synced.get(name) {
            Some(old) if !started => durable.clone_from(old),
            Some(_) => {}
            None => durable[HEADER_BYTES..].fill(0),
        }
        (name.clone(), durable)
    };
    now.iter().map(file).collect()
}

fn image(durable: &Files, now: &Files, rng: &mut fastrand::Rng) -> SimDisk {
    let drive = SimDisk::new(rng.u64(..));
    let disk = drive.mount();
    let share = rng.u8(..);
    for (name, content) in now {
        let mut mixed = durable[name].clone();
        let sectors = mixed.chunks_mut(SECTOR_BYTES).zip(content.chunks(SECTOR_BYTES));
        for (old, new) in sectors.filter(|(old, new)| old != new) {
            if rng.u8(..) <= share {
                old.copy_from_slice(new);
            }
        }
        disk.create(name).and_then(|file| file.write_at(0, &mixed)).expect("writes");
    }
    drive
}

fn attack(route: Route) -> u64 {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = std::sync::Arc::new(DirDisk::open(dir.path(), route).expect("opens"));
    let mut wal = Wal::open(disk, &IDENTITY, small(SEGMENT_BYTES)).expect("opens").0;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut models = vec![Model::default()];
    let (mut synced, mut floor, mut images) = (files(dir.path()), 0, 0);
    for n in 0..60 {
        let bytes = rng.usize(..1500);
        let steps =
            [1, 2].map(|region| Step::append(region, filled(1, 1 + n, 1, bytes / region as usize)));
        append(&mut wal, &steps).expect("appends");
        let mut next = models[models.len() - 1].clone();
        next.apply(&steps);
        models.push(next);
        let now = files(dir.path());
        let durable = durable(&synced, &now);
        for _ in 0..12 {
            images += 1;
            let image = image(&durable, &now, &mut rng);
            let (wal, recovered) = open(image.mount()).expect("opens");
            let read = Model::read(&wal, &recovered.groups);
            assert!(models[floor..].contains(&read), "{route:?}, batch {n}: {read:?}");
        }
        synced = durable;
        if n % 3 == 2 {
            wal.sync().expect("syncs");
            (synced, floor) = (files(dir.path()), models.len() - 1);
        }
    }
    assert!(wal.stats().segments > 4, "it rolled");
    images
}

#[test]
fn images_of_real_files_by_each_route() {
    for route in [Route::Written, Route::Mapped, Route::Direct] {
        assert_eq!(attack(route), 720);
    }
}
