//! From results to answers: what each command makes of what its operations gave, and the words for
//! what went wrong. The prefixes of errors are listed at [`server`](crate::server).

use bytes::Bytes;
use raftstore::Refusal;

use crate::answer::Error;
use crate::command::OpResult;
use crate::server::batch::Answers;
use crate::server::glob;

/// What a command's answer looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `OK`, or nothing if a condition did not hold.
    Ok,
    /// One value or nothing.
    Value,
    /// Part of a value, as Redis counts: from 0, or from -1 at the end backwards, the last included.
    Range {
        /// The first byte.
        first: i64,
        /// The last.
        last: i64,
    },
    /// One number.
    Integer,
    /// How many of the operations found or did something.
    Sum,
    /// A list of values.
    Values,
    /// `string` or `none`.
    Type,
    /// -1 if there is a key, -2 if not: no key expires.
    Ttl,
    /// A page of keys, with the cursor of the next. One key more than `count` was asked for: the
    /// one the next page starts with.
    Page {
        /// Those to return.
        pattern: Option<Bytes>,
        /// Keys to look at for a page.
        count: usize,
    },
    /// All keys.
    Keys {
        /// Those to return.
        pattern: Bytes,
    },
    /// An empty page: the end of a scan that can find nothing.
    NoPage,
}

/// What is written if the store gives another result than the operation promises.
const MISMATCH: &str = "ERR the store gave no such result";

/// Writes the answer of one command.
pub(crate) fn write(
    shape: &Shape,
    mut results: impl ExactSizeIterator<Item = OpResult>,
    to: &mut Answers<'_>,
) {
    let count = results.len();
    match shape {
        Shape::Values => values(results, count, to),
        Shape::Ok | Shape::Sum => fold(shape, results, to),
        Shape::NoPage => page(0, &[], to),
        _ => match (shape, results.next()) {
            (_, Some(OpResult::Failed(e))) => {
                to.output.writer(to.version).error(&format!("ERR {e}"));
            }
            (Shape::Page { pattern, count }, Some(OpResult::Pairs { mut pairs, more })) => {
                let next = if more || pairs.len() > *count { pairs.pop() } else { None };
                let next = next.map_or(0, |(key, _)| to.cursors.remember(&key));
                let fits = |key: &Bytes| pattern.as_ref().is_none_or(|p| glob::matches(p, key));
                let keys: Vec<Bytes> = pairs.into_iter().map(|p| p.0).filter(fits).collect();
                page(next, &keys, to);
            }
            (Shape::Keys { pattern }, Some(OpResult::Pairs { pairs, more })) => {
                keys(pattern, pairs, more, to);
            }
            (shape, result) => single(shape, result, to),
        },
    }
}

/// An answer made of one result.
fn single(shape: &Shape, result: Option<OpResult>, to: &mut Answers<'_>) {
    let mut writer = to.output.writer(to.version);
    match (shape, result) {
        (
            Shape::Value,
            Some(
                OpResult::Value(value)
                | OpResult::Put { old: value, .. }
                | OpResult::Deleted { old: value, .. },
            ),
        ) => match value {
            Some(value) => writer.value(&value),
            None => writer.null(),
        },
        (Shape::Range { first, last }, Some(OpResult::Value(value))) => {
            writer.value(&part(&value.unwrap_or_default(), *first, *last));
        }
        (Shape::Type, Some(OpResult::Exists(exists))) => {
            writer.status(if exists { "string" } else { "none" });
        }
        (Shape::Ttl, Some(OpResult::Exists(exists))) => {
            writer.integer(if exists { -1 } else { -2 });
        }
        (Shape::Integer, Some(result)) => match number(&result) {
            Some(value) => writer.integer(value),
            None => writer.error(MISMATCH),
        },
        _ => writer.error(MISMATCH),
    }
}

/// Bytes `first` to `last` of a value; none where they do not meet.
fn part(value: &Bytes, first: i64, last: i64) -> Bytes {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let place = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (first, end) = (place(first).max(0), place(last).saturating_add(1).min(len));
    match (usize::try_from(first), usize::try_from(end)) {
        (Ok(first), Ok(end)) if first < end => value.slice(first..end),
        _ => Bytes::new(),
    }
}

fn number(result: &OpResult) -> Option<i64> {
    match result {
        OpResult::Integer(value) => Some(*value),
        OpResult::Length(n) | OpResult::Count(n) => Some(i64::try_from(*n).unwrap_or(i64::MAX)),
        OpResult::Exists(yes)
        | OpResult::Put { written: yes, .. }
        | OpResult::Deleted { existed: yes, .. }
        | OpResult::Swapped { swapped: yes, .. } => Some(i64::from(*yes)),
        OpResult::Value(_) | OpResult::Pairs { .. } | OpResult::Failed(_) => None,
    }
}

/// One answer for several results of which each counts as a number. An error of one is the answer.
fn fold(shape: &Shape, results: impl Iterator<Item = OpResult>, to: &mut Answers<'_>) {
    let mut writer = to.output.writer(to.version);
    let mut sum = 0;
    let mut all = true;
    for result in results {
        match (number(&result), result) {
            (Some(n), _) => {
                sum += n;
                all &= n > 0;
            }
            (None, OpResult::Failed(e)) => return writer.error(&format!("ERR {e}")),
            (None, _) => return writer.error(MISMATCH),
        }
    }
    match shape {
        Shape::Ok if all => writer.raw(b"+OK\r\n"),
        Shape::Ok => writer.null(),
        _ => writer.integer(sum),
    }
}

/// The list must not be begun before it is certain that every value is there.
fn values(results: impl Iterator<Item = OpResult>, count: usize, to: &mut Answers<'_>) {
    let mut writer = to.output.writer(to.version);
    let mut values = Vec::with_capacity(count);
    for result in results {
        match result {
            OpResult::Value(value) => values.push(value),
            OpResult::Failed(e) => return writer.error(&format!("ERR {e}")),
            _ => return writer.error(MISMATCH),
        }
    }
    writer.list(values.len());
    for value in values {
        match value {
            Some(value) => writer.value(&value),
            None => writer.null(),
        }
    }
}

fn page(next: u64, keys: &[Bytes], to: &mut Answers<'_>) {
    let mut writer = to.output.writer(to.version);
    writer.list(2);
    writer.string(next.to_string().as_bytes());
    writer.list(keys.len());
    for key in keys {
        writer.string(key);
    }
}

fn keys(pattern: &[u8], pairs: Vec<(Bytes, Bytes)>, more: bool, to: &mut Answers<'_>) {
    let mut writer = to.output.writer(to.version);
    if more {
        return writer.error("ERR too many keys for one answer; use SCAN");
    }
    let keys: Vec<Bytes> =
        pairs.into_iter().map(|p| p.0).filter(|key| glob::matches(pattern, key)).collect();
    writer.list(keys.len());
    for key in &keys {
        writer.string(key);
    }
}

/// What is said when a whole request fails. A read has no effect, so it can always be tried again.
pub(crate) fn error_text(error: &Error, is_write: bool) -> String {
    match error {
        Error::Refused(Refusal::Busy) => format!("BUSY {error}; nothing was done"),
        Error::Refused(Refusal::TooLarge { .. }) => format!("ERR {error}"),
        Error::Refused(Refusal::Timeout | Refusal::NotLeader { .. }) => {
            "TRYAGAIN no leader answered in time; nothing was done".into()
        }
        Error::Refused(_) | Error::StaleCommand | Error::KeyNotInRegion { .. } => {
            format!("TRYAGAIN {error}; nothing was done")
        }
        Error::NotReadOnly => format!("ERR {error}"),
        Error::ResponseForgotten => format!("APPLIED {error}"),
        Error::SessionExpired | Error::Superseded => format!("NOSESSION {error}"),
        Error::Unknown(why) if is_write => {
            format!("UNKNOWN {why}; the command may or may not take effect")
        }
        Error::Unknown(why) => format!("TRYAGAIN {why}"),
    }
}
