//! Generic Routing Encapsulation: RFC 2784 with the key of RFC 2890.

use crate::model::GreKey;

/// What is inside a GRE packet.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-----------------+-----+-------------------------------+
/// |C| |K|S|    Reserved0    | Ver |         Protocol Type         |
/// +-+-+-+-+-----------------+-----+-------------------------------+
/// |      Checksum (if C)          |        Reserved1 (if C)       |
/// +-------------------------------+-------------------------------+
/// |                          Key (if K)                           |
/// +---------------------------------------------------------------+
/// |                    Sequence Number (if S)                     |
/// +---------------------------------------------------------------+
/// ```
/// A tunnel of ours has exactly the K bit: any other bit is refused, so that there is one way only to write a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub key: GreKey,
    pub protocol: Protocol,
    pub inner: &'a [u8],
}

/// Protocol Type: an EtherType (RFC 2784 section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Ipv4,
    Ipv6,
}

/// Why bytes are no GRE packet that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("GRE header cut short: {0} bytes, wanted 8")]
    Truncated(usize),
    #[error("GRE version {0}, wanted 0")]
    UnsupportedVersion(u8),
    #[error("GRE without a key")]
    NoKey,
    #[error("GRE flags {0:#06x}, wanted exactly the key bit, 0x2000")]
    UnsupportedFlags(u16),
    #[error("GRE protocol type {0:#06x}, wanted IPv4, 0x0800")]
    UnsupportedProtocol(u16),
}

/// Bytes of a header with a key.
pub const HEADER_LEN: usize = 8;

const KEY_PRESENT: u16 = 0x2000;
const VERSION: u16 = 0x0007;

impl Protocol {
    pub fn ether_type(self) -> u16 {
        match self {
            Protocol::Ipv4 => 0x0800,
            Protocol::Ipv6 => 0x86dd,
        }
    }
}

impl<'a> Packet<'a> {
    /// Reads the payload of an IP packet of protocol 47.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let cut = || Fault::Truncated(bytes.len());
        let (&[f0, f1, p0, p1], rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let flags = u16::from_be_bytes([f0, f1]);
        if flags & VERSION != 0 {
            return Err(Fault::UnsupportedVersion(f1 & 7));
        }
        match flags {
            KEY_PRESENT => {}
            0 => return Err(Fault::NoKey),
            other => return Err(Fault::UnsupportedFlags(other)),
        }
        let (key, inner) = rest.split_first_chunk().ok_or_else(cut)?;
        let protocol = match u16::from_be_bytes([p0, p1]) {
            0x0800 => Protocol::Ipv4,
            0x86dd => Protocol::Ipv6,
            other => return Err(Fault::UnsupportedProtocol(other)),
        };
        Ok(Packet { key: GreKey(u32::from_be_bytes(*key)), protocol, inner })
    }
}

/// The header to put before an inner packet.
pub fn header(key: GreKey, protocol: Protocol) -> [u8; HEADER_LEN] {
    let ([f0, f1], [p0, p1], [k0, k1, k2, k3]) = (KEY_PRESENT.to_be_bytes(), protocol.ether_type().to_be_bytes(), key.0.to_be_bytes());
    [f0, f1, p0, p1, k0, k1, k2, k3]
}

#[cfg(test)]
#[path = "gre_tests.rs"]
mod tests;
