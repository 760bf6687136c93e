//! All clients, in one thread: who sends when.
//!
//! In a *closed loop* a client sends its next request when one is answered, so a slow store is
//! asked less often. In an *open loop* requests are due at a steady rate, whatever becomes of
//! earlier ones; one that finds all its clients busy waits, and that wait is part of its latency.
//! Otherwise a stall would hide the very requests that it delays (coordinated omission).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::BenchError;
use super::client::{Client, Job, Outcome};
use super::options::Workload;
use super::progress::Progress;
use super::record::{Measured, Recorder};

/// How long answers may be late.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a wait is, at most, where only answers can end it.
const NAP: Duration = Duration::from_millis(50);

/// The way to the stores.
pub(super) trait Port {
    /// Sends the request of that client.
    fn send(&mut self, who: usize, client: &Client, job: Job) -> Result<(), BenchError>;

    /// Waits for answers, at most until then, and adds them to `answers`.
    fn receive(&mut self, until: Instant, answers: &mut Vec<Answered>) -> Result<(), BenchError>;
}

/// An answer to that client.
pub(super) struct Answered {
    pub(super) who: usize,
    pub(super) job: Job,
    pub(super) outcome: Outcome,
}

/// What is to be driven, and how.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) workload: Workload,
    /// Requests of a client in flight.
    pub(super) batch: usize,
    /// Requests a second, if they are due whether or not earlier ones are answered.
    pub(super) rate: Option<f64>,
    pub(super) warm_up: Duration,
    pub(super) duration: Duration,
}

/// Has each client write each of its keys once.
pub(super) fn fill(
    port: &mut dyn Port,
    clients: &mut [Client],
    batch: usize,
) -> Result<(), BenchError> {
    let mut driver = Driver::new(port, clients, Workload::Put, batch);
    loop {
        for who in 0..driver.clients.len() {
            while !driver.clients[who].is_filled() && driver.is_free(who) {
                driver.send(who, Instant::now())?;
            }
        }
        if driver.in_flight == 0 {
            return Ok(());
        }
        driver.receive(Instant::now() + PATIENCE, &mut |_, outcome, _| match outcome {
            Outcome::Failed(why) => Err(BenchError::Unanswered(why.clone())),
            Outcome::Done | Outcome::Found(_) => Ok(()),
        })?;
    }
}

/// Measures a load.
pub(super) fn measure(
    port: &mut dyn Port,
    clients: &mut [Client],
    load: Load,
    progress: &mut Progress,
) -> Result<Measured, BenchError> {
    let begin = Instant::now();
    let start = begin + load.warm_up;
    let end = start + load.duration;
    let mut recorder = Recorder::new(start, load.duration).map_err(BenchError::Histogram)?;
    let mut driver = Driver::new(port, clients, load.workload, load.batch);
    let mut due = load.rate.map(|rate| Due { begin, rate, sent: 0 });
    loop {
        let now = Instant::now();
        if now < end {
            match &mut due {
                None => driver.send_closed(now)?,
                Some(due) => driver.send_due(due, now)?,
            }
        } else if driver.in_flight == 0 || now > end + PATIENCE {
            break;
        }
        let next = due.as_ref().filter(|_| now < end).map_or(now + NAP, Due::next);
        driver.receive(next.min(now + NAP), &mut |job, outcome, now| {
            match outcome {
                Outcome::Failed(why) => recorder.failed(why),
                Outcome::Done | Outcome::Found(_) => recorder.answered(job.intended, now),
            }
            Ok(())
        })?;
        progress.show(start, recorder.done());
    }
    if driver.in_flight > 0 {
        let late = format!("{} requests were not answered in time", driver.in_flight);
        return Err(BenchError::Unanswered(late));
    }
    Ok(recorder.finish())
}

/// When requests are due.
struct Due {
    begin: Instant,
    rate: f64,
    sent: u64,
}

impl Due {
    fn next(&self) -> Instant {
        self.begin + Duration::from_secs_f64(self.sent as f64 / self.rate)
    }
}

struct Driver<'a> {
    port: &'a mut dyn Port,
    clients: &'a mut [Client],
    workload: Workload,
    batch: usize,
    in_flight: usize,
    /// Clients that may send: those that are answered come back to the end.
    free: VecDeque<usize>,
    answers: Vec<Answered>,
}

impl<'a> Driver<'a> {
    fn new(
        port: &'a mut dyn Port,
        clients: &'a mut [Client],
        workload: Workload,
        batch: usize,
    ) -> Driver<'a> {
        // Once for each request a client may have in flight, in turn.
        let free = (0..batch).flat_map(|_| 0..clients.len()).collect();
        Driver { port, clients, workload, batch, in_flight: 0, free, answers: Vec::new() }
    }

    fn is_free(&self, who: usize) -> bool {
        self.clients[who].in_flight < self.batch
    }

    fn send(&mut self, who: usize, intended: Instant) -> Result<(), BenchError> {
        let job = self.clients[who].next(self.workload, intended);
        self.in_flight += 1;
        self.port.send(who, &self.clients[who], job)
    }

    fn send_closed(&mut self, now: Instant) -> Result<(), BenchError> {
        while let Some(who) = self.free.pop_front() {
            self.send(who, now)?;
        }
        Ok(())
    }

    fn send_due(&mut self, due: &mut Due, now: Instant) -> Result<(), BenchError> {
        while due.next() <= now {
            let Some(who) = self.free.pop_front() else { return Ok(()) };
            self.send(who, due.next())?;
            due.sent += 1;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        until: Instant,
        on: &mut dyn FnMut(Job, &Outcome, Instant) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        self.port.receive(until, &mut self.answers)?;
        let now = Instant::now();
        for Answered { who, job, outcome } in self.answers.drain(..) {
            self.in_flight -= 1;
            self.free.push_back(who);
            self.clients[who].answered(job, &outcome)?;
            on(job, &outcome, now)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers everything, a fixed time after it was sent.
    struct Delayed {
        delay: Duration,
        waiting: VecDeque<(Instant, usize, Job)>,
        most: usize,
    }

    impl Delayed {
        fn new(delay: Duration) -> Delayed {
            Delayed { delay, waiting: Default::default(), most: 0 }
        }
    }

    impl Port for Delayed {
        fn send(&mut self, who: usize, _: &Client, job: Job) -> Result<(), BenchError> {
            self.waiting.push_back((Instant::now() + self.delay, who, job));
            self.most = self.most.max(self.waiting.len());
            Ok(())
        }

        fn receive(&mut self, _: Instant, answers: &mut Vec<Answered>) -> Result<(), BenchError> {
            while let Some((_, who, job)) = self.waiting.pop_front_if(|w| w.0 <= Instant::now()) {
                answers.push(Answered { who, job, outcome: Outcome::Done });
            }
            Ok(())
        }
    }

    fn load(rate: Option<f64>) -> Load {
        let (warm_up, duration) = (Duration::ZERO, Duration::from_millis(100));
        Load { workload: Workload::Put, batch: 3, rate, warm_up, duration }
    }

    fn clients() -> Vec<Client> {
        (0..2).map(|n| Client::new(1, n, 3, 32)).collect()
    }

    #[test]
    fn a_closed_loop_keeps_just_so_many_in_flight() {
        let mut port = Delayed::new(Duration::from_millis(1));
        let mut clients = clients();
        let measured = measure(&mut port, &mut clients, load(None), &mut Progress::hidden());
        assert_eq!(port.most, 6);
        let acknowledged: u64 = clients.iter().map(|client| client.acknowledged).sum();
        assert!(acknowledged >= measured.unwrap().done && acknowledged > 6);
    }

    /// Six requests in flight, each answered after 20 ms, is 300 a second at most: of the 1000 that
    /// are due, most wait to be sent, and that is seen.
    #[test]
    fn an_open_loop_counts_the_wait_of_what_could_not_be_sent() {
        let mut port = Delayed::new(Duration::from_millis(20));
        let mut clients = clients();
        let load = load(Some(1000.0));
        let measured = measure(&mut port, &mut clients, load, &mut Progress::hidden()).unwrap();
        assert!(measured.at(100.0) > 40_000_000, "{measured:?}");
    }

    #[test]
    fn filling_writes_each_key() {
        let mut clients = clients();
        fill(&mut Delayed::new(Duration::ZERO), &mut clients, 3).unwrap();
        assert!(clients.iter().all(|client| client.written().count() == 64));
    }
}
