//! How many connections each shard has.

use crate::kernel::KernelError;
use crate::kernel::conntrack::{Filter, FlowDump};
use crate::model::TenantShard;
use std::collections::BTreeMap;

/// Reads all entries of this kernel: half a second and more where there are some 100,000. `zones`: of each shard.
pub fn count(zones: &BTreeMap<u16, TenantShard>) -> Result<BTreeMap<String, u64>, KernelError> {
    let mut counts: BTreeMap<u16, u64> = zones.keys().map(|zone| (*zone, 0)).collect();
    let mut dump = FlowDump::start(Filter::default())?;
    while dump.next(|flow| counts.get_mut(&flow.key.zone).into_iter().for_each(|count| *count += 1))? {}
    Ok(zones.iter().map(|(zone, of)| (of.to_string(), counts.get(zone).copied().unwrap_or(0))).collect())
}
