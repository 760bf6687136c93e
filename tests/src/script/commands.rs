//! The commands of interaction scripts: etcd's, and some of ours for what those cannot reach.
//!
//! | ours | does |
//! |---|---|
//! | `copy-msgs`, `hold-msgs`, `release-msgs` | doubles and delays messages: see `network` |
//! | `members IDS` | whom each server takes for members; of all servers if none is named |
//! | `read-index N CONTEXT` | asks N for the index of a linearizable read |
//! | `report-snapshot A B status=ok` | tells A that its snapshot has reached B; or `status=failed` |
//! | `restart N` | N loses all but what it stored and applied, its unfinished storage work included |
//! | `set-commit-groups N 1=G 2=G` | puts voters into groups, two of which have to have what N commits |
//! | `set-priorities N 1=P 2=P` | tells N who should rather lead |
//! | `state IDS` | term, role, log and cursors in a line for each server |
//! | `tick N COUNT` | COUNT ticks |
//!
//! Our own settings in `add-nodes` are named like the fields of [`Config`]: `append-bytes-max`,
//! `disable-proposal-forwarding`, `eager-appends` (on, as in etcd, if not said), `inflight-bytes-max`,
//! `skip-commit-broadcast`, `uncommitted-bytes-max`, `write-ticks-max`.

use raft::conf_change::{ConfChange, Transition};
use raft::trace::At;
use raft::{
    Body, Config, Entry, EntryKind, GroupId, Message, NodeId, ReadMode, RoleKind, Snapshot,
};

use super::args::{node, number};
use super::confchange::parse_changes;
use super::describe::{Note, describe_entry, lead, progress_lines, state_name};
use super::env::{Env, Stop};
use super::golang;
use super::grammar::{Arg, Directive};
use super::network::{copy_msgs, deliver_msgs, hold_msgs, release_msgs};
use super::node::Template;
use super::suite::Fatal;

type Command = fn(&mut Env, &Directive) -> Result<(), Stop>;

/// All commands, by name.
const COMMANDS: [(&str, Command); 37] = [
    ("_breakpoint", |_, _| Ok(())),
    ("add-nodes", add_nodes),
    ("campaign", campaign),
    ("compact", compact),
    ("copy-msgs", copy_msgs),
    ("delay-entries", delay_entries),
    ("deliver-msgs", deliver_msgs),
    ("entries-fetched", entries_fetched),
    ("forget-leader", forget_leader),
    ("hold-msgs", hold_msgs),
    ("log-level", log_level),
    ("members", members),
    ("process-append-thread", process_append_thread),
    ("process-apply-thread", process_apply_thread),
    ("process-ready", process_ready),
    ("propose", propose),
    ("propose-conf-change", propose_conf_change),
    ("raft-log", raft_log),
    ("raft-state", raft_state),
    ("read-index", read_index),
    ("release-msgs", release_msgs),
    ("report-snapshot", report_snapshot),
    ("report-unreachable", report_unreachable),
    ("request-snapshot", request_snapshot),
    ("restart", restart),
    ("send-snapshot", send_snapshot),
    ("set-commit-groups", set_commit_groups),
    ("set-inflight-max", set_inflight_max),
    ("set-priorities", set_priorities),
    ("set-randomized-election-timeout", set_election_timeout),
    ("stabilize", stabilize),
    ("state", state),
    ("status", status),
    ("tick", tick),
    ("tick-election", tick_election),
    ("tick-heartbeat", tick_heartbeat),
    ("transfer-leadership", transfer_leadership),
];

/// Whether there is a command of that name.
pub(super) fn is_known(name: &str) -> bool {
    COMMANDS.iter().any(|(known, _)| *known == name)
}

/// Runs a directive; says what it prints, `ok` if that is nothing.
pub(super) fn run(env: &mut Env, directive: &Directive) -> Result<String, Fatal> {
    env.out.take();
    let found = COMMANDS.iter().find(|(name, _)| *name == directive.command);
    let result = match found {
        Some((_, command)) => command(env, directive),
        None => Err(Stop::Error("unknown command".to_owned())),
    };
    for id in env.ids() {
        env.observe(id)?;
    }
    match result {
        Ok(()) => {}
        Err(Stop::Error(error)) if env.out.is_quiet() => return Ok(error),
        Err(Stop::Error(error)) => env.out.push(&error),
        Err(Stop::Fatal(fatal)) => return Err(fatal),
    }
    let text = env.out.take();
    Ok(if text.is_empty() { "ok".to_owned() } else { text })
}

fn add_nodes(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let count = directive.number(0)?;
    let mut template = Template::default();
    for arg in &directive.args[1..] {
        for value in &arg.values {
            set(&mut template, &arg.key, value)?;
        }
    }
    if template.snapshot != Snapshot::default() {
        if template.snapshot.meta.last.index <= 1 {
            return Err(Stop::Error("index must be specified as > 1 due to bootstrap".to_owned()));
        }
        template.snapshot.meta.last.term = 1;
    }
    env.add_nodes(count, &template)
}

/// Sets one thing about the nodes to be added.
fn set(template: &mut Template, key: &str, value: &str) -> Result<(), Stop> {
    let flag = || golang::parse_bool(value).map_err(Fatal::new);
    let conf_state = &mut template.snapshot.meta.conf_state;
    let config = &mut template.config;
    match key {
        "voters" => conf_state.voters.push(node(value)?),
        "learners" => conf_state.learners.push(node(value)?),
        "index" => {
            config.applied = number(value)?;
            template.snapshot.meta.last.index = config.applied;
        }
        "content" => return Err(Fatal::new("content= is not supported").into()),
        "inflight" => config.inflight_max = number(value)?,
        "async-storage-writes" => template.is_async = flag()?,
        "prevote" => config.pre_vote = flag()?,
        "checkquorum" => config.check_quorum = flag()?,
        "disable-conf-change-validation" => config.disable_conf_change_validation = flag()?,
        "step-down-on-removal" => config.step_down_on_removal = flag()?,
        "max-committed-size-per-ready" => {
            let bytes = number(value)?;
            config.apply_bytes_max = if bytes == 0 { u64::MAX } else { bytes };
        }
        "read-only" => config.read_mode = read_mode(value)?,
        "append-bytes-max" => config.append_bytes_max = number(value)?,
        "disable-proposal-forwarding" => config.disable_proposal_forwarding = flag()?,
        "commit-hints" => config.commit_hints = flag()?,
        "eager-appends" => config.eager_appends = flag()?,
        "inflight-bytes-max" => config.inflight_bytes_max = number(value)?,
        "lazy-commit" => config.lazy_commit = flag()?,
        "skip-commit-broadcast" => config.skip_commit_broadcast = flag()?,
        "uncommitted-bytes-max" => config.uncommitted_bytes_max = number(value)?,
        "write-ticks-max" => config.write_ticks_max = number(value)?,
        _ => {}
    }
    Ok(())
}

fn read_mode(value: &str) -> Result<ReadMode, Stop> {
    match value {
        "safe" => Ok(ReadMode::Safe),
        "lease-based" => Ok(ReadMode::Lease),
        _ => Err(Stop::Error(format!("invalid read-only option \"{value}\""))),
    }
}

fn campaign(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    env.node_mut(directive.node(0)?)?.raw.campaign();
    Ok(())
}

fn compact(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let (id, to) = (directive.node(0)?, directive.number(1)?);
    env.node_mut(id)?.compact(to)?;
    raft_log(env, directive)
}

fn delay_entries(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    env.node_mut(directive.node(0)?)?.delay_entries();
    Ok(())
}

fn entries_fetched(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    env.node_mut(directive.node(0)?)?.entries_fetched();
    Ok(())
}

fn forget_leader(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    env.node_mut(directive.node(0)?)?.raw.forget_leader();
    Ok(())
}

fn log_level(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    set_level(env, directive.word(0)?)
}

fn set_level(env: &mut Env, name: &str) -> Result<(), Stop> {
    if env.out.set_level(name) {
        return Ok(());
    }
    let words = "log levels must be either of [DEBUG INFO WARN ERROR FATAL NONE]";
    Err(Stop::Error(words.to_owned()))
}

fn members(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    for id in named_or_all(env, directive)? {
        let line = format!("{id:?} {}", env.node(id)?.raw.membership());
        env.out.line(&line);
    }
    Ok(())
}

/// The servers that are named, or all if none is.
fn named_or_all(env: &Env, directive: &Directive) -> Result<Vec<NodeId>, Fatal> {
    let ids = directive.nodes()?;
    Ok(if ids.is_empty() { env.ids() } else { ids })
}

fn process_ready(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    each(env, directive, "handling Ready", Env::process_ready)
}

fn process_append_thread(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    each(env, directive, "processing append thread", Env::process_append_thread)
}

fn process_apply_thread(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    each(env, directive, "processing apply thread", Env::process_apply_thread)
}

/// Does something with each node that is named; several are told apart by headers.
fn each(
    env: &mut Env,
    directive: &Directive,
    what: &str,
    run: impl Fn(&mut Env, NodeId) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let ids = directive.nodes()?;
    if let [id] = ids[..] {
        return run(env, id);
    }
    for id in ids {
        env.out.line(&format!("> {id} {what}"));
        env.indented(|env| run(env, id))?;
    }
    Ok(())
}

fn propose(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let [_, Arg { key: data, values }] = &directive.args[..] else {
        return Err(Fatal::new("propose takes a node and its data").into());
    };
    if !values.is_empty() {
        return Err(Fatal::new("data with = in it is no key").into());
    }
    let data = data.clone().into_bytes().into();
    let refused = env.node_mut(directive.node(0)?)?.raw.propose(data);
    refused.map(drop).map_err(|_| dropped())
}

/// What etcd says of a proposal that it does not take, whatever the reason.
fn dropped() -> Stop {
    Stop::Error("raft proposal dropped".to_owned())
}

fn propose_conf_change(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let id = directive.node(0)?;
    let mut v1 = false;
    let mut change = ConfChange::default();
    for arg in &directive.args[1..] {
        for value in &arg.values {
            match arg.key.as_str() {
                "v1" => v1 = golang::parse_bool(value).map_err(Stop::Error)?,
                "transition" => change.transition = transition(value)?,
                key => return Err(Stop::Error(format!("unknown command {key}"))),
            }
        }
    }
    let tokens = parse_changes(&directive.input).map_err(Stop::Error)?;
    if v1 && (tokens.len() != 1 || change.transition != Transition::Auto) {
        return Err(Stop::Error(
            "v1 conf change can only have one operation and no transition".to_owned(),
        ));
    }
    for token in &tokens {
        let single = token.change().ok_or_else(|| Fatal::new("there is no node 0"))?;
        change.changes.push(single);
    }
    let kind = if v1 { EntryKind::ConfChange } else { EntryKind::ConfChangeV2 };
    let entry = Entry { kind, data: change.encode() };
    let refused = env.node_mut(id)?.raw.propose_entries(vec![entry]);
    refused.map(drop).map_err(|_| dropped())
}

fn transition(name: &str) -> Result<Transition, Stop> {
    match name {
        "auto" => Ok(Transition::Auto),
        "implicit" => Ok(Transition::JointImplicit),
        "explicit" => Ok(Transition::JointExplicit),
        _ => Err(Stop::Error(format!("unknown transition {name}"))),
    }
}

fn raft_log(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let node = env.node(directive.node(0)?)?;
    let log = node.log()?;
    let (first, last) = (node.first(), node.last());
    if log.is_empty() {
        env.out.push(&format!("log is empty: first index={first}, last index={last}"));
    }
    for entry in log.iter() {
        env.out.line(&describe_entry(entry));
    }
    Ok(())
}

fn raft_state(env: &mut Env, _: &Directive) -> Result<(), Stop> {
    for id in env.ids() {
        let raw = &env.node(id)?.raw;
        let kind = if raw.membership().is_voter(id) { "Voter" } else { "Non-Voter" };
        let (state, leader) = (state_name(raw.role()), lead(raw.leader()));
        let line = format!("{id}: {state} ({kind}) Term:{} Lead:{leader}", raw.term());
        env.out.line(&line);
    }
    Ok(())
}

fn read_index(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let context = directive.word(1)?.to_owned().into_bytes().into();
    let asked = env.node_mut(directive.node(0)?)?.raw.read_index(context);
    asked.map_err(|e| Stop::Error(e.to_string()))
}

fn report_snapshot(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let (id, peer) = (directive.node(0)?, directive.node(1)?);
    let arrived = match directive.value("status")? {
        "ok" => true,
        "failed" => false,
        other => return Err(Fatal::new(format!("unknown status {other}")).into()),
    };
    env.node_mut(id)?.raw.report_snapshot(peer, arrived);
    Ok(())
}

fn request_snapshot(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let asked = env.node_mut(directive.node(0)?)?.raw.request_snapshot();
    asked.map_err(|e| Stop::Error(e.to_string()))
}

fn restart(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    env.restart(directive.node(0)?)
}

fn report_unreachable(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let (id, peer) = (directive.node(0)?, directive.node(1)?);
    env.node(peer)?;
    env.node_mut(id)?.raw.report_unreachable(peer);
    Ok(())
}

fn send_snapshot(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let (from, to) = (directive.node(0)?, directive.node(1)?);
    env.node(to)?;
    let node = env.node(from)?;
    let body = Body::InstallSnapshot { snapshot: Box::new(node.latest_snapshot()) };
    let message = Message { from, to, term: node.raw.term(), body };
    env.out.push(&Note::of(&message).describe(""));
    env.send(message);
    Ok(())
}

fn set_commit_groups(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let groups = directive.numbers_of_nodes()?.into_iter().map(|(id, group)| {
        let group = GroupId::new(group).ok_or_else(|| Fatal::new("there is no group 0"))?;
        Ok((id, group))
    });
    let groups: Vec<(NodeId, GroupId)> = groups.collect::<Result<_, Fatal>>()?;
    env.node_mut(directive.node(0)?)?.raw.set_commit_groups(groups);
    Ok(())
}

fn set_inflight_max(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let id = directive.node(0)?;
    for (peer, appends) in directive.numbers_of_nodes()? {
        env.node_mut(id)?.raw.set_inflight_max(peer, Some(appends));
    }
    Ok(())
}

fn set_priorities(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let priorities = directive.numbers_of_nodes()?;
    env.node_mut(directive.node(0)?)?.raw.set_priorities(priorities);
    Ok(())
}

fn set_election_timeout(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let ticks = number(directive.value("timeout")?)?;
    if ticks == 0 {
        return Err(Fatal::new("an election timeout is not 0").into());
    }
    env.node_mut(directive.node(0)?)?.raw.set_election_timeout(ticks);
    Ok(())
}

fn stabilize(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let ids = named_or_all(env, directive)?;
    let level = env.out.level();
    let result = stabilize_at_level(env, directive, &ids);
    env.out.restore_level(level);
    result
}

fn stabilize_at_level(env: &mut Env, directive: &Directive, ids: &[NodeId]) -> Result<(), Stop> {
    for arg in directive.args.iter().filter(|arg| arg.key == "log-level") {
        for value in &arg.values {
            set_level(env, value)?;
        }
    }
    env.stabilize(ids)
}

fn state(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    for id in named_or_all(env, directive)? {
        let status = env.node(id)?.raw.status();
        let at = At {
            node: id,
            term: status.hard_state.term,
            role: status.soft_state.role,
            last: status.last,
            commit: status.hard_state.commit,
            applied: status.applied,
        };
        env.out.line(&at.to_string());
    }
    Ok(())
}

fn status(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let node = env.node(directive.node(0)?)?;
    if node.raw.role() != RoleKind::Leader {
        return Ok(());
    }
    let status = node.raw.status();
    let progress = status.progress.iter().map(|(id, progress)| (*id, progress));
    let lines = progress_lines(progress, node.window());
    env.out.push(&lines);
    Ok(())
}

fn tick(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let count = directive.number(1)?;
    tick_times(env, directive, |_| count)
}

fn tick_election(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    tick_times(env, directive, |config| config.election_ticks)
}

fn tick_heartbeat(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    tick_times(env, directive, |config| config.heartbeat_ticks)
}

fn tick_times(
    env: &mut Env,
    directive: &Directive,
    ticks: impl Fn(&Config) -> u32,
) -> Result<(), Stop> {
    let id = directive.node(0)?;
    for _ in 0..ticks(&env.node(id)?.config) {
        env.node_mut(id)?.raw.tick();
        env.observe(id)?;
    }
    Ok(())
}

fn transfer_leadership(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let (from, to) = (node(directive.value("from")?)?, node(directive.value("to")?)?);
    env.node(to)?;
    env.node_mut(from)?.raw.transfer_leader(to);
    Ok(())
}
