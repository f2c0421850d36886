//! Whether each HaVip can come to this node, and whether packets reach it there.

use super::{HaVip, Instance, Seen, all_havips};
use crate::cloud::metadata::Interface;
use crate::config::{Aws, Gateway};
use crate::doctor::Finding;
use crate::model::{EniId, IfName, TenantShard};
use crate::wire::ec2;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Calls that say where things are, and those by which a HaVip comes here.
const ASKED: [&str; 7] = [
    "DescribeNetworkInterfaces",
    "DescribeRouteTables",
    "DescribeAddresses",
    "AssignPrivateIpAddresses",
    "AssociateAddress",
    "CreateRoute",
    "ReplaceRoute",
];
/// Addresses of a subnet that AWS keeps: so many of the first, and the last.
/// <https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html>
const KEPT: u32 = 4;

pub fn findings(seen: &Seen, instance: &Instance, gateway: &Gateway, aws: &Aws) -> Vec<Finding> {
    let look = Look { seen, instance, gateway };
    let havips = all_havips(gateway, aws);
    let mut findings: Vec<Finding> = look.checked_sources();
    findings.extend(look.apart(&havips));
    findings.extend(look.tables(&havips));
    for havip in &havips {
        let Some(Ok(own)) = seen.own.get(&havip.interface) else { continue };
        findings.extend(if havip.is_within(own) { look.assigned(havip, own) } else { look.routed(havip, own) });
        findings.extend(look.elastic(havip));
    }
    if findings.is_empty() && look.has_all(&havips) {
        findings.push(Finding::ok(format!("{} HaVips can move to this node's ENIs", havips.len())));
    }
    findings
}

struct Look<'l> {
    seen: &'l Seen,
    instance: &'l Instance,
    gateway: &'l Gateway,
}

impl Look<'_> {
    /// Whether everything was there to be judged, and every call could be tried out.
    fn has_all(&self, havips: &[HaVip<'_>]) -> bool {
        let one = |havip: &HaVip<'_>| {
            let has_tables = havip.tables().all(|id| self.seen.tables.iter().any(|table| table.id == *id));
            let has_public = havip.public.is_none_or(|id| self.seen.elastics.iter().any(|elastic| elastic.id == *id));
            self.seen.described(&havip.interface).is_some() && has_tables && has_public
        };
        !havips.is_empty() && havips.iter().all(one) && !self.seen.is_refused(&ASKED)
    }

    /// EC2 drops what an ENI sends or gets under an address that is none of its own, as long as it checks.
    fn checked_sources(&self) -> Vec<Finding> {
        let region = &self.instance.region;
        let checked = self.seen.own.keys().filter_map(|name| Some((name, self.seen.described(name).filter(|one| one.source_dest_check)?)));
        let one = |(name, ec2::Interface { id, .. }): (&IfName, &ec2::Interface)| {
            let what = format!("the source/destination check of {name} ({id}) is on: EC2 drops what it forwards");
            let command =
                format!("aws ec2 modify-network-interface-attribute --region {region} --network-interface-id {id} --no-source-dest-check");
            Finding::broken(what, format!("{command}; in Terraform `source_dest_check = false`"))
        };
        checked.map(one).collect()
    }

    /// Nodes whose ENI is in another subnet cannot take an address of this one.
    fn apart(&self, havips: &[HaVip<'_>]) -> Vec<Finding> {
        let platform = &self.gateway.platform.interface;
        let (Some(Ok(own)), Some(here)) = (self.seen.own.get(platform), self.seen.described(platform)) else { return vec![] };
        if !havips.iter().any(|havip| havip.interface == *platform && havip.is_within(own)) {
            return vec![];
        }
        let nodes = self.gateway.ha.iter().flat_map(|ha| &ha.nodes).filter(|(name, _)| **name != self.gateway.node);
        let elsewhere = nodes.filter_map(|(name, address)| {
            let there = self.seen.holder(*address, &here.vpc_id).filter(|there| there.subnet_id != here.subnet_id)?;
            let what = format!(
                "{name} has its {} in {} ({}), and HaVips of {} ({}) cannot move there",
                there.id, there.subnet_id, there.availability_zone, here.subnet_id, here.availability_zone
            );
            let remedy = "put the nodes in one subnet, or take platform HaVips of no subnet and write `cloud.aws.platform.route_tables`";
            Some(Finding::broken(what, remedy))
        });
        elsewhere.collect()
    }

    fn assigned(&self, havip: &HaVip<'_>, own: &Interface) -> Vec<Finding> {
        let HaVip { of, address, interface, .. } = havip;
        if let Some(net) = own.networks.iter().find(|net| is_kept(net, *address)) {
            let what = format!("the HaVip {address} of {of} is one of the five addresses of {net} that AWS keeps for itself");
            return vec![Finding::broken(what, format!("take another of {net}: neither the first {KEPT} nor the last"))];
        }
        let Some(here) = self.seen.described(interface) else { return vec![] };
        let holder = self.seen.holder(*address, &here.vpc_id).filter(|there| there.subnet_id == here.subnet_id);
        let Some(there) = holder else { return vec![] };
        let (region, subnet) = (&self.instance.region, &here.subnet_id);
        if there.primary() == Some(*address) {
            let whose = if there.id == own.id { format!("of {interface} here") } else { format!("of {}", shown(there)) };
            let what = format!("the HaVip {address} of {of} is the primary address {whose}, which never moves");
            let reserve = format!(
                "aws ec2 create-subnet-cidr-reservation --region {region} --subnet-id {subnet} --cidr X/32 --reservation-type explicit"
            );
            return vec![Finding::broken(what, format!("take another, and reserve it: {reserve}"))];
        }
        let group = self.group(&here.vpc_id);
        match there.attachment.as_ref().map(|attachment| &attachment.instance_id) {
            Some(id) if group.contains(id.as_str()) => vec![],
            _ if self.is_pooled(of, &there.id) => vec![],
            // Whose the others are, it does not say.
            Some(_) if self.by_directory() => {
                vec![Finding::note(format!(
                    "the HaVip {address} of {of} is with {}: see that this is a gateway of the group",
                    shown(there)
                ))]
            }
            _ => {
                let what = format!(
                    "the HaVip {address} of {of} is with {}, which is no gateway of this group: they would take it from each other",
                    shown(there)
                );
                let command = format!("aws ec2 unassign-private-ip-addresses --region {region} --network-interface-id {}", there.id);
                vec![Finding::broken(what, format!("take another, or {command} --private-ip-addresses {address}"))]
            }
        }
    }

    /// What an elastic address led to would lose it to this group, and take it back.
    fn elastic(&self, havip: &HaVip<'_>) -> Option<Finding> {
        let HaVip { of, interface, public, .. } = havip;
        let ec2::Elastic { id, eni, instance, association, .. } = self.seen.elastics.iter().find(|elastic| Some(&elastic.id) == *public)?;
        let (here, eni) = (self.seen.described(interface)?, eni.as_ref()?);
        let is_own = instance.as_deref().is_some_and(|id| self.group(&here.vpc_id).contains(id)) || self.is_pooled(of, eni);
        // If these were not told, it is not known which instances the nodes are.
        if is_own || self.seen.is_refused(&["DescribeNetworkInterfaces"]) {
            return None;
        }
        let whose = instance.as_ref().map(|instance| format!(" of {instance}")).unwrap_or_default();
        let what = format!("the elastic address {id} of {of} is with {eni}{whose}");
        if instance.is_some() && self.by_directory() {
            return Some(Finding::note(format!("{what}: see that this is a gateway of the group")));
        }
        let (region, association) = (&self.instance.region, association.as_deref().unwrap_or("eipassoc-..."));
        let what = format!("{what}, which is no gateway of this group: they would take it from each other");
        Some(Finding::broken(
            what,
            format!("take another, or aws ec2 disassociate-address --region {region} --association-id {association}"),
        ))
    }

    /// The nodes are not in the file.
    fn by_directory(&self) -> bool {
        self.gateway.ha.as_ref().is_some_and(|ha| ha.by_directory())
    }

    /// Whether gateways attach it when they need one: between two of them it is nobody's, and keeps the addresses of the one before.
    fn is_pooled(&self, of: &TenantShard, eni: &EniId) -> bool {
        self.seen.pools.get(&of.tenant).is_some_and(|pool| pool.iter().any(|one| one.id == *eni))
    }

    fn routed(&self, havip: &HaVip<'_>, own: &Interface) -> Vec<Finding> {
        let HaVip { of, address, interface, key, public, .. } = havip;
        let mut findings = vec![];
        if let Some(allocation) = public {
            let what = format!(
                "the HaVip {address} of {of} is in no subnet of {interface}, and only such a one can have the elastic address {allocation}"
            );
            findings.push(Finding::broken(what, format!("take a tenant HaVip of the subnet ({}), or remove `public`", networks(own))));
        }
        let Some(here) = self.seen.described(interface) else { return findings };
        if havip.tables().next().is_none() {
            let tables = "route_tables: [rtb-...]";
            let elsewhere = self.seen.holder(*address, &here.vpc_id).filter(|there| there.subnet_id != here.subnet_id);
            let (whose, remedy) = match elsewhere {
                Some(there) => (
                    format!(": it belongs to {} in {}, as {} has it", there.subnet_id, there.availability_zone, there.id),
                    format!(
                        "give this node an ENI in {}, or take an address of no subnet and write `{tables}` in `cloud.aws.{key}`",
                        there.subnet_id
                    ),
                ),
                None => (
                    String::new(),
                    format!("take one of {}, or write `{tables}`, those that are to lead here, in `cloud.aws.{key}`", networks(own)),
                ),
            };
            let what = format!(
                "the HaVip {address} of {of} is not in the subnet of {interface} ({}, {}, {}), and no route leads to it{whose}",
                own.id,
                networks(own),
                here.availability_zone
            );
            findings.push(Finding::broken(what, remedy));
        }
        for table in self.seen.tables.iter().filter(|table| havip.tables().any(|id| *id == table.id)) {
            if table.vpc != here.vpc_id {
                let what = format!(
                    "{} is a route table of {}, and {interface} ({}) is in {}: no route of it can lead there",
                    table.id, table.vpc, own.id, here.vpc_id
                );
                findings.push(Finding::broken(what, format!("write tables of {} in `cloud.aws.{key}.route_tables`", here.vpc_id)));
            } else if let Some(net) = table.local.iter().find(|net| net.contains(address)) {
                let what =
                    format!("the HaVip {address} of {of} is within {net} of its own VPC, for a part of which EC2 takes no such route");
                findings
                    .push(Finding::broken(what, format!("take one of {}, or one that is in no VPC: 198.18.0.0/15, say", networks(own))));
            }
        }
        findings
    }

    /// A table by which nobody goes leads nobody here.
    fn tables(&self, havips: &[HaVip<'_>]) -> Vec<Finding> {
        let used: BTreeSet<_> = havips.iter().flat_map(HaVip::tables).collect();
        let idle = self.seen.tables.iter().filter(|table| used.contains(&table.id) && !table.is_associated);
        let one = |ec2::Table { id, .. }: &ec2::Table| {
            let what = format!("the route table {id} is associated with no subnet: nobody goes by it");
            let command =
                format!("aws ec2 associate-route-table --region {} --route-table-id {id} --subnet-id subnet-...", self.instance.region);
            Finding::broken(what, format!("{command}, or take it out of `route_tables`"))
        };
        idle.map(one).collect()
    }

    /// The instances of its nodes that are known.
    fn group(&self, vpc: &str) -> BTreeSet<&str> {
        let platform = self.seen.described(&self.gateway.platform.interface).map_or(vpc, |here| here.vpc_id.as_str());
        let nodes = self.gateway.ha.iter().flat_map(|ha| ha.nodes.values());
        let of_node = |address: &IpAddr| Some(self.seen.holder(*address, platform)?.attachment.as_ref()?.instance_id.as_str());
        nodes.filter_map(of_node).chain([self.instance.id.as_str()]).collect()
    }
}

fn is_kept(net: &IpNet, address: IpAddr) -> bool {
    match (net, address) {
        (IpNet::V4(net), IpAddr::V4(address)) => {
            let at = address.to_bits().checked_sub(net.network().to_bits());
            at.is_some_and(|at| at < KEPT) || address == net.broadcast()
        }
        _ => false,
    }
}

fn networks(own: &Interface) -> String {
    own.networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn shown(interface: &ec2::Interface) -> String {
    match &interface.attachment {
        Some(attachment) => format!("{} of {}", interface.id, attachment.instance_id),
        None => format!("{}, which is attached to nothing", interface.id),
    }
}
