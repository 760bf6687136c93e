//! Answers on their way to the event loop, from whichever thread has them.
//!
//! The loop is woken (a system call) only when it sleeps: it says so before it does, then looks
//! once more; whoever brings an answer puts it down first and then looks whether the loop sleeps.
//! One of the two sees the other. The answers of a batch so cost one wake-up, and none while the
//! loop is busy anyhow.

use std::sync::atomic::{AtomicBool, Ordering};

use mio::Waker;
use parking_lot::Mutex;

use crate::answer::Answer;

/// An answer for the connection in `slot`, to the server's request number `serial`.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) slot: usize,
    pub(crate) serial: u64,
    pub(crate) answer: Answer,
}

/// The queue in front of one event loop.
#[derive(Debug)]
pub(crate) struct Completions {
    queue: Mutex<Vec<Completion>>,
    asleep: AtomicBool,
    waker: Waker,
}

impl Completions {
    pub(crate) fn new(waker: Waker) -> Completions {
        Completions { queue: Mutex::new(Vec::new()), asleep: AtomicBool::new(false), waker }
    }

    /// Any thread: brings an answer.
    pub(crate) fn push(&self, completion: Completion) {
        self.queue.lock().push(completion);
        self.rouse();
    }

    /// Any thread: makes the loop look around.
    pub(crate) fn rouse(&self) {
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Err(e) = self.waker.wake()
        {
            // Nothing is lost: the loop looks again when its next deadline comes.
            log::error!("can't wake the event loop: {e}");
        }
    }

    /// The loop: takes what has come, into `into`.
    pub(crate) fn take(&self, into: &mut Vec<Completion>) {
        let mut queue = self.queue.lock();
        if into.is_empty() {
            std::mem::swap(&mut *queue, into);
        } else {
            into.append(&mut queue);
        }
    }

    /// The loop: says that it is about to sleep; whether it may, as nothing has come.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let may = self.queue.lock().is_empty();
        if !may {
            self.wake_up();
        }
        may
    }

    /// The loop: is awake.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}
