//! One client: bytes in, commands, one request in flight at most, answers, bytes out.
//!
//! ```text
//! socket ─► input ─► decoder ─► commands ─► batch ─► request ─► store
//!    ▲                             │                              │
//!    └───── output ◄───────────────┴──────── answers ◄────────────┘
//! ```
//!
//! Nothing here waits. What cannot go on stays where it is, and what is before it stops in turn. For
//! a client that does not read its answers no further command is carried out. What it sends is still
//! taken, up to a limit, because many clients send all of a pipeline before they read the first
//! answer: they would wait for us, and we for them. When all clients together have too much waiting
//! in this way, each gets little.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use mio::net::TcpStream;

use crate::answer::Answer;
use crate::command::{Request, Response};
use crate::resp::{Decoded, Decoder, Output};
use crate::server::batch::{Answers, Batch, Effect};
use crate::server::commands::{self, Context, Failure, InTransaction};
use crate::server::session::Session;
use crate::server::world::World;

/// So much is read ahead of what can be carried out, for one connection.
const INPUT_BYTES_MAX: usize = 64 << 20;

/// The same while all connections together hold more than [`INPUT_BYTES_TOTAL`].
const INPUT_BYTES_SCARCE: usize = 64 << 10;

/// What is plenty of input for all connections together.
const INPUT_BYTES_TOTAL: usize = 512 << 20;

/// With so many bytes of answers waiting, no further command is looked at.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Written in one turn, so that no client that takes much makes the others wait.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// The least a buffer for input is made for; small commands share one.
const INPUT_CAPACITY: usize = 4 << 10;

/// An empty input buffer larger than that is given back.
const INPUT_KEPT_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) session: Session,
    /// The socket may have something to read, as far as is known. Readiness is told once, when it
    /// begins.
    pub(crate) can_read: bool,
    pub(crate) can_write: bool,
    /// In the list of those to be looked at.
    pub(crate) is_listed: bool,
    /// The client will send no more, but what it sent may not be read yet.
    is_ending: bool,
    /// Everything it sent is read.
    ended: bool,
    /// The decoder has said that it needs more input, and there was none since.
    is_starved: bool,
    /// Which request waits for its answer.
    in_flight: Option<u64>,
    decoder: Decoder,
    input: BytesMut,
    /// What of the input is in `World::input_bytes`.
    input_counted: usize,
    /// A command that is read but has to wait for the batch before it.
    held: Option<Vec<Bytes>>,
    batch: Batch,
    output: Output,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream, session: Session) -> Connection {
        Connection {
            socket,
            session,
            can_read: true,
            can_write: true,
            is_listed: false,
            is_ending: false,
            ended: false,
            is_starved: true,
            in_flight: None,
            decoder: Decoder::default(),
            input: BytesMut::new(),
            input_counted: 0,
            held: None,
            batch: Batch::default(),
            output: Output::default(),
        }
    }

    /// The request that waits for its answer.
    pub(crate) fn in_flight(&self) -> Option<u64> {
        self.in_flight
    }

    /// Whether there is nothing left to do for the client.
    pub(crate) fn is_finished(&self) -> bool {
        let no_more = self.session.closing || (self.ended && !self.has_commands());
        no_more && self.in_flight.is_none() && self.output.is_empty()
    }

    /// Whether it can go on without anything happening first.
    pub(crate) fn is_runnable(&self, world: &World) -> bool {
        (self.can_read && self.wants_input(world))
            || (self.can_write && !self.output.is_empty())
            || (self.may_dispatch() && self.has_commands())
    }

    fn wants_input(&self, world: &World) -> bool {
        let stopped = self.session.closing || self.ended;
        let is_scarce = world.input_bytes > INPUT_BYTES_TOTAL;
        let ahead = if is_scarce { INPUT_BYTES_SCARCE } else { INPUT_BYTES_MAX };
        !stopped && (self.may_dispatch() || self.input.len() < ahead)
    }

    /// Brings the account of what all connections hold up to date.
    pub(crate) fn settle_input(&mut self, world: &mut World, len: usize) {
        world.input_bytes = world.input_bytes + len - self.input_counted;
        self.input_counted = len;
    }

    /// Bytes that were read and not understood yet.
    pub(crate) fn input_len(&self) -> usize {
        self.input.len()
    }

    fn may_dispatch(&self) -> bool {
        self.in_flight.is_none() && self.output.len() < OUTPUT_BYTES_MAX && !self.session.closing
    }

    fn has_commands(&self) -> bool {
        self.held.is_some() || !self.is_starved
    }

    /// Reads once, through `scratch`; how many bytes.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) fn read(&mut self, world: &World, scratch: &mut [u8]) -> io::Result<usize> {
        if !self.can_read || !self.wants_input(world) {
            return Ok(0);
        }
        match self.socket.read(scratch) {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(n) => {
                // Less than there was room for is all there was. If the end follows directly, it
                // is told as an event of its own.
                self.can_read = n == scratch.len() || self.is_ending;
                if self.input.capacity() - self.input.len() < n {
                    self.input.reserve(n.max(INPUT_CAPACITY));
                }
                self.input.extend_from_slice(&scratch[..n]);
                self.is_starved = false;
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.can_read = false;
                Ok(0)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Carries out commands until one has to be waited for. Returns the request to wait for.
    pub(crate) fn dispatch(
        &mut self,
        world: &mut World,
        args: &mut Vec<Bytes>,
    ) -> Option<(u64, Request)> {
        while self.may_dispatch() && self.has_commands() {
            if let Some(request) = self.gather(world, args) {
                return Some((self.take_off(world), request));
            }
        }
        if self.input.is_empty() && self.input.capacity() > INPUT_KEPT_MAX {
            self.input = BytesMut::new();
        }
        None
    }

    /// One batch. `None` if it needs no store, and so is answered.
    fn gather(&mut self, world: &mut World, args: &mut Vec<Bytes>) -> Option<Request> {
        while self.next_command(world, args) {
            let spec = args.first().and_then(|name| commands::find(name));
            let queued = self.session.transaction.is_some()
                && spec.is_some_and(|s| s.in_transaction == InTransaction::Queued);
            let effect = match spec {
                Some(spec) if !queued => spec.effect,
                _ => Effect::Local,
            };
            let bytes = args.iter().map(Bytes::len).sum();
            if self.batch.is_closed_to(effect, args.len(), bytes) {
                self.held = Some(std::mem::take(args));
                break;
            }
            self.context(world).run(spec, args);
            if effect == Effect::Alone || self.session.closing {
                break;
            }
            if self.batch.is_empty() && self.output.len() >= OUTPUT_BYTES_MAX {
                break;
            }
        }
        if self.batch.has_ops() {
            return Some(self.batch.request());
        }
        self.write_answers(world, Ok(Response::default()));
        None
    }

    /// The next complete command, into `args`.
    fn next_command(&mut self, world: &mut World, args: &mut Vec<Bytes>) -> bool {
        if let Some(held) = self.held.take() {
            *args = held;
            return true;
        }
        loop {
            match self.decoder.next(&mut self.input, args) {
                Ok(Decoded::Command) => return true,
                Ok(Decoded::Oversized(why)) => {
                    let failure = Failure::new(format!("ERR {why}"));
                    self.context(world).fail(&failure);
                }
                Ok(Decoded::Incomplete) => {
                    self.is_starved = true;
                    return false;
                }
                Err(e) => {
                    world.counters.protocol_errors += 1;
                    log::debug!("client {}: {e}", self.session.peer);
                    let failure = Failure::new(format!("ERR {e}"));
                    self.context(world).fail(&failure);
                    self.session.closing = true;
                    return false;
                }
            }
        }
    }

    fn context<'a>(&'a mut self, world: &'a mut World) -> Context<'a> {
        Context {
            session: &mut self.session,
            world,
            batch: &mut self.batch,
            output: &mut self.output,
        }
    }

    /// Takes the answer to the request in flight. Returns a request for what the answer had no room
    /// for, which is in flight then.
    pub(crate) fn complete(&mut self, world: &mut World, answer: Answer) -> Option<(u64, Request)> {
        self.in_flight = None;
        world.counters.failed += u64::from(answer.is_err());
        if !self.write_answers(world, answer) {
            return None;
        }
        Some((self.take_off(world), self.batch.request()))
    }

    /// A request is in flight from now on. Its number is that of no other of the server: an answer
    /// to a connection that is gone must not be taken for one to its successor in the slot.
    fn take_off(&mut self, world: &mut World) -> u64 {
        world.counters.requests += 1;
        self.in_flight = Some(world.counters.requests);
        world.counters.requests
    }

    fn write_answers(&mut self, world: &mut World, answer: Answer) -> bool {
        let mut to = Answers {
            output: &mut self.output,
            version: self.session.version,
            cursors: &mut world.cursors,
        };
        self.batch.finish(answer, &mut to)
    }

    /// Writes what the socket takes; how many bytes.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) fn flush(&mut self) -> io::Result<usize> {
        if !self.can_write || self.output.is_empty() {
            return Ok(0);
        }
        let before = self.output.len();
        let refused = self.output.write_to(&mut self.socket, WRITE_BYTES_MAX)?;
        self.can_write = !refused;
        Ok(before - self.output.len())
    }

    /// What the poll says.
    pub(crate) fn on_ready(&mut self, readable: bool, writable: bool, read_closed: bool) {
        self.can_read |= readable || read_closed;
        self.can_write |= writable;
        self.is_ending |= read_closed;
    }
}
