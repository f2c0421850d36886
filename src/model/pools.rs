//! Pools of outbound addresses: names for some of a tenant's shards, each of which has an address of its own in the tenant's network.

use super::{PoolName, ShardId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Of a tenant. A function that is to be known by a pool's addresses goes through a shard of it; one that names no pool goes through the pool `default`, or,
/// where there is none, through shards that are in no pool: nobody gets the address of a pool without asking for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pools(BTreeMap<PoolName, BTreeSet<ShardId>>);

impl Pools {
    pub const DEFAULT: &str = "default";

    pub fn new(pools: BTreeMap<PoolName, BTreeSet<ShardId>>) -> Self {
        Self(pools)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PoolName, &BTreeSet<ShardId>)> {
        self.0.iter()
    }

    pub fn get(&self, pool: &PoolName) -> Option<&BTreeSet<ShardId>> {
        self.0.get(pool)
    }

    /// That of functions which name none.
    pub fn default_pool(&self) -> Option<(&PoolName, &BTreeSet<ShardId>)> {
        self.0.iter().find(|(name, _)| name.as_str() == Self::DEFAULT)
    }

    /// A shard of another pool that is in the pool `default`, too.
    pub fn given_away(&self) -> Option<(&PoolName, ShardId)> {
        let (_, default) = self.default_pool()?;
        let others = self.0.iter().filter(|(name, _)| name.as_str() != Self::DEFAULT);
        others.filter_map(|(name, shards)| Some((name, *shards.intersection(default).next()?))).next()
    }

    /// Those of them that a function may go through which names no pool.
    pub fn unnamed(&self, shards: impl Iterator<Item = ShardId>) -> Vec<ShardId> {
        let default = self.default_pool().map(|(_, default)| default);
        let pooled = |shard: &ShardId| self.0.values().any(|pool| pool.contains(shard));
        shards.filter(|shard| default.map_or(!pooled(shard), |default| default.contains(shard))).collect()
    }
}

/// Their names.
impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.keys().map(PoolName::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unnamed(pools: &[(&str, &[u16])]) -> Vec<u16> {
        let shards = |all: &[u16]| all.iter().copied().map(ShardId).collect();
        let pools = Pools::new(pools.iter().map(|(name, all)| (name.parse().unwrap(), shards(all))).collect());
        pools.unnamed((0..4).map(ShardId)).into_iter().map(|shard| shard.0).collect()
    }

    #[test]
    fn who_names_no_pool_gets_the_default_or_what_is_in_none() {
        assert_eq!(unnamed(&[]), [0, 1, 2, 3]);
        assert_eq!(unnamed(&[("partners", &[1]), ("crawlers", &[1, 3])]), [0, 2]);
        assert_eq!(unnamed(&[("partners", &[1]), ("default", &[0, 2])]), [0, 2]);
        assert!(unnamed(&[("all", &[0, 1, 2, 3])]).is_empty());
    }

    #[test]
    fn the_default_gives_nothing_of_another_pool_away() {
        let given = |default: &[u16]| {
            let pool = |name: &str, all: &[u16]| (name.parse().unwrap(), all.iter().copied().map(ShardId).collect());
            let pools = Pools::new([pool("crawlers", &[3]), pool("partners", &[1, 2, 3]), pool("default", default)].into());
            pools.given_away().map(|(name, shard)| (name.to_string(), shard.0))
        };
        assert_eq!([given(&[0]), given(&[0, 2])], [None, Some(("partners".into(), 2))]);
        assert_eq!(Pools::default().given_away(), None);
    }
}
