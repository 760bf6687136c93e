//! The checker against all orders there are, and against violations planted in histories that were
//! sound.

use bytes::Bytes;
use kv::{Cf, Op, OpResult, Request, Response};

use super::store::{Requests, Store, check, parts};
use super::{Call, CallId, Model, Outcome, Verdict};

const STEPS: u64 = 100_000;

fn append(key: &str, value: &str) -> Op {
    Op::Append { cf: Cf::Default, key: key.to_owned().into(), value: value.to_owned().into() }
}

fn value(text: &str) -> OpResult {
    OpResult::Value(Some(text.to_owned().into()))
}

const NONE: OpResult = OpResult::Value(None);
const WRITTEN: OpResult = OpResult::Put { written: true, old: None };

fn results(results: impl Into<Vec<OpResult>>) -> Response {
    Response { results: results.into() }
}

/// One after the other: a question and its answer.
fn one(history: &mut Requests, op: impl Into<Request>, result: OpResult) {
    let call = history.invoke(0, op.into());
    history.answer(call, results([result]));
}

fn is_fine(history: &Requests) -> bool {
    match check(history, STEPS) {
        Verdict::Linearizable { order, .. } => {
            replay(history, &order);
            true
        }
        Verdict::Violation(_) => false,
        Verdict::Undecided { steps } => panic!("undecided after {steps}"),
    }
}

/// The order that was found, carried out: it must give the answers, part by part.
fn replay(history: &Requests, order: &[usize]) {
    let mut state = Store.begin();
    for &at in order {
        let call = &history.calls()[at];
        let found = Store.apply(&mut state, &call.op);
        if let Outcome::Answered { answer, .. } = &call.outcome {
            assert_eq!(found, *answer);
        }
    }
    let answered = history.tally().answered as usize;
    let placed = |at: &&usize| matches!(history.calls()[**at].outcome, Outcome::Answered { .. });
    assert_eq!(order.iter().filter(placed).count(), answered);
}

// ---- Every order there is ----

/// Tries all orders of all answered calls and any of the unknown ones, knowing nothing clever.
fn brute_force(history: &Requests) -> bool {
    let calls = history.calls();
    let candidates: Vec<usize> =
        (0..calls.len()).filter(|&at| calls[at].outcome != Outcome::Refused).collect();
    any_order(calls, &candidates, &mut Vec::new())
}

fn any_order(
    calls: &[Call<Request, Response>],
    candidates: &[usize],
    order: &mut Vec<usize>,
) -> bool {
    let answered = |at: usize| matches!(calls[at].outcome, Outcome::Answered { .. });
    let is_whole = candidates.iter().all(|at| order.contains(at) || !answered(*at));
    if is_whole && is_legal(calls, order) {
        return true;
    }
    for &at in candidates {
        if !order.contains(&at) {
            order.push(at);
            if any_order(calls, candidates, order) {
                return true;
            }
            order.pop();
        }
    }
    false
}

fn is_legal(calls: &[Call<Request, Response>], order: &[usize]) -> bool {
    let returned = |at: usize| match calls[at].outcome {
        Outcome::Answered { at, .. } => at,
        _ => u64::MAX,
    };
    let in_time = order.iter().enumerate().all(|(n, &earlier)| {
        order[n..].iter().all(|&later| calls[earlier].invoked < returned(later))
    });
    let mut state = Store.begin();
    in_time
        && order.iter().all(|&at| {
            let found = Store.apply(&mut state, &calls[at].op);
            !matches!(&calls[at].outcome, Outcome::Answered { answer, .. } if *answer != found)
        })
}

fn random_request(rng: &mut fastrand::Rng) -> Request {
    let key = ["a", "b"][rng.usize(..2)];
    let text = || ["1", "2"][0].to_owned();
    match rng.u8(..9) {
        0 | 1 => Op::get(key).into(),
        2 => Op::put(key, ["1", "2"][rng.usize(..2)]).into(),
        3 => Op::delete(key).into(),
        4 => Op::add(key, 1).into(),
        5 => append(key, "1").into(),
        6 => Op::compare_and_set(key, rng.bool().then(|| text().into()), Some("2".into())).into(),
        7 => Op::scan("", "", 10).into(),
        _ => Request::new(vec![Op::add("a", 1), Op::get("b")]),
    }
}

/// Clients of one true copy, whose operations take effect somewhere between question and answer;
/// some of the answers are then exchanged for others, and some never arrive.
fn random_history(rng: &mut fastrand::Rng, calls: usize) -> Requests {
    let mut history = Requests::new();
    let mut state = Store.begin();
    let mut waiting: Vec<(CallId, Request, Option<Response>)> = Vec::new();
    let mut left = calls;
    while left > 0 || !waiting.is_empty() {
        let begins = left > 0 && waiting.len() < 3 && rng.bool();
        if begins || waiting.is_empty() {
            let request = random_request(rng);
            waiting.push((history.invoke(waiting.len(), request.clone()), request, None));
            left -= 1;
            continue;
        }
        let at = rng.usize(..waiting.len());
        let (id, request, answer) = &mut waiting[at];
        match answer.take() {
            None if rng.u8(..8) == 0 => drop(waiting.swap_remove(at)),
            None => *answer = Some(Store.apply(&mut state, request)),
            Some(answer) => {
                match rng.u8(..12) {
                    0 => {}
                    1 | 2 => {
                        let mut other = Store.begin();
                        Store.apply(&mut other, &random_request(rng));
                        history.answer(*id, Store.apply(&mut other, request));
                    }
                    _ => history.answer(*id, answer),
                }
                waiting.swap_remove(at);
            }
        }
    }
    history
}

#[test]
fn agrees_with_trying_every_order() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut fine = 0;
    for round in 0..3000 {
        let history = random_history(&mut rng, 1 + round % 6);
        let expected = brute_force(&history);
        assert_eq!(is_fine(&history), expected, "{history:#?}");
        fine += usize::from(expected);
    }
    assert!((1000..2700).contains(&fine), "{fine} of 3000 are linearizable");
}

// ---- Planted violations ----

#[test]
fn a_stale_read() {
    let mut history = Requests::new();
    one(&mut history, Op::put("x", "1"), WRITTEN);
    one(&mut history, Op::put("x", "2"), WRITTEN);
    let mut stale = history.clone();
    one(&mut history, Op::get("x"), value("2"));
    one(&mut stale, Op::get("x"), value("1"));
    assert!(is_fine(&history));
    let Verdict::Violation(why) = check(&stale, STEPS) else { panic!("a stale read") };
    assert_eq!((why.placed, why.answered), (2, 3));
    assert!(why.stuck[0].contains("here it would be"), "{why}");
}

#[test]
fn reads_may_not_go_back_while_a_write_is_under_way() {
    let mut history = Requests::new();
    history.invoke(1, Op::put("x", "new").into());
    one(&mut history, Op::get("x"), NONE);
    one(&mut history, Op::get("x"), value("new"));
    assert!(is_fine(&history), "the write takes effect between the reads, whatever its answer");
    one(&mut history, Op::get("x"), NONE);
    assert!(!is_fine(&history));
}

#[test]
fn a_lost_write() {
    let mut history = Requests::new();
    one(&mut history, Op::add("n", 1), OpResult::Integer(1));
    one(&mut history, Op::add("n", 1), OpResult::Integer(2));
    one(&mut history, Op::add("n", 1), OpResult::Integer(2));
    assert!(!is_fine(&history));
}

/// L2: an unknown operation may have taken effect, once; a refused one has not.
#[test]
fn l2_a_double_apply() {
    let sums = |unknown: bool, sum: &str| {
        let mut history = Requests::new();
        one(&mut history, Op::add("n", 1), OpResult::Integer(1));
        let retried = history.invoke(1, Op::add("n", 1).into());
        if !unknown {
            history.refuse(retried);
        }
        one(&mut history, Op::get("n"), value(sum));
        is_fine(&history)
    };
    assert!(sums(true, "1"), "it did not take effect");
    assert!(sums(true, "2"), "it did");
    assert!(!sums(true, "3"), "it did twice");
    assert!(sums(false, "1"));
    assert!(!sums(false, "2"), "it did though it was refused");
}

/// L2: nothing is forgiven because something is unknown, and unknown may mean much later.
#[test]
fn l2_an_unknown_operation_can_wait_but_not_come_early() {
    let mut history = Requests::new();
    one(&mut history, Op::get("x"), value("late"));
    history.invoke(1, Op::put("x", "late").into());
    assert!(!is_fine(&history), "nobody had asked for it yet");
    let mut history = Requests::new();
    history.invoke(1, Op::put("x", "late").into());
    (0..50).for_each(|_| one(&mut history, Op::get("x"), NONE));
    one(&mut history, Op::get("x"), value("late"));
    assert!(is_fine(&history));
}

#[test]
fn a_reordered_append() {
    let both = |first: &str| {
        let mut history = Requests::new();
        one(&mut history, append("l", "a"), OpResult::Length(1));
        one(&mut history, append("l", "b"), OpResult::Length(2));
        one(&mut history, Op::get("l"), value(first));
        is_fine(&history)
    };
    assert!(both("ab"));
    assert!(!both("ba"), "they did not overlap, so their order is known");
}

#[test]
fn half_of_an_atomic_request() {
    let move_one = Request::new(vec![Op::put("x", "1"), Op::put("y", "1")]);
    let pairs = |keys: &[&'static str]| OpResult::Pairs {
        pairs: keys.iter().map(|&key| (key.into(), "1".into())).collect(),
        more: false,
    };
    let seen = |keys: &[&'static str]| {
        let mut history = Requests::new();
        let write = history.invoke(1, move_one.clone());
        one(&mut history, Op::scan("", "", 9), pairs(keys));
        history.answer(write, results([WRITTEN, WRITTEN]));
        is_fine(&history)
    };
    assert!(seen(&[]));
    assert!(seen(&["x", "y"]));
    assert!(!seen(&["x"]), "a reader sees all of it or nothing");
}

/// Each key alone is fine, both together are not: the scans see two writes in different orders.
#[test]
fn scans_of_two_keys_agree_on_their_order() {
    let pair = |key: &'static str| OpResult::Pairs {
        pairs: vec![(Bytes::from(key), "1".into())],
        more: false,
    };
    let mut history = Requests::new();
    let writes = ["x", "y"].map(|key| history.invoke(1, Op::put(key, "1").into()));
    one(&mut history, Op::scan("", "", 9), pair("x"));
    assert!(is_fine(&history));
    one(&mut history, Op::scan("", "", 9), pair("y"));
    writes.iter().for_each(|&call| history.answer(call, results([WRITTEN])));
    assert!(!is_fine(&history));
}

// ---- Parts and budget ----

#[test]
fn keys_that_no_request_joins_are_apart() {
    let mut history = Requests::new();
    for key in ["a", "b", "c", "d", "a"] {
        one(&mut history, Op::put(key, "1"), WRITTEN);
    }
    assert_eq!(parts(&history).len(), 4);
    history.invoke(1, Request::new(vec![Op::get("a"), Op::get("c")]));
    assert_eq!(parts(&history).len(), 3);
    history.invoke(1, Op::scan("b", "d", 9).into());
    let sizes: Vec<_> = parts(&history).iter().map(|(calls, _)| calls.clone()).collect();
    assert_eq!(sizes, [vec![0, 1, 2, 4, 5, 6], vec![3]]);
}

#[test]
fn a_budget_ends_the_search_and_says_so() {
    let mut rng = fastrand::Rng::with_seed(1);
    let history = random_history(&mut rng, 40);
    let Verdict::Undecided { steps } = check(&history, 3) else { panic!("three steps are few") };
    assert!(steps >= 3);
}

/// Long histories of a sound store are judged within a few steps an operation.
#[test]
fn sound_histories_are_cheap() {
    let mut rng = fastrand::Rng::with_seed(2);
    let mut history = Requests::new();
    let mut state = Store.begin();
    let mut waiting: Vec<(CallId, Request, Option<Response>)> = Vec::new();
    for _ in 0..5000 {
        if waiting.len() < 6 {
            let request = random_request(&mut rng);
            waiting.push((history.invoke(waiting.len(), request.clone()), request, None));
        }
        let at = rng.usize(..waiting.len());
        let (id, request, answer) = &mut waiting[at];
        match answer.take() {
            None => *answer = Some(Store.apply(&mut state, request)),
            Some(answer) => {
                // One of a hundred answers is lost.
                if rng.u8(..100) > 0 {
                    history.answer(*id, answer);
                }
                waiting.swap_remove(at);
            }
        }
    }
    assert!(history.tally().answered > 2000);
    let Verdict::Linearizable { steps, .. } = check(&history, 1_000_000) else {
        panic!("{:?}", check(&history, 1_000_000))
    };
    assert!(steps < 200_000, "{steps} steps");
}
