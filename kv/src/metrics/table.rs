//! Every metric: its name, what it means, and where its value is.
//!
//! Times are counted in nanoseconds and shown in seconds. What the step function counts is as of the
//! last tick, everything else as of now.

use raft::RoleKind;
use raftstore::store::RegionStatus;

use super::Figures;
use super::text::{Kind, Metric, Samples};

/// Nanoseconds.
const SECONDS: f64 = 1e9;

/// A sample for each region.
fn each(from: &Figures, to: &mut Samples<'_>, value: fn(&RegionStatus) -> u64) {
    from.regions.iter().for_each(|region| to.of(region.region.id, value(region)));
}

fn sum(from: &Figures, value: fn(&RegionStatus) -> u64) -> u64 {
    from.regions.iter().map(value).sum()
}

fn sending(from: &Figures) -> u64 {
    let count = from.node.counters.store;
    count.snapshots_begun.saturating_sub(count.snapshots_sent + count.snapshots_failed)
}

/// A row of the table.
const fn metric(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: fn(&Figures, &mut Samples<'_>),
) -> Metric {
    Metric { name, kind, help, samples }
}

use Kind::{Counter, Gauge, Histogram};

/// All of them, in the order in which they are shown.
pub(super) const METRICS: &[Metric] = &[
    metric("raftkv_server_id", Gauge, "Always 1; its label is the id of the store.", |from, to| {
        to.labelled("store", from.store, 1);
    }),
    metric(
        "raftkv_server_is_failed",
        Gauge,
        "1 if the store has failed: it acknowledges nothing any more.",
        |from, to| {
            to.value(u8::from(from.node.is_failed));
        },
    ),
    metric(
        "raftkv_server_has_leader",
        Gauge,
        "1 if a leader of the region is known.",
        |from, to| {
            each(from, to, |r| r.leader.is_some().into());
        },
    ),
    metric("raftkv_server_is_leader", Gauge, "1 if this store leads the region.", |from, to| {
        each(from, to, |r| (r.role == RoleKind::Leader).into());
    }),
    metric(
        "raftkv_server_leader_changes_seen_total",
        Counter,
        "Times a leader was learned of, over all regions.",
        |from, to| {
            to.value(from.node.counters.store.leader_changes);
        },
    ),
    metric(
        "raftkv_server_elections_won_total",
        Counter,
        "Times this store became leader, over all regions.",
        |from, to| {
            to.value(from.node.counters.store.elections_won);
        },
    ),
    metric(
        "raftkv_server_proposals_total",
        Counter,
        "Commands taken on to be proposed.",
        |from, to| {
            to.value(from.node.counters.store.proposals);
        },
    ),
    metric(
        "raftkv_server_proposals_failed_total",
        Counter,
        "Commands refused because they could not be proposed: no leader here, another epoch, too much uncommitted.",
        |from, to| {
            to.value(from.node.counters.store.proposals_failed);
        },
    ),
    metric(
        "raftkv_server_proposals_pending",
        Gauge,
        "Commands proposed by this store and not yet applied.",
        |from, to| {
            to.value(sum(from, |r| r.pending_proposals as u64));
        },
    ),
    metric(
        "raftkv_server_proposals_committed_total",
        Counter,
        "Entries committed and handed to the state machine.",
        |from, to| {
            to.value(from.node.counters.store.committed);
        },
    ),
    metric(
        "raftkv_server_proposals_applied_total",
        Counter,
        "Entries applied by the state machine.",
        |from, to| {
            to.value(from.node.counters.applied);
        },
    ),
    metric(
        "raftkv_server_apply_duration_seconds",
        Histogram,
        "Time to apply what had queued.",
        |from, to| {
            to.histogram(&from.node.apply_times, SECONDS);
        },
    ),
    metric(
        "raftkv_server_slow_apply_total",
        Counter,
        "Times that took longer than 0.1 s.",
        |from, to| {
            to.value(from.node.counters.slow_applies);
        },
    ),
    metric(
        "raftkv_server_busy_total",
        Counter,
        "Commands and reads refused because too much was waiting.",
        |from, to| {
            to.value(from.node.counters.busy);
        },
    ),
    metric("raftkv_server_reads_total", Counter, "Reads taken on.", |from, to| {
        to.value(from.node.counters.store.reads);
    }),
    metric(
        "raftkv_server_read_indexes_pending",
        Gauge,
        "Reads whose index is not confirmed yet.",
        |from, to| {
            to.value(sum(from, |r| r.pending_reads as u64));
        },
    ),
    metric(
        "raftkv_server_read_indexes_failed_total",
        Counter,
        "Reads whose index was not confirmed in time.",
        |from, to| {
            to.value(from.node.counters.store.reads_expired);
        },
    ),
    metric(
        "raftkv_server_reads_running",
        Gauge,
        "Reads confirmed and on their way to the state machine.",
        |from, to| {
            to.value(from.node.reading);
        },
    ),
    metric("raftkv_raft_groups", Gauge, "Regions on this store.", |from, to| {
        to.value(from.regions.len());
    }),
    metric("raftkv_raft_groups_led", Gauge, "Regions that this store leads.", |from, to| {
        to.value(sum(from, |r| (r.role == RoleKind::Leader).into()));
    }),
    metric("raftkv_raft_term", Gauge, "Term of the region's peer.", |from, to| {
        each(from, to, |r| r.term);
    }),
    metric("raftkv_raft_commit_index", Gauge, "Last index known to be committed.", |from, to| {
        each(from, to, |r| r.commit);
    }),
    metric("raftkv_raft_applied_index", Gauge, "Last index applied.", |from, to| {
        each(from, to, |r| r.applied);
    }),
    metric(
        "raftkv_raft_applied_index_lag",
        Gauge,
        "Committed entries that are not applied yet.",
        |from, to| {
            each(from, to, |r| r.commit.saturating_sub(r.applied));
        },
    ),
    metric("raftkv_raft_last_index", Gauge, "Last index of the log.", |from, to| {
        each(from, to, |r| r.last);
    }),
    metric(
        "raftkv_raft_compacted_index",
        Gauge,
        "Index before the first of the log.",
        |from, to| {
            each(from, to, |r| r.compacted);
        },
    ),
    metric(
        "raftkv_raft_rounds_total",
        Counter,
        "Rounds of the loop that handed something out.",
        |from, to| {
            to.value(from.node.counters.store.rounds);
        },
    ),
    metric(
        "raftkv_network_messages_sent_total",
        Counter,
        "Raft messages handed out to be sent.",
        |from, to| {
            to.value(from.node.counters.store.messages_out);
        },
    ),
    metric(
        "raftkv_network_messages_received_total",
        Counter,
        "Raft messages taken.",
        |from, to| {
            to.value(from.node.counters.store.messages_in);
        },
    ),
    metric(
        "raftkv_network_messages_refused_total",
        Counter,
        "Raft messages for unknown regions or peers, or that the core refused.",
        |from, to| {
            to.value(from.node.counters.store.messages_refused);
        },
    ),
    metric(
        "raftkv_network_messages_dropped_total",
        Counter,
        "Raft messages that found a full inbox or no connection.",
        |from, to| {
            to.value(from.node.counters.messages_dropped);
        },
    ),
    metric(
        "raftkv_disk_wal_fsync_duration_seconds",
        Histogram,
        "Time of a sync of the log.",
        |from, to| {
            to.histogram(&from.node.sync_times, SECONDS);
        },
    ),
    metric(
        "raftkv_disk_wal_fsyncs_total",
        Counter,
        "Syncs of the log that were begun.",
        |from, to| {
            to.value(from.node.counters.syncs);
        },
    ),
    metric(
        "raftkv_disk_wal_fsync_failures_total",
        Counter,
        "Syncs of the log that failed; the first is the end of the store.",
        |from, to| {
            to.value(from.node.counters.sync_failures);
        },
    ),
    metric(
        "raftkv_disk_wal_write_failures_total",
        Counter,
        "Appends that failed, but for lack of room; the first is the end of the store.",
        |from, to| {
            to.value(from.node.counters.write_failures);
        },
    ),
    metric("raftkv_disk_wal_appends_total", Counter, "Batches appended to the log.", |from, to| {
        to.value(from.node.counters.appends);
    }),
    metric(
        "raftkv_disk_wal_write_bytes_total",
        Counter,
        "Bytes appended to the log.",
        |from, to| {
            to.value(from.node.counters.log_bytes);
        },
    ),
    metric(
        "raftkv_disk_wal_batch_bytes",
        Histogram,
        "Bytes appended to the log in one go.",
        |from, to| {
            to.histogram(&from.node.batch_bytes, 1.0);
        },
    ),
    metric(
        "raftkv_disk_wal_carried_bytes_total",
        Counter,
        "Bytes of live records written again so that a segment could be dropped.",
        |from, to| {
            to.value(from.node.log.carried_bytes);
        },
    ),
    metric(
        "raftkv_disk_wal_segments_started_total",
        Counter,
        "Segments of the log started.",
        |from, to| {
            to.value(from.node.log.started);
        },
    ),
    metric(
        "raftkv_disk_wal_segments_dropped_total",
        Counter,
        "Segments of the log dropped because nothing in them was needed.",
        |from, to| {
            to.value(from.node.log.dropped);
        },
    ),
    metric("raftkv_disk_wal_segments", Gauge, "Segments of the log.", |from, to| {
        to.value(from.node.log.segments);
    }),
    metric(
        "raftkv_disk_wal_file_bytes",
        Gauge,
        "Bytes of the log's files, of those made ahead of use, too.",
        |from, to| {
            to.value(from.node.log.file_bytes);
        },
    ),
    metric(
        "raftkv_disk_wal_live_bytes",
        Gauge,
        "Bytes of the log that some region still needs.",
        |from, to| {
            to.value(from.node.log.live_bytes);
        },
    ),
    metric(
        "raftkv_disk_is_full",
        Gauge,
        "1 while there is no room for the log: writes wait.",
        |from, to| {
            to.value(u8::from(from.node.counters.is_disk_full));
        },
    ),
    metric(
        "raftkv_disk_wal_recovery_records",
        Gauge,
        "Records read when the log was opened.",
        |from, to| {
            to.value(from.recovery.records);
        },
    ),
    metric("raftkv_disk_wal_recovery_bytes", Gauge, "Their bytes.", |from, to| {
        to.value(from.recovery.bytes);
    }),
    metric(
        "raftkv_disk_wal_recovery_torn_bytes",
        Gauge,
        "Bytes of a torn tail cut off when the log was opened.",
        |from, to| {
            to.value(from.recovery.torn_bytes);
        },
    ),
    metric(
        "raftkv_disk_wal_recovery_duration_seconds",
        Gauge,
        "Time it took to open the log.",
        |from, to| {
            to.value(from.recovery.took.as_secs_f64());
        },
    ),
    metric("raftkv_snapshot_sends_total", Counter, "Snapshots begun to be sent.", |from, to| {
        to.value(from.node.counters.store.snapshots_begun);
    }),
    metric(
        "raftkv_snapshot_sends_arrived_total",
        Counter,
        "Snapshots that arrived where they were sent.",
        |from, to| {
            to.value(from.node.counters.store.snapshots_sent);
        },
    ),
    metric(
        "raftkv_snapshot_send_failures_total",
        Counter,
        "Snapshots that did not.",
        |from, to| {
            to.value(from.node.counters.store.snapshots_failed);
        },
    ),
    metric("raftkv_snapshot_sending", Gauge, "Snapshots being sent.", |from, to| {
        to.value(sending(from));
    }),
    metric(
        "raftkv_snapshot_sent_bytes_total",
        Counter,
        "Bytes of snapshots sent; grows while one is on its way.",
        |from, to| {
            to.value(from.node.counters.snapshot_bytes_sent);
        },
    ),
    metric(
        "raftkv_snapshot_send_duration_seconds",
        Histogram,
        "Time to send a snapshot that arrived.",
        |from, to| {
            to.histogram(&from.node.send_times, SECONDS);
        },
    ),
    metric("raftkv_snapshot_receiving", Gauge, "Snapshots being received.", |from, to| {
        to.value(from.node.receiving);
    }),
    metric(
        "raftkv_snapshot_received_bytes_total",
        Counter,
        "Bytes of snapshots received; grows while one arrives.",
        |from, to| {
            to.value(from.node.counters.snapshot_bytes_received);
        },
    ),
    metric(
        "raftkv_snapshot_receive_failures_total",
        Counter,
        "Snapshots that began to arrive and were refused, broken off or damaged.",
        |from, to| {
            to.value(from.node.counters.snapshot_receive_failures);
        },
    ),
    metric(
        "raftkv_snapshot_receive_duration_seconds",
        Histogram,
        "Time to receive a whole snapshot and make it durable.",
        |from, to| {
            to.histogram(&from.node.receive_times, SECONDS);
        },
    ),
    metric(
        "raftkv_snapshot_receives_taken_total",
        Counter,
        "Received snapshots that replaced a log.",
        |from, to| {
            to.value(from.node.counters.store.snapshots_taken);
        },
    ),
    metric(
        "raftkv_snapshot_receives_refused_total",
        Counter,
        "Received snapshots that were not needed.",
        |from, to| {
            to.value(from.node.counters.store.snapshots_refused);
        },
    ),
    metric(
        "raftkv_snapshot_installs_total",
        Counter,
        "Snapshots that replaced a state.",
        |from, to| {
            to.value(from.node.counters.store.snapshots_installed);
        },
    ),
    metric("raftkv_state_keys", Gauge, "Keys in the state machine.", |from, to| {
        to.value(from.keys);
    }),
    metric(
        "raftkv_state_bytes",
        Gauge,
        "Bytes of keys and values in the state machine.",
        |from, to| {
            to.value(from.state_bytes);
        },
    ),
];
