//! A client that sees what a socket says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::cluster::PATIENCE;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A status or a number, as it is written.
    Line(String),
    Error(String),
    Value(Option<Vec<u8>>),
    List(Vec<Reply>),
}

impl Reply {
    pub(crate) fn is_error(&self, begin: &str) -> bool {
        matches!(self, Reply::Error(text) if text.starts_with(begin))
    }

    pub(crate) fn is_value(&self, value: &str) -> bool {
        matches!(self, Reply::Value(Some(bytes)) if bytes == value.as_bytes())
    }
}

pub(crate) struct Client {
    socket: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        Client { socket: BufReader::new(socket) }
    }

    /// Sends a command as a line.
    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\r\n").as_bytes());
    }

    /// Sends anything. The server may close the connection before it has all of it.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.get_mut().write_all(bytes);
    }

    /// Sends a command as programs do, and reads its answer.
    pub(crate) fn command(&mut self, args: &[&[u8]]) -> Reply {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(arg);
            bytes.extend_from_slice(b"\r\n");
        }
        self.send_bytes(&bytes);
        self.reply()
    }

    pub(crate) fn ask(&mut self, line: &str) -> Reply {
        self.send(line);
        self.reply()
    }

    /// Asks for what is certain to be answered so.
    pub(crate) fn must(&mut self, line: &str, status: &str) {
        assert_eq!(self.ask(line), Reply::Line(status.to_owned()), "{line}");
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        let count = || rest.parse::<i64>().expect("a number");
        match kind {
            "+" | ":" => Reply::Line(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            "$" => Reply::Value(usize::try_from(count()).ok().map(|len| self.value(len))),
            "*" => Reply::List((0..count()).map(|_| self.reply()).collect()),
            _ => panic!("{line}"),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.socket.read_line(&mut line).expect("text");
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("closed after {line:?}")).to_owned()
    }

    fn value(&mut self, len: usize) -> Vec<u8> {
        let mut value = vec![0; len + 2];
        self.socket.read_exact(&mut value).expect("the rest");
        value.truncate(len);
        value
    }

    /// Whether the server closes the connection, and says nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // With input unread, closing is a reset.
        let _ = self.socket.read_to_end(&mut rest);
        rest.is_empty()
    }
}
