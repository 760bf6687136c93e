//! Far behind, while others go on writing.

use std::time::Instant;

use harness::cluster::{Cluster, Patience, ThreadOptions, Ticket};
use harness::sim::ms;
use kv::{Op, Request};
use raftstore::StoreId;

use super::{S1, installed};

/// Commands under way at a time.
const WINDOW: usize = 1000;

/// Puts without waiting for each.
struct Writer {
    waiting: Vec<Ticket>,
    next: u64,
    done: u64,
}

impl Writer {
    /// Goes on until `more` says that it is enough.
    fn write(&mut self, cluster: &mut Cluster, mut more: impl FnMut(&Cluster, u64) -> bool) {
        let mut leader = cluster.wait_leader();
        while more(cluster, self.done) {
            while self.waiting.len() < WINDOW {
                let key = format!("key {:06}", self.next % 20_000);
                let request = Request::from(Op::put(key, format!("{:0100}", self.next)));
                self.waiting.push(cluster.submit(leader, request));
                self.next += 1;
            }
            let now = cluster.now();
            cluster.advance(now + ms(5));
            let mut refused = false;
            while let Some((ticket, answer)) = cluster.poll() {
                self.waiting.retain(|waits| *waits != ticket);
                self.done += u64::from(answer.is_ok());
                refused |= answer.is_err();
            }
            if refused {
                leader = cluster.wait_leader();
            }
        }
    }
}

/// A store is away for 100,000 entries; the log keeps 10,000. It catches up by a snapshot while
/// everybody goes on writing, and needs few attempts: the log waits for a store that gets on.
#[test]
fn threads_away_for_100_000_entries_catches_up_under_load() {
    let options = ThreadOptions {
        log_gc_count_limit: 10_000,
        checkpoint_bytes: 1 << 20,
        ..ThreadOptions::new(3)
    };
    let mut cluster = Cluster::threaded(options);
    cluster.set_patience(Patience { must: ms(120_000), ..Patience::default() });
    let others: Vec<StoreId> = cluster.stores().into_iter().filter(|&id| id != S1).collect();
    cluster.isolate(S1);
    cluster.wait_leader_among(&others);
    let mut writer = Writer { waiting: Vec::new(), next: 0, done: 0 };
    let began = Instant::now();
    writer.write(&mut cluster, |_, done| done < 100_000);
    let alone = began.elapsed();
    cluster.heal();
    let began = Instant::now();
    let (mut caught_up, after) = (false, writer.done);
    writer.write(&mut cluster, |cluster, _| {
        let leader = others.iter().filter_map(|&id| cluster.status(id)).map(|s| s.commit).max();
        let away = cluster.status(S1).map_or(0, |status| status.applied);
        caught_up = leader.is_some_and(|commit| away + 5000 >= commit);
        assert!(began.elapsed().as_secs() < 120, "{away} of {leader:?} after two minutes");
        !caught_up
    });
    let counts = others.iter().filter_map(|&id| cluster.counters(id));
    let begun: u64 = counts.map(|counters| counters.snapshots_begun).sum();
    println!(
        "100000 entries in {} ms; then caught up in {} ms and {begun} snapshots, {} entries meanwhile",
        alone.as_millis(),
        began.elapsed().as_millis(),
        writer.done - after
    );
    cluster
        .wait_for("a snapshot to be counted", |cluster| (installed(cluster, S1) > 0).then_some(()));
    assert!(begun <= 5, "{begun} snapshots for one absence");
    cluster.must_agree();
}
