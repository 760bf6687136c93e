//! What a tracer is told, in full: a server that elects itself and commits one command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use raft::trace::{At, Event, Tracer};
use raft::{ConfState, Config, MemStorage, NodeId, RawNode};

/// Writes each event as a line.
struct Lines(Arc<Mutex<Vec<String>>>);

impl Tracer for Lines {
    fn event(&mut self, at: &At, event: Event<'_>) {
        let event = match event {
            Event::Became { leader } => format!("became {} leader={leader:?}", at.role),
            Event::Received(m) => format!("received {:?}", m.body),
            Event::Sent(m) => format!("sent {:?}", m.body),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(format!("{at}: {event}"));
    }
}

#[test]
fn a_single_server_elects_itself_and_commits() {
    let id = NodeId::new(1).unwrap();
    let storage = MemStorage::with_conf_state(ConfState::of_voters([id]));
    let config = Config { pre_vote: false, ..Config::new(id) };
    let mut node = RawNode::new(config, Box::new(storage.clone())).unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    node.set_tracer(Box::new(Lines(lines.clone())));
    node.campaign();
    while node.has_ready() {
        let ready = node.ready();
        if let Some(write) = ready.write {
            storage.append(write.entries());
            assert!(node.persisted(write.synced()).is_empty(), "there is nobody to tell");
        }
        if let Some(apply) = ready.apply {
            node.applied(apply.done()).unwrap();
        }
        if node.applied_index() == 1 && node.last().index == 1 {
            node.propose(Bytes::from_static(b"x")).unwrap();
        }
    }
    assert_eq!(
        *lines.lock().unwrap(),
        [
            "n1@1 candidate last=0@0 commit=0 applied=0: Term",
            "n1@1 candidate last=0@0 commit=0 applied=0: Voted { candidate: n1 }",
            "n1@1 candidate last=0@0 commit=0 applied=0: became candidate leader=None",
            "n1@1 leader last=1@1 commit=0 applied=0: became leader leader=Some(n1)",
            "n1@1 leader last=1@1 commit=0 applied=0: Appended { before: 0@0 }",
            "n1@1 leader last=1@1 commit=1 applied=0: Committed { before: 0 }",
            "n1@1 leader last=1@1 commit=1 applied=1: Applied { before: 0 }",
            "n1@1 leader last=2@1 commit=1 applied=1: Appended { before: 1@1 }",
            "n1@1 leader last=2@1 commit=2 applied=1: Committed { before: 1 }",
            "n1@1 leader last=2@1 commit=2 applied=2: Applied { before: 1 }",
        ]
    );
}
