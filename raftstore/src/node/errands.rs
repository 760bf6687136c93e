//! What a thread does for stores that sleep, once it has done what it was about to.
//!
//! Stores of one process bring their messages to each other themselves, in the middle of a turn. To
//! begin the other's turn there would let everything else wait that is still to be handed out, and
//! answers to answers would pile up on the stack. So it is noted, and done when the turn is over.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// How much a thread does before it goes back to its own work.
const ERRANDS_MAX: usize = 16;

/// A store whose loop sleeps, and has something in its inbox.
pub(super) trait Sleeper: Send + Sync {
    /// Does its work here. False if there is more by now.
    fn help(&self) -> bool;

    /// Has its own thread do it.
    fn wake(&self);
}

/// Whose work a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hands {
    /// The loop's own thread's.
    Own,
    /// Those of a thread that has other things to do.
    Helping,
}

/// What this thread has to do, while it has a turn.
struct Errands {
    hands: Hands,
    sleepers: VecDeque<Arc<dyn Sleeper>>,
    /// The turn's store has a single client, who waits: there is nothing to be done beside it.
    is_alone: bool,
}

thread_local! {
    static ERRANDS: RefCell<Option<Errands>> = const { RefCell::new(None) };
}

/// Whether this thread has the turn of a loop of its own.
pub(super) fn is_own() -> bool {
    ERRANDS.with_borrow(|errands| errands.as_ref().is_some_and(|e| e.hands == Hands::Own))
}

/// Says whether the store whose turn it is has a single client, who waits.
pub(super) fn set_alone(is_alone: bool) {
    ERRANDS.with_borrow_mut(|errands| {
        if let Some(errands) = errands {
            errands.is_alone = is_alone;
        }
    });
}

/// Has this thread see to `sleeper`: now, or after the turn that it has. `can_wait` if the turn's
/// store has nothing better to do meanwhile; else the other's thread is woken to work beside it.
pub(super) fn see_to(sleeper: Arc<dyn Sleeper>, can_wait: bool) {
    let mut sleeper = Some(sleeper);
    let has_turn = ERRANDS.with_borrow_mut(|errands| {
        let Some(errands) = errands else { return false };
        if can_wait || errands.is_alone {
            errands.sleepers.extend(sleeper.take());
        }
        true
    });
    match sleeper {
        Some(sleeper) if has_turn => sleeper.wake(),
        Some(sleeper) => run(Hands::Helping, || help(sleeper)),
        None => {}
    }
}

fn help(sleeper: Arc<dyn Sleeper>) {
    if !sleeper.help() {
        see_to(sleeper, true);
    }
}

/// Has a turn, and then sees to whomever it has given work.
pub(super) fn run<T>(hands: Hands, turn: impl FnOnce() -> T) -> T {
    let errands = Errands { hands, sleepers: VecDeque::new(), is_alone: false };
    let before = ERRANDS.replace(Some(errands));
    debug_assert!(before.is_none(), "a turn at a time");
    let _rest = Rest;
    let outcome = turn();
    let next = || ERRANDS.with_borrow_mut(|errands| errands.as_mut()?.sleepers.pop_front());
    for _ in 0..ERRANDS_MAX {
        let Some(sleeper) = next() else { break };
        help(sleeper);
    }
    outcome
}

/// The end of a turn and its errands, even if it panics: what is left, others have to do.
struct Rest;

impl Drop for Rest {
    fn drop(&mut self) {
        for sleeper in ERRANDS.take().into_iter().flat_map(|errands| errands.sleepers) {
            sleeper.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Has always more to do than there is time for, up to `work`.
    #[derive(Default)]
    struct Busy {
        work: AtomicUsize,
        woken: AtomicUsize,
    }

    impl Sleeper for Busy {
        fn help(&self) -> bool {
            self.work.fetch_sub(1, Ordering::Relaxed) == 1
        }

        fn wake(&self) {
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn busy(work: usize) -> Arc<Busy> {
        Arc::new(Busy { work: AtomicUsize::new(work), ..Busy::default() })
    }

    fn left(of: &Busy) -> (usize, usize) {
        (of.work.load(Ordering::Relaxed), of.woken.load(Ordering::Relaxed))
    }

    #[test]
    fn without_a_turn_it_is_done_at_once() {
        let sleeper = busy(3);
        see_to(sleeper.clone(), false);
        assert_eq!(left(&sleeper), (0, 0));
        assert!(!is_own());
    }

    #[test]
    fn in_a_turn_it_is_done_afterwards_or_by_others() {
        let (later, others, alone) = (busy(2), busy(2), busy(1));
        run(Hands::Own, || {
            assert!(is_own());
            see_to(later.clone(), true);
            see_to(others.clone(), false);
            assert_eq!((left(&later), left(&others)), ((2, 0), (2, 1)));
            set_alone(true);
            see_to(alone.clone(), false);
            assert_eq!(left(&alone), (1, 0), "others would only wake up for it");
        });
        assert_eq!((left(&later), left(&alone)), ((0, 0), (0, 0)));
    }

    #[test]
    fn work_without_end_is_left_to_others() {
        let sleeper = busy(1000);
        see_to(sleeper.clone(), true);
        assert_eq!(left(&sleeper), (1000 - 1 - ERRANDS_MAX, 1));
    }

    #[test]
    fn what_a_panic_leaves_is_left_to_others() {
        let sleeper = busy(1);
        let fails = || {
            see_to(sleeper.clone(), true);
            panic!("as planned");
        };
        let turn = || run(Hands::Own, fails);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).is_err());
        assert_eq!(left(&sleeper), (1, 1));
        see_to(sleeper.clone(), false);
        assert_eq!(left(&sleeper), (0, 1), "this thread can help again");
    }
}
