//! What an instance lets in, and how it seals what it sends.

use super::{Discard, Freshness, Key, Keyring, Packet, Replay, Sequence};
use std::net::IpAddr;
use std::time::Duration;

/// Senders that are remembered. Only holders of a key come in here; if they are more, the one heard least recently is forgotten.
const SENDERS: usize = 32;

/// The keys of one instance with what they were used for: one of these per instance, for all its peers.
///
/// Times are the wall clock's, since 1970 (UTC).
#[derive(Debug, Clone)]
pub struct Gate {
    keys: Option<Keyring>,
    freshness: Freshness,
    /// The least recently heard first.
    senders: Vec<(IpAddr, Replay)>,
    sent: Option<Sequence>,
}

impl Gate {
    /// Without keys everything without a trailer is let in: anybody who can send from a peer's address is believed.
    pub fn new(keys: Option<Keyring>, freshness: Freshness) -> Gate {
        Gate { keys, freshness, senders: vec![], sent: None }
    }

    /// Other keys, the same memory.
    pub fn set_keys(&mut self, keys: Option<Keyring>) {
        self.keys = keys;
    }

    /// Whether the packet is genuine and new. What is cheap to see is looked at before an HMAC is calculated; nothing is remembered of a forged
    /// packet.
    pub fn admit(&mut self, source: IpAddr, packet: &Packet<'_>, clock: Duration) -> Result<(), Discard> {
        let Some(keys) = &self.keys else {
            return if packet.has_trailer() { Err(Discard::UnexpectedTrailer) } else { Ok(()) };
        };
        let claimed = packet.claimed_sequence().ok_or(Discard::Unauthenticated)?;
        let known = self.senders.iter().position(|(sender, _)| *sender == source);
        let mut replay = known.map_or(Replay::default(), |known| self.senders[known].1);
        let verdict = replay.accept(claimed, clock, self.freshness);
        verdict.and_then(|()| keys.verify(source, packet).map(drop))?;
        match known {
            Some(known) => drop(self.senders.remove(known)),
            None if self.senders.len() == SENDERS => drop(self.senders.remove(0)),
            None => {}
        }
        self.senders.push((source, replay));
        Ok(())
    }

    /// What [`super::Advertisement::encode`] signs the next advertisement with: once for each, not for each peer it goes to.
    pub fn seal(&mut self, clock: Duration) -> Option<(&Key, Sequence)> {
        let keys = self.keys.as_ref()?;
        let sequence = self.sent.map_or(Sequence::at(clock), |last| last.next(clock, self.freshness));
        self.sent = Some(sequence);
        Some((&keys.signing, sequence))
    }
}

#[cfg(test)]
mod tests;
