//! What EC2 says of its things beside where they lead: subnets, zones, security groups; and who may do what.

use super::Ec2;
use crate::lab::cloud::metadata::REGION;
use crate::lab::cloud::{Cloud, Refusal};
use crate::model::{EniId, Permission, RouteTableId, SecurityGroup, SecurityGroupId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

const BY_ADDRESS: &str = "addresses.private-ip-address";

/// Whether interfaces are asked for that an instance has.
pub(super) fn is_by_id_or_address(form: &BTreeMap<String, String>) -> bool {
    form.get("Filter.1.Name").is_none_or(|name| name == BY_ADDRESS)
}

#[derive(Debug, Default)]
pub(super) struct Described {
    /// Actions that the role may not call,
    denied: BTreeSet<String>,
    /// and those that are never answered.
    silent: BTreeSet<String>,
    enis: BTreeMap<EniId, Traits>,
    tables: BTreeMap<RouteTableId, Place>,
    groups: BTreeMap<SecurityGroupId, SecurityGroup>,
}

#[derive(Debug, Default)]
struct Traits {
    source_dest_check: bool,
    zone: Option<String>,
    groups: Vec<SecurityGroupId>,
}

/// The VPC of a route table, and whether somebody goes by it.
#[derive(Debug)]
struct Place {
    vpc: IpNet,
    is_associated: bool,
}

impl Cloud {
    /// The role lacks the permission, until it is given.
    pub fn deny(&self, action: &str) {
        self.account().ec2.described.denied.insert(action.to_owned());
    }

    pub fn permit(&self, action: &str) {
        self.account().ec2.described.denied.remove(action);
    }

    /// Calls of this action are heard and never answered.
    pub fn ignore(&self, action: &str) {
        self.account().ec2.described.silent.insert(action.to_owned());
    }

    /// Off, as gateways need it, unless this says otherwise.
    pub fn source_dest_check(&self, eni: &EniId, on: bool) {
        self.account().ec2.described.set_check(eni, on);
    }

    /// The region's first zone, unless this says otherwise.
    pub fn zone(&self, eni: &EniId, zone: &str) {
        self.account().ec2.described.enis.entry(eni.clone()).or_default().zone = Some(zone.to_owned());
    }

    /// An interface is in these groups.
    pub fn grouped(&self, eni: &EniId, groups: &[SecurityGroupId]) {
        self.account().ec2.described.set_groups(eni, groups);
    }

    /// Makes a group, or has other rules in it.
    pub fn security_group(&self, group: SecurityGroup) {
        self.account().ec2.described.set_group(group);
    }

    /// A route table of the VPC with this network.
    pub fn route_table_of(&self, id: &RouteTableId, vpc: IpNet, is_associated: bool) {
        self.route_table(id);
        self.account().ec2.described.tables.insert(id.clone(), Place { vpc, is_associated });
    }
}

impl Described {
    pub(super) fn is_silent(&self, action: &str) -> bool {
        self.silent.contains(action)
    }

    pub(super) fn set_check(&mut self, eni: &EniId, on: bool) {
        self.enis.entry(eni.clone()).or_default().source_dest_check = on;
    }

    pub(super) fn set_groups(&mut self, eni: &EniId, groups: &[SecurityGroupId]) {
        self.enis.entry(eni.clone()).or_default().groups = groups.to_vec();
    }

    pub(super) fn set_group(&mut self, group: SecurityGroup) {
        self.groups.insert(group.id.clone(), group);
    }

    pub(super) fn is_checked(&self, eni: &EniId) -> bool {
        self.enis.get(eni).is_some_and(|traits| traits.source_dest_check)
    }

    /// None: it is in none.
    pub(super) fn groups_of(&self, eni: &EniId) -> Option<impl Iterator<Item = &SecurityGroup>> {
        let groups = &self.enis.get(eni).filter(|traits| !traits.groups.is_empty())?.groups;
        Some(groups.iter().filter_map(|id| self.groups.get(id)))
    }

    /// Whether it is in one of these.
    pub(super) fn is_in(&self, eni: &EniId, groups: &[String]) -> bool {
        self.enis.get(eni).is_some_and(|traits| traits.groups.iter().any(|id| groups.iter().any(|group| group == id.as_str())))
    }

    /// What is said before anything is done.
    pub(super) fn refusal(&self, form: &BTreeMap<String, String>) -> Option<Refusal> {
        let action = form.get("Action")?;
        let text =
            || format!("You are not authorized to perform this operation. User: of-the-lab is not authorized to perform: ec2:{action}");
        self.denied.contains(action).then(|| (403, "UnauthorizedOperation", text()))
    }

    /// Of a route table, beside its routes.
    pub(super) fn table(&self, id: &str) -> [String; 2] {
        let place = id.parse().ok().and_then(|id: RouteTableId| self.tables.get(&id));
        let Some(Place { vpc, is_associated }) = place else { return Default::default() };
        let association = "<item><routeTableAssociationId>rtbassoc-0123456789abcdef0</routeTableAssociationId><main>true</main></item>";
        let associations = if *is_associated { association } else { "" };
        let local =
            format!("<item><destinationCidrBlock>{vpc}</destinationCidrBlock><gatewayId>local</gatewayId><state>active</state></item>");
        [format!("<vpcId>{}</vpcId><associationSet>{associations}</associationSet>", vpc_id(*vpc)), local]
    }

    pub(super) fn security_groups(&self, ids: &[String]) -> Result<String, Refusal> {
        let mut items = String::new();
        for id in ids {
            let group = id.parse().ok().and_then(|id: SecurityGroupId| self.groups.get(&id));
            let group = group.ok_or((400, "InvalidGroup.NotFound", format!("The security group '{id}' does not exist")))?;
            let (ingress, egress) = (permissions(&group.ingress), permissions(&group.egress));
            let _ = write!(
                items,
                "<item><groupId>{id}</groupId><groupName>{id}</groupName><ipPermissions>{ingress}</ipPermissions><ipPermissionsEgress>{egress}</ipPermissionsEgress></item>"
            );
        }
        Ok(format!("<securityGroupInfo>{items}</securityGroupInfo>"))
    }
}

impl Ec2 {
    pub(super) fn describe_interfaces(&self, form: &BTreeMap<String, String>, ids: &[String]) -> Result<String, Refusal> {
        let these = ids.iter().map(|id| self.known(id)).collect::<Result<Vec<_>, _>>()?;
        let list = |prefix: &str| -> Vec<&String> { (1..).map_while(|number| form.get(&format!("{prefix}.{number}"))).collect() };
        let filters: Vec<(&String, Vec<&String>)> =
            (1..).map_while(|n| Some((form.get(&format!("Filter.{n}.Name"))?, list(&format!("Filter.{n}.Value"))))).collect();
        let mut items = vec![];
        for id in self.enis.keys().filter(|id| these.is_empty() || these.contains(id)) {
            let passes = filters.iter().map(|(name, values)| self.passes(id, name, values)).collect::<Result<Vec<_>, _>>()?;
            if passes.into_iter().all(|passes| passes) {
                items.push(self.described_interface(id));
            }
        }
        self.paged(form, &items)
    }

    fn passes(&self, id: &EniId, filter: &str, values: &[&String]) -> Result<bool, Refusal> {
        let is = |text: &str| values.iter().any(|value| *value == text);
        let eni = &self.enis[id];
        match filter {
            BY_ADDRESS => Ok(eni.addresses.iter().any(|address| is(&address.to_string()))),
            other => Err((400, "InvalidParameterValue", format!("The filter '{other}' is invalid"))),
        }
    }

    fn zone_of(&self, id: &EniId) -> String {
        self.described.enis.get(id).and_then(|traits| traits.zone.clone()).unwrap_or_else(|| format!("{REGION}a"))
    }

    fn described_interface(&self, id: &EniId) -> String {
        let (eni, traits) = (&self.enis[id], self.described.enis.get(id));
        let groups = traits.into_iter().flat_map(|traits| &traits.groups);
        let groups: String = groups.map(|group| format!("<item><groupId>{group}</groupId><groupName>{group}</groupName></item>")).collect();
        let address = |address: &IpAddr| {
            format!("<item><privateIpAddress>{address}</privateIpAddress><primary>{}</primary></item>", *address == eni.primary)
        };
        let addresses: String = eni.addresses.iter().map(address).collect();
        let check = traits.is_some_and(|traits| traits.source_dest_check);
        let (subnet, vpc, zone) = (subnet_id(eni.subnet), vpc_id(eni.subnet), self.zone_of(id));
        let attachment = format!(
            "<attachment><attachmentId>eni-attach-{}</attachmentId><instanceId>{}</instanceId><deviceIndex>1</deviceIndex><status>attached</status></attachment>",
            id.as_str().trim_start_matches("eni-"),
            eni.instance,
        );
        let (status, attachment) = if eni.instance.is_empty() { ("available", "") } else { ("in-use", attachment.as_str()) };
        format!(
            "<item><networkInterfaceId>{id}</networkInterfaceId><subnetId>{subnet}</subnetId><vpcId>{vpc}</vpcId><availabilityZone>{zone}</availabilityZone>\
             <status>{status}</status><macAddress>{}</macAddress><privateIpAddress>{}</privateIpAddress><sourceDestCheck>{check}</sourceDestCheck>\
             <groupSet>{groups}</groupSet>{attachment}<privateIpAddressesSet>{addresses}</privateIpAddressesSet></item>",
            eni.mac, eni.primary,
        )
    }
}

/// A subnet is its network.
pub fn subnet_id(subnet: IpNet) -> String {
    format!("subnet-{}{:02x}", digits(subnet.network()), subnet.prefix_len())
}

/// Every VPC is a /16.
fn vpc_id(within: IpNet) -> String {
    let whole = IpNet::new(within.network(), 16).map_or(within, |net| net.trunc());
    format!("vpc-{}", digits(whole.network()))
}

fn digits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08x}", address.to_bits()),
        IpAddr::V6(address) => format!("{:032x}", address.to_bits()),
    }
}

fn permissions(all: &[Permission]) -> String {
    let one = |Permission { protocol, from, to, networks, groups, prefix_lists }: &Permission| {
        let port = |name: &str, port: &Option<i32>| port.map(|port| format!("<{name}>{port}</{name}>")).unwrap_or_default();
        let list = |name: &str, of: Vec<String>| format!("<{name}>{}</{name}>", of.join(""));
        let item = |name: &str, value: &str| format!("<item><{name}>{value}</{name}></item>");
        let of_family = |ipv6: bool| networks.iter().filter(move |net| net.addr().is_ipv6() == ipv6);
        [
            format!("<item><ipProtocol>{protocol}</ipProtocol>"),
            port("fromPort", from) + &port("toPort", to),
            list("groups", groups.iter().map(|group| item("groupId", group)).collect()),
            list("ipRanges", of_family(false).map(|net| item("cidrIp", &net.to_string())).collect()),
            list("ipv6Ranges", of_family(true).map(|net| item("cidrIpv6", &net.to_string())).collect()),
            list("prefixListIds", prefix_lists.iter().map(|id| item("prefixListId", id)).collect()),
            "</item>".to_owned(),
        ]
        .concat()
    };
    all.iter().map(one).collect()
}
