//! The authentication trailer: HMAC-SHA256 and a sequence number behind an advertisement.

use super::{Discard, Packet, Sequence};
use crate::model::{KeyId, Secret, VrrpVersion};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::IpAddr;

/// Bytes of a trailer.
pub const TRAILER_LEN: usize = 28;

const TAG_LEN: usize = 16;
/// What stands before the tag.
const PREFIX_LEN: usize = TRAILER_LEN - TAG_LEN;
/// HMAC-SHA256, cut to 128 bits.
const TYPE: u8 = 1;
/// Where the checksum is in a message.
const CHECKSUM: std::ops::Range<usize> = 6..8;

/// A key that can sign and verify.
///
/// The trailer is that of draft-cassen-vrrp-auth-hmac as keepalived sends it (its appendix's packets are among the tests):
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +---------------+---------------+-------------------------------+
/// |     Type 1    |    Key id     |           Reserved 0          |
/// +---------------+---------------+-------------------------------+
/// |              Seconds since 1970, the low 32 bits              |   Sequence: the sender's
/// +-------------------------------+-------------------------------+   clock, and a counter
/// |     Fraction of a second      |            Counter            |   that keeps it growing
/// +-------------------------------+-------------------------------+
/// |             HMAC-SHA256, its first 16 bytes ...               |
/// +---------------------------------------------------------------+
/// ```
/// The HMAC is of these, one behind the other:
///
/// ```text
/// family 4 or 6 | version | VRID | 0 | source address, 16 bytes, IPv4 filled up with zeros at the end
/// the message, its checksum taken as zero | the first 12 bytes of the trailer | 16 bytes of zero
/// ```
/// The destination is not in it: one signature serves all peers. The checksum is not, because over IPv6 the kernel fills it in.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    mac: Hmac<Sha256>,
}

/// The keys of an instance: one signs, both verify. Two while keys are changed: add the new one everywhere as `other`, then swap them
/// everywhere, then take the old one away.
#[derive(Debug, Clone)]
pub struct Keyring {
    pub signing: Key,
    pub other: Option<Key>,
}

impl Key {
    pub fn new(id: KeyId, secret: &Secret) -> Key {
        let mac = Hmac::new_from_slice(secret.expose()).expect("HMAC takes keys of every length");
        Key { id, mac }
    }

    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The trailer for a message from this address.
    pub(super) fn sign(&self, source: IpAddr, message: &[u8], sequence: Sequence) -> [u8; TRAILER_LEN] {
        let mut trailer = [0; TRAILER_LEN];
        trailer[0] = TYPE;
        trailer[1] = self.id.get();
        trailer[4..PREFIX_LEN].copy_from_slice(&sequence.to_bytes());
        let (version, vrid) = (message[0] >> 4, message[1]);
        let tag = self.over(source, version, vrid, message, &trailer).finalize().into_bytes();
        trailer[PREFIX_LEN..].copy_from_slice(&tag[..TAG_LEN]);
        trailer
    }

    fn over(&self, source: IpAddr, version: u8, vrid: u8, message: &[u8], trailer: &[u8; TRAILER_LEN]) -> Hmac<Sha256> {
        let mut pseudo = [0; 20];
        pseudo[1] = version;
        pseudo[2] = vrid;
        match source {
            IpAddr::V4(source) => {
                pseudo[0] = 4;
                pseudo[4..8].copy_from_slice(&source.octets());
            }
            IpAddr::V6(source) => {
                pseudo[0] = 6;
                pseudo[4..].copy_from_slice(&source.octets());
            }
        }
        let mut mac = self.mac.clone();
        mac.update(&pseudo);
        mac.update(&message[..CHECKSUM.start]);
        mac.update(&[0; 2]);
        mac.update(&message[CHECKSUM.end..]);
        mac.update(&trailer[..PREFIX_LEN]);
        mac.update(&[0; TAG_LEN]);
        mac
    }
}

impl Keyring {
    /// Whether the packet was made by a holder of one of the keys, at this address; says its sequence number. The comparison takes
    /// as long whether it fails early or late.
    pub fn verify(&self, source: IpAddr, packet: &Packet<'_>) -> Result<Sequence, Discard> {
        let trailer = packet.trailer.ok_or(Discard::Unauthenticated)?;
        let &[kind, id, 0, 0, ref sequence @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = trailer else {
            return Err(Discard::Trailer);
        };
        if kind != TYPE {
            return Err(Discard::Trailer);
        }
        let key = [Some(&self.signing), self.other.as_ref()].into_iter().flatten().find(|key| key.id.get() == id);
        let key = key.ok_or(Discard::UnknownKey)?;
        let version = match packet.advertisement.version {
            VrrpVersion::V2 => 2,
            VrrpVersion::V3 => 3,
        };
        let mac = key.over(source, version, packet.advertisement.vrid.get(), packet.message, trailer);
        mac.verify_truncated_left(&trailer[PREFIX_LEN..]).map_err(|_| Discard::Hmac)?;
        Ok(Sequence::from_bytes(*sequence))
    }
}

impl Packet<'_> {
    /// The sequence number as it claims to be, not verified: a recording can be refused by its age before an HMAC is calculated.
    pub fn claimed_sequence(&self) -> Option<Sequence> {
        let bytes = self.trailer?[4..].first_chunk().copied()?;
        Some(Sequence::from_bytes(bytes))
    }

    pub fn has_trailer(&self) -> bool {
        self.trailer.is_some()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, ..)", self.id)
    }
}

#[cfg(test)]
mod tests;
