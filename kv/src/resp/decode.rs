//! Commands out of a stream of bytes, however it is cut.
//!
//! ```text
//! *2\r\n  $3\r\n GET\r\n  $1\r\n k\r\n        an array of bulk strings
//! GET k\r\n                                   or a line
//! ```
//!
//! The decoder remembers how far it has come within a command, so each byte is looked at once. It
//! keeps nothing but positions: the arguments of a complete command are slices of the buffer it
//! arrived in.
//!
//! A command beyond a limit of ours is read past, its arguments dropped as they arrive, and
//! reported at its end: the stream stays in step and the connection goes on. What can't be a
//! command is a [`ProtocolError`]; no later byte can be trusted then, and the connection closes.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits;
use crate::resp::inline;

/// The longest line that announces a length: a sign, 20 digits and the line end fit.
const HEADER_BYTES_MAX: usize = 32;

/// Room for the positions of so many arguments is kept from one command to the next.
const ARGS_KEPT_MAX: usize = 256;

/// What the bytes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Nothing yet; more has to arrive.
    Incomplete,
    /// A command, whose arguments have been put where the caller said. At least one.
    Command,
    /// A command that was too large and has been dropped.
    Oversized(Oversized),
}

/// The limit a command broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oversized {
    /// An argument of so many bytes.
    Argument(usize),
    /// So many arguments.
    Arguments(usize),
    /// The arguments together.
    Request,
}

impl fmt::Display for Oversized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Oversized::Argument(bytes) => write!(
                f,
                "value has {bytes} bytes, the limit is {} (a key: {})",
                limits::VALUE_BYTES_MAX,
                limits::KEY_BYTES_MAX
            ),
            Oversized::Arguments(count) => {
                write!(f, "command has {count} arguments, the limit is {}", limits::ARGS_MAX)
            }
            Oversized::Request => {
                write!(f, "command is larger than {} bytes", limits::REQUEST_BYTES_MAX)
            }
        }
    }
}

/// Bytes that no client of this protocol sends. In the words of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// The number of arguments is none, or out of range.
    #[error("Protocol error: invalid multibulk length")]
    ArrayLength,
    /// The length of an argument is none, or out of range.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// An argument is not a bulk string.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NotBulk(u8),
    /// An argument is longer than announced.
    #[error("Protocol error: expected a line end after the string")]
    BulkEnd,
    /// A line without an end.
    #[error("Protocol error: too big inline request")]
    InlineLength,
    /// A line whose quotes don't match.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// A web browser or the like, perhaps sent here by somebody else's page.
    #[error("Protocol error: this is not a web server")]
    Http,
}

/// Where in a command the decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between two commands.
    Start,
    /// Before the length of an argument; so many are still to come.
    Header { left: usize },
    /// Within an argument of `len` bytes; so many are still to come, this one included.
    Body { left: usize, len: usize },
}

/// Finds the commands in one connection's input.
#[derive(Debug)]
pub(crate) struct Decoder {
    at: At,
    /// Bytes of the buffer, from its front, that are understood. A line: that have no end in them.
    done: usize,
    /// The arguments so far, as positions in the buffer.
    args: Vec<(usize, usize)>,
    /// Bytes of all arguments so far.
    bytes: usize,
    /// The command is too large and its arguments aren't kept. Then `done` is always 0.
    oversized: Option<Oversized>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { at: At::Start, done: 0, args: Vec::new(), bytes: 0, oversized: None }
    }
}

impl Decoder {
    /// Takes the next command out of `input`, its arguments into `args` (which is cleared first).
    ///
    /// # Errors
    /// When the input is not the protocol. The decoder is of no use afterwards.
    pub(crate) fn next(
        &mut self,
        input: &mut BytesMut,
        args: &mut Vec<Bytes>,
    ) -> Result<Decoded, ProtocolError> {
        args.clear();
        loop {
            let advanced = match self.at {
                At::Start if input.first().is_some_and(|&b| b != b'*') => {
                    match self.line(input, args)? {
                        Line::None => return Ok(Decoded::Incomplete),
                        Line::Empty => true,
                        Line::Command => return Ok(Decoded::Command),
                    }
                }
                At::Start => self.array(input)?,
                At::Header { left: 0 } => return Ok(self.finish(input, args)),
                At::Header { left } => self.header(input, left)?,
                At::Body { left, len } => self.body(input, left, len)?,
            };
            if !advanced {
                return Ok(Decoded::Incomplete);
            }
        }
    }

    /// `*<arguments>\r\n`. Arrays of none (also the null array) are no command and are skipped.
    fn array(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let Some((count, end)) = length(input, 0, ProtocolError::ArrayLength)? else {
            return Ok(false);
        };
        if count <= 0 {
            input.advance(end);
            return Ok(true);
        }
        let count = usize::try_from(count).map_err(|_| ProtocolError::ArrayLength)?;
        if count > limits::DECLARED_ARGS_MAX {
            return Err(ProtocolError::ArrayLength);
        }
        self.done = end;
        self.at = At::Header { left: count };
        if count > limits::ARGS_MAX {
            self.drop_command(Oversized::Arguments(count), input);
        }
        Ok(true)
    }

    /// `$<bytes>\r\n`.
    fn header(&mut self, input: &mut BytesMut, left: usize) -> Result<bool, ProtocolError> {
        let Some(&kind) = input.get(self.done) else { return Ok(false) };
        if kind != b'$' {
            return Err(ProtocolError::NotBulk(kind));
        }
        let Some((len, end)) = length(input, self.done, ProtocolError::BulkLength)? else {
            return Ok(false);
        };
        let len = usize::try_from(len).map_err(|_| ProtocolError::BulkLength)?;
        if len > limits::DECLARED_BYTES_MAX {
            return Err(ProtocolError::BulkLength);
        }
        self.done = end;
        self.bytes += len;
        self.at = At::Body { left, len };
        if self.oversized.is_some() {
            input.advance(self.done);
            self.done = 0;
        } else if len > limits::VALUE_BYTES_MAX {
            self.drop_command(Oversized::Argument(len), input);
        } else if self.bytes > limits::REQUEST_BYTES_MAX {
            self.drop_command(Oversized::Request, input);
        }
        Ok(true)
    }

    /// The argument's bytes and a line end.
    fn body(
        &mut self,
        input: &mut BytesMut,
        left: usize,
        mut len: usize,
    ) -> Result<bool, ProtocolError> {
        if self.oversized.is_some() {
            let past = len.min(input.len());
            input.advance(past);
            len -= past;
            self.at = At::Body { left, len };
        }
        let start = self.done;
        let end = start + len;
        let Some(line_end) = input.get(end..end + 2) else { return Ok(false) };
        if line_end != b"\r\n" {
            return Err(ProtocolError::BulkEnd);
        }
        self.at = At::Header { left: left - 1 };
        if self.oversized.is_some() {
            input.advance(end + 2);
        } else {
            self.args.push((start, end));
            self.done = end + 2;
        }
        Ok(true)
    }

    /// Stops keeping the command: what there is of it leaves the buffer.
    fn drop_command(&mut self, why: Oversized, input: &mut BytesMut) {
        self.oversized = Some(why);
        self.args.clear();
        input.advance(self.done);
        self.done = 0;
    }

    fn finish(&mut self, input: &mut BytesMut, args: &mut Vec<Bytes>) -> Decoded {
        let decoded = match self.oversized.take() {
            Some(why) => Decoded::Oversized(why),
            None => {
                let command = input.split_to(self.done).freeze();
                args.extend(self.args.drain(..).map(|(start, end)| command.slice(start..end)));
                Decoded::Command
            }
        };
        self.at = At::Start;
        self.done = 0;
        self.bytes = 0;
        // One command with many arguments does not take its room for ever.
        self.args.shrink_to(ARGS_KEPT_MAX);
        decoded
    }

    /// A command as a line of words.
    fn line(&mut self, input: &mut BytesMut, args: &mut Vec<Bytes>) -> Result<Line, ProtocolError> {
        let unseen = input.get(self.done..).unwrap_or_default();
        let Some(end) = unseen.iter().position(|&b| b == b'\n').map(|at| self.done + at) else {
            self.done = input.len();
            if self.done > limits::INLINE_BYTES_MAX {
                return Err(ProtocolError::InlineLength);
            }
            return Ok(Line::None);
        };
        self.done = 0;
        if end > limits::INLINE_BYTES_MAX {
            return Err(ProtocolError::InlineLength);
        }
        let line = input.split_to(end + 1);
        let line = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(&line);
        inline::split(line, args)?;
        match args.first() {
            None => Ok(Line::Empty),
            // Somebody's browser was made to send this; what follows in the body is not a user's.
            Some(word) if is_http(word) => Err(ProtocolError::Http),
            Some(_) => Ok(Line::Command),
        }
    }
}

enum Line {
    None,
    Empty,
    Command,
}

fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

/// The number in the line at `start`, after its first byte, and where the line ends. `None` when
/// the line is not complete.
fn length(
    input: &[u8],
    start: usize,
    wrong: ProtocolError,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    let line = input.get(start..).unwrap_or_default();
    let line = &line[..line.len().min(HEADER_BYTES_MAX)];
    let Some(end) = line.iter().position(|&b| b == b'\n') else {
        return if line.len() == HEADER_BYTES_MAX { Err(wrong) } else { Ok(None) };
    };
    let digits = line.get(1..end).and_then(|l| l.strip_suffix(b"\r")).ok_or(wrong)?;
    let number = number(digits).ok_or(wrong)?;
    Ok(Some((number, start + end + 1)))
}

/// A decimal number: an optional minus, then digits only.
fn number(digits: &[u8]) -> Option<i64> {
    let (sign, digits) = match digits.strip_prefix(b"-") {
        Some(rest) => (-1, rest),
        None => (1, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let value = digits
        .iter()
        .try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))?;
    Some(sign * value)
}

#[cfg(test)]
mod tests;
