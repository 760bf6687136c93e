//! How a store makes sure that what it reads is not old.

use raft::ReadMode;

/// How reads are kept linearizable. To be chosen by all stores of a cluster alike.
///
/// ```
/// use kv::store::Reads;
///
/// assert_eq!(Reads::default(), Reads::Index);
/// assert_eq!(Reads::Lease.to_string(), "lease");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reads {
    /// The leader asks a majority whether it still leads, once for all reads of the moment
    #[default]
    Index,
    /// A leader that a majority has answered of late does so at once: saves the round trip, and
    /// trusts clocks not to be off by more than a fifth
    Lease,
    /// Each read goes through the log, as writes do: for comparison
    Log,
}

impl Reads {
    /// What the groups of a store do for it.
    pub(crate) fn mode(self) -> ReadMode {
        match self {
            Reads::Lease => ReadMode::Lease,
            Reads::Index | Reads::Log => ReadMode::Safe,
        }
    }
}

impl std::fmt::Display for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reads::Index => "index",
            Reads::Lease => "lease",
            Reads::Log => "log",
        })
    }
}
