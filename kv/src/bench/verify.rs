//! After a measurement: is every write that was acknowledged still there?

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;

use super::BenchError;
use super::client::{Client, Expected, Wrong};
use super::reply::{self, Reply};

/// Keys that are asked for together.
const KEYS: usize = 256;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Writes that were acknowledged.
    pub(super) acknowledged: u64,
    /// Keys that were looked at.
    pub(super) keys: u64,
    /// Those that have something else than they must.
    pub(super) wrong: Vec<Wrong>,
}

/// Reads all keys of all clients back.
pub(super) fn verify(address: SocketAddr, clients: &[Client]) -> Result<Verdict, BenchError> {
    let mut store = Store::connect(address)?;
    let mut verdict = Verdict::default();
    for client in clients {
        verdict.acknowledged += client.acknowledged;
        let written: Vec<Expected> = client.written().collect();
        for expected in written.chunks(KEYS) {
            let values = store.get(expected)?;
            check(expected, &values, &mut verdict);
        }
    }
    Ok(verdict)
}

fn check(expected: &[Expected], values: &[Option<Bytes>], verdict: &mut Verdict) {
    for (expected, value) in expected.iter().zip(values) {
        verdict.keys += 1;
        verdict.wrong.extend(expected.check(value.as_deref()).err());
    }
}

/// Removes what was written.
pub(super) fn remove(address: SocketAddr, clients: &[Client]) -> Result<(), BenchError> {
    let mut store = Store::connect(address)?;
    for client in clients {
        let written: Vec<Expected> = client.written().collect();
        for expected in written.chunks(KEYS) {
            store.ask(b"DEL", expected)?;
        }
    }
    Ok(())
}

/// A connection for one question at a time.
pub(super) struct Store {
    stream: TcpStream,
    address: SocketAddr,
    input: Vec<u8>,
}

impl Store {
    pub(super) fn connect(address: SocketAddr) -> Result<Store, BenchError> {
        let connected = TcpStream::connect(address).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Store { stream, address, input: Vec::new() }),
            Err(source) => Err(BenchError::Connection { address, source }),
        }
    }

    fn get(&mut self, keys: &[Expected]) -> Result<Vec<Option<Bytes>>, BenchError> {
        match self.ask(b"MGET", keys)? {
            Reply::List(count) if count == keys.len() => {}
            _ => return Err(BenchError::Protocol("MGET was not answered with a list".into())),
        }
        keys.iter().map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Result<Option<Bytes>, BenchError> {
        let (reply, bytes) = self.reply()?;
        match reply {
            Reply::Value(value) => Ok(value.map(|range| Bytes::copy_from_slice(&bytes[range]))),
            _ => Err(BenchError::Protocol("a value was answered with something else".into())),
        }
    }

    /// The value of a parameter, if the store has it.
    pub(super) fn parameter(&mut self, name: &str) -> Option<String> {
        let mut out = Vec::new();
        reply::command(&[b"CONFIG", b"GET", name.as_bytes()], &mut out);
        self.stream.write_all(&out).ok()?;
        let Ok((Reply::List(2), _)) = self.reply() else { return None };
        let (_, value) = (self.value().ok()?, self.value().ok()??);
        String::from_utf8(value.to_vec()).ok()
    }

    fn ask(&mut self, command: &[u8], keys: &[Expected]) -> Result<Reply, BenchError> {
        let args: Vec<&[u8]> =
            std::iter::once(command).chain(keys.iter().map(|e| &e.key[..])).collect();
        let mut out = Vec::new();
        reply::command(&args, &mut out);
        self.stream.write_all(&out).map_err(|e| self.failed(e))?;
        match self.reply()? {
            (Reply::Error(text), bytes) => {
                let why = String::from_utf8_lossy(&bytes[text]).into_owned();
                Err(BenchError::Unanswered(why))
            }
            (reply, _) => Ok(reply),
        }
    }

    /// The next answer, and the bytes that its ranges are of.
    fn reply(&mut self) -> Result<(Reply, Vec<u8>), BenchError> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some((reply, len)) = reply::read(&self.input).map_err(BenchError::Protocol)? {
                return Ok((reply, self.input.drain(..len).collect()));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.failed(ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, source: std::io::Error) -> BenchError {
        BenchError::Connection { address: self.address, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_write_is_found() {
        let key =
            |n: u64| Expected { key: format!("k{n}").into(), acknowledged: n, open: Vec::new() };
        let value = |n: u64| Some(Bytes::from(format!("{n:016x}and more")));
        let expected: Vec<Expected> = (1..=3).map(key).collect();
        let mut verdict = Verdict::default();
        check(&expected, &[value(1), value(2), value(3)], &mut verdict);
        assert_eq!((verdict.keys, verdict.wrong.len()), (3, 0));
        check(&expected, &[value(1), value(1), None], &mut verdict);
        let wrong: Vec<String> = verdict.wrong.iter().map(ToString::to_string).collect();
        assert_eq!(
            wrong,
            [
                "k2 has value 1, after value 2 was acknowledged",
                "k3 has no value of ours, after value 3 was acknowledged"
            ]
        );
    }
}
