//! Leases: a leader that answers reads without asking anybody (T§6.4.1).
//!
//! Whoever hears from a leader promises to vote for nobody else, and not to stand, for an election
//! timeout by its own clock. So once a quorum has answered heartbeats that left at tick `t`, nobody
//! else leads until one of their clocks has counted that timeout from then on. The leader counts less
//! of it by its own clock, and until then what it has committed is all there is.
//!
//! ```text
//!  leader    t ───── ticks_of ─────┐ · · · clocks differ
//!            └► heartbeat n ─► answer n ─► it holds
//!  follower          └──── election_ticks ──────────────► may vote
//! ```
//!
//! What check-quorum knows will not do for a lease: a quorum was heard from since the last check, so
//! perhaps two election timeouts ago. Hence heartbeats are numbered here, as reads are.
//!
//! The promise is kept against all that could break it: it outlives a higher term that somebody
//! brings, it binds the server that was asked to [`campaign`](crate::RawNode::campaign), and after a
//! restart, which forgets it, a server waits ([`Config::is_restarted`](crate::Config::is_restarted)).
//! A leader that hands over asks somebody to break it, by a message that may be late: it has no lease
//! for the rest of its term (I3). A change of members begins the lease anew.

use std::collections::VecDeque;

use crate::config::{Config, ReadMode};
use crate::role::Leader;
use crate::server::Server;

/// Of an election timeout, how many ticks of its own clock a leader relies on. A follower's first tick
/// may come at once, so that it counts one less; and of the rest two thirds, so that no clock need run
/// slower than another's one and a half times speed allows: each may be off by a fifth.
fn ticks_of(election_ticks: u32) -> u64 {
    u64::from(election_ticks.saturating_sub(1)) * 2 / 3
}

/// A leader's lease.
#[derive(Default)]
pub(crate) struct Lease {
    /// Heartbeats that may extend it: number and the tick at which they left, ascending.
    sent: VecDeque<(u64, u64)>,
    /// The tick at which the last heartbeats left that a quorum has answered.
    since: Option<u64>,
    /// Somebody was asked to stand in spite of it.
    is_given_up: bool,
}

impl Lease {
    /// Whether nobody else can lead at the tick `now`.
    fn holds(&self, now: u64, ticks: u64) -> bool {
        !self.is_given_up && self.since.is_some_and(|since| now - since < ticks)
    }

    /// Heartbeats with that number leave at the tick `now`.
    pub(crate) fn sent(&mut self, number: u64, now: u64, election_ticks: u32) {
        let ticks = ticks_of(election_ticks);
        while self.sent.pop_front_if(|(_, left)| now - *left >= ticks).is_some() {}
        self.sent.push_back((number, now));
    }

    /// A quorum has answered the heartbeats with that number, or later ones.
    fn extend(&mut self, number: u64) {
        while let Some((_, left)) = self.sent.pop_front_if(|(sent, _)| *sent <= number) {
            self.since = Some(left);
        }
    }

    /// Other members: what was answered by those before proves nothing.
    pub(crate) fn restart(&mut self) {
        self.sent.clear();
        self.since = None;
    }

    /// Leadership is handed over, now or later.
    pub(crate) fn give_up(&mut self) {
        self.is_given_up = true;
    }
}

// ---- The leader ----

/// Whether this leader may answer reads without asking.
pub(crate) fn holds(server: &Server, leader: &Leader) -> bool {
    let ticks = ticks_of(server.config.election_ticks);
    leader.lease.as_ref().is_some_and(|lease| lease.holds(server.clock.now(), ticks))
}

/// Somebody has answered a heartbeat, up to the number that its progress says.
pub(crate) fn on_heartbeat_reply(server: &Server, leader: &mut Leader) {
    let Some(lease) = &mut leader.lease else { return };
    let (id, progress) = (server.id(), &leader.progress);
    let acked = |voter| match voter == id {
        true => u64::MAX,
        false => progress.get(voter).map_or(0, |pr| pr.read_acked),
    };
    lease.extend(server.membership.voters.committed(acked));
}

// ---- Everybody else ----

/// What a server that starts may have promised before.
pub(crate) fn promised_at_start(config: &Config) -> u64 {
    let may_have = config.read_mode == ReadMode::Lease && config.is_restarted;
    if may_have { config.election_ticks.into() } else { 0 }
}

/// What a server promises by following a leader.
pub(crate) fn promise(server: &mut Server) {
    if server.config.read_mode == ReadMode::Lease {
        server.promised_until = server.clock.now() + u64::from(server.config.election_ticks);
    }
}

/// Whether this server has promised not to vote, and not to stand, for now.
pub(crate) fn is_promised(server: &Server) -> bool {
    server.clock.now() < server.promised_until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_the_heartbeat_and_not_from_its_answer() {
        let mut lease = Lease::default();
        assert!(!lease.holds(0, 6));
        for (number, left) in [(1, 10), (2, 12), (3, 14)] {
            lease.sent(number, left, 10);
        }
        lease.extend(0);
        assert!(!lease.holds(14, 6), "nobody has answered");
        lease.extend(2);
        assert!(lease.holds(17, 6) && !lease.holds(18, 6));
        lease.extend(1);
        assert!(lease.holds(17, 6), "a late answer takes nothing away");
        lease.extend(3);
        assert!(lease.holds(19, 6));
        lease.restart();
        assert!(!lease.holds(19, 6));
    }

    #[test]
    fn heartbeats_that_cannot_extend_it_are_forgotten() {
        let mut lease = Lease::default();
        (0..1000).for_each(|tick| lease.sent(tick, tick, 10));
        assert_eq!(lease.sent.len(), 6);
    }

    /// However the clocks run within the bound, the last tick of a lease is over before the first
    /// vote: a follower's timeout takes at least one tick less than it counts.
    #[test]
    fn clocks_may_be_off_by_a_fifth() {
        for election_ticks in 2..100 {
            let slowest_leader = ticks_of(election_ticks) * 12;
            let fastest_follower = u64::from(election_ticks - 1) * 8;
            assert!(slowest_leader <= fastest_follower, "{election_ticks}");
        }
        assert_eq!(ticks_of(10), 6);
    }
}
