use super::*;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> + Clone {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn cf() -> impl Strategy<Value = Cf> {
    prop::sample::select(&Cf::OF_CLIENTS[..])
}

fn condition() -> impl Strategy<Value = Condition> {
    prop::sample::select(&[Condition::None, Condition::IfAbsent, Condition::IfPresent][..])
}

fn op() -> impl Strategy<Value = Op> {
    let maybe = || prop::option::of(bytes());
    prop_oneof![
        (cf(), bytes()).prop_map(|(cf, key)| Op::Get { cf, key }),
        (cf(), bytes()).prop_map(|(cf, key)| Op::Exists { cf, key }),
        (cf(), bytes()).prop_map(|(cf, key)| Op::Length { cf, key }),
        (cf(), bytes(), bytes(), condition(), any::<bool>()).prop_map(
            |(cf, key, value, condition, return_old)| Op::Put {
                cf,
                key,
                value,
                condition,
                return_old
            }
        ),
        (cf(), bytes(), any::<bool>()).prop_map(|(cf, key, return_old)| Op::Delete {
            cf,
            key,
            return_old
        }),
        (cf(), bytes(), any::<i64>()).prop_map(|(cf, key, delta)| Op::Add { cf, key, delta }),
        (cf(), bytes(), bytes()).prop_map(|(cf, key, value)| Op::Append { cf, key, value }),
        (cf(), bytes(), maybe(), maybe()).prop_map(|(cf, key, expected, new)| Op::CompareAndSet {
            cf,
            key,
            expected,
            new
        }),
        (cf(), bytes(), bytes(), any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
            |(cf, start, end, limit, reverse, keys_only)| Op::Scan {
                cf,
                start,
                end,
                limit,
                reverse,
                keys_only
            }
        ),
        (cf(), bytes(), bytes()).prop_map(|(cf, start, end)| Op::Count { cf, start, end }),
    ]
}

fn result() -> impl Strategy<Value = OpResult> {
    let maybe = || prop::option::of(bytes());
    let error = prop::sample::select(
        &[
            OpError::NotAnInteger,
            OpError::Overflow,
            OpError::ValueTooLarge,
            OpError::ResponseTooLarge,
        ][..],
    );
    prop_oneof![
        maybe().prop_map(OpResult::Value),
        any::<bool>().prop_map(OpResult::Exists),
        any::<u64>().prop_map(OpResult::Length),
        (any::<bool>(), maybe()).prop_map(|(written, old)| OpResult::Put { written, old }),
        (any::<bool>(), maybe()).prop_map(|(existed, old)| OpResult::Deleted { existed, old }),
        any::<i64>().prop_map(OpResult::Integer),
        (any::<bool>(), maybe())
            .prop_map(|(swapped, current)| OpResult::Swapped { swapped, current }),
        (prop::collection::vec((bytes(), bytes()), 0..5), any::<bool>())
            .prop_map(|(pairs, more)| OpResult::Pairs { pairs, more }),
        any::<u64>().prop_map(OpResult::Count),
        error.prop_map(OpResult::Failed),
    ]
}

proptest! {
    #[test]
    fn requests_round_trip(ops in prop::collection::vec(op(), 0..8)) {
        let request = Request::new(ops);
        let bytes = request.encode().expect("within the limits");
        prop_assert_eq!(Request::decode(&bytes), Ok(request.clone()));
        let borrowed: Vec<_> =
            Ops::read(&bytes).expect("just encoded").map(|op| op.expect("just encoded")).collect();
        let looking: Vec<_> = request.ops.iter().map(Op::borrowed).collect();
        prop_assert_eq!(borrowed, looking);
    }

    #[test]
    fn responses_round_trip(results in prop::collection::vec(result(), 0..8)) {
        let response = Response { results };
        prop_assert_eq!(Response::decode(&response.encode()), Ok(response));
    }

    #[test]
    fn a_cut_request_or_response_is_refused(
        ops in prop::collection::vec(op(), 1..4),
        results in prop::collection::vec(result(), 1..4),
    ) {
        let request = Request::new(ops).encode().expect("within the limits");
        for len in 0..request.len() {
            prop_assert!(Request::decode(&request.slice(..len)).is_err());
        }
        let response = Response { results }.encode();
        for len in 0..response.len() {
            prop_assert!(Response::decode(&response.slice(..len)).is_err());
        }
    }

    /// What can be read has one encoding only, and garbage never panics.
    #[test]
    fn garbage_is_refused_or_canonical(
        mut garbage in prop::collection::vec(any::<u8>(), 0..60),
        ops in prop::collection::vec(op(), 1..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        if let Some(version) = garbage.first_mut() {
            *version = VERSION;
        }
        let mut near = Request::new(ops).encode().expect("within the limits").to_vec();
        for (at, byte) in flips {
            let at = at.index(near.len());
            near[at] = byte;
        }
        for bytes in [Bytes::from(garbage), Bytes::from(near)] {
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode().expect("read within the limits"), bytes.clone());
            }
            if let Ok(response) = Response::decode(&bytes) {
                prop_assert_eq!(response.encode(), bytes);
            }
        }
    }
}

/// The format, byte by byte: changing it needs a new version, not a new expectation.
#[test]
fn golden_bytes() {
    let request = Request::new(vec![
        Op::put("k", "value"),
        Op::Add { cf: Cf::Write, key: "n".into(), delta: -2 },
        Op::compare_and_set("c", None, Some("x".into())),
    ]);
    let expected =
        b"\x01\x03\x04\x00\x01k\x05value\x00\x00\x06\x02\x01n\x03\x08\x00\x01c\x00\x01\x01x";
    assert_eq!(request.encode().expect("small")[..], expected[..]);
}

#[test]
fn limits_hold_both_ways() {
    let of = |len: usize| Bytes::from(vec![0; len]);
    let fits = Request::from(Op::put(of(KEY_BYTES_MAX), of(VALUE_BYTES_MAX)));
    let bytes = fits.encode().expect("exactly at the limits");
    assert_eq!(Request::decode(&bytes), Ok(fits));

    let encode = |ops: Vec<Op>| Request::new(ops).encode().map(|_| ());
    let (key, value) = (KEY_BYTES_MAX + 1, VALUE_BYTES_MAX + 1);
    assert_eq!(encode(vec![Op::get(of(key))]), Err(LimitExceeded::Key(key)));
    assert_eq!(encode(vec![Op::scan("", of(key), 1)]), Err(LimitExceeded::Key(key)));
    assert_eq!(encode(vec![Op::put("k", of(value))]), Err(LimitExceeded::Value(value)));
    let cas = Op::compare_and_set("k", Some(of(value)), None);
    assert_eq!(encode(vec![cas]), Err(LimitExceeded::Value(value)));
    assert_eq!(encode(vec![Op::get("k"); OPS_MAX + 1]), Err(LimitExceeded::Ops(OPS_MAX + 1)));
    let large = vec![Op::put("k", of(VALUE_BYTES_MAX)); 2];
    assert!(matches!(encode(large), Err(LimitExceeded::Request(_))));

    // A forged request beyond the limits is refused by the reader as well.
    let mut forged = vec![VERSION, 1, tag::GET, 0];
    wire::put_string(&mut forged, &of(key));
    assert_eq!(Request::decode(&forged.into()), Err(Malformed { what: "key" }));
    let mut forged = vec![VERSION];
    wire::put_number(&mut forged, OPS_MAX as u64 + 1);
    forged.resize(forged.len() + 3 * (OPS_MAX + 1), 0);
    assert!(Request::decode(&forged.into()).is_err());
}

#[test]
fn sessions_are_in_the_head() {
    let put = || Request::from(Op::put("k", "v"));
    let command = put().within(Session::Command { id: 300, sequence: 2 });
    let bytes = command.encode().expect("small");
    assert_eq!(bytes[..6], [2, 1, 0xac, 2, 2, 1]);
    assert_eq!(Request::decode(&bytes), Ok(command.clone()));
    assert!(!command.is_read_only());
    assert!(!Request::from(Op::get("k")).within(Session::Open).is_read_only());
    let open = Request::default().within(Session::Open).encode().expect("small");
    assert_eq!(open[..], [2, 0, 0]);
    assert_eq!(put().encode().expect("small")[1..], bytes[5..], "the rest is the same");
    for cut in 0..bytes.len() {
        assert!(Request::decode(&bytes.slice(..cut)).is_err());
    }
    let hidden = Request::from(Op::Get { cf: Cf::Session, key: Bytes::new() });
    assert_eq!(hidden.encode(), Err(LimitExceeded::Family));
}

#[test]
fn another_version_is_refused() {
    let mut bytes = Request::from(Op::get("k")).encode().expect("small").to_vec();
    for version in [0, SESSION_VERSION + 1] {
        bytes[0] = version;
        let decoded = Request::decode(&bytes.clone().into());
        assert_eq!(decoded, Err(Malformed { what: "request: version" }));
    }
}
