//! Commands about the connection itself.

use bytes::Bytes;

use super::{Context, Failure, integer, is};
use crate::resp::Version;
use crate::resp::encode::Writer;
use crate::server::session::Session;

pub(super) fn ping(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    match args {
        [_] => ctx.answer(|w| w.raw(b"+PONG\r\n")),
        [_, message] => ctx.answer(|w| w.value(message)),
        _ => return Err(Failure::arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    ctx.answer(|w| w.value(&args[1]));
    Ok(())
}

/// There is one database, 0.
pub(super) fn select(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    match integer(&args[1]) {
        Ok(0) => {
            ctx.ok();
            Ok(())
        }
        Ok(_) => Err(Failure::new("ERR DB index is out of range")),
        Err(_) => Err(Failure::new("ERR invalid DB index")),
    }
}

pub(super) fn quit(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    ctx.session.closing = true;
    ctx.ok();
    Ok(())
}

pub(super) fn reset(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    ctx.session.reset();
    ctx.answer(|w| w.status("RESET"));
    Ok(())
}

pub(super) fn auth(_: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    Err(no_passwords())
}

/// In the words of Redis, by which clients know that it is about passwords.
fn no_passwords() -> Failure {
    Failure::new(
        "ERR AUTH <password> called without any password configured for the default user. Are you \
         sure your configuration is correct?",
    )
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Changes nothing unless all of it is right.
pub(super) fn hello(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let version = match args.get(1).map(|arg| integer(arg)) {
        None => ctx.session.version,
        Some(Ok(2)) => Version::V2,
        Some(Ok(3)) => Version::V3,
        Some(Ok(_)) => return Err(Failure::new("NOPROTO unsupported protocol version")),
        Some(Err(_)) => {
            return Err(Failure::new("ERR Protocol version is not an integer or out of range"));
        }
    };
    let mut name = None;
    let mut rest = args.get(2..).unwrap_or_default();
    while let Some((option, values)) = rest.split_first() {
        match values {
            [_, _, ..] if is(option, "AUTH") => return Err(no_passwords()),
            [value, after @ ..] if is(option, "SETNAME") => {
                name = Some(printable(value, "Client names")?);
                rest = after;
            }
            _ => {
                let option = String::from_utf8_lossy(&option[..option.len().min(128)]);
                return Err(Failure::new(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        }
    }
    ctx.session.version = version;
    if let Some(name) = name {
        ctx.session.name = name;
    }
    let id = ctx.session.id;
    ctx.answer(|w| greeting(w, id));
    Ok(())
}

fn greeting(w: &mut Writer<'_>, id: u64) {
    let version = w.version().number();
    w.map(7);
    w.string(b"server");
    w.string(b"raftkv");
    w.string(b"version");
    w.string(env!("CARGO_PKG_VERSION").as_bytes());
    w.string(b"proto");
    w.integer(version);
    w.string(b"id");
    w.integer(id.cast_signed());
    w.string(b"mode");
    w.string(b"standalone");
    w.string(b"role");
    w.string(b"master");
    w.string(b"modules");
    w.list(0);
}

/// A name that can stand in a line of `CLIENT LIST`.
fn printable(value: &Bytes, what: &str) -> Result<Bytes, Failure> {
    if value.iter().all(u8::is_ascii_graphic) {
        return Ok(value.clone());
    }
    Err(Failure::new(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}

const CLIENT_HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> ...]. Subcommands are:",
    "GETNAME -- the name of this connection",
    "ID -- the number of this connection",
    "INFO -- a line about this connection",
    "LIST -- a line about every connection to this store",
    "NO-EVICT (ON|OFF) -- accepted; nothing is ever evicted",
    "NO-TOUCH (ON|OFF) -- accepted; there is nothing to touch",
    "SETINFO (LIB-NAME|LIB-VER) <value> -- names the client library",
    "SETNAME <name> -- names this connection",
];

pub(super) fn client(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    match &args[1..] {
        [sub, value] if is(sub, "SETNAME") => {
            ctx.session.name = printable(value, "Client names")?;
            ctx.ok();
        }
        [sub] if is(sub, "GETNAME") => {
            let name = ctx.session.name.clone();
            ctx.answer(|w| if name.is_empty() { w.null() } else { w.string(&name) });
        }
        [sub] if is(sub, "ID") => {
            let id = ctx.session.id.cast_signed();
            ctx.answer(|w| w.integer(id));
        }
        [sub] if is(sub, "INFO") => {
            let line = ctx.session.describe(ctx.world.now) + "\n";
            ctx.answer(|w| w.text(&line));
        }
        [sub, ..] if is(sub, "LIST") => list(ctx),
        [sub, name, value] if is(sub, "SETINFO") => {
            set_info(ctx.session, name, value)?;
            ctx.ok();
        }
        [sub, value] if is(sub, "NO-EVICT") || is(sub, "NO-TOUCH") => {
            if !is(value, "ON") && !is(value, "OFF") {
                return Err(Failure::SYNTAX);
            }
            ctx.ok();
        }
        [sub] if is(sub, "HELP") => ctx.answer(|w| help(w, CLIENT_HELP)),
        _ => return Err(Failure::unknown_subcommand("client", args)),
    }
    Ok(())
}

pub(super) fn help(w: &mut Writer<'_>, lines: &[&str]) {
    w.list(lines.len());
    for line in lines {
        w.status(line);
    }
}

fn set_info(session: &mut Session, name: &[u8], value: &Bytes) -> Result<(), Failure> {
    let target = match name {
        n if is(n, "LIB-NAME") => &mut session.library,
        n if is(n, "LIB-VER") => &mut session.library_version,
        _ => return Err(Failure::new("ERR Unrecognized option for CLIENT SETINFO")),
    };
    *target = printable(value, "Library names and versions")?;
    Ok(())
}

fn list(ctx: &mut Context<'_>) {
    let now = ctx.world.now;
    let others = ctx.world.connections.iter().flatten().map(|c| &c.session);
    let mut sessions: Vec<&Session> = others.chain([&*ctx.session]).collect();
    sessions.sort_unstable_by_key(|s| s.id);
    let text: String = sessions.iter().map(|s| s.describe(now) + "\n").collect();
    ctx.answer(|w| w.text(&text));
}
