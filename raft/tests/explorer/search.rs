//! The search through the states of a world.

use std::collections::{HashSet, VecDeque};
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};

use raft::Storage;

use crate::world::{Choice, Rules, World};

/// States of each world that are gone on from in `cargo test`.
const STATES: usize = 4_000;

/// One state in so many is also gone on from without any further mishap, to see that somebody leads
/// in the end: that takes as long as many states.
const RECOVERIES: usize = 100;

/// Events of a walk that chance leads, at most.
const WALK: usize = 80;

/// In which order states are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By how many events lead there: all orders are alike.
    Breadth,
    /// By how often the way there leaves what happens when nothing goes wrong, where messages
    /// arrive in order, and something new happens when none is left. Gets far with few mishaps.
    Mishaps,
}

/// Looks at the states of a world, nearest first, until all are seen or the budget is spent.
///
/// # Panics
/// With the nearest way to a state in which a promise is broken.
pub(crate) fn explore(name: &str, order: Order, rules: Rules) {
    let budget = std::env::var("EXPLORE_STATES").ok().and_then(|n| n.parse().ok());
    let budget = budget.unwrap_or(STATES);
    let mut seen = HashSet::new();
    // By mishaps, then by age.
    let mut ways: Vec<VecDeque<Vec<Choice>>> = vec![VecDeque::from([Vec::new()])];
    let (mut steps, mut deepest, mut mishaps) = (0u64, 0, 0);
    'search: while let Some(next) = ways.iter().position(|ways| !ways.is_empty()) {
        mishaps = next;
        while let Some(way) = ways[next].pop_front() {
            let world = walk(rules, &way).unwrap_or_else(|broken| fail(name, rules, &way, &broken));
            steps += way.len() as u64;
            if !seen.insert(hash(&world)) {
                continue;
            }
            deepest = deepest.max(way.len());
            let choices = world.choices();
            if order == Order::Mishaps && seen.len().is_multiple_of(RECOVERIES) {
                world.recover().unwrap_or_else(|broken| fail(name, rules, &way, &broken));
            }
            for (choice, cost) in choices {
                let cost = if order == Order::Mishaps { cost as usize } else { 0 };
                let mut longer = way.clone();
                longer.push(choice);
                ways.resize_with(ways.len().max(next + cost + 1), VecDeque::new);
                ways[next + cost].push_back(longer);
            }
            if seen.len() >= budget {
                break 'search;
            }
        }
    }
    if order == Order::Mishaps {
        // One walk costs about as much as going on from two states.
        steps += wander(name, rules, budget as u64 / 4);
    }
    let states = seen.len();
    let rest = if ways.iter().all(VecDeque::is_empty) { "that is all" } else { "of more" };
    let near = if order == Order::Mishaps { format!(", {mishaps} mishaps") } else { String::new() };
    println!("{name}: {states} states, {rest}; {deepest} events deep{near}; {steps} steps");
}

/// Goes wherever chance leads, again and again: to states that take many mishaps. Half of what
/// happens is what would happen without any.
fn wander(name: &str, rules: Rules, walks: u64) -> u64 {
    let mut steps = 0;
    for seed in 0..walks {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut world, mut way) = (World::new(rules), Vec::new());
        while way.len() < WALK {
            let choices = world.choices();
            if choices.is_empty() {
                break;
            }
            let at = if random.bool() { 0 } else { random.usize(..choices.len()) };
            way.push(choices[at].0);
            world.run(choices[at].0).unwrap_or_else(|broken| fail(name, rules, &way, &broken));
        }
        steps += way.len() as u64;
    }
    steps
}

fn walk(rules: Rules, way: &[Choice]) -> Result<World, String> {
    let mut world = World::new(rules);
    for choice in way {
        world.run(*choice)?;
    }
    Ok(world)
}

fn fail(name: &str, rules: Rules, way: &[Choice], broken: &str) -> ! {
    let mut story = String::new();
    let mut world = World::new(rules);
    for choice in way {
        let what = match choice {
            Choice::Deliver(at) | Choice::Repeat(at) | Choice::Lose(at) => {
                format!("{choice:?} {:?}", world.wire[*at])
            }
            _ => format!("{choice:?}"),
        };
        let _ = writeln!(story, "  {what}");
        let _ = world.run(*choice);
    }
    panic!("{name}: {broken}\n{story}");
}

/// Hashes what is written to it.
struct Hashing(DefaultHasher);

impl fmt::Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.hash(&mut self.0);
        Ok(())
    }
}

/// All that the future of a world depends on.
fn hash(world: &World) -> u64 {
    let mut out = Hashing(DefaultHasher::new());
    for node in world.nodes.values() {
        let status = node.raw.status();
        let disk = node.storage.initial_state().expect("in memory");
        let _ = write!(out, "{status:?}{disk:?}{:?}{:?}", node.digest, node.applies);
        for write in &node.writes {
            let _ = write!(out, "{:?}{:?}", write.hard_state(), write.snapshot());
            write.inspect(|part| {
                let _ = write!(out, "{part:?}");
            });
            write.entries().iter().for_each(|e| e.entry.data.hash(&mut out.0));
        }
        let (first, last) = (disk.compacted.index + 1, disk.last + 1);
        let stored = node.storage.entries(first..last, u64::MAX).unwrap_or_default();
        stored.iter().for_each(|e| e.entry.data.hash(&mut out.0));
    }
    // The order on the wire does not matter.
    let mut wire: Vec<u64> = Vec::with_capacity(world.wire.len());
    for message in &world.wire {
        let mut one = Hashing(DefaultHasher::new());
        let _ = write!(one, "{message:?}");
        if let raft::Body::AppendEntries { entries, .. } = &message.body {
            entries.iter().for_each(|e| e.entry.data.hash(&mut one.0));
        }
        wire.push(one.0.finish());
    }
    wire.sort_unstable();
    wire.hash(&mut out.0);
    let checks = &world.checks;
    let history = (&checks.leaders, &checks.committed, &checks.asked, &world.arrived);
    let _ = write!(out, "{:?}{:?}{history:?}", world.left, world.changed);
    out.0.finish()
}
