//! What of Go shows through in the scripts: how it quotes strings and refuses numbers.

use std::fmt::Write as _;
use std::num::IntErrorKind;

/// A string as `%q` prints it.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_quoted(&mut out, c));
        for byte in chunk.invalid() {
            push_hex(&mut out, 'x', 2, u32::from(*byte));
        }
    }
    out.push('"');
    out
}

fn push_quoted(out: &mut String, c: char) {
    match c {
        '"' | '\\' => out.extend(['\\', c]),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        ' '..='~' => out.push(c),
        '\0'..='\x7f' => push_hex(out, 'x', 2, c.into()),
        _ if is_printable(c) => out.push(c),
        '\u{80}'..='\u{ffff}' => push_hex(out, 'u', 4, c.into()),
        _ => push_hex(out, 'U', 8, c.into()),
    }
}

fn push_hex(out: &mut String, letter: char, width: usize, value: u32) {
    write!(out, "\\{letter}{value:0width$x}").expect("writing to a string does not fail");
}

/// Whether a character beyond ASCII has a shape. The standard library tells only by escaping, and
/// escapes a combining mark at the start of a string, hence the letter before it.
fn is_printable(c: char) -> bool {
    let text: String = ['a', c].iter().collect();
    text.escape_debug().nth(1) == Some(c)
}

/// A decimal as `strconv.ParseUint` reads it.
///
/// # Errors
/// With its words.
pub(crate) fn parse_uint(text: &str) -> Result<u64, String> {
    let refused =
        |why| Err(format!("strconv.ParseUint: parsing {}: {why}", quote(text.as_bytes())));
    if text.starts_with('+') {
        return refused("invalid syntax");
    }
    match text.parse() {
        Ok(value) => Ok(value),
        Err(e) if *e.kind() == IntErrorKind::PosOverflow => refused("value out of range"),
        Err(_) => refused("invalid syntax"),
    }
}

/// A truth value as `strconv.ParseBool` reads it.
///
/// # Errors
/// With its words.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_like_percent_q() {
        let cases: [(&[u8], &str); 8] = [
            (b"", r#""""#),
            (b"prop_1", r#""prop_1""#),
            (br#""foo" \ 'x'"#, r#""\"foo\" \\ 'x'""#),
            (b"a\n\t\x07\x0b\x00\x7f", r#""a\n\t\a\v\x00\x7f""#),
            ("é日😀".as_bytes(), "\"é日😀\""),
            ("\u{a0}\u{200b}e\u{301}".as_bytes(), "\"\\u00a0\\u200be\u{301}\""),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
            (b"\xff\xc3(", r#""\xff\xc3(""#),
        ];
        for (bytes, quoted) in cases {
            assert_eq!(quote(bytes), quoted, "{bytes:?}");
        }
    }

    #[test]
    fn numbers_and_truth_values_are_refused_in_go_words() {
        assert_eq!(parse_uint("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "+1", "-1", "x", " 1"] {
            let words = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
            assert_eq!(parse_uint(text), Err(words));
        }
        let words = "strconv.ParseUint: parsing \"18446744073709551616\": value out of range";
        assert_eq!(parse_uint("18446744073709551616"), Err(words.to_owned()));
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        let words = "strconv.ParseBool: parsing \"yes\": invalid syntax";
        assert_eq!(parse_bool("yes"), Err(words.to_owned()));
    }
}
