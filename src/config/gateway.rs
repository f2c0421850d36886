//! `gateway:`.

use super::cloud::CLOUD;
use super::common::{ADMIN_NAMES, PlatformParts, Seen};
use super::decode::{At, Decoder, Field, Shape, Table};
use super::flow_log;
use super::ha::{Group, Local, SHARDS, TenantParts};
use super::node::Node;
use super::peers::Known;
use super::registry;
use super::space::{never_allowed, overlap};
use super::track::{self, Place};
use super::tunnel::WIREGUARD;
use super::{Allow, Gateway, GatewayShard, GatewayTenant, Snat, StaticPeer};
use crate::model::{GreKey, IfName, PortRange, ShardId, Slot, TenantName};
use ipnet::IpNet;
use std::net::IpAddr;

pub(super) const GATEWAY: Shape = Shape {
    what: "`gateway`",
    fields: &[
        Field::required("node", "node: gw-a1"),
        Field::required("platform", "platform: { interface: eth0, address: 10.9.0.1 }"),
        Field::optional("tunnel", "tunnel: gre"),
        Field::optional("backend", "backend: auto"),
        Field::optional("runtime_dir", "runtime_dir: /run/portway"),
        Field::optional("admin", "admin: 127.0.0.1:9470"),
        Field::optional("admin_names", ADMIN_NAMES),
        Field::optional("ha", "ha: { nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }, keys: [{ id: 1, file: /etc/portway/ha.key }] }"),
        Field::optional("directory", registry::OF_GATEWAY),
        Field::optional("idle", "idle: 5m"),
        Field::optional("flow_log", flow_log::EXAMPLE),
        Field::optional("cloud", CLOUD),
        Field::required("tenants", "tenants: [{ name: acme, ... }]"),
    ],
};

const TENANT: Shape = Shape {
    what: "this tenant",
    fields: &[
        Field::required("name", "name: acme"),
        Field::optional("key", "key: 7"),
        Field::optional("wireguard", WIREGUARD),
        Field::required("interface", "interface: eth1"),
        Field::optional("router", "router: 172.16.101.1"),
        Field::required("allow", "allow: [{ to: 172.16.0.0/16, tcp: [5432] }]"),
        Field::optional("snat", "snat: { address: 172.16.101.10, ports: 1024-65535 }"),
        Field::required("inner", "inner: 10.64.0.0/16"),
        Field::optional("shards", SHARDS),
        Field::optional("track", track::EXAMPLE),
    ],
};

const ALLOW: Shape = Shape {
    what: "this `allow` entry",
    fields: &[
        Field::required("to", "to: 172.16.0.0/16"),
        Field::optional("tcp", "tcp: [5432, \"8000-8099\"]"),
        Field::optional("udp", "udp: [53]"),
        Field::optional("icmp", "icmp: true"),
    ],
};

const SNAT: Shape = Shape {
    what: "`snat`",
    fields: &[Field::optional("address", "address: 172.16.101.10"), Field::optional("ports", "ports: 1024-65535")],
};

/// Ports of the source that a server sees, unless something else is written: all that are not reserved.
const DEFAULT_PORTS: PortRange = PortRange { first: 1024, last: 65535 };

/// What a tenant is checked against: values that no two of a node share, and how the gateways of a group share addresses.
struct TenantChecks {
    group: Group,
    names: Seen<TenantName>,
    keys: Seen<GreKey>,
    ports: Seen<u16>,
    interfaces: Seen<IfName>,
}

impl Decoder {
    /// `peers` is the node under the top-level key of that name.
    pub fn gateway(&mut self, node: &Node, table: &Table<'_>, peers: Option<&Node>) -> Option<Gateway> {
        let place = table.place("gateway");
        let table = self.table(node, &GATEWAY, place)?;
        let name = self.field(&table, "node", |d, node| d.parsed(node, "`node`", "node: gw-a1"));
        let platform = self.platform(&table);
        let backend = self.backend(&table);
        let runtime_dir = self.runtime_dir(&table);
        let admin = self.admin(&table, 9470);
        let admin_names = self.admin_names(&table);
        let mut known = Known::default();
        known.locals.extend(platform.address.map(|address| (address, Local::Own)));
        let (place, own) = (table.place("ha"), name.as_ref().map(|name| &name.value));
        let asks = table.written("directory");
        let ha = self.field_or(&table, "ha", None, |d, node| d.ha(node, place, own, &platform, &mut known.locals, asks).map(Some));
        let directory = self.gateway_directory(&table, platform.tunnel);
        let group = Group::new(table.written("ha"), ha.as_ref().and_then(Option::as_ref));
        let tenants_place = table.place("tenants");
        let tenants = self.field(&table, "tenants", |d, node| d.gateway_tenants(node, &platform, group, &mut known));
        let peers: Option<Vec<StaticPeer>> = match peers {
            Some(peers) => self.peers(peers, platform.tunnel, &known),
            None => Some(Vec::new()),
        };
        let flow_log = self.flow_log(&table);
        let cloud = self.field_or(&table, "cloud", None, Self::cloud);
        let directory = directory?;
        let gateway = Gateway {
            node: name?.value,
            platform: platform.whole()?,
            backend: backend?,
            runtime_dir: runtime_dir?,
            admin: admin?,
            admin_names: admin_names?,
            ha: ha?,
            tenants: tenants?,
            peers: peers?,
            directory: directory.0,
            idle: directory.1,
            flow_log: flow_log?,
            cloud: cloud?,
        };
        self.fitting(&gateway, table.place("cloud"));
        let shards = gateway.served().count();
        if shards > usize::from(Slot::MAX.get()) {
            let what = format!("{shards} shards, of all tenants, that fall to this node are more than it can serve");
            self.fault(tenants_place, what, format!("list fewer, {} at most for a node", Slot::MAX));
        }
        Some(gateway)
    }

    fn gateway_tenants(&mut self, node: &Node, platform: &PlatformParts, group: Group, known: &mut Known) -> Option<Vec<GatewayTenant>> {
        let items = self.list(node, "`tenants`", "- { name: acme, ... }")?;
        let (names, keys, interfaces) = (Seen::new("the tenant name"), Seen::new("key"), Seen::new("the interface"));
        let mut checks = TenantChecks { group, names, keys, ports: Seen::new("port"), interfaces };
        let tenants = items.iter().filter_map(|item| self.gateway_tenant(item, platform, &mut checks, known)).collect();
        self.apart(&checks.group, known);
        Some(tenants)
    }

    fn gateway_tenant(
        &mut self,
        node: &Node,
        platform: &PlatformParts,
        checks: &mut TenantChecks,
        known: &mut Known,
    ) -> Option<GatewayTenant> {
        let Some(table) = self.table(node, &TENANT, node.span) else {
            known.incomplete = true;
            return None;
        };
        let name = self.field(&table, "name", |d, node| d.parsed(node, "`name`", "name: acme"));
        self.unique(&mut checks.names, name.as_ref(), "give every tenant of this node its own name");
        let key = self.tenant_key(&table, platform);
        self.unique(&mut checks.keys, key.as_ref(), "give every tenant of this node its own key, the same as on its function hosts");
        let interface = self.field(&table, "interface", |d, node| d.tenant_interface(node, platform));
        self.unique(&mut checks.interfaces, interface.as_ref(), "give every tenant its own interface: what comes in on it is the tenant's");
        let router = self.field_or(&table, "router", None, |d, node| d.address(node, "the router").map(|at| Some(at.value)));
        let inner = self.field(&table, "inner", |d, node| d.inner_range(node, platform)).map(|at| at.value);
        let allow = self.field(&table, "allow", |d, node| {
            d.items(node, "`allow`", "- { to: 172.16.0.0/16, tcp: [5432] }", |d, item| d.allow(item, platform, inner.as_ref()))
        });
        let ha = checks.group.on;
        let shards = if ha {
            let ports = self.field_or(&table, "snat", DEFAULT_PORTS, Self::snat_of_shards);
            if table.written("wireguard") {
                let remedy = "remove it: with `ha` every shard has its own";
                self.fault(table.place("wireguard"), "this tenant has `wireguard` beside its `shards`", remedy);
            }
            let tenant = TenantParts { inner: inner.as_ref(), ports, key: key.as_ref().map(|key| key.value), platform };
            self.gateway_shards(&table, &tenant, known, &mut checks.group, &mut checks.ports)
        } else {
            self.shard_alone(&table, platform, key.as_ref().map(|key| key.value), &mut checks.ports)
        };
        if !ha && table.get("track").is_some() {
            let remedy = "add `ha` to the gateway, or remove it: without another gateway nothing can be left to it";
            self.fault(table.place("track"), "`track` goes with `ha` only", remedy);
        }
        let own = Place::Tenant { platform: platform.interface.as_ref(), interface: interface.as_ref().map(|at| &at.value) };
        let track = self.field_or(&table, "track", Vec::new(), |d, node| d.track(node, &own));
        match &name {
            Some(name) => {
                let written = shards.as_ref().map(|shards| shards.iter().map(|shard| shard.shard).collect());
                let shards = if ha { written } else { Some([ShardId::default()].into()) };
                known.add(name.value.clone(), inner, allow.as_deref().unwrap_or_default(), shards);
            }
            None => known.incomplete = true,
        }
        Some(GatewayTenant {
            name: name?.value,
            interface: interface?.value,
            router: router?,
            allow: allow?,
            shards: shards?,
            inner: inner?,
            track: track?,
        })
    }

    fn tenant_interface(&mut self, node: &Node, platform: &PlatformParts) -> Option<At<IfName>> {
        let interface = self.interface(node)?;
        if platform.interface.as_ref() == Some(&interface.value) {
            let what = format!("{} is the platform's interface too", interface.value);
            self.fault(node.span, what, "name the interface in the tenant's subnet: the two sides must be apart");
            return None;
        }
        Some(interface)
    }

    fn inner_range(&mut self, node: &Node, platform: &PlatformParts) -> Option<At<IpNet>> {
        let inner = self.network(node, "`inner`", false)?;
        if let Some(forbidden) = never_allowed(&inner.value) {
            let what = format!("`inner` {} covers {forbidden}", inner.value);
            self.fault(node.span, what, "choose from private address space, such as 10.64.0.0/16 or 100.64.0.0/16");
            return None;
        }
        if let Some(address) = platform.address.filter(|address| inner.value.contains(address)) {
            let what = format!("`inner` {} contains the platform address {address}", inner.value);
            self.fault(node.span, what, "choose inner addresses that nothing outside the tunnels has");
            return None;
        }
        Some(inner)
    }

    fn allow(&mut self, node: &Node, platform: &PlatformParts, inner: Option<&IpNet>) -> Option<Allow> {
        let table = self.table(node, &ALLOW, node.span)?;
        let to = self.field(&table, "to", |d, node| d.destination(node, platform, inner));
        let tcp = self.field_or(&table, "tcp", Vec::new(), |d, node| d.ports(node, "tcp"));
        let udp = self.field_or(&table, "udp", Vec::new(), |d, node| d.ports(node, "udp"));
        let icmp = self.field_or(&table, "icmp", false, |d, node| d.boolean(node, "icmp"));
        let allow = Allow { to: to?, tcp: tcp?, udp: udp?, icmp: icmp? };
        let written = ["tcp", "udp", "icmp"].iter().any(|name| table.get(name).is_some());
        // A key without a value was reported already.
        if allow.tcp.is_empty() && allow.udp.is_empty() && !allow.icmp {
            let what = if written { "this `allow` entry allows nothing" } else { "this `allow` entry has neither tcp, udp nor icmp" };
            let remedy = "add `tcp: [5432]`, `tcp: all`, `udp: [53]`, `udp: all` or `icmp: true`";
            self.fault(table.place("to"), what, remedy);
        }
        Some(allow)
    }

    fn destination(&mut self, node: &Node, platform: &PlatformParts, inner: Option<&IpNet>) -> Option<IpNet> {
        let to = self.network(node, "`to`", false)?.value;
        if let Some(forbidden) = never_allowed(&to) {
            self.fault(node.span, format!("`to` {to} covers {forbidden}"), "write the tenant's own networks only; this is never forwarded");
            return None;
        }
        if let Some(address) = platform.address.filter(|address| to.contains(address)) {
            let what = format!("`to` {to} contains the platform address {address}");
            self.fault(node.span, what, "write networks without it: tunnels would run into themselves");
            return None;
        }
        if let Some(inner) = inner.filter(|inner| overlap(inner, &to)) {
            let what = format!("`to` {to} overlaps this tenant's inner addresses {inner}");
            self.fault(node.span, what, "move `inner` to addresses that the tenant does not use");
            return None;
        }
        Some(to)
    }

    /// Without `ha`: the node itself.
    fn shard_alone(
        &mut self,
        table: &Table<'_>,
        platform: &PlatformParts,
        key: Option<GreKey>,
        ports: &mut Seen<u16>,
    ) -> Option<Vec<GatewayShard>> {
        if table.get("shards").is_some() {
            let remedy = "add `ha` to the gateway, or remove it: a gateway alone has its own addresses";
            self.fault(table.place("shards"), "`shards` goes with `ha` only", remedy);
        }
        let snat = self.field_or(table, "snat", Snat::Masquerade { ports: DEFAULT_PORTS }, |d, node| d.snat(node, platform));
        let shard = ShardId::default();
        let tunnel = self.gateway_tunnel(("this tenant", table), platform, key, Some(shard), ports);
        Some(vec![GatewayShard { shard, local: platform.address?, tunnel: tunnel?, snat: snat?, havip: None }])
    }

    /// With `ha`: the ports alone.
    fn snat_of_shards(&mut self, node: &Node) -> Option<PortRange> {
        let table = self.table(node, &SNAT, node.span)?;
        if table.get("address").is_some() {
            let remedy = "remove it: with `ha` every shard has its own, its `tenant` HaVip";
            self.fault(table.place("address"), "`snat` has an address beside those of `shards`", remedy);
        }
        self.field_or(&table, "ports", DEFAULT_PORTS, |d, node| d.snat_ports(node))
    }

    fn snat(&mut self, node: &Node, platform: &PlatformParts) -> Option<Snat> {
        let table = self.table(node, &SNAT, node.span)?;
        let ports = self.field_or(&table, "ports", DEFAULT_PORTS, |d, node| d.snat_ports(node));
        let Some(node) = table.get("address") else { return Some(Snat::Masquerade { ports: ports? }) };
        let address: At<IpAddr> = self.address(node, "the snat address")?;
        if platform.address == Some(address.value) {
            let what = format!("the snat address {} is the platform address", address.value);
            self.fault(address.span, what, "write an address on the tenant's interface, or none to take that interface's own");
            return None;
        }
        Some(Snat::To { address: address.value, ports: ports? })
    }

    fn snat_ports(&mut self, node: &Node) -> Option<PortRange> {
        Some(self.parsed::<PortRange>(node, "`ports`", "ports: 1024-65535")?.value)
    }
}
