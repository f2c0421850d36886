//! What travels in a UDP datagram between two WireGuard peers (whitepaper section 5.4). Numbers are little-endian.
//!
//! ```text
//! initiation, 148 bytes | 1 0 0 0 | sender, 4 | ephemeral, 32 | static, 32+16 | stamp, 12+16 | mac1, 16 | mac2, 16 |
//! response, 92 bytes    | 2 0 0 0 | sender, 4 | receiver, 4 | ephemeral, 32 | nothing, 0+16 | mac1, 16 | mac2, 16 |
//! cookie, 64 bytes      | 3 0 0 0 | receiver, 4 | nonce, 24 | cookie, 16+16 |
//! data, 32 and more     | 4 0 0 0 | receiver, 4 | counter, 8 | inner packet, padded, n+16 |
//! ```

use super::counters::DropReason;

pub const INITIATION_LEN: usize = 148;
pub const RESPONSE_LEN: usize = 92;
pub const COOKIE_LEN: usize = 64;
/// Bytes before what is sealed in a data message.
pub const DATA_HEADER_LEN: usize = 16;
/// Bytes that sealing adds (RFC 8439 section 2.8).
pub const TAG_LEN: usize = 16;
/// Bytes of a data message beside its inner packet.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;

pub const INITIATION: u8 = 1;
pub const RESPONSE: u8 = 2;
pub const COOKIE: u8 = 3;
pub const DATA: u8 = 4;

pub type Initiation = [u8; INITIATION_LEN];
pub type Response = [u8; RESPONSE_LEN];
pub type CookieReply = [u8; COOKIE_LEN];

/// A datagram by its type, of the right length for it; nothing else of it has been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    Initiation(&'a Initiation),
    Response(&'a Response),
    Cookie(&'a CookieReply),
    /// For the session that we call `receiver`.
    Data {
        receiver: u32,
        counter: u64,
    },
}

/// # Errors
/// [`DropReason::Malformed`] for a type that there is not, [`DropReason::Truncated`] for a length that its type does not have.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, DropReason> {
    let (kind, _) = bytes.split_first_chunk::<4>().ok_or(DropReason::Truncated)?;
    match *kind {
        [INITIATION, 0, 0, 0] => bytes.try_into().map(Message::Initiation).map_err(|_| DropReason::Truncated),
        [RESPONSE, 0, 0, 0] => bytes.try_into().map(Message::Response).map_err(|_| DropReason::Truncated),
        [COOKIE, 0, 0, 0] => bytes.try_into().map(Message::Cookie).map_err(|_| DropReason::Truncated),
        [DATA, 0, 0, 0] if bytes.len() >= DATA_OVERHEAD => {
            Ok(Message::Data { receiver: word(bytes, 4), counter: u64::from(word(bytes, 8)) | u64::from(word(bytes, 12)) << 32 })
        }
        [DATA, 0, 0, 0] => Err(DropReason::Truncated),
        _ => Err(DropReason::Malformed),
    }
}

/// The header of a data message.
pub fn data_header(receiver: u32, counter: u64) -> [u8; DATA_HEADER_LEN] {
    let mut header = [0; DATA_HEADER_LEN];
    header[0] = DATA;
    header[4..8].copy_from_slice(&receiver.to_le_bytes());
    header[8..].copy_from_slice(&counter.to_le_bytes());
    header
}

/// The number at a place that is there.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_known_by_type_and_length() {
        for (kind, len) in [(INITIATION, INITIATION_LEN), (RESPONSE, RESPONSE_LEN), (COOKIE, COOKIE_LEN), (DATA, DATA_OVERHEAD)] {
            let mut bytes = vec![0; len];
            bytes[0] = kind;
            assert!(parse(&bytes).is_ok(), "type {kind}");
            assert_eq!(parse(&bytes[..len - 1]), Err(DropReason::Truncated), "type {kind}");
            bytes[3] = 1;
            assert_eq!(parse(&bytes), Err(DropReason::Malformed), "reserved bytes of type {kind}");
        }
        assert_eq!(parse(&[1, 0, 0]), Err(DropReason::Truncated));
        assert_eq!(parse(&[5; 200]), Err(DropReason::Malformed));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(receiver: u32, counter: u64) {
            let bytes = [&data_header(receiver, counter)[..], &[0; 16]].concat();
            prop_assert_eq!(parse(&bytes), Ok(Message::Data { receiver, counter }));
        }
    }
}
