//! Where a figure was taken: without it, it means nothing.

use std::fs;
use std::path::Path;

/// The machine, the file system, and this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) file_system: String,
    /// Processes that wanted to run, on average over the last minute, before anything was measured.
    pub(super) load: String,
    pub(super) revision: String,
}

impl Environment {
    /// As it is now; the file system is that of `path`.
    pub(super) fn read(path: &Path) -> Environment {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let cpu = text("/proc/cpuinfo");
        let model = cpu.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
        let or_unknown = |text: &str| if text.is_empty() { unknown() } else { text.to_owned() };
        Environment {
            cpu: or_unknown(model.unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: or_unknown(text("/proc/sys/kernel/osrelease").trim()),
            file_system: file_system(path, &text("/proc/self/mountinfo")).unwrap_or_else(unknown),
            load: or_unknown(text("/proc/loadavg").split(' ').next().unwrap_or_default()),
            revision: revision(),
        }
    }

    /// Name and value of each, for people.
    pub(super) fn rows(&self) -> [(&'static str, String); 5] {
        [
            ("CPU", format!("{} × {}", self.cores, self.cpu)),
            ("kernel", self.kernel.clone()),
            ("file system", self.file_system.clone()),
            ("load before", self.load.clone()),
            ("revision", self.revision.clone()),
        ]
    }
}

/// What this program was built from.
fn revision() -> String {
    let build = if cfg!(debug_assertions) { ", DEBUG BUILD" } else { "" };
    let commit = option_env!("RAFTKV_REVISION").unwrap_or("unknown commit");
    format!("raftkv {} ({commit}{build})", env!("CARGO_PKG_VERSION"))
}

/// The kind of file system that `path` is on, by the longest mount point it is below.
fn file_system(path: &Path, mounts: &str) -> Option<String> {
    let path = existing(&std::path::absolute(path).ok()?)?;
    let found = mounts.lines().filter_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        let kind = rest.split(' ').next()?;
        path.starts_with(point).then_some((point.len(), kind))
    });
    // Of mounts at the same place the last one counts.
    found.max_by_key(|(len, _)| *len).map(|(_, kind)| kind.to_owned())
}

/// The part of a path that is there.
fn existing(path: &Path) -> Option<std::path::PathBuf> {
    path.ancestors().find_map(|path| path.canonicalize().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_longest_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let mounts = format!(
            "21 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
             22 21 0:5 / {} rw - tmpfs tmpfs rw\n\
             23 21 0:6 / /elsewhere rw - xfs x rw\n",
            path.display()
        );
        let missing = path.join("not/there/yet");
        assert_eq!(file_system(&missing, &mounts).as_deref(), Some("tmpfs"));
        assert_eq!(file_system(Path::new("/"), &mounts).as_deref(), Some("ext4"));
        assert_eq!(file_system(Path::new("/"), ""), None);
    }

    #[test]
    fn everything_is_named() {
        let environment = Environment::read(Path::new("."));
        assert!(environment.cores > 0 && environment.revision.starts_with("raftkv "));
        assert!(environment.rows().iter().all(|(_, value)| !value.is_empty()), "{environment:?}");
    }
}
