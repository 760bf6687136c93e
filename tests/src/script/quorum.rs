//! The quorum suite: what a majority, or two, has committed or decided.
//!
//! ```text
//! committed cfg=(1,2,3) idx=(12,5,6)          vote cfg=(1,2) cfgj=(2,3) votes=(y,_,n)
//! ----                                        ----
//!        idx                                  VoteLost
//! xx>     12    (id=1)
//! >        5    (id=2)
//! x>       6    (id=3)
//! 6
//! ```
//!
//! Each result is computed in a second way too, and a line is added where the two differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use raft::quorum::{Joint, Majority, VoteResult};
use raft::{Index, NodeId};

use super::golang;
use super::grammar::Directive;
use super::suite::Fatal;

/// The arguments of a case.
#[derive(Default)]
struct Case {
    incoming: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    /// Whether `cfgj` was given, be it the empty half.
    is_joint: bool,
    /// The values, 0 for an unknown one; a `n` is 1, a `y` is 2.
    indexes: Vec<u64>,
    votes: Vec<u64>,
}

/// Runs one directive.
pub(super) fn run(directive: &Directive) -> Result<String, Fatal> {
    let case = Case::parse(directive)?;
    let voters = case.joint(&case.incoming, &case.outgoing);
    let values = match directive.command.as_str() {
        "committed" => &case.indexes,
        "vote" => &case.votes,
        unknown => return Err(Fatal::new(format!("unknown command {unknown}"))),
    };
    let ids: Vec<NodeId> = voters.voters().collect();
    if ids.len() != values.len() {
        return Ok(mismatched(&ids, values));
    }
    let known = case.by_id(values);
    Ok(if directive.command == "vote" {
        case.vote(&known)
    } else {
        case.committed(&voters, &known)
    })
}

fn mismatched(ids: &[NodeId], values: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("{id}:{{}}")).collect();
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!(
        "error: mismatched input (explicit or _) for voters map[{}]: [{}]",
        ids.join(" "),
        values.join(" ")
    )
}

impl Case {
    fn parse(directive: &Directive) -> Result<Case, Fatal> {
        let mut case = Case::default();
        for arg in &directive.args {
            match arg.key.as_str() {
                "cfg" => {
                    for value in &arg.values {
                        case.incoming.push(node(value)?);
                    }
                }
                "cfgj" => {
                    case.is_joint = true;
                    if arg.values == ["zero"] {
                        continue;
                    }
                    for value in &arg.values {
                        case.outgoing.push(node(value)?);
                    }
                }
                "idx" => {
                    for value in &arg.values {
                        case.indexes.push(index(value)?);
                    }
                }
                "votes" => {
                    for value in &arg.values {
                        case.votes.push(vote(value)?);
                    }
                }
                unknown => return Err(Fatal::new(format!("unknown argument {unknown}"))),
            }
        }
        Ok(case)
    }

    fn joint(&self, incoming: &[NodeId], outgoing: &[NodeId]) -> Joint {
        Joint {
            incoming: incoming.iter().copied().collect(),
            outgoing: outgoing.iter().copied().collect(),
        }
    }

    /// What is known of each voter: the k-th value belongs to the k-th distinct id.
    fn by_id(&self, values: &[u64]) -> BTreeMap<NodeId, u64> {
        let mut seen = BTreeSet::new();
        let distinct =
            self.incoming.iter().chain(&self.outgoing).copied().filter(|id| seen.insert(*id));
        distinct.zip(values.iter().copied()).filter(|(_, value)| *value != 0).collect()
    }

    fn committed(&self, voters: &Joint, known: &BTreeMap<NodeId, Index>) -> String {
        let reached = |id| known.get(&id).copied().unwrap_or(0);
        let committed = voters.committed(reached);
        let mut out = describe(voters, known);
        let mut check = |other: Index, how: &str| {
            if other != committed {
                line(&mut out, &format!("{} <-- {how}", infinite(other)));
            }
        };
        if self.is_joint {
            let swapped = self.joint(&self.outgoing, &self.incoming);
            check(swapped.committed(reached), "via symmetry");
            let slow = [&voters.incoming, &voters.outgoing].map(|half| by_counting(half, known));
            check(slow[0].min(slow[1]), "via alternative computation");
        } else {
            let half = &voters.incoming;
            check(half.committed(reached), "via the majority alone");
            check(by_counting(half, known), "via alternative computation");
            check(self.joint(&self.incoming, &[]).committed(reached), "via zero-joint quorum");
            let twice = self.joint(&self.incoming, &self.incoming);
            check(twice.committed(reached), "via self-joint quorum");
            // Who is behind the result does not matter to it, however far behind.
            for (&id, &index) in known.iter().filter(|(_, index)| **index < committed) {
                for lower in [index - 1, 0] {
                    let overlaid = |of| if of == id { lower } else { reached(of) };
                    check(half.committed(overlaid), &format!("overlaying {id}->{lower}"));
                }
            }
        }
        line(&mut out, &infinite(committed));
        out
    }

    fn vote(&self, known: &BTreeMap<NodeId, u64>) -> String {
        let said = |id| known.get(&id).map(|vote| *vote == 2);
        let result = self.joint(&self.incoming, &self.outgoing).vote_result(said);
        let mut out = String::new();
        let mut check = |other: VoteResult, how: &str| {
            if other != result {
                line(&mut out, &format!("{} <-- {how}", name(other)));
            }
        };
        check(self.joint(&self.outgoing, &self.incoming).vote_result(said), "via symmetry");
        if !self.is_joint {
            let half: Majority = self.incoming.iter().copied().collect();
            check(half.vote_result(said), "via the majority alone");
        }
        line(&mut out, name(result));
        out
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn node(value: &str) -> Result<NodeId, Fatal> {
    let id = golang::parse_uint(value).map_err(Fatal::new)?;
    NodeId::new(id).ok_or_else(|| Fatal::new("0 is not a voter's id"))
}

fn index(value: &str) -> Result<u64, Fatal> {
    match value {
        "_" => Ok(0),
        "0" => Err(Fatal::new("0 is not an index; an unknown one is _")),
        _ => golang::parse_uint(value).map_err(Fatal::new),
    }
}

fn vote(value: &str) -> Result<u64, Fatal> {
    match value {
        "_" => Ok(0),
        "n" => Ok(1),
        "y" => Ok(2),
        _ => Err(Fatal::new(format!("unknown vote {value}"))),
    }
}

fn name(result: VoteResult) -> &'static str {
    match result {
        VoteResult::Pending => "VotePending",
        VoteResult::Lost => "VoteLost",
        VoteResult::Won => "VoteWon",
    }
}

fn infinite(index: Index) -> String {
    if index == Index::MAX { "∞".to_owned() } else { index.to_string() }
}

/// Draws how far each voter is, by ascending id.
fn describe(voters: &Joint, known: &BTreeMap<NodeId, Index>) -> String {
    let ids: Vec<NodeId> = voters.voters().collect();
    let n = ids.len();
    if n == 0 {
        return "<empty majority quorum>".to_owned();
    }
    let reached = |id: &NodeId| known.get(id).copied().unwrap_or(0);
    let mut order = ids.clone();
    order.sort_by_key(|id| (reached(id), *id));
    let mut bars: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut last = (0, 0);
    for (position, id) in order.into_iter().enumerate() {
        let index = reached(&id);
        let bar = if position > 0 && index > last.0 { position } else { last.1 };
        bars.insert(id, bar);
        last = (index, bar);
    }
    let mut out = format!("{:n$}    idx\n", "");
    for id in ids {
        let bar = if known.contains_key(&id) {
            format!("{}>", "x".repeat(bars[&id]))
        } else {
            "?".to_owned()
        };
        writeln!(out, "{bar:width$} {:5}    (id={:x})", reached(&id), id.get(), width = n + 1)
            .expect("writing to a string does not fail");
    }
    out
}

/// The slow twin: the highest known index that enough voters have reached.
fn by_counting(half: &Majority, known: &BTreeMap<NodeId, Index>) -> Index {
    let voters = half.voters();
    if voters.is_empty() {
        return Index::MAX;
    }
    let indexes = || voters.iter().filter_map(|id| known.get(id).copied());
    let has_majority =
        |index: &Index| indexes().filter(|other| other >= index).count() > voters.len() / 2;
    indexes().filter(has_majority).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::grammar::Script;

    fn answer(line: &str) -> Result<String, String> {
        let script = Script::parse(&format!("{line}\n----\n")).unwrap();
        run(&script.directives[0]).map_err(|e| e.to_string())
    }

    #[test]
    fn both_halves_must_agree() {
        let drawing =
            "       idx\nx>       5    (id=1)\nxx>      7    (id=2)\n?        0    (id=a)\n";
        assert_eq!(
            answer("committed cfg=(1,2) cfgj=(2,10) idx=(5,7,_)"),
            Ok(format!("{drawing}0\n"))
        );
        assert_eq!(answer("committed cfgj=zero"), Ok("<empty majority quorum>∞\n".to_owned()));
        assert_eq!(answer("vote cfg=(1) cfgj=(2) votes=(y,_)"), Ok("VotePending\n".to_owned()));
        assert_eq!(answer("vote cfg=(1) cfgj=(2) votes=(_,n)"), Ok("VoteLost\n".to_owned()));
        assert_eq!(answer("vote cfg=(1) cfgj=(1) votes=(y)"), Ok("VoteWon\n".to_owned()));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let words = "error: mismatched input (explicit or _) for voters map[1:{} 2:{}]: [5]";
        assert_eq!(answer("committed cfg=(1,2) idx=(5)"), Ok(words.to_owned()));
        assert_eq!(answer("vote cfg=(0)"), Err("0 is not a voter's id".to_owned()));
        assert_eq!(answer("vote cfg=(1) votes=(x)"), Err("unknown vote x".to_owned()));
        assert_eq!(answer("vote foo=1"), Err("unknown argument foo".to_owned()));
        assert!(answer("vote cfg=(1,zero)").is_err());
        assert!(answer("committed cfg=(1) idx=(0)").is_err());
    }
}
