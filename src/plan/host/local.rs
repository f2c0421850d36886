//! Networks of this host that lie in a tenant's: answers to the containers there must not go back into the tunnel.
//!
//! An answer out of a tunnel has the slot's mark and, translated back, a container's address. Where a CIDR of the tenant covers
//! that address, the slot's table would lead it into the tunnel again; a `throw` route, narrower than the CIDR's, hands it on
//! to the main table, which knows the container.
//!
//! Limits. What is thrown is this host's: the tenant's own addresses of the same numbers are out of reach from here. A local
//! network that a CIDR equals or lies in is left to the tunnel, or nothing of the CIDR would be left; a `source` that is narrower helps.
//! Where neither a `source` nor a connected network says what is behind an interface (a veth whose host's end has no
//! address, or one of its own only), nothing is thrown.

use super::{Attached, Inputs, Tunnel};
use crate::model::{IfName, Slot};
use crate::plan::{Route, RouteKey};
use ipnet::IpNet;
use std::collections::HashMap;

/// Whether a local network needs a `throw` among the routes of a tenant's CIDRs: one of them covers it, and none is equal to it.
pub fn is_thrown(cidrs: &[IpNet], local: &IpNet) -> bool {
    !cidrs.contains(local) && cidrs.iter().any(|cidr| cidr.contains(local))
}

/// The `throw` routes of all attachments.
pub(super) fn routes(inputs: &Inputs, tunnels: &[Tunnel]) -> Vec<(RouteKey, Route)> {
    let cidrs: HashMap<Slot, &[IpNet]> = tunnels.iter().map(|(slot, tenant, _)| (*slot, tenant.cidrs.as_slice())).collect();
    let names: HashMap<u32, &IfName> = inputs.facts.links.iter().map(|(name, link)| (link.index, name)).collect();
    let thrown = inputs.attachments.iter().filter_map(|attached| {
        let slot = inputs.slots.get(&attached.to)?;
        let cidrs = *cidrs.get(&slot)?;
        let local = networks(inputs, &names, attached).into_iter().filter(|net| is_thrown(cidrs, net));
        Some(local.map(move |net| (RouteKey { table: slot.table(), destination: net, metric: 0 }, Route::Throw)))
    });
    thrown.flatten().collect()
}

/// Where an attachment's containers have their addresses.
fn networks(inputs: &Inputs, names: &HashMap<u32, &IfName>, attached: &Attached) -> Vec<IpNet> {
    let facts = inputs.facts;
    let bridge = facts.link(&attached.interface).and_then(|link| link.master).filter(|_| attached.port).and_then(|index| names.get(&index));
    let ends = [Some(&attached.interface), bridge.copied()];
    let connected = ends.into_iter().flatten().flat_map(|name| facts.connected(name));
    attached.source.into_iter().chain(connected).collect()
}
