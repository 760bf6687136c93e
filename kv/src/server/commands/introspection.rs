//! Commands about the server: `INFO`, `CONFIG`, `COMMAND`, `TIME`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::connection::help;
use super::{COMMANDS, Context, Failure, Spec, find, is};
use crate::limits;
use crate::resp::encode::Writer;
use crate::server::backend::Status;
use crate::server::batch::Effect;
use crate::server::glob;
use crate::server::world::World;

/// The Redis whose commands these are, for clients that look at the version before they use one.
const REDIS_VERSION: &str = "7.2.0";

const SECTIONS: [&str; 5] = ["server", "clients", "stats", "raft", "keyspace"];

/// `INFO [section ...]`.
pub(super) fn info(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let all = |arg: &Bytes| ["all", "default", "everything"].iter().any(|a| is(arg, a));
    let wanted =
        |section: &str| args.len() == 1 || args[1..].iter().any(|arg| is(arg, section) || all(arg));
    let status = ctx.world.backend.status();
    let mut text = String::new();
    for section in SECTIONS.into_iter().filter(|s| wanted(s)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        write_section(&mut text, section, ctx.world, &status);
    }
    ctx.answer(|w| w.text(&text));
    Ok(())
}

fn write_section(text: &mut String, section: &str, world: &World, status: &Status) {
    let mut title = section.to_owned();
    title[..1].make_ascii_uppercase();
    let mut lines = vec![format!("# {title}")];
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        lines.push(format!("{name}:{value}"));
    };
    match section {
        "server" => {
            let uptime = world.now.saturating_duration_since(world.started).as_secs();
            line("redis_version", &REDIS_VERSION);
            line("raftkv_version", &env!("CARGO_PKG_VERSION"));
            line("redis_mode", &"standalone");
            line("os", &format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
            line("process_id", &std::process::id());
            line("tcp_port", &world.address.port());
            line("uptime_in_seconds", &uptime);
            line("uptime_in_days", &(uptime / 86_400));
        }
        "clients" => {
            line("connected_clients", &world.connected);
            line("maxclients", &world.options.clients_max);
        }
        "stats" => {
            let counters = &world.counters;
            line("total_connections_received", &counters.accepted);
            line("rejected_connections", &counters.rejected);
            line("total_commands_processed", &counters.commands);
            line("total_requests", &counters.requests);
            line("failed_requests", &counters.failed);
            line("protocol_errors", &counters.protocol_errors);
            line("total_net_input_bytes", &counters.bytes_in);
            line("total_net_output_bytes", &counters.bytes_out);
            line("event_loop_wakeups", &counters.wakeups);
        }
        "raft" => write_raft(&mut line, status),
        _ => {
            if let Some(keys) = status.keys.filter(|n| *n > 0) {
                line("db0", &format_args!("keys={keys},expires=0,avg_ttl=0"));
            }
        }
    }
    for line in lines {
        let _ = write!(text, "{line}\r\n");
    }
}

fn write_raft(line: &mut impl FnMut(&str, &dyn std::fmt::Display), status: &Status) {
    line("store", &status.store);
    line("region", &status.region);
    line("epoch_version", &status.epoch.0);
    line("epoch_conf_ver", &status.epoch.1);
    line("role", &format!("{:?}", status.role).to_ascii_lowercase());
    line("term", &status.term);
    match status.leader {
        Some(leader) => line("leader", &leader),
        None => line("leader", &"none"),
    }
    line("commit", &status.commit);
    line("applied", &status.applied);
    line("last_index", &status.last_index);
    for (name, value) in &status.counters {
        line(name, value);
    }
}

/// `CONFIG GET pattern ...`. Nothing can be set while the server runs.
pub(super) fn config(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    match &args[1..] {
        [sub, patterns @ ..] if is(sub, "GET") && !patterns.is_empty() => {
            let matching = |name: &str| {
                patterns.iter().any(|p| glob::matches(&p.to_ascii_lowercase(), name.as_bytes()))
            };
            let mut found = parameters(ctx.world);
            found.retain(|(name, _)| matching(name));
            ctx.answer(|w| {
                w.map(found.len());
                for (name, value) in &found {
                    w.string(name.as_bytes());
                    w.string(value.as_bytes());
                }
            });
            Ok(())
        }
        [sub] if is(sub, "HELP") => {
            ctx.answer(|w| help(w, &["CONFIG GET <pattern> [<pattern> ...] -- the parameters"]));
            Ok(())
        }
        [sub, ..] if is(sub, "SET") || is(sub, "REWRITE") => {
            Err(Failure::new("ERR parameters are set on the command line, not while it runs"))
        }
        _ => Err(Failure::unknown_subcommand("config", args)),
    }
}

/// The parameters that clients of Redis ask for, and what is true of this server. `save` and
/// `appendonly` are printed by `redis-benchmark`: there are no snapshots by a schedule, and every
/// write is in a synced log before it is answered.
fn parameters(world: &World) -> Vec<(&'static str, String)> {
    let idle = world.options.idle_timeout.map_or(0, |t| t.as_secs());
    vec![
        ("appendfsync", "always".into()),
        ("appendonly", "yes".into()),
        ("bind", world.address.ip().to_string()),
        ("databases", "1".into()),
        ("maxclients", world.options.clients_max.to_string()),
        ("maxmemory", "0".into()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", world.address.port().to_string()),
        ("proto-max-bulk-len", limits::VALUE_BYTES_MAX.to_string()),
        ("save", String::new()),
        ("timeout", idle.to_string()),
    ]
}

/// `COMMAND [COUNT | LIST | INFO [name ...] | DOCS [name ...] | HELP]`.
pub(super) fn command(ctx: &mut Context<'_>, args: &[Bytes]) -> Result<(), Failure> {
    let named = |names: &[Bytes]| -> Vec<Option<&'static Spec>> {
        if names.is_empty() {
            return COMMANDS.iter().map(Some).collect();
        }
        names.iter().map(|name| find(name)).collect()
    };
    match &args[1..] {
        [] => ctx.answer(|w| write_infos(w, &named(&[]))),
        [sub] if is(sub, "COUNT") => {
            ctx.answer(|w| w.integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)));
        }
        [sub] if is(sub, "LIST") => ctx.answer(|w| {
            w.list(COMMANDS.len());
            for spec in COMMANDS {
                w.string(spec.name.as_bytes());
            }
        }),
        [sub, names @ ..] if is(sub, "INFO") => ctx.answer(|w| write_infos(w, &named(names))),
        [sub, names @ ..] if is(sub, "DOCS") => ctx.answer(|w| write_docs(w, &named(names))),
        [sub] if is(sub, "HELP") => ctx.answer(|w| {
            help(w, &["COMMAND [COUNT | LIST | INFO [<name> ...] | DOCS [<name> ...]]"]);
        }),
        _ => return Err(Failure::unknown_subcommand("command", args)),
    }
    Ok(())
}

fn write_infos(w: &mut Writer<'_>, specs: &[Option<&'static Spec>]) {
    w.list(specs.len());
    for spec in specs {
        match spec {
            Some(spec) => write_info(w, spec),
            None => w.null(),
        }
    }
}

/// Ten parts: name, arity, flags, first key, last key, step, and four that are empty here (access
/// categories, tips, key specifications, subcommands).
fn write_info(w: &mut Writer<'_>, spec: &Spec) {
    let flags: &[&str] = match spec.effect {
        Effect::Read => &["readonly", "fast"],
        Effect::Scan => &["readonly"],
        Effect::Write => &["write", "denyoom"],
        Effect::Local | Effect::Alone => &["noscript", "loading", "stale", "fast"],
    };
    w.list(10);
    w.string(spec.name.as_bytes());
    w.integer(spec.arity);
    w.set(flags.len());
    for flag in flags {
        w.status(flag);
    }
    w.integer(spec.keys.0);
    w.integer(spec.keys.1);
    w.integer(spec.keys.2);
    w.set(0);
    w.set(0);
    w.set(0);
    w.list(0);
}

fn write_docs(w: &mut Writer<'_>, specs: &[Option<&'static Spec>]) {
    w.map(specs.iter().flatten().count());
    for spec in specs.iter().flatten() {
        w.string(spec.name.as_bytes());
        w.map(3);
        w.string(b"summary");
        w.string(spec.summary.as_bytes());
        w.string(b"since");
        w.string(b"1.0.0");
        w.string(b"group");
        w.string(spec.group.as_bytes());
    }
}

/// Seconds and microseconds of this machine's clock. Nothing in the store depends on it.
pub(super) fn time(ctx: &mut Context<'_>, _: &[Bytes]) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ctx.answer(|w| {
        w.list(2);
        w.string(now.as_secs().to_string().as_bytes());
        w.string(now.subsec_micros().to_string().as_bytes());
    });
    Ok(())
}
