//! etcd's notation for what goes in and out of a server.
//!
//! ```text
//! 1->2 MsgApp Term:1 Log:1/10 Commit:10 Entries:[1/11 EntryNormal ""]
//! └────┴──┬───┴────────────┘└ only where there is something to say
//!         └ from, to, kind, term, term and index of a position
//! ```
//!
//! A [`Note`] is a message as etcd has it, one flat record for everything that is sent, to peers
//! and to the storage threads alike. Ids are in hexadecimal here and in configurations, and in
//! decimal everywhere else.

use std::fmt::{self, Write as _};

use raft::conf_change::{ConfChange, ConfChangeKind};
use raft::progress::{Flow, Progress, Window};
use raft::{
    AppendReply, Body, ConfState, Entry, EntryKind, EntryRef, HardState, Index, LogId, Message,
    NodeId, RoleKind, SnapshotMeta, SoftState, Term,
};

use super::golang::quote;

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Node(NodeId),
    AppendThread,
    ApplyThread,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(id) => write!(f, "{:x}", id.get()),
            Target::AppendThread => f.write_str("AppendThread"),
            Target::ApplyThread => f.write_str("ApplyThread"),
        }
    }
}

/// The name of a kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(&'static str);

impl Kind {
    /// All there are, some of which are never on their way here.
    const NAMES: [&'static str; 24] = [
        "MsgHup",
        "MsgBeat",
        "MsgProp",
        "MsgApp",
        "MsgAppResp",
        "MsgVote",
        "MsgVoteResp",
        "MsgSnap",
        "MsgHeartbeat",
        "MsgHeartbeatResp",
        "MsgUnreachable",
        "MsgSnapStatus",
        "MsgCheckQuorum",
        "MsgTransferLeader",
        "MsgTimeoutNow",
        "MsgReadIndex",
        "MsgReadIndexResp",
        "MsgPreVote",
        "MsgPreVoteResp",
        "MsgStorageAppend",
        "MsgStorageAppendResp",
        "MsgStorageApply",
        "MsgStorageApplyResp",
        "MsgForgetLeader",
    ];

    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<Kind> {
        Kind::NAMES.into_iter().find(|known| *known == name).map(Kind)
    }

    pub(super) const STORAGE_APPEND: Kind = Kind("MsgStorageAppend");
    pub(super) const STORAGE_APPEND_RESP: Kind = Kind("MsgStorageAppendResp");
    pub(super) const STORAGE_APPLY: Kind = Kind("MsgStorageApply");
    pub(super) const STORAGE_APPLY_RESP: Kind = Kind("MsgStorageApplyResp");
}

/// A message as etcd has it. What is zero or empty is not shown, but for the term and the
/// position.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) from: Target,
    pub(super) to: Target,
    pub(super) kind: Kind,
    pub(super) term: Term,
    pub(super) log: LogId,
    /// The hint, if this refuses something.
    pub(super) rejected: Option<Index>,
    pub(super) commit: Index,
    pub(super) vote: Option<NodeId>,
    /// Described already.
    pub(super) entries: Vec<String>,
    pub(super) snapshot: Option<SnapshotMeta>,
    pub(super) responses: Vec<Note>,
}

impl Note {
    /// A message that says nothing yet.
    pub(super) fn new(from: Target, to: Target, kind: Kind, term: Term) -> Note {
        Note {
            from,
            to,
            kind,
            term,
            log: LogId::ZERO,
            rejected: None,
            commit: 0,
            vote: None,
            entries: Vec::new(),
            snapshot: None,
            responses: Vec::new(),
        }
    }

    /// A message between servers.
    pub(super) fn of(message: &Message) -> Note {
        let (from, to) = (Target::Node(message.from), Target::Node(message.to));
        let mut note = Note::new(from, to, kind_of(&message.body), message.term);
        match &message.body {
            Body::RequestVote { last, .. } => note.log = *last,
            Body::RequestVoteReply { granted, .. } => note.rejected = (!granted).then_some(0),
            Body::AppendEntries { prev, entries, commit } => {
                note.log = *prev;
                note.commit = *commit;
                note.entries = entries.iter().map(describe_entry).collect();
            }
            Body::AppendEntriesReply(AppendReply::Accepted { index }) => note.log.index = *index,
            Body::AppendEntriesReply(AppendReply::Rejected { prev, hint }) => {
                note.log = LogId::new(hint.term, *prev);
                note.rejected = Some(hint.index);
            }
            Body::Heartbeat { commit, .. } => note.commit = *commit,
            Body::InstallSnapshot { snapshot } => note.snapshot = Some(snapshot.meta.clone()),
            Body::Propose { entries } => {
                note.entries = entries.iter().map(describe_unplaced).collect();
            }
            Body::ReadIndex { context } => {
                note.entries = vec![describe_unplaced(&Entry::normal(context.clone()))];
            }
            Body::ReadIndexReply { index, context } => {
                note.log.index = *index;
                note.entries = vec![describe_unplaced(&Entry::normal(context.clone()))];
            }
            Body::HeartbeatReply { .. } | Body::TimeoutNow | Body::TransferLeader => {}
        }
        note
    }

    /// The message with every line after `indent`, without a newline at the end.
    pub(super) fn describe(&self, indent: &str) -> String {
        let mut out = format!(
            "{indent}{}->{} {} Term:{} Log:{}/{}",
            self.from, self.to, self.kind.0, self.term, self.log.term, self.log.index
        );
        let mut add = |text: fmt::Arguments<'_>| {
            out.write_fmt(text).expect("writing to a string does not fail");
        };
        if let Some(hint) = self.rejected {
            add(format_args!(" Rejected (Hint: {hint})"));
        }
        if self.commit != 0 {
            add(format_args!(" Commit:{}", self.commit));
        }
        if let Some(vote) = self.vote {
            add(format_args!(" Vote:{vote}"));
        }
        match self.entries.as_slice() {
            [] => {}
            [entry] => add(format_args!(" Entries:[{entry}]")),
            entries => {
                add(format_args!(" Entries:["));
                for entry in entries {
                    add(format_args!("\n{indent}  {entry}"));
                }
                add(format_args!("\n{indent}]"));
            }
        }
        if let Some(meta) = self.snapshot.as_ref().filter(|meta| meta.last.index != 0) {
            add(format_args!("\n{indent}  Snapshot: {}", describe_snapshot(meta)));
        }
        if !self.responses.is_empty() {
            add(format_args!(" Responses:["));
            for response in &self.responses {
                add(format_args!("\n{}", response.describe(&format!("{indent}  "))));
            }
            add(format_args!("\n{indent}]"));
        }
        out
    }
}

fn kind_of(body: &Body) -> Kind {
    Kind(match body {
        Body::RequestVote { pre: true, .. } => "MsgPreVote",
        Body::RequestVote { pre: false, .. } => "MsgVote",
        Body::RequestVoteReply { pre: true, .. } => "MsgPreVoteResp",
        Body::RequestVoteReply { pre: false, .. } => "MsgVoteResp",
        Body::AppendEntries { .. } => "MsgApp",
        Body::AppendEntriesReply(_) => "MsgAppResp",
        Body::Heartbeat { .. } => "MsgHeartbeat",
        Body::HeartbeatReply { .. } => "MsgHeartbeatResp",
        Body::InstallSnapshot { .. } => "MsgSnap",
        Body::TimeoutNow => "MsgTimeoutNow",
        Body::TransferLeader => "MsgTransferLeader",
        Body::Propose { .. } => "MsgProp",
        Body::ReadIndex { .. } => "MsgReadIndex",
        Body::ReadIndexReply { .. } => "MsgReadIndexResp",
    })
}

/// `TERM/INDEX TYPE payload`.
pub(super) fn describe_entry(entry: EntryRef<'_>) -> String {
    describe_at(entry.id, entry.entry)
}

/// An entry that has no position yet.
fn describe_unplaced(entry: &Entry) -> String {
    describe_at(LogId::ZERO, entry)
}

fn describe_at(id: LogId, entry: &Entry) -> String {
    let (kind, payload) = match entry.kind {
        EntryKind::Normal => ("EntryNormal", quote(&entry.data)),
        EntryKind::ConfChange => ("EntryConfChange", describe_conf_change(entry)),
        EntryKind::ConfChangeV2 => ("EntryConfChangeV2", describe_conf_change(entry)),
    };
    let space = if payload.is_empty() { "" } else { " " };
    format!("{}/{} {kind}{space}{payload}", id.term, id.index)
}

/// `v1 l2 r3 u4`; why not, if the payload is none.
fn describe_conf_change(entry: &Entry) -> String {
    let change = match ConfChange::decode(&entry.data) {
        Ok(change) => change,
        Err(e) => return e.to_string(),
    };
    let tokens = change.changes.iter().map(|single| {
        let letter = match single.kind {
            ConfChangeKind::AddNode => 'v',
            ConfChangeKind::AddLearnerNode => 'l',
            ConfChangeKind::RemoveNode => 'r',
            ConfChangeKind::UpdateNode => 'u',
        };
        format!("{letter}{}", single.node)
    });
    tokens.collect::<Vec<String>>().join(" ")
}

/// `Term:1 Vote:2 Commit:3`.
pub(super) fn describe_hard_state(state: &HardState) -> String {
    let vote = state.vote.map_or(String::new(), |vote| format!(" Vote:{vote}"));
    format!("Term:{}{vote} Commit:{}", state.term, state.commit)
}

/// `Lead:1 State:StateFollower`.
pub(super) fn describe_soft_state(state: &SoftState) -> String {
    format!("Lead:{} State:{}", lead(state.leader), state_name(state.role))
}

/// A leader's number, 0 if none is known.
pub(super) fn lead(leader: Option<NodeId>) -> u64 {
    leader.map_or(0, NodeId::get)
}

/// What etcd calls a role.
pub(super) fn state_name(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "StateFollower",
        RoleKind::PreCandidate => "StatePreCandidate",
        RoleKind::Candidate => "StateCandidate",
        RoleKind::Leader => "StateLeader",
    }
}

/// `Index:1 Term:1 ConfState:…`.
pub(super) fn describe_snapshot(meta: &SnapshotMeta) -> String {
    let state = describe_conf_state(&meta.conf_state);
    format!("Index:{} Term:{} ConfState:{state}", meta.last.index, meta.last.term)
}

fn describe_conf_state(state: &ConfState) -> String {
    let list = |ids: &[NodeId]| ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" ");
    format!(
        "Voters:[{}] VotersOutgoing:[{}] Learners:[{}] LearnersNext:[{}] AutoLeave:{}",
        list(&state.voters),
        list(&state.voters_outgoing),
        list(&state.learners),
        list(&state.learners_next),
        state.auto_leave
    )
}

/// One line a member, as a leader sees it.
pub(super) fn progress_lines<'a>(
    all: impl IntoIterator<Item = (NodeId, &'a Progress)>,
    window: Window,
) -> String {
    let line = |(id, progress)| format!("{id}: {}\n", describe_progress(progress, window));
    all.into_iter().map(line).collect()
}

fn describe_progress(progress: &Progress, window: Window) -> String {
    let (state, pending) = match progress.flow {
        Flow::Probe { .. } => ("StateProbe", 0),
        Flow::Replicate { .. } => ("StateReplicate", 0),
        Flow::Snapshot { pending } => ("StateSnapshot", pending),
    };
    let mut out = format!("{state} match={} next={}", progress.matched, progress.next);
    if progress.is_learner {
        out.push_str(" learner");
    }
    if progress.is_paused() {
        out.push_str(" paused");
    }
    if pending > 0 {
        out.push_str(&format!(" pendingSnap={pending}"));
    }
    if !progress.recent_active {
        out.push_str(" inactive");
    }
    if let Some(inflights) = progress.inflights().filter(|inflights| inflights.count() > 0) {
        out.push_str(&format!(" inflight={}", inflights.count()));
        if inflights.is_full(window) {
            out.push_str("[full]");
        }
    }
    out
}
