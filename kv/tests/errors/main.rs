//! Every error that a client can see, brought about: at a socket, by a cluster to which happens
//! what the error is for. What the code could say and nothing here has made it say is a failure.
//!
//! | file | what |
//! |---|---|
//! | this | the list of what no client can see, and the comparison |
//! | `commands` | what is wrong with a command, or is no command |
//! | `faults` | what is wrong with the cluster |
//! | `words` | which errors the code knows |
//! | `cluster` `client` | stores with ports, and who connects to them |

mod client;
mod cluster;
mod commands;
mod faults;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use client::Reply;

/// What no client can be told at a socket of today's server, and why.
const UNSEEN: &[(&str, &str)] = &[
    (
        "ERR the store gave no such result",
        "the state machine gives each operation its own kind of result, so it takes a bug",
    ),
    (
        "not the leader (leader: {leader:?})",
        "a store looks for whoever leads, and says in the end that nobody answered in time",
    ),
    (
        "no region {0} on this store",
        "there is one region, and every store has it from its first start on",
    ),
    (
        "the region's epoch is {:?}, not {asked:?}",
        "nothing changes the region's range or its members while a store runs",
    ),
    ("key {:?} is not in region {}", "the only region has all keys"),
    (
        "the command lost its place in the log to another leader's",
        "it is certain that it had no effect, so the store proposes it again",
    ),
    ("a request that writes cannot be a query", "the server asks nothing as a query that writes"),
    (
        "it is unknown whether the command took effect: {0}",
        "after UNKNOWN comes the reason alone; the whole is for those who use the library",
    ),
];

/// The errors that clients were told.
#[derive(Default)]
struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Takes note of an answer, which has to be an error that begins so.
    fn note(&self, what: &str, reply: Reply, begin: &str) {
        match reply {
            Reply::Error(text) if text.starts_with(begin) => _ = self.0.lock().insert(text),
            other => panic!("{what:.80}: not {begin:?} but {other:?}"),
        }
    }
}

#[test]
fn every_error_that_clients_can_see_is_brought_about() {
    let told = Told::default();
    let scenarios: [fn(&Told); 8] = [
        commands::wrong_commands,
        faults::too_slow,
        faults::no_leader,
        faults::a_connection_that_breaks,
        faults::a_leader_that_stops,
        faults::overtaken,
        faults::a_disk_without_room,
        faults::a_disk_that_fails,
    ];
    std::thread::scope(|scope| {
        for scenario in scenarios {
            let told = &told;
            scope.spawn(move || scenario(told));
        }
    });
    let told = told.0.into_inner();
    let mut by_word: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for text in &told {
        let word = words::first_word(text).expect("an error begins with a word");
        by_word.entry(word).or_default().push(text);
    }
    for (word, texts) in &by_word {
        println!("{word}: {}\n  {}", texts.len(), texts.join("\n  "));
    }
    UNSEEN.iter().for_each(|(text, why)| println!("not told: {text}: {why}"));

    let mut documented = words::documented();
    documented.sort_unstable();
    assert_eq!(by_word.into_keys().collect::<Vec<_>>(), documented, "the table at kv::server");
    let known = words::known();
    let is_excused = |text: &str| UNSEEN.iter().any(|(unseen, _)| *unseen == text);
    let is_told = |known: &words::Known| told.iter().any(|text| known.is_seen_in(text));
    let missing: BTreeSet<&str> = known
        .iter()
        .filter(|known| is_told(known) == is_excused(&known.text))
        .map(|known| known.text.as_str())
        .collect();
    assert!(missing.is_empty(), "neither told nor excused, or both: {missing:#?}");
    let is_known = |text: &str| known.iter().any(|known| known.text == text);
    let stale: Vec<_> = UNSEEN.iter().filter(|(text, _)| !is_known(text)).collect();
    assert!(stale.is_empty(), "nobody would say that any more: {stale:?}");
    let is_of_the_code = |text: &String| known.iter().any(|known| known.is_seen_in(text));
    assert!(told.iter().all(is_of_the_code), "the sources are not read as they are written");
}
