//! The functions of the whitepaper's section 5.4, by its names where it has some.

use blake2::digest::Mac;
use blake2::{Blake2s256, Digest};
use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use hmac_blake2::SimpleHmac;
use std::sync::LazyLock;
use zeroize::Zeroizing;

const CONSTRUCTION: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &str = "WireGuard v1 zx2c4 Jason@zx2c4.com";
pub const LABEL_MAC1: &str = "mac1----";

/// Bytes that a sealed text is longer than the text.
const TAG: usize = 16;

/// What is secret until the handshake is over.
pub type Key = Zeroizing<[u8; 32]>;

/// Where every handshake begins: the chaining key, and the hash before the responder's public key is mixed in.
pub static BEGIN: LazyLock<([u8; 32], [u8; 32])> = LazyLock::new(|| {
    let chaining = hash(&[CONSTRUCTION.as_bytes()]);
    (chaining, hash(&[&chaining, IDENTIFIER.as_bytes()]))
});

/// `HASH`: BLAKE2s-256 (RFC 7693).
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Blake2s256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// `HMAC`: of RFC 2104 over BLAKE2s, not BLAKE2s with a key.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Key {
    let mac = <SimpleHmac<Blake2s256> as Mac>::new_from_slice(key).expect("HMAC takes keys of every length");
    Zeroizing::new(parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().into())
}

/// `KDF1`: the next chaining key.
pub fn kdf1(chaining: &[u8; 32], input: &[u8]) -> Key {
    hmac(&hmac(chaining, &[input]), &[&[1]])
}

/// `KDF2`: the next chaining key, and a key to seal with.
pub fn kdf2(chaining: &[u8; 32], input: &[u8]) -> (Key, Key) {
    let extracted = hmac(chaining, &[input]);
    let first = hmac(&extracted, &[&[1]]);
    let second = hmac(&extracted, &[&first[..], &[2]]);
    (first, second)
}

/// `AEAD` with counter 0 (RFC 8439): a key seals one text.
pub fn seal<const N: usize>(key: &Key, text: &[u8], with: &[u8; 32]) -> [u8; N] {
    let mut sealed = [0; N];
    let (content, place) = sealed.split_at_mut(N - TAG);
    content.copy_from_slice(text);
    let tag = ChaCha20Poly1305::new((&**key).into()).encrypt_in_place_detached(&Nonce::default(), with, content);
    place.copy_from_slice(&tag.expect("ChaCha20-Poly1305 takes texts up to 256 GB"));
    sealed
}

/// What was sealed, if the key and what it was sealed with are right. `N` is the length of the text.
pub fn open<const N: usize>(key: &Key, sealed: &[u8], with: &[u8; 32]) -> Option<[u8; N]> {
    let (text, tag) = sealed.split_last_chunk::<TAG>().map(|(text, tag)| (<[u8; N]>::try_from(text), Tag::from(*tag)))?;
    let mut text = text.ok()?;
    let opened = ChaCha20Poly1305::new((&**key).into()).decrypt_in_place_detached(&Nonce::default(), with, &mut text, &tag);
    opened.ok().map(|()| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the whitepaper's constants that every implementation carries.
    #[test]
    fn a_handshake_begins_where_all_begin() {
        let hex = |bytes: &[u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&BEGIN.0), "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36");
        assert_eq!(hex(&BEGIN.1), "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3");
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_context_only() {
        let (key, other) = (Zeroizing::new([1; 32]), Zeroizing::new([2; 32]));
        let sealed: [u8; 28] = seal(&key, b"twelve bytes", &[3; 32]);
        assert_eq!(open(&key, &sealed, &[3; 32]), Some(*b"twelve bytes"));
        assert_eq!(open::<12>(&other, &sealed, &[3; 32]), None);
        assert_eq!(open::<12>(&key, &sealed, &[4; 32]), None);
        assert_eq!(open::<12>(&key, &sealed[1..], &[3; 32]), None);
        assert_eq!(open::<12>(&key, &sealed[..15], &[3; 32]), None);
    }
}
