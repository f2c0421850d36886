//! `cloud:` how a HaVip moves where the network does not follow ARP.

use super::decode::{Decoder, Field, Shape};
use super::fault::Span;
use super::node::{Kind, Node};
use super::{Gateway, InstanceMetadata};
use crate::model::{AllocationId, RouteTableId, ShardId, TenantName};
use std::collections::{BTreeMap, BTreeSet};
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
    /// The tenant's interface is attached by this node itself. None: it is there.
    pub attach: Option<Attach>,
}

/// An ENI that a node takes at its start, and lets go after its drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// At which index of the instance: 1 to 14.
    pub device: u8,
    /// It has all of these; one at least.
    pub tags: BTreeMap<String, String>,
}

pub(super) const CLOUD: &str = "cloud: { aws: { region: eu-central-1 } }";
const ENDPOINT: &str = "endpoint: https://ec2.eu-central-1.amazonaws.com";
const TABLES: &str = "route_tables: [rtb-0123456789abcdef0]";
const PUBLIC: &str = "public: { 0: eipalloc-0123456789abcdef0 }";
const ATTACH: &str = "attach: { device: 1, tags: { \"portway:tenant\": acme } }";
const TAGS: &str = "tags: { \"portway:appliance\": prod, \"portway:tenant\": acme }";
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

const TENANT: Shape = Shape {
    what: "this tenant of `cloud`",
    fields: &[Field::optional("route_tables", TABLES), Field::optional("public", PUBLIC), Field::optional("attach", ATTACH)],
};

const TAKEN: Shape = Shape { what: "`attach`", fields: &[Field::required("device", "device: 1"), Field::required("tags", TAGS)] };

/// Characters of a tag's key and of its value.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions>
const LONGEST: (usize, usize) = (128, 256);

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
        let attach = self.field_or(&table, "attach", None, |d, node| d.attach(node).map(Some));
        Some(TenantSide { side: Side { route_tables: route_tables? }, public: public?, attach: attach? })
    }

    fn attach(&mut self, node: &Node) -> Option<Attach> {
        let table = self.table(node, &TAKEN, node.span)?;
        let device = self.field(&table, "device", |d, node| u8::try_from(d.number(node, "device", 1..=14, "")?.value).ok());
        let tags = self.field(&table, "tags", Self::tags);
        Some(Attach { device: device?, tags: tags? })
    }

    fn tags(&mut self, node: &Node) -> Option<BTreeMap<String, String>> {
        let entries = match &node.kind {
            Kind::Map(entries) if !entries.is_empty() => entries,
            _ => {
                let what = format!("`tags` must be a map of one tag or more, not {}", node.describe());
                self.fault(node.span, what, format!("write `{TAGS}`: without any, every interface would do"));
                return None;
            }
        };
        let mut all = BTreeMap::new();
        for (key, value) in entries {
            if key.text.is_empty() || key.text.chars().count() > LONGEST.0 || key.text.starts_with("aws:") {
                let remedy = format!("write 1 to {} characters that do not begin with `aws:`", LONGEST.0);
                self.fault(key.span, format!("{:?} is no tag that you can give", key.text), remedy);
            } else if all.contains_key(&key.text) {
                self.fault(key.span, format!("the tag {} is given twice", key.text), "write each once");
            } else if let Some(text) = self.text(value, "a tag", TAGS) {
                if text.chars().count() > LONGEST.1 || text.contains(['*', '?', '\\']) {
                    let remedy = format!("write up to {} characters without `*`, `?` and `\\`, which mean others as well", LONGEST.1);
                    self.fault(value.span, format!("{text:?} is no value of a tag"), remedy);
                } else {
                    all.insert(key.text.clone(), text.to_owned());
                }
            }
        }
        (all.len() == entries.len()).then_some(all)
    }

    /// No interface is to be taken by two tenants, and no place of the instance.
    fn taken_once(&mut self, aws: &Aws, span: Span) {
        let attached: Vec<_> = aws.tenants.iter().filter_map(|(name, side)| Some((name, side.attach.as_ref()?))).collect();
        for (at, (one, first)) in attached.iter().enumerate() {
            for (other, second) in &attached[at + 1..] {
                if first.device == second.device {
                    let remedy = "give each its own, and keep it";
                    self.fault(span, format!("`attach` of {one} and of {other} have one `device`, {}", first.device), remedy);
                }
                let within = |some: &Attach, all: &Attach| some.tags.iter().all(|(key, value)| all.tags.get(key) == Some(value));
                if within(first, second) || within(second, first) {
                    let remedy = "add a tag that says whose an interface is: `\"portway:tenant\": NAME`";
                    self.fault(span, format!("`attach` of {one} and of {other} would take the same interfaces"), remedy);
                }
            }
        }
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
        self.taken_once(aws, span);
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
}
