//! `host:`.

use super::common::{ADMIN_NAMES, PlatformParts, Seen};
use super::decode::{At, Decoder, Field, Shape, Table};
use super::flow_log;
use super::node::Node;
use super::registry::{OF_HOST, STATE_DIR};
use super::space::never_allowed;
use super::{Host, HostShard, HostTenant};
use crate::model::{GreKey, Pools, ShardId, Slot, TenantName};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

const HOST: Shape = Shape {
    what: "`host`",
    fields: &[
        Field::required("node", "node: host-1"),
        Field::required("platform", "platform: { interface: eth0, address: 10.9.0.11 }"),
        Field::optional("tunnel", "tunnel: gre"),
        Field::optional("wireguard", "wireguard: { private_key: /etc/portway/host.key }"),
        Field::optional("backend", "backend: auto"),
        Field::optional("runtime_dir", "runtime_dir: /run/portway"),
        Field::optional("admin", "admin: 127.0.0.1:9471"),
        Field::optional("admin_names", ADMIN_NAMES),
        Field::optional("directory", OF_HOST),
        Field::optional("flow_log", flow_log::EXAMPLE),
        Field::optional("tenants", "tenants: [{ name: acme, ... }]"),
    ],
};

const TENANT: Shape = Shape {
    what: "this tenant",
    fields: &[
        Field::required("name", "name: acme"),
        Field::optional("key", "key: 7"),
        Field::required("cidrs", "cidrs: [172.16.0.0/16]"),
        Field::optional("shards", SHARDS),
        Field::optional("egress", EGRESS),
    ],
};

const SHARD: Shape = Shape {
    what: "this shard",
    fields: &[
        Field::required("shard", "shard: 0"),
        Field::required("gateway", "gateway: 10.9.0.1"),
        Field::required("inner", "inner: 10.64.0.9"),
        Field::optional("wireguard", "wireguard: { public_key: KEY }"),
    ],
};

const SHARDS: &str = "shards: [{ shard: 0, gateway: 10.9.0.1, inner: 10.64.0.9 }]";

const EGRESS: &str = "egress: { partners: [1] }";

/// What of a tenant its shards are made of, as far as it could be decoded.
struct TenantParts<'a> {
    cidrs: &'a [IpNet],
    key: Option<GreKey>,
    platform: &'a PlatformParts,
}

/// Values that no two tenants of a node share.
struct SeenTenants {
    names: Seen<TenantName>,
    keys: Seen<GreKey>,
}

/// Values that no two shards of a tenant share.
struct SeenShards {
    shards: Seen<ShardId>,
    gateways: Seen<IpAddr>,
    inner: Seen<IpAddr>,
}

impl Decoder {
    pub fn host(&mut self, node: &Node, table: &Table<'_>) -> Option<Host> {
        let place = table.place("host");
        let table = self.table(node, &HOST, place)?;
        let name = self.field(&table, "node", |d, node| d.parsed(node, "`node`", "node: host-1"));
        let platform = self.platform(&table);
        let directory = self.host_directory(&table, platform.tunnel, |d, node| d.tunnelled(node, &platform));
        let state_dir = match &directory {
            Some(directory) => directory.as_ref().map(|directory| directory.at.state_dir.as_path()),
            // What is wrong with it was told.
            None => Some(Path::new(STATE_DIR)),
        };
        let wireguard = self.host_key(&table, platform.tunnel, state_dir);
        let backend = self.backend(&table);
        let runtime_dir = self.runtime_dir(&table);
        let admin = self.admin(&table, 9471);
        let admin_names = self.admin_names(&table);
        let flow_log = self.flow_log(&table);
        let asks = table.written("directory");
        if !asks && !table.written("tenants") {
            self.fault(place, "`host` lacks `tenants`", "add `tenants: [{ name: acme, ... }]`, or a `directory` that knows them");
        }
        let tenants = self.field_or(&table, "tenants", Vec::new(), |d, node| d.host_tenants(node, &platform, asks));
        Some(Host {
            node: name?.value,
            platform: platform.whole()?,
            backend: backend?,
            runtime_dir: runtime_dir?,
            admin: admin?,
            admin_names: admin_names?,
            wireguard: wireguard?,
            directory: directory?,
            tenants: tenants?,
            flow_log: flow_log?,
        })
    }

    fn host_tenants(&mut self, node: &Node, platform: &PlatformParts, directory: bool) -> Option<Vec<HostTenant>> {
        let mut seen = SeenTenants { names: Seen::new("the tenant name"), keys: Seen::new("key") };
        let tenants =
            self.items(node, "`tenants`", "- { name: acme, ... }", |d, item| d.host_tenant(item, platform, directory, &mut seen))?;
        let tunnels: usize = tenants.iter().map(|tenant| tenant.shards.len()).sum();
        if tunnels > usize::from(Slot::MAX.get()) {
            let what = format!("{tunnels} shards of all tenants are more than a node can serve");
            self.fault(node.span, what, format!("list at most {}", Slot::MAX));
        }
        Some(tenants)
    }

    fn host_tenant(&mut self, node: &Node, platform: &PlatformParts, directory: bool, seen: &mut SeenTenants) -> Option<HostTenant> {
        let table = self.table(node, &TENANT, node.span)?;
        let name = self.field(&table, "name", |d, node| d.parsed(node, "`name`", "name: acme"));
        self.unique(&mut seen.names, name.as_ref(), "write all shards of a tenant in one entry");
        let key = self.tenant_key(&table, platform);
        self.unique(&mut seen.keys, key.as_ref(), "give every tenant of this node its own key, the same as on its gateways");
        let cidrs = self
            .field(&table, "cidrs", |d, node| d.items(node, "`cidrs`", "cidrs: [172.16.0.0/16]", |d, item| d.tunnelled(item, platform)));
        let own = TenantParts { cidrs: cidrs.as_deref().unwrap_or_default(), key: key.as_ref().map(|key| key.value), platform };
        let of = name.as_ref().map_or_else(String::new, |name| format!("{}'s ", name.value));
        let mut shards_seen = SeenShards {
            shards: Seen::new(format!("{of}shard")),
            gateways: Seen::new(format!("{of}gateway")),
            inner: Seen::new(format!("{of}inner address")),
        };
        if !directory && !table.written("shards") {
            self.fault(table.span, "this tenant lacks `shards`", format!("add `{SHARDS}`"));
        }
        let shards = self.field_or(&table, "shards", Vec::new(), |d, node| {
            d.items(node, "`shards`", "- { shard: 0, gateway: 10.9.0.1, inner: 10.64.0.9 }", |d, item| {
                d.host_shard(item, &own, &mut shards_seen)
            })
        });
        let egress = self.field_or(&table, "egress", None, |d, node| d.pools(node, shards.as_deref().unwrap_or_default()).map(Some));
        Some(HostTenant { name: name?.value, cidrs: cidrs?, shards: shards?, egress: egress?, left_out: BTreeSet::new() })
    }

    /// `shards`: those of the file; none where a directory says which there are.
    fn pools(&mut self, node: &Node, shards: &[HostShard]) -> Option<Pools> {
        let pools = self.keyed(node, "egress", EGRESS, |d, node| {
            let mut seen = Seen::new("shard");
            let pool = d.items(node, "a pool", "partners: [1]", |d, item| {
                let shard = d.shard(item)?;
                d.unique(&mut seen, Some(&shard), "write each shard of a pool once");
                if !shards.is_empty() && !shards.iter().any(|known| known.shard == shard.value) {
                    d.fault(shard.span, format!("the tenant has no shard {}", shard.value), "write shards of `shards`");
                    return None;
                }
                Some(shard.value)
            })?;
            Some(pool.into_iter().collect())
        })?;
        let pools = Pools::new(pools);
        if let Some((pool, shard)) = pools.given_away() {
            let what = format!("shard {shard} is in the pools {pool} and default");
            self.fault(node.span, what, format!("take it out of one: whoever names no pool would be seen from the address of {pool}"));
            return None;
        }
        Some(pools)
    }

    /// A destination that goes into the tunnel.
    fn tunnelled(&mut self, node: &Node, platform: &PlatformParts) -> Option<IpNet> {
        let net = self.network(node, "the tenant's network", false)?;
        if let Some(forbidden) = never_allowed(&net.value) {
            let what = format!("the tenant's network {} covers {forbidden}", net.value);
            self.fault(net.span, what, "write the tenant's own networks only; no gateway forwards to this");
            return None;
        }
        if let Some(address) = platform.address.filter(|address| net.value.contains(address)) {
            let what = format!("the tenant's network {} contains the platform address {address}", net.value);
            self.fault(net.span, what, "write networks without it: the tunnel would run inside itself");
            return None;
        }
        Some(net.value)
    }

    fn host_shard(&mut self, node: &Node, tenant: &TenantParts<'_>, seen: &mut SeenShards) -> Option<HostShard> {
        let (platform, cidrs) = (tenant.platform, tenant.cidrs);
        let table = self.table(node, &SHARD, node.span)?;
        let shard = self.field(&table, "shard", |d, node| d.shard(node));
        self.unique(&mut seen.shards, shard.as_ref(), "give every shard of a tenant its own number");
        let gateway = self.field(&table, "gateway", |d, node| d.address(node, "the gateway"));
        self.unique(&mut seen.gateways, gateway.as_ref(), "give every shard its own gateway address: the tunnels would be the same");
        let inner = self.field(&table, "inner", |d, node| d.address(node, "the inner address"));
        self.unique(&mut seen.inner, inner.as_ref(), "give every shard of a tenant its own inner address");
        if let Some(gateway) = &gateway {
            self.gateway_address(gateway, platform, cidrs);
        }
        if let Some(inner) = &inner {
            self.inner_address(inner, platform, cidrs);
        }
        let number = shard.map(|at| at.value);
        let tunnel = self.host_tunnel(&table, platform.tunnel, tenant.key, number);
        Some(HostShard { shard: number?, gateway: gateway?.value, tunnel: tunnel?, inner: inner?.value })
    }

    fn gateway_address(&mut self, gateway: &At<IpAddr>, platform: &PlatformParts, cidrs: &[IpNet]) {
        if platform.address == Some(gateway.value) {
            let what = format!("the gateway {} is this host's own platform address", gateway.value);
            self.fault(gateway.span, what, "write the gateway's platform address");
        } else if let Some(net) = cidrs.iter().find(|net| net.contains(&gateway.value)) {
            let what = format!("the gateway {} lies in the tenant's network {net}", gateway.value);
            self.fault(gateway.span, what, "write the gateway's platform address, or narrow `cidrs`: the tunnel would run inside itself");
        }
    }

    fn inner_address(&mut self, inner: &At<IpAddr>, platform: &PlatformParts, cidrs: &[IpNet]) {
        if platform.address == Some(inner.value) {
            let what = format!("the inner address {} is the platform address", inner.value);
            self.fault(inner.span, what, "write the address that the gateway has for this host under `peers`");
        } else if let Some(net) = cidrs.iter().find(|net| net.contains(&inner.value)) {
            let what = format!("the inner address {} lies in the tenant's network {net}", inner.value);
            self.fault(inner.span, what, "take inner addresses that the tenant does not use");
        }
    }
}
