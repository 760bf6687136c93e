//! What happened in a run: a hash over every event, and the last few to read.
//!
//! Two runs of a seed are the same run if and only if their hashes agree, so the hash takes in
//! everything that could differ: each event with its virtual time, each message byte for byte.
//! The last events are kept unformatted, and become text only when somebody wants to see them.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use raftstore::StoreId;
use raftstore::codec::Decoder;
use raftstore::codec::message::decode_message;
use raftstore::store::RoleChange;

use crate::digest::Digest;
use crate::sim::Time;

/// Something that happened on a store, or to it.
///
/// ```
/// use harness::sim::ms;
/// use harness::sim::trace::{Happening, Trace};
/// use raftstore::StoreId;
///
/// let mut trace = Trace::new(10);
/// trace.note(ms(5), Some(StoreId(1)), Happening::Stopped { how: "power lost" });
/// trace.note(ms(6), None, Happening::Chaos("a cut".to_owned()));
/// let lines: Vec<_> = trace.recent().map(ToString::to_string).collect();
/// assert_eq!(lines, ["      5000 s1 Stopped { how: \"power lost\" }", "      6000 -- a cut"]);
/// ```
#[derive(Clone, Debug)]
pub enum Happening {
    /// A tick of its clock.
    Tick,
    /// It handed out a round: messages, groups to write, tasks for the applier.
    Round {
        /// Messages that left.
        messages: usize,
        /// Whether there was something to write.
        writes: bool,
        /// Tasks for the applier.
        tasks: usize,
    },
    /// It sent a message.
    Sent {
        /// To whom.
        to: StoreId,
        /// The message.
        bytes: Bytes,
        /// How many copies will arrive; 0 if it is lost.
        copies: usize,
    },
    /// A message came in.
    Received {
        /// From whom.
        from: StoreId,
        /// The message.
        bytes: Bytes,
    },
    /// Something about a snapshot that it sends or receives.
    Snapshot {
        /// The number of its stream.
        stream: u64,
        /// What.
        what: &'static str,
        /// Bytes that came or went.
        bytes: usize,
    },
    /// Bytes went into its log.
    Appended {
        /// Batches.
        batches: usize,
        /// The number of the log's last record.
        lsn: u64,
    },
    /// Its log was synced.
    Synced {
        /// Batches that this made durable.
        batches: usize,
    },
    /// It applied entries of region 1 up to here.
    Applied {
        /// The last one.
        index: u64,
        /// The hash of the state, if it was taken.
        state: Option<u64>,
    },
    /// Its role or leader changed.
    Role(RoleChange),
    /// It ended.
    Stopped {
        /// How.
        how: &'static str,
    },
    /// It started.
    Started {
        /// Its life's number.
        incarnation: u64,
        /// The last index recovered.
        last: u64,
        /// Bytes of the log that were torn off.
        torn: u64,
    },
    /// A client asked it for something.
    Asked {
        /// Whether through the log.
        write: bool,
        /// The hash of the request.
        request: u64,
    },
    /// Something the run did to the cluster.
    Chaos(String),
}

impl Hash for Happening {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Happening::Tick => {}
            Happening::Round { messages, writes, tasks } => {
                (*messages, *writes, *tasks).hash(state);
            }
            Happening::Sent { to, bytes, copies } => (to.0, &bytes[..], *copies).hash(state),
            Happening::Received { from, bytes } => (from.0, &bytes[..]).hash(state),
            Happening::Snapshot { stream, what, bytes } => (*stream, what, *bytes).hash(state),
            Happening::Appended { batches, lsn } => (*batches, *lsn).hash(state),
            Happening::Synced { batches } => batches.hash(state),
            Happening::Applied { index, state: digest } => (*index, *digest).hash(state),
            Happening::Role(change) => {
                (change.region.0, change.peer.get(), change.term).hash(state);
                (change.role, change.leader.map(raft::NodeId::get), change.commit).hash(state);
            }
            Happening::Stopped { how } => how.hash(state),
            Happening::Started { incarnation, last, torn } => {
                (*incarnation, *last, *torn).hash(state);
            }
            Happening::Asked { write, request } => (*write, *request).hash(state),
            Happening::Chaos(what) => what.hash(state),
        }
    }
}

/// A [`Happening`] with time and place.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Time,
    /// Where; `None` for the cluster as a whole.
    pub store: Option<StoreId>,
    /// What.
    pub what: Happening,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10} ", self.at)?;
        match self.store {
            Some(store) => write!(f, "{store:?} ")?,
            None => f.write_str("-- ")?,
        }
        match &self.what {
            Happening::Sent { to, bytes, copies } => {
                write!(f, "-> {to:?} x{copies} ")?;
                show(bytes, f)
            }
            Happening::Received { from, bytes } => {
                write!(f, "<- {from:?} ")?;
                show(bytes, f)
            }
            Happening::Role(change) => write!(f, "{change}"),
            Happening::Chaos(what) => f.write_str(what),
            other => write!(f, "{other:?}"),
        }
    }
}

fn show(bytes: &Bytes, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match decode_message(&mut Decoder::new(bytes.clone())) {
        Ok(message) => {
            let raft::Message { from, to, term, body } = &message.message;
            write!(f, "{:?} {from:?}->{to:?}@{term} {body:?}", message.region)
        }
        Err(why) => write!(f, "undecodable: {why}"),
    }
}

/// The trace of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    digest: Digest,
    count: u64,
    recent: VecDeque<Event>,
    recent_max: usize,
}

impl Trace {
    /// A trace that keeps the last `recent_max` events.
    #[must_use]
    pub fn new(recent_max: usize) -> Trace {
        Trace { recent_max, ..Trace::default() }
    }

    /// Adds an event.
    pub fn note(&mut self, at: Time, store: Option<StoreId>, what: Happening) {
        (at, store.map(|s| s.0)).hash(&mut self.digest);
        what.hash(&mut self.digest);
        self.count += 1;
        if matches!(what, Happening::Tick) || self.recent_max == 0 {
            return;
        }
        if self.recent.len() == self.recent_max {
            self.recent.pop_front();
        }
        self.recent.push_back(Event { at, store, what });
    }

    /// The hash over everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.digest.finish()
    }

    /// How many events there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last events, oldest first; ticks are left out.
    pub fn recent(&self) -> impl Iterator<Item = &Event> {
        self.recent.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_place_and_content_all_count() {
        let hash = |at, store, what: Happening| {
            let mut trace = Trace::default();
            trace.note(at, store, what);
            trace.hash()
        };
        let received = |bytes: &'static [u8]| Happening::Received {
            from: StoreId(1),
            bytes: Bytes::from_static(bytes),
        };
        let some = hash(1, Some(StoreId(2)), received(b"x"));
        assert_eq!(some, hash(1, Some(StoreId(2)), received(b"x")));
        assert_ne!(some, hash(2, Some(StoreId(2)), received(b"x")));
        assert_ne!(some, hash(1, Some(StoreId(3)), received(b"x")));
        assert_ne!(some, hash(1, Some(StoreId(2)), received(b"y")));
        assert_ne!(some, hash(1, Some(StoreId(2)), Happening::Tick));
    }

    #[test]
    fn the_last_events_are_kept() {
        let mut trace = Trace::new(400);
        for at in 0..1000 {
            trace.note(at, None, Happening::Synced { batches: 1 });
            trace.note(at, None, Happening::Tick);
        }
        assert_eq!(trace.count(), 2000);
        let kept: Vec<_> = trace.recent().map(|event| event.at).collect();
        assert_eq!((kept.len(), kept[0]), (400, 600));
        let last = trace.recent().last().expect("not empty");
        assert_eq!(last.to_string(), "       999 -- Synced { batches: 1 }");
    }
}
