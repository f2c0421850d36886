//! ARP for IPv4 over Ethernet (RFC 826), as far as it takes to announce an address.

use std::net::Ipv4Addr;

pub type Mac = [u8; 6];

/// As people and clouds write it: six pairs of digits with colons between.
pub fn written(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What is written so. None: it is no hardware address.
pub fn read(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

pub const BROADCAST: Mac = [0xff; 6];
pub const ETHERTYPE: u16 = 0x0806;
/// Bytes of a frame; the driver pads it to Ethernet's 60.
pub const FRAME_LEN: usize = 42;

/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

/// An ARP frame.
///
/// ```text
/// +-----------------+-----------------+------+
/// | destination (6) | source (6)      | 0806 |  Ethernet
/// +------+------+---+----+-----------++------+
/// | 0001 | 0800 | 6 | 4  | operation |          hardware, protocol, their lengths
/// +------+------+---+----+-----------+
/// | sender MAC (6), sender IP (4)    |
/// +----------------------------------+
/// | target MAC (6), target IP (4)    |
/// +----------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub destination: Mac,
    pub source: Mac,
    pub operation: Operation,
    /// (MAC, address)
    pub sender: (Mac, Ipv4Addr),
    pub target: (Mac, Ipv4Addr),
}

impl Frame {
    /// An announcement of an address as a request (RFC 5227 sections 1.1 and 3, RFC 9568 section 8.1.2): it asks who has the address that it
    /// says to have itself, and nobody answers.
    pub fn gratuitous_request(mac: Mac, address: Ipv4Addr) -> Self {
        Self { destination: BROADCAST, source: mac, operation: Operation::Request, sender: (mac, address), target: ([0; 6], address) }
    }

    /// The same as a reply. Linux takes it for gratuitous only if both hardware addresses are the sender's (`arp_is_garp`).
    pub fn gratuitous_reply(mac: Mac, address: Ipv4Addr) -> Self {
        Self { destination: BROADCAST, source: mac, operation: Operation::Reply, sender: (mac, address), target: (mac, address) }
    }

    pub fn encode(&self) -> [u8; FRAME_LEN] {
        let mut bytes = [0; FRAME_LEN];
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let parts: [&[u8]; 9] = [
            &self.destination,
            &self.source,
            &ETHERTYPE.to_be_bytes(),
            &ETHERNET_IPV4,
            &operation.to_be_bytes(),
            &self.sender.0,
            &self.sender.1.octets(),
            &self.target.0,
            &self.target.1.octets(),
        ];
        let mut rest = &mut bytes[..];
        for part in parts {
            let (here, later) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = later;
        }
        bytes
    }

    /// None if it is anything else than a request or reply for IPv4 over Ethernet. Padding may follow.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (destination, rest) = bytes.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let rest = rest.strip_prefix(&ETHERTYPE.to_be_bytes())?.strip_prefix(&ETHERNET_IPV4)?;
        let (operation, rest) = rest.split_first_chunk()?;
        let operation = match u16::from_be_bytes(*operation) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        let (sender, rest) = rest.split_first_chunk()?;
        let (sender_address, rest) = rest.split_first_chunk::<4>()?;
        let (target, rest) = rest.split_first_chunk()?;
        let target_address = rest.first_chunk::<4>()?;
        let (sender, target) = ((*sender, Ipv4Addr::from(*sender_address)), (*target, Ipv4Addr::from(*target_address)));
        Some(Self { destination: *destination, source: *source, operation, sender, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = [0x02, 0, 0, 0xaa, 0xbb, 0xcc];

    /// As `arping -U` and `arping -A` send them.
    #[test]
    fn announcements_byte_by_byte() {
        let mut expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0xaa, 0xbb, 0xcc, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1, 0x02, 0, 0, 0xaa,
            0xbb, 0xcc, 10, 9, 0, 100, 0, 0, 0, 0, 0, 0, 10, 9, 0, 100,
        ];
        let address = Ipv4Addr::new(10, 9, 0, 100);
        assert_eq!(Frame::gratuitous_request(MAC, address).encode(), expected);
        expected[21] = 2;
        expected[32..38].copy_from_slice(&MAC);
        assert_eq!(Frame::gratuitous_reply(MAC, address).encode(), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(destination: Mac, source: Mac, reply: bool, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr), padding in 0..20usize) {
            let operation = if reply { Operation::Reply } else { Operation::Request };
            let frame = Frame { destination, source, operation, sender, target };
            let mut bytes = frame.encode().to_vec();
            bytes.resize(bytes.len() + padding, 0);
            prop_assert_eq!(Frame::parse(&bytes), Some(frame));
            for length in 0..FRAME_LEN {
                prop_assert_eq!(Frame::parse(&bytes[..length]), None);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(frame) = Frame::parse(&bytes) {
                prop_assert_eq!(&frame.encode()[..], &bytes[..FRAME_LEN]);
            }
        }
    }
}
