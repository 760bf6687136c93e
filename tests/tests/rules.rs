//! Every rule in `tests/rules.txt` can still be broken, and something is known to notice. Whether it
//! does is for `cargo run -p tests --bin rules` to see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use harness::rules::{Rule, parse, plant};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace")
}

fn rules() -> Vec<Rule> {
    let text = fs::read_to_string(root().join("tests/rules.txt")).expect("the list");
    parse(&text).expect("a list of rules")
}

#[test]
fn the_text_that_keeps_each_rule_is_there_once() {
    let rules = rules();
    let mut by_file: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for rule in &rules {
        by_file.entry(&rule.file).or_default().push(rule);
    }
    for (file, rules) in by_file {
        let text = fs::read_to_string(root().join(file)).expect("a file of the core");
        let planted = plant(&text, &rules).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_ne!(planted, text);
        for rule in rules {
            let at = text.find(&rule.find).expect("planted");
            let (_, within) = text[..at].rsplit_once("fn ").expect("it is in a function");
            let name = rule.function.rsplit("::").next().expect("a name");
            assert!(within.starts_with(name), "{} is not in {name}", rule.name);
        }
    }
}

#[test]
fn something_notices_each_rule() {
    let rules = rules();
    assert!(rules.len() >= 40, "{} rules", rules.len());
    for rule in &rules {
        assert!(!rule.caught.is_empty(), "nothing notices that {} is broken", rule.name);
    }
    let suites: BTreeSet<&str> =
        rules.iter().flat_map(|rule| &rule.caught).map(|caught| &*caught.suite).collect();
    for suite in ["paper", "behaviour", "scripts", "explorer"] {
        assert!(suites.contains(suite), "{suite} notices nothing");
    }
}

/// The same for the bugs that `cargo run -p tests --bin mutants` plants: what it changes is there, and
/// it says what noticed the change.
#[test]
fn every_planted_bug_has_its_text_and_was_noticed() {
    let mut lists: Vec<_> = fs::read_dir(root().join("tests/mutants"))
        .expect("the lists")
        .map(|entry| entry.expect("a file").path())
        .collect();
    lists.sort();
    let mut count = 0;
    for list in lists {
        let text = fs::read_to_string(&list).expect("text");
        for bug in text.split("\n\n").filter(|block| block.starts_with("mutant ")) {
            count += 1;
            let (name, _) = bug.split_once('\n').expect("more than a name");
            let is_noticed = |line: &str| line.starts_with("seeds ") || line.starts_with("images ");
            assert!(bug.lines().any(is_noticed), "nothing notices {name}");
            let mut file = String::new();
            for line in bug.lines() {
                if let Some(path) = line.strip_prefix("file ") {
                    file = fs::read_to_string(root().join(path)).expect("a file of ours");
                } else if let Some(find) = line.strip_prefix("- ") {
                    assert!(file.contains(find), "{name}: {find:?} is not there");
                }
            }
        }
    }
    assert!(count >= 40, "{count} bugs");
}
