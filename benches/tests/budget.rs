//! What a committed entry costs on three nodes, in things that can be counted: messages, syncs, and
//! copies of its payload. `benches/README.md` quotes these; allocations are counted in
//! `allocations.rs`, in a process of their own.

use benches::cells::noise;
use benches::cluster::{Cluster, Propose, Work, fast_config, telling_config};
use raft::{Config, NodeId, Storage};

const ROUNDS: u64 = 64;

/// What a round of so many entries does.
fn per_round(config: fn(NodeId) -> Config, batch: usize) -> Work {
    let mut cluster = Cluster::new(3, Propose::Each, config);
    let payload = noise(256, 1);
    cluster.round(&payload, batch);
    let before = cluster.done();
    for _ in 0..ROUNDS {
        cluster.round(&payload, batch);
    }
    let Work { messages, syncs, reads } = cluster.done();
    let per_round = |now: u64, before: u64| {
        assert_eq!((now - before) % ROUNDS, 0, "each round does the same");
        (now - before) / ROUNDS
    };
    let messages = per_round(messages, before.messages);
    Work { messages, syncs: per_round(syncs, before.syncs), reads }
}

/// One append to each follower and one answer from each; one sync on each node. However many
/// entries there are.
#[test]
fn a_round_takes_four_messages_and_three_syncs() {
    for batch in [1, 64, 1024] {
        let work = per_round(fast_config, batch);
        assert_eq!(work, Work { messages: 4, syncs: 3, reads: 0 }, "{batch} entries");
    }
}

/// To tell followers of each commit at once costs one more message to each, and its answer.
#[test]
fn telling_followers_of_each_commit_costs_messages_and_no_sync() {
    for batch in [1, 64, 1024] {
        let work = per_round(telling_config, batch);
        assert_eq!(work, Work { messages: 8, syncs: 3, reads: 0 }, "{batch} entries");
    }
}

/// From the proposal to the logs of all three nodes, a payload is passed on by reference.
#[test]
fn the_core_copies_no_payload() {
    let mut cluster = Cluster::new(3, Propose::Each, fast_config);
    let payload = noise(256, 1);
    for batch in [1, 64, 256] {
        let first = cluster.leader().applied_index() + 1;
        cluster.round(&payload, batch);
        let places = cluster.logs().map(|log| {
            let entries =
                log.entries(first..first + batch as u64, u64::MAX).expect("they are there");
            assert_eq!(entries.len(), batch);
            entries.iter().map(|entry| entry.entry.data.as_ptr()).collect::<Vec<_>>()
        });
        let places: Vec<_> = places.collect();
        assert!(places.windows(2).all(|pair| pair[0] == pair[1]), "{batch} entries are shared");
    }
}
