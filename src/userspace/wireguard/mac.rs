//! What stands at the end of a handshake message (whitepaper section 5.4.4): mac1 shows that the sender knows whom it writes to; mac2, asked
//! for under load by a cookie (section 5.4.7), that it receives what is sent to its address.

use super::message::{COOKIE, CookieReply, word};
use crate::model::PublicKey;
use crate::wire::wireguard::Mac1;
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::{AeadInPlace, Key, Tag, XChaCha20Poly1305, XNonce};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of each mac.
pub const LEN: usize = Mac1::LEN;
/// How long a cookie counts.
pub const COOKIE_LIFE: Duration = Duration::from_secs(120);

pub type Cookie = [u8; LEN];

/// What handshake messages to the owner of a public key are marked with. To be kept, where many are checked; made anew in 1 µs.
#[derive(Debug, Clone)]
pub struct Marker {
    mac1: Mac1,
    cookie: [u8; 32],
}

impl Marker {
    pub fn of(key: &PublicKey) -> Marker {
        Marker { mac1: Mac1::new(key), cookie: labelled(b"cookie--", key) }
    }

    /// Fills in both macs, which are the last bytes of a message; mac2 if there is a cookie. Answers mac1.
    pub fn seal(&self, message: &mut [u8], cookie: Option<&Cookie>) -> [u8; LEN] {
        let (rest, macs) = message.split_at_mut(message.len() - 2 * LEN);
        let mac1 = self.mac1.tag(rest);
        macs[..LEN].copy_from_slice(&mac1);
        if let Some(cookie) = cookie {
            macs[LEN..].copy_from_slice(&mac(cookie, &[rest, &mac1]));
        }
        mac1
    }

    /// Whether mac1 is right.
    pub fn is_sealed(&self, message: &[u8]) -> bool {
        let (rest, macs) = message.split_at(message.len() - 2 * LEN);
        self.mac1.verify(rest, &macs[..LEN])
    }

    /// Whether mac2 is right.
    pub fn proves(message: &[u8], cookie: &Cookie) -> bool {
        let (rest, mac2) = message.split_at(message.len() - LEN);
        mac(cookie, &[rest]).ct_eq(mac2).into()
    }

    /// The message that brings a cookie to the sender of a handshake message to the owner of this key.
    pub fn cookie_reply(&self, message: &[u8], cookie: &Cookie, nonce: [u8; 24]) -> CookieReply {
        let mac1 = &message[message.len() - 2 * LEN..message.len() - LEN];
        let mut reply = [0; size_of::<CookieReply>()];
        reply[0] = COOKIE;
        reply[4..8].copy_from_slice(&message[4..8]);
        reply[8..32].copy_from_slice(&nonce);
        let mut sealed = *cookie;
        // Sixteen bytes are never too many to be sealed.
        if let Ok(tag) = self.cipher().encrypt_in_place_detached(&XNonce::from(nonce), mac1, &mut sealed) {
            reply[32..48].copy_from_slice(&sealed);
            reply[48..].copy_from_slice(&tag);
        }
        reply
    }

    /// The cookie that the owner of this key has sent us, about the message that ended with `mac1`.
    pub fn cookie(&self, reply: &CookieReply, mac1: &[u8; LEN]) -> Option<Cookie> {
        let nonce = XNonce::from_slice(&reply[8..32]);
        let mut cookie: Cookie = reply[32..48].try_into().ok()?;
        self.cipher().decrypt_in_place_detached(nonce, mac1, &mut cookie, Tag::from_slice(&reply[48..])).ok()?;
        Some(cookie)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(&self.cookie))
    }
}

/// Which session of ours a cookie is about.
pub fn receiver(reply: &CookieReply) -> u32 {
    word(reply, 4)
}

/// Makes the cookies that we hand out: by a secret that is replaced when it is [`COOKIE_LIFE`] old.
#[derive(Debug, Default)]
pub struct Baker {
    secret: Zeroizing<[u8; 32]>,
    /// When the secret is to be replaced, milliseconds.
    until: u64,
}

impl Baker {
    /// The cookie of an address; none if `fresh` has no random bytes.
    pub fn cookie(&mut self, address: SocketAddr, now: u64, fresh: impl FnOnce(&mut [u8]) -> bool) -> Option<Cookie> {
        if now >= self.until {
            if !fresh(self.secret.as_mut_slice()) {
                return None;
            }
            self.until = now + COOKIE_LIFE.as_millis() as u64;
        }
        let port = address.port().to_be_bytes();
        Some(match address.ip() {
            IpAddr::V4(ip) => mac(self.secret.as_slice(), &[&ip.octets(), &port]),
            IpAddr::V6(ip) => mac(self.secret.as_slice(), &[&ip.octets(), &port]),
        })
    }
}

fn labelled(label: &[u8; 8], key: &PublicKey) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    Digest::update(&mut hash, label);
    Digest::update(&mut hash, key.bytes());
    hash.finalize().into()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; LEN] {
    // Any key of at most 32 bytes will do, and ours have 16 or 32.
    let Ok(mut mac) = Blake2sMac::<U16>::new_from_slice(key) else { return [0; LEN] };
    parts.iter().for_each(|part| Update::update(&mut mac, part));
    mac.finalize_fixed().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PrivateKey;
    use proptest::prelude::*;

    fn marker() -> Marker {
        Marker::of(&PrivateKey::new([3; 32]).public())
    }

    #[test]
    fn a_cookie_makes_the_second_mac() {
        let (marker, mut message) = (marker(), [5; 148]);
        let mac1 = marker.seal(&mut message, None);
        assert!(marker.is_sealed(&message));
        let mut baker = Baker::default();
        let from = "192.0.2.1:5000".parse().unwrap();
        assert_eq!(baker.cookie(from, 10, |_| false), None);
        let mut fill = |now, with| {
            let fresh = |secret: &mut [u8]| {
                secret.fill(with);
                true
            };
            baker.cookie(from, now, fresh).unwrap()
        };
        let cookie = fill(10, 9);
        let reply = marker.cookie_reply(&message, &cookie, [8; 24]);
        assert_eq!(receiver(&reply), 0x0505_0505);
        assert_eq!(marker.cookie(&reply, &mac1), Some(cookie));
        assert_eq!(marker.cookie(&reply, &[0; 16]), None, "about another message");
        assert!(!Marker::proves(&message, &cookie));
        marker.seal(&mut message, Some(&cookie));
        assert!(Marker::proves(&message, &cookie) && marker.is_sealed(&message));
        assert_eq!(fill(11, 10), cookie);
        assert_ne!(fill(10 + 120_000, 10), cookie);
        let elsewhere = baker.cookie("192.0.2.1:5001".parse().unwrap(), 11, |_| false).unwrap();
        assert!(!Marker::proves(&message, &elsewhere));
    }

    #[test]
    fn another_keys_mark_is_none() {
        let mut message = [5; 92];
        Marker::of(&PrivateKey::new([4; 32]).public()).seal(&mut message, None);
        assert!(!marker().is_sealed(&message));
    }

    proptest! {
        #[test]
        fn no_bit_may_be_changed(at in 0usize..132, bit in 0u8..8) {
            let (marker, mut message) = (marker(), [5; 148]);
            marker.seal(&mut message, None);
            message[at] ^= 1 << bit;
            prop_assert!(!marker.is_sealed(&message));
        }
    }
}
