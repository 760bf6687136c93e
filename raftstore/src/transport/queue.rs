//! A queue from many threads to one or few, bounded by weight, emptied a whole batch at a time.
//!
//! The loop, the log writer, the applier and the links each sleep on one. A consumer takes all
//! there is under one lock, so the cost of the lock and of waking up is shared by everything that
//! queued meanwhile; this is what forms batches, without timers. A channel cannot do what is
//! needed besides: limits in bytes, several kinds of items each with its own limit in one order,
//! and giving back what nobody will take any more.

use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Why an item was not queued. It is given back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    /// The items of its kind weigh too much already.
    Full(T),
    /// Nobody will take anything any more.
    Closed(T),
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There are items.
    Items,
    /// The time has come, and there are none.
    Timeout,
    /// There are none and there will be none.
    Closed,
}

/// Whether whoever takes items hears of a new one by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "one that sleeps has to be woken, or its work be done"]
pub(crate) enum Consumer {
    /// It does, or somebody else sees to it.
    Awake,
    /// It sleeps; whoever has pushed the item has to see to it.
    Asleep,
}

/// How many kinds of items have limits of their own.
const LANES: usize = 2;

struct State<T> {
    items: Vec<T>,
    weights: [usize; LANES],
    is_closed: bool,
    /// Consumers that wait for items.
    asleep: usize,
    /// One of them was woken and has not come yet, or somebody who pushed does its work: nobody
    /// else need be woken.
    is_waking: bool,
}

/// The queue.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    limits: [usize; LANES],
}

impl<T> Queue<T> {
    /// An empty queue whose two lanes take so much weight each.
    pub(crate) fn new(limits: [usize; LANES]) -> Queue<T> {
        let state = State {
            items: Vec::new(),
            weights: [0; LANES],
            is_closed: false,
            asleep: 0,
            is_waking: false,
        };
        Queue { state: Mutex::new(state), wake: Condvar::new(), limits }
    }

    /// Queues an item that is not subject to a limit.
    pub(crate) fn push(&self, item: T) -> Result<(), Refused<T>> {
        let consumer = self.push_quietly(item, None)?;
        if consumer == Consumer::Asleep {
            self.wake();
        }
        Ok(())
    }

    /// As [`Queue::push_quietly`], and wakes the consumer.
    pub(crate) fn offer(&self, item: T, lane: usize, weight: usize) -> Result<(), Refused<T>> {
        let consumer = self.push_quietly(item, Some((lane, weight)))?;
        if consumer == Consumer::Asleep {
            self.wake();
        }
        Ok(())
    }

    /// Queues an item of that weight in that lane, unless the lane's weight has reached the limit.
    /// One item may overrun it, so that any fits an empty queue. Without a weight it is not
    /// subject to a limit.
    ///
    /// If the consumer sleeps, the caller has to [`Queue::wake`] it, or to take what there is in
    /// its place, until [`Queue::rest`].
    pub(crate) fn push_quietly(
        &self,
        item: T,
        weight: Option<(usize, usize)>,
    ) -> Result<Consumer, Refused<T>> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Refused::Closed(item));
        }
        if let Some((lane, weight)) = weight {
            if state.weights[lane] >= self.limits[lane] {
                return Err(Refused::Full(item));
            }
            state.weights[lane] += weight;
        }
        state.items.push(item);
        let wake = state.asleep > 0 && !state.is_waking;
        state.is_waking |= wake;
        Ok(if wake { Consumer::Asleep } else { Consumer::Awake })
    }

    /// Wakes a consumer.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whoever took items in the place of the consumer has done them. False if there are more by
    /// now, which are theirs to take, or to wake the consumer for.
    pub(crate) fn rest(&self) -> bool {
        let mut state = self.state.lock();
        let is_empty = state.items.is_empty();
        state.is_waking &= !is_empty;
        is_empty
    }

    /// Waits for items, until `deadline` if there is one, and swaps them with `items`, which must
    /// be empty.
    pub(crate) fn take(&self, items: &mut Vec<T>, deadline: Option<Instant>) -> Woken {
        debug_assert!(items.is_empty(), "what was taken before is done");
        let mut state = self.state.lock();
        let woken = self.wait_locked(&mut state, deadline);
        if woken == Woken::Items {
            std::mem::swap(&mut state.items, items);
            state.weights = [0; LANES];
        }
        woken
    }

    /// Waits for items, until `deadline` if there is one, and leaves them where they are. Several
    /// threads may, if none of them uses [`Queue::take`].
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Woken {
        self.wait_locked(&mut self.state.lock(), deadline)
    }

    fn wait_locked(
        &self,
        state: &mut MutexGuard<'_, State<T>>,
        deadline: Option<Instant>,
    ) -> Woken {
        while state.items.is_empty() {
            if state.is_closed {
                return Woken::Closed;
            }
            state.asleep += 1;
            let late = match deadline {
                Some(deadline) => self.wake.wait_until(state, deadline).timed_out(),
                None => {
                    self.wake.wait(state);
                    false
                }
            };
            state.asleep -= 1;
            state.is_waking = false;
            if late && state.items.is_empty() && !state.is_closed {
                return Woken::Timeout;
            }
        }
        Woken::Items
    }

    /// Adds what is queued to `items`, without waiting.
    pub(crate) fn take_more(&self, items: &mut Vec<T>) {
        let mut state = self.state.lock();
        if items.is_empty() {
            std::mem::swap(&mut state.items, items);
        } else {
            items.append(&mut state.items);
        }
        state.weights = [0; LANES];
    }

    /// Whether it takes items and has none.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.items.is_empty() && !state.is_closed
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().items.is_empty()
    }

    /// Takes nothing on any more; what is queued can still be taken. Wakes the consumer.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake.notify_all();
    }

    /// Sleeps until `deadline` or the queue's end, whatever is queued. Whether it is the end.
    pub(crate) fn sleep(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.is_closed && !self.wake.wait_until(&mut state, deadline).timed_out() {}
        state.is_closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_batch_is_taken_in_order() {
        let queue = Queue::new([2, 10]);
        for item in 0..5 {
            queue.push(item).expect("open");
        }
        let mut items = Vec::new();
        assert_eq!(queue.take(&mut items, None), Woken::Items);
        assert_eq!(items, [0, 1, 2, 3, 4]);
        items.clear();
        assert_eq!(queue.take(&mut items, Some(Instant::now())), Woken::Timeout);
    }

    #[test]
    fn each_lane_has_its_limit_and_gives_back() {
        let queue = Queue::new([2, 10]);
        assert_eq!(queue.offer("large", 1, 100), Ok(()), "one may overrun");
        assert_eq!(queue.offer("more", 1, 1), Err(Refused::Full("more")));
        assert_eq!(queue.offer("a", 0, 1), Ok(()), "the other lane is free");
        assert_eq!(queue.offer("b", 0, 1), Ok(()));
        assert_eq!(queue.offer("c", 0, 1), Err(Refused::Full("c")));
        assert_eq!(queue.push("always"), Ok(()));
        let mut items = Vec::new();
        queue.take(&mut items, None);
        assert_eq!(items, ["large", "a", "b", "always"]);
        assert_eq!(queue.offer("c", 0, 1), Ok(()), "there is room again");
        assert_eq!(queue.wait(None), Woken::Items);
        queue.take_more(&mut items);
        assert_eq!(items.last(), Some(&"c"), "it was still there");
        assert_eq!(queue.offer("d", 0, 2), Ok(()), "and there is room again");
    }

    /// Pushes quietly until the consumer sleeps.
    fn push_to_sleeper(queue: &Queue<u64>) {
        while queue.push_quietly(1, None) != Ok(Consumer::Asleep) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_sleeping_consumer_is_seen_to_by_one_who_pushes() {
        let queue = Arc::new(Queue::new([1, 1]));
        let own = Arc::clone(&queue);
        let consumer = std::thread::spawn(move || {
            let (mut items, mut sum) = (Vec::new(), 0);
            while own.take(&mut items, None) == Woken::Items {
                sum += items.drain(..).sum::<u64>();
            }
            sum
        });
        push_to_sleeper(&queue);
        assert_eq!(queue.push_quietly(2, None), Ok(Consumer::Awake), "somebody sees to it");
        let mut items = Vec::new();
        queue.take_more(&mut items);
        assert_eq!(items.last(), Some(&2));
        assert_eq!(queue.push_quietly(3, None), Ok(Consumer::Awake));
        assert!(!queue.rest(), "there is more");
        items.clear();
        queue.take_more(&mut items);
        assert_eq!(items, [3]);
        assert!(queue.rest());
        assert_eq!(queue.push_quietly(4, None), Ok(Consumer::Asleep), "it is somebody's again");
        queue.wake();
        queue.close();
        assert!(consumer.join().expect("no panic") >= 4, "what is left to it comes to it");
    }

    #[test]
    fn a_closed_queue_is_emptied_first() {
        let queue = Queue::new([1, 1]);
        queue.push(1).expect("open");
        queue.close();
        assert_eq!(queue.push(2), Err(Refused::Closed(2)));
        let mut items = Vec::new();
        assert_eq!(queue.take(&mut items, None), Woken::Items);
        items.clear();
        assert_eq!(queue.take(&mut items, None), Woken::Closed);
        assert!(queue.sleep(Instant::now() + Duration::from_secs(60)), "no waiting for nothing");
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const PRODUCERS: usize = 3;
        const EACH: usize = 20_000;
        let queue = Arc::new(Queue::new([1, 1]));
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    for item in 0..EACH {
                        queue.push((producer, item)).expect("open");
                    }
                })
            })
            .collect();
        let (mut next, mut items) = ([0; PRODUCERS], Vec::new());
        while next != [EACH; PRODUCERS] {
            assert_eq!(queue.take(&mut items, None), Woken::Items);
            for (producer, item) in items.drain(..) {
                assert_eq!(item, next[producer], "each producer's items keep their order");
                next[producer] += 1;
            }
        }
        producers.into_iter().for_each(|p| p.join().expect("no panic"));
    }

    #[test]
    fn several_consumers_take_everything_once() {
        const ITEMS: usize = 50_000;
        let queue = Arc::new(Queue::new([1, 1]));
        let consumers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    let mut items = Vec::new();
                    while queue.wait(None) == Woken::Items {
                        queue.take_more(&mut items);
                    }
                    items
                })
            })
            .collect();
        (0..ITEMS).for_each(|item| queue.push(item).expect("open"));
        queue.close();
        let mut all: Vec<usize> =
            consumers.into_iter().flat_map(|c| c.join().expect("no panic")).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..ITEMS));
    }
}
