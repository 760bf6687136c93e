//! The server: Redis clients on one side, a [`Backend`] on the other.
//!
//! One thread serves all connections of a store ([`Server::run`]); answers come back to it from
//! whichever thread has them. There is no thread a connection, no lock a command, and no system
//! call a command when many arrive.
//!
//! | file | what |
//! |---|---|
//! | `event_loop` | accept, poll, deadlines, stopping |
//! | `connection` | one client: bytes, commands, back-pressure |
//! | `batch` | commands put together into one request, and the answers in their order |
//! | `answer` | results as answers; the words for errors |
//! | `commands` | what each command asks |
//! | `backend` `completions` | the seam to the store, and the way back |
//!
//! ```
//! use std::io::{Read, Write};
//! use std::sync::Arc;
//! use kv::server::{Backend, Options, Server, Status, Stopper};
//! use kv::{Callback, Request};
//! use raftstore::Refusal;
//!
//! /// A store that is always too busy.
//! struct Busy;
//!
//! impl Backend for Busy {
//!     fn submit(&self, batch: &mut Vec<(Request, Callback)>) {
//!         batch.drain(..).for_each(|(_, callback)| callback.answer(Err(Refusal::Busy.into())));
//!     }
//!
//!     fn status(&self) -> Status {
//!         Status::starting(1)
//!     }
//! }
//!
//! let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! let server = Server::new(listener, Arc::new(Busy), Options::default())?;
//! let (address, stopper): (_, Stopper) = (server.address(), server.stopper());
//! let serving = std::thread::spawn(|| server.run());
//! let mut client = std::net::TcpStream::connect(address)?;
//! client.write_all(b"SET name kim\r\nQUIT\r\n")?;
//! let mut told = String::new();
//! client.read_to_string(&mut told)?;
//! assert!(told.starts_with("-BUSY ") && told.ends_with("+OK\r\n"), "{told}");
//! stopper.stop();
//! serving.join().expect("the server does not panic")?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What a client can rely on
//!
//! Commands of one connection take effect in the order they were sent. Every command is answered
//! within [`Options::answer_timeout`]. An error begins with one of these words, which do not change;
//! all but the last three mean that the command had no effect and never will:
//!
//! | prefix | meaning for the client |
//! |---|---|
//! | `ERR` | the command is wrong; the same again fails again |
//! | `TRYAGAIN` | certainly without effect, and not the client's fault: no leader, mostly |
//! | `BUSY` | certainly without effect: too much is waiting |
//! | `EXECABORT` | a transaction of which some command was refused; nothing was done |
//! | `NOPROTO` | no such protocol version |
//! | `UNKNOWN` | a write that may or may not have taken effect, or still may |
//! | `NOSESSION` | a command of a session that is no longer known, or has gone on: this try had no effect, an earlier one may have had |
//! | `APPLIED` | a command of a session that took effect before; its answer was too large to be kept |
//!
//! # Exactly once
//!
//! After `UNKNOWN`, a lost connection or a deadline a client does not know whether its command took
//! effect, and asking again may do it twice. `SESSION` gives a number, and `ONCE number sequence
//! command…` carries the command out unless one of the session with that sequence has been carried
//! out before, on whichever store and by whichever leader; then its answer comes again. Sequences grow
//! from 1; a client asks with the same one until it is told. `CALL` does the same for the Rust client
//! ([`crate::client`]), which encodes whole requests.

mod answer;
pub mod backend;
mod batch;
mod commands;
mod completions;
mod connection;
mod cursors;
mod event_loop;
mod glob;
mod options;
mod session;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::TcpListener;
use mio::{Interest, Poll, Waker};

pub use backend::{Backend, Status};
pub use options::Options;

use completions::Completions;
use event_loop::{EventLoop, LISTENER, WAKER};
use world::World;

/// A server that listens, but does not accept yet.
pub struct Server {
    event_loop: EventLoop,
    address: SocketAddr,
    stopper: Stopper,
}

/// Stops a server, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    completions: Arc<Completions>,
}

impl Server {
    /// A server for the clients that connect to `listener`, in front of `backend`.
    ///
    /// # Errors
    /// If the system gives no poll, or no more file descriptors.
    pub fn new(
        listener: std::net::TcpListener,
        backend: Arc<dyn Backend>,
        options: Options,
    ) -> io::Result<Server> {
        let poll = Poll::new()?;
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let address = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let completions = Arc::new(Completions::new(Waker::new(poll.registry(), WAKER)?));
        let stop = Arc::new(AtomicBool::new(false));
        let stopper = Stopper { stop: Arc::clone(&stop), completions: Arc::clone(&completions) };
        let world = World::new(backend, options, address);
        let event_loop = EventLoop::new(poll, listener, world, completions, stop);
        Ok(Server { event_loop, address, stopper })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// If the system's poll fails.
    pub fn run(self) -> io::Result<()> {
        self.event_loop.run()
    }
}

impl Stopper {
    /// Asks the server to stop: it takes no more commands, answers those it has within
    /// [`Options::stop_grace`], and [`Server::run`] returns.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.completions.rouse();
    }
}

#[cfg(test)]
mod tests;
