//! Through which of its tenant's shards a function goes.

use super::{Refusal, Spec};
use crate::config::{Host, HostTenant};
use crate::model::{AttachmentName, PoolName, ShardId, TenantShard, rendezvous};
use std::collections::BTreeSet;

/// The name decides among those that it may have.
pub fn shard_for(config: &Host, name: &AttachmentName, spec: &Spec) -> Result<TenantShard, Refusal> {
    let tenant =
        config.tenants.iter().find(|tenant| tenant.name == spec.tenant).ok_or_else(|| Refusal::UnknownTenant(spec.tenant.clone()))?;
    let of = |shard| TenantShard { tenant: spec.tenant.clone(), shard };
    let served: BTreeSet<ShardId> = tenant.shards.iter().map(|shard| shard.shard).collect();
    if let Some(shard) = spec.shard.filter(|shard| !served.contains(shard)) {
        return Err(Refusal::UnknownShard(of(shard)));
    }
    let among: Vec<ShardId> = match (&spec.egress, spec.shard) {
        (Some(pool), shard) => {
            let shards = tenant.egress.as_ref().and_then(|pools| pools.get(pool)).ok_or_else(|| unknown(tenant, pool))?;
            match shard {
                Some(shard) if !shards.contains(&shard) => return Err(Refusal::OutsidePool { of: of(shard), pool: pool.clone() }),
                Some(shard) => vec![shard],
                None => served.intersection(shards).copied().collect(),
            }
        }
        (None, Some(shard)) => vec![shard],
        (None, None) => unnamed(tenant, served.iter().copied()),
    };
    let shard = among.into_iter().max_by_key(|shard| rendezvous(name.as_str(), shard.0.to_be_bytes()));
    shard.map(of).ok_or_else(|| none(tenant, spec.egress.as_ref()))
}

fn unnamed(tenant: &HostTenant, shards: impl Iterator<Item = ShardId>) -> Vec<ShardId> {
    match &tenant.egress {
        Some(pools) => pools.unnamed(shards),
        None => shards.collect(),
    }
}

fn unknown(tenant: &HostTenant, pool: &PoolName) -> Refusal {
    let remedy = match tenant.egress.as_ref().filter(|pools| !pools.is_empty()) {
        None => "give it pools with `egress` in this host's configuration, or in the directory".to_owned(),
        Some(pools) => format!("it has {pools}"),
    };
    Refusal::UnknownPool { tenant: tenant.name.clone(), pool: pool.clone(), remedy }
}

/// Why there is none: for now, or until somebody changes something.
fn none(tenant: &HostTenant, named: Option<&PoolName>) -> Refusal {
    let pools = tenant.egress.as_ref();
    if let Some(pool) = named.or_else(|| Some(pools?.default_pool()?.0)) {
        return Refusal::PoolAway { tenant: tenant.name.clone(), pool: pool.clone() };
    }
    match pools {
        Some(pools) if unnamed(tenant, tenant.left_out.iter().copied()).is_empty() => {
            Refusal::NoPool { tenant: tenant.name.clone(), pools: pools.to_string() }
        }
        _ => Refusal::Away(tenant.name.clone()),
    }
}
