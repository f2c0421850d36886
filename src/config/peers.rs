//! `peers:` the function hosts that a gateway accepts.

use super::common::Seen;
use super::decode::{At, Decoder, Field, Shape, Table, nearest};
use super::fault::Span;
use super::ha::Locals;
use super::node::{Kind, Node};
use super::space::{Cover, overlaps};
use super::tunnel::Identity;
use super::{Allow, PeerEnd, StaticPeer, TunnelKind};
use crate::model::{NodeName, ShardId, TenantName, TenantShard};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

const PEERS: Shape = Shape {
    what: "`peers`",
    fields: &[Field::required("static", "static: [{ host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }]")],
};

const PEER: Shape = Shape {
    what: "this peer",
    fields: &[
        Field::required("host", "host: host-1"),
        Field::optional("outer", "outer: 10.9.0.11"),
        Field::optional("public_key", "public_key: what `wg pubkey` prints"),
        Field::required("inner", "inner: { acme: [10.64.0.9] }"),
    ],
};

/// What the peers are checked against.
#[derive(Default)]
pub(super) struct Known {
    tenants: BTreeMap<TenantName, KnownTenant>,
    /// What a tenant's routes lead into: no tunnel's other end can lie there.
    routed: Vec<(IpNet, TenantName)>,
    /// What gateways have on the platform's side: no tunnel's other end either.
    pub locals: Locals,
    /// A tenant's name could not be read, so that an unknown tenant may be a known one.
    pub incomplete: bool,
}

/// What of a tenant could be read.
struct KnownTenant {
    inner: Option<IpNet>,
    shards: Option<BTreeSet<ShardId>>,
}

impl Known {
    pub fn add(&mut self, name: TenantName, inner: Option<IpNet>, allow: &[Allow], shards: Option<BTreeSet<ShardId>>) {
        let nets = allow.iter().map(|allow| allow.to).chain(inner);
        self.routed.extend(nets.map(|net| (net, name.clone())));
        self.tenants.insert(name, KnownTenant { inner, shards });
    }

    pub fn routed(&self) -> Cover<TenantName> {
        Cover::new(self.routed.clone())
    }
}

/// The inner prefixes of all peers by tenant: the network, where it stands, whose it is.
type Inner = HashMap<TenantName, Vec<(IpNet, Span, Option<NodeName>)>>;

struct PeerChecks<'a> {
    known: &'a Known,
    routed: Cover<TenantName>,
    hosts: Seen<NodeName>,
    identities: Seen<Identity>,
    tunnel: Option<TunnelKind>,
    inner: Inner,
}

impl Decoder {
    pub fn peers(&mut self, node: &Node, tunnel: Option<TunnelKind>, known: &Known) -> Option<Vec<StaticPeer>> {
        let table = self.table(node, &PEERS, node.span)?;
        let node = table.get("static")?;
        // No peers yet is no fault: hosts may follow.
        let Kind::List(items) = &node.kind else {
            self.list(node, "`static`", "- { host: host-1, outer: 10.9.0.11, inner: { acme: [10.64.0.9] } }")?;
            return None;
        };
        if items.len() > usize::from(u16::MAX) && tunnel == Some(TunnelKind::Gre) {
            // The mark has 16 bits for the peer.
            self.fault(node.span, format!("{} peers are more than a gateway can tell apart", items.len()), "list at most 65535");
        }
        let what = if tunnel == Some(TunnelKind::Wireguard) { "the public key" } else { "the outer address" };
        let (hosts, identities) = (Seen::new("the host name"), Seen::new(what));
        let mut checks = PeerChecks { known, routed: known.routed(), hosts, identities, tunnel, inner: Inner::new() };
        let peers = items.iter().filter_map(|item| self.peer(item, &mut checks)).collect();
        self.overlapping_inner(&checks.inner);
        Some(peers)
    }

    fn peer(&mut self, node: &Node, checks: &mut PeerChecks<'_>) -> Option<StaticPeer> {
        let table = self.table(node, &PEER, node.span)?;
        let host = self.field(&table, "host", |d, node| d.parsed(node, "`host`", "host: host-1"));
        self.unique(&mut checks.hosts, host.as_ref(), "give every host its own name");
        let end = self.peer_end(&table, checks);
        let place = table.place("inner");
        let inner = self.field(&table, "inner", |d, node| d.peer_inner(node, place, host.as_ref(), checks));
        Some(StaticPeer { host: host?.value, end: end?, inner: inner? })
    }

    fn peer_end(&mut self, table: &Table<'_>, checks: &mut PeerChecks<'_>) -> Option<PeerEnd> {
        let (needed, example, other) = match checks.tunnel? {
            TunnelKind::Gre => ("outer", "outer: 10.9.0.11", "public_key"),
            TunnelKind::Wireguard => ("public_key", "public_key: KEY", "outer"),
        };
        if !table.written(needed) {
            self.fault(table.span, format!("this peer lacks `{needed}`"), format!("add `{example}`"));
        }
        if table.written(other) {
            self.fault(table.place(other), format!("`{other}` does not go with this kind of tunnel"), format!("write `{example}` instead"));
        }
        let end = match checks.tunnel? {
            TunnelKind::Gre => {
                let outer = self.field(table, "outer", |d, node| d.address(node, "the outer address"))?;
                self.outer(&outer, checks);
                At { value: PeerEnd::Gre { outer: outer.value }, span: outer.span }
            }
            TunnelKind::Wireguard => {
                let key = self.field(table, "public_key", Self::public_key)?;
                At { value: PeerEnd::Wireguard { public_key: key.value }, span: key.span }
            }
        };
        let identity = At { value: end.value.identity(), span: end.span };
        self.unique(&mut checks.identities, Some(&identity), "give every host its own: it is how a host is recognised");
        Some(end.value)
    }

    fn outer(&mut self, outer: &At<IpAddr>, checks: &PeerChecks<'_>) {
        if let Some(local) = checks.known.locals.get(&outer.value) {
            let what = format!("the outer address {} is {local}", outer.value);
            self.fault(outer.span, what, "write the host's platform address");
        } else if let Some((net, tenant)) = checks.routed.find(outer.value) {
            let what = format!("the outer address {} lies in {net}, which tenant {tenant} routes", outer.value);
            self.fault(outer.span, what, "write the host's platform address, or narrow the tenant's `allow` and `inner`");
        }
    }

    fn peer_inner(
        &mut self,
        node: &Node,
        place: Span,
        host: Option<&At<NodeName>>,
        checks: &mut PeerChecks<'_>,
    ) -> Option<BTreeMap<TenantShard, Vec<IpNet>>> {
        let example = "inner: { acme: [10.64.0.9, 10.64.1.0/28] }";
        let entries = match &node.kind {
            Kind::Map(entries) if !entries.is_empty() => entries,
            Kind::Map(_) => {
                self.fault(place, "this peer serves no tenant", format!("write `{example}`, or remove the peer"));
                return None;
            }
            _ => {
                self.fault(node.span, format!("`inner` must be a map by tenant, not {}", node.describe()), format!("write `{example}`"));
                return None;
            }
        };
        let mut inner = BTreeMap::new();
        for (key, value) in entries {
            let of = key.text.parse::<TenantShard>().ok();
            let tenant = of.as_ref().and_then(|of| checks.known.tenants.get(&of.tenant));
            let of = match (of, tenant) {
                (Some(of), None) if checks.known.incomplete => of,
                (Some(of), Some(tenant)) if tenant.shards.as_ref().is_none_or(|shards| shards.contains(&of.shard)) => of,
                (Some(of), Some(_)) => {
                    let what = format!("tenant {} has no shard {} here", of.tenant, of.shard);
                    self.fault(key.span, what, "add it to the tenant's `shards`, or write one of those");
                    continue;
                }
                _ => {
                    self.unknown_tenant(&key.text, key.span, checks.known);
                    continue;
                }
            };
            let name = &of.tenant;
            let range = tenant.and_then(|tenant| tenant.inner);
            let what = format!("`inner` of {name}");
            let Some(nets) = self.items(value, &what, "acme: [10.64.0.9]", |d, item| d.network(item, "the inner prefix", true)) else {
                continue;
            };
            for net in &nets {
                if let Some(range) = range.filter(|range| !range.contains(&net.value)) {
                    let what = format!("the inner prefix {} lies outside of {name}'s inner range {range}", net.value);
                    self.fault(net.span, what, format!("take one from {range}, or widen the tenant's `inner`"));
                }
            }
            let all = checks.inner.entry(name.clone()).or_default();
            all.extend(nets.iter().map(|net| (net.value, net.span, host.map(|host| host.value.clone()))));
            if inner.insert(of, nets.into_iter().map(|net| net.value).collect()).is_some() {
                self.fault(key.span, format!("tenant {} is given twice", key.text), "write all its prefixes in one list");
            }
        }
        Some(inner)
    }

    fn unknown_tenant(&mut self, name: &str, span: Span, known: &Known) {
        let names = || known.tenants.keys().map(TenantName::as_str);
        let remedy = match nearest(name, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None if names().count() <= 10 => format!("the tenants here are {}", names().collect::<Vec<_>>().join(", ")),
            None => "add it under `tenants`".into(),
        };
        self.fault(span, format!("{name:?} is no tenant of this gateway"), remedy);
    }

    fn overlapping_inner(&mut self, inner: &Inner) {
        for (tenant, prefixes) in inner {
            let nets: Vec<IpNet> = prefixes.iter().map(|(net, ..)| *net).collect();
            for (a, b) in overlaps(&nets) {
                // The one further down in the file is taken to be wrong.
                let (first, second) = (&prefixes[a.min(b)], &prefixes[a.max(b)]);
                let owner = first.2.as_ref().map_or_else(String::new, |host| format!(" of {host}"));
                let what = format!("the inner prefix {} overlaps {}{owner} in line {}, tenant {tenant}", second.0, first.0, first.1.line);
                self.fault(second.1, what, "give every host its own inner prefixes: answers would go to the wrong one");
            }
        }
    }
}
