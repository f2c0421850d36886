//! Which slot each (tenant, shard) has, and which number each peer has, on this node.
//!
//! Both must outlive the process, or a restart would move marks under live connections. They are kept where they are
//! used: slots in the aliases of the tunnel interfaces, peer numbers in the marks of the `peers` map.

use crate::model::{IfName, Slot, TenantShard};
use std::collections::{BTreeMap, BTreeSet};

/// What an interface alias of ours begins with.
const ALIAS: &str = "portway ";

/// No number is free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no room for {what}: {max} are in use, the most that a node can hold; spread them over more nodes")]
pub struct Full {
    pub what: String,
    pub max: u16,
}

/// Numbers 1 to `max` handed out to keys, each as long as its key is wanted. Handing one out or back takes O(log n).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers<K> {
    max: u16,
    taken: BTreeMap<K, u16>,
    /// All from here on are free.
    fresh: u32,
    /// Those that are free below it.
    gaps: BTreeSet<u16>,
}

impl<K: Ord + Clone + std::fmt::Display> Numbers<K> {
    pub fn new(max: u16) -> Self {
        Self { max, taken: BTreeMap::new(), fresh: 1, gaps: BTreeSet::new() }
    }

    /// Takes over what an earlier process handed out. The first of two claims on a number wins.
    pub fn recover(max: u16, found: impl IntoIterator<Item = (K, u16)>) -> Self {
        let mut owners = BTreeMap::new();
        for (key, number) in found {
            if (1..=max).contains(&number) {
                owners.entry(number).or_insert(key);
            }
        }
        let taken: BTreeMap<K, u16> = owners.into_iter().map(|(number, key)| (key, number)).collect();
        let used: BTreeSet<u16> = taken.values().copied().collect();
        let last = used.last().copied().unwrap_or(0);
        Self { max, taken, fresh: u32::from(last) + 1, gaps: (1..last).filter(|n| !used.contains(n)).collect() }
    }

    /// Gives every wanted key a number, the lowest free one, then frees those of keys no longer wanted: a number
    /// never passes from one key to another in the same call. Answers with the numbers that are free now.
    pub fn assign<'k>(&mut self, wanted: impl IntoIterator<Item = &'k K> + Clone) -> Result<Vec<u16>, Full>
    where
        K: 'k,
    {
        for key in wanted.clone() {
            self.of(key)?;
        }
        let wanted: BTreeSet<&K> = wanted.into_iter().collect();
        let freed: Vec<u16> = self.taken.extract_if(.., |key, _| !wanted.contains(key)).map(|(_, number)| number).collect();
        self.gaps.extend(&freed);
        Ok(freed)
    }

    /// The number of a key; if it has none, the lowest free one.
    pub fn of(&mut self, key: &K) -> Result<u16, Full> {
        if let Some(number) = self.taken.get(key) {
            return Ok(*number);
        }
        let number = match self.gaps.pop_first() {
            Some(gap) => gap,
            None => {
                let fresh = u16::try_from(self.fresh).ok().filter(|n| *n <= self.max);
                self.fresh += u32::from(fresh.is_some());
                fresh.ok_or_else(|| Full { what: key.to_string(), max: self.max })?
            }
        };
        self.taken.insert(key.clone(), number);
        Ok(number)
    }

    /// Frees the number of a key.
    pub fn release(&mut self, key: &K) {
        self.gaps.extend(self.taken.remove(key));
    }

    pub fn get(&self, key: &K) -> Option<u16> {
        self.taken.get(key).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, u16)> {
        self.taken.iter().map(|(key, number)| (key, *number))
    }
}

/// The slot of each (tenant, shard).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots(Numbers<TenantShard>);

impl Default for Slots {
    fn default() -> Self {
        Self(Numbers::new(Slot::MAX.get()))
    }
}

impl Slots {
    /// From the tunnel interfaces that stand: name and alias of each.
    pub fn recover<'a>(links: impl IntoIterator<Item = (&'a IfName, &'a str)>) -> Self {
        let found = links.into_iter().filter_map(|(name, alias)| {
            let (slot, _) = name.slot()?;
            Some((owner(alias)?, slot.get()))
        });
        Self(Numbers::recover(Slot::MAX.get(), found))
    }

    /// Answers with the slots that are free now: what still carries their marks is nobody's.
    pub fn assign<'k>(&mut self, wanted: impl IntoIterator<Item = &'k TenantShard> + Clone) -> Result<Vec<Slot>, Full> {
        Ok(self.0.assign(wanted)?.into_iter().filter_map(|n| Slot::try_from(n).ok()).collect())
    }

    pub fn get(&self, of: &TenantShard) -> Option<Slot> {
        self.0.get(of).and_then(|n| Slot::try_from(n).ok())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().count()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&TenantShard, Slot)> {
        self.0.iter().filter_map(|(key, n)| Slot::try_from(n).ok().map(|slot| (key, slot)))
    }
}

/// Whose tunnel an alias says that this is.
pub fn owner(alias: &str) -> Option<TenantShard> {
    alias.strip_prefix(ALIAS)?.parse().ok()
}

/// The alias of a tunnel interface.
pub fn alias(of: &TenantShard) -> String {
    format!("{ALIAS}{of}")
}

#[cfg(test)]
mod tests;
