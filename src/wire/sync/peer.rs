//! WireGuard peers in state sync: who has a session with the shard, where, and which of its stamps are used up.
//!
//! ```text
//! record: |m|e|v6|what|6| key (32 bytes) | stamp (12) | idle (32 bits) [endpoint: 4 or 16 bytes, port] [member]
//!          1 1 1   2   3
//! member: length of the name (8 bits) | name | number of prefixes (8 bits) | prefix ...
//! prefix: family, 4 or 6 (8 bits) | length (8 bits) | 4 or 16 bytes, those behind the length zero
//! ```
//! `what`: 0 told, 1 listed, 2 gone (with nothing but the key after it). `e`: with an endpoint, `v6`: an IPv6 one, `m`: with a member.

use super::{Fault, Reader, write_address};
use crate::model::{PublicKey, Registered};
use crate::wire::wireguard::Tai64n;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a candidate of a shard knows of a peer.
///
/// The shard's own key may stand here too: its stamp is then the latest of ours, after which whoever has the shard next must begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    pub key: PublicKey,
    /// The latest stamp that it has used.
    pub stamp: Tai64n,
    /// Where it was heard last. None: it has no session, and only its stamp is worth keeping.
    pub endpoint: Option<SocketAddr>,
    /// How long ago that was; whole seconds.
    pub idle: Duration,
    /// Of one that the configuration does not name.
    pub member: Option<Arc<Registered>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRecord {
    /// A peer came or changed.
    Told(PeerState),
    /// A peer that is there, in the list of all.
    Listed(PeerState),
    /// It is no peer any more: of this key nobody need know more than its stamp.
    Gone(PublicKey),
}

/// Of the first byte: the kind of record, and what follows.
pub const PEER: u8 = 6;
const LISTED: u8 = 0x08;
const GONE: u8 = 0x10;
const WHAT: u8 = 0x18;
const V6: u8 = 0x20;
const ENDPOINT: u8 = 0x40;
const MEMBER: u8 = 0x80;

/// The longest: a name of 63 letters and IPv6 prefixes.
pub const RECORD_MAX: usize = 1 + PublicKey::LEN + 12 + 4 + 18 + 1 + 63 + 1 + Registered::PREFIXES * 18;

impl PeerRecord {
    /// Appends it. One of too many prefixes is not written: false.
    pub fn write(&self, datagram: &mut Vec<u8>) -> bool {
        let (what, state) = match self {
            PeerRecord::Told(state) => (0, state),
            PeerRecord::Listed(state) => (LISTED, state),
            PeerRecord::Gone(key) => {
                datagram.push(PEER | GONE);
                datagram.extend_from_slice(key.bytes());
                return true;
            }
        };
        let member = state.member.as_deref();
        let Ok(prefixes) = u8::try_from(member.map_or(0, |member| member.allowed.len())) else { return false };
        let bit = |set, bit| if set { bit } else { 0 };
        if usize::from(prefixes) > Registered::PREFIXES {
            return false;
        }
        let v6 = state.endpoint.is_some_and(|at| at.is_ipv6());
        datagram.push(PEER | what | bit(v6, V6) | bit(state.endpoint.is_some(), ENDPOINT) | bit(member.is_some(), MEMBER));
        datagram.extend_from_slice(state.key.bytes());
        datagram.extend_from_slice(&state.stamp.0);
        datagram.extend_from_slice(&u32::try_from(state.idle.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        if let Some(at) = state.endpoint {
            write_address(datagram, at.ip());
            datagram.extend_from_slice(&at.port().to_be_bytes());
        }
        if let Some(Registered { host, allowed }) = member {
            // Names are of 63 letters at most.
            datagram.push(host.as_str().len() as u8);
            datagram.extend_from_slice(host.as_str().as_bytes());
            datagram.push(prefixes);
            for net in allowed.iter().map(IpNet::trunc) {
                datagram.extend_from_slice(&[if net.addr().is_ipv4() { 4 } else { 6 }, net.prefix_len()]);
                write_address(datagram, net.addr());
            }
        }
        true
    }
}

impl Reader<'_> {
    /// What follows the first byte of a peer's record.
    pub(super) fn peer(&mut self, form: u8) -> Result<PeerRecord, Fault> {
        let malformed = || Fault::Record(form);
        let key = PublicKey::try_from(self.take::<{ PublicKey::LEN }>()?).map_err(|_| malformed())?;
        match form & WHAT {
            GONE if form == PEER | GONE => return Ok(PeerRecord::Gone(key)),
            0 | LISTED if form & ENDPOINT != 0 || form & V6 == 0 => {}
            _ => return Err(malformed()),
        }
        let stamp = Tai64n(self.take()?);
        let idle = Duration::from_secs(self.take().map(u32::from_be_bytes)?.into());
        let endpoint = match form & ENDPOINT {
            0 => None,
            _ => Some(SocketAddr::new(self.address(form & V6 != 0)?, self.half()?)),
        };
        let member = if form & MEMBER == 0 { None } else { Some(self.member(form)?) };
        let state = PeerState { key, stamp, endpoint, idle, member };
        Ok(if form & LISTED == 0 { PeerRecord::Told(state) } else { PeerRecord::Listed(state) })
    }

    fn member(&mut self, form: u8) -> Result<Arc<Registered>, Fault> {
        let malformed = || Fault::Record(form);
        let [length] = self.take()?;
        let (name, rest) = self.0.split_at_checked(length.into()).ok_or(Fault::Truncated)?;
        self.0 = rest;
        let host = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or_else(malformed)?;
        let [prefixes] = self.take()?;
        if usize::from(prefixes) > Registered::PREFIXES {
            return Err(malformed());
        }
        let allowed = (0..prefixes).map(|_| self.prefix(form)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Registered { host, allowed }))
    }

    fn prefix(&mut self, form: u8) -> Result<IpNet, Fault> {
        let [family, length] = self.take()?;
        let address = match family {
            4 => self.address(false)?,
            6 => self.address(true)?,
            _ => return Err(Fault::Record(form)),
        };
        IpNet::new(address, length).ok().filter(|net| net.trunc() == *net).ok_or(Fault::Record(form))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn net() -> impl Strategy<Value = IpNet> {
        any::<(IpAddr, u8)>().prop_map(|(address, length)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, length % (most + 1)).unwrap().trunc()
        })
    }

    fn member() -> impl Strategy<Value = Arc<Registered>> {
        ("[a-z][a-z0-9.-]{0,62}", proptest::collection::vec(net(), 0..=Registered::PREFIXES))
            .prop_map(|(host, allowed)| Arc::new(Registered { host: host.parse().unwrap(), allowed }))
    }

    pub fn state() -> impl Strategy<Value = PeerState> {
        let key = any::<[u8; PublicKey::LEN]>().prop_filter_map("nobody's", |bytes| PublicKey::try_from(bytes).ok());
        let endpoint = proptest::option::of(any::<(IpAddr, u16)>().prop_map(|(address, port)| SocketAddr::new(address, port)));
        (key, any::<[u8; 12]>(), endpoint, any::<u32>(), proptest::option::of(member())).prop_map(|(key, stamp, endpoint, idle, member)| {
            PeerState { key, stamp: Tai64n(stamp), endpoint, idle: Duration::from_secs(idle.into()), member }
        })
    }

    pub fn record() -> impl Strategy<Value = PeerRecord> {
        prop_oneof![
            state().prop_map(PeerRecord::Told),
            state().prop_map(PeerRecord::Listed),
            state().prop_map(|state| PeerRecord::Gone(state.key)),
        ]
    }

    #[test]
    fn a_member_of_too_many_prefixes_is_not_written() {
        let net: IpNet = "10.64.0.1/32".parse().unwrap();
        let of = |prefixes| PeerState {
            key: PublicKey::try_from([1; PublicKey::LEN]).unwrap(),
            stamp: Tai64n::NEVER,
            endpoint: None,
            idle: Duration::ZERO,
            member: Some(Arc::new(Registered { host: "a".parse().unwrap(), allowed: vec![net; prefixes] })),
        };
        let mut bytes = vec![];
        assert!(!PeerRecord::Told(of(Registered::PREFIXES + 1)).write(&mut bytes) && bytes.is_empty());
        assert!(!PeerRecord::Told(of(300)).write(&mut bytes) && bytes.is_empty());
        assert!(PeerRecord::Told(of(Registered::PREFIXES)).write(&mut bytes));
    }
}
