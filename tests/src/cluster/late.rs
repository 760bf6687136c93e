//! Messages between real nodes that filters hold up, or have arrive twice: a thread that delivers
//! them when they are due.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use raftstore::StoreId;
use raftstore::codec::message::PeerMessage;
use raftstore::transport::Packet;
use raftstore::transport::local::Network;

use crate::sim::Time;

thread_local! {
    static IS_DELIVERING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread delivers what filters have already seen.
pub(super) fn is_delivering() -> bool {
    IS_DELIVERING.get()
}

/// A message on its way.
struct Parcel {
    due: Instant,
    /// Breaks ties.
    number: u64,
    from: StoreId,
    to: StoreId,
    message: PeerMessage,
}

impl PartialEq for Parcel {
    fn eq(&self, other: &Parcel) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for Parcel {}

impl PartialOrd for Parcel {
    fn partial_cmp(&self, other: &Parcel) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Parcel {
    fn cmp(&self, other: &Parcel) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// Hands messages to the thread. It ends when the last of these is gone.
#[derive(Clone)]
pub(super) struct Late(Sender<Parcel>);

impl Late {
    /// Starts the thread, which delivers to `network`.
    pub(super) fn start(network: Network) -> io::Result<(Late, JoinHandle<()>)> {
        let (sender, parcels) = unbounded();
        let thread = std::thread::Builder::new().name("late".to_owned());
        let thread = thread.spawn(move || deliver(&network, &parcels))?;
        Ok((Late(sender), thread))
    }

    /// Has `message` arrive after that time.
    pub(super) fn send(&self, after: Time, from: StoreId, to: StoreId, message: PeerMessage) {
        let due = Instant::now() + Duration::from_micros(after);
        // If the thread has ended, so have the stores.
        let _ = self.0.send(Parcel { due, number: 0, from, to, message });
    }
}

fn deliver(network: &Network, parcels: &Receiver<Parcel>) {
    IS_DELIVERING.set(true);
    let mut waiting: BinaryHeap<Reverse<Parcel>> = BinaryHeap::new();
    let mut count = 0;
    loop {
        let now = Instant::now();
        while waiting.peek().is_some_and(|parcel| parcel.0.due <= now)
            && let Some(Reverse(Parcel { from, to, message, .. })) = waiting.pop()
        {
            // Whoever is not there does not get it.
            let _ = network.transport(from).send(to, Packet::Raft(vec![message]));
        }
        let next = waiting.peek().map(|parcel| parcel.0.due.saturating_duration_since(now));
        match parcels.recv_timeout(next.unwrap_or(Duration::from_secs(1))) {
            Ok(parcel) => {
                count += 1;
                waiting.push(Reverse(Parcel { number: count, ..parcel }));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
