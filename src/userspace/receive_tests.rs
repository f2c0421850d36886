use super::*;
use crate::model::{GreKey, IfName};
use crate::userspace::counters::Traffic;
use crate::userspace::table::{End, Tunnel};
use proptest::prelude::*;
use std::fs::File;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;

const KEY: GreKey = GreKey(7);
/// Our own.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const INNER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 10);
/// On the way to the server, and in no network of the tenant's.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn table(end: End, peer: bool) -> Table<Arc<Device>> {
    let interface: IfName = "pw-1".parse().unwrap();
    let device = Device {
        interface: interface.clone(),
        queue: File::open("/dev/null").unwrap().into(),
        traffic: Traffic::default(),
        mtu: 1472.into(),
        lost: AtomicBool::new(false),
    };
    let mut table = Table::default();
    table.add(Tunnel { interface: interface.clone(), local: HERE.into(), key: KEY, end }, Arc::new(device)).unwrap();
    if peer {
        table.set_peer(&interface, HOST.into(), &[IpAddr::from(INNER).into()]).unwrap();
    }
    table
}

fn host() -> Table<Arc<Device>> {
    table(End::Host { gateway: GATEWAY.into(), inner: INNER.into(), cidrs: vec!["172.16.0.0/16".parse().unwrap()] }, false)
}

fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(ipv4::HEADER_LEN + body.len()).unwrap();
    let mut packet = ipv4::outer(source, destination, 0, len, 1).to_vec();
    packet[9] = protocol;
    ipv4::set_total_len(&mut packet, len);
    packet.extend(body);
    packet
}

/// An ICMP error from `source` to `destination` about a UDP packet from `quoted.0` to `quoted.1`.
fn error(kind: u8, source: Ipv4Addr, destination: Ipv4Addr, quoted: (Ipv4Addr, Ipv4Addr)) -> Vec<u8> {
    let body = [&[kind, 4, 0, 0, 0, 0, 5, 0][..], &ip(quoted.0, quoted.1, nested::UDP, &[0, 9, 0, 9, 0, 8, 0, 0])].concat();
    ip(source, destination, nested::ICMP, &body)
}

/// What would be delivered of a packet in GRE.
fn delivered(table: &Table<Arc<Device>>, outer: Ipv4Addr, inner: &[u8]) -> Result<Vec<u8>, DropReason> {
    delivered_at(HERE, table, outer, inner)
}

fn delivered_at(local: Ipv4Addr, table: &Table<Arc<Device>>, outer: Ipv4Addr, inner: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut bytes = ip(outer, local, nested::GRE, &[&gre::header(KEY, gre::Protocol::Ipv4)[..], inner].concat());
    let (range, header, _) = accept(&mut bytes, table, &mut Vec::new())?;
    let packet = bytes[range].to_vec();
    assert_eq!(ipv4::Header::parse(&packet), Ok(header), "what is said of the packet is what it says");
    assert!(ipv4::checksum_is_right(&packet[..header.header_len]));
    Ok(packet)
}

#[test]
fn an_error_from_anywhere_on_the_way_reaches_the_host_in_the_servers_name() {
    let table = host();
    for kind in icmp::ERRORS {
        let packet = error(kind, ROUTER, INNER, (INNER, SERVER));
        let got = delivered(&table, GATEWAY, &packet).unwrap();
        assert_eq!(got, error(kind, SERVER, INNER, (INNER, SERVER)), "type {kind}");
        let within = error(kind, Ipv4Addr::new(172, 16, 0, 1), INNER, (INNER, SERVER));
        assert_eq!(delivered(&table, GATEWAY, &within), Ok(within), "a router in the tenant's own network says who it is");
    }
}

#[test]
fn errors_about_others_and_what_is_no_error_are_spoofed() {
    let table = host();
    let refused = |packet: &[u8]| assert_eq!(delivered(&table, GATEWAY, packet), Err(DropReason::SpoofedInner));
    refused(&error(3, ROUTER, INNER, (INNER, Ipv4Addr::new(8, 8, 8, 8)))); // not in the tenant's networks
    refused(&error(3, ROUTER, INNER, (Ipv4Addr::new(10, 64, 0, 2), SERVER))); // a neighbour sent it
    refused(&error(0, ROUTER, INNER, (INNER, SERVER))); // echo reply
    refused(&error(5, ROUTER, INNER, (INNER, SERVER))); // redirect: never routed
    refused(&ip(ROUTER, INNER, nested::UDP, &error(3, ROUTER, INNER, (INNER, SERVER))[20..]));
    let to_another = error(3, ROUTER, Ipv4Addr::new(10, 64, 0, 2), (INNER, SERVER));
    assert_eq!(delivered(&table, GATEWAY, &to_another), Err(DropReason::Unroutable));
    let stranger = error(3, ROUTER, INNER, (INNER, SERVER));
    assert_eq!(delivered(&table, Ipv4Addr::new(10, 0, 0, 3), &stranger), Err(DropReason::UnlistedSource));
}

#[test]
fn a_gateway_takes_a_hosts_error_in_the_hosts_own_name_only() {
    let table = table(End::Gateway, true);
    let own = error(3, INNER, SERVER, (SERVER, INNER));
    assert_eq!(delivered(&table, HOST, &own), Ok(own.clone()));
    assert_eq!(delivered_at(ROUTER, &table, HOST, &own), Err(DropReason::WrongLocal), "at another address of ours");
    assert_eq!(delivered(&table, HOST, &error(3, ROUTER, SERVER, (SERVER, INNER))), Ok(own));
    let neighbours = error(3, ROUTER, SERVER, (SERVER, Ipv4Addr::new(10, 64, 0, 2)));
    assert_eq!(delivered(&table, HOST, &neighbours), Err(DropReason::SpoofedInner));
}

proptest! {
    /// Whatever an error says, what is delivered has a source in the tenant's networks and the host's own destination.
    #[test]
    fn nothing_gets_in_with_a_source_that_is_not_the_tenants(kind in 0u8..14, addresses: [u8; 4]) {
        let choice = [INNER, SERVER, ROUTER, Ipv4Addr::new(10, 64, 0, 2), Ipv4Addr::new(172, 16, 0, 1)];
        let [a, b, c, d] = addresses.map(|n| choice[usize::from(n) % choice.len()]);
        if let Ok(packet) = delivered(&host(), GATEWAY, &error(kind, a, b, (c, d))) {
            let header = ipv4::Header::parse(&packet).unwrap();
            prop_assert_eq!(&header.source.octets()[..2], &[172, 16]);
            prop_assert_eq!(header.destination, INNER);
            prop_assert_eq!(&packet[20..], &error(kind, a, b, (c, d))[20..]);
        }
    }
}
