//! A real disk that is full: a tmpfs of a few pages (museum W16, W17).
//!
//! Stores through a map to blocks that the file system cannot give end in SIGBUS, which no program
//! can answer. So this runs in a process of its own, whose end is looked at; and where nobody may
//! mount a file system, it says so.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use raftstore::disk::{DirDisk, Disk, Route};
use raftstore::wal::WalError;

use super::counts::Counts;
use super::model::{Model, SEGMENT_BYTES, Step, append, filled, open};

/// The argument that has the program do [`fill`] in a directory.
pub const ARGUMENT: &str = "--on-full-disk";
const CLASS: &str = "full: tmpfs";
/// A few segments and the reserve.
const DISK_BYTES: u64 = 8 * SEGMENT_BYTES;
/// Takes the space that is left.
const FILLER: &str = "filler";

/// Has `program`, called with [`ARGUMENT`], fill a small file system.
///
/// # Errors
/// If it was ended by a signal, or says that something is wrong.
pub fn attack(program: &Path) -> (Counts, Result<(), String>) {
    let mut counts = Counts::default();
    let result = match Mount::new() {
        Err(why) => {
            counts.excuse(CLASS, why);
            Ok(())
        }
        Ok(mount) => run(program, mount.dir.path()).map(|times| counts.add(CLASS, times)),
    };
    (counts, result.map_err(|what| format!("a full tmpfs: {what}")))
}

fn run(program: &Path, dir: &Path) -> Result<u64, String> {
    let output = Command::new(program).arg(ARGUMENT).arg(dir).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if let Some(signal) = output.status.signal() {
        return Err(format!("the process was ended by signal {signal}"));
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        return Err(said);
    }
    said.parse().map_err(|_| format!("it said {said:?}"))
}

/// A small file system, until dropped.
struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    fn new() -> Result<Mount, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let options = format!("size={DISK_BYTES},mode=700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .output();
        match mount {
            Ok(output) if output.status.success() => Ok(Mount { dir }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
                Err(format!("a tmpfs cannot be mounted, which takes root: {why}"))
            }
            Err(error) => Err(format!("a tmpfs cannot be mounted: mount: {error}")),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // If it fails, the directory cannot be removed either, and stays for somebody to look at.
        let _ = Command::new("umount").arg(self.dir.path()).output();
    }
}

/// By each route: fills the disk in `dir` until the log says so, gives space back, goes on, and
/// starts again with no space at all. How often the disk was full.
///
/// # Errors
/// If anything but an error came of it, or service did not resume.
pub fn fill(dir: &Path) -> Result<u64, String> {
    let mut times = 0;
    for route in [Route::Written, Route::Mapped] {
        times += fill_by(dir, route).map_err(|what| format!("{route:?}: {what}"))?;
        let entries = fs::read_dir(dir).map_err(|error| error.to_string())?;
        for entry in entries.flatten() {
            fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
        }
    }
    Ok(times)
}

fn fill_by(dir: &Path, route: Route) -> Result<u64, String> {
    let disk = || DirDisk::open(dir, route).map(|disk| Arc::new(disk) as Arc<dyn Disk>);
    let start = || {
        let disk = disk().map_err(|error| error.to_string())?;
        open(disk).map_err(|error| format!("starting: {error}"))
    };
    let mut wal = start()?.0;
    let mut model = Model::default();
    let mut times = 0;
    let wrong = |error: WalError| error.to_string();
    // Made while there is room: what a start without any falls back on.
    wal.preparer().prepare().map_err(wrong)?;
    for n in 1..=128 {
        let step = Step::append(1, filled(1, n, 1, 1500));
        // From time to time somebody else takes what is left, so that each call meets a full disk.
        if n % 4 == 0 {
            hog(dir)?;
        }
        match append(&mut wal, std::slice::from_ref(&step)) {
            Ok(()) => {}
            Err(WalError::Full { .. }) => {
                times += 1;
                wal.sync().map_err(|error| format!("what is there, synced: {error}"))?;
                let entries = Model::read(&wal, &logs(&model))?;
                if entries != model {
                    return Err(format!("on a full disk the log has {}", entries.line()));
                }
                drop(wal);
                wal = restart_full(&start, &model)?;
                free(dir, &mut wal, &mut model)?;
                append(&mut wal, std::slice::from_ref(&step))
                    .map_err(|error| format!("space is back, and yet: {error}"))?;
            }
            Err(error) => return Err(format!("a full disk is said to be: {error}")),
        }
        model.apply(&[step]);
        wal.sync().map_err(wrong)?;
        // A log that fills this disk needs more space than that to be collected.
        if n % 16 == 0 {
            free(dir, &mut wal, &mut model)?;
        }
    }
    wal.close().map_err(wrong)?;
    check(&start()?, &model)?;
    if times == 0 { Err("it was never full".to_owned()) } else { Ok(times) }
}

/// A start with no byte free: it must recover everything (museum W17).
fn restart_full(
    start: &dyn Fn() -> Result<Opened, String>,
    model: &Model,
) -> Result<raftstore::wal::Wal, String> {
    let opened = start().map_err(|what| format!("without space: {what}"))?;
    check(&opened, model)?;
    Ok(opened.0)
}

type Opened = (raftstore::wal::Wal, raftstore::wal::Recovered);

fn check((wal, recovered): &Opened, model: &Model) -> Result<(), String> {
    let read = Model::read(wal, &recovered.groups)?;
    if read == *model { Ok(()) } else { Err(format!("a start found {}", read.line())) }
}

fn logs(
    model: &Model,
) -> std::collections::BTreeMap<raftstore::RegionId, raftstore::wal::GroupLog> {
    let log = |(region, group): (&u64, &super::model::ModelGroup)| {
        let last = model.last(*region).index;
        let (hard_state, compacted) = (group.hard_state, group.compacted);
        let log = raftstore::wal::GroupLog { hard_state, compacted, terms: Vec::new(), last };
        (raftstore::RegionId(*region), log)
    };
    model.groups.iter().map(log).collect()
}

/// Gives space back: the hog's, and what a compaction sets free.
fn free(dir: &Path, wal: &mut raftstore::wal::Wal, model: &mut Model) -> Result<(), String> {
    match fs::remove_file(dir.join(FILLER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let wrong = |error: WalError| format!("space is back, and yet: {error}");
    if model.last(1).index > 0 {
        let step = Step { region: 1, compact: Some(model.last(1)), ..Step::default() };
        append(wal, std::slice::from_ref(&step)).map_err(wrong)?;
        model.apply(&[step]);
    }
    wal.sync().map_err(wrong)?;
    while wal.collect().map_err(wrong)? {}
    wal.preparer().prepare().map(drop).map_err(wrong)
}

/// Takes all space there is.
fn hog(dir: &Path) -> Result<(), String> {
    let file = fs::OpenOptions::new().create(true).append(true).open(dir.join(FILLER));
    let mut file = file.map_err(|error| error.to_string())?;
    loop {
        match io::Write::write_all(&mut file, &[1; 4096]) {
            Ok(()) => {}
            Err(error) if raftstore::disk::is_full(&error) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
