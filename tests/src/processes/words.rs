//! A request in Redis's words, and what the reply says of its fate.
//!
//! What Redis has no word for (compare and set, a range) goes as `CALL`, encoded. Errors are told
//! apart by their prefix alone, as a client must: see [`kv::server`].

use bytes::Bytes;
use kv::{Cf, Condition, Op, OpError, OpResult, Request, Response, answer};

use super::resp::Reply;

/// What became of a request.
///
/// ```
/// use harness::processes::{resp::Reply, words::{Fate, fate}};
/// use kv::Op;
///
/// let replies = [Reply::Error("UNKNOWN the leader was lost".into())];
/// assert_eq!(fate(&Op::put("k", "v").into(), &replies), Ok(Fate::Unknown));
/// assert_eq!(fate(&Op::get("k").into(), &[Reply::Error("TRYAGAIN later".into())]), Ok(Fate::Refused));
/// assert!(fate(&Op::get("k").into(), &[Reply::Integer(1)]).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It took effect, and gave this.
    Done(Response),
    /// It certainly has no effect.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// The commands that are sent, all at once, to have a request carried out as one.
///
/// ```
/// use harness::processes::words::commands;
/// use kv::{Op, Request};
///
/// assert_eq!(commands(&Op::put("k", "v").into()), [["SET", "k", "v"]]);
/// let both = Request::new(vec![Op::put("k", "v"), Op::add("n", 2)]);
/// assert_eq!(commands(&both)[2], ["INCRBY", "n", "2"]);
/// assert_eq!(commands(&both).last().unwrap(), &["EXEC"]);
/// ```
#[must_use]
pub fn commands(request: &Request) -> Vec<Vec<Bytes>> {
    let words: Option<Vec<_>> = request.ops.iter().map(one).collect();
    match words {
        Some(mut words) if words.len() == 1 => vec![words.remove(0)],
        Some(words) => {
            let (multi, exec) = (vec!["MULTI".into()], vec!["EXEC".into()]);
            [multi].into_iter().chain(words).chain([exec]).collect()
        }
        None => {
            let body = request.encode().unwrap_or_default();
            vec![vec!["CALL".into(), body]]
        }
    }
}

fn one(op: &Op) -> Option<Vec<Bytes>> {
    if op.cf() != Cf::Default {
        return None;
    }
    let word = |word: &'static str| Bytes::from_static(word.as_bytes());
    Some(match op {
        Op::Get { key, .. } => vec![word("GET"), key.clone()],
        Op::Put { key, value, condition, return_old, .. } => {
            let mut words = vec![word("SET"), key.clone(), value.clone()];
            words.extend(match condition {
                Condition::None => None,
                Condition::IfAbsent => Some(word("NX")),
                Condition::IfPresent => Some(word("XX")),
            });
            words.extend(return_old.then(|| word("GET")));
            words
        }
        Op::Delete { key, return_old: false, .. } => vec![word("DEL"), key.clone()],
        Op::Delete { key, .. } => vec![word("GETDEL"), key.clone()],
        Op::Add { key, delta, .. } => {
            vec![word("INCRBY"), key.clone(), delta.to_string().into()]
        }
        Op::Append { key, value, .. } => vec![word("APPEND"), key.clone(), value.clone()],
        Op::Exists { key, .. } => vec![word("EXISTS"), key.clone()],
        Op::Length { key, .. } => vec![word("STRLEN"), key.clone()],
        Op::CompareAndSet { .. } | Op::Scan { .. } | Op::Count { .. } => return None,
    })
}

/// What the replies to [`commands`] say.
///
/// # Errors
/// If they make no sense.
pub fn fate(request: &Request, replies: &[Reply]) -> Result<Fate, String> {
    let nonsense = || format!("{request:?} is answered {replies:?}");
    let is_call = request.ops.iter().any(|op| one(op).is_none());
    let last = replies.last().ok_or_else(nonsense)?;
    match last {
        Reply::Error(text) if text.starts_with("UNKNOWN ") => Ok(Fate::Unknown),
        Reply::Error(text) if text.starts_with("TRYAGAIN ") || text.starts_with("BUSY ") => {
            Ok(Fate::Refused)
        }
        Reply::Bulk(Some(bytes)) if is_call => match answer::decode(bytes) {
            Ok(Ok(response)) => Ok(Fate::Done(response)),
            Ok(Err(why)) if why.is_unknown() => Ok(Fate::Unknown),
            Ok(Err(_)) => Ok(Fate::Refused),
            Err(_) => Err(nonsense()),
        },
        Reply::Array(parts) if request.ops.len() > 1 && parts.len() == request.ops.len() => {
            let results = request.ops.iter().zip(parts).map(|(op, part)| result(op, part));
            let results: Option<Vec<_>> = results.collect();
            Ok(Fate::Done(Response { results: results.ok_or_else(nonsense)? }))
        }
        reply => match &request.ops[..] {
            [op] if !is_call => {
                let results = vec![result(op, reply).ok_or_else(nonsense)?];
                Ok(Fate::Done(Response { results }))
            }
            _ => Err(nonsense()),
        },
    }
}

/// What the reply to the command of one operation says that it gave.
fn result(op: &Op, reply: &Reply) -> Option<OpResult> {
    if let Reply::Error(text) = reply {
        let why = [OpError::NotAnInteger, OpError::Overflow, OpError::ValueTooLarge];
        let why = why.into_iter().find(|why| *text == format!("ERR {why}"));
        return why.map(OpResult::Failed);
    }
    Some(match (op, reply) {
        (Op::Get { .. }, Reply::Bulk(value)) => OpResult::Value(value.clone()),
        (Op::Put { return_old: false, .. }, reply) if reply.is_ok() => {
            OpResult::Put { written: true, old: None }
        }
        (Op::Put { return_old: false, .. }, Reply::Bulk(None)) => {
            OpResult::Put { written: false, old: None }
        }
        // With GET the reply is the value before, from which the rest follows.
        (Op::Put { condition, return_old: true, .. }, Reply::Bulk(old)) => {
            let written = match condition {
                Condition::None => true,
                Condition::IfAbsent => old.is_none(),
                Condition::IfPresent => old.is_some(),
            };
            OpResult::Put { written, old: old.clone() }
        }
        (Op::Delete { return_old: false, .. }, Reply::Integer(count @ 0..=1)) => {
            OpResult::Deleted { existed: *count == 1, old: None }
        }
        (Op::Delete { return_old: true, .. }, Reply::Bulk(old)) => {
            OpResult::Deleted { existed: old.is_some(), old: old.clone() }
        }
        (Op::Add { .. }, Reply::Integer(sum)) => OpResult::Integer(*sum),
        (Op::Append { .. } | Op::Length { .. }, Reply::Integer(length)) => {
            OpResult::Length(u64::try_from(*length).ok()?)
        }
        (Op::Exists { .. }, Reply::Integer(count @ 0..=1)) => OpResult::Exists(*count == 1),
        _ => return None,
    })
}
