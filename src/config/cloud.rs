//! `cloud:` how a HaVip moves where the network does not follow ARP.

use super::common::Seen;
use super::decode::{At, Decoder, Field, Shape};
use super::fault::Span;
use super::node::{Kind, Node};
use super::{Gateway, InstanceMetadata};
use crate::model::{AllocationId, Invalid, RouteTableId, ShardId, TenantName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::hash::Hash;
use std::str::FromStr;
use url::Url;

/// `cloud: aws:` the addresses of shards that are here are claimed by calls of EC2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    /// None: as instance metadata say.
    pub region: Option<String>,
    /// `https`, or `http` on loopback. None: AWS's own of the region.
    pub endpoint: Option<Url>,
    /// Where instance metadata are.
    pub metadata: Url,
    /// A second, of this node: 1 to 100. Default 50.
    pub calls: u32,
    pub platform: Side,
    /// Those of whom something is written.
    pub tenants: BTreeMap<TenantName, TenantSide>,
}

/// One side of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// In which a HaVip that lies in no subnet is a destination.
    pub route_tables: BTreeSet<RouteTableId>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantSide {
    pub side: Side,
    /// The public address of a shard's tenant HaVip.
    pub public: BTreeMap<ShardId, AllocationId>,
}

pub(super) const CLOUD: &str = "cloud: { aws: { region: eu-central-1 } }";
const ENDPOINT: &str = "endpoint: https://ec2.eu-central-1.amazonaws.com";
const TABLES: &str = "route_tables: [rtb-0123456789abcdef0]";
const PUBLIC: &str = "public: { 0: eipalloc-0123456789abcdef0 }";
const TENANTS: &str = "tenants: { acme: { route_tables: [rtb-0123456789abcdef0] } }";

const SHAPE: Shape = Shape { what: "`cloud`", fields: &[Field::required("aws", "aws: { region: eu-central-1 }")] };

const AWS: Shape = Shape {
    what: "`aws`",
    fields: &[
        Field::optional("region", "region: eu-central-1"),
        Field::optional("endpoint", ENDPOINT),
        Field::optional("metadata", "metadata: http://169.254.169.254"),
        Field::optional("calls", "calls: 50"),
        Field::optional("platform", "platform: { route_tables: [rtb-0123456789abcdef0] }"),
        Field::optional("tenants", TENANTS),
    ],
};

const SIDE: Shape = Shape { what: "`platform`", fields: &[Field::optional("route_tables", TABLES)] };

const TENANT: Shape =
    Shape { what: "this tenant of `cloud`", fields: &[Field::optional("route_tables", TABLES), Field::optional("public", PUBLIC)] };

/// Of EC2's limit for calls that change something, more than one node should not use (50 at once, 20 a second and less).
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
const CALLS: u32 = 50;

impl Decoder {
    /// None is `arp`: whoever announces a HaVip has it.
    pub(super) fn cloud(&mut self, node: &Node) -> Option<Option<Box<Aws>>> {
        if matches!(&node.kind, Kind::Scalar { text, .. } if text == "arp") {
            return Some(None);
        }
        let table = self.table(node, &SHAPE, node.span)?;
        self.field(&table, "aws", Self::aws).map(|aws| Some(Box::new(aws)))
    }

    fn aws(&mut self, node: &Node) -> Option<Aws> {
        self.has_aws(node)?;
        let table = self.table(node, &AWS, node.span)?;
        let region = self.field_or(&table, "region", None, |d, node| d.region(node).map(Some));
        let endpoint = self.field_or(&table, "endpoint", None, |d, node| d.called_url(node, "endpoint", ENDPOINT).map(Some));
        let metadata = self.field_or(&table, "metadata", InstanceMetadata::of_ec2(), |d, node| d.metadata_url(node, "metadata").map(Some));
        let calls = self.field_or(&table, "calls", CALLS, |d, node| u32::try_from(d.number(node, "calls", 1..=100, "")?.value).ok());
        let platform = self.field_or(&table, "platform", Side::default(), |d, node| {
            let table = d.table(node, &SIDE, node.span)?;
            let route_tables = d.field_or(&table, "route_tables", BTreeSet::new(), Self::route_tables)?;
            Some(Side { route_tables })
        });
        let tenants = self.field_or(&table, "tenants", BTreeMap::new(), |d, node| d.keyed(node, "tenants", TENANTS, Self::tenant_side));
        Some(Aws { region: region?, endpoint: endpoint?, metadata: metadata??, calls: calls?, platform: platform?, tenants: tenants? })
    }

    fn tenant_side(&mut self, node: &Node) -> Option<TenantSide> {
        let table = self.table(node, &TENANT, node.span)?;
        let route_tables = self.field_or(&table, "route_tables", BTreeSet::new(), Self::route_tables);
        let public = self.field_or(&table, "public", BTreeMap::new(), |d, node| {
            d.keyed(node, "public", PUBLIC, |d, node| Some(d.parsed::<AllocationId>(node, "an allocation", PUBLIC)?.value))
        });
        Some(TenantSide { side: Side { route_tables: route_tables? }, public: public? })
    }

    /// Whether it is about shards that there are, and about addresses that EC2 moves.
    pub(super) fn fitting(&mut self, gateway: &Gateway, span: Span) {
        let Some(aws) = &gateway.cloud else { return };
        if gateway.ha.is_none() {
            let remedy = "add `ha`, or remove it: a gateway alone has its own addresses, which do not move";
            self.fault(span, "`cloud` goes with `ha` only", remedy);
            return;
        }
        for (name, side) in &aws.tenants {
            let Some(tenant) = gateway.tenants.iter().find(|tenant| tenant.name == *name) else {
                self.fault(span, format!("`cloud` has a tenant {name} that the gateway has not"), "write names of `tenants`");
                continue;
            };
            for shard in side.public.keys().filter(|shard| !tenant.shards.iter().any(|known| known.shard == **shard)) {
                let remedy = format!("write shards of {name}");
                self.fault(span, format!("`public` has a shard {shard} that {name} has not"), remedy);
            }
        }
        for (tenant, shard) in gateway.tenants.iter().flat_map(|tenant| tenant.shards.iter().map(move |shard| (tenant, shard))) {
            let of_tenant = aws.tenants.get(&tenant.name).map(|side| &side.side);
            for (address, side) in [(Some(shard.local), Some(&aws.platform)), (shard.snat.address(), of_tenant)] {
                let has_tables = side.is_some_and(|side| !side.route_tables.is_empty());
                if let Some(address) = address.filter(|address| address.is_ipv6() && !has_tables) {
                    let remedy =
                        "add `route_tables`, and take an address of no subnet: EC2 takes an IPv6 address from no interface that has it";
                    self.fault(span, format!("the HaVip {address} of {} cannot move", tenant.of(shard.shard)), remedy);
                }
            }
        }
    }

    fn route_tables(&mut self, node: &Node) -> Option<BTreeSet<RouteTableId>> {
        let tables = self.items(node, "`route_tables`", "- rtb-0123456789abcdef0", |d, node| {
            Some(d.parsed::<RouteTableId>(node, "a route table", TABLES)?.value)
        })?;
        Some(tables.into_iter().collect())
    }

    /// A map from what can be written as text.
    fn keyed<K, V>(
        &mut self,
        node: &Node,
        name: &'static str,
        example: &'static str,
        mut decode: impl FnMut(&mut Self, &Node) -> Option<V>,
    ) -> Option<BTreeMap<K, V>>
    where
        K: FromStr<Err = Invalid> + Hash + Ord + Clone + Display,
    {
        let Kind::Map(entries) = &node.kind else {
            self.fault(node.span, format!("`{name}` must be a map, not {}", node.describe()), format!("write `{example}`"));
            return None;
        };
        let mut seen = Seen::new("the key");
        let mut all = BTreeMap::new();
        for (key, value) in entries {
            let key: Option<At<K>> = self.valid(&key.text, key.span, example);
            self.unique(&mut seen, key.as_ref(), "write each once");
            let value = decode(self, value);
            all.extend(key.map(|key| key.value).zip(value));
        }
        (all.len() == entries.len()).then_some(all)
    }
}
