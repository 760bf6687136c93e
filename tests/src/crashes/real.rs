//! Images of real files: what each route really puts where (simulation.md 3.1, layer E).
//!
//! A map is coherent with reads of the file, so reading the files at each sync gives what is
//! durable, and reading them later what may be; each sector of an image is one or the other, and
//! each change of the directory happened or not. The images are opened on the simulated disk, which
//! is faster, and some through the maps of real files again. Which contents between the two the
//! kernel may have written, only the simulated disk knows (`power`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use raftstore::disk::{DirDisk, Disk, Route, SECTOR_BYTES, SimDisk};

use super::counts::Counts;
use super::model::{Model, open};
use super::seam::{Moment, Seam, scratch};
use super::workload::{Player, deeds};

/// Up to so many differences every subset is tried, of more so many at random.
const ALL_UP_TO: u32 = 3;
const SUBSETS: u32 = 8;
/// One image in so many is opened as real files.
const REAL_EVERY: u32 = 32;

/// The routes there are, with their class of images.
const ROUTES: [(Route, &str); 3] = [
    (Route::Written, "images of files written"),
    (Route::Mapped, "images of files mapped"),
    (Route::Direct, "images of files written directly"),
];

/// A workload by each route on real files, and images of each moment of it.
///
/// # Errors
/// With the first image that is not recovered as it must be.
pub(super) fn attack(seed: u64, counts: &mut Counts) -> Result<(), String> {
    ROUTES.iter().try_for_each(|(route, class)| {
        attack_by(*route, class, seed, counts).map_err(|what| format!("{route:?}, {what}"))
    })
}

fn attack_by(
    route: Route,
    class: &'static str,
    seed: u64,
    counts: &mut Counts,
) -> Result<(), String> {
    let disk = |error: io::Error| format!("the temporary directory: {error}");
    // In memory nothing is really past the cache, so this takes a device.
    let dir = if route == Route::Direct { tempfile::tempdir() } else { scratch() };
    let dir = dir.map_err(disk)?;
    let seam = Seam::new(dir.path(), route, seed).map_err(disk)?;
    if seam.route() != route {
        counts.excuse(class, "the temporary directory has no direct writes".to_owned());
        return Ok(());
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let refused = |error| format!("a working disk, and yet: {error}");
    seam.record();
    let mut player = Player::new(Arc::new(seam.clone())).map_err(refused)?;
    let mut images = Images { route, class, rng: &mut rng, counts };
    images.of(&seam.recorded().map_err(disk)?, &player.models)?;
    for (n, deed) in deeds(seed).iter().enumerate() {
        seam.record();
        let before = player.synced;
        player.play(deed, &|| Arc::new(seam.clone())).map_err(refused)?;
        let allowed = &player.models[before..];
        images
            .of(&seam.recorded().map_err(disk)?, allowed)
            .map_err(|what| format!("deed {n}, {what}"))?;
    }
    Ok(())
}

/// Something that a power failure decides about.
#[derive(Clone, Copy)]
enum Difference {
    Sector { file: u64, sector: usize },
    Name(usize),
}

struct Images<'a> {
    route: Route,
    class: &'static str,
    rng: &'a mut fastrand::Rng,
    counts: &'a mut Counts,
}

impl Images<'_> {
    fn of(&mut self, moments: &[Moment], allowed: &[Model]) -> Result<(), String> {
        for (call, moment) in moments.iter().enumerate() {
            let differences = differences(moment);
            let n = differences.len() as u32;
            let all = if n <= ALL_UP_TO { 1 << n } else { SUBSETS };
            for set in 0..all {
                let kept = |at: usize, rng: &mut fastrand::Rng| match n <= ALL_UP_TO {
                    true => set >> at & 1 == 1,
                    false => set == 0 || (set > 1 && rng.u32(..SUBSETS) <= set),
                };
                let kept: Vec<Difference> = differences
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| kept(*at, self.rng))
                    .map(|(_, difference)| *difference)
                    .collect();
                let files = mix(moment, &kept);
                self.open(&files, allowed)
                    .map_err(|what| format!("call {call}, {} of {n} kept: {what}", kept.len()))?;
            }
        }
        Ok(())
    }

    fn open(&mut self, files: &BTreeMap<String, Vec<u8>>, allowed: &[Model]) -> Result<(), String> {
        self.counts.add(self.class, 1);
        let drive = SimDisk::new(self.rng.u64(..));
        check(files, drive.mount(), allowed)?;
        if self.rng.u32(..REAL_EVERY) == 0 {
            self.counts.add("images opened as real files", 1);
            let disk = |error: io::Error| format!("the temporary directory: {error}");
            let dir = scratch().map_err(disk)?;
            let real = DirDisk::open(dir.path(), self.route).map_err(disk)?;
            check(files, Arc::new(real), allowed).map_err(|what| format!("real files: {what}"))?;
        }
        Ok(())
    }
}

/// What may or may not have got to the disk.
fn differences(moment: &Moment) -> Vec<Difference> {
    let mut found = Vec::new();
    for (&file, (synced, now)) in &moment.files {
        let sectors = now.chunks(SECTOR_BYTES).enumerate();
        let differ = sectors.filter(|(sector, now)| {
            let old = synced.get(sector * SECTOR_BYTES..).unwrap_or_default();
            old.get(..now.len()) != Some(*now)
        });
        found.extend(differ.map(|(sector, _)| Difference::Sector { file, sector }));
    }
    found.extend((0..moment.pending.len()).map(Difference::Name));
    found
}

/// The files of an image.
fn mix(moment: &Moment, kept: &[Difference]) -> BTreeMap<String, Vec<u8>> {
    let mut names = moment.synced_names.clone();
    let mut contents: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (&file, (synced, _)) in &moment.files {
        contents.insert(file, synced.to_vec());
    }
    for difference in kept {
        match *difference {
            Difference::Sector { file, sector } => {
                let now = &moment.files[&file].1;
                let end = ((sector + 1) * SECTOR_BYTES).min(now.len());
                let content = contents.entry(file).or_default();
                content.resize(content.len().max(end), 0);
                let place = sector * SECTOR_BYTES..end;
                content[place.clone()].copy_from_slice(&now[place]);
            }
            Difference::Name(at) => {
                for (name, file) in &moment.pending[at] {
                    match file {
                        Some(file) => names.insert(name.clone(), *file),
                        None => names.remove(name),
                    };
                }
            }
        }
    }
    let content = |file: &u64| contents.get(file).cloned().unwrap_or_default();
    names.iter().map(|(name, file)| (name.clone(), content(file))).collect()
}

/// Puts the files on a disk and opens the log on it.
fn check(
    files: &BTreeMap<String, Vec<u8>>,
    disk: Arc<dyn Disk>,
    allowed: &[Model],
) -> Result<(), String> {
    for (name, content) in files {
        let written = disk.create(name).and_then(|file| file.write_at(0, content));
        written.map_err(|error| format!("{name} of an image: {error}"))?;
    }
    let (wal, recovered) = open(disk).map_err(|error| format!("refused: {error}"))?;
    let read = Model::read(&wal, &recovered.groups)?;
    if allowed.contains(&read) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().map(Model::line).collect();
    Err(format!("recovered {}, none of {}", read.line(), allowed.join(" ")))
}
