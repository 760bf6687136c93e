//! Servers that are sent anything: messages that others sent, late, twice or bent, and messages
//! that nobody sent; with local calls in any order, slow disks and state machines, and crashes.
//!
//! A server believes what is well formed, so forged messages can make a group lose what it has
//! promised: what spans servers is not looked at here. What each server promises alone holds
//! whatever it is told: it does not panic, its term, commit and applied indexes never fall, it
//! votes once a term, what it has committed is never replaced, and it can start again with its own
//! disk.
//!
//! A *life* is one group under one seed, for so many messages; then comes the next.
//!
//! ```
//! use harness::fuzz::{Counts, run};
//!
//! let mut all = Counts::default();
//! all.add(&run(7, 1000)?);
//! assert!(all.messages >= 1000);
//! # Ok::<(), String>(())
//! ```

mod forge;
mod host;

use std::collections::BTreeMap;
use std::fmt;

use fastrand::Rng;
use raft::{ConfState, Config, MemStorage, Message, NodeId, ReadMode, RoleKind, StepError};

use forge::{Forge, kind};
use host::Host;

/// Messages in a life.
pub const LIFE: u64 = 4_000;

/// Messages that may be on their way at most; more are lost.
const WIRE: usize = 48;

/// What came of all messages.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Messages stepped.
    pub messages: u64,
    /// Of them, such as nobody sent.
    pub forged: u64,
    /// Local calls.
    pub calls: u64,
    /// Restarts.
    pub restarts: u64,
    /// Whom the messages met, by role.
    pub roles: BTreeMap<&'static str, u64>,
    /// Messages of each kind: how many were taken, how many refused.
    pub kinds: BTreeMap<&'static str, (u64, u64)>,
    /// Why messages were refused.
    pub refusals: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Adds those of another life.
    pub fn add(&mut self, other: &Counts) {
        self.messages += other.messages;
        self.forged += other.forged;
        self.calls += other.calls;
        self.restarts += other.restarts;
        for (kind, (taken, refused)) in &other.kinds {
            let sum = self.kinds.entry(kind).or_default();
            *sum = (sum.0 + taken, sum.1 + refused);
        }
        for (why, count) in &other.refusals {
            *self.refusals.entry(why).or_default() += count;
        }
        for (role, count) in &other.roles {
            *self.roles.entry(role).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (taken, refused)) in &self.kinds {
            writeln!(f, "{taken:>12} {kind} taken, {refused} refused")?;
        }
        for (why, count) in &self.refusals {
            writeln!(f, "{count:>12} refused: {why}")?;
        }
        for (role, count) in &self.roles {
            writeln!(f, "{count:>12} met a {role}")?;
        }
        write!(
            f,
            "{} messages ({} forged), {} local calls, {} restarts",
            self.messages, self.forged, self.calls, self.restarts
        )
    }
}

fn why(refused: &StepError) -> &'static str {
    match refused {
        StepError::NotForMe { .. } => "not for this server",
        StepError::FromMyself => "from itself",
        StepError::PeerNotFound => "an answer of nobody",
        StepError::Malformed => "malformed",
        StepError::BeyondLog { .. } => "beyond the log",
        StepError::ConflictsWithCommitted { .. } => "over a committed entry",
        StepError::Dropped(_) => "a proposal that is not taken",
        _ => "other",
    }
}

fn role(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate => "pre-candidate",
        RoleKind::Candidate => "candidate",
        RoleKind::Leader => "leader",
    }
}

/// One group, under fire.
struct Life {
    random: Rng,
    hosts: Vec<Host>,
    wire: Vec<Message>,
    /// Numbers at the end of what can be counted are thrown in.
    far: bool,
    counts: Counts,
}

/// Lives one life of so many messages.
///
/// # Errors
/// With the first promise that is broken.
pub fn run(seed: u64, messages: u64) -> Result<Counts, String> {
    let mut life = Life::new(seed)?;
    while life.counts.messages < messages {
        let at = life.counts.messages;
        life.step().map_err(|broken| format!("message {at}: {broken}"))?;
    }
    Ok(life.counts)
}

fn config(id: NodeId, random: &mut Rng) -> Config {
    let one_of = |random: &mut Rng, choices: &[u64]| choices[random.usize(..choices.len())];
    let check_quorum = random.bool();
    let append_bytes_max = one_of(random, &[0, 1, 40, 1 << 20]);
    let lease = check_quorum && random.bool();
    Config {
        election_ticks: random.u32(3..8),
        heartbeat_ticks: random.u32(1..3),
        append_bytes_max,
        inflight_max: random.usize(1..6),
        inflight_bytes_max: if random.bool() { 0 } else { append_bytes_max },
        apply_bytes_max: one_of(random, &[1, 60, 1 << 20]),
        uncommitted_bytes_max: one_of(random, &[0, 20, 1 << 30]),
        pre_vote: random.bool(),
        check_quorum,
        eager_appends: random.bool(),
        skip_commit_broadcast: random.bool(),
        apply_unpersisted: random.bool(),
        commit_hints: random.bool(),
        disable_conf_change_validation: random.u32(..4) == 0,
        step_down_on_removal: random.bool(),
        disable_proposal_forwarding: random.u32(..4) == 0,
        read_mode: if lease { ReadMode::Lease } else { ReadMode::Safe },
        write_ticks_max: if random.u32(..4) == 0 { 5 } else { 0 },
        seed: random.u64(..),
        ..Config::new(id)
    }
}

impl Life {
    fn new(seed: u64) -> Result<Life, String> {
        let mut random = Rng::with_seed(seed);
        let servers = random.u64(1..=5);
        let ids: Vec<NodeId> = (1..=servers).filter_map(NodeId::new).collect();
        let learners = ids[1..].iter().copied().filter(|_| random.u32(..6) == 0).collect();
        let mut members = ConfState { learners, ..ConfState::default() };
        let votes = |id: &NodeId| !members.learners.contains(id);
        members.voters = ids.iter().copied().filter(votes).collect();
        let host = |id: &NodeId| {
            let log = MemStorage::with_conf_state(members.clone());
            Host::new(config(*id, &mut random), log)
        };
        let hosts = ids.iter().map(host).collect::<Result<_, _>>()?;
        let far = random.u32(..8) == 0;
        Ok(Life { random, hosts, wire: Vec::new(), far, counts: Counts::default() })
    }

    /// Something happens to somebody.
    fn step(&mut self) -> Result<(), String> {
        let at = self.random.usize(..self.hosts.len());
        let at = match self.random.u32(..16) {
            0..=6 => self.deliver(at),
            7..=10 => {
                let to = &self.hosts[at].raw;
                let message = Forge { random: &mut self.random, far: self.far }.message(to);
                self.counts.forged += 1;
                self.give(at, message)
            }
            _ => {
                self.counts.calls += 1;
                self.call(at)?;
                at
            }
        };
        let host = &mut self.hosts[at];
        host.check()?;
        if self.random.u32(..4) > 0 && host.raw.has_ready() {
            let messages = host.ready();
            self.post(messages);
        }
        self.work(at);
        let host = &mut self.hosts[at];
        if self.random.u32(..8) == 0 {
            host.check_progress()?;
        }
        host.check()
    }

    /// A message on the wire arrives, or comes to somebody else instead, bent; gives who got one.
    fn deliver(&mut self, other: usize) -> usize {
        if self.wire.is_empty() {
            self.hosts[other].raw.tick();
            return other;
        }
        let which = self.random.usize(..self.wire.len());
        let again = self.random.u32(..8) == 0;
        let message = if again { self.wire[which].clone() } else { self.wire.swap_remove(which) };
        if self.random.u32(..8) == 0 {
            let to = &self.hosts[other].raw;
            let bent = Forge { random: &mut self.random, far: self.far }.bend(message, to);
            self.counts.forged += 1;
            return self.give(other, bent);
        }
        match self.hosts.iter().position(|host| host.id() == message.to) {
            Some(to) => self.give(to, message),
            None => other,
        }
    }

    fn give(&mut self, to: usize, message: Message) -> usize {
        let kind = kind(&message.body);
        *self.counts.roles.entry(role(self.hosts[to].raw.role())).or_default() += 1;
        let stepped = self.hosts[to].raw.step(message);
        self.counts.messages += 1;
        let counts = self.counts.kinds.entry(kind).or_default();
        match stepped {
            Ok(()) => counts.0 += 1,
            Err(refused) => {
                counts.1 += 1;
                *self.counts.refusals.entry(why(&refused)).or_default() += 1;
            }
        }
        to
    }

    fn post(&mut self, messages: Vec<Message>) {
        self.wire.extend(messages);
        while self.wire.len() > WIRE {
            let lost = self.random.usize(..self.wire.len());
            self.wire.swap_remove(lost);
        }
    }

    /// The disk and the state machine get on, or do not.
    fn work(&mut self, at: usize) {
        let (random, host) = (&mut self.random, &mut self.hosts[at]);
        for _ in 0..random.u32(..3) {
            host.write();
        }
        let mut promises = Vec::new();
        for _ in 0..random.u32(..3) {
            promises.extend(host.report(random.usize(..)));
        }
        for _ in 0..random.u32(..3) {
            host.apply(random.u32(..4) == 0, random.u32(..8) == 0);
        }
        self.post(promises);
    }

    /// The application, or time, does something.
    fn call(&mut self, at: usize) -> Result<(), String> {
        let host = &mut self.hosts[at];
        let mut forge = Forge { random: &mut self.random, far: self.far };
        match forge.random.u32(..40) {
            0..=9 => (0..forge.random.u32(1..12)).for_each(|_| host.raw.tick()),
            10..=12 => host.raw.campaign(),
            13..=17 => drop(host.raw.propose(forge.entry().data)),
            18..=20 => {
                let entries = (0..forge.random.u32(..4)).map(|_| forge.entry()).collect();
                let _ = host.raw.propose_entries(entries);
            }
            21..=23 => drop(host.raw.propose_conf_change(&forge.change())),
            24 | 25 => drop(host.raw.read_index(forge.entry().data)),
            26 | 27 => host.raw.transfer_leader(forge.id()),
            28 => host.raw.forget_leader(),
            29 | 30 => {
                let applied = host.raw.applied_index();
                let to = if forge.random.bool() { applied } else { forge.index(&host.raw) };
                host.compact(to);
            }
            31 => host.raw.report_unreachable(forge.id()),
            32 | 33 => host.raw.report_snapshot(forge.id(), forge.random.bool()),
            34 => host.raw.set_election_timeout(forge.random.u32(..20)),
            35 => drop(host.raw.set_check_quorum(forge.random.bool())),
            36 => host.raw.set_priorities([(forge.id(), forge.random.u32(..3))]),
            37 => {
                let count = forge.random.u64(..4);
                let group = |number: u64| Some((forge.id(), number.try_into().ok()?));
                let groups: Vec<_> = (1..=count).filter_map(group).collect();
                host.raw.set_commit_groups(groups);
            }
            38 => host.set_disk_fails(forge.random.u32(..4) == 0),
            _ => {
                self.counts.restarts += 1;
                host.restart()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{LIFE, run};

    #[test]
    fn a_seed_is_a_life() {
        let a = run(7, 500).expect("nothing is broken");
        let b = run(7, 500).expect("nothing is broken");
        assert_eq!(format!("{a}"), format!("{b}"));
        assert_ne!(format!("{a}"), format!("{}", run(8, 500).expect("nothing is broken")));
    }

    #[test]
    fn lives_of_any_messages() {
        let mut all = super::Counts::default();
        for seed in 0..10 {
            all.add(&run(seed, LIFE).unwrap_or_else(|broken| panic!("seed {seed}: {broken}")));
        }
        assert_eq!(all.kinds.len(), super::forge::KINDS, "{all}");
        assert!(all.kinds.values().all(|(taken, _)| *taken > 100), "{all}");
        assert!(all.refusals.len() >= 6 && all.restarts > 100, "{all}");
        assert!(all.roles.len() == 4 && all.roles.values().all(|met| *met > 1000), "{all}");
    }
}
