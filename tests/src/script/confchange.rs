//! The confchange suite: configurations and what a leader knows of their members, without servers.
//!
//! ```text
//! enter-joint autoleave=true
//! v2 l3
//! ----
//! voters=(1 2)&&(1) learners=(3) autoleave
//! 1: StateProbe match=0 next=1
//! 2: StateProbe match=0 next=1
//! 3: StateProbe match=0 next=1 learner
//! ```
//!
//! The changer's last index rises by one after every directive, so that a new member's `next` tells
//! when it came in.

use raft::conf_change::{ConfChangeKind, ConfChangeSingle};
use raft::membership::{Changed, Membership};
use raft::progress::{ProgressMap, Window};
use raft::{Index, NodeId};

use super::describe::progress_lines;
use super::golang;
use super::grammar::{Arg, Directive};
use super::suite::Fatal;

/// The window of the changer's progresses. Nothing is ever in flight in them.
const WINDOW: Window = Window { appends_max: 10, bytes_max: 0 };

/// A configuration, and the progress of its members.
#[derive(Default)]
pub(super) struct Changer {
    membership: Membership,
    progress: ProgressMap,
    last: Index,
}

impl Changer {
    /// Runs one directive.
    pub(super) fn run(&mut self, directive: &Directive) -> Result<String, Fatal> {
        let answer = self.change(directive);
        let answer = answer.map(|changed| match changed {
            Ok(changed) => {
                changed.reconcile(&mut self.progress, self.last);
                self.membership = changed.membership;
                format!("{}\n{}", self.membership, progress_lines(self.progress.iter(), WINDOW))
            }
            Err(refusal) => refusal + "\n",
        });
        self.last += 1;
        answer
    }

    /// The change that a directive asks for, or why it is refused.
    fn change(&self, directive: &Directive) -> Result<Result<Changed, String>, Fatal> {
        let changes = match parse_changes(&directive.input) {
            Ok(changes) => changes,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // Node 0 is nobody; a change of it is passed over.
        let known: Vec<ConfChangeSingle> = changes.iter().filter_map(Token::change).collect();
        let changed = match directive.command.as_str() {
            "simple" => self.membership.simple(&known),
            "enter-joint" => {
                let auto_leave = auto_leave(&directive.args)?;
                self.membership.enter_joint(auto_leave, &known)
            }
            "leave-joint" if changes.is_empty() => self.membership.leave_joint(),
            "leave-joint" => return Ok(Err("this command takes no input".to_owned())),
            _ => return Ok(Err("unknown command".to_owned())),
        };
        Ok(changed.map_err(|e| e.to_string()))
    }
}

fn auto_leave(args: &[Arg]) -> Result<bool, Fatal> {
    match args.iter().find(|arg| arg.key == "autoleave").map(|arg| arg.values.as_slice()) {
        None => Ok(false),
        Some([value]) => golang::parse_bool(value).map_err(Fatal::new),
        Some(_) => Err(Fatal::new("autoleave has one value")),
    }
}

/// One change as it is written: `v1`, `l2`, `r3`, `u4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    kind: ConfChangeKind,
    id: u64,
}

impl Token {
    /// The change; `None` if it is of node 0.
    pub(super) fn change(&self) -> Option<ConfChangeSingle> {
        Some(ConfChangeSingle { kind: self.kind, node: NodeId::new(self.id)? })
    }
}

/// Reads changes separated by single spaces.
pub(super) fn parse_changes(input: &str) -> Result<Vec<Token>, String> {
    let input = input.trim();
    if input.is_empty() {
        return Ok(Vec::new());
    }
    input.split(' ').map(parse_change).collect()
}

fn parse_change(token: &str) -> Result<Token, String> {
    if token.len() < 2 {
        return Err(format!("unknown token {token}"));
    }
    let kind = match token.as_bytes()[0] {
        b'v' => ConfChangeKind::AddNode,
        b'l' => ConfChangeKind::AddLearnerNode,
        b'r' => ConfChangeKind::RemoveNode,
        b'u' => ConfChangeKind::UpdateNode,
        _ => return Err(format!("unknown input: {token}")),
    };
    Ok(Token { kind, id: golang::parse_uint(&token[1..])? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::grammar::Script;

    fn answers(text: &str) -> Vec<String> {
        let mut changer = Changer::default();
        let script = Script::parse(text).unwrap();
        script.directives.iter().map(|d| changer.run(d).unwrap()).collect()
    }

    #[test]
    fn every_directive_moves_the_last_index() {
        let text = "simple\nv1\n----\n\nfoo\n----\n\nsimple\nx1\n----\n\nsimple\nv2 v0\n----\n\n";
        assert_eq!(
            answers(text),
            [
                "voters=(1)\n1: StateProbe match=0 next=1\n",
                "unknown command\n",
                "unknown input: x1\n",
                "voters=(1 2)\n1: StateProbe match=0 next=1\n2: StateProbe match=0 next=3\n",
            ]
        );
    }

    #[test]
    fn tokens_are_refused_in_the_words_of_the_scripts() {
        let words =
            [("v", "unknown token v"), ("v1  v2", "unknown token "), ("é1", "unknown input: é1")];
        for (input, refusal) in words {
            assert_eq!(parse_changes(input), Err(refusal.to_owned()));
        }
        assert!(
            parse_changes("v1\nv2")
                .unwrap_err()
                .starts_with("strconv.ParseUint: parsing \"1\\nv2\"")
        );
        assert_eq!(parse_changes(" \n"), Ok(Vec::new()));
        assert_eq!(answers("leave-joint\nv1\n----\n"), ["this command takes no input\n"]);
        assert_eq!(answers("leave-joint\n----\n"), ["can't leave a non-joint config\n"]);
    }

    #[test]
    fn a_joint_configuration_is_entered_and_left() {
        let text =
            "simple\nv1\n----\n\nenter-joint autoleave=1\nv2 l1\n----\n\nleave-joint\n----\n";
        let answers = answers(text);
        assert!(answers[1].starts_with("voters=(2)&&(1) learners_next=(1) autoleave\n"));
        assert_eq!(
            answers[2],
            "voters=(2) learners=(1)\n1: StateProbe match=0 next=1 learner\n2: StateProbe match=0 next=1\n"
        );
    }
}
