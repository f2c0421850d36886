//! What is known of a shard's WireGuard peers, told by another node or by this one's own tunnels.

use crate::model::PublicKey;
use crate::wire::sync::peer::PeerState;
use crate::wire::wireguard::Tai64n;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// Keys that are remembered at most; some 100 bytes each.
const MOST: usize = 1 << 20;

/// Stamps are never forgotten but by word: one that is would make an old recording of an initiation as good as a new one.
#[derive(Debug, Default)]
pub struct Peers {
    all: HashMap<PublicKey, Known>,
    /// Counts lists; the running one, or the last.
    list: u64,
    listing: bool,
    /// Keys for which there was no room.
    pub crowded_out: u64,
}

#[derive(Debug, Clone)]
struct Known {
    state: PeerState,
    /// When it was said that it had been idle for so long.
    at: Instant,
    /// The list that ran when it was last told or listed.
    seen: u64,
}

impl Known {
    fn as_of(&self, now: Instant) -> PeerState {
        let idle = self.state.idle + now.saturating_duration_since(self.at);
        PeerState { idle: Duration::from_secs(idle.as_secs()), ..self.state.clone() }
    }
}

impl Peers {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn get(&self, now: Instant, key: &PublicKey) -> Option<PeerState> {
        self.all.get(key).map(|known| known.as_of(now))
    }

    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.all.keys().copied()
    }

    /// All of them, as of now.
    pub fn states(&self, now: Instant) -> impl Iterator<Item = PeerState> {
        self.all.values().map(move |known| known.as_of(now))
    }

    /// What is so now. An older stamp than the one that is known changes nothing.
    pub fn told(&mut self, now: Instant, state: PeerState) {
        let (room, seen) = (self.all.len() < MOST, self.list);
        match self.all.entry(state.key) {
            Entry::Occupied(mut known) => {
                let stamp = state.stamp.max(known.get().state.stamp);
                known.insert(Known { state: PeerState { stamp, ..state }, at: now, seen });
            }
            Entry::Vacant(vacant) if room => drop(vacant.insert(Known { state, at: now, seen })),
            Entry::Vacant(_) => self.crowded_out += 1,
        }
    }

    pub fn gone(&mut self, key: &PublicKey) {
        self.all.remove(key);
    }

    /// A list of all begins; a new one in the midst of another replaces it.
    pub fn begin(&mut self) {
        self.list += 1;
        self.listing = true;
    }

    /// Of what was neither listed nor told since the list began the stamp alone is left.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.listing) {
            for known in self.all.values_mut().filter(|known| known.seen != self.list) {
                known.state = PeerState { idle: known.state.idle, ..stamp_of(known.state.key, known.state.stamp) };
            }
        }
    }

    /// The running list will not come to its end.
    pub fn break_off(&mut self) {
        self.listing = false;
    }

    /// What others have been told is stale; stamps that are used up are used up all the same.
    pub fn adopt_stamps(&mut self, other: &Self) {
        for (key, theirs) in &other.all {
            let (stamp, room) = (theirs.state.stamp, self.all.len() < MOST);
            match self.all.get_mut(key) {
                Some(ours) => ours.state.stamp = ours.state.stamp.max(stamp),
                None if room => drop(self.all.insert(*key, Known { state: stamp_of(*key, stamp), at: theirs.at, seen: self.list })),
                None => self.crowded_out += 1,
            }
        }
    }

    /// What others have been told and we have not, or later than we.
    pub fn adopt_from(&mut self, other: &Self) {
        for (key, theirs) in &other.all {
            let room = self.all.len() < MOST;
            match self.all.get_mut(key) {
                Some(ours) => {
                    let stamp = ours.state.stamp.max(theirs.state.stamp);
                    if theirs.state.endpoint.is_some() && (ours.state.endpoint.is_none() || theirs.at > ours.at) {
                        *ours = Known { seen: ours.seen, ..theirs.clone() };
                    }
                    ours.state.stamp = stamp;
                }
                None if room => drop(self.all.insert(*key, Known { seen: 0, ..theirs.clone() })),
                None => self.crowded_out += 1,
            }
        }
    }
}

fn stamp_of(key: PublicKey, stamp: Tai64n) -> PeerState {
    PeerState { key, stamp, endpoint: None, idle: Duration::ZERO, member: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(key: u8, stamp: u64, endpoint: Option<&str>) -> PeerState {
        let key = PublicKey::try_from([key; PublicKey::LEN]).unwrap();
        let endpoint = endpoint.map(|at| at.parse().unwrap());
        PeerState { key, stamp: Tai64n::from_unix(stamp, 0), endpoint, idle: Duration::ZERO, member: None }
    }

    const HERE: Option<&str> = Some("192.0.2.1:51820");
    const THERE: Option<&str> = Some("192.0.2.2:51820");

    #[test]
    fn stamps_only_ever_grow() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        peers.told(now, state(1, 9, HERE));
        peers.told(now, state(1, 5, THERE));
        assert_eq!(peers.get(now, &state(1, 0, None).key), Some(state(1, 9, THERE)));
    }

    #[test]
    fn who_is_listed_no_more_leaves_its_stamp() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        [1, 2, 3].into_iter().for_each(|n| peers.told(now, state(n, 9, HERE)));
        peers.end();
        assert_eq!(peers.states(now).filter(|state| state.endpoint.is_some()).count(), 3, "no list ran");
        peers.begin();
        peers.told(now, state(2, 9, HERE));
        peers.gone(&state(3, 0, None).key);
        peers.end();
        let mut left: Vec<_> = peers.states(now).collect();
        left.sort_by_key(|state| state.key);
        assert_eq!(left, [state(1, 9, None), state(2, 9, HERE)]);
    }

    #[test]
    fn of_two_who_know_a_peer_the_one_who_was_told_last_is_believed() {
        let (begin, later) = (Instant::now(), Instant::now() + Duration::from_secs(5));
        let (mut ours, mut theirs) = (Peers::default(), Peers::default());
        ours.told(begin, state(1, 9, HERE));
        ours.told(later, state(2, 5, HERE));
        ours.told(later, state(3, 5, None));
        theirs.told(later, state(1, 8, THERE));
        theirs.told(begin, state(2, 9, THERE));
        theirs.told(begin, state(3, 1, THERE));
        theirs.told(begin, state(4, 1, THERE));
        ours.adopt_from(&theirs);
        let mut all: Vec<_> = ours.states(later).map(|state| PeerState { idle: Duration::ZERO, ..state }).collect();
        all.sort_by_key(|state| state.key);
        assert_eq!(all, [state(1, 9, THERE), state(2, 9, HERE), state(3, 5, THERE), state(4, 1, THERE)]);
        assert_eq!(ours.get(later, &all[3].key).unwrap().idle, Duration::from_secs(5));
    }

    #[test]
    fn of_what_is_stale_the_stamps_alone_are_taken_over() {
        let (mut ours, mut theirs, now) = (Peers::default(), Peers::default(), Instant::now());
        ours.told(now, state(1, 5, HERE));
        theirs.told(now, state(1, 9, THERE));
        theirs.told(now, state(2, 7, THERE));
        ours.adopt_stamps(&theirs);
        let mut all: Vec<_> = ours.states(now).collect();
        all.sort_by_key(|state| state.key);
        assert_eq!(all, [state(1, 9, HERE), state(2, 7, None)]);
    }
}
