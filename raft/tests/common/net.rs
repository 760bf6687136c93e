//! The network between servers: what is sent first arrives first, unless a scenario cuts a link,
//! loses messages by chance, or looks at each one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::{
    ConfChange, Config, Index, Message, NodeId, ProposeError, Proposed, ReadState, RoleKind,
    StepError, Term,
};

use super::build::{Kind, Setup, id, server};
use super::{Node, Oracle};

type Hook = Box<dyn FnMut(&Message) -> bool>;

pub struct Net {
    /// Members without an entry are black holes: what is sent to them is gone.
    pub nodes: BTreeMap<u64, Node>,
    pub wire: VecDeque<Message>,
    pub oracle: Oracle,
    /// Messages that their receivers refused, with the reason.
    pub refused: Vec<(Message, StepError)>,
    /// How many messages of each kind arrived.
    pub arrived: BTreeMap<Kind, usize>,
    cut: BTreeSet<(u64, u64)>,
    loss: BTreeMap<(u64, u64), f64>,
    ignored: BTreeSet<Kind>,
    hook: Option<Hook>,
    random: fastrand::Rng,
}

/// A group of `n` new servers.
pub fn group(n: u64) -> Net {
    group_with(n, |_| {})
}

/// A group of `n` new servers with other settings.
pub fn group_with(n: u64, tune: impl Fn(&mut Config)) -> Net {
    let all: Vec<u64> = (1..=n).collect();
    Net::of(all.iter().map(|n| server(*n, &all).tune(&tune)))
}

impl Net {
    pub fn of(setups: impl IntoIterator<Item = Setup>) -> Net {
        let nodes = setups.into_iter().map(|setup| (setup.config.id.get(), setup.start()));
        Net {
            nodes: nodes.collect(),
            wire: VecDeque::new(),
            oracle: Oracle::default(),
            refused: Vec::new(),
            arrived: BTreeMap::new(),
            cut: BTreeSet::new(),
            loss: BTreeMap::new(),
            ignored: BTreeSet::new(),
            hook: None,
            random: fastrand::Rng::with_seed(1),
        }
    }

    pub fn node(&mut self, n: u64) -> &mut Node {
        self.nodes.get_mut(&n).expect("a server of this group")
    }

    // ---- Faults ----

    /// Nothing passes between the two, either way.
    pub fn cut(&mut self, a: u64, b: u64) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    pub fn cut_one_way(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Nothing passes between `n` and anybody else.
    pub fn isolate(&mut self, n: u64) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|other| *other != n).collect();
        for other in others {
            self.cut(n, other);
        }
    }

    /// All messages of that kind get lost from now on.
    pub fn ignore(&mut self, kind: Kind) {
        self.ignored.insert(kind);
    }

    /// Messages from one to the other get lost with that probability.
    pub fn lose(&mut self, from: u64, to: u64, probability: f64) {
        self.loss.insert((from, to), probability);
    }

    pub fn seed(&mut self, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
    }

    /// Messages for which `keep` says no get lost.
    pub fn hook(&mut self, keep: impl FnMut(&Message) -> bool + 'static) {
        self.hook = Some(Box::new(keep));
    }

    /// The network works again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.loss.clear();
        self.ignored.clear();
        self.hook = None;
    }

    fn passes(&mut self, message: &Message) -> bool {
        let link = (message.from.get(), message.to.get());
        if self.cut.contains(&link) || self.ignored.contains(&Kind::of(&message.body)) {
            return false;
        }
        if self.loss.get(&link).is_some_and(|p| self.random.f64() < *p) {
            return false;
        }
        self.hook.as_mut().is_none_or(|keep| keep(message))
    }

    // ---- Running ----

    /// Puts what `messages` can pass onto the wire.
    pub fn post(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            if self.passes(&message) {
                self.wire.push_back(message);
            }
        }
    }

    /// What every server has to do, onto the wire.
    pub fn gather(&mut self) {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        for n in all {
            let messages = self.node(n).settle();
            self.post(messages);
        }
    }

    /// Delivers the oldest message; says whether there was one.
    pub fn deliver(&mut self) -> bool {
        let Some(message) = self.wire.pop_front() else { return false };
        let to = message.to.get();
        let Some(node) = self.nodes.get_mut(&to) else { return true };
        *self.arrived.entry(Kind::of(&message.body)).or_default() += 1;
        if let Err(refused) = node.step(message.clone()) {
            self.refused.push((message, refused));
        }
        let messages = node.settle();
        self.oracle.observe(&self.nodes);
        self.post(messages);
        true
    }

    /// Delivers messages until none is left.
    pub fn pump(&mut self) {
        self.gather();
        for _ in 0..100_000 {
            if !self.deliver() {
                self.oracle.check(&self.nodes);
                return;
            }
        }
        panic!("the network does not come to rest");
    }

    /// One message from outside, and what comes of it.
    pub fn send(&mut self, message: Message) {
        self.wire.push_back(message);
        self.pump();
    }

    pub fn campaign(&mut self, n: u64) {
        self.node(n).raw.campaign();
        self.pump();
    }

    pub fn propose(&mut self, n: u64, text: &str) -> Result<Proposed, ProposeError> {
        let proposed = self.node(n).raw.propose(Bytes::copy_from_slice(text.as_bytes()));
        self.pump();
        proposed
    }

    /// A proposal that must be taken.
    pub fn put(&mut self, n: u64, text: &str) {
        self.propose(n, text).expect("somebody leads");
    }

    pub fn change(&mut self, n: u64, change: &ConfChange) {
        self.node(n).raw.propose_conf_change(change).expect("somebody leads");
        self.pump();
    }

    /// A tick of one server.
    pub fn tick(&mut self, n: u64) {
        self.node(n).raw.tick();
        self.pump();
    }

    /// So many ticks of one server.
    pub fn ticks(&mut self, n: u64, ticks: u32) {
        for _ in 0..ticks {
            self.tick(n);
        }
    }

    /// So many ticks of everybody.
    pub fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for node in self.nodes.values_mut() {
                node.raw.tick();
            }
            self.pump();
        }
    }

    /// A heartbeat of the leader `n`, and what comes of it.
    pub fn beat(&mut self, n: u64) {
        let ticks = self.node(n).config.heartbeat_ticks;
        self.ticks(n, ticks);
    }

    pub fn transfer(&mut self, leader: u64, to: u64) {
        self.node(leader).raw.transfer_leader(id(to));
        self.pump();
    }

    /// Asks for a read at `n`; the answer, if it comes.
    pub fn read(&mut self, n: u64, context: &str) -> Option<ReadState> {
        let context = Bytes::copy_from_slice(context.as_bytes());
        let _ = self.node(n).raw.read_index(context.clone());
        self.pump();
        let reads = &mut self.node(n).reads;
        let at = reads.iter().position(|read| read.context == context)?;
        Some(reads.remove(at))
    }

    pub fn restart(&mut self, n: u64) {
        self.node(n).restart();
    }

    // ---- Questions ----

    pub fn role(&self, n: u64) -> RoleKind {
        self.nodes[&n].raw.role()
    }

    pub fn term(&self, n: u64) -> Term {
        self.nodes[&n].raw.term()
    }

    pub fn commit(&self, n: u64) -> Index {
        self.nodes[&n].raw.commit()
    }

    /// Who leads in the highest term.
    pub fn leader(&self) -> Option<u64> {
        let leaders = self.nodes.iter().filter(|(_, node)| node.raw.role() == RoleKind::Leader);
        leaders.max_by_key(|(_, node)| node.raw.term()).map(|(n, _)| *n)
    }

    pub fn leader_of(&self, n: u64) -> Option<NodeId> {
        self.nodes[&n].raw.leader()
    }

    /// Ticks everybody until somebody leads; who.
    pub fn elect(&mut self, ticks_max: u32) -> Option<u64> {
        for _ in 0..ticks_max {
            if let Some(leader) = self.leader() {
                return Some(leader);
            }
            self.run(1);
        }
        self.leader()
    }

    /// All logs are equal, and everything in them is committed and applied.
    pub fn assert_equal(&self) {
        let mut all = self.nodes.values().map(|node| {
            let raw = &node.raw;
            (raw.last(), raw.commit(), raw.applied_index(), node.digest)
        });
        let first = all.next().expect("a group is not empty");
        assert_eq!(first.0.index, first.1, "everything is committed");
        for other in all {
            assert_eq!(other, first);
        }
    }

    /// The roles of the servers 1, 2, ….
    pub fn roles(&self) -> Vec<RoleKind> {
        self.nodes.values().map(|node| node.raw.role()).collect()
    }

    /// The terms of the servers 1, 2, ….
    pub fn terms(&self) -> Vec<Term> {
        self.nodes.values().map(|node| node.raw.term()).collect()
    }
}
