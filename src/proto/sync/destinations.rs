//! How many connections go to the destination that has most of them: each takes a source port of the one address that they are all translated to, so it is there
//! that ports run out first.

use super::table::Table;
use crate::model::{FlowKey, FlowProtocol};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

/// What may use every source port once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Destination {
    Tcp(IpAddr, u16),
    Udp(IpAddr, u16),
}

impl Destination {
    /// None: it takes no port.
    fn of(key: &FlowKey) -> Option<Self> {
        match key.protocol {
            FlowProtocol::Tcp { destination, .. } => Some(Self::Tcp(key.destination, destination)),
            FlowProtocol::Udp { destination, .. } => Some(Self::Udp(key.destination, destination)),
            FlowProtocol::Icmp { .. } => None,
        }
    }
}

/// Kept as connections come and go, so that nobody needs to look at all of them.
#[derive(Debug, Default)]
pub struct Destinations {
    connections: Table<Destination, usize>,
    /// How many destinations have so many connections.
    with: BTreeMap<usize, usize>,
}

impl Destinations {
    pub fn add(&mut self, key: &FlowKey) {
        let Some(destination) = Destination::of(key) else { return };
        let connections = self.connections.entry(destination).or_insert(0);
        *connections += 1;
        let after = *connections;
        self.moved(after - 1, after);
    }

    /// One that was added.
    pub fn remove(&mut self, key: &FlowKey) {
        let Some(destination) = Destination::of(key) else { return };
        let Entry::Occupied(mut entry) = self.connections.entry(destination) else { return };
        let before = *entry.get();
        if before > 1 {
            entry.insert(before - 1);
        } else {
            entry.remove();
        }
        self.moved(before, before.saturating_sub(1));
    }

    /// Connections of the destination that has most.
    pub fn most(&self) -> usize {
        self.with.last_key_value().map_or(0, |(connections, _)| *connections)
    }

    fn moved(&mut self, before: usize, after: usize) {
        if let Some(destinations) = self.with.get_mut(&before) {
            *destinations -= 1;
            if *destinations == 0 {
                self.with.remove(&before);
            }
        }
        if after > 0 {
            *self.with.entry(after).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    fn key(protocol: u8, source: u16, address: u8, port: u16) -> FlowKey {
        let protocol = match protocol % 3 {
            0 => FlowProtocol::Tcp { source, destination: port },
            1 => FlowProtocol::Udp { source, destination: port },
            _ => FlowProtocol::Icmp { id: source, kind: 8, code: 0 },
        };
        let [source, destination] = [[10, 88, 1, 2], [172, 16, 101, address]].map(|address| IpAddr::from(Ipv4Addr::from(address)));
        FlowKey { zone: 7, source, destination, protocol }
    }

    #[test]
    fn ports_are_of_an_address_a_port_and_a_protocol() {
        let mut all = Destinations::default();
        for (protocol, source, address, port) in [(0, 1, 20, 443), (0, 2, 20, 443), (1, 3, 20, 443), (0, 4, 21, 443), (0, 5, 20, 80)] {
            all.add(&key(protocol, source, address, port));
        }
        assert_eq!(all.most(), 2);
        all.add(&key(0, 6, 20, 443));
        all.add(&key(2, 7, 20, 0));
        assert_eq!(all.most(), 3);
        all.remove(&key(0, 1, 20, 443));
        all.remove(&key(0, 2, 20, 443));
        assert_eq!(all.most(), 1);
    }

    proptest! {
        /// What comes goes, in any order, and what is left is as if it had been counted now.
        #[test]
        fn the_most_is_what_a_look_at_all_would_find(steps in prop::collection::vec((0u8..3, 0u16..6, 0u8..3, 0u16..2), 0..300)) {
            let (mut all, mut stand) = (Destinations::default(), BTreeSet::new());
            for (protocol, source, address, port) in steps {
                let key = key(protocol, source, address, port);
                if stand.insert(key) {
                    all.add(&key);
                } else {
                    stand.remove(&key);
                    all.remove(&key);
                }
                let mut counts: Vec<(Destination, usize)> = Vec::new();
                for destination in stand.iter().filter_map(Destination::of) {
                    match counts.iter_mut().find(|(known, _)| *known == destination) {
                        Some((_, count)) => *count += 1,
                        None => counts.push((destination, 1)),
                    }
                }
                prop_assert_eq!(all.most(), counts.iter().map(|(_, count)| *count).max().unwrap_or(0));
                prop_assert_eq!(all.connections.len(), counts.len());
                prop_assert_eq!(all.with.values().sum::<usize>(), counts.len());
            }
        }
    }
}
