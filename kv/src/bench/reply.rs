//! What a store answers to the few commands that a benchmark sends.

use std::ops::Range;

/// An answer; ranges are places in the buffer it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A status or a number.
    Fine,
    /// A value.
    Value(Option<Range<usize>>),
    /// An error.
    Error(Range<usize>),
    /// A list follows, of so many replies.
    List(usize),
}

/// The answer at the start of `input` and how many bytes it takes; `None` if there is more to come.
///
/// # Errors
/// If it is none.
pub(super) fn read(input: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (head, after) = (input.get(1..end).ok_or(NOT_RESP)?, end + 2);
    let reply = match input[0] {
        b'+' | b':' => Reply::Fine,
        b'-' => Reply::Error(1..end),
        b'_' => Reply::Value(None),
        b'*' => Reply::List(number(head).and_then(|n| n.try_into().ok()).ok_or(NOT_RESP)?),
        b'$' => match number(head) {
            Some(-1) => Reply::Value(None),
            Some(len) => {
                let value = after..after + usize::try_from(len).map_err(|_| NOT_RESP)?;
                if input.len() < value.end + 2 {
                    return Ok(None);
                }
                let end = value.end + 2;
                return Ok(Some((Reply::Value(Some(value)), end)));
            }
            None => return Err(NOT_RESP.into()),
        },
        _ => return Err(NOT_RESP.into()),
    };
    Ok(Some((reply, after)))
}

const NOT_RESP: &str = "the store's answer is not of the Redis protocol";

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Appends a command.
pub(super) fn command(args: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let cases: [(&[u8], Reply); 7] = [
            (b"+OK\r\n", Reply::Fine),
            (b":12\r\n", Reply::Fine),
            (b"-ERR no\r\n", Reply::Error(1..7)),
            (b"$3\r\na\r\n\r\n", Reply::Value(Some(4..7))),
            (b"$-1\r\n", Reply::Value(None)),
            (b"_\r\n", Reply::Value(None)),
            (b"*2\r\n", Reply::List(2)),
        ];
        for (input, reply) in cases {
            for cut in 0..input.len() {
                assert_eq!(read(&input[..cut]), Ok(None), "{cut} of {reply:?}");
            }
            assert_eq!(read(&[input, b"more"].concat()), Ok(Some((reply, input.len()))));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for input in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"*-2\r\n", b"$-2\r\n", b"\r\n"] {
            assert!(read(input).is_err(), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn a_command_is_a_list_of_strings() {
        let mut out = Vec::new();
        command(&[b"GET", b"key"], &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
    }
}
