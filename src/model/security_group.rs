//! A security group of EC2: what may go in and out of the network interfaces that have it.

use super::SecurityGroupId;
use ipnet::IpNet;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    pub id: SecurityGroupId,
    pub ingress: Vec<Permission>,
    pub egress: Vec<Permission>,
}

/// What one rule lets through; there are none that forbid.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_IpPermission.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, the number of another, or `-1`, which is any.
    pub protocol: String,
    /// The first port, or the type of ICMP. -1 or none: all.
    pub from: Option<i32>,
    /// The last port, or the code of ICMP. -1 or none: all.
    pub to: Option<i32>,
    /// From where, or to where: any of these networks,
    pub networks: Vec<IpNet>,
    /// private addresses of interfaces in these groups,
    pub groups: Vec<String>,
    /// or what is in these lists.
    pub prefix_lists: Vec<String>,
}
