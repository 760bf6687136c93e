//! What each operation does to the state.
//!
//! Deterministic: the result depends on the state and the operation alone, so that every replica
//! does the same and any replica can answer. The caller has checked the keys
//! ([`first_outside`]); what fails here fails for one operation only.

use std::borrow::Cow;
use std::io::Write as _;

use bytes::Bytes;
use raftstore::Region;

use crate::command::{
    Cf, Condition, Op, OpError, OpResult, RESPONSE_BYTES_MAX, Response, VALUE_BYTES_MAX,
};
use crate::engine::{Read, Write};

/// What a pair counts for besides its bytes, so that empty ones are not free.
const PAIR_OVERHEAD_BYTES: usize = 16;

/// The first key of `op` that its region does not have: its own key, or a bound of its range.
pub(crate) fn first_outside<'a>(op: &Op<&'a [u8]>, region: &Region) -> Option<&'a [u8]> {
    let outside = |key: &'a [u8]| (!region.contains(key)).then_some(key);
    match *op {
        Op::Scan { start, end, .. } | Op::Count { start, end, .. } => {
            let is_end = end.is_empty() || end == region.end_key.as_slice();
            let start = if start.is_empty() { None } else { outside(start) };
            start.or_else(|| if is_end { None } else { outside(end) })
        }
        _ => op.key().and_then(|&key| outside(key)),
    }
}

/// Answers a request that only reads.
pub(crate) fn read_all(ops: &[Op], region: &Region, from: &dyn Read) -> Response {
    let mut reads = Reads::new(region);
    Response { results: ops.iter().map(|op| reads.run(&op.borrowed(), from)).collect() }
}

/// Carries out operations that may read, within one response.
pub(crate) struct Reads<'r> {
    region: &'r Region,
    bytes_left: usize,
}

impl<'r> Reads<'r> {
    pub(crate) fn new(region: &'r Region) -> Reads<'r> {
        Reads { region, bytes_left: RESPONSE_BYTES_MAX }
    }

    /// Carries out an operation that [`Op::is_read_only`].
    ///
    /// # Panics
    /// If it is not.
    fn run(&mut self, op: &Op<&[u8]>, from: &dyn Read) -> OpResult {
        match *op {
            Op::Get { cf, key } => match from.get(cf, key) {
                None => OpResult::Value(None),
                Some(value) if self.takes(value.len()) => OpResult::Value(Some(own(&value))),
                Some(_) => OpResult::Failed(OpError::ResponseTooLarge),
            },
            Op::Exists { cf, key } => OpResult::Exists(from.get(cf, key).is_some()),
            Op::Length { cf, key } => OpResult::Length(length(from.get(cf, key))),
            Op::Scan { cf, start, end, limit, reverse, keys_only } => {
                let (start, end) = self.clip(start, end);
                self.scan(from, cf, (start, end), limit, reverse, keys_only)
            }
            Op::Count { cf, start, end } => {
                let (start, end) = self.clip(start, end);
                OpResult::Count(from.count(cf, start, end))
            }
            Op::Put { .. }
            | Op::Delete { .. }
            | Op::Add { .. }
            | Op::Append { .. }
            | Op::CompareAndSet { .. } => unreachable!("only reads are carried out as reads"),
        }
    }

    /// An empty bound is the region's own.
    fn clip<'a>(&self, start: &'a [u8], end: &'a [u8]) -> (&'a [u8], &'a [u8])
    where
        'r: 'a,
    {
        let region = self.region;
        let start = if start.is_empty() { &region.start_key } else { start };
        (start, if end.is_empty() { &region.end_key } else { end })
    }

    fn scan(
        &mut self,
        from: &dyn Read,
        cf: Cf,
        (start, end): (&[u8], &[u8]),
        limit: u32,
        reverse: bool,
        keys_only: bool,
    ) -> OpResult {
        let mut pairs = Vec::new();
        let mut more = false;
        from.scan(cf, start, end, reverse, &mut |key, value| {
            let value = if keys_only { &[] } else { value };
            more = pairs.len() >= limit as usize
                || !self.takes(key.len() + value.len() + PAIR_OVERHEAD_BYTES);
            if !more {
                pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            }
            !more
        });
        OpResult::Pairs { pairs, more }
    }

    /// Whether the response has room for that many bytes more, which it then gives.
    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.unwrap_or(self.bytes_left);
        left.is_some()
    }
}

/// Carries out any operation. If nobody `wants` the result, what it would carry is left out.
pub(crate) fn run(
    op: &Op<&[u8]>,
    to: &mut dyn Write,
    reads: &mut Reads<'_>,
    wanted: bool,
) -> OpResult {
    match *op {
        Op::Put { cf, key, value, condition, return_old } => {
            put(to, cf, key, value, condition, return_old && wanted)
        }
        Op::Delete { cf, key, return_old } => {
            let old = if return_old && wanted { owned(to, cf, key) } else { None };
            OpResult::Deleted { existed: to.delete(cf, key), old }
        }
        Op::Add { cf, key, delta } => match add(to, cf, key, delta) {
            Ok(sum) => OpResult::Integer(sum),
            Err(error) => OpResult::Failed(error),
        },
        Op::Append { cf, key, value } => append(to, cf, key, value),
        Op::CompareAndSet { cf, key, expected, new } => {
            let current = to.get(cf, key);
            if current.as_deref() != expected {
                let current = current.as_deref().filter(|_| wanted).map(own);
                return OpResult::Swapped { swapped: false, current };
            }
            match new {
                Some(value) => to.put(cf, key, value),
                None => to.delete(cf, key),
            };
            OpResult::Swapped { swapped: true, current: None }
        }
        _ if !wanted => OpResult::Value(None),
        ref read => reads.run(read, to),
    }
}

fn put(
    to: &mut dyn Write,
    cf: Cf,
    key: &[u8],
    value: &[u8],
    condition: Condition,
    return_old: bool,
) -> OpResult {
    let old = if return_old { owned(to, cf, key) } else { None };
    let written = match condition {
        Condition::None => true,
        Condition::IfAbsent => to.get(cf, key).is_none(),
        Condition::IfPresent => to.get(cf, key).is_some(),
    };
    if written {
        to.put(cf, key, value);
    }
    OpResult::Put { written, old }
}

fn add(to: &mut dyn Write, cf: Cf, key: &[u8], delta: i64) -> Result<i64, OpError> {
    let number = match to.get(cf, key) {
        None => 0,
        Some(text) => parse(&text).ok_or(OpError::NotAnInteger)?,
    };
    let sum = number.checked_add(delta).ok_or(OpError::Overflow)?;
    // Twenty bytes hold every i64 with its sign.
    let mut text = [0; 20];
    let mut rest = &mut text[..];
    write!(rest, "{sum}").map_err(|_| OpError::Overflow)?;
    let len = 20 - rest.len();
    to.put(cf, key, &text[..len]);
    Ok(sum)
}

/// A number exactly as Redis takes it: decimal, in its shortest form, within 64 bits.
fn parse(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let shortest = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if !shortest {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn append(to: &mut dyn Write, cf: Cf, key: &[u8], value: &[u8]) -> OpResult {
    let whole = match to.get(cf, key) {
        None => Cow::Borrowed(value),
        Some(old) if old.len() + value.len() > VALUE_BYTES_MAX => {
            return OpResult::Failed(OpError::ValueTooLarge);
        }
        Some(old) => Cow::Owned([&old, value].concat()),
    };
    to.put(cf, key, &whole);
    OpResult::Length(whole.len() as u64)
}

fn length(value: Option<Cow<'_, [u8]>>) -> u64 {
    value.map_or(0, |value| value.len() as u64)
}

fn own(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

fn owned(from: &dyn Write, cf: Cf, key: &[u8]) -> Option<Bytes> {
    from.get(cf, key).map(|value| own(&value))
}

#[cfg(test)]
mod tests;
