//! Whether a directory is what it is taken for, before anything is written into it.
//!
//! A store that is pointed at the wrong directory would begin anew there, empty, and whoever looks for
//! their data would not find it. A new store begins in an empty directory only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use raftstore::disk::IDENTITY_FILE;

/// What may be in a directory that no store has begun in: what the start of one leaves when it is cut
/// short, and what a fresh file system has.
const HARMLESS: [&str; 4] = ["LOCK", "store.tmp", "direct-probe.tmp", "lost+found"];

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// There is a file of that name.
    #[error("{} is not a directory", .0.display())]
    NotOne(PathBuf),
    /// It is not a store's, and not empty.
    #[error("{} is not the directory of a store, and not empty: it has {found:?}", path.display())]
    NotOfStore {
        /// Which.
        path: PathBuf,
        /// What is in it, for one.
        found: String,
    },
    /// It is not that of a whole cluster, and not empty.
    #[error(
        "{} is not the directory of a cluster: it has {found:?}{}",
        path.display(),
        if found == IDENTITY_FILE { "; it is that of one store: use `raftkv server`" } else { "" }
    )]
    NotOfCluster {
        /// Which.
        path: PathBuf,
        /// What is in it, for one.
        found: String,
    },
    /// It can't be looked into.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Checks the directory that one store is to have.
///
/// # Errors
/// If it is there, has something in it, and is not that of a store.
pub(crate) fn check_store(path: &Path) -> Result<(), DirectoryError> {
    let names = names(path)?;
    if names.iter().any(|name| name == IDENTITY_FILE) {
        return Ok(());
    }
    let foreign = names.into_iter().find(|name| !HARMLESS.contains(&name.as_str()));
    match foreign {
        Some(found) => Err(DirectoryError::NotOfStore { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

/// Checks the directory that a cluster is to have, with one for each store in it.
///
/// # Errors
/// If it is there and has anything else in it.
pub(crate) fn check_cluster(path: &Path) -> Result<(), DirectoryError> {
    let is_stores = |name: &String| name.strip_prefix("store").is_some_and(is_number);
    let mut foreign = names(path)?;
    foreign.retain(|name| !is_stores(name) && name != "lost+found");
    // What says whose it is says most.
    foreign.sort_by_key(|name| name != IDENTITY_FILE);
    match foreign.into_iter().next() {
        Some(found) => Err(DirectoryError::NotOfCluster { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is in a directory, in order; nothing if it is not there.
fn names(path: &Path) -> Result<Vec<String>, DirectoryError> {
    let io = |source| DirectoryError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(file) if !file.is_dir() => return Err(DirectoryError::NotOne(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(_) => {}
        Err(e) => return Err(io(e)),
    }
    let entries = fs::read_dir(path).map_err(io)?;
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut names = entries.map(name).collect::<io::Result<Vec<_>>>().map_err(io)?;
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(dir.path().join(name), "").unwrap();
        }
        dir
    }

    #[test]
    fn a_store_begins_where_nothing_is_or_a_store_was() {
        for names in [&[][..], &["LOCK", "store.tmp"], &["store", "notes.txt"], &["lost+found"]] {
            assert!(check_store(with(names).path()).is_ok(), "{names:?}");
        }
        assert!(check_store(&with(&[]).path().join("new")).is_ok());
        for (names, found) in [(&["notes.txt"][..], "notes.txt"), (&["LOCK", "store1"], "store1")] {
            let error = check_store(with(names).path()).unwrap_err().to_string();
            assert!(error.ends_with(&format!("and not empty: it has {found:?}")), "{error}");
        }
        let error = check_store(&with(&["file"]).path().join("file")).unwrap_err();
        assert!(error.to_string().ends_with("/file is not a directory"), "{error}");
    }

    #[test]
    fn a_cluster_begins_where_nothing_is_or_a_cluster_was() {
        for names in [&[][..], &["store1", "store2", "store15"], &["lost+found", "store1"]] {
            assert!(check_cluster(with(names).path()).is_ok(), "{names:?}");
        }
        let error = check_cluster(with(&["LOCK", "members", "store"]).path()).unwrap_err();
        assert!(error.to_string().ends_with("that of one store: use `raftkv server`"), "{error}");
        let error = check_cluster(with(&["store1", "storeX"]).path()).unwrap_err();
        assert!(error.to_string().ends_with("it has \"storeX\""), "{error}");
    }
}
