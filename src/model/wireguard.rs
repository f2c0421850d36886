//! Keys of WireGuard tunnels (Curve25519, RFC 7748), written as wg(8) writes them: 32 bytes in base64 (RFC 4648 section 4).

use super::Invalid;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

const LEN: usize = 32;

/// Who somebody is in a WireGuard tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; LEN]);

impl PublicKey {
    /// Bytes of a key.
    pub const LEN: usize = LEN;

    /// Nobody's: what a shared secret with this key is, everybody knows (RFC 7748 section 6.1).
    const NOBODY: [u8; LEN] = [0; LEN];

    pub fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl TryFrom<[u8; LEN]> for PublicKey {
    type Error = Invalid;
    fn try_from(bytes: [u8; LEN]) -> Result<Self, Invalid> {
        if bytes == Self::NOBODY { Err(Invalid("a public key of zeros is nobody's".into())) } else { Ok(Self(bytes)) }
    }
}

impl FromStr for PublicKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes =
            decode(text).ok_or_else(|| Invalid(format!("{text:?} is not a public key: 44 characters such as `wg pubkey` prints")))?;
        Self::try_from(*bytes)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// What proves who somebody is. It can be neither printed nor serialised, is compared in constant time, and wiped when it goes.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// Bits that make no difference are set as RFC 7748 section 5 sets them (the kernel does, too): equal keys have equal bytes.
    pub fn new(mut bytes: [u8; LEN]) -> Self {
        bytes[0] &= 0b1111_1000;
        bytes[LEN - 1] = bytes[LEN - 1] & 0b0111_1111 | 0b0100_0000;
        let key = Self(StaticSecret::from(bytes));
        bytes.zeroize();
        key
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    pub fn expose(&self) -> &[u8; LEN] {
        self.0.as_bytes()
    }

    /// The secret shared with the owner of a public key (RFC 7748 section 6.1); none if the key is one with which every secret is zero.
    pub fn agree(&self, with: &PublicKey) -> Option<Zeroizing<[u8; LEN]>> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(with.0));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

/// As `wg genkey` prints it. The error tells nothing of the text.
impl FromStr for PrivateKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        decode(text)
            .map(|bytes| Self::new(*bytes))
            .ok_or_else(|| Invalid("not a private key: 44 characters such as `wg genkey` prints".into()))
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

fn decode(text: &str) -> Option<Zeroizing<[u8; LEN]>> {
    // Room for what is a little too long: the decoder says so only if there is.
    let mut room = Zeroizing::new([0; LEN + 3]);
    let length = STANDARD.decode_slice(text, room.as_mut_slice()).ok()?;
    let bytes = room.get(..length)?.try_into().ok()?;
    Some(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748 section 6.1.
    const ALICE: [u8; 32] = [
        0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0,
        0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
    ];
    const ALICES_PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn the_public_key_is_that_of_the_standard() {
        let key = PrivateKey::new(ALICE);
        assert_eq!(key.public().to_string(), ALICES_PUBLIC);
        assert_eq!(ALICES_PUBLIC.parse::<PublicKey>(), Ok(key.public()));
    }

    #[test]
    fn keys_that_make_no_difference_are_equal() {
        let [mut low, mut high] = [ALICE; 2];
        low[0] |= 7;
        high[31] |= 0x80;
        assert_eq!(PrivateKey::new(low), PrivateKey::new(high));
        assert_ne!(PrivateKey::new(ALICE), PrivateKey::new([7; 32]));
    }

    #[test]
    fn both_sides_share_one_secret() {
        let (alice, bob) = (PrivateKey::new(ALICE), PrivateKey::new([7; 32]));
        assert_eq!(alice.agree(&bob.public()), bob.agree(&alice.public()));
        assert!(alice.agree(&PublicKey(PublicKey::NOBODY)).is_none());
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let key = PrivateKey::new(ALICE);
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
        let error = format!("{ALICES_PUBLIC}x").parse::<PrivateKey>().unwrap_err();
        assert!(!error.to_string().contains(ALICES_PUBLIC), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for text in [
            "",
            "short",
            &ALICES_PUBLIC[1..],
            &ALICES_PUBLIC[..43],
            &format!("{ALICES_PUBLIC}A"),
            zeros,
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo",
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
        }
        // More than 32 bytes, none of which reach past the room.
        assert!("hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmoAAAA=".parse::<PublicKey>().is_err());
    }
}
