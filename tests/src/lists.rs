//! Are clients told the truth? Linearizability of lists that are only appended to.
//!
//! Clients append unique tokens to shared keys and read them back. The list at the end is then a
//! witness: it says in which order all appends took effect, and every read names, by its length,
//! the moment in that order when it happened. So what is expensive to decide for registers is easy
//! for lists: every operation has a *position*, and the history is linearizable if and only if
//!
//! - what is in the list was appended, once, to this key (no phantom, nothing applied twice);
//! - every acknowledged append is in it (nothing lost), and none that was certainly refused;
//! - every read is a beginning of it (no forked history), every acknowledged append was told its
//!   true position;
//! - positions agree with real time: with `floor` the highest position of any operation that had
//!   returned when this one was invoked, a read is at `floor` or later, an append later than it.
//!
//! The last rule is about pairs only, which is enough: a preorder by position that contradicts no
//! pair ordered in time extends that order. Appends with unknown outcome may be absent, or present
//! anywhere after their floor; they raise no floor themselves.
//!
//! ```
//! use harness::lists::{Appended, Lists, OpId, Tally, Violation};
//!
//! let mut lists = Lists::new();
//! let (append, token): (OpId, _) = lists.append(&"k".into());
//! lists.appended(append, Appended::Length(token.len() as u64));
//! let read = lists.read(&"k".into());
//! lists.was_read(read, Some(token.clone()));
//! assert_eq!(lists.tally(), Tally { appends: 1, reads: 1, ..Tally::default() });
//! assert_eq!(lists.check(&[("k".into(), token)].into()), Ok(()));
//!
//! // Had it been lost, that would be seen.
//! let violation: Result<(), Violation> = lists.check(&[].into());
//! assert!(violation.is_err());
//! ```

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 8;

/// Names an operation of a [`Lists`] history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(usize);

/// What a client was told about an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It took effect, and the list then had that many bytes.
    Length(u64),
    /// It certainly had no effect and never will.
    Refused,
    /// Nobody knows.
    Unknown,
}

#[derive(Clone, Debug)]
enum Outcome {
    /// Not answered (yet), or answered by "unknown": a later effect is possible for ever.
    Pending,
    Length(u64),
    Read(Bytes),
    Refused,
}

#[derive(Clone, Debug)]
struct Op {
    key: usize,
    /// The token of an append; `None` for a read.
    token: Option<u32>,
    outcome: Outcome,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The list of a key is no list of tokens, or has one that nobody appended to it.
    Phantom {
        /// Where.
        key: Bytes,
        /// The bytes.
        token: Bytes,
    },
    /// A token is in the list twice.
    Twice {
        /// Where.
        key: Bytes,
        /// The append.
        op: OpId,
    },
    /// An acknowledged append is not in the list.
    Lost {
        /// Where.
        key: Bytes,
        /// The append.
        op: OpId,
    },
    /// An append took effect though its client was told that it did not.
    RefusedButDone {
        /// Where.
        key: Bytes,
        /// The append.
        op: OpId,
    },
    /// An acknowledged append is elsewhere than its client was told.
    WrongLength {
        /// Where.
        key: Bytes,
        /// The append.
        op: OpId,
        /// What the client was told.
        told: u64,
        /// What is true.
        is: u64,
    },
    /// A read returned what never was a state of the list.
    NeverSo {
        /// Where.
        key: Bytes,
        /// The read.
        op: OpId,
    },
    /// An operation did not see what had been acknowledged before it began.
    Stale {
        /// Where.
        key: Bytes,
        /// The operation.
        op: OpId,
        /// Its position.
        position: u64,
        /// The position it had to come at or after.
        floor: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Phantom { key, token } => write!(f, "{key:?}: nobody appended {token:?}"),
            Violation::Twice { key, op } => write!(f, "{key:?}: {op:?} was applied twice"),
            Violation::Lost { key, op } => write!(f, "{key:?}: acknowledged {op:?} is lost"),
            Violation::RefusedButDone { key, op } => {
                write!(f, "{key:?}: {op:?} was refused, and took effect")
            }
            Violation::WrongLength { key, op, told, is } => {
                write!(f, "{key:?}: {op:?} was told length {told}, it is {is}")
            }
            Violation::NeverSo { key, op } => {
                write!(f, "{key:?}: {op:?} read what never was there")
            }
            Violation::Stale { key, op, position, floor } => {
                write!(f, "{key:?}: {op:?} is at {position}, but began after {floor}")
            }
        }
    }
}

impl std::error::Error for Violation {}

#[derive(Clone, Copy, Debug)]
enum Moment {
    Invoked(OpId),
    Returned(OpId),
}

/// How many operations of a history ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Appends that were acknowledged.
    pub appends: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Operations that were certainly without effect.
    pub refused: u64,
    /// Operations nobody knows about.
    pub unknown: u64,
}

impl Tally {
    /// How many operations there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.appends + self.reads + self.refused + self.unknown
    }

    /// Adds another history's.
    pub fn add(&mut self, other: &Tally) {
        self.appends += other.appends;
        self.reads += other.reads;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }
}

/// What all clients did, in the order in which it happened. The order of the calls is the clock.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    keys: Vec<Bytes>,
    ops: Vec<Op>,
    moments: Vec<Moment>,
}

impl Lists {
    /// A history in which nothing has happened.
    #[must_use]
    pub fn new() -> Lists {
        Lists::default()
    }

    fn invoke(&mut self, key: &Bytes, token: Option<u32>) -> OpId {
        let key = self.keys.iter().position(|k| k == key).unwrap_or_else(|| {
            self.keys.push(key.clone());
            self.keys.len() - 1
        });
        let id = OpId(self.ops.len());
        self.ops.push(Op { key, token, outcome: Outcome::Pending });
        self.moments.push(Moment::Invoked(id));
        id
    }

    /// A client begins to append to `key`; gives the token it has to append.
    pub fn append(&mut self, key: &Bytes) -> (OpId, Bytes) {
        let token = u32::try_from(self.ops.len()).unwrap_or(u32::MAX);
        let id = self.invoke(key, Some(token));
        (id, Bytes::from(format!("{token:07x};")))
    }

    /// A client begins to read `key`.
    pub fn read(&mut self, key: &Bytes) -> OpId {
        self.invoke(key, None)
    }

    fn returned(&mut self, op: OpId, outcome: Outcome) {
        self.ops[op.0].outcome = outcome;
        self.moments.push(Moment::Returned(op));
    }

    /// The answer to an append.
    pub fn appended(&mut self, op: OpId, outcome: Appended) {
        match outcome {
            Appended::Length(length) => self.returned(op, Outcome::Length(length)),
            Appended::Refused => self.returned(op, Outcome::Refused),
            Appended::Unknown => {}
        }
    }

    /// The answer to a read: the whole list, `None` for no value.
    pub fn was_read(&mut self, op: OpId, list: Option<Bytes>) {
        self.returned(op, Outcome::Read(list.unwrap_or_default()));
    }

    /// A read that was refused or not answered; it says nothing.
    pub fn read_failed(&mut self, op: OpId) {
        self.ops[op.0].outcome = Outcome::Refused;
    }

    /// The keys anything was done to.
    #[must_use]
    pub fn keys(&self) -> &[Bytes] {
        &self.keys
    }

    /// How many operations ended how.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for op in &self.ops {
            *match op.outcome {
                Outcome::Pending => &mut tally.unknown,
                Outcome::Length(_) => &mut tally.appends,
                Outcome::Read(_) => &mut tally.reads,
                Outcome::Refused => &mut tally.refused,
            } += 1;
        }
        tally
    }

    /// Judges the history by the lists there are at the end, when nothing is under way any more.
    /// A key without a list has an empty one.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn check(&self, lists: &BTreeMap<Bytes, Bytes>) -> Result<(), Violation> {
        let empty = Bytes::new();
        let mut positions = BTreeMap::new();
        for (number, key) in self.keys.iter().enumerate() {
            let list = lists.get(key).unwrap_or(&empty);
            self.place_appends(number, list, &mut positions)?;
        }
        for (number, op) in self.ops.iter().enumerate() {
            let key = &self.keys[op.key];
            let list = lists.get(key).unwrap_or(&empty);
            check_outcome(key, OpId(number), op, list, positions.get(&number).copied())?;
        }
        self.check_times(&positions)
    }

    /// Finds the position of every append to a key that is in its list.
    fn place_appends(
        &self,
        key: usize,
        list: &Bytes,
        positions: &mut BTreeMap<usize, u64>,
    ) -> Result<(), Violation> {
        for (at, token) in list.chunks(TOKEN_BYTES).enumerate() {
            let phantom = || Violation::Phantom {
                key: self.keys[key].clone(),
                token: Bytes::copy_from_slice(token),
            };
            let text = token.strip_suffix(b";").and_then(|text| std::str::from_utf8(text).ok());
            let number = text.and_then(|text| u32::from_str_radix(text, 16).ok());
            let number = number.ok_or_else(phantom)?;
            let op = self.ops.get(number as usize).filter(|op| op.token == Some(number));
            op.filter(|op| op.key == key).ok_or_else(phantom)?;
            if positions.insert(number as usize, at as u64 + 1).is_some() {
                let op = OpId(number as usize);
                return Err(Violation::Twice { key: self.keys[key].clone(), op });
            }
        }
        Ok(())
    }

    /// Positions against real time, in one pass.
    fn check_times(&self, positions: &BTreeMap<usize, u64>) -> Result<(), Violation> {
        let position = |op: OpId| match &self.ops[op.0].outcome {
            Outcome::Read(list) => Some((list.len() / TOKEN_BYTES) as u64),
            Outcome::Refused => None,
            Outcome::Length(_) | Outcome::Pending => positions.get(&op.0).copied(),
        };
        let mut floors = vec![0; self.keys.len()];
        for moment in &self.moments {
            let (Moment::Invoked(id) | Moment::Returned(id)) = *moment;
            let op = &self.ops[id.0];
            let Some(position) = position(id) else { continue };
            let floor = &mut floors[op.key];
            match moment {
                Moment::Returned(_) => *floor = position.max(*floor),
                Moment::Invoked(_) if position < *floor + u64::from(op.token.is_some()) => {
                    let key = self.keys[op.key].clone();
                    return Err(Violation::Stale { key, op: id, position, floor: *floor });
                }
                Moment::Invoked(_) => {}
            }
        }
        Ok(())
    }
}

/// One operation's answer against the list at the end.
fn check_outcome(
    key: &Bytes,
    id: OpId,
    op: &Op,
    list: &Bytes,
    position: Option<u64>,
) -> Result<(), Violation> {
    let key = || key.clone();
    match (&op.outcome, position) {
        (Outcome::Length(_), None) => Err(Violation::Lost { key: key(), op: id }),
        (Outcome::Length(told), Some(at)) if *told != at * TOKEN_BYTES as u64 => {
            let is = at * TOKEN_BYTES as u64;
            Err(Violation::WrongLength { key: key(), op: id, told: *told, is })
        }
        (Outcome::Refused, Some(_)) => Err(Violation::RefusedButDone { key: key(), op: id }),
        (Outcome::Read(read), _) if read.len() % TOKEN_BYTES != 0 || !list.starts_with(read) => {
            Err(Violation::NeverSo { key: key(), op: id })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
