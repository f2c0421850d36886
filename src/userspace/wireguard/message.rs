//! What travels in a UDP datagram between two WireGuard peers, as `wire::wireguard` reads it, and as bytes for those who open and seal them.

use super::counters::DropReason;
use crate::wire::wireguard::{self as wire, COOKIE_REPLY, DATA_MIN, Fault, classify};

pub use crate::wire::wireguard::RESPONSE_LEN;

pub const INITIATION_LEN: usize = wire::Initiation::LEN;
pub const COOKIE_LEN: usize = wire::COOKIE_REPLY_LEN;
/// Bytes of a data message beside its inner packet.
pub const DATA_OVERHEAD: usize = DATA_MIN;
/// Bytes that sealing adds (RFC 8439 section 2.8).
pub const TAG_LEN: usize = 16;
/// Bytes before what is sealed in a data message.
pub const DATA_HEADER_LEN: usize = DATA_OVERHEAD - TAG_LEN;

// The first byte of a message; three zeros follow.
pub const INITIATION: u8 = wire::INITIATION as u8;
pub const RESPONSE: u8 = wire::RESPONSE as u8;
pub const COOKIE: u8 = COOKIE_REPLY as u8;
pub const DATA: u8 = wire::DATA as u8;

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
    let whole = |_| DropReason::Truncated;
    match classify(bytes)? {
        wire::Message::Initiation(_) => bytes.try_into().map(Message::Initiation).map_err(whole),
        wire::Message::Response { .. } => bytes.try_into().map(Message::Response).map_err(whole),
        wire::Message::CookieReply { .. } => bytes.try_into().map(Message::Cookie).map_err(whole),
        wire::Message::Data { receiver, counter } => Ok(Message::Data { receiver, counter }),
    }
}

impl From<Fault> for DropReason {
    fn from(fault: Fault) -> DropReason {
        match fault {
            Fault::Type(_) => DropReason::Malformed,
            Fault::Length { .. } | Fault::Short(_) => DropReason::Truncated,
        }
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
