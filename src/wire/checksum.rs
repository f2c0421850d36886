//! The Internet checksum (RFC 1071), as a sum that grows piece by piece.

use std::net::Ipv4Addr;

/// An unfolded ones' complement sum. Every piece but the last that is added must have an even length.
///
/// Summed in the machine's own byte order: RFC 1071 section 2(B) lets the swap wait until the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of the IPv4 pseudo-header (RFC 9293 section 3.1): addresses, protocol, length of the segment in bytes.
    pub fn pseudo(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
        Sum::default().with(&source.octets()).with(&destination.octets()).word(u16::from(protocol)).word(length)
    }

    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Sum {
        // 32 bits at a time into 64-bit lanes: no carry to handle, and the compiler makes vector code of it.
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [0u64; 8];
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, tail) = rest.as_chunks::<4>();
        let sum = lanes.iter().sum::<u64>() + words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
        let last = match *tail {
            [a] => u64::from(u16::from_ne_bytes([a, 0])),
            [a, b] => u64::from(u16::from_ne_bytes([a, b])),
            [a, b, c] => u64::from(u32::from_ne_bytes([a, b, c, 0])),
            _ => 0,
        };
        Sum(self.0 + sum + last)
    }

    /// Adds one 16-bit number.
    #[must_use]
    pub fn word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word.to_be()))
    }

    /// The sum in 16 bits, not complemented: what stands in a checksum field whose rest is left to an offload.
    pub fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        // `sum` fits in 16 bits now.
        u16::from_be(sum as u16)
    }

    /// The checksum: complemented.
    pub fn finish(self) -> u16 {
        !self.folded()
    }

    /// Whether the bytes summed, their checksum among them, are intact.
    pub fn is_intact(self) -> bool {
        self.folded() == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 3 and the example there.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let sum = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b))).sum::<u64>();
        let mut sum = sum;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(Sum::default().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
    }

    proptest! {
        #[test]
        fn agrees_with_the_book(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(Sum::default().with(&bytes).folded(), by_the_book(&bytes));
        }

        #[test]
        fn pieces_make_the_whole(a in prop::collection::vec(any::<[u8; 2]>(), 0..200), b in prop::collection::vec(any::<u8>(), 0..200)) {
            let a = a.concat();
            prop_assert_eq!(Sum::default().with(&a).with(&b).folded(), by_the_book(&[a, b].concat()));
        }
    }
}
