//! The world of an interaction script: servers, and the messages between them.
//!
//! ```text
//!            process-ready                    deliver-msgs
//!   server ───────────────► messages in flight ───────────► server
//!      │                          ▲
//!      └► append and apply work ──┘ responses   (asynchronous storage)
//!          process-append-thread, process-apply-thread
//! ```
//!
//! A server hands out messages in a `Ready` only, so delivering never adds to what is in flight.
//! In asynchronous mode what a finished write allows is in flight too, and reaches the server as a
//! message; that is how a script reorders it with everything else.

use raft::{Config, Message, NodeId};

use super::describe::{Kind, Note, Target};
use super::node::{Cargo, Node, Template};
use super::output::Output;
use super::safety::Safety;
use super::suite::Fatal;
use super::{ElectionTimeout, Options};

/// Why a command stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// An error of the core or of the command itself, which is part of the output.
    Error(String),
    /// The script makes no sense, or safety is broken.
    Fatal(Fatal),
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Stop {
        Stop::Fatal(fatal)
    }
}

/// A message in flight.
pub(super) struct Flight {
    /// As it is shown.
    pub(super) note: Note,
    /// What the receiver gets.
    pub(super) cargo: Cargo,
}

impl Flight {
    /// A message between servers.
    pub(super) fn of(message: Message) -> Flight {
        Flight { note: Note::of(&message), cargo: Cargo::Message(message) }
    }

    /// Whether it never leaves its server's machine: then no network can lose, delay or double it.
    fn is_local(&self) -> bool {
        self.note.from == self.note.to || !matches!(self.note.from, Target::Node(_))
    }

    /// The same once more, if it is between servers.
    fn copy(&self) -> Option<Flight> {
        match &self.cargo {
            Cargo::Message(message) if !self.is_local() => Some(Flight::of(message.clone())),
            _ => None,
        }
    }
}

/// Which of the messages in flight to a server are meant; all of them, by default.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only those of this kind.
    pub(super) kind: Option<Kind>,
    /// Only those from these servers.
    pub(super) from: Option<Vec<NodeId>>,
}

impl Filter {
    fn lets_through(&self, flight: &Flight) -> bool {
        let is_from =
            |ids: &Vec<NodeId>| ids.iter().any(|id| flight.note.from == Target::Node(*id));
        self.kind.is_none_or(|kind| flight.note.kind == kind)
            && self.from.as_ref().is_none_or(is_from)
    }
}

/// Whose messages are taken out, and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recipient {
    pub(super) id: NodeId,
    pub(super) dropped: bool,
}

/// The phases of a round of `stabilize`.
#[derive(Clone, Copy)]
enum Phase {
    Ready,
    Messages,
    AppendThread,
    ApplyThread,
}

/// More servers than that are a typing error, and would take all memory.
const NODES_MAX: usize = 1000;

/// More rounds than that are a livelock.
const ROUNDS_MAX: usize = 10_000;

/// Servers, messages, and what the running command has printed.
pub(super) struct Env {
    /// Node n is at n - 1.
    nodes: Vec<Node>,
    flights: Vec<Flight>,
    /// Messages that the network keeps back, until they are released.
    held: Vec<Flight>,
    pub(super) out: Output,
    safety: Safety,
    election_timeout: ElectionTimeout,
}

impl Env {
    /// A world without servers. Boxed, since it is by far the largest of the suites.
    pub(super) fn boxed(options: &Options) -> Box<Env> {
        Box::new(Env {
            nodes: Vec::new(),
            flights: Vec::new(),
            held: Vec::new(),
            out: Output::default(),
            safety: Safety::default(),
            election_timeout: options.election_timeout,
        })
    }

    /// Adds `count` servers made after `template`.
    pub(super) fn add_nodes(&mut self, count: usize, template: &Template) -> Result<(), Stop> {
        if count > NODES_MAX - self.nodes.len().min(NODES_MAX) {
            return Err(Fatal::new(format!("at most {NODES_MAX} nodes")).into());
        }
        for _ in 0..count {
            let number = self.nodes.len() as u64 + 1;
            let id = NodeId::new(number).ok_or_else(|| Fatal::new("there is no node 0"))?;
            let mut config = Config { id, seed: number, ..template.config.clone() };
            config.election_ticks_range = self.election_timeout.range(config.election_ticks);
            self.nodes.push(Node::new(config, template)?);
            self.observe(id)?;
        }
        Ok(())
    }

    /// Stops a server and starts it again with what it stored and applied. What its storage
    /// threads had to say is lost, too.
    pub(super) fn restart(&mut self, id: NodeId) -> Result<(), Stop> {
        self.node_mut(id)?.restart()?;
        let own = Target::Node(id);
        self.flights.retain(|flight| !(flight.note.to == own && flight.is_local()));
        self.safety.restarted(id);
        Ok(self.observe(id)?)
    }

    /// All servers' numbers.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(Node::id).collect()
    }

    /// The server of that number.
    pub(super) fn node(&self, id: NodeId) -> Result<&Node, Fatal> {
        position(id).and_then(|at| self.nodes.get(at)).ok_or_else(|| no_node(id))
    }

    /// The server of that number, to give it something.
    pub(super) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Fatal> {
        position(id).and_then(|at| self.nodes.get_mut(at)).ok_or_else(|| no_node(id))
    }

    /// Puts a message on its way.
    pub(super) fn send(&mut self, message: Message) {
        self.flights.push(Flight::of(message));
    }

    /// Checks a server against all that was seen so far.
    pub(super) fn observe(&mut self, id: NodeId) -> Result<(), Fatal> {
        let node = position(id).and_then(|at| self.nodes.get(at)).ok_or_else(|| no_node(id))?;
        node.observe(&mut self.safety)
    }

    /// Takes one `Ready` of the server, and does with it what its storage mode asks for.
    pub(super) fn process_ready(&mut self, id: NodeId) -> Result<(), Stop> {
        let at = position(id).filter(|at| *at < self.nodes.len()).ok_or_else(|| no_node(id))?;
        let node = &mut self.nodes[at];
        node.process_ready(&mut self.out, &mut self.flights, &mut self.safety)?;
        Ok(self.observe(id)?)
    }

    /// Lets the server's append thread do one piece of work.
    pub(super) fn process_append_thread(&mut self, id: NodeId) -> Result<(), Stop> {
        let at = position(id).filter(|at| *at < self.nodes.len()).ok_or_else(|| no_node(id))?;
        self.nodes[at].process_append(&mut self.out, &mut self.flights)?;
        Ok(self.observe(id)?)
    }

    /// Lets the server's apply thread do one piece of work.
    pub(super) fn process_apply_thread(&mut self, id: NodeId) -> Result<(), Stop> {
        let at = position(id).filter(|at| *at < self.nodes.len()).ok_or_else(|| no_node(id))?;
        self.nodes[at].process_apply(&mut self.out, &mut self.flights)?;
        Ok(self.observe(id)?)
    }

    /// Delivers or drops what is in flight to the recipients, as far as the filter goes; says how
    /// many messages that were.
    pub(super) fn deliver(
        &mut self,
        filter: &Filter,
        recipients: &[Recipient],
    ) -> Result<usize, Fatal> {
        let mut count = 0;
        for recipient in recipients {
            let to = Target::Node(recipient.id);
            let taken = self.take_out(|flight| {
                flight.note.to == to
                    && filter.lets_through(flight)
                    && !(recipient.dropped && flight.is_local())
            });
            count += taken.len();
            for flight in taken {
                let mark = if recipient.dropped { "dropped: " } else { "" };
                self.out.line(&format!("{mark}{}", flight.note.describe("")));
                if recipient.dropped {
                    continue;
                }
                let refused = self.node_mut(recipient.id)?.receive(flight.cargo);
                if let Err(error) = refused {
                    self.out.line(&error);
                }
                self.observe(recipient.id)?;
            }
        }
        Ok(count)
    }

    /// Takes messages out of those in flight; both keep their order.
    fn take_out(&mut self, is_taken: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let (taken, left) = std::mem::take(&mut self.flights).into_iter().partition(is_taken);
        self.flights = left;
        taken
    }

    /// Keeps back what is in flight to these servers, as far as the filter goes; says how many
    /// messages that were.
    pub(super) fn hold(&mut self, filter: &Filter, ids: &[NodeId]) -> usize {
        let taken = self.take_out(|flight| is_between(flight, ids) && filter.lets_through(flight));
        taken
            .iter()
            .for_each(|flight| self.out.line(&format!("held: {}", flight.note.describe(""))));
        let count = taken.len();
        self.held.extend(taken);
        count
    }

    /// Keeps back a copy of what is in flight to these servers, as far as the filter goes; says
    /// how many messages that were.
    pub(super) fn copy(&mut self, filter: &Filter, ids: &[NodeId]) -> usize {
        let meant = |flight: &&Flight| is_between(flight, ids) && filter.lets_through(flight);
        let copies: Vec<Flight> =
            self.flights.iter().filter(meant).filter_map(Flight::copy).collect();
        copies
            .iter()
            .for_each(|copy| self.out.line(&format!("copied: {}", copy.note.describe(""))));
        let count = copies.len();
        self.held.extend(copies);
        count
    }

    /// Puts all that was kept back in flight, behind everything else.
    pub(super) fn release(&mut self) {
        self.flights.append(&mut self.held);
    }

    /// Runs rounds over the servers until one of them does nothing.
    pub(super) fn stabilize(&mut self, ids: &[NodeId]) -> Result<(), Stop> {
        for id in ids {
            self.node(*id)?;
        }
        for _ in 0..ROUNDS_MAX {
            let mut idle = true;
            for phase in [Phase::Ready, Phase::Messages, Phase::AppendThread, Phase::ApplyThread] {
                for id in ids {
                    idle &= !self.run_phase(phase, *id)?;
                }
            }
            if idle {
                return Ok(());
            }
        }
        Err(Fatal::new(format!("no rest after {ROUNDS_MAX} rounds")).into())
    }

    /// Does one server's part of a phase; says whether there was anything to do.
    fn run_phase(&mut self, phase: Phase, id: NodeId) -> Result<bool, Stop> {
        let node = self.node(id)?;
        let (todo, what) = match phase {
            Phase::Ready => (usize::from(node.has_ready()), "handling Ready"),
            Phase::Messages => {
                let to = Target::Node(id);
                let any = self.flights.iter().any(|flight| flight.note.to == to);
                (usize::from(any), "receiving messages")
            }
            Phase::AppendThread => (node.append_work(), "processing append thread"),
            Phase::ApplyThread => (node.apply_work(), "processing apply thread"),
        };
        if todo == 0 {
            return Ok(false);
        }
        self.out.line(&format!("> {id} {what}"));
        for _ in 0..todo {
            self.indented(|env| match phase {
                Phase::Ready => env.process_ready(id),
                Phase::Messages => {
                    env.deliver(&Filter::default(), &[Recipient { id, dropped: false }])?;
                    Ok(())
                }
                Phase::AppendThread => env.process_append_thread(id),
                Phase::ApplyThread => env.process_apply_thread(id),
            })?;
        }
        Ok(true)
    }

    /// Runs a part of a command with all it prints indented.
    pub(super) fn indented<T>(&mut self, run: impl FnOnce(&mut Env) -> T) -> T {
        let before = self.out.take();
        let result = run(self);
        self.out.indent_after(before);
        result
    }
}

/// Whether it is on its way from another server to one of these.
fn is_between(flight: &Flight, ids: &[NodeId]) -> bool {
    !flight.is_local() && ids.iter().any(|id| flight.note.to == Target::Node(*id))
}

fn position(id: NodeId) -> Option<usize> {
    usize::try_from(id.get() - 1).ok()
}

fn no_node(id: NodeId) -> Fatal {
    Fatal::new(format!("there is no node {id}"))
}
