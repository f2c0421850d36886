//! Route tables as they are described, beside the routes to interfaces.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RouteTable.html>

use super::{Items, Unreadable, read};
use crate::model::RouteTableId;
use ipnet::IpNet;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub id: RouteTableId,
    pub vpc: String,
    /// Whether a subnet or a gateway goes by it, or by its being the VPC's main one.
    pub is_associated: bool,
    /// The VPC's own networks.
    pub local: Vec<IpNet>,
}

/// Of the answer to [`super::Call::DescribeRouteTables`].
pub fn tables(xml: &str) -> Result<Vec<Table>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        route_table_set: Items<Written>,
    }
    let answer: Answer = read(xml)?;
    Ok(answer.route_table_set.item.into_iter().map(Written::plain).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    route_table_id: RouteTableId,
    #[serde(default)]
    vpc_id: String,
    #[serde(default)]
    association_set: Items<Association>,
    #[serde(default)]
    route_set: Items<Route>,
}

#[derive(Deserialize)]
struct Association {
    #[serde(rename = "routeTableAssociationId")]
    _id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    destination_cidr_block: Option<IpNet>,
    destination_ipv6_cidr_block: Option<IpNet>,
    #[serde(default)]
    gateway_id: String,
}

impl Written {
    fn plain(self) -> Table {
        let local = self.route_set.item.into_iter().filter(|route| route.gateway_id == "local");
        Table {
            id: self.route_table_id,
            vpc: self.vpc_id,
            is_associated: !self.association_set.item.is_empty(),
            local: local.filter_map(|route| route.destination_cidr_block.or(route.destination_ipv6_cidr_block)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLES: &str = r#"<DescribeRouteTablesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><routeTableSet>
<item><routeTableId>rtb-0a1b2c3d</routeTableId><vpcId>vpc-1</vpcId><routeSet>
<item><destinationCidrBlock>10.9.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId><state>active</state></item>
<item><destinationCidrBlock>0.0.0.0/0</destinationCidrBlock><gatewayId>igw-1</gatewayId><state>active</state></item>
<item><destinationPrefixListId>pl-1</destinationPrefixListId><gatewayId>vpce-1</gatewayId></item>
<item><destinationIpv6CidrBlock>2001:db8::/56</destinationIpv6CidrBlock><gatewayId>local</gatewayId></item></routeSet>
<associationSet><item><routeTableAssociationId>rtbassoc-1</routeTableAssociationId><subnetId>subnet-1</subnetId><main>false</main>
<associationState><state>associated</state></associationState></item></associationSet></item>
<item><routeTableId>rtb-0a1b2c3e</routeTableId><vpcId>vpc-1</vpcId><routeSet/><associationSet/></item></routeTableSet></DescribeRouteTablesResponse>"#;

    #[test]
    fn whose_a_table_is_and_who_goes_by_it() {
        let all = tables(TABLES).unwrap();
        assert_eq!((all[0].vpc.as_str(), all[0].is_associated), ("vpc-1", true));
        assert_eq!(all[0].local, ["10.9.0.0/16", "2001:db8::/56"].map(|net| net.parse::<IpNet>().unwrap()));
        assert_eq!((all[1].id.as_str(), all[1].is_associated, all[1].local.len()), ("rtb-0a1b2c3e", false, 0));
        assert!(tables("<html/>").is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".*", cut in 0..TABLES.len()) {
            let _ = (tables(&text).is_ok(), tables(&TABLES[..cut]).is_ok());
        }
    }
}
