//! What can go wrong, one small enum per way of asking.
//!
//! None of these is a broken promise of ours: those are assertions. These are what a caller, a
//! peer or a disk may do.

use std::error::Error;
use std::fmt;

use crate::config::ConfigError;
use crate::types::{Index, LogId, NodeId};

/// Why a server could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum NewError {
    /// The settings contradict each other.
    Config(ConfigError),
    /// The storage could not say what it has.
    Storage(StorageError),
    /// What the storage says does not fit together; a store that lost data must not start.
    Inconsistent(&'static str),
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NewError::Config(e) => write!(f, "bad configuration: {e}"),
            NewError::Storage(e) => write!(f, "cannot read the stored state: {e}"),
            NewError::Inconsistent(what) => {
                write!(f, "the stored state contradicts itself: {what}")
            }
        }
    }
}

impl Error for NewError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            NewError::Config(e) => Some(e),
            NewError::Storage(e) => Some(e),
            NewError::Inconsistent(_) => None,
        }
    }
}

impl From<ConfigError> for NewError {
    fn from(e: ConfigError) -> NewError {
        NewError::Config(e)
    }
}

impl From<StorageError> for NewError {
    fn from(e: StorageError) -> NewError {
        NewError::Storage(e)
    }
}

/// Why a storage could not answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The range begins before the log.
    Compacted,
    /// The range ends after the log.
    Unavailable,
    /// A snapshot is not to be had right now; ask again later.
    SnapshotUnavailable,
    /// The entries are being read, and can be had later
    /// ([`RawNode::entries_fetched`](crate::RawNode::entries_fetched)).
    Later,
    /// A snapshot that is not newer than the stored one.
    SnapshotOutOfDate,
    /// Reading failed.
    Other(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Compacted => {
                f.write_str("requested index is unavailable due to compaction")
            }
            StorageError::Unavailable => f.write_str("requested entry at index is unavailable"),
            StorageError::SnapshotUnavailable => f.write_str("snapshot is temporarily unavailable"),
            StorageError::Later => f.write_str("entries are being read and can be had later"),
            StorageError::SnapshotOutOfDate => {
                f.write_str("requested index is older than the existing snapshot")
            }
            StorageError::Other(e) => write!(f, "storage: {e}"),
        }
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StorageError::Other(e) => Some(&**e),
            _ => None,
        }
    }
}

/// Why a proposal was not taken. It has had no effect; whether to try again, and where, is said
/// by each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProposeError {
    /// This server does not lead. Ask `leader`, or wait for one.
    NotLeader {
        /// Who leads, where known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over; wait, then ask the new leader.
    Transferring,
    /// This leader is no longer a member; wait for another leader.
    Removed,
    /// Too much is uncommitted already; wait.
    TooMuchUncommitted,
    /// Nothing was proposed.
    Empty,
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raft proposal dropped: ")?;
        match self {
            ProposeError::NotLeader { leader: Some(leader) } => write!(f, "{leader} leads"),
            ProposeError::NotLeader { leader: None } => f.write_str("no leader is known"),
            ProposeError::Transferring => f.write_str("leadership is being transferred"),
            ProposeError::Removed => f.write_str("the leader is no longer a member"),
            ProposeError::TooMuchUncommitted => f.write_str("too much is uncommitted"),
            ProposeError::Empty => f.write_str("it is empty"),
        }
    }
}

impl Error for ProposeError {}

/// Why a read could not be started. It may be asked again, here or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader is known.
    NoLeader,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no leader is known")
    }
}

impl Error for ReadError {}

/// Why a snapshot was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotRequestError {
    /// This server leads: there is nobody whose state is newer.
    Leader,
    /// No leader is known; ask when there is one.
    NoLeader,
    /// A snapshot is being installed, or asked for, already.
    Pending,
    /// The log does not end in an entry of the current term, so that the leader's may end
    /// elsewhere; ask when such an entry has come.
    OldTerm,
}

impl fmt::Display for SnapshotRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotRequestError::Leader => "a leader asks nobody for a snapshot",
            SnapshotRequestError::NoLeader => "no leader is known",
            SnapshotRequestError::Pending => "a snapshot is on its way already",
            SnapshotRequestError::OldTerm => "the log has no entry of the current term yet",
        })
    }
}

impl Error for SnapshotRequestError {}

/// Why a message was not taken. Nothing has changed but, perhaps, the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// A reply from somebody who is not a member.
    PeerNotFound,
    /// It is addressed to another server.
    NotForMe {
        /// Whom it names.
        to: NodeId,
    },
    /// It claims to come from this server itself, and is no request that was passed on.
    FromMyself,
    /// A forwarded proposal was refused.
    Dropped(ProposeError),
    /// The append would replace a committed entry: its sender, or this server, has lost data.
    ConflictsWithCommitted {
        /// The first entry that differs.
        at: LogId,
    },
    /// An acknowledgement, or a commit index, beyond the end of the log: its sender has seen a
    /// log that this server does not have.
    BeyondLog {
        /// What it names.
        index: Index,
        /// This log's last index.
        last: Index,
    },
    /// No server can have sent it: its entries do not follow the previous entry, are above its
    /// term, or it names no term, or one that nobody can reach, or an impossible membership.
    Malformed,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::PeerNotFound => f.write_str("raft: cannot step as peer not found"),
            StepError::NotForMe { to } => write!(f, "raft: message is for {to}"),
            StepError::FromMyself => f.write_str("raft: cannot step raft local message"),
            StepError::Dropped(_) => f.write_str("raft proposal dropped"),
            StepError::ConflictsWithCommitted { at } => {
                write!(f, "raft: append conflicts with committed entry {at}")
            }
            StepError::BeyondLog { index, last } => {
                write!(f, "raft: index {index} is beyond the last index {last}")
            }
            StepError::Malformed => f.write_str("raft: malformed message"),
        }
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StepError::Dropped(e) => Some(e),
            _ => None,
        }
    }
}

/// Why the log was not compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompactError {
    /// It already begins after that index.
    Compacted,
    /// The index is not applied yet.
    NotApplied,
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CompactError::Compacted => "requested index is unavailable due to compaction",
            CompactError::NotApplied => "only applied entries can be compacted",
        })
    }
}

impl Error for CompactError {}

/// Why a configuration change was refused. The configuration stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfChangeError {
    /// Leaving a joint configuration that there is not.
    NotJoint,
    /// Entering a joint configuration while in one.
    AlreadyJoint,
    /// A joint configuration needs voters to come from.
    ZeroVoters,
    /// A simple change while joint.
    SimpleWhileJoint,
    /// Nobody would be left to vote.
    RemovedAllVoters,
    /// A change of several voters has to go through a joint configuration.
    TooManyChanges,
    /// The entry's payload is not a configuration change.
    Malformed,
}

impl fmt::Display for ConfChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfChangeError::NotJoint => "can't leave a non-joint config",
            ConfChangeError::AlreadyJoint => "config is already joint",
            ConfChangeError::ZeroVoters => "can't make a zero-voter config joint",
            ConfChangeError::SimpleWhileJoint => "can't apply simple config change in joint config",
            ConfChangeError::RemovedAllVoters => "removed all voters",
            ConfChangeError::TooManyChanges => {
                "more than one voter changed without entering joint config"
            }
            ConfChangeError::Malformed => "not a configuration change",
        })
    }
}

impl Error for ConfChangeError {}
