//! Snapshots between stores (§7): how a follower whose next entry is compacted gets the state.
//!
//! ```text
//!  leader's store                                                     follower's store
//!  core ─ wants one ─► Slot ─► Task::Snapshot ─► applier: a view, O(1)
//!  core ─ InstallSnapshot ─► SendSnapshot ═══ pieces, own connection ═══► Incoming: temporary file
//!                                 ▲                                         │ whole? right? synced?
//!       report_snapshot ◄── sent ─┴──────────────── verdict ◄───────────────┤ rename, sync directory
//!                                                                           ▼
//!                                      core takes it ─► one log record: reset + hard state
//!                                                         │ synced
//!                                                         ▼
//!                                      Task::Install ─► applier: state, applied index, region
//! ```
//!
//! **Built for nothing.** A view of the state is O(1) and stays as it is while the leader applies
//! on; what it is to be sent as is written piece by piece as fast as it leaves, so the sender has
//! no file to make, sync or clean up. What is overwritten meanwhile stays in memory until the last
//! stream from that view has ended.
//!
//! **No livelock** (`outgoing`). One view serves all followers, and again after a failure, as
//! long as the log still begins at or before its end. The log is not compacted past a snapshot that
//! is on its way, nor, for a while, past one that has arrived. A follower that fails again and again
//! is sent a snapshot ever more rarely.
//!
//! # The order on the receiver, and what a crash leaves
//!
//! | step | a crash after it leaves | recovery |
//! |---|---|---|
//! | 1 pieces into a temporary file | a file that nobody names | it is removed |
//! | 2 verify, sync, rename, sync directory | old log, old state, a file that nothing rests on | the file is removed |
//! | 3 one log record: reset, hard state | as after 2, the record torn; or as after 4 | |
//! | 4 its sync | new log, old checkpoint, the file | the state is the file's |
//! | 5 acknowledgement leaves; the state is replaced | as after 4 | |
//! | 6 a checkpoint that has the snapshot | new log, new state, the file | it is removed |
//!
//! The log record is the one point at which old becomes new: before it nothing rests on the file,
//! after it the file is complete, durable, and named after the position where the log begins. The
//! file goes only after a durable checkpoint that reaches as far (S4, S7, S9, S12). The core hears
//! that the record is durable before the state is replaced; that is no gap, because installing is
//! queued before everything it hands out to be applied or read from then on (S5), and cannot fail
//! but by ending the store.
//!
//! | file | what |
//! |---|---|
//! | this | a state to be sent; names of files |
//! | `outgoing` | the leader's side: views, streams, back-off |
//! | [`incoming`] | the follower's side: from pieces to a file that may be relied on |

pub mod incoming;
mod outgoing;

use std::fmt;
use std::io;
use std::sync::Arc;

use raft::{Index, LogId, NodeId, Term};

use crate::codec::message::PeerMessage;
use crate::region::{Region, RegionId, StoreId};

pub use incoming::{Incoming, ReceiveError, Received};
pub(crate) use outgoing::{Outgoing, Slot};

/// The state of a region at one moment, to be sent.
pub trait SnapshotSource: Send + Sync + fmt::Debug {
    /// The last entry that is part of it.
    fn last(&self) -> LogId;

    /// The region, as of then.
    fn region(&self) -> &Region;

    /// Hands out everything the receiver has to put into its file, in order, in pieces of a size
    /// that a frame can hold; the same bytes every time.
    ///
    /// # Errors
    /// What `out` returns: nobody wants any more.
    fn write(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// A snapshot to be sent, as a round hands it out. Its end, good or bad, has to be reported by
/// [`Store::snapshot_sent`](crate::store::Store::snapshot_sent): until then the leader waits for it
/// and keeps the log behind it.
#[derive(Clone, Debug)]
#[must_use = "the leader waits for its end"]
pub struct SendSnapshot {
    /// To which store.
    pub to: StoreId,
    /// The InstallSnapshot message, to travel ahead of the pieces. Its data is empty.
    pub message: PeerMessage,
    /// The state.
    pub source: Arc<dyn SnapshotSource>,
}

impl SendSnapshot {
    /// What names it in the report of its end.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        let (region, peer) = (self.message.region, self.message.message.to);
        SnapshotId { region, peer, last: self.source.last().index }
    }
}

/// Names a snapshot on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    /// The region.
    pub region: RegionId,
    /// The member it is for.
    pub peer: NodeId,
    /// Its last index.
    pub last: Index,
}

/// What the name of a received file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileName {
    /// The region.
    pub region: RegionId,
    /// The last entry that is part of the state.
    pub last: LogId,
    /// Tells files of the same state apart.
    pub unique: u64,
}

/// What a file is called until it is whole.
const UNFINISHED: &str = ".tmp";

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileName { region, last, unique } = self;
        write!(f, "snapshot-{:016x}-{:016x}-{:016x}-{unique:016x}", region.0, last.index, last.term)
    }
}

impl FileName {
    /// Reads a name; `None` if it is not that of a received file.
    #[must_use]
    pub fn parse(name: &str) -> Option<FileName> {
        let mut numbers = name.strip_prefix("snapshot-")?.split('-').map(|digits| {
            let digits = Some(digits).filter(|digits| digits.len() == 16)?;
            u64::from_str_radix(digits, 16).ok()
        });
        let mut next = || numbers.next().flatten();
        let (region, index, term): (_, Index, Term) = (RegionId(next()?), next()?, next()?);
        let unique = next()?;
        let parsed = FileName { region, last: LogId::new(term, index), unique };
        numbers.next().is_none().then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_the_file_is() {
        let name =
            FileName { region: RegionId(7), last: LogId::new(3, 0x1_0000), unique: u64::MAX };
        let text = "snapshot-0000000000000007-0000000000010000-0000000000000003-ffffffffffffffff";
        assert_eq!(name.to_string(), text);
        assert_eq!(FileName::parse(text), Some(name));
        for other in ["snapshot-7-1-3-9", "checkpoint-0000000000000007", "snapshot-", ""] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
        assert_eq!(FileName::parse(&format!("{text}{UNFINISHED}")), None);
        assert_eq!(FileName::parse(&format!("{text}-0000000000000001")), None);
    }
}
