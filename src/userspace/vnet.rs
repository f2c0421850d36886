//! The header that a TUN device with `IFF_VNET_HDR` puts before every packet.

/// `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h), in the machine's byte order.
///
/// ```text
///  0       1       2               4               6               8              10
/// +-------+-------+---------------+---------------+---------------+---------------+
/// | flags |  gso  |    hdr_len    |   gso_size    |  csum_start   |  csum_offset  |
/// +-------+-------+---------------+---------------+---------------+---------------+
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// The checksum field holds the sum of the pseudo-header alone: sum from `checksum_start` to the end, and put the
    /// result at `checksum_start + checksum_offset`.
    pub needs_checksum: bool,
    pub gso: Gso,
    /// Bytes of all headers: a hint for the kernel.
    pub header_len: u16,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    pub checksum_start: u16,
    pub checksum_offset: u16,
}

/// What the packet is to be cut into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gso {
    #[default]
    None,
    TcpV4,
    UdpL4,
    /// A kind that was not asked for, by number.
    Other(u8),
}

/// Bytes of the header (`TUNSETVNETHDRSZ`'s default).
pub const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const TCPV4: u8 = 1;
const UDP_L4: u8 = 5;

impl VnetHeader {
    pub fn decode(bytes: &[u8; LEN]) -> VnetHeader {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        VnetHeader {
            needs_checksum: bytes[0] & NEEDS_CSUM != 0,
            gso: match bytes[1] {
                0 => Gso::None,
                TCPV4 => Gso::TcpV4,
                UDP_L4 => Gso::UdpL4,
                other => Gso::Other(other),
            },
            header_len: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }

    pub fn encode(&self) -> [u8; LEN] {
        let gso = match self.gso {
            Gso::None => 0,
            Gso::TcpV4 => TCPV4,
            Gso::UdpL4 => UDP_L4,
            Gso::Other(kind) => kind,
        };
        let mut bytes = [if self.needs_checksum { NEEDS_CSUM } else { 0 }, gso, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = [self.header_len, self.gso_size, self.checksum_start, self.checksum_offset];
        for (field, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            field.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(needs_checksum: bool, kind in 0u8..9, a: u16, b: u16, c: u16, d: u16) {
            let gso = VnetHeader::decode(&[0, kind, 0, 0, 0, 0, 0, 0, 0, 0]).gso;
            let header = VnetHeader { needs_checksum, gso, header_len: a, gso_size: b, checksum_start: c, checksum_offset: d };
            prop_assert_eq!(VnetHeader::decode(&header.encode()), header);
        }
    }
}
