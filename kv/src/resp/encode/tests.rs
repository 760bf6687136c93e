use proptest::prelude::*;
use redis_protocol::resp2::types::OwnedFrame as Frame2;
use redis_protocol::resp3::types::OwnedFrame as Frame3;
use redis_protocol::{resp2, resp3};

use super::*;

fn written(version: Version, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut output = Output::default();
    write(&mut output.writer(version));
    drain(&mut output)
}

fn drain(output: &mut Output) -> Vec<u8> {
    let mut sink = Vec::new();
    let len = output.len();
    assert!(!output.write_to(&mut sink, usize::MAX).unwrap());
    assert_eq!(sink.len(), len);
    assert!(output.is_empty());
    sink
}

fn text(version: Version, write: impl FnOnce(&mut Writer<'_>)) -> String {
    written(version, write).escape_ascii().to_string()
}

fn both(write: impl Fn(&mut Writer<'_>)) -> (Frame2, Frame3) {
    let two = written(Version::V2, &write);
    let three = written(Version::V3, &write);
    let (frame2, len2) = resp2::decode::decode(&two).unwrap().unwrap();
    let (frame3, len3) = resp3::decode::complete::decode(&three).unwrap().unwrap();
    assert_eq!((len2, len3), (two.len(), three.len()));
    (frame2, frame3)
}

#[test]
fn both_versions_are_what_another_implementation_reads() {
    let (two, three) = both(|w| w.status("OK"));
    assert_eq!(two, Frame2::SimpleString(b"OK".to_vec()));
    assert!(matches!(three, Frame3::SimpleString { data, .. } if data == b"OK"));

    let (two, three) = both(|w| w.error("ERR no"));
    assert_eq!(two, Frame2::Error("ERR no".into()));
    assert!(matches!(three, Frame3::SimpleError { data, .. } if data == "ERR no"));

    let (two, three) = both(|w| {
        w.list(1);
        w.null();
    });
    assert_eq!(two, Frame2::Array(vec![Frame2::Null]));
    assert!(matches!(three, Frame3::Array { data, .. } if data == [Frame3::Null]));

    let (two, three) = both(|w| w.text("a: 1"));
    assert_eq!(two, Frame2::BulkString(b"a: 1".to_vec()));
    assert!(matches!(three, Frame3::VerbatimString { data, .. } if data == b"a: 1"));

    let (two, three) = both(|w| {
        w.map(1);
        w.string(b"proto");
        w.list(2);
        w.integer(-3);
        w.value(&Bytes::from_static(b""));
    });
    let list = Frame2::Array(vec![Frame2::Integer(-3), Frame2::BulkString(Vec::new())]);
    assert_eq!(two, Frame2::Array(vec![Frame2::BulkString(b"proto".to_vec()), list]));
    assert!(matches!(three, Frame3::Map { data, .. } if data.len() == 1));

    let (two, three) = both(|w| {
        w.set(1);
        w.integer(1);
    });
    assert_eq!(two, Frame2::Array(vec![Frame2::Integer(1)]));
    assert!(matches!(three, Frame3::Set { data, .. } if data.len() == 1));
}

#[test]
fn a_line_end_in_an_error_does_not_end_it() {
    assert_eq!(text(Version::V2, |w| w.error("ERR a\r\nb")), r"-ERR a  b\r\n");
}

#[test]
fn large_values_are_shared_and_stay_in_order() {
    let large = Bytes::from(vec![b'x'; SHARED_BYTES_MIN]);
    let mut output = Output::default();
    for _ in 0..200 {
        let mut writer = output.writer(Version::V2);
        writer.status("OK");
        writer.value(&large);
        writer.integer(1);
    }
    let one = [format!("+OK\r\n${}\r\n", large.len()).as_bytes(), &large, b"\r\n:1\r\n"].concat();
    assert_eq!(drain(&mut output), one.repeat(200));
}

/// Takes at most so many bytes at a time, and refuses every other time.
struct Reluctant {
    taken: Vec<u8>,
    at_most: usize,
    refuse: bool,
}

impl Write for Reluctant {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.refuse = !self.refuse;
        if self.refuse {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = bytes.len().min(self.at_most);
        self.taken.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

proptest! {
    #[test]
    fn any_number_is_written_as_display_writes_it(value: i64) {
        prop_assert_eq!(text(Version::V2, |w| w.integer(value)), format!(":{value}\\r\\n"));
    }

    /// Whatever a socket takes at a time, and whatever is added in between.
    #[test]
    fn partial_writes_lose_nothing(
        sizes in prop::collection::vec(
            prop_oneof![0usize..40, SHARED_BYTES_MIN - 2..SHARED_BYTES_MIN + 2], 1..12),
        at_most in 1usize..40_000,
    ) {
        let mut output = Output::default();
        let mut sink = Reluctant { taken: Vec::new(), at_most, refuse: false };
        let mut expected = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            let value = Bytes::from(vec![u8::try_from(i).unwrap(); *size]);
            expected.extend(format!("${size}\r\n").bytes());
            expected.extend(&value);
            expected.extend(b"\r\n");
            output.writer(Version::V2).value(&value);
            output.write_to(&mut sink, usize::MAX).unwrap();
            prop_assert_eq!(output.len() + sink.taken.len(), expected.len());
        }
        while !output.is_empty() {
            output.write_to(&mut sink, usize::MAX).unwrap();
        }
        prop_assert_eq!(sink.taken, expected);
    }
}
