//! The list of rules that are broken on purpose (`tests/rules.txt`), and how each is broken.
//!
//! All breaks are put into one copy of the core, each behind a switch, so that one build serves for
//! all: the environment variable [`SWITCH`] says which one is on. A break that no test notices is a
//! rule that nobody keeps.
//!
//! ```
//! use std::collections::BTreeMap;
//! use harness::rules::{Caught, Rule, parse, plant, rewrite};
//!
//! let list = include_str!("../rules.txt");
//! let rules: Vec<Rule> = parse(list)?;
//! assert!(rules.len() >= 90);
//! let none: BTreeMap<String, Vec<Caught>> = BTreeMap::new();
//! assert_eq!(parse(&rewrite(list, &none))?.len(), rules.len());
//! // plant(text, &rules) breaks those of one file, each behind its switch.
//! let _ = plant;
//! # Ok::<(), String>(())
//! ```

use std::collections::BTreeMap;

/// Names the rule, by its number in the list, that a planted core does not keep; 0 for none.
pub const SWITCH: &str = "RAFT_RULE";

/// What is added to the crate's root of a planted core.
pub const SWITCH_CODE: &str = r#"
pub(crate) fn broken(rule: usize) -> bool {
    static RULE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let read = || std::env::var("RAFT_RULE").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    *RULE.get_or_init(read) == rule
}
"#;

/// A rule of Raft, and how it is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its place in the list, from 1.
    pub number: usize,
    /// What it is called.
    pub name: String,
    /// What it says, and where it is from.
    pub says: String,
    /// The file that keeps it, from the workspace's root.
    pub file: String,
    /// The function that keeps it.
    pub function: String,
    /// The text that keeps it: a statement if it ends in `;`, else an expression.
    pub find: String,
    /// The text that breaks it.
    pub replace: String,
    /// What notices.
    pub caught: Vec<Caught>,
}

/// A suite of tests that notices a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The suite.
    pub suite: String,
    /// How many of its tests fail.
    pub failures: usize,
    /// One of them.
    pub test: String,
}

/// Reads the list.
///
/// # Errors
/// With the line that cannot be understood, or the rule that lacks something.
pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
    let mut rules: Vec<Rule> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || format!("line {}: {line:?} is no part of a rule", at + 1);
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        if key == "rule" && !value.is_empty() {
            rules.push(Rule::new(rules.len() + 1, value));
            continue;
        }
        let rule = rules.last_mut().ok_or_else(wrong)?;
        rule.take(key, value).ok_or_else(wrong)?;
    }
    for (at, rule) in rules.iter().enumerate() {
        if rule.says.is_empty() || rule.file.is_empty() || rule.find.is_empty() {
            return Err(format!("{} lacks a line", rule.name));
        }
        if rules[..at].iter().any(|other| other.name == rule.name) {
            return Err(format!("{} is there twice", rule.name));
        }
    }
    Ok(rules)
}

impl Rule {
    fn new(number: usize, name: &str) -> Rule {
        Rule {
            number,
            name: name.to_string(),
            says: String::new(),
            file: String::new(),
            function: String::new(),
            find: String::new(),
            replace: String::new(),
            caught: Vec::new(),
        }
    }

    /// Takes a line that says more of it; `None` if the line makes no sense.
    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        let add = |text: &mut String| {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(value);
        };
        match key {
            "says" => self.says = value.to_string(),
            "file" => {
                let (file, function) = value.split_once(' ')?;
                (self.file, self.function) = (file.to_string(), function.to_string());
            }
            "-" => add(&mut self.find),
            "+" => add(&mut self.replace),
            "caught" => {
                let mut words = value.splitn(3, ' ').map(str::to_string);
                let (suite, failures, test) = (words.next()?, words.next()?, words.next()?);
                self.caught.push(Caught { suite, failures: failures.parse().ok()?, test });
            }
            _ => return None,
        }
        Some(())
    }
}

/// The text of a file with all those rules breakable, each behind its switch.
///
/// # Errors
/// If the text that keeps a rule is not there exactly once, or is part of another rule's.
pub fn plant(text: &str, rules: &[&Rule]) -> Result<String, String> {
    let mut places: BTreeMap<usize, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        let mut found = text.match_indices(&rule.find).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => places.entry(at).or_default().push(rule),
            (None, _) => return Err(format!("{}: its text is not in {}", rule.name, rule.file)),
            _ => return Err(format!("{}: its text is twice in {}", rule.name, rule.file)),
        }
    }
    let (mut planted, mut copied) = (String::new(), 0);
    for (at, rules) in places {
        let find = &rules[0].find;
        if at < copied || rules.iter().any(|rule| rule.find != *find) {
            return Err(format!("{}: its text is part of another rule's", rules[0].name));
        }
        planted.push_str(&text[copied..at]);
        planted.push_str(&switched(find, &rules));
        copied = at + find.len();
    }
    planted.push_str(&text[copied..]);
    Ok(planted)
}

/// What keeps some rules, with what breaks each behind its switch.
fn switched(find: &str, rules: &[&Rule]) -> String {
    let mut code = String::new();
    for rule in rules {
        code += &format!("if crate::broken({}) {{ {} }} else ", rule.number, rule.replace);
    }
    code += &format!("{{ {find} }}");
    if find.ends_with(';') { code } else { format!("({code})") }
}

/// The list with what notices each rule's break put in the place of what it said; rules without an
/// answer keep theirs.
#[must_use]
pub fn rewrite(text: &str, caught: &BTreeMap<String, Vec<Caught>>) -> String {
    let mut blocks = Vec::new();
    for block in text.trim_end().split("\n\n") {
        let name = block.lines().find_map(|line| line.strip_prefix("rule "));
        let Some(now) = name.and_then(|name| caught.get(name)) else {
            blocks.push(block.to_string());
            continue;
        };
        let kept = block.lines().filter(|line| !line.starts_with("caught ")).map(str::to_string);
        let line = |c: &Caught| format!("caught {} {} {}", c.suite, c.failures, c.test);
        blocks.push(kept.chain(now.iter().map(line)).collect::<Vec<_>>().join("\n"));
    }
    blocks.join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::{Caught, parse, plant, rewrite};

    const LIST: &str = "# A list.\n\nrule a\nsays §1: a\nfile x.rs f\n- a < b\n+ true\n\
                        caught paper 1 old\n\nrule b\nsays §2: b\nfile x.rs f\n- a < b\n+ a <= b\n\n\
                        rule c\nsays §3: c\nfile x.rs g\n- go();\n+\n";

    #[test]
    fn rules_are_planted_behind_switches() {
        let rules = parse(LIST).expect("a list");
        let all: Vec<_> = rules.iter().collect();
        let planted = plant("if a < b { go(); }", &all).expect("each is there once");
        let condition = "(if crate::broken(1) { true } else if crate::broken(2) { a <= b } \
                         else { a < b })";
        let statement = "if crate::broken(3) {  } else { go(); }";
        assert_eq!(planted, format!("if {condition} {{ {statement} }}"));
        assert!(plant("if a < b { stay(); }", &all).expect_err("c").contains("not in"));
        assert!(plant("a < b; a < b; go();", &all).expect_err("a").contains("twice"));
    }

    #[test]
    fn overlapping_rules_are_refused() {
        let rules = parse(&LIST.replace("- go();", "- b { go")).expect("a list");
        let all: Vec<_> = rules.iter().collect();
        assert!(plant("if a < b { go(); }", &all).expect_err("overlap").contains("part of"));
    }

    #[test]
    fn what_notices_is_rewritten() {
        let new = Caught { suite: "unit".into(), failures: 2, test: "new".into() };
        let text = rewrite(LIST, &[("a".to_string(), vec![new.clone()])].into());
        assert_eq!(text, LIST.replace("caught paper 1 old", "caught unit 2 new"));
        assert_eq!(parse(&text).expect("a list")[0].caught, [new]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["says nobody", "rule a\nsays a\n- x\n+ y", "rule a\nwrong x", "rule"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("{LIST}\n{LIST}")).is_err(), "twice");
    }
}
