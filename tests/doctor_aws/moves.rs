//! Where HaVips, and public addresses of them, are and can go.

use super::{Bed, METADATA, PLATFORM_HAVIP, enis, id};
use rstest::rstest;

const OVERLAY: &str = "198.18.0.50";

/// What a HaVip needs to come here.
#[rstest]
#[case::source_check(
    |bed: &Bed| bed.cloud.source_dest_check(&enis()[1], true),
    "the source/destination check of eni0 (eni-00000002) is on",
    "aws ec2 modify-network-interface-attribute --region eu-central-1 --network-interface-id eni-00000002 --no-source-dest-check"
)]
#[case::outside(
    |bed: &Bed| bed.eni(&enis()[0], "i-00000001", &bed.mac("plat0"), "10.9.0.0/27", "10.9.0.1"),
    "the HaVip 10.9.0.50 of acme/0 is not in the subnet of plat0 (eni-00000001, 10.9.0.0/27, eu-central-1a), and no route leads to it",
    "in `cloud.aws.platform`"
)]
#[case::of_another_zone(
    |bed: &Bed| {
        bed.eni(&enis()[0], "i-00000001", &bed.mac("plat0"), "10.9.0.0/27", "10.9.0.1");
        bed.eni(&id("eni-00000009"), "i-00000003", "02:00:00:00:00:09", "10.9.0.32/27", "10.9.0.40");
        bed.cloud.zone(&id("eni-00000009"), "eu-central-1b");
        bed.cloud.assign(id(PLATFORM_HAVIP), &id("eni-00000009"));
    },
    "it belongs to subnet-0a0900201b in eu-central-1b, as eni-00000009 has it",
    "give this node an ENI in subnet-0a0900201b"
)]
#[case::nodes_apart(
    |bed: &Bed| {
        bed.eni(&enis()[2], "i-00000002", "02:00:00:00:00:03", "10.9.0.0/28", "10.9.0.2");
        bed.cloud.zone(&enis()[2], "eu-central-1b");
    },
    "gw-2 has its eni-00000003 in subnet-0a0900001c (eu-central-1b), and HaVips of subnet-0a09000018 (eu-central-1a) cannot move there",
    "write `cloud.aws.platform.route_tables`"
)]
#[case::a_primary_one(
    |bed: &Bed| bed.eni(&id("eni-00000009"), "i-00000009", "02:00:00:00:00:09", "10.9.0.0/24", PLATFORM_HAVIP),
    "the HaVip 10.9.0.50 of acme/0 is the primary address of eni-00000009 of i-00000009, which never moves",
    "aws ec2 create-subnet-cidr-reservation --region eu-central-1 --subnet-id subnet-0a09000018"
)]
#[case::a_strangers(
    |bed: &Bed| {
        bed.eni(&id("eni-00000009"), "i-00000009", "02:00:00:00:00:09", "172.16.101.0/24", "172.16.101.9");
        bed.cloud.assign(id("172.16.101.10"), &id("eni-00000009"));
    },
    "the HaVip 172.16.101.10 of acme/0 is with eni-00000009 of i-00000009, which is no gateway of this group",
    "aws ec2 unassign-private-ip-addresses --region eu-central-1 --network-interface-id eni-00000009 --private-ip-addresses 172.16.101.10"
)]
fn addresses(#[case] spoil: fn(&Bed), #[case] what: &str, #[case] remedy: &str) {
    let bed = Bed::new();
    spoil(&bed);
    bed.doctor().broken(what, remedy);
}

/// HaVips that are reached by routes, and public addresses.
#[rstest]
#[case::well(OVERLAY, |_: &Bed| (), "", "")]
#[case::the_other_node_has_it(OVERLAY, |bed: &Bed| bed.cloud.associate(&id("eipalloc-0000000a"), &enis()[3]), "", "")]
#[case::no_table(OVERLAY, |_: &Bed| (), "the route table rtb-0000000c is not there, in this account and in eu-central-1", "aws ec2 describe-route-tables")]
#[case::idle(
    OVERLAY, |bed: &Bed| bed.cloud.route_table_of(&id("rtb-0000000b"), id("10.9.0.0/16"), false),
    "the route table rtb-0000000b is associated with no subnet", "aws ec2 associate-route-table --region eu-central-1 --route-table-id rtb-0000000b"
)]
#[case::of_another_vpc(
    OVERLAY, |bed: &Bed| bed.cloud.route_table_of(&id("rtb-0000000b"), id("172.16.0.0/16"), true),
    "rtb-0000000b is a route table of vpc-ac100000, and plat0 (eni-00000001) is in vpc-0a090000", "write tables of vpc-0a090000"
)]
#[case::of_the_vpc(
    "10.9.7.50", |_: &Bed| (), "the HaVip 10.9.7.50 of acme/0 is within 10.9.0.0/16 of its own VPC", "take one of 10.9.0.0/24"
)]
#[case::no_elastic(OVERLAY, |_: &Bed| (), "the elastic address eipalloc-0000000c is not there", "aws ec2 allocate-address --region eu-central-1 --domain vpc")]
#[case::a_strangers(
    OVERLAY, |bed: &Bed| {
        bed.eni(&id("eni-00000009"), "i-00000009", "02:00:00:00:00:09", "172.16.101.0/24", "172.16.101.9");
        bed.cloud.associate(&id("eipalloc-0000000a"), &id("eni-00000009"));
    },
    "the elastic address eipalloc-0000000a of acme/0 is with eni-00000009 of i-00000009, which is no gateway of this group",
    "aws ec2 disassociate-address --region eu-central-1 --association-id eipassoc-0123456789abcdef0"
)]
#[case::denied(
    OVERLAY, |bed: &Bed| bed.cloud.deny("CreateRoute"), "may not call CreateRoute",
    r#""Resource": ["arn:aws:ec2:eu-central-1:*:route-table/rtb-0000000a", "arn:aws:ec2:eu-central-1:*:route-table/rtb-0000000b"]"#
)]
#[case::denied_public(
    OVERLAY, |bed: &Bed| bed.cloud.deny("AssociateAddress"), "may not call AssociateAddress",
    r#"["arn:aws:ec2:eu-central-1:*:elastic-ip/eipalloc-0000000a", "arn:aws:ec2:eu-central-1:*:network-interface/eni-00000002"]"#
)]
fn routes_and_public_addresses(#[case] havip: &str, #[case] spoil: fn(&Bed), #[case] what: &str, #[case] remedy: &str) {
    let missing = |named: &str, id: &str| if what.contains(named) { format!("{id}c") } else { format!("{id}b") };
    let public = if what.contains("eipalloc-0000000c") { "eipalloc-0000000c" } else { "eipalloc-0000000a" };
    let tables = format!("platform: {{ route_tables: [rtb-0000000a, {}] }}", missing("rtb-0000000c", "rtb-0000000"));
    let written = format!("metadata: \"http://{METADATA}\", {tables}, tenants: {{ acme: {{ public: {{ 0: {public} }} }} }}");
    let bed = Bed::with(&written, havip);
    for table in ["rtb-0000000a", "rtb-0000000b"] {
        bed.cloud.route_table_of(&id(table), id("10.9.0.0/16"), true);
    }
    bed.cloud.elastic(&id("eipalloc-0000000a"));
    spoil(&bed);
    let found = bed.doctor();
    if what.is_empty() {
        assert_eq!(found.code, Some(0), "{:#?}", found.all);
        found.find("ok", "lets this node call AssignPrivateIpAddresses, AssociateAddress, CreateRoute, DescribeAddresses");
        found.find("ok", "2 HaVips can move");
        assert!(bed.cloud.moved().is_empty());
    } else {
        found.broken(what, remedy);
        // What is not there is said once, and nothing is tried with it.
        found.says_nothing_of("not tried out");
        found.says_nothing_of("can move to");
    }
}
