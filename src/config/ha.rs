//! `ha:` and the shards of a gateway's tenants: addresses that several gateways share.

use super::common::{PlatformParts, Seen};
use super::decode::{At, Decoder, Field, Shape, Table};
use super::fault::Span;
use super::lifecycle::LIFECYCLE;
use super::node::{Kind, Node};
use super::peers::Known;
use super::track::Place;
use super::tunnel::WIREGUARD;
use super::{Authentication, Cast, GatewayShard, Ha, HaVip, KeyFile, Snat};
use crate::model::{AdvertInterval, ChecksumForm, GreKey, NodeName, PortRange, Priority, ShardId, Vrid, VrrpVersion};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

const HA: Shape = Shape {
    what: "`ha`",
    fields: &[
        Field::required("nodes", NODES),
        Field::required("keys", "keys: [{ id: 1, file: /etc/portway/ha.key }]"),
        Field::optional("leaving", LEAVING),
        Field::optional("interval", "interval: 100ms"),
        Field::optional("version", "version: 3"),
        Field::optional("checksum", "checksum: pseudo-header"),
        Field::optional("cast", "cast: unicast"),
        Field::optional("preempt", "preempt: 0s"),
        Field::optional("accept", "accept: false"),
        Field::optional("authentication", "authentication: hmac"),
        Field::optional("sync_port", "sync_port: 3790"),
        Field::optional("track", "track: [{ interface: eth2, weight: 50 }]"),
        Field::optional("lifecycle", LIFECYCLE),
    ],
};

const NODES: &str = "nodes: { gw-a1: 10.9.0.1, gw-a2: 10.9.0.2 }";

const LEAVING: &str = "leaving: [gw-a2]";

/// What a tenant's `shards` looks like.
pub(super) const SHARDS: &str = "shards: [{ shard: 0, vrid: 51, platform: 10.9.0.50, tenant: 172.16.101.10 }]";

const SHARD: Shape = Shape {
    what: "this shard",
    fields: &[
        Field::required("shard", "shard: 0"),
        Field::required("vrid", "vrid: 51"),
        Field::required("platform", "platform: 10.9.0.50"),
        Field::required("tenant", "tenant: 172.16.101.10"),
        Field::optional("priority", "priority: 200"),
        Field::optional("wireguard", WIREGUARD),
    ],
};

const SYNC_PORT: u16 = 3790;

/// The longest that a better node may be kept waiting.
const LONGEST_PREEMPT: Duration = Duration::from_secs(3600);

/// Whose an address on the platform's side is; it is no tunnel's other end and no tenant's.
pub(super) enum Local {
    Own,
    Node(NodeName, Span),
    HaVip(Span),
}

pub(super) type Locals = BTreeMap<IpAddr, Local>;

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Local::Own => f.write_str("this gateway's own platform address"),
            Local::Node(name, _) => write!(f, "gateway {name}'s platform address"),
            Local::HaVip(span) => write!(f, "the platform HaVip in line {}", span.line),
        }
    }
}

/// What the shards of all tenants are checked against.
pub(super) struct Group {
    /// `ha` is written, well or not.
    pub on: bool,
    cast: Cast,
    /// Of the whole file, for multicast: every gateway hears all of them.
    vrids: Seen<Vrid>,
    tenant_havips: Vec<At<IpAddr>>,
}

impl Group {
    pub fn new(on: bool, ha: Option<&Ha>) -> Self {
        let cast = ha.map_or(Cast::default(), |ha| ha.cast);
        Group { on, cast, vrids: Seen::new("VRID"), tenant_havips: Vec::new() }
    }
}

/// What of a tenant its shards are made of, as far as it could be decoded.
pub(super) struct TenantParts<'a> {
    pub inner: Option<&'a IpNet>,
    pub ports: Option<PortRange>,
    pub key: Option<GreKey>,
    pub platform: &'a PlatformParts,
}

/// Values that no two shards of a tenant share.
struct SeenShards {
    shards: Seen<ShardId>,
    vrids: Seen<Vrid>,
    tenant: Seen<IpAddr>,
}

impl Decoder {
    /// `own`: the name of this node.
    pub fn ha(&mut self, node: &Node, place: Span, own: Option<&NodeName>, platform: &PlatformParts, locals: &mut Locals) -> Option<Ha> {
        let table = self.table(node, &HA, place)?;
        let place = table.place("nodes");
        let nodes = self.field(&table, "nodes", |d, node| d.ha_nodes(node, place, own, platform, locals));
        let leaving = self.field_or(&table, "leaving", BTreeSet::new(), |d, node| d.leaving(node, nodes.as_ref()));
        let keys = self.field(&table, "keys", Self::ha_keys);
        let version = self.field_or(&table, "version", VrrpVersion::default(), Self::vrrp_version);
        let interval = self.field_or(&table, "interval", default_interval(version), |d, node| d.interval(node, version).map(Some));
        let checksum = self.field_or(&table, "checksum", default_checksum(version), |d, node| d.checksum(node, version));
        let casts = [("unicast", Cast::Unicast), ("multicast", Cast::Multicast)];
        let cast = self.field_or(&table, "cast", Cast::default(), |d, node| d.word(node, "cast", &casts));
        let preempt = self.field_or(&table, "preempt", Some(Duration::ZERO), Self::preempt);
        let accept = self.field_or(&table, "accept", false, |d, node| d.boolean(node, "accept"));
        let kinds = [("hmac", Authentication::Hmac), ("none", Authentication::None)];
        let authentication =
            self.field_or(&table, "authentication", Authentication::default(), |d, node| d.word(node, "authentication", &kinds));
        let sync_port = self.field_or(&table, "sync_port", SYNC_PORT, |d, node| {
            u16::try_from(d.number(node, "sync_port", 1..=u64::from(u16::MAX), "")?.value).ok()
        });
        let own = Place::All { platform: platform.interface.as_ref() };
        let track = self.field_or(&table, "track", Vec::new(), |d, node| d.track(node, &own));
        let lifecycle = self.field_or(&table, "lifecycle", None, |d, node| d.lifecycle(node).map(|of| Some(Box::new(of))));
        Some(Ha {
            nodes: nodes?,
            leaving: leaving?,
            interval: interval??,
            version: version?,
            checksum: checksum?,
            cast: cast?,
            preempt: preempt?,
            accept: accept?,
            authentication: authentication?,
            keys: keys?,
            sync_port: sync_port?,
            track: track?,
            lifecycle: lifecycle?,
            retained: BTreeSet::new(),
        })
    }

    fn ha_nodes(
        &mut self,
        node: &Node,
        place: Span,
        own: Option<&NodeName>,
        platform: &PlatformParts,
        locals: &mut Locals,
    ) -> Option<BTreeMap<NodeName, IpAddr>> {
        let Kind::Map(entries) = &node.kind else {
            let what = format!("`nodes` must be a map of names and addresses, not {}", node.describe());
            self.fault(node.span, what, format!("write `{NODES}`"));
            return None;
        };
        let mut seen = Seen::new("the node");
        let mut nodes = BTreeMap::new();
        for (key, value) in entries {
            let name: Option<At<NodeName>> = self.valid(&key.text, key.span, NODES);
            self.unique(&mut seen, name.as_ref(), "write every node once, with its platform address");
            let address = self.address(value, &format!("the address of {}", key.text));
            let (Some(At { value: name, .. }), Some(At { value: address, span })) = (name, address) else { continue };
            if own == Some(&name) {
                if let Some(platform) = platform.address.filter(|platform| *platform != address) {
                    let what = format!("{name} has {address} here and {platform} as its `platform.address`");
                    self.fault(span, what, "write the same in both: it is where the others hear this node from");
                }
            } else if let Some(local) = locals.get(&address) {
                // With no good name of its own, any of the nodes may be this one.
                if own.is_some() || !matches!(local, Local::Own) {
                    self.fault(span, format!("the address {address} of {name} is {local}"), "give every node its own");
                }
            } else {
                locals.insert(address, Local::Node(name.clone(), span));
            }
            nodes.insert(name, address);
        }
        if nodes.len() == entries.len() {
            if let Some(own) = own.filter(|own| !nodes.contains_key(own)) {
                let address = platform.address.map_or_else(|| "ADDRESS".into(), |address| address.to_string());
                self.fault(
                    place,
                    format!("`nodes` lacks this node, {own}"),
                    format!("add `{own}: {address}`, its name and platform address"),
                );
            }
            if nodes.len() < 2 {
                let what = "`nodes` has fewer than two nodes: nobody could take over";
                self.fault(place, what, format!("write all gateways of the group, such as `{NODES}`, or remove `ha`"));
            }
        }
        Some(nodes)
    }

    /// `nodes`: all of the group, as far as they could be decoded.
    fn leaving(&mut self, node: &Node, nodes: Option<&BTreeMap<NodeName, IpAddr>>) -> Option<BTreeSet<NodeName>> {
        let mut seen = Seen::new("the node");
        let names = self.items(node, "`leaving`", LEAVING, |d, item| {
            let name: At<NodeName> = d.parsed(item, "`leaving`", LEAVING)?;
            d.unique(&mut seen, Some(&name), "write every node once");
            if nodes.is_some_and(|nodes| !nodes.contains_key(&name.value)) {
                d.fault(
                    item.span,
                    format!("{} is none of `nodes`", name.value),
                    "write nodes of the group; one that has gone need not be named",
                );
            }
            Some(name.value)
        })?;
        let leaving: BTreeSet<NodeName> = names.into_iter().collect();
        if nodes.is_some_and(|nodes| nodes.keys().all(|node| leaving.contains(node))) {
            self.fault(node.span, "all nodes are leaving: nobody would serve", "keep one at least, and two for a Backup");
        }
        Some(leaving)
    }

    fn ha_keys(&mut self, node: &Node) -> Option<Vec<KeyFile>> {
        let keys = self.key_files(node, "- { id: 1, file: /etc/portway/ha.key }", "give each key its own number, the same on all nodes")?;
        if keys.len() > 2 {
            let what = format!("{} keys are more than are taken at a time", keys.len());
            self.fault(node.span, what, "keep two at most: the one that signs, first, and the one that comes or goes");
        }
        Some(keys)
    }

    fn vrrp_version(&mut self, node: &Node) -> Option<VrrpVersion> {
        match self.number(node, "version", 2..=3, "")?.value {
            2 => Some(VrrpVersion::V2),
            _ => Some(VrrpVersion::V3),
        }
    }

    fn interval(&mut self, node: &Node, version: Option<VrrpVersion>) -> Option<AdvertInterval> {
        let written = self.duration(node, "interval", "100ms")?.value;
        let version = version?;
        let interval = AdvertInterval::try_from(written).ok().filter(|interval| interval.fits(version));
        if interval.is_none() {
            let remedy = match version {
                VrrpVersion::V2 => "write whole seconds, from 1s to 255s",
                VrrpVersion::V3 => "write a multiple of 10ms, from 10ms to 40.95s",
            };
            self.fault(node.span, format!("an interval of {written:?} cannot be sent in version {version}"), remedy);
        }
        interval
    }

    fn checksum(&mut self, node: &Node, version: Option<VrrpVersion>) -> Option<ChecksumForm> {
        let words = [
            ("pseudo-header", ChecksumForm::PseudoHeader),
            ("message", ChecksumForm::Message),
            ("multicast-pseudo-header", ChecksumForm::MulticastPseudoHeader),
        ];
        let form = self.word(node, "checksum", &words)?;
        if version == Some(VrrpVersion::V2) && form != ChecksumForm::Message {
            self.fault(node.span, "version 2 has no pseudo-header in its checksum", "write `checksum: message` or remove the line");
            return None;
        }
        Some(form)
    }

    fn preempt(&mut self, node: &Node) -> Option<Option<Duration>> {
        if matches!(&node.kind, Kind::Scalar { text, .. } if text == "never") {
            return Some(None);
        }
        let wait = self.duration(node, "preempt", "0s")?.value;
        if wait > LONGEST_PREEMPT {
            self.fault(node.span, format!("a preempt delay of {wait:?} is out of range"), "write 0s to 1h, or `never`");
            return None;
        }
        Some(Some(wait))
    }

    /// All shards of a tenant. `inner`: its inner range; `ports`: what its servers see packets from.
    pub fn gateway_shards(
        &mut self,
        tenant: &Table<'_>,
        parts: &TenantParts<'_>,
        known: &mut Known,
        group: &mut Group,
        ports: &mut Seen<u16>,
    ) -> Option<Vec<GatewayShard>> {
        if !tenant.written("shards") {
            self.fault(tenant.span, "this tenant lacks `shards`, which `ha` needs", format!("add `{SHARDS}`"));
        }
        let mut seen = SeenShards { shards: Seen::new("shard"), vrids: Seen::new("VRID"), tenant: Seen::new("the tenant HaVip") };
        let items = self.field(tenant, "shards", |d, node| d.list(node, "`shards`", SHARDS))?;
        let shards: Vec<_> = items.iter().filter_map(|item| self.gateway_shard(item, parts, known, group, (&mut seen, ports))).collect();
        (shards.len() == items.len()).then_some(shards)
    }

    fn gateway_shard(
        &mut self,
        node: &Node,
        parts: &TenantParts<'_>,
        known: &mut Known,
        group: &mut Group,
        (seen, ports): (&mut SeenShards, &mut Seen<u16>),
    ) -> Option<GatewayShard> {
        let table = self.table(node, &SHARD, node.span)?;
        let shard = self.field(&table, "shard", Self::shard);
        self.unique(&mut seen.shards, shard.as_ref(), "give every shard of a tenant its own number");
        let vrid = self.field(&table, "vrid", Self::vrid);
        let (vrids, remedy) = match group.cast {
            Cast::Unicast => (&mut seen.vrids, "give every shard of a tenant its own VRID, the same on all nodes"),
            Cast::Multicast => {
                (&mut group.vrids, "give every shard of the file its own VRID, or write `cast: unicast`, where tenants may share them")
            }
        };
        self.unique(vrids, vrid.as_ref(), remedy);
        let platform = self.field(&table, "platform", |d, node| d.address(node, "the platform HaVip"));
        if let Some(at) = &platform {
            if let Some(local) = known.locals.get(&at.value) {
                let what = format!("the platform HaVip {} is {local} too", at.value);
                self.fault(at.span, what, "give every shard of every tenant a platform HaVip of its own: it tells their tunnels apart");
            } else {
                known.locals.insert(at.value, Local::HaVip(at.span));
            }
        }
        let tenant = self.field(&table, "tenant", |d, node| d.address(node, "the tenant HaVip"));
        self.unique(&mut seen.tenant, tenant.as_ref(), "give every shard of a tenant its own: answers would go to the wrong gateway");
        if let Some(at) = &tenant {
            if let Some(inner) = parts.inner.filter(|inner| inner.contains(&at.value)) {
                let what = format!("the tenant HaVip {} lies in this tenant's inner addresses {inner}", at.value);
                self.fault(
                    at.span,
                    what,
                    "write an address of the tenant's subnet, or move `inner` to addresses that the tenant does not use",
                );
            }
            group.tenant_havips.push(at.clone());
        }
        let priority = self.field_or(&table, "priority", None, |d, node| d.priority(node).map(Some));
        let number = shard.as_ref().map(|at| at.value);
        let tunnel = self.gateway_tunnel(("this shard", &table), parts.platform, parts.key, number, ports);
        let snat = Snat::To { address: tenant?.value, ports: parts.ports? };
        let havip = HaVip { vrid: vrid?.value, priority: priority? };
        Some(GatewayShard { shard: number?, local: platform?.value, tunnel: tunnel?, snat, havip: Some(havip) })
    }

    fn vrid(&mut self, node: &Node) -> Option<At<Vrid>> {
        let vrid = self.number(node, "VRID", 1..=u64::from(u8::MAX), "")?;
        Some(At { value: Vrid::try_from(u8::try_from(vrid.value).ok()?).ok()?, span: vrid.span })
    }

    fn priority(&mut self, node: &Node) -> Option<Priority> {
        let most = u64::from(Priority::OWNER.0 - 1);
        let unit = ": 255 is for a router that owns the addresses and never gives way";
        u8::try_from(self.number(node, "priority", 1..=most, unit)?.value).ok().map(Priority)
    }

    /// What can be said only when all tenants have been read: both sides keep out of each other's addresses.
    pub fn apart(&mut self, group: &Group, known: &Known) {
        let routed = known.routed();
        for (address, local) in &known.locals {
            let (what, span) = match local {
                // Compared with each network as that was read.
                Local::Own => continue,
                Local::Node(_, span) => (local.to_string(), *span),
                Local::HaVip(span) => ("the platform HaVip".into(), *span),
            };
            if let Some((net, tenant)) = routed.find(*address) {
                let what = format!("{what} {address} lies in {net}, which tenant {tenant} routes");
                self.fault(span, what, "write networks without it in the tenant's `allow` and `inner`: tunnels would run into themselves");
            }
        }
        for havip in &group.tenant_havips {
            if let Some(local) = known.locals.get(&havip.value) {
                let what = format!("the tenant HaVip {} is {local}", havip.value);
                self.fault(havip.span, what, "write an address of the tenant's subnet: the two sides must be apart");
            }
        }
    }
}

/// Not the one of the RFC, 1 s, where a shorter one can be sent: with it, a failure is noticed after more than 3 s.
fn default_interval(version: Option<VrrpVersion>) -> Option<AdvertInterval> {
    match version {
        Some(VrrpVersion::V2) => Some(AdvertInterval::default()),
        _ => AdvertInterval::try_from(Duration::from_millis(100)).ok(),
    }
}

fn default_checksum(version: Option<VrrpVersion>) -> ChecksumForm {
    match version {
        Some(VrrpVersion::V2) => ChecksumForm::Message,
        _ => ChecksumForm::default(),
    }
}
