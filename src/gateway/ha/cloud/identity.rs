//! Who this node is to EC2: which of its network interfaces is which ENI, and where each may have addresses.

use crate::cloud::metadata::{Interface, Metadata};
use crate::config::{Aws, Gateway, Side};
use crate::kernel::Kernel;
use crate::model::{EniId, IfName, InstanceId, TenantName, TenantShard};
use crate::proto::claim::Claim;
use crate::wire::arp;
use ipnet::IpNet;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Where the addresses of each shard belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    platform: IfName,
    tenants: BTreeMap<TenantName, IfName>,
    /// The platform's address of each shard, and the tenant's.
    shards: BTreeMap<TenantShard, (IpAddr, Option<IpAddr>)>,
}

pub fn sides(config: &Gateway) -> Sides {
    Sides {
        platform: config.platform.interface.clone(),
        tenants: config.tenants.iter().map(|tenant| (tenant.name.clone(), tenant.interface.clone())).collect(),
        shards: config.shared().map(|(tenant, shard)| (tenant.of(shard.shard), (shard.local, shard.snat.address()))).collect(),
    }
}

/// Which instance this is, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub instance: InstanceId,
    pub region: String,
    pub zone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    #[serde(flatten)]
    pub place: Place,
    interfaces: BTreeMap<IfName, Eni>,
    /// Interfaces of tenants that are not known, and why.
    #[serde(skip)]
    unknown: BTreeMap<IfName, Unknown>,
    #[serde(skip)]
    pub claims: BTreeMap<TenantShard, BTreeSet<Claim>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Unknown {
    why: String,
    /// The kernel has no such interface.
    is_absent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Eni {
    id: EniId,
    /// As metadata write it.
    mac: String,
    subnets: Vec<IpNet>,
}

impl Place {
    /// As instance metadata say. Fails with what to mend.
    pub async fn find(metadata: &Metadata, aws: &Aws) -> Result<Self, String> {
        let instance = required(metadata, "instance-id").await?.parse().map_err(|error| format!("{error}"))?;
        let zone = required(metadata, "placement/availability-zone").await?;
        let region = required(metadata, "placement/region").await?;
        if let Some(written) = aws.region.as_ref().filter(|written| **written != region) {
            return Err(format!("`region` is {written}, and this instance is in {zone}: mend `cloud.aws.region`, or remove it"));
        }
        Ok(Self { instance, region, zone })
    }
}

impl Identity {
    /// As instance metadata say. Fails with what to mend, but where it is about one tenant's interface alone.
    pub async fn find(metadata: &Metadata, kernel: &Kernel, aws: &Aws, sides: &Sides) -> Result<Self, String> {
        let place = Place::find(metadata, aws).await?;
        let mut interfaces = BTreeMap::from([(sides.platform.clone(), eni(metadata, kernel, &sides.platform).await?)]);
        let mut unknown = BTreeMap::new();
        for name in sides.tenants.values() {
            match eni(metadata, kernel, name).await {
                Ok(eni) => _ = interfaces.insert(name.clone(), eni),
                Err(why) => {
                    let is_absent = matches!(kernel.mac(name), Ok(None));
                    unknown.insert(name.clone(), Unknown { why, is_absent });
                }
            }
        }
        let mut identity = Self { place, interfaces, unknown, claims: BTreeMap::new() };
        identity.claims = identity.of_shards(aws, sides)?;
        Ok(identity)
    }

    /// What is not known of tenants' interfaces, which others' addresses do not wait for.
    pub fn unknown(&self) -> Option<String> {
        let all: Vec<&str> = self.unknown.values().map(|unknown| unknown.why.as_str()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether all are known, but for those that are absent and this node's to attach: that they are is another's to tell.
    pub fn is_known(&self, aws: &Aws, sides: &Sides) -> bool {
        let attaches = |tenant: &TenantName| aws.tenants.get(tenant).is_some_and(|side| side.attach.is_some());
        let is_attached =
            |name: &IfName| sides.tenants.iter().filter(|(_, interface)| *interface == name).all(|(tenant, _)| attaches(tenant));
        self.unknown.iter().all(|(name, unknown)| unknown.is_absent && is_attached(name))
    }

    /// How metadata call an interface.
    pub fn mac(&self, id: &EniId) -> Option<&str> {
        self.interfaces.values().find(|eni| eni.id == *id).map(|eni| eni.mac.as_str())
    }

    fn of_shards(&self, aws: &Aws, sides: &Sides) -> Result<BTreeMap<TenantShard, BTreeSet<Claim>>, String> {
        let nothing = Side::default();
        let mut all = BTreeMap::new();
        let is_known = |of: &TenantShard| sides.tenants.get(&of.tenant).is_some_and(|interface| self.interfaces.contains_key(interface));
        for (of, (platform, tenant)) in sides.shards.iter().filter(|(of, _)| is_known(of)) {
            let mut claims = self.of_address(&sides.platform, *platform, &aws.platform, "platform")?;
            let written = aws.tenants.get(&of.tenant);
            if let Some((address, interface)) = tenant.zip(sides.tenants.get(&of.tenant)) {
                let side = written.map_or(&nothing, |written| &written.side);
                claims.extend(self.of_address(interface, address, side, &format!("tenants.{}", of.tenant))?);
                if let Some(allocation) = written.and_then(|written| written.public.get(&of.shard)) {
                    let eni = self.interfaces[interface].id.clone();
                    claims.insert(Claim::Public { allocation: allocation.clone(), eni, address });
                }
            }
            all.insert(of.clone(), claims);
        }
        Ok(all)
    }

    /// `key`: what of `cloud.aws` it is about.
    fn of_address(&self, interface: &IfName, address: IpAddr, side: &Side, key: &str) -> Result<BTreeSet<Claim>, String> {
        let Eni { id, subnets, .. } = &self.interfaces[interface];
        if address.is_ipv4() && subnets.iter().any(|subnet| subnet.contains(&address)) {
            return Ok([Claim::Address { eni: id.clone(), address }].into());
        }
        if side.route_tables.is_empty() {
            let subnets = subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "the HaVip {address} is not in the subnet of {interface} ({id}, {subnets}): take one of it, or write the route tables that are to lead here in `cloud.aws.{key}.route_tables`"
            ));
        }
        Ok(side.route_tables.iter().map(|table| Claim::Route { table: table.clone(), address, eni: id.clone() }).collect())
    }
}

async fn eni(metadata: &Metadata, kernel: &Kernel, name: &IfName) -> Result<Eni, String> {
    let mac = kernel.mac(name).map_err(|error| error.to_string())?;
    let mac = mac.ok_or_else(|| format!("there is no interface {name} with a MAC here: is its ENI attached, and called so?"))?;
    let mac = arp::written(mac);
    let Some(Interface { id, networks: subnets }) = metadata.interface(&mac).await.map_err(|failure| failure.to_string())? else {
        return Err(format!("{name} ({mac}) is no ENI of this instance's: name the interface of one in the configuration"));
    };
    Ok(Eni { id, mac, subnets })
}

async fn asked(metadata: &Metadata, item: &str) -> Result<Option<String>, String> {
    metadata.get(item).await.map_err(|failure| failure.to_string())
}

async fn required(metadata: &Metadata, item: &str) -> Result<String, String> {
    asked(metadata, item).await?.ok_or_else(|| format!("{} has no {item}: is this an EC2 instance?", metadata.endpoint()))
}
