//! Snapshots in and out: threads that live for one snapshot each, beside the loop.
//!
//! Sending blocks on the network, on the other store's disk and on the bandwidth limit, which all
//! streams of a node share; so each stream has a thread of its own, as many as the store lets begin.
//! Receiving happens on the thread of the transport that brings the pieces. Either way the loop only
//! hears of the end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::NodeError;
use super::shared::{Input, Shared};
use crate::codec::message::PeerMessage;
use crate::machine::Machine;
use crate::region::StoreId;
use crate::snapshot::{Incoming, ReceiveError, SendSnapshot, SnapshotId};
use crate::transport::{SendError, SnapshotSink};

/// The bandwidth that all snapshots of a node share.
pub(super) struct Pace {
    bytes_per_second: u64,
    state: Mutex<PaceState>,
    stopped: Condvar,
}

struct PaceState {
    /// When the next piece may leave.
    next: Instant,
    is_stopped: bool,
}

impl PaceState {
    /// When a piece that takes so long may leave, and none after it before it is through. Time in
    /// which nothing was sent is lost: there is no burst to make up for it.
    fn book(&mut self, now: Instant, takes: Duration) -> Instant {
        let at = self.next.max(now);
        self.next = at + takes;
        at
    }
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Pace {
        let state = Mutex::new(PaceState { next: Instant::now(), is_stopped: false });
        Pace { bytes_per_second: bytes_per_second.max(1), state, stopped: Condvar::new() }
    }

    /// Waits until a piece of so many bytes may leave. Whether it may: not once the node stops.
    fn wait(&self, bytes: usize) -> bool {
        let mut state = self.state.lock();
        let at = state.book(Instant::now(), self.time_of(bytes as u64));
        while !state.is_stopped && Instant::now() < at {
            let _ = self.stopped.wait_until(&mut state, at);
        }
        !state.is_stopped
    }

    /// What so many bytes take.
    fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_second)
    }

    /// Nothing leaves any more.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.stopped.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }
}

/// Tells the loop how a stream ended, whatever happens to its thread.
struct Report<M: Machine> {
    shared: Arc<Shared<M>>,
    id: SnapshotId,
    arrived: bool,
}

impl<M: Machine> Drop for Report<M> {
    fn drop(&mut self) {
        self.shared.tell(Input::SnapshotSent(self.id, self.arrived));
    }
}

/// Sends a snapshot on a thread of its own.
pub(super) fn send<M: Machine>(shared: &Arc<Shared<M>>, send: SendSnapshot) {
    let report = Report { shared: Arc::clone(shared), id: send.id(), arrived: false };
    let thread = std::thread::Builder::new().name(format!("s{}-snapshot", shared.store.0));
    let spawned = thread.spawn(move || {
        // All of it, so that it is dropped here.
        let mut report = report;
        let SnapshotId { region, peer, last } = report.id;
        let began = Instant::now();
        match stream(&report.shared, send) {
            Ok(bytes) => {
                report.arrived = true;
                let took = began.elapsed();
                report.shared.counts.snapshots.send_times.record_time(took);
                let took = took.as_millis();
                log::info!("{region:?} snapshot {last} to {peer:?}: {bytes} bytes in {took} ms");
            }
            Err(why) => log::warn!("{region:?} snapshot {last} to {peer:?} failed: {why}"),
        }
    });
    if let Err(error) = spawned {
        // The report was dropped with what the thread was to do.
        log::warn!("no thread to send a snapshot: {error}");
    }
}

/// Sends all pieces, and waits for the answer. Returns how many bytes they were.
fn stream<M: Machine>(shared: &Shared<M>, send: SendSnapshot) -> Result<u64, SendError> {
    let mut stream = shared.transport.snapshot(send.to, send.message)?;
    let (mut bytes, mut crc) = (0, crc32fast::Hasher::new());
    let mut broken = SendError::Unreachable;
    let written = send.source.write(&mut |piece| {
        if !shared.pace.wait(piece.len()) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        bytes += piece.len() as u64;
        crc.update(piece);
        shared.counts.snapshots.bytes_sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        stream.piece(piece).map_err(|why| {
            broken = why;
            io::Error::other(why)
        })
    });
    written.map_err(|_| broken)?;
    stream.finish(bytes, crc.finalize())?;
    Ok(bytes)
}

/// Snapshots received at a time; more are refused, and their senders try again.
const RECEIVING_MAX: usize = 16;

/// Puts the pieces of a snapshot into a file, and tells the loop when it is whole.
struct Sink<M: Machine> {
    shared: Arc<Shared<M>>,
    from: StoreId,
    /// Taken by the end.
    incoming: Option<Incoming>,
    began: Instant,
    /// It became a file.
    is_whole: bool,
}

impl<M: Machine> Drop for Sink<M> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.shared.counts.snapshots.receive_failures.fetch_add(1, Ordering::Relaxed);
        }
        // First the file goes, then nobody waits for it any more.
        self.incoming = None;
        self.shared.receiving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Begins to receive a snapshot.
pub(super) fn receive<M: Machine>(
    shared: &Arc<Shared<M>>,
    from: StoreId,
    message: PeerMessage,
) -> Result<Box<dyn SnapshotSink>, SendError> {
    let disk = shared.snapshots.as_ref().ok_or(SendError::Refused)?;
    let before = shared.receiving.fetch_add(1, Ordering::AcqRel);
    // From here on the count goes down with it.
    let mut sink = Box::new(Sink {
        shared: Arc::clone(shared),
        from,
        incoming: None,
        began: Instant::now(),
        is_whole: false,
    });
    if before >= RECEIVING_MAX || shared.pace.is_stopped() {
        return Err(SendError::Full);
    }
    sink.incoming = Some(Incoming::begin(disk, message).map_err(|why| sink.failed(why))?);
    Ok(sink)
}

impl<M: Machine> Sink<M> {
    /// Says why, and stops the store if it has to be.
    fn failed(&self, why: ReceiveError) -> SendError {
        log::warn!("s{}: a snapshot from {:?}: {why}", self.shared.store.0, self.from);
        if why.is_fatal() {
            self.shared.tell(Input::Failed(NodeError::Snapshot(Arc::new(why))));
        }
        SendError::Refused
    }
}

impl<M: Machine> SnapshotSink for Sink<M> {
    fn piece(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if self.shared.pace.is_stopped() {
            return Err(SendError::Unreachable);
        }
        let received = &self.shared.counts.snapshots.bytes_received;
        received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let Some(incoming) = &mut self.incoming else { return Err(SendError::Refused) };
        let written = incoming.piece(bytes);
        written.map_err(|why| self.failed(why))
    }

    fn finish(mut self: Box<Self>, bytes: u64, crc: u32) -> Result<(), SendError> {
        if self.shared.pace.is_stopped() {
            return Err(SendError::Unreachable);
        }
        let incoming = self.incoming.take().ok_or(SendError::Refused)?;
        let received = incoming.finish::<M>(bytes, crc).map_err(|why| self.failed(why))?;
        self.is_whole = true;
        self.shared.counts.snapshots.receive_times.record_time(self.began.elapsed());
        self.shared.tell(Input::Snapshot(self.from, received));
        Ok(())
    }
}

/// Waits, for a bounded time, until nothing is written to the store's directory any more.
pub(super) fn end_receiving<M: Machine>(shared: &Shared<M>) {
    const GRACE: Duration = Duration::from_secs(1);
    let deadline = Instant::now() + GRACE;
    while shared.receiving.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the pieces come, of several streams and with pauses between: within any time there is
    /// no more than the limit allows, but for the piece that had begun before.
    #[test]
    fn the_limit_is_kept_over_any_time() {
        const LIMIT: u64 = 1 << 20;
        const PIECE_MAX: u64 = 64 << 10;
        let (pace, mut rng) = (Pace::new(LIMIT), fastrand::Rng::with_seed(7));
        let mut state = pace.state.lock();
        let start = state.next;
        let (mut now, mut left) = (start, Vec::new());
        for _ in 0..2000 {
            // Up to three streams that wait, or nobody for a while.
            now += Duration::from_micros(if rng.u8(..20) == 0 { 900_000 } else { 100 });
            for _ in 0..rng.u8(1..=3) {
                let bytes = rng.u64(1..=PIECE_MAX);
                let at = state.book(now, pace.time_of(bytes));
                assert!(at >= now, "nothing leaves before it is there");
                left.push((at, bytes));
            }
            now = now.max(left.last().map_or(now, |&(at, _)| at));
        }
        for (from, &(began, _)) in left.iter().enumerate() {
            let mut sent = 0;
            for &(at, bytes) in &left[from..(from + 100).min(left.len())] {
                sent += bytes;
                let allowed = LIMIT as f64 * (at - began).as_secs_f64() + PIECE_MAX as f64 + 1.0;
                assert!(sent as f64 <= allowed, "{sent} in {:?}", at - began);
            }
        }
        let (last, total) = (left[left.len() - 1].0, left.iter().map(|piece| piece.1).sum::<u64>());
        assert!(total as f64 >= LIMIT as f64 * (last - start).as_secs_f64() / 8.0, "it gets on");
    }

    #[test]
    fn the_pace_is_shared_and_ends_with_the_node() {
        let pace = Pace::new(1 << 40);
        assert!(pace.wait(1 << 10));
        assert_eq!(Pace::new(1000).time_of(500), Duration::from_millis(500));
        let slow = Pace::new(1);
        assert!(slow.wait(3600), "the first one has nothing to wait for");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| slow.wait(1));
            slow.stop();
            assert!(!waits.join().expect("no panic"), "an hour was not waited for");
        });
    }
}
