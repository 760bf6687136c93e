//! Raft as a pure state machine: no I/O, threads, clock, logging or global randomness.
//!
//! Inputs are method calls on [`RawNode`]; output is one [`Ready`]. Time is ticks, chance is a
//! seeded generator, the disk and the network are whatever the caller does with what it is handed.
//! So a run is a function of its inputs, and a whole cluster runs in one test, step by step.
//!
//! Read this crate beside the paper (§, "In Search of an Understandable Consensus Algorithm",
//! extended version) and Ongaro's thesis (T§), top-down: each file is a chapter, both ends of an
//! RPC together.
//!
//! # What it promises
//!
//! If what [`Write::synced`] says is true, then on any schedule of messages, losses, crashes and
//! restarts (Figure 3):
//!
//! * *Election Safety*: at most one leader in a term.
//! * *Leader Append-Only*: a leader never overwrites or deletes entries of its log.
//! * *Log Matching*: two logs with an entry of the same index and term are equal up to there.
//! * *Leader Completeness*: what is committed in a term is in the logs of all later leaders.
//! * *State Machine Safety*: no two servers apply different entries at an index.
//!
//! And, as long as a majority can talk to each other, there is a leader that makes progress.
//!
//! # The chapters
//!
//! What each does is shown by scripts, in the directories below `tests/scripts` that are named here.
//! What etcd, raft-rs and TinyKV pin by their tests is listed by name in `raft/tests/README.md`, with
//! our tests of the same.
//!
//! | chapter | file | scripts | paper |
//! |---|---|---|---|
//! | the nouns | [`types`], [`entry`], [`message`], [`config`], [`error`], [`status`] | – | Figure 2 |
//! | what every role shares; the roles and their changes | `server`, `role` | `election` | §5.1, Figure 4 |
//! | inputs, and the table of roles and messages | `raft`, `step` | `step` | Figure 2 |
//! | elections: timers, campaigns, votes | `election` | `election` | §5.2, §5.4.1, T§9.6, T§4.2.3 |
//! | replication: appends and heartbeats, both ends | `replication`, [`progress`] | `replication` | §5.3, T§10.2 |
//! | how much is on its way; entries that come later | `window`, `fetch` | `replication` | T§10.2.1 |
//! | the commit rule; commit in two data centres | `commit`, [`quorum`], `group_commit` | `commit`, `quorum` | §5.3, §5.4.2 |
//! | telling each other what is committed | `commit_hints` | `commit` | – |
//! | the log, its cursors, and the terms in it | `log`, [`Terms`], [`storage`] | `log` | §5.3 |
//! | membership: who, and how it changes | [`membership`], `membership_change`, [`conf_change`] | `membership` | §6, T§4 |
//! | snapshots, sent and asked for | `snapshot`, `snapshot_request` | `snapshot` | §7 |
//! | reads without writing; reads without asking | `read`, `lease` | `read` | §8, T§6.4 |
//! | handing over leadership; a leader whose disk stands still | `transfer`, `stall` | `transfer` | T§3.10 |
//! | the contract with the application; starting again | [`ready`], `raw_node`, `reports` | `ready` | T§10.2 |
//! | Figure 3 as code; watching a server | `invariants`, [`trace`] | – | §5.4.3 |
//!
//! To follow an election: `RawNode::tick` → `election::tick` → `election::campaign` →
//! `Raft::become_next` → `election::request_votes`; at the others `Raft::step` →
//! `election::on_request_vote`; back at the candidate `election::on_vote` → `Raft::become_leader`.
//!
//! # The life of a proposal
//!
//! 1. [`RawNode::propose`] on the leader appends the entry to the *open* end of its log and gives
//!    its position.
//! 2. [`RawNode::ready`] makes one [`Run`] of everything proposed since the last time. The same run
//!    goes to each follower in an [`Body::AppendEntries`] and into the leader's own [`Write`].
//! 3. The messages leave at once; the leader writes to its disk meanwhile (T§10.2.1).
//! 4. A follower checks the entry before the run, appends it, and seals its acknowledgement in its
//!    own `Write`. It leaves when that is synced ([`RawNode::persisted`]).
//! 5. The leader's own acknowledgement comes back the same way. When a majority has the entry on
//!    disk, and it is of the leader's term, it is committed.
//! 6. The next `Ready` hands it out in [`Ready::apply`], and tells followers the commit index, who
//!    do the same.
//! 7. [`RawNode::applied`] lets go of it; if it changed the membership, the change takes effect.
//!
//! # A server in twenty lines
//!
//! ```
//! use raft::{Config, ConfState, MemStorage, NodeId, RawNode};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = NodeId::new(1).ok_or("zero")?;
//! let storage = MemStorage::with_conf_state(ConfState::of_voters([id]));
//! let mut node = RawNode::new(Config::new(id), Box::new(storage.clone()))?;
//! node.campaign();
//! let mut applied = Vec::new();
//! while applied.len() < 2 {
//!     if node.leader() == Some(id) && applied.is_empty() {
//!         node.propose("hello".into())?;
//!     }
//!     let ready = node.ready();
//!     assert!(ready.messages.is_empty(), "nobody else is there");
//!     if let Some(mut write) = ready.write {
//!         storage.write(&mut write)?;
//!         let _to_others = node.persisted(write.synced());
//!     }
//!     if let Some(apply) = ready.apply {
//!         applied.extend(apply.entries().iter().map(|e| e.entry.data.clone()));
//!         node.applied(apply.done())?;
//!     }
//! }
//! assert_eq!(applied, ["", "hello"], "a new leader's empty entry, and the proposal");
//! # Ok(())
//! # }
//! ```
//!
//! # Deviations from the paper
//!
//! * A configuration takes effect when its entry is applied, not when it is appended, with at most
//!   one change pending; as in etcd (see [`membership`]).
//! * A server that is told of a higher term by a vote request within its leader's lease ignores it
//!   (T§4.2.3), and pre-votes change no terms (T§9.6).
//! * Heartbeats are messages of their own, which carry no log position and so prove nothing about
//!   the follower's log but that it is alive: their commit index is capped by `match`.
//! * Rejections carry a hint of (index, term), so that finding where logs agree takes one round
//!   trip a term, not one an entry (§5.3 sketches it).
//! * Of a write's reports, only those of the present term say how far the log is on disk: since
//!   then entries may have been replaced by others. A later report covers them.
//!
//! # Beyond etcd
//!
//! Each is off by default, and costs a comparison when it is off.
//!
//! | what for | chapter | switch |
//! |---|---|---|
//! | lease reads that are not stale (etcd trusts its leader for too long) | `lease` | [`Config::read_mode`] |
//! | commit in two data centres | `group_commit` | [`RawNode::set_commit_groups`] |
//! | who should rather lead | `election` | [`RawNode::set_priorities`] |
//! | a leader whose disk stands still | `stall` | [`Config::write_ticks_max`] |
//! | groups stuck on a change that is committed and not known to be | `commit_hints` | [`Config::commit_hints`] |
//! | a state machine that is damaged | `snapshot_request` | [`RawNode::request_snapshot`] |
//! | a log that is not in memory | `fetch` | [`StorageError::Later`], [`RawNode::entries_fetched`] |
//! | a follower that drowns, or is far away | `window` | [`RawNode::set_inflight_max`] |
//! | fewer messages, or another range of timeouts | `replication`, `election` | [`Config::skip_commit_broadcast`], [`Config::election_ticks_range`] |
//!
//! # Names
//!
//! | paper | here | etcd | TinyKV |
//! |---|---|---|---|
//! | server state, Figure 2 | [`HardState`], [`Status`] | HardState, Status | HardState |
//! | RequestVote | [`Body::RequestVote`] | MsgVote | MsgRequestVote |
//! | AppendEntries | [`Body::AppendEntries`] | MsgApp | MsgAppend |
//! | (heartbeat) | [`Body::Heartbeat`] | MsgHeartbeat | MsgHeartbeat |
//! | InstallSnapshot | [`Body::InstallSnapshot`] | MsgSnap | MsgSnapshot |
//! | TimeoutNow (thesis) | [`Body::TimeoutNow`] | MsgTimeoutNow | MsgTimeoutNow |
//! | nextIndex, matchIndex | [`Progress`] `next`, `matched` | Progress Next, Match | Progress |
//! | commitIndex, lastApplied | [`RawNode::commit`], [`RawNode::applied_index`] | committed, applied | committed, applied |
//! | C_old,new | [`ConfState`] with `voters_outgoing` | joint ConfState | – |
//! | non-voting member | learner | learner | – |
//! | – | [`Ready`], [`Write`], [`Apply`] | Ready, MsgStorageAppend, MsgStorageApply | Ready |

pub mod conf_change;
pub mod config;
pub mod entry;
pub mod error;
pub mod membership;
pub mod message;
pub mod progress;
pub mod quorum;
pub mod ready;
pub mod status;
pub mod storage;
pub mod trace;
pub mod types;

mod commit;
mod commit_hints;
mod election;
mod fetch;
mod group_commit;
mod invariants;
mod lease;
mod log;
mod membership_change;
mod raft;
mod raw_node;
mod read;
mod replication;
mod reports;
mod role;
mod server;
mod snapshot;
mod snapshot_request;
mod stall;
mod step;
mod transfer;
mod window;

pub use conf_change::{ConfChange, ConfChangeKind, ConfChangeSingle, Transition};
pub use config::{Config, ConfigError, ReadMode};
pub use entry::{Entries, Entry, EntryKind, EntryRef, NotConsecutive, Run};
pub use error::{
    CompactError, ConfChangeError, NewError, ProposeError, ReadError, SnapshotRequestError,
    StepError, StorageError,
};
pub use group_commit::GroupId;
pub use log::Terms;
pub use membership::Membership;
pub use message::{AppendReply, Body, Message};
pub use progress::{Flow, Progress};
pub use raft::Proposed;
pub use raw_node::RawNode;
pub use ready::{Applied, Apply, Inspect, ReadState, Ready, Report, Stable, Write, Written};
pub use status::Status;
pub use storage::{InitialState, MemStorage, Storage};
pub use trace::Tracer;
pub use types::{
    ConfState, HardState, Index, LogId, NodeId, RoleKind, Snapshot, SnapshotMeta, SoftState, Term,
};
