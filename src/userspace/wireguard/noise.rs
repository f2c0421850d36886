//! The handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, by the crate `snow`, in WireGuard's messages (whitepaper section 5.4). Without a
//! pre-shared key, which then is 32 zeros.

use super::message::{INITIATION, Initiation, RESPONSE, Response, TAG_LEN, word};
use super::wiped::Wiped;
use crate::model::{PrivateKey, PublicKey};
use crate::wire::wireguard::Tai64n;
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use blake2::{Blake2s256, Digest};
use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit, Nonce};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use zeroize::Zeroizing;

const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
const NO_PSK: [u8; 32] = [0; 32];

static PATTERN: LazyLock<NoiseParams> =
    LazyLock::new(|| "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().expect("a pattern that snow knows"));

/// Where Noise's own message stands in WireGuard's.
const INITIATION_NOISE: Range<usize> = 8..116;
const RESPONSE_NOISE: Range<usize> = 12..60;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("a handshake message does not open: it is not from whom it claims, or not for this key")]
    Refused(#[source] snow::Error),
    #[error("the handshake names a public key that is nobody's")]
    Nobody,
}

/// Who we are: a key, and what would have to be worked out of it for each handshake.
#[derive(Clone)]
pub struct Identity {
    key: PrivateKey,
    public: PublicKey,
    /// The same key. There is one: any 32 bytes will do.
    secret: Option<Arc<agreement::PrivateKey>>,
}

/// What the two sides of a session seal and open with.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Keys {
    pub seal: Zeroizing<[u8; 32]>,
    pub open: Zeroizing<[u8; 32]>,
}

/// Our initiation, waiting for its answer.
pub struct Initiating(Wiped<HandshakeState>);

/// An initiation that was opened: it is from the owner of `key`, and was made at `stamp` or is a copy of one that was.
pub struct Opened {
    state: Wiped<HandshakeState>,
    pub key: PublicKey,
    pub stamp: Tai64n,
    /// What they call the session.
    pub remote: u32,
}

/// Writes an initiation for `peer`, its macs left zero; `local` is what we call the session.
pub fn initiate(us: &Identity, peer: &PublicKey, local: u32, stamp: Tai64n) -> Result<(Initiating, Initiation), Fault> {
    let state = builder(us).and_then(|b| b.remote_public_key(peer.bytes())?.build_initiator());
    let mut state = state.map(Wiped::new).map_err(Fault::Refused)?;
    let mut message = [0; size_of::<Initiation>()];
    message[0] = INITIATION;
    message[4..8].copy_from_slice(&local.to_le_bytes());
    state.write_message(&stamp.0, &mut message[INITIATION_NOISE]).map_err(Fault::Refused)?;
    Ok((Initiating(state), message))
}

/// Opens an initiation to us, whoever it is from: two agreements on a secret.
pub fn open(us: &Identity, message: &Initiation) -> Result<Opened, Fault> {
    let mut state = builder(us).and_then(Builder::build_responder).map(Wiped::new).map_err(Fault::Refused)?;
    let mut stamp = [0; INITIATION_NOISE.end - INITIATION_NOISE.start];
    state.read_message(&message[INITIATION_NOISE], &mut stamp).map_err(Fault::Refused)?;
    let key = state.get_remote_static().and_then(|key| <[u8; 32]>::try_from(key).ok()).ok_or(Fault::Nobody)?;
    let key = PublicKey::try_from(key).map_err(|_| Fault::Nobody)?;
    let [stamp @ .., _, _, _, _] = *stamp.first_chunk::<16>().unwrap_or(&[0; 16]);
    Ok(Opened { state, key, stamp: Tai64n(stamp), remote: word(message, 4) })
}

impl Opened {
    /// Writes the answer, its macs left zero; `local` is what we call the session.
    pub fn respond(mut self, local: u32) -> Result<(Response, Keys), Fault> {
        let mut message = [0; size_of::<Response>()];
        message[0] = RESPONSE;
        message[4..8].copy_from_slice(&local.to_le_bytes());
        message[8..12].copy_from_slice(&self.remote.to_le_bytes());
        self.state.write_message(&[], &mut message[RESPONSE_NOISE]).map_err(Fault::Refused)?;
        let (open, seal) = self.state.dangerously_get_raw_split();
        Ok((message, Keys { seal: Zeroizing::new(seal), open: Zeroizing::new(open) }))
    }
}

impl Initiating {
    /// Reads the answer. After one that does not open, another may.
    pub fn finish(&mut self, message: &Response) -> Result<Keys, Fault> {
        let mut nothing = [0; RESPONSE_NOISE.end - RESPONSE_NOISE.start];
        self.0.read_message(&message[RESPONSE_NOISE], &mut nothing).map_err(Fault::Refused)?;
        let (seal, open) = self.0.dangerously_get_raw_split();
        Ok(Keys { seal: Zeroizing::new(seal), open: Zeroizing::new(open) })
    }
}

impl Identity {
    pub fn new(key: PrivateKey) -> Self {
        Self { public: key.public(), secret: agreement::PrivateKey::from_private_key(&X25519, key.expose()).ok().map(Arc::new), key }
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public)
    }
}

impl fmt::Debug for Initiating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiating(..)")
    }
}

fn builder(us: &Identity) -> Result<Builder<'_>, snow::Error> {
    Builder::with_resolver(PATTERN.clone(), Box::new(Curves(us.clone())))
        .prologue(PROLOGUE)?
        .psk(2, &NO_PSK)?
        .local_private_key(us.key.expose())
}

/// The pattern's primitives, all of which leave nothing behind when they go. The curve is aws-lc's: its agreements take half the time of the crate's own, and
/// refuse a key with which every secret is zero.
struct Curves(Identity);

impl CryptoResolver for Curves {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(Curve { us: self.0.clone(), secret: None, public: [0; 32] })),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake(Wiped::new(Blake2s256::new())))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaCha(Zeroizing::default()))),
            _ => None,
        }
    }
}

/// BLAKE2s-256 (RFC 7693).
struct Blake(Wiped<Blake2s256>);

impl Hash for Blake {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        *self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

/// ChaCha20-Poly1305 (RFC 8439).
struct ChaCha(Zeroizing<[u8; 32]>);

impl ChaCha {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }

    /// The pattern's nonces are numbers (whitepaper section 5.4: four bytes of zeros before).
    fn nonce(number: u64) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        nonce
    }
}

impl Cipher for ChaCha {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.copy_from_slice(key);
    }

    fn encrypt(&self, nonce: u64, with: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plain.len());
        text.copy_from_slice(plain);
        let tag = self.cipher().encrypt_in_place_detached(&Self::nonce(nonce), with, text);
        rest[..TAG_LEN].copy_from_slice(&tag.expect("ChaCha20-Poly1305 takes texts up to 256 GB"));
        plain.len() + TAG_LEN
    }

    fn decrypt(&self, nonce: u64, with: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, snow::Error> {
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        let opened = self.cipher().decrypt_in_place_detached(&Self::nonce(nonce), with, out, tag.into());
        opened.map(|()| text.len()).map_err(|_| snow::Error::Decrypt)
    }
}

struct Curve {
    us: Identity,
    secret: Option<Arc<agreement::PrivateKey>>,
    public: [u8; 32],
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        self.public.len()
    }

    fn priv_len(&self) -> usize {
        size_of::<[u8; 32]>()
    }

    /// Called for our own key, and no other.
    fn set(&mut self, private: &[u8]) {
        debug_assert!(private == self.us.key.expose());
        self.secret = self.us.secret.clone();
        self.public = *self.us.public.bytes();
    }

    /// By the kernel's randomness. That of aws-lc begins, in each process, with 30 ms of measuring its own jitter, which would be the first call of a
    /// takeover.
    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = Zeroizing::new([0; 32]);
        random.try_fill_bytes(&mut *private)?;
        let secret = agreement::PrivateKey::from_private_key(&X25519, &*private).map_err(|_| snow::Error::Rng)?;
        let public = secret.compute_public_key().map_err(|_| snow::Error::Rng)?;
        self.public = public.as_ref().try_into().map_err(|_| snow::Error::Rng)?;
        self.secret = Some(Arc::new(secret));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    /// Asked for where key pairs are made to be kept, which is elsewhere.
    fn privkey(&self) -> &[u8] {
        &[]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = UnparsedPublicKey::new(&X25519, public.get(..32).ok_or(snow::Error::Dh)?);
        agreement::agree(self.secret.as_ref().ok_or(snow::Error::Dh)?, public, snow::Error::Dh, |shared| {
            out.get_mut(..shared.len()).ok_or(snow::Error::Dh)?.copy_from_slice(shared);
            Ok(())
        })
    }
}

#[cfg(test)]
#[path = "noise_tests.rs"]
mod tests;
