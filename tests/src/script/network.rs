//! What a script has the network do with the messages in flight.
//!
//! | command | does |
//! |---|---|
//! | `deliver-msgs IDS` | delivers what is in flight to those servers, server by server |
//! | `deliver-msgs drop=(IDS)` | loses it |
//! | `hold-msgs IDS` | keeps it back: a delay |
//! | `copy-msgs IDS` | keeps a copy of it back: a doubled message |
//! | `release-msgs` | puts all that was kept back in flight, behind everything else |
//!
//! `type=T` means messages of one kind only, and, ours, `from=(IDS)` those of some senders. What a
//! server says to itself, or its storage threads to it, does not cross the network: it is always
//! delivered, once.

use raft::NodeId;

use super::args::node;
use super::describe::Kind;
use super::env::{Env, Filter, Recipient, Stop};
use super::grammar::Directive;
use super::suite::Fatal;

pub(super) fn deliver_msgs(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let mut recipients: Vec<Recipient> = Vec::new();
    for arg in &directive.args {
        if arg.is_bare() {
            recipients.push(Recipient { id: node(&arg.key)?, dropped: false });
        }
        for value in arg.values.iter().filter(|_| arg.key == "drop") {
            let id = node(value)?;
            if recipients.iter().any(|other| other.id == id) {
                let reason = format!("messages to {id} are delivered or dropped, not both");
                return Err(Fatal::new(reason).into());
            }
            recipients.push(Recipient { id, dropped: true });
        }
    }
    let count = env.deliver(&filter(directive)?, &recipients)?;
    say_if_none(env, count);
    Ok(())
}

pub(super) fn hold_msgs(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let count = env.hold(&filter(directive)?, &directive.nodes()?);
    say_if_none(env, count);
    Ok(())
}

pub(super) fn copy_msgs(env: &mut Env, directive: &Directive) -> Result<(), Stop> {
    let count = env.copy(&filter(directive)?, &directive.nodes()?);
    say_if_none(env, count);
    Ok(())
}

pub(super) fn release_msgs(env: &mut Env, _: &Directive) -> Result<(), Stop> {
    env.release();
    Ok(())
}

fn say_if_none(env: &mut Env, count: usize) {
    if count == 0 {
        env.out.line("no messages");
    }
}

/// What `type=` and `from=` say.
fn filter(directive: &Directive) -> Result<Filter, Stop> {
    let mut filter = Filter::default();
    for arg in &directive.args {
        for value in &arg.values {
            match arg.key.as_str() {
                "type" => {
                    let unknown = || Fatal::new(format!("unknown message type {value}"));
                    filter.kind = Some(Kind::named(value).ok_or_else(unknown)?);
                }
                "from" => {
                    let id: NodeId = node(value)?;
                    filter.from.get_or_insert_default().push(id);
                }
                _ => {}
            }
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use crate::script::{Options, run_text};

    /// Node 1 asks both others for their vote; then `commands`, one a line. What each answers.
    fn answers(commands: &str) -> String {
        let begin = "add-nodes 3 voters=(1,2,3) index=3\ncampaign 1\nlog-level none\n\
                     process-ready 1\nlog-level debug\n";
        let script: String =
            begin.lines().chain(commands.lines()).map(|line| format!("{line}\n----\n\n")).collect();
        let filled = run_text(&script, &Options::default()).rewritten.unwrap();
        let (_, rest) = filled.split_once("log-level debug\n----\nok\n\n").unwrap();
        rest.trim_end().to_owned()
    }

    #[test]
    fn what_is_held_is_in_flight_again_once_released() {
        let shown =
            answers("hold-msgs 2 3 type=MsgVote\ndeliver-msgs 2 3\nrelease-msgs\ndeliver-msgs 3");
        let expected = "\
hold-msgs 2 3 type=MsgVote
----
held: 1->2 MsgVote Term:1 Log:1/3
held: 1->3 MsgVote Term:1 Log:1/3

deliver-msgs 2 3
----
no messages

release-msgs
----
ok

deliver-msgs 3
----
1->3 MsgVote Term:1 Log:1/3";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_copy_is_one_message_more() {
        let shown =
            answers("copy-msgs 2\nrelease-msgs\ndeliver-msgs 2\nrelease-msgs\ndeliver-msgs 2");
        let (_, delivered) = shown.split_once("deliver-msgs 2\n----\n").unwrap();
        let twice = "1->2 MsgVote Term:1 Log:1/3\n1->2 MsgVote Term:1 Log:1/3\n\n";
        assert!(delivered.starts_with(twice), "{shown}");
        assert!(delivered.ends_with("no messages"), "{shown}");
    }

    #[test]
    fn messages_are_told_apart_by_sender_and_kind() {
        let from = "campaign 2\nprocess-ready 2\ndeliver-msgs 3 from=(2)";
        assert!(answers(from).ends_with("----\n2->3 MsgVote Term:1 Log:1/3"));
        assert!(answers("deliver-msgs 2 from=(3)").ends_with("no messages"));
        assert!(answers("deliver-msgs drop=(2) type=MsgApp").ends_with("no messages"));
        assert!(answers("deliver-msgs drop=(2)").ends_with("dropped: 1->2 MsgVote Term:1 Log:1/3"));
    }

    #[test]
    fn what_a_server_says_to_itself_crosses_no_network() {
        let script = "add-nodes 1 voters=(1) index=3 async-storage-writes=true\n----\n\n\
                      campaign 1\n----\n\nprocess-ready 1\n----\n\nprocess-append-thread 1\n----\n\n\
                      hold-msgs 1\n----\nno messages\n\ncopy-msgs 1\n----\nno messages\n\n\
                      deliver-msgs drop=(1)\n----\nno messages\n\n\
                      deliver-msgs 1\n----\n1->1 MsgVoteResp Term:1 Log:0/0\n";
        let outcome = run_text(script, &Options::default());
        // The two directives whose output was left out differ, and nothing else.
        assert_eq!(outcome.others, 1, "{outcome:?}");
    }
}
