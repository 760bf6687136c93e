//! Raft messages between the peers of a region.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | region |
//! | 8, 8 | the sender's epoch of the region: version, conf_ver |
//! | 8, 8 | sending and receiving peer, not 0 |
//! | 8 | term |
//! | 1 | tag of the body |
//! | … | body |
//!
//! | tag | body | fields |
//! |---|---|---|
//! | 1 | RequestVote | flags (1 pre, 2 transfer, 4 commit is said), last, commit if said |
//! | 2 | RequestVoteReply | flags (1 pre, 2 granted, 4 commit is said), commit if said |
//! | 3 | AppendEntries | prev, commit, entries |
//! | 4 | AppendEntriesReply, accepted | index |
//! | 5 | AppendEntriesReply, rejected | prev, hint index, hint term |
//! | 6 | Heartbeat | commit, read |
//! | 7 | HeartbeatReply | read |
//! | 8 | InstallSnapshot | last, four lists of voters/outgoing/learners/next, auto-leave, data |
//! | 9 | TimeoutNow | |
//! | 10 | TransferLeader | |
//! | 11 | Propose | a run, whose position means nothing |
//! | 12 | ReadIndex | context |
//! | 13 | ReadIndexReply | index, context |
//! | 14 | AppendEntriesReply, accepted, with the sender's commit | index, commit |
//! | 15 | HeartbeatReply, with the sender's commit | read, commit |
//! | 16 | AppendEntriesReply, a snapshot is wanted | the index it has to reach |
//!
//! Commit indexes that are not said take no byte. A position (`prev`, `last`, the commit of a vote) is term then index; flags are one byte; lists and byte strings have
//! a length of 4 bytes first; every other number has 8 bytes. Appended entries must follow `prev`
//! without a gap, and no term in them may be above the message's: the core may rely on it.

use bytes::{BufMut, Bytes};
use raft::{AppendReply, Body, ConfState, Entries, LogId, Message, NodeId, Run};
use raft::{Snapshot, SnapshotMeta};

use super::entry::{
    decode_entries, decode_log_id, decode_run, encode_entries, encode_log_id, encode_run,
    entries_len,
};
use super::{CodecError, Decoder};
use crate::region::{Epoch, RegionId};

/// Version of this encoding, agreed on by the handshake of a connection.
pub const MESSAGE_FORMAT: u32 = 2;

/// Most bytes the mark of a read may have.
pub const CONTEXT_BYTES_MAX: usize = 256;

/// Most bytes the data inside an InstallSnapshot may have: a reference, or a small state.
pub const SNAPSHOT_DATA_BYTES_MAX: usize = 8 << 20;

/// Most members one list of a configuration may have.
const MEMBERS_MAX: usize = 1024;

/// A Raft message with the region it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The region whose peers talk.
    pub region: RegionId,
    /// The region's epoch, as the sender knows it.
    pub epoch: Epoch,
    /// What they say.
    pub message: Message,
}

impl PeerMessage {
    /// How many bytes [`encode_message`] writes, give or take the lists of a snapshot.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        const FIXED: usize = 96;
        FIXED
            + match &self.message.body {
                Body::AppendEntries { entries, .. } => entries_len(entries),
                Body::InstallSnapshot { snapshot } => snapshot.data.len(),
                Body::Propose { entries } => entries.iter().map(|e| e.data.len() + 4).sum(),
                Body::ReadIndex { context } | Body::ReadIndexReply { context, .. } => context.len(),
                Body::RequestVote { .. }
                | Body::RequestVoteReply { .. }
                | Body::AppendEntriesReply(_)
                | Body::Heartbeat { .. }
                | Body::HeartbeatReply { .. }
                | Body::TimeoutNow
                | Body::TransferLeader => 0,
            }
    }
}

/// Appends `message` to `out`.
pub fn encode_message(message: &PeerMessage, out: &mut impl BufMut) {
    out.put_u64_le(message.region.0);
    out.put_u64_le(message.epoch.version);
    out.put_u64_le(message.epoch.conf_ver);
    out.put_u64_le(message.message.from.get());
    out.put_u64_le(message.message.to.get());
    out.put_u64_le(message.message.term);
    encode_body(&message.message.body, out);
}

fn encode_body(body: &Body, out: &mut impl BufMut) {
    match body {
        Body::RequestVote { pre, last, transfer, commit } => {
            out.put_slice(&[1, vote_flags(*pre, *transfer, *commit)]);
            encode_log_id(*last, out);
            put_if_said(*commit, out);
        }
        Body::RequestVoteReply { pre, granted, commit } => {
            out.put_slice(&[2, vote_flags(*pre, *granted, *commit)]);
            put_if_said(*commit, out);
        }
        Body::AppendEntries { prev, entries, commit } => {
            out.put_u8(3);
            encode_log_id(*prev, out);
            out.put_u64_le(*commit);
            encode_entries(entries, out);
        }
        Body::AppendEntriesReply(AppendReply::Accepted { index, commit: 0 }) => {
            put_numbers(4, &[*index], out);
        }
        Body::AppendEntriesReply(AppendReply::Accepted { index, commit }) => {
            put_numbers(14, &[*index, *commit], out);
        }
        Body::AppendEntriesReply(AppendReply::Rejected { prev, hint }) => {
            put_numbers(5, &[*prev, hint.index, hint.term], out);
        }
        Body::AppendEntriesReply(AppendReply::SnapshotWanted { reaching }) => {
            put_numbers(16, &[*reaching], out);
        }
        Body::Heartbeat { commit, read } => put_numbers(6, &[*commit, *read], out),
        Body::HeartbeatReply { read, commit: 0 } => put_numbers(7, &[*read], out),
        Body::HeartbeatReply { read, commit } => put_numbers(15, &[*read, *commit], out),
        Body::InstallSnapshot { snapshot } => {
            out.put_u8(8);
            encode_snapshot(snapshot, out);
        }
        Body::TimeoutNow => out.put_u8(9),
        Body::TransferLeader => out.put_u8(10),
        Body::Propose { entries } => {
            out.put_u8(11);
            // Without an entry there is nothing to propose; the receiver refuses such a message.
            if let Some(run) = Run::new(1, 1, entries.as_slice()) {
                encode_run(&run, out);
            }
        }
        Body::ReadIndex { context } => {
            out.put_u8(12);
            put_prefixed(context, out);
        }
        Body::ReadIndexReply { index, context } => {
            put_numbers(13, &[*index], out);
            put_prefixed(context, out);
        }
    }
}

fn vote_flags(pre: bool, second: bool, commit: LogId) -> u8 {
    u8::from(pre) | u8::from(second) << 1 | u8::from(commit != LogId::ZERO) << 2
}

fn put_if_said(commit: LogId, out: &mut impl BufMut) {
    if commit != LogId::ZERO {
        encode_log_id(commit, out);
    }
}

fn put_numbers(tag: u8, numbers: &[u64], out: &mut impl BufMut) {
    out.put_u8(tag);
    for &number in numbers {
        out.put_u64_le(number);
    }
}

fn put_prefixed(bytes: &Bytes, out: &mut impl BufMut) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

/// Reads what [`encode_message`] wrote. Payloads are slices of the input.
///
/// # Errors
/// If it is malformed, or says what no peer of this version would say.
pub fn decode_message(input: &mut Decoder) -> Result<PeerMessage, CodecError> {
    let region = RegionId(input.u64("region of a message")?);
    let epoch = Epoch {
        version: input.u64("epoch of a message")?,
        conf_ver: input.u64("epoch of a message")?,
    };
    let from = decode_node(input, "sender of a message")?;
    let to = decode_node(input, "receiver of a message")?;
    let term = input.u64("term of a message")?;
    let body = decode_body(input, term)?;
    Ok(PeerMessage { region, epoch, message: Message { from, to, term, body } })
}

fn decode_body(input: &mut Decoder, term: u64) -> Result<Body, CodecError> {
    let tag = input.u8("tag of a message")?;
    Ok(match tag {
        1 => {
            let [pre, transfer, says_commit] = decode_flags(input)?;
            let last = decode_log_id(input, "last entry of a vote")?;
            Body::RequestVote { pre, last, transfer, commit: decode_said(input, says_commit)? }
        }
        2 => {
            let [pre, granted, says_commit] = decode_flags(input)?;
            Body::RequestVoteReply { pre, granted, commit: decode_said(input, says_commit)? }
        }
        3 => decode_append(input, term)?,
        4 | 14 => {
            let index = input.u64("reply")?;
            let commit = if tag == 14 { input.u64("reply")? } else { 0 };
            Body::AppendEntriesReply(AppendReply::Accepted { index, commit })
        }
        5 => {
            let prev = input.u64("reply")?;
            let (index, term) = (input.u64("reply")?, input.u64("reply")?);
            let hint = LogId { term, index };
            Body::AppendEntriesReply(AppendReply::Rejected { prev, hint })
        }
        6 => Body::Heartbeat { commit: input.u64("heartbeat")?, read: input.u64("heartbeat")? },
        7 | 15 => {
            let read = input.u64("heartbeat reply")?;
            let commit = if tag == 15 { input.u64("heartbeat reply")? } else { 0 };
            Body::HeartbeatReply { read, commit }
        }
        8 => Body::InstallSnapshot { snapshot: Box::new(decode_snapshot(input)?) },
        9 => Body::TimeoutNow,
        10 => Body::TransferLeader,
        11 => Body::Propose { entries: decode_run(input)?.entries().to_vec() },
        12 => Body::ReadIndex { context: input.prefixed(CONTEXT_BYTES_MAX, "mark of a read")? },
        13 => Body::ReadIndexReply {
            index: input.u64("read index")?,
            context: input.prefixed(CONTEXT_BYTES_MAX, "mark of a read")?,
        },
        16 => {
            Body::AppendEntriesReply(AppendReply::SnapshotWanted { reaching: input.u64("reply")? })
        }
        _ => return Err(CodecError::invalid("tag of a message", tag)),
    })
}

fn decode_append(input: &mut Decoder, term: u64) -> Result<Body, CodecError> {
    let prev = decode_log_id(input, "entry before an append")?;
    let commit = input.u64("commit of an append")?;
    let entries = decode_entries(input)?;
    check_follows(prev, &entries, term)?;
    Ok(Body::AppendEntries { prev, entries, commit })
}

/// Log matching needs what a correct leader always sends: no gap after `prev`, terms that don't
/// fall, and none above its own.
fn check_follows(prev: LogId, entries: &Entries, term: u64) -> Result<(), CodecError> {
    let (Some(first), Some(last)) = (entries.runs().first(), entries.last()) else {
        return Ok(());
    };
    if prev.index.checked_add(1) != Some(first.first()) {
        return Err(CodecError::invalid("first entry of an append", first.first()));
    }
    if first.term() < prev.term || last.term > term {
        return Err(CodecError::invalid("term of an appended entry", last.term));
    }
    Ok(())
}

fn decode_flags(input: &mut Decoder) -> Result<[bool; 3], CodecError> {
    let flags = input.u8("flags of a vote")?;
    if flags > 7 {
        return Err(CodecError::invalid("flags of a vote", flags));
    }
    Ok([1, 2, 4].map(|flag| flags & flag != 0))
}

fn decode_said(input: &mut Decoder, is_said: bool) -> Result<LogId, CodecError> {
    if is_said { decode_log_id(input, "commit of a vote") } else { Ok(LogId::ZERO) }
}

fn decode_node(input: &mut Decoder, what: &'static str) -> Result<NodeId, CodecError> {
    NodeId::new(input.u64(what)?).ok_or(CodecError::invalid(what, 0u32))
}

fn encode_snapshot(snapshot: &Snapshot, out: &mut impl BufMut) {
    let conf = &snapshot.meta.conf_state;
    encode_log_id(snapshot.meta.last, out);
    for list in [&conf.voters, &conf.voters_outgoing, &conf.learners, &conf.learners_next] {
        out.put_u32_le(list.len() as u32);
        list.iter().for_each(|id| out.put_u64_le(id.get()));
    }
    out.put_u8(u8::from(conf.auto_leave));
    put_prefixed(&snapshot.data, out);
}

fn decode_snapshot(input: &mut Decoder) -> Result<Snapshot, CodecError> {
    let last = decode_log_id(input, "last entry of a snapshot")?;
    let conf_state = ConfState {
        voters: decode_members(input)?,
        voters_outgoing: decode_members(input)?,
        learners: decode_members(input)?,
        learners_next: decode_members(input)?,
        auto_leave: match input.u8("auto-leave of a snapshot")? {
            0 => false,
            1 => true,
            other => return Err(CodecError::invalid("auto-leave of a snapshot", other)),
        },
    };
    let data = input.prefixed(SNAPSHOT_DATA_BYTES_MAX, "data of a snapshot")?;
    Ok(Snapshot { meta: SnapshotMeta { last, conf_state }, data })
}

fn decode_members(input: &mut Decoder) -> Result<Vec<NodeId>, CodecError> {
    let count = input.u32("members of a snapshot")? as usize;
    if count > MEMBERS_MAX {
        let (value, max) = (count as u64, MEMBERS_MAX as u64);
        return Err(CodecError::TooLarge { what: "members of a snapshot", value, max });
    }
    (0..count).map(|_| decode_node(input, "member of a snapshot")).collect()
}

#[cfg(test)]
mod tests {
    use raft::Entry;

    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn message(term: u64, body: Body) -> PeerMessage {
        let message = Message { from: node(1), to: node(2), term, body };
        PeerMessage { region: RegionId(9), epoch: Epoch { version: 3, conf_ver: 4 }, message }
    }

    fn bodies() -> Vec<Body> {
        let text = Bytes::from_static;
        let last = LogId::new(2, 5);
        let run = |term, first| {
            Run::new(term, first, vec![Entry::normal(text(b"a")), Entry::normal(text(b""))])
                .expect("not empty")
        };
        let mut entries = Entries::from(run(2, 6));
        entries.push(run(7, 8)).expect("consecutive");
        let conf_state = ConfState {
            voters: vec![node(1), node(2)],
            voters_outgoing: vec![node(3)],
            learners: vec![node(4)],
            learners_next: vec![node(5)],
            auto_leave: true,
        };
        let meta = SnapshotMeta { last, conf_state };
        vec![
            Body::RequestVote { pre: true, last, transfer: false, commit: LogId::new(2, 4) },
            Body::RequestVote {
                pre: false,
                last: LogId::ZERO,
                transfer: true,
                commit: LogId::ZERO,
            },
            Body::RequestVoteReply { pre: false, granted: true, commit: LogId::ZERO },
            Body::RequestVoteReply { pre: true, granted: false, commit: last },
            Body::AppendEntries { prev: last, entries, commit: 4 },
            Body::AppendEntries { prev: LogId::ZERO, entries: Entries::new(), commit: 0 },
            Body::AppendEntriesReply(AppendReply::Accepted { index: 5, commit: 0 }),
            Body::AppendEntriesReply(AppendReply::Accepted { index: 5, commit: 4 }),
            Body::AppendEntriesReply(AppendReply::Rejected { prev: 6, hint: LogId::new(0, 5) }),
            Body::AppendEntriesReply(AppendReply::SnapshotWanted { reaching: 6 }),
            Body::Heartbeat { commit: 4, read: 11 },
            Body::HeartbeatReply { read: 11, commit: 0 },
            Body::HeartbeatReply { read: 11, commit: 4 },
            Body::InstallSnapshot { snapshot: Box::new(Snapshot { meta, data: text(b"state") }) },
            Body::TimeoutNow,
            Body::TransferLeader,
            Body::Propose { entries: vec![Entry::normal(text(b"p"))] },
            Body::ReadIndex { context: text(b"read") },
            Body::ReadIndexReply { index: 3, context: text(b"read") },
        ]
    }

    fn encoded(message: &PeerMessage) -> Bytes {
        let mut out = Vec::new();
        encode_message(message, &mut out);
        out.into()
    }

    fn decoded(data: Bytes) -> Result<PeerMessage, CodecError> {
        let mut input = Decoder::new(data);
        let message = decode_message(&mut input)?;
        input.finish("a message")?;
        Ok(message)
    }

    #[test]
    fn every_body_round_trips_and_no_prefix_of_it_does() {
        for body in bodies() {
            let sent = message(7, body);
            let data = encoded(&sent);
            assert!(data.len() <= sent.size_hint() + 64, "{sent:?}: {}", data.len());
            for len in 0..data.len() {
                assert!(decoded(data.slice(..len)).is_err(), "{len} bytes of {sent:?}");
            }
            assert_eq!(decoded(data), Ok(sent));
        }
    }

    /// The format, byte by byte: changing it needs a new version, not a new expectation.
    #[test]
    fn golden_bytes() {
        let number = |n: u8| [n, 0, 0, 0, 0, 0, 0, 0];
        let mut expected = [9, 3, 4, 1, 2, 7].map(number).concat();
        expected.push(6);
        expected.extend([4, 11].map(number).concat());
        assert_eq!(encoded(&message(7, Body::Heartbeat { commit: 4, read: 11 })), expected);
    }

    /// What a body says after the envelope, byte by byte: commit indexes and requests for
    /// snapshots came with version 2; what does not name one reads as in version 1.
    #[test]
    fn golden_bytes_of_answers_and_votes() {
        const ENVELOPE: usize = 6 * 8;
        let number = |n: u8| vec![n, 0, 0, 0, 0, 0, 0, 0];
        let bytes = |tag: &[u8], numbers: &[u8]| {
            [tag.to_vec(), numbers.iter().flat_map(|n| number(*n)).collect()].concat()
        };
        let (last, commit) = (LogId::new(2, 5), LogId::new(1, 4));
        let accepted =
            |commit| Body::AppendEntriesReply(AppendReply::Accepted { index: 5, commit });
        let vote = |commit| Body::RequestVote { pre: true, last, transfer: false, commit };
        let reply = |commit| Body::RequestVoteReply { pre: false, granted: true, commit };
        for (body, expected) in [
            (accepted(0), bytes(&[4], &[5])),
            (accepted(4), bytes(&[14], &[5, 4])),
            (Body::HeartbeatReply { read: 11, commit: 0 }, bytes(&[7], &[11])),
            (Body::HeartbeatReply { read: 11, commit: 4 }, bytes(&[15], &[11, 4])),
            (vote(LogId::ZERO), bytes(&[1, 1], &[2, 5])),
            (vote(commit), bytes(&[1, 5], &[2, 5, 1, 4])),
            (reply(LogId::ZERO), bytes(&[2, 2], &[])),
            (reply(commit), bytes(&[2, 6], &[1, 4])),
            (
                Body::AppendEntriesReply(AppendReply::SnapshotWanted { reaching: 6 }),
                bytes(&[16], &[6]),
            ),
        ] {
            assert_eq!(encoded(&message(7, body.clone()))[ENVELOPE..], expected, "{body:?}");
        }
    }

    #[test]
    fn appends_that_do_not_follow_are_refused() {
        let append = |prev, term| {
            let run = Run::new(3, 6, vec![Entry::default()]).expect("not empty");
            decoded(encoded(&message(
                term,
                Body::AppendEntries { prev, entries: run.into(), commit: 0 },
            )))
        };
        let bad_first = Err(CodecError::invalid("first entry of an append", 6u32));
        let bad_term = Err(CodecError::invalid("term of an appended entry", 3u32));
        assert!(append(LogId::new(3, 5), 3).is_ok());
        assert_eq!(append(LogId::new(3, 4), 3), bad_first, "a gap");
        assert_eq!(append(LogId::new(3, 6), 3), bad_first, "an overlap");
        assert_eq!(append(LogId::new(4, 5), 4), bad_term, "the terms fall");
        assert_eq!(append(LogId::new(2, 5), 2), bad_term, "newer than its leader");
    }

    #[test]
    fn changed_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for body in bodies() {
            let good = encoded(&message(7, body));
            for _ in 0..2000 {
                let mut bad = good.to_vec();
                for _ in 0..random.usize(1..4) {
                    bad[random.usize(0..good.len())] = random.u8(..);
                }
                if let Ok(message) = decoded(bad.into()) {
                    encoded(&message);
                }
            }
        }
    }
}
