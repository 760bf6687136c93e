//! The network between simulated stores: packets that are late, lost, doubled or out of order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use raftstore::StoreId;
use raftstore::codec::message::PeerMessage;

use crate::filter::{Filter, Passage};
use crate::sim::{Time, ms};

/// How messages travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// How long a message usually takes.
    pub delay: Range<Time>,
    /// How long it takes when it is slow.
    pub slow: Range<Time>,
    /// How many messages of 1000 are slow.
    pub slow_permille: u16,
    /// How many messages of 1000 are lost.
    pub loss_permille: u16,
    /// How many messages of 1000 arrive twice.
    pub duplicate_permille: u16,
    /// How many pieces of snapshots of 1000 arrive damaged.
    pub corrupt_permille: u16,
    /// Messages from one store to another never overtake each other, as in one TCP connection.
    pub in_order: bool,
}

impl Default for NetOptions {
    /// A healthy local network.
    fn default() -> NetOptions {
        NetOptions {
            delay: 100..500,
            slow: ms(1)..ms(20),
            slow_permille: 10,
            loss_permille: 0,
            duplicate_permille: 0,
            corrupt_permille: 0,
            in_order: true,
        }
    }
}

/// What the network did to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Handed to it.
    pub sent: u64,
    /// Lost at random.
    pub lost: u64,
    /// Kept back by a filter or a cut.
    pub filtered: u64,
    /// Doubled.
    pub doubled: u64,
    /// Slow.
    pub slow: u64,
    /// Overtaken by a later one.
    pub overtaken: u64,
    /// Held up by a clogged link.
    pub clogged: u64,
    /// Pieces of snapshots that were damaged.
    pub corrupted: u64,
    /// Connections of snapshots that broke.
    pub broken: u64,
}

/// The network.
pub struct Net {
    options: NetOptions,
    rng: fastrand::Rng,
    filters: Vec<Arc<dyn Filter>>,
    /// Directions in which nothing gets through.
    cuts: Vec<(StoreId, StoreId)>,
    /// Until when nothing gets from one to the other.
    clogs: BTreeMap<(StoreId, StoreId), Time>,
    /// When the last message from one to the other arrives.
    last: BTreeMap<(StoreId, StoreId), Time>,
    counters: NetCounters,
}

impl Net {
    /// A network whose accidents follow from `seed`.
    #[must_use]
    pub(super) fn new(options: NetOptions, seed: u64) -> Net {
        Net {
            options,
            rng: fastrand::Rng::with_seed(seed),
            filters: Vec::new(),
            cuts: Vec::new(),
            clogs: BTreeMap::new(),
            last: BTreeMap::new(),
            counters: NetCounters::default(),
        }
    }

    /// How messages travel from now on.
    pub(super) fn set_options(&mut self, options: NetOptions) {
        self.options = options;
    }

    /// Adds a filter.
    pub(super) fn add_filter(&mut self, filter: Arc<dyn Filter>) {
        self.filters.push(filter);
    }

    /// Takes all filters away.
    pub(super) fn clear_filters(&mut self) {
        self.filters.clear();
    }

    /// Nothing gets from `from` to `to` any more.
    pub(super) fn cut(&mut self, from: StoreId, to: StoreId) {
        self.cuts.push((from, to));
    }

    /// What is sent from `from` to `to` does not arrive before `until`.
    pub(super) fn clog(&mut self, from: StoreId, to: StoreId, until: Time) {
        self.clogs.insert((from, to), until);
    }

    /// Takes all cuts and clogs away.
    pub(super) fn mend(&mut self) {
        self.cuts.clear();
        self.clogs.clear();
    }

    /// What it did so far.
    #[must_use]
    pub fn counters(&self) -> NetCounters {
        self.counters
    }

    /// When `message` arrives: once, never, or twice.
    pub(super) fn send(
        &mut self,
        now: Time,
        from: StoreId,
        to: StoreId,
        message: &PeerMessage,
    ) -> Vec<Time> {
        self.counters.sent += 1;
        let asked = self.filters.iter().map(|filter| filter.passage(from, to, message));
        let passage = asked.fold(Passage::default(), Passage::then);
        if passage.lost || self.cuts.contains(&(from, to)) {
            self.counters.filtered += 1;
            return Vec::new();
        }
        if self.rng.u16(..1000) < self.options.loss_permille {
            self.counters.lost += 1;
            return Vec::new();
        }
        // What a filter holds up is overtaken even where nothing else is.
        let mut arrivals = vec![self.arrival(now, from, to) + passage.late];
        arrivals.extend(passage.again.map(|after| arrivals[0] + after));
        if self.rng.u16(..1000) < self.options.duplicate_permille {
            self.counters.doubled += 1;
            arrivals.push(self.arrival(now, from, to));
        }
        arrivals
    }

    /// When the next part of the snapshot that `message` announces arrives, over a connection in
    /// which nothing gets lost or overtaken after what arrived at `last`; `None` if that breaks.
    pub(super) fn send_part(
        &mut self,
        now: Time,
        (from, to): (StoreId, StoreId),
        message: &PeerMessage,
        last: Time,
    ) -> Option<Time> {
        if !self.is_open(from, to, message) {
            self.counters.broken += 1;
            return None;
        }
        let is_late =
            self.rng.u16(..1000) < self.options.slow_permille + self.options.loss_permille;
        let delay = if is_late { &self.options.slow } else { &self.options.delay };
        let clogged = self.clogs.get(&(from, to)).copied().unwrap_or(0);
        Some(last.max(clogged).max(now + draw(&mut self.rng, delay)))
    }

    /// Whether something gets from one store to the other at this moment.
    pub(super) fn is_open(&self, from: StoreId, to: StoreId, message: &PeerMessage) -> bool {
        !self.cuts.contains(&(from, to))
            && !self.filters.iter().any(|filter| filter.passage(from, to, message).lost)
    }

    /// Damages a piece of a snapshot, now and then.
    pub(super) fn corrupt(&mut self, piece: &mut [u8]) {
        if self.rng.u16(..1000) < self.options.corrupt_permille && !piece.is_empty() {
            self.counters.corrupted += 1;
            let at = self.rng.usize(..piece.len());
            piece[at] ^= 1 << self.rng.u32(..8);
        }
    }

    fn arrival(&mut self, now: Time, from: StoreId, to: StoreId) -> Time {
        let is_slow = self.rng.u16(..1000) < self.options.slow_permille;
        self.counters.slow += u64::from(is_slow);
        let delay = if is_slow { &self.options.slow } else { &self.options.delay };
        let mut at = now + draw(&mut self.rng, delay);
        if let Some(until) = self.clogs.get(&(from, to)).filter(|until| **until > at) {
            self.counters.clogged += 1;
            at = *until;
        }
        let last = self.last.entry((from, to)).or_default();
        if at < *last {
            if self.options.in_order {
                at = *last;
            } else {
                self.counters.overtaken += 1;
            }
        }
        *last = at.max(*last);
        at
    }
}

/// A number in `range`; its start if it is empty.
pub(crate) fn draw(rng: &mut fastrand::Rng, range: &Range<Time>) -> Time {
    if range.is_empty() { range.start } else { rng.u64(range.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Partition;
    use raft::{Body, Message, NodeId};
    use raftstore::{Epoch, RegionId};

    const A: StoreId = StoreId(1);
    const B: StoreId = StoreId(2);

    fn message() -> PeerMessage {
        let id = |n| NodeId::new(n).expect("not zero");
        let message = Message { from: id(1), to: id(2), term: 1, body: Body::TimeoutNow };
        PeerMessage { region: RegionId::FIRST, epoch: Epoch::default(), message }
    }

    fn arrivals(options: &NetOptions, seed: u64) -> Vec<Vec<Time>> {
        let mut net = Net::new(options.clone(), seed);
        (0..500).map(|now| net.send(now, A, B, &message())).collect()
    }

    #[test]
    fn everything_follows_from_the_seed() {
        let rough = NetOptions {
            loss_permille: 200,
            duplicate_permille: 200,
            slow_permille: 200,
            in_order: false,
            ..NetOptions::default()
        };
        assert_eq!(arrivals(&rough, 1), arrivals(&rough, 1));
        assert_ne!(arrivals(&rough, 1), arrivals(&rough, 2));
        let copies = |n| arrivals(&rough, 1).iter().filter(|a| a.len() == n).count();
        assert!((60..140).contains(&copies(0)), "{} lost", copies(0));
        assert!((40..140).contains(&copies(2)), "{} doubled", copies(2));
        let times: Vec<_> = arrivals(&rough, 1).concat();
        assert!(!times.is_sorted(), "some overtake others");
    }

    #[test]
    fn in_order_means_in_order() {
        let options = NetOptions { slow_permille: 300, ..NetOptions::default() };
        let times = arrivals(&options, 3).concat();
        assert_eq!(times.len(), 500);
        assert!(times.is_sorted());
    }

    #[test]
    fn cuts_have_a_direction_and_filters_do_what_they_say() {
        let mut net = Net::new(NetOptions::default(), 1);
        net.cut(A, B);
        assert!(net.send(0, A, B, &message()).is_empty());
        assert_eq!(net.send(0, B, A, &message()).len(), 1);
        net.mend();
        assert_eq!(net.send(0, A, B, &message()).len(), 1);
        net.add_filter(Arc::new(Partition { one: vec![A], other: vec![B] }));
        assert!(net.send(0, B, A, &message()).is_empty());
        net.clear_filters();
        assert_eq!(net.send(0, B, A, &message()).len(), 1);
        assert_eq!(net.counters().filtered, 2);
    }
}
