//! How somebody proves to have the private key of a public key that it claims.
//!
//! ```text
//! claimant                                              directory (one secret, in the database)
//!   | -- public key P --------------------------------------> |  nonce = expiry | 24 random bytes
//!   | <------------------------------- nonce, server key S -- |  s = HMAC(secret, "...challenge" | P | nonce), S = s*G
//!   | -- HMAC(X25519(p, S), "..." | nonce | H(token) | name)->|  s again from P and nonce; X25519(s, P); compares
//! ```
//! The directory keeps nothing of a challenge: a nonce that it did not make, or made for another key or with another expiry, belongs to a server key
//! that nobody was told, so that nobody can answer it. What is proved is bound to the token and the name that come with it. An answer that was good
//! is remembered until the nonce expires, so that whoever overhears it cannot repeat it.

use crate::model::{PrivateKey, PublicKey, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a claimant may take to answer.
pub const LIFE: Duration = Duration::from_secs(60);

const CHALLENGE: &[u8] = b"portway directory challenge v1";
const PROOF: &[u8] = b"portway directory proof v1";
const RANDOM_LEN: usize = 24;
const NONCE_LEN: usize = 8 + RANDOM_LEN;

/// What a claimant is to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub nonce: Nonce,
    pub server_key: PublicKey,
}

/// When it expires (seconds since 1970, big-endian), and random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }

    pub fn bytes(&self) -> &[u8; NONCE_LEN] {
        &self.0
    }

    /// Seconds since 1970.
    pub fn expires(&self) -> i64 {
        i64::from_be_bytes(std::array::from_fn(|i| self.0[i]))
    }
}

impl std::fmt::Display for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes any key"));
    for part in parts {
        mac.update(part);
    }
    mac
}

fn server_private(secret: &Secret, nonce: &Nonce, claimed: &PublicKey) -> PrivateKey {
    let bytes: Zeroizing<[u8; 32]> =
        Zeroizing::new(hmac(secret.expose(), &[CHALLENGE, claimed.bytes(), &nonce.0]).finalize().into_bytes().into());
    PrivateKey::new(*bytes)
}

/// A challenge for whoever claims this key; `now` in seconds since 1970.
pub fn question(secret: &Secret, claimed: &PublicKey, now: i64, random: &[u8; RANDOM_LEN]) -> Question {
    let mut nonce = [0; NONCE_LEN];
    let expires = now.saturating_add(i64::try_from(LIFE.as_secs()).unwrap_or(i64::MAX));
    nonce[..8].copy_from_slice(&expires.to_be_bytes());
    nonce[8..].copy_from_slice(random);
    let nonce = Nonce(nonce);
    Question { server_key: server_private(secret, &nonce, claimed).public(), nonce }
}

/// The claimant's answer. None: the server's key is one with which every secret is zero.
pub fn answer(key: &PrivateKey, question: &Question, token: &str, name: &str) -> Option<String> {
    let shared = key.agree(&question.server_key)?;
    Some(STANDARD.encode(mac(shared.as_slice(), &question.nonce, token, name).finalize().into_bytes()))
}

fn mac(shared: &[u8], nonce: &Nonce, token: &str, name: &str) -> Hmac<Sha256> {
    hmac(shared, &[PROOF, &nonce.0, &Sha256::digest(token), name.as_bytes()])
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    #[error("the nonce has expired")]
    Expired,
    #[error("the nonce was answered before")]
    Used,
    #[error("this public key is one that proves nothing: every secret shared with it is zero")]
    WeakKey,
    #[error("the proof does not fit the key, the nonce, the token and the name")]
    Wrong,
}

/// Whether the answer was made by whoever has the private key. Compared in constant time.
pub fn verify(secret: &Secret, claimed: &PublicKey, nonce: &Nonce, proof: &str, token: &str, name: &str, now: i64) -> Result<(), NoProof> {
    if now > nonce.expires() {
        return Err(NoProof::Expired);
    }
    let shared = server_private(secret, nonce, claimed).agree(claimed).ok_or(NoProof::WeakKey)?;
    let proof = STANDARD.decode(proof).map_err(|_| NoProof::Wrong)?;
    mac(shared.as_slice(), nonce, token, name).verify_slice(&proof).map_err(|_| NoProof::Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn secret() -> Secret {
        Secret::new(&[9; 32]).unwrap()
    }

    fn asked(key: &PrivateKey) -> Question {
        question(&secret(), &key.public(), NOW, &[3; 24])
    }

    fn check(key: &PublicKey, question: &Question, proof: &str, token: &str, name: &str, now: i64) -> Result<(), NoProof> {
        let nonce = Nonce::parse(&question.nonce.to_string()).unwrap();
        verify(&secret(), key, &nonce, proof, token, name, now)
    }

    #[test]
    fn who_has_the_key_proves_it() {
        let key = PrivateKey::new([7; 32]);
        let question = asked(&key);
        let proof = answer(&key, &question, "token", "host-1").unwrap();
        assert_eq!(check(&key.public(), &question, &proof, "token", "host-1", NOW + 60), Ok(()));
    }

    #[test]
    fn a_proof_is_good_for_nothing_else() {
        let (key, other) = (PrivateKey::new([7; 32]), PrivateKey::new([8; 32]));
        let question = asked(&key);
        let proof = answer(&key, &question, "token", "host-1").unwrap();
        let wrong = Err(NoProof::Wrong);
        assert_eq!(check(&key.public(), &question, &proof, "token", "host-2", NOW), wrong);
        assert_eq!(check(&key.public(), &question, &proof, "tokem", "host-1", NOW), wrong);
        assert_eq!(check(&other.public(), &question, &proof, "token", "host-1", NOW), wrong);
        assert_eq!(check(&key.public(), &question, &proof, "token", "host-1", NOW + 61), Err(NoProof::Expired));
        assert_eq!(check(&key.public(), &question, "", "token", "host-1", NOW), wrong);
        assert_eq!(check(&key.public(), &question, "no base64!", "token", "host-1", NOW), wrong);
        // Somebody else's private key, with the right question.
        let forged = answer(&other, &question, "token", "host-1").unwrap();
        assert_eq!(check(&key.public(), &question, &forged, "token", "host-1", NOW), wrong);
    }

    #[test]
    fn an_expiry_put_off_is_another_challenge() {
        let key = PrivateKey::new([7; 32]);
        let mut question = asked(&key);
        question.nonce.0[0] = 1;
        let proof = answer(&key, &question, "token", "host-1").unwrap();
        assert_eq!(check(&key.public(), &question, &proof, "token", "host-1", NOW + 1_000), Err(NoProof::Wrong));
    }

    #[test]
    fn a_key_of_small_order_proves_nothing() {
        // RFC 7748 section 6.1: with u = 1, every shared secret is zero.
        let weak = PublicKey::try_from(std::array::from_fn(|i| u8::from(i == 0))).unwrap();
        let question = question(&secret(), &weak, NOW, &[3; 24]);
        let zeros = STANDARD.encode(mac(&[0; 32], &question.nonce, "token", "host-1").finalize().into_bytes());
        assert_eq!(check(&weak, &question, &zeros, "token", "host-1", NOW), Err(NoProof::WeakKey));
    }

    #[test]
    fn what_is_no_nonce_is_refused() {
        for text in ["", "AAAA", "!", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])] {
            assert_eq!(Nonce::parse(text), None, "{text}");
        }
    }
}
