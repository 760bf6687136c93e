//! A client of the Redis protocol: one connection, and patience with it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;

/// How long connecting to this machine may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// An answer, as version 2 of the protocol has it.
///
/// ```
/// use harness::processes::resp::Reply;
///
/// assert!(Reply::Simple("OK".into()).is_ok());
/// assert_eq!(Reply::Bulk(Some("kim".into())).text(), "kim");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and the like.
    Simple(String),
    /// `-ERR ...`, without the dash.
    Error(String),
    /// `:1`.
    Integer(i64),
    /// A string, or none.
    Bulk(Option<Bytes>),
    /// Several.
    Array(Vec<Reply>),
}

impl Reply {
    /// Whether it is `OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Reply::Simple(text) if text == "OK")
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) | Reply::Error(text) => text.clone(),
            Reply::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        }
    }
}

/// One connection to a store.
///
/// ```no_run
/// use std::time::Duration;
/// use harness::processes::resp::Connection;
///
/// let mut connection = Connection::open(([127, 0, 0, 1], 7001).into(), Duration::from_secs(5))?;
/// assert!(connection.call(&["SET", "name", "kim"])?.is_ok());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    /// Connects. No answer is waited for longer than `patience`.
    ///
    /// # Errors
    /// If nobody listens there, or it takes longer than a second.
    pub fn open(address: SocketAddr, patience: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Connection { reader: BufReader::new(stream) })
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// If the connection is lost or the answer takes too long: the command may have been carried out,
    /// or may yet. The connection is of no use after that.
    pub fn call(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        let mut text = Vec::new();
        encode(words, &mut text);
        self.send(&text)?;
        self.answer()
    }

    /// Sends several commands at once and waits for all answers.
    ///
    /// # Errors
    /// As [`Connection::call`]; each of them may have been carried out.
    pub fn pipeline(&mut self, commands: &[Vec<Bytes>]) -> io::Result<Vec<Reply>> {
        let mut text = Vec::new();
        commands.iter().for_each(|words| encode(words, &mut text));
        self.send(&text)?;
        commands.iter().map(|_| self.answer()).collect()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is lost, or takes no more.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Waits for an answer.
    ///
    /// # Errors
    /// As [`Connection::call`], and if it is none.
    pub fn answer(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let garbage = || io::Error::new(io::ErrorKind::InvalidData, format!("got {line:?}"));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(garbage)?;
        let number = || rest.parse::<i64>().map_err(|_| garbage());
        Ok(match kind {
            "+" => Reply::Simple(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Ok(len) => {
                    let mut bytes = vec![0; len + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(len);
                    Reply::Bulk(Some(bytes.into()))
                }
                Err(_) => Reply::Bulk(None),
            },
            "*" => {
                let replies = (0..number()?).map(|_| self.answer());
                Reply::Array(replies.collect::<io::Result<_>>()?)
            }
            _ => return Err(garbage()),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_string())
    }
}

fn encode(words: &[impl AsRef<[u8]>], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
