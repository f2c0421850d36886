//! Advertisements made by hand, as RFC 9568 section 5, RFC 3768 section 5 and draft-cassen-vrrp-auth-hmac draw them, and sent with any source
//! and TTL.

use super::support::{HAVIPS, THIRD, VRID, World};
use hmac::{Hmac, KeyInit, Mac};
use portway::lab::{checksum, ipv4};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{SystemTime, UNIX_EPOCH};

/// As [`World::new`] writes it into the key file.
pub const SECRET: [u8; 32] = [0x5a; 32];
const PROTOCOL: u8 = 112;

#[derive(Debug, Clone)]
pub struct Message {
    /// Version and type.
    pub first: u8,
    pub vrid: u8,
    pub priority: u8,
    pub count: u8,
    /// Version 3: reserved bits and the interval; version 2: authentication type and interval.
    pub interval: [u8; 2],
    pub addresses: Vec<Ipv4Addr>,
    pub tail: Vec<u8>,
}

impl Message {
    /// Every 100 ms.
    pub fn v3(priority: u8) -> Self {
        Self { first: 0x31, vrid: VRID, priority, count: 2, interval: [0, 10], addresses: HAVIPS.into(), tail: vec![] }
    }

    /// Every second.
    pub fn v2(priority: u8) -> Self {
        Self { first: 0x21, interval: [0, 1], tail: vec![0; 8], ..Self::v3(priority) }
    }

    /// Without checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let head = [self.first, self.vrid, self.priority, self.count, self.interval[0], self.interval[1], 0, 0];
        let addresses: Vec<u8> = self.addresses.iter().flat_map(Ipv4Addr::octets).collect();
        [&head[..], &addresses, &self.tail].concat()
    }

    /// With the checksum of its version.
    pub fn sealed(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        if self.first >> 4 != 2 {
            return self.sealed_as_v3(source, destination);
        }
        let mut bytes = self.bytes();
        let sum = checksum(&bytes);
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// With a pseudo-header's checksum.
    pub fn sealed_as_v3(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let mut bytes = self.bytes();
        let length = u8::try_from(bytes.len()).expect("a short message");
        let sum = checksum(&[&source.octets()[..], &destination.octets(), &[0, PROTOCOL, 0, length], &bytes].concat());
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// With a trailer by [`SECRET`], made so many seconds from now.
pub fn sign(message: Vec<u8>, source: Ipv4Addr, seconds: i64, key: u8) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let time = now.as_secs().wrapping_add_signed(seconds) as u32;
    let fraction = (u64::from(now.subsec_nanos()) * 65_536 / 1_000_000_000) as u16;
    let trailer = [&[1, key, 0, 0][..], &time.to_be_bytes(), &fraction.to_be_bytes(), &[0; 2]].concat();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&SECRET).expect("any length will do");
    mac.update(&[4, message[0] >> 4, message[1], 0]);
    mac.update(&[&source.octets()[..], &[0; 12]].concat());
    mac.update(&[&message[..6], &[0; 2], &message[8..]].concat());
    mac.update(&[&trailer[..], &[0; 16]].concat());
    let tag = mac.finalize().into_bytes();
    [&message[..], &trailer, &tag[..16]].concat()
}

/// An IPv4 packet of protocol 112.
pub fn packet(source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(source, destination, PROTOCOL, payload);
    packet[8] = ttl;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Sends it from the third machine, whatever source it claims.
pub fn inject(world: &World, source: Ipv4Addr, destination: Ipv4Addr, ttl: u8, payload: &[u8]) {
    let to = SocketAddr::from(SocketAddrV4::new(destination, 0));
    let packet = packet(source, destination, ttl, payload);
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?.send_to(&packet, &to.into());
    world.node(THIRD).run(raw).expect("send a packet");
}
