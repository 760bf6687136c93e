//! The bytes below every encoding of this crate: varints, length-prefixed strings, regions.
//!
//! | type | bytes |
//! |---|---|
//! | number | LEB128, 1 to 10 bytes, the shortest form only |
//! | signed number | zig-zag, then as a number |
//! | string | its length as a number, then the bytes |
//! | optional string | 0 for none, or 1 and the string |
//! | region | id, start key, end key, version, conf_ver, count of peers, then per peer id, store, learner |
//!
//! Reading never panics and never allocates more than the input is long: lengths are checked
//! against what is left before anything is taken.

use raft::{LogId, NodeId};
use raftstore::{Epoch, Peer, Region, RegionId, StoreId};

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// The part that could not be read.
    pub what: &'static str,
}

/// Appends a number.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number.
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a string.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends an optional string.
pub(crate) fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_string(out, bytes);
    }
}

/// Appends a position in a log.
pub(crate) fn put_log_id(out: &mut Vec<u8>, at: LogId) {
    put_number(out, at.term);
    put_number(out, at.index);
}

/// Appends an epoch.
pub(crate) fn put_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    put_number(out, epoch.version);
    put_number(out, epoch.conf_ver);
}

/// Appends a region.
pub(crate) fn put_region(out: &mut Vec<u8>, region: &Region) {
    put_number(out, region.id.0);
    put_string(out, &region.start_key);
    put_string(out, &region.end_key);
    put_epoch(out, region.epoch);
    put_number(out, region.peers.len() as u64);
    for peer in &region.peers {
        put_number(out, peer.id.get());
        put_number(out, peer.store.0);
        out.push(u8::from(peer.learner));
    }
}

/// Takes values off the front of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been taken yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// That nothing is left.
    pub(crate) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed { what }) }
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed { what }),
        }
    }

    pub(crate) fn number(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit, and a last byte of 0 is not the shortest form.
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(Malformed { what });
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed { what })
    }

    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let number = self.number(what)?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A count of things that take at least `bytes_each` bytes: never more than could follow.
    pub(crate) fn count(
        &mut self,
        bytes_each: usize,
        what: &'static str,
    ) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number(what)?).map_err(|_| Malformed { what })?;
        if count > self.rest.len() / bytes_each.max(1) {
            return Err(Malformed { what });
        }
        Ok(count)
    }

    /// A string of at most `bytes_max` bytes.
    pub(crate) fn string(
        &mut self,
        bytes_max: usize,
        what: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let len = self.count(1, what)?;
        if len > bytes_max {
            return Err(Malformed { what });
        }
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn optional(
        &mut self,
        bytes_max: usize,
        what: &'static str,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        if self.flag(what)? { self.string(bytes_max, what).map(Some) } else { Ok(None) }
    }

    pub(crate) fn log_id(&mut self, what: &'static str) -> Result<LogId, Malformed> {
        let term = self.number(what)?;
        Ok(LogId::new(term, self.number(what)?))
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, Malformed> {
        let version = self.number("epoch")?;
        Ok(Epoch { version, conf_ver: self.number("epoch")? })
    }

    pub(crate) fn region(&mut self) -> Result<Region, Malformed> {
        const WHAT: &str = "region";
        let id = RegionId(self.number(WHAT)?);
        let start_key = self.string(usize::MAX, WHAT)?.to_vec();
        let end_key = self.string(usize::MAX, WHAT)?.to_vec();
        let epoch = self.epoch()?;
        let count = self.count(3, WHAT)?;
        let mut peers = Vec::with_capacity(count);
        for _ in 0..count {
            let id = NodeId::new(self.number(WHAT)?).ok_or(Malformed { what: WHAT })?;
            let store = StoreId(self.number(WHAT)?);
            peers.push(Peer { id, store, learner: self.flag(WHAT)? });
        }
        Ok(Region { id, start_key, end_key, epoch, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(number: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            put_signed(&mut bytes, signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number("n"), Ok(number));
            prop_assert_eq!(reader.signed("n"), Ok(signed));
            prop_assert_eq!(reader.end("n"), Ok(()));
        }
    }

    #[test]
    fn only_the_shortest_number_is_read() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0x80], &[], &[0xff; 10]] {
            assert!(Reader::new(bytes).number("n").is_err(), "{bytes:?}");
        }
        let mut most = vec![0xff; 9];
        most.push(0x01);
        assert_eq!(Reader::new(&most).number("n"), Ok(u64::MAX));
    }

    #[test]
    fn a_length_beyond_the_input_takes_nothing() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, u64::MAX);
        assert!(Reader::new(&bytes).string(usize::MAX, "s").is_err());
        assert!(Reader::new(&bytes).count(1, "c").is_err());
    }

    #[test]
    fn a_region_round_trips() {
        let mut region = Region::first(&[StoreId(1), StoreId(2), StoreId(300)]);
        region.end_key = b"m".to_vec();
        region.peers[1].learner = true;
        let mut bytes = Vec::new();
        put_region(&mut bytes, &region);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.region(), Ok(region));
        for cut in 0..bytes.len() {
            assert!(Reader::new(&bytes[..cut]).region().is_err());
        }
    }
}
