use super::*;
use proptest::prelude::*;

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

#[test]
fn calls_are_the_forms_that_ec2_documents() {
    let (eni, table, allocation) = (&id("eni-0a1b2c3d"), &id("rtb-0a1b2c3d"), &id("eipalloc-0a1b2c3d"));
    let addresses = [[10, 9, 0, 50].into(), [10, 9, 0, 51].into()];
    let assign = Call::AssignPrivateIpAddresses { eni, addresses: &addresses };
    assert_eq!(
        assign.form(true),
        "Action=AssignPrivateIpAddresses&Version=2016-11-15&DryRun=true&NetworkInterfaceId=eni-0a1b2c3d\
         &PrivateIpAddress.1=10.9.0.50&PrivateIpAddress.2=10.9.0.51&AllowReassignment=true"
    );
    let route = Call::ReplaceRoute { table, to: id("10.1.0.1/32"), eni };
    assert_eq!(
        route.form(false),
        "Action=ReplaceRoute&Version=2016-11-15&RouteTableId=rtb-0a1b2c3d&DestinationCidrBlock=10.1.0.1%2F32&NetworkInterfaceId=eni-0a1b2c3d"
    );
    let route = Call::CreateRoute { table, to: id("fd00::1/128"), eni };
    assert!(route.form(false).contains("&DestinationIpv6CidrBlock=fd00%3A%3A1%2F128&"));
    let associate = Call::AssociateAddress { allocation, eni, address: addresses[0] };
    assert_eq!(
        associate.form(false),
        "Action=AssociateAddress&Version=2016-11-15&AllocationId=eipalloc-0a1b2c3d&NetworkInterfaceId=eni-0a1b2c3d\
         &PrivateIpAddress=10.9.0.50&AllowReassociation=true"
    );
    let tags = [("portway:tenant".to_owned(), "acme".to_owned())].into();
    let tagged = Call::DescribeNetworkInterfaces { of: Interfaces::Tagged { zone: "eu-central-1a", tags: &tags } };
    assert_eq!(
        tagged.form(false),
        "Action=DescribeNetworkInterfaces&Version=2016-11-15&MaxResults=1000&Filter.1.Name=availability-zone&Filter.1.Value.1=eu-central-1a\
         &Filter.2.Name=tag%3Aportway%3Atenant&Filter.2.Value.1=acme"
    );
    let having = Call::DescribeNetworkInterfaces { of: Interfaces::Having(&addresses) };
    assert!(
        having
            .form(false)
            .ends_with("&MaxResults=1000&Filter.1.Name=addresses.private-ip-address&Filter.1.Value.1=10.9.0.50&Filter.1.Value.2=10.9.0.51")
    );
    // Which goes with no page.
    let these = [eni.clone()];
    let these = Call::DescribeNetworkInterfaces { of: Interfaces::These(&these) };
    assert_eq!(these.form(false), "Action=DescribeNetworkInterfaces&Version=2016-11-15&NetworkInterfaceId.1=eni-0a1b2c3d");
    assert_eq!(
        Call::DescribeAddressesOf { eni }.form(false),
        "Action=DescribeAddresses&Version=2016-11-15&Filter.1.Name=network-interface-id&Filter.1.Value.1=eni-0a1b2c3d"
    );
    let groups = [id("sg-0a1b2c3d")];
    assert!(Call::DescribeSecurityGroups { groups: &groups }.form(false).ends_with("&GroupId.1=sg-0a1b2c3d"));
    let attach = Call::AttachNetworkInterface { eni, instance: &id("i-0a1b2c3d"), device: 1 };
    assert!(attach.form(false).ends_with("&NetworkInterfaceId=eni-0a1b2c3d&InstanceId=i-0a1b2c3d&DeviceIndex=1"));
    assert!(Call::DetachNetworkInterface { attachment: "eni-attach-1" }.form(false).ends_with("&AttachmentId=eni-attach-1"));
}

const INTERFACES: &str = r#"<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>
<networkInterfaceSet><item><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>
<availabilityZone>eu-central-1a</availabilityZone><description/><status>in-use</status><macAddress>02:00:00:00:00:01</macAddress>
<privateIpAddress>10.9.0.1</privateIpAddress><sourceDestCheck>false</sourceDestCheck><groupSet><item><groupId>sg-0a1b2c3d</groupId></item></groupSet>
<attachment><attachmentId>eni-attach-1</attachmentId><instanceId>i-0a1b2c3d</instanceId><deviceIndex>1</deviceIndex><status>attached</status></attachment>
<privateIpAddressesSet><item><privateIpAddress>10.9.0.1</privateIpAddress><primary>true</primary></item>
<item><privateIpAddress>10.9.0.50</privateIpAddress><primary>false</primary></item></privateIpAddressesSet></item></networkInterfaceSet>
</DescribeNetworkInterfacesResponse>"#;

#[test]
fn an_interface_is_read_with_its_addresses() {
    let all = interfaces(INTERFACES).unwrap();
    let [interface] = &all[..] else { panic!("{all:?}") };
    assert_eq!(
        (interface.id.as_str(), interface.availability_zone.as_str(), interface.status.as_str()),
        ("eni-0a1b2c3d", "eu-central-1a", "in-use")
    );
    assert!(!interface.source_dest_check);
    let attachment = interface.attachment.as_ref().map(|attachment| (attachment.device_index, attachment.status.as_str()));
    assert_eq!((attachment, interface.mac_address.as_str()), (Some((1, "attached")), "02:00:00:00:00:01"));
    assert_eq!(interface.addresses().map(|address| address.to_string()).collect::<Vec<_>>(), ["10.9.0.1", "10.9.0.50"]);
    assert_eq!((interface.vpc_id.as_str(), interface.primary()), ("vpc-1", Some(id("10.9.0.1"))));
    assert_eq!(interface.groups().map(|group| group.as_str()).collect::<Vec<_>>(), ["sg-0a1b2c3d"]);
    assert_eq!(interfaces("<DescribeNetworkInterfacesResponse><networkInterfaceSet/></DescribeNetworkInterfacesResponse>"), Ok(vec![]));
}

const TABLES: &str = r#"<DescribeRouteTablesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><routeTableSet><item>
<routeTableId>rtb-0a1b2c3d</routeTableId><routeSet>
<item><destinationCidrBlock>10.9.0.0/16</destinationCidrBlock><gatewayId>local</gatewayId><state>active</state></item>
<item><destinationCidrBlock>10.1.0.1/32</destinationCidrBlock><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><state>active</state></item>
<item><destinationCidrBlock>10.1.0.2/32</destinationCidrBlock><networkInterfaceId>eni-0a1b2c3e</networkInterfaceId><state>blackhole</state></item>
<item><destinationIpv6CidrBlock>fd00::1/128</destinationIpv6CidrBlock><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><state>active</state></item>
</routeSet></item></routeTableSet></DescribeRouteTablesResponse>"#;

/// One to an interface that is gone is black, and leads nowhere.
#[test]
fn routes_are_those_that_lead_to_interfaces() {
    let route = |to: &str| Route { table: id("rtb-0a1b2c3d"), to: id(to), eni: id("eni-0a1b2c3d") };
    assert_eq!(routes(TABLES), Ok(vec![route("10.1.0.1/32"), route("fd00::1/128")]));
}

const ADDRESSES: &str = r#"<DescribeAddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><addressesSet>
<item><publicIp>192.0.2.1</publicIp><allocationId>eipalloc-0a1b2c3d</allocationId><associationId>eipassoc-1</associationId><domain>vpc</domain><instanceId>i-0a1b2c3d</instanceId><networkInterfaceId>eni-0a1b2c3d</networkInterfaceId><privateIpAddress>172.16.101.10</privateIpAddress></item>
<item><publicIp>192.0.2.2</publicIp><allocationId>eipalloc-0a1b2c3e</allocationId><domain>vpc</domain></item></addressesSet></DescribeAddressesResponse>"#;

#[test]
fn an_elastic_address_may_lead_nowhere() {
    let all = elastics(ADDRESSES).unwrap();
    assert_eq!((all[0].eni.clone(), all[0].address), (Some(id("eni-0a1b2c3d")), Some(id("172.16.101.10"))));
    assert_eq!((all[0].instance.as_deref(), all[0].association.as_deref()), (Some("i-0a1b2c3d"), Some("eipassoc-1")));
    assert_eq!((all[1].public_ip, all[1].eni.clone(), all[1].instance.clone()), (Some(id("192.0.2.2")), None, None));
}

#[test]
fn an_attachment_has_a_name() {
    let xml = "<AttachNetworkInterfaceResponse><requestId>1</requestId><attachmentId>eni-attach-1</attachmentId></AttachNetworkInterfaceResponse>";
    assert_eq!(attachment(xml).as_deref(), Ok("eni-attach-1"));
    assert!(attachment("<html/>").is_err());
}

#[test]
fn what_is_no_answer_is_said() {
    for other in ["", "ok", "<html><body>502</body></html>", &TABLES[..TABLES.len() / 2], &TABLES.replace("rtb-", "tgw-")] {
        assert!(routes(other).is_err(), "{other}");
    }
    assert!(interfaces(&INTERFACES.replace("10.9.0.50", "10.9.0.500")).is_err());
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in ".*", cut in 0..TABLES.len()) {
        for text in [text.as_str(), &TABLES[..cut], &INTERFACES[..cut.min(INTERFACES.len())], &ADDRESSES[..cut.min(ADDRESSES.len())]] {
            let _ = (interfaces(text).is_ok(), routes(text).is_ok(), elastics(text).is_ok());
        }
    }
}
