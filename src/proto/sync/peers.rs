//! What is known of a shard's WireGuard peers, told by another node or by this one's own tunnels.

use crate::model::PublicKey;
use crate::wire::sync::peer::PeerState;
use crate::wire::wireguard::Tai64n;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// Keys that are remembered at most; some 100 bytes each.
const MOST: usize = 1 << 20;
/// When there is no room, stamps of those of whom nothing was told for so long are forgotten.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Between two looks for them.
const SWEEP: Duration = Duration::from_secs(60);

impl Default for Peers {
    fn default() -> Self {
        Self::of(MOST)
    }
}

/// Stamps outlive their peers: one that is forgotten makes an old recording of an initiation as good as a new one, should the key be let in again.
#[derive(Debug)]
pub struct Peers {
    all: HashMap<PublicKey, Known>,
    most: usize,
    /// When there was no room and what is old was forgotten.
    swept: Option<Instant>,
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
    fn of(most: usize) -> Self {
        Self { all: HashMap::new(), most, swept: None, list: 0, listing: false, crowded_out: 0 }
    }

    /// Of nobody is known where it is, but these stamps are used up.
    pub fn of_stamps(now: Instant, stamps: impl IntoIterator<Item = (PublicKey, Tai64n)>) -> Self {
        let mut peers = Self::default();
        stamps.into_iter().for_each(|(key, stamp)| peers.told(now, stamp_of(key, stamp)));
        peers
    }

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
        let (room, seen) = (self.all.contains_key(&state.key) || self.has_room(now), self.list);
        match self.all.entry(state.key) {
            Entry::Occupied(mut known) => {
                let stamp = state.stamp.max(known.get().state.stamp);
                known.insert(Known { state: PeerState { stamp, ..state }, at: now, seen });
            }
            Entry::Vacant(vacant) if room => drop(vacant.insert(Known { state, at: now, seen })),
            Entry::Vacant(_) => self.crowded_out += 1,
        }
    }

    /// It is no peer any more. Its stamps are used up all the same.
    pub fn gone(&mut self, now: Instant, key: &PublicKey) {
        let Some(known) = self.all.get_mut(key) else { return };
        let stamp = known.state.stamp;
        if stamp == Tai64n::NEVER {
            self.all.remove(key);
        } else {
            *known = Known { state: stamp_of(*key, stamp), at: now, seen: self.list };
        }
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.all.len() >= self.most && self.swept.is_none_or(|at| now >= at + SWEEP) {
            self.swept = Some(now);
            self.all.retain(|_, known| known.state.endpoint.is_some() || now.saturating_duration_since(known.at) < KEPT);
        }
        self.all.len() < self.most
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
            let (stamp, room) = (theirs.state.stamp, self.all.len() < self.most);
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
            let room = self.all.len() < self.most;
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
        peers.gone(now, &state(3, 0, None).key);
        peers.end();
        let mut left: Vec<_> = peers.states(now).collect();
        left.sort_by_key(|state| state.key);
        assert_eq!(left, [state(1, 9, None), state(2, 9, HERE), state(3, 9, None)]);
    }

    /// Or a recording of its initiation would let it in elsewhere when the configuration, or the directory, names it again.
    #[test]
    fn who_is_gone_leaves_its_stamp_as_long_as_there_is_room() {
        let (mut peers, now) = (Peers::of(3), Instant::now());
        peers.told(now, state(1, 9, HERE));
        peers.told(now, state(2, 0, HERE));
        let never = PeerState { stamp: Tai64n::NEVER, ..state(2, 0, HERE) };
        peers.told(now, PeerState { key: state(3, 0, None).key, ..never });
        (1..=4).for_each(|n| peers.gone(now, &state(n, 0, None).key));
        peers.told(now, state(1, 5, THERE));
        assert_eq!(peers.get(now, &state(1, 0, None).key), Some(state(1, 9, THERE)), "an older stamp is none");
        assert_eq!(peers.len(), 2, "of whom there is no stamp nothing is kept");
        peers.told(now, state(5, 1, HERE));
        peers.told(now, state(6, 1, HERE));
        assert_eq!((peers.len(), peers.crowded_out), (3, 1));
        // A day later the stamp of 2 makes room, and no peer does.
        let later = now + KEPT;
        peers.told(later, state(6, 1, HERE));
        let mut all: Vec<_> = peers.keys().collect();
        all.sort();
        assert_eq!(all, [1, 5, 6].map(|n| state(n, 0, None).key));
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

    /// The Active was started again and knows no more than the file of the process before it; a Backup that was started after it has it from there.
    #[test]
    fn stamps_of_an_earlier_process_are_listed_and_grow() {
        let now = Instant::now();
        let stamp = |n: u8, stamp: u64| (state(n, 0, None).key, Tai64n::from_unix(stamp, 0));
        let mut ours = Peers::of_stamps(now, [stamp(1, 9), stamp(2, 7), stamp(1, 8)]);
        ours.told(now, state(1, 3, HERE));
        let mut all: Vec<_> = ours.states(now).collect();
        all.sort_by_key(|state| state.key);
        assert_eq!(all, [state(1, 9, HERE), state(2, 7, None)]);
        assert_eq!(ours.keys().count(), 2);
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
