//! What a device leaves to the one that goes on with its descriptors, as bytes: peers and the sessions with them. No I/O and no clock: times are
//! ages in milliseconds.
//!
//! ```text
//! "pw-wg", 5 | version, 1 | interfaces, 4 | interface | interface | ...
//!
//! interface: length of name, 1 | name | public key, 32 | speaks, 1 | stamp, 12 | peers, 4 | peer | peer | ...
//! peer:      key, 32 | endpoint | endpoint as given | heard, 12 | received, 8 | sent, 8
//!            | agreed, 8 | unanswered, 8 | unreplied, 8 | passed, 8 (ages; all ones: never) | wants a session, 1 | session, 3 times
//! endpoint:  0, 1; or 4, 1 | address, 4 | port, 2; or 6, 1 | address, 16 | port, 2 | scope, 4
//! session:   0, 1; or 1, 1 | local, 4 | remote, 4 | began here, 1 | confirmed, 1 | age, 8 | keys, 32 + 32 | counter, 8
//!            | next counter of theirs, 8 | words, 1 | window, 8 * words
//! ```
//! Numbers are little-endian. Two processes of one machine speak it: one of another version is not understood, and then there are no sessions.

use super::noise::Keys;
use super::replay::{Replay, WORDS};
use crate::model::{IfName, PublicKey};
use crate::wire::wireguard::Tai64n;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use zeroize::Zeroizing;

const MAGIC: &[u8; 5] = b"pw-wg";
const VERSION: u8 = 1;
/// An age of what never was.
const NEVER: u64 = u64::MAX;
/// Bytes of a session at most.
const SESSION_MAX: usize = 3 + 8 + 8 + 64 + 8 + 8 + 1 + 8 * WORDS;
/// Bytes of a peer without its sessions, at most.
const PEER_MAX: usize = 32 + 2 * 23 + 12 + 6 * 8 + 1 + 3;
/// Bytes of an interface without its peers, at most.
const INTERFACE_MAX: usize = 1 + 15 + 32 + 1 + 12 + 4;

#[derive(Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Left {
    pub interfaces: Vec<LeftInterface>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct LeftInterface {
    pub name: IfName,
    /// Whose sessions they are.
    pub key: PublicKey,
    /// It was not to be silent.
    pub speaks: bool,
    /// The latest of its own initiations.
    pub stamp: Tai64n,
    pub peers: Vec<LeftPeer>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct LeftPeer {
    pub key: PublicKey,
    pub endpoint: Option<SocketAddr>,
    /// As its owner had given it last.
    pub given: Option<SocketAddr>,
    pub heard: Tai64n,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub ages: Ages,
    /// It waits for a session.
    pub wanting: bool,
    /// The current one, the previous, the next.
    pub sessions: [Option<LeftSession>; 3],
}

/// How long ago something was, in milliseconds; none: never.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    pub agreed: Option<u64>,
    pub unanswered: Option<u64>,
    pub unreplied: Option<u64>,
    pub passed: Option<u64>,
}

/// A session, which must be used by one device only: whoever goes on with it does so after its former owner has ended.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct LeftSession {
    pub keys: Keys,
    pub local: u32,
    pub remote: u32,
    pub initiator: bool,
    pub confirmed: bool,
    pub age: u64,
    /// The first counter that has not been used.
    pub counter: u64,
    pub replay: Replay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("reading a predecessor's WireGuard sessions: they are not such")]
    Magic,
    #[error("reading a predecessor's WireGuard sessions: version {0}, and this program knows {VERSION}")]
    Version(u8),
    #[error("reading a predecessor's WireGuard sessions: they end too early")]
    Short,
    #[error("reading a predecessor's WireGuard sessions: {0} bytes too many")]
    Long(usize),
    #[error("reading a predecessor's WireGuard sessions: {0} is none")]
    Invalid(&'static str),
}

impl Left {
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let peers = || self.interfaces.iter().flat_map(|interface| &interface.peers);
        let sessions = peers().flat_map(|peer| &peer.sessions).flatten().count();
        // Enough, so that nothing moves: what is left behind when bytes move is not wiped.
        let room = 10 + self.interfaces.len() * INTERFACE_MAX + peers().count() * PEER_MAX + sessions * SESSION_MAX;
        let mut out = Writer(Zeroizing::new(Vec::with_capacity(room)));
        out.put(MAGIC).put(&[VERSION]).number(self.interfaces.len() as u32);
        self.interfaces.iter().for_each(|interface| out.interface(interface));
        debug_assert!(out.0.len() <= room);
        out.0
    }

    /// # Errors
    /// For whatever [`Left::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Left, Fault> {
        let mut reader = Reader(bytes);
        if reader.take::<5>()? != *MAGIC {
            return Err(Fault::Magic);
        }
        let [version] = reader.take()?;
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        // A count that is not true ends with the bytes; no room is made for it before.
        let interfaces = (0..reader.word()?).map(|_| reader.interface()).collect::<Result<Vec<_>, Fault>>()?;
        match reader.0.len() {
            0 => Ok(Left { interfaces }),
            more => Err(Fault::Long(more)),
        }
    }
}

struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.put(&number.to_le_bytes())
    }

    fn long(&mut self, number: u64) -> &mut Self {
        self.put(&number.to_le_bytes())
    }

    fn age(&mut self, age: Option<u64>) -> &mut Self {
        self.long(age.unwrap_or(NEVER))
    }

    fn endpoint(&mut self, endpoint: Option<SocketAddr>) -> &mut Self {
        match endpoint {
            None => self.put(&[0]),
            Some(SocketAddr::V4(at)) => self.put(&[4]).put(&at.ip().octets()).put(&at.port().to_le_bytes()),
            Some(SocketAddr::V6(at)) => self.put(&[6]).put(&at.ip().octets()).put(&at.port().to_le_bytes()).number(at.scope_id()),
        }
    }

    fn interface(&mut self, interface: &LeftInterface) {
        let LeftInterface { name, key, speaks, stamp, peers } = interface;
        self.put(&[name.as_str().len() as u8]).put(name.as_str().as_bytes()).put(key.bytes());
        self.put(&[u8::from(*speaks)]).put(&stamp.0).number(peers.len() as u32);
        peers.iter().for_each(|peer| self.peer(peer));
    }

    fn peer(&mut self, peer: &LeftPeer) {
        let LeftPeer { key, endpoint, given, heard, received_bytes, sent_bytes, ages, wanting, sessions } = peer;
        self.put(key.bytes()).endpoint(*endpoint).endpoint(*given).put(&heard.0).long(*received_bytes).long(*sent_bytes);
        self.age(ages.agreed).age(ages.unanswered).age(ages.unreplied).age(ages.passed).put(&[u8::from(*wanting)]);
        for session in sessions {
            self.put(&[u8::from(session.is_some())]);
            session.iter().for_each(|session| self.session(session));
        }
    }

    fn session(&mut self, session: &LeftSession) {
        let LeftSession { keys, local, remote, initiator, confirmed, age, counter, replay } = session;
        self.number(*local).number(*remote).put(&[u8::from(*initiator), u8::from(*confirmed)]).long(*age);
        self.put(&*keys.seal).put(&*keys.open).long(*counter);
        let (next, words) = replay.parts();
        self.long(next).put(&[words.len() as u8]);
        words.iter().for_each(|word| _ = self.long(*word));
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn slice(&mut self, len: usize) -> Result<&'b [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, Fault> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, Fault> {
        self.take().map(u64::from_le_bytes)
    }

    fn age(&mut self) -> Result<Option<u64>, Fault> {
        self.long().map(|age| Some(age).filter(|age| *age != NEVER))
    }

    fn flag(&mut self) -> Result<bool, Fault> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Fault::Invalid("a flag")),
        }
    }

    fn key(&mut self) -> Result<PublicKey, Fault> {
        PublicKey::try_from(self.take::<32>()?).map_err(|_| Fault::Invalid("a public key"))
    }

    fn endpoint(&mut self) -> Result<Option<SocketAddr>, Fault> {
        let [family] = self.take()?;
        Ok(Some(match family {
            0 => return Ok(None),
            4 => (Ipv4Addr::from(self.take::<4>()?), self.take().map(u16::from_le_bytes)?).into(),
            6 => {
                let (address, port) = (Ipv6Addr::from(self.take::<16>()?), self.take().map(u16::from_le_bytes)?);
                SocketAddrV6::new(address, port, 0, self.word()?).into()
            }
            _ => return Err(Fault::Invalid("a family of addresses")),
        }))
    }

    fn interface(&mut self) -> Result<LeftInterface, Fault> {
        let [length] = self.take()?;
        let name = std::str::from_utf8(self.slice(length.into())?).ok().and_then(|name| name.parse().ok());
        let (name, key, speaks) = (name.ok_or(Fault::Invalid("an interface's name"))?, self.key()?, self.flag()?);
        let stamp = Tai64n(self.take()?);
        let peers = (0..self.word()?).map(|_| self.peer()).collect::<Result<_, Fault>>()?;
        Ok(LeftInterface { name, key, speaks, stamp, peers })
    }

    fn peer(&mut self) -> Result<LeftPeer, Fault> {
        Ok(LeftPeer {
            key: self.key()?,
            endpoint: self.endpoint()?,
            given: self.endpoint()?,
            heard: Tai64n(self.take()?),
            received_bytes: self.long()?,
            sent_bytes: self.long()?,
            ages: Ages { agreed: self.age()?, unanswered: self.age()?, unreplied: self.age()?, passed: self.age()? },
            wanting: self.flag()?,
            sessions: [self.place()?, self.place()?, self.place()?],
        })
    }

    fn place(&mut self) -> Result<Option<LeftSession>, Fault> {
        self.flag()?.then(|| self.session()).transpose()
    }

    fn session(&mut self) -> Result<LeftSession, Fault> {
        let (local, remote, initiator, confirmed, age) = (self.word()?, self.word()?, self.flag()?, self.flag()?, self.long()?);
        let keys = Keys { seal: Zeroizing::new(self.take()?), open: Zeroizing::new(self.take()?) };
        let (counter, next, [words]) = (self.long()?, self.long()?, self.take()?);
        let words = (0..words).map(|_| self.long()).collect::<Result<Vec<_>, Fault>>()?;
        let replay = Replay::from_parts(next, &words).ok_or(Fault::Invalid("a window"))?;
        Ok(LeftSession { keys, local, remote, initiator, confirmed, age, counter, replay })
    }
}

#[cfg(test)]
#[path = "left_tests.rs"]
mod tests;
