//! Security groups as they are described.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSecurityGroups.html>

use super::{Items, Unreadable, read};
use crate::model::{Permission, SecurityGroup, SecurityGroupId};
use ipnet::IpNet;
use serde::Deserialize;

/// Of the answer to [`super::Call::DescribeSecurityGroups`].
pub fn security_groups(xml: &str) -> Result<Vec<SecurityGroup>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        security_group_info: Items<Group>,
    }
    let answer: Answer = read(xml)?;
    Ok(answer.security_group_info.item.into_iter().map(Group::plain).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    group_id: SecurityGroupId,
    #[serde(default)]
    ip_permissions: Items<Written>,
    #[serde(default)]
    ip_permissions_egress: Items<Written>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    ip_protocol: String,
    from_port: Option<i32>,
    to_port: Option<i32>,
    #[serde(default)]
    groups: Items<OfGroup>,
    #[serde(default)]
    ip_ranges: Items<OfNetwork>,
    #[serde(default)]
    ipv6_ranges: Items<OfIpv6>,
    #[serde(default)]
    prefix_list_ids: Items<OfPrefixList>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfGroup {
    #[serde(default)]
    group_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfNetwork {
    cidr_ip: IpNet,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfIpv6 {
    cidr_ipv6: IpNet,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfPrefixList {
    #[serde(default)]
    prefix_list_id: String,
}

impl Group {
    fn plain(self) -> SecurityGroup {
        let all = |written: Items<Written>| written.item.into_iter().map(Written::plain).collect();
        SecurityGroup { id: self.group_id, ingress: all(self.ip_permissions), egress: all(self.ip_permissions_egress) }
    }
}

impl Written {
    fn plain(self) -> Permission {
        let ipv4 = self.ip_ranges.item.into_iter().map(|range| range.cidr_ip);
        let ipv6 = self.ipv6_ranges.item.into_iter().map(|range| range.cidr_ipv6);
        Permission {
            protocol: self.ip_protocol,
            from: self.from_port,
            to: self.to_port,
            networks: ipv4.chain(ipv6).collect(),
            groups: self.groups.item.into_iter().map(|group| group.group_id).collect(),
            prefix_lists: self.prefix_list_ids.item.into_iter().map(|list| list.prefix_list_id).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GROUPS: &str = r#"<DescribeSecurityGroupsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId><securityGroupInfo><item>
<ownerId>123456789012</ownerId><groupId>sg-0a1b2c3d</groupId><groupName>platform</groupName><groupDescription/><vpcId>vpc-1</vpcId>
<ipPermissions>
<item><ipProtocol>112</ipProtocol><groups><item><userId>123456789012</userId><groupId>sg-0a1b2c3d</groupId></item></groups><ipRanges/><ipv6Ranges/><prefixListIds/></item>
<item><ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>23</toPort><groups/><ipRanges><item><cidrIp>10.0.0.0/8</cidrIp><description>x</description></item>
<item><cidrIp>192.0.2.1/32</cidrIp></item></ipRanges><ipv6Ranges><item><cidrIpv6>fd00::/8</cidrIpv6></item></ipv6Ranges>
<prefixListIds><item><prefixListId>pl-1</prefixListId></item></prefixListIds></item></ipPermissions>
<ipPermissionsEgress><item><ipProtocol>-1</ipProtocol><groups/><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges><ipv6Ranges/><prefixListIds/></item></ipPermissionsEgress>
</item></securityGroupInfo></DescribeSecurityGroupsResponse>"#;

    #[test]
    fn rules_are_read_with_everything_that_they_let_through() {
        let all = security_groups(GROUPS).unwrap();
        let [SecurityGroup { id, ingress, egress }] = &all[..] else { panic!("{all:?}") };
        assert_eq!(id.as_str(), "sg-0a1b2c3d");
        let [vrrp, tcp] = &ingress[..] else { panic!("{ingress:?}") };
        assert_eq!((vrrp.protocol.as_str(), vrrp.from, &vrrp.groups[..]), ("112", None, &["sg-0a1b2c3d".to_owned()][..]));
        assert_eq!((tcp.from, tcp.to, &tcp.prefix_lists[..]), (Some(22), Some(23), &["pl-1".to_owned()][..]));
        assert_eq!(tcp.networks, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"].map(|net| net.parse::<IpNet>().unwrap()));
        assert_eq!((egress[0].protocol.as_str(), egress[0].networks.len()), ("-1", 1));
        let none = "<DescribeSecurityGroupsResponse><securityGroupInfo/></DescribeSecurityGroupsResponse>";
        assert_eq!(security_groups(none), Ok(vec![]));
        for other in
            ["", "<html/>", &GROUPS.replace("10.0.0.0/8", "10.0.0.0/33"), &GROUPS.replace("<groupId>sg-0a1b2c3d</groupId><groupName>", "")]
        {
            assert!(security_groups(other).is_err(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".*", cut in 0..GROUPS.len(), at in 0..GROUPS.len(), with in ".") {
            let (before, after) = (&GROUPS[..at], GROUPS.get(at + 1..).unwrap_or_default());
            for text in [text.as_str(), &GROUPS[..cut], &format!("{before}{with}{after}")] {
                let _ = security_groups(text).is_ok();
            }
        }
    }
}
