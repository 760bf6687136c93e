//! What a client is told: exactly one of three truths.
//!
//! | truth | answer | when | asking again |
//! |---|---|---|---|
//! | **applied** | `Ok(response)` | the entry at the command's (index, term) was applied, whoever led by then; or the same command of the session was applied before | – |
//! | | [`Error::ResponseForgotten`] | the same command of the session was applied before; its response was too large to keep | – |
//! | **not applied**, now or later | [`Error::Refused`] | it was never proposed, or its epoch had passed when its entry was applied | safe; elsewhere or later |
//! | | [`Error::StaleCommand`] | another term's entry was applied at its index, or must be | safe |
//! | | [`Error::KeyNotInRegion`] | the region does not have the key | safe, of the region that has it |
//! | | [`Error::NotReadOnly`] | a write was asked for as a query | never helps |
//! | **unknown** | [`Error::Unknown`] | nobody will find out here any more: a snapshot overtook it, the deadline passed, the store stops | only what may happen twice, or within a [session](crate::Session) |
//! | | [`Error::SessionExpired`], [`Error::Superseded`] | this try was not applied; what became of an earlier one the session no longer tells | only what may happen twice |
//!
//! Losing leadership answers nobody: the command may still be committed by the next leader, and its
//! entry or another one at its index will tell.
//!
//! **Beside TinyKV's `notify`.** There a proposal is looked for when its index is applied, and one that
//! is found with another term is told `ErrRespStaleCommand`, as here. But proposals in front of it are
//! dropped without an answer, so that their clients run into a timeout of theirs and ask again; a
//! leader that steps down may tell all of them that they are stale, though the next leader can still
//! commit them; and a region that stops tells them so, too. All three are "unknown", and a client that
//! takes them for "not applied" increments twice. Here the queue keeps every proposal until an applied
//! entry, a snapshot or the end decides it, and says which of the three it was.
//!
//! **What a Redis client sees** is the truth's prefix ([`crate::server`]): a reply for applied;
//! `TRYAGAIN`, `BUSY` or `ERR` for not applied; `UNKNOWN` for unknown; `NOSESSION` and `APPLIED` for
//! what only sessions can tell.

use bytes::Bytes;
use raftstore::{Refusal, Region, RegionId, StoreId, Unknown};

use crate::command::Response;
use crate::command::encoding::{Malformed, VERSION};
use crate::wire::{self, Reader};

/// What a client is told.
pub type Answer<T = Response> = Result<T, Error>;

/// Why there is no response.
///
/// ```
/// use kv::{Answer, Error};
/// use raftstore::{Refusal, Unknown};
///
/// let answers: [Answer; 2] = [Err(Refusal::Busy.into()), Err(Unknown::LeaderLost.into())];
/// let may_have_happened = answers.map(|answer| answer.is_err_and(|why: Error| why.is_unknown()));
/// assert_eq!(may_have_happened, [false, true]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not applied: it was not proposed, or its epoch had passed by the time it was applied.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not applied: another command took its place in the log.
    #[error("the command lost its place in the log to another leader's")]
    StaleCommand,
    /// Not applied: it names a key that is not in its region.
    #[error("key {:?} is not in region {}", Bytes::copy_from_slice(key), region.id)]
    KeyNotInRegion {
        /// The first such key.
        key: Vec<u8>,
        /// The region as it is.
        region: Box<Region>,
    },
    /// Not applied: a write was asked for as a [`crate::Query`], which changes nothing.
    #[error("a request that writes cannot be a query")]
    NotReadOnly,
    /// Applied before, as the same command of its session; what it gave was too large to be kept.
    #[error("the command took effect before, and its response was not kept")]
    ResponseForgotten,
    /// Not applied now, but it is unknown whether an earlier try of the same command was: its session
    /// is not known, because too many others were opened since it was last used.
    #[error("the session has expired, so it is unknown whether an earlier try took effect")]
    SessionExpired,
    /// Not applied now, but it is unknown whether an earlier try of the same command was: a later
    /// command of its session has been carried out.
    #[error("a later command of the session came first, so it is unknown whether this one did")]
    Superseded,
    /// It may or may not be applied, now or later.
    #[error("it is unknown whether the command took effect: {0}")]
    Unknown(#[from] Unknown),
}

impl Error {
    /// Whether the command may have taken effect, or may yet. (Of [`Error::ResponseForgotten`] it is
    /// certain that it has.)
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        match self {
            Error::Unknown(_)
            | Error::SessionExpired
            | Error::Superseded
            | Error::ResponseForgotten => true,
            Error::Refused(_)
            | Error::StaleCommand
            | Error::KeyNotInRegion { .. }
            | Error::NotReadOnly => false,
        }
    }
}

mod tag {
    pub(super) const RESPONSE: u8 = 0;
    pub(super) const NOT_LEADER: u8 = 1;
    pub(super) const REGION_NOT_FOUND: u8 = 2;
    pub(super) const EPOCH_NOT_MATCH: u8 = 3;
    pub(super) const TOO_LARGE: u8 = 4;
    pub(super) const BUSY: u8 = 5;
    pub(super) const TIMEOUT: u8 = 6;
    pub(super) const STORE_SHUTTING_DOWN: u8 = 7;
    pub(super) const STALE_COMMAND: u8 = 8;
    pub(super) const KEY_NOT_IN_REGION: u8 = 9;
    pub(super) const SHUTTING_DOWN: u8 = 10;
    pub(super) const OVERTAKEN: u8 = 11;
    pub(super) const DEADLINE: u8 = 12;
    pub(super) const LEADER_LOST: u8 = 13;
    pub(super) const NOT_READ_ONLY: u8 = 14;
    pub(super) const RESPONSE_FORGOTTEN: u8 = 15;
    pub(super) const SESSION_EXPIRED: u8 = 16;
    pub(super) const SUPERSEDED: u8 = 17;
}

/// The bytes of an answer, to send it to whoever forwarded the request: a version byte, a tag, and
/// the response or the fields of the error.
///
/// ```
/// use kv::answer::{decode, encode};
/// use kv::Error;
///
/// let answer = Err(Error::StaleCommand);
/// assert_eq!(decode(&encode(&answer)), Ok(answer));
/// ```
#[must_use]
pub fn encode(answer: &Answer) -> Bytes {
    let mut out = vec![VERSION];
    match answer {
        Ok(response) => {
            out.push(tag::RESPONSE);
            out.extend_from_slice(&response.encode());
        }
        Err(error) => put_error(&mut out, error),
    }
    out.into()
}

/// The answer with those bytes.
///
/// # Errors
/// If they are not an answer of this version. The request's fate is then unknown.
pub fn decode(bytes: &Bytes) -> Result<Answer, Malformed> {
    let mut from = Reader::new(bytes);
    if from.byte("answer: version")? != VERSION {
        return Err(Malformed { what: "answer: version" });
    }
    let tag = from.byte("answer")?;
    if tag == tag::RESPONSE {
        return Response::decode(&bytes.slice_ref(from.rest())).map(Ok);
    }
    let error = read_error(tag, &mut from)?;
    from.end("answer: end")?;
    Ok(Err(error))
}

fn put_error(out: &mut Vec<u8>, error: &Error) {
    match error {
        Error::Refused(refusal) => put_refusal(out, refusal),
        Error::StaleCommand => out.push(tag::STALE_COMMAND),
        Error::NotReadOnly => out.push(tag::NOT_READ_ONLY),
        Error::ResponseForgotten => out.push(tag::RESPONSE_FORGOTTEN),
        Error::SessionExpired => out.push(tag::SESSION_EXPIRED),
        Error::Superseded => out.push(tag::SUPERSEDED),
        Error::KeyNotInRegion { key, region } => {
            out.push(tag::KEY_NOT_IN_REGION);
            wire::put_string(out, key);
            wire::put_region(out, region);
        }
        Error::Unknown(why) => out.push(match why {
            Unknown::ShuttingDown => tag::SHUTTING_DOWN,
            Unknown::Overtaken => tag::OVERTAKEN,
            Unknown::Deadline => tag::DEADLINE,
            // A reason added later still says that nobody knows.
            _ => tag::LEADER_LOST,
        }),
    }
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    match refusal {
        Refusal::NotLeader { leader } => {
            out.extend_from_slice(&[tag::NOT_LEADER, u8::from(leader.is_some())]);
            if let Some(StoreId(leader)) = leader {
                wire::put_number(out, *leader);
            }
        }
        Refusal::RegionNotFound(RegionId(region)) => {
            out.push(tag::REGION_NOT_FOUND);
            wire::put_number(out, *region);
        }
        Refusal::EpochNotMatch { asked, current } => {
            out.push(tag::EPOCH_NOT_MATCH);
            wire::put_epoch(out, *asked);
            wire::put_region(out, current);
        }
        Refusal::TooLarge { bytes, max } => {
            out.push(tag::TOO_LARGE);
            wire::put_number(out, *bytes as u64);
            wire::put_number(out, *max as u64);
        }
        Refusal::Timeout => out.push(tag::TIMEOUT),
        Refusal::ShuttingDown => out.push(tag::STORE_SHUTTING_DOWN),
        // A reason added later still says "not now", and that nothing has happened.
        _ => out.push(tag::BUSY),
    }
}

fn read_error(tag: u8, from: &mut Reader<'_>) -> Result<Error, Malformed> {
    const WHAT: &str = "error";
    let size = |number: u64| usize::try_from(number).map_err(|_| Malformed { what: WHAT });
    Ok(match tag {
        tag::NOT_LEADER => {
            let leader = match from.flag(WHAT)? {
                true => Some(StoreId(from.number(WHAT)?)),
                false => None,
            };
            Refusal::NotLeader { leader }.into()
        }
        tag::REGION_NOT_FOUND => Refusal::RegionNotFound(RegionId(from.number(WHAT)?)).into(),
        tag::EPOCH_NOT_MATCH => {
            let asked = from.epoch()?;
            Refusal::EpochNotMatch { asked, current: Box::new(from.region()?) }.into()
        }
        tag::TOO_LARGE => {
            let bytes = size(from.number(WHAT)?)?;
            Refusal::TooLarge { bytes, max: size(from.number(WHAT)?)? }.into()
        }
        tag::BUSY => Refusal::Busy.into(),
        tag::TIMEOUT => Refusal::Timeout.into(),
        tag::STORE_SHUTTING_DOWN => Refusal::ShuttingDown.into(),
        tag::STALE_COMMAND => Error::StaleCommand,
        tag::NOT_READ_ONLY => Error::NotReadOnly,
        tag::RESPONSE_FORGOTTEN => Error::ResponseForgotten,
        tag::SESSION_EXPIRED => Error::SessionExpired,
        tag::SUPERSEDED => Error::Superseded,
        tag::KEY_NOT_IN_REGION => {
            let key = from.string(usize::MAX, WHAT)?.to_vec();
            Error::KeyNotInRegion { key, region: Box::new(from.region()?) }
        }
        tag::SHUTTING_DOWN => Unknown::ShuttingDown.into(),
        tag::OVERTAKEN => Unknown::Overtaken.into(),
        tag::DEADLINE => Unknown::Deadline.into(),
        tag::LEADER_LOST => Unknown::LeaderLost.into(),
        _ => return Err(Malformed { what: WHAT }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::OpResult;
    use proptest::prelude::*;
    use raftstore::Epoch;

    fn every_error() -> Vec<Error> {
        let region = || Box::new(Region::first(&[StoreId(1), StoreId(2)]));
        let asked = Epoch { version: 3, conf_ver: 700 };
        vec![
            Refusal::NotLeader { leader: None }.into(),
            Refusal::NotLeader { leader: Some(StoreId(300)) }.into(),
            Refusal::RegionNotFound(RegionId(9)).into(),
            Refusal::EpochNotMatch { asked, current: region() }.into(),
            Refusal::TooLarge { bytes: 9_000_000, max: 8_000_000 }.into(),
            Refusal::Busy.into(),
            Refusal::Timeout.into(),
            Refusal::ShuttingDown.into(),
            Error::StaleCommand,
            Error::NotReadOnly,
            Error::ResponseForgotten,
            Error::SessionExpired,
            Error::Superseded,
            Error::KeyNotInRegion { key: b"k\xff".to_vec(), region: region() },
            Unknown::ShuttingDown.into(),
            Unknown::Overtaken.into(),
            Unknown::Deadline.into(),
            Unknown::LeaderLost.into(),
        ]
    }

    #[test]
    fn answers_round_trip_and_cut_ones_are_refused() {
        let mut answers: Vec<Answer> = every_error().into_iter().map(Err).collect();
        answers.push(Ok(Response { results: vec![OpResult::Integer(-5)] }));
        for answer in answers {
            let bytes = encode(&answer);
            assert_eq!(decode(&bytes), Ok(answer));
            for len in 0..bytes.len() {
                assert!(decode(&bytes.slice(..len)).is_err());
            }
            assert!(decode(&[&bytes[..], &[0]].concat().into()).is_err(), "nothing may follow");
        }
    }

    /// L3: every error says whether the command may have taken effect.
    #[test]
    fn l3_every_error_is_certain_or_says_unknown() {
        for error in every_error() {
            let by_kind = matches!(error, Error::Unknown(_));
            let of_session = matches!(error, Error::SessionExpired | Error::Superseded);
            let unknown = by_kind || of_session;
            let applied = matches!(error, Error::ResponseForgotten);
            assert_eq!(error.is_unknown(), unknown || applied);
            assert_eq!(error.to_string().contains("unknown"), unknown, "{error}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_canonical(tail in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = Bytes::from([&[VERSION], &tail[..]].concat());
            if let Ok(answer) = decode(&bytes) {
                prop_assert_eq!(encode(&answer), bytes);
            }
        }
    }

    #[test]
    fn a_member_without_an_id_is_refused() {
        let region = Region::first(&[StoreId(1)]);
        let mut bytes =
            encode(&Err(Error::KeyNotInRegion { key: vec![], region: Box::new(region) })).to_vec();
        let id = bytes.len() - 3;
        bytes[id] = 0;
        assert!(decode(&bytes.into()).is_err());
    }
}
