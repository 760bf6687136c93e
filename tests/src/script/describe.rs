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
    pub(super) snapshot_wanted: bool,
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
            snapshot_wanted: false,
            responses: Vec::new(),
        }
    }

    /// A message between servers.
    pub(super) fn of(message: &Message) -> Note {
        let (from, to) = (Target::Node(message.from), Target::Node(message.to));
        let mut note = Note::new(from, to, kind_of(&message.body), message.term);
        match &message.body {
            Body::RequestVote { last, commit, .. } => {
                note.log = *last;
                note.commit = commit.index;
            }
            Body::RequestVoteReply { granted, commit, .. } => {
                note.rejected = (!granted).then_some(0);
                note.commit = commit.index;
            }
            Body::AppendEntries { prev, entries, commit } => {
                note.log = *prev;
                note.commit = *commit;
                note.entries = entries.iter().map(describe_entry).collect();
            }
            Body::AppendEntriesReply(AppendReply::Accepted { index, commit }) => {
                note.log.index = *index;
                note.commit = *commit;
            }
            Body::AppendEntriesReply(AppendReply::Rejected { prev, hint }) => {
                note.log = LogId::new(hint.term, *prev);
                note.rejected = Some(hint.index);
            }
            Body::AppendEntriesReply(AppendReply::SnapshotWanted { reaching }) => {
                note.log.index = *reaching;
                note.snapshot_wanted = true;
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
            Body::HeartbeatReply { commit, .. } => note.commit = *commit,
            Body::TimeoutNow | Body::TransferLeader => {}
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
        if self.snapshot_wanted {
            add(format_args!(" Wants snapshot"));
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
        Flow::Requested { .. } => ("StateRequested", 0),
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

#[cfg(test)]
mod tests {
    use raft::conf_change::{ConfChangeSingle, Transition};
    use raft::{Entries, Run, Snapshot};

    use super::*;

    fn id(n: u64) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn described(body: Body) -> String {
        Note::of(&Message { from: id(10), to: id(11), term: 3, body }).describe("")
    }

    fn entries(data: &[&'static str]) -> Entries {
        let entries: Vec<Entry> = data.iter().map(|&d| Entry::normal(d.into())).collect();
        Run::new(3, 7, entries).map(Entries::from).unwrap_or_default()
    }

    /// etcd: TestDescribeEntry, and whole messages around entries.
    #[test]
    fn messages_show_what_they_have() {
        let append = |data| Body::AppendEntries {
            prev: LogId::new(2, 6),
            entries: entries(data),
            commit: 5,
        };
        let rejected = AppendReply::Rejected { prev: 6, hint: LogId::new(1, 4) };
        let cases = [
            (append(&[]), "MsgApp Term:3 Log:2/6 Commit:5"),
            (append(&["x"]), "MsgApp Term:3 Log:2/6 Commit:5 Entries:[3/7 EntryNormal \"x\"]"),
            (
                append(&["x", ""]),
                "MsgApp Term:3 Log:2/6 Commit:5 Entries:[\n  3/7 EntryNormal \"x\"\n  \
                 3/8 EntryNormal \"\"\n]",
            ),
            (Body::AppendEntriesReply(rejected), "MsgAppResp Term:3 Log:1/6 Rejected (Hint: 4)"),
            (
                Body::RequestVoteReply { pre: true, granted: false, commit: LogId::ZERO },
                "MsgPreVoteResp Term:3 Log:0/0 Rejected (Hint: 0)",
            ),
            (Body::Heartbeat { commit: 0, read: 9 }, "MsgHeartbeat Term:3 Log:0/0"),
            (
                Body::InstallSnapshot { snapshot: Box::new(Snapshot::default()) },
                "MsgSnap Term:3 Log:0/0",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(described(body), format!("a->b {expected}"));
        }
    }

    #[test]
    fn requests_to_storage_threads_nest_their_responses() {
        let node = Target::Node(id(1));
        let mut request = Note::new(node, Target::AppendThread, Kind::STORAGE_APPEND, 2);
        request.vote = NodeId::new(17);
        request.commit = 4;
        let mut snapshot = SnapshotMeta { last: LogId::new(2, 9), ..SnapshotMeta::default() };
        snapshot.conf_state = ConfState::of_voters([id(10), id(2)]);
        request.snapshot = Some(snapshot);
        let mut response = Note::new(Target::AppendThread, node, Kind::STORAGE_APPEND_RESP, 2);
        response.entries = vec!["a".to_owned(), "b".to_owned()];
        request.responses = vec![response];
        let expected = "  1->AppendThread MsgStorageAppend Term:2 Log:0/0 Commit:4 Vote:17
    Snapshot: Index:9 Term:2 ConfState:Voters:[10 2] VotersOutgoing:[] Learners:[] \
                        LearnersNext:[] AutoLeave:false Responses:[
    AppendThread->1 MsgStorageAppendResp Term:2 Log:0/0 Entries:[
      a
      b
    ]
  ]";
        assert_eq!(request.describe("  "), expected);
    }

    #[test]
    fn entries_show_their_payload_if_there_is_any() {
        let single = |kind, n| ConfChangeSingle { kind, node: id(n) };
        let change = ConfChange {
            transition: Transition::JointExplicit,
            changes: vec![
                single(ConfChangeKind::AddNode, 1),
                single(ConfChangeKind::AddLearnerNode, 2),
                single(ConfChangeKind::RemoveNode, 30),
                single(ConfChangeKind::UpdateNode, 4),
            ],
            ..ConfChange::default()
        };
        let cases = [
            (EntryKind::ConfChangeV2, change.encode(), "EntryConfChangeV2 v1 l2 r30 u4"),
            (EntryKind::ConfChangeV2, ConfChange::default().encode(), "EntryConfChangeV2"),
            (EntryKind::ConfChange, "x".into(), "EntryConfChange not a configuration change"),
            (EntryKind::Normal, "\"\n".into(), "EntryNormal \"\\\"\\n\""),
        ];
        for (kind, data, expected) in cases {
            assert_eq!(describe_unplaced(&Entry { kind, data }), format!("0/0 {expected}"));
        }
    }

    #[test]
    fn states_leave_out_the_vote_that_was_not_given() {
        let state = HardState { term: 2, vote: None, commit: 0 };
        assert_eq!(describe_hard_state(&state), "Term:2 Commit:0");
        let state = HardState { vote: NodeId::new(10), ..state };
        assert_eq!(describe_hard_state(&state), "Term:2 Vote:10 Commit:0");
        let state = SoftState { leader: None, role: RoleKind::PreCandidate };
        assert_eq!(describe_soft_state(&state), "Lead:0 State:StatePreCandidate");
    }

    /// etcd: TestProgressString.
    #[test]
    fn progress_shows_everything_at_once() {
        let window = Window { appends_max: 1, bytes_max: 0 };
        let mut progress = Progress::new(4, true);
        assert_eq!(
            describe_progress(&progress, window),
            "StateProbe match=0 next=4 learner inactive"
        );
        progress.recent_active = true;
        progress.become_replicate();
        if let Flow::Replicate { inflights, paused } = &mut progress.flow {
            inflights.add(window, 4, 1);
            *paused = true;
        }
        assert_eq!(
            describe_progress(&progress, window),
            "StateReplicate match=0 next=1 learner paused inflight=1[full]"
        );
        progress.become_snapshot(9);
        assert_eq!(
            describe_progress(&progress, window),
            "StateSnapshot match=0 next=10 learner paused pendingSnap=9"
        );
    }

    #[test]
    fn kinds_are_known_by_name() {
        assert_eq!(Kind::named("MsgStorageApply"), Some(Kind::STORAGE_APPLY));
        assert_eq!(Kind::named("msgapp"), None);
        for kind in [Kind::STORAGE_APPEND, Kind::STORAGE_APPEND_RESP, Kind::STORAGE_APPLY_RESP] {
            assert_eq!(Kind::named(kind.0), Some(kind));
        }
    }
}
