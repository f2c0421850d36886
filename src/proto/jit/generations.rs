//! A map that forgets: the oldest first, and all in constant time.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Two maps. What is new or renewed goes into the young one; when that is full, or old enough, it becomes the old one, and what was in the old
/// one is forgotten. So at least the last half of the limit is remembered, never more than the limit, and no list is kept.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
    aging: Option<Aging>,
    /// How many were forgotten for want of room.
    pub crowded_out: u64,
}

#[derive(Debug)]
struct Aging {
    period: Duration,
    next: Instant,
}

impl<K: Copy + Eq + Hash, V> Generations<K, V> {
    /// At most this many, 2 at least.
    pub fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (limit / 2).max(1), aging: None, crowded_out: 0 }
    }

    /// And none that was not renewed for twice this long; all that was renewed within this long.
    pub fn lasting(limit: usize, now: Instant, period: Duration) -> Self {
        Self { aging: Some(Aging { period, next: now + period }), ..Self::new(limit) }
    }

    pub fn age(&mut self, now: Instant) {
        let Some(aging) = &mut self.aging else { return };
        if now < aging.next {
            return;
        }
        let slept = now >= aging.next + aging.period;
        aging.next = now + aging.period;
        self.turn();
        if slept {
            self.old.clear();
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// As [`Generations::get`], and it is young again.
    pub fn renew(&mut self, key: &K) -> Option<&mut V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// As [`Generations::renew`], or new.
    pub fn renew_or(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            let former = self.old.remove(&key);
            self.make_room();
            return self.young.entry(key).or_insert_with(|| former.unwrap_or_else(new));
        }
        self.young.entry(key).or_insert_with(|| self.old.remove(&key).unwrap_or_else(new))
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.make_room();
        }
        self.young.insert(key, value);
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn make_room(&mut self) {
        self.crowded_out += self.old.len() as u64;
        self.turn();
    }

    fn turn(&mut self) {
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_half_is_remembered_and_the_limit_holds(keys in proptest::collection::vec(0u8..60, 0..300), limit in 2usize..40) {
            let mut map = Generations::new(limit);
            for (i, key) in keys.iter().enumerate() {
                let before = map.get(key).copied();
                match i % 3 {
                    0 => map.insert(*key, i),
                    1 => prop_assert_eq!(*map.renew_or(*key, || usize::MAX), before.unwrap_or(usize::MAX)),
                    _ => prop_assert_eq!(map.renew(key).copied(), before),
                }
                *map.renew_or(*key, || i) = i;
                prop_assert!(map.len() <= limit && map.iter().count() == map.len());
                let mut recent: Vec<u8> = vec![];
                for key in keys[..=i].iter().rev() {
                    if !recent.contains(key) {
                        recent.push(*key);
                    }
                }
                for key in recent.iter().take(limit / 2) {
                    let last = keys[..=i].iter().rposition(|k| k == key);
                    prop_assert_eq!(map.get(key).copied(), last);
                }
            }
        }
    }

    #[test]
    fn what_nobody_renews_is_forgotten_in_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut map = Generations::lasting(100, start, second);
        map.insert(1, ());
        map.insert(2, ());
        map.age(start + second);
        assert!(map.renew(&2).is_some() && map.len() == 2);
        map.age(start + 2 * second);
        assert_eq!((map.get(&1), map.get(&2)), (None, Some(&())));
        map.age(start + 9 * second);
        assert_eq!(map.len(), 0, "nobody looked for long");
        assert_eq!(map.crowded_out, 0);
    }
}
