//! A server of its own for a test, and clients of it that see every byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::memory::Memory;
use crate::server::{Options, Server, Stopper};

/// Long enough that only a hang runs into it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Running {
    pub(super) memory: Arc<Memory>,
    pub(super) stopper: Stopper,
    address: SocketAddr,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    pub(super) fn start() -> Running {
        Running::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Running {
        let memory = Arc::new(Memory::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new(listener, Arc::clone(&memory) as _, options).unwrap();
        let (address, stopper) = (server.address(), server.stopper());
        let thread = Some(std::thread::spawn(move || server.run()));
        Running { memory, stopper, address, thread }
    }

    pub(super) fn client(&self) -> Client {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Client { socket }
    }

    /// Waits until the event loop has returned.
    pub(super) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

pub(super) struct Client {
    pub(super) socket: TcpStream,
}

impl Client {
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a command as clients do.
    pub(super) fn command(&mut self, args: &[&[u8]]) {
        self.send(command(args));
    }

    /// Reads exactly what is expected.
    pub(super) fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut got = vec![0; expected.len()];
        let mut len = 0;
        while len < got.len() {
            let n = self.socket.read(&mut got[len..]).unwrap_or_else(|e| {
                panic!("{e} after {:?}", got[..len.min(500)].escape_ascii().to_string())
            });
            if n == 0 {
                break;
            }
            len += n;
        }
        let show = |bytes: &[u8]| bytes[..bytes.len().min(500)].escape_ascii().to_string();
        assert!(got[..len] == *expected, "got {}, expected {}", show(&got[..len]), show(expected));
    }

    /// Sends a line and reads exactly the answer, of which line ends are left out.
    pub(super) fn ask(&mut self, line: &str, answer: &str) {
        self.send(format!("{line}\r\n"));
        let expected: String = answer.split(' ').map(|part| format!("{part}\r\n")).collect();
        self.expect(expected.replace('~', " "));
    }

    /// Reads a simple line.
    pub(super) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            assert_eq!(self.socket.read(&mut byte).unwrap(), 1, "closed after {line:?}");
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Reads a string, of either version.
    pub(super) fn string(&mut self) -> String {
        let head = self.line();
        assert!(head.starts_with(['$', '=']), "{head}");
        let mut text = vec![0; head[1..].parse::<usize>().unwrap() + 2];
        self.socket.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap().trim_end().to_owned()
    }

    /// That the server has closed the connection, after nothing more.
    pub(super) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest.escape_ascii().to_string(), ""),
            // Input that the server did not read any more.
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    pub(super) fn end(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }
}

pub(super) fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend(format!("${}\r\n", arg.len()).bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
