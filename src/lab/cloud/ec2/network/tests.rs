use super::*;
use crate::lab::cloud::ec2::Eni;
use crate::lab::packet;
use crate::model::{SecurityGroup, SecurityGroupId};
use ipnet::IpNet;
use proptest::prelude::*;
use std::net::Ipv4Addr;

const SERVER: [u8; 4] = [172, 16, 101, 20];
const HAVIP: [u8; 4] = [172, 16, 101, 10];
/// 10.0.0.0 to .9 in a route table.
const OVERLAY: [u8; 4] = [10, 0, 0, 9];

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// The server's, which is in no group, and two gateways', which are in one.
fn enis() -> [EniId; 3] {
    ["eni-00000001", "eni-00000002", "eni-00000003"].map(id)
}

fn rule(protocol: &str, (from, to): (i32, i32), network: &str) -> Permission {
    let networks = vec![id(network)];
    Permission { protocol: protocol.into(), from: Some(from), to: Some(to), networks, groups: vec![], prefix_lists: vec![] }
}

fn anything() -> Permission {
    rule("-1", (-1, -1), "0.0.0.0/0")
}

struct Bed {
    ec2: Ec2,
    within: Within,
}

impl Bed {
    /// The HaVip is the first gateway's.
    fn new(ingress: Vec<Permission>, egress: Vec<Permission>) -> Self {
        let [server, first, second] = enis();
        let mut ec2 = Ec2::default();
        let subnet: IpNet = id("172.16.101.0/24");
        for (id, last) in [(&server, 20), (&first, 4), (&second, 5)] {
            let primary = IpAddr::from([172, 16, 101, last]);
            let eni = Eni { instance: String::new(), mac: String::new(), subnet, primary, addresses: [primary].into() };
            ec2.enis.insert(id.clone(), eni);
        }
        let group: SecurityGroupId = id("sg-0000000b");
        for gateway in [&first, &second] {
            ec2.described.set_groups(gateway, std::slice::from_ref(&group));
        }
        ec2.described.set_group(SecurityGroup { id: group, ingress, egress });
        ec2.give(HAVIP.into(), &first);
        Self { ec2, within: Within { enis: enis().into(), table: None } }
    }

    fn carry(&mut self, from: usize, packet: &Packet) -> Result<EniId, (EniId, Why)> {
        self.ec2.carry(&self.within, &enis()[from], packet).map_err(|dropped| (dropped.at, dropped.why))
    }
}

fn read(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Packet {
    Packet::read(&packet::ipv4(source.into(), destination.into(), protocol, payload)).unwrap()
}

fn tcp(source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Packet {
    let ends = [source, destination].map(|(address, port)| (Ipv4Addr::from(address), port));
    read(source.0, destination.0, TCP, &packet::tcp(ends[0], ends[1], 0x10, b"data"))
}

fn icmp(source: [u8; 4], destination: [u8; 4], (kind, code): (u8, u8)) -> Packet {
    let mut message = packet::icmp_echo(7, 1, b"");
    (message[0], message[1]) = (kind, code);
    read(source, destination, ICMP, &message)
}

#[test]
fn packets_reach_whoever_owns_their_destination() {
    let [server, first, second] = enis();
    let mut bed = Bed::new(vec![anything()], vec![anything()]);
    let answer = tcp((SERVER, 80), (HAVIP, 2000));
    assert_eq!(bed.carry(0, &answer), Ok(first.clone()));
    bed.ec2.give(HAVIP.into(), &second);
    assert_eq!(bed.carry(0, &answer), Ok(second.clone()));
    assert_eq!(bed.carry(0, &tcp((SERVER, 80), ([172, 16, 101, 99], 1))), Err((server.clone(), Why::NoOwner)));
    // Of another VPC.
    bed.within.enis.remove(&second);
    assert_eq!(bed.carry(0, &answer), Err((server, Why::NoOwner)));
}

#[test]
fn routes_lead_where_no_interface_has_the_address() {
    let [server, first, second] = enis();
    let mut bed = Bed::new(vec![anything()], vec![anything()]);
    let table: RouteTableId = id("rtb-0000000a");
    bed.ec2.tables.insert(table.clone(), [(id("10.0.0.0/8"), first.clone()), (id("10.0.0.9/32"), second.clone())].into());
    let packet = tcp((SERVER, 80), (OVERLAY, 2000));
    assert_eq!(bed.carry(0, &packet), Err((server, Why::NoOwner)), "nobody goes by the table");
    bed.within.table = Some(table);
    assert_eq!(bed.carry(0, &packet), Ok(second.clone()));
    assert_eq!(bed.carry(0, &tcp((SERVER, 80), ([10, 0, 0, 8], 1))), Ok(first));
    bed.ec2.described.set_check(&second, true);
    assert_eq!(bed.carry(0, &packet), Err((second, Why::Check)));
}

#[test]
fn a_check_lets_out_only_what_an_interface_owns() {
    let [_, first, second] = enis();
    let mut bed = Bed::new(vec![], vec![anything()]);
    for gateway in [&first, &second] {
        bed.ec2.described.set_check(gateway, true);
    }
    let packet = tcp((HAVIP, 2000), (SERVER, 80));
    assert_eq!(bed.carry(1, &packet), Ok(enis()[0].clone()));
    assert_eq!(bed.carry(2, &packet), Err((second.clone(), Why::Check)));
    bed.ec2.described.set_check(&second, false);
    assert_eq!(bed.carry(2, &packet), Ok(enis()[0].clone()));
}

/// The reason for the rules that terraform/modules/appliance makes.
#[test]
fn connections_stay_where_they_were_seen_when_the_address_goes() {
    let [server, first, second] = enis();
    let mut bed = Bed::new(vec![], vec![rule("tcp", (80, 80), "172.16.0.0/16"), rule("icmp", (-1, -1), "172.16.0.0/16")]);
    let requests = [tcp((HAVIP, 2000), (SERVER, 80)), icmp(HAVIP, SERVER, (ECHO_REQUEST, 0))];
    let answers = [tcp((SERVER, 80), (HAVIP, 2000)), icmp(SERVER, HAVIP, (ECHO_REPLY, 0))];
    for (request, answer) in requests.iter().zip(&answers) {
        assert_eq!(bed.carry(0, answer), Err((first.clone(), Why::Ingress)), "nobody has asked");
        assert_eq!(bed.carry(1, request), Ok(server.clone()));
        assert_eq!(bed.carry(0, answer), Ok(first.clone()));
    }
    assert_eq!(bed.carry(0, &tcp((SERVER, 80), (HAVIP, 2001))), Err((first.clone(), Why::Ingress)), "another connection");
    assert_eq!(bed.carry(0, &icmp(SERVER, HAVIP, (3, 4))), Err((first, Why::Ingress)), "an error is nobody's answer");
    bed.ec2.give(HAVIP.into(), &second);
    for (request, answer) in requests.iter().zip(&answers) {
        assert_eq!(bed.carry(0, answer), Err((second.clone(), Why::Ingress)), "another interface");
        assert_eq!(bed.carry(2, request), Ok(server.clone()));
        assert_eq!(bed.carry(0, answer), Ok(second.clone()));
    }
}

#[test]
fn what_was_let_in_is_answered_without_a_rule() {
    let mut bed = Bed::new(vec![rule("tcp", (1024, 65535), "172.16.0.0/16")], vec![]);
    let [question, answer] = [tcp((SERVER, 80), (HAVIP, 2000)), tcp((HAVIP, 2000), (SERVER, 80))];
    assert_eq!(bed.carry(1, &answer), Err((enis()[1].clone(), Why::Egress)));
    assert_eq!(bed.carry(0, &question), Ok(enis()[1].clone()));
    assert_eq!(bed.carry(1, &answer), Ok(enis()[0].clone()));
}

/// Advertisements: who has sent some hears the other's, whatever its rules let in.
#[test]
fn protocols_without_ports_are_answered_by_their_like() {
    let [first, second] = [[172, 16, 101, 4], [172, 16, 101, 5]];
    let mut bed = Bed::new(vec![], vec![anything()]);
    assert_eq!(bed.carry(1, &read(first, second, 112, b"advertisement")), Err((enis()[2].clone(), Why::Ingress)));
    assert_eq!(bed.carry(2, &read(second, first, 112, b"advertisement")), Ok(enis()[1].clone()), "it has sent one itself");
    assert_eq!(bed.carry(1, &read(first, second, 112, b"advertisement")), Ok(enis()[2].clone()));
    assert_eq!(bed.carry(1, &read(first, second, 47, b"a tunnel")), Err((enis()[2].clone(), Why::Ingress)));
}

#[test]
fn members_of_a_group_are_known_by_the_addresses_of_their_interfaces() {
    let among = Permission { groups: vec!["sg-0000000b".into()], networks: vec![], ..rule("112", (-1, -1), "0.0.0.0/0") };
    let mut bed = Bed::new(vec![among], vec![anything()]);
    let second = [172, 16, 101, 5];
    assert_eq!(bed.carry(1, &read([172, 16, 101, 4], second, 112, b"")), Ok(enis()[2].clone()));
    assert_eq!(bed.carry(1, &read(HAVIP, second, 112, b"")), Ok(enis()[2].clone()), "a secondary one");
    assert_eq!(bed.carry(0, &read(SERVER, second, 112, b"")), Err((enis()[2].clone(), Why::Ingress)));
    assert_eq!(bed.carry(1, &read(OVERLAY, second, 112, b"")), Err((enis()[2].clone(), Why::Ingress)), "nobody's");
}

#[test]
fn rules_are_about_protocols_ports_types_and_networks() {
    let packet = |port| tcp((SERVER, 80), (HAVIP, port));
    let is = |of: Permission, packet: &Packet| packet.is_of(&of);
    let range = rule("tcp", (1024, 2048), "0.0.0.0/0");
    assert_eq!([1023, 1024, 2048, 2049].map(|port| is(range.clone(), &packet(port))), [false, true, true, false]);
    assert!(is(rule("6", (-1, -1), "0.0.0.0/0"), &packet(1)) && !is(rule("udp", (-1, -1), "0.0.0.0/0"), &packet(1)));
    let too_long = rule("icmp", (3, 4), "0.0.0.0/0");
    assert_eq!([(3, 4), (3, 1), (8, 4)].map(|of| is(too_long.clone(), &icmp(SERVER, HAVIP, of))), [true, false, false]);
    // A fragment behind the first says nothing of ports.
    let fragment = Packet { says: Says::Nothing, ..packet(1024) };
    assert!(!is(range, &fragment) && is(rule("tcp", (-1, -1), "0.0.0.0/0"), &fragment));
    let mut bed = Bed::new(vec![rule("tcp", (-1, -1), "10.0.0.0/8")], vec![]);
    assert_eq!(bed.carry(0, &packet(1)), Err((enis()[1].clone(), Why::Ingress)));
    assert_eq!(bed.carry(0, &tcp(([10, 1, 1, 1], 80), (HAVIP, 1))), Ok(enis()[1].clone()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Packet::read(&bytes);
        let _ = Packet::read(&[&[0x45, 0, 0, bytes.len() as u8, 0, 0, 0, 0, 64, TCP], &bytes[..]].concat());
    }
}
