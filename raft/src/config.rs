//! What may be chosen about a server, with what each choice costs.

use std::fmt;
use std::ops::Range;

use crate::types::{Index, NodeId};

/// How linearizable reads are confirmed (§8, T§6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// A heartbeat round proves that this server still leads. Needs no clock.
    #[default]
    Safe,
    /// While heartbeats were answered lately, nobody is asked (T§6.4.1); else as [`Self::Safe`].
    /// For servers whose ticks take equally long to a fifth, all of which have this mode: a read may
    /// be stale if one tick takes more than one and a half times as long as another's, or if a server
    /// that stood still is not told of the ticks it missed before anything else. Elections take
    /// longer in some cases, since a server that has followed a leader votes for nobody for an
    /// election timeout. Needs [`Config::check_quorum`].
    ///
    /// Stricter than etcd's mode of that name, which trusts a leader until its next check of the
    /// quorum, and so for longer than its followers wait.
    Lease,
}

/// The settings of one server. [`Config::new`] gives defaults that suit a store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this server is within the group.
    pub id: NodeId,
    /// Ticks without news of a leader before an election starts, at least; also the length of a
    /// leader's lease and of a transfer. Must be larger than `heartbeat_ticks`; ten times is usual.
    /// Too small, and a slow disk or a pause deposes healthy leaders.
    pub election_ticks: u32,
    /// Where a server's randomized timeout is drawn from (§5.2); `None` for
    /// `election_ticks..2 * election_ticks`. A narrow range makes split votes likely.
    pub election_ticks_range: Option<Range<u32>>,
    /// Ticks between a leader's heartbeats. At least 1.
    pub heartbeat_ticks: u32,
    /// Bytes of entries in one append, as [`Entry::size`](crate::Entry::size) counts; at least one
    /// entry is always sent. Large appends delay the heartbeats behind them.
    pub append_bytes_max: u64,
    /// Appends on their way to one follower. More hide latency, but fill queues when it is slow.
    pub inflight_max: usize,
    /// Payload bytes on their way to one follower; 0 for no limit. Below `append_bytes_max` it
    /// would stop replication after each full append.
    pub inflight_bytes_max: u64,
    /// Bytes of committed entries handed out by [`apply`](crate::Ready::apply) and not yet reported
    /// applied. At least one entry always is.
    pub apply_bytes_max: u64,
    /// Payload bytes that a leader's own entries may add up to before they are committed and
    /// applied; more proposals are refused. Bounds what a leader without a quorum can pile up.
    pub uncommitted_bytes_max: u64,
    /// The last index the application has applied, from its own durable state. Entries after it
    /// are handed out again.
    pub applied: Index,
    /// Ask before standing for election, so that a server that was cut off does not disturb a
    /// healthy leader when it returns (T§9.6).
    pub pre_vote: bool,
    /// A leader that has not heard from a majority for an election timeout steps down, and
    /// followers that hear from a leader refuse votes meanwhile (T§6.2, T§4.2.3).
    pub check_quorum: bool,
    /// Send an append for each proposal at once, instead of one for all proposals since the last
    /// `ready()`. What etcd does; slower.
    pub eager_appends: bool,
    /// Do not tell followers of a new commit index by an append of its own, but with the next
    /// entries or the next heartbeat. Halves the messages of a group with one write at a time;
    /// followers apply later by up to `heartbeat_ticks`.
    pub skip_commit_broadcast: bool,
    /// Do not ask for a write to record a new commit index alone, but with the next entries. Saves
    /// a leader half of its writes when they come one at a time; after a restart it takes longer to
    /// know what is committed, by up to one round with a leader.
    pub lazy_commit: bool,
    /// Hand out committed entries before this server's own disk has them. They are durable on a
    /// majority, so nothing is lost, but the state machine may then be ahead of the local log
    /// after a crash. Applications that store, then apply, one `Ready` at a time want this.
    pub apply_unpersisted: bool,
    /// Tell each other what is known to be committed, with votes and with answers to the leader, and
    /// commit what is learnt so. Frees groups that a lost leader leaves with a membership change
    /// that is committed but not known to be; the leader sees how far each follower knows the log
    /// to be committed. Costs 8 bytes an answer, 16 a vote. What others say is taken whatever this
    /// server's own setting is to say; it is only believed with it.
    pub commit_hints: bool,
    /// Let every proposed membership change through, for applications that check for themselves.
    pub disable_conf_change_validation: bool,
    /// A leader that is removed or demoted steps down when it applies that.
    pub step_down_on_removal: bool,
    /// Followers refuse proposals instead of passing them to the leader.
    pub disable_proposal_forwarding: bool,
    /// How reads are confirmed.
    pub read_mode: ReadMode,
    /// This server may have run before: with [`ReadMode::Lease`] it neither votes nor stands for an
    /// election timeout, as it may have promised before its end. To say no to a server that has run
    /// is to risk stale reads; yes delays the first election of a new group by little.
    pub is_restarted: bool,
    /// Ticks that a write may take before a leader hands over to a server whose disk works; 0 to
    /// wait for ever. Below an election timeout, a slow sync costs a change of leader.
    pub write_ticks_max: u32,
    /// Seed of the generator that randomizes election timeouts. Equal seeds give equal runs; the
    /// id is mixed in, so that servers of one group may share a seed.
    pub seed: u64,
}

impl Config {
    /// Defaults for the server `id`: elections after 10 to 20 ticks, heartbeats every 2, 1 MiB an
    /// append, 256 appends in flight, pre-vote and check-quorum on.
    #[must_use]
    pub fn new(id: NodeId) -> Config {
        Config {
            id,
            election_ticks: 10,
            election_ticks_range: None,
            heartbeat_ticks: 2,
            append_bytes_max: 1 << 20,
            inflight_max: 256,
            inflight_bytes_max: 0,
            apply_bytes_max: 64 << 20,
            uncommitted_bytes_max: 1 << 30,
            applied: 0,
            pre_vote: true,
            check_quorum: true,
            eager_appends: false,
            skip_commit_broadcast: false,
            lazy_commit: false,
            apply_unpersisted: false,
            commit_hints: false,
            disable_conf_change_validation: false,
            step_down_on_removal: true,
            disable_proposal_forwarding: false,
            read_mode: ReadMode::Safe,
            is_restarted: false,
            write_ticks_max: 0,
            seed: 0,
        }
    }

    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// With the first rule that is broken.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let broken = |rule| Err(ConfigError(rule));
        if self.heartbeat_ticks == 0 {
            return broken("heartbeat_ticks must be at least 1");
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return broken("election_ticks must be larger than heartbeat_ticks");
        }
        if self.election_ticks > u32::MAX / 2 {
            return broken("election_ticks must be at most half of what a u32 holds");
        }
        if let Some(range) = &self.election_ticks_range {
            if range.is_empty() {
                return broken("election_ticks_range must not be empty");
            }
            if range.start < self.election_ticks {
                return broken("election_ticks_range must not begin before election_ticks");
            }
        }
        if self.inflight_max == 0 {
            return broken("inflight_max must be at least 1");
        }
        if self.inflight_bytes_max != 0 && self.inflight_bytes_max < self.append_bytes_max {
            return broken("inflight_bytes_max must be 0 or at least append_bytes_max");
        }
        if self.apply_bytes_max == 0 {
            return broken("apply_bytes_max must be at least 1");
        }
        if self.read_mode == ReadMode::Lease && !self.check_quorum {
            return broken("lease reads need check_quorum");
        }
        Ok(())
    }
}

/// A rule of [`Config`] that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError(&'static str);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ConfigError {}
