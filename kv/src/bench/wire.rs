//! Requests over connections, one for each client, all of them in the driver's thread.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::BenchError;
use super::client::{Client, Job, Kind, Outcome};
use super::driver::{Answered, Port};
use super::reply::{self, Reply};

const READ_BYTES: usize = 64 << 10;

/// The connections of all clients.
pub(super) struct Wire {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Those with something to send.
    dirty: Vec<usize>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// What was sent and not answered; answers come in this order.
    sent: VecDeque<Job>,
}

impl Wire {
    /// Connects so many clients, in turn to all addresses.
    pub(super) fn connect(addresses: &[SocketAddr], clients: usize) -> Result<Wire, BenchError> {
        let poll = Poll::new().map_err(BenchError::System)?;
        let mut connections = Vec::with_capacity(clients);
        for (token, &address) in (0..clients).zip(addresses.iter().cycle()) {
            let refused = |source| BenchError::Connection { address, source };
            // Waits until it is there: whether it works is known before anything is measured.
            let stream = std::net::TcpStream::connect(address).map_err(refused)?;
            stream.set_nodelay(true).map_err(refused)?;
            stream.set_nonblocking(true).map_err(refused)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(token), interest).map_err(refused)?;
            connections.push(Connection {
                stream,
                address,
                output: Vec::new(),
                written: 0,
                input: Vec::new(),
                sent: VecDeque::new(),
            });
        }
        let events = Events::with_capacity(1024);
        Ok(Wire { poll, events, connections, dirty: Vec::new(), buffer: vec![0; READ_BYTES] })
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        while let Some(who) = self.dirty.pop() {
            self.connections[who].flush()?;
        }
        Ok(())
    }
}

impl Port for Wire {
    fn send(&mut self, who: usize, client: &Client, job: Job) -> Result<(), BenchError> {
        let connection = &mut self.connections[who];
        if connection.output.is_empty() {
            self.dirty.push(who);
        }
        let (key, out) = (client.key(job.slot), &mut connection.output);
        match job.kind {
            Kind::Put => reply::command(&[b"SET", &key, &client.value(job.number)], out),
            Kind::Get => reply::command(&[b"GET", &key], out),
        }
        connection.sent.push_back(job);
        Ok(())
    }

    fn receive(&mut self, until: Instant, answers: &mut Vec<Answered>) -> Result<(), BenchError> {
        self.flush()?;
        let left = until.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(BenchError::System(error));
            }
            _ => {}
        }
        for event in &self.events {
            let who = event.token().0;
            let connection = &mut self.connections[who];
            if event.is_writable() {
                connection.flush()?;
            }
            if event.is_readable() || event.is_read_closed() {
                connection.read(&mut self.buffer)?;
                connection.answers(|job, outcome| answers.push(Answered { who, job, outcome }))?;
            }
        }
        Ok(())
    }
}

impl Connection {
    fn failed(&self, source: std::io::Error) -> BenchError {
        BenchError::Connection { address: self.address, source }
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                // Goes on when there is room again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), BenchError> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(self.failed(ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Takes all whole answers from the input.
    fn answers(&mut self, mut on: impl FnMut(Job, Outcome)) -> Result<(), BenchError> {
        let mut at = 0;
        while let Some((reply, len)) =
            reply::read(&self.input[at..]).map_err(BenchError::Protocol)?
        {
            let rest = &self.input[at..];
            let outcome = match reply {
                Reply::Fine => Outcome::Done,
                Reply::Value(None) => Outcome::Found(None),
                Reply::Value(Some(value)) => {
                    Outcome::Found(Some(Bytes::copy_from_slice(&rest[value])))
                }
                Reply::Error(text) => {
                    Outcome::Failed(String::from_utf8_lossy(&rest[text]).into_owned())
                }
                Reply::List(_) => return Err(BenchError::Protocol("an unexpected list".into())),
            };
            let Some(job) = self.sent.pop_front() else {
                return Err(BenchError::Protocol("an answer that nobody asked for".into()));
            };
            on(job, outcome);
            at += len;
        }
        self.input.drain(..at);
        Ok(())
    }
}
