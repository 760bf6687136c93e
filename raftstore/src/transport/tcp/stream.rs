//! Snapshots over TCP: a connection for each, made for it and closed after it.
//!
//! ```text
//!  hello ►  ◄ hello  snapshot ► piece ► piece ► … end ►  ◄ verdict
//! ```
//!
//! Every frame has its checksum, and the end has that of all pieces together. A receiver that does
//! not want any more says so and closes; the sender finds out when it writes, or by the verdict.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;

use super::link::read_frame;
use crate::codec::frame::{
    self, FRAME_BYTES_MAX, Frame, HELLO_BYTES_MAX, PIECE_BYTES_MAX, encode_verdict,
};
use crate::codec::message::PeerMessage;
use crate::region::StoreId;
use crate::transport::{Receiver, SendError, SnapshotStream};

/// How long the verdict may take: the receiver reads all of it once more and syncs it.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(120);

/// A sender that paces itself may be silent for so many times the time that a write may take.
const SILENCE_FACTOR: u32 = 10;

/// The connections of snapshots that are being sent, to be broken when the transport stops.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<Vec<TcpStream>>);

impl Streams {
    pub(super) fn add(&self, stream: &TcpStream) -> io::Result<()> {
        let mut streams = self.0.lock();
        // A socket whose other handle was shut down has no peer any more.
        streams.retain(|stream| stream.peer_addr().is_ok());
        streams.push(stream.try_clone()?);
        Ok(())
    }

    pub(super) fn cut(&self) {
        for stream in self.0.lock().drain(..) {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The sending end.
pub(super) struct TcpStreamOut {
    stream: TcpStream,
    out: BytesMut,
}

impl TcpStreamOut {
    pub(super) fn begin(
        stream: TcpStream,
        message: &PeerMessage,
    ) -> Result<TcpStreamOut, SendError> {
        let mut begun = TcpStreamOut { stream, out: BytesMut::new() };
        frame::encode_snapshot(message, &mut begun.out);
        begun.write()?;
        Ok(begun)
    }

    fn write(&mut self) -> Result<(), SendError> {
        self.stream.write_all(&self.out).map_err(|_| SendError::Unreachable)?;
        self.out.clear();
        Ok(())
    }
}

impl SnapshotStream for TcpStreamOut {
    fn piece(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            frame::encode_piece(piece, &mut self.out);
            self.write()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, bytes: u64, crc: u32) -> Result<(), SendError> {
        frame::encode_end(bytes, crc, &mut self.out);
        self.write()?;
        let waits = self.stream.set_read_timeout(Some(VERDICT_TIMEOUT));
        match waits.and_then(|()| read_frame(&mut self.stream, HELLO_BYTES_MAX)) {
            Ok(Frame::Verdict(true)) => Ok(()),
            Ok(_) => Err(SendError::Refused),
            Err(_) => Err(SendError::Unreachable),
        }
    }
}

impl Drop for TcpStreamOut {
    fn drop(&mut self) {
        // The handle in [`Streams`] would hold the connection open.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The receiving end: the frames after the one that began a snapshot.
pub(super) fn receive(
    frames: &mut BufReader<&TcpStream>,
    timeout: Duration,
    from: StoreId,
    message: PeerMessage,
    receiver: &dyn Receiver,
) -> io::Result<()> {
    frames.get_ref().set_read_timeout(Some(timeout * SILENCE_FACTOR))?;
    let received = pieces(frames, from, message, receiver);
    let verdict = match received {
        Ok(()) => true,
        // Nobody is left to be told.
        Err(Ended::Broken) => return Ok(()),
        Err(Ended::Unwanted) => false,
    };
    let mut out = BytesMut::new();
    encode_verdict(verdict, &mut out);
    frames.get_mut().write_all(&out)
}

/// How the receiving of a snapshot ended.
enum Ended {
    Broken,
    Unwanted,
}

impl From<SendError> for Ended {
    fn from(_: SendError) -> Ended {
        Ended::Unwanted
    }
}

fn pieces(
    frames: &mut BufReader<&TcpStream>,
    from: StoreId,
    message: PeerMessage,
    receiver: &dyn Receiver,
) -> Result<(), Ended> {
    let mut sink = receiver.snapshot(from, message)?;
    loop {
        match read_frame(frames, FRAME_BYTES_MAX) {
            Ok(Frame::Piece(bytes)) => sink.piece(&bytes)?,
            Ok(Frame::End { bytes, crc }) => return Ok(sink.finish(bytes, crc)?),
            Ok(_) => return Err(Ended::Unwanted),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                log::warn!("a snapshot from {from:?}: {error}");
                return Err(Ended::Unwanted);
            }
            Err(_) => return Err(Ended::Broken),
        }
    }
}
