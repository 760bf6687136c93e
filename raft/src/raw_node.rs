//! The public face of a server (etcd's RawNode): inputs are method calls, output is one [`Ready`].

use bytes::Bytes;

use crate::conf_change::ConfChange;
use crate::config::{Config, ConfigError};
use crate::entry::{Entry, EntryKind};
use crate::error::{CompactError, NewError, ProposeError, ReadError, StepError};
use crate::group_commit::GroupId;
use crate::invariants::Invariants;
use crate::lease;
use crate::log::{Log, Terms};
use crate::membership::Membership;
use crate::message::{Body, Message};
use crate::raft::{Proposed, Raft};
use crate::ready::{Apply, News, Ready, Write, Written};
use crate::replication;
use crate::role::Role;
use crate::server::{Clock, Outbox, Server};
use crate::snapshot;
use crate::stall::Stall;
use crate::storage::{InitialState, Storage};
use crate::trace::{Tracer, Tracing};
use crate::types::{COUNT_MAX, HardState, Index, LogId, NodeId, SoftState};

/// One server of one group.
pub struct RawNode {
    pub(crate) raft: Raft,
    /// As last handed out.
    soft_state: SoftState,
    hard_state: HardState,
    /// Writes handed out, and reported, so far.
    writes: u64,
    pub(crate) reported: u64,
    /// Reported before a write that was handed out earlier: they wait for it. Boxed, as a server is
    /// small and reports come in order.
    #[allow(clippy::box_collection, reason = "see above")]
    pub(crate) early: Option<Box<Vec<Written>>>,
    /// Made when a stalled disk is first looked for, which is off by default.
    stall: Option<Box<Stall>>,
    invariants: Invariants,
    pub(crate) tracing: Option<Box<Tracing>>,
}

impl RawNode {
    /// Starts a server with what `storage` has: as a follower, whoever it was before.
    ///
    /// # Errors
    /// If the settings contradict each other, or the storage cannot be read or contradicts itself:
    /// its log would be shorter than what was committed or applied.
    pub fn new(config: Config, storage: Box<dyn Storage + Send>) -> Result<RawNode, NewError> {
        config.validate()?;
        let InitialState { hard_state, conf_state, compacted, terms, last } =
            storage.initial_state()?;
        let inconsistent = NewError::Inconsistent;
        let terms = Terms::from_runs(compacted, &terms, last)
            .ok_or(inconsistent("the log's terms are not those of one log"))?;
        let membership = Membership::from_conf_state(&conf_state)
            .ok_or(inconsistent("the configuration cannot have been reached"))?;
        if hard_state.commit > last {
            return Err(inconsistent("committed entries are missing from the log"));
        }
        if last.max(hard_state.term) >= COUNT_MAX {
            return Err(inconsistent("no log is so long, and no term so late"));
        }
        let oldest = if compacted.index > 0 { Some(compacted) } else { terms.runs().next() };
        if oldest.is_some_and(|oldest| oldest.term == 0) {
            return Err(inconsistent("there are entries, and terms begin at 1"));
        }
        // A new server that was given the first snapshot of a group need not know its term.
        let is_new = hard_state.is_empty() && terms.last_id().term == 1;
        if terms.last_id().term > hard_state.term && !is_new {
            return Err(inconsistent("the log is of a later term than the hard state"));
        }
        if config.applied != 0 && !(compacted.index..=last).contains(&config.applied) {
            return Err(inconsistent("the applied index is outside of the log"));
        }
        let mut log = Log::new(terms, storage, config.apply_bytes_max);
        // What is applied was committed, whether or not the hard state got to say so (P4).
        log.commit_to(hard_state.commit.max(config.applied));
        log.applied_to(config.applied, 0);
        let server = Server {
            term: hard_state.term,
            vote: hard_state.vote,
            log,
            membership,
            wishes: None,
            clock: Clock::default(),
            election_since: 0,
            promised_until: lease::promised_at_start(&config),
            election_timeout: 0,
            random: fastrand::Rng::with_seed(config.seed ^ config.id.get().rotate_left(32)),
            out: Outbox::default(),
            config,
        };
        let raft = Raft::new(server);
        Ok(RawNode {
            soft_state: raft.soft_state(),
            hard_state: raft.server.hard_state(),
            invariants: Invariants::new(&raft),
            raft,
            writes: 0,
            reported: 0,
            early: None,
            stall: None,
            tracing: None,
        })
    }

    /// Has `tracer` told of everything from now on.
    pub fn set_tracer(&mut self, tracer: Box<dyn Tracer>) {
        self.tracing = Some(Box::new(Tracing::new(tracer, &self.raft)));
    }

    /// What ends every public call: the invariants hold, and who watches is told what changed.
    #[inline]
    pub(crate) fn observe(&mut self) {
        self.raft.server.clock.wake();
        self.invariants.check(&self.raft);
        if let Some(tracing) = &mut self.tracing {
            tracing.changes(&self.raft);
        }
    }

    // ---- Inputs ----

    /// Time passes, by one tick.
    pub fn tick(&mut self) {
        if self.raft.server.clock.tick() {
            self.whole_tick();
        }
    }

    /// A tick with which something may be due.
    fn whole_tick(&mut self) {
        self.raft.cool();
        self.raft.tick();
        if self.raft.server.config.write_ticks_max != 0 {
            let stall = self.stall.get_or_insert_default();
            let next = stall.tick(&mut self.raft, self.writes, self.reported);
            self.raft.become_next(next);
        }
        self.observe();
        let due = self.raft.next_due();
        self.raft.server.clock.sleep_until(due);
    }

    /// Takes a message from a peer.
    ///
    /// # Errors
    /// If the message cannot be right, or is a forwarded proposal that is refused. Nothing is lost
    /// by dropping it; which error says who may have lost data.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        let id = self.id();
        if message.to != id {
            return Err(StepError::NotForMe { to: message.to });
        }
        let is_reply = matches!(
            message.body,
            Body::RequestVoteReply { .. }
                | Body::AppendEntriesReply(_)
                | Body::HeartbeatReply { .. }
                | Body::ReadIndexReply { .. }
        );
        // A request comes back to who was asked first, if that one leads by now.
        let is_forwarded = matches!(
            message.body,
            Body::TransferLeader | Body::Propose { .. } | Body::ReadIndex { .. }
        );
        if message.from == id && !is_forwarded {
            return Err(StepError::FromMyself);
        }
        if is_reply && !self.raft.server.membership.contains(message.from) {
            return Err(StepError::PeerNotFound);
        }
        if !message.is_well_formed() {
            return Err(StepError::Malformed);
        }
        if let Some(tracing) = &mut self.tracing {
            tracing.received(&message);
        }
        let stepped = self.raft.step(message);
        self.observe();
        stepped
    }

    /// Stands for election now, as if the election timer had run out. Without effect on a leader,
    /// on a server that may not vote, and while a membership change waits to be applied.
    pub fn campaign(&mut self) {
        self.raft.campaign();
        self.observe();
    }

    /// Offers a command to the group: appended here if this server leads, else passed to the
    /// leader if it is known.
    ///
    /// # Errors
    /// If it was not taken: it will never have an effect.
    pub fn propose(&mut self, data: Bytes) -> Result<Proposed, ProposeError> {
        let proposed = self.raft.propose_one(data);
        self.observe();
        proposed
    }

    /// Offers several entries, all or none of them.
    ///
    /// # Errors
    /// As [`RawNode::propose`].
    pub fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<Proposed, ProposeError> {
        let proposed = self.raft.propose(entries);
        self.observe();
        proposed
    }

    /// Offers a membership change. A leader that cannot make it, because one is pending or a joint
    /// configuration is to be left first, appends an empty entry in its place.
    ///
    /// # Errors
    /// As [`RawNode::propose`].
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<Proposed, ProposeError> {
        let entry = Entry { kind: EntryKind::ConfChangeV2, data: change.encode() };
        self.propose_entries(vec![entry])
    }

    /// Asks for the index that a linearizable read has to wait for; the answer comes with some
    /// [`Ready::reads`], marked by `context`. It may get lost with a change of leader: ask again.
    ///
    /// # Errors
    /// If no leader is known.
    pub fn read_index(&mut self, context: Bytes) -> Result<(), ReadError> {
        let asked = self.raft.read_index(context);
        self.observe();
        asked
    }

    /// Asks that `to` become leader. Nothing comes of it if `to` does not vote or does not answer.
    pub fn transfer_leader(&mut self, to: NodeId) {
        self.raft.transfer_leader(to);
        self.observe();
    }

    /// Turns check-quorum on or off from now on (T§6.2).
    ///
    /// # Errors
    /// If lease reads depend on it.
    pub fn set_check_quorum(&mut self, on: bool) -> Result<(), ConfigError> {
        let mut config = self.raft.server.config.clone();
        config.check_quorum = on;
        config.validate()?;
        self.raft.server.config = config;
        Ok(())
    }

    /// From now on commits only what voters of two groups have, if a majority has it, too; members
    /// that are not named are in no group. Nobody named: a majority decides alone, as usual.
    /// Groups are this server's own setting, so give them to all that may lead.
    pub fn set_commit_groups(&mut self, groups: impl IntoIterator<Item = (NodeId, GroupId)>) {
        self.raft.server.wishes.get_or_insert_default().commit_groups =
            groups.into_iter().collect();
        self.raft.recount();
        self.observe();
    }

    /// Who should rather lead: from now on this server refuses its vote to a candidate of lower
    /// priority whose log is no longer than its own. A longer log is not refused, so what is
    /// committed is never at stake. Members that are not named have priority 0.
    ///
    /// The server with the highest priority is elected as soon as it is up to date; if it is cut
    /// off after it refused its vote, an election takes a few rounds more.
    pub fn set_priorities(&mut self, priorities: impl IntoIterator<Item = (NodeId, u32)>) {
        self.raft.server.wishes.get_or_insert_default().priorities =
            priorities.into_iter().collect();
    }

    /// A follower forgets who leads, and so may vote before the leader's lease is over. For
    /// applications that know the leader to be gone. Refused with lease reads.
    pub fn forget_leader(&mut self) {
        self.raft.forget_leader();
        self.observe();
    }

    /// `id` could not be reached: what was sent to it may be lost.
    pub fn report_unreachable(&mut self, id: NodeId) {
        if let Role::Leader(leader) = &mut self.raft.role {
            replication::on_unreachable(leader, id);
        }
        self.observe();
    }

    /// The snapshot on its way to `id` has arrived, or has failed. Whoever carries snapshots has to
    /// say one or the other of each: `id` is sent nothing until then, or until it acknowledges as
    /// much as the log can be continued from. Arrived means received: that it is still lost, by a
    /// crash before it was installed, the next append finds out.
    pub fn report_snapshot(&mut self, id: NodeId, arrived: bool) {
        if let Role::Leader(leader) = &mut self.raft.role {
            snapshot::on_report(leader, id, arrived);
        }
        self.observe();
    }

    /// The storage drops the log up to `to`; gives that entry's position. Followers that need
    /// something before get a snapshot from now on.
    ///
    /// # Errors
    /// If it is dropped already, or not applied.
    pub fn compact(&mut self, to: Index) -> Result<LogId, CompactError> {
        let compacted = self.raft.server.log.compact(to);
        self.observe();
        compacted
    }

    // ---- Output ----

    /// Whether [`RawNode::ready`] has anything to hand out.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        let server = &self.raft.server;
        self.raft.as_leader().is_some_and(|leader| leader.wants_flush)
            || !server.out.messages.is_empty()
            || !server.out.promises.is_empty()
            || server.out.reads.is_some()
            || server.log.has_unhanded()
            || server.log.has_unhanded_snapshot()
            || server.log.has_next_apply(server.config.apply_unpersisted)
            || is_due(News::of(&self.hard_state, &server.hard_state()), server)
            || self.soft_state != self.raft.soft_state()
    }

    /// Hands out all there is to do.
    pub fn ready(&mut self) -> Ready {
        if let Role::Leader(leader) = &mut self.raft.role {
            replication::flush(&mut self.raft.server, leader);
        }
        let soft_state = self.raft.soft_state();
        let changed = soft_state != self.soft_state;
        self.soft_state = soft_state;
        let write = self.next_write();
        let apply = self.next_apply();
        self.observe();
        let out = &mut self.raft.server.out;
        if let Some(tracing) = &mut self.tracing {
            tracing.sent(&out.messages);
        }
        Ready {
            messages: out.take_messages(),
            write,
            apply,
            reads: out.take_reads(),
            soft_state: changed.then_some(soft_state),
        }
    }

    fn next_apply(&mut self) -> Option<Apply> {
        let server = &mut self.raft.server;
        if !server.log.has_next_apply(server.config.apply_unpersisted) {
            return None;
        }
        // Entries that cannot be read now are handed out by a later call.
        let entries = server.log.take_next_apply(server.config.apply_unpersisted).ok()?;
        Some(Apply { bytes: entries.size(), entries, switched: 0, refused: Vec::new() })
    }

    fn next_write(&mut self) -> Option<Write> {
        let server = &mut self.raft.server;
        let entries = server.log.take_unhanded();
        let snapshot = server.log.take_unhanded_snapshot();
        let promises = server.out.take_promises();
        let hard_state = server.hard_state();
        let news = News::of(&self.hard_state, &hard_state);
        let has_more = !entries.is_empty() || snapshot.is_some() || !promises.is_empty();
        if !has_more && !is_due(news, server) {
            return None;
        }
        self.hard_state = hard_state;
        self.writes += 1;
        Some(Write {
            number: self.writes,
            must_sync: !entries.is_empty() || snapshot.is_some() || news == News::TermOrVote,
            last: server.log.has_unstable().then(|| server.last_id()),
            entries,
            hard_state,
            news,
            snapshot,
            promises,
        })
    }

    /// For scripts and tests: replaces the randomized election timeout until the next change of
    /// role.
    pub fn set_election_timeout(&mut self, ticks: u32) {
        self.raft.server.election_timeout = ticks;
        self.observe();
    }
}

/// Whether news of the hard state are worth a write of their own.
fn is_due(news: News, server: &Server) -> bool {
    match news {
        News::Nothing => false,
        News::Commit => !server.config.lazy_commit,
        News::TermOrVote => true,
    }
}
