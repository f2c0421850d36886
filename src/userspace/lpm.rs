//! The longest prefix that an address lies in, or: whose inner address is this.

use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefixes with a value each. A look-up costs one hash for each *length* that occurs (most tables have one: /32), an
/// insertion or removal one hash, whatever the number of prefixes.
#[derive(Debug, Clone, Default)]
pub struct PrefixMap<V> {
    /// By family and length, the longest first.
    levels: Vec<Level<V>>,
}

#[derive(Debug, Clone)]
struct Level<V> {
    v4: bool,
    length: u8,
    entries: HashMap<IpAddr, V>,
}

impl<V> PrefixMap<V> {
    pub fn new() -> Self {
        Self { levels: Vec::new() }
    }

    /// The value of the longest prefix that holds `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<&V> {
        self.levels.iter().filter(|l| l.v4 == address.is_ipv4()).find_map(|l| l.entries.get(&network(address, l.length)))
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: IpNet) -> Option<&V> {
        self.level(prefix).ok().and_then(|at| self.levels[at].entries.get(&prefix.network()))
    }

    /// The former value, if there was one.
    pub fn insert(&mut self, prefix: IpNet, value: V) -> Option<V> {
        let at = self.level(prefix).unwrap_or_else(|at| {
            self.levels.insert(at, Level { v4: prefix.addr().is_ipv4(), length: prefix.prefix_len(), entries: HashMap::new() });
            at
        });
        self.levels[at].entries.insert(prefix.network(), value)
    }

    pub fn remove(&mut self, prefix: IpNet) -> Option<V> {
        let at = self.level(prefix).ok()?;
        let value = self.levels[at].entries.remove(&prefix.network());
        if self.levels[at].entries.is_empty() {
            self.levels.remove(at);
        }
        value
    }

    fn level(&self, prefix: IpNet) -> Result<usize, usize> {
        let key = (prefix.addr().is_ipv4(), prefix.prefix_len());
        self.levels.binary_search_by(|l| key.cmp(&(l.v4, l.length)))
    }
}

fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix() -> impl Strategy<Value = IpNet> {
        // Few addresses, so that prefixes nest.
        let v4 = (any::<u8>(), 0u8..=32).prop_map(|(a, len)| IpNet::new(Ipv4Addr::new(10, 0, a, a).into(), len).unwrap().trunc());
        let v6 = (any::<u8>(), 0u8..=128)
            .prop_map(|(a, len)| IpNet::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, a.into()).into(), len).unwrap().trunc());
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(add in prop::collection::vec(prefix(), 0..60), remove in prop::collection::vec(any::<prop::sample::Index>(), 0..20), ask in prefix()) {
            let mut map = PrefixMap::new();
            let mut list = std::collections::BTreeMap::new();
            for (n, p) in add.iter().enumerate() {
                prop_assert_eq!(map.insert(*p, n), list.insert(*p, n));
            }
            for index in remove.iter().filter(|_| !add.is_empty()) {
                let p = *index.get(&add);
                prop_assert_eq!(map.remove(p), list.remove(&p));
            }
            let address = ask.addr();
            let longest = list.iter().filter(|(p, _)| p.contains(&address)).max_by_key(|(p, _)| p.prefix_len()).map(|(_, n)| n);
            prop_assert_eq!(map.lookup(address), longest);
            prop_assert_eq!(map.get(ask), list.get(&ask));
        }
    }
}
