//! What the directory has said of hosts, for when it says nothing. Pure: times are seconds since 1970.

use super::file::{Entry, Stored, VERSION};
use crate::directory::types::Host;
use crate::model::{NodeName, PublicKey, TenantShard};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Hosts that are remembered at most; of more, those that were looked up last.
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
    hosts: HashMap<PublicKey, (u64, Arc<Known>)>,
    /// Their keys by the number of the look-up, which is there too.
    order: BTreeMap<u64, PublicKey>,
    look_ups: u64,
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
        let mut cache = Self { watched, stored_until, ..Self::default() };
        let mut hosts = stored.hosts;
        hosts.sort_by_key(|entry| entry.fetched);
        for Entry { key, host, inner, fetched } in hosts {
            let known = Arc::new(Known { host, inner, fetched });
            if cache.age(&known, now).is_some_and(|age| age <= LONGEST) {
                cache.put(key, known);
            }
        }
        cache
    }

    /// To be written by whoever asks, for this gateway.
    pub fn store(&mut self, gateway: &NodeName, directory: &str) -> Stored {
        self.changed = false;
        self.stored_until = self.watched.map_or(0, |watched| watched.until);
        let entry = |key: &PublicKey| {
            let (_, known) = self.hosts.get(key)?;
            Some(Entry { key: *key, host: known.host.clone(), inner: known.inner.clone(), fetched: known.fetched })
        };
        Stored {
            version: VERSION,
            gateway: gateway.clone(),
            directory: directory.to_owned(),
            watched: self.watched,
            hosts: self.order.values().filter_map(entry).collect(),
        }
    }

    /// Seconds since the directory last stood by it: since it said so, or if every change since then was heard, since the last word.
    fn age(&self, known: &Known, now: u64) -> Option<u64> {
        let heard = self.watched.filter(|watched| watched.from <= known.fetched).map_or(0, |watched| watched.until);
        now.checked_sub(known.fetched.max(heard))
    }

    pub fn recall(&self, key: &PublicKey, now: u64) -> Option<Arc<Known>> {
        let (_, known) = self.hosts.get(key)?;
        // A clock that was put back makes nothing older.
        (self.age(known, now).unwrap_or(0) <= LONGEST).then(|| known.clone())
    }

    pub fn insert(&mut self, key: PublicKey, host: &Host, now: u64) -> Arc<Known> {
        let known = Arc::new(Known { host: host.name.clone(), inner: host.inner.clone(), fetched: now });
        self.put(key, known.clone());
        self.changed = true;
        known
    }

    fn put(&mut self, key: PublicKey, known: Arc<Known>) {
        self.look_ups += 1;
        if let Some((former, _)) = self.hosts.insert(key, (self.look_ups, known)) {
            self.order.remove(&former);
        }
        self.order.insert(self.look_ups, key);
        if self.order.len() > MOST
            && let Some((_, longest_ago)) = self.order.pop_first()
        {
            self.hosts.remove(&longest_ago);
        }
    }

    pub fn forget(&mut self, key: &PublicKey) {
        if let Some((number, _)) = self.hosts.remove(key) {
            self.order.remove(&number);
            self.changed = true;
        }
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
        self.hosts.values().map(|(_, known)| self.age(known, now).unwrap_or(0)).max()
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
    fn there_are_never_more_than_the_limit_and_those_looked_up_last_stay() {
        let mut cache = Cache::default();
        let most = u32::try_from(MOST).unwrap();
        // All within a second.
        (0..most).for_each(|number| drop(cache.insert(key(number), &host("h"), 1_000)));
        assert_eq!(cache.len(), MOST);
        // Looked up again, and one that was forgotten leaves its place to another.
        cache.insert(key(0), &host("h"), 1_000);
        cache.forget(&key(5));
        (most..most + 3).for_each(|number| drop(cache.insert(key(number), &host("h"), 1_000)));
        assert_eq!((cache.len(), cache.order.len()), (MOST, MOST));
        let gone = |cache: &Cache| (0..most + 3).filter(|number| cache.recall(&key(*number), 1_000).is_none()).collect::<Vec<_>>();
        assert_eq!(gone(&cache), [1, 2, 5]);
        // The next process goes on where this one was.
        let mut restored = again(&mut cache, 1_000);
        assert_eq!(gone(&restored), [1, 2, 5]);
        restored.insert(key(1), &host("h"), 1_000);
        assert_eq!(gone(&restored), [2, 3, 5]);
        let stored = restored.store(&"gw-1".parse().unwrap(), "https://d");
        assert_eq!(stored.hosts.first().map(|entry| entry.key), Some(key(4)));
        assert_eq!(stored.hosts.iter().rev().take(2).map(|entry| entry.key).collect::<Vec<_>>(), [key(1), key(most + 2)]);
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
