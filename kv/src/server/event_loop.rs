//! The thread that serves all clients of a store.
//!
//! A round: wait for events, take the answers that have come, go once over the connections with
//! something to do (read, carry out, write), hand all new requests to the store in one go. So the
//! busier it is, the more each system call, lock and wake-up carries.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use raftstore::Unknown;

use crate::answer::Error;
use crate::callback::Callback;
use crate::command::Request;
use crate::server::completions::{Completion, Completions};
use crate::server::connection::Connection;
use crate::server::session::Session;
use crate::server::world::World;

pub(crate) const LISTENER: Token = Token(usize::MAX);
pub(crate) const WAKER: Token = Token(usize::MAX - 1);

/// Room for input, shared by all connections.
const SCRATCH_BYTES: usize = 64 << 10;

/// How long nobody is accepted after the system refused to (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often idle connections are looked for.
const IDLE_SWEEP: Duration = Duration::from_secs(1);

/// A request whose answer must not take longer than until then.
struct Deadline {
    at: Instant,
    slot: usize,
    serial: u64,
}

pub(crate) struct EventLoop {
    poll: Poll,
    listener: TcpListener,
    world: World,
    completions: Arc<Completions>,
    stop: Arc<AtomicBool>,
    /// Slots of `world.connections` that are free.
    free: Vec<usize>,
    next_id: u64,
    /// Connections with something to do.
    runnable: Vec<usize>,
    submissions: Vec<(Request, Callback)>,
    /// In the order of time: each is as far ahead as the others.
    deadlines: VecDeque<Deadline>,
    /// The listener may have more, from then on.
    accept_at: Option<Instant>,
    sweep_at: Option<Instant>,
    scratch: Vec<u8>,
    args: Vec<Bytes>,
}

impl EventLoop {
    pub(crate) fn new(
        poll: Poll,
        listener: TcpListener,
        world: World,
        completions: Arc<Completions>,
        stop: Arc<AtomicBool>,
    ) -> EventLoop {
        let sweep_at = world.options.idle_timeout.map(|_| world.now + IDLE_SWEEP);
        EventLoop {
            poll,
            listener,
            world,
            completions,
            stop,
            free: Vec::new(),
            next_id: 1,
            runnable: Vec::new(),
            submissions: Vec::new(),
            deadlines: VecDeque::new(),
            accept_at: None,
            sweep_at,
            scratch: vec![0; SCRATCH_BYTES],
            args: Vec::new(),
        }
    }

    /// Serves until told to stop, then until what is in flight is answered, or the grace is over.
    ///
    /// # Errors
    /// If the system's poll fails, which leaves nothing to serve with.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut answers = Vec::new();
        let mut stop_by: Option<Instant> = None;
        loop {
            self.wait(&mut events, stop_by)?;
            self.world.now = Instant::now();
            self.world.counters.wakeups += 1;
            for event in &events {
                self.on_event(event);
            }
            self.completions.take(&mut answers);
            for answer in answers.drain(..) {
                self.on_answer(answer);
            }
            self.accept_again();
            self.run_connections();
            self.submit();
            self.expire();
            self.sweep_idle();
            if stop_by.is_none() && self.stop.load(Ordering::SeqCst) {
                stop_by = Some(self.world.now + self.world.options.stop_grace);
                self.begin_stop();
            }
            if let Some(by) = stop_by {
                if self.world.now >= by {
                    self.answer_all_unknown();
                    return Ok(());
                }
                if self.world.connected == 0 {
                    return Ok(());
                }
            }
        }
    }

    fn wait(&mut self, events: &mut Events, stop_by: Option<Instant>) -> io::Result<()> {
        let next = [self.deadlines.front().map(|d| d.at), self.accept_at, self.sweep_at, stop_by];
        let next = next.into_iter().flatten().min();
        // Asked after it is known that we sleep: whoever tells us to stop wakes us from then on.
        let has_news = || stop_by.is_none() && self.stop.load(Ordering::SeqCst);
        let busy = !self.runnable.is_empty() || !self.completions.fall_asleep() || has_news();
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            // Rounded up to what the system counts in: waking up early would mean spinning.
            next.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
        };
        let result = self.poll.poll(events, timeout);
        self.completions.wake_up();
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            other => other,
        }
    }

    fn on_event(&mut self, event: &Event) {
        match event.token() {
            LISTENER => self.accept(),
            WAKER => {}
            Token(slot) => {
                if let Some(Some(connection)) = self.world.connections.get_mut(slot) {
                    connection.on_ready(
                        event.is_readable() || event.is_error(),
                        event.is_writable(),
                        event.is_read_closed(),
                    );
                    self.list(slot);
                }
            }
        }
    }

    /// Puts a connection on the list of those to be looked at in this round.
    fn list(&mut self, slot: usize) {
        if let Some(Some(connection)) = self.world.connections.get_mut(slot)
            && !connection.is_listed
        {
            connection.is_listed = true;
            self.runnable.push(slot);
        }
    }

    fn accept_again(&mut self) {
        if self.accept_at.is_some_and(|at| at <= self.world.now) {
            self.accept_at = None;
            self.accept();
        }
    }

    /// Everybody who waits at the door.
    fn accept(&mut self) {
        if self.stop.load(Ordering::SeqCst) {
            return;
        }
        loop {
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    self.world.counters.accepted += 1;
                    if let Err(e) = self.welcome(socket, peer) {
                        log::debug!("client {peer}: {e}");
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) => {
                    if self.accept_at.is_none() {
                        log::warn!("can't accept connections for now: {e}");
                    }
                    self.accept_at = Some(self.world.now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut socket: TcpStream, peer: std::net::SocketAddr) -> io::Result<()> {
        if self.world.connected >= self.world.options.clients_max {
            self.world.counters.rejected += 1;
            // It is new, so there is room for a line.
            return socket.write_all(b"-ERR max number of clients reached\r\n");
        }
        socket.set_nodelay(true)?;
        let slot = self.free.last().copied().unwrap_or(self.world.connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(slot), interest)?;
        let session = Session::new(self.next_id, peer, self.world.now);
        let connection = Some(Box::new(Connection::new(socket, session)));
        match self.free.pop() {
            Some(slot) => self.world.connections[slot] = connection,
            None => self.world.connections.push(connection),
        }
        self.next_id += 1;
        self.world.connected += 1;
        self.list(slot);
        Ok(())
    }

    fn on_answer(&mut self, completion: Completion) {
        let Completion { slot, serial, answer } = completion;
        let Some(mut connection) = self.take_out(slot) else { return };
        // Answered already, when its time was up, or by another client's slot since.
        if connection.in_flight() == Some(serial) {
            let again = connection.complete(&mut self.world, answer);
            self.expect(slot, again);
        }
        self.world.connections[slot] = Some(connection);
        self.list(slot);
    }

    fn take_out(&mut self, slot: usize) -> Option<Box<Connection>> {
        self.world.connections.get_mut(slot)?.take()
    }

    /// Remembers to hand a request over, and until when it must be answered.
    fn expect(&mut self, slot: usize, request: Option<(u64, Request)>) {
        let Some((serial, request)) = request else { return };
        let completions = Arc::clone(&self.completions);
        let callback = Callback::new(move |answer| {
            completions.push(Completion { slot, serial, answer });
        });
        self.submissions.push((request, callback));
        let at = self.world.now + self.world.options.answer_timeout;
        self.deadlines.push_back(Deadline { at, slot, serial });
    }

    fn run_connections(&mut self) {
        let round = std::mem::take(&mut self.runnable);
        for &slot in &round {
            let Some(mut connection) = self.take_out(slot) else { continue };
            connection.is_listed = false;
            match self.run_connection(slot, &mut connection) {
                Ok(()) if !connection.is_finished() => {
                    let again = connection.is_runnable(&self.world);
                    self.world.connections[slot] = Some(connection);
                    if again {
                        self.list(slot);
                    }
                }
                Ok(()) => self.close(slot, connection),
                Err(e) => {
                    log::debug!("client {}: {e}", connection.session.peer);
                    self.close(slot, connection);
                }
            }
        }
        if self.runnable.is_empty() {
            // Keep the allocation.
            self.runnable = round;
            self.runnable.clear();
        }
    }

    fn run_connection(&mut self, slot: usize, connection: &mut Connection) -> io::Result<()> {
        let read = connection.read(&self.world, &mut self.scratch)?;
        if read > 0 {
            connection.session.active = self.world.now;
            self.world.counters.bytes_in += read as u64;
        }
        let request = connection.dispatch(&mut self.world, &mut self.args);
        self.expect(slot, request);
        connection.settle_input(&mut self.world, connection.input_len());
        self.world.counters.bytes_out += connection.flush()? as u64;
        Ok(())
    }

    fn close(&mut self, slot: usize, mut connection: Box<Connection>) {
        if let Err(e) = self.poll.registry().deregister(&mut connection.socket) {
            log::debug!("client {}: {e}", connection.session.peer);
        }
        connection.settle_input(&mut self.world, 0);
        self.world.connected -= 1;
        self.free.push(slot);
    }

    fn submit(&mut self) {
        if !self.submissions.is_empty() {
            self.world.backend.submit(&mut self.submissions);
            // Whatever a store might leave there would never be answered.
            self.submissions.clear();
        }
    }

    /// Answers for the store what it did not answer in time.
    fn expire(&mut self) {
        while self.deadlines.front().is_some_and(|d| self.is_over(d)) {
            let Some(Deadline { slot, serial, .. }) = self.deadlines.pop_front() else { return };
            let answer = Err(Error::Unknown(Unknown::Deadline));
            if self.waits(slot, serial) {
                self.on_answer(Completion { slot, serial, answer });
            }
        }
    }

    fn is_over(&self, deadline: &Deadline) -> bool {
        deadline.at <= self.world.now || !self.waits(deadline.slot, deadline.serial)
    }

    fn waits(&self, slot: usize, serial: u64) -> bool {
        let connection = self.world.connections.get(slot).and_then(Option::as_ref);
        connection.is_some_and(|c| c.in_flight() == Some(serial))
    }

    fn sweep_idle(&mut self) {
        let (Some(at), Some(idle)) = (self.sweep_at, self.world.options.idle_timeout) else {
            return;
        };
        if at > self.world.now {
            return;
        }
        self.sweep_at = Some(self.world.now + IDLE_SWEEP);
        let now = self.world.now;
        let is_idle = |c: &Connection| {
            c.in_flight().is_none() && now.saturating_duration_since(c.session.active) >= idle
        };
        for slot in 0..self.world.connections.len() {
            if self.world.connections[slot].as_deref().is_some_and(is_idle)
                && let Some(connection) = self.take_out(slot)
            {
                self.close(slot, connection);
            }
        }
    }

    /// Takes no more commands; whoever waits for nothing is let go.
    fn begin_stop(&mut self) {
        for slot in 0..self.world.connections.len() {
            if let Some(connection) = &mut self.world.connections[slot] {
                connection.session.closing = true;
                self.list(slot);
            }
        }
        if let Err(e) = self.poll.registry().deregister(&mut self.listener) {
            log::debug!("listener: {e}");
        }
    }

    /// The grace is over: says so to those who still wait, as far as their sockets take it.
    fn answer_all_unknown(&mut self) {
        for slot in 0..self.world.connections.len() {
            let Some(mut connection) = self.take_out(slot) else { continue };
            if connection.in_flight().is_some() {
                let answer = Err(Error::Unknown(Unknown::ShuttingDown));
                connection.complete(&mut self.world, answer);
            }
            if let Err(e) = connection.flush() {
                log::debug!("client {}: {e}", connection.session.peer);
            }
        }
    }
}
