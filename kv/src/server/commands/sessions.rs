//! Commands that take effect once, and whole requests for clients that encode them.

use bytes::Bytes;

use super::{Context, Failure, find, integer};
use crate::command::{Request, Session};
use crate::server::batch::Effect;

/// `SESSION`: opens one, and answers with its id.
pub(super) fn session(context: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    context.batch.within(Session::Open);
    Ok(())
}

/// `ONCE id sequence command…`: carries a command out, unless the session has done so before.
pub(super) fn once(context: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let number = |arg: &Bytes| match u64::try_from(integer(arg)?) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Failure::new("ERR sessions and sequences are numbers from 1")),
    };
    let (id, sequence) = (number(&args[1])?, number(&args[2])?);
    let spec = find(&args[3]).ok_or_else(|| Failure::unknown_command(&args[3..]))?;
    if !matches!(spec.effect, Effect::Read | Effect::Write) {
        return Err(Failure::new(format!("ERR '{}' cannot be a session's command", spec.name)));
    }
    if !spec.takes(args.len() - 3) {
        return Err(Failure::arity(spec.name));
    }
    (spec.run)(context, &args[3..])?;
    if context.batch.has_ops() {
        context.batch.within(Session::Command { id, sequence });
    }
    Ok(())
}

/// `CALL request`: carries out a request as [`crate::client`] encodes it; so is the answer.
pub(super) fn call(context: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let request = Request::decode(&args[1]);
    let request = request.map_err(|e| Failure::new(format!("ERR not a request: {e}")))?;
    context.batch.call(request);
    Ok(())
}
