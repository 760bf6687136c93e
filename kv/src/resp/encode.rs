//! Answers as bytes, and the queue of bytes that wait for a connection to take them.
//!
//! | answer | version 2 | version 3 |
//! |---|---|---|
//! | status, error, integer | `+` `-` `:` line | the same |
//! | string | `$<len>` line, bytes, line end | the same |
//! | text for people | a string | `=<len>` line, `txt:`, bytes, line end |
//! | nothing | `$-1` line | `_` line |
//! | list | `*<n>` line, n answers | the same |
//! | map | `*<2n>` line | `%<n>` line |
//! | set | `*<n>` line | `~<n>` line |

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

/// Which RESP a connection speaks; 2 until it says `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// RESP2.
    #[default]
    V2,
    /// RESP3.
    V3,
}

impl Version {
    /// 2 or 3.
    #[must_use]
    pub(crate) fn number(self) -> i64 {
        match self {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }
}

/// Strings of at least so many bytes are queued as they are; shorter ones are copied, because a
/// queue entry and a slice for `writev` cost more than the copy.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// The most slices handed to one write.
const SLICES_MAX: usize = 64;

/// Bytes for one connection, in order. Large values are shared with the store and not copied.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Full pieces, before `tail`.
    pieces: VecDeque<Bytes>,
    /// Where answers are written to.
    tail: Vec<u8>,
    /// How much of `tail` is gone already; 0 while there are pieces.
    gone: usize,
    /// Bytes in all, without those gone.
    len: usize,
}

impl Output {
    /// Bytes that wait.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What an answer is written with.
    pub(crate) fn writer(&mut self, version: Version) -> Writer<'_> {
        Writer { output: self, version }
    }

    /// Writes what `sink` takes, at most about `bytes_max`; whether it refused to take more.
    ///
    /// # Errors
    /// Those of the sink but for `WouldBlock` and `Interrupted`.
    pub(crate) fn write_to(&mut self, sink: &mut impl Write, bytes_max: usize) -> io::Result<bool> {
        let mut written = 0;
        while self.len > 0 && written < bytes_max {
            let result = if self.pieces.is_empty() {
                sink.write(&self.tail[self.gone..])
            } else {
                self.write_pieces(sink)
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.consume(n);
                    written += n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn write_pieces(&self, sink: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let tail = std::iter::once(self.tail.as_slice());
        let parts = self.pieces.iter().map(Bytes::as_ref).chain(tail);
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        sink.write_vectored(&slices[..count])
    }

    fn consume(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(first) = self.pieces.front_mut() {
            if n < first.len() {
                first.advance(n);
                return;
            }
            n -= first.len();
            self.pieces.pop_front();
        }
        self.gone += n;
        if self.gone == self.tail.len() {
            self.gone = 0;
            self.tail.clear();
            // A burst of answers does not keep its buffer for ever.
            self.tail.shrink_to(SHARED_BYTES_MIN);
        }
    }

    /// Everything in one piece.
    #[must_use]
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.pieces.is_empty() && self.gone == 0 {
            return self.tail.into();
        }
        let mut all = Vec::with_capacity(self.len);
        for piece in self.pieces.drain(..) {
            all.extend_from_slice(&piece);
        }
        all.extend_from_slice(&self.tail[self.gone..]);
        all.into()
    }

    /// Appends bytes that are an answer, or part of one, already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.raw(bytes);
            return;
        }
        if !self.tail.is_empty() {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(std::mem::take(&mut self.gone));
            self.pieces.push_back(tail);
        }
        self.len += bytes.len();
        self.pieces.push_back(bytes.clone());
    }
}

/// Appends answers to an [`Output`].
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    output: &'a mut Output,
    version: Version,
}

impl Writer<'_> {
    /// The version it writes.
    #[must_use]
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Bytes that are an answer already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.output.raw(bytes);
    }

    /// A status, such as `OK`.
    pub(crate) fn status(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: a prefix in capitals, a space, a sentence.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text.as_bytes());
    }

    /// A number.
    pub(crate) fn integer(&mut self, value: i64) {
        self.number(b':', value);
    }

    /// A string.
    pub(crate) fn string(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.output.raw(bytes);
        self.output.raw(b"\r\n");
    }

    /// A string that may be large.
    pub(crate) fn value(&mut self, bytes: &Bytes) {
        self.length(b'$', bytes.len());
        self.output.share(bytes);
        self.output.raw(b"\r\n");
    }

    /// Text for people, which a client shows as it is.
    pub(crate) fn text(&mut self, text: &str) {
        match self.version {
            Version::V2 => self.string(text.as_bytes()),
            Version::V3 => {
                self.length(b'=', text.len() + 4);
                self.output.raw(b"txt:");
                self.output.raw(text.as_bytes());
                self.output.raw(b"\r\n");
            }
        }
    }

    /// Nothing.
    pub(crate) fn null(&mut self) {
        self.output.raw(match self.version {
            Version::V2 => b"$-1\r\n".as_slice(),
            Version::V3 => b"_\r\n",
        });
    }

    /// A list; so many answers follow.
    pub(crate) fn list(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// A map; so many pairs follow.
    pub(crate) fn map(&mut self, pairs: usize) {
        match self.version {
            Version::V2 => self.length(b'*', pairs * 2),
            Version::V3 => self.length(b'%', pairs),
        }
    }

    /// A set; so many answers follow.
    pub(crate) fn set(&mut self, len: usize) {
        match self.version {
            Version::V2 => self.length(b'*', len),
            Version::V3 => self.length(b'~', len),
        }
    }

    /// A line may hold what a client sent, so a line end within it must not end it.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.output.raw(&[kind]);
        let start = self.output.tail.len();
        self.output.raw(text);
        for byte in &mut self.output.tail[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.output.raw(b"\r\n");
    }

    fn length(&mut self, kind: u8, len: usize) {
        self.number(kind, i64::try_from(len).unwrap_or(i64::MAX));
    }

    /// Without going through `fmt`, which costs more than the rest of a short answer.
    fn number(&mut self, kind: u8, value: i64) {
        let mut line = [0; 24];
        let mut at = line.len() - 2;
        line[at..].copy_from_slice(b"\r\n");
        let mut rest = value.unsigned_abs();
        loop {
            at -= 1;
            line[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            line[at] = b'-';
        }
        at -= 1;
        line[at] = kind;
        self.output.raw(&line[at..]);
    }
}

#[cfg(test)]
mod tests;
