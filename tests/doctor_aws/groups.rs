//! What security groups let through.

use super::{Bed, rule, security_groups};
use portway::model::Permission;
use rstest::rstest;

/// `without`: rules of this protocol in the group are gone.
#[rstest]
#[case::vrrp(
    0,
    "112",
    "the security groups of plat0 (sg-0000000a) do not let advertisements (VRRP, protocol 112) in from 10.9.0.2: two gateways would be Active at once",
    "aws ec2 authorize-security-group-ingress --region eu-central-1 --group-id sg-0000000a --ip-permissions 'IpProtocol=112,IpRanges=[{CidrIp=10.9.0.2/32}]'"
)]
#[case::sync(
    0,
    "udp",
    "copies of connections (UDP) in from 10.9.0.2",
    "'IpProtocol=udp,FromPort=3790,ToPort=3790,IpRanges=[{CidrIp=10.9.0.2/32}]'"
)]
#[case::gre(0, "47", "tunnels (GRE, protocol 47) in from 10.9.0.11", "'IpProtocol=47,IpRanges=[{CidrIp=10.9.0.11/32}]'")]
#[case::answers(
    1,
    "tcp",
    "(sg-0000000b) do not let answers (TCP) in from 172.16.0.0/16: an ENI that takes an address over knows no connection of it",
    "--group-id sg-0000000b --ip-permissions 'IpProtocol=tcp,FromPort=1024,ToPort=65535,IpRanges=[{CidrIp=172.16.0.0/16}]'"
)]
#[case::pings(
    1,
    "icmp",
    "answers to pings (ICMP) in from 172.16.0.0/16",
    "'IpProtocol=icmp,FromPort=0,ToPort=-1,IpRanges=[{CidrIp=172.16.0.0/16}]'"
)]
#[case::out(0, "-1", "tunnels (GRE, protocol 47) out to 10.9.0.11", "aws ec2 authorize-security-group-egress --region eu-central-1")]
fn what_security_groups_block(#[case] of: usize, #[case] without: &str, #[case] what: &str, #[case] remedy: &str) {
    let bed = Bed::new();
    let mut group = security_groups()[of].clone();
    group.ingress.retain(|rule| rule.protocol != without);
    group.egress.retain(|rule| rule.protocol != without);
    bed.cloud.security_group(group);
    bed.doctor().broken(what, remedy);
    bed.cloud.security_group(security_groups()[of].clone());
    bed.doctor().are_well();
}

#[test]
fn word_of_packets_that_are_too_long_is_missed() {
    let bed = Bed::new();
    let mut group = security_groups()[0].clone();
    group.ingress.retain(|rule| rule.protocol != "icmp");
    bed.cloud.security_group(group);
    let found = bed.doctor();
    assert_eq!(found.code, Some(0), "{:#?}", found.all);
    let what = "(sg-0000000a) do not let word of packets that are too long (ICMP) in from 10.9.0.11: what is too long for the way to a function host";
    let remedy = found.find("warning", what);
    assert!(remedy.ends_with("'IpProtocol=icmp,FromPort=3,ToPort=4,IpRanges=[{CidrIp=10.9.0.11/32}]'"), "{remedy}");
}

#[test]
fn a_prefix_list_is_not_judged() {
    let bed = Bed::new();
    let mut group = security_groups()[0].clone();
    group.ingress[0] = Permission { prefix_lists: vec!["pl-0000000a".into()], ..rule("112", (-1, -1), &[]) };
    bed.cloud.security_group(group);
    let found = bed.doctor();
    assert_eq!(found.code, Some(0), "{:#?}", found.all);
    let remedy =
        found.find("note", "not judged: whether advertisements (VRRP, protocol 112) may come in at plat0 depends on who is in pl-0000000a");
    assert_eq!(remedy, "aws ec2 get-managed-prefix-list-entries --region eu-central-1 --prefix-list-id pl-0000000a");
}
