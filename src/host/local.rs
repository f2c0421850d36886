//! Whether an attachment needs more than its element: routes for answers to a container whose address lies in its tenant's network.

use super::Node;
use crate::kernel::Kernel;
use crate::plan::host::{Attached, is_thrown};
use crate::plan::{Route, RouteKey, State};
use anyhow::Context;
use std::collections::BTreeSet;

impl Node {
    /// Whether a `throw` route is missing for what is behind this interface, as the kernel knows it now: it may be newer than
    /// the last pass. A bridge's port is not asked about: it comes by a whole pass anyway.
    pub(super) fn lacks_throw(&self, kernel: &Kernel, attached: &Attached) -> anyhow::Result<bool> {
        let tenant = self.config.tenants.iter().find(|tenant| tenant.name == attached.to.tenant);
        let Some((tenant, slot)) = tenant.zip(self.slots.get(&attached.to)) else { return Ok(false) };
        let connected = kernel.connected(attached.index).context("cannot tell the container's network")?;
        let mut local = attached.source.into_iter().chain(connected).filter(|net| is_thrown(&tenant.cidrs, net));
        Ok(local.any(|net| !self.thrown.contains(&RouteKey { table: slot.table(), destination: net, metric: 0 })))
    }
}

/// The `throw` routes of a state.
pub(super) fn thrown(state: &State) -> BTreeSet<RouteKey> {
    state.routes.iter().filter(|(_, route)| **route == Route::Throw).map(|(key, _)| key.clone()).collect()
}
