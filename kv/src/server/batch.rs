//! The commands of one connection that are carried out together, and what the answer to each is
//! made of.
//!
//! A connection has at most one request in flight. Whatever arrives meanwhile becomes the next one:
//! a pipeline of commands turns into one atomic [`Request`], which costs the log one entry instead
//! of many. So a connection's commands take effect in its order whatever happens (a request that
//! has to be tried again on another store can't be overtaken by the one after it), and a read
//! behind a write sees it.
//!
//! ```text
//! SET a 1   PING   MULTI  GET a  INCR n  EXEC          what arrives
//! ────┬───  ──┬─          ─────────┬─────────
//! Answer(Ok)  Ready     Transaction(2) Answer Answer   steps
//!   Put                      Get  Add                  operations
//! ```
//!
//! What is not put together: scans and writes (a scan would run on every replica), more large answers
//! than a response may hold, and more operations than a request may.

use bytes::Bytes;

use crate::answer::{Answer, Error};
use crate::command::{OPS_MAX, Op, OpError, OpResult, Request, Response, Session};
use crate::limits;
use crate::resp::{Output, Version};
use crate::server::answer::{self, Shape};
use crate::server::cursors::Cursors;

/// A request that got so large is sent; the next command starts another one.
const BYTES_MAX: usize = 1 << 20;

/// The same for the number of commands.
const STEPS_MAX: usize = 1024;

/// How many whole values a request may return beside writes. It can't be split afterwards, so they
/// must fit into a response whatever their size.
const VALUES_BESIDE_WRITES_MAX: usize =
    crate::command::RESPONSE_BYTES_MAX / limits::VALUE_BYTES_MAX - 1;

/// What a command does, as far as it matters for putting it together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Needs no store.
    Local,
    /// Reads a few keys.
    Read,
    /// Reads many keys.
    Scan,
    /// Changes something.
    Write,
    /// Is answered before the next command is looked at, and after all before it.
    Alone,
}

/// One part of what is written to the connection.
#[derive(Debug)]
enum Step {
    /// An answer that needs no result.
    Ready(Bytes),
    /// An answer made of results, by a command that writes or not.
    Answer { shape: Shape, ops: usize, is_write: bool },
    /// The whole answer, encoded: of a request that was.
    Encoded,
    /// The list of the answers of so many steps that follow: a transaction.
    Transaction { steps: usize },
}

/// Commands put together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    ops: Vec<Op>,
    /// Of the whole request, which is then one command.
    session: Option<Session>,
    steps: Vec<Step>,
    /// Of the operations, about.
    bytes: usize,
    has_writes: bool,
    has_scans: bool,
    /// How many whole values it returns.
    values: usize,
}

/// A place in a batch to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    ops: usize,
    steps: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many operations go into the log: all of them, if one writes.
    pub(crate) fn ops_to_log(&self) -> usize {
        if self.has_writes { self.ops.len() } else { 0 }
    }

    pub(crate) fn has_ops(&self) -> bool {
        !self.ops.is_empty() || self.session.is_some()
    }

    /// Whether a command of so many arguments, with so many bytes, must wait until this batch is
    /// answered.
    pub(crate) fn is_closed_to(&self, effect: Effect, args: usize, bytes: usize) -> bool {
        if self.is_empty() {
            return false;
        }
        let full = self.steps.len() >= STEPS_MAX
            || self.bytes + bytes > BYTES_MAX
            // No argument makes more than one operation.
            || self.ops.len() + args > OPS_MAX;
        full || match effect {
            Effect::Local => false,
            Effect::Read => self.has_writes && self.values >= VALUES_BESIDE_WRITES_MAX,
            Effect::Scan => self.has_writes,
            Effect::Write => self.has_scans || self.values >= VALUES_BESIDE_WRITES_MAX,
            Effect::Alone => true,
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { ops: self.ops.len(), steps: self.steps.len() }
    }

    /// Takes back what was added since `mark`.
    pub(crate) fn go_back(&mut self, mark: Mark) {
        self.ops.truncate(mark.ops);
        self.steps.truncate(mark.steps);
    }

    /// Adds an answer that needs no result.
    pub(crate) fn ready(&mut self, answer: Bytes) {
        self.steps.push(Step::Ready(answer));
    }

    /// Adds an answer made of the results of `ops`.
    pub(crate) fn answer(&mut self, shape: Shape, ops: impl IntoIterator<Item = Op>) {
        let before = self.ops.len();
        self.ops.extend(ops);
        let mut is_write = false;
        for op in &self.ops[before..] {
            is_write |= !op.is_read_only();
            self.has_scans |= matches!(op, Op::Scan { .. });
            let (bytes, is_value) = weight(op);
            self.bytes += bytes;
            self.values += usize::from(is_value);
        }
        self.has_writes |= is_write;
        let ops = self.ops.len() - before;
        self.steps.push(Step::Answer { shape, ops, is_write });
    }

    /// Makes the batch the command of a session. There must be nothing else in it.
    pub(crate) fn within(&mut self, session: Session) {
        self.session = Some(session);
        self.has_writes = true;
        if session == Session::Open {
            self.steps.push(Step::Answer { shape: Shape::Integer, ops: 1, is_write: true });
        }
    }

    /// Makes the batch a whole request, whose answer is encoded, too.
    pub(crate) fn call(&mut self, request: Request) {
        self.ops = request.ops;
        self.session = request.session;
        self.has_writes = true;
        self.steps.push(Step::Encoded);
    }

    /// Adds a transaction; returns what to give to [`Batch::end_transaction`] after its commands.
    pub(crate) fn begin_transaction(&mut self) -> usize {
        self.steps.push(Step::Transaction { steps: 0 });
        self.steps.len()
    }

    pub(crate) fn end_transaction(&mut self, begin: usize) {
        let count = self.steps.len() - begin;
        if let Some(Step::Transaction { steps }) = self.steps.get_mut(begin - 1) {
            *steps = count;
        }
    }

    /// What to ask the store. The batch keeps what it needs for the answer.
    pub(crate) fn request(&mut self) -> Request {
        let may_be_split = !self.has_writes && self.values > VALUES_BESIDE_WRITES_MAX;
        let ops = if may_be_split { self.ops.clone() } else { std::mem::take(&mut self.ops) };
        Request { ops, session: self.session.take() }
    }

    /// Writes the answers. Returns whether some are missing, because all reads together were too
    /// much for one response: then the batch is what is left, to be asked again.
    pub(crate) fn finish(&mut self, answer: Answer, to: &mut Answers<'_>) -> bool {
        let left = match answer {
            Ok(response) => self.write(response, to),
            Err(error) => {
                self.write_error(&error, to);
                None
            }
        };
        match left {
            Some((step, op)) => {
                self.steps.drain(..step);
                self.ops.drain(..op);
                true
            }
            None => {
                *self = Batch::default();
                false
            }
        }
    }

    /// Where to go on, as (step, operation), if the response was too small for all.
    fn write(&self, response: Response, to: &mut Answers<'_>) -> Option<(usize, usize)> {
        let mut results = response.results.into_iter();
        let mut within_transaction = 0;
        let mut done = 0;
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                Step::Ready(answer) => to.output.raw(answer),
                Step::Transaction { steps } => {
                    to.output.writer(to.version).list(*steps);
                    within_transaction = *steps + 1;
                }
                Step::Encoded => {
                    let response = Response { results: results.by_ref().collect() };
                    to.output.writer(to.version).string(&crate::answer::encode(&Ok(response)));
                }
                Step::Answer { shape, ops, .. } => {
                    let own = results.as_slice().get(..*ops).unwrap_or_default();
                    if done > 0 && within_transaction == 0 && self.can_be_split_at(done, own) {
                        return Some((i, done));
                    }
                    answer::write(shape, (&mut results).take(*ops), to);
                    done += ops;
                }
            }
            within_transaction = within_transaction.saturating_sub(1);
        }
        None
    }

    /// Whether the command of these results fails only because of those before it, and the
    /// operations are still there to ask again.
    fn can_be_split_at(&self, done: usize, results: &[OpResult]) -> bool {
        done < self.ops.len()
            && results.iter().any(|r| matches!(r, OpResult::Failed(OpError::ResponseTooLarge)))
    }

    fn write_error(&self, error: &Error, to: &mut Answers<'_>) {
        let mut steps = self.steps.iter();
        while let Some(step) = steps.next() {
            match step {
                Step::Ready(answer) => to.output.raw(answer),
                Step::Answer { is_write, .. } => to.error(error, *is_write),
                Step::Encoded => {
                    let answer = crate::answer::encode(&Err(error.clone()));
                    to.output.writer(to.version).string(&answer);
                }
                Step::Transaction { steps: count } => {
                    let within = steps.by_ref().take(*count);
                    let writes = |s: &Step| matches!(s, Step::Answer { is_write: true, .. });
                    let is_write = within.filter(|s| writes(s)).count() > 0;
                    to.error(error, is_write);
                }
            }
        }
    }
}

/// Bytes of an operation, about, and whether it returns a value.
fn weight(op: &Op) -> (usize, bool) {
    match op {
        Op::Get { key, .. } => (key.len(), true),
        Op::Exists { key, .. } | Op::Length { key, .. } | Op::Add { key, .. } => (key.len(), false),
        Op::Put { key, value, return_old, .. } => (key.len() + value.len(), *return_old),
        Op::Delete { key, return_old, .. } => (key.len(), *return_old),
        Op::Append { key, value, .. } => (key.len() + value.len(), false),
        Op::CompareAndSet { key, expected, new, .. } => {
            let len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
            (key.len() + len(expected) + len(new), true)
        }
        Op::Scan { start, end, .. } => (start.len() + end.len(), true),
        Op::Count { start, end, .. } => (start.len() + end.len(), false),
    }
}

/// What answers are written with.
#[derive(Debug)]
pub(crate) struct Answers<'a> {
    pub(crate) output: &'a mut Output,
    pub(crate) version: Version,
    pub(crate) cursors: &'a mut Cursors,
}

impl Answers<'_> {
    fn error(&mut self, error: &Error, is_write: bool) {
        self.output.writer(self.version).error(&answer::error_text(error, is_write));
    }
}
