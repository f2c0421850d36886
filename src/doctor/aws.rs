//! What a gateway whose HaVips move by calls of EC2 (`cloud: aws`) needs there. [`ask::look`] asks, [`findings`] judges.

pub mod ask;
mod attach;
mod calls;
mod groups;
mod moves;
mod traffic;

use super::{Facts, Finding};
use crate::cloud::aws::Refusal;
use crate::cloud::metadata::{Interface, Reach};
use crate::config::{Aws, Cast, Config, Gateway, GatewayShard, GatewayTenant, Side};
use crate::model::{AllocationId, IfName, RouteTableId, SecurityGroup, TenantName, TenantShard};
use crate::plan::gateway::havips;
use crate::wire::ec2;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What instance metadata and EC2 say. What is empty was not asked, or `refused` says why it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub reach: Reach,
    pub instance: Option<Result<Instance, String>>,
    /// Which ENI a configured interface is, or why it is none.
    pub own: BTreeMap<IfName, Result<Interface, String>>,
    pub credentials: Option<Result<(), String>>,
    pub refused: Vec<Refused>,
    /// Calls that the role may make.
    pub allowed: BTreeSet<&'static str>,
    /// This node's, and those that have addresses of its group, of its hosts, or a HaVip.
    pub interfaces: Vec<ec2::Interface>,
    /// For tenants whose interface the gateway attaches: those of this zone with the tags. None: they could not be looked up.
    pub pools: BTreeMap<TenantName, Vec<ec2::Interface>>,
    pub tables: Vec<ec2::Table>,
    pub elastics: Vec<ec2::Elastic>,
    pub groups: Vec<SecurityGroup>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    pub id: String,
    pub region: String,
    pub zone: String,
    /// None: it has none.
    pub role: Option<String>,
}

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub action: &'static str,
    /// What a policy calls that which it is about; of calls that look, the ids.
    pub about: Vec<String>,
    /// It was only tried out.
    pub dry: bool,
    pub refusal: Refusal,
}

impl Seen {
    pub fn new(reach: Reach) -> Self {
        Self {
            reach,
            instance: None,
            own: BTreeMap::new(),
            credentials: None,
            refused: vec![],
            allowed: BTreeSet::new(),
            interfaces: vec![],
            pools: BTreeMap::new(),
            tables: vec![],
            elastics: vec![],
            groups: vec![],
        }
    }

    /// This node's ENI as EC2 describes it.
    fn described(&self, interface: &IfName) -> Option<&ec2::Interface> {
        let own = self.own.get(interface)?.as_ref().ok()?;
        self.interfaces.iter().find(|described| described.id == own.id)
    }

    /// Whether one of these calls came to nothing.
    fn is_refused(&self, actions: &[&str]) -> bool {
        self.refused.iter().any(|refused| actions.contains(&refused.action))
    }

    /// Whoever has an address in a VPC.
    fn holder(&self, address: IpAddr, vpc: &str) -> Option<&ec2::Interface> {
        self.interfaces.iter().find(|one| one.vpc_id == vpc && one.addresses().any(|own| own == address))
    }
}

/// A shared address, and how it is to move.
struct HaVip<'c> {
    of: TenantShard,
    interface: IfName,
    address: IpAddr,
    /// What of `cloud.aws` it goes by.
    key: String,
    side: Option<&'c Side>,
    public: Option<&'c AllocationId>,
}

impl HaVip<'_> {
    /// By an assignment to an ENI in these networks; else by a route.
    fn is_within(&self, own: &Interface) -> bool {
        self.address.is_ipv4() && own.networks.iter().any(|net| net.contains(&self.address))
    }

    fn tables(&self) -> impl Iterator<Item = &RouteTableId> {
        self.side.into_iter().flat_map(|side| &side.route_tables)
    }
}

/// Those that may come to this node: all of the file, if it is the directory that says which.
fn shards(gateway: &Gateway) -> impl Iterator<Item = (&GatewayTenant, &GatewayShard)> {
    let all = gateway.tenants.iter().flat_map(|tenant| tenant.shards.iter().map(move |shard| (tenant, shard)));
    let comes = |of: &TenantShard| gateway.ha.as_ref().is_some_and(|ha| ha.by_directory() || ha.serves(&gateway.node, of));
    all.filter(move |(tenant, shard)| shard.havip.is_some() && comes(&tenant.of(shard.shard)))
}

fn all_havips<'c>(gateway: &'c Gateway, aws: &'c Aws) -> Vec<HaVip<'c>> {
    let both = shards(gateway).flat_map(|(tenant, shard)| {
        let of = tenant.of(shard.shard);
        let written = aws.tenants.get(&tenant.name);
        havips(&gateway.platform, tenant, shard).map(move |(interface, address)| {
            let platform = address == shard.local;
            let (key, side) = if platform {
                ("platform".into(), Some(&aws.platform))
            } else {
                (format!("tenants.{}", of.tenant), written.map(|of| &of.side))
            };
            let public = written.filter(|_| !platform).and_then(|written| written.public.get(&of.shard));
            HaVip { of: of.clone(), interface, address, key, side, public }
        })
    });
    both.collect()
}

pub fn findings(facts: &Facts, config: Option<&Config>) -> Vec<Finding> {
    let (Some(Config::Gateway(gateway)), Some(seen)) = (config, &facts.cloud) else { return vec![] };
    let Some(aws) = &gateway.cloud else { return vec![] };
    let mut findings = metadata(seen, aws);
    if gateway.ha.as_ref().is_some_and(|ha| ha.cast == Cast::Multicast) {
        findings.push(Finding::broken("`ha.cast` is multicast, which no VPC carries", "write `cast: unicast`, or remove it"));
    }
    let Some(Ok(instance)) = &seen.instance else { return findings };
    if let Some(region) = aws.region.as_ref().filter(|region| **region != instance.region) {
        let what = format!("`region` is {region}, and this instance is in {}: nothing of it is known there", instance.zone);
        findings.push(Finding::broken(what, format!("write `region: {}` in `cloud.aws`, or remove it", instance.region)));
        return findings;
    }
    let links = &facts.network;
    for (name, why) in seen.own.iter().filter_map(|(name, own)| Some((name, own.as_ref().err()?))) {
        if attach::awaits(seen, gateway, links, name) {
            continue;
        }
        let filter = format!("Name=attachment.instance-id,Values={}", instance.id);
        findings.push(Finding::broken(why, format!("aws ec2 describe-network-interfaces --region {} --filters {filter}", instance.region)));
    }
    findings.extend(calls::findings(seen, instance));
    findings.extend(attach::findings(seen, instance, gateway, links));
    findings.extend(moves::findings(seen, instance, gateway, aws));
    findings.extend(groups::findings(seen, instance, gateway));
    findings
}

/// Whether this instance is told of itself.
fn metadata(seen: &Seen, aws: &Aws) -> Vec<Finding> {
    const OPTIONS: &str = "aws ec2 modify-instance-metadata-options --instance-id i-... --http-endpoint enabled --http-tokens required";
    let at = aws.metadata.as_str().trim_end_matches('/');
    match (&seen.reach, &seen.instance) {
        (Reach::Mute, _) => {
            let what = format!(
                "{at} takes a connection, and its answer to the question for a token never arrives: it may live for one hop alone (HttpPutResponseHopLimit), and to a container or a network namespace there are two"
            );
            let terraform = "in Terraform `metadata_options { http_put_response_hop_limit = 2 }`";
            vec![Finding::broken(what, format!("{OPTIONS} --http-put-response-hop-limit 2; {terraform}"))]
        }
        (Reach::Refused { status }, _) => {
            vec![Finding::broken(
                format!("{at} answers with {status}: metadata are switched off for this instance (HttpEndpoint)"),
                OPTIONS,
            )]
        }
        (Reach::Away { why }, _) => {
            let what = format!("instance metadata cannot be reached at {at} ({why}), and without them nobody knows which ENIs these are");
            let remedy = "ip route get 169.254.169.254 (there has to be a route, out of the namespace as well); on a machine that is none of EC2's write `cloud: arp`";
            vec![Finding::broken(what, remedy)]
        }
        (Reach::Answers, Some(Err(why))) => vec![Finding::broken(why, "on a machine that is none of EC2's write `cloud: arp`")],
        (Reach::Answers, Some(Ok(instance))) => {
            vec![Finding::ok(format!("{} in {}, by metadata of version 2", instance.id, instance.zone))]
        }
        (Reach::Answers, None) => vec![],
    }
}

#[cfg(test)]
mod tests;
