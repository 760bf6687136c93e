use crossbeam_channel::Receiver;

use super::*;
use crate::command::{Op, OpResult, Response};

const ME: StoreId = StoreId(1);
const TWO: StoreId = StoreId(2);
const THREE: StoreId = StoreId(3);
const EPOCH: Epoch = Epoch { version: 3, conf_ver: 4 };
const TIMEOUT: Duration = Duration::from_secs(3);

/// A store that does nothing by itself.
#[derive(Default)]
struct Fake {
    leader: Mutex<Option<StoreId>>,
    unreachable: Mutex<bool>,
    proposed: Mutex<Vec<(Bytes, Callback)>>,
    read: Mutex<Vec<(Request, Callback)>>,
    requests: Mutex<Vec<(StoreId, u64, Bytes)>>,
    replies: Mutex<Vec<(StoreId, u64, Bytes)>>,
}

impl Local for Fake {
    fn store(&self) -> StoreId {
        ME
    }

    fn view(&self) -> View {
        View { leader: *self.leader.lock(), epoch: EPOCH }
    }

    fn propose(&self, epoch: Epoch, request: Bytes, callback: Callback) {
        assert_eq!(epoch, EPOCH);
        self.proposed.lock().push((request, callback));
    }

    fn read(&self, epoch: Epoch, request: Request, callback: Callback) {
        assert_eq!(epoch, EPOCH);
        self.read.lock().push((request, callback));
    }

    fn send_request(&self, to: StoreId, id: u64, body: Bytes) -> bool {
        if *self.unreachable.lock() {
            return false;
        }
        self.requests.lock().push((to, id, body));
        true
    }

    fn send_reply(&self, to: StoreId, id: u64, body: Bytes) -> bool {
        self.replies.lock().push((to, id, body));
        true
    }
}

struct Scene {
    forwarder: Arc<Forwarder<Fake>>,
    start: Instant,
}

impl Scene {
    fn new(leader: Option<StoreId>) -> Scene {
        Scene::reading(leader, Reads::Index)
    }

    fn reading(leader: Option<StoreId>, reads: Reads) -> Scene {
        let forwarder = Forwarder::new(Fake::default(), TIMEOUT, reads);
        *forwarder.local().leader.lock() = leader;
        Scene { forwarder, start: Instant::now() }
    }

    fn leader_is(&self, leader: Option<StoreId>) {
        *self.forwarder.local().leader.lock() = leader;
    }

    fn submit(&self, op: Op) -> Receiver<Answer> {
        let (callback, receiver) = Callback::pair();
        self.forwarder.submit(&mut vec![(op.into(), callback)], self.start);
        receiver
    }

    fn write(&self) -> Receiver<Answer> {
        self.submit(Op::put("k", "v"))
    }

    /// Some time has passed since the start.
    fn at(&self, time: Duration) {
        self.forwarder.tick(self.start + time);
    }

    /// The only proposal.
    fn proposal(&self) -> (Bytes, Callback) {
        let mut proposed = self.forwarder.local().proposed.lock();
        assert_eq!(proposed.len(), 1);
        proposed.remove(0)
    }

    /// The only request packet.
    fn request(&self) -> (StoreId, u64, Bytes) {
        let mut requests = self.forwarder.local().requests.lock();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    fn reply(&self, from: StoreId, id: u64, answer: &Answer) {
        self.forwarder.on_reply(from, id, &answer::encode(answer));
    }

    fn is_quiet(&self) -> bool {
        let local = self.forwarder.local();
        local.proposed.lock().is_empty() && local.requests.lock().is_empty()
    }
}

fn done() -> Answer {
    Ok(Response { results: vec![OpResult::Integer(1)] })
}

fn not_leader(leader: Option<StoreId>) -> Answer {
    Err(Refusal::NotLeader { leader }.into())
}

#[test]
fn reads_go_through_the_log_if_they_are_to() {
    let scene = Scene::reading(Some(ME), Reads::Log);
    let read = scene.submit(Op::get("k"));
    assert!(scene.forwarder.local().read.lock().is_empty());
    let (body, callback) = scene.proposal();
    assert_eq!(Request::decode(&body), Ok(Op::get("k").into()));
    callback.answer(done());
    assert_eq!(read.try_recv(), Ok(done()));
}

#[test]
fn reads_stay_here_and_writes_go_to_the_log_of_the_leader() {
    let scene = Scene::new(Some(ME));
    let read = scene.submit(Op::get("k"));
    let (request, callback) = scene.forwarder.local().read.lock().remove(0);
    assert_eq!(request, Op::get("k").into());
    callback.answer(done());
    assert_eq!(read.try_recv(), Ok(done()));

    let write = scene.write();
    let (body, callback) = scene.proposal();
    assert_eq!(Request::decode(&body), Ok(Op::put("k", "v").into()));
    callback.answer(done());
    assert_eq!(write.try_recv(), Ok(done()));
}

#[test]
fn a_follower_sends_a_write_to_the_leader_and_hands_the_reply_on() {
    let scene = Scene::new(Some(TWO));
    let write = scene.write();
    let (to, id, body) = scene.request();
    assert_eq!((to, Request::decode(&body)), (TWO, Ok(Op::put("k", "v").into())));
    scene.reply(THREE, id, &done());
    scene.reply(TWO, id.wrapping_add(1), &done());
    assert!(write.try_recv().is_err(), "those were other answers");
    scene.reply(TWO, id, &done());
    assert_eq!(write.try_recv(), Ok(done()));
    scene.reply(TWO, id, &done());
}

#[test]
fn the_leader_proposes_for_others_and_replies() {
    let scene = Scene::new(Some(ME));
    let body = Request::from(Op::put("k", "v")).encode().expect("within the limits");
    scene.forwarder.on_request(THREE, 7, body.clone());
    let (proposed, callback) = scene.proposal();
    assert_eq!(proposed, body);
    callback.answer(done());
    let (to, id, reply) = scene.forwarder.local().replies.lock().remove(0);
    assert_eq!((to, id, answer::decode(&reply)), (THREE, 7, Ok(done())));
}

#[test]
fn what_no_state_machine_could_read_is_never_proposed() {
    let scene = Scene::new(Some(ME));
    scene.forwarder.on_request(THREE, 7, Bytes::from_static(b"nonsense"));
    assert!(scene.is_quiet());
    let (_, _, reply) = scene.forwarder.local().replies.lock().remove(0);
    assert!(matches!(answer::decode(&reply), Ok(Err(Error::Refused(_)))));
}

#[test]
fn a_write_follows_the_leadership() {
    let scene = Scene::new(Some(ME));
    let write = scene.write();
    scene.proposal().1.answer(not_leader(Some(TWO)));
    let (to, id, _) = scene.request();
    assert_eq!(to, TWO);
    scene.reply(TWO, id, &not_leader(Some(THREE)));
    let (to, id, _) = scene.request();
    assert_eq!(to, THREE);
    scene.reply(THREE, id, &done());
    assert_eq!(write.try_recv(), Ok(done()));
}

#[test]
fn every_answer_that_means_nothing_was_done_is_tried_again() {
    for error in [not_leader(None), Err(Error::StaleCommand), Err(Refusal::ShuttingDown.into())] {
        let scene = Scene::new(Some(TWO));
        let write = scene.write();
        let (_, id, _) = scene.request();
        scene.reply(TWO, id, &error);
        assert!(write.try_recv().is_err() && scene.is_quiet(), "{error:?}");
        scene.leader_is(Some(ME));
        scene.at(TICK);
        scene.proposal().1.answer(done());
        assert_eq!(write.try_recv(), Ok(done()));
    }
}

#[test]
fn stores_that_name_each_other_are_not_asked_in_a_rush() {
    let scene = Scene::new(Some(TWO));
    let write = scene.write();
    let mut asked = 0;
    while !scene.is_quiet() {
        let (to, id, _) = scene.request();
        scene.reply(to, id, &not_leader(Some(if to == TWO { THREE } else { TWO })));
        asked += 1;
    }
    assert_eq!(asked, HOPS_MAX);
    scene.at(TICK);
    let (_, id, _) = scene.request();
    scene.reply(TWO, id, &done());
    assert_eq!(write.try_recv(), Ok(done()));
}

#[test]
fn without_a_leader_a_write_is_refused_when_its_time_is_up() {
    let scene = Scene::new(None);
    let write = scene.write();
    scene.at(TIMEOUT - TICK);
    assert!(write.try_recv().is_err());
    scene.at(TIMEOUT);
    assert_eq!(write.try_recv(), Ok(Err(Refusal::Timeout.into())));
    assert!(scene.is_quiet());
}

#[test]
fn a_request_that_never_left_is_tried_again() {
    let scene = Scene::new(Some(TWO));
    *scene.forwarder.local().unreachable.lock() = true;
    let write = scene.write();
    scene.at(TICK);
    *scene.forwarder.local().unreachable.lock() = false;
    scene.at(TICK * 2);
    let (_, id, _) = scene.request();
    scene.reply(TWO, id, &done());
    assert_eq!(write.try_recv(), Ok(done()));
}

#[test]
fn what_may_have_happened_is_unknown_and_never_tried_again() {
    let scene = Scene::new(Some(TWO));
    let write = scene.write();
    let (_, id, _) = scene.request();
    scene.forwarder.on_lost(THREE);
    assert!(write.try_recv().is_err(), "another store's connection");
    scene.forwarder.on_lost(TWO);
    assert_eq!(write.try_recv(), Ok(Err(Unknown::LeaderLost.into())));
    scene.reply(TWO, id, &done());

    let write = scene.write();
    let (_, id, _) = scene.request();
    scene.at(TIMEOUT);
    assert_eq!(write.try_recv(), Ok(Err(Unknown::Deadline.into())));
    scene.reply(TWO, id, &not_leader(Some(ME)));

    let write = scene.write();
    let (_, id, _) = scene.request();
    scene.forwarder.on_reply(TWO, id, &Bytes::from_static(b"nonsense"));
    assert_eq!(write.try_recv(), Ok(Err(Unknown::LeaderLost.into())));

    let write = scene.write();
    let (_, id, _) = scene.request();
    scene.reply(TWO, id, &Err(Unknown::Overtaken.into()));
    assert_eq!(write.try_recv(), Ok(Err(Unknown::Overtaken.into())));
    scene.at(TIMEOUT * 2);
    assert!(scene.is_quiet());
}

#[test]
fn answers_that_would_be_the_same_elsewhere_are_handed_on() {
    let scene = Scene::new(Some(TWO));
    for refusal in [Refusal::Busy, Refusal::TooLarge { bytes: 2, max: 1 }] {
        let write = scene.write();
        let (_, id, _) = scene.request();
        scene.reply(TWO, id, &Err(refusal.clone().into()));
        assert_eq!(write.try_recv(), Ok(Err(refusal.into())));
    }
    let large = scene.submit(Op::put("k", vec![0; VALUE_BYTES_MAX + 1]));
    let (bytes, max) = (VALUE_BYTES_MAX + 1, VALUE_BYTES_MAX);
    assert_eq!(large.try_recv(), Ok(Err(Refusal::TooLarge { bytes, max }.into())));
    assert!(scene.is_quiet());
}

#[test]
fn stopping_answers_everybody_and_takes_nothing_on() {
    let scene = Scene::new(Some(TWO));
    let sent = scene.write();
    scene.leader_is(None);
    let parked = scene.write();
    let forwarder = Arc::clone(&scene.forwarder);
    let watch = std::thread::spawn(move || forwarder.watch());
    scene.forwarder.stop();
    watch.join().expect("no panic");
    assert_eq!(sent.try_recv(), Ok(Err(Unknown::ShuttingDown.into())));
    assert_eq!(parked.try_recv(), Ok(Err(Refusal::ShuttingDown.into())));
    assert_eq!(scene.write().try_recv(), Ok(Err(Refusal::ShuttingDown.into())));
}
