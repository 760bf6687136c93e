//! Writes handed straight to the leading store: no connection, no protocol.

use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use raftstore::node::{NodeHandle, Proposal};
use raftstore::{Epoch, RegionId};

use super::BenchError;
use super::client::{Client, Job, Outcome};
use super::driver::{Answered, Port};
use crate::answer::Answer;
use crate::callback::Callback;
use crate::command::{Op, Request};
use crate::machine::KvMachine;

/// The leading store.
pub(super) struct Direct<'a> {
    node: &'a NodeHandle<KvMachine>,
    epoch: Epoch,
    answers: (Sender<Answered>, Receiver<Answered>),
}

impl Direct<'_> {
    pub(super) fn new(node: &NodeHandle<KvMachine>) -> Direct<'_> {
        let status = node.status(RegionId::FIRST);
        let epoch = status.map(|status| status.region.epoch).unwrap_or_default();
        Direct { node, epoch, answers: unbounded() }
    }
}

impl Port for Direct<'_> {
    fn send(&mut self, who: usize, client: &Client, job: Job) -> Result<(), BenchError> {
        let put = Op::put(client.key(job.slot), client.value(job.number));
        let body = Request::from(put).encode().map_err(|e| BenchError::Request(e.to_string()))?;
        let answers = self.answers.0.clone();
        let callback = Callback::new(move |answer: Answer| {
            let outcome = match answer {
                Ok(_) => Outcome::Done,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            // Whoever gave up waiting does not want to know.
            let _ = answers.send(Answered { who, job, outcome });
        });
        let (region, epoch) = (RegionId::FIRST, self.epoch);
        self.node.propose(Proposal { region, epoch, body, callback });
        Ok(())
    }

    fn receive(&mut self, until: Instant, answers: &mut Vec<Answered>) -> Result<(), BenchError> {
        match self.answers.1.recv_deadline(until) {
            Ok(first) => answers.push(first),
            // There is always a sender: our own.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
        }
        answers.extend(self.answers.1.try_iter());
        Ok(())
    }
}
