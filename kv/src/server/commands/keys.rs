//! Commands on keys.

use bytes::Bytes;

use super::{Context, Failure, integer, is, key};
use crate::command::{Cf, Op};
use crate::server::answer::Shape;
use crate::server::glob;

/// Keys that a `SCAN` looks at for one answer, if the client does not say.
const COUNT_DEFAULT: i64 = 10;

/// And at most, so that one client does not hold up all others.
const COUNT_MAX: i64 = 10_000;

pub(super) fn del(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let keys: Vec<Bytes> = args[1..].iter().map(key).collect::<Result<_, _>>()?;
    ctx.batch.answer(Shape::Sum, keys.into_iter().map(Op::delete));
    Ok(())
}

pub(super) fn exists(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let keys: Vec<Bytes> = args[1..].iter().map(key).collect::<Result<_, _>>()?;
    ctx.batch.answer(Shape::Sum, keys.into_iter().map(Op::exists));
    Ok(())
}

pub(super) fn kind(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    ctx.ask(Shape::Type, Op::exists(key(&args[1])?));
    Ok(())
}

pub(super) fn ttl(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    ctx.ask(Shape::Ttl, Op::exists(key(&args[1])?));
    Ok(())
}

/// Nothing expires, so there is never an expiry to remove.
pub(super) fn persist(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    ctx.answer(|w| w.integer(0));
    Ok(())
}

pub(super) fn dbsize(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    ctx.ask(Shape::Integer, Op::count());
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`. In the order of the keys, so what is
/// there from the first page to the last is returned, once.
pub(super) fn scan(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let cursor = std::str::from_utf8(&args[1]).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = cursor.ok_or_else(|| Failure::new("ERR invalid cursor"))?;
    let mut pattern = None;
    let mut count = COUNT_DEFAULT;
    let mut strings = true;
    let options = args[2..].chunks_exact(2);
    if !options.remainder().is_empty() {
        return Err(Failure::SYNTAX);
    }
    for option in options {
        match &option[0] {
            name if is(name, "MATCH") => pattern = Some(option[1].clone()),
            name if is(name, "COUNT") => count = integer(&option[1])?,
            name if is(name, "TYPE") => strings = is(&option[1], "string"),
            _ => return Err(Failure::SYNTAX),
        }
    }
    if count < 1 {
        return Err(Failure::SYNTAX);
    }
    let from = match cursor {
        0 => Bytes::new(),
        known => ctx.world.cursors.get(known).ok_or_else(|| {
            Failure::new("ERR cursor is too old or of another store; start again with 0")
        })?,
    };
    let (start, end) = bounds(pattern.as_ref());
    if !strings || (!end.is_empty() && from >= end) {
        ctx.batch.answer(Shape::NoPage, []);
        return Ok(());
    }
    let count = u32::try_from(count.min(COUNT_MAX)).unwrap_or(u32::MAX);
    let page = Shape::Page { pattern, count: count as usize };
    ctx.ask(page, keys_only(start.max(from), end, count + 1));
    Ok(())
}

pub(super) fn keys(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let pattern = args[1].clone();
    let (start, end) = bounds(Some(&pattern));
    ctx.ask(Shape::Keys { pattern }, keys_only(start, end, u32::MAX));
    Ok(())
}

fn keys_only(start: Bytes, end: Bytes, limit: u32) -> Op {
    Op::Scan { cf: Cf::Default, start, end, limit, reverse: false, keys_only: true }
}

/// The range that has all keys a pattern can match.
fn bounds(pattern: Option<&Bytes>) -> (Bytes, Bytes) {
    let prefix = pattern.map_or(&b""[..], |p| glob::literal_prefix(p));
    let prefix = &prefix[..prefix.len().min(crate::limits::KEY_BYTES_MAX)];
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    (Bytes::copy_from_slice(prefix), end.into())
}
