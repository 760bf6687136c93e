//! What a store counts and times while it runs, for whoever watches it.
//!
//! The step function counts for itself, in plain numbers that the loop shows once a tick
//! ([`Counters`]). Everything here is counted by threads beside it: relaxed atomics, no lock, no
//! allocation, and nothing that one thread does slows another down, because what different threads
//! write lies in different cache lines. A store has counters of its own; nothing is global, so stores of
//! one process do not mix.
//!
//! | group | written by |
//! |---|---|
//! | log | whoever writes the log: its threads, or the loop |
//! | apply | whoever applies: its thread, or the loop |
//! | snapshots | threads that send or receive one |
//! | traffic | the threads of clients and of other stores |
//!
//! What is read together was not always true together: a scrape may see an append without its sync.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::store::Counters;
use crate::wal::WalStats;

/// Applying that takes longer is counted as slow: everybody who waits for an answer notices.
pub const SLOW_APPLY: Duration = Duration::from_millis(100);

/// Bounds of a histogram of times: 2^14 ns (16 µs), doubled up to 2^33 ns (8.6 s).
const TIMES: (u32, usize) = (14, 20);
/// Bounds of a histogram of sizes: 256 bytes, doubled up to 16 MiB.
const SIZES: (u32, usize) = (8, 17);
/// Room for the bounds of either, and for what is beyond the last.
const BUCKETS_MAX: usize = 21;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Adds to what nobody else changes at this moment.
fn add_alone(to: &AtomicU64, more: u64) {
    to.store(to.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// How often values came that lie between bounds which double, and their sum.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS_MAX],
    sum: AtomicU64,
    /// The first bound as a power of two, and how many there are.
    bounds: (u32, usize),
}

impl Histogram {
    pub(crate) const fn of_times() -> Histogram {
        Histogram::with(TIMES)
    }

    pub(crate) const fn of_sizes() -> Histogram {
        Histogram::with(SIZES)
    }

    const fn with(bounds: (u32, usize)) -> Histogram {
        let buckets = [const { AtomicU64::new(0) }; BUCKETS_MAX];
        Histogram { buckets, sum: AtomicU64::new(0), bounds }
    }

    fn bucket(&self, value: u64) -> &AtomicU64 {
        let (first, count) = self.bounds;
        // The least power of two that is no less.
        let power = u64::BITS - value.saturating_sub(1).leading_zeros();
        &self.buckets[(power.saturating_sub(first) as usize).min(count)]
    }

    /// Counts a value.
    pub(crate) fn record(&self, value: u64) {
        self.bucket(value).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a value, when nobody else does at this moment.
    fn record_alone(&self, value: u64) {
        add_alone(self.bucket(value), 1);
        add_alone(&self.sum, value);
    }

    /// Counts a time.
    pub(crate) fn record_time(&self, took: Duration) {
        self.record(nanos(took));
    }

    fn view(&self) -> HistogramView {
        let (first, count) = self.bounds;
        let load = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
        let bound = |k: usize| 1 << (first + k as u32);
        let within = self.buckets[..count].iter().enumerate();
        HistogramView {
            buckets: within.map(|(k, bucket)| (bound(k), load(bucket))).collect(),
            beyond: load(&self.buckets[count]),
            sum: load(&self.sum),
        }
    }
}

/// A histogram as it was when it was asked for. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramView {
    /// Upper bounds, each included, and how many values lie between it and the one before.
    pub buckets: Vec<(u64, u64)>,
    /// Values beyond the last bound.
    pub beyond: u64,
    /// Of all values.
    pub sum: u64,
}

impl HistogramView {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.beyond
    }
}

/// Shared counters of one store; each is written by one or few threads and only read for show.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) log: LogCounts,
    pub(crate) apply: ApplyCounts,
    pub(crate) snapshots: SnapshotCounts,
    pub(crate) traffic: TrafficCounts,
}

/// The log's.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct LogCounts {
    pub(crate) appends: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_failures: AtomicU64,
    pub(crate) write_failures: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// The log will need another segment before long.
    pub(crate) wants_segment: AtomicBool,
    pub(crate) is_disk_full: AtomicBool,
    pub(crate) sync_times: Histogram,
    /// Bytes appended in one go: what queued while the disk was busy.
    pub(crate) batch_bytes: Histogram,
    sizes: [AtomicU64; 6],
}

impl Default for LogCounts {
    fn default() -> LogCounts {
        LogCounts {
            appends: AtomicU64::default(),
            syncs: AtomicU64::default(),
            sync_failures: AtomicU64::default(),
            write_failures: AtomicU64::default(),
            bytes: AtomicU64::default(),
            wants_segment: AtomicBool::default(),
            is_disk_full: AtomicBool::default(),
            sync_times: Histogram::of_times(),
            batch_bytes: Histogram::of_sizes(),
            sizes: Default::default(),
        }
    }
}

impl LogCounts {
    /// How large the log is now.
    pub(crate) fn show(&self, stats: &WalStats) {
        self.bytes.store(stats.bytes, Ordering::Relaxed);
        let values = [
            stats.segments_started,
            stats.segments_dropped,
            stats.carried_bytes,
            stats.segments,
            stats.file_bytes,
            stats.live_bytes,
        ];
        for (size, value) in self.sizes.iter().zip(values) {
            size.store(value, Ordering::Relaxed);
        }
    }

    fn shown(&self) -> LogSizes {
        let [started, dropped, carried_bytes, segments, file_bytes, live_bytes] =
            self.sizes.each_ref().map(|size| size.load(Ordering::Relaxed));
        LogSizes { started, dropped, carried_bytes, segments, file_bytes, live_bytes }
    }
}

/// How large the log is, as of the last batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSizes {
    /// Segments started.
    pub started: u64,
    /// Segments dropped because nobody needed anything in them.
    pub dropped: u64,
    /// Bytes written again so that a segment could be dropped.
    pub carried_bytes: u64,
    /// Segments there are.
    pub segments: u64,
    /// Bytes of their files, and of those made ahead of use.
    pub file_bytes: u64,
    /// Bytes that groups still need.
    pub live_bytes: u64,
}

/// The state machine's.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct ApplyCounts {
    /// Entries applied.
    pub(crate) entries: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) times: Histogram,
}

impl Default for ApplyCounts {
    fn default() -> ApplyCounts {
        let (entries, slow) = (AtomicU64::default(), AtomicU64::default());
        ApplyCounts { entries, slow, times: Histogram::of_times() }
    }
}

impl ApplyCounts {
    /// So many entries were applied, in one go that took so long. Called by whoever has the applier,
    /// one at a time: so nothing has to be added in one step, which every round would pay for.
    pub(crate) fn applied(&self, entries: usize, took: Duration) {
        self.times.record_alone(nanos(took));
        add_alone(&self.entries, entries as u64);
        if took >= SLOW_APPLY {
            add_alone(&self.slow, 1);
        }
    }
}

/// Those of snapshots on their way.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct SnapshotCounts {
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    /// Begun to arrive, and not become a file.
    pub(crate) receive_failures: AtomicU64,
    pub(crate) send_times: Histogram,
    pub(crate) receive_times: Histogram,
}

impl Default for SnapshotCounts {
    fn default() -> SnapshotCounts {
        SnapshotCounts {
            bytes_sent: AtomicU64::default(),
            bytes_received: AtomicU64::default(),
            receive_failures: AtomicU64::default(),
            send_times: Histogram::of_times(),
            receive_times: Histogram::of_times(),
        }
    }
}

/// Those of what comes from outside.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct TrafficCounts {
    pub(crate) busy: AtomicU64,
    pub(crate) messages_dropped: AtomicU64,
}

/// What a node has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// Those of the store.
    pub store: Counters,
    /// Batches appended to the log.
    pub appends: u64,
    /// Times the log was synced.
    pub syncs: u64,
    /// Times that failed: after the first, nothing is acknowledged any more.
    pub sync_failures: u64,
    /// Appends that failed, but for lack of room.
    pub write_failures: u64,
    /// Bytes appended to the log.
    pub log_bytes: u64,
    /// There is no room for the log right now: writes wait.
    pub is_disk_full: bool,
    /// Entries applied.
    pub applied: u64,
    /// Times that applying what had queued took longer than [`SLOW_APPLY`].
    pub slow_applies: u64,
    /// Commands and reads refused because too much was waiting.
    pub busy: u64,
    /// Raft messages that found a full inbox, here or at another store, or no connection.
    pub messages_dropped: u64,
    /// Bytes of snapshots handed to the transport.
    pub snapshot_bytes_sent: u64,
    /// Bytes of snapshots that arrived.
    pub snapshot_bytes_received: u64,
    /// Snapshots that began to arrive and did not become a file.
    pub snapshot_receive_failures: u64,
}

/// What there is to see of a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeMetrics {
    /// What was counted.
    pub counters: NodeCounters,
    /// How large the log is.
    pub log: LogSizes,
    /// How long syncs of the log took.
    pub sync_times: HistogramView,
    /// Bytes appended to the log in one go.
    pub batch_bytes: HistogramView,
    /// How long it took to apply what had queued.
    pub apply_times: HistogramView,
    /// How long snapshots took that arrived where they were sent.
    pub send_times: HistogramView,
    /// How long it took to receive snapshots.
    pub receive_times: HistogramView,
    /// Snapshots that are being received.
    pub receiving: u64,
    /// Reads of clients that are confirmed and wait to be applied.
    pub reading: u64,
    /// The store has failed, and acknowledges nothing any more.
    pub is_failed: bool,
}

impl Counts {
    /// With those of the step function.
    pub(crate) fn counters(&self, store: Counters) -> NodeCounters {
        let Counts { log, apply, snapshots, traffic } = self;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        NodeCounters {
            store,
            appends: load(&log.appends),
            syncs: load(&log.syncs),
            sync_failures: load(&log.sync_failures),
            write_failures: load(&log.write_failures),
            log_bytes: load(&log.bytes),
            is_disk_full: log.is_disk_full.load(Ordering::Relaxed),
            applied: load(&apply.entries),
            slow_applies: load(&apply.slow),
            busy: load(&traffic.busy),
            messages_dropped: load(&traffic.messages_dropped),
            snapshot_bytes_sent: load(&snapshots.bytes_sent),
            snapshot_bytes_received: load(&snapshots.bytes_received),
            snapshot_receive_failures: load(&snapshots.receive_failures),
        }
    }

    /// All that is counted here; `receiving`, `reading` and `is_failed` are for the node to fill in.
    pub(crate) fn metrics(&self, store: Counters) -> NodeMetrics {
        NodeMetrics {
            counters: self.counters(store),
            log: self.log.shown(),
            sync_times: self.log.sync_times.view(),
            batch_bytes: self.log.batch_bytes.view(),
            apply_times: self.apply.times.view(),
            send_times: self.snapshots.send_times.view(),
            receive_times: self.snapshots.receive_times.view(),
            receiving: 0,
            reading: 0,
            is_failed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_at_the_first_bound_that_is_no_less() {
        let sizes = Histogram::of_sizes();
        for value in [0, 1, 255, 256, 257, 512, 513, 1 << 24, (1 << 24) + 1, 1 << 63] {
            sizes.record(value);
        }
        let view = sizes.view();
        assert_eq!(view.buckets[..3], [(256, 4), (512, 2), (1024, 1)]);
        assert_eq!(view.buckets.last(), Some(&(1 << 24, 1)));
        assert_eq!((view.beyond, view.count()), (2, 10));
        let times = Histogram::of_times();
        times.record_time(Duration::from_micros(3));
        let view = times.view();
        assert_eq!((view.buckets[0].0, view.buckets.last().map(|b| b.0)), (1 << 14, Some(1 << 33)));
        assert_eq!(view.count(), 1);
    }

    /// Against the slow way, for every bound and its neighbours.
    #[test]
    fn bounds_double_and_are_included() {
        for histogram in [Histogram::of_times, Histogram::of_sizes] {
            let bounds: Vec<u64> = histogram().view().buckets.iter().map(|b| b.0).collect();
            assert!(bounds.windows(2).all(|pair| pair[1] == 2 * pair[0]), "{bounds:?}");
            for value in bounds.iter().flat_map(|bound| [bound - 1, *bound, bound + 1]) {
                let one = histogram();
                one.record(value);
                let view = one.view();
                let alone = histogram();
                alone.record_alone(value);
                assert_eq!(alone.view(), view);
                let at = bounds.iter().position(|bound| *bound >= value);
                let found = view.buckets.iter().position(|(_, count)| *count == 1);
                assert_eq!(found, at, "{value}");
                assert_eq!((view.beyond, view.sum), (u64::from(at.is_none()), value));
            }
        }
    }

    #[test]
    fn what_different_threads_write_shares_no_cache_line() {
        assert!(std::mem::align_of::<Counts>() >= 128);
        assert_eq!(std::mem::offset_of!(Counts, apply) % 128, 0);
        assert_eq!(std::mem::offset_of!(Counts, snapshots) % 128, 0);
        assert_eq!(std::mem::offset_of!(Counts, traffic) % 128, 0);
    }
}
