//! A [`Link`] to real stores: the command `CALL` of their Redis protocol, whose argument is an encoded
//! request and whose reply is an encoded answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raftstore::{Refusal, StoreId, Unknown};

use super::Link;
use crate::answer::{self, Answer, Error};
use crate::command::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, Request};

/// No reply is longer.
const REPLY_BYTES_MAX: usize = RESPONSE_BYTES_MAX + REQUEST_BYTES_MAX;

/// Stores at some addresses, and a connection to the one that was asked last. They are numbered from
/// 1 in the order of the addresses, as `raftkv cluster` numbers them.
#[derive(Debug)]
pub struct RespLink {
    addresses: Vec<SocketAddr>,
    connection: Option<(StoreId, BufReader<TcpStream>)>,
    began: Instant,
}

impl RespLink {
    /// A link to stores at those addresses, at least one. Nothing is connected yet.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> RespLink {
        let addresses = addresses.into_iter().collect();
        RespLink { addresses, connection: None, began: Instant::now() }
    }

    /// A connection to a store, as it is or new.
    fn connect(&mut self, store: StoreId, within: Duration) -> io::Result<BufReader<TcpStream>> {
        if let Some((_, connection)) = self.connection.take_if(|(of, _)| *of == store) {
            return Ok(connection);
        }
        let at = usize::try_from(store.0.saturating_sub(1)).ok();
        let address = at.and_then(|at| self.addresses.get(at));
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stream = TcpStream::connect_timeout(address, within)?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

impl Link for RespLink {
    fn stores(&self) -> Vec<StoreId> {
        (1..=self.addresses.len().max(1) as u64).map(StoreId).collect()
    }

    fn ask(&mut self, store: StoreId, request: &Request, within: Duration) -> Answer {
        let body = match request.encode() {
            Ok(body) => body,
            Err(_) => {
                let max = REQUEST_BYTES_MAX;
                return Err(Refusal::TooLarge { bytes: max + 1, max }.into());
            }
        };
        // Nothing has left, so nothing can have happened.
        let Ok(mut connection) = self.connect(store, within) else {
            return Err(Refusal::Timeout.into());
        };
        match exchange(&mut connection, &body, within) {
            Ok(answer) => {
                self.connection = Some((store, connection));
                answer
            }
            // The connection is not used again: the reply may still come.
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(Unknown::Deadline.into())
            }
            Err(_) => Err(Unknown::LeaderLost.into()),
        }
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Sends a request and reads the reply.
fn exchange(
    connection: &mut BufReader<TcpStream>,
    body: &Bytes,
    within: Duration,
) -> io::Result<Answer> {
    let within = Some(within.max(Duration::from_millis(1)));
    connection.get_ref().set_read_timeout(within)?;
    connection.get_ref().set_write_timeout(within)?;
    let mut command = format!("*2\r\n$4\r\nCALL\r\n${}\r\n", body.len()).into_bytes();
    command.extend_from_slice(body);
    command.extend_from_slice(b"\r\n");
    connection.get_mut().write_all(&command)?;
    let mut line = Vec::new();
    connection.by_ref().take(1024).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    match line.split_first() {
        Some((b'$', digits)) => {
            let len = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
            let len =
                len.filter(|len| *len <= REPLY_BYTES_MAX).ok_or(io::ErrorKind::InvalidData)?;
            let mut reply = vec![0; len + 2];
            connection.read_exact(&mut reply)?;
            reply.truncate(len);
            Ok(answer::decode(&reply.into()).map_err(|_| io::ErrorKind::InvalidData)?)
        }
        Some((b'-', text)) => Ok(Err(refused(text))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// An error in words: by the prefix that does not change.
fn refused(text: &[u8]) -> Error {
    if text.starts_with(b"UNKNOWN") {
        return Unknown::LeaderLost.into();
    }
    if text.starts_with(b"BUSY") || text.starts_with(b"TRYAGAIN") {
        return Refusal::Busy.into();
    }
    Refusal::TooLarge { bytes: REQUEST_BYTES_MAX + 1, max: REQUEST_BYTES_MAX }.into()
}
