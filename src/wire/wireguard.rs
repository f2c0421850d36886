//! Messages of WireGuard (the whitepaper, section 5.4) as they travel in UDP, and as much of its handshake as it takes to learn who knocks:
//! Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, its first message only.
//!
//! A datagram goes through [`classify`] (form), [`Mac1::is_right`] (its sender knows whom it knocks at), [`Responder::claim`] (whom the sender
//! claims to be) and [`Claim::open`] (whether it is), from the cheapest to the dearest. [`Knock::build`] makes one.

mod initiator;
mod noise;
mod responder;
mod tai64n;

pub use initiator::Knock;
pub use responder::{Claim, Mac1, Responder, SharedSecret};
pub use tai64n::Tai64n;

use crate::model::Invalid;

/// The types of messages, as the number that one begins with.
pub const INITIATION: u32 = 1;
pub const RESPONSE: u32 = 2;
pub const COOKIE_REPLY: u32 = 3;
pub const DATA: u32 = 4;

/// Bytes of a handshake response.
pub const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Bytes of a data message that carries nothing: a keepalive.
pub const DATA_MIN: usize = 32;

/// A UDP payload, as far as anybody can read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Initiation(Initiation),
    /// 92 bytes; the indices of both sides.
    Response {
        sender: u32,
        receiver: u32,
    },
    /// 64 bytes.
    CookieReply {
        receiver: u32,
    },
    /// 32 bytes or more. Senders fill the inner packet up to a multiple of 16 bytes, but not beyond their MTU, so any length occurs.
    Data {
        receiver: u32,
        counter: u64,
    },
}

/// Why a UDP payload is no message of WireGuard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("reading a message of WireGuard: it begins with {0:#010x}; 1 to 4 are types, and three zeros follow")]
    Type(u32),
    #[error("reading a message of WireGuard: type {kind} with {length} bytes; 1 has 148, 2 has 92, 3 has 64, 4 has at least 32")]
    Length { kind: u32, length: usize },
    #[error("reading a message of WireGuard: {0} bytes are too few for a type")]
    Short(usize),
}

/// What a datagram is. Type and length are all that is looked at.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------+-----------------------------------------------+
/// |     Type      |               Reserved, 0                     |    the rest by type, numbers in little-endian:
/// +---------------+-----------------------------------------------+
///   1: sender 4 | ephemeral 32 | static 32 + 16 | timestamp 12 + 16 | mac1 16 | mac2 16
///   2: sender 4 | receiver 4 | ephemeral 32 | nothing 0 + 16 | mac1 16 | mac2 16
///   3: receiver 4 | nonce 24 | cookie 16 + 16
///   4: receiver 4 | counter 8 | packet n + 16
/// ```
pub fn classify(datagram: &[u8]) -> Result<Message, Fault> {
    let length = datagram.len();
    let word = |at: usize| datagram.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
    let kind = word(0).ok_or(Fault::Short(length))?;
    let fault = Fault::Length { kind, length };
    match kind {
        INITIATION => datagram.try_into().map(|bytes| Message::Initiation(Initiation(bytes))).map_err(|_| fault),
        RESPONSE if length == RESPONSE_LEN => Ok(Message::Response { sender: word(4).ok_or(fault)?, receiver: word(8).ok_or(fault)? }),
        COOKIE_REPLY if length == COOKIE_REPLY_LEN => Ok(Message::CookieReply { receiver: word(4).ok_or(fault)? }),
        DATA if length >= DATA_MIN => {
            let counter = u64::from(word(8).ok_or(fault)?) | u64::from(word(12).ok_or(fault)?) << 32;
            Ok(Message::Data { receiver: word(4).ok_or(fault)?, counter })
        }
        RESPONSE | COOKIE_REPLY | DATA => Err(fault),
        _ => Err(Fault::Type(kind)),
    }
}

/// The first message of a handshake: type and length are right, and nothing else is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Initiation([u8; Self::LEN]);

impl Initiation {
    /// Bytes of one.
    pub const LEN: usize = 148;

    const SENDER: usize = 4;
    const EPHEMERAL: usize = 8;
    const STATIC: usize = 40;
    const TIMESTAMP: usize = 88;
    const MAC1: usize = 116;
    const MAC2: usize = 132;

    pub fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// By what the sender wants to be addressed.
    pub fn sender(&self) -> u32 {
        u32::from_le_bytes(self.part::<4>(Self::SENDER))
    }

    /// A public key of the sender for this handshake alone.
    pub fn ephemeral(&self) -> [u8; 32] {
        self.part(Self::EPHEMERAL)
    }

    /// The sender's public key, sealed.
    pub fn sealed_static(&self) -> [u8; 48] {
        self.part(Self::STATIC)
    }

    /// When it was made, sealed.
    pub fn sealed_timestamp(&self) -> [u8; 28] {
        self.part(Self::TIMESTAMP)
    }

    /// A MAC of what stands before it, under a key that everybody has who knows the receiver's public key.
    pub fn mac1(&self) -> [u8; 16] {
        self.part(Self::MAC1)
    }

    /// A MAC of what stands before it, under a cookie; zeros of a sender that has none.
    pub fn mac2(&self) -> [u8; 16] {
        self.part(Self::MAC2)
    }

    fn before_mac1(&self) -> &[u8] {
        &self.0[..Self::MAC1]
    }

    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.0[at + i])
    }
}

impl TryFrom<[u8; Self::LEN]> for Initiation {
    type Error = Invalid;
    fn try_from(bytes: [u8; Self::LEN]) -> Result<Self, Invalid> {
        match classify(&bytes) {
            Ok(Message::Initiation(initiation)) => Ok(initiation),
            Ok(Message::Response { .. } | Message::CookieReply { .. } | Message::Data { .. }) | Err(_) => {
                Err(Invalid("not a handshake initiation: it begins with 1 and three zeros".into()))
            }
        }
    }
}

impl std::fmt::Debug for Initiation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Initiation(from {:#010x}, {:02x?}..)", self.sender(), &self.mac1()[..4])
    }
}

#[cfg(test)]
mod tests;
