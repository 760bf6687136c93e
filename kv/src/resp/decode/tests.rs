use bytes::BufMut;
use proptest::prelude::*;
use redis_protocol::resp2;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

use super::*;

type Commands = Vec<Vec<Vec<u8>>>;

/// Everything the decoder makes of `pieces`, and how it ended.
fn decode(pieces: &[&[u8]]) -> (Commands, Vec<Oversized>, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::new();
    let mut args = Vec::new();
    let (mut commands, mut oversized) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.put_slice(piece);
        loop {
            match decoder.next(&mut input, &mut args) {
                Ok(Decoded::Incomplete) => break,
                Ok(Decoded::Command) => {
                    commands.push(args.iter().map(|a| a.to_vec()).collect());
                }
                Ok(Decoded::Oversized(why)) => oversized.push(why),
                Err(e) => return (commands, oversized, Some(e)),
            }
        }
    }
    (commands, oversized, None)
}

fn commands(text: &[u8]) -> Commands {
    let (commands, oversized, error) = decode(&[text]);
    assert_eq!((oversized, error), (Vec::new(), None));
    commands
}

fn error(text: &[u8]) -> Option<ProtocolError> {
    decode(&[text]).2
}

/// A command as another implementation writes it.
fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let frame = OwnedFrame::Array(args.iter().cloned().map(OwnedFrame::BulkString).collect());
    let mut buffer = vec![0; frame.encode_len(false)];
    let len = resp2::encode::encode(&mut buffer, &frame, false).unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn arrays_and_lines_are_commands() {
    assert_eq!(commands(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), [[b"GET".to_vec(), b"k".to_vec()]]);
    assert_eq!(
        commands(b"get k\r\nping\n"),
        vec![vec![b"get".to_vec(), b"k".to_vec()], vec![b"ping".to_vec()]]
    );
    assert_eq!(commands(b"*1\r\n$0\r\n\r\n"), [[b"".to_vec()]]);
}

#[test]
fn arrays_of_none_and_empty_lines_are_no_commands() {
    assert_eq!(commands(b"*0\r\n*-1\r\n\r\n\n*1\r\n$4\r\nPING\r\n"), [[b"PING".to_vec()]]);
}

#[test]
fn what_is_no_command_is_an_error() {
    use ProtocolError as E;
    assert_eq!(error(b"*x\r\n"), Some(E::ArrayLength));
    assert_eq!(error(b"*\r\n"), Some(E::ArrayLength));
    assert_eq!(error(b"*1\n$1\nx\n"), Some(E::ArrayLength), "a line ends in both bytes");
    assert_eq!(error(b"*1048577\r\n"), Some(E::ArrayLength));
    assert_eq!(error(b"*99999999999999999999\r\n"), Some(E::ArrayLength));
    assert_eq!(error(&[b'*'; 40]), Some(E::ArrayLength), "no line end in sight");
    assert_eq!(error(b"*1\r\n+OK\r\n"), Some(E::NotBulk(b'+')));
    assert_eq!(error(b"*1\r\n*1\r\n"), Some(E::NotBulk(b'*')), "a command is not nested");
    assert_eq!(error(b"*1\r\n$-1\r\n"), Some(E::BulkLength));
    assert_eq!(error(b"*1\r\n$536870913\r\n"), Some(E::BulkLength));
    assert_eq!(error(b"*1\r\n$1\r\nxyz"), Some(E::BulkEnd));
    assert_eq!(error(b"say \"hi\r\n"), Some(E::Quotes));
    assert_eq!(error(b"POST / HTTP/1.1\r\n"), Some(E::Http));
    assert_eq!(error(&vec![b'x'; limits::INLINE_BYTES_MAX + 2]), Some(E::InlineLength));
}

#[test]
fn commands_beyond_a_limit_are_dropped_and_the_next_one_is_read() {
    let mut text =
        encode(&[b"SET".to_vec(), b"k".to_vec(), vec![b'v'; limits::VALUE_BYTES_MAX + 1]]);
    text.extend(encode(&[b"PING".to_vec()]));
    let (commands, oversized, error) = decode(&[&text]);
    assert_eq!(commands, [[b"PING".to_vec()]]);
    assert_eq!(oversized, [Oversized::Argument(limits::VALUE_BYTES_MAX + 1)]);
    assert_eq!(error, None);

    let value = vec![b'v'; limits::VALUE_BYTES_MAX];
    let text = encode(&[b"MSET".to_vec(), value.clone(), value.clone(), value]);
    assert_eq!(decode(&[&text]).1, [Oversized::Request]);

    let text = encode(&vec![b"x".to_vec(); limits::ARGS_MAX + 1]);
    assert_eq!(decode(&[&text]).1, [Oversized::Arguments(limits::ARGS_MAX + 1)]);
    assert_eq!(commands_of_args(limits::ARGS_MAX), limits::ARGS_MAX);
}

fn commands_of_args(count: usize) -> usize {
    commands(&encode(&vec![b"x".to_vec(); count]))[0].len()
}

#[test]
fn a_dropped_argument_is_never_held() {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::new();
    let mut args = Vec::new();
    input.put_slice(b"*2\r\n$3\r\nSET\r\n$536870912\r\n");
    for _ in 0..64 {
        input.put_slice(&[b'x'; 64 << 10]);
        assert_eq!(decoder.next(&mut input, &mut args), Ok(Decoded::Incomplete));
        assert!(input.is_empty(), "{} bytes of a dropped argument are held", input.len());
    }
}

fn arguments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)
}

proptest! {
    /// However the bytes are cut, the same commands come out.
    #[test]
    fn cuts_do_not_matter(
        all in prop::collection::vec(arguments(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let text: Vec<u8> = all.iter().flat_map(|args| encode(args)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
        prop_assert_eq!(decode(&pieces), (all.clone(), Vec::new(), None));
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(decode(&bytes), (all, Vec::new(), None));
    }

    /// Whatever arrives, and however it is cut, it is taken the same way and nothing panics.
    #[test]
    fn garbage_is_taken_the_same_way_however_cut(
        text in prop::collection::vec(
            prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'2'),
                Just(b'-'), Just(b' '), Just(b'"'), any::<u8>()],
            0..60,
        ),
    ) {
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(decode(&[&text]), decode(&bytes));
    }
}
