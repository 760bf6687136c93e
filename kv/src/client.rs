//! A client of the store that asks again only when it may.
//!
//! ```text
//!            ┌────────────── again, perhaps elsewhere ◄──────────────┐
//! request ─► begin ─► try ─► ask a store ─► told: read, any error ───┤
//!                                           not applied ─────────────┤
//!                                           unknown, write: session ─┘
//!                                           applied ─► answered      deadline ─► what is certain
//! ```
//!
//! **Reads** are asked again after any error: twice is as good as once. **Writes** are commands of a
//! [`Session`]: asked again with the same number they take effect once, so also after "unknown" (L1). When
//! the deadline comes first, or the session was forgotten meanwhile, the client says what it knows: an
//! error that [`Error::is_unknown`] if any try may have taken effect, else that nothing was done.
//!
//! | | |
//! |---|---|
//! | [`Attempt`] | the rules, without input and output: for whoever asks in a way of their own |
//! | [`Client`] | a caller that waits, over any [`Link`] |
//! | [`resp::RespLink`] | a link to real stores, over the Redis protocol |

pub mod resp;

use std::time::Duration;

use bytes::Bytes;
use raftstore::{Refusal, StoreId, Unknown};

use crate::answer::{Answer, Error};
use crate::command::{Op, OpResult, Request, Response, Session};

/// The session of one client, which has one command at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientSession {
    /// `None` until it is opened.
    id: Option<u64>,
    sequence: u64,
}

/// One request of a client, until it is answered.
///
/// ```
/// use kv::client::{Attempt, ClientSession, Next};
/// use kv::{Op, OpResult, Response, Session};
/// use raftstore::Unknown;
///
/// let mut session = ClientSession::default();
/// let mut attempt = Attempt::begin(Op::add("visits", 1).into());
/// assert_eq!(attempt.request(&session).session, Some(Session::Open));
/// let opened = Ok(Response { results: vec![OpResult::Integer(7)] });
/// assert_eq!(attempt.told(&mut session, opened), Next::Again(None));
///
/// let asked = attempt.request(&session);
/// assert_eq!(asked.session, Some(Session::Command { id: 7, sequence: 1 }));
/// // Nobody knows whether that took effect, so the same is asked again.
/// assert_eq!(attempt.told(&mut session, Err(Unknown::LeaderLost.into())), Next::Again(None));
/// assert_eq!(attempt.request(&session), asked);
/// ```
#[derive(Clone, Debug)]
pub struct Attempt {
    request: Request,
    /// Some try may have taken effect, or may yet.
    unsure: bool,
    /// The command has its number.
    numbered: bool,
}

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This is the answer.
    Answered(Answer),
    /// Ask again: the store that was named, or any other.
    Again(Option<StoreId>),
}

impl Attempt {
    /// A client wants `request`. It must not be of a session already.
    #[must_use]
    pub fn begin(request: Request) -> Attempt {
        Attempt { request, unsure: false, numbered: false }
    }

    /// What to ask a store now.
    #[must_use]
    pub fn request(&mut self, session: &ClientSession) -> Request {
        if self.request.is_read_only() {
            return self.request.clone();
        }
        match session.id {
            None => Request::default().within(Session::Open),
            Some(id) => {
                // The number of the last command belongs to it for ever.
                let sequence = session.sequence + u64::from(!self.numbered);
                self.request.clone().within(Session::Command { id, sequence })
            }
        }
    }

    /// The question has left for a store. Until it is answered it may take effect.
    pub fn asked(&mut self, session: &mut ClientSession) {
        if session.id.is_some() && !self.request.is_read_only() && !self.numbered {
            session.sequence += 1;
            self.numbered = true;
        }
    }

    /// The answer to what was asked last.
    pub fn told(&mut self, session: &mut ClientSession, answer: Answer) -> Next {
        if self.request.is_read_only() {
            return of_read(answer);
        }
        if session.id.is_none() {
            return self.opened(session, &answer);
        }
        self.asked(session);
        match answer {
            Ok(_) | Err(Error::ResponseForgotten) => Next::Answered(answer),
            Err(Error::SessionExpired | Error::Superseded) => {
                *session = ClientSession::default();
                if self.unsure {
                    return Next::Answered(answer);
                }
                // The first try of the command, so it was never carried out.
                self.numbered = false;
                Next::Again(None)
            }
            Err(why) if why.is_unknown() => {
                self.unsure = true;
                Next::Again(None)
            }
            Err(Error::Refused(Refusal::NotLeader { leader })) => Next::Again(leader),
            Err(why) if is_final(&why) && !self.unsure => Next::Answered(Err(why)),
            Err(_) => Next::Again(None),
        }
    }

    fn opened(&mut self, session: &mut ClientSession, answer: &Answer) -> Next {
        match answer {
            Ok(Response { results }) => {
                if let [OpResult::Integer(id)] = results[..] {
                    *session = ClientSession { id: u64::try_from(id).ok(), sequence: 0 };
                }
                Next::Again(None)
            }
            Err(Error::Refused(Refusal::NotLeader { leader })) => Next::Again(*leader),
            // A session that was opened and is not known does no harm.
            Err(_) => Next::Again(None),
        }
    }

    /// What is certain when the deadline comes. `waiting` says that a question has no answer yet.
    pub fn give_up(self, waiting: bool) -> Answer {
        if self.request.is_read_only() || !(self.unsure || (waiting && self.numbered)) {
            return Err(Refusal::Timeout.into());
        }
        Err(Unknown::Deadline.into())
    }
}

/// Reads are asked again until there is an answer, or they can never have one.
fn of_read(answer: Answer) -> Next {
    match answer {
        Err(Error::Refused(Refusal::NotLeader { leader })) => Next::Again(leader),
        Err(why) if !is_final(&why) => Next::Again(None),
        answer => Next::Answered(answer),
    }
}

/// Whether the same request would be refused again, wherever it is asked.
fn is_final(why: &Error) -> bool {
    matches!(
        why,
        Error::Refused(Refusal::TooLarge { .. })
            | Error::KeyNotInRegion { .. }
            | Error::NotReadOnly
    )
}

/// A way to the stores. Time is the link's: a simulation has its own.
///
/// ```
/// use std::time::Duration;
/// use kv::client::Link;
/// use kv::{Answer, Client, OpResult, Request, Response};
/// use raftstore::{Refusal, StoreId};
///
/// /// Two stores, the second of which leads and has nothing.
/// struct Two;
///
/// impl Link for Two {
///     fn stores(&self) -> Vec<StoreId> {
///         vec![StoreId(1), StoreId(2)]
///     }
///
///     fn ask(&mut self, store: StoreId, _: &Request, _: Duration) -> Answer {
///         match store {
///             StoreId(2) => Ok(Response { results: vec![OpResult::Value(None)] }),
///             _ => Err(Refusal::NotLeader { leader: Some(StoreId(2)) }.into()),
///         }
///     }
///
///     fn pause(&mut self, _: Duration) {}
///
///     fn now(&self) -> Duration {
///         Duration::ZERO
///     }
/// }
///
/// assert_eq!(Client::new(Two).get("name"), Ok(None));
/// ```
pub trait Link {
    /// The stores that can be asked, at least one.
    fn stores(&self) -> Vec<StoreId>;

    /// Asks a store and waits for its answer, for not much longer than `within`. Without an answer, and
    /// unless it is certain that the store did not get the request, that is an error that
    /// [`Error::is_unknown`].
    fn ask(&mut self, store: StoreId, request: &Request, within: Duration) -> Answer;

    /// Lets some time pass.
    fn pause(&mut self, time: Duration);

    /// The time since some moment.
    fn now(&self) -> Duration;
}

/// How long a client waits.
///
/// ```
/// use std::time::Duration;
/// use kv::Client;
/// use kv::client::{ClientOptions, resp::RespLink};
///
/// let soon = ClientOptions { deadline: Duration::from_millis(50), ..ClientOptions::default() };
/// // Nobody is there: nothing left, so nothing happened.
/// let mut client = Client::with(RespLink::new(["127.0.0.1:1".parse()?]), soon);
/// assert!(!client.put("name", "kim").unwrap_err().is_unknown());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// For a request, with all its tries.
    pub deadline: Duration,
    /// For one try.
    pub attempt: Duration,
    /// Before it asks again.
    pub pause: Duration,
}

impl Default for ClientOptions {
    /// Ten seconds, two for a try, and 10 ms in between: several elections of the default length.
    fn default() -> ClientOptions {
        ClientOptions {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(2),
            pause: Duration::from_millis(10),
        }
    }
}

/// A client with a session, for one caller at a time.
///
/// ```no_run
/// use kv::Client;
/// use kv::client::resp::RespLink;
///
/// let stores = ["127.0.0.1:7001".parse()?, "127.0.0.1:7002".parse()?];
/// let mut client = Client::new(RespLink::new(stores));
/// client.put("name", "kim")?;
/// assert_eq!(client.add("visits", 1)?, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client<L> {
    link: L,
    options: ClientOptions,
    session: ClientSession,
    /// Whom to ask first: by position in the link's list.
    hint: usize,
}

impl<L: Link> Client<L> {
    /// A client over `link`, with the usual deadlines.
    pub fn new(link: L) -> Client<L> {
        Client::with(link, ClientOptions::default())
    }

    /// A client with those deadlines.
    pub fn with(link: L, options: ClientOptions) -> Client<L> {
        Client { link, options, session: ClientSession::default(), hint: 0 }
    }

    /// The link.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// The link, to change it.
    pub fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// Has a request carried out, once.
    ///
    /// # Errors
    /// If it was not, for a reason that does not pass, or not within the deadline: then
    /// [`Refusal::Timeout`] says that it certainly had no effect, and an error that
    /// [`Error::is_unknown`] that it may have had.
    pub fn request(&mut self, request: impl Into<Request>) -> Answer {
        let mut attempt = Attempt::begin(request.into());
        let deadline = self.link.now() + self.options.deadline;
        loop {
            let left = deadline.saturating_sub(self.link.now());
            if left.is_zero() {
                return attempt.give_up(false);
            }
            let stores = self.link.stores();
            let store = stores[self.hint % stores.len()];
            let asked = attempt.request(&self.session);
            attempt.asked(&mut self.session);
            let answer = self.link.ask(store, &asked, left.min(self.options.attempt));
            let is_fine = answer.is_ok();
            match attempt.told(&mut self.session, answer) {
                Next::Answered(answer) => return answer,
                // The session is open.
                Next::Again(None) if is_fine => {}
                Next::Again(named) => {
                    let at = named.and_then(|named| stores.iter().position(|&id| id == named));
                    self.hint = at.unwrap_or((self.hint + 1) % stores.len());
                    self.link.pause(self.options.pause.min(left));
                }
            }
        }
    }

    fn one(&mut self, op: Op) -> Result<OpResult, Error> {
        let mut results = self.request(op)?.results;
        // One operation has one result; a store that gives another has lost its answer.
        results.pop().ok_or(Error::ResponseForgotten)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As [`Client::request`]; so have all the following.
    pub fn get(&mut self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        match self.one(Op::get(key))? {
            OpResult::Value(value) => Ok(value),
            _ => Err(Error::ResponseForgotten),
        }
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), Error> {
        self.one(Op::put(key, value)).map(drop)
    }

    /// Removes a key; whether it had a value.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn delete(&mut self, key: impl Into<Bytes>) -> Result<bool, Error> {
        match self.one(Op::delete(key))? {
            OpResult::Deleted { existed, .. } => Ok(existed),
            _ => Err(Error::ResponseForgotten),
        }
    }

    /// Adds to the number at a key; the sum. `None` if the value is no number, or would get too large.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn add(&mut self, key: impl Into<Bytes>, delta: i64) -> Result<Option<i64>, Error> {
        match self.one(Op::add(key, delta))? {
            OpResult::Integer(sum) => Ok(Some(sum)),
            OpResult::Failed(_) => Ok(None),
            _ => Err(Error::ResponseForgotten),
        }
    }

    /// Sets or removes the value of a key if it is `expected`; whether it was.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn compare_and_set(
        &mut self,
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<bool, Error> {
        match self.one(Op::compare_and_set(key, expected, new))? {
            OpResult::Swapped { swapped, .. } => Ok(swapped),
            _ => Err(Error::ResponseForgotten),
        }
    }
}

#[cfg(test)]
mod tests;
