//! The bytes of requests, responses and errors.
//!
//! | request | | operation | |
//! |---|---|---|---|
//! | byte | version: 1, or 2 with a session | byte | what: the number in `tag` |
//! | | version 2: byte 0 to open one, or 1, then id and sequence as numbers | | |
//! | number | count of operations | byte | column family: 0 default, 1 lock, 2 write |
//! | … | the operations | … | its fields, in the order they are declared in |
//!
//! Numbers, strings and optional strings are as in `wire`; a flag is one byte, 0 or 1. There is
//! exactly one encoding of each request: what is read is what was written, byte for byte. A response
//! is the same with results for operations; an error is a version byte, a tag and its fields.
//!
//! A new operation gets a new tag, a new field a new version: an older store must not guess what a
//! newer one wrote into the log.

use bytes::Bytes;

use super::{
    Cf, Condition, KEY_BYTES_MAX, OPS_MAX, Op, OpError, OpResult, REQUEST_BYTES_MAX, Request,
    Response, Session, VALUE_BYTES_MAX,
};
pub use crate::wire::Malformed;
use crate::wire::{self, Reader};

/// Version of the encoding of requests without a session, of responses and of errors.
pub const VERSION: u8 = 1;

/// Version of the encoding of requests with a session.
pub const SESSION_VERSION: u8 = 2;

/// The numbers of the operations, and of the results in another list.
mod tag {
    pub(super) const GET: u8 = 1;
    pub(super) const EXISTS: u8 = 2;
    pub(super) const LENGTH: u8 = 3;
    pub(super) const PUT: u8 = 4;
    pub(super) const DELETE: u8 = 5;
    pub(super) const ADD: u8 = 6;
    pub(super) const APPEND: u8 = 7;
    pub(super) const COMPARE_AND_SET: u8 = 8;
    pub(super) const SCAN: u8 = 9;
    pub(super) const COUNT: u8 = 10;

    pub(super) const VALUE: u8 = 1;
    pub(super) const EXISTING: u8 = 2;
    pub(super) const LENGTH_IS: u8 = 3;
    pub(super) const WRITTEN: u8 = 4;
    pub(super) const DELETED: u8 = 5;
    pub(super) const INTEGER: u8 = 6;
    pub(super) const SWAPPED: u8 = 7;
    pub(super) const PAIRS: u8 = 8;
    pub(super) const COUNTED: u8 = 9;
    pub(super) const FAILED: u8 = 10;
}

/// Why a request cannot be encoded. Nothing was proposed.
///
/// ```
/// use kv::command::encoding::{LimitExceeded, Malformed};
/// use kv::{Op, Request};
///
/// let request = Request::from(Op::get(vec![b'k'; 65_537]));
/// assert_eq!(request.encode(), Err(LimitExceeded::Key(65_537)));
/// let garbage = Request::decode(&b"garbage".as_slice().into());
/// assert!(garbage.is_err_and(|Malformed { what }| !what.is_empty()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// A key, or a bound of a range.
    #[error("a key of {0} bytes is longer than {KEY_BYTES_MAX}")]
    Key(usize),
    /// A value.
    #[error("a value of {0} bytes is longer than {VALUE_BYTES_MAX}")]
    Value(usize),
    /// The count of operations.
    #[error("{0} operations are more than {OPS_MAX}")]
    Ops(usize),
    /// An operation on [`Cf::Session`].
    #[error("sessions are not for clients to read or write")]
    Family,
    /// The whole.
    #[error("a request of {0} bytes is larger than {REQUEST_BYTES_MAX}")]
    Request(usize),
}

impl Request {
    /// The bytes of the request.
    ///
    /// # Errors
    /// If it is beyond the limits.
    pub fn encode(&self) -> Result<Bytes, LimitExceeded> {
        if self.ops.len() > OPS_MAX {
            return Err(LimitExceeded::Ops(self.ops.len()));
        }
        let mut out = Vec::with_capacity(64 + self.payload_bytes());
        match self.session {
            None => out.push(VERSION),
            Some(Session::Open) => out.extend_from_slice(&[SESSION_VERSION, 0]),
            Some(Session::Command { id, sequence }) => {
                out.extend_from_slice(&[SESSION_VERSION, 1]);
                wire::put_number(&mut out, id);
                wire::put_number(&mut out, sequence);
            }
        }
        wire::put_number(&mut out, self.ops.len() as u64);
        for op in &self.ops {
            check(op)?;
            put_op(&mut out, op);
        }
        if out.len() > REQUEST_BYTES_MAX {
            return Err(LimitExceeded::Request(out.len()));
        }
        Ok(out.into())
    }

    /// The request with those bytes; keys and values are slices of them.
    ///
    /// # Errors
    /// If they are not a request, of this version, within the limits.
    pub fn decode(bytes: &Bytes) -> Result<Request, Malformed> {
        let ops = Ops::read(bytes)?;
        let mut request = Request { ops: Vec::with_capacity(ops.len()), session: ops.session };
        for op in ops {
            request.ops.push(owned(&op?, bytes));
        }
        Ok(request)
    }

    /// Bytes of the longest field of every operation, and room for the rest.
    fn payload_bytes(&self) -> usize {
        let bytes = |op: &Op| match op {
            Op::Put { key, value, .. } | Op::Append { key, value, .. } => key.len() + value.len(),
            Op::CompareAndSet { key, expected, new, .. } => {
                key.len()
                    + expected.as_ref().map_or(0, Bytes::len)
                    + new.as_ref().map_or(0, Bytes::len)
            }
            Op::Scan { start, end, .. } | Op::Count { start, end, .. } => start.len() + end.len(),
            Op::Get { key, .. }
            | Op::Exists { key, .. }
            | Op::Length { key, .. }
            | Op::Delete { key, .. }
            | Op::Add { key, .. } => key.len(),
        };
        self.ops.iter().map(|op| bytes(op) + 24).sum()
    }
}

fn check(op: &Op) -> Result<(), LimitExceeded> {
    if op.cf() == Cf::Session {
        return Err(LimitExceeded::Family);
    }
    let key = |key: &Bytes| match key.len() {
        ..=KEY_BYTES_MAX => Ok(()),
        len => Err(LimitExceeded::Key(len)),
    };
    let value = |value: &Bytes| match value.len() {
        ..=VALUE_BYTES_MAX => Ok(()),
        len => Err(LimitExceeded::Value(len)),
    };
    match op {
        Op::Get { key: k, .. }
        | Op::Exists { key: k, .. }
        | Op::Length { key: k, .. }
        | Op::Delete { key: k, .. }
        | Op::Add { key: k, .. } => key(k),
        Op::Put { key: k, value: v, .. } | Op::Append { key: k, value: v, .. } => {
            key(k).and_then(|()| value(v))
        }
        Op::CompareAndSet { key: k, expected, new, .. } => {
            key(k)?;
            expected.iter().chain(new).try_for_each(value)
        }
        Op::Scan { start, end, .. } | Op::Count { start, end, .. } => {
            key(start).and_then(|()| key(end))
        }
    }
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    let tag = match op {
        Op::Get { .. } => tag::GET,
        Op::Exists { .. } => tag::EXISTS,
        Op::Length { .. } => tag::LENGTH,
        Op::Put { .. } => tag::PUT,
        Op::Delete { .. } => tag::DELETE,
        Op::Add { .. } => tag::ADD,
        Op::Append { .. } => tag::APPEND,
        Op::CompareAndSet { .. } => tag::COMPARE_AND_SET,
        Op::Scan { .. } => tag::SCAN,
        Op::Count { .. } => tag::COUNT,
    };
    out.extend_from_slice(&[tag, op.cf().number()]);
    match op {
        Op::Get { key, .. } | Op::Exists { key, .. } | Op::Length { key, .. } => {
            wire::put_string(out, key);
        }
        Op::Put { key, value, condition, return_old, .. } => {
            wire::put_string(out, key);
            wire::put_string(out, value);
            out.extend_from_slice(&[*condition as u8, u8::from(*return_old)]);
        }
        Op::Delete { key, return_old, .. } => {
            wire::put_string(out, key);
            out.push(u8::from(*return_old));
        }
        Op::Add { key, delta, .. } => {
            wire::put_string(out, key);
            wire::put_signed(out, *delta);
        }
        Op::Append { key, value, .. } => {
            wire::put_string(out, key);
            wire::put_string(out, value);
        }
        Op::CompareAndSet { key, expected, new, .. } => {
            wire::put_string(out, key);
            wire::put_optional(out, expected.as_deref());
            wire::put_optional(out, new.as_deref());
        }
        Op::Scan { start, end, limit, reverse, keys_only, .. } => {
            wire::put_string(out, start);
            wire::put_string(out, end);
            wire::put_number(out, u64::from(*limit));
            out.extend_from_slice(&[u8::from(*reverse), u8::from(*keys_only)]);
        }
        Op::Count { start, end, .. } => {
            wire::put_string(out, start);
            wire::put_string(out, end);
        }
    }
}

/// The operations of an encoded request, read one by one without an allocation.
///
/// Whoever carries them out must know that all can be read before the first takes effect: walk a
/// clone to the end first. It costs a few nanoseconds an operation.
#[derive(Clone, Debug)]
pub(crate) struct Ops<'a> {
    reader: Reader<'a>,
    left: usize,
    /// Of the request.
    pub(crate) session: Option<Session>,
}

impl<'a> Ops<'a> {
    /// Reads the head of a request.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Ops<'a>, Malformed> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(Malformed { what: "request: too large" });
        }
        let mut reader = Reader::new(bytes);
        let session = match reader.byte("request: version")? {
            VERSION => None,
            SESSION_VERSION => Some(match reader.flag("request: session")? {
                false => Session::Open,
                true => {
                    let id = reader.number("request: session")?;
                    Session::Command { id, sequence: reader.number("request: sequence")? }
                }
            }),
            _ => return Err(Malformed { what: "request: version" }),
        };
        let left = reader.count(3, "request: count of operations")?;
        if left > OPS_MAX {
            return Err(Malformed { what: "request: count of operations" });
        }
        let ops = Ops { reader, left, session };
        if left == 0 {
            ops.reader.end("request: end")?;
        }
        Ok(ops)
    }

    /// How many are left.
    pub(crate) fn len(&self) -> usize {
        self.left
    }

    fn op(&mut self) -> Result<Op<&'a [u8]>, Malformed> {
        let op = read_op(&mut self.reader)?;
        if self.left == 0 {
            self.reader.end("request: end")?;
        }
        Ok(op)
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<&'a [u8]>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let op = self.op();
        if op.is_err() {
            self.left = 0;
        }
        Some(op)
    }
}

fn read_op<'a>(from: &mut Reader<'a>) -> Result<Op<&'a [u8]>, Malformed> {
    let tag = from.byte("operation")?;
    let cf = match from.byte("column family")? {
        0 => Cf::Default,
        1 => Cf::Lock,
        2 => Cf::Write,
        _ => return Err(Malformed { what: "column family" }),
    };
    let key = from.string(KEY_BYTES_MAX, "key")?;
    Ok(match tag {
        tag::GET => Op::Get { cf, key },
        tag::EXISTS => Op::Exists { cf, key },
        tag::LENGTH => Op::Length { cf, key },
        tag::PUT => Op::Put {
            cf,
            key,
            value: from.string(VALUE_BYTES_MAX, "value")?,
            condition: match from.byte("condition")? {
                0 => Condition::None,
                1 => Condition::IfAbsent,
                2 => Condition::IfPresent,
                _ => return Err(Malformed { what: "condition" }),
            },
            return_old: from.flag("return old")?,
        },
        tag::DELETE => Op::Delete { cf, key, return_old: from.flag("return old")? },
        tag::ADD => Op::Add { cf, key, delta: from.signed("delta")? },
        tag::APPEND => Op::Append { cf, key, value: from.string(VALUE_BYTES_MAX, "value")? },
        tag::COMPARE_AND_SET => Op::CompareAndSet {
            cf,
            key,
            expected: from.optional(VALUE_BYTES_MAX, "expected value")?,
            new: from.optional(VALUE_BYTES_MAX, "new value")?,
        },
        tag::SCAN => Op::Scan {
            cf,
            start: key,
            end: from.string(KEY_BYTES_MAX, "end key")?,
            limit: u32::try_from(from.number("limit")?).map_err(|_| Malformed { what: "limit" })?,
            reverse: from.flag("reverse")?,
            keys_only: from.flag("keys only")?,
        },
        tag::COUNT => Op::Count { cf, start: key, end: from.string(KEY_BYTES_MAX, "end key")? },
        _ => return Err(Malformed { what: "operation" }),
    })
}

/// The operation with slices of `whole`, which it looks into.
fn owned(op: &Op<&[u8]>, whole: &Bytes) -> Op {
    let own = |part: &[u8]| whole.slice_ref(part);
    match *op {
        Op::Get { cf, key } => Op::Get { cf, key: own(key) },
        Op::Exists { cf, key } => Op::Exists { cf, key: own(key) },
        Op::Length { cf, key } => Op::Length { cf, key: own(key) },
        Op::Put { cf, key, value, condition, return_old } => {
            Op::Put { cf, key: own(key), value: own(value), condition, return_old }
        }
        Op::Delete { cf, key, return_old } => Op::Delete { cf, key: own(key), return_old },
        Op::Add { cf, key, delta } => Op::Add { cf, key: own(key), delta },
        Op::Append { cf, key, value } => Op::Append { cf, key: own(key), value: own(value) },
        Op::CompareAndSet { cf, key, expected, new } => {
            Op::CompareAndSet { cf, key: own(key), expected: expected.map(own), new: new.map(own) }
        }
        Op::Scan { cf, start, end, limit, reverse, keys_only } => {
            Op::Scan { cf, start: own(start), end: own(end), limit, reverse, keys_only }
        }
        Op::Count { cf, start, end } => Op::Count { cf, start: own(start), end: own(end) },
    }
}

impl Response {
    /// The bytes of the response.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + 16 * self.results.len());
        out.push(VERSION);
        wire::put_number(&mut out, self.results.len() as u64);
        for result in &self.results {
            put_result(&mut out, result);
        }
        out.into()
    }

    /// The response with those bytes; keys and values are slices of them.
    ///
    /// # Errors
    /// If they are not a response of this version.
    pub fn decode(bytes: &Bytes) -> Result<Response, Malformed> {
        let mut from = Reader::new(bytes);
        if from.byte("response: version")? != VERSION {
            return Err(Malformed { what: "response: version" });
        }
        let count = from.count(2, "response: count of results")?;
        if count > OPS_MAX {
            return Err(Malformed { what: "response: count of results" });
        }
        let mut results = Vec::with_capacity(count);
        for _ in 0..count {
            results.push(read_result(&mut from, bytes)?);
        }
        from.end("response: end")?;
        Ok(Response { results })
    }
}

fn put_result(out: &mut Vec<u8>, result: &OpResult) {
    match result {
        OpResult::Value(value) => {
            out.push(tag::VALUE);
            wire::put_optional(out, value.as_deref());
        }
        OpResult::Exists(exists) => out.extend_from_slice(&[tag::EXISTING, u8::from(*exists)]),
        OpResult::Length(length) => {
            out.push(tag::LENGTH_IS);
            wire::put_number(out, *length);
        }
        OpResult::Put { written, old } => {
            out.extend_from_slice(&[tag::WRITTEN, u8::from(*written)]);
            wire::put_optional(out, old.as_deref());
        }
        OpResult::Deleted { existed, old } => {
            out.extend_from_slice(&[tag::DELETED, u8::from(*existed)]);
            wire::put_optional(out, old.as_deref());
        }
        OpResult::Integer(sum) => {
            out.push(tag::INTEGER);
            wire::put_signed(out, *sum);
        }
        OpResult::Swapped { swapped, current } => {
            out.extend_from_slice(&[tag::SWAPPED, u8::from(*swapped)]);
            wire::put_optional(out, current.as_deref());
        }
        OpResult::Pairs { pairs, more } => {
            out.extend_from_slice(&[tag::PAIRS, u8::from(*more)]);
            wire::put_number(out, pairs.len() as u64);
            for (key, value) in pairs {
                wire::put_string(out, key);
                wire::put_string(out, value);
            }
        }
        OpResult::Count(count) => {
            out.push(tag::COUNTED);
            wire::put_number(out, *count);
        }
        OpResult::Failed(error) => {
            let error = match error {
                OpError::NotAnInteger => 0,
                OpError::Overflow => 1,
                OpError::ValueTooLarge => 2,
                OpError::ResponseTooLarge => 3,
            };
            out.extend_from_slice(&[tag::FAILED, error]);
        }
    }
}

fn read_result(from: &mut Reader<'_>, whole: &Bytes) -> Result<OpResult, Malformed> {
    let own = |part: Option<&[u8]>| part.map(|part| whole.slice_ref(part));
    Ok(match from.byte("result")? {
        tag::VALUE => OpResult::Value(own(from.optional(usize::MAX, "value")?)),
        tag::EXISTING => OpResult::Exists(from.flag("exists")?),
        tag::LENGTH_IS => OpResult::Length(from.number("length")?),
        tag::WRITTEN => OpResult::Put {
            written: from.flag("written")?,
            old: own(from.optional(usize::MAX, "old value")?),
        },
        tag::DELETED => OpResult::Deleted {
            existed: from.flag("existed")?,
            old: own(from.optional(usize::MAX, "old value")?),
        },
        tag::INTEGER => OpResult::Integer(from.signed("integer")?),
        tag::SWAPPED => OpResult::Swapped {
            swapped: from.flag("swapped")?,
            current: own(from.optional(usize::MAX, "current value")?),
        },
        tag::PAIRS => {
            let more = from.flag("more")?;
            let count = from.count(2, "count of pairs")?;
            let mut pairs = Vec::with_capacity(count);
            for _ in 0..count {
                let key = whole.slice_ref(from.string(usize::MAX, "key")?);
                pairs.push((key, whole.slice_ref(from.string(usize::MAX, "value")?)));
            }
            OpResult::Pairs { pairs, more }
        }
        tag::COUNTED => OpResult::Count(from.number("count")?),
        tag::FAILED => OpResult::Failed(match from.byte("failure")? {
            0 => OpError::NotAnInteger,
            1 => OpError::Overflow,
            2 => OpError::ValueTooLarge,
            3 => OpError::ResponseTooLarge,
            _ => return Err(Malformed { what: "failure" }),
        }),
        _ => return Err(Malformed { what: "result" }),
    })
}

#[cfg(test)]
mod tests;
