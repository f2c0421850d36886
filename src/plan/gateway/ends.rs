//! Which interfaces the WireGuard tunnels of a gateway's shards end at. Pure.
//!
//! A shard has one key, and one interface that has it; while the key is changed two, at two ports: the next key's stands beside until it becomes the
//! present one, and then the former one for a while. All peers of the shard are at both. A host moves from one to the other by itself; what goes to it
//! leaves by the one at which it was heard last.
//!
//! ```text
//!  one key --- `next` is written ---> two --- it becomes the present one ---> two --- LINGER ---> one key
//!                                      +------------ `next` is taken back ----^
//! ```

use crate::model::{IfName, Lane, PrivateKey, PublicKey, TenantShard};
use crate::plan::slots::{Slots, owner};
use crate::plan::{LinkKind, State};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long the interface of a former key stands: for what is under way, and for hosts that have not moved.
pub const LINGER: Duration = Duration::from_secs(30);

/// An interface, its key and its UDP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub lane: Lane,
    pub key: PrivateKey,
    pub port: u16,
}

impl End {
    /// Whether it has the same key at the same interface.
    pub fn is(&self, other: &End) -> bool {
        (self.lane, &self.key) == (other.lane, &other.key)
    }
}

/// The keys of a shard, and their ports, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub present: (PrivateKey, u16),
    pub next: Option<(PrivateKey, u16)>,
}

/// By which interface a host was heard last.
pub type Heard = BTreeMap<TenantShard, BTreeMap<PublicKey, Lane>>;

/// Interfaces, with their keys and ports where these are known.
type Found = Vec<(Lane, Option<(PrivateKey, u16)>)>;

#[derive(Debug, Clone)]
struct Shard {
    present: End,
    /// Until when, if nobody wants it any more.
    beside: Option<(End, Option<Instant>)>,
    /// Whether there have ever been two: see [`DUMMY`].
    numbered: bool,
}

/// An address that is nobody's (RFC 7600 section 4.8), on both interfaces of a shard that has two: the way back to a host leads by one of them only,
/// and what comes by the other, a kernel whose `rp_filter` is on lets in at an interface with an address alone (`__fib_validate_source`). It stays: with
/// the last address of an interface, the routes by it would go.
pub const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Those of all shards.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    shards: BTreeMap<TenantShard, Shard>,
    /// What an earlier process has left.
    found: BTreeMap<TenantShard, Found>,
    /// Of these, the shards whose interfaces have an address.
    numbered: BTreeSet<TenantShard>,
}

impl Ends {
    /// Takes over what an earlier process has made. Of the kernel's interfaces the kernel tells the keys; of others, `told` has them.
    pub fn recover(observed: &State, slots: &Slots, told: &BTreeMap<IfName, (PrivateKey, u16)>) -> Self {
        let mut ends = Self::default();
        for (name, link) in &observed.links {
            let Some((of, (slot, lane))) = owner(&link.alias).zip(name.slot()) else { continue };
            if slots.get(&of) != Some(slot) {
                continue;
            }
            let keys = match &link.kind {
                LinkKind::Wireguard { key, port } => Some((key.clone(), *port)),
                _ => told.get(name).cloned(),
            };
            if observed.addresses.iter().any(|(interface, _)| interface == name) {
                ends.numbered.insert(of.clone());
            }
            ends.found.entry(of).or_default().push((lane, keys));
        }
        ends
    }

    /// These are the shards, and their keys.
    pub fn want(&mut self, wanted: impl Iterator<Item = (TenantShard, Keys)>, now: Instant) {
        let mut stay = BTreeSet::new();
        for (of, keys) in wanted {
            let found = self.found.remove(&of);
            match self.shards.get_mut(&of) {
                Some(shard) => shard.want(keys, now),
                None => {
                    let numbered = self.numbered.remove(&of);
                    self.shards.insert(of.clone(), Shard::new(keys, (found.unwrap_or_default(), numbered), now));
                }
            }
            stay.insert(of);
        }
        self.shards.retain(|of, _| stay.contains(of));
        self.found.clear();
        self.numbered.clear();
    }

    /// The interfaces of a shard, that of the present key first. None of a shard whose tunnels are others.
    pub fn of(&self, of: &TenantShard) -> impl Iterator<Item = &End> {
        self.shards.get(of).into_iter().flat_map(|shard| [&shard.present].into_iter().chain(shard.beside.as_ref().map(|(end, _)| end)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TenantShard, &End)> {
        self.shards.keys().flat_map(|of| self.of(of).map(move |end| (of, end)))
    }

    /// Whether its interfaces have an address.
    pub fn is_numbered(&self, of: &TenantShard) -> bool {
        self.shards.get(of).is_some_and(|shard| shard.numbered)
    }

    /// When one is to go.
    pub fn due(&self) -> Option<Instant> {
        self.shards.values().filter_map(|shard| shard.beside.as_ref()?.1).min()
    }
}

impl Shard {
    fn new(keys: Keys, (found, numbered): (Found, bool), now: Instant) -> Self {
        let lane_of =
            |key: &PrivateKey| found.iter().find(|(_, keys)| keys.as_ref().is_some_and(|(own, _)| own == key)).map(|(lane, _)| *lane);
        let (key, port) = keys.present.clone();
        let of_next = || keys.next.as_ref().and_then(|(next, _)| lane_of(next)).map(Lane::other);
        let any = || found.first().map(|(lane, _)| *lane);
        let lane = lane_of(&key).or_else(of_next).or_else(any).unwrap_or(Lane::First);
        // One that nobody wants any more was the present one until the process was started anew.
        let former = found.iter().filter(|(other, _)| *other != lane).find_map(|(_, keys)| keys.clone());
        let mut shard = Self { present: End { lane, key, port }, beside: None, numbered };
        shard.beside = former.map(|(key, port)| (End { lane: lane.other(), key, port }, Some(now + LINGER)));
        shard.want(keys, now);
        shard
    }

    fn want(&mut self, keys: Keys, now: Instant) {
        let (key, port) = keys.present;
        if self.present.key != key {
            match &mut self.beside {
                // The next one is the present one now.
                Some((beside, until)) if beside.key == key => {
                    std::mem::swap(&mut self.present, beside);
                    *until = Some(now + LINGER);
                }
                // Another altogether, without notice: whoever had a session begins anew.
                _ => self.present.key = key,
            }
        }
        self.present.port = port;
        match keys.next {
            Some((key, port)) => self.beside = Some((End { lane: self.present.lane.other(), key, port }, None)),
            None => {
                if let Some((_, until)) = &mut self.beside {
                    until.get_or_insert(now + LINGER);
                }
            }
        }
        self.numbered |= self.beside.is_some();
        self.beside.take_if(|(beside, until)| until.is_some_and(|until| now >= until) || beside.port == self.present.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PrivateKey {
        PrivateKey::new([n; 32])
    }

    fn acme() -> TenantShard {
        "acme/0".parse().unwrap()
    }

    fn keys(present: (u8, u16), next: Option<(u8, u16)>) -> Keys {
        let of = |(n, port)| (key(n), port);
        Keys { present: of(present), next: next.map(of) }
    }

    fn want(ends: &mut Ends, keys: Keys, now: Instant) -> String {
        ends.want([(acme(), keys)].into_iter(), now);
        let number = |public| (0..=255).find(|n| key(*n).public() == public).unwrap();
        let one = |end: &End| format!("{:?} {}:{}", end.lane, number(end.key.public()), end.port);
        ends.of(&acme()).map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_next_key_stands_beside_and_nothing_moves_when_it_is_the_present_one() {
        let (mut ends, now) = (Ends::default(), Instant::now());
        assert_eq!(want(&mut ends, keys((1, 10), None), now), "First 1:10");
        assert!(!ends.is_numbered(&acme()));
        assert_eq!(want(&mut ends, keys((1, 10), Some((2, 9))), now), "First 1:10, Second 2:9");
        assert_eq!((want(&mut ends, keys((2, 9), None), now), ends.due()), ("Second 2:9, First 1:10".into(), Some(now + LINGER)));
        // Once more: the time is up when it was.
        assert_eq!(want(&mut ends, keys((2, 9), None), now + LINGER / 2), "Second 2:9, First 1:10");
        assert_eq!((want(&mut ends, keys((2, 9), None), now + LINGER), ends.due()), ("Second 2:9".into(), None));
        assert!(ends.is_numbered(&acme()), "its last address would take the routes with it");
        assert_eq!(want(&mut ends, keys((2, 9), Some((3, 10))), now), "Second 2:9, First 3:10");
        // Taken back.
        assert_eq!(want(&mut ends, keys((2, 9), None), now), "Second 2:9, First 3:10");
        assert_eq!(want(&mut ends, keys((2, 9), None), now + LINGER), "Second 2:9");
        // Without notice.
        assert_eq!(want(&mut ends, keys((4, 9), None), now), "Second 4:9");
    }

    #[test]
    fn the_next_process_finds_which_interface_has_which_key() {
        let now = Instant::now();
        let with = |found: &[(Lane, Option<(u8, u16)>)], wanted| {
            let found = found.iter().map(|(lane, keys)| (*lane, keys.map(|(n, port)| (key(n), port)))).collect();
            want(&mut Ends { found: [(acme(), found)].into(), ..Ends::default() }, wanted, now)
        };
        let both = [(Lane::First, Some((1, 10))), (Lane::Second, Some((2, 9)))];
        assert_eq!(with(&both, keys((1, 10), Some((2, 9)))), "First 1:10, Second 2:9");
        assert_eq!(with(&both, keys((2, 9), None)), "Second 2:9, First 1:10");
        assert_eq!(with(&both[1..], keys((2, 9), None)), "Second 2:9");
        assert_eq!(with(&both[1..], keys((1, 10), Some((2, 9)))), "First 1:10, Second 2:9");
        assert_eq!(with(&[(Lane::Second, None)], keys((2, 9), None)), "Second 2:9");
        assert_eq!(with(&[], keys((2, 9), None)), "First 2:9");
    }
}
