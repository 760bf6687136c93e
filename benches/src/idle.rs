//! `idle`: what a group costs that does nothing, over one group, hot in the cache, and over many.

use std::time::Duration;

use raft::{Config, NodeId};

use crate::cells::{self, Cell, Figure, during, figure};
use crate::cluster::{Cluster, Propose, fast_config};
use crate::options::Options;

/// Groups in which a tick is only a tick, and groups in which each tick is a heartbeat's.
struct Groups {
    quiet: Vec<Cluster>,
    beating: Vec<Cluster>,
}

/// Neither a heartbeat nor an election is ever due.
#[must_use]
pub fn quiet_config(id: NodeId) -> Config {
    Config { heartbeat_ticks: 100_000_000, election_ticks: 1_000_000_000, ..fast_config(id) }
}

/// A heartbeat is due with every tick.
fn beating_config(id: NodeId) -> Config {
    Config { heartbeat_ticks: 1, election_ticks: 1_000_000_000, ..fast_config(id) }
}

/// Cells of one group and of many.
pub fn run(options: &Options) {
    let time = options.time(0.1);
    let make = |count| {
        let group = |config: fn(NodeId) -> Config| Cluster::new(3, Propose::Many, config);
        let mut groups = Groups {
            quiet: (0..count).map(|_| group(quiet_config)).collect(),
            beating: (0..count).map(|_| group(beating_config)).collect(),
        };
        Cell::new(format!("idle/raftkv/groups{count}"), move || measure(&mut groups, time))
    };
    // Built once, before anything is timed, and alive for all rounds.
    let cells = vec![make(1), make(options.groups)];
    cells::run(cells, options.rounds(7), options);
}

fn measure(groups: &mut Groups, time: Duration) -> Vec<Figure> {
    let Groups { quiet, beating } = groups;
    vec![
        figure("tick_leader", per_group(quiet, time, |group| group.leader().tick()), "ns"),
        figure("tick_follower", per_group(quiet, time, |group| group.follower().tick()), "ns"),
        figure("heartbeat_round", per_group(beating, time, heartbeat), "ns"),
    ]
}

/// One heartbeat: the leader's tick, its messages, the answers, and all that comes of them.
fn heartbeat(group: &mut Cluster) {
    group.leader().tick();
    group.pump();
}

/// Nanoseconds of `act` on one group, with all groups taking their turn.
fn per_group(groups: &mut [Cluster], time: Duration, act: impl Fn(&mut Cluster)) -> f64 {
    let passes = 1 + 1000 / groups.len();
    let mut all = || {
        for _ in 0..passes {
            groups.iter_mut().for_each(&act);
        }
        (passes * groups.len()) as u64
    };
    all();
    let (done, elapsed) = during(time, all);
    elapsed.as_nanos() as f64 / done as f64
}
