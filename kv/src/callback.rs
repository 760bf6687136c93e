//! Who waits for an answer, and the promise that everybody gets exactly one.

use std::fmt;

use crossbeam_channel::Receiver;
use raftstore::{Epoch, Refusal, Unknown};

use crate::answer::{Answer, Error};
use crate::command::{Op, Request, Response};
use crate::machine::RegionSnapshot;

/// Somebody who waits for an answer.
///
/// It is answered once because answering consumes it, and at least once because dropping it
/// unanswered is a bug of this program that panics in debug builds; in release builds the waiting
/// client is told the only honest thing, [`Unknown::LeaderLost`].
///
/// It is called on the store's own threads: it must not block.
///
/// ```
/// use kv::{Callback, Response};
/// let (callback, receiver) = Callback::pair();
/// callback.answer(Ok(Response::default()));
/// assert_eq!(receiver.recv(), Ok(Ok(Response::default())));
/// ```
pub struct Callback<T = Response> {
    reply: Option<Box<dyn FnOnce(Answer<T>) + Send>>,
}

impl<T> Callback<T> {
    /// Calls `reply` with the answer.
    pub fn new(reply: impl FnOnce(Answer<T>) + Send + 'static) -> Callback<T> {
        Callback { reply: Some(Box::new(reply)) }
    }

    /// Answers.
    pub fn answer(mut self, answer: Answer<T>) {
        if let Some(reply) = self.reply.take() {
            reply(answer);
        }
    }
}

impl<T: Send + 'static> Callback<T> {
    /// A callback and where its answer arrives, for callers that wait.
    #[must_use]
    pub fn pair() -> (Callback<T>, Receiver<Answer<T>>) {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        // Whoever does not wait any more does not want the answer.
        let reply = move |answer| drop(sender.send(answer));
        (Callback::new(reply), receiver)
    }
}

impl<T> fmt::Debug for Callback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

impl<T> Drop for Callback<T> {
    fn drop(&mut self) {
        let Some(reply) = self.reply.take() else { return };
        // While another panic unwinds, a second one would abort and hide the first.
        assert!(
            !cfg!(debug_assertions) || std::thread::panicking(),
            "every callback is answered exactly once, this one was dropped"
        );
        reply(Err(Error::Unknown(Unknown::LeaderLost)));
    }
}

impl<T: 'static> raftstore::Callback for Callback<T> {
    fn refuse(self, why: Refusal) {
        self.answer(Err(why.into()));
    }

    fn unknown(self, why: Unknown) {
        self.answer(Err(why.into()));
    }
}

/// Most keys that a light query looks up.
const LIGHT_KEYS_MAX: usize = 16;

/// A read, with who waits for it. It runs once everything it must see has been applied.
#[derive(Debug)]
pub struct Query {
    /// The region's epoch as the client knows it.
    pub(crate) epoch: Epoch,
    pub(crate) ask: Ask,
}

/// What a query wants.
#[derive(Debug)]
pub(crate) enum Ask {
    /// The results of a request that [`Request::is_read_only`].
    Request(Request, Callback),
    /// The whole region.
    Snapshot(Callback<RegionSnapshot>),
}

impl Query {
    /// Asks for the results of `request`. If it is not [`Request::is_read_only`] it is refused with
    /// [`Error::NotReadOnly`].
    #[must_use]
    pub fn new(epoch: Epoch, request: Request, callback: Callback) -> Query {
        Query { epoch, ask: Ask::Request(request, callback) }
    }

    /// Whether all it takes is to look a few keys up.
    pub(crate) fn is_light(&self) -> bool {
        let is_light =
            |op: &Op| matches!(op, Op::Get { .. } | Op::Exists { .. } | Op::Length { .. });
        match &self.ask {
            Ask::Request(request, _) => {
                request.ops.len() <= LIGHT_KEYS_MAX && request.ops.iter().all(is_light)
            }
            Ask::Snapshot(_) => false,
        }
    }

    /// Asks for a consistent snapshot of the region, to be read at leisure (TinyKV's `Snap`).
    #[must_use]
    pub fn snapshot(epoch: Epoch, callback: Callback<RegionSnapshot>) -> Query {
        Query { epoch, ask: Ask::Snapshot(callback) }
    }
}

impl raftstore::Callback for Query {
    fn refuse(self, why: Refusal) {
        match self.ask {
            Ask::Request(_, callback) => callback.refuse(why),
            Ask::Snapshot(callback) => callback.refuse(why),
        }
    }

    fn unknown(self, why: Unknown) {
        match self.ask {
            Ask::Request(_, callback) => callback.unknown(why),
            Ask::Snapshot(callback) => callback.unknown(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives() {
        let (callback, receiver) = Callback::<Response>::pair();
        raftstore::Callback::refuse(callback, Refusal::Busy);
        assert_eq!(receiver.try_recv(), Ok(Err(Refusal::Busy.into())));
        let (callback, receiver) = Callback::<Response>::pair();
        raftstore::Callback::unknown(callback, Unknown::Deadline);
        assert_eq!(receiver.try_recv(), Ok(Err(Unknown::Deadline.into())));
    }

    #[test]
    fn a_query_is_light_if_it_looks_few_keys_up() {
        let is_light = |ops: Vec<Op>| {
            let callback = Callback::new(|_| {});
            let query = Query::new(Epoch::default(), Request { ops, session: None }, callback);
            let is_light = query.is_light();
            raftstore::Callback::refuse(query, Refusal::Busy);
            is_light
        };
        assert!(is_light(vec![Op::get("a"); LIGHT_KEYS_MAX]));
        assert!(!is_light(vec![Op::get("a"); LIGHT_KEYS_MAX + 1]));
        assert!(!is_light(vec![Op::get("a"), Op::count()]));
        let query = Query::snapshot(Epoch::default(), Callback::new(drop));
        assert!(!query.is_light());
        raftstore::Callback::refuse(query, Refusal::Busy);
    }

    #[test]
    fn nobody_needs_to_listen() {
        let (callback, receiver) = Callback::<Response>::pair();
        drop(receiver);
        callback.answer(Ok(Response::default()));
    }

    /// K3: an unanswered callback does not go unnoticed.
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "answered exactly once")]
    fn k3_dropping_a_callback_unanswered_panics() {
        drop(Callback::<Response>::new(|_| {}));
    }

    /// K3: while unwinding it must not panic again; the client still gets an answer.
    #[test]
    fn k3_a_callback_dropped_by_a_panic_answers_unknown() {
        let (callback, receiver) = Callback::<Response>::pair();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = callback;
            panic!("something else");
        }));
        assert!(unwound.is_err());
        assert_eq!(receiver.try_recv(), Ok(Err(Unknown::LeaderLost.into())));
    }
}
