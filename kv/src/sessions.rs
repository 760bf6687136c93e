//! Sessions: commands that take effect once, however often they are proposed (T§6.3).
//!
//! A client whose command got no answer does not know whether to ask again. Within a session it may:
//! the state machine remembers for each session the number of the last command that was carried out
//! and what it gave, and answers the same number again with the same response.
//!
//! ```text
//! Open ───────────► session 7, sequence 0
//! Command 7, 1 ───► carried out, response kept          7: 1, response
//! Command 7, 1 ───► the response again                  (a retry, perhaps through another leader)
//! Command 7, 2 ───► carried out, response kept          7: 2, response
//! Command 7, 1 ───► Superseded                          (a try that was late on its way)
//! Command 3, 5 ───► SessionExpired
//! ```
//!
//! What is remembered is part of the region's state, in the column family [`Cf::Session`]: it changes
//! with the applied position in one batch, and is in every checkpoint, snapshot and hash. The key of a
//! session is the start key of the region and the session's id, so it lies within the region's range.
//! Its id is the index of the entry that opened it, so no two are the same.
//!
//! **Bounded.** A region remembers [`SESSIONS_MAX`]; opening one more forgets the one whose last
//! command has the lowest index. That depends on the log alone, not on a clock, so every replica
//! forgets the same. A client whose session was forgotten is told so, and knows what it does not know.
//! Responses beyond [`RESPONSE_BYTES_KEPT`] are not kept, only that there was one.

use bytes::Bytes;
use raft::Index;
use raftstore::Region;

use crate::answer::{Answer, Error};
use crate::command::{Cf, KEY_BYTES_MAX, OpResult, Response, Session};
use crate::engine::Write;
use crate::wire::{self, Malformed, Reader};

/// Most sessions of a region.
pub const SESSIONS_MAX: u64 = 1024;

/// Most bytes of an encoded response that are kept for a retry.
pub const RESPONSE_BYTES_KEPT: usize = 1024;

/// What is remembered of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// The index of its last command.
    used: Index,
    /// The number of its last command; 0 before the first.
    sequence: u64,
    /// What that gave, encoded, if it was small enough.
    response: Option<Bytes>,
}

impl Entry {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.response.as_ref().map_or(0, Bytes::len));
        wire::put_number(&mut out, self.used);
        wire::put_number(&mut out, self.sequence);
        wire::put_optional(&mut out, self.response.as_deref());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Entry, Malformed> {
        const WHAT: &str = "session";
        let mut from = Reader::new(bytes);
        let (used, sequence) = (from.number(WHAT)?, from.number(WHAT)?);
        let response = from.optional(RESPONSE_BYTES_KEPT, WHAT)?.map(Bytes::copy_from_slice);
        from.end(WHAT)?;
        Ok(Entry { used, sequence, response })
    }
}

/// Where a session is kept. `None` if a key of the region has no room for it.
fn key(region: &Region, id: u64) -> Option<Vec<u8>> {
    let key = [&region.start_key[..], &id.to_be_bytes()].concat();
    (key.len() <= KEY_BYTES_MAX && region.contains(&key)).then_some(key)
}

/// Does what a request of a session asks for, by the entry at `at`; `carry_out` does the operations.
///
/// # Errors
/// If the operations were not carried out now.
pub(crate) fn run(
    session: Session,
    at: Index,
    region: &Region,
    batch: &mut dyn Write,
    carry_out: impl FnOnce(&mut dyn Write) -> Response,
) -> Answer {
    let (id, sequence) = match session {
        Session::Open => return open(at, region, batch),
        Session::Command { id, sequence } => (id, sequence),
    };
    let key = key(region, id).ok_or(Error::SessionExpired)?;
    let known = batch.get(Cf::Session, &key).map(|bytes| Entry::decode(&bytes));
    let Some(Ok(mut entry)) = known else { return Err(Error::SessionExpired) };
    if sequence < entry.sequence || sequence == 0 {
        return Err(Error::Superseded);
    }
    entry.used = at;
    let answer = if sequence == entry.sequence {
        // What was encoded here can be decoded.
        let response = entry.response.as_ref().and_then(|bytes| Response::decode(bytes).ok());
        response.ok_or(Error::ResponseForgotten)
    } else {
        let response = carry_out(batch);
        let bytes = response.encode();
        entry.response = (bytes.len() <= RESPONSE_BYTES_KEPT).then_some(bytes);
        entry.sequence = sequence;
        Ok(response)
    };
    batch.put(Cf::Session, &key, &entry.encode());
    answer
}

fn open(at: Index, region: &Region, batch: &mut dyn Write) -> Answer {
    let key = key(region, at).ok_or(Error::SessionExpired)?;
    while batch.count(Cf::Session, &region.start_key, &region.end_key) >= SESSIONS_MAX {
        let Some(oldest) = least_recently_used(region, batch) else { break };
        batch.delete(Cf::Session, &oldest);
    }
    batch.put(Cf::Session, &key, &Entry { used: at, ..Entry::default() }.encode());
    let id = i64::try_from(at).unwrap_or(i64::MAX);
    Ok(Response { results: vec![OpResult::Integer(id)] })
}

/// The key of the session whose last command is the oldest. Looks at all of them.
fn least_recently_used(region: &Region, from: &dyn Write) -> Option<Vec<u8>> {
    let mut oldest: Option<(Index, Vec<u8>)> = None;
    from.scan(Cf::Session, &region.start_key, &region.end_key, false, &mut |key, value| {
        let used = Entry::decode(value).map_or(0, |entry| entry.used);
        if oldest.as_ref().is_none_or(|(before, _)| used < *before) {
            oldest = Some((used, key.to_vec()));
        }
        true
    });
    oldest.map(|(_, key)| key)
}

#[cfg(test)]
mod tests;
