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
