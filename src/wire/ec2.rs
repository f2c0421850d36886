//! Calls of EC2 about addresses and interfaces, in AWS's Query protocol: a form is posted, XML comes back.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/>, version 2016-11-15.

use crate::model::{AllocationId, EniId, InstanceId, RouteTableId, SecurityGroupId};
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use url::form_urlencoded::Serializer;

mod groups;
mod pages;
mod tables;

pub use groups::security_groups;
pub use pages::Pages;
pub use tables::{Table, tables};

/// Of the API, not of ours.
const VERSION: &str = "2016-11-15";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call<'c> {
    /// From whichever interface of the subnet has them.
    AssignPrivateIpAddresses {
        eni: &'c EniId,
        addresses: &'c [IpAddr],
    },
    /// Of a destination that the table has.
    ReplaceRoute {
        table: &'c RouteTableId,
        to: IpNet,
        eni: &'c EniId,
    },
    /// Of one that it has not.
    CreateRoute {
        table: &'c RouteTableId,
        to: IpNet,
        eni: &'c EniId,
    },
    /// From whatever it is associated with.
    AssociateAddress {
        allocation: &'c AllocationId,
        eni: &'c EniId,
        address: IpAddr,
    },
    DescribeNetworkInterfaces {
        of: Interfaces<'c>,
    },
    DescribeRouteTables {
        tables: &'c [RouteTableId],
    },
    DescribeAddresses {
        allocations: &'c [AllocationId],
    },
    /// Those that lead to this interface, if there are any.
    DescribeAddressesOf {
        eni: &'c EniId,
    },
    DescribeSecurityGroups {
        groups: &'c [SecurityGroupId],
    },
    AttachNetworkInterface {
        eni: &'c EniId,
        instance: &'c InstanceId,
        device: u8,
    },
    DetachNetworkInterface {
        attachment: &'c str,
    },
}

/// Which interfaces. All but the first come in [`Pages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interfaces<'c> {
    These(&'c [EniId]),
    /// Those that have one of these private addresses, 200 at most, in whatever VPC.
    Having(&'c [IpAddr]),
    /// Those of a zone with all of these tags.
    Tagged {
        zone: &'c str,
        tags: &'c BTreeMap<String, String>,
    },
}

impl Call<'_> {
    pub fn action(&self) -> &'static str {
        match self {
            Call::AssignPrivateIpAddresses { .. } => "AssignPrivateIpAddresses",
            Call::ReplaceRoute { .. } => "ReplaceRoute",
            Call::CreateRoute { .. } => "CreateRoute",
            Call::AssociateAddress { .. } => "AssociateAddress",
            Call::DescribeNetworkInterfaces { .. } => "DescribeNetworkInterfaces",
            Call::DescribeRouteTables { .. } => "DescribeRouteTables",
            Call::DescribeAddresses { .. } | Call::DescribeAddressesOf { .. } => "DescribeAddresses",
            Call::DescribeSecurityGroups { .. } => "DescribeSecurityGroups",
            Call::AttachNetworkInterface { .. } => "AttachNetworkInterface",
            Call::DetachNetworkInterface { .. } => "DetachNetworkInterface",
        }
    }

    /// As application/x-www-form-urlencoded. `dry`: whether it would be allowed is all that is asked.
    pub fn form(&self, dry: bool) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", self.action()).append_pair("Version", VERSION);
        if dry {
            form.append_pair("DryRun", "true");
        }
        let mut put = |name: &str, value: &str| _ = form.append_pair(name, value);
        match self {
            Call::AssignPrivateIpAddresses { eni, addresses } => {
                put("NetworkInterfaceId", eni.as_str());
                numbered(&mut put, "PrivateIpAddress", addresses.iter().map(IpAddr::to_string));
                put("AllowReassignment", "true");
            }
            Call::ReplaceRoute { table, to, eni } | Call::CreateRoute { table, to, eni } => {
                put("RouteTableId", table.as_str());
                let name = if to.addr().is_ipv4() { "DestinationCidrBlock" } else { "DestinationIpv6CidrBlock" };
                put(name, &to.to_string());
                put("NetworkInterfaceId", eni.as_str());
            }
            Call::AssociateAddress { allocation, eni, address } => {
                put("AllocationId", allocation.as_str());
                put("NetworkInterfaceId", eni.as_str());
                put("PrivateIpAddress", &address.to_string());
                put("AllowReassociation", "true");
            }
            Call::DescribeNetworkInterfaces { of: Interfaces::These(enis) } => {
                numbered(&mut put, "NetworkInterfaceId", enis.iter().map(EniId::to_string));
            }
            Call::DescribeNetworkInterfaces { of: Interfaces::Having(addresses) } => {
                put("MaxResults", pages::PAGE);
                put("Filter.1.Name", "addresses.private-ip-address");
                numbered(&mut put, "Filter.1.Value", addresses.iter().map(IpAddr::to_string));
            }
            Call::DescribeNetworkInterfaces { of: Interfaces::Tagged { zone, tags } } => {
                put("MaxResults", pages::PAGE);
                let tags = tags.iter().map(|(key, value)| (format!("tag:{key}"), value.clone()));
                let all = [("availability-zone".to_owned(), (*zone).to_owned())].into_iter().chain(tags);
                for (number, (name, value)) in (1..).zip(all) {
                    put(&format!("Filter.{number}.Name"), &name);
                    put(&format!("Filter.{number}.Value.1"), &value);
                }
            }
            Call::DescribeRouteTables { tables } => {
                numbered(&mut put, "RouteTableId", tables.iter().map(RouteTableId::to_string));
            }
            Call::DescribeAddresses { allocations } => {
                numbered(&mut put, "AllocationId", allocations.iter().map(AllocationId::to_string));
            }
            Call::DescribeAddressesOf { eni } => {
                put("Filter.1.Name", "network-interface-id");
                put("Filter.1.Value.1", eni.as_str());
            }
            Call::DescribeSecurityGroups { groups } => {
                numbered(&mut put, "GroupId", groups.iter().map(SecurityGroupId::to_string));
            }
            Call::AttachNetworkInterface { eni, instance, device } => {
                put("NetworkInterfaceId", eni.as_str());
                put("InstanceId", instance.as_str());
                put("DeviceIndex", &device.to_string());
            }
            Call::DetachNetworkInterface { attachment } => put("AttachmentId", attachment),
        }
        form.finish()
    }
}

/// How the protocol writes a list in a form.
fn numbered(put: &mut impl FnMut(&str, &str), name: &str, values: impl Iterator<Item = String>) {
    (1..).zip(values).for_each(|(number, value): (u32, String)| put(&format!("{name}.{number}"), &value));
}

/// An interface as it is described; what else is known of it is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    #[serde(rename = "networkInterfaceId")]
    pub id: EniId,
    #[serde(default)]
    pub subnet_id: String,
    #[serde(default)]
    pub vpc_id: String,
    #[serde(default)]
    pub availability_zone: String,
    /// `available`, `in-use` and others.
    #[serde(default)]
    pub status: String,
    /// As it is written: six pairs of digits with colons between.
    #[serde(default)]
    pub mac_address: String,
    #[serde(default)]
    pub source_dest_check: bool,
    pub attachment: Option<Attachment>,
    #[serde(default)]
    group_set: Items<Group>,
    #[serde(default)]
    private_ip_addresses_set: Items<PrivateAddress>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    #[serde(rename = "attachmentId", default)]
    pub id: String,
    #[serde(default)]
    pub instance_id: String,
    #[serde(default)]
    pub device_index: u8,
    /// `attaching`, `attached`, `detaching`, `detached`.
    #[serde(default)]
    pub status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrivateAddress {
    private_ip_address: IpAddr,
    #[serde(default)]
    primary: bool,
}

/// One that an interface is in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    group_id: SecurityGroupId,
}

impl Interface {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.private_ip_addresses_set.item.iter().map(|one| one.private_ip_address)
    }

    /// The one that stays with it.
    pub fn primary(&self) -> Option<IpAddr> {
        self.private_ip_addresses_set.item.iter().find(|one| one.primary).map(|one| one.private_ip_address)
    }

    /// The security groups that it is in.
    pub fn groups(&self) -> impl Iterator<Item = &SecurityGroupId> {
        self.group_set.item.iter().map(|one| &one.group_id)
    }
}

/// A route that leads to an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub table: RouteTableId,
    pub to: IpNet,
    pub eni: EniId,
}

/// An elastic address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elastic {
    #[serde(rename = "allocationId")]
    pub id: AllocationId,
    pub public_ip: Option<IpAddr>,
    #[serde(rename = "networkInterfaceId")]
    pub eni: Option<EniId>,
    #[serde(rename = "privateIpAddress")]
    pub address: Option<IpAddr>,
    /// That has the interface. A NAT gateway's is no instance's.
    #[serde(rename = "instanceId")]
    pub instance: Option<String>,
    #[serde(rename = "associationId")]
    pub association: Option<String>,
}

/// How EC2 writes a list in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Items<T> {
    #[serde(default = "Vec::new")]
    item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { item: vec![] }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer is none of EC2's: {0}")]
pub struct Unreadable(String);

/// Of the answer to [`Call::DescribeNetworkInterfaces`], or of a page of it.
pub fn interfaces(xml: &str) -> Result<Vec<Interface>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        network_interface_set: Items<Interface>,
    }
    read::<Answer>(xml).map(|answer| answer.network_interface_set.item)
}

/// Of the answer to [`Call::DescribeRouteTables`]: routes that lead to interfaces and work.
pub fn routes(xml: &str) -> Result<Vec<Route>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        route_table_set: Items<Table>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Table {
        route_table_id: RouteTableId,
        #[serde(default)]
        route_set: Items<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        destination_cidr_block: Option<IpNet>,
        destination_ipv6_cidr_block: Option<IpNet>,
        network_interface_id: Option<EniId>,
        #[serde(default)]
        state: String,
    }
    let answer: Answer = read(xml)?;
    let tables = answer.route_table_set.item.into_iter();
    Ok(tables
        .flat_map(|Table { route_table_id: table, route_set }| {
            route_set.item.into_iter().filter_map(move |entry| {
                let to = entry.destination_cidr_block.or(entry.destination_ipv6_cidr_block)?;
                let works = entry.state != "blackhole";
                works.then_some(Route { table: table.clone(), to, eni: entry.network_interface_id? })
            })
        })
        .collect())
}

/// Of the answer to [`Call::DescribeAddresses`].
pub fn elastics(xml: &str) -> Result<Vec<Elastic>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        addresses_set: Items<Elastic>,
    }
    read::<Answer>(xml).map(|answer| answer.addresses_set.item)
}

/// Of the answer to [`Call::AttachNetworkInterface`]: the attachment.
pub fn attachment(xml: &str) -> Result<String, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        attachment_id: String,
    }
    read::<Answer>(xml).map(|answer| answer.attachment_id)
}

fn read<'x, T: Deserialize<'x>>(xml: &'x str) -> Result<T, Unreadable> {
    quick_xml::de::from_str(xml).map_err(|error| Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests;
