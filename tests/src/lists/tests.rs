//! The checker against histories by hand, and against a search through all orders.

use super::*;

fn key() -> Bytes {
    Bytes::from_static(b"k")
}

/// Appends a token, acknowledged at its true place.
fn append(history: &mut Lists, list: &mut Vec<u8>) {
    let (op, token) = history.append(&key());
    list.extend_from_slice(&token);
    history.appended(op, Appended::Length(list.len() as u64));
}

fn verdict(history: &Lists, list: &[u8]) -> Result<(), Violation> {
    history.check(&BTreeMap::from([(key(), Bytes::copy_from_slice(list))]))
}

#[test]
fn what_one_client_does_in_turn_is_fine() {
    let (mut history, mut list) = (Lists::new(), Vec::new());
    append(&mut history, &mut list);
    let read = history.read(&key());
    history.was_read(read, Some(Bytes::copy_from_slice(&list)));
    append(&mut history, &mut list);
    assert_eq!(verdict(&history, &list), Ok(()));
    assert_eq!(history.tally(), Tally { appends: 2, reads: 1, ..Tally::default() });
}

#[test]
fn a_lost_append_is_found() {
    let (mut history, mut list) = (Lists::new(), Vec::new());
    append(&mut history, &mut list);
    let kept = list.len();
    append(&mut history, &mut list);
    let lost = verdict(&history, &list[..kept]);
    assert_eq!(lost, Err(Violation::Lost { key: key(), op: OpId(1) }));
}

#[test]
fn an_append_applied_twice_is_found() {
    let (mut history, mut list) = (Lists::new(), Vec::new());
    append(&mut history, &mut list);
    list.extend(list.clone());
    assert_eq!(verdict(&history, &list), Err(Violation::Twice { key: key(), op: OpId(0) }));
}

#[test]
fn what_nobody_appended_is_found() {
    let (mut history, mut list) = (Lists::new(), Vec::new());
    append(&mut history, &mut list);
    for wrong in [&b"00000ff;"[..], b"garbage", b"0000000", b"00000000"] {
        let list = [&list[..], wrong].concat();
        let violation = verdict(&history, &list).expect_err("nobody appended that");
        assert!(matches!(violation, Violation::Phantom { .. }), "{violation}");
    }
    // What was appended to another key is a phantom here.
    let (_, token) = history.append(&Bytes::from_static(b"other"));
    list.extend_from_slice(&token);
    assert!(matches!(verdict(&history, &list), Err(Violation::Phantom { .. })));
}

#[test]
fn refused_means_never_and_unknown_means_maybe() {
    let mut history = Lists::new();
    let (refused, token) = history.append(&key());
    history.appended(refused, Appended::Refused);
    assert_eq!(verdict(&history, b""), Ok(()));
    let done = verdict(&history, &token);
    assert_eq!(done, Err(Violation::RefusedButDone { key: key(), op: refused }));

    let mut history = Lists::new();
    let (unknown, token) = history.append(&key());
    history.appended(unknown, Appended::Unknown);
    assert_eq!(verdict(&history, b""), Ok(()));
    assert_eq!(verdict(&history, &token), Ok(()));
}

#[test]
fn a_stale_read_is_found() {
    let (mut history, mut list) = (Lists::new(), Vec::new());
    append(&mut history, &mut list);
    let read = history.read(&key());
    append(&mut history, &mut list);
    // Concurrent with the second append: may miss it, may see it, must see the first.
    for (seen, fine) in [(0, false), (TOKEN_BYTES, true), (2 * TOKEN_BYTES, true)] {
        let mut history = history.clone();
        history.was_read(read, Some(Bytes::copy_from_slice(&list[..seen])));
        assert_eq!(verdict(&history, &list).is_ok(), fine, "{seen} bytes seen");
    }
}

#[test]
fn reads_never_go_back() {
    let (mut history, mut list) = (Lists::new(), Vec::new());
    let (op, token) = history.append(&key());
    list.extend_from_slice(&token);
    let read = history.read(&key());
    history.was_read(read, Some(token));
    let read = history.read(&key());
    history.was_read(read, None);
    let back = verdict(&history, &list);
    assert_eq!(back, Err(Violation::Stale { key: key(), op: read, position: 0, floor: 1 }));
    assert_eq!(op, OpId(0));
}

#[test]
fn an_append_never_lands_before_what_was_seen() {
    let mut history = Lists::new();
    let (first, a) = history.append(&key());
    history.appended(first, Appended::Length(8));
    let (second, b) = history.append(&key());
    history.appended(second, Appended::Unknown);
    let swapped = [b.clone(), a.clone()].concat();
    assert!(matches!(verdict(&history, &swapped), Err(Violation::WrongLength { .. })));
    let mut history = Lists::new();
    let (_, a) = history.append(&key());
    let read = history.read(&key());
    history.was_read(read, Some(a.clone()));
    let (_, b) = history.append(&key());
    let swapped = [b, a].concat();
    assert!(matches!(verdict(&history, &swapped), Err(Violation::NeverSo { .. })));
}

#[test]
fn a_forked_list_is_found() {
    let mut history = Lists::new();
    let (_, a) = history.append(&key());
    let (_, b) = history.append(&key());
    for seen in [&a, &b] {
        let read = history.read(&key());
        history.was_read(read, Some(seen.clone()));
    }
    for list in [[a.clone(), b.clone()].concat(), [b, a].concat()] {
        assert!(matches!(verdict(&history, &list), Err(Violation::NeverSo { .. })));
    }
}

/// A small random history: operations with random intervals and random answers.
struct Small {
    history: Lists,
    list: Vec<u8>,
    ops: Vec<SmallOp>,
}

/// When invoked, when returned, the token of an append, the length it was told or has read.
type SmallOp = (usize, Option<usize>, Option<u32>, Option<usize>);

fn small(rng: &mut fastrand::Rng) -> Small {
    let count = rng.usize(1..6);
    let mut history = Lists::new();
    let mut ops = Vec::new();
    let mut open = Vec::new();
    let mut tokens: Vec<Bytes> = Vec::new();
    let mut clock = 0;
    while ops.len() < count || !open.is_empty() {
        clock += 1;
        if ops.len() < count && (open.is_empty() || rng.bool()) {
            let is_append = rng.bool();
            let (id, token) = if is_append {
                let (id, token) = history.append(&key());
                tokens.push(token);
                (id, Some(id.0 as u32))
            } else {
                (history.read(&key()), None)
            };
            open.push(id);
            ops.push((clock, None, token, None));
            continue;
        }
        let id = open.swap_remove(rng.usize(..open.len()));
        let length = rng.usize(..=tokens.len());
        let op = &mut ops[id.0];
        match op.2 {
            Some(_) if rng.u8(..4) == 0 => history.appended(id, Appended::Unknown),
            Some(_) => {
                history.appended(id, Appended::Length((length * TOKEN_BYTES) as u64));
                (op.1, op.3) = (Some(clock), Some(length));
            }
            None => {
                // Tokens in the order they were made: a read that agrees with some final list.
                let seen: Vec<u8> = tokens.iter().take(length).flat_map(|t| t.to_vec()).collect();
                history.was_read(id, Some(seen.into()));
                (op.1, op.3) = (Some(clock), Some(length));
            }
        }
    }
    let in_list = rng.usize(..=tokens.len());
    let list = tokens.iter().take(in_list).flat_map(|t| t.to_vec()).collect();
    Small { history, list, ops }
}

impl Small {
    /// Tries all orders that respect real time, carrying them out.
    fn brute_force(&self) -> bool {
        self.search(&mut vec![false; self.ops.len()], &mut Vec::new())
    }

    fn search(&self, done: &mut Vec<bool>, list: &mut Vec<u8>) -> bool {
        let left = |done: &[bool]| (0..self.ops.len()).filter(|&i| !done[i]).collect::<Vec<_>>();
        let rest = left(done);
        if list == &self.list && rest.iter().all(|&i| self.ops[i].1.is_none()) {
            return true;
        }
        let first_return = rest.iter().filter_map(|&i| self.ops[i].1).min().unwrap_or(usize::MAX);
        for &next in rest.iter().filter(|&&i| self.ops[i].0 < first_return) {
            let (_, returned, token, told) = self.ops[next];
            let before = list.len();
            if let Some(token) = token {
                list.extend(format!("{token:07x};").bytes());
            }
            let true_so = returned.is_none() || told == Some(list.len() / TOKEN_BYTES);
            if true_so && self.list.starts_with(list) {
                done[next] = true;
                if self.search(done, list) {
                    return true;
                }
                done[next] = false;
            }
            list.truncate(before);
        }
        false
    }
}

#[test]
fn agrees_with_a_search_through_all_orders() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut accepted = 0;
    const ROUNDS: usize = 40_000;
    for round in 0..ROUNDS {
        let small = small(&mut rng);
        let verdict = verdict(&small.history, &small.list);
        assert_eq!(
            verdict.is_ok(),
            small.brute_force(),
            "round {round}: {verdict:?} {:?}",
            small.ops
        );
        accepted += usize::from(verdict.is_ok());
    }
    assert!(accepted > ROUNDS / 50 && accepted < ROUNDS / 2, "{accepted} of {ROUNDS} accepted");
}
