//! Commands: what a client may ask of a region, and what it gets back.
//!
//! A [`Request`] is a list of [`Op`]s that is carried out as one: no other command comes in
//! between, every replica carries out all of it, and a reader sees all of it or nothing.
//!
//! **An operation can fail on its own** (adding to a value that is not a number). As in a Redis
//! `MULTI`, its result is then [`OpResult::Failed`], *it* changes nothing, and all others take
//! effect: there is no roll-back. A request that cannot be read at all, or that names a key outside
//! its region, takes no effect whatever.
//!
//! | limit | value | why |
//! |---|---|---|
//! | [`KEY_BYTES_MAX`] | 64 KiB | keys are compared at every step of a search |
//! | [`VALUE_BYTES_MAX`] | 4 MiB | a value is copied once on every replica, in the applier |
//! | [`REQUEST_BYTES_MAX`] | 8 MiB | one request is one log entry, one frame, one record |
//! | [`OPS_MAX`] | 131 072 | an operation takes more room in memory than on the wire |
//! | [`RESPONSE_BYTES_MAX`] | 16 MiB | a response fits one frame, and a read cannot use up the memory |
//!
//! ```
//! use kv::{Cf, Condition, Op, OpError, OpResult, Request, Response, Session};
//!
//! let claim = Op::Put {
//!     cf: Cf::Lock,
//!     key: "order 7".into(),
//!     value: "me".into(),
//!     condition: Condition::IfAbsent,
//!     return_old: true,
//! };
//! let request = Request::new(vec![claim, Op::add("claims", 1)]);
//! // Within a session it is done once, however often it is asked.
//! let request = request.within(Session::Command { id: 7, sequence: 1 });
//! assert!(!request.is_read_only());
//!
//! // What it might give: somebody else has the order, and the number of claims is none.
//! let taken = OpResult::Put { written: false, old: Some("you".into()) };
//! let response = Response { results: vec![taken, OpResult::Failed(OpError::NotAnInteger)] };
//! assert_eq!(Response::decode(&response.encode()), Ok(response));
//! ```
//!
//! The bytes are described in [`encoding`].

pub mod encoding;

use bytes::Bytes;

/// Most bytes of a key.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a value, also of one that has grown by [`Op::Append`].
pub const VALUE_BYTES_MAX: usize = 4 << 20;
/// Most bytes of an encoded request.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Most operations in a request.
pub const OPS_MAX: usize = 128 << 10;
/// Most bytes of keys and values that the reads of one request return. A [`Op::Scan`] stops there
/// and says so; a [`Op::Get`] beyond it fails with [`OpError::ResponseTooLarge`].
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// Column families: separate key spaces that change together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cf {
    /// Where everything is unless somebody says otherwise.
    #[default]
    Default,
    /// For the locks of transactions.
    Lock,
    /// For the commit records of transactions.
    Write,
    /// Not for clients: what their sessions have done ([`Session`]). A request that names it cannot be
    /// encoded.
    Session,
}

impl Cf {
    /// All of them, in the order of their numbers.
    pub const ALL: [Cf; 4] = [Cf::Default, Cf::Lock, Cf::Write, Cf::Session];

    /// Those that requests may name.
    pub const OF_CLIENTS: [Cf; 3] = [Cf::Default, Cf::Lock, Cf::Write];

    /// Its number on the wire and on disk, from 0.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// When a [`Op::Put`] writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Always.
    #[default]
    None,
    /// Only if there is no value yet (`SET NX`).
    IfAbsent,
    /// Only if there is one already (`SET XX`).
    IfPresent,
}

/// One operation on one key, or one range of keys, of one column family.
///
/// `B` is what holds keys and values: [`Bytes`] where requests are built, `&[u8]` where they are
/// carried out straight from a log entry.
///
/// In a range, `start` is included and `end` is not, and an empty bound stands for the region's
/// own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<B = Bytes> {
    /// The value of a key → [`OpResult::Value`].
    Get {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
    },
    /// Whether there is a value → [`OpResult::Exists`].
    Exists {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
    },
    /// How long the value is; 0 without one → [`OpResult::Length`].
    Length {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
    },
    /// Sets a value → [`OpResult::Put`].
    Put {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
        /// The new value.
        value: B,
        /// When to write at all.
        condition: Condition,
        /// Whether the old value is wanted.
        return_old: bool,
    },
    /// Removes a value → [`OpResult::Deleted`].
    Delete {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
        /// Whether the old value is wanted.
        return_old: bool,
    },
    /// Adds to a decimal number in text, as Redis's `INCRBY`; no value counts as 0 →
    /// [`OpResult::Integer`] with the sum.
    Add {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
        /// What to add.
        delta: i64,
    },
    /// Adds at the end of a value; no value counts as empty → [`OpResult::Length`] of the whole.
    Append {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
        /// What to add.
        value: B,
    },
    /// Sets or removes a value if it is the expected one → [`OpResult::Swapped`].
    CompareAndSet {
        /// Where.
        cf: Cf,
        /// Which key.
        key: B,
        /// What must be there; `None` for nothing.
        expected: Option<B>,
        /// What shall be there; `None` for nothing.
        new: Option<B>,
    },
    /// Keys and values in order → [`OpResult::Pairs`].
    Scan {
        /// Where.
        cf: Cf,
        /// The first key that may be returned.
        start: B,
        /// The first key beyond.
        end: B,
        /// Most pairs to return; fewer come if [`RESPONSE_BYTES_MAX`] is reached.
        limit: u32,
        /// From the end to the start.
        reverse: bool,
        /// Leave the values out: they come back empty.
        keys_only: bool,
    },
    /// How many keys there are → [`OpResult::Count`]. Costs a descent or two, not a walk.
    Count {
        /// Where.
        cf: Cf,
        /// The first key that counts.
        start: B,
        /// The first key beyond.
        end: B,
    },
}

impl Op {
    /// A [`Op::Get`] of the default column family.
    pub fn get(key: impl Into<Bytes>) -> Op {
        Op::Get { cf: Cf::Default, key: key.into() }
    }

    /// An unconditional [`Op::Put`] into the default column family.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
        let (key, value) = (key.into(), value.into());
        Op::Put { cf: Cf::Default, key, value, condition: Condition::None, return_old: false }
    }

    /// A [`Op::Delete`] in the default column family.
    pub fn delete(key: impl Into<Bytes>) -> Op {
        Op::Delete { cf: Cf::Default, key: key.into(), return_old: false }
    }

    /// A [`Op::Add`] in the default column family.
    pub fn add(key: impl Into<Bytes>, delta: i64) -> Op {
        Op::Add { cf: Cf::Default, key: key.into(), delta }
    }

    /// A [`Op::Exists`] in the default column family.
    pub fn exists(key: impl Into<Bytes>) -> Op {
        Op::Exists { cf: Cf::Default, key: key.into() }
    }

    /// A [`Op::CompareAndSet`] in the default column family.
    pub fn compare_and_set(
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Op {
        Op::CompareAndSet { cf: Cf::Default, key: key.into(), expected, new }
    }

    /// A forward [`Op::Scan`] of the default column family, with values.
    pub fn scan(start: impl Into<Bytes>, end: impl Into<Bytes>, limit: u32) -> Op {
        let (start, end) = (start.into(), end.into());
        Op::Scan { cf: Cf::Default, start, end, limit, reverse: false, keys_only: false }
    }

    /// A [`Op::Count`] of the whole default column family.
    #[must_use]
    pub fn count() -> Op {
        Op::Count { cf: Cf::Default, start: Bytes::new(), end: Bytes::new() }
    }
}

impl<B> Op<B> {
    /// Whether it can change nothing, whatever the state.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self {
            Op::Get { .. }
            | Op::Exists { .. }
            | Op::Length { .. }
            | Op::Scan { .. }
            | Op::Count { .. } => true,
            Op::Put { .. }
            | Op::Delete { .. }
            | Op::Add { .. }
            | Op::Append { .. }
            | Op::CompareAndSet { .. } => false,
        }
    }

    /// The column family it is about.
    #[must_use]
    pub fn cf(&self) -> Cf {
        match self {
            Op::Get { cf, .. }
            | Op::Exists { cf, .. }
            | Op::Length { cf, .. }
            | Op::Put { cf, .. }
            | Op::Delete { cf, .. }
            | Op::Add { cf, .. }
            | Op::Append { cf, .. }
            | Op::CompareAndSet { cf, .. }
            | Op::Scan { cf, .. }
            | Op::Count { cf, .. } => *cf,
        }
    }

    /// The one key it is about; none if it is about a range.
    #[must_use]
    pub fn key(&self) -> Option<&B> {
        match self {
            Op::Get { key, .. }
            | Op::Exists { key, .. }
            | Op::Length { key, .. }
            | Op::Put { key, .. }
            | Op::Delete { key, .. }
            | Op::Add { key, .. }
            | Op::Append { key, .. }
            | Op::CompareAndSet { key, .. } => Some(key),
            Op::Scan { .. } | Op::Count { .. } => None,
        }
    }
}

impl<B: AsRef<[u8]>> Op<B> {
    /// The same operation, looking at this one's keys and values.
    #[must_use]
    pub fn borrowed(&self) -> Op<&[u8]> {
        match self {
            Op::Get { cf, key } => Op::Get { cf: *cf, key: key.as_ref() },
            Op::Exists { cf, key } => Op::Exists { cf: *cf, key: key.as_ref() },
            Op::Length { cf, key } => Op::Length { cf: *cf, key: key.as_ref() },
            Op::Put { cf, key, value, condition, return_old } => Op::Put {
                cf: *cf,
                key: key.as_ref(),
                value: value.as_ref(),
                condition: *condition,
                return_old: *return_old,
            },
            Op::Delete { cf, key, return_old } => {
                Op::Delete { cf: *cf, key: key.as_ref(), return_old: *return_old }
            }
            Op::Add { cf, key, delta } => Op::Add { cf: *cf, key: key.as_ref(), delta: *delta },
            Op::Append { cf, key, value } => {
                Op::Append { cf: *cf, key: key.as_ref(), value: value.as_ref() }
            }
            Op::CompareAndSet { cf, key, expected, new } => Op::CompareAndSet {
                cf: *cf,
                key: key.as_ref(),
                expected: expected.as_ref().map(AsRef::as_ref),
                new: new.as_ref().map(AsRef::as_ref),
            },
            Op::Scan { cf, start, end, limit, reverse, keys_only } => Op::Scan {
                cf: *cf,
                start: start.as_ref(),
                end: end.as_ref(),
                limit: *limit,
                reverse: *reverse,
                keys_only: *keys_only,
            },
            Op::Count { cf, start, end } => {
                Op::Count { cf: *cf, start: start.as_ref(), end: end.as_ref() }
            }
        }
    }
}

/// Operations that are carried out as one, in order.
///
/// ```
/// use kv::{Op, Request};
/// let request = Request::new(vec![Op::put("name", "kim"), Op::add("visits", 1)]);
/// assert!(!request.is_read_only());
/// let bytes = request.encode().expect("within the limits");
/// assert_eq!(Request::decode(&bytes), Ok(request));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub ops: Vec<Op>,
    /// So that it is done once, however often it is proposed.
    pub session: Option<Session>,
}

/// What makes a request take effect exactly once (T§6.3): a client opens a session, numbers its
/// commands, and has one of them under way at a time. The state machine remembers the number of the
/// last one, and what it gave: a command that comes again is answered, not carried out again.
///
/// [`crate::client`] does all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// Opens a session. There are no operations; the result is one [`OpResult::Integer`], its id.
    Open,
    /// A command of a session.
    Command {
        /// The session.
        id: u64,
        /// Counts its commands, from 1. One with the number of the last is the same again, one with a
        /// lower number came too late, and is not carried out.
        sequence: u64,
    },
}

impl Request {
    /// A request for `ops`.
    #[must_use]
    pub fn new(ops: Vec<Op>) -> Request {
        Request { ops, session: None }
    }

    /// The same, as a command of a session.
    #[must_use]
    pub fn within(self, session: Session) -> Request {
        Request { session: Some(session), ..self }
    }

    /// Whether it can change nothing, so that it need not go through the log: a read index and
    /// a look at the state will do. (What is to be done once changes its session.)
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.session.is_none() && self.ops.iter().all(Op::is_read_only)
    }
}

impl From<Op> for Request {
    fn from(op: Op) -> Request {
        Request { ops: vec![op], session: None }
    }
}

/// What a [`Request`] gave: one result for each operation, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The results.
    pub results: Vec<OpResult>,
}

/// What one [`Op`] gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// Of [`Op::Get`]: the value, if there is one.
    Value(Option<Bytes>),
    /// Of [`Op::Exists`].
    Exists(bool),
    /// Of [`Op::Length`] and [`Op::Append`]: bytes of the value.
    Length(u64),
    /// Of [`Op::Put`].
    Put {
        /// Whether the condition held.
        written: bool,
        /// The value before, if it was asked for and there was one.
        old: Option<Bytes>,
    },
    /// Of [`Op::Delete`].
    Deleted {
        /// Whether there was a value.
        existed: bool,
        /// The value before, if it was asked for and there was one.
        old: Option<Bytes>,
    },
    /// Of [`Op::Add`]: the sum, now the value.
    Integer(i64),
    /// Of [`Op::CompareAndSet`].
    Swapped {
        /// Whether the value was the expected one.
        swapped: bool,
        /// The value that was there instead, if it was not.
        current: Option<Bytes>,
    },
    /// Of [`Op::Scan`].
    Pairs {
        /// Keys and values, in the order asked for.
        pairs: Vec<(Bytes, Bytes)>,
        /// Whether the range has more, beyond the limits.
        more: bool,
    },
    /// Of [`Op::Count`].
    Count(u64),
    /// The operation alone failed, and changed nothing.
    Failed(OpError),
}

/// Why one operation failed. The texts are those of Redis, which clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// [`Op::Add`] to something else than a 64-bit decimal number.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// [`Op::Add`] beyond 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// [`Op::Append`] beyond [`VALUE_BYTES_MAX`].
    #[error("string exceeds maximum allowed size")]
    ValueTooLarge,
    /// [`Op::Get`] beyond [`RESPONSE_BYTES_MAX`].
    #[error("the request asks for too much at once")]
    ResponseTooLarge,
}
