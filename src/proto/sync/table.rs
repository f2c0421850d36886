//! A hash table that grows a part at a time: one of 250,000 flows takes 50 ms to grow in one go, in which everything else waits.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hash};

/// Parts: each grows within a millisecond.
const PARTS: usize = 64;

#[derive(Debug)]
pub struct Table<K, T> {
    /// Tells which part a key belongs to: others than those of the parts, or each would use a sixty-fourth of its room.
    hasher: RandomState,
    parts: Vec<HashMap<K, T>>,
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: std::iter::repeat_with(HashMap::new).take(PARTS).collect() }
    }
}

impl<K: Eq + Hash, T> Table<K, T> {
    pub fn len(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(HashMap::is_empty)
    }

    pub fn get(&self, key: &K) -> Option<&T> {
        self.parts[self.part(key)].get(key)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub fn entry(&mut self, key: K) -> Entry<'_, K, T> {
        let part = self.part(&key);
        self.parts[part].entry(key)
    }

    pub fn remove(&mut self, key: &K) -> Option<T> {
        let part = self.part(key);
        self.parts[part].remove(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.parts.iter().flatten()
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.parts.iter_mut().flat_map(HashMap::values_mut)
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.parts.iter().flat_map(HashMap::keys)
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&K, &mut T) -> bool) {
        self.parts.iter_mut().for_each(|part| part.retain(&mut stays));
    }

    fn part(&self, key: &K) -> usize {
        // Of the 64 bits the highest ones: a number below PARTS.
        (self.hasher.hash_one(key) >> (u64::BITS - PARTS.ilog2())) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::flow;
    use super::*;

    #[test]
    fn it_is_a_table() {
        let (mut table, keys) = (Table::default(), Vec::from_iter((0..1000).map(|n| flow(n, None).key)));
        assert!(table.is_empty());
        for (n, key) in keys.iter().enumerate() {
            table.entry(*key).or_insert(n);
            table.entry(*key).or_insert(0);
        }
        assert!(keys.iter().enumerate().all(|(n, key)| table.get(key) == Some(&n)));
        assert_eq!((table.len(), table.iter().count(), table.keys().count()), (1000, 1000, 1000));
        assert!(table.parts.iter().all(|part| !part.is_empty()), "spread over all parts");
        table.retain(|_, n| *n % 2 == 0);
        assert_eq!((table.len(), table.remove(&keys[2]), table.remove(&keys[2])), (500, Some(2), None));
        assert!(!table.contains_key(&keys[1]) && table.contains_key(&keys[4]));
    }
}
