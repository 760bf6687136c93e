//! Which data the other stores had when this one first heard of them.
//!
//! A store that comes back with an empty directory under its old id has forgotten its votes and what
//! it acknowledged: with it, a majority can be found that lacks what another majority has promised
//! (museum M12). It cannot know that itself, so the others remember. Every directory has a number,
//! drawn when it was made ([`Identity::generation`](super::Identity)); stores tell it when they meet,
//! and whoever hears another number than before wants nothing to do with that store.
//!
//! The file `peers` has them. It is replaced by a rename before anything else is heard of that store.
//!
//! ```text
//! raftkv peers 1
//! 2 6f1d22ab905e7c03       store 2, and the number of its directory
//! 3 00fa77123b6cd9e1
//! 9f1c22ab                 CRC-32 of the lines before
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, Identity, read, replace};
use crate::region::StoreId;

/// The file of that.
const FILE: &str = "peers";
const HEAD: &str = "raftkv peers 1\n";

/// What one store knows of the data of the others.
pub struct Acquaintances {
    disk: Arc<dyn Disk>,
    own: Identity,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    known: BTreeMap<StoreId, u64>,
    /// Whose new data is taken for theirs, once each.
    readmitted: BTreeSet<StoreId>,
}

/// Why a store is not talked to, or who is known cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum AcquaintanceError {
    /// It has other data than it had.
    #[error(
        "store {store} has lost its data: its directory is not the one that store {own} knows it by; \
         bring the old one back, or, if it is gone for good and no other store's is, \
         start the others once with --readmit {store}"
    )]
    Stranger {
        /// Which store.
        store: StoreId,
        /// Who says so.
        own: StoreId,
    },
    /// The file is not what was written.
    #[error("{FILE}: {0}")]
    Damaged(&'static str),
    /// The disk failed.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

impl fmt::Debug for Acquaintances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquaintances")
            .field("own", &self.own)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

impl Acquaintances {
    /// What the directory of the store `own` remembers. The first new data that those in `readmitted`
    /// come with is taken for theirs from then on.
    ///
    /// # Errors
    /// If the file is damaged or can't be read.
    pub fn open(
        disk: Arc<dyn Disk>,
        own: Identity,
        readmitted: BTreeSet<StoreId>,
    ) -> Result<Acquaintances, AcquaintanceError> {
        let known = match read(disk.as_ref(), FILE)? {
            Some(content) => decode(&content)?,
            None => BTreeMap::new(),
        };
        Ok(Acquaintances { disk, own, memory: Mutex::new(Memory { known, readmitted }) })
    }

    /// Whose they are.
    #[must_use]
    pub fn own(&self) -> &Identity {
        &self.own
    }

    /// Hears that `store` has the directory with that number. What is new is durable when this
    /// returns.
    ///
    /// # Errors
    /// [`AcquaintanceError::Stranger`] if it had another one; or the disk fails, and then nothing is
    /// noted.
    pub fn meet(&self, store: StoreId, generation: u64) -> Result<(), AcquaintanceError> {
        let mut memory = self.memory.lock();
        match memory.known.get(&store) {
            Some(&before) if before == generation => return Ok(()),
            Some(_) if !memory.readmitted.contains(&store) => {
                return Err(AcquaintanceError::Stranger { store, own: self.own.store });
            }
            Some(_) => log::warn!("store {store} is taken back without the data it had"),
            None => {}
        }
        let mut known = memory.known.clone();
        let before = known.insert(store, generation);
        replace(self.disk.as_ref(), FILE, encode(&known).as_bytes())?;
        memory.known = known;
        if before.is_some() {
            memory.readmitted.remove(&store);
        }
        Ok(())
    }
}

fn encode(known: &BTreeMap<StoreId, u64>) -> String {
    let lines = known.iter().map(|(store, generation)| format!("{store} {generation:016x}\n"));
    let text = HEAD.to_owned() + &lines.collect::<String>();
    let sum = crc32fast::hash(text.as_bytes());
    format!("{text}{sum:08x}\n")
}

fn decode(content: &[u8]) -> Result<BTreeMap<StoreId, u64>, AcquaintanceError> {
    use AcquaintanceError::Damaged;
    let text = std::str::from_utf8(content).map_err(|_| Damaged("not text"))?;
    let body = text.strip_prefix(HEAD).ok_or(Damaged("not a list of stores"))?;
    let lines = body.lines().take(body.lines().count().saturating_sub(1));
    let line = |line: &str| {
        let (store, generation) = line.split_once(' ')?;
        Some((StoreId(store.parse().ok()?), u64::from_str_radix(generation, 16).ok()?))
    };
    let known: Option<BTreeMap<_, _>> = lines.map(line).collect();
    let known = known.ok_or(Damaged("not a list of stores"))?;
    if encode(&known) == text { Ok(known) } else { Err(Damaged("wrong checksum")) }
}

#[cfg(test)]
mod tests {
    use super::super::{ClusterId, SimDisk, sim::Crash, sim::Fault};
    use super::*;

    const OWN: Identity = Identity { store: StoreId(1), cluster: ClusterId(7), generation: 11 };

    fn open(disk: &SimDisk, readmitted: &[u64]) -> Acquaintances {
        let readmitted = readmitted.iter().map(|&id| StoreId(id)).collect();
        Acquaintances::open(disk.mount(), OWN, readmitted).expect("opens")
    }

    /// Museum M12.
    #[test]
    fn m12_who_has_other_data_than_before_is_a_stranger_after_a_crash_too() {
        let disk = SimDisk::new(1);
        let known = open(&disk, &[]);
        known.meet(StoreId(2), 22).expect("new");
        known.meet(StoreId(3), 33).expect("new");
        known.meet(StoreId(2), 22).expect("the same");
        disk.crash(Crash::Power);
        let known = open(&disk, &[]);
        known.meet(StoreId(2), 22).expect("the same");
        let stranger = known.meet(StoreId(3), 34).expect_err("another");
        assert!(stranger.to_string().contains("--readmit 3"), "{stranger}");
        known.meet(StoreId(3), 33).expect("the old one is back");
    }

    #[test]
    fn one_that_is_readmitted_is_known_by_its_new_data_from_then_on() {
        let disk = SimDisk::new(1);
        open(&disk, &[]).meet(StoreId(3), 33).expect("new");
        disk.crash(Crash::Process);
        let known = open(&disk, &[3]);
        known.meet(StoreId(3), 34).expect("it was asked for");
        known.meet(StoreId(3), 35).expect_err("once");
        disk.crash(Crash::Power);
        let known = open(&disk, &[]);
        known.meet(StoreId(3), 34).expect("the same");
        known.meet(StoreId(3), 33).expect_err("the old one");
    }

    #[test]
    fn what_could_not_be_noted_was_not_heard() {
        let disk = SimDisk::new(1);
        let known = open(&disk, &[]);
        disk.fail(0, Fault::Error);
        assert!(matches!(known.meet(StoreId(2), 22), Err(AcquaintanceError::Io(_))));
        known.meet(StoreId(2), 23).expect("nothing was noted");
    }

    #[test]
    fn every_change_of_a_byte_is_noticed() {
        let known = [(StoreId(2), 22), (StoreId(30), u64::MAX)].into();
        let good = encode(&known);
        assert_eq!(decode(good.as_bytes()).expect("good"), known);
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good.as_bytes()[..at]).is_err(), "{at} bytes");
        }
    }
}
