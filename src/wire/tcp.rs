//! The little of a TCP header (RFC 9293 section 3.1) that segmentation and coalescing have to know.

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Where the checksum stands.
pub const CHECKSUM: usize = 16;

pub const FIN: u8 = 0x01;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const CWR: u8 = 0x80;

/// A view of a TCP header.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-------------------------------+-------------------------------+
/// |          Source Port          |       Destination Port        |
/// +-------------------------------+-------------------------------+
/// |                        Sequence Number                        |
/// +---------------------------------------------------------------+
/// |                    Acknowledgment Number                      |
/// +-------+-------+---------------+-------------------------------+
/// | Offset| Rsrvd |CEUAPRSF flags |            Window             |
/// +-------+-------+---------------+-------------------------------+
/// |           Checksum            |         Urgent Pointer        |
/// +-------------------------------+-------------------------------+
/// |                     [Options] (Offset > 5)                    |
/// +---------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Header<'a>(&'a [u8]);

impl<'a> Header<'a> {
    /// The header, options included, at the front of a segment; none if it is cut short or malformed.
    pub fn parse(segment: &'a [u8]) -> Option<Self> {
        let len = usize::from(segment.get(12)? >> 4) * 4;
        if len < HEADER_LEN { None } else { segment.get(..len).map(Self) }
    }

    /// Bytes, 20 to 60.
    pub fn header_len(self) -> usize {
        self.0.len()
    }

    /// Source and destination port, in one number.
    pub fn ports(self) -> u32 {
        self.number(0)
    }

    pub fn sequence(self) -> u32 {
        self.number(4)
    }

    pub fn flags(self) -> u8 {
        self.0[13]
    }

    pub fn checksum(self) -> u16 {
        u16::from_be_bytes([self.0[CHECKSUM], self.0[CHECKSUM + 1]])
    }

    /// Whether two segments differ only in sequence number, PSH and checksum.
    pub fn continues(self, earlier: Header<'_>) -> bool {
        let (a, b) = (self.0, earlier.0);
        a.len() == b.len()
            && a[..4] == b[..4]
            && a[8..13] == b[8..13]
            && (a[13] ^ b[13]) & !PSH == 0
            && a[14..CHECKSUM] == b[14..CHECKSUM]
            && a[CHECKSUM + 2..] == b[CHECKSUM + 2..]
    }

    fn number(self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}
