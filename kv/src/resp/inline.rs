//! The words of a line, quoted as `redis-cli` users quote them.
//!
//! Words are separated by spaces. Within `"…"`, `\n \r \t \b \a \\ \"` and `\xHH` stand for what
//! they do in C, and `\` before anything else for that; within `'…'` only `\'` does. A closing
//! quote ends the word, so a space has to follow.

use std::iter::Peekable;
use std::slice::Iter;

use bytes::Bytes;

use crate::resp::decode::ProtocolError;

type Input<'a> = Peekable<Iter<'a, u8>>;

/// Appends the words of `line` to `words`.
pub(super) fn split(line: &[u8], words: &mut Vec<Bytes>) -> Result<(), ProtocolError> {
    let mut input = line.iter().peekable();
    loop {
        while input.next_if(|b| b.is_ascii_whitespace() || **b == 0).is_some() {}
        if input.peek().is_none() {
            return Ok(());
        }
        words.push(word(&mut input)?);
    }
}

fn word(input: &mut Input<'_>) -> Result<Bytes, ProtocolError> {
    let mut word = Vec::new();
    while let Some(&byte) = input.next_if(|b| !b.is_ascii_whitespace() && **b != 0) {
        match byte {
            b'"' => double_quoted(input, &mut word)?,
            b'\'' => single_quoted(input, &mut word)?,
            other => {
                word.push(other);
                continue;
            }
        }
        return match input.peek() {
            Some(b) if !b.is_ascii_whitespace() => Err(ProtocolError::Quotes),
            _ => Ok(word.into()),
        };
    }
    Ok(word.into())
}

fn single_quoted(input: &mut Input<'_>, word: &mut Vec<u8>) -> Result<(), ProtocolError> {
    loop {
        match input.next().ok_or(ProtocolError::Quotes)? {
            b'\'' => return Ok(()),
            b'\\' if input.next_if_eq(&&b'\'').is_some() => word.push(b'\''),
            &other => word.push(other),
        }
    }
}

fn double_quoted(input: &mut Input<'_>, word: &mut Vec<u8>) -> Result<(), ProtocolError> {
    loop {
        match input.next().ok_or(ProtocolError::Quotes)? {
            b'"' => return Ok(()),
            b'\\' => word.push(escaped(input)?),
            &other => word.push(other),
        }
    }
}

/// What follows a backslash.
fn escaped(input: &mut Input<'_>) -> Result<u8, ProtocolError> {
    Ok(match input.next().ok_or(ProtocolError::Quotes)? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        b'x' => hex(input).unwrap_or(b'x'),
        &other => other,
    })
}

/// Two hexadecimal digits, if they are there.
fn hex(input: &mut Input<'_>) -> Option<u8> {
    let mut ahead = input.clone();
    let mut digit = || ahead.next().and_then(|&b| char::from(b).to_digit(16));
    let value = digit()? * 16 + digit()?;
    *input = ahead;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, ProtocolError> {
        let mut words = Vec::new();
        split(line.as_bytes(), &mut words)?;
        Ok(words.iter().map(|w| w.escape_ascii().to_string()).collect())
    }

    #[test]
    fn words_are_separated_by_any_run_of_spaces() {
        assert_eq!(words("  set  k\tv  ").unwrap(), ["set", "k", "v"]);
        assert_eq!(words("").unwrap(), [""; 0]);
        assert_eq!(words(" \t ").unwrap(), [""; 0]);
    }

    #[test]
    fn quotes_keep_spaces_and_escapes() {
        assert_eq!(words(r#"set "a b" 'c d'"#).unwrap(), ["set", "a b", "c d"]);
        assert_eq!(words(r#""\x41\n\q\xZZ""#).unwrap(), [r"A\nqxZZ"]);
        assert_eq!(words(r#"'it\'s' '\n'"#).unwrap(), [r"it\'s", r"\\n"]);
        assert_eq!(words(r#"pre"fix""#).unwrap(), ["prefix"]);
        assert_eq!(words(r#""" ''"#).unwrap(), ["", ""]);
    }

    #[test]
    fn quotes_that_do_not_match_are_refused() {
        for line in [r#""open"#, "'open", r#""a"b"#, "'a'b", r#""\"#] {
            assert_eq!(words(line), Err(ProtocolError::Quotes), "{line}");
        }
    }
}
