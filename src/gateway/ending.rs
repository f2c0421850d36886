//! Connections that end because the configuration or the peers have changed.

use super::Node;
use super::peers::Peers;
use crate::config::{Gateway, StaticPeer};
use crate::kernel::Kernel;
use crate::model::{FlowKey, Slot, TenantShard};
use crate::plan::NftTable;
use crate::plan::flows::{Owners, Terms};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};

impl Node {
    /// Of what an earlier process left.
    pub(super) fn terms_found(&self) -> Vec<(u16, Terms)> {
        let mut owners = Owners::of(self.peers.iter().map(|(peer, _)| peer));
        let found = self.config.served().filter_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            // Of those whom the directory knows, some have been let in.
            let all = self.config.directory.is_none();
            Some((self.zone(&of)?, Terms::found((tenant, shard), owners.remove(&of).unwrap_or_default(), all)))
        });
        found.collect()
    }

    /// Of what differs between what is in force and what comes. The connections of a shard that goes end altogether.
    pub(super) fn terms_changed(&self, config: &Gateway, peers: &Peers) -> Vec<(u16, Terms)> {
        let old: BTreeMap<_, _> = self.config.served().map(|(tenant, shard)| (tenant.of(shard.shard), (tenant, shard))).collect();
        let [mut before, mut after] = [&self.peers, peers].map(|peers| Owners::of(peers.iter().map(|(peer, _)| peer)));
        let changed = config.served().filter_map(|new| {
            let of = new.0.of(new.1.shard);
            let [before, after] = [&mut before, &mut after].map(|owners| owners.remove(&of).unwrap_or_default());
            Some((self.zone(&of)?, Terms::changed(*old.get(&of)?, before, new, after)?))
        });
        changed.collect()
    }

    /// The connections of slots that are free, which another shard may get. The group may still make copies of some until it knows: they
    /// end once more then.
    pub(super) async fn end_the_freed(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        if self.group.is_running() && self.regroup {
            self.over_again.add(&self.over);
        } else {
            self.over.add(&std::mem::take(&mut self.over_again));
        }
        self.over.end(kernel).await
    }

    /// The connections that do not comply with what has changed, once the rules that keep them from beginning anew are in force.
    pub(super) async fn end_the_changed(&mut self, kernel: &Kernel) -> anyhow::Result<()> {
        let Some(ruleset) = &self.ruleset else { return Ok(()) };
        if self.terms.is_empty() || !kernel.has_ruleset(NftTable::Inet, ruleset).await {
            return Ok(());
        }
        end(kernel, &self.terms).await?;
        self.terms.clear();
        Ok(())
    }

    /// The connections of a host that is no peer any more. If that fails, the next pass tries again.
    pub(super) async fn end_those_of(&mut self, kernel: &Kernel, peer: &StaticPeer) -> anyhow::Result<()> {
        let mut owners = Owners::of([peer]);
        let gone = self.config.served().filter_map(|(tenant, shard)| {
            let of = tenant.of(shard.shard);
            Some((self.zone(&of)?, Terms::without((tenant, shard), owners.remove(&of)?)))
        });
        let terms: Vec<(u16, Terms)> = gone.collect();
        end(kernel, &terms).await.inspect_err(|_| self.terms.extend(terms))
    }

    /// Of every shard.
    pub(super) fn zones(&self) -> BTreeMap<u16, TenantShard> {
        let shards = self.config.served().map(|(tenant, shard)| tenant.of(shard.shard));
        shards.filter_map(|of| Some((self.zone(&of)?, of))).collect()
    }

    pub(super) fn zone(&self, of: &TenantShard) -> Option<u16> {
        self.slots.get(of).map(Slot::zone)
    }
}

async fn end(kernel: &Kernel, terms: &[(u16, Terms)]) -> anyhow::Result<()> {
    let mut of_zone: BTreeMap<u16, Vec<&Terms>> = BTreeMap::new();
    for (zone, terms) in terms {
        of_zone.entry(*zone).or_default().push(terms);
    }
    let zones: BTreeSet<u16> = of_zone.keys().copied().collect();
    let ends = |key: &FlowKey, nat| of_zone.get(&key.zone).is_some_and(|terms| terms.iter().any(|terms| terms.end(key, nat)));
    let ended = kernel.end_flows(&zones, ends).await.context("cannot end connections that are no longer allowed")?;
    if ended > 0 {
        tracing::info!(ended, "connections ended that are no longer allowed");
    }
    Ok(())
}
