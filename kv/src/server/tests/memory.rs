//! A backend in memory: a map, and a tap that holds answers back.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::answer::Error;
use crate::callback::Callback;
use crate::command::{
    Condition, Op, OpError, OpResult, RESPONSE_BYTES_MAX, Request, Response, Session,
};
use crate::server::{Backend, Status};

#[derive(Default)]
pub(super) struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    map: BTreeMap<Bytes, Bytes>,
    /// The last command of each session, and what it gave.
    sessions: BTreeMap<u64, (u64, Response)>,
    /// Each request: how many operations, and whether it only reads.
    requests: Vec<(usize, bool)>,
    /// What to answer instead of carrying it out.
    failure: Option<Error>,
    /// Tickets are kept instead of answered.
    holds: bool,
    held: Vec<(Request, Callback)>,
}

impl Memory {
    pub(super) fn requests(&self) -> Vec<(usize, bool)> {
        self.state.lock().requests.clone()
    }

    pub(super) fn fail(&self, failure: Option<Error>) {
        self.state.lock().failure = failure;
    }

    pub(super) fn hold(&self) {
        self.state.lock().holds = true;
    }

    pub(super) fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Answers the one that was held back first.
    pub(super) fn release_oldest(&self) {
        let mut state = self.state.lock();
        let (request, callback) = state.held.remove(0);
        let outcome = state.carry_out(request);
        callback.answer(outcome);
    }

    /// Answers those held back, the latest first.
    pub(super) fn release(&self) {
        let mut state = self.state.lock();
        state.holds = false;
        while let Some((request, callback)) = state.held.pop() {
            let outcome = state.carry_out(request);
            callback.answer(outcome);
        }
    }
}

impl Backend for Memory {
    fn submit(&self, batch: &mut Vec<(Request, Callback)>) {
        let mut state = self.state.lock();
        for (request, callback) in batch.drain(..) {
            state.requests.push((request.ops.len(), request.is_read_only()));
            if state.holds {
                state.held.push((request, callback));
            } else {
                let outcome = state.carry_out(request);
                callback.answer(outcome);
            }
        }
    }

    fn status(&self) -> Status {
        let mut status = Status::starting(7);
        status.term = 3;
        status.leader = Some(2);
        status.keys = Some(self.state.lock().map.len() as u64);
        status
    }
}

impl State {
    fn carry_out(&mut self, request: Request) -> Result<Response, Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let Some(session) = request.session else { return Ok(self.carry_out_ops(request.ops)) };
        let (id, sequence) = match session {
            Session::Open => {
                let id = self.sessions.len() as u64 + 1;
                self.sessions.insert(id, Default::default());
                return Ok(Response { results: vec![OpResult::Integer(id as i64)] });
            }
            Session::Command { id, sequence } => (id, sequence),
        };
        match self.sessions.get(&id) {
            None => Err(Error::SessionExpired),
            Some((last, _)) if sequence < *last => Err(Error::Superseded),
            Some((last, response)) if sequence == *last => Ok(response.clone()),
            Some(_) => {
                let response = self.carry_out_ops(request.ops);
                self.sessions.insert(id, (sequence, response.clone()));
                Ok(response)
            }
        }
    }

    fn carry_out_ops(&mut self, ops: Vec<Op>) -> Response {
        let mut room = RESPONSE_BYTES_MAX;
        let results = ops.into_iter().map(|op| self.op(op, &mut room)).collect();
        Response { results }
    }

    fn op(&mut self, op: Op, room: &mut usize) -> OpResult {
        match op {
            Op::Get { key, .. } => {
                let value = self.map.get(&key).cloned();
                match room.checked_sub(value.as_ref().map_or(0, Bytes::len)) {
                    Some(left) => *room = left,
                    None => return OpResult::Failed(OpError::ResponseTooLarge),
                }
                OpResult::Value(value)
            }
            Op::Exists { key, .. } => OpResult::Exists(self.map.contains_key(&key)),
            Op::Length { key, .. } => {
                OpResult::Length(self.map.get(&key).map_or(0, |v| v.len() as u64))
            }
            Op::Put { key, value, condition, return_old, .. } => {
                let old = self.map.get(&key).cloned();
                let written = match condition {
                    Condition::None => true,
                    Condition::IfAbsent => old.is_none(),
                    Condition::IfPresent => old.is_some(),
                };
                if written {
                    self.map.insert(key, value);
                }
                OpResult::Put { written, old: old.filter(|_| return_old) }
            }
            Op::Delete { key, return_old, .. } => {
                let old = self.map.remove(&key);
                OpResult::Deleted { existed: old.is_some(), old: old.filter(|_| return_old) }
            }
            Op::Add { key, delta, .. } => self.add(key, delta),
            Op::Append { key, value, .. } => {
                let mut all = self.map.get(&key).map(|v| v.to_vec()).unwrap_or_default();
                all.extend_from_slice(&value);
                let len = all.len() as u64;
                self.map.insert(key, all.into());
                OpResult::Length(len)
            }
            Op::CompareAndSet { .. } => panic!("no command compares"),
            Op::Scan { start, end, limit, .. } => {
                let within = |k: &&Bytes| end.is_empty() || **k < end;
                let mut keys = self.map.range(start..).map(|(k, _)| k).take_while(within);
                let limit = limit as usize;
                let pairs = keys.by_ref().take(limit).map(|k| (k.clone(), Bytes::new())).collect();
                OpResult::Pairs { pairs, more: keys.next().is_some() }
            }
            Op::Count { .. } => OpResult::Count(self.map.len() as u64),
        }
    }

    fn add(&mut self, key: Bytes, delta: i64) -> OpResult {
        let old = match self.map.get(&key) {
            Some(value) => std::str::from_utf8(value).ok().and_then(|t| t.parse::<i64>().ok()),
            None => Some(0),
        };
        let Some(old) = old else { return OpResult::Failed(OpError::NotAnInteger) };
        let Some(sum) = old.checked_add(delta) else {
            return OpResult::Failed(OpError::Overflow);
        };
        self.map.insert(key, sum.to_string().into());
        OpResult::Integer(sum)
    }
}
