//! The side that is knocked at.

use super::noise::{self, BEGIN, Key, LABEL_MAC1};
use super::{Initiation, Tai64n};
use crate::model::{PrivateKey, PublicKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use blake2::Blake2sMac;
use blake2::digest::Mac;
use blake2::digest::consts::U16;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The key of `mac1` for messages to the owner of a public key. It is no secret: whoever knows the public key has it.
#[derive(Clone)]
pub struct Mac1(Blake2sMac<U16>);

impl Mac1 {
    pub fn new(receiver: &PublicKey) -> Self {
        let key = noise::hash(&[LABEL_MAC1.as_bytes(), receiver.bytes()]);
        Self(Blake2sMac::new_from_slice(&key).expect("32 bytes are a key of BLAKE2s"))
    }

    /// Bytes of a `mac1`.
    pub const LEN: usize = 16;

    /// Of the bytes of a message before it.
    pub fn tag(&self, before: &[u8]) -> [u8; Self::LEN] {
        self.0.clone().chain_update(before).finalize().into_bytes().into()
    }

    /// Whether this is the `mac1` of the bytes before it; in constant time.
    pub fn verify(&self, before: &[u8], tag: &[u8]) -> bool {
        self.0.clone().chain_update(before).verify_slice(tag).is_ok()
    }

    /// Whether its sender knows whom it knocks at. One BLAKE2s; in constant time.
    pub fn is_right(&self, initiation: &Initiation) -> bool {
        self.verify(initiation.before_mac1(), &initiation.mac1())
    }

    /// The same initiation with a `mac1` that is right, whatever else is wrong with it: what a flood would send.
    #[must_use]
    pub fn sign(&self, mut initiation: Initiation) -> Initiation {
        let tag = self.tag(initiation.before_mac1());
        initiation.0[Initiation::MAC1..Initiation::MAC2].copy_from_slice(&tag);
        initiation
    }
}

impl fmt::Debug for Mac1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mac1(..)")
    }
}

/// A private key and what can be calculated from it once, for all initiations.
///
/// X25519 is AWS-LC's here, in assembly and formally verified: it takes 0.4 of the time of the portable one, and is most of what a flood costs us.
#[derive(Clone)]
pub struct Responder {
    private: Arc<agreement::PrivateKey>,
    public: PublicKey,
    mac1: Mac1,
    /// The hash with the public key mixed in.
    begin: [u8; 32],
}

/// What two static keys share: the same for all handshakes of the two, so it is worth keeping. Wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(Zeroizing<[u8; 32]>);

/// Whom an initiation claims to be from, and what it takes to prove it. **Unauthenticated**: whoever knows two public keys can make it.
#[derive(Clone)]
pub struct Claim {
    key: PublicKey,
    chaining: Key,
    hash: [u8; 32],
    timestamp: [u8; 28],
}

impl Responder {
    pub fn new(private: &PrivateKey) -> Self {
        let public = private.public();
        let begin = noise::hash(&[&BEGIN.1, public.bytes()]);
        let private = agreement::PrivateKey::from_private_key(&X25519, private.expose()).expect("any 32 bytes are a key of X25519");
        Self { mac1: Mac1::new(&public), private: Arc::new(private), public, begin }
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn mac1(&self) -> &Mac1 {
        &self.mac1
    }

    /// The first step: one X25519. None: nobody's, or not for us. Look at `mac1` before.
    pub fn claim(&self, initiation: &Initiation) -> Option<Claim> {
        let ephemeral = PublicKey::try_from(initiation.ephemeral()).ok()?;
        let hash = noise::hash(&[&self.begin, ephemeral.bytes()]);
        let chaining = noise::kdf1(&BEGIN.0, ephemeral.bytes());
        let (chaining, key) = noise::kdf2(&chaining, &*self.agree(&ephemeral)?);
        let sealed = initiation.sealed_static();
        let key = PublicKey::try_from(noise::open::<32>(&key, &sealed, &hash)?).ok()?;
        Some(Claim { key, chaining, hash: noise::hash(&[&hash, &sealed]), timestamp: initiation.sealed_timestamp() })
    }

    /// One X25519, the same for all handshakes of this key. None: the key is one of those with which every secret is zero.
    pub fn shared_with(&self, key: &PublicKey) -> Option<SharedSecret> {
        self.agree(key).map(SharedSecret)
    }

    /// None: every secret with this key is zero (RFC 7748 section 6.1).
    fn agree(&self, with: &PublicKey) -> Option<Key> {
        let with = UnparsedPublicKey::new(&X25519, with.bytes());
        agreement::agree(&self.private, with, (), |secret| secret.try_into().map(Zeroizing::new).map_err(|_| ())).ok()
    }
}

impl Claim {
    /// Whom the sender claims to be.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The second step: when the initiation was made, if its sender has the private key of whom it claims to be, or has recorded one of its.
    /// `shared` is what [`Responder::shared_with`] gives for [`Claim::key`]. No X25519.
    pub fn open(&self, shared: &SharedSecret) -> Option<Tai64n> {
        let (_, key) = noise::kdf2(&self.chaining, &*shared.0);
        noise::open::<12>(&key, &self.timestamp, &self.hash).map(Tai64n)
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responder({})", self.public)
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({})", self.key)
    }
}
