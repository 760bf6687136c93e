//! The stores of a cluster and where they are: `1=host:port,2=host:port`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use raftstore::StoreId;
use raftstore::disk::ClusterId;

/// All stores of a cluster, with the addresses they talk to each other at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers(BTreeMap<StoreId, String>);

/// What is wrong with a list of peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeersError {
    /// Not of the form.
    #[error("'{0}' is not of the form ID=HOST:PORT")]
    Form(String),
    /// Not a number from 1 on.
    #[error("'{0}' is not the id of a store, a number from 1 on")]
    Id(String),
    /// The same id twice.
    #[error("store {0} is there twice")]
    TwiceStore(StoreId),
    /// The same address twice.
    #[error("the address {0} is there twice")]
    TwiceAddress(String),
}

impl FromStr for Peers {
    type Err = PeersError;

    fn from_str(list: &str) -> Result<Peers, PeersError> {
        let mut peers = BTreeMap::new();
        for item in list.split(',') {
            let (id, address) =
                item.trim().split_once('=').ok_or_else(|| PeersError::Form(item.into()))?;
            let id = match id.trim().parse() {
                Ok(id) if id > 0 => StoreId(id),
                _ => return Err(PeersError::Id(id.into())),
            };
            let address = address.trim();
            if !is_address(address) {
                return Err(PeersError::Form(item.into()));
            }
            if peers.values().any(|known| known == address) {
                return Err(PeersError::TwiceAddress(address.into()));
            }
            if peers.insert(id, address.to_owned()).is_some() {
                return Err(PeersError::TwiceStore(id));
            }
        }
        Ok(Peers(peers))
    }
}

/// Whether it is a host, a colon and a port other than 0. Whether there is such a host may change.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    !host.is_empty() && is_bare && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A host and a port, as an argument of the command line.
pub(crate) fn address(text: &str) -> Result<String, String> {
    match is_address(text) {
        true => Ok(text.to_owned()),
        false => Err("not of the form HOST:PORT".to_owned()),
    }
}

/// The port of an [`address`].
pub(crate) fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
}

/// The [`address`] whose port is `k` after this one's, if there is such a port.
pub(crate) fn port_after(address: &str, k: u16) -> Option<String> {
    let (host, _) = address.rsplit_once(':')?;
    Some(format!("{host}:{}", port_of(address).checked_add(k)?))
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (store, address)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{store}={address}")?;
        }
        Ok(())
    }
}

impl Peers {
    /// The stores, ascending.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreId> {
        self.0.keys().copied().collect()
    }

    /// Where a store is.
    #[must_use]
    pub fn address(&self, store: StoreId) -> Option<&str> {
        self.0.get(&store).map(String::as_str)
    }

    /// All of them.
    #[must_use]
    pub fn addresses(&self) -> &BTreeMap<StoreId, String> {
        &self.0
    }

    /// The name of the cluster that begins with these stores at these addresses: all of them
    /// find the same one without asking each other, and another cluster has another one.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        // FNV-1a, and its end mixed once more, as short inputs differ in few bits. Must never
        // change: it is on disk.
        let text = self.to_string();
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ClusterId(mixed ^ (mixed >> 29))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_any_order() {
        let peers: Peers = "2=b:2, 1=127.0.0.1:1,30=[::1]:3".parse().unwrap();
        assert_eq!(peers.stores(), [StoreId(1), StoreId(2), StoreId(30)]);
        assert_eq!(peers.address(StoreId(2)), Some("b:2"));
        assert_eq!(peers.address(StoreId(4)), None);
        assert_eq!(peers.to_string(), "1=127.0.0.1:1,2=b:2,30=[::1]:3");
    }

    #[test]
    fn ports_follow_each_other() {
        assert_eq!(port_after("[::1]:9100", 2), Some("[::1]:9102".to_owned()));
        assert_eq!(port_after("a:65535", 0), Some("a:65535".to_owned()));
        assert_eq!(port_after("a:65535", 1), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |list: &str| list.parse::<Peers>().unwrap_err().to_string();
        for list in
            ["", "1", "1=", "1=host", "1=host:", "1=:7", "1=host:0", "1=host:65536", "1=::1:7"]
        {
            assert!(wrong(list).ends_with("is not of the form ID=HOST:PORT"), "{list}");
        }
        assert!(wrong("1=a:1,").ends_with("is not of the form ID=HOST:PORT"));
        for list in ["0=a:1", "x=a:1", "-1=a:1", "=a:1"] {
            assert!(
                wrong(list).ends_with("is not the id of a store, a number from 1 on"),
                "{list}"
            );
        }
        assert_eq!(wrong("1=a:1,1=b:1"), "store 1 is there twice");
        assert_eq!(wrong("1=a:1,2=a:1"), "the address a:1 is there twice");
    }

    #[test]
    fn the_cluster_is_named_after_ids_and_addresses_and_always_the_same() {
        let cluster = |list: &str| list.parse::<Peers>().unwrap().cluster();
        assert_eq!(cluster("1=a:1,2=b:2"), cluster("2=b:2,1=a:1"));
        assert_ne!(cluster("1=a:1,2=b:2"), cluster("1=a:1,2=b:3"));
        assert_ne!(cluster("1=a:1,2=b:2"), cluster("1=a:1,3=b:2"));
        assert_eq!(cluster("1=a:1"), ClusterId(GOLDEN), "it is on disk");
    }

    const GOLDEN: u64 = 1_692_669_558_452_646_397;
}
