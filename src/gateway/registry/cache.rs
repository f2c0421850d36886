//! What the directory has said of hosts, for when it says nothing. Pure: times are seconds since 1970.

use super::file::{Entry, Stored, VERSION};
use crate::directory::types::Host;
use crate::model::{NodeName, PublicKey, TenantShard};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Hosts that are remembered at most; the half that was confirmed last stays when there are more.
pub const MOST: usize = 65_536;
/// For how long, after the directory was last heard to stand by it, an answer serves. Seconds.
pub const LONGEST: u64 = 24 * 60 * 60;

/// That time passes is stored after so long. Seconds.
const STORE_AGAIN: u64 = 5 * 60;

/// The owner of a key, with its inner prefixes in this gateway's shards.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    pub host: NodeName,
    pub inner: BTreeMap<TenantShard, Vec<IpNet>>,
    /// When the directory said so.
    pub fetched: u64,
}

/// Since when, and until when, every change was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Watched {
    /// From which to ask next.
    pub revision: u64,
    pub from: u64,
    pub until: u64,
}

#[derive(Debug, Default)]
pub struct Cache {
    hosts: HashMap<PublicKey, Arc<Known>>,
    watched: Option<Watched>,
    /// Something is different from what was stored.
    pub changed: bool,
    /// Up to when all changes were heard, as stored.
    stored_until: u64,
}

impl Cache {
    /// What is too old, or from the future, is left out.
    pub fn restore(stored: Stored, now: u64) -> Self {
        let watched = stored.watched.filter(|watched| watched.from <= watched.until && watched.until <= now);
        let stored_until = watched.map_or(0, |watched| watched.until);
        let mut cache = Self { hosts: HashMap::new(), watched, changed: false, stored_until };
        for Entry { key, host, inner, fetched } in stored.hosts.into_iter().take(MOST) {
            let known = Arc::new(Known { host, inner, fetched });
            if cache.age(&known, now).is_some_and(|age| age <= LONGEST) {
                cache.hosts.insert(key, known);
            }
        }
        cache
    }

    /// To be written by whoever asks, for this gateway.
    pub fn store(&mut self, gateway: &NodeName, directory: &str) -> Stored {
        self.changed = false;
        self.stored_until = self.watched.map_or(0, |watched| watched.until);
        let entry = |(key, known): (&PublicKey, &Arc<Known>)| Entry {
            key: *key,
            host: known.host.clone(),
            inner: known.inner.clone(),
            fetched: known.fetched,
        };
        Stored {
            version: VERSION,
            gateway: gateway.clone(),
            directory: directory.to_owned(),
            watched: self.watched,
            hosts: self.hosts.iter().map(entry).collect(),
        }
    }

    /// Seconds since the directory last stood by it: since it said so, or if every change since then was heard, since the last word.
    fn age(&self, known: &Known, now: u64) -> Option<u64> {
        let heard = self.watched.filter(|watched| watched.from <= known.fetched).map_or(0, |watched| watched.until);
        now.checked_sub(known.fetched.max(heard))
    }

    pub fn recall(&self, key: &PublicKey, now: u64) -> Option<Arc<Known>> {
        let known = self.hosts.get(key)?;
        // A clock that was put back makes nothing older.
        (self.age(known, now).unwrap_or(0) <= LONGEST).then(|| known.clone())
    }

    pub fn insert(&mut self, key: PublicKey, host: &Host, now: u64) -> Arc<Known> {
        let known = Arc::new(Known { host: host.name.clone(), inner: host.inner.clone(), fetched: now });
        if self.hosts.len() >= MOST && !self.hosts.contains_key(&key) {
            let mut times: Vec<u64> = self.hosts.values().map(|known| known.fetched).collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.hosts.retain(|_, known| known.fetched > middle);
        }
        self.hosts.insert(key, known.clone());
        self.changed = true;
        known
    }

    pub fn forget(&mut self, key: &PublicKey) {
        self.changed |= self.hosts.remove(key).is_some();
    }

    /// From where to go on watching, if that was ever done.
    pub fn watched(&self) -> Option<Watched> {
        self.watched
    }

    /// Every change from here on will be heard; those before were not all.
    pub fn watch_from(&mut self, revision: u64, now: u64) {
        self.watched = Some(Watched { revision, from: now, until: now });
        self.changed = true;
    }

    /// Changes were missed.
    pub fn missed(&mut self) {
        self.watched = None;
        self.changed = true;
    }

    /// Every change up to a revision was heard.
    pub fn heard(&mut self, revision: u64, now: u64) {
        let from = self.watched.map_or(now, |watched| watched.from);
        self.watched = Some(Watched { revision, from, until: now.max(from) });
        // That nothing happened is worth a file now and then.
        self.changed |= now.saturating_sub(self.stored_until) >= STORE_AGAIN;
    }

    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Of the entry that the directory stood by the longest ago.
    pub fn oldest(&self, now: u64) -> Option<u64> {
        self.hosts.values().map(|known| self.age(known, now).unwrap_or(0)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;

    fn key(number: u32) -> PublicKey {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        PublicKey::try_from(bytes).unwrap()
    }

    fn host(name: &str) -> Host {
        let inner = [("acme/0".parse().unwrap(), vec!["10.64.0.1/32".parse().unwrap()])].into();
        Host { name: name.parse().unwrap(), keys: vec![], inner, revision: 1 }
    }

    fn names(cache: &Cache, numbers: &[u32], now: u64) -> Vec<bool> {
        numbers.iter().map(|number| cache.recall(&key(*number), now).is_some()).collect()
    }

    fn again(cache: &mut Cache, now: u64) -> Cache {
        let text = serde_json::to_vec(&cache.store(&"gw-1".parse().unwrap(), "https://d")).unwrap();
        Cache::restore(serde_json::from_slice(&text).unwrap(), now)
    }

    #[test]
    fn an_answer_serves_a_day_after_the_directory_last_stood_by_it() {
        let mut cache = Cache::default();
        cache.insert(key(1), &host("before"), 50);
        cache.watch_from(7, 100);
        cache.insert(key(2), &host("since"), 100);
        cache.heard(9, 5_000);
        assert_eq!(names(&cache, &[1, 2, 3], 50 + LONGEST), [true, true, false]);
        assert_eq!(names(&cache, &[1, 2], 51 + LONGEST), [false, true]);
        assert_eq!(names(&cache, &[2], 5_000 + LONGEST), [true]);
        assert_eq!(names(&cache, &[2], 5_001 + LONGEST), [false]);
        // Changes were missed: each is as old as it is.
        cache.watch_from(20, 6_000);
        assert_eq!(names(&cache, &[2], 101 + LONGEST), [false]);
        assert_eq!(names(&cache, &[2], 90), [true], "a clock that was put back");
        assert_eq!(cache.oldest(6_000), Some(5_950));
    }

    #[test]
    fn what_was_stored_is_known_again_with_its_age() {
        let mut cache = Cache::default();
        cache.watch_from(7, 100);
        cache.insert(key(1), &host("host-1"), 100);
        cache.heard(9, 5_000);
        assert!(cache.changed);
        let restored = again(&mut cache, 5_000 + LONGEST);
        assert!(!cache.changed && !restored.changed);
        assert_eq!((restored.recall(&key(1), 5_000), restored.watched()), (cache.recall(&key(1), 5_000), cache.watched()));
        assert_eq!(again(&mut cache, 5_001 + LONGEST).len(), 0);
        cache.heard(9, 5_000 + STORE_AGAIN - 1);
        assert!(!cache.changed);
        cache.heard(9, 5_000 + STORE_AGAIN);
        assert!(cache.changed);
        cache.heard(9, 5_000);
        // By a clock that is behind, all of it is from the future.
        let behind = again(&mut cache, 50);
        assert_eq!((behind.len(), behind.watched()), (0, None));
    }

    #[test]
    fn there_are_never_more_than_the_limit_and_the_newest_stay() {
        let mut cache = Cache::default();
        let most = u32::try_from(MOST).unwrap();
        for number in 0..=most {
            cache.insert(key(number), &host("h"), 1_000 + u64::from(number));
        }
        assert_eq!(names(&cache, &[0, most / 2, most - 1, most], 2_000 + u64::from(most)), [false, false, true, true]);
        assert_eq!(cache.len(), MOST / 2);
        // All of one second: they go together.
        let mut cache = Cache::default();
        (0..=most).for_each(|number| drop(cache.insert(key(number), &host("h"), 1_000)));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_forgotten_key_is_known_no_more_and_no_secret_is_stored() {
        let mut cache = Cache::default();
        let private = PrivateKey::new([3; 32]);
        cache.insert(private.public(), &host("host-1"), 10);
        let text = serde_json::to_string(&cache.store(&"gw-1".parse().unwrap(), "https://d")).unwrap();
        assert!(text.contains(&private.public().to_string()) && text.starts_with("{\"version\":1,"), "{text}");
        cache.forget(&private.public());
        assert_eq!((cache.recall(&private.public(), 10), cache.changed), (None, true));
    }
}
