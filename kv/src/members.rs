//! The stores a cluster began with, as each data directory remembers them.
//!
//! Until the state machine has its first checkpoint, a restart takes the first region from the
//! command line again. With another list of stores it would be another region: the same log, read
//! with other majorities. So the first start writes the list down (file `members`), and every
//! later one must agree with it. Addresses may change, ids may not.
//!
//! ```text
//! raftkv members 1
//! 1 2 3
//! 9f1c22ab        CRC-32 of the lines before
//! ```

use std::io;

use raftstore::StoreId;
use raftstore::disk::{self, Disk};

const FILE: &str = "members";
const HEAD: &str = "raftkv members 1\n";

/// Why the list of stores can't be used.
///
/// ```
/// use std::net::TcpListener;
/// use kv::store::{MembersError, RunningStore, StartError, StoreOptions};
/// use raftstore::StoreId;
/// use raftstore::disk::ClusterId;
/// use raftstore::transport::local::Network;
///
/// let (id, dir) = (StoreId(1), tempfile::tempdir()?);
/// let start = |members| {
///     let options = StoreOptions::new(id, ClusterId(7), members, dir.path().to_owned());
///     let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
///     RunningStore::start(options, Network::new().transport(id), listener)
/// };
/// start(vec![id])?.stop()?;
/// let Err(StartError::Members { source, .. }) = start(vec![id, StoreId(2)]) else { panic!() };
/// assert!(matches!(source, MembersError::Other { began, .. } if began == [id]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The cluster began with others.
    #[error("the data directory belongs to a cluster of the stores {}, not {}", list(.began), list(.asked))]
    Other {
        /// The stores it began with.
        began: Vec<StoreId>,
        /// Those of the command line.
        asked: Vec<StoreId>,
    },
    /// The file is not what was written.
    #[error("{FILE}: {0}")]
    Damaged(&'static str),
    /// The disk failed.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

fn list(stores: &[StoreId]) -> String {
    let ids: Vec<String> = stores.iter().map(ToString::to_string).collect();
    ids.join(" ")
}

/// The stores the directory's cluster began with; `None` if it did not begin yet.
///
/// # Errors
/// If the file is damaged or can't be read.
pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Vec<StoreId>>, MembersError> {
    let Some(content) = disk::read(disk, FILE)? else { return Ok(None) };
    let text = std::str::from_utf8(&content).map_err(|_| MembersError::Damaged("not text"))?;
    let body = text.strip_prefix(HEAD).ok_or(MembersError::Damaged("not a list of stores"))?;
    let (ids, _) = body.split_once('\n').ok_or(MembersError::Damaged("cut short"))?;
    if encode(ids) != text {
        return Err(MembersError::Damaged("wrong checksum"));
    }
    let id = |word: &str| word.parse().map(StoreId);
    let stores: Result<Vec<StoreId>, _> = ids.split(' ').map(id).collect();
    stores.map(Some).map_err(|_| MembersError::Damaged("not a list of ids"))
}

/// Writes the stores down, or compares them with those that are.
///
/// # Errors
/// If they differ, or the disk fails.
pub(crate) fn agree(disk: &dyn Disk, stores: &[StoreId]) -> Result<(), MembersError> {
    match read(disk)? {
        None => Ok(disk::replace(disk, FILE, encode(&list(stores)).as_bytes())?),
        Some(began) if began == stores => Ok(()),
        Some(began) => Err(MembersError::Other { began, asked: stores.to_vec() }),
    }
}

fn encode(ids: &str) -> String {
    let text = format!("{HEAD}{ids}\n");
    let sum = crc32fast::hash(text.as_bytes());
    format!("{text}{sum:08x}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftstore::disk::{DirDisk, Route};

    fn stores(ids: &[u64]) -> Vec<StoreId> {
        ids.iter().map(|&id| StoreId(id)).collect()
    }

    #[test]
    fn the_first_list_counts() {
        let dir = tempfile::tempdir().unwrap();
        let disk = DirDisk::open(dir.path(), Route::Written).unwrap();
        assert_eq!(read(&disk).unwrap(), None);
        agree(&disk, &stores(&[1, 2, 30])).unwrap();
        agree(&disk, &stores(&[1, 2, 30])).unwrap();
        assert_eq!(read(&disk).unwrap(), Some(stores(&[1, 2, 30])));
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(text, "raftkv members 1\n1 2 30\n2f5e54bc\n");
        assert_eq!(
            agree(&disk, &stores(&[1, 2])).unwrap_err().to_string(),
            "the data directory belongs to a cluster of the stores 1 2 30, not 1 2"
        );
    }

    #[test]
    fn every_change_of_a_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = DirDisk::open(dir.path(), Route::Written).unwrap();
        let good = encode("1 2 3");
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            std::fs::write(dir.path().join(FILE), &bad).unwrap();
            assert!(matches!(read(&disk), Err(MembersError::Damaged(_))), "byte {at}");
            std::fs::write(dir.path().join(FILE), &good.as_bytes()[..at]).unwrap();
            assert!(matches!(read(&disk), Err(MembersError::Damaged(_))), "{at} bytes");
        }
    }
}
