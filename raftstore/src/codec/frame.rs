//! What travels over a connection between two stores.
//!
//! A connection carries one direction. It begins with a handshake: the connecting store says who
//! it is and whom it wants, and the other says yes ([`Hello`] back) or why not. Frames follow.
//!
//! | bytes | frame |
//! |---|---|
//! | 4 | length of what follows the checksum, from 1 to [`FRAME_BYTES_MAX`] |
//! | 4 | CRC-32 of what follows |
//! | 1 | kind |
//! | … | content |
//!
//! | kind | content |
//! |---|---|
//! | 1 hello | magic (8), version (4), cluster (8), sending store (8), its generation (8), receiving store (8) |
//! | 2 refusal | why, as text |
//! | 3 Raft messages | number (4), messages ([`super::message`]) |
//! | 4 request | id (8), body |
//! | 5 reply | id (8), body |
//! | 6 snapshot | an InstallSnapshot message without data; its pieces follow |
//! | 7 piece | bytes of the snapshot, after those before |
//! | 8 end | bytes in all pieces (8), CRC-32 of all of them (4) |
//! | 9 verdict | the receiver's answer to the end, or ahead of it: 1 it has the snapshot, 0 it has not |
//!
//! Snapshots travel over connections of their own, one after the other, so that they never keep
//! anything else waiting.

use bytes::{BufMut, Bytes, BytesMut};

use super::message::{PeerMessage, decode_message, encode_message};
use super::{CodecError, Decoder};
use crate::region::StoreId;

/// Version of everything that travels: frames, messages, entries.
pub const WIRE_FORMAT: u32 = 3;

/// Most bytes a frame may have: the largest message, and a batch of small ones.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// Most bytes a frame of the handshake may have: a stranger cannot make us allocate more.
pub const HELLO_BYTES_MAX: usize = 1024;

/// Bytes before a frame's kind.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Most bytes the body of a request or reply may have.
pub const SERVICE_BYTES_MAX: usize = 16 << 20;

/// Most bytes one piece of a snapshot may have.
pub const PIECE_BYTES_MAX: usize = FRAME_BYTES_MAX - 1;

const MAGIC: &[u8; 8] = b"raftkv\r\n";

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster both must belong to.
    pub cluster: u64,
    /// The sender.
    pub from: StoreId,
    /// Which data the sender has; 0 if it does not say.
    pub generation: u64,
    /// Whom it takes the receiver for.
    pub to: StoreId,
}

/// A frame's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first frame in each direction.
    Hello(Hello),
    /// The connection is not wanted.
    Refusal(String),
    /// Raft messages.
    Raft(Vec<PeerMessage>),
    /// A request of the layer above.
    Request {
        /// The sender's number for it.
        id: u64,
        /// What it asks.
        body: Bytes,
    },
    /// The answer to a request.
    Reply {
        /// The number of the request.
        id: u64,
        /// The answer.
        body: Bytes,
    },
    /// A snapshot begins.
    Snapshot(PeerMessage),
    /// A piece of it.
    Piece(Bytes),
    /// All pieces were sent.
    End {
        /// Their bytes.
        bytes: u64,
        /// The CRC-32 of all of them.
        crc: u32,
    },
    /// Whether the receiver has the snapshot, on its disk and in order.
    Verdict(bool),
}

/// Appends a frame with the handshake.
pub fn encode_hello(hello: Hello, out: &mut BytesMut) {
    framed(out, 1, |out| {
        out.put_slice(MAGIC);
        out.put_u32_le(WIRE_FORMAT);
        out.put_u64_le(hello.cluster);
        out.put_u64_le(hello.from.0);
        out.put_u64_le(hello.generation);
        out.put_u64_le(hello.to.0);
    });
}

/// Appends a frame that turns a connection down.
pub fn encode_refusal(why: &str, out: &mut BytesMut) {
    framed(out, 2, |out| out.put_slice(why.as_bytes()));
}

/// Appends Raft messages, in as few frames as the limit allows.
pub fn encode_messages(messages: &[PeerMessage], out: &mut BytesMut) {
    const TARGET: usize = 1 << 20;
    let mut rest = messages;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|message| {
            let before = bytes;
            bytes += message.size_hint();
            before == 0 || bytes <= TARGET
        });
        let (now, later) = rest.split_at(fits.count());
        framed(out, 3, |out| {
            out.put_u32_le(now.len() as u32);
            now.iter().for_each(|message| encode_message(message, out));
        });
        rest = later;
    }
}

/// Appends a request.
pub fn encode_request(id: u64, body: &[u8], out: &mut BytesMut) {
    framed(out, 4, |out| {
        out.put_u64_le(id);
        out.put_slice(body);
    });
}

/// Appends a reply.
pub fn encode_reply(id: u64, body: &[u8], out: &mut BytesMut) {
    framed(out, 5, |out| {
        out.put_u64_le(id);
        out.put_slice(body);
    });
}

/// Appends the frame that begins a snapshot.
pub fn encode_snapshot(message: &PeerMessage, out: &mut BytesMut) {
    framed(out, 6, |out| encode_message(message, out));
}

/// Appends a piece of a snapshot, of at most [`PIECE_BYTES_MAX`] bytes.
pub fn encode_piece(piece: &[u8], out: &mut BytesMut) {
    framed(out, 7, |out| out.put_slice(piece));
}

/// Appends the frame that ends a snapshot.
pub fn encode_end(bytes: u64, crc: u32, out: &mut BytesMut) {
    framed(out, 8, |out| {
        out.put_u64_le(bytes);
        out.put_u32_le(crc);
    });
}

/// Appends the answer to a snapshot.
pub fn encode_verdict(has_it: bool, out: &mut BytesMut) {
    framed(out, 9, |out| out.put_u8(u8::from(has_it)));
}

fn framed(out: &mut BytesMut, kind: u8, content: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[0; FRAME_HEADER_BYTES]);
    out.put_u8(kind);
    content(out);
    let body = start + FRAME_HEADER_BYTES;
    let len = out.len() - body;
    assert!(len <= FRAME_BYTES_MAX, "whoever makes a message keeps it within a frame");
    let sum = crc32fast::hash(&out[body..]);
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    out[start + 4..body].copy_from_slice(&sum.to_le_bytes());
}

/// Reads a frame's header: how many bytes follow, and their checksum.
///
/// # Errors
/// If it is empty or longer than `max`.
pub fn decode_header(
    header: [u8; FRAME_HEADER_BYTES],
    max: usize,
) -> Result<(usize, u32), CodecError> {
    let mut input = Decoder::new(Bytes::copy_from_slice(&header));
    let len = input.u32("length of a frame")?;
    let sum = input.u32("checksum of a frame")?;
    match len as usize {
        0 => Err(CodecError::invalid("length of a frame", len)),
        len if len > max => {
            let (value, max) = (len as u64, max as u64);
            Err(CodecError::TooLarge { what: "length of a frame", value, max })
        }
        len => Ok((len, sum)),
    }
}

/// Reads what follows a frame's header. Payloads are slices of it.
///
/// # Errors
/// If the checksum is wrong or the content is not what this version writes.
pub fn decode_frame(content: Bytes, sum: u32) -> Result<Frame, CodecError> {
    if crc32fast::hash(&content) != sum {
        return Err(CodecError::Checksum { what: "a frame" });
    }
    let mut input = Decoder::new(content);
    let kind = input.u8("kind of a frame")?;
    let frame = match kind {
        1 => Frame::Hello(decode_hello(&mut input)?),
        2 => {
            let why = input.bytes(input.remaining(), "refusal")?;
            Frame::Refusal(String::from_utf8_lossy(&why).into_owned())
        }
        3 => {
            // No capacity is reserved for a number that a stranger names.
            let count = input.u32("number of messages")?;
            let messages = (0..count).map(|_| decode_message(&mut input));
            Frame::Raft(messages.collect::<Result<_, _>>()?)
        }
        4 | 5 => {
            let id = input.u64("id of a request")?;
            let body = input.bytes(input.remaining(), "body of a request")?;
            if kind == 4 { Frame::Request { id, body } } else { Frame::Reply { id, body } }
        }
        6 => Frame::Snapshot(decode_message(&mut input)?),
        7 => Frame::Piece(input.bytes(input.remaining(), "piece of a snapshot")?),
        8 => Frame::End { bytes: input.u64("end of a snapshot")?, crc: input.u32("its checksum")? },
        9 => match input.u8("verdict")? {
            verdict @ (0 | 1) => Frame::Verdict(verdict == 1),
            other => return Err(CodecError::invalid("verdict", other)),
        },
        _ => return Err(CodecError::invalid("kind of a frame", kind)),
    };
    input.finish("a frame")?;
    Ok(frame)
}

fn decode_hello(input: &mut Decoder) -> Result<Hello, CodecError> {
    if input.bytes(MAGIC.len(), "handshake")? != MAGIC[..] {
        return Err(CodecError::invalid("magic of a handshake", 0u32));
    }
    let version = input.u32("version of the wire")?;
    if version != WIRE_FORMAT {
        return Err(CodecError::invalid("version of the wire", version));
    }
    Ok(Hello {
        cluster: input.u64("cluster")?,
        from: StoreId(input.u64("store")?),
        generation: input.u64("generation")?,
        to: StoreId(input.u64("store")?),
    })
}

#[cfg(test)]
mod tests {
    use raft::{Body, Entry, LogId, Message, NodeId, Run};

    use super::*;
    use crate::region::{Epoch, RegionId};

    fn message(payload: usize) -> PeerMessage {
        let node = |id| NodeId::new(id).expect("not zero");
        let run = Run::new(1, 1, vec![Entry::normal(vec![7; payload].into())]).expect("not empty");
        let body = Body::AppendEntries { prev: LogId::ZERO, entries: run.into(), commit: 0 };
        let message = Message { from: node(1), to: node(2), term: 1, body };
        PeerMessage { region: RegionId(1), epoch: Epoch::default(), message }
    }

    fn frames(mut data: Bytes) -> Result<Vec<Frame>, CodecError> {
        let mut frames = Vec::new();
        while !data.is_empty() {
            let header = data.split_to(FRAME_HEADER_BYTES);
            let header = header[..].try_into().expect("eight bytes");
            let (len, sum) = decode_header(header, FRAME_BYTES_MAX)?;
            if len > data.len() {
                return Err(CodecError::Truncated { what: "frame" });
            }
            frames.push(decode_frame(data.split_to(len), sum)?);
        }
        Ok(frames)
    }

    #[test]
    fn frames_round_trip() {
        let hello = Hello { cluster: 9, from: StoreId(1), generation: 4, to: StoreId(2) };
        let mut out = BytesMut::new();
        encode_hello(hello, &mut out);
        assert!(out.len() <= HELLO_BYTES_MAX);
        encode_refusal("no", &mut out);
        encode_messages(&[message(3), message(0)], &mut out);
        encode_request(5, b"ask", &mut out);
        encode_reply(5, b"", &mut out);
        encode_snapshot(&message(1), &mut out);
        encode_piece(b"piece", &mut out);
        encode_end(5, 0x8765_4321, &mut out);
        encode_verdict(true, &mut out);
        let expected = vec![
            Frame::Hello(hello),
            Frame::Refusal("no".to_owned()),
            Frame::Raft(vec![message(3), message(0)]),
            Frame::Request { id: 5, body: Bytes::from_static(b"ask") },
            Frame::Reply { id: 5, body: Bytes::new() },
            Frame::Snapshot(message(1)),
            Frame::Piece(Bytes::from_static(b"piece")),
            Frame::End { bytes: 5, crc: 0x8765_4321 },
            Frame::Verdict(true),
        ];
        assert_eq!(frames(out.freeze()), Ok(expected));
    }

    /// The format, byte by byte: changing it needs a new version, not a new expectation.
    #[test]
    fn golden_bytes() {
        let mut out = BytesMut::new();
        encode_request(5, b"ask", &mut out);
        let body = [4, 5, 0, 0, 0, 0, 0, 0, 0, b'a', b's', b'k'];
        let mut expected = vec![12, 0, 0, 0];
        expected.extend(crc32fast::hash(&body).to_le_bytes());
        expected.extend(body);
        assert_eq!(out, expected);
        out.clear();
        encode_hello(
            Hello { cluster: 9, from: StoreId(1), generation: 4, to: StoreId(2) },
            &mut out,
        );
        let mut expected = vec![1];
        expected.extend(b"raftkv\r\n");
        expected.extend([3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[FRAME_HEADER_BYTES..], expected);
        out.clear();
        encode_end(5, 0x8765_4321, &mut out);
        assert_eq!(out[FRAME_HEADER_BYTES..], [8, 5, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x43, 0x65, 0x87]);
        out.clear();
        encode_piece(b"ab", &mut out);
        assert_eq!(out[FRAME_HEADER_BYTES..], [7, b'a', b'b']);
        out.clear();
        encode_verdict(false, &mut out);
        assert_eq!(out[FRAME_HEADER_BYTES..], [9, 0]);
    }

    #[test]
    fn many_messages_take_several_frames() {
        let messages = vec![message(300 << 10); 10];
        let mut out = BytesMut::new();
        encode_messages(&messages, &mut out);
        let frames = frames(out.freeze()).expect("valid");
        assert_eq!(frames.len(), 4, "three messages of 300 KiB in each");
        let all = frames.into_iter().flat_map(|f| match f {
            Frame::Raft(messages) => messages,
            other => panic!("{other:?}"),
        });
        assert_eq!(all.collect::<Vec<_>>(), messages);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut out = BytesMut::new();
        encode_messages(&[message(3)], &mut out);
        for bit in 0..out.len() * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(frames(bad.freeze()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        let header = |len: u32| {
            let mut header = [0; FRAME_HEADER_BYTES];
            header[..4].copy_from_slice(&len.to_le_bytes());
            header
        };
        assert!(decode_header(header(0), FRAME_BYTES_MAX).is_err());
        assert!(decode_header(header(u32::MAX), FRAME_BYTES_MAX).is_err());
        assert!(decode_header(header(HELLO_BYTES_MAX as u32 + 1), HELLO_BYTES_MAX).is_err());
        assert_eq!(decode_header(header(7), FRAME_BYTES_MAX), Ok((7, 0)));
    }
}
