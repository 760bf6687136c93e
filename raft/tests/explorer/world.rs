//! A world: servers, what is on the wire, and what may happen next.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{Body, ConfChange, ConfChangeKind, Message, NodeId, RoleKind, Transition};

use crate::check::Checks;
use crate::common::build::{changes, voters};
use crate::common::{Node, id, server};

/// What a world is, and what may happen in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) servers: u64,
    /// Who votes at the start; others come in by changes.
    pub(crate) voters: &'static [u64],
    /// How often what may happen.
    pub(crate) budget: Budget,
    /// Membership changes that leaders propose, in this order, each once.
    pub(crate) changes: &'static [Change],
    /// Servers whose writes take as long as they like; the others' are on disk at once.
    pub(crate) slow_disks: &'static [u64],
    /// Servers whose state machines take as long as they like.
    pub(crate) slow_applies: &'static [u64],
    pub(crate) pre_vote: bool,
    /// Whether servers tell each other what is committed.
    pub(crate) commit_hints: bool,
    pub(crate) check_quorum: bool,
    pub(crate) eager_appends: bool,
}

/// How often something may happen in a world.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    /// Elections that are begun, by anybody.
    pub(crate) campaigns: u32,
    pub(crate) proposals: u32,
    /// Reads, asked of anybody who knows a leader.
    pub(crate) reads: u32,
    /// Rounds of heartbeats.
    pub(crate) beats: u32,
    /// Election timeouts that pass at one server alone.
    pub(crate) lapses: u32,
    pub(crate) crashes: u32,
    /// Messages that are delivered twice.
    pub(crate) repeats: u32,
    pub(crate) compactions: u32,
    pub(crate) transfers: u32,
}

/// A membership change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change(pub(crate) Transition, pub(crate) &'static [(ConfChangeKind, u64)]);

/// Something that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Campaign(u64),
    Propose(u64),
    Change(u64),
    Read(u64),
    Transfer(u64, u64),
    Beat(u64),
    Lapse(u64),
    /// The message at that place on the wire arrives.
    Deliver(usize),
    /// It arrives, and stays on the wire.
    Repeat(usize),
    /// It never arrives.
    Lose(usize),
    /// The oldest write of a slow disk is done.
    Persist(u64),
    /// The oldest entries handed to a slow state machine are applied.
    Apply(u64),
    Crash(u64),
    Compact(u64),
    /// Who sent the snapshot that arrived there as the oldest hears so.
    Report,
}

/// Ticks until a leader makes sure of its quorum, and a follower's lease is over; it stands after
/// twice as many.
const LAPSE: u32 = 4;

pub(crate) struct World {
    rules: Rules,
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) wire: Vec<Message>,
    /// Snapshots that have arrived, from whom and where, and the sender does not know. What became
    /// of it there, and whether it is on the disk, it is not told.
    pub(crate) arrived: VecDeque<(NodeId, NodeId)>,
    /// What is left of the budget.
    pub(crate) left: Budget,
    /// How many of the changes were proposed.
    pub(crate) changed: usize,
    pub(crate) checks: Checks,
    proposed: u32,
}

impl World {
    pub(crate) fn new(rules: Rules) -> World {
        let all: Vec<u64> = (1..=rules.servers).collect();
        let node = |n: &u64| {
            let setup = server(*n, &all).members(voters(rules.voters)).tune(|c| {
                c.pre_vote = rules.pre_vote;
                c.commit_hints = rules.commit_hints;
                c.check_quorum = rules.check_quorum;
                c.eager_appends = rules.eager_appends;
                c.heartbeat_ticks = if rules.budget.lapses > 0 { LAPSE - 1 } else { 1 };
                c.election_ticks = LAPSE;
                c.election_ticks_range = Some(2 * LAPSE..2 * LAPSE + 1);
            });
            let mut node = setup.start();
            node.hold_writes = rules.slow_disks.contains(n);
            node.hold_applies = rules.slow_applies.contains(n);
            (*n, node)
        };
        World {
            nodes: all.iter().map(node).collect(),
            wire: Vec::new(),
            arrived: VecDeque::new(),
            left: rules.budget,
            changed: 0,
            checks: Checks::default(),
            proposed: 0,
            rules,
        }
    }

    /// All that may happen now, each with how far out of the way it is: 0 for what happens in a
    /// world where nothing goes wrong, 1 for anything else.
    pub(crate) fn choices(&self) -> Vec<(Choice, u32)> {
        let mut choices = Vec::new();
        for (at, message) in self.wire.iter().enumerate() {
            // Of equal messages one is enough.
            if !self.wire[..at].contains(message) {
                choices.push(Choice::Deliver(at));
            }
        }
        choices.extend(self.events());
        let mut choices: Vec<_> = choices.into_iter().zip((0..).map(|n: u32| n.min(1))).collect();
        if !self.wire.is_empty() {
            choices.push((Choice::Lose(0), 1));
            if self.left.repeats > 0 {
                choices.push((Choice::Repeat(0), 1));
            }
        }
        if !self.arrived.is_empty() {
            choices.push((Choice::Report, 1));
        }
        choices
    }

    fn events(&self) -> Vec<Choice> {
        let of_each = |may: &dyn Fn(u64, &Node) -> bool, what: fn(u64) -> Choice| {
            let able = self.nodes.iter().filter(|(n, node)| may(**n, node)).map(|(n, _)| *n);
            able.map(what).collect::<Vec<_>>()
        };
        let (left, rules) = (&self.left, &self.rules);
        let leads = |node: &Node| node.raw.role() == RoleKind::Leader;
        // Until somebody has stood, servers with equal disks are alike.
        let untouched = left.campaigns == rules.budget.campaigns && rules.slow_disks.is_empty();
        let alike = untouched && rules.changes.is_empty();
        let news = |node: &Node| node.raw.applied_index() > node.raw.compacted().index;
        let change_due = self.changed < rules.changes.len();
        let mut events = [
            of_each(&|_, node| left.proposals > 0 && leads(node), Choice::Propose),
            of_each(&|_, node| change_due && leads(node), Choice::Change),
            of_each(&|_, node| left.reads > 0 && node.raw.leader().is_some(), Choice::Read),
            of_each(
                &|n, node| left.campaigns > 0 && !leads(node) && (n == 1 || !alike),
                Choice::Campaign,
            ),
            of_each(&|_, node| left.beats > 0 && leads(node), Choice::Beat),
            of_each(&|_, _| left.lapses > 0, Choice::Lapse),
            of_each(&|_, node| left.compactions > 0 && news(node), Choice::Compact),
            of_each(&|_, node| !node.writes.is_empty(), Choice::Persist),
            of_each(&|_, node| !node.applies.is_empty(), Choice::Apply),
            of_each(&|_, _| left.crashes > 0, Choice::Crash),
        ]
        .concat();
        for (n, _) in self.nodes.iter().filter(|(_, node)| left.transfers > 0 && leads(node)) {
            let others = self.nodes.keys().filter(|to| *to != n);
            events.extend(others.map(|to| Choice::Transfer(*n, *to)));
        }
        events
    }

    /// Makes a choice happen; an error is a broken promise.
    pub(crate) fn run(&mut self, choice: Choice) -> Result<(), String> {
        let left = &mut self.left;
        let spent = match choice {
            Choice::Repeat(_) => Some(&mut left.repeats),
            Choice::Campaign(_) => Some(&mut left.campaigns),
            Choice::Propose(_) => Some(&mut left.proposals),
            Choice::Read(_) => Some(&mut left.reads),
            Choice::Transfer(..) => Some(&mut left.transfers),
            Choice::Beat(_) => Some(&mut left.beats),
            Choice::Lapse(_) => Some(&mut left.lapses),
            Choice::Crash(_) => Some(&mut left.crashes),
            Choice::Compact(_) => Some(&mut left.compactions),
            Choice::Deliver(_)
            | Choice::Lose(_)
            | Choice::Change(_)
            | Choice::Persist(_)
            | Choice::Apply(_)
            | Choice::Report => None,
        };
        if let Some(spent) = spent {
            *spent -= 1;
        }
        let (n, messages) = self.act(choice);
        self.wire.extend(messages);
        if !self.rules.pre_vote && !self.rules.check_quorum {
            // A term on disk is for ever: what is older is not even answered, so it may be
            // forgotten. (The paper tests see to it that it is not listened to.)
            let nodes = &self.nodes;
            let term = |m: &Message| nodes[&m.to.get()].storage.hard_state().term;
            self.wire.retain(|m| m.term == 0 || m.term >= term(m));
        }
        self.checks.look(n, &self.nodes)
    }

    /// Lets it happen; gives where, and what is sent.
    fn act(&mut self, choice: Choice) -> (u64, Vec<Message>) {
        match choice {
            Choice::Deliver(at) => {
                let message = self.wire.remove(at);
                self.deliver(message)
            }
            Choice::Repeat(at) => {
                let message = self.wire[at].clone();
                self.deliver(message)
            }
            Choice::Lose(at) => {
                let Message { from, to, body, .. } = self.wire.remove(at);
                if let Body::InstallSnapshot { .. } = body {
                    // Who sends snapshots says when one is lost: until then the leader waits.
                    return self.at(from.get(), |node| node.raw.report_snapshot(to, false));
                }
                (to.get(), Vec::new())
            }
            Choice::Campaign(n) => self.at(n, |node| node.raw.campaign()),
            Choice::Propose(n) => {
                self.proposed += 1;
                let data = Bytes::from(format!("{}", self.proposed));
                self.at(n, |node| node.raw.propose(data))
            }
            Choice::Change(n) => {
                let change = self.next_change();
                self.at(n, |node| node.raw.propose_conf_change(&change))
            }
            Choice::Read(n) => {
                let context = self.checks.ask();
                self.at(n, |node| node.raw.read_index(context))
            }
            Choice::Transfer(n, to) => self.at(n, |node| node.raw.transfer_leader(id(to))),
            Choice::Beat(n) => (n, self.node(n).tick(1)),
            Choice::Lapse(n) => (n, self.node(n).tick(LAPSE)),
            Choice::Persist(n) => {
                let node = self.node(n);
                let mut messages = node.persist();
                messages.extend(node.settle());
                (n, messages)
            }
            Choice::Apply(n) => self.at(n, Node::apply),
            Choice::Crash(n) => self.at(n, Node::restart),
            Choice::Compact(n) => self.at(n, |node| node.compact(node.raw.applied_index())),
            Choice::Report => {
                let (from, to) = self.arrived.pop_front().expect("one that has arrived");
                self.at(from.get(), |node| node.raw.report_snapshot(to, true))
            }
        }
    }

    /// Something that happens at `n`, and what it leads to there.
    fn at<R>(&mut self, n: u64, what: impl FnOnce(&mut Node) -> R) -> (u64, Vec<Message>) {
        let node = self.node(n);
        let _ = what(node);
        (n, node.settle())
    }

    fn next_change(&mut self) -> ConfChange {
        let Change(transition, who) = self.rules.changes[self.changed];
        self.changed += 1;
        changes(transition, who)
    }

    fn node(&mut self, n: u64) -> &mut Node {
        self.nodes.get_mut(&n).expect("a server of this world")
    }

    fn deliver(&mut self, message: Message) -> (u64, Vec<Message>) {
        if let Body::InstallSnapshot { .. } = message.body {
            self.arrived.push_back((message.from, message.to));
        }
        // What a server refuses to look at is as good as lost.
        self.at(message.to.get(), |node| node.step(message))
    }

    // ---- Liveness ----

    /// From now on nothing is lost and nobody crashes: somebody leads before long, and what it
    /// proposes is applied by all who vote.
    pub(crate) fn recover(mut self) -> Result<(), String> {
        for node in self.nodes.values_mut() {
            (node.hold_writes, node.hold_applies) = (false, false);
        }
        for turn in 0..40 {
            // One server at a time, as chance would have it sooner or later (§5.2).
            let n = turn % self.rules.servers + 1;
            self.calm(n, |node| node.tick(LAPSE))?;
            let leads = |node: &Node| node.raw.role() == RoleKind::Leader;
            let of = self.nodes.iter().filter(|(_, node)| leads(node)).map(|(n, _)| *n);
            let Some(leader) = of.max_by_key(|n| self.nodes[n].raw.term()) else { continue };
            self.calm(leader, |node| {
                let _ = node.raw.propose(Bytes::from_static(b"at last"));
                node.settle()
            })?;
            if self.all_have_heard(leader) {
                return Ok(());
            }
        }
        Err("no progress though nothing fails any more".into())
    }

    /// Something happens at `n`, and everything that comes of it arrives.
    fn calm(&mut self, n: u64, what: impl FnOnce(&mut Node) -> Vec<Message>) -> Result<(), String> {
        let messages = what(self.node(n));
        self.wire.extend(messages);
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        loop {
            for n in &all {
                let node = self.node(*n);
                let mut messages = node.persist_all();
                node.apply_all();
                messages.extend(node.persist_all());
                self.wire.extend(messages);
            }
            while let Some((from, to)) = self.arrived.pop_front() {
                let (_, messages) = self.at(from.get(), |node| node.raw.report_snapshot(to, true));
                self.wire.extend(messages);
            }
            self.checks.look(n, &self.nodes)?;
            if self.wire.is_empty() {
                return Ok(());
            }
            let message = self.wire.remove(0);
            let (at, messages) = self.deliver(message);
            self.wire.extend(messages);
            self.checks.look(at, &self.nodes)?;
        }
    }

    /// Whether all who vote, as the leader has it, have applied what it proposed. (Who was removed
    /// need not know.)
    fn all_have_heard(&self, leader: u64) -> bool {
        let heard = |n: NodeId| self.nodes[&n.get()].said().iter().any(|text| text == "at last");
        self.nodes[&leader].raw.membership().voters.voters().all(heard)
    }
}
