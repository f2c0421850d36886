//! The side that knocks.

use super::noise::{self, BEGIN};
use super::{INITIATION, Initiation, Mac1, Tai64n};
use crate::model::{PrivateKey, PublicKey};

/// All that goes into an initiation.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    pub initiator: &'a PrivateKey,
    pub responder: &'a PublicKey,
    /// By what the initiator wants to be addressed.
    pub sender: u32,
    /// At random, for this one handshake.
    pub ephemeral: &'a PrivateKey,
    /// Greater than in every initiation of this key before.
    pub stamp: Tai64n,
}

impl Knock<'_> {
    /// Three X25519. `mac2` is zero: there is no cookie. None: the responder's key is one of those with which every secret is zero.
    pub fn build(&self) -> Option<Initiation> {
        let (responder, ephemeral) = (self.responder, self.ephemeral.public());
        let hash = noise::hash(&[&noise::hash(&[&BEGIN.1, responder.bytes()]), ephemeral.bytes()]);
        let chaining = noise::kdf1(&BEGIN.0, ephemeral.bytes());
        let (chaining, key) = noise::kdf2(&chaining, &*self.ephemeral.agree(responder)?);
        let sealed: [u8; 48] = noise::seal(&key, self.initiator.public().bytes(), &hash);
        let hash = noise::hash(&[&hash, &sealed]);
        let (_, key) = noise::kdf2(&chaining, &*self.initiator.agree(responder)?);
        let stamp: [u8; 28] = noise::seal(&key, &self.stamp.0, &hash);

        let mut bytes = [0; Initiation::LEN];
        bytes[..Initiation::SENDER].copy_from_slice(&INITIATION.to_le_bytes());
        bytes[Initiation::SENDER..Initiation::EPHEMERAL].copy_from_slice(&self.sender.to_le_bytes());
        bytes[Initiation::EPHEMERAL..Initiation::STATIC].copy_from_slice(ephemeral.bytes());
        bytes[Initiation::STATIC..Initiation::TIMESTAMP].copy_from_slice(&sealed);
        bytes[Initiation::TIMESTAMP..Initiation::MAC1].copy_from_slice(&stamp);
        Some(Mac1::new(responder).sign(Initiation(bytes)))
    }
}
