//! `MULTI` … `EXEC`: the commands between are one atomic request.

use bytes::Bytes;

use super::{Context, Failure};
use crate::limits;
use crate::server::session::Transaction;

pub(super) fn multi(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    if ctx.session.transaction.is_some() {
        return Err(Failure::new("ERR MULTI calls can not be nested"));
    }
    ctx.session.transaction = Some(Transaction::default());
    ctx.ok();
    Ok(())
}

pub(super) fn discard(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    let none = || Failure::new("ERR DISCARD without MULTI");
    ctx.session.transaction.take().ok_or_else(none)?;
    ctx.ok();
    Ok(())
}

pub(super) fn exec(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    let none = || Failure::new("ERR EXEC without MULTI");
    let transaction = ctx.session.transaction.take().ok_or_else(none)?;
    if transaction.is_broken {
        return Err(Failure::new("EXECABORT Transaction discarded because of previous errors."));
    }
    let begin = ctx.batch.begin_transaction();
    for (spec, args) in &transaction.queued {
        ctx.carry_out(spec, args);
    }
    ctx.batch.end_transaction(begin);
    let ops = ctx.batch.ops_to_log();
    if ops > limits::OPS_MAX {
        let max = limits::OPS_MAX;
        return Err(Failure::new(format!(
            "ERR transaction has {ops} operations, the limit is {max}"
        )));
    }
    Ok(())
}

/// What `WATCH` promises needs the version of each key, which the store does not tell yet. Better
/// no promise than a broken one.
pub(super) fn watch(_: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    Err(Failure::new("ERR WATCH is not supported; SET has NX, XX and GET, and MULTI is atomic"))
}

pub(super) fn unwatch(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    ctx.ok();
    Ok(())
}
