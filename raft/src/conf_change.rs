//! What a membership change says, and how it is written into an entry (§6, T§4).
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | transition: 0 auto, 1 joint implicit, 2 joint explicit |
//! | 2 | number of changes, little endian |
//! | 9 each | kind (0 add voter, 1 remove, 2 update, 3 add learner), node id little endian |
//! | rest | context: the application's, not looked at |
//!
//! An empty payload is an empty change: it leaves a joint configuration.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::ConfChangeError;
use crate::types::NodeId;

/// What happens to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfChangeKind {
    /// Becomes a voter.
    AddNode,
    /// Leaves.
    RemoveNode,
    /// Nothing that the core knows of; for applications that note an address.
    UpdateNode,
    /// Becomes a learner, by demotion if it is a voter.
    AddLearnerNode,
}

/// One member's part of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConfChangeSingle {
    /// What happens.
    pub kind: ConfChangeKind,
    /// To whom.
    pub node: NodeId,
}

/// Which way a change takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transition {
    /// At once if it can be, else through a joint configuration that is left automatically.
    #[default]
    Auto,
    /// Through a joint configuration that is left automatically.
    JointImplicit,
    /// Through a joint configuration that somebody has to leave by an empty change.
    JointExplicit,
}

/// A membership change, as it is proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// Which way it takes.
    pub transition: Transition,
    /// What happens to whom, in order; nothing to leave a joint configuration.
    pub changes: Vec<ConfChangeSingle>,
    /// The application's bytes, carried along.
    pub context: Bytes,
}

/// Bytes before the changes.
const HEADER: usize = 3;
/// Bytes of each change.
const CHANGE: usize = 9;

impl ConfChange {
    /// One member's change, with the transition chosen automatically.
    #[must_use]
    pub fn single(kind: ConfChangeKind, node: NodeId) -> ConfChange {
        ConfChange { changes: vec![ConfChangeSingle { kind, node }], ..ConfChange::default() }
    }

    /// The change that leaves a joint configuration.
    #[must_use]
    pub fn leave_joint() -> ConfChange {
        ConfChange::default()
    }

    /// Whether it leaves a joint configuration.
    #[must_use]
    pub fn is_leave_joint(&self) -> bool {
        self.transition == Transition::Auto && self.changes.is_empty()
    }

    /// Whether it enters a joint configuration, and if so whether that is left automatically.
    #[must_use]
    pub fn enters_joint(&self) -> Option<bool> {
        match self.transition {
            Transition::Auto if self.changes.len() <= 1 => None,
            Transition::Auto | Transition::JointImplicit => Some(true),
            Transition::JointExplicit => Some(false),
        }
    }

    /// The payload of its entry.
    ///
    /// # Panics
    /// With more than 65,535 changes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        if self.is_leave_joint() && self.context.is_empty() {
            return Bytes::new();
        }
        let len = HEADER + CHANGE * self.changes.len() + self.context.len();
        let mut out = BytesMut::with_capacity(len);
        out.put_u8(match self.transition {
            Transition::Auto => 0,
            Transition::JointImplicit => 1,
            Transition::JointExplicit => 2,
        });
        out.put_u16_le(u16::try_from(self.changes.len()).expect("a change of a group is small"));
        for change in &self.changes {
            out.put_u8(match change.kind {
                ConfChangeKind::AddNode => 0,
                ConfChangeKind::RemoveNode => 1,
                ConfChangeKind::UpdateNode => 2,
                ConfChangeKind::AddLearnerNode => 3,
            });
            out.put_u64_le(change.node.get());
        }
        out.put_slice(&self.context);
        out.freeze()
    }

    /// Reads the payload of an entry.
    ///
    /// # Errors
    /// [`ConfChangeError::Malformed`] if it is none.
    pub fn decode(data: &Bytes) -> Result<ConfChange, ConfChangeError> {
        if data.is_empty() {
            return Ok(ConfChange::default());
        }
        let malformed = ConfChangeError::Malformed;
        let &[transition, low, high] = data.get(..HEADER).ok_or(malformed)? else {
            return Err(malformed);
        };
        let transition = match transition {
            0 => Transition::Auto,
            1 => Transition::JointImplicit,
            2 => Transition::JointExplicit,
            _ => return Err(malformed),
        };
        let end = HEADER + CHANGE * usize::from(u16::from_le_bytes([low, high]));
        let body = data.get(HEADER..end).ok_or(malformed)?;
        let changes = body.chunks_exact(CHANGE).map(|raw| {
            let kind = match raw[0] {
                0 => ConfChangeKind::AddNode,
                1 => ConfChangeKind::RemoveNode,
                2 => ConfChangeKind::UpdateNode,
                3 => ConfChangeKind::AddLearnerNode,
                _ => return Err(malformed),
            };
            let id = raw[1..].try_into().map_err(|_| malformed)?;
            let node = NodeId::new(u64::from_le_bytes(id)).ok_or(malformed)?;
            Ok(ConfChangeSingle { kind, node })
        });
        let changes = changes.collect::<Result<_, _>>()?;
        Ok(ConfChange { transition, changes, context: data.slice(end..) })
    }
}

#[cfg(test)]
mod tests;
