//! The commands: which there are, and how one is carried out.

mod connection;
mod introspection;
mod keys;
mod sessions;
mod strings;
mod table;
mod transactions;

use std::borrow::Cow;

use bytes::Bytes;

use crate::command::Op;
use crate::limits;
use crate::resp::encode::Writer;
use crate::resp::{Output, Version};
use crate::server::answer::Shape;
use crate::server::batch::{Batch, Effect};
use crate::server::session::{Session, Transaction};
use crate::server::world::World;

pub(crate) use table::COMMANDS;

/// Carries out one command: adds to the batch, or answers.
type Handler = fn(&mut Context<'_>, &[Bytes]) -> Result<(), Failure>;

/// What is known about a command.
#[derive(Debug)]
pub(crate) struct Spec {
    /// In lower case.
    pub(crate) name: &'static str,
    /// The number of arguments with the name; negative: at least so many.
    pub(crate) arity: i64,
    pub(crate) effect: Effect,
    pub(crate) in_transaction: InTransaction,
    /// Which arguments are keys: the first, the last (negative: from the end), the step.
    pub(crate) keys: (i64, i64, i64),
    pub(crate) group: &'static str,
    pub(crate) summary: &'static str,
    run: Handler,
}

/// What becomes of a command after `MULTI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InTransaction {
    /// It waits for `EXEC`.
    Queued,
    /// It is carried out at once.
    Run,
    /// It is refused.
    Refused,
}

impl Spec {
    fn takes(&self, args: usize) -> bool {
        let args = i64::try_from(args).unwrap_or(i64::MAX);
        if self.arity < 0 { args >= -self.arity } else { args == self.arity }
    }
}

/// The command of that name, in any case. The table has those first that come most often.
pub(crate) fn find(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Why a command was not carried out: the whole error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) Cow<'static, str>);

impl Failure {
    pub(crate) const SYNTAX: Failure = Failure(Cow::Borrowed("ERR syntax error"));
    pub(crate) const NOT_AN_INTEGER: Failure =
        Failure(Cow::Borrowed("ERR value is not an integer or out of range"));

    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Failure {
        Failure(text.into())
    }

    fn arity(name: &str) -> Failure {
        Failure(format!("ERR wrong number of arguments for '{name}' command").into())
    }

    /// In the words of Redis, which clients compare with.
    fn unknown_command(args: &[Bytes]) -> Failure {
        let name = args.first().map_or(&b""[..], |n| &n[..n.len().min(128)]);
        let mut begin = String::new();
        for arg in args.iter().skip(1) {
            if begin.len() >= 128 {
                break;
            }
            let room = 128 - begin.len();
            begin.push_str(&format!("'{}' ", String::from_utf8_lossy(&arg[..arg.len().min(room)])));
        }
        let name = String::from_utf8_lossy(name);
        Failure(format!("ERR unknown command '{name}', with args beginning with: {begin}").into())
    }

    fn unknown_subcommand(command: &str, args: &[Bytes]) -> Failure {
        let name = args.get(1).map(|n| String::from_utf8_lossy(&n[..n.len().min(128)]));
        let name = name.unwrap_or_default();
        let command = command.to_ascii_uppercase();
        Failure(format!("ERR unknown subcommand '{name}'. Try {command} HELP.").into())
    }
}

/// What a command works with.
pub(crate) struct Context<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) world: &'a mut World,
    pub(crate) batch: &'a mut Batch,
    pub(crate) output: &'a mut Output,
}

impl Context<'_> {
    /// Carries out or queues a command, and answers if it can't.
    pub(crate) fn run(&mut self, spec: Option<&'static Spec>, args: &mut Vec<Bytes>) {
        self.world.counters.commands += 1;
        let mark = self.batch.mark();
        let result: Result<(), Failure> = match spec {
            None => Err(Failure::unknown_command(args)),
            Some(spec) if !spec.takes(args.len()) => Err(Failure::arity(spec.name)),
            Some(spec) => {
                self.session.last_command = spec.name;
                match (&mut self.session.transaction, spec.in_transaction) {
                    (Some(transaction), InTransaction::Queued) => {
                        match queue(transaction, spec, args) {
                            Ok(()) => return self.answer(|w| w.raw(b"+QUEUED\r\n")),
                            Err(failure) => Err(failure),
                        }
                    }
                    (Some(_), InTransaction::Refused) => {
                        Err(Failure::new("ERR Command not allowed inside a transaction"))
                    }
                    _ => return self.carry_out(spec, args),
                }
            }
        };
        if let Err(failure) = result {
            self.batch.go_back(mark);
            self.fail(&failure);
        }
    }

    /// Answers with an error, also to a transaction that is being put together.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.session.break_transaction();
        self.answer(|w| w.error(&failure.0));
    }

    /// Carries out a command whose arity is right.
    fn carry_out(&mut self, spec: &Spec, args: &[Bytes]) {
        let mark = self.batch.mark();
        if let Err(failure) = (spec.run)(self, args) {
            self.batch.go_back(mark);
            self.answer(|w| w.error(&failure.0));
        }
    }

    /// Answers without the store: at once, or behind the commands of the batch.
    pub(crate) fn answer(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        if self.batch.is_empty() {
            write(&mut self.output.writer(self.session.version));
        } else {
            self.batch.ready(encoded(self.session.version, write));
        }
    }

    pub(crate) fn ok(&mut self) {
        self.answer(|w| w.raw(b"+OK\r\n"));
    }

    /// Answers with the result of one operation.
    fn ask(&mut self, shape: Shape, op: Op) {
        self.batch.answer(shape, [op]);
    }
}

fn encoded(version: Version, write: impl FnOnce(&mut Writer<'_>)) -> Bytes {
    let mut output = Output::default();
    write(&mut output.writer(version));
    output.into_bytes()
}

fn queue(
    transaction: &mut Transaction,
    spec: &'static Spec,
    args: &mut Vec<Bytes>,
) -> Result<(), Failure> {
    transaction.bytes += args.iter().map(|arg| arg.len() + 16).sum::<usize>();
    if transaction.bytes > limits::REQUEST_BYTES_MAX {
        let max = limits::REQUEST_BYTES_MAX;
        return Err(Failure::new(format!("ERR transaction is larger than {max} bytes")));
    }
    transaction.queued.push((spec, std::mem::take(args)));
    Ok(())
}

/// A key within the limit.
fn key(arg: &Bytes) -> Result<Bytes, Failure> {
    if arg.len() > limits::KEY_BYTES_MAX {
        let (len, max) = (arg.len(), limits::KEY_BYTES_MAX);
        return Err(Failure::new(format!("ERR key has {len} bytes, the limit is {max}")));
    }
    Ok(arg.clone())
}

/// A number as Redis takes it: no plus, no spaces, no leading zeros.
fn integer(arg: &[u8]) -> Result<i64, Failure> {
    let parse = || {
        let text = std::str::from_utf8(arg).ok()?;
        let value: i64 = text.parse().ok()?;
        (value.to_string() == text).then_some(value)
    };
    parse().ok_or(Failure::NOT_AN_INTEGER)
}

/// Whether `arg` is the word `word`, in any case.
fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
