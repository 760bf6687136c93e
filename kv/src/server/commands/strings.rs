//! Commands on values.

use bytes::Bytes;

use super::{Context, Failure, integer, is, key};
use crate::command::{Cf, Condition, Op};
use crate::server::answer::Shape;

pub(super) fn get(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let key = key(&args[1])?;
    ctx.ask(Shape::Value, Op::get(key));
    Ok(())
}

/// `GETEX key [PERSIST]`: there is nothing to be made to last. An expiry is refused, as by `SET`.
pub(super) fn getex(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    match &args[2..] {
        [] => get(ctx, args),
        [option] if is(option, "PERSIST") => get(ctx, args),
        [option, _] if is_expiry(option) => Err(expiry()),
        _ => Err(Failure::SYNTAX),
    }
}

/// `GETRANGE key first last`.
pub(super) fn getrange(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let (first, last) = (integer(&args[2])?, integer(&args[3])?);
    ctx.ask(Shape::Range { first, last }, Op::get(key(&args[1])?));
    Ok(())
}

/// `SET key value [NX | XX] [GET] [KEEPTTL]`. Nothing expires, so keeping the time to live is what
/// always happens, and giving one is refused rather than forgotten.
pub(super) fn set(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let mut condition = Condition::None;
    let mut return_old = false;
    for option in &args[3..] {
        match option {
            o if is(o, "NX") && condition != Condition::IfPresent => {
                condition = Condition::IfAbsent;
            }
            o if is(o, "XX") && condition != Condition::IfAbsent => {
                condition = Condition::IfPresent;
            }
            o if is(o, "GET") => return_old = true,
            o if is(o, "KEEPTTL") => {}
            o if is_expiry(o) => return Err(expiry()),
            _ => return Err(Failure::SYNTAX),
        }
    }
    let op = Op::Put {
        cf: Cf::Default,
        key: key(&args[1])?,
        value: args[2].clone(),
        condition,
        return_old,
    };
    ctx.ask(if return_old { Shape::Value } else { Shape::Ok }, op);
    Ok(())
}

fn is_expiry(option: &[u8]) -> bool {
    ["EX", "PX", "EXAT", "PXAT"].iter().any(|name| is(option, name))
}

fn expiry() -> Failure {
    Failure::new("ERR expiry is not supported: keys live until they are deleted")
}

/// `SETEX`, `EXPIRE` and the like, so that their users read why.
pub(super) fn set_expiring(_: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    Err(expiry())
}

pub(super) fn setnx(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let (key, value) = (key(&args[1])?, args[2].clone());
    let condition = Condition::IfAbsent;
    ctx.ask(Shape::Integer, Op::Put { cf: Cf::Default, key, value, condition, return_old: false });
    Ok(())
}

pub(super) fn getset(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let (key, value) = (key(&args[1])?, args[2].clone());
    let condition = Condition::None;
    ctx.ask(Shape::Value, Op::Put { cf: Cf::Default, key, value, condition, return_old: true });
    Ok(())
}

pub(super) fn getdel(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let key = key(&args[1])?;
    ctx.ask(Shape::Value, Op::Delete { cf: Cf::Default, key, return_old: true });
    Ok(())
}

pub(super) fn mget(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let keys: Vec<Bytes> = args[1..].iter().map(key).collect::<Result<_, _>>()?;
    ctx.batch.answer(Shape::Values, keys.into_iter().map(Op::get));
    Ok(())
}

pub(super) fn mset(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let pairs = args[1..].chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(Failure::arity("mset"));
    }
    let ops: Vec<Op> = pairs
        .map(|pair| Ok(Op::put(key(&pair[0])?, pair[1].clone())))
        .collect::<Result<_, Failure>>()?;
    ctx.batch.answer(Shape::Ok, ops);
    Ok(())
}

fn add(ctx: &mut Context<'_>, arg: &Bytes, delta: i64) -> Result<(), Failure> {
    ctx.ask(Shape::Integer, Op::add(key(arg)?, delta));
    Ok(())
}

pub(super) fn incr(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    add(ctx, &args[1], 1)
}

pub(super) fn decr(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    add(ctx, &args[1], -1)
}

pub(super) fn incrby(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    add(ctx, &args[1], integer(&args[2])?)
}

pub(super) fn decrby(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let delta = integer(&args[2])?
        .checked_neg()
        .ok_or_else(|| Failure::new("ERR decrement would overflow"))?;
    add(ctx, &args[1], delta)
}

pub(super) fn append(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let (key, value) = (key(&args[1])?, args[2].clone());
    ctx.ask(Shape::Integer, Op::Append { cf: Cf::Default, key, value });
    Ok(())
}

pub(super) fn strlen(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let key = key(&args[1])?;
    ctx.ask(Shape::Integer, Op::Length { cf: Cf::Default, key });
    Ok(())
}
