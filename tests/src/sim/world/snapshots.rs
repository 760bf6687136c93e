//! Snapshots between the stores of a world: the shell's part, in virtual time.

use bytes::{Bytes, BytesMut};
use raftstore::StoreId;
use raftstore::codec::Decoder;
use raftstore::codec::message::{PeerMessage, decode_message, encode_message};
use raftstore::snapshot::{Incoming, ReceiveError, Received, SendSnapshot, incoming};

use super::{Due, MachineOf, World, at};
use crate::sim::streams::{Part, Sending, Stream};
use crate::sim::trace::Happening;
use crate::sim::{Failure, Subject, Time, ms};

/// How long a sender waits for a verdict.
const PATIENCE: Time = ms(500);

/// How long it takes until somebody notices that a connection is broken.
const NOTICE: std::ops::Range<Time> = ms(1)..ms(100);

impl<S: Subject> World<S> {
    /// How many snapshots have replaced a state.
    #[must_use]
    pub fn installed(&self) -> u64 {
        self.installed
    }

    /// A store begins to send a snapshot.
    pub(super) fn begin_stream(&mut self, id: StoreId, send: SendSnapshot) {
        self.streams += 1;
        let stream = self.streams;
        let mut bytes = BytesMut::with_capacity(send.message.size_hint());
        encode_message(&send.message, &mut bytes);
        let mut parts = vec![Part::Begin(bytes.freeze())];
        let (mut total, mut crc) = (0, crc32fast::Hasher::new());
        let written = send.source.write(&mut |piece| {
            total += piece.len() as u64;
            crc.update(piece);
            parts.push(Part::Piece(Bytes::copy_from_slice(piece)));
            Ok(())
        });
        debug_assert!(written.is_ok(), "everything was taken");
        parts.push(Part::End(total, crc.finalize()));
        let what = Happening::Snapshot { stream, what: "is sent", bytes: total as usize };
        self.trace.note(self.now, Some(id), what);
        let sending = Sending {
            id: send.id(),
            to: send.to,
            message: send.message,
            parts: parts.into(),
            last: self.now,
        };
        if let Some(process) = &mut self.hosts[at(id)].process {
            process.sending.insert(stream, sending);
        }
        self.schedule_in(1..ms(2), id, Due::Stream(Stream::Next(stream)));
    }

    /// Something about a stream is due on a store.
    pub(super) fn stream(&mut self, id: StoreId, due: Stream) -> Result<(), Failure> {
        match due {
            Stream::Next(stream) => self.send_next(id, stream),
            Stream::Part { stream, from, part } => {
                return self.receive_part(id, stream, from, part);
            }
            Stream::Lost(stream) => self.lose(id, stream),
            Stream::Verdict(stream, arrived) => self.ended(id, stream, arrived),
            Stream::GiveUp(stream) => self.ended(id, stream, false),
        }
        Ok(())
    }

    fn send_next(&mut self, id: StoreId, stream: u64) {
        let Some(process) = &mut self.hosts[at(id)].process else { return };
        let Some(sending) = process.sending.get_mut(&stream) else { return };
        let to = sending.to;
        let Some(mut part) = sending.parts.pop_front() else { return };
        let arrival = self.net.send_part(self.now, (id, to), &sending.message, sending.last);
        let Some(arrival) = arrival else {
            self.schedule_in(NOTICE, id, Due::Stream(Stream::GiveUp(stream)));
            self.schedule_in(NOTICE, to, Due::Stream(Stream::Lost(stream)));
            return;
        };
        sending.last = arrival;
        let mut bytes = 0;
        if let Part::Piece(piece) = &mut part {
            bytes = piece.len() as u64;
            let mut copy = piece.to_vec();
            self.net.corrupt(&mut copy);
            *piece = copy.into();
        }
        let is_end = matches!(part, Part::End(..));
        self.schedule(arrival, to, Due::Stream(Stream::Part { stream, from: id, part }));
        let next = self.now + 1 + bytes * 1000 / self.options.snapshot_bytes_per_ms.max(1);
        match is_end {
            true => self.schedule(arrival + PATIENCE, id, Due::Stream(Stream::GiveUp(stream))),
            false => self.schedule(next, id, Due::Stream(Stream::Next(stream))),
        }
    }

    fn receive_part(
        &mut self,
        id: StoreId,
        stream: u64,
        from: StoreId,
        part: Part,
    ) -> Result<(), Failure> {
        let taken = match part {
            Part::Begin(bytes) => {
                let decoded = decode_message(&mut Decoder::new(bytes));
                let message =
                    decoded.map_err(|why| self.failure(id, format!("a message: {why}")))?;
                self.begin_incoming(id, stream, message).map(|()| None)
            }
            Part::Piece(bytes) => self.piece(id, stream, &bytes).map(|()| None),
            Part::End(bytes, crc) => self.finish(id, stream, bytes, crc).map(Some),
        };
        match taken {
            Ok(None) => {}
            Ok(Some(received)) => {
                self.take(id, stream, from, received);
                self.answer(id, stream, from, true);
            }
            Err(why) => {
                let what = Happening::Chaos(format!("snapshot {stream}: {why}"));
                self.trace.note(self.now, Some(id), what);
                self.lose(id, stream);
                self.answer(id, stream, from, false);
                if why.is_fatal() {
                    self.end_anyhow(id, "a snapshot was not synced");
                }
            }
        }
        Ok(())
    }

    fn begin_incoming(
        &mut self,
        id: StoreId,
        stream: u64,
        message: PeerMessage,
    ) -> Result<(), ReceiveError> {
        let Some(process) = &mut self.hosts[at(id)].process else { return Ok(()) };
        let incoming = Incoming::begin(&process.snapshots, message)?;
        process.receiving.insert(stream, incoming);
        Ok(())
    }

    fn piece(&mut self, id: StoreId, stream: u64, bytes: &[u8]) -> Result<(), ReceiveError> {
        let process = self.hosts[at(id)].process.as_mut();
        let incoming = process.and_then(|process| process.receiving.get_mut(&stream));
        incoming.ok_or_else(unknown)?.piece(bytes)
    }

    fn finish(
        &mut self,
        id: StoreId,
        stream: u64,
        bytes: u64,
        crc: u32,
    ) -> Result<Received, ReceiveError> {
        let process = self.hosts[at(id)].process.as_mut();
        let incoming = process.and_then(|process| process.receiving.remove(&stream));
        incoming.ok_or_else(unknown)?.finish::<MachineOf<S>>(bytes, crc)
    }

    /// A snapshot is whole: the store decides whether it wants it.
    fn take(&mut self, id: StoreId, stream: u64, from: StoreId, received: Received) {
        let Some(process) = &mut self.hosts[at(id)].process else { return };
        let file = received.file.clone();
        let taken = process.store.snapshot_received(from, received);
        if !taken {
            incoming::discard(&*process.snapshots, &file);
        }
        let what = if taken { "is taken" } else { "is not needed" };
        self.trace.note(self.now, Some(id), Happening::Snapshot { stream, what, bytes: 0 });
    }

    /// The receiver tells the sender, if anything gets through.
    fn answer(&mut self, id: StoreId, stream: u64, to: StoreId, arrived: bool) {
        let open = self.hosts[at(to)].process.as_ref().and_then(|process| {
            let sending = process.sending.get(&stream)?;
            Some(self.net.is_open(id, to, &sending.message))
        });
        if open == Some(true) {
            self.schedule_in(100..ms(5), to, Due::Stream(Stream::Verdict(stream, arrived)));
        }
    }

    fn lose(&mut self, id: StoreId, stream: u64) {
        if let Some(process) = &mut self.hosts[at(id)].process {
            // Its file goes with it.
            process.receiving.remove(&stream);
        }
    }

    /// The sender knows how it went.
    fn ended(&mut self, id: StoreId, stream: u64, arrived: bool) {
        let Some(process) = &mut self.hosts[at(id)].process else { return };
        if let Some(sending) = process.sending.remove(&stream) {
            process.store.snapshot_sent(sending.id, arrived);
            let what = if arrived { "has arrived" } else { "has failed" };
            self.trace.note(self.now, Some(id), Happening::Snapshot { stream, what, bytes: 0 });
        }
    }

    /// A store ends: whoever receives from it notices.
    pub(super) fn break_streams(&mut self, id: StoreId) {
        let sending = self.hosts[at(id)].process.iter().flat_map(|process| &process.sending);
        let broken: Vec<_> = sending.map(|(&stream, sending)| (stream, sending.to)).collect();
        for (stream, to) in broken {
            self.schedule_in(NOTICE, to, Due::Stream(Stream::Lost(stream)));
        }
    }
}

fn unknown() -> ReceiveError {
    ReceiveError::Refused("of a connection that is gone".to_owned())
}
